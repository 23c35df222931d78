"""ModelGuard-W: within an L1 budget, what is released is as wrong as it can be for a student that
believes it.

Tang et al. 2024 (USENIX Security), against attackers who do not adapt: min over y' of sum_k log(y_k
+ 1e-6) y'_k, where y' is a distribution with |y' - y|_1 <= eps and y'_top - y'_j >= margin. The
released code hands this to an LP solver, a second for 1,000 classes. Here it is solved exactly,
many rows at once: given the cap x = y'_top - margin of all other atoms, the cheapest (least likely)
are filled up to x and the dearest drained until eps is spent; the objective is convex and piecewise
linear in x, and the lines through two points on either side of its minimum meet there after a few
steps. Work is O(A) a row, if it is sorted, plus O(log A) a step.

Where the two likeliest are closer than the margin, no budget may be enough to keep it: their clean
gap is kept instead. The tail is an atom like any other, held below the top as well; where it is not
so already, as it may be heavier than any token, it is left as it is. A drained token has logprob
-inf: an honest reader's KL is then infinite. Axes: T rows, A atoms of a row (`_distributions`), the
tail last.
"""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np
import torch
from pydantic import Field

from defenses import DefenseSettings, Strength, Traits
from defenses.release import LogprobEdit
from defenses.release._distributions import atom_probabilities, blocks, replace_probabilities
from distill.completions import Completion, Logprobs

FLOOR, MARGIN = 1e-6, 1e-4  # the authors'
DUST = 1e-12  # what is left of an atom that was drained but for rounding
ABSENT = 2.0  # in place of what is no atom: sorted behind all that are, and above any cap


