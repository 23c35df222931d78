"""Logprob distillation: forward KL to the released top-k with a tail bucket, mixed with cross-entropy.

Source: Hinton et al. 2015.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from distill.answers import Answer, BadInput
from distill.student import Example, StudentSettings, Trained, train


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    ce_weight: float = Field(0.0, ge=0, le=1)


class Attacker:
    adaptive = False
    needs_profile = "top_k"

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def train(
        self,
        said: Sequence[Answer],
        network: Any,
        tokenizer: Any,
        recipe: StudentSettings,
        *,
        seed: int,
        checkpoint: Path | None = None,
    ) -> Trained:
        """Train on the teacher's tokens and their released logprobs; both models share one tokenizer."""
        examples = [_example(answer, tokenizer) for answer in said]
        pad, weight = tokenizer.pad_token_id, self.settings.ce_weight
        return train(network, examples, recipe, seed=seed, pad=pad, ce_weight=weight, checkpoint=checkpoint)


def _example(answer: Answer, tokenizer: Any) -> Example:
    if answer.logprobs is None:
        raise BadInput(
            f"attacker logprob_kd: answer {answer.prompt_id!r} has no logprobs; use a profile that gives them"
        )
    prompt = list(tokenizer(answer.prompt, add_special_tokens=False).input_ids)
    return Example(prompt, list(answer.token_ids) + [tokenizer.eos_token_id] * answer.finished, answer.logprobs)
