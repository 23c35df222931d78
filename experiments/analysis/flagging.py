"""The flags of a study: what a careful reviewer would ask about its teachers, arms and cases.

Each function returns the flags that it raises, and no number depends on who asks first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from experiments.analysis.comparisons import ArmTable
from experiments.measure import flags
from experiments.measure.contrast import arm_mean
from experiments.planning.arms import IDENTITY, UNTRAINED
from experiments.results.grades import Key
from experiments.results.schema.arms import FinishedStudent
from experiments.results.schema.defenses import PlateauChange
from experiments.results.schema.measures import RaisedFlag
from experiments.settings.attacks import parse_attack
from experiments.settings.defenses import parse_defense


class Faults(NamedTuple):
    """What was raised of an attack, and the reasons for which its students cannot be judged."""

    reasons: list[str]
    flags: list[RaisedFlag]


def raised(kind: str, where: Iterable[object], evidence: str) -> list[RaisedFlag]:
    """The flag, or none where there is no evidence.

    Args:
        kind: of flag.
        where: of the arm; empty texts and zeros are left out.
        evidence: in words; empty for none.
    """
    if not evidence:
        return []
    place = " ".join(str(part) for part in where if part not in ("", 0))
    return [RaisedFlag(flag=kind, where=place, evidence=evidence)]


def unique(raised_flags: Iterable[RaisedFlag]) -> list[RaisedFlag]:
    """Each flag once, in the order in which they first come.

    Args:
        raised_flags: in any order.
    """
    return list({(f.flag, f.where, f.evidence): f for f in raised_flags}.values())


def missing_arm_flags(table: ArmTable) -> list[RaisedFlag]:
    """Reported arms of which no student finished."""
    return [
        flag
        for key, planned in table.students.items()
        if key not in table.grades and key.split == "report"
        for flag in raised("missing", key, f"0 of {len(planned)} students finished")
    ]


def teacher_flags(table: ArmTable) -> list[RaisedFlag]:
    """Of every defended teacher, whatever attacks it."""
    keys = [key for key in table.grades if not key.attacker and key.split == "report"]
    return [flag for key in keys for flag in _teacher_flags(table, key)]


def _teacher_flags(table: ArmTable, key: Key) -> list[RaisedFlag]:
    clean, defended = table.teacher(key.task, "none"), table.grades[key]
    where, matched = (key.task, key.defense), table.preparation(key.task, key.defense).matched
    missed = flags.off_target(matched.loss, matched.points) if matched else ""
    count = len(defended.seeds)
    return [
        *raised("degenerate text", where, flags.degenerate(clean.texts, defended.texts)),
        *raised("off target", where, missed),
        *raised("cut answers", where, flags.unfinished(defended.mean("unfinished") or 0.0)),
        *raised("unreadable", where, flags.unreadable(defended.texts, defended.unparsed_texts)),
        *raised("single sample", where, f"{count} sampling seed(s)" if count < 3 else ""),
    ]


# Attacks


def attack_faults(table: ArmTable, key: Key) -> Faults:
    """Of one attack against a defence: its own arm, and the undefended one it is compared with.

    Args:
        table: the study's graded arms.
        key: of a reported arm that is no floor.
    """
    ceiling = key._replace(defense="none")
    gap = flags.extractor(table.report[key].unparsed, table.exams(ceiling).unparsed)
    twin = _twin(table, key)
    training, before = training_faults(table, key), training_faults(table, ceiling)
    reasons = [
        *([f"arms are aliases: {twin}"] if twin and not _may_change_nothing(key) else []),
        *([f"unparsed answers differ: {gap}"] if gap else []),
        *training.reasons,
        *before.reasons,
    ]
    of_arm = [
        *raised("extractor", key, gap),
        *raised("alias", key, twin),
        *_accuracy_flags(table, key, ceiling),
    ]
    return Faults(list(dict.fromkeys(reasons)), [*of_arm, *training.flags, *before.flags])


def _accuracy_flags(table: ArmTable, key: Key, ceiling: Key) -> list[RaisedFlag]:
    labels, D = table.clusters(key.task), table.scores(key)
    F, U = table.scores(table.floor_key(key.task, key.budget)), table.scores(ceiling)
    return [
        *raised("defence helps", key, flags.helps(U, D, table.alpha, labels)),
        *raised("sabotage", key, flags.sabotage(F, D, table.alpha, labels)),
    ]


def _twin(table: ArmTable, key: Key) -> str:
    """That students of another defence gave the same answers, all of them; empty if none did.

    Of the seeds that all have, as undefended arms have more; undefended comes first.
    """
    cell = (key.task, key.budget, key.attacker)
    keys = [k for k in table.report if (k.task, k.budget, k.attacker) == cell]
    keys.sort(key=lambda k: k.defense != "none")
    seeds = table.study.seeds
    other = flags.aliases({k.defense: table.report[k].digest_of(seeds) for k in keys})
    twin = other.get(key.defense)
    return f"every answer equals those under {twin}" if twin else ""


def _may_change_nothing(key: Key) -> bool:
    """Whether equal answers are a result and no mistake.

    A defence of logprobs does nothing to whoever asks for text alone, and an attack that adapts
    may undo a defence to the last answer.
    """
    attack = parse_attack(key.attacker)
    if attack.adaptive:
        return True
    if attack.needs_interface != "text" or key.defense == IDENTITY:
        return False
    return parse_defense(key.defense).chain.traits.acts_on == "logprobs"


def training_faults(table: ArmTable, key: Key) -> Faults:
    """What is wrong with how an arm's students were trained.

    Args:
        table: the study's graded arms.
        key: of an arm, whether its students finished or not.
    """
    planned, students = table.students.get(key, []), table.finished(key)
    lacking = len(students) < len(planned)
    missing = f"{len(students)} of {len(planned)} students finished" if lacking else ""
    leaked = max((student.leaked for student in students), default=0)
    contaminated = f"{leaked} report questions are among the queries"
    reasons = []
    if sum(student.diverged for student in students) * 2 > len(students):
        reasons.append(f"most students of {key.defense} {key.attacker} diverged")
    if leaked:
        reasons.append(f"{contaminated} of {key.attacker}")
    raised_flags = [
        *raised("missing", key, missing),
        *raised("under-trained", key, _under_trained(key, students)),
        *raised("cut answers", key, _cut(students)),
        *raised("leakage", key, contaminated if leaked else ""),
    ]
    return Faults(reasons, raised_flags)


def _under_trained(key: Key, students: Sequence[FinishedStudent]) -> str:
    tokens = [one.student_tokens for one in students] if key.attacker != UNTRAINED else []
    losses = [student.losses for student in students]
    return flags.under_trained(losses, [student.diverged for student in students], tokens)


def _cut(students: Sequence[FinishedStudent]) -> str:
    if not students:
        return flags.cut(0.0, 0.0)
    cut = float(np.mean([student.cut for student in students]))
    return flags.cut(cut, float(np.mean([student.no_final for student in students])))


# Twice the training steps


def plateau_change(table: ArmTable, key: Key) -> PlateauChange | None:
    """What twice the steps change for one student of an arm; None where none was trained so.

    Args:
        table: the study's graded arms.
        key: of a reported arm.
    """
    longer = table.grades.get(key._replace(split="plateau"))
    if longer is None:
        return None
    exams, seed = table.report[key], longer.seeds[0]
    error = arm_mean(table.scores(key), alpha=table.alpha, clusters=table.clusters(key.task)).se
    once_N, twice_N = exams.right_SN[exams.seeds.index(seed)], longer.right_SN[0]
    change = flags.longer(once_N, twice_N, float(error), table.alpha)
    return PlateauChange(**change._asdict())


def plateau_flags(table: ArmTable, key: Key) -> list[RaisedFlag]:
    """That an arm's students were still learning when their training ended.

    Args:
        table: the study's graded arms.
        key: of a reported arm.
    """
    change = plateau_change(table, key)
    if change is None or not change.moved:
        return []
    seed = table.grades[key._replace(split="plateau")].seeds[0]
    evidence = (
        f"{100 * change.change:+.1f} points [{100 * change.lo:+.1f}, {100 * change.hi:+.1f}] at "
        f"twice the steps, seed {seed}"
    )
    return raised("under-trained", key, evidence)
