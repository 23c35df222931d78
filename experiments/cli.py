"""The command line: `distill-resist run|plan|list|show|report|doctor`; nothing heavy is imported before parsing."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any


def main(argv: list[str] | None = None) -> int:
    """Parse, dispatch, and turn the user's mistakes into one line and exit code 2."""
    parser = _parser()
    # argparse stops collecting overrides at the first option; what follows an option is an override too.
    given, later = parser.parse_known_args(argv)
    if later and (not hasattr(given, "overrides") or any(word.startswith("-") for word in later)):
        parser.error(f"unrecognized arguments: {' '.join(later)}")
    if later:
        given.overrides += later
    from distill.answers import BadInput

    try:
        return int(given.verb(given) or 0)
    except BadInput as error:
        print(f"distill-resist: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"distill-resist: {error.filename or given.runs}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("distill-resist: interrupted; the same command continues", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "distill-resist", description="Measure how much capability distillation transfers."
    )
    verbs = parser.add_subparsers(required=True, metavar="run|plan|list|show|report|doctor")
    for name, verb, text in (
        ("run", run, "run a study, or continue one, and report it"),
        ("plan", plan, "show arms, shared stages and cost; check everything, run nothing"),
        ("show", show, "print a study's resolved settings, or the JSON schema of all settings"),
        ("report", report, "print and write the report of a finished study"),
    ):
        one = verbs.add_parser(name, help=text)
        one.add_argument("study", nargs="?" if name == "show" else None, help="a name, or the path of a YAML file")
        one.add_argument("overrides", nargs="*", metavar="key=value")
        one.add_argument("--runs", type=Path, default=Path("runs"), help="folder of results (default: runs)")
        if name in ("run", "plan"):
            one.add_argument("--workers", type=_workers, default=os.cpu_count() or 1, help="processes, one thread each")
        if name in ("run", "report"):
            one.add_argument("--json", action="store_true", help="print the table as JSON")
        if name == "show":
            one.add_argument("--schema", action="store_true", help="print the JSON schema, for editors and other tools")
        one.set_defaults(verb=verb)
    one = verbs.add_parser("list", help="what exists: study, defense, attacker, task, ...")
    one.add_argument("group", nargs="?")
    one.set_defaults(verb=listing, runs=Path("runs"))
    one = verbs.add_parser("doctor", help="versions, device, threads, disk, tracking")
    one.set_defaults(verb=doctor, runs=Path("runs"))
    return parser


def _workers(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def _planned(given: argparse.Namespace) -> Any:
    from experiments import config
    from experiments import plan as planning

    return planning.make(config.load(given.study, given.overrides))


def run(given: argparse.Namespace) -> None:
    from rich.console import Console

    from experiments.launch import local
    from experiments.store import writable

    console = Console(stderr=True)
    planned = _planned(given)
    writable(given.runs)
    _say_notes(planned, console)
    local.run(planned, given.runs / "store", given.workers, console)
    report(given, planned)


def plan(given: argparse.Namespace) -> None:
    from collections import Counter

    from rich.console import Console

    from experiments.plan import SECONDS
    from experiments.store import Store

    planned = _planned(given)
    missing = planned.missing(Store(given.runs / "store"))
    console = Console()
    console.print(f"{planned.study.name}: {len(planned.arms)} arms, {len(planned.stages)} stages, {len(missing)} to do")
    for kind, count in Counter(stage.kind for stage in planned.stages).items():
        console.print(f"  {kind}: {count}, {sum(stage.kind == kind for stage in missing)} to do")
    _say_notes(planned, console)
    cost = sum(SECONDS[stage.kind] for stage in missing) / given.workers
    console.print(f"  about {cost / 60:.1f} minutes with {given.workers} workers, if it is of the embedded size")


def _say_notes(planned: Any, console: Any) -> None:
    for note in planned.notes:
        console.print(f"note: {note}", soft_wrap=True, highlight=False)


def show(given: argparse.Namespace) -> None:
    import json

    from distill.answers import BadInput
    from experiments import config

    if given.schema:
        return print(json.dumps(config.schema(), indent=1))
    if given.study is None:
        raise BadInput(f"show: which study? (there are: {', '.join(config.names('study'))})")
    print(config.load(given.study, given.overrides).model_dump_json(indent=2))


def report(given: argparse.Namespace, planned: Any = None) -> None:
    import json

    from rich.console import Console

    from distill.answers import BadInput
    from experiments.report import folder, terminal
    from experiments.store import Store, writable

    planned = planned or _planned(given)
    store = Store(given.runs / "store")
    missing = planned.missing(store)
    if missing:
        raise BadInput(
            f"report: {len(missing)} of {len(planned.stages)} stages are not done; `distill-resist run` them"
        )
    home = writable(given.runs / planned.study.name)
    held = folder.write(planned, store, home)
    if planned.study.tracking.mode != "off":
        from experiments import tracking

        tracking.replay(folder.runs(planned, store, held, home), planned.study.tracking, home, _warn)
    if given.json:
        return print(json.dumps(held))
    # A table that is cut off says nothing: a narrow terminal wraps its lines instead.
    shown = terminal.table(held, planned.study.name)
    console = Console(width=max(Console().width, Console(width=400).measure(shown).maximum))
    console.print(shown)
    console.print(f"report: {(home / 'report.html').resolve()}", soft_wrap=True, highlight=False)


def _warn(line: str) -> None:
    print(f"distill-resist: {line}", file=sys.stderr)


def listing(given: argparse.Namespace) -> None:
    from distill.answers import BadInput
    from experiments import config

    groups = sorted(path.name for path in config.config_folder().iterdir() if path.is_dir())
    if given.group and given.group not in groups:
        raise BadInput(
            f"list: no group {given.group!r}{config.near(given.group, groups)} (there are: {', '.join(groups)})"
        )
    for group in [given.group] if given.group else groups:
        print(f"{group}: {' '.join(config.names(group))}")


def doctor(given: argparse.Namespace) -> None:
    import shutil

    from experiments.report.folder import machine, versions

    here = machine()
    print(
        f"python {here['python']}, {here['cores']} cores, {here['threads']} thread(s) a worker, device {here['device']}"
    )
    print(" ".join(f"{name}=={version}" for name, version in versions().items()))
    print(f"CPU capability {here['cpu_capability']}; {shutil.disk_usage('.').free / 2**30:.0f} GiB free here")
    key = os.environ.get("WANDB_API_KEY") or (Path.home() / ".netrc").is_file()
    print(f"wandb key: {'found' if key else 'none; tracking=offline needs none'}")


if __name__ == "__main__":
    sys.exit(main())
