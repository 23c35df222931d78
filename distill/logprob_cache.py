"""The logprob cache: generated tokens and released logprobs as flat memory-mapped arrays.

A folder of little-endian .npy files, read without loading them, and a manifest that says what the
numbers mean and holds each file's SHA-256. Axes: A answers, N tokens of all answers, R rows of
logprobs, K entries a row.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from distill.completions import BadInput, Completion, Logprobs, write_bytes

VERSION = 2  # values and tails in float32: 1 rounded them to float16
# What top-k means differs between frameworks; here it is written down beside the numbers.
SEMANTICS = {
    "row t": "predicts token t; one row more, for end-of-text, where the answer is finished",
    "ids": "the released entries, most likely first",
    "values": "natural-log probability of the released distribution at temperature 1, float32",
    "withheld": "value -inf; its id means nothing",
    "tail": "log(1 - sum of p); -inf where nothing is missing",
}


def write(folder: Path, answers: Sequence[Completion], *, tokenizer: str, vocabulary: int) -> None:
    """Write the token ids and, where all answers carry them, logprobs.

    Takes 2 (V <= 65,536) or 4 bytes a token for text and K x 6 + 4 (or K x 8 + 4) more with
    logprobs, and 16 an answer. Values are as they were released: what edits a row afterwards must
    see what it would have seen at once.

    Args:
        folder: is made if need be.
        answers: with token ids; their logprobs `[T, K]`.
        tokenizer: SHA-256 of the tokenizer.
        vocabulary: how many tokens it has.

    Raises:
        BadInput: if only some answers carry logprobs, or of other widths, or some that are no
            numbers.
    """
    released = [answer.logprobs for answer in answers if answer.logprobs is not None]
    _check_released(folder, answers)
    kind = "<u2" if vocabulary <= 2**16 else "<u4"
    arrays = {
        "tokens": np.array([token for answer in answers for token in answer.token_ids], kind),
        "offsets": _offsets([len(answer.token_ids) for answer in answers]),
        **(_logprob_arrays(released, kind) if released else {}),
    }
    folder.mkdir(parents=True, exist_ok=True)
    manifest = {
        "version": VERSION,
        "tokenizer": tokenizer,
        "vocabulary": vocabulary,
        "k": released[0].ids_TK.shape[1] if released else 0,
        "prompts": [answer.prompt_id for answer in answers],
        "semantics": SEMANTICS,
        "files": {f"{name}.npy": _save(folder / f"{name}.npy", arrays[name]) for name in arrays},
    }
    write_bytes(folder / "manifest.json", json.dumps(manifest, indent=1).encode())


def _check_released(folder: Path, answers: Sequence[Completion]) -> None:
    """BadInput unless all answers or none carry logprobs, of one width and numbers."""
    released = [
        (answer.prompt_id, answer.logprobs) for answer in answers if answer.logprobs is not None
    ]
    widths = {logprobs.ids_TK.shape[1] for _, logprobs in released}
    if len(widths) > 1 or (released and len(released) < len(answers)):
        raise BadInput(
            f"{folder}: {len(released)} of {len(answers)} answers carry logprobs, of widths "
            f"{sorted(widths)}; all or none must, and of one width"
        )
    broken = [name for name, logprobs in released if not _is_releasable(logprobs.values_TK)]
    if broken:
        raise BadInput(
            f"{folder}: logprobs of {len(broken)} of {len(answers)} answers are neither finite "
            f"numbers nor -inf, as what is withheld; the first are those to {broken[0]!r}"
        )


def _logprob_arrays(released: Sequence[Logprobs], kind: str) -> dict[str, np.ndarray]:
    """The rows of all answers one behind another, and where each answer's begin."""
    ids_RK = np.concatenate([logprobs.ids_TK for logprobs in released])
    values_RK = np.concatenate([logprobs.values_TK for logprobs in released]).astype(np.float64)
    with np.errstate(divide="ignore"):
        tail_R = np.log(np.clip(1 - np.exp(values_RK).sum(-1), 0, None))
        return {
            "rows": _offsets([len(logprobs.ids_TK) for logprobs in released]),
            "ids": ids_RK.clip(min=0).astype(kind),
            "values": values_RK.astype("<f4"),
            "tail": tail_R.astype("<f4"),
        }


def _save(path: Path, array: np.ndarray) -> str:
    """Write an array; returns the SHA-256 of its file."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    write_bytes(path, buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def _is_releasable(values_TK: np.ndarray) -> bool:
    return bool((np.isfinite(values_TK) | np.isneginf(values_TK)).all())


def _offsets(lengths: list[int]) -> np.ndarray:
    return np.cumsum([0, *lengths], dtype="<i8")


@dataclass(frozen=True)
class LogprobCache:
    """An opened cache; nothing is in memory before it is looked at."""

    prompts: dict[str, int]
    arrays: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.prompts)

    def attach(self, answers: Sequence[Completion]) -> list[Completion]:
        """The answers with their token ids and logprobs, found by prompt id and never by order.

        Args:
            answers: completions of the prompts that are in the cache.

        Raises:
            BadInput: an answer has no entry.
        """
        missing = [answer.prompt_id for answer in answers if answer.prompt_id not in self.prompts]
        if missing:
            raise BadInput(
                f"logprob cache: no entry for {len(missing)} answers, first {missing[0]!r}"
            )
        return [self._attach_one(answer, self.prompts[answer.prompt_id]) for answer in answers]

    def _attach_one(self, answer: Completion, index: int) -> Completion:
        tokens = self._part("tokens", "offsets", index)
        answer = replace(answer, token_ids=tuple(tokens.tolist()))
        if "rows" not in self.arrays:
            return answer
        values_TK = np.array(self._part("values", "rows", index))
        ids_TK = np.where(
            np.isneginf(values_TK), -1, self._part("ids", "rows", index).astype(np.int32)
        )
        return replace(
            answer,
            logprobs=Logprobs(ids_TK, values_TK, np.array(self._part("tail", "rows", index))),
        )

    def _part(self, name: str, offsets: str, index: int) -> np.ndarray:
        start, end = self.arrays[offsets][index : index + 2]
        return self.arrays[name][start:end]


def read(folder: Path, *, tokenizer: str) -> LogprobCache:
    """Open a cache.

    Args:
        folder: as `write` left it.
        tokenizer: SHA-256 of the reader's tokenizer.

    Raises:
        BadInput: it is missing, damaged, of another version, or of another tokenizer.
    """
    try:
        manifest: Any = json.loads((folder / "manifest.json").read_text())
        version, files, prompts = manifest["version"], manifest["files"], manifest["prompts"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{folder}: not a whole logprob cache ({error!r})") from None
    if version != VERSION:
        raise BadInput(f"{folder}: logprob cache of version {version}; this one reads {VERSION}")
    if manifest["tokenizer"] != tokenizer:
        raise BadInput(
            f"{folder}: written for tokenizer {manifest['tokenizer'][:12]}, got "
            f"{tokenizer[:12]}; logprobs of one "
            "vocabulary mean nothing in another"
        )
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise BadInput(f"{path}: is missing from the logprob cache")
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                raise BadInput(f"{path}: truncated or altered since it was written")
    arrays = {name.removesuffix(".npy"): np.load(folder / name, mmap_mode="r") for name in files}
    return LogprobCache({prompt: index for index, prompt in enumerate(prompts)}, arrays)
