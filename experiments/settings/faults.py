"""What is wrong with a value, in our words: pydantic's speak of inputs and of kinds of Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOST_SEEDS = 20  # that an example lists
WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is no known key",
    "none_required": "must be null",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number of fewer digits",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "string_type": "must be a text",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be settings by name",
    "model_type": "must be settings by name",
    "model_attributes_type": "must be settings by name",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "union_tag_invalid": "must be of a kind that exists: {expected_tags}",
    "union_tag_not_found": "must say its {discriminator}",
    "string_too_short": "must have {min_length} letters or more",
    "string_too_long": "must have no more than {max_length} letters",
    "string_pattern_mismatch": "must match {pattern}",
    "too_short": "must have {min_length} entries or more, has {actual_length}",
    "too_long": "must have no more than {max_length} entries, has {actual_length}",
}
"""By pydantic's kind of error; a fault of ours, or of a rare kind, says what it is itself."""


def words(error: Mapping[str, Any]) -> str:
    """What is wrong, without the place and the value.

    Args:
        error: an entry of `ValidationError.errors()`.
    """
    text = WORDS.get(error["type"])
    if text is None:
        return " ".join(error["msg"].removeprefix("Value error, ").split())
    rule = text.format(**{name: _plain(value) for name, value in error.get("ctx", {}).items()})
    example = _example(error) if error["type"] == "list_type" else ""
    return f"{rule}, such as {example}" if example else rule


def _plain(value: Any) -> Any:
    """A whole number without its decimals."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _example(error: Mapping[str, Any]) -> str:
    """A list in place of a single value; a number of seeds as so many."""
    value, place = error["input"], [str(part) for part in error["loc"]]
    counted = isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST_SEEDS
    if counted and place and place[-1].endswith("seeds"):
        return f"[{','.join(map(str, range(value)))}]"
    plain = isinstance(value, int | float | str) and not isinstance(value, bool)
    return f"[{value}]" if plain and len(str(value)) <= MOST_SEEDS else ""
