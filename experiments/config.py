"""Settings of a study: Hydra composes the YAML groups, pydantic says what is allowed, and every error is one line."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from defenses import Chain
from distill.answers import BadInput
from distill.attackers import ORDER
from distill.student import StudentSettings
from experiments.campaigns import Campaigns
from experiments.components import PACKAGES, file_of
from experiments.entries import (
    Component,
    Range,
    Strict,
    built,
    call,
    checked,
    component,
    config_folder,
    known,
    names,
    near,
    split,
    written,
)
from experiments.tracking import Tracking

PLURAL = {"task": "tasks", "defense": "defenses", "attacker": "attackers", "budget": "budgets"}
SEEDS = 1000  # seeds are numbers below it
SIMULATED = {"preset": "presets", "access": "access", "detector": "detectors"}  # the same of campaigns


class Network(StudentSettings):
    """A small Llama and how it is trained; a teacher by recipe and a student differ in numbers alone."""

    name: str = Field(min_length=1)
    vocabulary: int = Field(
        description="0: one token a character; else byte-pair tokens learned from public text", ge=0
    )
    max_new_tokens: int = Field(description="where its answers are cut off", ge=1)

    @model_validator(mode="after")
    def _possible(self) -> Network:
        if self.hidden_size % (2 * self.num_heads):
            raise ValueError(f"hidden_size must be a multiple of 2 x num_heads, got {self.hidden_size}")
        if self.max_new_tokens >= self.max_length:
            raise ValueError(f"max_new_tokens must be below max_length, got {self.max_new_tokens}")
        return self


class Recipe(Network):
    """A teacher that is trained here, on worked solutions of the task's own training split."""

    kind: Literal["recipe"]
    items: int = Field(description="distinct training questions, or all where a task has fewer", ge=1)


class Pretrained(Strict):
    """A teacher from a local folder or a hub name, through transformers."""

    kind: Literal["pretrained"]
    name: str = Field(min_length=1)
    path: str = Field(description="local folder, or name on the hub", min_length=1)
    temperature: float = Field(ge=0)
    top_p: float = Field(gt=0, le=1)
    max_new_tokens: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    allow_pickle: bool = Field(False, description="weights in PyTorch's own files too, which can be harmful")


class Recorded(Strict):
    """A teacher that is no longer there: its answers in a JSONL or Parquet file, by prompt."""

    kind: Literal["recorded"]
    name: str = Field(min_length=1)
    path: str = Field(min_length=1)
    prompt: str = Field(description="where the prompt is in a line; dots go down into it", min_length=1)
    answer: str = Field(description="where the answer is in a line", min_length=1)


Teacher = Annotated[Recipe | Pretrained | Recorded, Field(discriminator="kind")]


class Proxy(Network):
    """A small model of the provider's own, trained on clean traces, that stands for students."""

    kind: Literal["recipe"]


class Provider(Strict):
    """What the provider has beside its teacher; a defence says what of it it needs."""

    traces: int = Field(description="clean answers to prompts of its own; a proxy learns from as many others", ge=1)
    proxy: Annotated[Proxy | Pretrained, Field(discriminator="kind")] | None = Field(
        description="it must have the teacher's tokenizer"
    )
    rewriter: Pretrained | None = Field(description="a model that follows instructions")
    prefill: bool = Field(description="whether its interface lets a caller begin the answer, and scores what was begun")


class Owned(Strict):
    """What every attacker of a study has without a teacher, beside final answers to as many questions as it asks."""

    worked: int = Field(description="worked solutions; what can be learned from them alone is a floor", ge=0)


def _joined(entry: Any) -> Any:
    """A list of defences is a defence, and a list of an attacker's parts an attacker."""
    return " + ".join(entry) if isinstance(entry, list) and all(isinstance(one, str) for one in entry) else entry


