"""Settings of a study: Hydra composes the YAML groups, pydantic says what is allowed, and every
error is one line.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from defenses import DefensePipeline
from distill.attackers import ORDER
from distill.completions import BadInput
from distill.specs import TrainingConfig
from experiments.seeds import SEEDS
from experiments.settings.campaigns import Campaigns
from experiments.settings.catalog import PACKAGES, cached, config_file, names
from experiments.settings.components import Component, load_module
from experiments.settings.entries import (
    Range,
    Strict,
    build_task,
    checked,
    known,
    near,
    read_config,
    resolve,
    resolve_parsed,
)
from experiments.settings.grammar import parse_entry, split
from experiments.settings.models import MOST, Pretrained, ProviderModel, StudentModel, Teacher
from experiments.settings.reading import read
from experiments.settings.veil import veiled
from experiments.tracking import Tracking

TAKEN = ("store", "reproduced")  # folders beside those of studies
Entry = Annotated[str, Field(max_length=2000)]


class Provider(Strict):
    """What the provider has beside its teacher; a defence says what of it it needs."""

    traces: int = Field(
        description="clean answers to prompts of its own; a proxy learns from as many others",
        ge=1,
        le=MOST,
    )
    proxy: ProviderModel | None = Field(description="it must have the teacher's tokenizer")
    rewriter: Pretrained | None = Field(description="a model that follows instructions")
    prefill: bool = Field(
        description=(
            "whether its interface lets a caller begin the answer, and scores what was begun"
        )
    )


class Owned(Strict):
    """What every attacker of a study has without a teacher, beside final answers to as many
    questions as it asks.
    """

    worked: int = Field(
        description="worked solutions; what can be learned from them alone is a floor",
        ge=0,
        le=MOST,
    )


def _joined(entry: Any) -> Any:
    """A list of defences is a defence, and a list of an attacker's parts an attacker."""
    return (
        " + ".join(entry)
        if isinstance(entry, list) and all(isinstance(one, str) for one in entry)
        else entry
    )


class Block(Strict):
    """One grid: every task by every defence by every attacker by every budget.

    An entry is a name of the group, or a name with settings: `decoding/perturbed(eps=0.2)`. A
    defence or an attacker may be a list, or names joined by `+`. A defence may be matched to what
    it costs the honest user: `match_utility=2.0` points. An attacker may be a battery, which stands
    for all of its attacks.
    """

    tasks: list[Entry] = Field(min_length=1)
    defenses: list[Annotated[Entry, BeforeValidator(_joined)]] = Field(min_length=1)
    attackers: list[Annotated[Entry, BeforeValidator(_joined)]] = Field(min_length=1)
    budgets: list[Annotated[int, Field(ge=1, le=MOST)]] = Field(min_length=1)


class Prices(Strict):
    """What turns exchanges into accounts and dollars, as ranges from low to high; none of it was
    measured here.
    """

    rate_per_day: Range = Field(description="exchanges an account makes a day")
    days_until_ban: Range
    monthly_quota: Range = Field(description="exchanges an account may make at all")
    price_in: Range = Field(description="dollars for a million tokens sent")
    price_out: Range = Field(description="dollars for a million tokens received")
    price_account: Range = Field(description="dollars an account")
    price_gpu_hour: Range = Field(description="dollars an hour of the student's machine")

    @model_validator(mode="after")
    def _ordered(self) -> Prices:
        for name, (low, high) in self.model_dump().items():
            if low > high:
                raise ValueError(f"{name} must go from low to high, got {low} to {high}")
        return self


class Measure(Strict):
    """Items of each exam, the confidence level, the thresholds of the verdict, and
    stated prices.
    """

    items: int = Field(description="report questions", ge=10, le=MOST)
    selection_items: int = Field(
        description="questions on which floors and attacks are chosen", ge=10, le=MOST
    )
    plateau: bool = Field(
        description=(
            "train one student of the best undefended and of each defence's worst attack for "
            "twice the steps"
        )
    )
    teacher_seeds: int = Field(
        description="how often a teacher sits its exam, sampling anew", ge=1, le=SEEDS
    )
    alpha: float = Field(gt=0, lt=1)
    theta: float = Field(description="effective: T is surely below it", gt=0, lt=1)
    ineffective: float = Field(description="ineffective: T is surely above it", gt=0, le=1)
    utility_margin: float = Field(description="what the honest user may lose, a share", gt=0, lt=1)
    looks: list[Annotated[int, Field(ge=3, le=SEEDS)]] = Field(
        description="numbers of seeds at which verdicts are given"
    )
    draws: int = Field(description="bootstrap draws", ge=100, le=1_000_000)
    prices: Prices

    @model_validator(mode="after")
    def _possible(self) -> Measure:
        if self.theta >= self.ineffective:
            raise ValueError(
                f"theta must be below ineffective, got {self.theta} and {self.ineffective}"
            )
        if not self.looks or sorted(set(self.looks)) != self.looks:
            raise ValueError(f"looks must be rising numbers of seeds, got {self.looks}")
        return self


