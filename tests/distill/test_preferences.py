"""What a mark prefers, by hand: contexts, counts, ratios, weights, and how scores are edited."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from distill.completions import Completion
from distill.generation import DecodingStep
from distill.preferences import (
    Order,
    Preference,
    Search,
    common_contexts,
    counted,
    expected,
    of_models,
    of_texts,
    preferred,
    rows_of,
    token_nats,
    weights,
)
from tests.distill.attackers.follow.students import student

ROWS = [([7, 3], [4, 3, 4]), ([3], [4]), ([], [9, 4])]


def test_contexts_reach_into_the_prompt_and_are_counted_before_tokens_of_answers():
    assert common_contexts(ROWS, 0, 1, None) == {(): 6}
    assert common_contexts(ROWS, 1, 1, None) == {(3,): 3, (4,): 1, (9,): 1}
    assert common_contexts(ROWS, 2, 1, None) == {(7, 3): 1, (3, 4): 1, (4, 3): 1}
    assert common_contexts(ROWS, 1, 2, None) == {(3,): 3} == common_contexts(ROWS, 1, 1, 1)


def test_tokens_are_counted_behind_their_contexts():
    assert counted(ROWS, [(3,), (9,)], 10)[:, [3, 4]].tolist() == [[0, 3], [0, 1]]
    assert counted(ROWS, [()], 10)[0, [3, 4, 9]].tolist() == [1, 4, 1]
    assert counted(ROWS, [], 10).shape == (0, 10)


def test_a_preference_is_the_capped_ratio_where_it_is_above_1():
    marked, base = torch.tensor([[9.5, 2.5, 0.0, 0.0]]), torch.tensor([[3.5, 7.5, 0.0, 0.5]])
    # With a half more each: 10, 3, .5, .5 of 14 and 4, 8, .5, 1 of 13.5.
    want = [min(10 / 14 / (4 / 13.5), 3) / 3, 0, 0, 0]
    assert preferred(marked, base, 3.0)[0].tolist() == pytest.approx(want)
    assert preferred(marked, base, 2.0)[0, 0] == 1
    assert not preferred(base, base, 2.0).any()


def test_rarer_contexts_weigh_less():
    assert weights([50, 25]) == pytest.approx([1, (math.log(1 / 3) / math.log(2 / 3)) ** -0.3])
    assert weights([8]) == [1.0] and weights([]) == []


def step(rows, mask) -> DecodingStep:
    return DecodingStep(torch.tensor(rows), torch.tensor(mask), ["a"] * len(rows), 0)


def test_contexts_of_all_lengths_add_up_and_padding_is_no_context():
    every = Order(0, {(): 0}, torch.tensor([[0.0, 0.0, 0.25, 0.5]]))
    pair = Order(2, {(0, 3): 0}, torch.tensor([[0.0, 1.0, 0.0, 0.5]]))
    preference = Preference([every, pair], special=[2])
    seen = step([[1, 0, 3], [0, 0, 3], [1, 1, 1]], [[1, 1, 1], [0, 0, 1], [0, 1, 1]])
    scores = torch.zeros(3, 4)
    edited = preference.edit(-2.0)(seen, scores)
    assert edited.tolist() == [[0, -2, 0, -2], [0, 0, 0, -1], [0, 0, 0, -1]] and not scores.any()


def test_what_a_network_would_say_is_summed_behind_each_context():
    model = replace(student(3), batch_size=2)
    rows = [([5, 6], [7, 8, 6]), ([6], [7]), ([9, 6], [7])]
    contexts = [[(6,)], [(5, 6), (7, 8)]]
    ones, twos = expected(model, rows, contexts)

    def after(ids):
        logits = model.network(input_ids=torch.tensor([ids])).logits[0, -1, : model.tokens]
        return torch.softmax(logits.detach(), -1)

    assert torch.allclose(ones[0], after([5, 6]) + after([6]) + after([9, 6]), atol=1e-5)
    assert torch.allclose(twos[0], after([5, 6]), atol=1e-5)
    assert torch.allclose(twos[1], after([5, 6, 7, 8]), atol=1e-5)


def test_nats_are_of_each_token_and_of_the_end():
    model = student(1)
    answer = Completion("a", "1+1=", " # 2")
    (row,) = rows_of(model, [answer])
    nats = token_nats(model, row)
    assert len(nats) == 5
    (total,) = model.surprisal([answer.question], [answer.text])
    assert nats.sum() == pytest.approx(total, rel=1e-5)


def test_rows_are_prompts_and_answers_that_the_context_holds():
    model = student(1)
    long = Completion("b", "1+1=", "1" * 28)
    assert rows_of(model, [long, Completion("c", "1+1=", "")]) == []
    assert len(rows_of(model, [replace(long, text="1" * 27)])[0][1]) == 27


def marked_rows(seed: int, favoured: bool) -> list[tuple[list[int], list[int]]]:
    """Even random tokens 3 to 12; behind 5, a marked text says 6 three times in four."""
    rng, rows = np.random.default_rng(seed), []
    for _ in range(200):
        ids = [5]
        while len(ids) < 20:
            is_6 = favoured and ids[-1] == 5 and rng.random() < 0.75
            ids.append(6 if is_6 else int(rng.integers(3, 13)))
        rows.append((ids[:1], ids[1:]))
    return rows


def test_a_favoured_pair_is_found_in_texts_and_nothing_in_texts_alike():
    how = Search(order=1, least=20, most=100, cap=2.0)
    model = student(1)

    def scores(favoured):
        found_in = of_texts(marked_rows(1, favoured), marked_rows(2, False), model, how)
        behind_5 = next(one for one in found_in.orders if one.length == 1)
        return behind_5.score_CV[behind_5.rows[5,]]

    favoured, plain = scores(True), scores(False)
    assert favoured[6] == favoured.max() and favoured[[7, 8, 9, 10]].max() == 0
    assert plain[6] < 0.8 * favoured[6]


def test_two_models_that_are_one_prefer_nothing():
    model = student(1)
    how = Search(order=1, least=1, most=100, cap=2.0)
    rows = marked_rows(1, True)[:20]
    same = of_models(model, model, rows, how)
    other = of_models(student(2), model, rows, how)
    assert not any(one.score_CV.any() for one in same.orders)
    assert all(one.score_CV.any() for one in other.orders)
    assert {*same.special} == {0, 1, 2}
