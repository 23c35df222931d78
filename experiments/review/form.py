"""The form of a run's files: each is read once, and is what a schema says before anything follows
from it.
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from distill.completions import BadInput
from experiments.preregistration import ANALYSIS, SEAL
from experiments.results.collect import NUMBERS, WHO, Grades, read
from experiments.settings import reading
from experiments.settings.entries import checked
from experiments.settings.schema import Study

SCHEMA = 4
MOST = 256 * 2**20  # bytes of a file that is not grades
LARGEST = 2 * 2**30  # bytes that grades may unpack to
ROWS = 2**16

Sha = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Address = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]
Inside = Annotated[
    str, Field(pattern=r"^[\w-][\w.-]*(/[\w-][\w.-]*)*$")
]  # a file of a stage, never above it


class Form(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Maker(Form):
    """What made results; nothing of it is known of those that were written before it
    was recorded.
    """

    version: Count
    code: dict[str, Address]
    libraries: dict[str, str]
    threads: Annotated[int, Field(ge=1)]


class Unknown(Form):
    """A maker that was not recorded."""


class Stage(Form):
    kind: Annotated[str, Field(pattern=r"^[a-z]+$")]
    key: Address
    settings: dict[str, JsonValue]
    inputs: dict[Address, Address | Literal[""]]
    files: Annotated[dict[Inside, Sha], Field(min_length=1)]
    seconds: Seconds
    cpu_seconds: Seconds
    answer_seconds: Seconds | None = None
    alike: Sha | None = None
    copied: Address | None = None
    made_by: Count


class Code(Form):
    revision: str | None
    sources_sha256: Sha


class Machine(Form):
    python: str
    platform: str
    cores: int | None
    threads: Annotated[int, Field(ge=1)]
    cpu_capability: str
    device: str


PluginName = Annotated[
    str, Field(pattern=r"^(defense|attacker|task|detector)/[\w/]+$", max_length=200)
]


class Manifest(Form):
    schema_: Literal[4] = Field(alias="schema")
    study: str
    fingerprint: Sha
    config_sha256: Sha
    versions: dict[str, str]
    lock: list[Annotated[str, Field(pattern=r"^[\w.-]+==[\w.!+-]+$")]]
    machine: Machine
    code: Code
    plugins: dict[PluginName, Sha] = {}
    seeds: dict[str, JsonValue]
    made_by: list[Maker | Unknown]
    stages: Annotated[list[Stage], Field(min_length=1)]
    missing: list[Address]
    old: list[str]
    files: dict[str, Sha]

    @model_validator(mode="after")
    def _joined(self) -> Manifest:
        keys = [stage.key for stage in self.stages] + self.missing
        if len({*keys}) < len(keys):
            raise ValueError("a stage is named twice")
        if any(stage.made_by >= len(self.made_by) for stage in self.stages):
            raise ValueError("a stage was made by none of made_by")
        return self


class Seal(Form):
    sha256: Sha
    scored_before: Count
    of: Count

    @model_validator(mode="after")
    def _counted(self) -> Seal:
        if self.scored_before > self.of:
            raise ValueError(
                f"{self.scored_before} of {self.of} report exams cannot have been scored before"
            )
        return self


class Matched(Form):
    knob: str
    value: float | None
    points: float
    loss: float


class Prepared(Form):
    matched: Matched | None
    numbers: dict[str, float]


class Student(Form):
    """An arm's student as arms.json has it."""

    task: str
    defense: str
    attacker: str
    budget: Count
    split: Literal["report", "select"]
    seed: Count


class Missing(Student):
    finished: Literal[False]


class Finished(Student):
    finished: Literal[True]
    exchanges: Count
    tokens_in: Count | None
    tokens_out: Count | None
    student_tokens: Count
    parameters: Count
    flops: Annotated[float, Field(ge=0)]
    trials: Count
    steps: Count
    learning_rate: float
    cut: Annotated[float, Field(ge=0, le=1)]
    no_final: Annotated[float, Field(ge=0, le=1)]
    diverged: bool
    losses: list[float | None]
    leaked: Count
    prepared: Prepared | None


@dataclass(frozen=True)
class Run:
    """What a run's files hold, each of its form."""

    home: Path
    study: Study
    manifest: dict[str, Any]
    arms: list[dict[str, Any]]
    seal: dict[str, Any]
    frozen: Any
    outcomes: list[dict[str, Any]]
    measures: dict[str, Any]
    results: list[Any]
    card: dict[str, Any]
    grades: Grades


def own(home: Path, name: str, most: int = MOST) -> Path:
    """The path of a run's own file; BadInput for a link, a device, and what is too
    large to be one.
    """
    path = home / name
    try:
        told = path.lstat()
    except FileNotFoundError:
        raise BadInput(f"{name}: missing") from None
    if not stat.S_ISREG(told.st_mode):
        raise BadInput(f"{name}: is no file of the run's own")
    if told.st_size > most:
        raise BadInput(f"{name}: {told.st_size} bytes, at most {most}")
    return path


def content(home: Path, name: str, most: int = MOST) -> bytes:
    """The bytes of a run's own file."""
    return own(home, name, most).read_bytes()


def sha(path: Path) -> str:
    """The SHA-256 of a file, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parsed(home: Path, name: str) -> Any:
    """A JSON file; BadInput with its name if it is not strictly one: names once, numbers finite."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        held = dict(pairs)
        if len(held) < len(pairs):
            raise ValueError("a name stands twice in an object")
        return held

    def refused(word: str) -> Any:
        raise ValueError(f"{word} is no number")

    try:
        held = json.loads(
            content(home, name).decode(), object_pairs_hook=once, parse_constant=refused
        )
        json.dumps(
            held, ensure_ascii=False
        ).encode()  # ValueError where half a character stands alone
        return held
    except (ValueError, RecursionError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"{name}: is not JSON ({error or type(error).__name__})") from None