class Search(Strict):
    """The attacker's search for a recipe: the same number of trials for every trained arm, on the
    validation split.

    Trial 0 is the study's own recipe; the others draw from the ranges, and every arm tries the same
    ones.
    """

    trials: int = Field(description="0: no search", ge=0, le=1000)
    items: int = Field(description="validation questions", ge=10, le=MOST)
    learning_rate: Range = Field(description="drawn log-uniformly")
    steps: Range = Field(description="drawn log-uniformly, rounded")

    @model_validator(mode="after")
    def _ordered(self) -> Search:
        for name in ("learning_rate", "steps"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(
                    f"{name} must go from low to high and be above 0, got {low} to {high}"
                )
        return self


class Study(Strict):
    """A study as it will run: what it asks, its blocks, seeds, and the shared recipes."""

    name: str = Field(
        description="its folder below that of results", pattern=r"^[^\W_][\w.-]*$", max_length=100
    )
    question: str = Field(max_length=2000)
    seeds: list[Annotated[int, Field(ge=0, lt=SEEDS)]] = Field(description="reported", min_length=1)
    baseline_seeds: int | None = Field(
        None,
        description="students of floors and of undefended arms, which every defence is "
        "compared with; null: about the "
        "square root of the number of defences times as many as `seeds`, and as many where "
        "budgets are an axis",
        ge=1,
        le=SEEDS,
    )
    selection_seeds: list[Annotated[int, Field(ge=0, lt=SEEDS)]] = Field(
        description="choose floor and attack, and are never reported", min_length=1
    )
    blocks: list[Block] = Field(min_length=1)
    teacher: Teacher
    weaker_teacher: Teacher | None = Field(None, description="a public, weaker teacher: floor F2")
    provider: Provider
    own: Owned
    student: StudentModel
    measure: Measure
    search: Search
    tracking: Tracking
    campaigns: Campaigns | None = Field(
        None, description="simulated beside the students; see configs/campaigns"
    )

    def baseline(self, task: str) -> list[int]:
        """The seeds of a task's floors and undefended students: `seeds`, and the next free numbers
        behind them.
        """
        free = [
            seed for seed in range(max(self.seeds) + 1, SEEDS) if seed not in self.selection_seeds
        ]
        return [*self.seeds, *free[: self.baselines(task) - len(self.seeds)]]

    def baselines(self, task: str) -> int:
        """How many seeds those are."""
        if self.baseline_seeds is not None:
            return self.baseline_seeds
        blocks = [block for block in self.blocks if task in block.tasks]
        defenses = {one for block in blocks for one in block.defenses} - {"none"}
        several = any(len(block.budgets) > 1 for block in blocks)
        return (
            len(self.seeds)
            if several
            else math.ceil(math.sqrt(max(len(defenses), 1)) * len(self.seeds))
        )

    def most(self, task: str) -> int:
        """The largest budget of a task."""
        return max(n for block in self.blocks if task in block.tasks for n in block.budgets)

    @model_validator(mode="after")
    def _possible(self) -> Study:
        if self.name.casefold() in TAKEN:
            raise ValueError(
                f"name must be none of {', '.join(TAKEN)}, which are folders beside it"
            )
        return self

    @model_validator(mode="after")
    def _distinct_seeds(self) -> Study:
        for name in ("seeds", "selection_seeds"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name} must differ, got {getattr(self, name)}")
        if self.baseline_seeds is not None and self.baseline_seeds < len(self.seeds):
            raise ValueError(
                f"baseline_seeds must be null or at least {len(self.seeds)}, the number of "
                "seeds, got "
                f"{self.baseline_seeds}"
            )
        for task in {task for block in self.blocks for task in block.tasks}:
            if len(self.baseline(task)) < self.baselines(task):
                raise ValueError(
                    f"{self.baselines(task)} seeds of floors and undefended students are asked "
                    "for; "
                    f"{len(self.baseline(task))} are below {SEEDS}, from {self.seeds} on"
                )
        both = sorted(set(self.seeds) & set(self.selection_seeds))
        if both:
            raise ValueError(f"selection_seeds must not be among seeds, got {both} in both")
        return self


class Match(Strict):
    """Which part of a defence is set to what strength: the one at which the honest user loses that
    many points.
    """

    part: int
    points: Annotated[float, Field(strict=True, gt=0, le=100)]


@dataclass(frozen=True)
class DefenseSpec:
    """A defence entry taken apart: its parts with checked settings, as they were listed."""

    parts: tuple[Component, ...]
    chain: DefensePipeline
    match: Match | None

    @property
    def spec(self) -> list[Any]:
        """What stages are told."""
        return [part.spec.model_dump(mode="json") for part in self.parts]


@cached
def parse_defense(entry: str) -> DefenseSpec:
    """A defence, or several joined by `+`; BadInput if they cannot act in that order or cannot be
    matched.
    """
    parts, instances, match = [], [], None
    for place, text in enumerate(split(entry, "+")):
        parsed = parse_entry(text)
        matched = "match_utility" in parsed.changes
        points = parsed.changes.pop("match_utility", None)
        part = resolve_parsed("defense", parsed, text)
        instance = part.build()
        if matched and match:
            raise BadInput(
                f"defense {entry}: match_utility: one part can be matched, the others keep their "
                "settings"
            )
        if matched:
            match = checked(
                Match, {"part": place, "points": points}, f"defense {text}: match_utility"
            )
            # What it needs and where it acts is asked of it as it will be, and its own strength may
            # be none.
            instance = _at_full_strength(text, part, instance)
        parts.append(part)
        instances.append(instance)
    whole = DefensePipeline(tuple(part.name for part in parts), tuple(instances))
    return DefenseSpec(tuple(parts), whole, match)


class Battery(Strict):
    """Standard attacks, each with a name; two papers' numbers compare where a battery's name and
    version are the same.

    It has no settings. `strongest` in a list of attackers stands for all of them, `strongest/vote`
    for one.
    """

    name: str
    version: int = Field(ge=1)
    attacks: dict[str, Annotated[str, BeforeValidator(_joined)]] = Field(min_length=1)


@cached
def battery(name: str) -> Battery | None:
    """The battery of that name, or None where the name is an attacker's part."""
    path = config_file("attacker", known("attacker", name))
    raw = read(path)
    return checked(Battery, raw, path.name) if "attacks" in raw else None


def batteries(attackers: Sequence[str]) -> list[str]:
    """The batteries, `name version`, all of whose attacks are among these."""
    every = [found for name in names("attacker") if (found := battery(name))]
    return [
        f"{found.name} {found.version}"
        for found in every
        if {f"{found.name}/{key}" for key in found.attacks} <= {*attackers}
    ]


def _unpacked(attackers: list[str]) -> list[str]:
    """The attackers, each battery replaced by its attacks."""
    entries = []
    for entry in attackers:
        whole = battery(entry) if entry in names("attacker") else None
        entries += [f"{entry}/{key}" for key in whole.attacks] if whole else [entry]
    return list(dict.fromkeys(entries))


def spelled(entry: str) -> str:
    """An attacker as the list of its parts: of a battery's attack what it stands for, of others the
    entry itself.
    """
    folder, _, key = entry.partition("/")
    whole = battery(folder) if folder in names("attacker") else None
    if not whole:
        return entry
    if "(" in entry or "+" in entry:
        raise BadInput(f"attacker {entry}: a battery's attack stands alone and has no settings")
    if key not in whole.attacks:
        raise BadInput(
            f"attacker {entry}: no {key!r}{near(key, whole.attacks)} (there are: "
            f"{', '.join(whole.attacks)})"
        )
    return whole.attacks[key]


@dataclass(frozen=True)
class AttackSpec:
    """An attacker entry taken apart: its parts with checked settings, in the order in which they
    act.
    """

    parts: tuple[Component, ...]
    instances: tuple[Any, ...]

    def of(self, *kinds: str) -> list[Any]:
        """What stages are told of the parts of these kinds."""
        return [
            part.spec.model_dump(mode="json") for part in self.parts if kind_of(part.name) in kinds
        ]

    def made(self, kind: str) -> list[Any]:
        """The parts of a kind."""
        return [
            one
            for part, one in zip(self.parts, self.instances, strict=True)
            if kind_of(part.name) == kind
        ]

    @property
    def asks(self) -> bool:
        """Whether it asks the provider anything; one that does not is a floor."""
        return all(one.asks for one in self.instances)

    @property
    def adaptive(self) -> bool:
        return any(one.adaptive for one in self.instances)

    def followed(self, recipe: TrainingConfig) -> int:
        """The most optimiser steps that what follows its student's training adds."""
        return sum(one.steps(recipe) for one in self.made("follow"))

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(need for one in self.instances for need in one.needs))

    @property
    def needs_interface(self) -> str:
        """The least that the interface must release for all parts to work."""
        needed: list[str] = [part.needs_interface for part in self.instances]
        return max(needed, key=("text", "top_k", "full").index)


