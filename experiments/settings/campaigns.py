"""Campaigns in a study: accounts and detectors are simulated, what leaks is joined with what real
students learn.

Stages `calibration` and `campaign` simulate, `analysis/campaigns.py` turns runs and query
curves into numbers, `report/campaign_section.py` draws and writes them. Here is what a study may
ask for.
"""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from defenses.access import policy
from distill.campaigns import CAPABILITIES
from distill.campaigns.presets import PRESETS, scaled
from distill.campaigns.settings import Campaign
from distill.completions import BadInput
from experiments.campaigns.population import (
    Population,
    expected_share,
    expected_traffic,
)
from experiments.seeds import SHARDS
from experiments.settings.catalog import cached
from experiments.settings.components import ComponentSpec
from experiments.settings.entries import Range, Strict, checked, near, resolve
from experiments.settings.grammar import Entry, format_entry, parse_entry
from experiments.settings.texts import RecordedTexts

OPEN = "open"
"""The access of a provider that serves everybody and closes nobody; detectors watch, and are
compared.
"""

CHOICES = 1000  # that an entry with lists may stand for


def _expand(presets: Any) -> Any:
    """Each entry with lists of choices as all entries that it stands for: what an attacker may
    choose from.
    """
    if not isinstance(presets, list) or not all(isinstance(entry, str) for entry in presets):
        return presets  # the schema says what is wrong
    return [expanded for entry in presets for expanded in _expand_entry(entry)]


def _expand_entry(entry: str) -> list[str]:
    """`name(mix=[0.1, 0.2])` as `name(mix=0.1)` and `name(mix=0.2)`."""
    name, changes = parse_entry(entry)
    choices = {
        key: value for key, value in changes.items() if isinstance(value, list) and key != "tokens"
    }
    if not choices:
        return [entry]
    if not all(choices.values()):
        raise BadInput(f"campaigns.presets: {entry}: a list of choices must not be empty")
    if math.prod(map(len, choices.values())) > CHOICES:
        raise BadInput(f"campaigns.presets: {entry}: stands for more than {CHOICES} campaigns")
    combinations = itertools.product(*choices.values())
    return [
        format_entry(Entry(name, changes | dict(zip(choices, values, strict=True))))
        for values in combinations
    ]


class OtherProvider(Strict):
    """A provider whose customers and operators come here too; it hands on whom it suspects."""

    names: tuple[str, str] = Field(description="of this provider and of the other; for people")
    both: float = Field(description="honest customers of both; assumed", ge=0, le=1)
    pool: float = Field(
        description=(
            "an operator's accounts here that use a card, a device and an address from there; "
            "assumed"
        ),
        ge=0,
        le=1,
    )
    access: str = Field(description="its policy, of configs/access, of which a rule shares")

    @model_validator(mode="after")
    def _check_names(self) -> OtherProvider:
        if self.names[0] == self.names[1] or not all(name.strip() for name in self.names):
            raise ValueError(f"names must differ and not be empty, got {list(self.names)}")
        return self


class Horizon(Strict):
    """Honest customers over so many days, who watches them, and how surely nobody is accused."""

    honest: Population = Field(
        description="honest accounts; what is not written here is in experiments/campaigns"
    )
    days: int = Field(description="horizon", ge=2, le=3650)
    release: int | None = Field(
        description="day on which a new model comes out, if one does", ge=0, le=3650
    )
    clean: int = Field(
        description="clean horizons that thresholds are calibrated on", ge=1, le=1000
    )
    rates: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        description="of false alarms, shares of honest customers over the horizon, falling",
        min_length=1,
    )
    detectors: list[str] = Field(min_length=1)
    other: OtherProvider | None = Field(
        None, description="another provider, which hands on whom it suspects; none: there is none"
    )

    @model_validator(mode="after")
    def _check_horizon(self) -> Horizon:
        if sorted(set(self.rates), reverse=True) != self.rates:
            raise ValueError(f"rates must fall, got {self.rates}")
        if self.release is not None and self.release >= self.days:
            raise ValueError(
                f"release must be a day of the horizon, got {self.release} of {self.days}"
            )
        return self