class Block(Strict):
    """One grid: every task by every defence by every attacker by every budget.

    An entry is a name of the group, or a name with settings: `decoding/perturbed(eps=0.2)`. A defence or an attacker
    may be a list, or names joined by `+`. A defence may be matched to what it costs the honest user:
    `match_utility=2.0` points. An attacker may be a battery, which stands for all of its attacks.
    """

    tasks: list[str] = Field(min_length=1)
    defenses: list[Annotated[str, BeforeValidator(_joined)]] = Field(min_length=1)
    attackers: list[Annotated[str, BeforeValidator(_joined)]] = Field(min_length=1)
    budgets: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)


class Prices(Strict):
    """What turns exchanges into accounts and dollars, as ranges from low to high; none of it was measured here."""

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
    """Items of each exam, the confidence level, the thresholds of the verdict, and stated prices."""

    items: int = Field(description="report questions", ge=10)
    selection_items: int = Field(description="questions on which floors and attacks are chosen", ge=10)
    plateau: bool = Field(
        description="train one student of the best undefended and of each defence's worst attack for twice the steps"
    )
    teacher_seeds: int = Field(description="how often a teacher sits its exam, sampling anew", ge=1)
    alpha: float = Field(gt=0, lt=1)
    theta: float = Field(description="effective: T is surely below it", gt=0, lt=1)
    ineffective: float = Field(description="ineffective: T is surely above it", gt=0, le=1)
    utility_margin: float = Field(description="what the honest user may lose, a share", gt=0, lt=1)
    looks: list[Annotated[int, Field(ge=3)]] = Field(description="numbers of seeds at which verdicts are given")
    draws: int = Field(description="bootstrap draws", ge=100)
    prices: Prices

    @model_validator(mode="after")
    def _possible(self) -> Measure:
        if self.theta >= self.ineffective:
            raise ValueError(f"theta must be below ineffective, got {self.theta} and {self.ineffective}")
        if not self.looks or sorted(set(self.looks)) != self.looks:
            raise ValueError(f"looks must be rising numbers of seeds, got {self.looks}")
        return self


class Search(Strict):
    """The attacker's search for a recipe: the same number of trials for every trained arm, on the validation split.

    Trial 0 is the study's own recipe; the others draw from the ranges, and every arm tries the same ones.
    """

    trials: int = Field(description="0: no search", ge=0)
    items: int = Field(description="validation questions", ge=10)
    learning_rate: Range = Field(description="drawn log-uniformly")
    steps: Range = Field(description="drawn log-uniformly, rounded")

    @model_validator(mode="after")
    def _ordered(self) -> Search:
        for name in ("learning_rate", "steps"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} must go from low to high and be above 0, got {low} to {high}")
        return self


