"""What chats are written as: turns with a role and content, reasoning beside an answer, and why it
ended.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from distill.completions import BadInput, Message, Prompt
from distill.recordings.layout import question
from distill.tables import whole_text

ROLES = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "system": "system",
    "developer": "system",
    "tool": "tool",
}
REASONING = ("reasoning_content", "reasoning")
ENDED = ("stop", "eos", "eos_token", "end_turn", "stop_sequence")
CUT = ("length", "max_tokens", "content_filter", "abort")


def turns_of(where: str, name: str, value: Any) -> list[Message]:
    """The turns of a chat, {"role", "content"} or ShareGPT's {"from", "value"} each.

    Args:
        where: file and row, for messages.
        name: of the field.
        value: as JSON gave it.

    Raises:
        BadInput: it is no list of turns.
    """
    if not isinstance(value, list) or not value:
        raise BadInput(f"{where}: {name} must be a list of turns, got {reprlib.repr(value)}")
    return [_turn(where, f"{name}.{place}", turn) for place, turn in enumerate(value)]


def _turn(where: str, name: str, turn: Any) -> Message:
    if not isinstance(turn, Mapping):
        raise BadInput(f"{where}: {name} must be a turn, got {reprlib.repr(turn)}")
    speaker = turn.get("role", turn.get("from"))
    role = ROLES.get(speaker) if isinstance(speaker, str) else None
    if role is None:
        raise BadInput(
            f"{where}: {name}: no role {reprlib.repr(speaker)} (there are: {', '.join(ROLES)})"
        )
    content = turn["content"] if "content" in turn else turn.get("value")
    return Message(role, content_text(where, f"{name}.content", content))


def question_of(where: str, name: str, turns: Sequence[Message]) -> Prompt:
    """What a chat asks last, behind a system prompt or none and earlier turns.

    Args:
        where: file and row, for messages.
        name: of the field.
        turns: all before the answer.

    Raises:
        BadInput: the last turn is not the user's, or a later one is a system prompt.
    """
    system = turns[0].content if turns and turns[0].role == "system" else ""
    rest = turns[1:] if system else turns
    if not rest or rest[-1].role != "user" or any(turn.role == "system" for turn in rest):
        raise BadInput(
            f"{where}: {name} must be a system prompt or none, and turns of which the last is the "
            f"user's; got {', '.join(turn.role for turn in turns)[:200]}"
        )
    return question(rest[-1].content, system, tuple(rest[:-1]))


def content_text(where: str, name: str, content: Any) -> str:
    """The text of a turn: a string, or parts that are all text.

    Args:
        where: file and row, for messages.
        name: of the field.
        content: as JSON gave it.

    Raises:
        BadInput: it is neither, or holds half a character.
    """
    if isinstance(content, list) and content:
        parts = [part.get("text") if isinstance(part, Mapping) else None for part in content]
        texts = [part for part in parts if isinstance(part, str)]
        content = "".join(texts) if len(texts) == len(parts) else content
    if not isinstance(content, str):
        raise BadInput(f"{where}: {name} must be text, got {reprlib.repr(content)}")
    return whole_text(where, name, content)


def with_reasoning(where: str, message: Mapping[str, Any], text: str) -> str:
    """An answer behind its reasoning in <think> tags, where a server has split the two.

    Args:
        where: file and row, for messages.
        message: the answer as the server sent it.
        text: its content.
    """
    reasoning = reasoning_of(where, message)
    if not reasoning or text.lstrip().startswith("<think>"):
        return text
    return f"<think>\n{reasoning.strip()}\n</think>\n\n{text.lstrip()}"


def reasoning_of(where: str, message: Mapping[str, Any]) -> str:
    """The reasoning beside an answer, or nothing.

    Args:
        where: file and row, for messages.
        message: the answer as the server sent it.

    Raises:
        BadInput: it is no string.
    """
    for name in REASONING:
        value = message.get(name)
        if value is not None and not isinstance(value, str):
            raise BadInput(f"{where}: {name} must be a string, got {reprlib.repr(value)}")
        if value:
            return whole_text(where, name, value)
    return ""


def finished_of(where: str, row: Mapping[str, Any]) -> bool:
    """Whether an answer came to its own end, by `finished` or by `finish_reason`; true where
    neither is there. No reason (null) is one that was still being written.

    Args:
        where: file and row, for messages.
        row: with `finished`, `finish_reason`, both or neither.

    Raises:
        BadInput: one is not a value that it can have, or the two contradict each other.
    """
    finished = row.get("finished", True)
    if not isinstance(finished, bool):
        raise BadInput(f"{where}: finished must be true or false, got {reprlib.repr(finished)}")
    reason = row.get("finish_reason", ENDED[0])
    if reason is not None and reason not in (*ENDED, *CUT):
        raise BadInput(
            f"{where}: finish_reason {reprlib.repr(reason)} is unknown (there are: "
            f"{', '.join((*ENDED, *CUT))})"
        )
    ended = reason in ENDED
    if "finished" in row and "finish_reason" in row and finished != ended:
        raise BadInput(f"{where}: finished is {finished}, but finish_reason is {reason!r}")
    return finished and ended