class Campaigns(Horizon):
    """Campaigns, each alone beside honest customers, against every access: detectors, limits and a
    policy.
    """

    presets: Annotated[list[str], BeforeValidator(_expand)] = Field(
        description=(
            "`name(scale=0.01, mix=0.2)`: see distill/campaigns/presets.py; a setting may be a "
            "list of choices"
        ),
        min_length=1,
    )
    access: list[str] = Field(description=f"`{OPEN}`, or a policy of configs/access", min_length=1)
    reduced: str = Field(
        description="what answers of reduced accounts pass behind the defence in force"
    )
    stands_for: list[str] = Field(
        description="capabilities whose exchanges teach what the study's tasks are about"
    )
    exchanges_per_question: Annotated[float, Field(gt=0)] | None = Field(
        description=(
            "that teach what one question teaches; none: all that are planned teach the largest "
            "budget"
        )
    )
    shards: int = Field(
        1,
        description=(
            "parts that each run is cut into, as worlds of their own that are simulated apart and "
            "added up; clean horizons are of one part's size. For what does not fit into memory"
        ),
        ge=1,
        le=SHARDS,
    )
    students: bool = Field(
        description="train a student on exactly what leaked, beside reading the query curve"
    )
    price_identity: Range = Field(
        description="dollars an account that passes an identity check; assumed"
    )
    texts: RecordedTexts | None = Field(
        None, description="recorded exchanges that providers read; none: they are shown topics"
    )

    @model_validator(mode="after")
    def _check_values(self) -> Campaigns:
        if self.price_identity[0] > self.price_identity[1]:
            raise ValueError(f"price_identity must go from low to high, got {self.price_identity}")
        if wrong := sorted(set(self.stands_for) - set(CAPABILITIES)):
            raise ValueError(
                f"stands_for: got {', '.join(wrong)} (there are: {', '.join(CAPABILITIES)})"
            )
        for name in ("presets", "access", "detectors", "stands_for"):
            values = getattr(self, name)
            if len(set(values)) < len(values) or not values:
                raise ValueError(f"{name} must differ and not be none, got {values}")
        return self

    def check(self) -> None:
        """Check what the schema cannot: that entries name what exists, and fit each other.

        Raises:
            BadInput: an entry names nothing, says the same as another, or a policy has no
                threshold to act on.
        """
        if self.access[0] != OPEN:
            raise BadInput(
                f"campaigns.access: the first must be {OPEN!r}, with which the others are compared"
            )
        _check_distinct("detectors", {e: parse_detector(e).name for e in self.detectors})
        _check_distinct("presets", {e: parse_campaign(e) for e in self.presets})
        _check_distinct("access", {e: stage_access(e) for e in self.access})
        for entry in self.detectors:
            _check_detector(self, entry)
        for entry in self.presets:
            _check_preset(self, entry)
        for entry in self.access:
            if entry != OPEN:
                _check_access(self, entry)
        if self.other is not None:
            _check_other(self, self.other)

    def share(self, wanted: Campaign) -> float:
        """Of the exchanges that a campaign wants, those that stand for the study's tasks; of
        customers' requests what is expected.

        Args:
            wanted: with its targets, or its customers.

        Returns:
            0 to 1.
        """
        if wanted.customers:
            traffic = wanted.pathways
            if wanted.clientele or wanted.kind == "replay":
                traffic = expected_traffic(self.honest, wanted.clientele or traffic)
            return expected_share(self.honest, traffic, self.stands_for)
        useful = sum(weight for name, weight in wanted.targets.items() if name in self.stands_for)
        return useful / sum(wanted.targets.values())

    def per_question(self, entry: str, budget: int) -> float:
        """Exchanges that teach what one of `budget` questions teaches.

        Args:
            entry: of a campaign.
            budget: questions that the students' curve ends at.
        """
        wanted = parse_campaign(entry)
        planned = wanted.planned(self.days) * self.share(wanted)
        return self.exchanges_per_question or max(planned / budget, 1e-9)


def _check_detector(settings: Campaigns, entry: str) -> None:
    """BadInput where a detector lacks its release, or would set it itself."""
    if parse_detector(entry).name == "pivot" and settings.release is None:
        raise BadInput(
            "campaigns.detectors: pivot needs campaigns.release, the day on which a new "
            "model comes out"
        )
    if parse_detector(entry).name == "shared" and settings.other is None:
        raise BadInput(
            "campaigns.detectors: shared needs campaigns.other, a provider that hands something on"
        )
    if "release" in parse_entry(entry).changes:
        raise BadInput(f"campaigns.detectors: {entry}: the day of the release is campaigns.release")


