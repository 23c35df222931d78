"""Gradient redirection (GRAD^2): move probability so that who learns from it is pushed in a
direction of our choice.

Mazeika, Li, Forsyth 2022 (2206.14157). A student that descends on the answers y~ moves its weights
along G'y~, where row k of G is grad log q_k. Of all y~ with ||y~ - y||_1 <= eps, the one furthest
along a direction z maximises <y~, g>, g = Gz, and a greedy pass finds it. Three directions: random
signs, one for all contexts (the coordinated defence; the paper's all-ones are inert on an output
layer, which is left out here anyway); -G'y, against each context's own update, in the form it has
for the last layer; and the gradient of the proxy's loss on clean traces, along which learning
undoes capability. The released code takes tokens to zero, so that KL(y || y~) is infinite; `rho`
leaves a share.

g is one forward-mode derivative of a proxy's log-probabilities for all tokens, the work of about
three passes. Axes: B rows, V vocabulary, K tokens near the threshold, H hidden state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from defenses import (
    NO_RESOURCES,
    BaseDefense,
    DefenseSettings,
    ProviderResources,
    SecretKey,
    Strength,
    Traits,
    require_language_model,
    require_proxy,
    require_traces,
)
from defenses.trained import copied, gradient, rows
from distill.auxiliary import AuxiliaryModel, JvpModel, match_vocab_size
from distill.completions import BadInput
from distill.generation import DecodingStep, uniform
from distill.models import LanguageModel, Model

NAME = "decoding/gradient_redirection"
BINS = 4096
TARGETS = 3  # tokens that are steered to
LEAST = 5e-3  # by which a step must raise <y~, g>, of what eps can raise it
CLIMBS = 6  # rounds of the search on the image
AT_ONCE = 1 << 24  # numbers that a round holds: 128 MiB
HALVINGS, FAR = 24, 100.0  # of the search for how far a step may go, and the most, nats
SHARES = (1.0, 0.7, 0.4, 0.2, 0.1, 0.03, 0.01, 0.001)  # of that


def drain(values_BV: Tensor, rooms_BV: Tensor, give_B1: Tensor) -> Tensor:
    """What is taken of each token's room so that a row gives `give`: smallest value first, the
    lower id among equals.

    Bins of values find the few tokens among which `give` runs out, and only these are sorted: a
    sort of 128,000 takes ten times as long as all the rest.

    Args:
        values_BV: what giving a token's mass is worth; the smallest gives first.
        rooms_BV: probability that each token can give.
        give_B1: probability that the row gives.

    Returns:
        Probability taken `[B, V]`, which adds up to `give`.
    """
    taken_BV, inside_BV = torch.zeros_like(rooms_BV), torch.ones_like(rooms_BV, dtype=torch.bool)
    count, before = values_BV.shape[-1], values_BV.shape[-1] + 1
    while BINS < count < before:  # more than one round where most values are nearly equal
        low_B1 = values_BV.where(inside_BV, torch.inf).amin(-1, keepdim=True)
        high_B1 = values_BV.where(inside_BV, -torch.inf).amax(-1, keepdim=True)
        scale_B1 = (BINS - 1) / (high_B1 - low_B1).clamp(min=1e-30)
        bins_BV = ((values_BV - low_B1) * scale_B1).clamp(0, BINS - 1).long()
        sums_BN = rooms_BV.new_zeros(len(rooms_BV), BINS).scatter_add_(
            -1, bins_BV, rooms_BV.where(inside_BV, 0)
        )
        left_B1 = give_B1 - taken_BV.sum(-1, keepdim=True)
        last_B1 = (sums_BN.cumsum(-1) <= left_B1).sum(-1, keepdim=True)
        taken_BV = rooms_BV.where(inside_BV & (bins_BV < last_B1), taken_BV)
        inside_BV &= bins_BV == last_B1
        count, before = int(inside_BV.sum(-1).max()), count
    # topk finds these tokens and, in rows with fewer, some others, which are sorted behind them and
    # have no room.
    ids_BK = inside_BV.to(rooms_BV.dtype).topk(count, -1).indices.sort(-1).values
    order_BK = (
        values_BV.where(inside_BV, torch.inf).gather(-1, ids_BK).sort(dim=-1, stable=True).indices
    )
    ids_BK = ids_BK.gather(-1, order_BK)
    rooms_BK = rooms_BV.where(inside_BV, 0).gather(-1, ids_BK)
    left_BK = give_B1 - taken_BV.sum(-1, keepdim=True) - (rooms_BK.cumsum(-1) - rooms_BK)
    return taken_BV.scatter_add_(-1, ids_BK, torch.minimum(left_BK.clamp(min=0), rooms_BK))


def redirect(
    logprobs_BV: Tensor, g_BV: Tensor, eps: float, rho: float, size: int | None = None
) -> Tensor:
    """log y~ that maximises <y~, g> with ||y~ - y||_1 <= eps and y~ >= rho y, exactly (Mazeika et
    al. 2022, greedy).

    The token with the largest g, among the first `size`, gets min(eps/2, (1 - rho)(1 - y_c)), twice
    which is the L1 distance. Tokens that nothing was taken from keep their logprob to the bit.

    Args:
        logprobs_BV: natural-log probabilities, a row a text.
        g_BV: what probability on a token is worth.
        eps: L1 budget.
        rho: share of its probability that every token keeps.
        size: tokens that may be given to; all if None.

    Returns:
        Log-probabilities `[B, V]`.
    """
    p_BV = logprobs_BV.double().exp()
    best_B1 = g_BV[:, :size].argmax(-1, keepdim=True)
    # The token that is given to has no room: what it gave itself would be spent and not moved.
    rooms_BV = ((1 - rho) * p_BV).scatter_(-1, best_B1, 0.0)
    taken_BV = drain(g_BV, rooms_BV, rooms_BV.sum(-1, keepdim=True).clamp(max=eps / 2))
    moved_BV = (p_BV - taken_BV).scatter_add_(-1, best_B1, taken_BV.sum(-1, keepdim=True))
    return torch.where(moved_BV == p_BV, logprobs_BV, moved_BV.log().to(logprobs_BV))


def on_image(logprobs_BV: Tensor, g_BV: Tensor, weight_VH: Tensor, eps: float) -> Tensor:
    """log y~ = log softmax(W(h + dh) + b) with <y~, g> as large as a search in dh makes it, and
    ||y~ - y||_1 <= eps; never below <y, g>.

    What a softmax of W's image can say stays one, so regression on that image does not undo it.
    Each round tries steps of many lengths along the gradient of <y~, g> in h, along what is left of
    it without the part that moves y~ further from y, and towards the tokens with the largest g,
    along their rows of W and along what these have above its mean row, and takes the best that eps
    allows, if it is worth `LEAST` of what eps can be. A local search: there may be better points.

    Args:
        logprobs_BV: natural-log probabilities, a row a text.
        g_BV: what probability on a token is worth.
        weight_VH: W of the output layer.
        eps: L1 budget.

    Returns:
        Log-probabilities `[B, V]`.
    """
    weight_VH = weight_VH.double()
    rows = max(1, AT_ONCE // (len(SHARES) * (2 + 2 * TARGETS) * logprobs_BV.shape[-1]))
    parts = [
        _climb(some_BV.double(), some_g_BV.double(), weight_VH, eps)
        for some_BV, some_g_BV in zip(logprobs_BV.split(rows), g_BV.split(rows), strict=True)
    ]
    return torch.cat(parts).to(logprobs_BV)


def _climb(best_BV: Tensor, g_BV: Tensor, weight_VH: Tensor, eps: float) -> Tensor:
    """The search of `on_image`, in float64."""
    p_BV = best_BV.exp()
    value_B = torch.zeros_like(p_BV[:, 0])
    # Steps that reach the same point differ by rounding, which must choose none of them; a budget
    # of eps moves at most eps / 2, by at most the range of g.
    least_B = eps / 2 * LEAST * (g_BV.amax(-1) - g_BV.amin(-1))
    for _ in range(CLIMBS):
        step_DBV = _uphill(best_BV.exp(), p_BV, g_BV, weight_VH)
        reach_DB1 = _reach(best_BV, step_DBV, p_BV, eps)
        step_CBV = torch.cat([share * reach_DB1 * step_DBV for share in SHARES])
        moved_CBV = torch.log_softmax(best_BV + step_CBV, -1)
        change_CBV = moved_CBV.exp() - p_BV
        worth_CB = (change_CBV * g_BV).sum(-1)
        worth_CB = worth_CB.where(change_CBV.abs().sum(-1) <= eps, -math.inf)
        first_B = (worth_CB >= worth_CB.amax(0) - least_B).byte().argmax(0)
        rows_B = torch.arange(len(first_B), device=first_B.device)
        better_B = worth_CB[first_B, rows_B] > value_B + least_B
        best_BV = torch.where(better_B[:, None], moved_CBV[first_B, rows_B], best_BV)
        value_B = torch.where(better_B, worth_CB[first_B, rows_B], value_B)
    return best_BV


def _reach(start_BV: Tensor, step_DBV: Tensor, p_BV: Tensor, eps: float) -> Tensor:
    """How far along directions of logits y~ stays within eps of p in L1 (D, B, 1), at most FAR."""
    low_DB1 = torch.zeros_like(step_DBV[..., :1])
    high_DB1 = torch.full_like(low_DB1, FAR)
    for _ in range(HALVINGS):
        middle_DB1 = (low_DB1 + high_DB1) / 2
        q_DBV = torch.softmax(start_BV + middle_DB1 * step_DBV, -1)
        within_DB1 = (q_DBV - p_BV).abs().sum(-1, keepdim=True) <= eps
        low_DB1 = torch.where(within_DB1, middle_DB1, low_DB1)
        high_DB1 = torch.where(within_DB1, high_DB1, middle_DB1)
    return low_DB1


def _uphill(q_BV: Tensor, p_BV: Tensor, g_BV: Tensor, weight_VH: Tensor) -> Tensor:
    """Directions of logits W dh at y~ = q (D, B, V), largest entry 1: the gradient of <y~, g>, what
    of it does not raise ||y~ - p||_1, and the rows of W, as they are and above their mean, whose
    tokens have the largest g.
    """

    def in_h(values_BV: Tensor) -> Tensor:
        return (q_BV * (values_BV - (q_BV * values_BV).sum(-1, keepdim=True))) @ weight_VH

    up_BH, away_BH = in_h(g_BV), in_h((q_BV - p_BV).sign())
    shared_B1 = (up_BH * away_BH).sum(-1, keepdim=True).clamp(min=0)
    square_B1 = away_BH.square().sum(-1, keepdim=True).clamp(min=1e-30)
    best_KB = g_BV.topk(min(TARGETS, g_BV.shape[-1])).indices.T
    rows_KBH = weight_VH[best_KB]
    dh_DBH = torch.cat(
        [
            torch.stack([up_BH, up_BH - shared_B1 / square_B1 * away_BH]),
            rows_KBH,
            rows_KBH - weight_VH.mean(0),
        ]
    )
    logits_DBV = dh_DBH @ weight_VH.T
    return logits_DBV / logits_DBV.abs().amax(-1, keepdim=True).clamp(min=1e-30)


def away_from_proxy(logprobs_BV: Tensor, proxy_BV: Tensor) -> Tensor:
    """g for z = -G'y in the last layer, per squared length of the hidden state: -(e_k - q).(y - q);
    MIN-IP, O(V).

    Args:
        logprobs_BV: log y.
        proxy_BV: log q.

    Returns:
        `[B, V]` in float64, no unit.
    """
    y_BV, q_BV = logprobs_BV.double().exp(), proxy_BV.double().exp()
    return (q_BV * (y_BV - q_BV)).sum(-1, keepdim=True) - (y_BV - q_BV)


def random_signs(network: Any, key: str) -> dict[str, Tensor]:
    """A keyed +-1 for every weight except the output layer's, `[...]` by parameter name.

    Args:
        network: a causal language model of transformers.
        key: of the provider.
    """
    outside = {id(parameter) for parameter in network.get_output_embeddings().parameters()}
    signs = {}
    for name, value in network.named_parameters():
        if id(value) not in outside:
            generator = torch.Generator().manual_seed(int(uniform(key, "signs", name) * 2**53))
            signs[name] = (
                torch.randint(0, 2, value.shape, generator=generator).mul_(2).sub_(1).float()
            )
    return signs


def slopes_along(network: Any, direction: Mapping[str, Tensor]) -> Callable[[DecodingStep], Tensor]:
    """g `[B, V]` at a step: how the network's log-probabilities change along a direction of length
    1, nats a unit of it.

    Args:
        network: a causal language model; it is copied.
        direction: `[...]` by parameter name, of any length above 0.

    Raises:
        BadInput: the direction has no length.
    """
    length = math.sqrt(sum(float(value.double().square().sum()) for value in direction.values()))
    if not 0 < length < math.inf:
        raise BadInput(
            f"defense {NAME}: the direction has length {length}; direction=loss is learned first"
        )
    twin = copied(network).float().requires_grad_(False)
    return JvpModel(
        twin, {name: (value / length).to(twin.device) for name, value in direction.items()}
    ).slopes


def output_weight(network: Any) -> Tensor:
    """W `[V, H]` of the output layer.

    Args:
        network: a causal language model of transformers.

    Raises:
        BadInput: logits are not what this layer makes of the last hidden state.
    """
    layer = network.get_output_embeddings()
    some_BT = torch.arange(min(8, len(layer.weight)), device=network.device)[None]
    with torch.no_grad():
        out = network(input_ids=some_BT, output_hidden_states=True)
        off = (layer(out.hidden_states[-1]) - out.logits).abs().max()
    if off > 1e-5 * out.logits.abs().max():
        raise BadInput(
            f"defense {NAME}: {type(network).__name__} changes its logits after the output layer "
            "(by up to "
            f"{off:.2g}), so form=hidden has no image to stay on; use form=tokens"
        )
    weight: Tensor = layer.weight
    return weight


class Settings(DefenseSettings):
    """`eps`: L1 budget a token (0: no defence); `rho`: share of its probability that every token
    keeps.

    `direction` is z, `key` decides random signs; `form`: edit tokens freely, or through the last
    hidden state, without `rho`; `where`: what is sampled (and so released), or released logprobs
    alone.
    """

    eps: float = Field(0.4, ge=0, le=2)
    rho: float = Field(0.01, ge=0, lt=1)
    direction: Literal["random", "uncoordinated", "loss"] = "random"
    form: Literal["tokens", "hidden"] = "tokens"
    where: Literal["text", "logprobs"] = "text"
    key: SecretKey = "gradient_redirection"


class Defense(BaseDefense):
    """Redirects what a student learns from every next-token distribution."""

    settings: Settings
    traits = Traits(
        acts_on="decoding",
        identity={"eps": 0.0},
        strength=Strength("eps", 0.0, 1e-3, 2.0, log=True),
        requires_logits=True,
        extra_forward_passes=3.0,
        needs=("proxy",),
        paper="Mazeika et al. 2022, 2206.14157",
    )

    def __init__(self, settings: Settings, resources: ProviderResources = NO_RESOURCES) -> None:
        super().__init__(settings, resources)
        loss = settings.direction == "loss"
        self.traits = replace(
            self.traits,
            # The image of the hidden state has no distribution of one token, which a greedy
            # teacher's text is.
            requires_sampling=settings.form == "hidden" and settings.where == "text",
            acts_on="decoding" if settings.where == "text" else "logprobs",
            extra_forward_passes=1.0 if settings.direction == "uncoordinated" else 3.0,
            needs=("proxy", "traces") if loss else ("proxy",),
            learns=loss,
        )

    def learn(self, model: Model) -> Mapping[str, Tensor]:
        """The gradient of the proxy's loss on clean traces: y~ moves a student by +G'y~, and loss
        up with it.
        """
        scored = require_language_model(model, NAME)
        traces = rows(scored, require_traces(self.resources, NAME))
        return gradient(require_proxy(self.resources, scored, NAME).network, traces)

    def __call__(self, model: Model) -> Model:
        scored = require_language_model(model, NAME)
        if self.is_identity:
            return scored
        where = "edits" if self.settings.where == "text" else "released_edits"
        if self.settings.form == "hidden" and where == "edits" and scored.temperature == 0:
            raise BadInput(
                f"defense {NAME}: form=hidden cannot move a greedy teacher's text, whose "
                "distribution is "
                "one token; use form=tokens, or where=logprobs"
            )
        redirect, slope = (
            self._redirection(scored.network, len(scored.tokenizer)),
            self._slope(scored),
        )

        def edit(step: DecodingStep, logprobs_BV: Tensor) -> Tensor:
            return redirect(logprobs_BV, slope(step, logprobs_BV))

        edits: dict[str, Any] = {where: (*getattr(scored, where), edit)}
        return replace(scored, passes=scored.passes + self.traits.extra_forward_passes, **edits)

    def _slope(self, model: LanguageModel) -> Callable[[DecodingStep, Tensor], Tensor]:
        """g as a function of the step and of the distribution that is edited."""
        network = require_proxy(self.resources, model, NAME).network
        if self.settings.direction == "uncoordinated":
            follower = AuxiliaryModel(network)
            return lambda step, logprobs_BV: away_from_proxy(
                logprobs_BV,
                torch.log_softmax(
                    match_vocab_size(follower.logits(step), logprobs_BV.shape[-1]), -1
                ),
            )
        random = self.settings.direction == "random"
        slopes = slopes_along(
            network, random_signs(network, self.settings.key) if random else self.resources.learned
        )
        return lambda step, logprobs_BV: match_vocab_size(slopes(step), logprobs_BV.shape[-1])

    def _redirection(self, network: Any, size: int) -> Callable[[Tensor, Tensor], Tensor]:
        """The edit as a function of log y and g; tokens that the tokenizer does not spell are not
        moved to.
        """
        eps, rho = self.settings.eps, self.settings.rho
        if self.settings.form == "tokens":
            return lambda logprobs_BV, g_BV: redirect(logprobs_BV, g_BV, eps, rho, size)
        weight_VH = output_weight(network)
        return lambda logprobs_BV, g_BV: on_image(logprobs_BV, g_BV, weight_VH, eps)
