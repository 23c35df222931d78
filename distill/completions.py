"""What crosses from a teacher to a student: prompts, answers, the interface profile, and answer
files.

An answer file is Parquet with one row an answer; its last column holds the row's SHA-256, and the
footer the count, so that a truncated or edited file is an error and never data.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np


class BadInput(ValueError):
    """The user's mistake: one line that says where, what was got, the rule, and what exists."""


@dataclass(frozen=True)
class Message:
    """An earlier turn of a conversation; roles are those of chat templates, such as user, assistant
    and tool.
    """

    role: str
    content: str


@dataclass(frozen=True)
class Prompt:
    """A question as a caller sends it; the reference stays with the referee. No account means one
    of its own.

    `begin`: what the answer must begin with, where an interface lets a caller say so. `attempt`:
    which time it is asked; the same question may be sampled anew. `system` and `history`, earlier
    turns, stand before it and need a model with a chat template.
    """

    id: str
    text: str
    account: str = ""
    begin: str = ""
    attempt: int = 0
    system: str = ""
    history: tuple[Message, ...] = ()

    @property
    def conversation(self) -> str:
        """All that is asked, by which questions are told apart: the text where it stands alone,
        else JSON of all of it.
        """
        if not (self.system or self.history):
            return self.text
        turns = [(turn.role, turn.content) for turn in self.history]
        return json.dumps([self.system, turns, self.text])


@dataclass(frozen=True)
class Interface:
    """What a caller may see: `text`, `top_k` (text and the k most likely tokens with logprobs) or
    `full` (all V).
    """

    kind: Literal["text", "top_k", "full"] = "text"
    k: int = 0

    def __post_init__(self) -> None:
        if (self.kind == "top_k") != (self.k > 0):
            raise BadInput(
                f"profile: k must be at least 1 for top_k and 0 otherwise, got {self.kind} with "
                f"k={self.k}"
            )


@dataclass(frozen=True)
class Capabilities:
    """What can be done with a model beside asking it for text; each kind of model declares its own.

    `logits`: next-token scores can be read and edited while it generates. `logprobs`: completions
    can carry the logprobs of tokens whose vocabulary is known. `surprisal`: it scores texts that
    are handed to it. `weights`: its network can be read, copied and trained. `prefill`: the
    beginning of a completion can be dictated. `sampling`: new completions can be drawn, of any
    prompt and as often as one likes.
    """

    logits: bool = False
    logprobs: bool = False
    surprisal: bool = False
    weights: bool = False
    prefill: bool = False
    sampling: bool = False


NETWORK = Capabilities(
    logits=True, logprobs=True, surprisal=True, weights=True, prefill=True, sampling=True
)
"""Of a network in this process: everything."""
RECORDING = Capabilities()
"""Of recorded completions: they can be repeated. Their logprobs are of an unknown vocabulary."""


@dataclass(frozen=True)
class Logprobs:
    """Released log-probabilities (nats) of a T-token answer: `ids_TK` and `values_TK`, most likely
    first.

    Entries that were withheld have id -1 and value -inf. What is missing from a row's total is the
    tail; `tail_T` is its logarithm where that is known better than from the values, and None
    otherwise.
    """

    ids_TK: np.ndarray
    values_TK: np.ndarray
    tail_T: np.ndarray | None = None


def narrowed(logprobs: Logprobs | None, interface: Interface) -> Logprobs | None:
    """What an interface releases of rows, which are sorted, and may hold more or fewer entries.

    Args:
        logprobs: of a completion; None where it has none.
        interface: text alone, the first k entries, or all.
    """
    if logprobs is None or interface.kind == "text":
        return None
    most = interface.k or logprobs.ids_TK.shape[1]
    return Logprobs(logprobs.ids_TK[:, :most], logprobs.values_TK[:, :most])


@dataclass(frozen=True)
class Completion:
    """What a model said to one prompt: text always; the rest where the profile allows.

    `token_ids` leave out end-of-text.

    With logprobs, row t predicts `token_ids[t]`; one further row predicts end-of-text if
    `finished`. `passes` counts forward passes of any model per generated token. How far a decoding
    defence moved the sampling distribution, means over tokens: `l1` in [0, 2], `kl` (clean to
    defended, nats), `flips` (another likeliest token). `system` and `history` are the prompt's.
    """

    prompt_id: str
    prompt: str
    text: str
    token_ids: tuple[int, ...] = ()
    finished: bool = True
    logprobs: Logprobs | None = None
    passes: float = 1.0
    l1: float = 0.0
    kl: float = 0.0
    flips: float = 0.0
    system: str = ""
    history: tuple[Message, ...] = ()

    @classmethod
    def to(cls, prompt: Prompt, text: str, **more: Any) -> Completion:
        """A completion of a prompt.

        Args:
            prompt: what was asked.
            text: what was answered.
            **more: further fields of a completion by name.
        """
        return cls(
            prompt.id, prompt.text, text, system=prompt.system, history=prompt.history, **more
        )

    def as_answer_to(self, prompt: Prompt) -> Completion:
        """The same completion, of another prompt."""
        return replace(
            self,
            prompt_id=prompt.id,
            prompt=prompt.text,
            system=prompt.system,
            history=prompt.history,
        )

    @property
    def question(self) -> Prompt:
        """The prompt that it is a completion of, to be asked again."""
        return Prompt(self.prompt_id, self.prompt, system=self.system, history=self.history)


