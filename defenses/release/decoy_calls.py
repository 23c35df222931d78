"""Decoy tool calls: beside its true calls an answer makes others, of functions that nobody defined.

After `anti_distillation: fake_tools`, which was seen in leaked client code of 31 March 2026 and is
known from reports alone: a server slips definitions of tools that do not exist into requests, so
that whoever records the traffic and trains on it learns them. Here the calls themselves are
recorded, so they are what is made up. A few decoy functions have names put together from those of
the true ones, and a decoy call has the arguments of a true one. Which answers make them, where and
of which function, is a function of (key, prompt).

An honest user's program drops calls of what it never defined (`stages/episodes.py`), and loses
nothing. The defence falls to an attacker who does the same to what was recorded
(`clean/known_tools`): who wrote a request knows what it defines. It bites who does not look.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Sequence

from pydantic import Field

from defenses import DefenseSettings, SecretKey, Strength, Traits
from defenses.release import TextEdit, is_edited
from distill.completions import Completion
from distill.generation import uniform
from distill.tool_calls import renamed, row_of

WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^A-Za-z\d]+")


def crossed(names: Sequence[str], divided: Callable[[str], Sequence[str]]) -> list[str]:
    """Names that begin as one of some and go on as another, parted at the same place; without those
    that there are.

    `get_weather` and `search_flights` give `get_flights` and `search_weather`.

    Args:
        names: of functions.
        divided: the parts of a name; joined they are it.
    """
    parts = [divided(name) for name in names]
    new = {
        "".join([*first[:place], *second[place:]])
        for first in parts
        for second in parts
        for place in range(1, min(len(first), len(second)))
    }
    return sorted(new - {*names})


def is_name(text: str) -> bool:
    """Whether a function can be called so, in Python or as an object of JSON.

    Args:
        text: of letters, digits and marks between them.
    """
    words = re.split(r"\W", text)
    return all(word.isidentifier() and not keyword.iskeyword(word) for word in words)


def decoy_names(names: Sequence[str], count: int, key: str) -> list[str]:
    """Functions that do not exist, with names like those that do: their words crossed, then their
    letters, then their letters backwards.

    Args:
        names: of the functions that exist.
        count: how many to name at most.
        key: the provider's secret, which orders those of a kind.

    Returns:
        Names, none of which exists; fewer where there are no more.
    """
    backwards = [name[::-1] for name in names]
    kinds = [crossed(names, WORD.findall), crossed(names, list), backwards]
    ordered = [sorted(kind, key=lambda name: uniform(key, "name", name)) for kind in kinds]
    different = dict.fromkeys(name for kind in ordered for name in kind)
    return [name for name in different if is_name(name) and name not in names][:count]


class Settings(DefenseSettings):
    """`share`: of the answers, each turn by itself, that make decoy calls (0: no defence), by `key`
    and prompt; `calls`: how many each; `tools`: how many decoy functions there are at most.
    """

    share: float = Field(1.0, ge=0, le=1)
    calls: int = Field(1, ge=1, le=10)
    tools: int = Field(2, ge=1, le=100)
    key: SecretKey = "decoy"


class Defense(TextEdit):
    """Puts calls of functions that nobody defined beside those of the final answer, without token
    ids and logprobs; an answer that calls nothing stays.
    """

    settings: Settings
    traits = Traits(
        acts_on="text",
        identity={"share": 0.0},
        strength=Strength("share", 0.0, 0.05, 1.0),
        paper="fake_tools, as reported 2026-03",
    )

    def text(self, answer: Completion) -> str:
        s, text = self.settings, answer.text
        names = decoy_names(self.resources.tools, s.tools, s.key)
        if not names or not is_edited(answer.prompt, s.key, s.share):
            return text
        for decoy in range(s.calls):
            row = row_of(text, self.format, answer.finished)
            if row is None:
                return text

            def drawn(what: str, number: int, decoy: int = decoy) -> int:
                return int(uniform(s.key, what, decoy, answer.prompt) * number)

            copied = row.calls[drawn("arguments", len(row.calls))]
            name = names[drawn("function", len(names))]
            place = drawn("place", len(row.calls) + 1)
            text = row.with_call(place, renamed(row.source(copied), name))
        return text