class Study(Strict):
    """A study as it will run: what it asks, its blocks, seeds, and the shared recipes."""

    name: str = Field(pattern=r"^[\w.-]+$")
    question: str
    seeds: list[Annotated[int, Field(ge=0, lt=SEEDS)]] = Field(description="reported", min_length=1)
    baseline_seeds: int | None = Field(
        None,
        description="students of floors and of undefended arms, which every defence is compared with; null: about the "
        "square root of the number of defences times as many as `seeds`, and as many where budgets are an axis",
        ge=1,
    )
    selection_seeds: list[Annotated[int, Field(ge=0, lt=SEEDS)]] = Field(
        description="choose floor and attack, and are never reported", min_length=1
    )
    blocks: list[Block] = Field(min_length=1)
    teacher: Teacher
    weaker_teacher: Teacher | None = Field(None, description="a public, weaker teacher: floor F2")
    provider: Provider
    own: Owned
    student: Network
    measure: Measure
    search: Search
    tracking: Tracking
    campaigns: Campaigns | None = Field(None, description="simulated beside the students; see configs/campaigns")

    def baseline(self, task: str) -> list[int]:
        """The seeds of a task's floors and undefended students: `seeds`, and the next free numbers behind them."""
        blocks = [block for block in self.blocks if task in block.tasks]
        defenses = {one for block in blocks for one in block.defenses} - {"none"}
        several = any(len(block.budgets) > 1 for block in blocks)
        usual = len(self.seeds) if several else math.ceil(math.sqrt(max(len(defenses), 1)) * len(self.seeds))
        wanted = usual if self.baseline_seeds is None else self.baseline_seeds
        free = [seed for seed in range(max(self.seeds) + 1, SEEDS) if seed not in self.selection_seeds]
        return [*self.seeds, *free[: wanted - len(self.seeds)]]

    def most(self, task: str) -> int:
        """The largest budget of a task."""
        return max(n for block in self.blocks if task in block.tasks for n in block.budgets)

    @model_validator(mode="after")
    def _distinct_seeds(self) -> Study:
        for name in ("seeds", "selection_seeds"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name} must differ, got {getattr(self, name)}")
        if self.baseline_seeds is not None and self.baseline_seeds < len(self.seeds):
            raise ValueError(f"baseline_seeds must be null or at least {len(self.seeds)}, the number of seeds, got "
                             f"{self.baseline_seeds}")  # fmt: skip
        both = sorted(set(self.seeds) & set(self.selection_seeds))
        if both:
            raise ValueError(f"selection_seeds must not be among seeds, got {both} in both")
        return self


class Match(Strict):
    """Which part of a defence is set to what strength: the one at which the honest user loses that many points."""

    part: int
    points: Annotated[float, Field(strict=True, gt=0, le=100)]


@dataclass(frozen=True)
class Guard:
    """A defence entry taken apart: its parts with checked settings, as they were listed."""

    parts: tuple[Component, ...]
    chain: Chain
    match: Match | None

    @property
    def spec(self) -> list[Any]:
        """What stages are told."""
        return [part.model_dump(mode="json") for part in self.parts]


@functools.cache
def guard(entry: str) -> Guard:
    """A defence, or several joined by `+`; BadInput if they cannot act in that order or cannot be matched."""
    parts, match = [], None
    for place, one in enumerate(split(entry, "+")):
        name, changes = call(one)
        matched, points = "match_utility" in changes, changes.pop("match_utility", None)
        chosen, instance = built("defense", name, changes, one)
        if matched and match:
            raise BadInput(f"defense {entry}: match_utility: one part can be matched, the others keep their settings")
        if matched:
            match = checked(Match, {"part": place, "points": points}, f"defense {one}: match_utility")
            # What it needs and where it acts is asked of it as it will be, and its own strength may be none.
            instance = _at_full_strength(one, chosen, instance)
        parts.append((chosen, instance))
    whole = Chain(tuple(chosen.name for chosen, _ in parts), tuple(instance for _, instance in parts))
    return Guard(tuple(chosen for chosen, _ in parts), whole, match)


class Battery(Strict):
    """Standard attacks, each with a name; two papers' numbers compare where a battery's name and version are the same.

    It has no settings. `strongest` in a list of attackers stands for all of them, `strongest/vote` for one.
    """

    name: str
    version: int = Field(ge=1)
    attacks: dict[str, Annotated[str, BeforeValidator(_joined)]] = Field(min_length=1)


@functools.cache
def battery(name: str) -> Battery | None:
    """The battery of that name, or None where the name is an attacker's part."""
    from omegaconf import OmegaConf

    path = config_folder() / "attacker" / f"{known('attacker', name)}.yaml"
    raw = OmegaConf.to_container(OmegaConf.load(path))
    return checked(Battery, raw, path.name) if isinstance(raw, dict) and "attacks" in raw else None


def batteries(attackers: Sequence[str]) -> list[str]:
    """The batteries, `name version`, all of whose attacks are among these."""
    found = [one for name in names("attacker") if (one := battery(name))]
    return [
        f"{one.name} {one.version}" for one in found if {f"{one.name}/{key}" for key in one.attacks} <= {*attackers}
    ]


