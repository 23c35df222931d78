"""CMI-minimising transform: released scores tell which token comes next, and little else about the
prompt.

Fang et al. 2026 (2602.03396): a matrix M on the teacher's scores z, learned so that softmax(M z)
keeps to its label y while its information about the input beyond that, I(Z; X | Y), is least. The
paper's exact loss was not seen; here it is CE(softmax(M z), y) + lam * mean KL(softmax(M z) ||
Q_y), Q_y being the mean of softmax(M z) over a batch's positions whose next token is y (the usual
estimate of this information, as in Ye et al. 2025). A token that a batch holds once is its own Q_y
and adds nothing, so that large vocabularies want large batches. M = I + B A has low rank, and is
any matrix where `rank` is V or more. The text stays as it is: only what is released of the scores
changes.

M is linear and holds no secret: whoever knows it, and sees all V logprobs, can solve for z. Scores
are taken less their mean, which both the raw scores of the provider's traces and logprobs have in
common. Axes: B rows, N answer tokens, V vocabulary, G distinct next tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from defenses import DefenseSettings, Strength, Traits, require_traces
from defenses.trained import Row, Tuned, answer_logits, rows, tune
from defenses.trained.doge import add_bottleneck, bottleneck
from distill.models import LanguageModel
from distill.rendering import token_count

LEAST = -100.0  # nats; a token that was cut off has logprob -inf, which no matrix can take


def information(logprobs_NV: Tensor, targets_N: Tensor) -> Tensor:
    """Estimate of I(Z; X | Y) in nats `[]`: mean KL(p_n || Q), Q the mean of p over the positions
    with the same target.

    Args:
        logprobs_NV: log p of N positions.
        targets_N: the token that was said at each.
    """
    _, group_N, counts_G = targets_N.unique(return_inverse=True, return_counts=True)
    p_NV = logprobs_NV.exp()
    sums_GV = torch.zeros(len(counts_G), p_NV.shape[-1], dtype=p_NV.dtype, device=p_NV.device)
    means_GV = sums_GV.index_add(0, group_N, p_NV) / counts_G[:, None]
    tiny = torch.finfo(p_NV.dtype).tiny
    from_mean_NV = logprobs_NV - means_GV.clamp(min=tiny).log()[group_N]
    nats: Tensor = (p_NV * from_mean_NV).sum(-1).mean()
    return nats


def transform(scores_BV: Tensor, down_RV: Tensor, up_VR: Tensor) -> Tensor:
    """log softmax(M z), M = I + B A (`up_VR`, `down_RV`), for scores or logprobs z: a constant a
    row is no matter.

    Args:
        scores_BV: nats.
        down_RV: A, to R dimensions.
        up_VR: B, back.

    Returns:
        Log-probabilities `[B, V]`.
    """
    logprobs_BV = torch.log_softmax(scores_BV, -1).clamp(min=LEAST)
    return torch.log_softmax(
        add_bottleneck(logprobs_BV - logprobs_BV.mean(-1, keepdim=True), down_RV, up_VR), -1
    )


class Settings(DefenseSettings):
    """`lam`: weight of the information (0: no defence); `rank`: of what M adds to the identity."""

    lam: float = Field(1.0, ge=0)
    rank: int = Field(64, ge=1, le=1_000_000)
    steps: int = Field(300, ge=1, le=1_000_000)
    batch_size: int = Field(32, ge=1, le=100_000)
    learning_rate: float = Field(1e-2, gt=0)


class Defense(Tuned):
    """Releases the logprobs of transformed scores."""

    name = "release/information"
    settings: Settings
    traits = Traits(
        acts_on="logprobs",
        identity={"lam": 0.0},
        strength=Strength("lam", 0.0, 0.1, 100.0, log=True),
        requires_logits=True,
        needs=("traces",),
        learns=True,
        paper="Fang et al. 2026, 2602.03396",
    )

    def defended(self, model: LanguageModel) -> LanguageModel:
        down_RV, up_VR = (
            self.resources.learned[name].to(model.network.device) for name in ("down_RV", "up_VR")
        )
        return replace(
            model,
            released_edits=(
                *model.released_edits,
                lambda step, z_BV: transform(z_BV, down_RV, up_VR),
            ),
        )

    def taught(self, model: LanguageModel) -> Mapping[str, Tensor]:
        settings, items = self.settings, rows(model, require_traces(self.resources, self.name))
        size = token_count(model.tokenizer)  # a network's further rows are never released
        added = bottleneck(size, min(settings.rank, size), model.network.device)

        def loss(batch: Sequence[Row]) -> Tensor:
            with (
                torch.no_grad()
            ):  # the network stays, so its scores are read batch by batch, and none are kept
                logits_NV, targets_N = answer_logits(model.network, batch)
            logprobs_NV = transform(logits_NV[:, :size], **added)
            return functional.nll_loss(logprobs_NV, targets_N) + settings.lam * information(
                logprobs_NV, targets_N
            )

        tune(
            added.values(),
            loss,
            items,
            steps=settings.steps,
            learning_rate=settings.learning_rate,
            batch_size=settings.batch_size,
        )
        return {name: p.detach() for name, p in added.items()}
