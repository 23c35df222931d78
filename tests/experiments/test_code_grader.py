"""Code is right where it passes its tests; whatever else it does is wrong and leaves nothing."""

import os
import tempfile
from pathlib import Path

import pytest

from experiments.tasks.graders import code, sandbox
from experiments.tasks.graders.code import Grader

GRADER = Grader(seconds=1)
ADD = "def add(a, b):\n    "
TESTS = "assert add(1, 2) == 3\nassert add(b=2, a=2) == 4\nassert sorted(add([1], [2])) == [1, 2]"
RIGHT = {
    "plain": ADD + "return a + b",
    "with the library": "import math, re, collections.abc\nfrom typing import *\n"
    "from functools import lru_cache\n" + ADD + "return a + b",
    "that prints": "print('failed')\n" + ADD + "print('failed'); return a + b",
    "by a lambda": "add = lambda a, b: a + b",
}
WRONG = {
    "another result": ADD + "return a - b",
    "nothing": "pass",
    "an error": ADD + "raise ValueError",
    "a loop": ADD + "while True: pass",
    "a loop at once": "while True: pass\n" + ADD + "return a + b",
    "much memory": "x = 'a' * 10**10\n" + ADD + "return a + b",
    "a long answer": ADD + "return 'a' * 10**8",
    "forks": "import os\n" + ADD + "os.fork(); return a + b",
    "forks for ever": "import posix\nwhile True: posix.fork()\n" + ADD + "return a + b",
    "another process": "import subprocess\n" + ADD + "return a + b",
    "a shell": "import os\n" + ADD + "os.system('true'); return a + b",
    "a file of others": ADD + "open('/etc/hostname').read(); return a + b",
    "a file of its own": ADD + "open('x', 'w').write('x'); return a + b",
    "a file by number": "import os\n" + ADD + "os.open('x', os.O_CREAT); return a + b",
    "a folder": "import os\n" + ADD + "os.listdir('/'); return a + b",
    "a socket": "import socket\n" + ADD + "return a + b",
    "C code": "import ctypes\n" + ADD + "return a + b",
    "a kill": "import os, sys\nos.kill(os.getppid(), 9)\n" + ADD + "return a + b",
    "an end": "import sys\n" + ADD + "sys.exit(0)",
    "a printed verdict": "import os, sys\n"
    "for i in range(1, 10):\n    try: os.write(i, b'passed\\n')\n    except OSError: pass\n"
    + ADD
    + "return a - b",
    "a value equal to all": "class E(int):\n    __eq__ = lambda self, other: True\n"
    "    __lt__ = __eq__\n" + ADD + "return E()",
    "other builtins": "import builtins\nbuiltins.sorted = lambda x: [1, 2]\n" + ADD + "return 3",
    "an error as a verdict": "class passed(Exception): pass\n" + ADD + "raise passed",
    "deep recursion": ADD + "return add(a, b)",
    "a deep value": ADD + "x = []\n    for _ in range(10**5): x = [x]\n    return x",
    "no plain value": ADD + "return object()",
}
PROGRAMS = '{"inputs": ["1 2", "3 4\\n"], "outputs": ["3\\n", "7"]}'


def folders():
    return [*Path(tempfile.gettempdir()).glob("distill-resist-code-*")]


def children():
    """Processes of this one, those that ended and were not waited for among them."""
    tasks = Path("/proc/self/task").glob("*/children")
    return {pid for task in tasks for pid in task.read_text().split()}


@pytest.mark.parametrize("code", RIGHT.values(), ids=RIGHT)
def test_code_that_passes_is_right(code):
    assert GRADER.same(GRADER.read(code), TESTS)


@pytest.mark.parametrize("code", WRONG.values(), ids=WRONG)
def test_all_else_is_wrong_and_leaves_nothing(code):
    before = folders(), children()
    assert not GRADER.same(GRADER.read(code), TESTS)
    assert (folders(), children()) == before


@pytest.mark.parametrize("wait", ["time.sleep(99)", "os.read(0, 1)"])
def test_what_waits_is_ended(wait):
    code = "import os, time\n" + ADD + f"{wait}; return a + b"
    assert not Grader(seconds=1, patience=1.5).same(code, TESTS)


@pytest.mark.parametrize("final", ["", "# a comment", "def add(a, b):", "a b", "\0", "(" * 5000])
def test_what_is_no_code_is_unparsed(final):
    assert GRADER.read(final) is None


@pytest.mark.parametrize(
    ("code", "passes"),
    [
        ("a, b = map(int, input().split())\nprint(a + b)", True),
        ("import sys\nprint(sum(map(int, sys.stdin.buffer.read().split())), end='  \\n\\n')", True),
        ("import sys\nprint(3)\nsys.exit(1)", False),
        ("print(3)\nprint(7)", False),
        ("while True: print(3)", False),
    ],
)
def test_programs_are_judged_by_what_they_print(code, passes):
    assert GRADER.same(code, PROGRAMS) is passes


@pytest.mark.parametrize(
    ("tests", "passes"),
    [
        ("def check(candidate):\n    assert candidate(1, 2) == 3\ncheck(add)", True),
        ("try:\n    add(1, 'a')\n    assert False\nexcept TypeError:\n    pass", True),
        ("import math\nassert math.isclose(add(0.1, 0.2), 0.3)", True),
        ("assert add({'a': (1, None)}, 1) == 2", False),
        ("assert subtract(1, 2) == -1", False),
        ("print('passed')\nassert add(1, 2) == 4", False),
        ("raise SystemExit(0)", False),
    ],
)
def test_tests_are_python(tests, passes):
    assert GRADER.same(RIGHT["plain"], tests) is passes


@pytest.mark.parametrize("name", ["unshare", "limits"])
def test_the_limits_hold_whatever_stands_around_them(name, monkeypatch):
    if name not in (sandbox.isolation(), "limits"):
        pytest.skip(f"{name} does not work on this machine")
    monkeypatch.setattr(sandbox, "isolation", lambda: name)
    cases = ["forks for ever", "a file of its own", "a loop", "a printed verdict", "a kill"]
    assert GRADER.same(RIGHT["plain"], TESTS)
    assert not any(GRADER.same(WRONG[case], TESTS) for case in cases)


@pytest.mark.parametrize(("name", "says"), [("limits", True), ("unshare", False)])
def test_a_plan_says_where_little_stands_around_the_code(name, says, monkeypatch):
    monkeypatch.setattr(code, "isolation", lambda: name)
    assert bool(GRADER.note()) is says


@pytest.mark.skipif(os.geteuid() != 0, reason="limits on processes do not hold for root alone")
def test_the_kernel_refuses_what_the_hook_would(monkeypatch, tmp_path):
    """The worker without its hook: files and processes are still closed to it."""
    text = sandbox.WORKER.read_text().replace("    sys.addaudithook(hook)\n", "")
    text = text.replace("mkfifo mknod fork", "")
    unguarded = tmp_path / "worker.py"
    unguarded.write_text(text)
    monkeypatch.setattr(sandbox, "WORKER", unguarded)
    for action in ("open('x', 'w').write('x')", "__import__('os').fork()"):
        code = ADD + f"try: {action}\n    except OSError: return a + b"
        assert GRADER.same(code, TESTS), action
