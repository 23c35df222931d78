"""Sequence-level distillation: supervised fine-tuning on what the teacher said (Kim & Rush 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from distill.answers import Answer
from distill.student import Example, StudentSettings, Trained, train


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Attacker:
    adaptive = False
    needs_profile = "text"

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
        """Fine-tune on the text of every answer, cut to what fits; an unfinished one teaches no end-of-text."""
        examples = [example(answer, tokenizer, recipe.max_length) for answer in said]
        return train(network, examples, recipe, seed=seed, pad=tokenizer.pad_token_id, checkpoint=checkpoint)


def example(answer: Answer, tokenizer: Any, most: int) -> Example:
    """An answer's text under the student's own tokenizer, cut where prompt and answer would be over `most` tokens."""
    prompt = tokenizer(answer.prompt, add_special_tokens=False).input_ids
    text = tokenizer(answer.text, add_special_tokens=False).input_ids
    ids = list(text) + [tokenizer.eos_token_id] * answer.finished
    return Example(list(prompt), ids[: max(most - len(prompt), 0)])
