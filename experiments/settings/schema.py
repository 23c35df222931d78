"""Settings of a study: Hydra composes the YAML groups, pydantic says what is allowed, and every
error is one line.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from experiments.seeds import SEEDS
from experiments.settings.attacks import battery, parse_attack, unpacked
from experiments.settings.campaigns import Campaigns
from experiments.settings.catalog import PACKAGES, names
from experiments.settings.components import load_module
from experiments.settings.defenses import parse_defense
from experiments.settings.entries import (
    Range,
    Strict,
    StudyName,
    build_task,
    checked,
    read_config,
)
from experiments.settings.grammar import joined
from experiments.settings.models import MOST, Pretrained, ProviderModel, StudentModel, Teacher
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


class Block(Strict):
    """One grid: every task by every defence by every attacker by every budget.

    An entry is a name of the group, or a name with settings: `decoding/perturbed(eps=0.2)`. A
    defence or an attacker may be a list, or names joined by `+`. A defence may be matched to what
    it costs the honest user: `match_utility=2.0` points. An attacker may be a battery, which stands
    for all of its attacks.
    """

    tasks: list[Entry] = Field(min_length=1)
    defenses: list[Annotated[Entry, BeforeValidator(joined)]] = Field(min_length=1)
    attackers: list[Annotated[Entry, BeforeValidator(joined)]] = Field(min_length=1)
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
    samples: int = Field(
        0,
        description=(
            "answers that students sample to each report question, for pass@k beside their one "
            "best; 0: none"
        ),
        ge=0,
        le=256,
    )
    sample_temperature: float = Field(1.0, description="at which they are sampled", ge=0.01, le=10)
    plateau: bool = Field(
        description=(
            "train one student of the best undefended and of each defence's worst attack for "
            "twice the steps"
        )
    )
    marks: bool = Field(
        False,
        description=(
            "test every reported student of a marked teacher for the mark, and the undefended "
            "ones beside them"
        ),
    )
    teacher_seeds: int = Field(
        description="exams of each teacher, each sampled anew", ge=1, le=SEEDS
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

    name: StudyName = Field(description="its folder below that of results")
    question: str = Field(max_length=2000, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")
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

        Args:
            task: by its entry.
        """
        free = [
            seed for seed in range(max(self.seeds) + 1, SEEDS) if seed not in self.selection_seeds
        ]
        return [*self.seeds, *free[: self.baselines(task) - len(self.seeds)]]

    def baselines(self, task: str) -> int:
        """How many seeds those are.

        Args:
            task: by its entry.
        """
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
        """The largest budget of a task.

        Args:
            task: by its entry.

        Returns:
            In exchanges.
        """
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


def load(name: str, overrides: list[str], environment: bool = False) -> Study:
    """Compose a study and check every value.

    Args:
        name: a shipped study's name, or the path of a YAML file.
        overrides: `key=value`, see `compose.compose`.
        environment: whether `${oc.env:NAME}` in an override is replaced by that environment
            variable.

    Raises:
        BadInput: in one line, where what is wrong, and what is right.
    """
    from experiments.settings.compose import compose

    raw = compose(name, overrides, environment)
    study: Study = checked(Study, raw, name)
    blocks = [one.model_copy(update={"attackers": unpacked(one.attackers)}) for one in study.blocks]
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

    Args:
        name: a shipped study's name, or the path of a YAML file.
        overrides: `key=value`, see `compose.compose`.
        environment: as of `load`.

    Raises:
        BadInput: as `load`.
    """
    from experiments.settings.compose import own_name

    study = load(name, overrides, environment)
    settings = study.model_dump_json(exclude={"name", "tracking"})
    return study.model_copy(update={"name": own_name(study.name, overrides, settings)})


def schema() -> dict[str, Any]:
    """JSON schema of a study, and of the settings of every shipped component, by group and name."""
    return {
        "study": Study.model_json_schema(),
        **{group: _settings_of(group) for group in PACKAGES},
    }


def _settings_of(group: str) -> dict[str, Any]:
    """JSON schema of the settings of a group's components, by name; a battery has none."""
    return {
        name: load_module(group, read_config(group, name).name).Settings.model_json_schema()
        for name in names(group)
        if group != "attacker" or not battery(name)
    }
