"""The skeptical student: an early head learns from the released logprobs, the head that is kept
from the text alone.

Kundu et al. 2021 (NeurIPS, "Analyzing the Confidentiality of Undistillable Teachers in Knowledge
Distillation"): a poisoned distribution reaches only a shallow part of the student, and the label
loss of the last head corrects what it does there. Their loss, read from the released code, with
temperature t and weight a, after a first phase of labels: a t^2 KL(T || early) + (1 - a) CE(early)
+ 0.3 KL(last || middle) + 0.7 CE(middle) + CE(last). Here: the labels are the released text, so
nothing true is read that was not sold; there is no middle head and no first phase; t is 1, because
top-k logprobs at another temperature are unknown; and KL is over the released tokens with a tail
bucket. The early head is new, reads a normalised hidden state, and is thrown away. Where embeddings
are tied, those that it has taught are the last head's as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from distill import losses
from distill.attackers import NOTHING, AttackerResources, Base, Part
from distill.attackers.logprob_kd import example
from distill.completions import BadInput, Completion
from distill.models import LanguageModel
from distill.objectives import Example, cross_entropy, released_logprobs, score_answers
from distill.specs import TrainingConfig
from distill.trainer import Trained, train


def early_block(depth: float, blocks: int) -> int:
    """After how many of the blocks the early head reads: the share `depth`, but at least one block
    lies either side.

    Args:
        depth: a share, in (0, 1).
        blocks: of the student.

    Raises:
        BadInput: the student has fewer than two.
    """
    if blocks < 2:
        raise BadInput(
            f"attacker skeptical: the student has {blocks} block; an early head needs at least 2"
        )
    return min(max(round(depth * blocks), 1), blocks - 1)


class TwoHeads(nn.Module):
    """A language model that scores every position twice: from its last hidden state, and from an
    early one.

    Where `read` asks for logits, it gets both, stacked: (2, N, V). The early head's weights are
    drawn from the seed.

    Args:
        network: a causal language model of transformers; it is trained as well.
        block: the number of blocks behind which the early head reads.
        seed: of the early head's weights.
    """

    def __init__(self, network: Any, block: int, seed: int) -> None:
        super().__init__()
        self.network, self.block = network, block
        size, width = network.get_output_embeddings().weight.shape
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            head = nn.Sequential(nn.RMSNorm(width), nn.Linear(width, size, bias=False))
        self.head = head.to(network.device, network.dtype)

    def activation_checkpointing_enable(self, how: Any) -> None:
        """Pass the trainer's wish on to the language model.

        Args:
            how: arguments of torch's checkpointing.
        """
        self.network.activation_checkpointing_enable(how)

    def get_decoder(self) -> Any:
        def states(input_ids: Tensor, use_cache: bool) -> SimpleNamespace:
            out = self.network.get_decoder()(
                input_ids=input_ids, output_hidden_states=True, use_cache=use_cache
            )
            both = [out.last_hidden_state, out.hidden_states[self.block]]
            return SimpleNamespace(last_hidden_state=torch.cat(both, -1))

        return states

    def get_output_embeddings(self) -> Any:
        def scores(states_N2H: Tensor) -> Tensor:
            last_NH, early_NH = states_N2H.chunk(2, -1)
            return torch.stack([self.network.get_output_embeddings()(last_NH), self.head(early_NH)])

        return scores


class Settings(Part):
    """`depth`: share of the blocks below the early head; `alpha`: share of KL in its loss, the rest
    is cross-entropy; `weight`: of the early head's loss, beside 1 for the last head's.
    """

    depth: float = Field(0.25, gt=0, lt=1)
    alpha: float = Field(0.9, ge=0, le=1)
    weight: float = Field(1.0, ge=0)


class Attacker(Base):
    needs_interface = "top_k"
    paper = "Kundu et al. 2021 (NeurIPS)"

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
        """Train with both heads and return the network without the early one."""
        examples = [example(answer, model.tokenizer) for answer in completions]
        block = early_block(self.settings.depth, model.network.config.num_hidden_layers)
        two, pad = TwoHeads(model.network, block, seed), model.tokenizer.pad_token_id
        trained = train(
            two, examples, recipe, seed=seed, pad=pad, loss=self._loss, checkpoint=checkpoint
        )
        return replace(trained, network=trained.network.network)

    def _loss(self, network: Any, rows: list[Example], pad: int, device: torch.device) -> Tensor:
        s, seen = self.settings, score_answers(network, rows, pad, device)
        last_NV, early_NV = seen.logits_NV
        early = s.alpha * losses.forward_kl_tail(early_NV, *released_logprobs(rows, device))
        early = early + (1 - s.alpha) * cross_entropy(early_NV, seen.targets_N)
        return torch.as_tensor(cross_entropy(last_NV, seen.targets_N) + s.weight * early)
