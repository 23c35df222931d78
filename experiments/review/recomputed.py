"""What follows from a run's grades, arms and manifest, computed again: aggregates, card, report and
plots.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

from experiments import preregistration, provenance, run_folder
from experiments.planning.plan import Plan
from experiments.report import card, files
from experiments.review import Check, Word, form, guarded, short
from experiments.review.archive import SOMETIMES
from experiments.review.form import Run

PLOT = re.compile(rb"<svg.*?</svg>", re.DOTALL)
DRAWN = rb"svg|metadata|rdf:\w+|cc:\w+|dc:\w+|defs|style|g|path|use|clipPath|rect|image"
ODD = re.compile(
    rb"<(?!/?(?:" + DRAWN + rb")\b|!--)|[\s\"']on\w+\s*=|href=[\"'](?!#)", re.IGNORECASE
)
"""What no plot of ours holds: other elements, handlers, links to elsewhere."""


def aggregates(run: Run) -> list[Check]:
    """Every number of measures.json and results.json, computed again from the grades
    and the arms.
    """
    claim = "every aggregate follows from the grades"

    def compared() -> list[Check]:
        held = files.tables(run.study, run.grades, run.arms, run.outcomes, run.manifest["old"])
        return [
            follows(f"{claim}: measures.json", held, run.measures),
            follows(f"{claim}: results.json", held["rows"], run.results),
            follows(f"{claim}: card.json", held["cases"], run.card.get("results")),
        ]

    return guarded(claim, compared)


def carded(run: Run, planned: Plan) -> list[Check]:
    """The card's fields from measures, manifest and seal; its page from its fields."""
    changes = preregistration.deviations(planned, run.home)
    fields = files.carded(planned, run.measures, run.manifest, run.seal, changes)
    page = card.markdown(run.card).encode()
    return [
        follows("card.json follows from the run", fields, run.card),
        _text("card.md is card.json, written out", page, form.content(run.home, "card.md")),
    ]


def pages(run: Run, planned: Plan) -> list[Check]:
    """The report, letter for letter, and its plots as far as the same library draws them."""
    made = files.pages(planned, run.grades, run.measures)
    there = {
        name: form.content(run.home, name)
        for name in run.manifest["files"]
        if name in made or name in SOMETIMES
    }
    expected = {*made, *(["outcomes.json"] if run.measures.get("campaigns") else [])}
    ours, theirs = (
        {name: PLOT.findall(data) for name, data in held.items()} for held in (made, there)
    )
    counts = [
        {name: len(plots) for name, plots in held.items() if name in made}
        for held in (ours, theirs)
    ]
    if there.keys() != expected or counts[0] != counts[1]:
        return [
            Check(
                "the plots follow from the run",
                "FAIL",
                ", ".join(sorted(expected)),
                ", ".join(sorted(there)),
            )
        ]
    page, told = (PLOT.sub(b"", held["report.html"]) for held in (made, there))
    other = [name for name in made if ours[name] != theirs[name]]
    odd = [name for name in other if any(map(ODD.search, theirs[name]))]
    drawer = f"matplotlib=={version('matplotlib')}" in run.manifest["lock"]
    drawer = drawer and run_folder.machine()["platform"] == run.manifest["machine"]["platform"]
    word: Word = "PASS" if not other else "FAIL" if drawer or odd else "INCONCLUSIVE"
    got = f"{provenance.listed(odd or other)} differ" if other else "the same"
    got += ", as another matplotlib or system drew them; do not trust them" * (
        word == "INCONCLUSIVE"
    )
    return [
        _text("report.html follows from the run", page, told),
        Check("the plots follow from the run", word, "the same", got),
    ]


def _text(claim: str, expected: bytes, got: bytes) -> Check:
    if expected == got:
        return Check(claim, "PASS", "the same", "the same")
    lines = zip(
        expected.decode().splitlines(), got.decode(errors="replace").splitlines(), strict=False
    )
    number, line = next(
        ((i, b) for i, (a, b) in enumerate(lines, 1) if a != b), (0, "it is cut off, or goes on")
    )
    return Check(claim, "FAIL", "the same", short(f"line {number}: {line.strip()}", 160))


def follows(claim: str, computed: Any, stored: Any) -> Check:
    """Whether a file holds what was computed again, up to what another linear algebra library adds
    up otherwise.
    """
    wrong = next(unlike(computed, stored), None)
    return Check(claim, "FAIL" if wrong else "PASS", "the same", said(wrong), "1e-9 relative")


def unlike(computed: Any, stored: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The leaves in which two values of JSON differ, also in kind, or in what is null and what is
    not there.
    """
    if isinstance(computed, Mapping) and isinstance(stored, Mapping):
        for key in dict.fromkeys([*computed, *stored]):
            at = f"{name}.{key}" if name else str(key)
            if key in computed and key in stored:
                yield from unlike(computed[key], stored[key], at)
            else:
                yield at, computed.get(key, "nothing"), stored.get(key, "nothing")
    elif isinstance(computed, list) and isinstance(stored, list) and len(computed) == len(stored):
        for i, (a, b) in enumerate(zip(computed, stored, strict=True)):
            yield from unlike(a, b, f"{name}.{i}" if name else str(i))
    elif not _close(computed, stored):
        yield name, computed, stored


def _close(a: Any, b: Any) -> bool:
    if (
        isinstance(a, bool)
        or isinstance(b, bool)
        or not (isinstance(a, int | float) and isinstance(b, int | float))
    ):
        return type(a) is type(b) and bool(a == b)
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)


def said(wrong: tuple[str, Any, Any] | None) -> str:
    return (
        short(f"{wrong[0]} is {wrong[1]!r}, the file says {wrong[2]!r}", 200)
        if wrong
        else "the same"
    )
