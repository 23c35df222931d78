"""Reproduce: a run beside what the same study gives when it is run again; bytes, numbers within
tolerance, words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments import environment, preregistration
from experiments.analysis import summary
from experiments.measure.power import components
from experiments.planning import plan as planning
from experiments.planning.plan import Plan
from experiments.results import collect, grades_file, read
from experiments.results.grades import Exams, Grades, Key
from experiments.results.manifest import Code, Machine, Manifest
from experiments.results.schema.defenses import CaseResult
from experiments.review import Check, Word, same
from experiments.settings.attacks import parse_attack
from experiments.settings.defenses import parse_defense
from experiments.settings.schema import Study
from experiments.store import Store

# Two runs on unlike machines are two draws of the same students: their means may differ by this
# many standard errors.
TOLERANCE_SE = 3.0
# Below this many seeds the standard error itself is too uncertain, so this many points are allowed
# as well.
TOLERANCE_POINTS = 0.02
MACHINE_CLASS = ("cpu_capability", "device", "threads", "python")


def smoke(study: Study) -> Study:
    """The cheapest study whose stages are all among the full one's: floors, ceiling and one
    defence, first seed.

    Args:
        study: in full.
    """
    block = study.blocks[0]
    first = next((d for d in block.defenses if d != "none"), "none")
    attackers = [a for a in block.attackers if _meets(first, a)][:1] or block.attackers[:1]
    small = block.model_copy(
        update={
            "tasks": block.tasks[:1],
            "defenses": ["none", first],
            "attackers": attackers,
            "budgets": block.budgets[:1],
        }
    )
    measure = study.measure.model_copy(update={"plateau": False, "marks": False})
    return study.model_copy(
        update={
            "seeds": study.seeds[:1],
            "selection_seeds": study.selection_seeds[:1],
            "baseline_seeds": 1,
            "measure": measure,
            "blocks": [small],
            "campaigns": None,
        }
    )


def _meets(defense: str, attacker: str) -> bool:
    text = parse_defense(defense).chain.traits.acts_on == "text"
    return not text or parse_attack(attacker).needs_interface == "text"


def compare(expected: Path, study: Study, store: Store, tier: str, threads: int = 1) -> list[Check]:
    """What was run again in `store` beside the expected run: bytes, numbers within tolerance,
    words.

    Args:
        expected: folder of the run that somebody else made.
        study: what was run again: all of it, or its `smoke`.
        store: with the results of the second run.
        tier: `full`, or `smoke` for no verdicts.
        threads: of a worker of the second run.

    Raises:
        BadInput: the expected run cannot be read, or a result is damaged.
    """
    manifest, planned = read.manifest_of(expected), planning.make(study)
    machines = _machine(manifest, environment.machine(threads), environment.versions())
    checks = [machines, _bitwise(manifest, planned, store, machines.word == "PASS")]
    graded = grades_file.read(collect.collect(planned, store))
    before = grades_file.read(expected / "grades.parquet")
    effects = _effects(before)
    checks += [
        _accuracy(key, before[key], exams, effects.get(key.task, 0.0))
        for key, exams in graded.items()
        if key in before
    ]
    if tier != "full":
        why = "a smoke test has too few seeds"
        return [*checks, Check("verdicts", "INCONCLUSIVE", "words", why, "--tier full")]
    now = summary.measure(study, graded, collect.arms(planned, store))
    return [*checks, *_words(read.measures_of(expected).cases, now.cases)]


def _bitwise(manifest: Manifest, planned: Plan, store: Store, same_machine: bool) -> Check:
    """Whether the stages that both have hold the same bytes; on another class of machine other
    bytes are expected, and say nothing.
    """
    theirs = {stage.key: stage.files for stage in manifest.stages}
    ours = {stage.key: store.done(stage.kind, stage.key).files for stage in planned.stages}
    shared = [key for key in ours if key in theirs]
    unlike = [key for key in shared if ours[key] != theirs[key]]
    word: Word = "PASS"
    if unlike or not shared:
        word = "FAIL" if same_machine or not shared else "INCONCLUSIVE"
    claim, total = f"bitwise: {len(shared)} stages have the same bytes", len(shared)
    return Check(claim, word, f"{total} the same", f"{total - len(unlike)} the same")


def _machine(manifest: Manifest, machine: Machine, versions: dict[str, str]) -> Check:
    """Whether bytes may be expected to be equal: same processor class, device, threads, versions
    and sources.
    """
    before = _class(manifest.machine, manifest.versions, manifest.code)
    now = _class(machine, versions, environment.code())
    changes = [f"{name} {a} -> {b}" for name, a, b in preregistration.changed(before, now)]
    return Check(
        "same class of machine, versions and sources",
        "INCONCLUSIVE" if changes else "PASS",
        "the same",
        "; ".join(changes) or "the same",
    )


def _class(machine: Machine, versions: dict[str, str], code: Code) -> dict[str, object]:
    """What bytes depend on beside settings and seeds."""
    parts: dict[str, object] = {name: getattr(machine, name) for name in MACHINE_CLASS}
    return parts | versions | {"sources": code.sources_sha256[:12]}


def _effects(before: Grades) -> dict[str, float]:
    """By task, from the worst to the best students' mean accuracy: what a study is there to see."""
    means: dict[str, list[float]] = {}
    for key, exams in before.items():
        if key.attacker:
            means.setdefault(key.task, []).append(float(exams.right_SN.mean()))
    return {task: max(values) - min(values) for task, values in means.items()}


