"""Words that tables share: which arm a line is of, how a number and its interval are said."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from experiments.results.table import Number, Real, Table

Role = Literal["floor", "undefended", "control", "defended"]
TransferKind = Literal[
    "ok", "weak denominator", "not identified", "harmful", "identical outputs", "itself"
]
FAMILIES = (
    "decoding",
    "release, text",
    "release, logprobs",
    "trained",
    "marks",
    "several",
    "controls",
)
"""Where a defence acts, in the order in which plots list them."""
FidelityName = Literal[
    "agreement",
    "error_consistency",
    "same_wrong",
    "bits_per_byte",
    "brier",
    "nll",
    "confidence_rank",
]
Task = Annotated[str, Field(description="Name of the task.")]
Defense = Annotated[str, Field(description="The defence as the study writes it; `none` for none.")]
Attacker = Annotated[str, Field(description="The attack as the study writes it, or a floor.")]
Budget = Annotated[int, Field(ge=0, description="Questions that the attacker may ask.")]
Preset = Annotated[str, Field(description="The campaign as the study writes it.")]
Access = Annotated[str, Field(description="The access policy that it meets; `open` for none.")]
Value = Annotated[Number, Field(description="The estimate; null where there is none.")]
Low = Annotated[Real, Field(description="Lower end of its interval.")]
High = Annotated[Real, Field(description="Upper end of its interval.")]
OpenLow = Annotated[Number, Field(description="Lower end of its interval; null is unbounded.")]
OpenHigh = Annotated[Number, Field(description="Upper end of its interval; null is unbounded.")]


class Interval(Table):
    """An estimate with its interval at the study's level."""

    value: Value
    lo: OpenLow
    hi: OpenHigh


ALL = "all"
"""All campaigns together, or all segments."""
FUSION = "fusion"
"""All detectors as one."""
