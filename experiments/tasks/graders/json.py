"""A JSON value that is equal to the reference, or keeps the schema that the reference is."""

from __future__ import annotations

import json
from typing import Any, Literal

from distill.completions import BadInput
from distill.tables import once
from experiments.tasks import graders


class Grader(graders.Grader):
    """`by`: whether the reference is a `value`, which an answer must equal, or a JSON `schema`
    (draft 2020-12), which it must keep.
    """

    by: Literal["value", "schema"] = "value"

    def read(self, final: str) -> str | None:
        """The value in its one spelling: sorted keys, no spaces, whole numbers without a point."""
        try:
            return spelled(parse(final))
        except (ValueError, RecursionError):
            return None

    def same(self, answer: str, reference: str) -> bool:
        """Whether the value equals the reference's, or keeps its schema."""
        if self.by == "value":
            return answer == self.read(reference)
        try:
            return bool(_validator(parse(reference)).is_valid(json.loads(answer)))
        except RecursionError:  # a schema that refers to itself
            return False

    def check(self, reference: str) -> None:
        """A reference must be JSON, and under `schema` a schema.

        Raises:
            BadInput: it is not.
        """
        super().check(reference)
        if self.by == "schema":
            _validator(parse(reference))


def parse(text: str) -> Any:
    """The value of a JSON text.

    Args:
        text: of any length.

    Raises:
        ValueError: it is none, is too long, has NaN, or a key twice.
    """
    if len(text) > graders.LONGEST:
        raise ValueError("too long")
    return json.loads(text, object_pairs_hook=once, parse_constant=_refuse)


def spelled(value: Any) -> str:
    """A value's one spelling.

    Args:
        value: of anything that JSON holds.

    Raises:
        ValueError: a number is not finite.
    """
    return json.dumps(_whole(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _whole(value: Any) -> Any:
    """The value with whole numbers as such: JSON's 1.0 is its 1."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _whole(inner) for key, inner in value.items()}
    return [_whole(inner) for inner in value] if isinstance(value, list) else value


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


def _validator(schema: Any) -> Any:
    """BadInput where it is no schema, asks for a page on the web, or the library is missing."""
    try:
        from jsonschema import Draft202012Validator as Validator
        from jsonschema.exceptions import SchemaError
        from referencing import Registry
    except ImportError:
        raise BadInput(
            "grader json(by=schema): needs jsonschema; pip install 'distill-resist[real]'"
        ) from None
    try:
        Validator.check_schema(schema)
    except SchemaError as error:
        raise BadInput(f"reference is no JSON schema ({error.message[:120]})") from None
    return Validator(schema, registry=Registry())
