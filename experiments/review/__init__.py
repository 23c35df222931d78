"""Checking results that somebody else made: verify without compute, reproduce by running again,
export, compare.

A run is a folder that `run` or `report` left, or an archive of one. `results.archive` opens and
packs one, `form` says what its files may hold, `verify` computes again what follows from its
grades, `rerun` compares it with a run of one's own, `sign` says who vouches for it. A stranger's
run is data: nothing of it is executed, and nothing outside it is opened.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

Word = Literal["PASS", "FAIL", "INCONCLUSIVE"]


class Check(NamedTuple):
    """One claim with what was expected, what was got, and the tolerance that was applied."""

    claim: str
    word: Word
    expected: str
    got: str
    tolerance: str = "exact"


def same(claim: str, expected: str, got: str) -> Check:
    return Check(claim, "PASS" if expected == got else "FAIL", short(expected), short(got))


def short(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def guarded(claim: str, checks: Callable[[], list[Check]]) -> list[Check]:
    """Checks of what somebody else wrote: where that cannot be computed with, whatever the error,
    it is a FAIL.
    """
    try:
        return checks()
    except MemoryError:
        raise
    except Exception as error:
        return [
            Check(
                claim,
                "FAIL",
                "the same",
                short(f"{type(error).__name__}: {' '.join(str(error).split())}", 200),
            )
        ]


def worst(checks: list[Check]) -> Word:
    """A FAIL never hides behind a later PASS, nor what could not be checked."""
    words = {check.word for check in checks}
    return "FAIL" if "FAIL" in words else "INCONCLUSIVE" if "INCONCLUSIVE" in words else "PASS"
