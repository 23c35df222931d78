"""Folders of a LoRA adapter, whole but for one thing: a setting, a weight, a file, or its base."""

from __future__ import annotations

import functools
import json
import pickle
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from distill import adapters
from distill.adapters import CONFIG, WEIGHTS
from distill.embedded import byte_pair_tokenizer, llama
from distill.folders import load
from distill.specs import LoraConfig, PretrainedModel
from tests.fuzz import Kind, Outcome, call

NO_NUMBER = [None, "8", [], {}, True, float("nan")]
SETTINGS: dict[str, list[Any]] = {  # what cannot be there
    "peft_type": [None, "", "lora", "IA3", "PROMPT_TUNING", 1, []],
    "r": [*NO_NUMBER, 0, -1, 1.5, 3, 10**9],
    "lora_alpha": [*NO_NUMBER, float("inf")],
    "target_modules": [None, "", [], ["nothing"], 1, "(((", ["q_proj"], "(a*)*$", {"a": 1}],
    "lora_dropout": [None, "x", [], -1, 2, float("nan")],
    "bias": ["some", 1, []],
    "rank_pattern": [{"q_proj": 3}, {"q_proj": 0}, {"q_proj": 10**9}, 1, ["q_proj"]],
    "alpha_pattern": [{"q_proj": "x"}, {"q_proj": None}, {"q_proj": float("inf")}, 1],
    "layers_to_transform": ["x", [None], [-1]],
    "modules_to_save": [["lm_head"], ["embed_tokens"], "lm_head", 1],
    "use_dora": [True],
    "lora_bias": [True],
    "init_lora_weights": ["pissa", "olora", "eva", "corda", "loftq", "orthogonal", "?", 1],
    "megatron_config": [{"tensor_model_parallel_size": 1}, 1],
    "trainable_token_indices": [[0, 1], {"embed_tokens": [0]}],
    "target_parameters": [["q_proj.weight"], 1],
    "a_setting_of_a_later_version": [True, "yes", {"a": 1}],
}
FIRST, LAST = 0, -1
WEIGHT: dict[str, Callable[[torch.Tensor], torch.Tensor | None]] = {
    "gone": lambda weight: None,
    "turned": lambda weight: weight.T.contiguous(),
    "half": lambda weight: weight[: len(weight) // 2].clone(),
    "empty": lambda weight: weight[:0].clone(),
    "flat": lambda weight: weight.flatten().clone(),
    "NaN": lambda weight: weight * float("nan"),
    "infinite": lambda weight: weight + float("inf"),
    "whole numbers": lambda weight: weight.long(),
    "truth": lambda weight: weight > 0,
    "complex": lambda weight: weight.to(torch.complex64),
}
BYTES = [
    b"",
    b"\xff" * 8,
    b"\xff\xff\xff\xff\xff\xff\xff\x7f{}",
    b"PK\x03\x04",
    b"[",
    b"{}",
    b"5",
    b"null",
    b"\xef\xbb\xbf{",
    b'{"a": ' * 20_000,
    pickle.dumps({"a": torch.zeros(1)}),
]
CASE = st.one_of(
    st.sampled_from([("setting", name, value) for name in SETTINGS for value in SETTINGS[name]]),
    st.sampled_from([("weight", name, place) for name in WEIGHT for place in (FIRST, LAST)]),
    st.sampled_from([("bytes", name, data) for name in (CONFIG, WEIGHTS) for data in BYTES]),
    st.tuples(st.just("cut"), st.sampled_from([CONFIG, WEIGHTS]), st.floats(0, 0.98)),
    st.sampled_from([("gone", CONFIG, 0), ("gone", WEIGHTS, 0), ("folder", CONFIG, 0)]),
    st.sampled_from([("folder", WEIGHTS, 0), ("pickled", WEIGHTS, 0), ("more", WEIGHTS, 0)]),
    st.sampled_from([("base", "num_layers", 3), ("base", "hidden_size", 32)]),
)
SHAPE = {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "max_length": 64}


def network(**changes: int) -> Any:
    return llama(_tokenizer(), **(SHAPE | changes), seed=0)


@functools.cache
def _tokenizer() -> Any:
    return byte_pair_tokenizer(["1+1= 2"], 270)


@functools.cache
def whole() -> Path:
    """A base and an adapter of it, made once."""
    folder = Path(tempfile.mkdtemp(prefix="adapter-"))
    network().save_pretrained(folder / "base")
    _tokenizer().save_pretrained(folder / "base")
    model = network()
    adapters.add(model, LoraConfig(r=4), seed=1)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.fill_(0.1)
    (folder / "adapter").mkdir()
    adapters.write(model, folder / "adapter")
    return folder


def attempt(case: Any, folder: Path) -> Outcome:
    shutil.copytree(whole(), folder, dirs_exist_ok=True)
    if case[0] == "base":
        network(**{case[1]: case[2]}).save_pretrained(folder / "base")
    else:
        _spoil(case, folder / "adapter")
    spec = PretrainedModel(path=str(folder / "base"), adapter=str(folder / "adapter"))
    return call(lambda: load(spec))


def _spoil(case: Any, adapter: Path) -> None:
    what, name, value = case
    path = adapter / (CONFIG if what == "setting" else WEIGHTS if what == "weight" else name)
    data = path.read_bytes()
    if what == "setting":
        path.write_text(json.dumps(json.loads(data) | {name: value}))
    elif what == "weight":
        weights = load_file(path)
        key = sorted(weights)[value]
        weights[key] = WEIGHT[name](weights[key])  # type: ignore[assignment]
        save_file({key: one for key, one in weights.items() if one is not None}, path)
    elif what == "more":
        save_file(load_file(path) | {"base_model.model.lm_head.lora_A.weight": torch.ones(4)}, path)
    elif what in ("bytes", "cut"):
        path.write_bytes(value if what == "bytes" else data[: int(value * len(data))])
    else:
        path.unlink()
        if what == "folder":
            path.mkdir()
        if what == "pickled":
            torch.save(load_file(whole() / "adapter" / WEIGHTS), adapter / "adapter_model.bin")


def fine(case: Any, folder: Path) -> str:
    return "taken in silence: one thing is wrong in each"


KIND = Kind(CASE, attempt, fine)
