"""What defences do to the text of a teacher's own answers: how many are changed, whether the final
answer is still the same, how long they are, and whether it shows.
"""

from __future__ import annotations

from typing import NamedTuple

from experiments.measure import text
from experiments.measure.contrast import Estimate
from experiments.results.grades import Exams, Grades, Key


class ReleasedText(NamedTuple):
    """A defence's answers beside the clean ones to the same questions.

    `changed` and `final_kept` are shares of all answers: with another text, and with the clean
    answer's final answer, of those that have one. `detectability` is None where no answer differs.
    """

    task: str
    defense: str
    changed: float
    final_kept: float
    right: float
    unparsed: float
    bytes: float
    detectability: Estimate | None


def released_texts(grades: Grades, alpha: float) -> list[ReleasedText]:
    """A row a task and defence, in the order of the grades.

    Args:
        grades: with the report exams of teachers, the undefended one's among them.
        alpha: level of the intervals.
    """
    teachers = [key for key in grades if not key.attacker and key.split == "report"]
    return [
        _released(key, grades[key._replace(defense="none")], grades[key], alpha) for key in teachers
    ]


def _released(key: Key, clean: Exams, exams: Exams, alpha: float) -> ReleasedText:
    parsed_SN = clean.final_SN >= 0
    same_SN = (exams.final_SN == clean.final_SN)[parsed_SN]
    first, other = clean.exams[0], exams.exams[0]
    return ReleasedText(
        task=key.task,
        defense=key.defense,
        changed=text.changed(clean.texts, exams.texts),
        final_kept=float(same_SN.mean()) if same_SN.size else 1.0,
        right=float(exams.right_SN.mean()),
        unparsed=exams.unparsed,
        bytes=exams.mean("bytes") or 0.0,
        detectability=text.detectability(first.texts, other.texts, first.prompts, alpha),
    )
