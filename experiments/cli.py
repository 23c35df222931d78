"""The command line of distill-resist; nothing heavy is imported before parsing."""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
from pathlib import Path
from typing import Any

VERBS = ("run", "plan", "list", "show", "report", "verify", "reproduce", "export", "diff", "doctor")

PROCESSES = 1024  # at most, of one command, and threads of each


def main(argv: list[str] | None = None) -> int:
    """Parse, dispatch, and turn the user's mistakes into one line and exit code 2;
    Ctrl-C into 130.
    """
    _prepare_output()
    try:
        code = _run(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        _say("interrupted; the same command continues")
        code = 130
    return code if _written() else 2


def _run(argv: list[str]) -> int:
    foreign = [word for word in argv if any("\udc80" <= letter <= "\udcff" for letter in word)]
    if foreign:
        _say(f"{foreign[0]}: is not UTF-8; names and paths must be")
        return 2
    parser = _parser()
    # argparse stops collecting overrides at the first option; what follows an option is an override
    # too.
    given, later = parser.parse_known_args(argv)
    if later and (not hasattr(given, "overrides") or any(word.startswith("-") for word in later)):
        parser.error(f"unrecognized arguments: {' '.join(later)}")
    if later:
        given.overrides += later
    from distill.completions import BadInput

    try:
        return int(given.verb(given) or 0)
    except BadInput as error:
        _say(str(error))
    except BrokenPipeError:
        return 0
    except OSError as error:
        if _written():  # else that was it, and is said
            _say(
                f"{error.filename or f'{given.runs} or standard output'}: {error.strerror or error}"
            )
    except MemoryError:
        _say("out of memory; nothing done is lost, and the same command continues")
    return 2


def _say(line: str) -> None:
    """One line on standard error."""
    from experiments.results.plain import printable

    print(f"distill-resist: {printable(line)}", file=sys.stderr)


def _prepare_output() -> None:
    """Let output fail for no letter that a terminal lacks, and for no stream that was closed."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _written() -> bool:
    """Whether standard output took all that was printed; a reader that had enough is no failure."""
    try:
        sys.stdout.flush()
        return True
    except OSError as error:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # or the interpreter would try again
        if isinstance(error, BrokenPipeError):
            return True
        _say(f"standard output: {error.strerror}")
        return False


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "distill-resist", description="Measure how much capability distillation transfers."
    )
    verbs = parser.add_subparsers(required=True, metavar="|".join(VERBS))
    for name, verb, text in (
        ("run", run, "run a study, or continue one, and report it"),
        ("plan", plan, "show arms, shared stages and cost; check everything, run nothing"),
        ("show", show, "print a study's resolved settings, or the JSON schema of all settings"),
        ("report", report, "print and write the report of a finished study"),
    ):
        one = verbs.add_parser(name, help=text)
        one.add_argument(
            "study",
            nargs="?" if name == "show" else None,
            help="a name, or the path of a YAML file",
        )
        one.add_argument("overrides", nargs="*", metavar="key=value")
        one.add_argument(
            "--env", action="store_true", help="replace ${oc.env:NAME} in overrides, never in files"
        )
        one.add_argument(
            "--runs", type=Path, default=Path("runs"), help="folder of results (default: runs)"
        )
        if name in ("run", "plan"):
            _processes(one)
        if name != "show":
            one.add_argument(
                "--keep-old",
                action="store_true",
                help="use what other code made, and mark every table",
            )
        if name in ("run", "report"):
            one.add_argument("--json", action="store_true", help="print the table as JSON")
        if name == "report":
            one.add_argument(
                "--markdown", action="store_true", help="print the verdicts as a Markdown table"
            )
            one.add_argument(
                "--partial",
                action="store_true",
                help="report what is done, with planned and finished",
            )
        if name == "show":
            one.add_argument(
                "--schema",
                action="store_true",
                help="print the JSON schema, for editors and other tools",
            )
        one.set_defaults(verb=verb)
    for name, check, text in (
        (
            "verify",
            verify,
            "check a run without compute: all that follows from its grades, computed again",
        ),
        ("reproduce", reproduce, "run a study or a run again in a new folder, and compare"),
        ("export", export, "pack a run for reviewers"),
        ("diff", diff, "two runs side by side: settings and results"),
    ):
        one = verbs.add_parser(name, help=text)
        one.add_argument(
            "run",
            help="a study's name, its folder, or an export" if name != "diff" else "first run",
        )
        if name == "diff":
            one.add_argument("other", help="second run")
        one.add_argument(
            "--runs", type=Path, default=Path("runs"), help="folder of results (default: runs)"
        )
        if name == "reproduce":
            one.add_argument(
                "--tier",
                choices=("smoke", "full"),
                default="full",
                help="smoke: one arm of each kind",
            )
            one.add_argument(
                "--into", type=Path, help="new folder (default: <runs>/reproduced/<study>-<tier>)"
            )
            _processes(one)
        if name == "export":
            one.add_argument("--to", type=Path, help="archive to write (default: <study>.zip)")
            one.add_argument("--sign", type=Path, metavar="KEY", help="SSH key that signs it")
        if name in ("verify", "reproduce"):
            text = "a key or a place that the study tells by its digest alone; may be repeated"
            one.add_argument("--private", action="append", default=[], metavar="VALUE", help=text)
        if name == "verify":
            one.add_argument(
                "--allowed-signers",
                type=Path,
                metavar="FILE",
                help="who must have signed it: see README",
            )
        one.set_defaults(verb=check)
    one = verbs.add_parser("list", help="what exists: studies, defenses, attackers, tasks, ...")
    one.add_argument("group", nargs="?")
    one.add_argument(
        "--markdown", action="store_true", help="defences as the page docs/defenses.md"
    )
    one.set_defaults(verb=listing, runs=Path("runs"))
    one = verbs.add_parser("doctor", help="versions, device, threads, disk, tracking")
    one.set_defaults(verb=doctor, runs=Path("runs"))
    return parser


def _processes(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--workers",
        type=_workers,
        default=os.cpu_count() or 1,
        help="processes (default: one a core)",
    )
    one.add_argument(
        "--threads",
        type=_workers,
        default=1,
        help="threads a process; bytes depend on it (default: 1)",
    )


def _workers(text: str) -> int:
    if not re.fullmatch("[0-9]{1,4}", text) or not 1 <= int(text) <= PROCESSES:
        raise argparse.ArgumentTypeError(
            f"must be a whole number from 1 to {PROCESSES}, got {text[:80]!r}"
        )
    return int(text)


def _planned(given: argparse.Namespace) -> Any:
    from experiments.planning import plan as planning
    from experiments.settings import schema

    return planning.make(schema.load(given.study, given.overrides, given.env))


def run(given: argparse.Namespace) -> None:
    from experiments import preregistration
    from experiments.launch import local
    from experiments.results.plain import Plain
    from experiments.store import Store, writable

    console = Plain(stderr=True)
    planned = _planned(given)
    preregistration.freeze(
        planned, Store(given.runs / "store"), writable(given.runs / planned.study.name)
    )
    _say_notes(planned, console)
    local.run(planned, given.runs / "store", given.workers, console, given.threads, given.keep_old)
    report(given, planned)


def plan(given: argparse.Namespace) -> None:
    from collections import Counter

    from experiments.planning.plan import seconds
    from experiments.results.plain import Plain
    from experiments.store import Store

    planned = _planned(given)
    due = planned.due(Store(given.runs / "store"), given.threads, given.keep_old)
    todo, old = (Counter(stage.kind for stage in stages) for stages in (due.stages, due.old))
    what = "old ones kept" if given.keep_old else "of them old"
    console = Plain()
    console.print(
        f"{planned.study.name}: {len(planned.arms)} arms, {len(planned.stages)} stages, "
        f"{len(due.stages)} to do"
    )
    for kind, count in Counter(stage.kind for stage in planned.stages).items():
        console.print(
            f"  {kind}: {count}, {todo[kind]} to do"
            + (f", {old[kind]} {what}" if old[kind] else "")
        )
    for line in due.why:
        console.print(f"  old: {line}", soft_wrap=True)
    _say_notes(planned, console)
    cost = sum(map(seconds, due.stages)) / given.workers
    console.print(
        f"  about {cost / 60:.1f} minutes with {given.workers} workers, if it is of the embedded "
        "size"
    )


def _say_notes(planned: Any, console: Any) -> None:
    for note in planned.notes:
        console.print(f"note: {note}", soft_wrap=True)


def show(given: argparse.Namespace) -> None:
    import json

    from distill.completions import BadInput
    from experiments.settings import entries, schema

    if given.schema:
        return print(json.dumps(schema.schema(), indent=1))
    if given.study is None:
        raise BadInput(f"show: which study? (there are: {', '.join(entries.names('study'))})")
    print(schema.load(given.study, given.overrides, given.env).model_dump_json(indent=2))


def report(given: argparse.Namespace, planned: Any = None) -> None:
    import json

    from distill.completions import BadInput
    from experiments import run_folder
    from experiments.report import campaign_section as campaigns
    from experiments.report import matrix, terminal
    from experiments.results.plain import Plain
    from experiments.store import Store, writable

    planned = planned or _planned(given)
    store = Store(given.runs / "store")
    due = planned.due(store, keep_old=given.keep_old)
    if due.old and not given.keep_old:
        raise BadInput(
            f"report: {len(due.old)} of {len(planned.stages)} results are old: "
            f"{'; '.join(due.why)}; `distill-resist "
            "run` makes them again, --keep-old uses them and marks every table"
        )
    if due.stages and not getattr(given, "partial", False):
        raise BadInput(
            f"report: {len(due.stages)} of {len(planned.stages)} stages are not done; "
            "`distill-resist run` them, or "
            "see what there is with --partial"
        )
    home = writable(given.runs / planned.study.name)
    measured = run_folder.write(planned, store, home, due.why)
    held = measured["rows"]
    if planned.study.tracking.mode != "off":
        from experiments import tracking

        tracking.replay(
            run_folder.runs(planned, store, measured, home), planned.study.tracking, home, _say
        )
    if given.json:
        return print(json.dumps(held))
    if getattr(given, "markdown", False):
        more = campaigns.markdown(measured["campaigns"]) if measured["campaigns"] else ""
        return print(
            terminal.markdown(measured, planned.study) + matrix.markdown(measured) + more, end=""
        )
    # A table that is cut off says nothing: a narrow terminal wraps its lines instead.
    shown = terminal.table(held, planned.study.name + (" (OLD RESULTS)" if due.old else ""))
    console = Plain(width=max(Plain().width, Plain(width=400).measure(shown).maximum))
    console.print(shown)
    if due.old:
        console.print(terminal.kept(due.why), soft_wrap=True)
    for line in campaigns.lines(measured["campaigns"]) if measured["campaigns"] else []:
        console.print(line, soft_wrap=True)
    for line in terminal.flags(measured["flags"]):
        console.print(line, soft_wrap=True)
    console.print(f"card: {(home / 'card.md').resolve()}", soft_wrap=True)
    console.print(f"report: {(home / 'report.html').resolve()}", soft_wrap=True)


def _found(runs: Path, name: str) -> Path:
    """A run by its path, or by its study's name below the folder of results."""
    path = Path(name)
    return path if path.exists() else runs / name


def verify(given: argparse.Namespace) -> int:
    from experiments.private import hand_over
    from experiments.review import archive, sign
    from experiments.review import verify as checks
    from experiments.store import Store

    run = _found(given.runs, given.run)
    for value in given.private:
        hand_over(value)
    with archive.opened(run) as home:
        beside = home.parent / "store"
        signed = sign.checked(home, given.allowed_signers) if given.allowed_signers else None
        code = _told(checks.verify(home, Store(beside) if beside.is_dir() else None, signed))
        print(checks.shows(home, bool(signed and signed.word == "PASS")))
    return code


def reproduce(given: argparse.Namespace) -> int:
    from distill.completions import BadInput
    from experiments.launch import local
    from experiments.planning import plan as planning
    from experiments.private import hand_over
    from experiments.results.plain import Plain
    from experiments.review import archive, form, rerun
    from experiments.review import verify as checks
    from experiments.store import Store, writable

    run = _found(given.runs, given.run)
    for value in given.private:
        hand_over(value)
    with archive.opened(run) as home:
        made = checks.verify(home, None)
        if any(check.word == "FAIL" for check in made):
            return _told(made)
        study = form.study_of(home)
        study = rerun.smoke(study) if given.tier == "smoke" else study
        into = given.into or given.runs / "reproduced" / f"{study.name}-{given.tier}"
        if into.resolve() == given.runs.resolve():
            raise BadInput(
                f"reproduce: --into must be another folder than the results' own, got {into}"
            )
        store = writable(into) / "store"
        local.run(planning.make(study), store, given.workers, Plain(stderr=True), given.threads)
        return _told(made + rerun.compare(home, study, Store(store), given.tier, given.threads))


def _told(checks: Any) -> int:
    """Print checks as a table; exit code 1 if one failed."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from experiments.results.plain import Plain
    from experiments.review import worst

    shown = Table(box=SIMPLE_HEAD, padding=(0, 1))
    for name in ("", "claim", "expected", "got", "tolerance"):
        shown.add_column(name, overflow="fold")
    for one in checks:
        shown.add_row(one.word, one.claim, one.expected, one.got, one.tolerance)
    words = [check.word for check in checks]
    console = Plain(width=max(Plain().width, min(180, Plain(width=400).measure(shown).maximum)))
    console.print(shown)
    word = worst(checks)
    counts = ", ".join(f"{words.count(word)} {word}" for word in ("PASS", "FAIL", "INCONCLUSIVE"))
    console.print(f"{word}: {counts}")
    return int(word == "FAIL")


def export(given: argparse.Namespace) -> None:
    from distill.completions import BadInput
    from experiments.review import archive, sign
    from experiments.review import verify as checks
    from experiments.store import Store

    run = _found(given.runs, given.run)
    with archive.opened(run) as home:
        beside = home.parent / "store"
        wrong = [
            one
            for one in checks.verify(home, Store(beside) if beside.is_dir() else None)
            if one.word == "FAIL"
        ]
        if wrong:
            raise BadInput(
                f"export: {run} does not verify, {len(wrong)} FAIL, first {wrong[0].claim!r} "
                f"({wrong[0].got}); `distill-resist verify` shows all"
            )
        target = given.to or Path(f"{run.stem if run.is_file() else run.name}.zip")
        names = archive.pack(home, target, sign.signature(home, given.sign) if given.sign else None)
    print(f"{target.resolve()}: {', '.join(names)}")


def diff(given: argparse.Namespace) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from experiments.report.terminal import interval, points
    from experiments.results.plain import Plain
    from experiments.review import archive, sides

    with (
        archive.opened(_found(given.runs, given.run)) as a,
        archive.opened(_found(given.runs, given.other)) as b,
    ):
        told = sides.difference(a, b)
    shown = Table(
        "arm",
        "accuracy",
        "",
        "T",
        "",
        "verdict",
        "",
        box=SIMPLE_HEAD,
        title=f"{given.run} | {given.other}",
    )
    for name, *rows in told.results:
        cells = [
            (points(row["defended"]), interval(row), row["verdict"] or "-") if row else ("-",) * 3
            for row in rows
        ]
        shown.add_row(name, *(cell[i] for i in range(3) for cell in cells))
    console = Plain(width=max(Plain().width, Plain(width=400).measure(shown).maximum))
    for setting, before, after in told.settings:
        console.print(f"{setting}: {before!r} | {after!r}", soft_wrap=True)
    console.print("settings are the same" if not told.settings else "")
    console.print(shown)


def listing(given: argparse.Namespace) -> None:
    from distill.completions import BadInput
    from experiments.results.plain import Plain
    from experiments.settings import component_docs, entries

    groups = sorted(path.name for path in entries.config_folder().iterdir() if path.is_dir())
    singular = {"defenses": "defense", "studies": "study"}.get(
        given.group, (given.group or "").removesuffix("s")
    )
    group = given.group if given.group in groups else singular
    if group and group not in groups:
        raise BadInput(
            f"list: no group {given.group!r}{entries.near(given.group, groups)} (there are: "
            f"{', '.join(groups)})"
        )
    page = component_docs.PAGES.get(group)
    if page and given.markdown:
        return print(page.markdown(), end="")
    if page:
        return Plain(width=max(Plain().width, 150)).print(page.table())
    for one in [group] if group else groups:
        print(f"{one}: {' '.join(entries.names(one))}")


def doctor(given: argparse.Namespace) -> None:
    import shutil

    from experiments.run_folder import machine, versions

    here = machine()
    print(
        f"python {here['python']}, {here['cores']} cores, {here['threads']} thread(s) a worker, "
        f"device {here['device']}"
    )
    print(" ".join(f"{name}=={version}" for name, version in versions().items()))
    print(
        f"CPU capability {here['cpu_capability']}; {shutil.disk_usage('.').free / 2**30:.0f} GiB "
        "free here"
    )
    key = os.environ.get("WANDB_API_KEY") or (Path.home() / ".netrc").is_file()
    print(f"wandb key: {'found' if key else 'none; tracking=offline needs none'}")


if __name__ == "__main__":
    sys.exit(main())