def _unpacked(attackers: list[str]) -> list[str]:
    """The attackers, each battery replaced by its attacks."""
    held = []
    for entry in attackers:
        found = battery(entry) if entry in names("attacker") else None
        held += [f"{entry}/{key}" for key in found.attacks] if found else [entry]
    return list(dict.fromkeys(held))


def spelled(entry: str) -> str:
    """An attacker as the list of its parts: of a battery's attack what it stands for, of others the entry itself."""
    folder, _, key = entry.partition("/")
    found = battery(folder) if folder in names("attacker") else None
    if not found:
        return entry
    if "(" in entry or "+" in entry:
        raise BadInput(f"attacker {entry}: a battery's attack stands alone and has no settings")
    if key not in found.attacks:
        raise BadInput(
            f"attacker {entry}: no {key!r}{near(key, found.attacks)} (there are: {', '.join(found.attacks)})"
        )
    return found.attacks[key]


@dataclass(frozen=True)
class Attack:
    """An attacker entry taken apart: its parts with checked settings, in the order in which they act."""

    parts: tuple[Component, ...]
    instances: tuple[Any, ...]

    def of(self, *kinds: str) -> list[Any]:
        """What stages are told of the parts of these kinds."""
        return [part.model_dump(mode="json") for part in self.parts if kind_of(part.name) in kinds]

    def made(self, kind: str) -> list[Any]:
        """The parts of a kind."""
        return [one for part, one in zip(self.parts, self.instances, strict=True) if kind_of(part.name) == kind]

    @property
    def asks(self) -> bool:
        """Whether it asks the provider anything; one that does not is a floor."""
        return all(one.asks for one in self.instances)

    @property
    def adaptive(self) -> bool:
        return any(one.adaptive for one in self.instances)

    def followed(self, recipe: StudentSettings) -> int:
        """The most optimiser steps that what follows its student's training adds."""
        return sum(one.steps(recipe) for one in self.made("follow"))

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(need for one in self.instances for need in one.needs))

    @property
    def needs_profile(self) -> str:
        """The least that the interface must release for all parts to work."""
        return max((one.needs_profile for one in self.instances), key=("text", "top_k", "full").index)


def kind_of(name: str) -> str:
    """Where in an attack a part acts: `ask`, `clean`, `repair`, `learn` or `follow`."""
    folder, slash, _ = name.partition("/")
    return folder if slash else "learn"


@functools.cache
def attack(entry: str) -> Attack:
    """An attacker, or several parts joined by `+`; BadInput if they are out of order or no student, or two, learn."""
    made = [component("attacker", one) for one in split(spelled(entry), "+")]
    kinds = [ORDER.index(kind_of(chosen.name)) for chosen, _ in made]
    if kinds != sorted(kinds):
        raise BadInput(f"attacker {entry}: its parts act in the order {', '.join(ORDER)}")
    if [ORDER[kind] for kind in kinds].count("learn") != 1:
        learners = [name for name in names("attacker") if kind_of(name) == "learn" and not battery(name)]
        raise BadInput(f"attacker {entry}: exactly one part must be how the student learns ({', '.join(learners)})")
    return Attack(tuple(chosen for chosen, _ in made), tuple(instance for _, instance in made))


def _at_full_strength(entry: str, chosen: Component, instance: Any) -> Any:
    """A defence whose strength can be found by its cost, set to its strongest; BadInput for others."""
    why = (
        "has no one setting that is its strength" if instance.knob is None
        else "changes no text" if instance.point == "logprobs"
        else "keeps the final answers as they are" if instance.keeps_answer else ""
    )  # fmt: skip
    if why:
        raise BadInput(f"defense {entry}: match_utility: {chosen.name} {why}, so it cannot be set by its cost")
    settings = chosen.settings | {instance.knob.name: instance.knob.strongest}
    return type(instance)(type(instance.settings)(**settings))


