"""Pre-registration: the analysis is written down and hashed before the first report student is
scored.

`analysis.yaml` is never overwritten. What a later run does otherwise is a deviation, and is listed
on the card.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from distill.completions import BadInput, digest, write_bytes
from experiments.planning.arms import IDENTITY, SHUFFLED, choices
from experiments.planning.plan import Plan
from experiments.results.manifest import Seal
from experiments.results.names import ANALYSIS, MANIFEST, SEAL
from experiments.results.table import jsonable
from experiments.settings.reading import read
from experiments.settings.schema import Study
from experiments.store import Store

ESTIMANDS = {
    "uplift": "D - F, points",
    "harm": "U - D, points",
    "transfer": "T = (D - F) / (U - F), Fieller set from the two-way (seed x item) "
    "variance, paired by seed where arms list the same seeds",
    "worst_case": "T of the attack chosen on selection_seeds and selection items; "
    "LCB: least over ceilings; "
    "UCB: largest of all attacks over the ceilings that selection cannot rule out",
    "utility": "Te_d - Te, non-inferior above -utility_margin by the paired score interval",
}
RULES = {
    "multiplicity": "Holm over all defences and tasks at their largest budget that can "
    "have the word, for effective and for ineffective apart; seed variances moderated over the "
    "same; alpha shared by the looks",
    "effective": (
        "also if as many seeds reach U as all seeds seen could miss: (1 - p)^S <= alpha / 2"
    ),
}
EXCLUSIONS = (
    "none: a diverged student counts as trained; unparsed answers count as wrong and are told apart"
)


def analysis(plan: Plan) -> dict[str, Any]:
    """What is estimated, how, on what, and what would be left out: a function of the
    study alone.
    """
    study = plan.study
    return {
        "study": study.name,
        "question": study.question,
        "estimands": ESTIMANDS,
        "floor": (
            f"the best of {', '.join(choices(study))} that exist, chosen on the selection split"
        ),
        "controls": [IDENTITY, SHUFFLED],
        "primary_match": "exchanges",
        "thresholds": study.measure.model_dump(
            mode="json", exclude={"prices", "draws", "items", "selection_items"}
        ),
        **RULES,
        **_samples(study),
        "training": "all attacks of a task train for as many steps as the longest",
        **_settings(study),
        "exclusions": EXCLUSIONS,
    }


def _samples(study: Study) -> dict[str, Any]:
    """The exams and the students, by what they are for."""
    tasks = dict.fromkeys(task for block in study.blocks for task in block.tasks)
    return {
        "items": {"report": study.measure.items, "selection": study.measure.selection_items},
        "seeds": {
            "report": study.seeds,
            "selection": study.selection_seeds,
            "floors and undefended": {task: study.baseline(task) for task in tasks},
        },
    }


def _settings(study: Study) -> dict[str, Any]:
    """How teachers and students are made, and which arms there are."""
    return {
        "search": study.search.model_dump(mode="json"),
        "own": study.own.model_dump(mode="json"),
        "blocks": [block.model_dump(mode="json") for block in study.blocks],
        "recipes": {
            "teacher": study.teacher.model_dump(mode="json"),
            "student": study.student.model_dump(mode="json"),
        },
    }


class _Plain(yaml.SafeDumper):  # type: ignore[misc]
    """Writes what is there twice twice, as an alias is hard to read and can be made a bomb."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def spelled(frozen: Any) -> bytes:
    """An analysis as `analysis.yaml` has it.

    Args:
        frozen: what YAML can hold.
    """
    return str(yaml.dump(frozen, Dumper=_Plain, sort_keys=False, width=120)).encode()


def freeze(plan: Plan, store: Store, home: Path) -> None:
    """Write the analysis unless one is there; say how many report exams had been scored by then.

    Args:
        plan: of a study.
        store: with what was already scored.
        home: the run's folder.

    Raises:
        BadInput: the seal is not the one that the last run left.
    """
    if (home / ANALYSIS).is_file():
        return _check_seal(home)
    (home / MANIFEST).unlink(missing_ok=True)  # it names the seal of before
    text = spelled(analysis(plan))
    reported = [arm for arm in plan.arms if arm.split == "report"]
    scored = sum(store.has(arm.exam.kind, arm.exam.key) for arm in reported)
    seal = Seal(sha256=digest(text), scored_before=scored, of=len(reported))
    write_bytes(home / SEAL, json.dumps(jsonable(seal)).encode())
    write_bytes(home / ANALYSIS, text)


def _check_seal(home: Path) -> None:
    """A seal says how much had been scored, which nothing else does: it must be the one that a
    finished run noted.
    """
    try:
        noted = json.loads((home / MANIFEST).read_bytes())["files"][SEAL]
        seal = (home / SEAL).read_bytes()
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return  # no run was finished, or a file is damaged, which whoever reads it says
    if noted != digest(seal):
        raise BadInput(
            f"{home / SEAL}: is not the one that {MANIFEST} names, one of them was altered; put it "
            f"back (without {MANIFEST} the seal is taken as it is)"
        )


def read_seal(home: Path) -> Seal:
    """The hash of the frozen analysis and how much had been scored before it.

    Args:
        home: the run's folder.

    Raises:
        BadInput: if a file is missing or damaged, or the analysis was changed since.
    """
    try:
        seal = Seal.model_validate_json((home / SEAL).read_bytes())
        text = (home / ANALYSIS).read_bytes()
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{home / ANALYSIS}: the frozen analysis is missing or damaged "
            f"({' '.join(str(error).split())})"
        ) from error
    if digest(text) != seal.sha256:
        raise BadInput(
            f"{home / ANALYSIS}: was changed after it was frozen (its SHA-256 is "
            f"{digest(text)[:12]}, the seal says {seal.sha256[:12]})"
        )
    return seal


def deviations(plan: Plan, home: Path) -> list[str]:
    """What this study does otherwise than its frozen analysis, one line a setting.

    Args:
        plan: of a study.
        home: the run's folder, with its analysis.

    Returns:
        Lines, none where nothing differs.

    Raises:
        BadInput: the analysis cannot be read.
    """
    frozen, now = read(home / ANALYSIS), json.loads(json.dumps(analysis(plan)))
    return [
        f"{name}: {before!r} was registered, {after!r} was done"
        for name, before, after in changed(frozen, now)
    ]


def changed(before: Any, after: Any, name: str = "") -> list[tuple[str, Any, Any]]:
    """The leaves in which two nested values differ, by dotted name; a key that only one has is None
    in the other.

    Args:
        before: of anything that JSON holds.
        after: of anything that JSON holds.
        name: of the place that both have; empty at the top.
    """
    if isinstance(before, dict) and isinstance(after, dict):
        keys = dict.fromkeys([*before, *after])
        return [
            one
            for k in keys
            for one in changed(before.get(k), after.get(k), f"{name}.{k}" if name else str(k))
        ]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return [one for i, (a, b) in pairs for one in changed(a, b, f"{name}.{i}")]
    return [] if before == after else [(name, before, after)]
