"""Whether a run says of its students what their settings ask for, where that can be known without
training them: rates of learning, and how their defences were prepared.
"""

from __future__ import annotations

from collections.abc import Iterator

from experiments.planning.arms import Arm
from experiments.planning.plan import Plan
from experiments.results.collect import preparing
from experiments.results.schema.arms import FinishedStudent, Preparation
from experiments.review import Check, Word, short
from experiments.review.form import Run
from experiments.settings.components import build_defense
from experiments.stages.defense import PrepareSpec
from experiments.stages.search import SearchSpec
from experiments.stages.student import StudentSpec


def check(run: Run, planned: Plan) -> Check:
    """Every finished student against its plan; the lists are known to go together.

    Args:
        run: as it was read.
        planned: the plan of its settings.
    """
    pairs = zip(planned.arms, run.arms, strict=True)
    finished = [(arm, record) for arm, record in pairs if isinstance(record, FinishedStudent)]
    made: dict[str, Preparation] = {}
    wrong = next(
        (
            f"{arm.defense} {arm.attacker} {arm.task} seed {arm.seed}: {fault}"
            for arm, record in finished
            for fault in _faults(arm, record, made)
        ),
        "",
    )
    word: Word = "FAIL" if wrong else "PASS"
    claim = "students are of the settings that were planned"
    return Check(claim, word, f"{len(finished)} students", short(wrong or "the same", 200))


def _faults(arm: Arm, record: FinishedStudent, made: dict[str, Preparation]) -> Iterator[str]:
    """What a record says otherwise than its plan; `made`: what others say of the same preparing."""
    if record.learning_rate not in (allowed := rates(arm)):
        wanted = " or ".join(map(str, sorted(allowed)))
        yield f"learning_rate is {record.learning_rate}, planned is {wanted}"
    stage = preparing(arm)
    if stage is None or record.prepared is None:
        return
    assert isinstance(stage.spec, PrepareSpec)
    yield from _prepared(stage.spec, record.prepared)
    if made.setdefault(stage.key, record.prepared) != record.prepared:
        yield "prepared is not what other students of the same defence say"


def rates(arm: Arm) -> set[float]:
    """The learning rates that a student may have: its recipe's, or those that a search tries."""
    specs = [stage.spec for stage in arm.student.walk()]
    rate = next(spec.shape.learning_rate for spec in specs[::-1] if isinstance(spec, StudentSpec))
    tried = [trial for spec in specs if isinstance(spec, SearchSpec) for trial in spec.recipes]
    return {rate, *(trial.learning_rate for trial in tried if trial.learning_rate is not None)}


def _prepared(spec: PrepareSpec, reported: Preparation) -> Iterator[str]:
    names = {part.name for part in spec.defense}
    if strange := [name for name in reported.numbers if name.rpartition(".")[0] not in names]:
        yield f"prepared.numbers has {strange[0]!r}, which is of none of {', '.join(names)}"
    match, matched = spec.match, reported.matched
    if match is None or matched is None:
        if match or matched:
            yield f"prepared.matched is {'there' if matched else 'missing'}, planned otherwise"
        return
    strength = build_defense(spec.defense).parts[match.part].traits.strength
    assert strength is not None  # a defence without one cannot be matched
    ends = sorted((strength.weakest, strength.strongest))
    sought = matched.value is not None and ends[0] <= matched.value <= ends[1]
    if (matched.knob, matched.points, sought) != (strength.name, match.points, True):
        yield (
            f"matched by {matched.knob} {matched.value} to {matched.points} points, planned was "
            f"{strength.name} from {ends[0]} to {ends[1]} to {match.points}"
        )
