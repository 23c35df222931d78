"""Stage `plateau`: one student trained for twice the steps, to see whether more training would
change anything.

Of several attacks it is one of the attack that the selection split finds worst, as the report does;
which one that is is known only when their exams are there.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from distill.completions import write_bytes
from experiments.stages.exam import run as sit
from experiments.stages.follow import run as go_on
from experiments.stages.grades import read_grades
from experiments.stages.stage import canonical
from experiments.stages.student import run as train

VERSION = 1


def run(settings: Any, inputs: list[Path], out: Path) -> dict[str, float]:
    """The grades of the student, and which attack it is of; its weights are not kept.

    The inputs are those of each attack's student, then that attack's selection exams, attack after
    attack, and last the undefended teacher's exam.
    """
    folders = iter(inputs)
    held = [
        (
            [next(folders) for _ in range(one["inputs"])],
            [next(folders) for _ in range(one["selection"])],
        )
        for one in settings["attacks"]
    ]
    (clean,) = folders
    right = [_right(exams) for _, exams in held]
    place = right.index(max(right))
    chosen, (needed, _) = settings["attacks"][place], held[place]
    made = out / "student"
    made.mkdir()
    longer = chosen["student"] | {"times": 2, "followed": chosen["followed"]}
    train(longer, needed, made)
    if chosen["follow"]:
        after = out / "followed"
        after.mkdir()
        go_on(chosen["follow"], [made], after)
        made = after
    took = sit(settings["exam"], [made, clean], out)
    write_bytes(out / "training.json", (made / "training.json").read_bytes())
    write_bytes(out / "plateau.json", canonical({"attack": place}).encode())
    for folder in (out / "student", out / "followed"):
        shutil.rmtree(folder, ignore_errors=True)
    (out / "student.checkpoint").unlink(missing_ok=True)
    return took


def _right(exams: list[Path]) -> float:
    """Mean over an attack's selection exams; nothing to choose by where there is one attack."""
    graded = [row["outcome"] == "right" for folder in exams for row in read_grades(folder)]
    return sum(graded) / len(graded) if graded else 0.0
