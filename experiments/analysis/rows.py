"""The table of a study: each reported arm against its own floor and ceiling."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments.analysis import flagging
from experiments.analysis.comparisons import ArmTable, role
from experiments.analysis.ledger import ledger_row
from experiments.analysis.ranking import Cell
from experiments.measure import bootstrap, fidelity, flags, power, samples
from experiments.measure.contrast import Estimate, arm_mean, contrast
from experiments.measure.scores import Arm
from experiments.measure.transfer import Transfer, transfer
from experiments.planning.arms import FLOORS, choices, is_floor
from experiments.results.grades import Key
from experiments.results.schema.defenses import CaseResult
from experiments.results.schema.rows import (
    Components,
    MissingBounds,
    PassAt,
    Row,
    RowAccuracy,
    RowArm,
    RowText,
    RowTransfer,
    RowVerdict,
)
from experiments.results.schema.words import Interval

Copying = Callable[[Key], fidelity.Copy]
Cases = Mapping[Cell, CaseResult]


class Triple(NamedTuple):
    """An arm's scores with its floor's and its ceiling's."""

    F: Arm
    U: Arm
    D: Arm


def arm_rows(table: ArmTable, cases: Cases, old: bool) -> list[Row]:
    """One row a reported arm, in the order of the table.

    Args:
        table: the study's graded arms.
        cases: by cell; an arm without one has no T.
        old: whether results by other code are among them.
    """
    # The floor's own copying is needed by every arm above it.
    copying = functools.cache(functools.partial(copies, table))
    return [_row(table, key, cases, copying, old) for key in table.keys]


def _row(table: ArmTable, key: Key, cases: Cases, copying: Copying, old: bool) -> Row:
    table.exams(table.ceiling(key))
    floor, ceiling = table.floor_key(key.task, key.budget), table.ceiling(key)
    arms = Triple(*(table.scores(one) for one in (floor, ceiling, key)))
    return Row.join(
        _arm(table, key),
        _accuracy(table, key, arms),
        _transfer(table, key, arms),
        _verdict(cases, key),
        _text(table, key, copying, old),
    )


def _arm(table: ArmTable, key: Key) -> RowArm:
    ledger, exams = ledger_row(table, key), table.report[key]
    return RowArm(
        task=key.task,
        defense=key.defense,
        attacker=key.attacker,
        student=table.study.student.name,
        budget=key.budget,
        role=role(key),
        seeds=len(exams.seeds),
        planned=len(table.students.get(key, ())),
        items=exams.right_SN.shape[1],
        steps=ledger.steps,
        student_tokens=ledger.student_tokens,
    )


def _accuracy(table: ArmTable, key: Key, arms: Triple) -> RowAccuracy:
    labels = table.clusters(key.task)
    mean = arm_mean(arms.D, alpha=table.alpha, clusters=labels)
    uplift = contrast([arms.F, arms.D], [-1, 1], alpha=table.alpha, clusters=labels)
    harm = contrast([arms.U, arms.D], [1, -1], alpha=table.alpha, clusters=labels)
    over_first = _over_first(table, key)
    return RowAccuracy(
        floor=arms.F.mean,
        floor_arm=table.floor(key.task, key.budget),
        undefended=arms.U.mean,
        defended=arms.D.mean,
        defended_lo=max(mean.lo, 0.0),
        defended_hi=min(mean.hi, 1.0),
        uplift=uplift.value,
        uplift_lo=uplift.lo,
        uplift_hi=uplift.hi,
        harm=harm.value,
        harm_lo=harm.lo,
        harm_hi=harm.hi,
        over_first=over_first and over_first.value,
        over_first_lo=over_first and over_first.lo,
        over_first_hi=over_first and over_first.hi,
        pass_at=_pass_at(table, key),
    )


def _pass_at(table: ArmTable, key: Key) -> list[PassAt]:
    """pass@k of the arm's students; nothing where they sampled no answers."""
    exams, count = table.report[key], table.study.measure.samples
    right_SN = exams.stacked("sampled_N")
    if right_SN is None or not count:
        return []
    reported = []
    for k in samples.sizes(count):
        scores = Arm(samples.pass_at(right_SN, count, k), exams.seeds)
        mean = arm_mean(scores, alpha=table.alpha, clusters=table.clusters(key.task))
        lo, hi = max(mean.lo, 0.0), min(mean.hi, 1.0)
        reported.append(PassAt(k=k, value=mean.value, lo=lo, hi=hi))
    return reported


def _over_first(table: ArmTable, key: Key) -> Estimate | None:
    """What an attack gains over the study's first, against the same defence; None of the first
    itself and of floors.
    """
    first = table.attackers(key.task, key.budget, key.defense)[:1]
    if is_floor(key.attacker) or first == [key.attacker]:
        return None
    both = [table.scores(key._replace(attacker=first[0])), table.scores(key)]
    return contrast(both, [-1, 1], alpha=table.alpha, clusters=table.clusters(key.task))


