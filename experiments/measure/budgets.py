"""How far apart the budgets of a curve may lie; planning asks as well, and needs no statistics."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

APART = 2.0  # times, that neighbouring budgets may lie apart


def too_far(budgets: Iterable[float], what: str) -> str:
    """Why a curve of these budgets cannot be read for `what`; nothing where it can.

    Args:
        budgets: exchanges.
        what: for the sentence.
    """
    most = max((b / a for a, b in itertools.pairwise(sorted(budgets))), default=1.0)
    return (
        f"budgets lie {most:.3g} x apart; {what} needs at most {APART:g} x"
        if most > APART * (1 + 1e-9)
        else ""
    )
