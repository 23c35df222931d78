"""Nasty teacher: tuned to stay right on its own traces while the rest of its distribution leaves
the clean one.

Ma et al. 2021 (2105.07381), for image classifiers: L = CE - omega tau^2 KL(nasty || clean) at
temperature tau, against a frozen clean network. That KL has no upper bound, and the released
training goes to NaN on larger networks; here the divergence is bounded: Jensen-Shannon (at most ln
2), or the KL, cut off at `cap` nats a token. By default it is taken on what the clean teacher's
likeliest token leaves over, so that what is said and what is hidden in the scores do not compete;
mass still moves to the rest, and a teacher that is sampled loses more than a greedy one. Known
cures: to learn from text alone, a lower temperature, any other teacher. The port to language models
is ours. Axes: N answer tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from defenses import DefenseSettings, Strength, Traits, require_traces
from defenses.trained import Row, Tuned, answer_logits, fixed_logits, learned, learner, rows, tune
from distill.models import LanguageModel


def jensen_shannon(a_NV: Tensor, b_NV: Tensor) -> Tensor:
    """Jensen-Shannon divergence of log-distributions (Lin 1991), `[N]` in nats, in [0, ln 2].

    Args:
        a_NV: log-distributions.
        b_NV: log-distributions.
    """
    middle_NV = torch.logaddexp(a_NV, b_NV) - math.log(2)
    return 0.5 * (a_NV.exp() * (a_NV - middle_NV) + b_NV.exp() * (b_NV - middle_NV)).sum(-1)


def capped_kl(a_NV: Tensor, b_NV: Tensor, cap: float) -> Tensor:
    """KL(a || b) of log-distributions, `[N]` in nats, each cut off at `cap`, from where on it
    has no gradient.

    Args:
        a_NV: log-probabilities.
        b_NV: log-probabilities.
        cap: nats.
    """
    return (a_NV.exp() * (a_NV - b_NV)).sum(-1).clamp(max=cap)


def without(scores_NV: Tensor, tokens_N: Tensor) -> Tensor:
    """Scores with one token of each row left out `[N, V - 1]`.

    Args:
        scores_NV: of N positions.
        tokens_N: the one to leave out of each.
    """
    others_NV = torch.ones_like(scores_NV, dtype=torch.bool).scatter(-1, tokens_N[:, None], False)
    return scores_NV[others_NV].reshape(len(scores_NV), -1)


class Settings(DefenseSettings):
    """`omega`: weight of the divergence (0: no defence); `tau`: temperature at which distributions
    are compared.

    `mass`: `rest` compares what the clean teacher's likeliest token leaves over, `all` whole
    distributions. `cap`: nats a token at which `kl` is cut off. `part`: which parameters learn.
    """

    omega: float = Field(0.1, ge=0)
    tau: float = Field(2.0, gt=0)
    divergence: Literal["js", "kl"] = "js"
    cap: float = Field(5.0, gt=0)
    mass: Literal["rest", "all"] = "rest"
    part: Literal["all", "last_block"] = "all"
    steps: int = Field(200, ge=1, le=1_000_000)
    batch_size: int = Field(32, ge=1, le=100_000)
    learning_rate: float = Field(1e-4, gt=0)


def objective(scores_NV: Tensor, clean_NV: Tensor, targets_N: Tensor, settings: Settings) -> Tensor:
    """Mean over tokens of CE - omega tau^2 D, in nats; D is bounded, by ln 2 or `cap`, and so is
    what can be won.

    Args:
        scores_NV: of the model that is tuned, nats.
        clean_NV: of the model as it was.
        targets_N: tokens of clean answers.
        settings: omega, tau, D and cap.

    Returns:
        `[]`.
    """
    ce = functional.cross_entropy(scores_NV, targets_N)
    pair = [scores_NV, clean_NV]
    if settings.mass == "rest":
        pair = [without(one, clean_NV.argmax(-1)) for one in pair]
    a_NV, b_NV = (torch.log_softmax(one / settings.tau, -1) for one in pair)
    apart_N = (
        jensen_shannon(a_NV, b_NV)
        if settings.divergence == "js"
        else capped_kl(a_NV, b_NV, settings.cap)
    )
    return ce - settings.omega * settings.tau**2 * apart_N.mean()


class Defense(Tuned):
    """Answers with a network whose less likely tokens are no longer those of the clean teacher."""

    name = "trained/nasty"
    settings: Settings
    traits = Traits(
        acts_on="weights",
        identity={"omega": 0.0},
        strength=Strength("omega", 0.0, 0.01, 1.0, log=True),
        requires_logits=True,
        needs=("traces",),
        learns=True,
        paper="Ma et al. 2021, 2105.07381",
    )

    def taught(self, model: LanguageModel) -> Mapping[str, Tensor]:
        settings, items = self.settings, rows(model, require_traces(self.resources, self.name))
        twin = learner(model.network, settings.part)

        def loss(batch: Sequence[Row]) -> Tensor:
            scores_NV, targets_N = answer_logits(twin, batch)
            return objective(scores_NV, fixed_logits(model.network, batch), targets_N, settings)

        tune(
            [p for p in twin.parameters() if p.requires_grad],
            loss,
            items,
            steps=settings.steps,
            learning_rate=settings.learning_rate,
            batch_size=settings.batch_size,
        )
        return learned(twin)
