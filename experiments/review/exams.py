"""Whether a run holds the exams, students and campaigns that its settings plan: all of them, each
once, no others, in their order; and whether every answer has the grade that its text deserves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from experiments.planning import arms
from experiments.planning.arms import Arm, CampaignRun, PlateauRun
from experiments.planning.plan import Plan
from experiments.results.collect import preparing, trials_of
from experiments.results.grades import WHO, Grades, Key
from experiments.results.schema.arms import FinishedStudent, MissingStudent
from experiments.results.schema.outcomes import CampaignOutcome
from experiments.review import Check, Word, guarded, marks, outcomes, regrade, short, students
from experiments.review.form import FILES, Run
from experiments.review.recomputed import difference, unlike
from experiments.settings.defenses import parse_defense
from experiments.settings.entries import build_task
from experiments.settings.schema import Measure
from experiments.stages.grades import SAMPLED


class Examinee(NamedTuple):
    """Whose exam it is: the columns WHO of its rows."""

    task: str
    defense: str
    attacker: str
    budget: int
    split: str
    seed: int

    def __str__(self) -> str:
        who = self.attacker or "the teacher's exam"
        split = "" if self.split == "report" else f" ({self.split})"
        return f"{self.defense} {who} {self.task} seed {self.seed}{split}"


def checks(run: Run, planned: Plan) -> list[Check]:
    """Students, exams and campaigns against the plan, and every grade.

    Args:
        run: as it was read.
        planned: the plan of its settings.
    """
    listed = _listed(run, planned)
    claim = "students are of the settings that were planned"
    return [
        *guarded("every planned student was graded", lambda: _complete(run, planned)),
        listed,
        *(guarded(claim, lambda: [students.check(run, planned)]) if listed.word == "PASS" else []),
        *_campaigns(run, planned),
        *guarded(MARKED, lambda: _marks(run, planned)),
        *guarded(GRADED, lambda: [_graded(run), possible(run)]),
    ]


GRADED = "every grade is the grader's"


def _check(claim: str, expected: str, wrong: str) -> Check:
    return Check(claim, "FAIL" if wrong else "PASS", expected, short(wrong or expected, 160))


def _complete(run: Run, planned: Plan) -> list[Check]:
    """A missing seed, or one too many, is named; so is a teacher's exam, and a student that was
    trained for longer.
    """
    expected = [*_planned(planned, run.grades)]
    graded = [*_graded_exams(run.home / FILES["grades"])]
    names = [who for who, _ in graded]
    lost, strange = _beyond(expected, {*names}), _beyond(names, {*expected})
    wrong = _first(strange, "others")
    if not wrong and not lost:
        twice = "" if names == expected else "exams are in another order, or twice"
        wrong = twice or _shuffled(graded, run.study.measure)
    total = f"{len(expected)} exams"
    return [
        _check("every planned student was graded", total, _first(lost, "missing")),
        _check("every exam was planned", total, wrong),
    ]


def _beyond(exams: Sequence[Examinee], others: Set[Examinee]) -> list[Examinee]:
    return [who for who in exams if who not in others]


def _first(names: Sequence[Any], what: str) -> str:
    return f"{len(names)} {what}, first {names[0]}" if names else ""


def _planned(planned: Plan, grades: Grades) -> Iterator[Examinee]:
    """The exams of a finished study, in the order in which they are gathered."""
    for (task, defense, split), exams in planned.teachers.items():
        yield from (Examinee(task, defense, "", 0, split, seed) for seed in range(len(exams)))
    yield from (Examinee(*(getattr(arm, name) for name in WHO)) for arm in planned.arms)
    for longer in planned.plateaus:
        attacker = worst(longer, grades)
        yield Examinee(longer.task, longer.defense, attacker, longer.budget, "plateau", longer.seed)


def worst(longer: PlateauRun, grades: Grades) -> str:
    """The attack whose student was trained for longer: the first of those that the selection exams
    find worst.

    Args:
        longer: the student at twice the steps.
        grades: of the run; an attack without a selection exam counts as 0.
    """
    names = [
        Key(longer.task, longer.defense, attacker, longer.budget, "select")
        for attacker in longer.attackers
    ]
    right = [float(grades[key].right_SN.mean()) if key in grades else 0.0 for key in names]
    return longer.attackers[right.index(max(right))]


def _graded_exams(path: Path) -> Iterator[tuple[Examinee, list[str]]]:
    """The exams in a file of grades with their questions' names; one whose rows do not lie together
    comes twice.
    """
    names = [*WHO, "item"]
    table = pq.read_table(path, columns=names, read_dictionary=names).combine_chunks()
    changed = np.zeros(len(table), bool)
    changed[:1] = True
    for name in WHO:
        values = table[name].combine_chunks()
        codes = values.indices if pa.types.is_dictionary(values.type) else values
        changed[1:] |= np.diff(codes.to_numpy(zero_copy_only=False)) != 0
    starts = [int(place) for place in np.flatnonzero(changed)]
    for start, end in zip(starts, [*starts[1:], len(table)], strict=True):
        (who,) = table.select([*WHO]).slice(start, 1).to_pylist()
        yield Examinee(**who), table["item"][start:end].to_pylist()


def _shuffled(graded: Sequence[tuple[Examinee, list[str]]], measure: Measure) -> str:
    """The first exam that asks in another order than its task; nothing if there is none."""
    orders: dict[tuple[str, str], list[str]] = {}
    for who, items in graded:
        at = who.task, who.split
        if at not in orders:
            orders[at] = [*regrade.questions(*at, measure)]
        if items != orders[at]:
            return f"{who} asks in another order"
    return ""


def _listed(run: Run, planned: Plan) -> Check:
    """Whether arms.json has the planned students, says which of them are not finished, and what was
    sought and prepared for them.
    """
    missing = {*run.manifest.missing}
    expected = [
        [*_who(arm), True, trials_of(planned, arm), preparing(arm) is not None]
        if arm.exam.key not in missing
        else [*_who(arm), False]
        for arm in planned.arms
    ]
    listed = [
        [*_who(record), True, record.trials, record.prepared is not None]
        if isinstance(record, FinishedStudent)
        else [*_who(record), False]
        for record in run.arms
    ]
    wrong = next(unlike(expected, listed), None)
    word: Word = "FAIL" if wrong else "PASS"
    total = f"{len(expected)} students"
    return Check("arms.json lists the planned students", word, total, difference(wrong))


def _who(arm: Arm | FinishedStudent | MissingStudent) -> list[str | int]:
    return [getattr(arm, name) for name in WHO]


def _campaigns(run: Run, planned: Plan) -> list[Check]:
    """Whether outcomes.json has the planned runs of campaigns, each with its students."""
    missing, items = {*run.manifest.missing}, run.study.measure.items
    expected = [
        _planned_campaign(leak, missing, items)
        for leak in planned.leaks
        if leak.run.key not in missing
    ]
    listed = [_listed_campaign(outcome) for outcome in run.outcomes]
    if not expected and not listed:
        return []
    wrong = next(unlike(expected, listed), None)
    word: Word = "FAIL" if wrong else "PASS"
    total = f"{len(expected)} runs"
    checks = [Check("outcomes.json lists the planned campaigns", word, total, difference(wrong))]
    if run.study.campaigns:
        claim = "campaigns can be of their settings"
        fault = next(outcomes.faults(run.outcomes, run.study.campaigns), "")
        checks.append(_check(claim, total, fault))
    return checks


MARKED = "marks.json lists the planned tests"


def _marks(run: Run, planned: Plan) -> list[Check]:
    """Whether marks.json has the planned tests of students, and each p is that of its counts."""
    expected = marks.planned(planned, {*run.manifest.missing})
    listed = marks.listed(run.marked)
    if not expected and not listed:
        return []
    wrong = next(unlike(expected, listed), None)
    total = f"{len(expected)} students"
    return [
        Check(MARKED, "FAIL" if wrong else "PASS", total, difference(wrong)),
        _check("p-values of marks follow", total, next(marks.faults(run.marked), "")),
    ]


def _planned_campaign(leak: CampaignRun, missing: Set[str], items: int) -> dict[str, Any]:
    """What outcomes.json must say of a planned run: which it is, and its students with how many
    items each.
    """
    students = [
        [arm.task, arm.defense, arm.attacker, items]
        for arm in leak.students
        if arm.exam.key not in missing
    ]
    return {"run": [leak.preset, leak.access, leak.seed, leak.split], "students": students}


def _listed_campaign(outcome: CampaignOutcome) -> dict[str, Any]:
    """The same of what outcomes.json does say."""
    students = [
        [student.task, student.defense, student.attacker, len(student.right)]
        for student in outcome.students
    ]
    run = [outcome.preset, outcome.access, outcome.seed, outcome.split]
    return {"run": run, "students": students}


def _graded(run: Run) -> Check:
    """Whether every answer, graded again, has the outcome that the file says; INCONCLUSIVE where
    answers would have to be run for that.
    """
    wrong = regrade.misgraded(run.home / FILES["grades"], run.study.measure)
    checked = _check(GRADED, "the same", wrong)
    if checked.word == "FAIL" or not (tasks := regrade.executed(run.study)):
        return checked
    why = f"{len(tasks)} tasks are graded by running answers, which nothing here does; run it again"
    return checked._replace(word="INCONCLUSIVE", got=why)


def possible(run: Run) -> Check:
    """Whether numbers are those that its exams can have: what no defence stands before was not
    moved and took one pass a token, a student, which is a network, has all that can be measured of
    one, and nobody else has it.
    """
    names = ["task", "defense", "attacker", "split", "text", *UNMOVED, *OF_NETWORKS, TEACHERS]
    path = run.home / FILES["grades"]
    table = pq.read_table(path, columns=names, read_dictionary=names[:5])
    student = pc.not_equal(table["attacker"], "")
    wrong = [*_missing(table, student)]
    bare = table.filter(pc.or_(student, pc.equal(table["defense"], "none")))
    edited = [entry for entry in pc.unique(table["defense"]).to_pylist() if only_edits(entry)]
    unmoved = pc.or_(student, pc.is_in(table["defense"], pa.array(edited, pa.string())))
    for name, allowed in UNMOVED.items():
        others = pc.unique((bare if name == "passes" else table.filter(unmoved))[name]).to_pylist()
        wrong += [f"{name} is {value} in a row" for value in others if value not in allowed]
    none = pc.equal(table["tokens"], 0)
    if pc.any(pc.and_(pc.equal(bare["passes"], 0), pc.greater(bare["tokens"], 0))).as_py():
        wrong.append("tokens of a row took no pass")
    if pc.any(pc.and_(pc.greater(table["passes"], 0), pc.less(table["passes"], ONE))).as_py():
        wrong.append("tokens of a row took less than a pass each")
    if any(table["text"].take(pc.indices_nonzero(none)).to_pylist()):
        wrong.append("a row has a text of no token")
    wrong += _sampled(path, run.study.measure.samples)
    return _check("numbers are those that exams can have", "the same", _first(wrong, ""))


def _sampled(path: Path, samples: int) -> Iterator[str]:
    """What cannot be of the right ones among the answers that reported students sampled."""
    if (SAMPLED in pq.read_schema(path).names) != bool(samples):
        yield f"{SAMPLED} is {'missing' if samples else 'there'}, planned were {samples} answers"
    elif samples:
        table = pq.read_table(path, columns=["attacker", "split", SAMPLED])
        student = pc.not_equal(table["attacker"], "")
        if table.filter(pc.and_(student, pc.equal(table["split"], "report")))[SAMPLED].null_count:
            yield f"{SAMPLED} of a student is missing in a row"
        others = table.filter(pc.or_(pc.invert(student), pc.equal(table["split"], "select")))
        if others[SAMPLED].null_count < len(others):
            yield f"{SAMPLED} stands in a row of which it is not measured"
        low, high = pc.min_max(table[SAMPLED]).as_py().values()
        if low is not None and not 0 <= low <= high <= samples:
            yield f"{SAMPLED} is from {low} to {high} of {samples}"


def _missing(table: pa.Table, student: Any) -> Iterator[str]:
    """What a student's rows lack, and what rows have that is not measured of them."""
    for name in OF_NETWORKS:
        if table.filter(student)[name].null_count:
            yield f"{name} of a student is missing in a row"
    tasks = pc.unique(table["task"]).to_pylist()
    single = [task for task in tasks if build_task(task).turns == 1]
    of_one_turn = pc.is_in(table["task"], pa.array(single, pa.string()))
    measured = pc.and_(of_one_turn, pc.and_(student, pc.not_equal(table["split"], "select")))
    if table.filter(measured)[TEACHERS].null_count:
        yield f"{TEACHERS} of a student is missing in a row"
    others = table.filter(pc.invert(measured))
    if others[TEACHERS].null_count < len(others):
        yield f"{TEACHERS} stands in a row of which it is not measured"


