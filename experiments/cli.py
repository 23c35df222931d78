"""The command line of distill-resist: a table of commands; each is imported when it is called."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

from experiments import streams

MOST_PROCESSES = 1024  # of one command, and threads of each

SCHEMAS = ("results", "rows", "card", "arms", "outcomes", "marks", "manifest", "settings")


class Argument(NamedTuple):
    """One argument of a command: its names, and what argparse is told of it."""

    names: tuple[str, ...]
    options: dict[str, Any]


class Command(NamedTuple):
    """A word of the command line and the function below `experiments.commands` that it calls."""

    name: str
    function: str
    help: str
    arguments: tuple[Argument, ...]


def _argument(*names: str, **options: Any) -> Argument:
    return Argument(names, options)


def _flag(name: str, text: str) -> Argument:
    return _argument(name, action="store_true", help=text)


def _process_count(text: str) -> int:
    if not re.fullmatch("[0-9]{1,4}", text) or not 1 <= int(text) <= MOST_PROCESSES:
        raise argparse.ArgumentTypeError(
            f"must be a whole number from 1 to {MOST_PROCESSES}, got {text[:80]!r}"
        )
    return int(text)


def _port(text: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", text) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be a port from 0 to 65535, got {text[:80]!r}")
    return int(text)


def _count(text: str) -> int:
    if not re.fullmatch("[0-9]{1,8}", text) or not int(text):
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, got {text[:80]!r}")
    return int(text)


STUDY = _argument("study", help="a name, or the path of a YAML file")
OVERRIDES = _argument(
    "overrides", nargs="*", default=(), metavar="key=value", help="settings to change"
)
ENV = _flag("--env", "replace ${oc.env:NAME} in overrides, never in files")
RUNS = _argument(
    "--runs", type=Path, default=Path("runs"), help="folder of results (default: runs)"
)
WORKERS = _argument(
    "--workers",
    type=_process_count,
    default=os.cpu_count() or 1,
    help="processes (default: one a core)",
)
THREADS = _argument(
    "--threads",
    type=_process_count,
    default=1,
    help="threads a process; bytes depend on it (default: 1)",
)
KEEP_OLD = _flag("--keep-old", "use what other code made, and mark every table")
JSON = _flag("--json", "print the table as JSON")
RUN = _argument("run", help="a study's name, its folder, or an export")
PRIVATE = (
    _argument(
        "--private",
        action="append",
        default=[],
        metavar="KEY",
        help="a defence's key, which the run tells by its digest alone; may be repeated",
    ),
    _argument(
        "--where",
        action="append",
        dest="private",
        metavar="[NAME=]PATH",
        help="where a model or data of the run lie here (MODEL=URL: a server); may be repeated",
    ),
)
PLUGINS = _argument(
    "--plugins",
    action="append",
    default=[],
    type=Path,
    metavar="DIR",
    help="a folder of your own defences, attackers, tasks or detectors; may be repeated",
)
LOADING = (STUDY, OVERRIDES, ENV, RUNS)

COMMANDS = (
    Command(
        "run",
        "studies.run",
        "run a study, or continue one, and report it",
        (*LOADING, WORKERS, THREADS, KEEP_OLD, JSON),
    ),
    Command(
        "plan",
        "studies.plan",
        "show arms, shared stages and cost; check everything, run nothing",
        (*LOADING, WORKERS, THREADS, KEEP_OLD),
    ),
    Command(
        "show",
        "studies.show",
        "print a study's resolved settings, or the JSON schema of all settings",
        (
            _argument("study", nargs="?", help="a name, or the path of a YAML file"),
            OVERRIDES,
            ENV,
            RUNS,
            _flag("--schema", "print the JSON schema, for editors and other tools"),
        ),
    ),
    Command(
        "report",
        "studies.report",
        "print and write the report of a finished study",
        (
            *LOADING,
            KEEP_OLD,
            JSON,
            _flag("--markdown", "print the verdicts as a Markdown table"),
            _flag("--partial", "report what is done, with planned and finished"),
        ),
    ),
    Command(
        "teachers",
        "teachers.teachers",
        "what a study's defences do to its teacher's own answers; no student is trained",
        (*LOADING, WORKERS, THREADS, KEEP_OLD),
    ),
    Command(
        "verify",
        "reviews.verify",
        "check a run without compute: all that follows from its grades, computed again",
        (
            RUN,
            RUNS,
            *PRIVATE,
            _argument(
                "--allowed-signers",
                type=Path,
                metavar="FILE",
                help="who must have signed it: a name and a public key a line",
            ),
        ),
    ),
    Command(
        "reproduce",
        "reviews.reproduce",
        "run a study or a run again in a new folder, and compare",
        (
            RUN,
            RUNS,
            _argument(
                "--tier",
                choices=("smoke", "full"),
                default="full",
                help="smoke: one arm of each kind",
            ),
            _argument(
                "--into", type=Path, help="new folder (default: <runs>/reproduced/<study>-<tier>)"
            ),
            WORKERS,
            THREADS,
            *PRIVATE,
        ),
    ),
    Command(
        "export",
        "reviews.export",
        "pack a run for reviewers",
        (
            RUN,
            RUNS,
            _argument("--to", type=Path, help="archive to write (default: <study>.zip)"),
            _argument("--sign", type=Path, metavar="KEY", help="SSH key that signs it"),
        ),
    ),
    Command(
        "diff",
        "reviews.diff",
        "two runs side by side: settings and results",
        (_argument("run", help="first run"), _argument("other", help="second run"), RUNS),
    ),
    Command(
        "record",
        "recording.record",
        "ask a study's teacher all that it would be asked, and write a recording",
        (
            *LOADING,
            _argument("--to", type=Path, required=True, help="the file to write, .jsonl"),
            _argument("--task", help="which of the study's tasks, where it has several"),
            _argument("--split", help="ask questions of this split instead: query, report, ..."),
            _argument("--n", type=_count, help="how many of the split"),
            _argument("--seed", type=int, default=0, help="draws them, and samples (default: 0)"),
            _argument("--attempts", type=_count, default=1, help="answers to each (default: 1)"),
            _argument(
                "--interface",
                choices=("text", "top_k", "full"),
                help="what is released (default: the most that the study's attackers get)",
            ),
            THREADS,
        ),
    ),
    Command(
        "serve",
        "serving.serve",
        "offer a study's defended teacher on this machine, with the OpenAI protocol",
        (
            STUDY,
            _argument("defense", help="one of the study's, or none"),
            OVERRIDES,
            ENV,
            RUNS,
            _argument("--task", help="which of the study's tasks, where it has several"),
            _argument(
                "--interface",
                choices=("text", "top_k", "full"),
                help="what is released (default: the most that the study's attackers get)",
            ),
            _argument("--access", default="open", help="limits of configs/access (default: none)"),
            _argument("--host", default="127.0.0.1", help="address (default: this machine alone)"),
            _argument("--port", type=_port, default=8000, help="0: one that is free"),
            THREADS,
        ),
    ),
    Command(
        "convert",
        "models.convert",
        "write a GGUF file as a model folder, which opens at once",
        (
            _argument("model", help="a .gguf file, or whatever else a model's path may be"),
            _argument("to", type=Path, help="new folder"),
        ),
    ),
    Command(
        "list",
        "about.list_group",
        "what exists: studies, defenses, attackers, tasks, ...",
        (
            _argument("group", nargs="?"),
            _flag("--markdown", "as the pages docs/defenses.md and docs/attackers.md have it"),
        ),
    ),
    Command(
        "check-plugin",
        "plugins.check_plugin",
        "hold your own defences, attackers, tasks and detectors to the contract of shipped ones",
        (_argument("where", help="a folder of plugins, or an installed package that names some"),),
    ),
    Command(
        "schema",
        "about.print_schema",
        "print the JSON schema of a run's files or of all settings",
        (_argument("of", choices=SCHEMAS, help="results is measures.json, rows results.json"),),
    ),
    Command("doctor", "about.doctor", "versions, device, threads, disk, tracking", ()),
)

EXAMPLES = """examples:
  distill-resist run first                            a study of a minute
  distill-resist plan first defense=release/truncate  what it would do with another defence
  distill-resist list defense                         which defences there are
