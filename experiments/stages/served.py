"""Which of its questions a campaign was served, from what happened to it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np


def questions(
    happened: dict[str, Any], stands_for: Iterable[str], per_question: float, budget: int
) -> list[bool]:
    """Which of its questions a campaign was served, in order, each with whether the answer was a
    reduced one.

    A campaign goes through its list: every `per_question`-th exchange that it got carries the next
    question.
    """
    full_D, reduced_D = by_day(happened, stands_for)
    ends = np.cumsum(np.stack([full_D, reduced_D], axis=1).ravel())
    count = min(budget, round(float(ends[-1]) / per_question))
    at = np.minimum((np.arange(count) + 0.5) * per_question, max(ends[-1] - 0.5, 0))
    return [bool(place % 2) for place in np.searchsorted(ends, at, side="right")]


def by_day(happened: dict[str, Any], stands_for: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
    """Exchanges that stand for the task and were answered in full and reduced, by day."""
    columns = [happened["capabilities"].index(name) for name in stands_for]
    leaked, reduced = (
        np.array(happened[name])[:, columns].sum(axis=1) for name in ("leaked_DC", "reduced_DC")
    )
    return leaked - reduced, reduced
