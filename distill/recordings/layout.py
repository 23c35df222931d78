"""How a recording is written, and what a reader of a format makes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from distill.completions import Completion, Message, Prompt, digest
from distill.recordings.spelling import Spelling
from distill.tables import Row, Value

FormatName = Literal["detect", "fields", "openai", "vllm", "messages"]


class Layout(BaseModel):
    """How a recording is written; `detect` goes by the keys of its first row.

    `prompt` and `answer` say where the two are in a row: dots go down into objects, numbers into
    lists. They are for `fields`, and `prompt` also for responses that stand beside their question.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: FormatName = Field(
        default="detect", description="fields, openai, vllm, messages, or detect"
    )
    prompt: str = Field(default="prompt", min_length=1, description="where a row has its prompt")
    answer: str = Field(default="answer", min_length=1, description="where a row has its answer")
    requests: str | None = Field(
        default=None, min_length=1, description="the file of a batch's requests, by custom_id"
    )
    tokenizer: str | None = Field(
        default=None, min_length=1, description="folder or hub name of what the logprobs are over"
    )
    subset: str = Field(default="", description="of a name on the hub")
    split: str = Field(
        default="", description="of a folder that datasets saved, or a name on the hub"
    )
    where: dict[str, Value] | None = Field(
        default=None, description="what columns must hold for a row to count"
    )


@dataclass(frozen=True)
class Reading:
    """What a format's reader is handed beside a row: the layout, the questions of a batch by their
    custom_id, and how the tokenizer of the logprobs spells.
    """

    layout: Layout = Layout()
    requests: Mapping[str, Prompt] = field(default_factory=dict)
    spelling: Spelling | None = None


class Entry(NamedTuple):
    """One recorded answer.

    `attempt`: its number among the answers to its prompt, where the recording gives one.
    `tokenizer`: the SHA-256 of what its logprobs are over, where the recording gives it.
    """

    where: str
    completion: Completion
    attempt: int | None = None
    tokenizer: str = ""


class Format(NamedTuple):
    """A way of writing recordings: whether a row is written so, and the answers in a row; none
    where it says that its request failed.
    """

    matches: Callable[[Mapping[str, Any]], bool]
    entries: Callable[[Row, Reading], Iterator[Entry]]


def question(text: str, system: str = "", history: tuple[Message, ...] = ()) -> Prompt:
    """A question whose id is a function of all that is asked.

    Args:
        text: of the user.
        system: prompt; empty for none.
        history: turns before it.
    """
    prompt = Prompt("", text, system=system, history=history)
    return replace(prompt, id=digest(prompt.conversation)[:16])
