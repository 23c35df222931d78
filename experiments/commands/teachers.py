"""The command that shows what a study's defences do to the teacher's own answers: teachers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.table import Table

from experiments.analysis.released import ReleasedText, released_texts
from experiments.commands.studies import print_whole
from experiments.launch import local
from experiments.planning import plan as planning
from experiments.planning import preflight, servers
from experiments.report.terminal import two
from experiments.results import collect, grades_file
from experiments.results.plain import Plain
from experiments.settings import schema as settings
from experiments.settings.overrides import check_once
from experiments.store import Store, writable


def teachers(
    *,
    study: str,
    overrides: list[str],
    env: bool,
    runs: Path,
    workers: int,
    threads: int,
    keep_old: bool,
) -> None:
    """Give the teacher its exam behind each of a study's defences, and print what became of its
    answers. No student is trained.
    """
    check_once(overrides)
    whole = planning.make(settings.load_named(study, overrides, env))
    planned, store = replace(whole, arms=[], leaks=[], plateaus=[], marks=[]), Store(runs / "store")
    preflight.check(planned.study)
    servers.check_servers(planned, store)
    writable(store.root)
    console = Plain(stderr=True)
    for fact in planned.facts:
        console.print(f"note: {fact}", soft_wrap=True)
    local.run(planned, store.root, workers, console, threads, keep_old)
    grades = grades_file.read(collect.collect(planned, store))
    rows = released_texts(grades, planned.study.measure.alpha)
    for task in dict.fromkeys(row.task for row in rows):
        print_whole(_table([row for row in rows if row.task == task], task.partition("(")[0]))


def _table(rows: Sequence[ReleasedText], title: str) -> Table:
    table = Table(title=title)
    table.add_column("defence")
    for name in ("changed", "final kept", "right", "unparsed", "bytes", "told apart [95 %]"):
        table.add_column(name, justify="right")
    for row in rows:
        shares = (row.changed, row.final_kept, row.right, row.unparsed)
        table.add_row(row.defense, *map(two, shares), f"{row.bytes:.0f}", _told_apart(row))
    return table


def _told_apart(row: ReleasedText) -> str:
    """AUC of a classifier with examples of both."""
    auc = row.detectability
    return "-" if auc is None else f"{two(auc.value)} [{two(auc.lo)}, {two(auc.hi)}]"
