"""Second networks that read along while a model generates, each with a cache of its own a batch.

Axes: B rows of a batch, T positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from distill.generation import DecodingStep, forward_step


@dataclass(frozen=True, eq=False)
class AuxiliaryModel:
    """A second network that reads along while answers are generated, with a key-value cache of its
    own a batch.
    """

    network: Any

    def logits(self, step: DecodingStep) -> Tensor:
        """Its next-token scores `[B, V]` in float32; one pass a step, however many edits ask.

        Args:
            step: what has been generated, with the memory of its batch.
        """
        length, cache, logits_BV = step.memory.get(self, (0, None, None))
        if length < step.tokens_BT.shape[1]:
            out = forward_step(
                self.network, _unread(self.network, step, length), step.mask_BT, cache
            )
            logits_BV = out.logits[:, -1].float()
            step.memory[self] = step.tokens_BT.shape[1], out.past_key_values, logits_BV
        return torch.as_tensor(logits_BV)


Tangents = Sequence[tuple[Tensor, Tensor]]  # of the keys and values of each layer


def jvp_step(
    network: Any,
    direction: Mapping[str, Tensor],
    tokens_BT: Tensor,
    mask_BT: Tensor,
    cache: Any,
    tangents: Tangents,
) -> tuple[Tensor, Any, Tangents]:
    """`forward_step` in forward mode: slopes of log-probabilities along a direction of the weights.

    The direction is by parameter name, each with its parameter's dtype; tied weights have one name
    and move together. Keys and values of the past depend on the weights as well, so those of each
    layer have tangents to carry along.

    Args:
        network: a causal language model of transformers, in eval mode.
        direction: `[...]` each, its parameter's shape; a weight that it lacks stays.
        tokens_BT: ids that the cache does not hold yet.
        mask_BT: 1 where there is a token, 0 where padding is, over the cache's positions as well.
        cache: of the positions before, or None; changed in place.
        tangents: of the cache, a pair a layer; none where there is no cache.

    Returns:
        d/ds log p(v) `[B, V]` at weights + s direction, s = 0; the cache; its tangents.
    """
    ad: Any = forward_ad  # torch gives it no types
    dual, parts = ad.make_dual, ad.unpack_dual
    # Fused attention has no forward mode, and inference mode allows none; nothing keeps a graph.
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        sdpa_kernel(SDPBackend.MATH),
        ad.dual_level(),
    ):
        weights = {
            name: dual(p, direction[name])
            for name, p in network.named_parameters()
            if name in direction
        }
        # Products of a dual and a plain tensor take a path a hundred times as long, and rotary
        # tables are plain.
        weights |= {
            n: dual(b, torch.zeros_like(b))
            for n, b in network.named_buffers()
            if b.is_floating_point()
        }
        for layer, (keys, values) in zip(
            [] if cache is None else cache.layers, tangents, strict=True
        ):
            layer.keys, layer.values = dual(layer.keys, keys), dual(layer.values, values)

        def perturbed_network(**inputs: Any) -> Any:
            return torch.func.functional_call(network, weights, kwargs=inputs)

        out = forward_step(
            perturbed_network, tokens_BT.clone(), mask_BT.clone(), cache
        )  # clones are no inference tensors
        slopes_BV = parts(torch.log_softmax(out.logits[:, -1], -1)).tangent
        unpacked = [
            (parts(layer.keys), parts(layer.values)) for layer in out.past_key_values.layers
        ]
        for layer, (keys, values) in zip(out.past_key_values.layers, unpacked, strict=True):
            layer.keys, layer.values = keys.primal, values.primal
        return (
            slopes_BV,
            out.past_key_values,
            [(keys.tangent, values.tangent) for keys, values in unpacked],
        )


@dataclass(frozen=True, eq=False)
class JvpModel:
    """An `AuxiliaryModel` for how its log-probabilities change as its weights move in a direction
    (float32, by name).
    """

    network: Any
    direction: Mapping[str, Tensor]

    def slopes(self, step: DecodingStep) -> Tensor:
        """d/ds log p(v) `[B, V]` in float32, see `jvp_step`; one dual pass a step, the work of
        about three passes.

        Args:
            step: what has been generated, with the memory of its batch.
        """
        length, slopes_BV, cache, tangents = step.memory.get(self, (0, None, None, ()))
        if length < step.tokens_BT.shape[1]:
            new_BT = _unread(self.network, step, length)
            slopes_BV, cache, tangents = jvp_step(
                self.network, self.direction, new_BT, step.mask_BT, cache, tangents
            )
            slopes_BV = slopes_BV.float()
            step.memory[self] = step.tokens_BT.shape[1], slopes_BV, cache, tangents
        return torch.as_tensor(slopes_BV)


# Networks of one tokenizer may be padded to different sizes; the rows beyond the tokenizer's tokens
# spell nothing.


def _unread(network: Any, step: DecodingStep, length: int) -> Tensor:
    """The columns from `length` on; a token that the network has no row for is read as its last
    row.
    """
    return step.tokens_BT[:, length:].clamp(max=network.get_input_embeddings().num_embeddings - 1)


def match_vocab_size(scores_BV: Tensor, size: int) -> Tensor:
    """The first `size` columns; one that a second network lacks is as good as the worst of those it
    has.

    Args:
        scores_BV: of the second network.
        size: tokens of the first.

    Returns:
        `[B, size]`, in the unit of the scores.
    """
    missing = max(0, size - scores_BV.shape[-1])
    return torch.cat(
        [scores_BV[:, :size], scores_BV.amin(-1, keepdim=True).expand(-1, missing)], -1
    )
