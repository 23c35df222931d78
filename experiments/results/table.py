"""What all tables of a run have in common: frozen, strict models, and how they are written."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Annotated, Any, Self

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _finite(value: Any) -> Any:
    """A number of numpy as Python's own; None where it is not finite, which JSON cannot say."""
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


Real = Annotated[float, BeforeValidator(_finite)]
"""A number."""
Number = Annotated[float | None, BeforeValidator(_finite)]
"""A number, or null where there is none or it is unbounded."""
Setting = Annotated[int | float | None, BeforeValidator(_finite)]
"""A setting's number as it was written, whole or not."""
Count = Annotated[int, Field(ge=0)]


class Table(BaseModel):
    """Base of all tables: frozen, strict in kinds, without unknown fields."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    @classmethod
    def join(cls, *parts: Table) -> Self:
        """A table of the fields of its parts.

        Args:
            *parts: with fields of different names.
        """
        return cls(**{name: value for part in parts for name, value in part})


def jsonable(value: Table | Sequence[Table]) -> Any:
    """Tables as JSON has them.

    Args:
        value: one of them, or several.
    """
    if isinstance(value, Table):
        return value.model_dump(mode="json", exclude_unset=True, by_alias=True)
    return [jsonable(table) for table in value]


def as_json(value: Table | Sequence[Table]) -> bytes:
    """Tables as they are written.

    Args:
        value: one of them, or several.
    """
    return json.dumps(jsonable(value), indent=1, allow_nan=False).encode()
