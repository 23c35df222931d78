"""Logprob distillation: a divergence between the released logprobs and the student, mixed with
cross-entropy.

Source: Hinton et al. 2015; the divergences are those of GKD (2306.13649) and DistiLLM (2402.03898).
What the missing mass of a released row means is part of the attack, and `semantics` names it (see
distill/losses.py). `sampled` trains on draws from each row instead of the row (RS-KD, 2503.16870,
with the row itself as proposal), made once, before training. Profile `full` releases all V
logprobs, where every semantics is the exact divergence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from distill import losses
from distill.attackers import NOTHING, AttackerResources, Base, Part
from distill.completions import BadInput, Completion, Logprobs, digest
from distill.models import LanguageModel
from distill.objectives import Example, cross_entropy, released_logprobs, score_answers
from distill.rendering import prompt_ids
from distill.specs import TrainingConfig
from distill.trainer import Trained, train


def sample_rows(logprobs: Logprobs, draws: int, rng: np.random.Generator) -> Logprobs:
    """Each row's share of `draws` independent draws from its K tokens and its tail; ids stay, and
    so does the bucket.

    A token that was not drawn keeps its id with logprob -inf: it is no part of the tail. The mean
    over the draws of a loss that is linear in the teacher, such as the gradient of forward KL, is
    that of the row itself.

    Args:
        logprobs: T rows of K entries.
        draws: a row.
        rng: draws them.
    """
    p_TK = np.exp(logprobs.values_TK.astype(np.float64))
    tails_T = (
        1 - p_TK.sum(-1) if logprobs.tail_T is None else np.exp(logprobs.tail_T.astype(np.float64))
    )
    p_TC = np.concatenate([p_TK, np.where(tails_T > losses.RESOLUTION, tails_T, 0)[:, None]], -1)
    counts_TC = rng.multinomial(draws, p_TC / p_TC.sum(-1, keepdims=True))
    with np.errstate(divide="ignore"):  # what was not drawn has logprob -inf
        shares_TC = np.log(counts_TC / draws).astype(np.float32)
    return Logprobs(logprobs.ids_TK, shares_TC[:, :-1], shares_TC[:, -1])


def example(answer: Completion, tokenizer: Any) -> Example:
    """The teacher's tokens and what was released for each.

    Args:
        answer: with logprobs.
        tokenizer: the student's, which is the teacher's as well.

    Raises:
        BadInput: the answer has no logprobs.
    """
    if answer.logprobs is None:
        raise BadInput(
            f"attacker logprob_kd: answer {answer.prompt_id!r} has no logprobs; use a profile "
            "that gives them"
        )
    prompt = prompt_ids(tokenizer, answer.question)
    return Example(
        prompt, list(answer.token_ids) + [tokenizer.eos_token_id] * answer.finished, answer.logprobs
    )


class Settings(Part):
    """`beta` is read by `jsd`, `skew` by the skew divergences, `draws` by semantics `sampled`."""

    released: Literal["top_k", "full"] = "top_k"
    divergence: losses.Divergence = "forward"
    semantics: losses.Semantics | Literal["sampled"] = "tail"
    beta: float = Field(0.5, ge=0, le=1)
    skew: float = Field(0.1, gt=0, lt=1)
    draws: int = Field(16, ge=1, le=1_000_000)
    ce_weight: float = Field(0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _possible(self) -> Settings:
        if self.semantics != "sampled":
            losses.check(self.divergence, self.semantics, self.beta)
        elif self.divergence != "forward":
            raise BadInput(
                f"divergence {self.divergence}: semantics sampled is unbiased for forward alone"
            )
        return self


class Attacker(Base):
    adaptive = False
    paper = "Hinton et al. 2015, 1503.02531"

    @property
    def needs_interface(self) -> str:  # type: ignore[override]
        return str(self.settings.released)

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
        """Train on the teacher's tokens and their released logprobs; both models share one
        tokenizer.
        """
        examples = [self._example(answer, model.tokenizer, seed) for answer in completions]
        pad = model.tokenizer.pad_token_id
        return train(
            model.network,
            examples,
            recipe,
            seed=seed,
            pad=pad,
            loss=self._loss,
            checkpoint=checkpoint,
        )

    def _example(self, answer: Completion, tokenizer: Any, seed: int) -> Example:
        whole = example(answer, tokenizer)
        if self.settings.semantics != "sampled" or whole.logprobs is None:
            return whole
        rng = np.random.default_rng(int(digest(f"sampled/{seed}/{answer.prompt_id}"), 16))
        return replace(whole, logprobs=sample_rows(whole.logprobs, self.settings.draws, rng))

    def _loss(self, network: Any, rows: list[Example], pad: int, device: torch.device) -> Tensor:
        seen, s = score_answers(network, rows, pad, device), self.settings
        loss = s.ce_weight * cross_entropy(seen.logits_NV, seen.targets_N) if s.ce_weight else 0.0
        if s.ce_weight < 1:
            semantics: losses.Semantics = "tail" if s.semantics == "sampled" else s.semantics
            released = released_logprobs(rows, device)
            loss = loss + (1 - s.ce_weight) * losses.released_divergence(
                s.divergence, semantics, seen.logits_NV, *released, beta=s.beta, skew=s.skew
            )
        return torch.as_tensor(loss)