class _Rows:
    """Problems of many rows: the mass of each top, its `n` other atoms `y_TA` from the least likely
    on, then ABSENT.
    """

    def __init__(
        self, top: np.ndarray, n: np.ndarray, y_TA: np.ndarray, eps: float, margin: float
    ) -> None:
        self.n, self.y_TA, places = n, y_TA, y_TA.shape[1]
        self.firsts = np.arange(len(y_TA)) * places
        costs_TA = np.log(self.y_TA + FLOOR)
        self.masses_TA, self.prices_TA = _sums_before(self.y_TA), _sums_before(costs_TA)
        costs_TA *= self.y_TA
        self.values_TA = _sums_before(costs_TA)

        others = self.at(self.masses_TA, n)
        second = np.where(n > 0, self.at(self.y_TA, np.maximum(n - 1, 0)), 0)
        self.gap, self.top_cost = np.minimum(margin, top - second), np.log(top + FLOOR)
        self.clean = top - self.gap  # the clean cap
        self.budget = eps / 2  # what may move up, and so down
        self.rest = top + others - self.gap  # of the others, and the cap as one more of them
        # At the lowest cap the whole budget goes into pressing the top and some of the dearest down
        # to it.
        levels_TA = (self.clean - self.budget + others)[:, None] - self.masses_TA
        levels_TA /= np.maximum(n[:, None] + 1.0 - np.arange(places), 1)
        self.low = np.maximum(np.maximum(levels_TA.max(-1), self.rest / (n + 1)), 1e-300)
        self.high = np.maximum(self.low, np.minimum(self.clean + self.budget, self.rest))
        # Less the cap at which the budget fills the i cheapest: it falls with i until atoms are
        # above it.
        i = np.arange(1, min(places - 1.0, (self.rest / self.low).max() + 1) + 1)
        up_TI = self.masses_TA[:, 1 : len(i) + 1] + self.budget
        caps_TI = up_TI / i
        up_TI += self.clean[:, None]
        up_TI /= -1 - i
        np.maximum(up_TI, np.negative(caps_TI, out=caps_TI), out=up_TI)
        self.fills_TI = torch.cummax(torch.from_numpy(up_TI), -1).values.numpy()

    def at(self, values_TA: np.ndarray, i: np.ndarray) -> Any:
        """One value of each row."""
        return values_TA.ravel().take(self.firsts + i)

    def plan(self, x: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """The least objectives at these caps, how they change with the cap while no atom changes
        its part, and the parts.

        From the least likely on, `filled` atoms are at the cap, one has `more` than it had, those
        up to `drained` are as they were but at the cap at most, that one has `left`, and nothing is
        beyond.
        """
        over = _position(self.y_TA, x)  # the first atom above the cap
        rest = np.maximum(self.rest - x, 0)
        # How many are filled, if the cheapest are given all there is.
        most = np.minimum((rest / x).astype(int), over)
        end = np.minimum(rest - most * x, x) - self.at(self.y_TA, most)
        need = most * x - self.at(self.masses_TA, most) + np.maximum(end, 0)
        budget = self.budget - np.maximum(x - self.clean, 0)
        up = np.minimum(budget, need)
        up_slope = np.where(budget <= need, -1 * (x >= self.clean), np.where(end >= 0, -1, most))
        filled = np.minimum(_position(self.fills_TI, -x), most)
        more = up - filled * x + self.at(self.masses_TA, filled)

        left, below = rest - up, self.at(self.masses_TA, over)
        drained = np.where(
            left < below,
            _position(self.masses_TA, left) - 1,
            over + (np.maximum(left - below, 0) / x).astype(int),
        )
        drained = np.maximum(np.minimum(drained, self.n - 1), 0)
        low, high = np.minimum(drained, over), np.maximum(drained, over)
        left = left - self.at(self.masses_TA, low) - x * (high - over)

        fill_cost, drain_cost = (np.log(self.at(self.y_TA, i) + FLOOR) for i in (filled, drained))
        pressed = self.at(self.prices_TA, high) - self.at(self.prices_TA, over)
        at_cap = self.top_cost + self.at(self.prices_TA, filled) + pressed
        as_were = self.at(self.values_TA, low) - self.at(self.values_TA, filled)
        value = (
            self.top_cost * self.gap + x * at_cap + as_were + fill_cost * more + drain_cost * left
        )
        slope = at_cap + fill_cost * (up_slope - filled) - drain_cost * (1 + up_slope + high - over)
        return np.stack([x, value, slope]), (filled, more, drained, left)

    def best(self) -> np.ndarray:
        """The caps where the objectives are least."""
        low, high = self.plan(self.low)[0], self.plan(self.high)[0]
        for step in count():
            (x0, value0, slope0), (x1, value1, slope1) = low, high
            with np.errstate(divide="ignore", invalid="ignore"):  # in rows that are done
                x = (value1 - value0 + slope0 * x0 - slope1 * x1) / (slope0 - slope1)
                gain = np.minimum(value0, value1) - value0 - slope0 * (x - x0)
            if step % 4 == 3:  # should the lines close in from one side alone
                x = (x0 + x1) / 2
            going = (slope0 < 0) & (slope1 > 0) & (gain > 1e-11) & (x0 < x) & (x < x1)
            if not going.any():
                break
            middle = self.plan(np.where(going, x, x0))[0]
            low = np.where(going & (middle[2] < 0), middle, low)
            high = np.where(going & (middle[2] >= 0), middle, high)
        least: np.ndarray = np.where(value0 <= value1, x0, x1)
        return least

    def solution(self) -> tuple[np.ndarray, np.ndarray]:
        """The tops of y', and y' (T, A) of the others in the order of y; what is ABSENT has no
        meaning.
        """
        (cap, _, _), parts = self.plan(self.best())
        filled, more, drained, left = (part[:, None] for part in parts)
        x_T1, i = cap[:, None], np.arange(self.y_TA.shape[1])
        out_TA = np.minimum(self.y_TA, x_T1)
        np.copyto(out_TA, 0, where=i > drained)
        # Rounding must lift no atom above the cap: where the gap is 0, that would be another
        # likeliest token.
        np.put_along_axis(out_TA, drained, np.where(left > DUST, np.minimum(left, x_T1), 0), -1)
        more += np.take_along_axis(out_TA, filled, -1)
        np.put_along_axis(out_TA, filled, np.where(more > DUST, np.minimum(more, x_T1), 0), -1)
        np.copyto(out_TA, x_T1, where=i < filled)
        return cap + self.gap, out_TA


def _reverse_tokens(values_TA: np.ndarray) -> np.ndarray:
    """The tokens from the last to the first, then the tail."""
    return np.concatenate([values_TA[:, -2::-1], values_TA[:, -1:]], -1)


def _sums_before(values_TA: np.ndarray) -> np.ndarray:
    """The sums of what is before each place (numpy's cumsum takes four times as long)."""
    out_TA = np.zeros_like(values_TA)
    torch.cumsum(torch.from_numpy(values_TA[:, :-1]), -1, out=torch.from_numpy(out_TA)[:, 1:])
    return out_TA


def _position(rising_TA: np.ndarray, x: np.ndarray) -> np.ndarray:
    """How many values of each row are at most x (T)."""
    return torch.searchsorted(
        torch.from_numpy(rising_TA), torch.from_numpy(x)[:, None], right=True
    ).numpy()[:, 0]


def poison(
    y: np.ndarray, eps: float, margin: float = MARGIN, there: np.ndarray | None = None
) -> np.ndarray:
    """y' that minimises sum log(y + 1e-6) y' within L1 `eps`, the first largest atom ahead by
    margin or gap.

    Of one row `[A]` or many `[T, A]`; what is not `there` is no atom, and stays.

    Args:
        y: probabilities of atoms `[A]` or `[T, A]`.
        eps: L1 budget.
        margin: by which the largest atom stays ahead.
        there: which atoms there are, in the shape `[...]` of y; all if None.
    """
    if eps == 0:
        return y
    y_TA = np.atleast_2d(y)
    there_TA = np.ones(y_TA.shape, bool) if there is None else np.atleast_2d(there)
    masses_TA = np.where(there_TA, y_TA, 0)
    tops_T1 = masses_TA.argmax(-1)[:, None]
    top_T1 = np.take_along_axis(masses_TA, tops_T1, -1)
    masses_TA[~there_TA] = ABSENT
    np.put_along_axis(masses_TA, tops_T1, ABSENT, -1)
    masses_TA, order_TA = _reverse_tokens(masses_TA), None
    # Released rows are falling but for their tail, so that most are in order already.
    if (masses_TA[:, 1:] < masses_TA[:, :-1]).any():
        order_TA = np.argsort(masses_TA, -1, kind="stable")
        masses_TA = np.take_along_axis(masses_TA, order_TA, -1)
    rows = _Rows(top_T1[:, 0], np.maximum(there_TA.sum(-1) - 1, 0), masses_TA, eps, margin)
    top_T, out_TA = rows.solution()
    if order_TA is not None:
        np.put_along_axis(masses_TA, order_TA, out_TA, -1)
        out_TA = masses_TA
    out_TA = _reverse_tokens(out_TA)
    np.put_along_axis(out_TA, tops_T1, top_T[:, None], -1)
    solvable = (rows.n > 0) & (rows.rest > 0)
    np.copyto(out_TA, y_TA, where=~(there_TA & solvable[:, None]))
    return out_TA.reshape(y.shape)


class Settings(DefenseSettings):
    """`eps`: L1 budget a position, in [0, 2] (0: no defence)."""

    eps: float = Field(1.0, ge=0, le=2)


class Defense(LogprobEdit):
    """Releases the distribution that misleads most within the budget."""

    settings: Settings
    traits = Traits(
        acts_on="logprobs",
        identity={"eps": 0.0},
        strength=Strength("eps", 0.0, 0.01, 2.0, log=True),
        keeps_argmax=True,
        paper="Tang et al. 2024",
    )

    def logprobs(self, logprobs: Logprobs, answer: Completion) -> Logprobs:
        p_TA, there_TA = atom_probabilities(logprobs)
        there_TA[:, -1] &= p_TA[:, -1] <= p_TA[:, 0] - MARGIN
        for rows in blocks(*p_TA.shape):
            p_TA[rows] = poison(p_TA[rows], self.settings.eps, there=there_TA[rows])
        return replace_probabilities(logprobs, p_TA)
