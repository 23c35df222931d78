"""Logprob distillation from a teacher of another tokenizer.

Both tokenizations of an answer are laid beside each other by bytes, and what was released is
compared where they meet. `compare`: `shared` is a rule of ours: where both spell the same bytes
with one token, the released tokens that both have, and one bucket for all others, by forward KL,
which for one tokenizer is `logprob_kd`; elsewhere the text alone teaches. `sorted` is ULD's L1
(Boizard et al. 2024, 2402.12030); `hybrid` is a port of TRL's GOLD trainer. `pairing`: spans of
`bytes`, as GOLD has them, or `positions` from the first on, as ULD has them. distill/aligned.py
says in what they differ from their sources.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from distill import losses
from distill.aligned import LEAST, hybrid_distance, sorted_distance
from distill.attackers import NOTHING, AttackerResources, Base, Part
from distill.bridge import Aligned, Bridge
from distill.completions import BadInput, Completion
from distill.models import LanguageModel
from distill.objectives import Example, score_answers
from distill.rendering import completion_ids, prompt_ids
from distill.specs import TrainingConfig
from distill.trainer import Trained, train


@dataclass(frozen=True)
class AlignedExample(Example):
    """An answer in the student's tokens, with what was released beside them."""

    aligned: Aligned | None = None


class Settings(Part):
    """`beta` is read by `hybrid`; `ce_weight` is the share of cross-entropy on the text."""

    released: Literal["top_k", "full"] = "top_k"
    compare: Literal["shared", "sorted", "hybrid"] = "shared"
    pairing: Literal["bytes", "positions"] = "bytes"
    beta: float = Field(0.5, ge=0, le=1)
    ce_weight: float = Field(0.5, ge=0, lt=1)

    @model_validator(mode="after")
    def _possible(self) -> Settings:
        if self.pairing == "positions" and self.compare != "sorted":
            raise BadInput(
                f"compare {self.compare}: what tokens mean is compared where they begin at the "
                "same byte; pairing positions is for sorted alone"
            )
        return self


class Attacker(Base):
    adaptive = False
    needs = ("tokenizer",)
    paper = "Boizard et al. 2024, 2402.12030; TRL's GOLD"

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
        """Train on each answer's text in the student's tokens, and on what was released for it."""
        bridge = Bridge.between(resources.tokenizer, model.tokenizer)
        examples: list[Example] = [
            self._example(answer, bridge, model, recipe.max_length) for answer in completions
        ]

        def loss(network: object, rows: list[Example], pad: int, device: torch.device) -> Tensor:
            return self._loss(bridge, network, rows, pad, device)

        pad = model.tokenizer.pad_token_id
        return train(
            model.network,
            examples,
            recipe,
            seed=seed,
            pad=pad,
            loss=loss,
            checkpoint=checkpoint,
        )

    def _example(
        self, answer: Completion, bridge: Bridge, model: LanguageModel, most: int
    ) -> AlignedExample:
        prompt = prompt_ids(model.tokenizer, answer.question)
        ids = completion_ids(model.tokenizer, answer.text, answer.finished)
        room = max(most - len(prompt), 0)
        s = self.settings
        aligned = bridge.align(
            answer, ids, by_bytes=s.pairing == "bytes", whole=s.compare != "shared"
        )
        fitting = ids[:room]
        return AlignedExample(
            prompt, fitting, cut=len(ids) > room, aligned=aligned.first(len(fitting))
        )

    def _loss(
        self,
        bridge: Bridge,
        network: object,
        rows: list[Example],
        pad: int,
        device: torch.device,
    ) -> Tensor:
        """Cross-entropy of all tokens, and the mean distance of all pairs of the batch."""
        seen = score_answers(network, rows, pad, device)
        own_NV = torch.log_softmax(seen.logits_NV.float(), -1)
        own_N = own_NV.gather(-1, seen.targets_N[:, None]).squeeze(-1)
        pairs = Aligned.joined(
            [row.aligned for row in rows if isinstance(row, AlignedExample) and row.aligned],
            [len(row.answer_ids) for row in rows],
        )
        weight: float = self.settings.ce_weight
        text = -weight * own_N.mean()
        if not len(pairs.position_P):
            return text
        return text + (1 - weight) * self._distance(bridge, own_NV, own_N, pairs)

    def _distance(self, bridge: Bridge, own_NV: Tensor, own_N: Tensor, pairs: Aligned) -> Tensor:
        """The mean distance of all pairs, of the student's log-probabilities and of those that it
        gives the answers' tokens.
        """
        s: Settings = self.settings
        position_P, ids_PK, values_PK, tail_P, pair_E, before_E = (
            torch.from_numpy(getattr(pairs, field.name)).to(own_NV.device)
            for field in fields(pairs)
        )
        if s.compare == "shared":
            return losses.forward_kl_tail(own_NV[position_P], ids_PK, values_PK, tail_P)
        # The probability of a span is that of its last token times those of the ones before it.
        earlier_E = own_N[before_E].clamp_min(math.log(LEAST))
        before_P = own_N.new_zeros(len(position_P)).index_add(0, pair_E, earlier_E)
        student_PV, teacher_PK = (own_NV[position_P] + before_P[:, None]).exp(), values_PK.exp()
        if s.compare == "sorted":
            return sorted_distance(student_PV, teacher_PK, tail_P.exp()).mean()
        matched_V = torch.from_numpy(bridge.matched_V[: student_PV.shape[-1]]).to(own_NV.device)
        return hybrid_distance(
            student_PV,
            teacher_PK,
            ids_PK,
            matched_V,
            share=bridge.share,
            beta=s.beta,
            whole=teacher_PK.shape[-1] >= bridge.teacher_size,
        ).mean()
