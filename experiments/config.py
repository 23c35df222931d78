"""Settings of a study: Hydra composes the YAML groups, pydantic says what is allowed, and every error is one line."""

from __future__ import annotations

import difflib
import importlib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from distill.answers import BadInput

PACKAGES = {"defense": "defenses", "attacker": "distill.attackers", "task": "experiments.tasks"}
FIXED = {"defense": "Defense", "attacker": "Attacker", "task": "Task"}


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Component(Strict):
    """A component by its file's path below its package, with that file's own settings."""

    name: str
    settings: dict[str, Any] = {}
    label: str = ""


class Shape(Strict):
    """A small Llama and how it is trained; a teacher and a student differ in numbers alone."""

    name: str = Field(min_length=1)
    hidden_size: int = Field(64, ge=8)
    num_layers: int = Field(2, ge=1)
    num_heads: int = Field(4, ge=1)
    max_length: int = Field(192, ge=16)
    steps: int = Field(300, ge=0)
    batch_size: int = Field(32, ge=1)
    learning_rate: float = Field(4e-3, gt=0)
    warmup: float = Field(0.05, ge=0, le=1)
    clip: float = Field(1.0, gt=0)
    weight_decay: float = Field(0.0, ge=0)


class Block(Strict):
    """One grid: every task by every defence by every attacker by every budget."""

    tasks: list[str] = Field(min_length=1)
    defenses: list[str] = Field(min_length=1)
    attackers: list[str] = Field(min_length=1)
    budgets: list[int] = Field(min_length=1)


class Measure(Strict):
    """How many items the report exam has, the confidence level, and the margins of the verdict."""

    items: int = Field(300, ge=50)
    alpha: float = Field(0.05, gt=0, lt=1)
    theta: float = Field(0.5, gt=0, lt=1)
    utility_margin: float = Field(0.02, gt=0, lt=1)


class Study(Strict):
    """A study as it will run: what it asks, its blocks, seeds, and the shared recipes."""

    name: str
    question: str
    seeds: list[int] = Field(min_length=1)
    blocks: list[Block] = Field(min_length=1)
    teacher: Shape
    teacher_items: int = Field(40000, ge=100)
    student: Shape
    measure: Measure
    tracking: str = Field("off", pattern="^(off|offline|online)$")

    @model_validator(mode="after")
    def _distinct_seeds(self) -> Study:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: must differ, got {self.seeds}")
        return self


def config_folder() -> Path:
    """The shipped configs: beside the packages in a checkout, inside `experiments` in an installed wheel."""
    inside = Path(__file__).parent / "_configs"
    return inside if inside.is_dir() else Path(__file__).parents[1] / "configs"


def names(group: str) -> list[str]:
    """What exists in a group of configs, by name."""
    root = config_folder() / group
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.yaml"))


def known(group: str, name: str) -> str:
    """The name if it exists, else BadInput with the nearest and all that exist."""
    there = names(group)
    if name in there:
        return name
    near = difflib.get_close_matches(name, there, 1, 0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise BadInput(f"{group}: no {name!r}{hint} (there are: {', '.join(there)})")


def component(group: str, name: str) -> tuple[Component, Any]:
    """A component's checked settings and the instance that they make."""
    from omegaconf import OmegaConf

    path = config_folder() / group / f"{known(group, name)}.yaml"
    chosen = _checked(Component, OmegaConf.to_container(OmegaConf.load(path)), path.name)
    module = importlib.import_module(f"{PACKAGES[group]}.{chosen.name.replace('/', '.')}")
    settings = _checked(module.Settings, chosen.settings, f"{group} {name}: settings")
    return chosen.model_copy(update={"settings": settings.model_dump(mode="json")}), getattr(module, FIXED[group])(
        settings
    )


def load(name: str, overrides: list[str]) -> Study:
    """Compose a study by name (or YAML path), apply overrides, and check every value before anything runs."""
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    picks = dict(o.split("=", 1) for o in overrides if o.split("=")[0] in ("task", "defense", "attacker", "budget"))
    rest = [o for o in overrides if o.split("=")[0] not in picks]
    folder, chosen = (config_folder(), known("study", name))
    try:
        with initialize_config_dir(str(folder.resolve()), version_base="1.3"):
            raw = OmegaConf.to_container(compose(f"study/{chosen}", overrides=rest), resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise BadInput(_hydra_line(error, rest)) from None
    assert isinstance(raw, dict)
    raw = raw.get("study", raw)
    plurals = {"task": "tasks", "defense": "defenses", "attacker": "attackers", "budget": "budgets"}
    for single, values in picks.items():
        for block in raw["blocks"]:
            block[plurals[single]] = values.strip("[]").split(",")
    study = _checked(Study, raw, name)
    for block in study.blocks:
        for group, chosen_names in (("task", block.tasks), ("defense", block.defenses), ("attacker", block.attackers)):
            for one in chosen_names:
                known(group, one)
    return study


def _hydra_line(error: Exception, overrides: list[str]) -> str:
    text = " ".join(str(error).split())
    # Hydra's own hint ("use +key") would turn a misspelt key into an accepted one.
    return f"overrides {overrides}: {text.split('To append')[0].strip()}; the keys are those of `distill-resist show`"


def _checked(model: Any, raw: Any, where: str) -> Any:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise BadInput("; ".join(_line(model, where, e) for e in error.errors())) from None


def _line(model: Any, where: str, error: Any) -> str:
    place = ".".join(map(str, error["loc"]))
    if error["type"] != "extra_forbidden":
        return f"{where}: {place}: {error['msg']} (got {error['input']!r})"
    for part in error["loc"][:-1]:
        field = getattr(model, "model_fields", {}).get(part)
        inner = [field.annotation, *getattr(field.annotation, "__args__", ())] if field else []
        model = next((one for one in inner if hasattr(one, "model_fields")), model)
    fields = list(model.model_fields)
    near = difflib.get_close_matches(str(error["loc"][-1]), fields, 1, 0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{where}: unknown key {place!r}{hint} (known: {', '.join(fields)})"
