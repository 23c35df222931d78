"""Which generators of reasoning-gym can be an exam: `python -m tests.reasoning_gym_survey`.

Each draws 20 questions in two processes of different PYTHONHASHSEED; what differs, has no answer,
is slow, or gives full marks to nonsense is printed, by its kind.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

QUESTIONS, SECONDS = 20, 25
NONSENSE = ("", "zzz qqq", "I do not know.")


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """TimeoutError after so many seconds."""

    def late(*_: Any) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)


def survey(name: str) -> dict[str, Any]:
    """What a generator draws, and what is wrong with it."""
    import reasoning_gym

    try:
        with limited():
            made = reasoning_gym.create_dataset(name, seed=45, size=QUESTIONS)
            entries = [made[index] for index in range(QUESTIONS)]
            drawn = [[entry["question"], str(entry["answer"])] for entry in entries]
            fault = "no answer" * any(entry["answer"] is None for entry in entries)
            return {"drawn": drawn, "fault": fault or marks(made, entries[0])}
    except TimeoutError:
        return {"fault": f"more than {SECONDS} s"}
    except Exception as error:
        return {"fault": f"{type(error).__name__}: {error}"}


def marks(made: Any, entry: dict[str, Any]) -> str:
    """Nonsense that has full marks, if any."""
    for text in NONSENSE:
        with contextlib.suppress(Exception):
            if made.score_answer(text, entry) == 1.0:
                return f"full marks for {text!r}"
    return ""


def main() -> None:
    from reasoning_gym.factory import DATASETS

    if sys.argv[1:] == ["one"]:
        print(json.dumps({name: survey(name) for name in sorted(DATASETS)}))
        return
    command = [sys.executable, "-m", "tests.reasoning_gym_survey", "one"]
    both = [
        subprocess.run(
            command, env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("0", "1")
    ]
    # Some generators print.
    first, second = (json.loads(out.splitlines()[-1]) for out in both)
    for name in first:
        fault = first[name]["fault"] or second[name]["fault"]
        if not fault and first[name] != second[name]:
            fault = "differs between processes"
        if fault:
            print(f"{name}: {' '.join(fault.split())[:120]}")


if __name__ == "__main__":
    main()
