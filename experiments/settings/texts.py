"""Recorded texts in campaigns, as a study names them."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, Field

from distill.specs import Where
from distill.tables import Value
from distill.text_vectors import Named, TextEncoderName
from experiments.settings.entries import Strict, Text

ENCODERS = get_args(Named)


def _encoder(value: Any) -> Any:
    """A text that is no encoder's name is the path of a folder."""
    if isinstance(value, str):
        return value if value in ENCODERS else {"path": value}
    if isinstance(value, dict):
        return value
    raise ValueError(f"must be one of {', '.join(ENCODERS)}, or the path of a folder")


class RecordedTexts(Strict):
    """A recording of real exchanges, whose texts a provider reads in the place of topics."""

    path: Where = Field(description="of the recording: any table of docs/data.md")
    encoder: Annotated[TextEncoderName, BeforeValidator(_encoder)] = Field(
        "hashing", description="hashing, minilm, or the local folder of a sentence encoder"
    )
    per_task: int = Field(32, description="texts of each task that are used", ge=2, le=1000)
    task: Text = Field("task", description="the column that says of which task a row is")
    question: Text = Field("question", description="the column with the prompt")
    response: Text = Field("response", description="the column with the whole answer")
    where: dict[str, Value] = Field(
        {}, description="what columns must hold for a row to count, as in {model: qwq-32b}"
    )
