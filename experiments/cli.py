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
    except OSError as error:
        print(f"distill-resist: {error.filename or given.runs}: {error.strerror}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "distill-resist", description="Measure how much capability distillation transfers."
    )
    verbs = parser.add_subparsers(required=True, metavar="run|plan|list|show|report|doctor")
    for name, verb, text in (
        ("run", run, "run a study, or continue one, and report it"),
        ("plan", plan, "show arms, shared stages and cost; check everything, run nothing"),
        ("show", show, "print a study's resolved settings"),
        ("report", report, "print and write the report of a finished study"),
    ):
        one = verbs.add_parser(name, help=text)
        one.add_argument("study")
        one.add_argument("overrides", nargs="*", metavar="key=value")
        one.add_argument("--runs", type=Path, default=Path("runs"), help="folder of results (default: runs)")
        one.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes, one thread each")
        one.add_argument("--json", action="store_true", help="print the table as JSON")
        one.set_defaults(verb=verb)
    one = verbs.add_parser("list", help="what exists: study, defense, attacker, task, ...")
    one.add_argument("group", nargs="?")
    one.set_defaults(verb=listing, runs=Path("runs"))
    one = verbs.add_parser("doctor", help="versions, device, threads, disk, tracking")
    one.set_defaults(verb=doctor, runs=Path("runs"))
    return parser


def _planned(given: argparse.Namespace) -> Any:
    from experiments import config
    from experiments import plan as planning

    return planning.make(config.load(given.study, given.overrides))


def run(given: argparse.Namespace) -> int:
    from rich.console import Console

    from experiments.launch import local

    planned = _planned(given)
    local.run(planned, given.runs / "store", given.workers, Console(stderr=True))
    return report(given, planned)


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
    cost = sum(SECONDS[stage.kind] for stage in missing) / given.workers
    console.print(f"  about {cost / 60:.1f} minutes with {given.workers} workers")


def show(given: argparse.Namespace) -> None:
    from experiments import config

    print(config.load(given.study, given.overrides).model_dump_json(indent=2))


def report(given: argparse.Namespace, planned: Any = None) -> int:
    import json

    from rich.console import Console

    from distill.answers import BadInput, read_answers, write_bytes
    from experiments.report import page, rows, terminal
    from experiments.store import Store

    planned = planned or _planned(given)
    store = Store(given.runs / "store")
    missing = planned.missing(store)
    if missing:
        raise BadInput(
            f"report: {len(missing)} of {len(planned.stages)} stages are not done; `distill-resist run` them"
        )
    held = rows.table(planned, store)
    folder = given.runs / planned.study.name
    folder.mkdir(parents=True, exist_ok=True)
    samples = _samples(planned, lambda stage: read_answers(store.open(stage.kind, stage.key) / "answers.parquet"))
    write_bytes(folder / "config.json", planned.study.model_dump_json(indent=2).encode())
    write_bytes(folder / "results.json", json.dumps(held, indent=1).encode())
    write_bytes(folder / "report.html", page.render(planned.study, held, samples).encode())
    if given.json:
        print(json.dumps(held))
        return 0
    # A table that is cut off says nothing: a narrow terminal wraps its lines instead.
    console = Console(width=max(Console().width, 132))
    console.print(terminal.table(held, planned.study.name))
    console.print(f"report: {(folder / 'report.html').resolve()}", soft_wrap=True)
    return 0


def _samples(planned: Any, read: Any) -> list[dict[str, str]]:
    shown = []
    for (task, defense), stage in planned.samples.items():
        if defense != "none":
            clean, guarded = read(planned.samples[task, "none"])[0], read(stage)[0]
            shown.append({"task": task, "defense": defense, "prompt": clean.prompt, "clean": clean.text}
                         | {"defended": guarded.text})  # fmt: skip
    return shown


def listing(given: argparse.Namespace) -> None:
    from distill.answers import BadInput
    from experiments import config

    groups = sorted(path.name for path in config.config_folder().iterdir() if path.is_dir())
    if given.group and given.group not in groups:
        raise BadInput(f"list: no group {given.group!r} (there are: {', '.join(groups)})")
    for group in [given.group] if given.group else groups:
        print(f"{group}: {' '.join(config.names(group))}")


def doctor(given: argparse.Namespace) -> None:
    import platform
    import shutil
    from importlib.metadata import version

    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"python {platform.python_version()}, {os.cpu_count()} cores, device {device}")
    print(" ".join(f"{name}=={version(name)}" for name in ("torch", "transformers", "accelerate", "datasets", "wandb")))
    print(
        f"CPU capability {torch.backends.cpu.get_cpu_capability()}; {shutil.disk_usage('.').free / 2**30:.0f} GiB free"
    )


if __name__ == "__main__":
    sys.exit(main())
