"""What a study leaves in its folder: settings, manifest, grades, results, the HTML report, and its
wandb runs.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

from distill.completions import BadInput, digest, read_completions, write_bytes
from distill.student import LOG_EVERY
from experiments import preregistration, provenance
from experiments.analysis import campaign_yield
from experiments.measure.contrast import NotMeasurable
from experiments.planning.arms import IDENTITY, Arm, is_floor, learning
from experiments.planning.plan import Plan
from experiments.report import card, files
from experiments.results import collect
from experiments.seeds import seed_for
from experiments.settings.schema import Study, parse_defense
from experiments.stages.files import TrainingReport
from experiments.stages.grades import read_grades
from experiments.stages.stage import Stage, canonical
from experiments.store import Store, fingerprint
from experiments.tracking import Run, Tracking, comparison

SENT = ("results.json", "measures.json", "card.md", "report.html", "grades.parquet")
SCHEMA = 4  # of manifest.json
NOTED = ("files", "seconds", "cpu_seconds", "inputs", "answer_seconds", "alike", "copied")
LIBRARIES = (
    "torch",
    "transformers",
    "datasets",
    "accelerate",
    "wandb",
    "numpy",
    "scipy",
    "scikit-learn",
    "tokenizers",
)


def write(plan: Plan, store: Store, home: Path, old: Sequence[str] = ()) -> dict[str, Any]:
    """Write everything and return all measures; all but manifest and card are functions of the
    results alone.

    `old` says in lines what of the results other code made; every table is marked with it.
    """
    preregistration.freeze(plan, store, home)
    data, arms, outcomes = (
        collect.collect(plan, store),
        collect.arms(plan, store),
        campaign_yield.collect(plan, store),
    )
    graded = collect.read(data)
    try:
        held = files.tables(plan.study, graded, arms, outcomes, old)
    except NotMeasurable as error:
        raise BadInput(f"report {plan.study.name}: {error}") from error
    written = {
        "config.json": published(plan.study).model_dump_json(indent=2).encode(),
        "grades.parquet": data,
        "arms.json": files.as_json(arms),
        **({"outcomes.json": files.as_json(outcomes)} if held["campaigns"] else {}),
        "measures.json": files.as_json(held),
        "results.json": files.as_json(held["rows"]),
        **files.pages(plan, graded, held),
    }
    made = manifest(plan, store) | {"old": [*old]}
    carded = files.carded(
        plan, held, made, preregistration.seal(home), preregistration.deviations(plan, home)
    )
    written |= {"card.json": files.as_json(carded), "card.md": card.markdown(carded).encode()}
    frozen = {
        name: (home / name).read_bytes()
        for name in (preregistration.ANALYSIS, preregistration.SEAL)
    }
    made["files"] = {name: digest(content) for name, content in (written | frozen).items()}
    for name, content in (written | {"manifest.json": files.as_json(made)}).items():
        write_bytes(home / name, content)
    for name in files.SOMETIMES - written.keys():  # of another study that had this name
        (home / name).unlink(missing_ok=True)
    return held


def published(study: Study) -> Study:
    """The study as others get it: where its author sends runs to is nobody else's matter."""
    return study.model_copy(update={"tracking": Tracking.model_validate({"mode": "off"})})


def manifest(plan: Plan, store: Store) -> dict[str, Any]:
    """What made these results: versions, code, machine, seeds by role, and each stage's digests and
    seconds.

    `made_by` lists what code, libraries and threads made results, once each; a stage says which of
    them it is.
    """
    done = [stage for stage in plan.stages if store.has(stage.kind, stage.key)]
    told = [(_done(store, stage), provenance.maker(_done(store, stage))) for stage in done]
    makers = list({canonical(maker): maker for _, maker in told}.values())
    return {
        "schema": SCHEMA,
        "study": plan.study.name,
        "fingerprint": fingerprint(store, done),
        "config_sha256": digest(published(plan.study).model_dump_json()),
        "versions": versions(),
        "lock": locked(),
        "machine": machine(max((maker.get("threads", 1) for maker in makers), default=1)),
        "code": code(),
        "plugins": provenance.plugins(done),
        "seeds": seeds(plan),
        "made_by": makers,
        "stages": [
            {
                "kind": stage.kind,
                "key": stage.key,
                "settings": stage.settings,
                "inputs": dict.fromkeys((one.key for one in stage.inputs), ""),
                **noted(one),
                "made_by": makers.index(maker),
            }
            for stage, (one, maker) in zip(done, told, strict=True)
        ],
        "missing": [stage.key for stage in plan.stages if not store.has(stage.kind, stage.key)],
    }


