"""Format `messages`: a row is a chat whose last turn is the answer, as `messages` or as ShareGPT's
`conversations`.
"""

from __future__ import annotations

from collections.abc import Iterator

from distill.completions import BadInput, Completion
from distill.recordings.layout import Entry, Format, Reading
from distill.recordings.turns import finished_of, question_of, turns_of, with_reasoning
from distill.tables import Row

KEYS = ("messages", "conversations")


def entries(row: Row, reading: Reading) -> Iterator[Entry]:
    """The last turn, as the answer to the one before it.

    Args:
        row: of a file.
        reading: not needed, as all is in the turns.

    Raises:
        BadInput: the turns are none, or do not end with the assistant's.
    """
    where = row.where
    name = next((name for name in KEYS if name in row.values), KEYS[0])
    turns = turns_of(where, name, row.values.get(name))
    if turns[-1].role != "assistant":
        raise BadInput(f"{where}: {name} must end with a turn of the assistant's")
    text = with_reasoning(where, row.values[name][-1], turns[-1].content)
    finished = finished_of(where, row.values)
    prompt = question_of(where, name, turns[:-1])
    yield Entry(where, Completion.to(prompt, text, finished=finished))


FORMAT = Format(lambda row: any(isinstance(row.get(name), list) for name in KEYS), entries)
