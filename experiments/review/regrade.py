"""Every answer of a run graded again: an outcome that its text does not have is no grade.

Nothing is executed: of answers that are graded by running them only the form is looked at.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from experiments.settings.entries import build_task
from experiments.settings.schema import Measure, Study
from experiments.tasks import Outcome

COLUMNS = ("task", "split", "item", "prompt", "cluster", "text", "finished", "final", "outcome")
ROWS = 2**18


def misgraded(path: Path, measure: Measure) -> str:
    """The first row that is not what the task's own questions and grader make of its text; nothing
    if there is none.

    Args:
        path: of the run's grades.
        measure: the study's settings of exams.
    """
    exams: dict[tuple[str, str], dict[str, Any]] = {}
    seen: dict[tuple[str, str], set[str]] = {}
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS, columns=[*COLUMNS]):
            # The same answer to the same question is graded once.
            rows = pa.Table.from_batches([batch]).group_by([*COLUMNS]).aggregate([])
            for row in zip(*(rows[name].to_pylist() for name in COLUMNS), strict=True):
                at = row[:2]
                if at not in exams:
                    exams[at], seen[at] = questions(row[0], row[1], measure), set()
                if wrong := _wrong(row, exams[at].get(row[2]), build_task(row[0])):
                    return wrong
                seen[at].add(row[2])
    for at, items in exams.items():
        if lost := items.keys() - seen[at]:
            return f"{' '.join(at)}: {len(lost)} of {len(items)} questions were not asked"
    return ""


def questions(task: str, split: str, measure: Measure) -> dict[str, Any]:
    """What an exam asks, by name; students that were trained for longer have the report exam.

    Args:
        task: by its entry.
        split: `select`, `report` or `plateau`.
        measure: the study's settings of exams.

    Returns:
        Items by the id of their prompt.
    """
    exam = build_task(task)
    select = split == "select"
    items = exam.items(
        "select" if select else "report", measure.selection_items if select else measure.items, 0
    )
    return {item.prompt.id: item for item in items}


def _wrong(row: tuple[Any, ...], item: Any, exam: Any) -> str:
    task, split, name, prompt, cluster, text, finished, answer, outcome = row
    where = f"{task} {split} {name}"
    if item is None:
        return f"{where}: is no question of that exam"
    if (prompt, cluster) != (item.prompt.text, item.cluster):
        return f"{where}: asks {prompt!r}"
    if exam.grader.executes:
        final = exam.final(text, finished)
        allowed = [Outcome.UNPARSED] if final is None else [Outcome.RIGHT, Outcome.WRONG]
    else:
        final, allowed = exam.final(text, finished), [exam.grade(text, item.reference, finished)]
    if final == answer and outcome in map(str, allowed):
        return ""
    by = " or ".join(map(str, allowed))
    return f"{where}: {text!r} is {outcome} in the file, {by} by the grader"


def executed(study: Study) -> list[str]:
    """Tasks whose grader runs answers as code, and does not here.

    Args:
        study: of the run.
    """
    tasks = dict.fromkeys(task for block in study.blocks for task in block.tasks)
    return [task for task in tasks if build_task(task).grader.executes]
