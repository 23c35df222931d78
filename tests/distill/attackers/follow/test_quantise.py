"""Rounding by hand, within half a step, and against torch's fake quantisation."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.attackers.follow import quantise
from tests.distill.attackers.follow.students import followed, split, student


def test_by_hand():
    # 2 bits: -1, 0 and 1 steps, where a step is the row's largest magnitude. 3 bits: steps of a
    # third of it.
    rows = torch.tensor([[1.0, -0.4, 0.6], [0.0, 0.0, 0.0]])
    assert quantise.quantise(rows, 2).tolist() == [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    assert quantise.quantise(3 * rows, 3).tolist() == [[3.0, -1.0, 2.0], [0.0, 0.0, 0.0]]


@given(st.integers(2, 8), st.integers(0, 1000))
def test_an_entry_moves_by_at_most_half_a_step_and_a_row_has_few_values(bits, seed):
    rows = torch.randn(4, 50, generator=torch.Generator().manual_seed(seed))
    out = quantise.quantise(rows, bits)
    step = rows.abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 1)
    assert ((out - rows).abs() <= step / 2 + 1e-6).all()
    assert all(len(row.unique()) <= 2**bits - 1 for row in out)
    assert torch.allclose(out.abs().amax(-1), rows.abs().amax(-1))
    assert torch.allclose(quantise.quantise(out, bits), out, atol=1e-6)
    assert torch.equal(quantise.quantise(-rows, bits), -out)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_torchs_fake_quantisation_is_the_same(bits):
    rows, most = torch.randn(5, 40, generator=torch.Generator().manual_seed(1)), 2 ** (bits - 1) - 1
    scale = rows.abs().amax(-1) / most
    want = torch.fake_quantize_per_channel_affine(
        rows, scale, torch.zeros(5, dtype=torch.int32), 0, -most, most
    )
    assert torch.allclose(quantise.quantise(rows, bits), want, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("bits", [4, 16])
def test_half_precision_stays_finite_and_close(dtype, bits):
    # A row of zeros, as of a token that is never seen, and one so small that 16-bit steps are below
    # half's range.
    rows = torch.stack(
        [torch.zeros(9), 1e-3 * torch.linspace(-1, 1, 9), torch.linspace(-2, 2, 9)]
    ).to(dtype)
    out = quantise.quantise(rows, bits)
    assert out.dtype == dtype and out.isfinite().all() and (out[0] == 0).all()
    step = rows.float().abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 1)
    assert ((out.float() - rows.float()).abs() <= step / 2 + 0.01 * rows.float().abs()).all()


def test_matrices_are_rounded_and_all_else_stays():
    matrices, others = split(followed(quantise, student(), bits=3).network)
    before, same = split(student().network)
    assert others and all(torch.equal(a, b) for a, b in zip(others, same, strict=True))
    for after, full in zip(matrices, before, strict=True):
        assert all(len(row.unique()) <= 7 for row in after) and torch.equal(
            after, quantise.quantise(full, 3)
        )


def test_many_bits_are_nearly_the_student():
    matrices, before = (
        split(model.network)[0] for model in (followed(quantise, student(), bits=16), student())
    )
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(matrices, before, strict=True))
