"""Prediction poisoning (MAD): turn the update that a student makes away from the one that clean
answers would make.

Orekondy, Schiele, Fritz 2020 (1906.10908). Row k of G is grad log q_k of a stand-in for students.
The objective is ||G'y~/|G'y~| - G'y/|G'y|||^2 = 2 - 2 cos, within an L1 budget. The released code
takes G from the last layer alone, and there (e_k - q)h' is row k, so that cos(G'y, G'y~) =
cos(y - q, y~ - q) whatever h: no Jacobian, O(V). It also takes the teacher for a proxy where none
is named; then y = q, G'y is 0 and the objective undefined. Such rows stay as they are.

The released code goes to the vertex y* of the simplex that would be best if the budget let it be
reached, as far as the budget lets it. `by: final` goes to the one whose point within the budget is
best: of all tokens for `extreme`, of some sets for `argmax`.

The objective is a context's own; for a batch, whose gradients add up before they are normalised, it
is a stand-in. Axes: B rows, V vocabulary, C candidate tokens.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from defenses import (
    NO_RESOURCES,
    BaseDefense,
    DefenseSettings,
    ProviderResources,
    Strength,
    Traits,
    require_language_model,
    require_proxy,
)
from distill.auxiliary import AuxiliaryModel, match_vocab_size
from distill.generation import DecodingStep
from distill.models import Model

NAME = "decoding/mad"
FIRST = 1e-5  # by how much the likeliest token of y* is above the others, as in the released code
SAME = 1e-6  # L1 distance of y and q below which rounding decides where y - q points
ROUNDS = 4


def one_token_target(y_BV: Tensor, q_BV: Tensor) -> Tensor:
    """y* = the one token e_k with the least cos(y - q, e_k - q), over all V; for uniform q the
    least likely under y.

    Args:
        y_BV: the teacher's probabilities.
        q_BV: the proxy's.

    Returns:
        Probabilities `[B, V]`.
    """
    a_BV = y_BV - q_BV
    dots_BV = a_BV - (a_BV * q_BV).sum(-1, keepdim=True)
    squares_BV = 1 - 2 * q_BV + q_BV.square().sum(-1, keepdim=True)
    # |y - q| is left out, as it is the same for all tokens.
    worst_B1 = (dots_BV / squares_BV.clamp(min=1e-30).sqrt()).argmin(-1, keepdim=True)
    return torch.zeros_like(y_BV).scatter_(-1, worst_B1, 1.0)


class Candidates(NamedTuple):
    """Tokens that may join the likeliest one in S. Axes: B rows, C candidates.

    `parts_3BC`: of each, how many tokens it is (0 where it is listed twice or is the likeliest),
    and the a and the q of these. `starts_3B2`: the same sums over what S holds before any candidate
    joins: the likeliest token alone, and it with all tokens that are no candidates (the tail).
    """

    ids_BC: Tensor
    parts_3BC: Tensor
    starts_3B2: Tensor


def best_token(y_BV: Tensor, q_BV: Tensor, eps: float) -> Tensor:
    """y* = the one token e_k with the least cos(y - q, y~ - q) at the point y~ between y and e_k
    that the budget lets be reached, over all V.

    Args:
        y_BV: the teacher's probabilities.
        q_BV: the proxy's.
        eps: L1 budget.

    Returns:
        Probabilities `[B, V]`.
    """
    a_BV = y_BV - q_BV
    # y~ - q = a + alpha (e_k - y), and e_k is 2 (1 - y_k) from y in L1: sums over the row give the
    # cosines of all V tokens, without an array of V x V.
    alpha_BV = (eps / (2 * (1 - y_BV)).clamp(min=1e-30)).clamp(max=1)
    along_BV = alpha_BV * (a_BV - (a_BV * y_BV).sum(-1, keepdim=True))
    square_B1 = a_BV.square().sum(-1, keepdim=True)
    far_BV = alpha_BV.square() * (1 - 2 * y_BV + y_BV.square().sum(-1, keepdim=True))
    length_BV = (square_B1 + 2 * along_BV + far_BV).clamp(min=1e-30).sqrt()
    best_B1 = ((square_B1 + along_BV) / length_BV).argmin(-1, keepdim=True)
    return torch.zeros_like(y_BV).scatter_(-1, best_B1, 1.0)


def uniform_prefixes(y_BV: Tensor, q_BV: Tensor, most: int) -> list[Tensor]:
    """Uniform distributions on the likeliest token and the first few of those that help most, in
    order of (y_k - q_k) and of (y_k - q_k) / q_k.

    Args:
        y_BV: the teacher's probabilities.
        q_BV: the proxy's.
        most: the longest.

    Returns:
        Probabilities `[B, V]` each.
    """
    top_B1 = y_BV.argmax(-1, keepdim=True)
    lengths = [n for n in (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128) if n <= most]
    count = min(max(lengths), y_BV.shape[-1])
    targets = []
    for worth_BV in (y_BV - q_BV, (y_BV - q_BV) / q_BV.clamp(min=1e-30)):
        order_BN = worth_BV.topk(count, largest=False).indices
        for length in lengths:
            target_BV = torch.zeros_like(y_BV).scatter_(-1, order_BN[:, :length], 1.0)
            target_BV = target_BV.scatter_(-1, top_B1, 1 + FIRST)
            targets.append(target_BV / target_BV.sum(-1, keepdim=True))
    return targets


def nearest_opposite(y_BV: Tensor, q_BV: Tensor, targets: list[Tensor], eps: float) -> Tensor:
    """Of several y*, that whose point within the budget has the least cos(y - q, y~ - q); the first
    of equals.

    Args:
        y_BV: the teacher's probabilities.
        q_BV: the proxy's.
        targets: probabilities `[B, V]` each.
        eps: L1 budget.

    Returns:
        Probabilities `[B, V]`.
    """
    # torch's own eps of 1e-8 would make the cosine of short differences smaller than it is.
    cosines_NB = torch.stack(
        [
            torch.cosine_similarity(y_BV - q_BV, _moved(y_BV, one, eps) - q_BV, -1, eps=1e-300)
            for one in targets
        ]
    )
    best_1BV = cosines_NB.argmin(0)[None, :, None].expand(1, *y_BV.shape)
    return torch.stack(targets).gather(0, best_1BV)[0]


def _moved(y_BV: Tensor, target_BV: Tensor, eps: float) -> Tensor:
    """(1 - alpha) y + alpha y*, as far as the budget goes."""
    far_B1 = (y_BV - target_BV).abs().sum(-1, keepdim=True)
    return torch.lerp(y_BV, target_BV, (eps / far_B1.clamp(min=1e-30)).clamp(max=1))


def uniform_target(y_BV: Tensor, q_BV: Tensor, most: int) -> Tensor:
    """y* = uniform on a set S that holds y's likeliest token, chosen for the least cos(y - q, y* -
    q); O(V + m log m).

    In S may be the `most` likeliest tokens of y and of q, and all others together. With a = y - q,
    n = |S| and sums A, Q of a and q over S, cos is proportional to N/D, N = A/n - a.q, D^2 = (1 -
    2Q)/n + |q|^2. For a given n, where N < 0, N/D is quasi-concave in (A, Q), so the best S
    minimises a linear form A - r Q: it is a prefix of the tokens in order of a_k - r q_k. There r =
    -N/D^2; a few rounds of order, best prefix, new r find it, or fall a little short (by up to
    0.023 in cos in trials). (The released greedy search tries every token at every length, O(m^2).)

    Args:
        y_BV: the teacher's probabilities.
        q_BV: the proxy's.
        most: tokens that may be told apart.

    Returns:
        Probabilities `[B, V]`.
    """
    top_B1 = y_BV.argmax(-1, keepdim=True)
    candidates = _candidates(y_BV, q_BV, top_B1, min(most, y_BV.shape[-1]))
    dot_B = ((y_BV - q_BV) * q_BV).sum(-1)
    in_set_BC, tail_B1 = _best_set(candidates, dot_B, q_BV.square().sum(-1))
    ids_BC = candidates.ids_BC
    target_BV = tail_B1.expand(y_BV.shape).scatter(-1, ids_BC, 0.0)
    target_BV = target_BV.scatter_add_(-1, ids_BC, in_set_BC.to(target_BV))
    target_BV = target_BV.scatter_(-1, top_B1, 1 + FIRST)
    return target_BV / target_BV.sum(-1, keepdim=True)


def _candidates(y_BV: Tensor, q_BV: Tensor, top_B1: Tensor, most: int) -> Candidates:
    """The `most` likeliest tokens of y and of q."""
    a_BV = y_BV - q_BV
    ids_BC = torch.cat([y_BV.topk(most).indices, q_BV.topk(most).indices], -1).sort(-1).values
    first_BC = ids_BC != functional.pad(ids_BC, (1, 0), value=-1)[:, :-1]
    ones_BC = torch.ones_like(a_BV[:, :1]).expand(ids_BC.shape)
    parts_3BC = torch.stack([ones_BC, a_BV.gather(-1, ids_BC), q_BV.gather(-1, ids_BC)])
    parts_3BC = parts_3BC * (first_BC & (ids_BC != top_B1))
    ones_B = torch.ones_like(a_BV[:, 0])
    top_3B = torch.stack([ones_B, a_BV.gather(-1, top_B1)[:, 0], q_BV.gather(-1, top_B1)[:, 0]])
    all_3B = torch.stack([ones_B * y_BV.shape[-1], a_BV.sum(-1), q_BV.sum(-1)])
    return Candidates(ids_BC, parts_3BC, torch.stack([top_3B, all_3B - parts_3BC.sum(-1)], -1))


def _best_set(candidates: Candidates, dot_B: Tensor, square_B: Tensor) -> tuple[Tensor, Tensor]:
    """Which candidates are in S, and whether (1 or 0) the tail is; `dot_B` a.q, `square_B` |q|^2.

    Each round tries all prefixes of one order, without the tail and with it (the axis of 2).
    """
    _, parts_3BC, starts_3B2 = candidates
    dot_B11, square_B11 = dot_B[:, None, None], square_B[:, None, None]
    rate_B1 = torch.zeros_like(dot_B[:, None])
    best_B1, tail_B1 = torch.full_like(rate_B1, torch.inf), torch.zeros_like(rate_B1)
    counts_BC = parts_3BC[0] > 0
    in_set_BC = counts_BC
    ranks_C = torch.arange(counts_BC.shape[1], device=counts_BC.device)
    for _ in range(ROUNDS):
        order_BC = (parts_3BC[1] - rate_B1 * parts_3BC[2]).sort(dim=-1, stable=True).indices
        ordered_3BC = parts_3BC.gather(-1, order_BC.expand(parts_3BC.shape))
        sums_3BC = functional.pad(ordered_3BC.cumsum(-1), (1, 0))  # of the first 0, 1, 2, ...
        n_B2C, a_B2C, q_B2C = starts_3B2[..., None] + sums_3BC[:, :, None]
        dots_B2C = a_B2C / n_B2C - dot_B11
        squares_B2C = ((1 - 2 * q_B2C) / n_B2C + square_B11).clamp(min=1e-30)
        value_B1, at_B1 = (dots_B2C / squares_B2C.sqrt()).flatten(1).min(-1, keepdim=True)
        rate_B1 = -(dots_B2C / squares_B2C).flatten(1).gather(-1, at_B1)
        length_B1 = at_B1 % n_B2C.shape[-1]
        prefix_BC = torch.zeros_like(counts_BC).scatter_(-1, order_BC, ranks_C < length_B1)
        better_B1 = value_B1 < best_B1
        in_set_BC = torch.where(better_B1, prefix_BC & counts_BC, in_set_BC)
        tail_B1 = torch.where(better_B1, (at_B1 // n_B2C.shape[-1]).to(tail_B1), tail_B1)
        best_B1 = torch.minimum(value_B1, best_B1)
    return in_set_BC, tail_B1


def interpolate(logprobs_BV: Tensor, target_BV: Tensor, eps: float) -> Tensor:
    """log((1 - alpha) y + alpha y*), alpha = min(1, eps / ||y - y*||_1): L1 to y is min(eps, ||y -
    y*||_1).

    Args:
        logprobs_BV: natural-log probabilities, a row a text.
        target_BV: probabilities y*.
        eps: L1 budget.

    Returns:
        Log-probabilities `[B, V]`.
    """
    y_BV = logprobs_BV.double().exp()
    moved_BV = _moved(y_BV, target_BV, eps)
    return torch.where(moved_BV == y_BV, logprobs_BV, moved_BV.log().to(logprobs_BV))


def target(y_BV: Tensor, q_BV: Tensor, settings: Settings) -> Tensor:
    """y* of a variant.

    Args:
        y_BV: the teacher's probabilities.
        q_BV: the proxy's.
        settings: the variant, the budget, and by what y* is chosen.

    Returns:
        Probabilities `[B, V]`.
    """
    if settings.variant == "extreme":
        if settings.by == "vertex":
            return one_token_target(y_BV, q_BV)
        return best_token(y_BV, q_BV, settings.eps)
    vertex_BV = uniform_target(y_BV, q_BV, settings.most)
    if settings.by == "vertex":
        return vertex_BV
    targets = [vertex_BV, *uniform_prefixes(y_BV, q_BV, settings.most)]
    return nearest_opposite(y_BV, q_BV, targets, settings.eps)


def poison(logprobs_BV: Tensor, proxy_BV: Tensor, settings: Settings, size: int) -> Tensor:
    """log y~ of MAD against a proxy's logprobs; only the first `size` tokens are moved to.

    Args:
        logprobs_BV: natural-log probabilities, a row a text.
        proxy_BV: the same of the proxy.
        settings: the variant and its budget.
        size: tokens that may be moved to.

    Returns:
        Log-probabilities `[B, V]`.
    """
    y_BV, q_BV = logprobs_BV.double().exp(), proxy_BV.double().exp()
    y_BS, q_BS = y_BV[:, :size], q_BV[:, :size]
    target_BS = target(y_BS, q_BS, settings)
    target_BV = functional.pad(target_BS, (0, y_BV.shape[-1] - target_BS.shape[-1]))
    apart_B1 = (y_BV - q_BV).abs().sum(-1, keepdim=True) > SAME
    return torch.where(apart_B1, interpolate(logprobs_BV, target_BV, settings.eps), logprobs_BV)


class Settings(DefenseSettings):
    """`eps`: L1 budget a token (0: no defence); `variant`: `argmax` keeps the likeliest token,
    `extreme` need not.

    `by`: whether the target is the one whose point within the budget is best (`final`), or, as in
    the released code, the best itself (`vertex`). `most`: how many of the likeliest tokens of
    teacher and proxy `argmax` chooses from; `where`:
    released logprobs alone, or what is sampled. On text, `argmax` keeps the likeliest token and yet
    lets others be said, even greedily.
    """

    eps: float = Field(1.0, ge=0, le=2)
    variant: Literal["argmax", "extreme"] = "argmax"
    by: Literal["final", "vertex"] = "final"
    most: int = Field(32, ge=1, le=1_000_000)
    where: Literal["text", "logprobs"] = "logprobs"


class Defense(BaseDefense):
    """Turns what a student learns from every next-token distribution away from what it would have
    learned.
    """

    settings: Settings
    traits = Traits(
        acts_on="logprobs",
        identity={"eps": 0.0},
        strength=Strength("eps", 0.0, 1e-3, 2.0, log=True),
        requires_logits=True,
        extra_forward_passes=1.0,
        needs=("proxy",),
        paper="Orekondy et al. 2020, 1906.10908",
    )

    def __init__(self, settings: Settings, resources: ProviderResources = NO_RESOURCES) -> None:
        super().__init__(settings, resources)
        self.traits = replace(
            self.traits,
            acts_on="decoding" if settings.where == "text" else "logprobs",
            keeps_argmax=settings.variant == "argmax",
        )

    def __call__(self, model: Model) -> Model:
        scored = require_language_model(model, NAME)
        if self.is_identity:
            return scored
        proxy = AuxiliaryModel(require_proxy(self.resources, scored, NAME).network)
        settings, size = self.settings, len(scored.tokenizer)

        def edit(step: DecodingStep, logprobs_BV: Tensor) -> Tensor:
            proxy_BV = torch.log_softmax(
                match_vocab_size(proxy.logits(step), logprobs_BV.shape[-1]), -1
            )
            return poison(logprobs_BV, proxy_BV, settings, size)

        where = "edits" if settings.where == "text" else "released_edits"
        edits: dict[str, Any] = {where: (*getattr(scored, where), edit)}
        return replace(scored, passes=scored.passes + self.traits.extra_forward_passes, **edits)
