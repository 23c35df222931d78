"""The indicators that the advisory AA26-251A (NSA, CISA, FBI, 8 September 2026) publishes, and the
detector of each.

We know the advisory at second hand, so the wording is ours and the list may be cut differently
there. What a detector makes of an indicator is measured in docs/indicators.md.
"""

from __future__ import annotations

from typing import NamedTuple


class Indicator(NamedTuple):
    """What is published, the detectors that look at it, and what they leave out."""

    what: str
    detectors: tuple[str, ...]
    remark: str = ""


INDICATORS = (
    Indicator(
        "sustained volume without day and night",
        ("volume", "rhythm"),
        "customers' machines run around the clock as well",
    ),
    Indicator("a new account at full quota from its first day, no ramp", ("onset",)),
    Indicator("use that does not fit the plan that is paid for", ("plan",)),
    Indicator(
        "many addresses and user agents on one credential",
        ("addresses",),
        "organisations that share a key and customers behind a VPN do the same",
    ),
    Indicator("similar prompts from unlinked accounts", ("templates",)),
    Indicator("prompts that ask for reasoning traces or rubrics", ("phrase",)),
    Indicator(
        "probes of quality: known questions, again and again",
        ("repeats",),
        "nightly test suites do the same",
    ),
    Indicator("a move of all traffic to a new model at once", ("pivot",)),
    Indicator("coordinated timing of many accounts", ("cotiming",)),
    Indicator(
        "shared payment, devices or networks",
        ("homogeneity",),
        "sharing alone accuses families and organisations: linked accounts count that are alike",
    ),
)

ACROSS = Indicator(
    "the same operator at several providers",
    ("shared",),
    "asked for beside the indicators: share what was found",
)


def covered() -> int:
    """How many of the indicators have a detector."""
    return sum(bool(one.detectors) for one in INDICATORS)
