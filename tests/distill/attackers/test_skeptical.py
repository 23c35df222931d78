"""The skeptical student: which blocks the logprobs reach, what is left of the early head, and lying
logprobs.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from distill import losses
from distill.attackers import logprob_kd, sft
from distill.attackers.skeptical import Attacker, Settings, TwoHeads, early_block
from distill.completions import BadInput, Completion, Interface, Logprobs, Prompt
from distill.embedded import character_tokenizer, llama
from distill.models import LanguageModel
from distill.objectives import released_logprobs, score_answers
from distill.specs import TrainingConfig

TOKENIZER = character_tokenizer("0123456789+=# ")
RECIPE = TrainingConfig(max_length=32, steps=60, batch_size=8)
SAID = [Completion(str(i), f"{i}+{i}=", f"{2 * i} # {2 * i}") for i in range(16)]


def network(layers=2, seed=0):
    return llama(
        TOKENIZER, hidden_size=32, num_layers=layers, num_heads=2, max_length=32, seed=seed
    )


def lying(answer):
    """The answer with logprobs that are sure of another token, the next one in the vocabulary, at
    every position.
    """
    text = TOKENIZER(answer.text, add_special_tokens=False).input_ids
    ids = np.array([*text, TOKENIZER.eos_token_id], np.int32)[:, None]
    shifted = np.concatenate([(ids + 1) % len(TOKENIZER), ids], -1)
    values = np.log(np.array([[0.9, 0.05]] * len(ids), np.float32))
    return replace(answer, token_ids=tuple(text), logprobs=Logprobs(shifted, values))


POISONED = [lying(answer) for answer in SAID]


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def learnt(attacker, recipe=RECIPE, seed=0, **options):
    return attacker.train(
        POISONED, LanguageModel(network(), TOKENIZER), recipe, seed=seed, **options
    )


@pytest.mark.parametrize(
    ("depth", "blocks", "block"),
    [(0.25, 2, 1), (0.25, 4, 1), (0.25, 12, 3), (0.5, 12, 6), (0.99, 2, 1), (0.01, 24, 1)],
)
def test_the_early_block_by_hand(depth, blocks, block):
    assert early_block(depth, blocks) == block


def test_a_student_of_one_block_has_no_early_head():
    with pytest.raises(BadInput, match="at least 2"):
        Attacker(Settings()).train(POISONED, LanguageModel(network(1), TOKENIZER), RECIPE, seed=0)


def test_the_logprobs_reach_the_blocks_below_the_early_head_alone():
    two = TwoHeads(network(4), 1, seed=0)
    rows = [logprob_kd.example(answer, TOKENIZER) for answer in POISONED[:4]]
    _, early_NV = score_answers(two, rows, 0, torch.device("cpu")).logits_NV
    losses.forward_kl_tail(early_NV, *released_logprobs(rows, torch.device("cpu"))).backward()
    reached = [
        any(p.grad is not None and bool(p.grad.any()) for p in layer.parameters())
        for layer in two.network.model.layers
    ]
    assert reached == [True, False, False, False]
    assert not two.network.model.norm.weight.grad.any()


def test_the_last_head_is_the_network_s_own():
    two, rows = (
        TwoHeads(network(), 1, seed=0),
        [sft.example(answer, TOKENIZER, 32) for answer in SAID],
    )
    both = score_answers(two, rows, 0, torch.device("cpu")).logits_NV
    # The plain network is read by a pass of its own, whose sums are in another order.
    assert torch.allclose(
        both[0], score_answers(two.network, rows, 0, torch.device("cpu")).logits_NV, atol=1e-5
    )
    assert not torch.allclose(both[0], both[1], atol=0.1)


def test_what_comes_back_is_the_plain_network():
    model = LanguageModel(network(), TOKENIZER)
    result = Attacker(Settings()).train(POISONED, model, RECIPE, seed=0)
    assert result.network is model.network and {*result.network.state_dict()} == {
        *network().state_dict()
    }
    idle = Attacker(Settings()).train(
        POISONED, model, RECIPE.model_copy(update={"steps": 0}), seed=0
    )
    assert idle.network is model.network


def test_without_the_early_head_it_is_plain_fine_tuning_to_rounding():
    plain = sft.Attacker(sft.Settings()).train(
        SAID, LanguageModel(network(), TOKENIZER), RECIPE, seed=0
    )
    ours = learnt(Attacker(Settings(weight=0.0)))
    assert torch.allclose(weights(ours.network), weights(plain.network), atol=1e-3)
    assert not torch.allclose(
        weights(learnt(Attacker(Settings())).network), weights(plain.network), atol=1e-1
    )


def test_a_resumed_run_ends_with_the_same_weights(tmp_path, monkeypatch):
    path, recipe = tmp_path / "checkpoint", RECIPE.model_copy(update={"steps": 220})
    whole, interrupted = learnt(Attacker(Settings()), recipe), Attacker(Settings())
    calls = 0

    def stopping(*batch):
        nonlocal calls
        calls += 1
        if calls > 205:
            raise KeyboardInterrupt
        return Attacker._loss(interrupted, *batch)

    monkeypatch.setattr(interrupted, "_loss", stopping)
    with pytest.raises(KeyboardInterrupt):
        learnt(interrupted, recipe, checkpoint=path)
    assert path.is_file()
    again = learnt(Attacker(Settings()), recipe, checkpoint=path)
    assert torch.equal(weights(again.network), weights(whole.network))


def test_lying_logprobs_mislead_the_plain_student_and_not_the_skeptical_one():
    recipe, right = RECIPE.model_copy(update={"steps": 250}), {}
    for attacker in (logprob_kd.Attacker(logprob_kd.Settings()), Attacker(Settings())):
        student = LanguageModel(
            learnt(attacker, recipe).network.eval(), TOKENIZER, max_new_tokens=12
        )
        answers = student.generate(
            [Prompt(a.prompt_id, a.prompt) for a in SAID], seed=0, interface=Interface()
        )
        right[type(attacker).__module__] = sum(
            a.text == b.text for a, b in zip(answers, SAID, strict=True)
        )
    assert right == {
        "distill.attackers.logprob_kd": 0,
        "distill.attackers.skeptical": pytest.approx(16, abs=3),
    }
