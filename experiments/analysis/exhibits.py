"""What a report shows beside the measures: answers, and every student."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.results.grades import Grades, Key
from experiments.results.schema.exhibits import Exhibits, Sample, StudentAccuracies
from experiments.settings.defenses import parse_defense


def exhibits(grades: Grades, notes: Sequence[str], fingerprint: str) -> Exhibits:
    """What of the grades is shown as it is.

    Args:
        grades: of the study.
        notes: what the plan left out, and why.
        fingerprint: over the digests of all results.
    """
    return Exhibits(
        samples=_samples(grades),
        students=_students(grades),
        notes=[*notes],
        fingerprint=fingerprint,
    )


def _students(grades: Grades) -> list[StudentAccuracies]:
    return [
        StudentAccuracies(
            task=key.task,
            defense=key.defense,
            attacker=key.attacker,
            budget=key.budget,
            accuracies=exams.right_SN.mean(1).tolist(),
        )
        for key, exams in grades.items()
        if key.attacker and key.split == "report"
    ]


def _samples(grades: Grades) -> list[Sample]:
    """One for each defence that changes text: the first question on which the answers differ."""
    keys = [key for key in grades if not key.attacker and key.split == "report"]
    return [_sample(grades, key) for key in keys if _changes_text(key.defense)]


def _changes_text(defense: str) -> bool:
    return defense != "none" and parse_defense(defense).chain.traits.acts_on != "logprobs"


def _sample(grades: Grades, key: Key) -> Sample:
    clean, defended = grades[key._replace(defense="none")].exams[0], grades[key].exams[0]
    pairs = enumerate(zip(clean.texts, defended.texts, strict=True))
    at = next((i for i, (before, after) in pairs if before != after), 0)
    return Sample(
        task=key.task,
        defense=key.defense,
        prompt=clean.prompts[at],
        clean=clean.texts[at],
        defended=defended.texts[at],
    )
