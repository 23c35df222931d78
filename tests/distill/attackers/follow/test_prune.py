"""Pruning against torch's own, and that nothing but matrices loses anything."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.utils import prune as oracle

from distill.attackers.follow import prune
from tests.distill.attackers.follow.students import followed, split, student, weights


def test_by_hand():
    rows = torch.tensor([[0.1, -0.5, 0.2], [-0.05, 3.0, -0.3]])
    assert prune.prune(rows, 0.5).tolist() == torch.tensor([[0, -0.5, 0], [0, 3.0, -0.3]]).tolist()
    assert prune.prune(torch.ones(2, 2), 0.25).tolist() == [[0, 1], [1, 1]]  # of equals the first


@given(st.floats(0, 0.99), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_torchs_own_pruning_is_the_same(share, rows, columns, seed):
    layer = torch.nn.Linear(columns, rows, bias=False)
    with torch.no_grad():
        layer.weight.copy_(
            torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
        )
    before = layer.weight.detach().clone()
    oracle.l1_unstructured(layer, "weight", amount=share)
    assert torch.equal(prune.prune(before, share), layer.weight.detach())


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_every_matrix_loses_its_share_and_all_else_stays(share):
    matrices, others = split(followed(prune, student(), share=share).network)
    before, same = split(student().network)
    assert (
        len(matrices) > 3
        and others
        and all(torch.equal(a, b) for a, b in zip(others, same, strict=True))
    )
    for after, full in zip(matrices, before, strict=True):
        assert int((after == 0).sum()) == round(share * full.numel())
        assert torch.equal(after[after != 0], full[after != 0])


def test_a_share_of_0_is_the_student():
    assert torch.equal(
        weights(followed(prune, student(), share=0.0).network), weights(student().network)
    )
