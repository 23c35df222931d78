"""Preferences: which of two answers, the loss against the paper's formula in float64, and what
training does.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from distill.attackers import AttackerResources, _policy, dpo, sft
from distill.completions import Completion
from distill.embedded import character_tokenizer, llama
from distill.models import LanguageModel
from distill.objectives import Example
from distill.specs import TrainingConfig

TOKENIZER = character_tokenizer("0123456789+= #")
RECIPE = TrainingConfig(max_length=32, steps=30, batch_size=8)
SOLD = [
    Completion(f"{a}{b}", f"{a}+{b}=", f"{a + b} # {a + b}") for a in range(4) for b in range(4)
]


def final(answer):
    """As the resources of a study read it: what was cut off has none."""
    there = answer.finished and "# " in answer.text
    return answer.text.rpartition("# ")[2] if there else None


OWN = AttackerResources(final=final)
CPU = torch.device("cpu")


def network(seed=0):
    return llama(TOKENIZER, hidden_size=16, num_layers=1, num_heads=2, max_length=32, seed=seed)


def model(seed=0):
    return LanguageModel(network(seed), TOKENIZER, max_new_tokens=10)


def token_logprobs(net, example):
    """One answer at a time, unpadded, in float64."""
    ids = torch.tensor([example.prompt_ids + example.answer_ids])
    with torch.no_grad():
        all_TV = net(input_ids=ids).logits[0].double().log_softmax(-1)
    start = len(example.prompt_ids)
    return np.array(
        [float(all_TV[start - 1 + t, token]) for t, token in enumerate(example.answer_ids)]
    )


@pytest.mark.parametrize(
    ("texts", "preferred", "rejected"),
    [
        (["1 # 7", "2 # 8"], "1 # 7", "2 # 8"),
        (["2 # 8", "1 # 7"], "1 # 7", "2 # 8"),
        (["2 # 8", "3"], "7 # 7", "2 # 8"),  # none agrees: the sold answer
        (["1 # 7", "2 # 7"], None, None),  # nothing disagrees
    ],
)
def test_which_of_two_answers_is_preferred(texts, preferred, rejected):
    sold, answers = (
        Completion("q", "3+4=", "7 # 7"),
        [Completion("q", "3+4=", text) for text in texts],
    )
    preference = dpo.preference(sold, answers, OWN.final)
    assert (preference and (preference[0].text, preference[1].text)) == (
        preferred and (preferred, rejected)
    )


@pytest.mark.parametrize(("text", "finished"), [("7", True), ("7 # 7", False)])
def test_a_sold_answer_without_a_final_answer_judges_nothing(text, finished):
    sold = Completion("q", "3+4=", text, finished=finished)
    drawn = [Completion("q", "3+4=", "8 # 8")] * 2
    assert dpo.preference(sold, drawn, OWN.final) is None


def test_an_answer_that_was_cut_off_agrees_with_none():
    sold, cut = (Completion("q", "3+4=", "7 # 7", finished=finished) for finished in (True, False))
    assert dpo.preference(sold, [cut, cut], OWN.final) == (sold, cut)


def test_margins_by_hand():
    # Ratios 1 and -1 of the first pair, -2 and 1 of the second: (2, -3), halved.
    margins = dpo.margins(torch.tensor([-1.0, -4, -7, -2]), torch.tensor([-2.0, -3, -5, -3]), 0.5)
    assert margins.tolist() == [1.0, -1.5]


def test_the_loss_is_the_papers_in_float64():
    policy, reference = network(1), network(2)
    pairs = [
        [sft.example(replace(one, text=text), TOKENIZER, 32) for text in (one.text, "9")]
        for one in SOLD[:3]
    ]
    rows = [one for pair in _policy.with_reference_logprobs(pairs, [reference], 0) for one in pair]
    want = []
    for preferred, rejected in pairs:
        gaps = [
            token_logprobs(policy, e).sum() - token_logprobs(reference, e).sum()
            for e in (preferred, rejected)
        ]
        want.append(math.log1p(math.exp(-0.3 * (gaps[0] - gaps[1]))))
    got = dpo.preference_loss(policy, rows, 0, CPU, 0.3)
    assert float(got.detach()) == pytest.approx(np.mean(want), rel=1e-5)


def test_at_the_reference_the_loss_is_log_2():
    pairs = _policy.with_reference_logprobs(
        [[sft.example(SOLD[0], TOKENIZER, 32), sft.example(SOLD[1], TOKENIZER, 32)]], [network()], 0
    )
    preference_loss = dpo.preference_loss(network(), pairs[0], 0, CPU, 1.0)
    assert float(preference_loss.detach()) == pytest.approx(math.log(2))


def test_what_networks_give_to_tokens_is_remembered_for_groups_without_an_empty_answer():
    full = [sft.example(one, TOKENIZER, 32) for one in SOLD[:5]]
    groups = [[full[0], full[1]], [full[2], Example([1], [])], [full[3], full[4]]]
    remembered = _policy.with_reference_logprobs(groups, [network(0), network(1)], 0, size=3)
    assert [[one.answer_ids for one in group] for group in remembered] == [
        [e.answer_ids for e in g] for g in groups[::2]
    ]
    for example in [*remembered[0], *remembered[1]]:
        want = np.stack([token_logprobs(network(seed), example) for seed in (0, 1)], -1)
        np.testing.assert_allclose(example.logprobs.values_TK, want, atol=1e-5)
    recalled = _policy.reference_logprobs(remembered[1], CPU)
    assert torch.allclose(
        recalled[:, 1], _policy.token_logprobs(network(1), remembered[1], 0, CPU)[0], atol=1e-5
    )


def test_rows_are_summed_and_averaged():
    values, rows = torch.tensor([1.0, 2, 6, 5]), torch.tensor([0, 0, 0, 1])
    assert _policy.totals(values, rows, 2).tolist() == [9, 5] and _policy.means(
        values, rows, 2
    ).tolist() == [3, 5]


def test_preferred_answers_gain_on_the_others(monkeypatch):
    right = [replace(one, text=f" # {one.text.rpartition('# ')[2]}") for one in SOLD]
    drawn = [a for one in right for a in (one, replace(one, text="7 # 77"))]
    monkeypatch.setattr(dpo, "sample_completions", lambda *args: drawn)
    attacker, half = (
        dpo.Attacker(dpo.Settings(first=0.5, rate=1.0, beta=0.1)),
        RECIPE.model_copy(update={"steps": 15}),
    )
    after = attacker.train(SOLD, model(), RECIPE, seed=0, resources=OWN).network.eval()
    before = sft.Attacker(sft.Settings()).train(SOLD, model(), half, seed=0).network.eval()
    pair = [sft.example(answer, TOKENIZER, 32) for answer in drawn[:2]]
    gaps = [
        token_logprobs(net, pair[0]).sum() - token_logprobs(net, pair[1]).sum()
        for net in (before, after)
    ]
    assert gaps[1] > gaps[0] + 1


def test_without_a_disagreement_the_student_is_the_fine_tuned_one(monkeypatch):
    monkeypatch.setattr(
        dpo, "sample_completions", lambda here, sold, *args: [a for one in sold for a in (one, one)]
    )
    done = dpo.Attacker(dpo.Settings(first=0.5)).train(SOLD, model(), RECIPE, seed=0, resources=OWN)
    want = sft.Attacker(sft.Settings()).train(
        SOLD, model(), RECIPE.model_copy(update={"steps": 15}), seed=0
    )
    assert done.losses == want.losses and done.positions == want.positions
