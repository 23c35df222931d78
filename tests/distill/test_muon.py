"""Muon against torch's own, and what its steps look like."""

import pytest
import torch

from distill.muon import Muon, orthogonalise


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_singular_values_come_near_one_and_directions_stay():
    matrices = drawn(3, 8, 24)
    out = orthogonalise(matrices)
    sizes = torch.linalg.svdvals(out)
    assert 0.6 < float(sizes.min()) and float(sizes.max()) < 1.3
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    assert float((out - u @ v).abs().max()) < 0.2
    assert torch.allclose(out[1], orthogonalise(matrices[1:2])[0], atol=1e-6)


def test_nothing_comes_of_nothing():
    assert torch.equal(orthogonalise(torch.zeros(1, 4, 6)), torch.zeros(1, 4, 6))


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_it_moves_as_torch_does(decay):
    ours, theirs = (
        [
            torch.nn.Parameter(drawn(*s, seed=i))
            for i, s in enumerate([(8, 24), (24, 8), (8, 8), (8, 24)])
        ]
        for _ in range(2)
    )
    muon = Muon(ours, 0.02, weight_decay=decay)
    other = torch.optim.Muon(theirs, lr=0.02, weight_decay=decay, momentum=0.95, nesterov=True)
    for step in range(4):
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            a.grad = drawn(*a.shape, seed=10 * step + i)
            b.grad = a.grad.clone()
        muon.step()
        other.step()
    for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        moved = b.detach() - drawn(*b.shape, seed=i)
        # torch rounds to bfloat16, which has 8 bits
        assert float((a - b).detach().norm()) < 0.02 * float(moved.norm())


def test_a_matrix_without_a_gradient_stays():
    stays, moves = torch.nn.Parameter(drawn(4, 4)), torch.nn.Parameter(drawn(4, 4, seed=1))
    moves.grad = drawn(4, 4, seed=2)
    before = stays.detach().clone()
    Muon([stays, moves], 0.1).step()
    assert torch.equal(stays.detach(), before) and not torch.equal(
        moves.detach(), drawn(4, 4, seed=1)
    )
