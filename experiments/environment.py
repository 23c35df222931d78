"""What results are made on: this machine, the installed libraries, and the code as it is."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, distribution, requires, version
from pathlib import Path

from experiments.results.manifest import (
    Code,
    Machine,
)

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


def locked() -> list[str]:
    """What this project needs of what is installed, however deep, with versions; all else is its
    owner's own.
    """
    waiting = _needed(PROJECT, "") or [(name, "") for name in LIBRARIES]
    pins = dict[tuple[str, str], str]()
    while waiting:
        needed = waiting.pop()
        if needed not in pins:
            installed = distribution(needed[0])
            pins[needed] = f"{installed.metadata['Name']}=={installed.version}"
            waiting += _needed(*needed)
    return sorted({*pins.values()})


def _needed(name: str, extra: str) -> list[tuple[str, str]]:
    """The installed distributions, each with an extra or none, that one needs on this machine."""
    from packaging.requirements import Requirement

    requirements = [
        Requirement(line) for line in (requires(name) if _is_installed(name) else None) or []
    ]
    meant = [
        one for one in requirements if one.marker is None or one.marker.evaluate({"extra": extra})
    ]
    return [
        (one.name, more)
        for one in meant
        if _is_installed(one.name)
        for more in ("", *sorted(one.extras))
    ]


def _is_installed(name: str) -> bool:
    try:
        return bool(distribution(name))
    except PackageNotFoundError:
        return False


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
