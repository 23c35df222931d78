"""The forward and backward pass of a small Llama on a CPU, in fewer and larger kernels than
transformers takes.

The numbers are those of `LlamaModel`, to float32 rounding, and so are its weights: nothing is
copied or renamed. At widths below a hundred most of the work is not multiplication but what lies
around it; both passes take two thirds of the time this way, which is less of a whole step. Axes: B
rows, T positions, N = B T, W width, H heads, D width of a head, R = B H, K positions that are read.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional


def fits(decoder: Any) -> bool:
    """Whether `states` computes what this decoder does: a plain Llama in float32 on a CPU, without
    adapters.

    Args:
        decoder: of a causal language model of transformers.
    """
    if type(decoder).__name__ != "LlamaModel" or decoder.is_activation_checkpointing:
        return False
    config = decoder.config
    plain = not config.attention_bias and not config.mlp_bias and config.hidden_act == "silu"
    whole = config.num_key_value_heads == config.num_attention_heads
    straight = (
        config.rope_parameters.get("rope_type", "default") == "default"
        and not config.attention_dropout
    )
    square = config.num_attention_heads * decoder.layers[0].self_attn.head_dim == config.hidden_size
    if not (plain and whole and straight and square) or torch.is_autocast_enabled("cpu"):
        return False
    weights = [
        *decoder.parameters()
    ]  # adapters would add to nine a layer, the embedding and the last norm
    return len(weights) == 2 + 9 * len(decoder.layers) and all(
        one.dtype == torch.float32 and one.device.type == "cpu" for one in weights
    )


def states(decoder: Any, tokens_BT: Tensor, positions_K: Tensor) -> Tensor:
    """The last hidden states `[K, W]`, behind the final norm, at some of the N positions of
    right-padded rows.

    No other position looks at what the last layer does behind its attention, so that is done for
    these alone.

    Args:
        decoder: of a Llama.
        tokens_BT: right-padded; N = B T.
        positions_K: places among the N.
    """
    (rows, length), config = tokens_BT.shape, decoder.config
    width, eps = config.hidden_size, config.rms_norm_eps
    cos_ET, sin_ET, mask_TT = _tables(length, tuple(decoder.rotary_emb.inv_freq.tolist()))
    x_NW = decoder.embed_tokens(tokens_BT).view(-1, width)
    for layer in decoder.layers:
        a, m = layer.self_attn, layer.mlp
        n_NW = _norm(x_NW, layer.input_layernorm.weight, eps)
        z_NW = functional.linear(
            n_NW, torch.cat([a.q_proj.weight, a.k_proj.weight, a.v_proj.weight])
        )
        o_NW = _attend(
            z_NW.view(rows, length, -1), cos_ET, sin_ET, mask_TT, config.num_attention_heads
        )
        if layer is decoder.layers[-1]:
            x_NW, o_NW = x_NW[positions_K], o_NW[positions_K]
        x_NW = torch.addmm(x_NW, o_NW, a.o_proj.weight.t())
        n_NW = _norm(x_NW, layer.post_attention_layernorm.weight, eps)
        gated = _gate(
            functional.linear(n_NW, m.gate_proj.weight), functional.linear(n_NW, m.up_proj.weight)
        )
        x_NW = torch.addmm(x_NW, gated, m.down_proj.weight.t())
    return _norm(x_NW, decoder.norm.weight, eps)


@functools.lru_cache(maxsize=64)
def _tables(length: int, frequencies: tuple[float, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Cosines and sines of the rotations (E = D / 2, T), and what is added to the scores of later
    positions.
    """
    # Inference mode would make tensors that no later training step could save.
    with torch.inference_mode(False):
        angles_ET = torch.outer(
            torch.tensor(frequencies), torch.arange(length, dtype=torch.float32)
        )
        return angles_ET.cos(), angles_ET.sin(), torch.full((length, length), -torch.inf).triu(1)


class _Norm(torch.autograd.Function):
    """Root-mean-square norm of rows with a gain."""

    @staticmethod
    def forward(ctx: Any, x_NW: Tensor, gain_W: Tensor, eps: float) -> Tensor:
        square_N1 = torch.linalg.vector_norm(x_NW, dim=-1, keepdim=True).square_()
        mean_N1 = square_N1.div_(x_NW.shape[-1]).add_(eps)
        # Where squares overflow, the scale is no number, as transformers' gradient is: 0 would be a
        # silent end.
        scale_N1 = mean_N1.rsqrt() + 0 * mean_N1
        unit_NW = x_NW * scale_N1
        ctx.save_for_backward(unit_NW, scale_N1, gain_W)
        out_NW: Tensor = unit_NW * gain_W
        return out_NW

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NW: Tensor) -> tuple[Tensor, Tensor, None]:
        unit_NW, scale_N1, gain_W = ctx.saved_tensors
        inner_NW = grad_NW * gain_W
        along_N1 = (inner_NW * unit_NW).mean(-1, keepdim=True)
        return (
            torch.addcmul(inner_NW, unit_NW, along_N1, value=-1).mul_(scale_N1),
            (grad_NW * unit_NW).sum(0),
            None,
        )


