"""How a served model is asked, as settings and stages tell it; nothing heavy is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from distill.completions import Capabilities

Prompts = Literal["chat", "text", "ids"]
Scoring = Literal["none", "prompt_logprobs", "echo"]


@dataclass(frozen=True)
class RequestOptions:
    """How a served model is asked: all that its answers depend on.

    `prompts`: as a `chat`, which the server renders, as `text`, or as token `ids`, both rendered
    here. `logprobs`: that it releases a token; `token_ids`: tokens are named by their ids, which
    vLLM must be asked for. `scoring`: how it scores what it is forced_ids. `revision` says which
    weights the name stands for.
    """

    model: str
    prompts: Prompts = "chat"
    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int = 64
    logprobs: int = 0
    token_ids: bool = False
    scoring: Scoring = "none"
    revision: str = ""

    @property
    def capabilities(self) -> Capabilities:
        scores = self.scoring != "none"
        return Capabilities(
            logprobs=self.logprobs > 0,
            surprisal=scores and self.prompts == "ids",
            prefill=scores,
            sampling=True,
        )
