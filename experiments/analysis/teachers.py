"""What each defence does to the teacher's own exam, its text and its work (E7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from experiments.analysis.comparisons import ArmTable
from experiments.analysis.verdicts import utility
from experiments.measure import text
from experiments.measure.contrast import Estimate
from experiments.measure.noticing import questions_to_notice
from experiments.results.grades import Exams, Key
from experiments.results.schema.defenses import TeacherResult
from experiments.settings.defenses import parse_defense


class Movement(NamedTuple):
    """How far edits moved the sampled distribution, means over generated tokens."""

    l1: float | None
    kl: float | None
    flips: float | None


UNSEEN = Movement(None, None, None)


def teacher_results(table: ArmTable) -> list[TeacherResult]:
    """One row a task and defence, the clean teacher's among them."""
    keys = [key for key in table.grades if not key.attacker and key.split == "report"]
    return [_result(table, key) for key in keys]


def _result(table: ArmTable, key: Key) -> TeacherResult:
    clean, exams = table.teacher(key.task, "none"), table.grades[key]
    cost = utility(
        table, key.task, table.scores(table.teacher_key(key.task, "none")), table.scores(key)
    )
    preparation = table.preparation(key.task, key.defense)
    moved = _moved(key.defense, exams)
    detectability = _detectability(clean, exams, table.alpha)
    Te, noticed = float(clean.right_SN.mean()), True if cost.hi < 0 else None
    return TeacherResult(
        task=key.task,
        defense=key.defense,
        accuracy=exams.right_SN.mean(),
        seeds=len(exams.seeds),
        matched=preparation.matched,
        numbers=preparation.numbers,
        change=cost.change,
        lo=cost.lo,
        hi=cost.hi,
        relative=cost.relative,
        margin=cost.margin,
        passes=exams.mean("passes"),
        passes_at=cost.passes_at,
        unparsed=exams.unparsed,
        l1=moved.l1,
        kl=moved.kl,
        flips=moved.flips,
        token_ratio=_ratio(exams.mean("tokens"), clean.mean("tokens")),
        byte_ratio=_ratio(exams.mean("bytes"), clean.mean("bytes")),
        unfinished=exams.mean("unfinished") or 0.0,
        longest_repeat=_mean(text.longest_repeat, exams),
        distinct_4=_mean(lambda answer: text.distinct(answer, 4), exams),
        perplexity=_perplexity(exams),
        perplexity_clean=_perplexity(clean),
        changed=text.changed(clean.texts, exams.texts),
        noticed_after=noticed and _noticed_after(Te, cost.change),
        noticed_after_lo=noticed and _noticed_after(Te, cost.lo),
        noticed_after_hi=noticed and _noticed_after(Te, cost.hi),
        detectability=detectability and detectability.value,
        detectability_lo=detectability and detectability.lo,
        detectability_hi=detectability and detectability.hi,
    )


def _moved(defense: str, exams: Exams) -> Movement:
    """What edits measured; nothing where weights or temperature changed, which no edit sees."""
    parts = parse_defense(defense).chain.parts
    if any(part.traits.acts_on == "weights" or part.resamples for part in parts):
        return UNSEEN
    return Movement(exams.mean("l1"), exams.mean("kl"), exams.mean("flips"))


def _noticed_after(right: float, change: float) -> int | None:
    """Questions after which an attacker that knows their answers notices a change below 0."""
    return questions_to_notice(right, max(right + change, 0.0))


def _detectability(clean: Exams, exams: Exams, alpha: float) -> Estimate | None:
    """How well a classifier tells one exam's answers from the clean teacher's; None where no
    answer differs.
    """
    first, other = clean.exams[0], exams.exams[0]
    return text.detectability(first.texts, other.texts, first.prompts, alpha)


def _mean(measure: Callable[[str], float], exams: Exams) -> float:
    return float(np.mean([measure(answer) for answer in exams.texts]))


def _perplexity(exams: Exams) -> float | None:
    """A byte, of a teacher's answers over all its exams; None of a recording."""
    nats_SN = exams.stacked("nats_N")
    return None if nats_SN is None else text.perplexity(nats_SN.ravel(), exams.texts)


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None
