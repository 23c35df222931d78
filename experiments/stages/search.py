"""Stage `search`: the recipe that an arm's students are trained with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

from experiments.stages.files import Choice, Trial
from experiments.stages.grades import read_grades
from experiments.stages.stage import Inputs, Spec

VERSION = 1
T = TypeVar("T")


class SearchSpec(Spec):
    """The recipes that are tried."""

    STAGE: ClassVar[str] = "search"
    recipes: list[Trial]


@dataclass(frozen=True)
class SearchInputs(Inputs[T]):
    """The exam of each recipe's student on the validation split."""

    exams: tuple[T, ...]


def run(spec: SearchSpec, inputs: SearchInputs[Path], out: Path) -> None:
    """The recipe of the best trial on the validation split; the first of equals, which is the
    study's own.
    """
    right = [sum(row.outcome == "right" for row in read_grades(folder)) for folder in inputs.exams]
    best = spec.recipes[right.index(max(right))]
    Choice(**best.changes).write(out)
