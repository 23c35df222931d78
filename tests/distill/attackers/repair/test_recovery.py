"""The recovery net: what it learns to undo, that it knows no tokens, and its shadow rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from defenses.release import modelguard_w, reverse_sigmoid
from distill.attackers import AttackerResources
from distill.attackers.repair import _shadow, atoms, recovery, replace_logprobs
from distill.completions import BadInput, Completion, Interface, Logprobs, Prompt
from distill.embedded import character_tokenizer, llama
from distill.models import LanguageModel
from distill.specs import TrainingConfig

TOKENIZER = character_tokenizer("0123456789+=# ")
RECIPE = TrainingConfig(max_length=24, steps=30, batch_size=8)
SETTINGS = recovery.Settings(table=5000, most=4, hidden=32, steps=200)


def fresh(seed: int) -> LanguageModel:
    network = llama(TOKENIZER, hidden_size=16, num_layers=1, num_heads=2, max_length=24, seed=seed)
    return LanguageModel(network, TOKENIZER, max_new_tokens=8)


def sold(defense=None, count=40):
    teacher = replace(fresh(7), temperature=1.0)
    answers = teacher.generate(
        [Prompt(str(i), f"{i}+{i}=") for i in range(count)], seed=0, interface=Interface("top_k", 6)
    )
    return answers if defense is None else [defense.edit(one) for one in answers]


def resources(defense=None):
    rebuilt = list if defense is None else lambda said: [defense.edit(one) for one in said]
    return AttackerResources(fresh=fresh, recipe=RECIPE, defense=rebuilt)


def table(count=4000, size=8, seed=0):
    """Rows with a few likely tokens, sorted, and what a defence makes of them: here all values to
    the power 1/2.
    """
    y = -np.sort(-np.random.default_rng(seed).dirichlet(np.full(size, 0.3), count), -1)
    flat = np.sqrt(y)
    return y, flat / flat.sum(-1, keepdims=True)


def l1(a, b):
    return np.abs(a - b).sum(-1)


def distance(a, b):
    """Mean L1 over the tokens of two lists of answers' rows."""
    pairs = [_shadow.align(x.logprobs, y.logprobs, 6) for x, y in zip(a, b, strict=True)]
    return float(np.concatenate([l1(*pair) for pair in pairs]).mean())


def test_it_undoes_an_invertible_map_on_rows_that_it_never_saw():
    net = recovery.fit_net(*table(), hidden=64, steps=400, seed=0)
    y, seen = table(500, seed=1)
    assert l1(seen, y).mean() > 0.3 and l1(recovery.recover(net, seen), y).mean() < 0.1


def test_where_there_is_no_defence_rows_are_nearly_as_they_were():
    y, _ = table()
    net = recovery.fit_net(y, y, hidden=64, steps=200, seed=0)
    fresh_rows, _ = table(500, seed=1)
    assert l1(recovery.recover(net, fresh_rows), fresh_rows).mean() < 0.01


def test_before_it_learns_it_changes_nothing():
    seen = torch.tensor([[0.6, 0.3, 0.1]])
    assert torch.allclose(recovery.Net(3, 8).eval()(seen), seen)


def test_what_it_says_of_a_row_is_not_a_matter_of_the_batch_it_is_in():
    net = recovery.fit_net(*table(), hidden=16, steps=50, seed=0)
    _, seen = table(50, seed=1)
    np.testing.assert_allclose(
        recovery.recover(net, seen)[:1], recovery.recover(net, seen[:1]), atol=1e-6
    )


def test_learning_is_a_function_of_the_seed_and_leaves_the_process_generator_alone():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    nets = [recovery.fit_net(*table(200), hidden=8, steps=5, seed=seed) for seed in (0, 0, 1)]
    weights = [torch.cat([p.flatten() for p in net.parameters()]) for net in nets]
    assert (weights[0] == weights[1]).all() and (weights[0] != weights[2]).any()
    assert (torch.random.get_rng_state() == before).all()


def test_renamed_tokens_are_renamed_and_what_is_withheld_stays_so():
    rows = Logprobs(
        np.array([[4, 2, 9, -1]], np.int32),
        np.log(np.array([[0.5, 0.25, 0.125, 0]]) + 1e-300).astype("f4"),
    )
    rows.values_TK[0, 3] = -np.inf
    replaced = replace_logprobs(
        rows, np.array([[0.1, 0.6, 0.3]])
    )  # all else had 1/4 and has 0.3; half of it is token 9's
    assert replaced.ids_TK.tolist() == [[2, 9, 4, -1]]
    assert np.exp(replaced.values_TK[0]) == pytest.approx([0.6, 0.15, 0.1, 0])
    same = replace_logprobs(rows, atoms(rows, 2))
    assert (same.ids_TK == rows.ids_TK).all() and np.allclose(
        same.values_TK[0, :3], rows.values_TK[0, :3]
    )


def test_clean_atoms_are_those_of_the_tokens_that_the_defended_row_names_first():
    clean = Logprobs(np.array([[4, 2, 9]], np.int32), np.log(np.array([[0.5, 0.25, 0.125]], "f4")))
    defended = Logprobs(
        np.array([[9, -1, 4]], np.int32), np.array([[np.log(0.9), -np.inf, np.log(0.05)]], "f4")
    )
    before, after = _shadow.align(clean, defended, 2)
    assert before[0] == pytest.approx([0.125, 0, 0.875]) and after[0] == pytest.approx(
        [0.9, 0, 0.1]
    )


@pytest.mark.parametrize(
    ("defense", "left"),
    [
        (reverse_sigmoid.Defense(reverse_sigmoid.Settings()), 0.7),
        (modelguard_w.Defense(modelguard_w.Settings(eps=0.6)), 0.95),
    ],
    ids=["reverse_sigmoid", "modelguard_w"],
)
def test_rows_of_a_teacher_come_nearer_to_what_they_were(defense, left):
    clean, answers = sold(), sold(defense)
    cleaned = recovery.Attacker(SETTINGS).clean(answers, resources(defense), seed=0)
    assert distance(clean, cleaned) < left * distance(clean, answers)
    assert [one.text for one in cleaned] == [one.text for one in answers]


def test_a_teacher_without_a_defence_is_left_nearly_alone():
    clean = sold()
    assert distance(clean, recovery.Attacker(SETTINGS).clean(clean, resources(), seed=0)) < 0.02


def test_rows_of_different_widths_and_no_rows_are_refused():
    first, *rest = sold()
    narrow = Logprobs(first.logprobs.ids_TK[:, :2], first.logprobs.values_TK[:, :2])
    with pytest.raises(
        BadInput, match="repair/recovery: an answer's rows have 2 entries, others 4 or more"
    ):
        recovery.Attacker(SETTINGS).clean(
            [replace(first, logprobs=narrow), *rest], resources(), seed=0
        )
    with pytest.raises(BadInput, match="repair/recovery: answer 'a' has no logprobs"):
        recovery.Attacker(SETTINGS).clean([Completion("a", "?", "!")], resources(), seed=0)
