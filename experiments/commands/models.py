"""The command that makes a folder of a model file: convert."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from distill import folders
from distill.completions import BadInput
from experiments.results.plain import Plain


def convert(*, model: str, to: Path) -> None:
    """Write a model as a folder of safetensors, which opens at once; a GGUF file takes a minute
    each time.

    Raises:
        BadInput: there is no such model, or something is at `to` already.
    """
    if to.exists():
        raise BadInput(f"{to}: is there already; choose another folder, or delete it")
    part = to.with_name(f".{to.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    loaded = folders.load(model)
    try:
        part.mkdir(parents=True)
        folders.save(loaded, part)
        os.replace(part, to)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise BadInput(f"{to}: cannot be written ({error.strerror or error})") from error
    Plain().print(f"{to}: {sum(p.numel() for p in loaded.network.parameters()):,} weights")
