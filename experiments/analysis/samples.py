"""A clean and a defended answer to one question, for readers."""

from __future__ import annotations

from experiments.results.grades import Grades, Key
from experiments.results.schema.card import Sample
from experiments.settings.schema import parse_defense


def samples(grades: Grades) -> list[Sample]:
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
