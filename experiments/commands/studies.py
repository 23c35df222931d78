"""Commands that take a study: run, plan, show, report."""

from __future__ import annotations

import json as json_format
import sys
from collections import Counter
from pathlib import Path

from rich.table import Table

from distill.completions import BadInput
from experiments import preregistration
from experiments.claims import claim
from experiments.launch import estimate, local
from experiments.planning import plan as planning
from experiments.planning import preflight, servers
from experiments.planning.plan import Due, Plan
from experiments.report import campaign_section, marks_section, matrix, terminal
from experiments.results.plain import Plain, printable
from experiments.results.schema.measures import Measures
from experiments.results.table import jsonable
from experiments.settings import catalog
from experiments.settings import schema as settings
from experiments.settings.compose import study_file
from experiments.settings.overrides import check_once
from experiments.store import Store, writable


def run(
    *,
    study: str,
    overrides: list[str],
    env: bool,
    runs: Path,
    workers: int,
    threads: int,
    keep_old: bool,
    json: bool,
) -> None:
    """Run a study, or continue it, and report it."""
    planned, store = _plan(study, overrides, env), Store(runs / "store")
    preflight.check(planned.study)
    servers.check_servers(planned, store)
    console = Plain(stderr=True)
    home = runs / planned.study.name
    claim(planned, store, study_file(study), overrides)
    preregistration.freeze(planned, store, writable(home))
    if overrides:
        console.print(f"note: results go to {home}", soft_wrap=True)
    _print_notes(planned, console)
    local.run(planned, store.root, workers, console, threads, keep_old)
    _report(planned, runs, keep_old=keep_old, json=json)


def plan(
    *,
    study: str,
    overrides: list[str],
    env: bool,
    runs: Path,
    workers: int,
    threads: int,
    keep_old: bool,
) -> None:
    """Print what a study would do and about how long it would take."""
    planned, store = _plan(study, overrides, env), Store(runs / "store")
    preflight.check(planned.study)
    servers.check_servers(planned, store)
    due = planned.due(store, threads, keep_old)
    console = Plain()
    console.print(
        f"{planned.study.name}: {len(planned.arms)} arms, {len(planned.stages)} stages, "
        f"{len(due.stages)} to do"
    )
    for line in _stage_counts(planned, due, keep_old):
        console.print(f"  {line}")
    for line in due.why:
        console.print(f"  old: {line}", soft_wrap=True)
    _print_notes(planned, console)
    if due.stages:
        expected = estimate.measure(store, planned.stages)
        console.print(f"  {expected.words(due.stages, workers)}", soft_wrap=True)


def show(*, study: str | None, overrides: list[str], env: bool, runs: Path, schema: bool) -> None:
    """Print a study's resolved settings, or the JSON schema of all settings.

    Raises:
        BadInput: there is no such study, or a setting is out of its range.
    """
    if schema:
        return print(json_format.dumps(settings.schema(), indent=1))
    if study is None:
        raise BadInput(f"show: which study? (there are: {', '.join(catalog.names('study'))})")
    check_once(overrides)
    print(settings.load_named(study, overrides, env).model_dump_json(indent=2))


def report(
    *,
    study: str,
    overrides: list[str],
    env: bool,
    runs: Path,
    keep_old: bool,
    json: bool,
    markdown: bool,
    partial: bool,
) -> None:
    """Print and write the report of a finished study."""
    planned = _plan(study, overrides, env)
    _report(planned, runs, keep_old=keep_old, json=json, markdown=markdown, partial=partial)


def _plan(study: str, overrides: list[str], env: bool) -> Plan:
    check_once(overrides)
    return planning.make(settings.load_named(study, overrides, env))


def _stage_counts(planned: Plan, due: Due, keep_old: bool) -> list[str]:
    """A line a kind of stage: how many there are, are to be made, and are old."""
    todo = Counter(stage.kind for stage in due.stages)
    old = Counter(stage.kind for stage in due.old)
    planned_kinds = Counter(stage.kind for stage in planned.stages)
    what = "old ones kept" if keep_old else "of them old"
    return [
        f"{kind}: {count}, {todo[kind]} to do" + (f", {old[kind]} {what}" if old[kind] else "")
        for kind, count in planned_kinds.items()
    ]


def _print_notes(planned: Plan, console: Plain) -> None:
    for note in [*planned.facts, *planned.notes]:
        console.print(f"note: {note}", soft_wrap=True)


def _report(
    planned: Plan,
    runs: Path,
    *,
    keep_old: bool,
    json: bool,
    markdown: bool = False,
    partial: bool = False,
) -> None:
    """Write all files of a run, send it to wandb if the study says so, and print its table."""
    # Statistics are a second to import, and `plan` has no use for them.
    from experiments import run_folder, tracking, wandb_runs

    store, home = Store(runs / "store"), runs / planned.study.name
    due = planned.due(store, keep_old=keep_old)
    _check_reportable(planned, due, keep_old, partial)
    measures = run_folder.write(planned, store, writable(home), due.why)
    if planned.study.tracking.mode != "off":
        sent = wandb_runs.runs(planned, store, measures, home)
        tracking.replay(sent, planned.study.tracking, home, _complain)
    if json:
        print(json_format.dumps(jsonable(measures.rows)))
    elif markdown:
        print(_markdown(measures), end="")
    else:
        _print_tables(measures, due, home)


def _check_reportable(planned: Plan, due: Due, keep_old: bool, partial: bool) -> None:
    total = len(planned.stages)
    if due.old and not keep_old:
        raise BadInput(
            f"report: {len(due.old)} of {total} results are old: {'; '.join(due.why)}; "
            "`distill-resist run` makes them again, --keep-old uses them and marks every table"
        )
    if due.stages and not partial:
        raise BadInput(
            f"report: {len(due.stages)} of {total} stages are not done; "
            "`distill-resist run` them, or see what there is with --partial"
        )


def _markdown(measures: Measures) -> str:
    campaigns = campaign_section.markdown(measures.campaigns) if measures.campaigns else ""
    return terminal.markdown(measures) + matrix.markdown(measures) + campaigns


def _print_tables(measures: Measures, due: Due, home: Path) -> None:
    title = measures.study.name + (" (OLD RESULTS)" if due.old else "")
    console = print_whole(terminal.table(measures.rows, title))
    campaigns = measures.campaigns
    lines = [
        *([terminal.old_results(due.why)] if due.old else []),
        *(campaign_section.lines(campaigns) if campaigns else []),
        *marks_section.lines(measures.marks),
        *terminal.flags(measures.flags),
        f"card: {(home / 'card.md').resolve()}",
        f"report: {(home / 'report.html').resolve()}",
    ]
    for line in lines:
        console.print(line, soft_wrap=True)


def print_whole(table: Table, most: int | None = None) -> Plain:
    """Print a table and return the console; a narrow terminal wraps its lines instead of cutting
    them off, which would say nothing.
    """
    width = Plain(width=400).measure(table).maximum
    console = Plain(width=max(Plain().width, min(width, most or width)))
    console.print(table)
    return console


def _complain(line: str) -> None:
    print(f"distill-resist: {printable(line)}", file=sys.stderr)
