"""The result card: what a reviewer asks, on one page, from measures, manifest and seal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from experiments.planning.arms import IDENTITY, Arm
from experiments.planning.plan import Plan
from experiments.results.manifest import Manifest, Seal, StageRecord
from experiments.results.schema.card import (
    Card,
    CardArm,
    CardClaim,
    CardFidelity,
    CardIdentity,
    CardMissing,
    CardPreregistration,
    TimedLedgerRow,
    TimedTeacherResult,
)
from experiments.results.schema.defenses import TeacherResult
from experiments.results.schema.measures import LedgerRow, Measures
from experiments.results.schema.rows import Row
from experiments.settings.attacks import batteries, parse_attack
from experiments.settings.defenses import parse_defense
from experiments.settings.origins import described
from experiments.settings.schema import Study

LIMITS = "budgets, tasks and students of this study; nothing is said of larger ones"
Done = Mapping[str, StageRecord]
"""Finished stages by key."""


def card(
    plan: Plan, measures: Measures, manifest: Manifest, seal: Seal, deviations: Sequence[str]
) -> Card:
    """The fields of the card.

    Numbers are those of `measures`; times are those that the manifest's stages took.

    Args:
        plan: of the study.
        measures: every number that is reported.
        manifest: what made the results, and how long it took.
        seal: the digest of the preregistration, and what was scored before it.
        deviations: in words, from what was preregistered.
    """
    study, rows, done = plan.study, measures.rows, manifest.by_key
    return Card(
        identity=_identity(study, manifest),
        claim=_claim(study, measures),
        preregistration=CardPreregistration(
            sha256=seal.sha256,
            scored_before=seal.scored_before,
            of=seal.of,
            deviations=[*deviations],
        ),
        arms=[_arm(row) for row in rows],
        budget=_timed_ledger(plan, done, measures.ledger),
        results=measures.cases,
        utility=_timed_teachers(plan, done, measures.teachers),
        frontier=measures.frontier,
        curves=measures.curves,
        fidelity=[_fidelity(row) for row in rows if row.role != "floor"],
        missing=[_missing(row) for row in rows if row.seeds < row.planned],
        flags=measures.flags,
        prices={name: [*ends] for name, ends in study.measure.prices.model_dump().items()},
    )


def _identity(study: Study, manifest: Manifest) -> CardIdentity:
    return CardIdentity(
        study=study.name,
        config_sha256=manifest.config_sha256,
        fingerprint=manifest.fingerprint,
        code=manifest.code,
        versions=manifest.versions,
        machine=manifest.machine,
        stage_seconds=sum(stage.seconds for stage in manifest.stages),
        teacher=study.teacher.name,
        student=study.student.name,
        old=manifest.old,
    )


def _claim(study: Study, measures: Measures) -> CardClaim:
    attacks, rows = measures.attacks, measures.rows
    names = [attack.name for attack in attacks]
    return CardClaim(
        question=study.question,
        defenses=[case.defense for case in measures.cases if case.defense != IDENTITY],
        attacker_sees={attack.name: attack.interface for attack in attacks},
        batteries=batteries(names),
        attacks=(
            f"worst of {len(attacks)} listed attacks, {max(study.search.trials, 1)} trial(s) each"
        ),
        capabilities=sorted({row.task for row in rows}),
        budgets=sorted({row.budget for row in rows}),
        limits=LIMITS,
        components=_components(rows),
    )


def _components(rows: Sequence[Row]) -> dict[str, str]:
    """What the parts of all reported defences and attacks are, by name."""
    defenses = {row.defense for row in rows if row.defense != IDENTITY}
    attacks = {row.attacker for row in rows if row.role != "floor"}
    parts: dict[str, str] = {}
    for entry in sorted(defenses):
        parts |= described(parse_defense(entry).parts)
    for entry in sorted(attacks):
        parts |= described(parse_attack(entry).parts)
    return parts


def _arm(row: Row) -> CardArm:
    return CardArm(**{name: getattr(row, name) for name in CardArm.model_fields})


def _fidelity(row: Row) -> CardFidelity:
    return CardFidelity(
        task=row.task,
        defense=row.defense,
        attacker=row.attacker,
        budget=row.budget,
        **row.fidelity,
    )


def _missing(row: Row) -> CardMissing:
    return CardMissing(
        task=row.task,
        defense=row.defense,
        attacker=row.attacker,
        planned=row.planned,
        finished=row.seeds,
        bounds=row.missing_bounds,
    )


# Times


class Seconds(NamedTuple):
    """What work took."""

    wall: float
    cpu: float


def arm_seconds(plan: Plan, done: Done) -> dict[tuple[str, str, str, int], Seconds]:
    """What each reported arm's own answers, students and exams took, means over its seeds.

    Args:
        plan: of the study.
        done: an arm whose exam is not among them is left out.

    Returns:
        By task, defence, attacker and budget.
    """
    spent: dict[tuple[str, str, str, int], list[Seconds]] = {}
    for arm in plan.arms:
        if arm.split == "report" and arm.exam.key in done:
            key = (arm.task, arm.defense, arm.attacker, arm.budget)
            spent.setdefault(key, []).append(_student_seconds(arm, done))
    return {key: Seconds(*map(_mean, zip(*each, strict=True))) for key, each in spent.items()}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _student_seconds(arm: Arm, done: Done) -> Seconds:
    stages = [done[stage.key] for stage in arm.own_stages]
    wall = sum(stage.seconds for stage in stages)
    return Seconds(wall, sum(stage.cpu_seconds for stage in stages))


def answer_ms(plan: Plan, done: Done) -> dict[tuple[str, str], float]:
    """Milliseconds an exam answer takes on this machine, in batches; NaN where it was not timed.

    Args:
        plan: of the study.
        done: with their seconds.

    Returns:
        By task and defence.
    """
    spent = {}
    for (task, defense, split), exams in plan.teachers.items():
        if split == "report":
            seconds = [_answer_seconds(done.get(stage.key)) for stage in exams]
            spent[task, defense] = 1000 * sum(seconds) / len(seconds) / plan.study.measure.items
    return spent


def _answer_seconds(stage: StageRecord | None) -> float:
    return math.nan if stage is None or stage.answer_seconds is None else stage.answer_seconds


def _timed_ledger(plan: Plan, done: Done, ledger: Sequence[LedgerRow]) -> list[TimedLedgerRow]:
    spent = arm_seconds(plan, done)
    keys = [(row.task, row.defense, row.attacker, row.budget) for row in ledger]
    return [
        TimedLedgerRow(**dict(row), wall_seconds=spent[key].wall, cpu_seconds=spent[key].cpu)
        for row, key in zip(ledger, keys, strict=True)
    ]


def _timed_teachers(
    plan: Plan, done: Done, teachers: Sequence[TeacherResult]
) -> list[TimedTeacherResult]:
    spent, timed = answer_ms(plan, done), []
    for row in teachers:
        answer, clean = spent[row.task, row.defense], spent[row.task, "none"]
        timed.append(TimedTeacherResult(**dict(row), answer_ms=answer, answer_ratio=answer / clean))
    return timed
