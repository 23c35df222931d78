"""Public functions say what they take, what they raise and the shapes of arrays.

The arguments of a function stand in its docstring, in that of the method that it overrides, or in
that of the Protocol that its class or its module implements; those of `__init__`, and those that
many methods have, stand in the docstring of the class. One argument alone that is no number and no
array is told by the first line, but for methods that others override.

A shape is axes in brackets, as `[B, V]`, with `[]` for one number and `[...]` for any shape; or the
axes at the end of a name, as in `x_BV`. An array that a function takes has its shape in its name or
in its line of `Args:`. An array that it returns has its shape in the function's name or in brackets
in the docstring, outside `Args:` and `Raises:`, as in its first line or under `Returns:`.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.test_house import FILES, FUNCTIONS, PACKAGES, ROOT, parsed

Function = ast.FunctionDef | ast.AsyncFunctionDef
ARGS, OF_METHODS = "Args", "Arguments of its methods"
NAMES = re.compile(r"^ {4}(\*{0,2}\w+(?:, \*{0,2}\w+)*):", re.MULTILINE)
ARRAYS = re.compile(r"\b(ndarray|Tensor)\b")
AXES = re.compile(r"_[A-Z][A-Z0-9]*\b")
INTERVAL = r"[-\d., ]*\d[-\d., ]*"  # as [0, 1], which is no shape
SHAPE = re.compile(rf"(?<!\w)(?<!\bin )\[(?!{INTERVAL}\])[^\]\n]*\]")
NUMBERS = re.compile(r"\b(int|float|Any|ndarray|Tensor|Generator)\b")


def is_decorated(function: Function, *names: str) -> bool:
    words = [ast.unparse(one).partition("(")[0] for one in function.decorator_list]
    return any(word.endswith(names) for word in words)


def methods(node: ast.AST) -> dict[str, Function]:
    """What is called of a class or a module, by name."""
    functions = (one for one in ast.iter_child_nodes(node) if isinstance(one, FUNCTIONS))
    return {one.name: one for one in functions if not is_decorated(one, "property", "overload")}


def section(heading: str) -> re.Pattern[str]:
    return re.compile(rf"^{heading}:\n((?: +.*(?:\n|$)|\n)+)", re.MULTILINE)


def explained(node: ast.AST, heading: str = ARGS) -> dict[str, str]:
    """What a docstring says of each argument that it names."""
    match = section(heading).search(ast.get_docstring(node) or "")
    _, *parts = NAMES.split(match[1]) if match else [""]
    entries = zip(parts[::2], parts[1::2], strict=True)
    return {name.strip(" *"): text for names, text in entries for name in names.split(",")}


def documented(node: ast.AST, heading: str = ARGS) -> set[str]:
    """The arguments that a docstring names."""
    return {*explained(node, heading)}


def besides_arguments(node: ast.AST) -> str:
    """What a docstring says but for what the function takes and raises."""
    text = ast.get_docstring(node) or ""
    for heading in (ARGS, OF_METHODS, "Raises"):
        text = section(heading).sub("", text)
    return text


def arguments(function: Function, is_method: bool) -> list[ast.arg]:
    """What a caller hands over."""
    every = function.args
    named = [*every.posonlyargs, *every.args]
    bound = is_method and not is_decorated(function, "staticmethod")
    return [*named[bound:], *every.kwonlyargs, *filter(None, (every.vararg, every.kwarg))]


def is_array(annotation: ast.expr | None) -> bool:
    return annotation is not None and bool(ARRAYS.search(ast.unparse(annotation)))


def has_units(argument: ast.arg) -> bool:
    """Whether it is a number, an array or anything at all."""
    return not argument.annotation or bool(NUMBERS.search(ast.unparse(argument.annotation)))


# Classes and what they extend


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def imports() -> dict[str, dict[str, str]]:
    """What each module calls what it imports from others."""
    return {
        module_of(path): {
            alias.asname or alias.name: f"{node.module}.{alias.name}"
            for node in ast.walk(parsed(path))
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        for path in FILES
    }


@cache
def classes() -> dict[str, ast.ClassDef]:
    """The classes of all packages by their dotted names."""
    return {
        f"{module_of(path)}.{node.name}": node
        for path in FILES
        for node in parsed(path).body
        if isinstance(node, ast.ClassDef)
    }


def defined_at(name: str) -> str | None:
    """The dotted name of a class where it is defined, however often it is imported on the way."""
    if name in classes():
        return name
    module, _, last = name.rpartition(".")
    further = imports().get(module, {}).get(last)
    return defined_at(further) if further else None


@cache
def line(name: str) -> tuple[str, ...]:
    """A class and all that it extends."""
    module, above = name.rpartition(".")[0], [name]
    for base in classes()[name].bases:
        first, dot, rest = ast.unparse(base).partition("[")[0].partition(".")
        start = imports()[module].get(first, f"{module}.{first}")
        if parent := defined_at(f"{start}{dot}{rest}"):
            above += line(parent)
    return tuple(above)


@cache
def heirs(name: str) -> list[str]:
    """A class and all that extend it."""
    return [other for other in classes() if name in line(other)]


@cache
def protocols() -> list[dict[str, Function]]:
    bases = {name: map(ast.unparse, node.bases) for name, node in classes().items()}
    return [methods(classes()[name]) for name in bases if "Protocol" in bases[name]]


def implemented(offers: list[set[str]]) -> list[dict[str, Function]]:
    """The Protocols that one of these has all methods of."""
    return [one for one in protocols() if any(one.keys() <= names for names in offers)]


# Public functions


class Public(NamedTuple):
    path: Path
    owner: str  # the class's name, or empty
    function: Function

    def __str__(self) -> str:
        name = f"{self.owner}.{self.function.name}" if self.owner else self.function.name
        return f"{self.path.relative_to(ROOT)}: {name}"

    @property
    def line(self) -> tuple[str, ...]:
        """Its class and all that this extends."""
        return line(f"{module_of(self.path)}.{self.owner}") if self.owner else ()

    @property
    def heirs(self) -> list[str]:
        return heirs(self.line[0]) if self.owner else []

    @property
    def is_interface(self) -> bool:
        """Whether a class below has the method as well."""
        return any(self.function.name in methods(classes()[heir]) for heir in self.heirs[1:])

    @property
    def sources(self) -> list[ast.AST]:
        """The functions that may document it, and for `__init__` the classes."""
        above = [methods(classes()[name]) for name in self.line[1:]]
        whole = [{m for one in line(heir) for m in methods(classes()[one])} for heir in self.heirs]
        above += implemented(whole or [{*methods(parsed(self.path))}])
        inherited = [one[self.function.name] for one in above if self.function.name in one]
        is_init = self.function.name == "__init__"
        return [self.function, *inherited, *(classes()[name] for name in self.line if is_init)]

    def missing(self) -> set[str]:
        """The arguments that no docstring names and one should."""
        taken = arguments(self.function, bool(self.owner))
        if len(taken) < 2 and not self.is_interface and not any(map(has_units, taken)):
            return set()
        names = [documented(node) for node in self.sources]
        names += [documented(classes()[name], OF_METHODS) for name in self.line]
        return {one.arg for one in taken}.difference(*names)

    def shapeless(self) -> set[str]:
        """The arrays that it takes without a word on their axes."""
        taken = [
            one.arg
            for one in arguments(self.function, bool(self.owner))
            if is_array(one.annotation)
        ]
        texts = [explained(node) for node in self.sources]
        texts += [explained(classes()[name], OF_METHODS) for name in self.line]
        shown = {name for text in texts for name in taken if SHAPE.search(text.get(name, ""))}
        return {name for name in taken if not AXES.search(name)} - shown

    @property
    def returns_shapeless(self) -> bool:
        """Whether it returns arrays without a word on their axes."""
        if not is_array(self.function.returns) or AXES.search(self.function.name):
            return False
        return not any(SHAPE.search(besides_arguments(node)) for node in self.sources)


def claims(path: Path) -> set[str]:
    """The functions of a contract whose names say what is claimed, of what the head of the file
    says.
    """
    lists = [
        node.value
        for node in parsed(path).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("CLAIMS", "ITSELF")
    ]
    return {n.id for value in lists for n in ast.walk(value) if isinstance(n, ast.Name)}


def public(path: Path) -> Iterator[Public]:
    owners = [node for node in parsed(path).body if isinstance(node, ast.ClassDef)]
    for node in (parsed(path), *owners):
        owner = getattr(node, "name", "")
        for function in (one for one in node.body if isinstance(one, FUNCTIONS)):
            names = {owner, function.name} - {"__init__", "__call__"}
            if function.name not in claims(path) and not any(n.startswith("_") for n in names):
                yield Public(path, owner, function)


def of(package: str) -> list[Public]:
    paths = [path for path in FILES if path.is_relative_to(ROOT / package)]
    return [one for path in paths for one in public(path)]


def raises(function: Function) -> bool:
    """Whether a function itself raises an exception that it makes."""
    left: list[ast.AST] = [*function.body]
    while left:
        node = left.pop()
        if isinstance(node, ast.Raise) and node.exc is not None:
            return True
        if not isinstance(node, FUNCTIONS | ast.Lambda | ast.ClassDef):
            left.extend(ast.iter_child_nodes(node))
    return False


@pytest.mark.parametrize("package", PACKAGES)
def test_what_a_function_raises_stands_in_its_docstring(package):
    raising = [one for one in of(package) if raises(one.function)]
    assert raising
    assert not [
        str(one)
        for one in raising
        if not any("Raises:\n" in (ast.get_docstring(node) or "") for node in one.sources)
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_what_a_function_takes_stands_in_a_docstring(package):
    """But for commands, of which `--help` says it, and properties, which take nothing."""
    called = [one for one in of(package) if "commands" not in one.path.parts]
    assert not [f"{one}: {', '.join(sorted(lost))}" for one in called if (lost := one.missing())]


@pytest.mark.parametrize("package", PACKAGES)
def test_arrays_that_a_function_takes_have_their_shapes_in_a_docstring(package):
    assert not [
        f"{one}: {', '.join(sorted(lost))}" for one in of(package) if (lost := one.shapeless())
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_arrays_that_a_function_returns_have_their_shapes_in_a_docstring(package):
    assert not [str(one) for one in of(package) if one.returns_shapeless]


def test_an_interval_is_no_shape():
    shapes = ("`[B, V]` in [0, 1]", "`[]`, nats", "`[..., B]`", "`[1 + K]`")
    assert all(map(SHAPE.search, shapes))
    assert not any(map(SHAPE.search, ("in [0, ln 2]", "from [-1, 0.5]", "list[int]", "x_BV")))


def test_what_is_said_of_an_argument_is_not_said_of_the_result():
    module = ast.parse('"""Half of them.\\n\\nArgs:\\n    x: `[N]`.\\n"""')
    assert explained(module)["x"].strip() == "`[N]`."
    assert besides_arguments(module).strip() == "Half of them."
