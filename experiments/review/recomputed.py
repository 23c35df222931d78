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
from experiments.review.drawn import PLOT, is_plot
from experiments.review.form import Run

PLACE = b"<svg/>"
"""What stands for a plot where words are compared."""
ANY = "any notes"
ANY_NOTES = b"<ul><li>%s</li></ul>" % ANY.encode()
NOTES = re.compile(rb"(<ul>(<li>[^<]+</li>)+</ul>)?")
"""What the report may have in place of `ANY_NOTES`: words without markup."""


def aggregates(run: Run) -> list[Check]:
    """Every number of measures.json and results.json, computed again from the grades
    and the arms.
    """
    claim = "every aggregate follows from the grades"

    def compared() -> list[Check]:
        measures = summary.measure(
            run.study, run.grades, run.arms, run.outcomes, run.manifest.old, run.marked
        )
        shown = read.parsed(run.home, "card.json")
        return [
            follows(f"{claim}: measures.json", measures, read.parsed(run.home, "measures.json")),
            follows(f"{claim}: results.json", measures.rows, read.parsed(run.home, "results.json")),
            follows(f"{claim}: card.json", measures.cases, shown.get("results")),
        ]

    return guarded(claim, compared)


def carded(run: Run, planned: Plan) -> Check:
    """The card's fields from measures, manifest and seal.

    Args:
        run: as it was read.
        planned: the plan of its settings.
    """
    deviations = preregistration.deviations(planned, run.home)
    fields = card.card(planned, run.measures, run.manifest, run.seal, deviations)
    return follows("card.json follows from the run", fields, read.parsed(run.home, "card.json"))


def written(run: Run) -> Check:
    """The card's page from its fields.

    Args:
        run: as it was read.
    """
    page = card_page.markdown(run.card).encode()
    return _text("card.md is card.json, written out", page, read.content(run.home, "card.md"))


def pages(run: Run, planned: Plan | None) -> list[Check]:
    """The report and the files of plots, letter for letter, and the plots as far as the same
    library draws them.

    Args:
        run: as it was read.
        planned: the plan of its settings; without one any notes are taken.
    """
    notes = planned.notes if planned else [ANY]
    shown_beside = exhibits(run.grades, notes, run.manifest.fingerprint)
    made = html.pages(run.measures, shown_beside)
    shown = [name for name in run.manifest.files if name in made or name in SOMETIMES]
    stored = {name: read.content(run.home, name) for name in shown}
    expected = {*made, *(["outcomes.json"] if run.measures.campaigns else [])}
    expected |= {"marks.json"} if run.measures.marks else set()
    if stored.keys() != expected:
        names = (", ".join(sorted(some)) for some in (expected, stored))
        return [Check("the plots follow from the run", "FAIL", *names)]
    words = [
        _page(name, PLOT.sub(PLACE, page), PLOT.sub(PLACE, stored[name]))
        for name, page in made.items()
    ]
    return [*words, _drawn(run.manifest, made, stored)]


def _page(name: str, expected: bytes, got: bytes) -> Check:
    """Whether a page is what it should be, up to its notes where these are not known."""
    claim, (before, unknown, after) = f"{name} follows from the run", expected.partition(ANY_NOTES)
    if not unknown:
        return _text(claim, expected, got)
    notes = got[len(before) : len(got) - len(after)]
    if NOTES.fullmatch(notes):
        expected = before + notes + after
    return _text(f"{name} follows, but for its notes", expected, got)


def _drawn(manifest: Manifest, made: Mapping[str, bytes], stored: Mapping[str, bytes]) -> Check:
    """Plots that differ: a FAIL unless another library or system drew them, and they hold shapes
    alone.
    """
    claim = "the plots follow from the run"
    ours, theirs = ({name: PLOT.findall(files[name]) for name in made} for files in (made, stored))
    other = [name for name in made if ours[name] != theirs[name]]
    if not other:
        return Check(claim, "PASS", "the same", "the same")
    odd = [
        name
        for name in other
        if len(ours[name]) != len(theirs[name]) or not all(map(is_plot, theirs[name]))
    ]
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

    Args:
        claim: that is checked.
        computed: from the grades.
        stored: what a JSON file holds.
    """
    wrong = next(unlike(jsonable(computed), stored), None)
    word: Word = "FAIL" if wrong else "PASS"
    return Check(claim, word, "the same", difference(wrong), "1e-9 relative")


def unlike(computed: Any, stored: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The leaves in which two values of JSON differ, also in kind, or in what is null and what is
    not there.

    Args:
        computed: of anything that JSON holds.
        stored: of anything that JSON holds.
        name: of the place that both have; empty at the top.

    Returns:
        Names of the leaves, and both values.
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
    # To Python 1, 1.0 and True are equal; to those who read the file they are not.
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)
    return bool(a == b)


def difference(wrong: tuple[str, Any, Any] | None) -> str:
    """A leaf in which two values differ, in words.

    Args:
        wrong: the leaf's name, what was computed, and what is stored; None where nothing differs.
    """
    return (
        short(f"{wrong[0]} is {wrong[1]!r}, the file says {wrong[2]!r}", 200)
        if wrong
        else "the same"
    )
