"""DOGe: only the head is tuned, to stay right on the teacher's own traces and to go where a proxy
student does not.

Li et al. 2025 (2505.19504): L = CE(own traces) - alpha KL(teacher || proxy) with both at
temperature 2 and the KL on reasoning tokens alone; `bottleneck` is the released alternative to the
head, a zero-initialised V -> r -> V added to the scores (there with a ReLU between, here linear: z
+ B A z). The released code never makes the mask, so that its KL falls on prompts and padding too,
and sums it over tokens, so that alpha depends on length: its alpha of 3e-5 at batch size 1 and a
thousand positions is about 0.03 a token here. It sets a KL that is NaN to 0, and finds the head by
name, where a head tied to the embedding is not listed, and nothing learns. Here the KL is a mean
over the tokens that carry it, each cut off at `cap` nats, and a tied head is untied. A limit of the
objective: its gradient by a score is p_v (log p_v/q_v - KL) / tau, so that where the teacher is
surer than the proxy, the KL grows by being surer still, and what a greedy teacher says hardly
changes. A tau of about 20, at which the likeliest token no longer rules both distributions, gets
out of this, with an alpha to match. Axes: B rows, N answer tokens, V vocabulary, R width of the
bottleneck.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from defenses import DefenseSettings, Strength, Traits, require_proxy, require_traces
from defenses.trained import (
    Row,
    Tuned,
    answer_logits,
    changed,
    fixed_logits,
    learned,
    learner,
    rows,
    tune,
)
from distill.answer_format import AnswerFormat
from distill.models import LanguageModel


def reasoning(tokenizer: Any, ids: Sequence[int], form: AnswerFormat) -> int:
    """How many tokens come before the one in which the final answer's markup begins; without a
    final answer, all are reasoning.

    Args:
        tokenizer: of the ids.
        ids: of an answer.
        form: where its final answer is.
    """
    answer = form.split(tokenizer.decode(ids)).answer.lstrip()
    # From the end, as it is short; its markup may lie within a token or across several.
    return next(
        (t for t in reversed(range(len(ids))) if answer and answer in tokenizer.decode(ids[t:])),
        len(ids),
    )


def objective(
    scores_NV: Tensor,
    proxy_NV: Tensor,
    targets_N: Tensor,
    carries_N: Tensor,
    *,
    alpha: float,
    tau: float,
    cap: float,
) -> Tensor:
    """CE - alpha KL(teacher || proxy) at temperature tau, each a mean over its tokens in nats;
    never below -alpha cap.

    Where one network has more scores than the other, those that both have are compared, as spare
    ones spell nothing.

    Args:
        scores_NV: of the teacher, nats.
        proxy_NV: of the proxy.
        targets_N: tokens of clean answers.
        carries_N: 1 for a token of the reasoning, else 0.
        alpha: weight of KL.
        tau: temperature.
        cap: from where on KL has no gradient, nats.

    Returns:
        `[]`, nats.
    """
    ce = functional.cross_entropy(scores_NV, targets_N)
    if not carries_N.any():
        return ce
    size = min(scores_NV.shape[-1], proxy_NV.shape[-1])
    a_NV, b_NV = (
        torch.log_softmax(one[carries_N, :size] / tau, -1) for one in (scores_NV, proxy_NV)
    )
    return ce - alpha * (a_NV.exp() * (a_NV - b_NV)).sum(-1).clamp(max=cap).mean()


def add_bottleneck(scores_BV: Tensor, down_RV: Tensor, up_VR: Tensor) -> Tensor:
    """Scores `[B, V]` with the bottleneck's added, nats: z + B A z.

    Args:
        scores_BV: z, nats.
        down_RV: A, to R dimensions.
        up_VR: B, back.
    """
    return scores_BV + scores_BV @ down_RV.T @ up_VR.T


def bottleneck(size: int, width: int, device: Any = None) -> dict[str, Tensor]:
    """A bottleneck that adds nothing yet: A is random, so that B, which is 0, has a gradient.

    Args:
        size: V.
        width: R.
        device: where it lies.

    Returns:
        A `[R, V]` and B `[V, R]` by name.
    """
    down_RV = torch.randn(width, size, generator=torch.Generator().manual_seed(0)) / size**0.5
    return {
        "down_RV": down_RV.to(device).requires_grad_(),
        "up_VR": torch.zeros(size, width, device=device).requires_grad_(),
    }


class Settings(DefenseSettings):
    """`alpha`: weight of the KL to the proxy (0: no defence); `part`: what learns; `width`: of the
    bottleneck.

    `masked`: tokens of the final answer, with its markup, carry no KL. `cap`: nats a token
    at which it is cut off. `tau`: temperature of both distributions.
    """

    alpha: float = Field(0.03, ge=0)
    part: Literal["head", "bottleneck"] = "head"
    width: int = Field(512, ge=1, le=1_000_000)
    masked: bool = True
    tau: float = Field(2.0, gt=0)
    cap: float = Field(10.0, gt=0)
    steps: int = Field(200, ge=1, le=1_000_000)
    batch_size: int = Field(32, ge=1, le=100_000)
    learning_rate: float = Field(1e-3, gt=0)


class Defense(Tuned):
    """Answers through a head, or a bottleneck behind it, that leads a proxy astray."""

    name = "trained/doge"
    settings: Settings
    traits = Traits(
        acts_on="weights",
        identity={"alpha": 0.0},
        strength=Strength("alpha", 0.0, 1e-3, 1e3, log=True),
        requires_logits=True,
        needs=("proxy", "traces"),
        learns=True,
        paper="Li et al. 2025, 2505.19504",
    )

    def defended(self, model: LanguageModel) -> LanguageModel:
        if self.settings.part == "head":
            return super().defended(model)
        down_RV, up_VR = (
            self.resources.learned[name].to(model.network.device) for name in ("down_RV", "up_VR")
        )
        return replace(
            model,
            score_edits=(
                *model.score_edits,
                lambda step, scores_BV: add_bottleneck(scores_BV, down_RV, up_VR),
            ),
        )

    def taught(self, model: LanguageModel) -> Mapping[str, Tensor]:
        settings, proxy = self.settings, require_proxy(self.resources, model, self.name).network
        items = self._items(model)
        added: dict[str, Tensor] = {}
        if settings.part == "head":
            twin = learner(model.network, "head")
            moving = [p for p in twin.parameters() if p.requires_grad]
        else:
            twin = changed(model.network, {})
            size = fixed_logits(twin, [items[0][0]]).shape[-1]
            added = bottleneck(size, settings.width, twin.device)
            moving = list(added.values())

        def loss(batch: Sequence[tuple[Row, int]]) -> Tensor:
            batch_rows = [row for row, _ in batch]
            scores_NV, targets_N = answer_logits(twin, batch_rows)
            if added:
                scores_NV = add_bottleneck(scores_NV, **added)
            carries = [t < count for row, count in batch for t in range(len(row.answer_ids))]
            return objective(
                scores_NV,
                fixed_logits(proxy, batch_rows),
                targets_N,
                torch.tensor(carries, device=scores_NV.device),
                alpha=settings.alpha,
                tau=settings.tau,
                cap=settings.cap,
            )

        tune(
            moving,
            loss,
            items,
            steps=settings.steps,
            learning_rate=settings.learning_rate,
            batch_size=settings.batch_size,
        )
        return {name: p.detach() for name, p in added.items()} or learned(twin)

    def _items(self, model: LanguageModel) -> list[tuple[Row, int]]:
        """The provider's traces, each with how many of its first tokens carry the KL."""
        traces = rows(model, require_traces(self.resources, self.name))
        if not self.settings.masked:
            return [(row, len(row.answer_ids)) for row in traces]
        form = self.resources.format
        return [(row, reasoning(model.tokenizer, row.answer_ids, form)) for row in traces]