def seeds(plan: Plan) -> dict[str, Any]:
    """The seeds of a study by role."""
    study = plan.study
    return {
        "teacher": 0,
        "exam items": 0,
        "answers and students": study.seeds,
        "floors and undefended": {arm.task: study.baseline(arm.task) for arm in plan.arms},
        "selection": study.selection_seeds,
        "control/identity": [seed_for("control", seed) for seed in study.seeds],
    }


def locked() -> list[str]:
    """Every package that is installed, with its version."""
    return sorted({f"{one.metadata['Name']}=={one.version}" for one in distributions()})


def noted(done: dict[str, Any]) -> dict[str, Any]:
    """What a manifest repeats of a stage's own record, beside who made it."""
    return {name: done[name] for name in NOTED if name in done}


def _done(store: Store, stage: Stage) -> dict[str, Any]:
    return store.done(stage.kind, stage.key)


def versions() -> dict[str, str]:
    """The libraries that results may depend on."""
    return {name: version(name) for name in LIBRARIES}


def machine(threads: int = 1) -> dict[str, Any]:
    """What bitwise repetition depends on beside versions: processor, capability, threads a worker,
    device.
    """
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "threads": threads,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "device": device,
    }


def code() -> dict[str, Any]:
    """Revision of the checkout where there is one, and the SHA-256 of the sources as they are."""
    root = Path(__file__).parents[1]
    sources = sorted(
        path
        for name in ("distill", "defenses", "experiments")
        for path in (root / name).rglob("*.py")
    )
    state = hashlib.sha256()
    for path in sources:
        state.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    git = ["git", "-C", str(root)]
    try:
        top = subprocess.run(
            [*git, "rev-parse", "--show-toplevel", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
        )
        folder, revision = top.stdout.split()
    except (OSError, subprocess.CalledProcessError, ValueError):
        folder, revision = "", None
    return {
        "revision": revision if folder and Path(folder) == root else None,
        "sources_sha256": state.hexdigest(),
    }


def runs(plan: Plan, store: Store, held: dict[str, Any], home: Path) -> Iterator[Run]:
    """The study as wandb sees it: one run a reported arm, and one that compares,
    campaigns with it.
    """
    rows = held["rows"]
    whole = plan.study.model_dump(mode="json")
    group = f"{plan.study.name}-{digest(plan.study.model_dump_json())[:8]}"
    by_cell = {(r["task"], r["attacker"], r["budget"], r["defense"]): r for r in rows}
    for arm in plan.arms:
        if arm.split != "report" or not store.has(arm.exam.kind, arm.exam.key):
            continue
        row = by_cell[arm.task, arm.attacker, arm.budget, arm.defense]
        yield _arm_run(plan, store, arm, row, whole, group)
    tables = {"compare": _flat(rows)}
    if held["campaigns"] and held["campaigns"]["leaks"]:
        tables["campaigns"] = _flat(held["campaigns"]["leaks"])
    yield Run(
        id=f"compare-{digest(canonical([s.key for s in plan.stages]))[:12]}",
        name=f"compare/{plan.study.name}",
        group=group,
        job="compare",
        tags=("compare",),
        config=whole,
        curves={},
        summary={},
        tables=tables,
        files=tuple(home / name for name in SENT),
    )


def _flat(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    """The single values of rows, as a table."""
    names = [name for name, value in rows[0].items() if not isinstance(value, dict | list)]
    return names, [[row[name] for name in names] for row in rows]


def _arm_run(
    plan: Plan, store: Store, arm: Arm, row: dict[str, Any], whole: dict[str, Any], group: str
) -> Run:
    graded = read_grades(store.open(arm.exam.kind, arm.exam.key))
    training = TrainingReport.read(store.open(arm.student.kind, arm.student.key))
    answers = read_completions(store.open(arm.answers.kind, arm.answers.key) / "answers.parquet")
    asked = "none" if arm.defense == IDENTITY else arm.defense
    teachers = [
        read_grades(store.open(s.kind, s.key))
        for s in (
            plan.teachers[arm.task, "none", "report"][0],
            plan.teachers[arm.task, asked, "report"][0],
        )
    ]
    samples = [
        [s["prompt"], clean["text"], guarded["text"], s["text"], s["outcome"]]
        for s, clean, guarded in zip(graded[:50], *teachers, strict=False)
    ]
    curve = [
        (LOG_EVERY * (i + 1), loss) for i, loss in enumerate(training.losses) if loss is not None
    ]
    right = sum(one["outcome"] == "right" for one in graded) / len(graded)
    control = (
        "control:floor"
        if is_floor(arm.attacker)
        else "control:ceiling"
        if arm.defense == "none"
        else "defended"
    )
    seconds = sum(_done(store, stage)["seconds"] for stage in (arm.answers, arm.student, arm.exam))
    adaptive = not is_floor(arm.attacker) and learning(arm.attacker).adaptive
    found = (collect.prepared(arm, store) or {}).get("matched")
    columns = comparison(
        task=arm.task,
        defense=arm.defense,
        attacker=arm.attacker,
        student=plan.study.student.name,
        budget=arm.budget,
        strength=found["value"] if found else strength(arm.defense),
        adaptive=adaptive,
    )
    inputs = {
        stage.kind: {"key": stage.key, "files": _done(store, stage)["files"]}
        for stage in arm.student.walk()
    }
    meta = {"meta.schema_version": 1, "meta.runkey": arm.exam.key, "meta.code": code()}
    return Run(
        id=f"distill-{digest(canonical([group, list(columns.values()), arm.seed]))[:12]}",
        name=f"{arm.defense}/{arm.attacker}/{arm.task}/s{arm.seed}",
        group=group,
        job="distill",
        tags=(control,),
        config=whole | {"seed": arm.seed, "inputs": inputs} | columns | meta,
        curves={"distill/loss": curve},
        summary={
            "result/student_acc": right,
            "result/valid": not training.diverged,
            "result/n_items": len(graded),
        }
        | {
            f"result/{ours}": row[theirs]
            for ours, theirs in (
                ("floor_acc", "floor"),
                ("ceiling_acc", "undefended"),
                ("transfer", "transfer"),
                ("teacher_acc_clean", "teacher_clean"),
                ("teacher_acc_defended", "teacher_defended"),
            )
        }
        | {
            "result/utility_cost": row["teacher_clean"] - row["teacher_defended"],
            "cost/queries": len(answers),
            "cost/tokens": training.tokens,
            "cost/wall_s": seconds,
        },
        tables={
            "samples": (
                ["prompt", "teacher_clean", "teacher_defended", "student", "outcome"],
                samples,
            )
        },
        files=(store.folder(arm.exam.kind, arm.exam.key) / "grades.parquet",),
    )


def strength(defense: str) -> float:
    """A defence's strength as a number: 0 for none, its first knob where that is set to a number,
    else 1 (on).
    """
    if defense in ("none", IDENTITY):
        return 0.0
    chosen = parse_defense(defense)
    knobs = [
        (one, part.knob)
        for one, part in zip(chosen.parts, chosen.chain.parts, strict=True)
        if part.knob
    ]
    values = [getattr(one.settings, knob.name) for one, knob in knobs]
    return next((float(value) for value in values if value is not None), 1.0)