class _Gate(torch.autograd.Function):
    """silu(gate) x up."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        sigmoid = torch.sigmoid(gate)
        silu = gate * sigmoid
        ctx.save_for_backward(sigmoid, silu, up)
        return silu * up

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        sigmoid, silu, up = ctx.saved_tensors
        slope = torch.addcmul(
            sigmoid + silu, silu, sigmoid, value=-1
        )  # s + g s (1 - s), with silu = g s
        return slope.mul_(up).mul_(grad), grad * silu


def _rotate(z_2RCET: Tensor, cos_ET: Tensor, sin_ET: Tensor) -> Tensor:
    """Both halves (C = 2) of queries and keys, rotated by each position's angles."""
    first, second = z_2RCET.unbind(2)
    out = torch.empty_like(z_2RCET)
    torch.mul(first, cos_ET, out=out[:, :, 0]).addcmul_(second, sin_ET, value=-1)
    torch.mul(second, cos_ET, out=out[:, :, 1]).addcmul_(first, sin_ET)
    return out


class _Attend(torch.autograd.Function):
    """Causal attention with rotary positions, of queries, keys and values (B, T, 3 W) side by side;
    returns (N, W).

    Heads lie as (R, D, T): multiplying matrices whose last axis is a head of eight takes three
    times as long.
    """

    @staticmethod
    def forward(
        ctx: Any, z_BTX: Tensor, cos_ET: Tensor, sin_ET: Tensor, mask_TT: Tensor, heads: int
    ) -> Tensor:
        rows, length, width = z_BTX.shape[0], z_BTX.shape[1], z_BTX.shape[2] // 3
        size = width // heads
        flat = (
            z_BTX.view(rows, length, 3, heads, size)
            .permute(2, 0, 3, 4, 1)
            .reshape(3, rows * heads, size, length)
        )
        turned = _rotate(flat[:2].view(2, -1, 2, size // 2, length), cos_ET, sin_ET).view(
            2, -1, size, length
        )
        (q_RDT, k_RDT), v_RDT = turned.unbind(0), flat[2]
        scores_RTT = torch.baddbmm(mask_TT, q_RDT.transpose(1, 2), k_RDT, alpha=size**-0.5)
        p_RTT = torch.softmax(scores_RTT, -1)
        ctx.save_for_backward(q_RDT, k_RDT, v_RDT, p_RTT, cos_ET, sin_ET)
        ctx.shape = rows, length, heads, size
        o_RDT = torch.bmm(v_RDT, p_RTT.transpose(1, 2))
        return o_RDT.view(rows, width, length).transpose(1, 2).reshape(-1, width)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NW: Tensor) -> tuple[Tensor, None, None, None, None]:
        q_RDT, k_RDT, v_RDT, p_RTT, cos_ET, sin_ET = ctx.saved_tensors
        rows, length, heads, size = ctx.shape
        g_RDT = grad_NW.view(rows, length, -1).transpose(1, 2).reshape(-1, size, length)
        grad_3RDT = torch.empty(3, rows * heads, size, length)
        torch.bmm(g_RDT, p_RTT, out=grad_3RDT[2])
        dp_RTT = torch.bmm(g_RDT.transpose(1, 2), v_RDT)
        ds_RTT = torch._softmax_backward_data(dp_RTT, p_RTT, -1, torch.float32)
        turned = torch.empty(2, rows * heads, size, length)
        torch.bmm(k_RDT, ds_RTT.transpose(1, 2), out=turned[0])
        torch.bmm(q_RDT, ds_RTT, out=turned[1])
        turned = turned.mul_(size**-0.5).view(2, -1, 2, size // 2, length)
        # The transpose of a rotation is the rotation back.
        grad_3RDT[:2] = _rotate(turned, cos_ET, -sin_ET).view(2, -1, size, length)
        grad_BTX = (
            grad_3RDT.view(3, rows, heads, size, length)
            .permute(1, 4, 0, 2, 3)
            .reshape(rows, length, -1)
        )
        return grad_BTX, None, None, None, None


_norm: Callable[..., Tensor] = _Norm.apply
_gate: Callable[..., Tensor] = _Gate.apply
_attend: Callable[..., Tensor] = _Attend.apply
