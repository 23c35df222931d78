"""All grades of a study as one Parquet file, and what each arm did: the two files all numbers
follow from, gathered from the store.

`grades.parquet` has a row an exam item, exam after exam; `arms.json` has an entry a student: what
it was trained on, what that took, and how training went.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from distill.completions import digest
from experiments.measure import flags
from experiments.planning.arms import Arm
from experiments.planning.plan import Plan
from experiments.results import grades_file
from experiments.results.grades import WHO
from experiments.results.schema.arms import (
    FinishedStudent,
    MatchedStrength,
    MissingStudent,
    Preparation,
)
from experiments.stages.files import Exchanges, PreparedDefense, TrainingReport, WorstAttack
from experiments.stages.stage import Stage
from experiments.stages.student import StudentInputs
from experiments.store import Store


def finished_exams(plan: Plan, store: Store) -> Iterator[tuple[dict[str, Any], Any]]:
    """Every exam that is done, with whose it is; what is missing is left out, and is told by the
    arms.

    Args:
        plan: of a study; the exams of its teachers are done.
        store: of results.

    Returns:
        `WHO` of each exam, by name, and its stage.
    """
    for (task, defense, split), exams in plan.teachers.items():
        for seed, stage in enumerate(exams):
            yield dict(zip(WHO, (task, defense, "", 0, split, seed), strict=True)), stage
    for arm in plan.arms:
        if store.has(arm.exam.kind, arm.exam.key):
            yield {name: getattr(arm, name) for name in WHO}, arm.exam
    for longer in plan.plateaus:
        if store.has(longer.stage.kind, longer.stage.key):
            worst = WorstAttack.read(store.open(longer.stage.kind, longer.stage.key))
            attacker = longer.attackers[worst.attack]
            who = (longer.task, longer.defense, attacker, longer.budget, "plateau", longer.seed)
            yield dict(zip(WHO, who, strict=True)), longer.stage


def collect(plan: Plan, store: Store) -> bytes:
    """All grades as Parquet; the same results give the same bytes.

    Args:
        plan: of a study; the exams of its teachers are done.
        store: of results.

    Raises:
        BadInput: a result is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts = []
    for who, stage in finished_exams(plan, store):
        graded = pq.read_table(store.open(stage.kind, stage.key) / "grades.parquet")
        for place, (name, value) in enumerate(who.items()):
            kind = pa.int64() if isinstance(value, int) else pa.string()
            graded = graded.add_column(place, name, pa.array([value] * len(graded), kind))
        parts.append(graded)
    return grades_file.spelled(pa.concat_tables(parts, promote_options="default"))


def arms(plan: Plan, store: Store) -> list[FinishedStudent | MissingStudent]:
    """One entry a planned student: whether it is finished, its ledger, how training went, and
    leaked questions.

    Args:
        plan: of a study.
        store: of results.

    Returns:
        In the order of the plan.

    Raises:
        BadInput: a result is damaged.
    """
    counted: dict[str, int] = {}
    return [_record(plan, store, arm, counted) for arm in plan.arms]


def _record(
    plan: Plan, store: Store, arm: Arm, counted: dict[str, int]
) -> FinishedStudent | MissingStudent:
    who = {name: getattr(arm, name) for name in WHO}
    if not store.has(arm.exam.kind, arm.exam.key):
        return MissingStudent(**who, finished=False)
    training = TrainingReport.read(store.open(arm.student.kind, arm.student.key))
    exchanges = _asked(arm, store)
    trials = trials_of(plan, arm)
    return FinishedStudent(
        **who,
        finished=True,
        exchanges=exchanges.exchanges + training.asked,
        tokens_in=exchanges.tokens_in,
        tokens_out=exchanges.tokens_out,
        student_tokens=training.tokens,
        parameters=training.parameters,
        # 6 FLOPs a parameter and position, forward and backward (Kaplan et al. 2020); the search
        # costs as much a trial.
        flops=6 * training.parameters * training.positions * (1 + trials),
        trials=trials,
        steps=training.steps,
        learning_rate=training.learning_rate,
        cut=training.cut,
        no_final=training.no_final or 0.0,
        diverged=training.diverged,
        losses=training.losses,
        leaked=_leaked(arm, store, counted),
        prepared=prepared(arm, store),
    )


def trials_of(plan: Plan, arm: Arm) -> int:
    """How many students were tried for the settings of an arm's own.

    Args:
        plan: of the study.
        arm: of the plan.
    """
    searched = any(
        isinstance(stage.needs, StudentInputs) and stage.needs.search
        for stage in arm.student.walk()
    )
    return plan.study.search.trials if searched else 0


def _asked(arm: Arm, store: Store) -> Exchanges:
    """What an arm's answers took; nothing where the teacher was not asked."""
    folder = store.open(arm.completions.kind, arm.completions.key)
    if not (folder / Exchanges.FILE).is_file():
        return Exchanges(exchanges=0, tokens_in=0, tokens_out=0)
    return Exchanges.read(folder)


def prepared(arm: Arm, store: Store) -> Preparation | None:
    """How an arm's defence was prepared: the strength that was found for it, and numbers that it
    learned.

    Args:
        arm: of a plan, whose defence is ready.
        store: of results.

    Returns:
        None where nothing had to be prepared.

    Raises:
        BadInput: the result is damaged.
    """
    stage = preparing(arm)
    if stage is None:
        return None
    made = PreparedDefense.read(store.open(stage.kind, stage.key))
    return Preparation(matched=_matched(made), numbers={**made.numbers})


def preparing(arm: Arm) -> Stage | None:
    """The stage that makes an arm's defence ready, if there is one."""
    return next((stage for stage in arm.completions.inputs if stage.kind == "defense"), None)


def _matched(made: PreparedDefense) -> MatchedStrength | None:
    """What is reported of the strength that was found; its trials stay in the store."""
    if made.matched is None:
        return None
    return MatchedStrength.model_validate(made.matched.model_dump(exclude={"tried"}))


def _leaked(arm: Arm, store: Store, counted: dict[str, int]) -> int:
    """Report questions that this student was trained on; arms that asked the same
    are counted once.
    """
    import pyarrow.parquet as pq

    completions = store.folder(arm.completions.kind, arm.completions.key) / "completions.parquet"
    graded = store.folder(arm.exam.kind, arm.exam.key) / "grades.parquet"
    queries, questions = (
        pq.read_table(path, columns=["prompt"])["prompt"].to_pylist()
        for path in (completions, graded)
    )
    same = digest("\0".join([*sorted(queries), "", *questions]))
    if same not in counted:
        counted[same] = len(flags.leaked(queries, questions))
    return counted[same]
