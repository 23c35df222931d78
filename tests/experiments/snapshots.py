"""What every shipped study asks for, and all that is reported of studies of made-up grades, kept in
tests/data.

    python -m tests.experiments.snapshots

writes it again. A snapshot does not say that a number is right, for which there is test_by_hand.py;
it says that one has changed, and which. Who changes one on purpose reads the difference before it
is committed.
"""

from __future__ import annotations

import functools
import json
import math
import zlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from distill.completions import digest
from experiments.analysis import summary
from experiments.planning import plan
from experiments.planning.arms import IDENTITY, OWN_DATA, SELF, SHUFFLED, UNTRAINED
from experiments.planning.plan import Plan
from experiments.report import matrix, terminal
from experiments.results.grades import Exam, Exams, Grades, Key
from experiments.results.schema.arms import ARM_RECORDS, FinishedStudent, MissingStudent
from experiments.results.table import jsonable
from experiments.settings import catalog, schema
from experiments.stages.stage import canonical
from tests.experiments.shipped import READING

DATA = Path(__file__).parents[1] / "data" / "snapshots"
SMALL = (
    "teacher.steps=4",
    "student.steps=6",
    "seeds=[0,1]",
    "selection_seeds=[900]",
    "budget=8",
    "task=addition",
)
# Every shipped study but those that read files of their user's, and what no shipped study has.
PLANS: dict[str, tuple[str, ...]] = {
    name: (name,) for name in catalog.names("study") if name not in READING
} | {
    "matched": (
        "quickstart",
        *SMALL,
        "defense=[none,decoding/product_of_experts(match_utility=20)]",
        "attacker=[sft,clean/filter + sft]",
        "provider.prefill=true",
        "measure.plateau=true",
    ),
    "searched": (
        "quickstart",
        *SMALL,
        "search=equal",
        "search.trials=2",
        "search.steps=[6,12]",
        "search.items=10",
        "own=worked",
        "own.worked=4",
        "defense=[none,release/truncate]",
        "attacker=[ask/select(pool=2) + clean/filter + sft + follow/prune,sft + follow/grpo]",
    ),
    "many seeds": (
        "quickstart",
        *SMALL,
        "defense=[none,release/top_k]",
        "attacker=[logprob_kd,strongest]",
        "own=worked",
        "baseline_seeds=4",
        "measure.plateau=true",
    ),
}
MILD, FOUND, SHORT = (
    "decoding/perturbed(eps=0.02)",
    "decoding/temperature(match_utility=10)",
    "release/truncate",
)
LIST = (
    "quickstart",
    "task=[addition,trace]",
    f"defense=[none,{MILD},{FOUND},{SHORT}]",
    "budget=16",
    "attacker=[sft,clean/filter + sft]",
    "seeds=[0,1,2,3,4,5,6,7]",
    "baseline_seeds=10",
    "selection_seeds=[900,901]",
    "measure.looks=[8]",
    "measure.items=120",
    "measure.selection_items=40",
    "measure.plateau=true",
    "measure.draws=100",
    "measure.utility_margin=0.05",
)
CURVE = (
    "quickstart",
    "task=trace",
    f"defense=[none,{MILD},release/answer_only]",
    "budget=[4,8,16,32,64,128]",
    "attacker=sft",
    "seeds=[0,1,2,3]",
    "baseline_seeds=4",
    "selection_seeds=[900]",
    "measure.looks=[4]",
    "measure.items=60",
    "measure.selection_items=40",
    "measure.draws=100",
)
STUDIES = {"list": LIST, "curve": CURVE}
FLOORS = {UNTRAINED: 0.05, OWN_DATA: 0.2, SELF: 0.22, SHUFFLED: 0.1}


def requested(plan: Plan) -> dict[str, Any]:
    """Of each kind of stage how many and a digest of their addresses; the arms, and what is said of
    the study.
    """
    kinds = defaultdict(list)
    for stage in plan.stages:
        kinds[stage.kind].append(stage.key)
    arms = [
        [arm.task, arm.defense, arm.attacker, arm.budget, arm.seed, arm.split, arm.exam.key]
        for arm in plan.arms
    ]
    teachers = [[*who, *(one.key for one in exams)] for who, exams in plan.teachers.items()]
    longer = [
        [one.task, one.defense, *one.attackers, one.budget, one.seed, one.stage.key]
        for one in plan.plateaus
    ]
    leaks = [
        [
            one.preset,
            one.access,
            one.seed,
            one.split,
            one.run.key,
            *(arm.exam.key for arm in one.students),
        ]
        for one in plan.leaks
    ]
    rest = {"arms": arms, "teachers": teachers, "plateaus": longer, "leaks": leaks}
    return {
        "stages": {
            kind: f"{len(keys)} {digest(canonical(keys))[:12]}"
            for kind, keys in sorted(kinds.items())
        },
        **{name: f"{len(held)} {digest(canonical(held))[:12]}" for name, held in rest.items()},
        "notes": plan.notes,
    }


