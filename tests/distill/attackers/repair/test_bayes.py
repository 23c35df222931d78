"""Partial Bayes: the estimate by hand, its limits, the oracle bound, and the part on a teacher's
rows.
"""

from __future__ import annotations

import numpy as np
import pytest

from defenses.release import quantised, reverse_sigmoid
from distill.attackers import AttackerResources
from distill.attackers.repair import _shadow, bayes
from distill.completions import BadInput, Completion, Interface, Logprobs, Prompt
from distill.embedded import character_tokenizer, llama
from distill.models import LanguageModel
from distill.specs import TrainingConfig

TOKENIZER = character_tokenizer("0123456789+=# ")
RECIPE = TrainingConfig(max_length=24, steps=30, batch_size=8)
PART = bayes.Attacker(bayes.Settings(table=5000, most=3))


def fresh(seed: int) -> LanguageModel:
    network = llama(TOKENIZER, hidden_size=16, num_layers=1, num_heads=2, max_length=24, seed=seed)
    return LanguageModel(network, TOKENIZER, temperature=1.0, max_new_tokens=8)


def resources(edit=lambda one: one):
    return AttackerResources(
        fresh=fresh, recipe=RECIPE, defense=lambda said: [edit(one) for one in said]
    )


def sold(edit=lambda one: one):
    prompts = [Prompt(str(i), f"{i}+{i}=") for i in range(40)]
    return [
        edit(one) for one in fresh(7).generate(prompts, seed=0, interface=Interface("top_k", 5))
    ]


def l1(a, b):
    return np.abs(a - b).sum(-1)


def distance(a, b):
    pairs = [_shadow.align(x.logprobs, y.logprobs, 5) for x, y in zip(a, b, strict=True)]
    return float(np.concatenate([l1(*pair) for pair in pairs]).mean())


def flattened(y):
    out = np.sqrt(y)
    return out / out.sum(-1, keepdims=True)


def drawn(count, seed, size=3):
    return -np.sort(-np.random.default_rng(seed).dirichlet(np.ones(size), count), -1)


def test_by_hand():
    defended = np.array([[0.5, 0.5], [0.502, 0.498], [0.9, 0.1]])
    clean = np.array([[0.8, 0.2], [0.602, 0.398], [0.9, 0.1]])
    # The first two are within 0.01 of the row: what they lost is 0.3 and 0.1, in the mean 0.2.
    assert bayes.estimate(np.array([[0.5, 0.5]]), clean, defended)[0] == pytest.approx([0.7, 0.3])
    # None is within 0.01 of this one; the nearest, at 0.2, was left alone.
    assert bayes.estimate(np.array([[0.8, 0.2]]), clean, defended)[0] == pytest.approx([0.8, 0.2])


def test_a_defence_that_says_one_thing_of_all_rows_leaves_the_priors_mean():
    clean = drawn(500, 0)
    defended = np.full_like(clean, 1 / 3)
    assert bayes.estimate(defended[:2], clean, defended) == pytest.approx(
        np.tile(clean.mean(0), (2, 1))
    )


def test_no_estimate_of_many_rows_has_a_smaller_squared_error_than_the_mean_of_a_bucket():
    clean = drawn(4000, 0)
    defended = np.round(clean * 4) / 4  # what is told is the bucket alone
    estimate = bayes.estimate(defended, clean, defended, 1e-9)
    for other in (defended, 0.9 * estimate + 0.1 / 3, 0.9 * estimate + 0.1 * defended):
        assert ((estimate - clean) ** 2).sum() < ((other - clean) ** 2).sum()
    first = (np.abs(defended - defended[0]) < 1e-9).all(-1)
    assert estimate[0] == pytest.approx(clean[first].mean(0), abs=1e-6)


def test_errors_under_an_invertible_defence_vanish_as_the_table_grows():
    y = drawn(200, 1)
    errors = []
    for size in (30, 300, 10_000):
        prior = drawn(size, 2)
        errors.append(l1(bayes.estimate(flattened(y), prior, flattened(prior), 1e-3), y).mean())
    assert errors[0] > errors[1] > errors[2] and errors[2] < 0.01 < l1(flattened(y), y).mean()


def test_oracle_an_attacker_who_had_the_clean_rows_would_be_exact():
    """What the published run does, and no attacker can: the prior is the answer. A bound, for tests
    alone.
    """
    y = drawn(200, 1, size=6)
    oracle = l1(bayes.estimate(flattened(y), y, flattened(y), 1e-6), y).mean()
    surrogate = drawn(200, 2, size=6)
    assert (
        oracle
        < 1e-9
        < l1(bayes.estimate(flattened(y), surrogate, flattened(surrogate), 1e-6), y).mean()
    )


@pytest.mark.parametrize(
    ("defense", "left"),
    [
        (reverse_sigmoid.Defense(reverse_sigmoid.Settings()), 0.8),
        (quantised.Defense(quantised.Settings()), 0.9),
    ],
    ids=["reverse_sigmoid", "quantised"],
)
def test_rows_of_a_teacher_come_nearer_to_what_they_were(defense, left):
    clean, answers = sold(), sold(defense.edit)
    cleaned = PART.clean(answers, resources(defense.edit), seed=0)
    assert distance(clean, cleaned) < left * distance(clean, answers)


def test_rows_of_a_teacher_without_a_defence_stay():
    clean = sold()
    for before, after in zip(clean, PART.clean(clean, resources(), seed=0), strict=True):
        assert (after.logprobs.ids_TK == before.logprobs.ids_TK).all()
        np.testing.assert_allclose(after.logprobs.values_TK, before.logprobs.values_TK, atol=1e-5)


def test_no_rows_are_refused():
    with pytest.raises(BadInput, match="repair/bayes: answer 'a' has no logprobs"):
        PART.clean([Completion("a", "?", "!", logprobs=None)], resources(), seed=0)


def test_a_table_is_no_larger_than_is_said_and_the_same_for_a_seed():
    answers = sold()
    first, again = (
        _shadow.shadow(answers, resources(), "repair/bayes", seed=0, most=3, table=20)
        for _ in range(2)
    )
    assert first[0].shape == first[1].shape == (20, 4) and (first[0] == again[0]).all()
    assert isinstance(answers[0].logprobs, Logprobs)
