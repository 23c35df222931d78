"""Relabelling and averages of repeated rows; tests/defenses/test_oracles.py relabels under every
defence.
"""

from dataclasses import replace

import numpy as np
import pytest

from distill.attackers import AttackerResources
from distill.attackers.repair import average, dense, relabel, sparse
from distill.completions import BadInput, Completion, Logprobs


def rows(*values, ids=None):
    p = np.array(values, float)
    order = np.argsort(-p, -1, kind="stable")
    descending = np.take_along_axis(p, order, -1)
    with np.errstate(divide="ignore"):
        return Logprobs(order.astype(np.int32), np.log(descending).astype(np.float32))


def answer(logprobs, tokens=(), prompt="q", name="a"):
    return Completion(name, prompt, "", tuple(tokens), logprobs=logprobs)


class TestRelabel:
    def test_by_hand(self):
        tied = Logprobs(
            np.array([[1, 2, 0], [2, 0, 1]], np.int32),
            np.array([[-0.5, -1, -2], [-1, -1, -1]], "f4"),
        )
        out = relabel.relabel(tied)
        assert out.ids_TK.tolist() == [[1], [2]] and (out.values_TK == 0).all()

    def test_withheld_entries_are_no_labels_and_an_empty_row_stays_empty(self):
        logprobs = Logprobs(
            np.array([[3, -1], [-1, -1]], np.int32),
            np.array([[-1, -np.inf], [-np.inf, -np.inf]], "f4"),
        )
        out = relabel.relabel(logprobs)
        assert out.ids_TK.tolist() == [[3], [-1]] and np.isneginf(out.values_TK[1]).all()

    def test_what_has_no_rows_is_one_line(self):
        with pytest.raises(BadInput, match="repair/relabel: answer 'a' has no logprobs"):
            relabel.Attacker(relabel.Settings()).clean([answer(None)], AttackerResources(), seed=0)


class TestAverage:
    def test_by_hand_as_far_as_prefixes_agree(self):
        first = answer(rows([0.6, 0.4], [0.9, 0.1]), (0, 0))
        second = answer(rows([0.2, 0.8], [0.5, 0.5]), (1, 0), name="a~1")
        first_rows, second_rows = average.average([first, second])
        # Both begin with nothing, so row 0 is the mean of both; their second rows follow different
        # tokens.
        assert np.exp(first_rows.values_TK[0]) == pytest.approx([0.6, 0.4])
        assert first_rows.ids_TK[0].tolist() == [1, 0]
        assert np.exp(first_rows.values_TK[1]) == pytest.approx([0.9, 0.1])
        assert np.exp(second_rows.values_TK[1]) == pytest.approx([0.5, 0.5])

    def test_fresh_noise_loses_all_but_one_nth_of_its_variance_and_keyed_noise_none(self):
        rng, clean, n = np.random.default_rng(0), np.array([0.5, 0.3, 0.2]), 16
        errors = {1: [], n: []}
        for _ in range(400):
            drawn = [np.abs(clean + 0.01 * rng.normal(size=3)) for _ in range(n)]
            (mean, *_) = average.average(
                [answer(rows(p), (), name=str(i)) for i, p in enumerate(drawn)]
            )
            errors[n].append(dense(mean, 3)[0] - clean)
            errors[1].append(drawn[0] - clean)
        ratio = np.var(errors[n]) / np.var(errors[1])
        assert ratio == pytest.approx(1 / n, rel=0.25)
        same = [answer(rows(drawn[0]), (), name=str(i)) for i in range(n)]
        assert np.allclose(average.average(same)[0].values_TK, rows(drawn[0]).values_TK, atol=1e-6)

    def test_a_question_that_was_asked_once_keeps_its_rows(self):
        part = average.Attacker(average.Settings())
        single = answer(rows([0.7, 0.3]), (0,))
        assert part.clean([single], AttackerResources(), seed=0)[0].logprobs is single.logprobs
        pair = [single, replace(single, prompt="other")]
        assert [kept.prompt for kept in part.clean(pair, AttackerResources(), seed=0)] == [
            "q",
            "other",
        ]


def test_dense_rows_and_back():
    p = np.array([[0.1, 0.0, 0.9], [0.4, 0.4, 0.2]])
    logprobs = sparse(p, 3)
    assert logprobs.ids_TK.tolist() == [[2, 0, -1], [0, 1, 2]] and np.allclose(
        dense(logprobs, 3), p, atol=1e-7
    )