def reported(words: tuple[str, ...]) -> dict[str, Any]:
    """All that is reported of a study of made-up grades: the measures in columns, and the lines of
    two tables.
    """
    planned = plan.make(schema.load(words[0], list(words[1:])))
    measures = summary.measure(planned.study, *made_up(planned))
    texts = {"matrix": matrix.markdown(measures), "table": terminal.markdown(measures)}
    return flat(columns(jsonable(measures))) | {n: t.splitlines() for n, t in texts.items()}


def made_up(plan: Plan) -> tuple[Grades, list[FinishedStudent | MissingStudent]]:
    """Grades of every exam of a plan but one, and what each student took; functions of names and
    seeds alone.

    The last seed of one arm is missing; one student diverged, one arm's answers were cut, and one's
    questions leaked.
    """
    exams: dict[Key, dict[int, Exam]] = defaultdict(dict)
    arms = []
    for arm in plan.arms:
        who = Key(arm.task, arm.defense, arm.attacker, arm.budget, arm.split)
        rng = generator(*who, arm.seed)
        finished = who[:3] != ("trace", FOUND, "sft") or arm.seed != plan.study.seeds[-1]
        record = dict(zip(Key._fields, who, strict=True)) | {"seed": arm.seed, "finished": finished}
        if finished:
            exams[who][arm.seed] = exam(plan, who, share(who), rng)
            record |= took(who, arm.seed, rng)
        arms.append(record)
    for plateau in plan.plateaus:
        who = Key(plateau.task, plateau.defense, plateau.attackers[0], plateau.budget, "plateau")
        exams[who][plateau.seed] = exam(
            plan, who, share(who) + 0.1 * (plateau.defense == FOUND), generator(*who, plateau.seed)
        )
    for (task, defense, split), graded in plan.teachers.items():
        who = Key(task, defense, "", 0, split)
        for seed in range(
            len(graded)
        ):  # one defence costs the honest user something, and the others nothing
            rng = generator(task, split, seed, defense == FOUND)
            exams[who][seed] = exam(plan, who, 0.9 if defense == FOUND else 0.97, rng)
    return {
        key: Exams(tuple(sorted(by)), tuple(by[seed] for seed in sorted(by)))
        for key, by in exams.items()
    }, ARM_RECORDS.validate_python(arms)


def generator(*who: Any) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr(who).encode()))


def share(who: Key) -> float:
    """The share of right answers of an arm: more with more questions, more undefended than
    defended.
    """
    if who.attacker in FLOORS:
        return FLOORS[who.attacker]
    gain = {"none": 1.0, IDENTITY: 1.0, MILD: 0.98, SHORT: 0.05}.get(who.defense, 0.5)
    gain *= 0.8 if "filter" in who.attacker and gain == 1 else 1.0
    return 0.2 + 0.75 * gain * min(math.log2(who.budget) / 7, 1) ** (1 if who.budget > 16 else 0.6)


def exam(plan: Plan, who: Key, right: float, rng: np.random.Generator) -> Exam:
    """An exam of which about this share is right; hard items are hard for all."""
    split = "select" if who.split == "select" else "report"
    n = plan.study.measure.selection_items if split == "select" else plan.study.measure.items
    hard = generator(who.task, split).normal(size=n)
    right_N = np.zeros(n)
    right_N[
        np.argsort(hard + rng.normal(size=n))[: round(n * min(right + 0.03 * rng.normal(), 1.0))]
    ] = 1
    answers = np.where(right_N == 1, 0, np.where(rng.random(n) < 0.05, -1, rng.integers(1, 5, n)))
    return one_exam(who.task, split, bool(who.attacker), right_N, answers, 0.014, rng)


def one_exam(
    task: str,
    split: str,
    student: bool,
    right_N: np.ndarray,
    answers: np.ndarray,
    unfinished: float,
    rng: np.random.Generator,
) -> Exam:
    """An exam of these outcomes; the rest of its numbers at random, of unfinished answers at most a
    share.
    """
    n = len(right_N)
    return Exam(
        tuple(f"{split}-{i}" for i in range(n)),
        right_N,
        answers,
        rng.uniform(0.5, 2, n) if student else None,
        rng.uniform(0.01, 1, n),
        l1=rng.uniform(),
        kl=rng.uniform(),
        flips=rng.uniform(),
        passes=rng.uniform(1, 3),
        tokens=rng.uniform(5, 9),
        bytes=rng.uniform(20, 30),
        unfinished=rng.uniform(0, unfinished),
        texts=()
        if student
        else tuple(f"{i} because {rng.integers(1e6)} # {s}" for i, s in enumerate(answers)),
        prompts=tuple(f"{task} {split} question {i}" for i in range(n)),
        digest=f"{rng.integers(1e9)}",
    )