def _transfer(table: ArmTable, key: Key, arms: Triple) -> RowTransfer:
    labels = table.clusters(key.task)
    share = _itself(table, key) or transfer(*arms, table.alpha, labels)
    clean, defended = (
        table.scores(table.teacher_key(key.task, name)) for name in ("none", key.defense)
    )
    recovered = transfer(arms.F, clean, arms.D, table.alpha, labels)
    change = flagging.plateau_change(table, key)
    return RowTransfer(
        floor_wins=not is_floor(key.attacker) and (share.value or 0) < 0,
        twice=change.change if change else None,
        transfer=share.value,
        transfer_lo=share.lo,
        transfer_hi=share.hi,
        transfer_kind=share.kind,
        t_den=share.t_den,
        effective=share.effective,
        gap_recovered=recovered.value,
        gap_recovered_lo=recovered.lo,
        gap_recovered_hi=recovered.hi,
        teacher_clean=clean.mean,
        teacher_defended=defended.mean,
    )


def _itself(table: ArmTable, key: Key) -> Transfer | None:
    """T of the floor and of the ceiling themselves, which are 0 and 1 by definition; None of all
    other arms.
    """
    by_key = {table.floor_key(key.task, key.budget): 0.0, table.ceiling(key): 1.0}
    value = by_key.get(key)
    return None if value is None else Transfer(value, value, None, None, "itself", math.nan)


def _verdict(cases: Cases, key: Key) -> RowVerdict:
    case = None
    if not is_floor(key.attacker):
        case = cases.get(Cell(key.task, key.budget, key.defense))
    return RowVerdict(
        verdict=(case.verdict if case else None) or None,
        rule=case.rule if case else "a control has no verdict",
        remarks=case.remarks if case else [],
        settle=case.settle if case else "",
    )


def _text(table: ArmTable, key: Key, copying: Copying, old: bool) -> RowText:
    exams, saved = table.report[key], bits_saved(table, key)
    bits_SN = exams.stacked("bits_N")
    return RowText(
        unparsed=exams.unparsed,
        bits_per_byte=None if bits_SN is None else bits_SN.mean(),
        bits_saved=saved and saved.value,
        bits_saved_lo=saved and saved.lo,
        bits_saved_hi=saved and saved.hi,
        fidelity=_fidelity(table, key, copying, saved),
        components=_components(table, key),
        missing_bounds=_missing_bounds(table, key),
        old=old,
    )


# How closely students copy


def copies(table: ArmTable, key: Key) -> fidelity.Copy:
    """How an arm's students copy the clean teacher's first exam.

    Args:
        table: the study's graded arms.
        key: of a reported arm.
    """
    exams, first = table.report[key], table.teacher(key.task, "none").exams[0]
    sure_N = first.confidence_N
    teacher = fidelity.Student(
        first.final_N[None], first.right_N[None], None, None if sure_N is None else sure_N[None]
    )
    student = fidelity.Student(
        exams.final_SN, exams.right_SN, exams.stacked("bits_N"), exams.stacked("confidence_N")
    )
    draws = bootstrap.start(
        exams.right_SN.shape[1],
        min(fidelity.PANEL_DRAWS, table.study.measure.draws),
        clusters=table.clusters(key.task),
    )
    return fidelity.copying(student, teacher, draws, table.scores(key).seeds)


def _fidelity(
    table: ArmTable, key: Key, copying: Copying, saved: Estimate | None
) -> dict[Any, Interval]:
    floor = copying(table.floor_key(key.task, key.budget))
    panel = fidelity.panel(copying(key), floor, table.alpha, table.clusters(key.task))
    if saved:
        panel["bits_per_byte"] = saved._replace(value=-saved.value, lo=-saved.hi, hi=-saved.lo)
    return {name: Interval(value=e.value, lo=e.lo, hi=e.hi) for name, e in panel.items()}


def bits_saved(table: ArmTable, key: Key) -> Estimate | None:
    """Bits per byte of the teacher's text that a student saves over the floor that predicts it
    best, the shuffled one too.

    The floor that is best at the exam has never seen reasoning, and would make anything look like
    fidelity.

    Args:
        table: the study's graded arms.
        key: of a reported arm.

    Returns:
        None where bits were not measured, or there is no floor.
    """
    names = dict.fromkeys([*FLOORS, *choices(table.study)])
    keys = [key._replace(attacker=name, defense="none") for name in names]
    measured = [table.measured(floor, "bits_N") for floor in keys if floor in table.report]
    floors, student = [bits for bits in measured if bits], table.measured(key, "bits_N")
    if student is None or not floors:
        return None
    best = min(floors, key=lambda bits: bits.mean)
    labels = table.clusters(key.task)
    return contrast([best, student], [1, -1], alpha=table.alpha, clusters=labels)


# What the design can see


def _components(table: ArmTable, key: Key) -> Components | None:
    """Variance components of an arm, and what the design sees of U - D; None below two seeds."""
    D, U = table.scores(key), table.scores(table.ceiling(key))
    fewest = min(len(D.seeds), len(U.seeds))
    if fewest < 2:
        return None
    components, difference = power.components(D), power.difference_components(U, D)
    return Components(
        seed_sd=components.seed**0.5,
        item_variance=components.item,
        residual_variance=components.residual,
        smallest_change=power.smallest_change(difference, fewest, D.items, table.alpha),
    )


def _missing_bounds(table: ArmTable, key: Key) -> MissingBounds | None:
    """What missing students could make of T; None where none is missing or U is not above F."""
    planned = len(table.students.get(key, ()))
    keys = (table.floor_key(key.task, key.budget), table.ceiling(key), key)
    F, U, D = (table.report[one].right_SN for one in keys)
    if len(D) >= planned or np.mean(U) <= np.mean(F):
        return None
    return MissingBounds(**flags.bounds_if_missing(F, U, D, planned)._asdict())