def load(name: str, overrides: list[str]) -> Study:
    """Compose a study by name or by the path of a YAML file, apply overrides, and check every value."""
    short = PLURAL | SIMULATED
    picks = {key: value for key, _, value in (o.partition("=") for o in overrides) if key in short}
    raw = _composed(name, [o for o in overrides if o.partition("=")[0] not in short])
    for single, values in picks.items():
        if single in SIMULATED and not raw.get("campaigns"):
            raise BadInput(f"override {single}=...: {name} simulates no campaigns (see configs/campaigns)")
        for part in raw["blocks"] if single in PLURAL else [raw["campaigns"]]:
            part[short[single]] = _entries(values)
    study: Study = checked(Study, raw, name)
    blocks = [one.model_copy(update={"attackers": _unpacked(one.attackers)}) for one in study.blocks]
    for block in blocks:
        for entry in block.defenses:
            guard(entry)
        for entry in block.tasks:
            component("task", entry)
        for entry in block.attackers:
            attack(entry)
    if study.campaigns:
        study.campaigns.check()
    return study.model_copy(update={"blocks": blocks})


def schema() -> dict[str, Any]:
    """JSON schema of a study, and of the settings of every shipped component, by group and name."""
    parts = {
        group: {
            name: file_of(group, written(group, name).name).Settings.model_json_schema()
            for name in names(group)
            if group != "attacker" or not battery(name)
        }
        for group in PACKAGES
    }
    return {"study": Study.model_json_schema(), **parts}


def _entries(text: str) -> list[str]:
    """`[a,b(x=1,y=2)]` or `a,b` as its entries; one in brackets, `[[a,b],c]`, is a list of parts."""
    inside = split(text.strip().removeprefix("[").removesuffix("]"), ",")
    return [" + ".join(_entries(one)) if one.startswith("[") else one for one in inside]


def _composed(name: str, overrides: list[str]) -> dict[str, Any]:
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    folder, chosen, extra = config_folder().resolve(), Path(name), list[str]()
    if chosen.suffix in (".yaml", ".yml"):
        if not chosen.is_file():
            raise BadInput(f"{name}: no such file (studies by name: {', '.join(names('study'))})")
        # The user's own study finds the shipped groups behind its own folder.
        extra, folder = [f"hydra.searchpath=[file://{folder}]"], chosen.resolve().parent
    config = chosen.stem if extra else f"study/{known('study', name)}"

    def composed(changes: list[str]) -> dict[str, Any]:
        with initialize_config_dir(str(folder), version_base="1.3"):
            raw: Any = OmegaConf.to_container(compose(config, overrides=changes + extra), resolve=True)
        return dict(raw)

    try:
        return composed(overrides)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        line = " ".join(str(error).split())
        raise BadInput(_override_line(overrides, lambda: composed([])) or f"{name}: {line}") from None


def _override_line(overrides: list[str], plain: Any) -> str | None:
    """Which override names no key or no option; Hydra's own hint would turn a misspelt key into an accepted one."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    if not overrides:
        return None
    try:
        here = plain()
    except (HydraException, OmegaConfBaseException):
        return None
    for override in overrides:
        path, found, value = override.lstrip("+~").partition("=")
        if not found:
            return f"override {override!r}: an override is key=value"
        if path in here and (config_folder() / path).is_dir() and value not in names(path):
            return f"{path}: no {value!r}{near(value, names(path))} (there are: {', '.join(names(path))})"
        at: Any = here
        for part in path.split("."):
            if not isinstance(at, dict) or part not in at:
                keys = [*at, *({**PLURAL, **SIMULATED} if at is here else ())] if isinstance(at, dict) else []
                return f"override {override!r}: unknown key {path!r}{near(part, keys)} (known: {', '.join(keys)})"
            at = at[part]
    return None
