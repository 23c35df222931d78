"""What every component keeps, whatever it does: the claims that tests hold shipped components to,
and that `distill-resist check-plugin` holds a plugin to.

A claim is a function whose name says what is claimed, of what the head of its file says. It
returns nothing where the claim is kept, raises `Broken` with the reason where it is not, and
`NotApplicable` where there is nothing to keep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from experiments.settings.catalog import place_in_plugin


class Broken(Exception):
    """A claim is not kept; the text says why."""


class NotApplicable(Exception):
    """There is nothing to keep here; the text says why."""


class Result(NamedTuple):
    """A claim, what was held to it, and why it is not kept; empty where it is."""

    claim: str
    subject: str
    reason: str


def require(holds: bool, reason: str) -> None:
    """Raise `Broken` unless the claim is kept.

    Args:
        holds: whether the claim is kept.
        reason: why not, in words.

    Raises:
        Broken: it is not kept.
    """
    if not holds:
        raise Broken(reason)


def title(claim: Callable[..., None]) -> str:
    """A claim in words.

    Args:
        claim: a function with a name in words.
    """
    return claim.__name__.replace("_", " ")


def hold(claim: Callable[..., None], subject: str, *arguments: Any) -> Iterator[Result]:
    """The result of a claim, if it applies; whatever a component raises breaks it.

    Args:
        claim: a function that returns where it is kept.
        subject: what is held to it, in words.
        *arguments: of the claim.

    Returns:
        One result, or none where the claim does not apply.
    """
    try:
        claim(*arguments)
    except NotApplicable:
        return
    except Broken as why:
        yield Result(title(claim), subject, str(why))
    except Exception as error:
        line = " ".join(str(error).split())[:200]
        reason = f"raises {type(error).__name__}{_place(error)}: {line}"
        yield Result(title(claim), subject, reason)
    else:
        yield Result(title(claim), subject, "")


def _place(error: Exception) -> str:
    """` in file.py, line 7`: the innermost line of a plugin that an error came through, if any."""
    place = place_in_plugin(error)
    return f" in {place[0].file.name}, line {place[1]}" if place else ""
