"""Sequence-level distillation: supervised fine-tuning on what the teacher said (Kim
& Rush 2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.attackers import NOTHING, AttackerResources, Base, Part
from distill.completions import Completion
from distill.models import LanguageModel
from distill.objectives import Example
from distill.rendering import completion_ids, prompt_ids
from distill.specs import TrainingConfig
from distill.trainer import Trained, train


class Settings(Part):
    pass


class Attacker(Base):
    adaptive = False
    paper = "Kim & Rush 2016, 1606.07947"

    def train(
        self,
        completions: Sequence[Completion],
        model: LanguageModel,
        recipe: TrainingConfig,
        *,
        seed: int,
        resources: AttackerResources = NOTHING,
        checkpoint: Path | None = None,
    ) -> Trained:
        """Fine-tune on the text of every answer, cut to what fits; an unfinished one teaches no
        end-of-text.
        """
        examples = [example(answer, model.tokenizer, recipe.max_length) for answer in completions]
        pad = model.tokenizer.pad_token_id
        return train(model.network, examples, recipe, seed=seed, pad=pad, checkpoint=checkpoint)


def example(answer: Completion, tokenizer: Any, most: int) -> Example:
    """An answer's text under the student's own tokenizer, cut where prompt and answer would be over
    `most` tokens.

    Args:
        answer: that was sold.
        tokenizer: the student's.
        most: tokens of prompt and answer together.
    """
    prompt = prompt_ids(tokenizer, answer.question)
    ids = completion_ids(tokenizer, answer.text, answer.finished)
    room = max(most - len(prompt), 0)
    return Example(prompt, ids[:room], cut=len(ids) > room)
