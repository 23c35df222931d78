"""How a tokenizer spells what was recorded: tokens that a server names by their text are told by
their ids, and scores are held to the text that they are of.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from distill.completions import BadInput
from distill.token_bytes import TokenBytes


class Spoken(NamedTuple):
    """An answer's tokens without its end, its text, and whether its end was among the tokens."""

    ids: Sequence[int]
    text: str
    ends: bool


@dataclass(frozen=True)
class Spelling:
    """A tokenizer as recordings need it: its SHA-256, and the bytes of its tokens."""

    vocabulary: str
    bytes: TokenBytes

    def token(self, where: str, text: str, data: Sequence[int] | None) -> int:
        """The id of a token that is told by its text, or by its bytes where it is half a letter.

        Of several tokens of the same bytes it is the last: SentencePiece has single bytes, its
        stand-ins for what it cannot spell, before all others.

        Args:
            where: the place that an error begins with.
            text: of the token, as the server wrote it.
            data: its bytes, or None where the server gave none.

        Raises:
            BadInput: the tokenizer has no such token.
        """
        if numbered := re.fullmatch("token_id:([0-9]{1,9})", text):
            return int(numbered[1])
        if text in self.bytes.special:
            return int(self.bytes.special[text])
        spelled = bytes(data) if data else text.encode()
        if spelled not in self.bytes.ids:
            raise BadInput(f"{where}: the tokenizer has no token {reprlib.repr(text)}")
        return self.bytes.ids[spelled][-1]

    def spoken(self, where: str, ids: Sequence[int], text: str, reasoning: str = "") -> Spoken:
        """The tokens of an answer, held to its text.

        A server may count the end among the tokens. It may have taken reasoning out of the text,
        which then is what the tokens spell.

        Args:
            where: the place that an error begins with.
            ids: tokens of the answer, maybe with its end.
            text: of the answer.
            reasoning: what the server took out of the text; empty for none.

        Raises:
            BadInput: they spell something else, so their scores are not of what was said.
        """
        spelled = self.text(where, ids)
        if reasoning and reasoning.strip() in spelled and spelled.endswith(text.strip()):
            text = spelled
        if spelled != text.strip():
            raise BadInput(
                f"{where}: its tokens spell {reprlib.repr(spelled)}, its text is "
                f"{reprlib.repr(text)}; scores must be of what was said"
            )
        ends = bool(ids) and self.bytes.of[ids[-1]] is None  # a token that spells nothing
        return Spoken(ids[:-1] if ends else ids, text, ends)

    def text(self, where: str, ids: Sequence[int]) -> str:
        """What tokens spell, without space around it.

        Args:
            where: file and row, for messages.
            ids: token ids.

        Raises:
            BadInput: the tokenizer has no such token.
        """
        if too_high := [token for token in ids if token >= len(self.bytes.of)]:
            raise BadInput(f"{where}: the tokenizer has no token of id {too_high[0]}")
        return self.bytes.text(list(ids)).decode("utf-8", "replace").strip()


def spelling_of(tokenizer: Any, vocabulary: str) -> Spelling:
    """How a tokenizer spells.

    Args:
        tokenizer: of transformers.
        vocabulary: its SHA-256.

    Raises:
        BadInput: its tokens are no bytes.
    """
    return Spelling(vocabulary, TokenBytes(tokenizer))