def _accuracy(key: Key, before: Exams, now: Exams, effect: float) -> Check:
    """Mean accuracy over the seeds that both have, within what two draws of the same students may
    differ by; INCONCLUSIVE where that is no less than the task's whole `effect`, so that it would
    hold of other students as well. The same answers right, item by item, need no tolerance.
    """
    common = [seed for seed in now.seeds if seed in before.seeds]

    def pick(exams: Exams) -> np.ndarray:
        return exams.right_SN[[exams.seeds.index(seed) for seed in common]]

    claim = " ".join(str(part) for part in key if part not in ("", 0))
    if not common:
        return Check(claim, "INCONCLUSIVE", f"seeds {before.seeds}", f"seeds {now.seeds}")
    a, b = pick(before), pick(now)
    spread = components(before.right_SN).seed if len(before.seeds) > 1 else 0.0
    noise = a.mean() * (1 - a.mean()) / a.size
    allowed = TOLERANCE_POINTS + TOLERANCE_SE * math.sqrt(2 * spread / len(common) + 2 * noise)
    gap = abs(float(a.mean() - b.mean()))
    expected, got = (f"{100 * exams.mean():.1f} %" for exams in (a, b))
    if np.array_equal(a, b):
        return Check(claim, "PASS", expected, got, "none: the same answers are right")
    # A gap within a tolerance as wide as the effect is no finding.
    vacuous = allowed >= effect
    return Check(
        claim,
        "FAIL" if gap > allowed else "INCONCLUSIVE" if vacuous else "PASS",
        expected,
        got,
        f"{100 * allowed:.1f} points"
        + (f", no less than the effect of {100 * effect:.1f}" if vacuous else ""),
    )


def _words(before: Sequence[CaseResult], now: Sequence[CaseResult]) -> list[Check]:
    """The verdicts: the conclusion level of determinism."""
    again = {(case.task, case.budget, case.defense): case for case in now}
    checks = []
    for case in before:
        cell = (case.task, case.budget, case.defense)
        claim = f"verdict {' '.join(map(str, cell))}"
        if cell not in again:
            checks.append(Check(claim, "FAIL", case.verdict or "-", "no such case"))
        elif case.verdict:
            checks.append(same(claim, case.verdict, again[cell].verdict))
    return checks