def only_edits(defense: str) -> bool:
    """Whether a defence changes what is released alone, and never what is sampled."""
    parts = () if defense in ("none", arms.IDENTITY) else parse_defense(defense).parts
    return all(part.spec.name.startswith("release/") for part in parts)


TEACHERS = "bits_per_byte"
"""How well a reported student predicts the clean teacher's text of one turn."""
ONE = 1 - 1e-6  # a pass, up to what is lost in rounding
UNMOVED = {"l1": (0.0,), "kl": (0.0,), "flips": (0.0,), "passes": (0.0, 1.0)}
"""What an answer has that no defence moved; one of several turns without a token took no pass."""
OF_NETWORKS = ("nats", "tokens")


def named(run: Run) -> Check:
    """Where nothing can be planned: arms and exams are at least of what the settings name."""
    blocks = run.study.blocks
    tasks = {task for block in blocks for task in block.tasks}
    budgets = {budget for block in blocks for budget in block.budgets} | {0}
    defenses = {one for block in blocks for one in block.defenses} | {"none", arms.IDENTITY}
    attackers = {one for block in blocks for one in block.attackers} | {*arms.FLOORS, ""}
    allowed: tuple[Set[str | int], ...] = (tasks, defenses, attackers, budgets)
    present = {(arm.task, arm.defense, arm.attacker, arm.budget) for arm in run.arms}
    present |= {(key.task, key.defense, key.attacker, key.budget) for key in run.grades}
    odd: list[tuple[Any, ...]] = sorted(
        who
        for who in present
        if any(value not in some for value, some in zip(who, allowed, strict=True))
    )
    odd += [(task, "has none") for task in sorted(tasks - {task for task, *_ in present})]
    wrong = _first([" ".join(map(str, who)) for who in odd], "others")
    return _check("every arm is of the settings", f"{len(present)} arms", wrong)
