"""GGUF files, whole but for one thing: a field, a tensor, or some bytes."""

from __future__ import annotations

import functools
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from distill.completions import Interface, Prompt
from distill.embedded import END, byte_pair_tokenizer
from distill.folders import load
from tests.fuzz import Kind, Outcome, call

WIDTH, ROWS = 32, 270
GONE = "gone"
FIELDS: dict[str, list[Any]] = {  # what cannot be there
    "general.architecture": [GONE, "", "nosuch", "whisper", 5],
    "llama.block_count": [GONE, 0, 2, 10**6, "1"],
    "llama.context_length": [0, "64"],
    "llama.embedding_length": [GONE, 0, 64, 10**9, "32"],
    "llama.feed_forward_length": [GONE, 0, 7, 10**9],
    "llama.attention.head_count": [GONE, 0, 3, 10**6, "2"],
    "llama.attention.head_count_kv": [0, 3, "2"],
    "llama.attention.layer_norm_rms_epsilon": [-1.0, float("nan"), "x"],
    "tokenizer.ggml.model": [GONE, "", "nosuch", 5],
    "tokenizer.ggml.tokens": [GONE, ["a"], ["a"] * ROWS, [str(n) for n in range(2 * ROWS)], 5],
    "tokenizer.ggml.merges": [["a"], ["a b c"], ["q z"], 5],
    "tokenizer.ggml.eos_token_id": [GONE, 10**6, "x"],
    "tokenizer.chat_template": ["{{ messages }", "{{ 1 / 0 }}", "only this"],
}
TENSORS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "half": lambda weight: weight[: len(weight) // 2],
    "flat": lambda weight: weight.reshape(-1),
    "NaN": lambda weight: weight * np.float32("nan"),
    "infinite": lambda weight: weight + np.float32("inf"),
    "another name": lambda weight: weight,
    GONE: lambda weight: weight,
}
NAMES = [
    "token_embd.weight",
    "output_norm.weight",
    *(
        f"blk.0.{name}.weight"
        for name in (
            *("attn_q", "attn_k", "attn_v", "attn_output", "attn_norm"),
            *("ffn_gate", "ffn_up", "ffn_down", "ffn_norm"),
        )
    ),
]
HEADS = [
    b"",
    b"GGUF",
    b"GGML",
    b"GGUF" + struct.pack("<I", 99),
    b"GGUF" + struct.pack("<IQQ", 3, 2**62, 1),
    b"GGUF" + struct.pack("<IQQ", 3, 1, 2**62),
    b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**62),
    b"PK\x03\x04" + b"\x00" * 64,
    b"\x00" * 4096,
]
CASE = st.one_of(
    st.sampled_from([("field", name, value) for name in FIELDS for value in FIELDS[name]]),
    st.sampled_from(
        [
            ("tensor", name, what)
            for name in NAMES
            for what in TENSORS
            if not (what == "flat" and "norm" in name)
        ]
    ),
    st.sampled_from([("head", "", data) for data in HEADS]),
    st.tuples(st.just("cut"), st.just(""), st.floats(0, 0.98)),
    st.tuples(st.just("flip"), st.integers(0, 7), st.floats(0, 1)),
    st.sampled_from([("folder", "", ""), ("pickled", "", "")]),
)


@functools.cache
def fields() -> dict[str, Any]:
    """What a good file says of itself, by name."""
    # transformers adds the name that GPT-2's end has to a tokenizer that lacks it.
    model = json.loads(byte_pair_tokenizer(["1+1= 2"], ROWS)._tokenizer.to_str())["model"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    tokens[tokens.index(END)] = "<|endoftext|>"
    return {
        "general.architecture": "llama",
        "general.name": "tiny",
        "llama.block_count": 1,
        "llama.context_length": 64,
        "llama.embedding_length": WIDTH,
        "llama.feed_forward_length": 64,
        "llama.attention.head_count": 2,
        "llama.attention.head_count_kv": 2,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.freq_base": 100.0,
        "llama.vocab_size": len(model["vocab"]),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.padding_token_id": 0,
    }


@functools.cache
def tensors() -> dict[str, np.ndarray]:
    rng, rows = np.random.default_rng(0), len(fields()["tokenizer.ggml.tokens"])
    shapes = {
        "token_embd": (rows, WIDTH),
        "output_norm": (WIDTH,),
        "blk.0.attn_norm": (WIDTH,),
        "blk.0.ffn_norm": (WIDTH,),
        "blk.0.ffn_gate": (64, WIDTH),
        "blk.0.ffn_up": (64, WIDTH),
        "blk.0.ffn_down": (WIDTH, 64),
    }
    shapes |= {f"blk.0.attn_{name}": (WIDTH, WIDTH) for name in ("q", "k", "v", "output")}
    return {
        f"{name}.weight": rng.normal(size=shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def write(path: Path, metadata: dict[str, Any], weights: dict[str, np.ndarray]) -> None:
    """A file of fields and tensors, as the library writes it."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.kv_data[0].clear()  # the architecture, which it writes unasked
    for name, value in metadata.items():
        if isinstance(value, list):
            writer.add_array(name, value)
        elif isinstance(value, str):
            writer.add_string(name, value)
        elif isinstance(value, float):
            writer.add_float32(name, value)
        else:
            writer.add_uint32(name, value)
    for name, weight in weights.items():
        writer.add_tensor(name, np.ascontiguousarray(weight))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def attempt(case: Any, folder: Path) -> Outcome:
    what, name, value = case
    metadata, weights, path = dict(fields()), dict(tensors()), folder / "m.gguf"
    if what == "field":
        metadata = {key: one for key, one in (metadata | {name: value}).items() if one != GONE}
    if what == "tensor":
        weight = TENSORS[value](weights.pop(name))
        if value != GONE:
            weights[f"{name}s" if value == "another name" else name] = weight
    write(path, metadata, weights)
    data = path.read_bytes()
    if what in ("folder", "pickled"):
        path.unlink()
    if what == "folder":
        path.mkdir()
    if what == "pickled":
        import torch

        torch.save({"a": torch.zeros(2)}, path)
    if what == "head":
        path.write_bytes(value)
    if what == "cut":
        path.write_bytes(data[: int(value * len(data))])
    if what == "flip":
        at = int(value * (len(data) - 1))
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << name]) + data[at + 1 :])
    return call(lambda: answered(path))


def answered(path: Path) -> str:
    model = load(str(path), max_new_tokens=2)
    return model.generate([Prompt("p", "1+1=")], seed=0, interface=Interface())[0].text


def fine(case: Any, folder: Path) -> str:
    """A bit that flipped may have made another good file; nothing else has."""
    return "" if case[0] == "flip" else "taken in silence: one thing is wrong in each"


KIND = Kind(CASE, attempt, fine)
