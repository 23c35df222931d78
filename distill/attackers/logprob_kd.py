"""Logprob distillation: forward KL to the released top-k with a tail bucket, mixed with cross-entropy.

Source: Hinton et al. 2015.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from distill import losses
from distill.answers import Answer, BadInput
from distill.attackers import NOTHING, Base, Own, Part
from distill.models import LanguageModel
from distill.student import Example, StudentSettings, Trained, read, signals, train


class Settings(Part):
    ce_weight: float = Field(0.0, ge=0, le=1)


class Attacker(Base):
    adaptive = False
    needs_profile = "top_k"
    paper = "Hinton et al. 2015, 1503.02531"

    def train(self, said: Sequence[Answer], model: LanguageModel, recipe: StudentSettings, *, seed: int,
              own: Own = NOTHING, checkpoint: Path | None = None) -> Trained:  # fmt: skip
        """Train on the teacher's tokens and their released logprobs; both models share one tokenizer."""
        examples = [_example(answer, model.tokenizer) for answer in said]
        pad = model.tokenizer.pad_token_id
        return train(model.network, examples, recipe, seed=seed, pad=pad, loss=self._loss, checkpoint=checkpoint)

    def _loss(self, network: Any, rows: list[Example], pad: int, device: torch.device) -> Tensor:
        seen, weight = read(network, rows, pad, device), self.settings.ce_weight
        loss = weight * losses.cross_entropy(seen.logits_NV, seen.targets_N) if weight else 0.0
        if weight < 1:
            loss = loss + (1 - weight) * losses.forward_kl_tail(seen.logits_NV, *signals(rows, device))
        return torch.as_tensor(loss)


def _example(answer: Answer, tokenizer: Any) -> Example:
    if answer.logprobs is None:
        raise BadInput(
            f"attacker logprob_kd: answer {answer.prompt_id!r} has no logprobs; use a profile that gives them"
        )
    prompt = list(tokenizer(answer.prompt, add_special_tokens=False).input_ids)
    return Example(prompt, list(answer.token_ids) + [tokenizer.eos_token_id] * answer.finished, answer.logprobs)
