"""What every component keeps, whatever it does: the claims that tests hold shipped components to,
and that `distill-resist check-plugin` holds a plugin to.

A claim is a function whose name says what is claimed. It returns nothing where the claim is kept,
and raises `Broken` with the reason where it is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple


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
    """Raise `Broken` unless the claim is kept."""
    if not holds:
        raise Broken(reason)


def title(claim: Callable[..., None]) -> str:
    """A claim in words."""
    return claim.__name__.replace("_", " ")


def hold(claim: Callable[..., None], subject: str, *arguments: Any) -> Iterator[Result]:
    """The result of a claim, if it applies; whatever a component raises breaks it."""
    try:
        claim(*arguments)
    except NotApplicable:
        return
    except Broken as why:
        yield Result(title(claim), subject, str(why))
    except Exception as error:
        line = " ".join(str(error).split())[:200]
        yield Result(title(claim), subject, f"raises {type(error).__name__}: {line}")
    else:
        yield Result(title(claim), subject, "")