"""


def main(argv: list[str] | None = None) -> int:
    """Parse the words, call the command, and turn a user's mistake into one line.

    Args:
        argv: the words behind the program's name; those of this process if None.

    Returns:
        The exit code: 0, 1 where a check failed, 2 for a mistake, 130 after Ctrl-C.
    """
    streams.prepare()
    try:
        code = _call(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        _complain("interrupted; the same command continues")
        code = 130
    except SystemExit:  # of argparse, which has printed what there is to say
        if streams.flush(_complain):
            raise
        code = 2
    return streams.code(code, _complain)


def _call(argv: list[str]) -> int:
    foreign = [word for word in argv if any("\udc80" <= letter <= "\udcff" for letter in word)]
    if foreign:
        _complain(f"{foreign[0]}: is not UTF-8; names and paths must be")
        return 2
    arguments = _parse(argv)
    module, _, name = arguments.pop("function").partition(".")
    folders = arguments.pop("plugins")
    from distill.completions import BadInput
    from experiments.settings import catalog

    try:
        if [folder.absolute() for folder in folders] != catalog.chosen_folders():
            catalog.use_plugins(folders)
        command = getattr(importlib.import_module(f"experiments.commands.{module}"), name)
        return int(command(**arguments) or 0)
    except BadInput as error:
        _complain(str(error))
    except BrokenPipeError:
        return 0
    except OSError as error:
        if streams.flush(_complain):  # else standard output is what failed, and that is reported
            place = error.filename or f"{arguments.get('runs', 'runs')} or standard output"
            _complain(f"{place}: {error.strerror or error}")
    except MemoryError:
        _complain("out of memory; nothing done is lost, and the same command continues")
    except Exception as error:
        if not (fault := catalog.plugin_fault(error)):
            raise
        _complain(fault)
    return 2


def _parse(argv: list[str]) -> dict[str, Any]:
    """The command's function and its arguments by name."""
    parser = _parser()
    # argparse stops collecting overrides at the first option; what follows one is an override too.
    parsed, rest = parser.parse_known_args(argv)
    arguments = vars(parsed)
    if rest and ("overrides" not in arguments or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if "overrides" in arguments:
        arguments["overrides"] = [*arguments["overrides"], *rest]
    return arguments


class _Parser(argparse.ArgumentParser):
    def print_help(self, file: Any = None) -> None:
        """Unlike argparse's, an error where it cannot be written."""
        try:
            print(self.format_help(), end="", file=file, flush=True)
        except BrokenPipeError:
            pass  # its reader had enough
        except OSError as error:
            if streams.flush(_complain):  # else it is said already
                _complain(f"standard output: {error.strerror}")
            sys.exit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        "distill-resist",
        description="Measure how much capability distillation transfers.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    metavar = "|".join(command.name for command in COMMANDS)
    subparsers = parser.add_subparsers(required=True, metavar=metavar)
    for command in COMMANDS:
        subparser = subparsers.add_parser(command.name, help=command.help)
        for argument in (*command.arguments, PLUGINS):
            subparser.add_argument(*argument.names, **argument.options)
        subparser.set_defaults(function=command.function)
    return parser


def _complain(line: str) -> None:
    """One line on standard error."""
    from experiments.results.plain import printable

    print(f"distill-resist: {printable(line)}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
