"""Mutants of the wiring: one-line faults, each of which some test must notice.

    python -m tests.mutants --sample 150 --seed 0

copies the tree, runs the tests once and notes which of them execute which line of the wiring (in
processes that they start as well), then makes one fault at a time and runs the tests that execute
its line until one fails. Survivors are written down with their address; those that no test can
notice are argued in docs/mutants.md by their id. Fails where fewer than 90 of 100 others die. It
takes an hour or two and is no part of `make test`.
"""

from __future__ import annotations

import argparse
import ast
import atexit
import copy
import gc
import hashlib
import importlib
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
COPIED = (
    "distill",
    "defenses",
    "experiments",
    "configs",
    "tests",
    "benchmarks",
    "docs",
    "pyproject.toml",
    "Makefile",
    "README.md",
    "CHANGELOG.md",
    "LICENSE",
    "CITATION.cff",
    "CONTRIBUTING.md",
    "constraints.txt",
)
WIRING = (
    "experiments/planning/*.py",
    "experiments/stages/**/*.py",
    "experiments/store.py",
    "experiments/preregistration.py",
    "experiments/review/*.py",
    "experiments/measure/*.py",
    "experiments/results/*.py",
    "experiments/analysis/*.py",
    "experiments/report/matrix.py",
    "experiments/report/card.py",
    "experiments/report/files.py",
    "experiments/run_folder.py",
)
TESTS = ("tests/experiments",)
HEAVY = (
    "torch",
    "transformers",
    "accelerate",
    "datasets",
    "numpy",
    "scipy.stats",
    "scipy.optimize",
    "pyarrow.parquet",
    "pydantic",
    "hydra",
    "omegaconf",
    "sklearn.linear_model",
    "hypothesis",
    "pytest",
    "rich",
    "jinja2",
    "matplotlib.pyplot",
    "statsmodels.api",
)
# times the processor time of the same tests without a fault, and a minute: then a mutant hangs
SLOWER = 20


def both(**pairs: str) -> dict[str, str]:
    """Each name for the other."""
    return pairs | {b: a for a, b in pairs.items()}


NO_CODE = (ast.Raise, ast.JoinedStr, ast.Assert)
COMPARED: dict[type[ast.cmpop], list[type[ast.cmpop]]] = {
    ast.Lt: [ast.LtE, ast.GtE],
    ast.LtE: [ast.Lt, ast.Gt],
    ast.Gt: [ast.GtE, ast.LtE],
    ast.GtE: [ast.Gt, ast.Lt],
    ast.Eq: [ast.NotEq],
    ast.NotEq: [ast.Eq],
    ast.In: [ast.NotIn],
    ast.NotIn: [ast.In],
    ast.Is: [ast.IsNot],
    ast.IsNot: [ast.Is],
}
WORDS = both(
    report="select",
    right="wrong",
    none="control/identity",
    lo="hi",
    validate="train",
    public="teacher",
    self="weaker",
    shuffled="traces",
    text="full",
    provider="worked",
)
WORDS |= {"query": "report"}
CHECKS = {
    "strict",
    "key",
    "default",
    "ensure_ascii",
    "allow_nan",
    "missing_ok",
    "exist_ok",
    "parents",
}
# Names of functions and constants, and of parts of an object.
NAMES = both(
    max="min",
    all="any",
    IDENTITY="UNTRAINED",
    OWN_DATA="SHUFFLED",
    SELF="WEAKER",
)
PARTS = both(
    argmax="argmin",
    seeds="selection_seeds",
    teacher_seeds="selection_items",
    lo="hi",
    floor="ceil",
    has="open",
    mean="sum",
    attack="ceiling",
    lcb="ucb",
    passes="change",
    report="grades",
)


@dataclass(frozen=True)
class Mutant:
    """One fault: the bytes between two places of a file become others."""

    file: str
    line: int
    last: int  # of its statement
    where: str
    operator: str
    start: int
    end: int
    before: str
    after: str

    @property
    def id(self) -> str:
        """The same as long as neither the function nor its fault changes; lines may move."""
        fields = [self.file, self.where, self.operator, self.before, self.after]
        return hashlib.sha256("\0".join(fields).encode()).hexdigest()[:8]

    def __str__(self) -> str:
        before, after = (" ".join(one.split()) for one in (self.before, self.after))
        return (
            f"{self.id} {self.file}:{self.line} {self.where} [{self.operator}] `{before}` -> "
            f"`{after or 'nothing'}`"
        )

    def made(self, source: bytes) -> bytes:
        return source[: self.start] + self.after.encode() + source[self.end :]


