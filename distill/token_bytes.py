"""The bytes that each token of a vocabulary spells: what two vocabularies have in common."""

from __future__ import annotations

import functools
import json
import re
from typing import Any

from distill.completions import BadInput

BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
SPACE = "\u2581"  # how SentencePiece writes a space


class TokenBytes:
    """The bytes of each token by its id, and the tokens by their bytes.

    `special` tokens, which spell nothing in a text, have None; they are there by name.

    Args:
        tokenizer: a fast one of transformers.

    Raises:
        BadInput: the tokenizer's decoder is of another kind than byte-level, SentencePiece with
            bytes to fall back on, or one that joins tokens as they are.
    """

    def __init__(self, tokenizer: Any) -> None:
        decoder = json.loads(tokenizer.backend_tokenizer.to_str())["decoder"]
        spell = _speller(decoder)
        added = {str(token) for token in tokenizer.added_tokens_decoder.values()}
        self.of: list[bytes | None] = [None] * (max(tokenizer.get_vocab().values()) + 1)
        for piece, token in tokenizer.get_vocab().items():
            self.of[token] = piece.encode() if piece in added else spell(piece)
        self.special = dict(
            zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
        )
        for token in self.special.values():
            self.of[token] = None
        self.ids: dict[bytes, list[int]] = {}
        for token, data in enumerate(self.of):
            if data is not None:
                self.ids.setdefault(data, []).append(token)

    def only(self, data: bytes) -> int | None:
        """The one token that spells these bytes; None where there is none, or several."""
        ids = self.ids.get(data, [])
        return ids[0] if len(ids) == 1 else None

    def text(self, token_ids: list[int]) -> bytes:
        """What tokens spell together; special ones spell nothing.

        Args:
            token_ids: in their order, all known to the tokenizer.
        """
        return b"".join(self.of[token] or b"" for token in token_ids)


def _speller(decoder: dict[str, Any] | None) -> Any:
    """What makes bytes of a token's name, for a tokenizer with this decoder."""
    kinds = {one["type"] for one in [decoder or {}, *(decoder or {}).get("decoders", [])] if one}
    if "ByteLevel" in kinds:
        letters = byte_letters()
        return lambda piece: bytes(letters[letter] for letter in piece)
    if "ByteFallback" in kinds:
        return _sentencepiece
    if kinds <= {"Fuse", "Sequence"}:
        return str.encode
    raise BadInput(
        f"tokenizer: its tokens spell no bytes (its decoder is {', '.join(sorted(kinds))}; known "
        "are ByteLevel, ByteFallback and Fuse)"
    )


def _sentencepiece(piece: str) -> bytes:
    byte = BYTE.fullmatch(piece)
    return bytes([int(byte[1], 16)]) if byte else piece.replace(SPACE, " ").encode()


@functools.cache
def byte_letters() -> dict[str, int]:
    """The byte that each letter of a byte-level vocabulary stands for.

    Source: GPT-2's `bytes_to_unicode`: printable Latin-1 stands for itself, the 68 other bytes are
    counted up from U+0100.
    """
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {
        chr(256 + place): byte for place, byte in enumerate(others)
    }
