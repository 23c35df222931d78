"""What follows from a run's grades, arms and manifest, computed again: aggregates, card, report and
plots.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from experiments import environment, preregistration, provenance
from experiments.analysis import card, summary
from experiments.analysis.exhibits import exhibits
from experiments.planning.plan import Plan
from experiments.report import card as card_page
from experiments.report import html
from experiments.results import read
from experiments.results.archive import SOMETIMES
from experiments.results.manifest import Manifest
from experiments.results.table import Table, jsonable
from experiments.review import Check, Word, guarded, short
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
        measures = summary.measure(run.study, run.grades, run.arms, run.outcomes, run.manifest.old)
        shown = read.parsed(run.home, "card.json")
        return [
            follows(f"{claim}: measures.json", measures, read.parsed(run.home, "measures.json")),
            follows(f"{claim}: results.json", measures.rows, read.parsed(run.home, "results.json")),
            follows(f"{claim}: card.json", measures.cases, shown.get("results")),
        ]

    return guarded(claim, compared)


def carded(run: Run, planned: Plan) -> list[Check]:
    """The card's fields from measures, manifest and seal; its page from its fields."""
    deviations = preregistration.deviations(planned, run.home)
    fields = card.card(planned, run.measures, run.manifest, run.seal, deviations)
    page = card_page.markdown(run.card).encode()
    return [
        follows("card.json follows from the run", fields, read.parsed(run.home, "card.json")),
        _text("card.md is card.json, written out", page, read.content(run.home, "card.md")),
    ]


def pages(run: Run, planned: Plan) -> list[Check]:
    """The report, letter for letter, and its plots as far as the same library draws them."""
    shown_beside = exhibits(run.grades, planned.notes, run.manifest.fingerprint)
    made = html.pages(run.measures, shown_beside)
    shown = [name for name in run.manifest.files if name in made or name in SOMETIMES]
    stored = {name: read.content(run.home, name) for name in shown}
    ours, theirs = (_plots(files) for files in (made, stored))
    expected = {*made, *(["outcomes.json"] if run.measures.campaigns else [])}
    counts = [
        {name: len(plots[name]) for name in plots if name in made} for plots in (ours, theirs)
    ]
    if stored.keys() != expected or counts[0] != counts[1]:
        names = (", ".join(sorted(some)) for some in (expected, stored))
        return [Check("the plots follow from the run", "FAIL", *names)]
    page, text = (PLOT.sub(b"", files["report.html"]) for files in (made, stored))
    other = [name for name in made if ours[name] != theirs[name]]
    odd = [name for name in other if any(map(ODD.search, theirs[name]))]
    return [
        _text("report.html follows from the run", page, text),
        _drawn(run.manifest, other, odd),
    ]


def _plots(files: Mapping[str, bytes]) -> dict[str, list[bytes]]:
    return {name: PLOT.findall(data) for name, data in files.items()}


def _drawn(manifest: Manifest, other: list[str], odd: list[str]) -> Check:
    """Plots that differ: a FAIL unless another library or system drew them, and they hold plots
    alone.
    """
    claim = "the plots follow from the run"
    if not other:
        return Check(claim, "PASS", "the same", "the same")
    got = f"{provenance.listed(odd or other)} differ"
    same_drawer = f"matplotlib=={version('matplotlib')}" in manifest.lock
    if odd or same_drawer and environment.machine().platform == manifest.machine.platform:
        return Check(claim, "FAIL", "the same", got)
    got += ", as another matplotlib or system drew them; do not trust them"
    return Check(claim, "INCONCLUSIVE", "the same", got)


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


def follows(claim: str, computed: Table | Sequence[Table], stored: Any) -> Check:
    """Whether a file holds what was computed again, up to what another linear algebra library adds
    up otherwise.
    """
    wrong = next(unlike(jsonable(computed), stored), None)
    word: Word = "FAIL" if wrong else "PASS"
    return Check(claim, word, "the same", difference(wrong), "1e-9 relative")


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


def difference(wrong: tuple[str, Any, Any] | None) -> str:
    """A leaf in which two values differ, in words."""
    return (
        short(f"{wrong[0]} is {wrong[1]!r}, the file says {wrong[2]!r}", 200)
        if wrong
        else "the same"
    )
