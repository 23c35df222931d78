"""Settings of a study: Hydra composes the YAML groups, pydantic says what is allowed, and every error is one line."""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from defenses import NOTHING, Chain, Given, chain
from distill.answers import BadInput
from distill.attackers import ORDER
from distill.student import StudentSettings
from experiments.tracking import Tracking

PACKAGES = {"defense": "defenses", "attacker": "distill.attackers", "task": "experiments.tasks"}
FIXED = {"defense": "Defense", "attacker": "Attacker", "task": "Task"}
PLURAL = {"task": "tasks", "defense": "defenses", "attacker": "attackers", "budget": "budgets"}


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Component(Strict):
    """A component by its file's path below its package, with that file's own settings."""

    name: str
    settings: dict[str, Any] = {}


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


Range = Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=2, max_length=2)]


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
    seeds: list[Annotated[int, Field(ge=0, lt=1000)]] = Field(description="reported", min_length=1)
    selection_seeds: list[Annotated[int, Field(ge=0, lt=1000)]] = Field(
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

    @model_validator(mode="after")
    def _distinct_seeds(self) -> Study:
        for name in ("seeds", "selection_seeds"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name} must differ, got {getattr(self, name)}")
        both = sorted(set(self.seeds) & set(self.selection_seeds))
        if both:
            raise ValueError(f"selection_seeds must not be among seeds, got {both} in both")
        return self


def config_folder() -> Path:
    """The shipped configs: beside the packages in a checkout, inside `experiments` in an installed wheel."""
    inside = Path(__file__).parent / "_configs"
    return inside if inside.is_dir() else Path(__file__).parents[1] / "configs"


def names(group: str) -> list[str]:
    """What exists in a group of configs, by name."""
    root = config_folder() / group
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.yaml"))


def near(word: str, there: Iterable[str]) -> str:
    """`; did you mean 'x'?` if some name is close to the word, else nothing."""
    found = difflib.get_close_matches(word, list(there), 1, 0.5)
    return f"; did you mean {found[0]!r}?" if found else ""


def known(group: str, name: str) -> str:
    """The name if it exists, else BadInput with the nearest and all that exist."""
    there = names(group)
    if name in there:
        return name
    raise BadInput(f"{group}: no {name!r}{near(name, there)} (there are: {', '.join(there)})")


def call(text: str) -> tuple[str, dict[str, Any]]:
    """Take `name(key=value, ...)` apart; a bare word is a string, the rest are Python or YAML literals."""
    name, bracket, _ = text.partition("(")
    if not bracket:
        return text.strip(), {}
    try:
        tree = ast.parse(f"f{text.strip()[len(name.lstrip()) :]}", mode="eval").body
        assert isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and not tree.args
        keys = [word.arg for word in tree.keywords]
        assert all(keys) and len({*keys}) == len(keys)
        return name.strip(), {str(word.arg): _literal(word.value) for word in tree.keywords}
    except (SyntaxError, ValueError, TypeError, AssertionError, RecursionError, MemoryError):
        raise BadInput(f"{text[:80]!r}: an entry is a name, or name(key=value, ...) with each key once") from None


def _literal(node: ast.expr) -> Any:
    words = {"true": True, "false": False, "null": None}
    if isinstance(node, ast.List | ast.Tuple):
        return [_literal(one) for one in node.elts]
    return words.get(node.id, node.id) if isinstance(node, ast.Name) else ast.literal_eval(node)


def _module(group: str, name: str) -> Any:
    return importlib.import_module(f"{PACKAGES[group]}.{name.replace('/', '.')}")


def part(group: str, chosen: Any) -> Any:
    """The task or the attacker's part that a resolved config names."""
    module = _module(group, chosen["name"])
    return getattr(module, FIXED[group])(module.Settings(**chosen["settings"]))


@functools.cache
def component(group: str, entry: str) -> tuple[Component, Any]:
    """A component's checked settings and the instance that they make, from `name` or `name(key=value, ...)`."""
    name, changes = call(entry)
    return _component(group, name, changes, entry)


def _component(group: str, name: str, changes: dict[str, Any], entry: str) -> tuple[Component, Any]:
    from omegaconf import OmegaConf

    path = config_folder() / group / f"{known(group, name)}.yaml"
    chosen = _checked(Component, OmegaConf.to_container(OmegaConf.load(path)), path.name)
    module = _module(group, chosen.name)
    settings = _checked(module.Settings, chosen.settings | changes, f"{group} {entry}: settings")
    full = chosen.model_copy(update={"settings": settings.model_dump(mode="json")})
    return full, getattr(module, FIXED[group])(settings)


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
    for place, one in enumerate(_split(entry, "+")):
        name, changes = call(one)
        matched, points = "match_utility" in changes, changes.pop("match_utility", None)
        chosen, instance = _component("defense", name, changes, one)
        if matched and match:
            raise BadInput(f"defense {entry}: match_utility: one part can be matched, the others keep their settings")
        if matched:
            match = _checked(Match, {"part": place, "points": points}, f"defense {one}: match_utility")
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
    return _checked(Battery, raw, path.name) if isinstance(raw, dict) and "attacks" in raw else None


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
    made = [component("attacker", one) for one in _split(spelled(entry), "+")]
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


def defended(spec: list[Any], given: Given = NOTHING, learned: Sequence[Mapping[str, Any]] = ()) -> Chain:
    """The defence of a resolved spec, handed what there is and, if it was taught, what it learned."""
    return chain([one["name"] for one in spec], makers(spec), given, learned)


def makers(spec: list[Any]) -> list[Callable[[Given], Any]]:
    """What makes each part of a resolved spec of what it is given."""
    modules = [_module("defense", one["name"]) for one in spec]
    checked = [module.Settings(**one["settings"]) for module, one in zip(modules, spec, strict=True)]
    return [functools.partial(module.Defense, settings) for module, settings in zip(modules, checked, strict=True)]


def load(name: str, overrides: list[str]) -> Study:
    """Compose a study by name or by the path of a YAML file, apply overrides, and check every value."""
    picks = {key: value for key, _, value in (o.partition("=") for o in overrides) if key in PLURAL}
    raw = _composed(name, [o for o in overrides if o.partition("=")[0] not in PLURAL])
    for single, values in picks.items():
        for block in raw["blocks"]:
            block[PLURAL[single]] = _entries(values)
    study: Study = _checked(Study, raw, name)
    blocks = [one.model_copy(update={"attackers": _unpacked(one.attackers)}) for one in study.blocks]
    for block in blocks:
        for entry in block.defenses:
            guard(entry)
        for entry in block.tasks:
            component("task", entry)
        for entry in block.attackers:
            attack(entry)
    return study.model_copy(update={"blocks": blocks})


def schema() -> dict[str, Any]:
    """JSON schema of a study, and of the settings of every shipped component, by group and name."""
    parts = {
        group: {
            name: _module(group, name).Settings.model_json_schema()
            for name in names(group)
            if group != "attacker" or not battery(name)
        }
        for group in PACKAGES
    }
    return {"study": Study.model_json_schema(), **parts}


def _entries(text: str) -> list[str]:
    """`[a,b(x=1,y=2)]` or `a,b` as its entries; one in brackets, `[[a,b],c]`, is a list of parts."""
    inside = _split(text.strip().removeprefix("[").removesuffix("]"), ",")
    return [" + ".join(_entries(one)) if one.startswith("[") else one for one in inside]


def _split(text: str, mark: str) -> list[str]:
    """A text at the marks outside brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if letter == quote or (letter in "'\"" and depth and not quote):
            quote = "" if quote else letter
        depth += 0 if quote else (letter in "([") - (letter in ")]")
        if letter == mark and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


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
                keys = [*at, *(PLURAL if at is here else ())] if isinstance(at, dict) else []
                return f"override {override!r}: unknown key {path!r}{near(part, keys)} (known: {', '.join(keys)})"
            at = at[part]
    return None


def _checked(model: Any, raw: Any, where: str) -> Any:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise BadInput("; ".join(_line(model, where, e) for e in error.errors())) from None


def _line(model: Any, where: str, error: Any) -> str:
    place = ".".join(map(str, error["loc"])) or "settings"
    if error["type"] == "missing":
        return f"{where}: {place}: is missing"
    if error["type"] != "extra_forbidden":
        got = "" if isinstance(error["input"], dict) else f" (got {error['input']!r})"
        return f"{where}: {place}: {error['msg'].removeprefix('Value error, ')}{got}"
    fields = list(_model_at(model, error["loc"][:-1]).model_fields)
    fields += ["match_utility"] * where.startswith("defense ")
    return f"{where}: unknown key {place!r}{near(str(error['loc'][-1]), fields)} (known: {', '.join(fields)})"


def _model_at(model: Any, loc: tuple[Any, ...]) -> Any:
    """The pydantic model that an error's location points into; a union's member is told by its `kind`."""
    choices = [model]
    for part in loc:
        members = [one for one in choices if hasattr(one, "model_fields")]
        tagged = [m for m in members if part in get_args(getattr(m.model_fields.get("kind"), "annotation", None))]
        fields = [m.model_fields[part].annotation for m in members if part in m.model_fields]
        choices = tagged or (_leaves(fields[0]) if fields else choices)
    return next(one for one in choices if hasattr(one, "model_fields"))


def _leaves(kind: Any) -> list[Any]:
    return [leaf for inner in get_args(kind) for leaf in _leaves(inner)] or [kind]
