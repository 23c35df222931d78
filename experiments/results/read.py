"""What a run left, read without trust: each file is a plain one of the run's own, and of its form.

`read_results` is the way in for notebooks and scripts; `review` reads with the same functions.
"""

from __future__ import annotations

import json
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from distill.completions import BadInput
from distill.tables import once
from experiments.results import archive
from experiments.results.manifest import MANIFEST_SCHEMA, Manifest
from experiments.results.schema.arms import ARM_RECORDS, FinishedStudent, MissingStudent
from experiments.results.schema.card import Card
from experiments.results.schema.marks import MARKED_STUDENTS, MarkedStudent
from experiments.results.schema.measures import SCHEMA_VERSION, Measures
from experiments.results.schema.outcomes import OUTCOMES, CampaignOutcome
from experiments.settings.faults import words

MOST = 256 * 2**20  # bytes of a file that is not grades
AGAIN = (
    "`distill-resist report` its study again where its store is, else run it again, or read it "
    "with the version that wrote it"
)
"""What to do about a run that another version wrote."""
T = TypeVar("T")


@dataclass(frozen=True)
class StudyResults:
    """The tables of a run; `measures` holds every number that is reported."""

    measures: Measures
    card: Card
    manifest: Manifest
    arms: list[FinishedStudent | MissingStudent]
    outcomes: list[CampaignOutcome]
    marked: list[MarkedStudent]


def read_results(path: Path | str) -> StudyResults:
    """The typed results of a run's folder or of an export of one.

    Args:
        path: of either.

    Raises:
        BadInput: if it is neither, or a file is missing, of another form or of another version.
    """
    with archive.open_run(Path(path)) as home:
        try:
            _check_manifest_version(home)
            _check_measures_version(home)
            return StudyResults(
                measures=measures_of(home),
                card=shaped(home, "card.json", TypeAdapter(Card)),
                manifest=manifest_of(home),
                arms=shaped(home, "arms.json", ARM_RECORDS),
                outcomes=outcomes_of(home),
                marked=marked_of(home),
            )
        except BadInput as error:
            raise BadInput(f"{path}: {error}") from None


def manifest_of(home: Path) -> Manifest:
    """The manifest.

    Args:
        home: the run's folder.

    Raises:
        BadInput: it is missing, damaged, or of another version, with what to do.
    """
    _check_manifest_version(home)
    return shaped(home, "manifest.json", TypeAdapter(Manifest))


def measures_of(home: Path) -> Measures:
    """The measures.

    Args:
        home: the run's folder.

    Raises:
        BadInput: they are missing, damaged, or of another version, with what to do.
    """
    _check_measures_version(home)
    return shaped(home, "measures.json", TypeAdapter(Measures))


def outcomes_of(home: Path) -> list[CampaignOutcome]:
    """Runs of campaigns; none where the study has none.

    Args:
        home: the run's folder.

    Raises:
        BadInput: the file is damaged, or of another form.
    """
    name = "outcomes.json"
    return shaped(home, name, OUTCOMES) if (home / name).exists() else []


def marked_of(home: Path) -> list[MarkedStudent]:
    """Students that were tested for marks; none where the study asks for no tests.

    Args:
        home: the run's folder.

    Raises:
        BadInput: the file is damaged, or of another form.
    """
    name = "marks.json"
    return shaped(home, name, MARKED_STUDENTS) if (home / name).exists() else []


def _check_manifest_version(home: Path) -> None:
    _check_version(parsed(home, "manifest.json"), "manifest.json", "schema", MANIFEST_SCHEMA)


def _check_measures_version(home: Path) -> None:
    raw, field = parsed(home, "measures.json"), "schema_version"
    if isinstance(raw, dict):
        raw.setdefault(field, 0)  # which the first ones did not say
    _check_version(raw, "measures.json", field, SCHEMA_VERSION)


def _check_version(raw: Any, name: str, field: str, version: int) -> None:
    """BadInput, with what to do, for a file that another version wrote."""
    stored = raw.get(field) if isinstance(raw, dict) else None
    if isinstance(raw, dict) and type(stored) is not int:
        raise BadInput(f"{name}: {field}: must be a whole number (got {stored!r})")
    if isinstance(stored, int) and stored != version:
        age = "an older" if stored < version else "a newer"
        raise BadInput(f"{name}: schema {stored} is of {age} version, {version} is read; {AGAIN}")


# One file


def own_file(home: Path, name: str, most: int = MOST) -> Path:
    """The path of a run's own file.

    Args:
        home: the run's folder.
        name: of the file in it.
        most: bytes.

    Raises:
        BadInput: it is missing, a link or a device, or too large to be one.
    """
    path = home / name
    try:
        status = path.lstat()
    except FileNotFoundError:
        raise BadInput(f"{name}: missing") from None
    if not stat.S_ISREG(status.st_mode):
        raise BadInput(f"{name}: is no file of the run's own")
    if status.st_size > most:
        raise BadInput(f"{name}: {status.st_size} bytes, at most {most}")
    return path


def content(home: Path, name: str, most: int = MOST) -> bytes:
    """The bytes of a run's own file.

    Args:
        home: the run's folder.
        name: of the file in it.
        most: bytes.

    Raises:
        BadInput: as `own_file`.
    """
    return own_file(home, name, most).read_bytes()


def parsed(home: Path, name: str) -> Any:
    """What a JSON file holds: names once, numbers finite.

    Args:
        home: the run's folder.
        name: of the file in it.

    Raises:
        BadInput: as `own_file`; or it is not strictly JSON. It begins with the file's name.
    """

    def refuse(word: str) -> Any:
        raise ValueError(f"{word} is no number")

    try:
        text = content(home, name).decode()
        value = json.loads(text, object_pairs_hook=once, parse_constant=refuse)
        # ValueError where half a character stands alone.
        json.dumps(value, ensure_ascii=False).encode()
        return value
    except (ValueError, RecursionError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"{name}: is not JSON ({error or type(error).__name__})") from None


def shaped(home: Path, name: str, form: TypeAdapter[T]) -> T:
    """A JSON file of a form.

    Args:
        home: the run's folder.
        name: of the file in it.
        form: what it must be.

    Raises:
        BadInput: as `parsed`; or it has another form, with the place and the fault.
    """
    raw = parsed(home, name)
    try:
        return form.validate_python(raw)
    except (ValidationError, RecursionError) as error:
        advice = f"; {AGAIN}" if _lacks_a_field(error) else ""
        raise BadInput(f"{name}: {first_fault(error)}{advice}") from None


def _lacks_a_field(error: ValidationError | RecursionError) -> bool:
    """Whether the first fault is that a field is missing, as in a file of another version."""
    return isinstance(error, ValidationError) and error.errors()[0]["type"] == "missing"


def first_fault(error: ValidationError | RecursionError) -> str:
    """The place, the rule and what was got, of the first fault."""
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    first = error.errors()[0]
    value = first["input"]
    got = "" if isinstance(value, dict | list) else f" (got {str(value)[:40]!r})"
    return f"{'.'.join(map(str, first['loc'])) or 'it'}: {words(first)}{got}"