def kind_of(name: str) -> str:
    """Where in an attack a part acts: `ask`, `clean`, `repair`, `learn` or `follow`."""
    folder, slash, _ = name.partition("/")
    return folder if slash else "learn"


@cached
def parse_attack(entry: str) -> AttackSpec:
    """An attacker, or several parts joined by `+`; BadInput if they are out of order or no student,
    or two, learn.
    """
    parts = tuple(resolve("attacker", part) for part in split(spelled(entry), "+"))
    kinds = [ORDER.index(kind_of(part.name)) for part in parts]
    if kinds != sorted(kinds):
        raise BadInput(f"attacker {entry}: its parts act in the order {', '.join(ORDER)}")
    if [ORDER[kind] for kind in kinds].count("learn") != 1:
        learners = [
            name for name in names("attacker") if kind_of(name) == "learn" and not battery(name)
        ]
        raise BadInput(
            f"attacker {entry}: exactly one part must be how the student learns "
            f"({', '.join(learners)})"
        )
    return AttackSpec(parts, tuple(part.build() for part in parts))


def _at_full_strength(entry: str, part: Component, instance: Any) -> Any:
    """A defence whose strength can be found by its cost, set to its strongest;
    BadInput for others.
    """
    why = (
        "has no one setting that is its strength"
        if instance.traits.strength is None
        else "changes no text"
        if instance.traits.acts_on == "logprobs"
        else "keeps the final answers as they are"
        if instance.traits.keeps_answer
        else ""
    )
    if why:
        raise BadInput(
            f"defense {entry}: match_utility: {part.name} {why}, so it cannot be set by its cost"
        )
    strength = instance.traits.strength
    settings = part.spec.settings | {strength.name: strength.strongest}
    return type(instance)(type(instance.settings)(**settings))


