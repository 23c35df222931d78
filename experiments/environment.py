"""What results are made on: this machine, the installed libraries, and the code as it is."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from experiments.results.manifest import (
    Code,
    Machine,
)

if TYPE_CHECKING:
    from packaging.requirements import Requirement

PROJECT = "distill-resist"
LIBRARIES = (
    "torch",
    "transformers",
    "datasets",
    "accelerate",
    "wandb",
    "numpy",
    "scipy",
    "scikit-learn",
    "tokenizers",
)


@functools.cache
def locked() -> tuple[str, ...]:
    """What this project needs of what is installed, however deep, with versions; all else is its
    owner's own. It is looked up once a process.
    """
    waiting = _needed(PROJECT, "") or [(name, "") for name in LIBRARIES]
    pins = dict[tuple[str, str], str]()
    while waiting:
        needed = waiting.pop()
        installed = _installed(needed[0])
        if needed not in pins and installed:
            pins[needed] = f"{installed.name}=={installed.version}"
            waiting += _needed(*needed)
    return tuple(sorted({*pins.values()}))


class _Installed(NamedTuple):
    """A distribution, whose metadata are parsed once."""

    name: str
    version: str
    needs: list[Requirement]


@functools.cache
def _installed(name: str) -> _Installed | None:
    from packaging.requirements import Requirement

    try:
        installed = distribution(name)
    except PackageNotFoundError:
        return None
    needs = [Requirement(line) for line in installed.requires or []]
    return _Installed(installed.metadata["Name"], installed.version, needs)


def _needed(name: str, extra: str) -> list[tuple[str, str]]:
    """The installed distributions, each with an extra or none, that one needs on this machine."""
    installed = _installed(name)
    needs = installed.needs if installed else []
    meant = [
        need for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})
    ]
    return [
        (need.name, more)
        for need in meant
        if _installed(need.name)
        for more in ("", *sorted(need.extras))
    ]


def versions() -> dict[str, str]:
    """The libraries that results may depend on."""
    return {name: version(name) for name in LIBRARIES}


def machine(threads: int = 1) -> Machine:
    """What bitwise repetition depends on beside versions: processor, capability, threads a worker,
    device.

    Args:
        threads: a worker.
    """
    import torch

    return Machine(
        python=platform.python_version(),
        platform=platform.platform(),
        cores=os.cpu_count(),
        threads=threads,
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    )


def code() -> Code:
    """Revision of the checkout where there is one, and the SHA-256 of the sources as they are."""
    root = Path(__file__).parents[1]
    packages = ("distill", "defenses", "experiments")
    sources = sorted(path for name in packages for path in (root / name).rglob("*.py"))
    state = hashlib.sha256()
    for path in sources:
        state.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return Code(revision=_revision(root), sources_sha256=state.hexdigest())


def _revision(root: Path) -> str | None:
    """Of the checkout whose root it is; None where it is none, or a folder of another one."""
    command = ["git", "-C", str(root), "rev-parse", "--show-toplevel", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        folder, revision = done.stdout.split()
    except (OSError, subprocess.CalledProcessError, ValueError):
        return None
    return revision if Path(folder) == root else None