def took(who: Key, seed: int, rng: np.random.Generator) -> dict[str, Any]:
    """What a student took, as grades.arms tells it."""
    odd = (who.task, who.defense, who.split) == ("trace", MILD, "report")
    level = 2.0 if odd and seed == 1 else 0.1
    matched = (
        {"knob": "temperature", "value": 1.7, "points": 10.0, "loss": 6.5}
        if who.defense == FOUND
        else None
    )
    return {
        "exchanges": 1 if who.attacker == SELF else int(rng.integers(5, 90)),
        "tokens_in": int(rng.integers(500, 900)),
        "tokens_out": int(rng.integers(500, 900)),
        "student_tokens": int(rng.integers(1000, 9000)),
        "parameters": 1000,
        "flops": int(rng.integers(1, 9)) * 10**15,
        "trials": 2 * ("filter" in who.attacker),
        "steps": int(rng.integers(10, 40)),
        "learning_rate": 1e-3,
        "cut": 0.2 * odd,
        "no_final": 0.01,
        "diverged": odd and seed == 2,
        "losses": [2.0 / (1 + i) ** 2 + level for i in range(40)],
        "leaked": 2 * ((who.task, who.defense) == ("addition", FOUND)),
        "prepared": {"matched": matched, "numbers": {}},
    }


def columns(value: Any) -> Any:
    """Tables by column instead of by row, numbers to nine digits."""
    if isinstance(value, dict):
        return {name: columns(one) for name, one in value.items()}
    if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        names = list(dict.fromkeys(name for one in value for name in one))
        return {name: columns([one.get(name, "no such column") for one in value]) for name in names}
    if isinstance(value, list):
        return [columns(one) for one in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


def flat(value: Any, where: str = "") -> dict[str, Any]:
    """Names in names as one name with dots, so that a column has a line of its own."""
    if not isinstance(value, dict) or not value:
        return {where: value}
    return {
        at: one
        for name, held in value.items()
        for at, one in flat(held, f"{where}.{name}".lstrip(".")).items()
    }


def apart(ours: Any, committed: Any, where: str = "") -> Iterator[str]:
    """Where two snapshots differ; numbers may by a millionth, as sums do on other machines."""
    match ours, committed:
        case dict(), dict():
            for name in dict.fromkeys([*ours, *committed]):
                sides = {"gone": ours, "new": committed}
                missing = [side for side, one in sides.items() if name not in one]
                yield from (
                    [f"{where}.{name} is {missing[0]}"]
                    if missing
                    else apart(ours[name], committed[name], f"{where}.{name}".lstrip("."))
                )
        case list(), list() if len(ours) == len(committed):
            for place, (a, b) in enumerate(zip(ours, committed, strict=True)):
                yield from apart(a, b, f"{where}[{place}]")
        case float() | int(), float() | int() if not isinstance(ours, bool) and not isinstance(
            committed, bool
        ):
            if not math.isclose(ours, committed, rel_tol=1e-6, abs_tol=1e-9):
                yield f"{where}: {committed} -> {ours}"
        case _:
            if type(ours) is not type(committed) or ours != committed:
                yield f"{where}: {committed!r} -> {ours!r}"


@functools.cache
def now(name: str) -> dict[str, Any]:
    """The snapshot of this name as it would be written now."""
    if name in STUDIES:
        return json.loads(json.dumps(reported(STUDIES[name])))
    first, *rest = PLANS[name]
    return requested(plan.make(schema.load(first, rest)))


def committed(name: str) -> dict[str, Any]:
    """The snapshot of this name as it was committed."""
    file, of = (f"{name}.json", None) if name in STUDIES else ("plans.json", name)
    data = json.loads((DATA / file).read_text())
    return data[of] if of else data


def main() -> None:
    DATA.mkdir(parents=True, exist_ok=True)
    written = {name: now(name) for name in STUDIES} | {"plans": {name: now(name) for name in PLANS}}
    for name, entries in written.items():
        lines = ",\n".join(
            f"{json.dumps(at)}: {json.dumps(entry, ensure_ascii=False)}"
            for at, entry in entries.items()
        )
        (DATA / f"{name}.json").write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()