def changed(node: ast.AST) -> Iterator[tuple[str, ast.AST | None]]:
    """Every other form of one node, with the operator's name; None: the statement is left out."""

    def other(**parts: Any) -> ast.AST:
        new = copy.copy(node)
        for name, value in parts.items():
            setattr(new, name, value)
        return new

    match node:
        case ast.Compare(ops=[op]):
            yield from (("comparison", other(ops=[one()])) for one in COMPARED[type(op)])
        case ast.BoolOp(op=op):
            yield "and/or", other(op=ast.Or() if isinstance(op, ast.And) else ast.And())
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield "sign", operand
        case ast.BinOp(op=ast.Add() | ast.Sub() as op, left=left, right=right):
            if not any(
                isinstance(one, ast.List | ast.Tuple | ast.JoinedStr | ast.Dict)
                for one in (left, right)
            ):
                yield "arithmetic", other(op=ast.Sub() if isinstance(op, ast.Add) else ast.Add())
        case ast.BinOp(op=ast.Mult() | ast.Div() as op):
            yield "arithmetic", other(op=ast.Div() if isinstance(op, ast.Mult) else ast.Mult())
        case ast.If(test=test, orelse=[]) | ast.IfExp(test=test):
            if not isinstance(test, ast.Compare | ast.BoolOp | ast.UnaryOp):
                yield "condition", other(test=ast.UnaryOp(ast.Not(), test))
            if isinstance(node, ast.If):
                yield "left out", None
        case ast.Constant(value=bool() as value):
            yield "constant", other(value=not value)
        case ast.Constant(value=int() as value):
            yield from (("constant", other(value=value + step)) for step in (1, -1))
        case ast.Constant(value=float() as value):
            yield "constant", other(value=2 * value if value else 1.0)
        case ast.Constant(value=str() as value) if value in WORDS:
            yield "word", other(value=WORDS[value])
        case ast.Name(id=name, ctx=ast.Load()) if name in NAMES:
            yield "name", other(id=NAMES[name])
        case ast.Attribute(attr=name) if name in PARTS:
            yield "name", other(attr=PARTS[name])
        case ast.Expr(value=ast.Call()) | ast.AugAssign():
            yield "left out", None
        case ast.Dict(values=values):
            for i in range(len(values) - 1):
                if (
                    ast.dump(values[i]) != ast.dump(values[i + 1])
                    and node.keys[i]
                    and node.keys[i + 1]
                ):
                    swapped = [*values[:i], values[i + 1], values[i], *values[i + 2 :]]
                    yield "values swapped", other(values=swapped)
        case ast.Return(value=ast.Call(args=[first, *_])):
            yield "first argument returned", other(value=first)
    if isinstance(node, ast.Call):
        for i in range(len(node.args) - 1):
            constants = all(
                isinstance(one, ast.JoinedStr) or isinstance(one, ast.Constant)
                for one in node.args[i : i + 2]
            )
            if ast.dump(node.args[i]) != ast.dump(node.args[i + 1]) and not constants:
                swapped = [*node.args[:i], node.args[i + 1], node.args[i], *node.args[i + 2 :]]
                yield "arguments swapped", other(args=swapped)
        for i in (i for i, one in enumerate(node.keywords) if one.arg not in CHECKS):
            yield "keyword left out", other(keywords=node.keywords[:i] + node.keywords[i + 1 :])


Place = tuple[str, int, int]  # function, first and last line of the statement


def nodes(node: ast.AST, at: Place = ("", 0, 0)) -> Iterator[tuple[ast.AST, Place]]:
    """What can be changed, and where it stands: no text, annotations, decorators, checks of lengths
    or errors.
    """
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "bases") or isinstance(
            node, NO_CODE
        ):
            continue
        for child in value if isinstance(value, list) else [value]:
            if (
                not isinstance(child, ast.AST)
                or isinstance(child, ast.keyword)
                and child.arg == "strict"
            ):
                continue
            where, *lines = at
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                where = f"{where}.{child.name}".lstrip(".")
            if isinstance(child, ast.stmt):
                body = getattr(child, "body", None)
                lines = [
                    child.lineno,
                    max(child.lineno, body[0].lineno - 1) if body else child.end_lineno,
                ]
            yield child, (where, *lines)
            yield from nodes(child, (where, *lines))


