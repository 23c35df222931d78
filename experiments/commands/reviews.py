"""Commands that take a run or an export: verify, reproduce, export, diff."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from distill.completions import BadInput
from experiments.commands.studies import print_whole
from experiments.launch import local
from experiments.planning import plan as planning
from experiments.report.terminal import interval, points
from experiments.results import archive, read
from experiments.results.plain import Plain, printable
from experiments.review import Check, form, handed, rerun, sides, worst
from experiments.review import sign as signing
from experiments.review import verify as checks
from experiments.review.sides import Difference
from experiments.settings.catalog import find_plugin
from experiments.store import Store, writable

STORE = "store"  # beside runs
WIDEST = 180  # letters of a table of checks


def verify(*, run: str, runs: Path, private: list[str], allowed_signers: Path | None) -> int:
    """Check a run without compute; 1 where a check fails."""
    path = _run_path(runs, run)
    with archive.open_run(path) as home:
        _check_plugins(home)
        handed.know(home, _store_folder(path), private)
        signed = signing.checked(home, allowed_signers) if allowed_signers else None
        code = _print_checks(checks.verify(home, _store_beside(path), signed))
        print(printable(checks.about(home)))
        print(printable(checks.shows(home, bool(signed and signed.word == "PASS"))))
    return code


def reproduce(
    *,
    run: str,
    runs: Path,
    tier: str,
    into: Path | None,
    workers: int,
    threads: int,
    private: list[str],
) -> int:
    """Run a run again in a new folder and compare; 1 where a check fails.

    Raises:
        BadInput: the run cannot be read, or the new folder is that of the results.
    """
    path = _run_path(runs, run)
    with archive.open_run(path) as home:
        _check_plugins(home)
        handed.know(home, _store_folder(path), private)
        verified = checks.verify(home, None)
        if any(check.word == "FAIL" for check in verified):
            return _print_checks(verified)
        study = form.study_of(home)
        study = rerun.smoke(study) if tier == "smoke" else study
        into = into or runs / "reproduced" / f"{study.name}-{tier}"
        if into.resolve() == runs.resolve():
            raise BadInput(
                f"reproduce: --into must be another folder than the results' own, got {into}"
            )
        handed.check_known(study)
        store = writable(into) / STORE
        local.run(planning.make(study), store, workers, Plain(stderr=True), threads)
        compared = rerun.compare(home, study, Store(store), tier, threads)
        return _print_checks(verified + compared)


def export(*, run: str, runs: Path, to: Path | None, sign: Path | None) -> None:
    """Verify a run and pack it.

    Raises:
        BadInput: the run cannot be read or does not verify, or there is no folder to write to.
    """
    path = _run_path(runs, run)
    with archive.open_run(path) as home:
        _check_plugins(home)
        handed.know(home, _store_folder(path), [])
        failed = [c for c in checks.verify(home, _store_beside(path)) if c.word == "FAIL"]
        if failed:
            raise BadInput(
                f"export: {path} does not verify, {len(failed)} FAIL, first {failed[0].claim!r} "
                f"({failed[0].got}); `distill-resist verify` shows all"
            )
        target = to or Path(f"{path.stem if path.is_file() else path.name}.zip")
        if not target.absolute().parent.is_dir():
            raise BadInput(f"export: --to {target}: there is no folder {target.parent}")
        names = archive.pack(home, target, signing.signature(home, sign) if sign else None)
    print(printable(f"{target.resolve()}: {', '.join(names)}"))


def diff(*, run: str, other: str, runs: Path) -> None:
    """Print the settings and results in which two runs differ."""
    first, second = _run_path(runs, run), _run_path(runs, other)
    with archive.open_run(first) as a, archive.open_run(second) as b:
        difference = sides.difference(a, b)
    console = Plain()
    for setting, before, after in difference.settings:
        console.print(printable(f"{setting}: {before!r} | {after!r}"), soft_wrap=True)
    console.print("settings are the same" if not difference.settings else "")
    print_whole(_side_by_side(difference, f"{run} | {other}"))


def _check_plugins(home: Path) -> None:
    """BadInput where a run used plugins that were not handed over; nobody else's code is run."""
    try:
        named = read.manifest_of(home).plugins
    except BadInput:
        return  # which the checks report
    missing = [name for name in named if find_plugin(*name.split("/", 1)) is None]
    if missing:
        raise BadInput(
            f"this run needs plugins that are not here: {', '.join(missing)} (SHA-256 of the "
            f"first {named[missing[0]][:16]}...); --plugins DIR hands them over, and runs them"
        )


def _run_path(runs: Path, name: str) -> Path:
    """A run by its path, or by its study's name below the folder of results."""
    path = Path(name)
    return path if path.exists() else runs / name


def _store_folder(path: Path) -> Path | None:
    """The store in the folder of results that a run's folder lies in; an archive has none, whatever
    lies beside it or beside where it is unpacked.
    """
    folder = path.absolute().parent / STORE
    return folder if path.is_dir() and folder.is_dir() else None


def _store_beside(path: Path) -> Store | None:
    folder = _store_folder(path)
    return Store(folder) if folder else None


def _print_checks(results: Sequence[Check]) -> int:
    """Print checks as a table and the worst of their words; exit code 1 if one failed."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1))
    for name in ("", "claim", "expected", "got", "tolerance"):
        table.add_column(name, overflow="fold")
    for check in results:
        table.add_row(check.word, check.claim, check.expected, check.got, check.tolerance)
    words = [check.word for check in results]
    counts = ", ".join(f"{words.count(w)} {w}" for w in ("PASS", "FAIL", "INCONCLUSIVE"))
    word = worst([*results])
    print_whole(table, WIDEST).print(f"{word}: {counts}")
    return int(word == "FAIL")


def _side_by_side(difference: Difference, title: str) -> Table:
    heads = ("arm", "accuracy", "", "T", "", "verdict", "")
    table = Table(*heads, box=SIMPLE_HEAD, title=title)
    for name, *rows in difference.results:
        cells = [
            (points(row.defended), interval(row), row.verdict or "-") if row else ("-",) * 3
            for row in rows
        ]
        table.add_row(name, *(cell[i] for i in range(3) for cell in cells))
    return table
