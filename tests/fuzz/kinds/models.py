"""Model folders: a whole one with a setting changed, a file cut, or bytes of it changed."""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st

from distill.completions import Interface, Prompt
from distill.embedded import byte_pair_tokenizer, llama
from distill.folders import load
from tests.fuzz import Kind, Outcome, call

ODD = st.sampled_from(
    [None, True, False, 0, 1, -1, 3, 10**9, 1.5, -1e30, "", "a", "<end>", [], ["a"], {}, {"a": 1}]
)
JSON = st.sampled_from(
    ["config.json", "tokenizer_config.json", "tokenizer.json", "generation_config.json"]
)
SETTING = st.tuples(JSON, st.integers(0, 99), ODD)
FILE = st.sampled_from(
    ["config.json", "tokenizer_config.json", "tokenizer.json", "model.safetensors"]
)
BYTES = st.tuples(FILE, st.floats(0, 1), st.binary(min_size=1, max_size=3) | st.none())


@functools.cache
def whole() -> Path:
    """A tiny model that a process makes once."""
    folder = Path(tempfile.mkdtemp(prefix="model-")) / "whole"
    tokenizer = byte_pair_tokenizer(["1+1= 2"], 270)
    llama(
        tokenizer, hidden_size=8, num_layers=1, num_heads=2, max_length=64, seed=0
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def attempt(case: Any, folder: Path) -> Outcome:
    """Load it and ask it; whatever it is, it is a model that answers or one line."""
    shutil.copytree(whole(), folder / "model")
    path = folder / "model" / case[0]
    if isinstance(case[1], int):
        config = json.loads(path.read_text())
        config[sorted(config)[case[1] % len(config)]] = case[2]
        path.write_text(json.dumps(config))
    else:
        data, at = path.read_bytes(), int(case[1] * (path.stat().st_size - 1))
        path.write_bytes(
            data[:at] if case[2] is None else data[:at] + case[2] + data[at + len(case[2]) :]
        )

    def answer() -> None:
        model = load(str(folder / "model"), max_new_tokens=4)
        assert model.generate([Prompt("p", "1+1=")], seed=0, interface=Interface("top_k", 2))[
            0
        ].logprobs

    return call(answer)


def fine(case: Any, folder: Path) -> str:
    """Weights are what the file holds, and none was filled in."""
    before, now = (load(str(one)).network.state_dict() for one in (whole(), folder / "model"))
    same = before.keys() == now.keys() and all(
        torch.equal(before[name], now[name].float()) for name in before
    )
    return (
        ""
        if same or case[0] in ("model.safetensors", "config.json")
        else "taken in silence: other weights"
    )


KIND = Kind(SETTING | BYTES, attempt, fine)
