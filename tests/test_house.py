"""The packages stay readable: the field's names, small functions, classes and files, few keys."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("distill", "defenses", "experiments")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
NAMED = FILES + sorted(
    path for folder in ("tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")
)
"""Files whose names are words of the field, tests and benchmarks as well."""
DIALECT = frozenset("one held told said found kept here asked known chosen mine own given".split())
FIELDS = {
    # Part of addresses.
    "PrepareInputs.given",
    "ReleasedInputs.given",
    "StudentInputs.given",
    "TeacherEvaluationInputs.given",
    "AskedSpec.own",
    "PostTrainingSpec.own",
    "StudentSpec.own",
    # Keys of a study's YAML.
    "Study.own",
    # Keys of files and of results.
    "Detected.found",
    "DetectorResult.found",
    "Trained.asked",
    "TrainingReport.asked",
    "Volume.chosen",
    "VolumeResult.chosen",
}
"""Names that files and addresses have."""
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef
COMPREHENSIONS = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def nodes(package: str) -> Iterator[ast.AST]:
    for path in FILES:
        if path.is_relative_to(ROOT / package):
            yield from ast.walk(parsed(path))


def per_1000_lines(package: str, count: int) -> float:
    paths = [path for path in FILES if path.is_relative_to(ROOT / package)]
    return 1000 * count / sum(len(path.read_text().splitlines()) for path in paths)


def wide_names(tree: ast.AST, owner: str = "") -> Iterator[str]:
    """Names that are bound for longer than a comprehension or a lambda; a class's field is named
    with its class.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.comprehension):
            yield from wide_names(node.iter)
            continue
        if isinstance(node, ast.Lambda):
            yield from wide_names(node.body)
            continue
        if isinstance(node, ast.AnnAssign) and owner and isinstance(node.target, ast.Name):
            yield f"{owner}.{node.target.id}"
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        if isinstance(node, ast.arg):
            yield node.arg
        if isinstance(node, FUNCTIONS | ast.ClassDef):
            yield node.name
        yield from wide_names(node, node.name if isinstance(node, ast.ClassDef) else "")


def test_names_are_seen_where_they_are_bound():
    tree = ast.parse(
        "held = [one for one in (lambda told: told)(x)]\n"
        "class A:\n    kept: int = 0\n    def said(self, own, *, given=0): return [found := 1]\n"
    )
    assert {*wide_names(tree)} == {"held", "A", "A.kept", "said", "self", "own", "given", "found"}


@pytest.mark.parametrize("path", NAMED, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_name_is_dialect(path):
    bound = {*wide_names(parsed(path))} - FIELDS
    assert not {name for name in bound if name.rpartition(".")[2] in DIALECT}


def test_every_exception_is_one():
    assert {name for path in FILES for name in wide_names(parsed(path))} >= FIELDS


def length(body: list[ast.stmt]) -> int:
    """Lines of a body without its docstring."""
    doc = isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)
    statements = body[1:] if doc else body
    return statements[-1].end_lineno - statements[0].lineno + 1 if statements else 0


@pytest.mark.parametrize("package", PACKAGES)
def test_functions_are_small(package):
    bodies = sorted(length(n.body) for n in nodes(package) if isinstance(n, FUNCTIONS))
    assert bodies[int(0.95 * len(bodies))] <= 25 and bodies[-1] <= 60


@pytest.mark.parametrize("package", PACKAGES)
def test_classes_are_small(package):
    classes = [node for node in nodes(package) if isinstance(node, ast.ClassDef)]
    assert not [node.name for node in classes if node.end_lineno - node.lineno >= 120]


def test_files_are_small():
    assert not [path.name for path in FILES if len(path.read_text().splitlines()) > 400]


@pytest.mark.parametrize("package", PACKAGES)
def test_comprehensions_are_rarely_nested(package):
    nested = [
        node
        for node in nodes(package)
        if isinstance(node, COMPREHENSIONS)
        and any(n is not node and isinstance(n, COMPREHENSIONS) for n in ast.walk(node))
    ]
    assert per_1000_lines(package, len(nested)) <= 2


@pytest.mark.parametrize("package", PACKAGES)
def test_what_crosses_a_door_is_typed(package):
    keys = [
        n
        for n in nodes(package)
        if isinstance(n, ast.Subscript)
        and isinstance(n.slice, ast.Constant)
        and isinstance(n.slice.value, str)
    ]
    assert per_1000_lines(package, len(keys)) < 15


@pytest.mark.parametrize("room", ["planning", "stages"])
def test_what_is_planned_and_made_has_no_keys_at_all(room):
    """A dictionary's key cannot be checked; a field can."""
    keys = [
        f"{path.name}:{n.lineno}"
        for path in FILES
        if path.parent == ROOT / "experiments" / room
        for n in ast.walk(parsed(path))
        if isinstance(n, ast.Subscript)
        and isinstance(n.slice, ast.Constant)
        and isinstance(n.slice.value, str)
        and not (isinstance(n.value, ast.Name) and n.value.id == "Literal")
    ]
    assert not keys


def test_few_types_are_ignored():
    ignores = [m for path in FILES for m in re.findall("type: ignore", path.read_text())]
    assert len(ignores) <= 20
