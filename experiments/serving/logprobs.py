"""The released logprobs of a completion, as the protocol writes them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from distill import completions
from distill.served.protocol import TOKEN_ID, Alternative, Position, PromptPositions, PromptToken

UNKNOWN = -9999.0
"""The logprob of a token that is none of the released ones, as vLLM writes -inf."""
Row = list[tuple[int, float]]


@dataclass(frozen=True)
class ReleasedLogprobs:
    """Those of one completion.

    Args:
        released: a row for every token of the answer and for its end, None where none are.
        tokenizer: whose tokens they are.
        begun_ids: tokens of the answer that the caller dictated, which come first.
        names_ids: whether tokens are named by their ids.
    """

    released: completions.Logprobs | None
    tokenizer: Any
    begun_ids: Sequence[int]
    names_ids: bool

    def positions(self, answer_ids: Sequence[int], k: int) -> list[Position]:
        """What was released at the tokens behind the beginning, `k` alternatives at each.

        Args:
            answer_ids: tokens behind the beginning, in their order.
            k: how many, which may be 0.
        """
        return [
            Position(
                **self._named(token, dict(row).get(token, UNKNOWN)),
                top_logprobs=[Alternative(**self._named(*one)) for one in row[:k]],
            )
            for token, row in zip(answer_ids, self._rows[len(self.begun_ids) :], strict=False)
        ]

    def scores(self, length: int, k: int) -> PromptPositions:
        """What was released at the tokens that were dictated, which end a prompt of `length`
        tokens; of the question, nothing.

        Args:
            length: tokens of the prompt and what was dictated behind it.
            k: alternatives at each.
        """
        scored: PromptPositions = [
            {str(one): PromptToken(logprob=value) for one, value in [(token, UNKNOWN), *row[:k]]}
            for token, row in zip(self.begun_ids, self._rows[: len(self.begun_ids)], strict=True)
        ]
        return [None] * (length - len(scored)) + scored

    @functools.cached_property
    def _rows(self) -> list[Row]:
        if self.released is None:
            return []
        return [
            [
                (int(token), float(value))
                for token, value in zip(ids, values, strict=True)
                if token >= 0
            ]
            for ids, values in zip(self.released.ids_TK, self.released.values_TK, strict=True)
        ]

    def _named(self, token: int, logprob: float) -> dict[str, Any]:
        """A token as the protocol names it."""
        if self.names_ids:
            name = f"{TOKEN_ID}{token}"
        else:
            name = self.tokenizer.decode([token], clean_up_tokenization_spaces=False)
        return {"token": name, "logprob": logprob, "id": token}
