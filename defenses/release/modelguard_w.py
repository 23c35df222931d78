"""ModelGuard-W: within an L1 budget, what is released is as wrong as it can be for a student that believes it.

Tang et al. 2024 (USENIX Security), against attackers who do not adapt: min over y' of sum_k log(y_k + 1e-6) y'_k, where
y' is a distribution with |y' - y|_1 <= eps and y'_top - y'_j >= margin. The released code hands this to an LP solver, a
second for 1,000 classes. Here it is solved exactly: given the cap x = y'_top - margin of all other atoms, the cheapest
(least likely) are filled up to x and the dearest drained until eps is spent; the objective is convex and piecewise
linear in x, and the lines through two points on either side of its minimum meet there after a few steps. Work is O(A) a
position plus O(log A) a step.

Where the two likeliest are closer than the margin, no budget may be enough to keep it: their clean gap is kept instead.
The tail is an atom like any other, held below the top as well; where it is not so already, as it may be heavier than
any token, it is left as it is. A drained token has logprob -inf: an honest reader's KL is then infinite.
Axes: N atoms of one position, A atoms of a row (`_atoms`), the tail last.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field

from defenses import Knob, Part
from defenses.release import LogprobEdit
from defenses.release._atoms import atoms, released
from distill.answers import Answer, Logprobs

FLOOR, MARGIN = 1e-6, 1e-4  # the authors'
DUST = 1e-12  # what is left of an atom that was drained but for rounding


class Plan(NamedTuple):
    """The best y' for a cap x. From the least likely: `filled` atoms at x, one at `last`, those up to `drained` as they
    were but at x at most, that one at `left`, and no mass beyond. `drained` = `filled` where none stays as it was."""

    x: float
    filled: int
    last: float
    drained: int
    left: float
    value: float
    slope: float


class Row:
    """One position's problem: `y_N` in any order, its first largest atom the top; masses need not sum to 1."""

    def __init__(self, y_N: np.ndarray, eps: float, margin: float = MARGIN) -> None:
        falling = bool((y_N[:-1] >= y_N[1:]).all())  # as rows are without their tail; sorting would cost most of all
        self.order = slice(None, None, -1) if falling else np.argsort(-y_N, kind="stable")[::-1]
        rising = np.ascontiguousarray(y_N[self.order])
        self.y, self.top = rising[:-1], rising[-1]
        self.costs, self.top_cost = np.log(self.y + FLOOR), np.log(self.top + FLOOR)
        self.masses, self.prices, self.values = map(_sums, (self.y, self.costs, self.y * self.costs))
        self.total = self.masses[-1] + self.top
        self.gap = min(margin, self.top - self.y[-1])
        self.start, self.budget = self.top - self.gap, eps / 2  # the clean cap; what may move up, and so down

    def bounds(self) -> tuple[float, float]:
        """The caps for which there is any y': at the lowest, the whole budget goes into pressing down to it."""
        n = len(self.y)

        def level(f: int) -> float:
            return (self.start + self.masses[n] - self.masses[n - f] - self.budget) / (f + 1)

        f = bisect_left(range(n), True, key=lambda f: bool(level(f) >= self.y[n - 1 - f]))
        low = max(level(f), (self.total - self.gap) / (n + 1))
        return low, max(low, min(self.start + self.budget, self.total - self.gap))

    def plan(self, x: float) -> Plan:
        """The best y' with cap x, its objective, and how that changes with x while no atom changes its part."""
        n, y, masses, prices = len(self.y), self.y, self.masses, self.prices
        over = bisect_right(y, x)  # the first atom above the cap
        up = self.budget - max(x - self.start, 0)
        s = bisect_right(range(1, over + 1), up, key=lambda i: i * x - masses[i])
        if s < over:
            last, last_slope = y[s] + up - (s * x - masses[s]), -s - (x >= self.start)
        else:
            s, last, last_slope = min(s, n - 1), x, 1
        head = x + self.gap + s * x + last
        if s == n - 1 or head >= self.total:  # enough budget to fill the cheapest with all there is
            rest = self.total - self.gap - x
            s = d = min(int(rest / x), n - 1)
            last, last_slope = rest - s * x, -1 - s
            value, slope, left = 0.0, 0.0, 0.0
        else:
            start, begin = min(s + 1, over), max(s + 1, over)

            def through(i: int) -> float:
                return head + masses[min(i + 1, over)] - masses[start] + x * (max(i + 1, over) - begin)

            d = s + 1 + bisect_left(range(s + 1, n - 1), self.total, key=through)
            left = self.total - through(d - 1)
            pressed = prices[max(d, over)] - prices[begin]
            value = self.values[min(d, over)] - self.values[start] + x * pressed + self.costs[d] * left
            slope = pressed - self.costs[d] * (1 + s + last_slope + max(d, over) - begin)
        value += self.top_cost * (x + self.gap) + x * prices[s] + self.costs[s] * last
        slope += self.top_cost + prices[s] + self.costs[s] * last_slope
        return Plan(x, s, last, d, left, float(value), float(slope))

    def best(self) -> Plan:
        """The plan at the cap where the objective is least."""
        low, high = map(self.plan, self.bounds())
        for step in range(150):
            if low.slope >= 0 or high.slope <= 0:
                break
            x = (high.value - low.value + low.slope * low.x - high.slope * high.x) / (low.slope - high.slope)
            least = low.value + low.slope * (x - low.x)
            if step % 3 == 2:  # should the lines close in from one side alone
                x = (low.x + high.x) / 2
            if min(low.value, high.value) - least <= 1e-13 or not low.x < x < high.x:
                break
            middle = self.plan(x)
            low, high = (middle, high) if middle.slope < 0 else (low, middle)
        return min(low, high, key=lambda plan: plan.value)

    def carried_out(self, plan: Plan) -> np.ndarray:
        """y' (N) in the order of y."""
        out = np.minimum(self.y, plan.x)
        out[: plan.filled] = plan.x
        out[plan.drained :] = 0
        for i, mass in ((plan.drained, plan.left), (plan.filled, plan.last)):
            out[i] = mass if mass > DUST else 0
        whole = np.empty(len(out) + 1)
        whole[self.order] = np.append(out, plan.x + self.gap)
        return whole


def _sums(values: np.ndarray) -> Any:
    out = np.zeros(len(values) + 1)
    np.cumsum(values, out=out[1:])
    return out


def poisoned(y_N: np.ndarray, eps: float, margin: float = MARGIN) -> np.ndarray:
    """y' (N) that minimises sum log(y + 1e-6) y' within L1 `eps`, the first largest atom ahead by margin or gap."""
    if eps == 0 or len(y_N) < 2:
        return y_N
    row = Row(y_N, eps, margin)
    return row.carried_out(row.best()) if row.total > row.gap else y_N


class Settings(Part):
    """`eps`: L1 budget a position, in [0, 2] (0: no defence)."""

    eps: float = Field(1.0, ge=0, le=2)


class Defense(LogprobEdit):
    """Releases the distribution that misleads most within the budget."""

    keeps_argmax = True
    identity = {"eps": 0.0}
    knob = Knob("eps", 0.0, 0.01, 2.0, log=True)
    paper = "Tang et al. 2024"

    def logprobs(self, logprobs: Logprobs, answer: Answer) -> Logprobs:
        p_TA, there_TA = atoms(logprobs)
        there_TA[:, -1] &= p_TA[:, -1] <= p_TA[:, 0] - MARGIN
        for p_A, there_A in zip(p_TA, there_TA, strict=True):
            p_A[there_A] = poisoned(p_A[there_A], self.settings.eps)
        return released(logprobs, p_TA)