def _check_preset(settings: Campaigns, entry: str) -> None:
    """BadInput where a campaign wants nothing that stands for a task, or nothing in time."""
    wanted = parse_campaign(entry)
    if not settings.share(wanted):
        wants = ", ".join(wanted.targets) or "what its customers ask"
        raise BadInput(
            f"campaigns.presets: {entry} wants {wants}, none of which stands "
            f"for a task (campaigns.stands_for: {', '.join(settings.stands_for)})"
        )
    if wanted.start >= settings.days:
        raise BadInput(
            f"campaigns.presets: {entry} starts on day {wanted.start} of {settings.days}"
        )
    if wanted.planned(settings.days) < 1:
        raise BadInput(f"campaigns.presets: {entry} wants no exchange within {settings.days} days")


def _check_access(settings: Campaigns, entry: str) -> None:
    """BadInput where a policy acts on a detector or at a rate that nothing is calibrated for."""
    watched = {parse_detector(detector).name for detector in settings.detectors}
    for rule in parse_access(entry).rules:
        if rule.detector not in watched:
            raise BadInput(
                f"campaigns.access: {entry} acts on {rule.detector!r}, which is none of "
                f"campaigns.detectors ({', '.join(settings.detectors)})"
            )
        if rule.rate not in settings.rates:
            raise BadInput(
                f"campaigns.access: {entry} acts at a rate of {rule.rate:g}, which is none of "
                f"campaigns.rates ({', '.join(f'{rate:g}' for rate in settings.rates)})"
            )


def _check_other(settings: Campaigns, other: OtherProvider) -> None:
    """BadInput where the other provider hands nothing on, or acts on what nothing is calibrated
    for.
    """
    watched = {parse_detector(detector).name for detector in settings.detectors} - {"shared"}
    rules = parse_access(other.access).rules
    if not any(rule.action == "share" for rule in rules):
        raise BadInput(
            f"campaigns.other: {other.access} hands nothing on; a rule must have action: share, "
            "as ban_linked does"
        )
    if missing := sorted({rule.detector for rule in rules} - watched):
        raise BadInput(
            f"campaigns.other: {other.access} acts on {', '.join(missing)}, which is none of "
            f"campaigns.detectors that look at one provider alone ({', '.join(sorted(watched))})"
        )


def _check_distinct(field: str, meanings: dict[str, Any]) -> None:
    """BadInput where two entries come to the same."""
    entries = list(meanings)
    for place, entry in enumerate(entries):
        for other in entries[:place]:
            if meanings[other] == meanings[entry]:
                raise BadInput(f"campaigns.{field}: {other} and {entry} are the same")


@cached
def parse_campaign(entry: str) -> Campaign:
    """A preset, `scale` of its accounts and exchanges, with some of its settings changed.

    Args:
        entry: as `moonshot_2026(scale=0.1)`.

    Raises:
        BadInput: there is no such preset, or a setting is out of its range.
    """
    name, changes = parse_entry(entry)
    if name not in PRESETS:
        raise BadInput(
            f"campaigns.presets: no {name!r}{near(name, PRESETS)} (there are: {', '.join(PRESETS)})"
        )
    scale = changes.pop("scale", 1.0)
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale <= 1:
        raise BadInput(
            f"campaigns.presets: {entry}: scale must be above 0 and at most 1, got {scale!r}"
        )
    settings = scaled(PRESETS[name].settings, scale).model_dump() | changes
    campaign: Campaign = checked(Campaign, settings, f"campaigns.presets {entry}")
    return campaign


def parse_access(entry: str) -> policy.Settings:
    """The policy of an entry of configs/access.

    Args:
        entry: its name, with or without changes.

    Raises:
        BadInput: there is none such, or a setting is out of its range.
    """
    settings = resolve("access", entry).settings
    assert isinstance(settings, policy.Settings)
    return settings


def parse_detector(entry: str) -> ComponentSpec:
    """A detector with its checked settings, of an entry of configs/detector.

    Args:
        entry: its name, with or without changes.

    Raises:
        BadInput: there is none such, or a setting is out of its range.
    """
    return resolve("detector", entry).spec


def stage_access(entry: str) -> dict[str, Any] | None:
    """An access as a stage gets it: None if it is open, and without what the referee says an answer
    is worth.

    Args:
        entry: of configs/access, or `open`.

    Raises:
        BadInput: as `parse_access`.
    """
    return None if entry == OPEN else parse_access(entry).model_dump(mode="json", exclude={"worth"})
