"""GRPO's loss: clipping and its gradient by hand, the KL estimator against the exact KL, a whole loss in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from distill.answers import Answer
from distill.attackers import _policy, sft
from distill.attackers.follow import grpo
from distill.embedded import character_tokenizer, llama

TOKENIZER = character_tokenizer("0123456789+= #")
CPU = torch.device("cpu")


def network(seed):
    return llama(TOKENIZER, hidden_size=16, num_layers=1, num_heads=2, max_length=32, seed=seed)


@pytest.mark.parametrize(
    ("ratio", "gain", "value", "slope"),
    [
        (1.0, 2.0, 2.0, 2.0),
        (1.5, 2.0, 2.4, 0.0),  # already likelier by more than a fifth: clipped, no gradient
        (0.5, 2.0, 1.0, 1.0),  # not clipped: it may come back
        (0.5, -2.0, -1.6, 0.0),
        (1.5, -2.0, -3.0, -3.0),
    ],
)
def test_the_clipped_ratio_by_hand(ratio, gain, value, slope):
    now = torch.tensor([np.log(ratio)], requires_grad=True)
    found = grpo.surrogate(now, torch.zeros(1), torch.tensor([gain]), 0.2)
    found.sum().backward()
    assert float(found.detach()) == pytest.approx(value) and float(now.grad) == pytest.approx(slope)


def test_the_estimator_of_kl_is_exact_in_the_mean_and_never_negative():
    p, q = (torch.randn(6, generator=torch.Generator().manual_seed(i)).double().log_softmax(-1) for i in (0, 1))
    each = grpo.kl(p, q)
    assert (each >= 0).all()
    assert float((p.exp() * each).sum()) == pytest.approx(float((p.exp() * (p - q)).sum()))


def test_the_loss_in_float64():
    texts, gains = ["3 # 3", "12", "4 # 4"], [1.0, -0.5, -0.5]
    rows = [replace(sft.example(Answer("q", "1+2=", text), TOKENIZER, 32), weight=gain)
            for text, gain in zip(texts, gains, strict=True)]  # fmt: skip
    now, old, start = network(1), network(2), network(3)
    held = [one for group in _policy.remembered([[row] for row in rows], [old, start], 0) for one in group]
    answers = []
    for row in rows:
        ids = torch.tensor([row.prompt_ids + row.answer_ids])
        told = []
        for net in (now, old, start):
            with torch.no_grad():
                all_TV = net(input_ids=ids).logits[0].double().log_softmax(-1)[len(row.prompt_ids) - 1 : -1]
            told.append(all_TV.gather(-1, torch.tensor(row.answer_ids)[:, None])[:, 0].numpy())
        ratio = np.exp(told[0] - told[1])
        gained = np.minimum(ratio * row.weight, np.clip(ratio, 0.9, 1.1) * row.weight)
        far = np.exp(told[2] - told[0]) - (told[2] - told[0]) - 1
        answers.append((gained - 0.3 * far).mean())
    found = grpo.Attacker(grpo.Settings(clip=0.1, kl=0.3))._loss(now, held, 0, CPU)
    assert float(found.detach()) == pytest.approx(-np.mean(answers), rel=1e-4)