def digest(data: bytes | str) -> str:
    """Hexadecimal SHA-256 of bytes or UTF-8 text."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file, read piece by piece.

    Args:
        path: of the file.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


HERE = digest(platform.node())[:8]
"""This machine in names of temporary files: folders may be shared between machines, whose process
ids are not.
"""


def write_bytes(path: Path, data: bytes) -> None:
    """Write under a temporary name, sync and rename: a reader sees the whole file or none.

    Args:
        path: of the file.
        data: all of it.
    """
    part = path.with_name(f".{path.name}.{HERE}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what killed writers of this machine left in a folder; those of other machines may be
    alive.
    """
    for part in folder.glob(f".*.{HERE}.*.part"):
        pid = part.name.split(".")[-3]
        if pid.isdigit() and not _alive(int(pid)):
            with contextlib.suppress(OSError):  # what is another user's stays
                shutil.rmtree(part) if part.is_dir() else part.unlink()


def _alive(pid: int) -> bool:
    if os.name != "posix":
        return True  # elsewhere asking would end it
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _row(answer: Completion, turns: bool) -> dict[str, object]:
    logprobs = answer.logprobs
    row: dict[str, object] = {
        "prompt_id": answer.prompt_id,
        "prompt": answer.prompt,
        "text": answer.text,
        "token_ids": list(answer.token_ids),
        "finished": answer.finished,
        "logprob_k": 0 if logprobs is None else logprobs.ids_TK.shape[1],
        "logprob_ids": b"" if logprobs is None else logprobs.ids_TK.astype("<i4").tobytes(),
        "logprob_values": b"" if logprobs is None else logprobs.values_TK.astype("<f4").tobytes(),
        "passes": answer.passes,
        "l1": answer.l1,
        "kl": answer.kl,
        "flips": answer.flips,
    }
    if turns:
        history = [{"role": turn.role, "content": turn.content} for turn in answer.history]
        row |= {"system": answer.system, "history": history}
    return row


def write_completions(path: Path, answers: Sequence[Completion]) -> None:
    """Write an answer file (Parquet, deterministic bytes).

    Args:
        path: of the file, written whole or not at all.
        answers: in the order in which they are read again.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    # A file has the columns of earlier turns only where a prompt has some.
    turns = any(answer.system or answer.history for answer in answers)
    rows = [_row(answer, turns) for answer in answers]
    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    schema = pa.schema(
        [("prompt_id", pa.string()), ("prompt", pa.string()), ("text", pa.string())]
        + [("token_ids", pa.list_(pa.int32())), ("finished", pa.bool_()), ("logprob_k", pa.int32())]
        + [
            ("logprob_ids", pa.binary()),
            ("logprob_values", pa.binary()),
            *((name, pa.float64()) for name in ("passes", "l1", "kl", "flips")),
        ]
        + ([("system", pa.string()), ("history", pa.list_(message))] if turns else [])
        + [("sha256", pa.string())]
    )
    table = pa.Table.from_pylist([row | {"sha256": digest(repr(row))} for row in rows], schema)
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.replace_schema_metadata({"rows": str(len(rows))}), sink, compression="zstd"
    )
    write_bytes(path, sink.getvalue().to_pybytes())


def read_completions(path: Path) -> list[Completion]:
    """Read an answer file.

    Args:
        path: of a Parquet file that `write_completions` wrote.

    Raises:
        BadInput: it is missing, truncated or altered.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise BadInput(f"{path}: not a whole answer file ({error})") from error
    columns = {*table.column_names} - {"sha256"}
    if columns not in [{*_row(Completion("", "", ""), turns)} for turns in (False, True)]:
        raise BadInput(
            f"{path}: not an answer file; its columns are {', '.join(table.column_names)}"
        )
    if (table.schema.metadata or {}).get(b"rows") != str(table.num_rows).encode():
        raise BadInput(f"{path}: holds {table.num_rows} answers, its footer says otherwise")
    return [_answer(path, i, row) for i, row in enumerate(table.to_pylist())]


def _answer(path: Path, index: int, row: dict[str, Any]) -> Completion:
    if digest(repr({k: v for k, v in row.items() if k != "sha256"})) != row["sha256"]:
        raise BadInput(f"{path}: answer {index} does not match its SHA-256")
    logprobs = None
    try:
        if k := int(row["logprob_k"]):
            ids = np.frombuffer(row["logprob_ids"], "<i4").reshape(-1, k)
            values = np.frombuffer(row["logprob_values"], "<f4").reshape(-1, k)
            logprobs = Logprobs(ids, values)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{path}: answer {index}: its logprobs cannot be read ({error})") from None
    names = ("prompt_id", "prompt", "text", "finished", "passes", "l1", "kl", "flips")
    return Completion(
        **{n: row[n] for n in names},
        token_ids=tuple(row["token_ids"]),
        logprobs=logprobs,
        system=row.get("system", ""),
        history=tuple(Message(**turn) for turn in row.get("history", ())),
    )
