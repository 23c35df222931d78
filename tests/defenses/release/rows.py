"""Released rows for tests: one worked out by hand, and random ones."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from distill.completions import Logprobs

ROW = Logprobs(
    np.array([[7, 2, 5, -1]], np.int32),
    np.log(np.array([[0.5, 0.25, 0.125, 0]]) + 1e-300).astype("f4"),
)
ROW.values_TK[0, 3] = -np.inf
seeds = st.integers(0, 2**32 - 1)


def distributions(seed: int, rows: int = 3, size: int = 6) -> np.ndarray:
    """Dirichlet rows with a zero in each, sorted from the most likely on."""
    p = np.random.default_rng(seed).dirichlet(np.full(size, 0.3), rows)
    p[:, -1] = 0
    return -np.sort(-(p / p.sum(-1, keepdims=True)), -1)


def released(p_TK: np.ndarray) -> Logprobs:
    with np.errstate(divide="ignore"):
        return Logprobs(
            np.arange(p_TK.size, dtype=np.int32).reshape(p_TK.shape), np.log(p_TK).astype("f4")
        )
