"""What the traffic of a campaign's accounts looks like from outside, whatever they ask."""

from __future__ import annotations

from pydantic import Field, field_validator

from distill.campaigns import PLANS, FrozenSettings


class Footprint(FrozenSettings):
    """Where a campaign's accounts send from, what they pay for, and when in the day they send."""

    plan: str = Field(
        default="basic", description=f"what each account pays for: {', '.join(PLANS)}"
    )
    addresses: int = Field(
        default=1, ge=1, le=10_000, description="that each account sends from, its own"
    )
    clients: int = Field(
        default=1, ge=1, le=1000, description="kinds of client (user agents) of each account"
    )
    peak: float = Field(
        default=2.0, ge=1, le=1000, description="busiest over quietest hour; 1 is the same all day"
    )

    @field_validator("plan")
    @classmethod
    def _check_plan(cls, plan: str) -> str:
        if plan not in PLANS:
            raise ValueError(f"got {plan!r} (there are: {', '.join(PLANS)})")
        return plan