def mutants(root: Path, file: str) -> list[Mutant]:
    """Every mutant of one file that is other code than the file."""
    source = (root / file).read_bytes()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    made = []
    for node, (where, first, last) in nodes(ast.parse(source)):
        for operator, new in changed(node):
            assert (
                isinstance(node, ast.expr | ast.stmt)
                and node.end_lineno
                and node.end_col_offset is not None
            )
            start, end = (
                starts[row - 1] + column
                for row, column in (
                    (node.lineno, node.col_offset),
                    (node.end_lineno, node.end_col_offset),
                )
            )
            before = source[start:end].decode()
            after = "pass" if new is None else ast.unparse(ast.fix_missing_locations(new))
            if isinstance(new, ast.expr) and not isinstance(
                new, ast.Constant | ast.Name | ast.Attribute | ast.Call
            ):
                after = f"({after})"
            if isinstance(new, ast.If):
                after = after.replace("\n", "\n" + " " * node.col_offset)
            mutant = Mutant(file, first, last, where, operator, start, end, before, after)
            try:
                ast.parse(mutant.made(source))
            except SyntaxError:
                continue
            made.append(mutant)
    return list({one.id: one for one in made}.values())


def trace(root: str, folder: str, spoken: Any = None) -> Any:
    """Note every executed line of the wiring below `root` under what `folder`/now says; returns the
    notes, and what traces.
    """
    files = {
        str(path): str(path.relative_to(root)) for one in WIRING for path in Path(root).glob(one)
    }
    notes: dict[str, set[tuple[str, int]]] = defaultdict(set)
    now = spoken or [(Path(folder) / "now").read_text()]

    def line(frame: Any, event: str, _: Any) -> Any:
        notes[now[0]].add((files[frame.f_code.co_filename], frame.f_lineno))
        return line

    def call(frame: Any, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        notes[now[0]].add((files[frame.f_code.co_filename], frame.f_lineno))
        return line

    sys.settrace(call)
    threading.settrace(call)
    if spoken is None:
        pid = os.getpid()

        def write() -> None:
            text = json.dumps([[at, sorted(lines)] for at, lines in notes.items()])
            (Path(folder) / f"{pid}.json").write_text(text)

        atexit.register(write)
    return notes, call


def worked() -> float:
    """Seconds of processor time, with those of processes that have ended: neighbours take their
    share of the clock.
    """
    return sum(os.times()[:4])


class Mapped:
    """A pytest plugin that notes which test executes which line, and what each test takes."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.now, self.folder, self.failed = ["import"], folder, set[str]()
        self.seconds: dict[str, float] = {}
        self._say("import")
        self.notes, self.call = trace(str(root), str(folder), self.now)

    def _say(self, what: str) -> None:
        self.now[0] = what
        (self.folder / "now").write_text(what)

    def _trace(self) -> None:
        """Begin again where a test, or a library in it, has ended or replaced the tracing."""
        if sys.gettrace() is not self.call:
            print(f"tracing was gone before {self.now[0]}", flush=True)
            sys.settrace(self.call)
            threading.settrace(self.call)

    def pytest_runtest_setup(self, item: Any) -> None:
        # What an earlier test left in a cache, this one would not execute.
        for cached in gc.get_objects():
            module = str(getattr(cached, "__module__", ""))
            if hasattr(type(cached), "cache_clear") and module.startswith("experiments"):
                cached.cache_clear()
        self.began = worked()
        self._trace()
        self._say(item.nodeid)

    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> None:
        if fixturedef.scope != "function":  # all tests of the file look at what it makes
            self._say(request.node.nodeid.partition("::")[0])

    def pytest_runtest_call(self, item: Any) -> None:
        self._trace()
        self._say(item.nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "teardown":
            self.seconds[report.nodeid] = worked() - self.began
        if report.failed:
            self.failed.add(report.nodeid)

    def written(self) -> dict[str, Any]:
        notes: dict[str, set[tuple[str, int]]] = defaultdict(set, self.notes)
        for path in self.folder.glob("[0-9]*.json"):
            for at, lines in json.loads(path.read_text()):
                notes[at] |= {(file, line) for file, line in lines}
        lines: dict[str, list[str]] = defaultdict(list)
        for at, seen in notes.items():
            for file, line in seen:
                lines[f"{file}:{line}"].append(at)
        return {"seconds": self.seconds, "failed": sorted(self.failed), "lines": lines}


class First:
    """A pytest plugin that remembers the first test that failed."""

    name = ""

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.name = self.name or (report.nodeid if report.failed else "")

    def pytest_collectreport(self, report: Any) -> None:
        self.name = self.name or (f"import of {report.nodeid}" if report.failed else "")


def inside(root: Path, site: Path, tests: list[str], out: Path, map_into: Path | None) -> None:
    """In a process of its own: the tests of one copy of the tree; writes what was seen to `out`."""
    os.setsid()
    os.chdir(root)
    log = os.open(out.with_suffix(".log"), os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    for name in [
        name
        for name in sys.modules
        if name.split(".")[0] in ("tests", "experiments", "distill", "defenses")
    ]:
        del sys.modules[name]
    paths = [str(root), *([str(site)] if map_into else [])]
    os.environ |= {
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    sys.dont_write_bytecode = True
    sys.path[:] = [*paths, *(one for one in sys.path if Path(one or ".").resolve() != ROOT)]
    import pytest

    words = ["-q", "-p", "no:xdist", "-p", "no:randomly", *tests]
    if map_into:
        os.environ["MUTANTS_TRACE"] = json.dumps([__file__, str(root), str(map_into)])
        mapped = Mapped(root, map_into)
        pytest.main(words, plugins=[mapped])
        sys.settrace(None)
        out.write_text(json.dumps(mapped.written()))
    else:
        first = First()
        code = int(pytest.main([*words, "-x"], plugins=[first]))
        out.write_text(json.dumps({"code": code, "first": first.name}))
    os._exit(0)


SITE = """
import json, os, runpy
if os.environ.get("MUTANTS_TRACE"):
    script, *where = json.loads(os.environ["MUTANTS_TRACE"])
    runpy.run_path(script)["trace"](*where)
"""


def copied(into: Path) -> Path:
    """A copy of the sources in which faults can be made."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, into / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif (ROOT / name).exists():
            into.mkdir(exist_ok=True)
            shutil.copyfile(ROOT / name, into / name)
    return into


def tests_of(
    mutant: Mutant, coverage: dict[str, Any], most: float
) -> tuple[list[str], float, bool]:
    """The tests that execute a mutant's line, fast files first; how long they take; whether all of
    them are there.
    """
    failed, seconds = set(coverage["failed"]), coverage["seconds"]
    lines = [f"{mutant.file}:{line}" for line in range(mutant.line, mutant.last + 1)]
    seen = {at for line in lines for at in coverage["lines"].get(line, ())}
    if "import" in seen:  # a constant of the module: whoever executes anything of it
        seen = {
            at
            for line, ats in coverage["lines"].items()
            if line.startswith(f"{mutant.file}:")
            for at in ats
        }
    files = {at for at in seen if "::" not in at}
    executing = [
        one
        for one in seconds
        if one not in failed and (one in seen or one.partition("::")[0] in files)
    ]
    cost: dict[str, float] = defaultdict(float)
    for test in executing:
        cost[test.partition("::")[0]] += seconds[test]
    executing.sort(key=lambda one: cost[one.partition("::")[0]])  # stable, so that files stay whole
    affordable, spent = [], 0.0
    for test in executing:
        if spent + seconds[test] <= most:
            affordable.append(test)
            spent += seconds[test]
    return affordable, spent, len(affordable) == len(executing)


@dataclass
class Running:
    mutant: Mutant
    process: Any
    tree: Path
    out: Path
    until: float
    whole: bool


def ended(trial: Running) -> dict[str, Any] | None:
    """The outcome of a mutant whose tests have run; None while they do."""
    late, mutant = time.monotonic() > trial.until, trial.mutant
    if trial.process.is_alive() and not late:
        return None
    if trial.process.is_alive():
        os.killpg(trial.process.pid, signal.SIGKILL)
    trial.process.join()
    shutil.copyfile(ROOT / mutant.file, trial.tree / mutant.file)
    outcome = {"id": mutant.id, "mutant": str(mutant), "first": "", "whole": trial.whole}
    if late:
        return outcome | {"outcome": "timeout"}
    if not trial.out.exists():
        return outcome | {"outcome": "killed", "first": "the process itself"}
    seen = json.loads(trial.out.read_text())
    return outcome | {
        "outcome": "killed" if seen["code"] not in (0, 5) else "survived",
        "first": seen["first"],
    }


def run(
    sample: list[Mutant], coverage: dict[str, Any], scratch: Path, workers: int, most: float
) -> Iterator[dict[str, Any]]:
    """The outcome of each mutant, as they end."""
    trees = [copied(scratch / f"tree{i}") for i in range(workers)]
    fork, running, queue = multiprocessing.get_context("fork"), list[Running](), sample[::-1]
    while queue or running:
        while queue and trees:
            mutant = queue.pop()
            tests, seconds, whole = tests_of(mutant, coverage, most)
            if not tests:
                yield {
                    "id": mutant.id,
                    "mutant": str(mutant),
                    "outcome": "survived",
                    "first": "",
                    "whole": whole,
                    "untested": True,
                }
                continue
            tree, out = trees.pop(), scratch / f"{mutant.id}.json"
            (tree / mutant.file).write_bytes(mutant.made((ROOT / mutant.file).read_bytes()))
            process = fork.Process(target=inside, args=(tree, scratch, tests, out, None))
            process.start()
            until = time.monotonic() + SLOWER * seconds + 60
            running.append(Running(mutant, process, tree, out, until, whole))
        time.sleep(0.1)
        for trial in list(running):
            outcome = ended(trial)
            if outcome:
                running.remove(trial)
                trees.append(trial.tree)
                yield outcome


def argued() -> set[str]:
    """Ids of the mutants that docs/mutants.md says no test can notice."""
    page = ROOT / "docs" / "mutants.md"
    return set(re.findall(r"`([0-9a-f]{8})`", page.read_text())) if page.exists() else set()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sample", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[""], help="parts of paths, or ids of mutants")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--most", type=float, default=120, help="seconds of processor time of tests a mutant"
    )
    parser.add_argument("--tests", nargs="+", default=TESTS, help="test files or folders")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder of the map and the outcomes; continued if there",
    )
    parser.add_argument("--list", action="store_true", help="show the sample and run nothing")
    args = parser.parse_args()
    files = sorted({path.relative_to(ROOT).as_posix() for one in WIRING for path in ROOT.glob(one)})
    every = [one for file in files for one in mutants(ROOT, file)]
    every = [one for one in every if any(only in one.file or only == one.id for only in args.only)]
    sample = random.Random(args.seed).sample(every, min(args.sample, len(every)))
    print(f"{len(every)} mutants of {len(files)} files, {len(sample)} of them are made")
    if args.list:
        print(*sample, sep="\n")
        return 0
    args.out.mkdir(parents=True, exist_ok=True)
    for name in HEAVY:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory() as folder:
        scratch, at = Path(folder), args.out / "map.json"
        (scratch / "sitecustomize.py").write_text(SITE)
        if not at.exists():
            (scratch / "lines").mkdir()
            where = (copied(scratch / "mapped"), scratch, list(args.tests), at, scratch / "lines")
            process = multiprocessing.get_context("fork").Process(target=inside, args=where)
            process.start()
            process.join()
        data = json.loads(at.read_text())
        print(
            f"{len(data['seconds'])} tests, {sum(data['seconds'].values()):.0f} s; red already: "
            f"{data['failed']}"
        )
        outcomes = args.out / "outcomes.jsonl"
        earlier = (
            [json.loads(line) for line in outcomes.read_text().splitlines()]
            if outcomes.exists()
            else []
        )
        done = {one["id"]: one for one in earlier}
        with outcomes.open("a") as file:
            left = [one for one in sample if one.id not in done]
            for outcome in run(left, data, scratch, args.workers, args.most):
                done[outcome["id"]] = outcome
                print(json.dumps(outcome), file=file, flush=True)
                print(
                    f"{outcome['outcome']:9s} {outcome['mutant']}  {outcome['first']}", flush=True
                )
    return summary([done[one.id] for one in sample])


def summary(outcomes: list[dict[str, Any]]) -> int:
    """Prints survivors and the rate; 1 where fewer than 90 of 100 mutants die, those argued for
    left out.
    """
    excused = argued()
    survived = [one for one in outcomes if one["outcome"] == "survived"]
    print("\nSurvivors:")
    for outcome in survived:
        untested = "no test executes it" if outcome.get("untested") else ""
        note = "argued" if outcome["id"] in excused else untested
        print(
            f"- `{outcome['mutant'].replace(' ', '` ', 1)} "
            f"{note}{'' if outcome['whole'] else ' (not all its tests ran)'}"
        )
    counted = [one for one in outcomes if one["id"] not in excused]
    dead = sum(one["outcome"] != "survived" for one in counted)
    late = sum(one["outcome"] == "timeout" for one in counted)
    rate = dead / max(len(counted), 1)
    print(
        f"{dead} of {len(counted)} died ({100 * rate:.0f} %), {late} of them by time; "
        f"{len(outcomes) - len(counted)} "
        "more are argued in docs/mutants.md"
    )
    return int(rate < 0.9)


if __name__ == "__main__":
    sys.exit(main())
