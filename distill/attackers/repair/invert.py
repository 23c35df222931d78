"""Closed-form inversion: a defence that is a known map of each row, without a secret, is undone row
by row.

`smoothing`, y~ = (1 - a) y + a / V: as no y is below 0, a is at most V min y~, and over many rows
of a language model, in which some token is next to impossible, that is what it is.
`reverse_sigmoid` (Lee et al. 2019; beta = c / A over the K entries and the tail, 1 and 1 / gamma at
most): separable up to one number a row, alpha, for which one searches. `truncation`, as under
top-k: what is missing from a row's total is the tail, and the row says so; a row whose mass
rounding made larger than 1 is divided by it.

Reverse sigmoid takes two probabilities to one value at both ends. The likeliest token's is settled
by the others, as all sum to 1. Of the rest, what is ambiguous is read as the smaller one, as most
tokens of a language model are next to impossible, else as the larger, else as a mixture: of few
entries every one is tried, of many those that divide them by size. A row that none of these can
have released stays. Axes: T positions, A atoms (a row's entries, the tail
last), V vocabulary.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from distill.attackers import AttackerResources, Base, Part
from distill.attackers.repair import atoms, dense, replace_logprobs, rows_of, sparse, with_logprobs
from distill.completions import BadInput, Completion, Logprobs

CLOSE = 1e-5  # how near to what was released a solution must come
RESOLUTION = 1e-6  # a tail below it may be rounding of float32 logprobs
FEW = 6  # entries of which every mixture of readings is tried
LOGITS = np.linspace(-40, 40, 40001)  # of the probabilities between which the map is tabulated
ALPHAS, HALVINGS = (
    200,
    40,
)  # how many alphas are tried, and how often the search for one narrows then


def invert_smoothing(p_NV: np.ndarray) -> tuple[np.ndarray, float]:
    """Whole rows before they were smoothed with one uniform share, and that share: V times the
    least probability.

    Args:
        p_NV: N released distributions over all V tokens.

    Returns:
        Distributions `[N, V]`, and the share, 0 where nothing but the uniform is left.
    """
    share = float(p_NV.shape[1] * p_NV.min(initial=np.inf))
    if not share < 1 - RESOLUTION:  # nothing but the uniform is left, or there are no rows
        return p_NV, 0.0
    y_NV = np.maximum(p_NV - share / p_NV.shape[1], 0)
    return y_NV / y_NV.sum(-1, keepdims=True), share


def table(
    beta: float, gamma: float
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """y - beta (sigmoid(gamma logit y) - 1/2) where it falls, at small y, and where it rises.

    Args:
        beta: the defence's strength over its entries.
        gamma: steepness of its sigmoid.

    Returns:
        Values and logits of y, `[points]` each, from the smallest value on: the falling branch,
        then the rising one.
    """
    g = _sigmoid(LOGITS) - beta * (_sigmoid(gamma * LOGITS) - 0.5)
    turn = int(
        g[: len(g) // 2].argmin()
    )  # it is odd about 1/2, so that it turns again at 1 less this y
    rising = slice(turn, len(g) - turn)
    return (g[turn::-1], LOGITS[turn::-1]), (g[rising], LOGITS[rising])


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(x / 2))


def invert_reverse_sigmoid(p_TA: np.ndarray, beta: float, gamma: float) -> np.ndarray:
    """Rows before reverse sigmoid, p = alpha g(y); those that are no rows of its come back as they
    are.

    Args:
        p_TA: rows that were sold.
        beta: the defence's strength over its entries.
        gamma: steepness of its sigmoid.

    Returns:
        Probabilities `[T, A]`.
    """
    branches = table(beta, gamma)
    order_TA = (-p_TA).argsort(-1, kind="stable")[:, ::-1]  # the likeliest last
    out_TA, left = p_TA.copy(), np.arange(len(p_TA))
    for larger in readings(p_TA.shape[1] - 1):
        if not len(left):
            break
        larger_TA = np.zeros((len(left), p_TA.shape[1]), bool)
        np.put_along_axis(larger_TA, order_TA[left][:, list(larger)], True, -1)
        y_TA, miss_T = _solve(p_TA[left], larger_TA, branches, beta, gamma)
        solved_T = miss_T < CLOSE
        out_TA[left[solved_T]] = y_TA[solved_T]
        left = left[~solved_T]
    return out_TA


def readings(others: int) -> list[tuple[int, ...]]:
    """Which of a row's entries but the likeliest, from the least on, are read as the larger of the
    two that they may have been: none, all, and mixtures; of many entries those in which a few at
    one end are.

    Args:
        others: entries beside the likeliest.
    """
    every = tuple(range(others))
    if others <= FEW:
        mixed = [some for size in range(1, others) for some in itertools.combinations(every, size)]
    else:
        mixed = [part for at in range(1, others) for part in (every[at:], every[:at])]
    return [(), every, *mixed]


Branches = tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def _solve(
    p_TA: np.ndarray, larger_TA: np.ndarray, branches: Branches, beta: float, gamma: float
) -> tuple[np.ndarray, np.ndarray]:
    """Rows (T, A) read in one way, and by how much they miss being what was released (T)."""
    falls, rises = branches
    tops_T1 = p_TA.argmax(-1)[:, None]

    def rows(alpha_T1: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        v_TA = p_TA / alpha_T1
        small_TA = ~larger_TA & (v_TA <= falls[0][-1])
        y_TA = np.where(
            small_TA, _sigmoid(np.interp(v_TA, *falls)), _sigmoid(np.interp(v_TA, *rises))
        )
        np.put_along_axis(y_TA, tops_T1, 0, -1)
        np.put_along_axis(y_TA, tops_T1, 1 - y_TA.sum(-1, keepdims=True), -1)
        with np.errstate(divide="ignore", invalid="ignore"):
            odds_TA = np.log(y_TA) - np.log1p(-y_TA)
        return y_TA, alpha_T1 * (y_TA - beta * (_sigmoid(gamma * odds_TA) - 0.5)) - p_TA

    def miss(alpha_T1: np.ndarray) -> np.ndarray:
        """Of the likeliest token, which the others settle; below 0 where they leave it nothing."""
        miss_T1 = np.take_along_axis(rows(alpha_T1)[1], tops_T1, -1)
        return np.where(np.isnan(miss_T1), -1, miss_T1)

    y_TA, miss_TA = rows(_root(miss, p_TA.shape, beta))
    return y_TA, np.nan_to_num(np.abs(miss_TA), nan=1.0).max(-1)


def _root(
    miss: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...], beta: float
) -> np.ndarray:
    """The least alpha (T, 1) at which the sign of `miss` changes, to the halvings."""
    count, size = shape
    alphas = np.linspace(1 / (1 + beta * size / 2), 1 / max(1 - beta / 2, 0.1), ALPHAS)
    signs = np.stack([miss(np.full((count, 1), alpha))[:, 0] > 0 for alpha in alphas])
    first_T = (signs[1:] != signs[:-1]).argmax(0)
    low_T1: np.ndarray = alphas[first_T][:, None]
    high_T1 = alphas[first_T + 1][:, None]
    below_T1 = signs[first_T, np.arange(count)][:, None]
    for _ in range(HALVINGS):
        middle_T1 = (low_T1 + high_T1) / 2
        alike_T1 = (miss(middle_T1) > 0) == below_T1
        low_T1, high_T1 = (
            np.where(alike_T1, middle_T1, low_T1),
            np.where(alike_T1, high_T1, middle_T1),
        )
    return low_T1


def undo_reverse_sigmoid(logprobs: Logprobs, c: float, gamma: float) -> Logprobs:
    """Rows before reverse sigmoid of strength c over the entries that are there, and their tail.

    Args:
        logprobs: T rows that were sold.
        c: strength times the number of entries.
        gamma: steepness of its sigmoid.
    """
    p_TA = atoms(logprobs)
    there_TA = np.concatenate([logprobs.ids_TK >= 0, p_TA[:, -1:] > RESOLUTION], -1)
    for kind in np.unique(there_TA, axis=0):
        rows = (there_TA == kind).all(-1)
        if kind.sum() > 1:
            p_TA[np.ix_(rows, kind)] = invert_reverse_sigmoid(
                p_TA[np.ix_(rows, kind)], min(c / kind.sum(), 1, 1 / gamma), gamma
            )
    return replace_logprobs(logprobs, p_TA)


def with_tails(logprobs: Logprobs) -> Logprobs:
    """Rows with their missing mass as the tail, none below 1e-6; what rounding made heavier than 1
    is 1.

    Args:
        logprobs: rows of the K likeliest tokens, nats.
    """
    mass_T = np.exp(logprobs.values_TK.astype(np.float64)).sum(-1)
    with np.errstate(divide="ignore"):
        tail_T = np.log(np.where(1 - mass_T > RESOLUTION, 1 - mass_T, 0))
        less_T1 = np.log(np.maximum(mass_T, 1))[:, None]
    return Logprobs(
        logprobs.ids_TK,
        (logprobs.values_TK - less_T1).astype(np.float32),
        tail_T.astype(np.float32),
    )


def undo_smoothing(released: Sequence[Logprobs]) -> list[Logprobs]:
    """Rows of many answers before they were smoothed, all with one share.

    Args:
        released: rows of each answer, over all tokens.

    Raises:
        BadInput: a row does not name all tokens.
    """
    size = max((one.ids_TK.shape[1] for one in released), default=0)
    if any(one.ids_TK.shape[1] != size or (one.ids_TK < 0).any() for one in released):
        raise BadInput(
            "attacker repair/invert: form smoothing reads the least probability of all; every "
            "row must name "
            "all tokens, as under profile full"
        )
    p_NV = np.concatenate([np.zeros((0, size)), *(dense(one, size) for one in released)])
    parts = np.split(
        invert_smoothing(p_NV)[0], np.cumsum([len(one.ids_TK) for one in released])[:-1]
    )
    return [sparse(part, size) for part in parts[: len(released)]]


class Settings(Part):
    """`form`: the map; `c` and `gamma` are read by `reverse_sigmoid`, as its defence has them."""

    form: Literal["smoothing", "reverse_sigmoid", "truncation"] = "truncation"
    c: float = Field(2.1, gt=0)
    gamma: float = Field(0.2, gt=0)


class Attacker(Base):
    paper = "Tang et al. 2024 (ModelGuard); Lee et al. 2019"

    @property
    def needs_interface(self) -> str:  # type: ignore[override]
        return "full" if self.settings.form == "smoothing" else "top_k"

    def clean(
        self, completions: Sequence[Completion], resources: AttackerResources, *, seed: int
    ) -> list[Completion]:
        """Every answer with its rows as they were before that map."""
        released, s = [rows_of(one, "repair/invert") for one in completions], self.settings
        if s.form == "smoothing":
            return with_logprobs(completions, undo_smoothing(released))
        if s.form == "truncation":
            return with_logprobs(completions, [with_tails(one) for one in released])
        return with_logprobs(
            completions, [undo_reverse_sigmoid(one, s.c, s.gamma) for one in released]
        )
