"""What runs in a sandbox: it limits itself, then runs the code that it is sent.

`program`: the code is the program, with the process's own input and output. `calls`: requests for
its functions are answered. `tests`: the code tests functions that are somewhere else: each call of
one is a request. A request is a line, `(function, arguments, named arguments)` as Python spells it,
an answer `("value", value)` or `("error", name of the exception)`. Only plain values cross, so that
neither side runs anything of the other. This file is sent to Python as text and imports no more.
"""

import ast
import builtins
import io
import os
import resource
import sys
from collections.abc import Callable, Sequence
from typing import Any

SECONDS, MEGABYTES, MODE = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
NOBODY = 65534
DEPTH = 50
LARGEST = sys.float_info.max
PLAIN = (int, complex, str, bytes, bool, type(None))
USUAL = (
    "_strptime abc array base64 bisect calendar cmath collections collections.abc contextlib copy "
    "dataclasses datetime decimal difflib enum fractions functools hashlib heapq io itertools json "
    "keyword math numbers operator pprint queue random re secrets statistics string struct sys "
    "textwrap time timeit types typing unicodedata uuid zlib"
).split()
"""What the code may import: nothing else is found, wherever Python is installed."""
REFUSED = (
    "open os. import subprocess. socket. ctypes. shutil. tempfile. pty. signal. mmap. fcntl. gc. "
    "syslog. resource. sys.settrace sys.setprofile sys.addaudithook code.__new__ marshal. pickle."
)
GONE = "mkfifo mknod fork forkpty _exit abort posix_spawn memfd_create kill killpg"


def limit() -> None:
    """Limits of the kernel, which cannot be raised again."""
    if os.geteuid() == 0:  # for whom limits on processes do not hold
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        except OSError:
            pass  # root of a namespace that has no other user
    for what, most in (
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_AS, MEGABYTES * 2**20),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 32),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))


def guard() -> None:
    """Refuse what a function that only computes has no need of."""
    refused = tuple(REFUSED.split())

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(refused):
            raise PermissionError(f"{event} is closed")

    for name in GONE.split():
        for module in (os, sys.modules["posix"]):
            if hasattr(module, name):
                delattr(module, name)
    sys.addaudithook(hook)


def spelled(value: Any, depth: int = 0) -> str:
    """A value that is plain, and all that is in it, as Python spells it.

    Args:
        value: of any type.
        depth: of what it is in, from 0.

    Raises:
        TypeError: it is not plain, or nested too deeply.
    """
    kind = type(value)
    if depth > DEPTH:
        raise TypeError("too deep")
    if kind is float and value == value:
        return repr(value) if abs(value) <= LARGEST else "1e999" if value > 0 else "-1e999"
    if kind in PLAIN:
        return repr(value)
    if kind is dict:
        pairs = [(spelled(k, depth + 1), spelled(v, depth + 1)) for k, v in value.items()]
        return f"{{{','.join(f'{k}:{v}' for k, v in pairs)}}}"
    inner = [spelled(one, depth + 1) for one in value] if kind in (list, tuple, set) else []
    if kind is tuple:
        return f"({''.join(one + ',' for one in inner)})"
    if kind is list:
        return f"[{','.join(inner)}]"
    if kind is set:
        return f"{{{','.join(inner)}}}" if inner else "set()"
    raise TypeError(f"{kind.__name__} is no plain value")


class Line:
    """What goes to whoever started the process, and comes from it; the code's own prints do not."""

    def __init__(self) -> None:
        self.output, self.input = os.fdopen(os.dup(1), "w", encoding="utf-8"), sys.stdin
        sys.stdout, sys.stdin = io.StringIO(), io.StringIO()

    def write(self, text: str) -> None:
        """Write a line at once.

        Args:
            text: without its end.
        """
        self.output.write(text + "\n")
        self.output.flush()

    def request(self, name: str, arguments: Sequence[Any], named: dict[str, Any]) -> Any:
        """What a function that is somewhere else returns, or raises.

        Args:
            name: of the function.
            arguments: plain values.
            named: plain values by name.

        Raises:
            Exception: what it raised, of the same built-in class.
        """
        self.write(spelled((name, arguments, named)))
        kind, value = ast.literal_eval(self.input.readline())
        if kind == "value":
            return value
        error = getattr(builtins, str(value), RuntimeError)
        raise error if issubclass(error, Exception) else RuntimeError


def serve(code: str, line: Line) -> None:
    """Answer requests for the functions of the code.

    Args:
        code: Python source.
        line: of requests and replies.
    """
    space: dict[str, Any] = {"__name__": "answer"}
    try:
        exec(compile(code, "answer", "exec"), space)
    except BaseException:
        space = {}
    for request in line.input:
        sys.stdout = io.StringIO()
        try:
            name, arguments, named = ast.literal_eval(request)
            reply = f"('value', {spelled(space[name](*arguments, **named))})"
        except BaseException as error:
            reply = repr(("error", type(error).__name__))
        line.write(reply)


def test(code: str, names: Sequence[str], line: Line) -> None:
    """Run tests of functions that are somewhere else, and say whether all of them passed.

    Args:
        code: Python source of the tests.
        names: of the functions.
        line: of requests and replies.
    """

    def remote(name: str) -> Callable[..., Any]:
        return lambda *arguments, **named: line.request(name, arguments, named)

    space = {"__name__": "tests"} | {name: remote(name) for name in names}
    try:
        exec(compile(code, "tests", "exec"), space)
    except BaseException:
        line.write("failed")
    else:
        line.write("passed")


for usual in USUAL:
    builtins.__import__(usual)
limit()
CODE, NAMES = ast.literal_eval(sys.stdin.buffer.readline().decode())
if MODE == "program":
    guard()
    exec(compile(CODE, "answer", "exec"), {"__name__": "__main__"})
else:
    LINE = Line()
    guard()
    if MODE == "calls":
        serve(CODE, LINE)
    else:
        test(CODE, NAMES, LINE)
