"""Whether a run says of its students what their settings ask for, where that can be known without
training them: rates of learning, steps and exchanges of plain ones, sizes, and how their defences
were prepared.
"""

from __future__ import annotations

from collections.abc import Iterator

from distill.specs import TrainingConfig
from experiments.planning.arms import Arm
from experiments.planning.plan import Plan
from experiments.planning.scope import PLAIN
from experiments.results.collect import preparing
from experiments.results.schema.arms import FinishedStudent, Preparation
from experiments.review import Check, Word, short
from experiments.review.form import Run
from experiments.settings.components import build_defense
from experiments.settings.entries import build_task
from experiments.stages.completions import (
    EditedSpec,
    PublicSpec,
    ReleasedSpec,
    SelfSpec,
    ShuffledSpec,
)
from experiments.stages.defense import PrepareSpec
from experiments.stages.search import SearchSpec
from experiments.stages.student import StudentInputs, StudentSpec, steps_of

FLOPS = 6  # a parameter and position of training (Kaplan et al. 2020)


def check(run: Run, planned: Plan) -> Check:
    """Every finished student against its plan; the lists are known to go together.

    Args:
        run: as it was read.
        planned: the plan of its settings.
    """
    pairs = zip(planned.arms, run.arms, strict=True)
    finished = [(arm, record) for arm, record in pairs if isinstance(record, FinishedStudent)]
    seen: dict[str, object] = {}
    wrong = next(
        (
            f"{arm.defense} {arm.attacker} {arm.task} seed {arm.seed}: {fault}"
            for arm, record in finished
            for fault in faults(arm, record, seen)
        ),
        "",
    )
    word: Word = "FAIL" if wrong else "PASS"
    claim = "students are of the settings that were planned"
    return Check(claim, word, f"{len(finished)} students", short(wrong or "the same", 200))


def faults(arm: Arm, record: FinishedStudent, seen: dict[str, object]) -> Iterator[str]:
    """What a record says otherwise than its plan, or than those before it.

    Args:
        arm: as it was planned.
        record: of its student.
        seen: what earlier records said that all must; it is added to.
    """
    if record.learning_rate not in (allowed := rates(arm)):
        wanted = " or ".join(map(str, sorted(allowed)))
        yield f"learning_rate is {record.learning_rate}, planned is {wanted}"
    for name, expected in plain(arm).items():
        got = getattr(record, name)
        ended_early = name == "steps" and record.diverged and got < expected
        if got != expected and not ended_early:
            yield f"{name} is {got}, planned is {expected}"
    if bool(record.steps) != bool(record.student_tokens):
        yield f"{record.steps} steps learned from {record.student_tokens} tokens"
    position = FLOPS * record.parameters * (1 + record.trials)
    if not position or record.flops % position or record.flops < position * record.student_tokens:
        yield f"flops is {record.flops}, which are not {FLOPS} a parameter and position"
    stage, shared = preparing(arm), _shared(arm, record)
    if stage is not None and record.prepared is not None:
        assert isinstance(stage.spec, PrepareSpec)
        yield from _prepared(stage.spec, record.prepared)
        shared[f"prepared {stage.key}"] = record.prepared
    for what, value in shared.items():
        if seen.setdefault(what, value) != value:
            yield f"{what.partition(' ')[0]} is not what other students of the same say"


def plain(arm: Arm) -> dict[str, int]:
    """What a student that only learns, and from its completions alone, has taken: its recipe's
    steps, and an exchange a completion where each is one turn.
    """
    student, completions = arm.student, arm.completions.spec
    spec, needs = student.spec, student.needs
    if not isinstance(spec, StudentSpec) or spec.attacker.name != PLAIN or spec.clean:
        return {}
    assert isinstance(needs, StudentInputs)
    planned = {} if needs.search else {"steps": steps_of(spec, spec.shape)}
    match completions:
        case PublicSpec() | SelfSpec():
            planned["exchanges"] = 0
        case ReleasedSpec() | EditedSpec() | ShuffledSpec() if build_task(arm.task).turns == 1:
            planned["exchanges"] = completions.budget
    return planned


def _shared(arm: Arm, record: FinishedStudent) -> dict[str, object]:
    """What is the same of all students that are made of the same, by what it is and of what."""
    specs = [stage.spec for stage in arm.student.walk()]
    spec = next(spec for spec in specs[::-1] if isinstance(spec, StudentSpec))
    size = spec.shape.model_dump_json(exclude={*TrainingConfig.model_fields})
    return {
        f"parameters {arm.task} {size}": record.parameters,
        f"tokens_in {arm.completions.key}": record.tokens_in,
        f"tokens_out {arm.completions.key}": record.tokens_out,
    }


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