def load(name: str, overrides: list[str], environment: bool = False) -> Study:
    """Compose a study and check every value.

    Args:
        name: a shipped study's name, or the path of a YAML file. overrides: `key=value`, see
        `compose.compose`. environment: whether `${oc.env:NAME}` in an override is replaced by that
        environment variable.

    Raises:
        BadInput: in one line, where what is wrong, and what is right.
    """
    from experiments.settings.compose import compose

    raw = compose(name, overrides, environment)
    study: Study = checked(Study, raw, name)
    blocks = [
        one.model_copy(update={"attackers": _unpacked(one.attackers)}) for one in study.blocks
    ]
    for block in blocks:
        for entry in block.defenses:
            parse_defense(entry)
        for entry in block.tasks:
            build_task(entry)
        for entry in block.attackers:
            parse_attack(entry)
    if study.campaigns:
        study.campaigns.check()
    return veiled(study.model_copy(update={"blocks": blocks}))


def load_named(name: str, overrides: list[str], environment: bool = False) -> Study:
    """`load`, under a name of its own where overrides change what the results are.

    Raises:
        BadInput: as `load`.
    """
    from experiments.settings.compose import own_name

    study = load(name, overrides, environment)
    settings = study.model_dump_json(exclude={"name", "tracking"})
    return study.model_copy(update={"name": own_name(study.name, overrides, settings)})


def schema() -> dict[str, Any]:
    """JSON schema of a study, and of the settings of every shipped component, by group and name."""
    parts = {
        group: {
            name: load_module(group, read_config(group, name).name).Settings.model_json_schema()
            for name in names(group)
            if group != "attacker" or not battery(name)
        }
        for group in PACKAGES
    }
    return {"study": Study.model_json_schema(), **parts}