def shaped(home: Path, name: str, form: Any) -> Any:
    """The same, of a form."""
    raw = parsed(home, name)
    try:
        TypeAdapter(form).validate_python(raw)
    except (ValidationError, RecursionError) as error:
        raise BadInput(f"{name}: {_first(error)}") from None
    return raw


def _first(error: ValidationError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    one = error.errors()[0]
    got = "" if isinstance(one["input"], dict | list) else f" (got {str(one['input'])[:40]!r})"
    return (
        f"{'.'.join(map(str, one['loc'])) or 'it'}: {one['msg'].removeprefix('Value error, ')}{got}"
    )


def study_of(home: Path) -> Study:
    """The study that a run's folder holds, resolved."""
    raw = parsed(home, "config.json")
    try:
        study: Study = checked(Study, raw, "config.json")
    except RecursionError as error:
        raise BadInput(f"config.json: {_first(error)}") from None
    return study


def manifest_of(home: Path) -> dict[str, Any]:
    raw = parsed(home, "manifest.json")
    if isinstance(raw, dict) and isinstance(raw.get("schema"), int) and 0 < raw["schema"] < SCHEMA:
        raise BadInput(
            f"manifest.json: schema {raw['schema']} is of an older version, {SCHEMA} is read "
            "here; verify "
            "with that version, or `distill-resist report` the study again"
        )
    held: dict[str, Any] = shaped(home, "manifest.json", Manifest)
    return held


def frozen(home: Path) -> Any:
    """The analysis that was frozen; BadInput for YAML that holds more than plain values."""
    try:
        return reading.read(own(home, ANALYSIS))
    except BadInput as error:
        raise BadInput(str(error).replace(f"{home}/", "")) from None


def graded(home: Path) -> Grades:
    """The grades; BadInput if their columns are not those of exams, or what they unpack to would
    fill the memory.
    """
    import pyarrow as pa

    name = FILES["grades"]
    path = own(home, name, LARGEST)
    try:
        _check_columns(path)
        return read(path)
    except BadInput as error:
        raise BadInput(f"{name}: {error}".replace(f"{home}/", "")) from None
    except (
        OSError,
        pa.ArrowException,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        OverflowError,
    ) as error:
        raise BadInput(
            f"{name}: not a whole file of grades ({' '.join(str(error).split())[:120]})"
        ) from None


def _check_columns(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    text = [
        *(one for one in WHO if one not in ("budget", "seed")),
        "item",
        "cluster",
        "prompt",
        "text",
        "said",
        "outcome",
    ]
    kinds = dict.fromkeys(text, pa.string()) | dict.fromkeys(
        ("budget", "seed", "tokens"), pa.int64()
    )
    kinds |= dict.fromkeys((one for one in NUMBERS if one != "tokens"), pa.float64()) | {
        "finished": pa.bool_()
    }
    with pq.ParquetFile(path) as file:
        there = {one.name: one.type for one in file.schema_arrow}
        if there != kinds or len(file.schema_arrow) > len(there):
            wrong = sorted(name for name in {*there, *kinds} if there.get(name) != kinds.get(name))
            raise BadInput(
                f"columns are not those of exams: {', '.join(wrong)[:120] or 'one stands twice'}"
            )
        groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
        if (
            sum(one.total_byte_size for one in groups) > LARGEST
            or file.metadata.num_rows > LARGEST // 64
        ):
            raise BadInput("is too large to be one")
    size = 0
    with pq.ParquetFile(
        path, read_dictionary=text
    ) as file:  # a text that stands a million times is held once
        for batch in file.iter_batches(ROWS, columns=text):
            for name in text:
                column = batch.column(name)
                if column.null_count and name != "said":
                    raise BadInput(f"{name} is missing in a row")
                long = pc.binary_length(column.dictionary).to_numpy(zero_copy_only=False)
                at = column.indices.drop_null().to_numpy(zero_copy_only=False)
                size += int(long[at].sum())
            if size > LARGEST:
                raise BadInput("holds more text than exams have")


FILES = {
    "study": "config.json",
    "manifest": "manifest.json",
    "arms": "arms.json",
    "seal": SEAL,
    "frozen": ANALYSIS,
    "outcomes": "outcomes.json",
    "measures": "measures.json",
    "results": "results.json",
    "card": "card.json",
    "grades": "grades.parquet",
}
"""The parts of a run and the files that they are in."""
ARMS = list[Annotated[Finished | Missing, Field(discriminator="finished")]]


def part(home: Path, name: str) -> Any:
    """A part of a run; BadInput if its file is not of its form."""
    file = FILES[name]
    own: dict[str, Callable[[], Any]] = {
        "study": lambda: study_of(home),
        "manifest": lambda: manifest_of(home),
        "frozen": lambda: frozen(home),
        "grades": lambda: graded(home),
        "outcomes": lambda: (
            shaped(home, file, list[dict[str, Any]]) if (home / file).exists() else []
        ),
    }
    forms = {
        "arms": ARMS,
        "seal": Seal,
        "measures": dict[str, Any],
        "results": list[Any],
        "card": dict[str, Any],
    }
    return own[name]() if name in own else shaped(home, file, forms[name])


assert set(Student.model_fields) == {*WHO}
