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
    """Whether what was got is what was expected.

    Args:
        claim: that is checked.
        expected: in words.
        got: in words.
    """
    return Check(claim, "PASS" if expected == got else "FAIL", short(expected), short(got))


def short(text: str, most: int = 60) -> str:
    """A text, cut with an ellipsis where it is too long.

    Args:
        text: of any length.
        most: characters that are left, from 3 on.
    """
    return text if len(text) <= most else f"{text[: most - 3]}..."


def guarded(claim: str, checks: Callable[[], list[Check]]) -> list[Check]:
    """Checks of what somebody else wrote: where that cannot be computed with, whatever the error,
    it is a FAIL.

    Args:
        claim: that is checked.
        checks: which may fail in any way.

    Returns:
        The checks, or one FAIL with the error.

    Raises:
        MemoryError: memory is too small, which says nothing of what was checked.
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
    """A FAIL never hides behind a later PASS, nor what could not be checked.

    Args:
        checks: of a run; without any it is a PASS.
    """
    words = {check.word for check in checks}
    return "FAIL" if "FAIL" in words else "INCONCLUSIVE" if "INCONCLUSIVE" in words else "PASS"
