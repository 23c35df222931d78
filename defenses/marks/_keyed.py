"""Keyed numbers for marks: one 64-bit integer for a key, a context and a token, for a whole
vocabulary at once.

The mixer is the finaliser of splitmix64 (Steele et al. 2014, with Stafford's constants, "Mix13"), a
bijection of 64 bits. A context c_1 .. c_n, oldest first, is h_0 = secret, h_i = mix(h_{i-1} + (c_i
+ 1) G) with G the golden gamma; a token v behind it is mix(h_n + (v + 1) G), that is number v + 1
of splitmix64's stream from h_n. A place before the text is token -1, which adds nothing. The secret
is the first 64 bits of SHA-256 of the key and of what it is for. None of this is a cipher: the
mixer can be inverted by whoever learns a whole number, of which a mark shows a bit.

Numbers are int64, whose bits are what counts; on a CPU they are made in blocks that fit its cache.
Axes: B rows of a batch, N scored tokens, C tokens of a context, V vocabulary.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

from distill.generation import DecodingStep

GOLDEN = 0x9E3779B97F4A7C15
FACTORS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
SHIFTS = (30, 27, 31)
BLOCK = 1 << 15  # numbers, 256 kB


def signed(number: int) -> int:
    """The int64 of the same 64 bits.

    Args:
        number: of any size; its last 64 bits count.
    """
    return (number + 2**63) % 2**64 - 2**63


def secret(key: str, purpose: str) -> int:
    """64 bits of SHA-256, as an int64.

    Args:
        key: of the provider.
        purpose: what the bits are for; two purposes share nothing.
    """
    return signed(int.from_bytes(hashlib.sha256(f"{purpose}/{key}".encode()).digest()[:8], "big"))


def mixed(numbers: Tensor) -> Tensor:
    """The mixer, number by number.

    Args:
        numbers: `[...]`, int64; they stay as they are.

    Returns:
        `[...]`, int64.
    """
    if numbers.device.type == "cpu":
        made = numbers.contiguous().clone()
        _mix_in_place(made.view(-1).numpy().view(np.uint64))
        return made
    for shift, factor in zip(SHIFTS[:2], FACTORS, strict=True):
        numbers = (numbers ^ _shifted(numbers, shift)) * signed(factor)
    return numbers ^ _shifted(numbers, SHIFTS[2])


def _mix_in_place(numbers_N: np.ndarray) -> None:
    """The mixer on a CPU, where torch's own integers are several times slower than numpy's."""
    beside = np.empty(min(BLOCK, numbers_N.size), np.uint64)
    for start in range(0, numbers_N.size, BLOCK):
        part = numbers_N[start : start + BLOCK]
        high = beside[: part.size]
        for shift, factor in zip(SHIFTS[:2], FACTORS, strict=True):
            np.right_shift(part, np.uint64(shift), out=high)
            part ^= high
            part *= np.uint64(factor)
        np.right_shift(part, np.uint64(SHIFTS[2]), out=high)
        part ^= high


def _shifted(numbers: Tensor, places: int) -> Tensor:
    """A shift to the right that fills with zeros, where torch's fills with the sign."""
    return (numbers >> places) & ((1 << (64 - places)) - 1)


def contexts(contexts_NC: Tensor, start: int) -> Tensor:
    """One number a context, a function of its tokens in their order.

    Args:
        contexts_NC: token ids, the last one last; -1 before the text.
        start: the secret.

    Returns:
        `[N]`, int64.
    """
    number_N = contexts_NC.new_full((len(contexts_NC),), start)
    for tokens_N in contexts_NC.unbind(-1):
        number_N = mixed(number_N + (tokens_N + 1) * signed(GOLDEN))
    return number_N


def behind(contexts_N: Tensor, tokens: Tensor) -> Tensor:
    """One number for a token behind a context.

    Args:
        contexts_N: numbers of contexts, `[N]`, or `[N, 1]` for all tokens behind each.
        tokens: ids, `[N]` or `[V]`.

    Returns:
        `[N]` or `[N, V]`, int64.
    """
    return mixed(contexts_N + (tokens + 1) * signed(GOLDEN))


def green_behind(contexts_N: Tensor, tokens_V: Tensor, share: float) -> Tensor:
    """`below(behind(contexts, tokens), share)` of all tokens behind each context.

    On a CPU a few rows at a time, so that the numbers never leave its cache.

    Args:
        contexts_N: numbers of contexts.
        tokens_V: ids.
        share: in (0, 1).

    Returns:
        `[N, V]`, truth values.
    """
    if contexts_N.device.type != "cpu":
        return below(behind(contexts_N[:, None], tokens_V), share)
    starts_N, steps_V = contexts_N.numpy(), ((tokens_V + 1) * signed(GOLDEN)).numpy()
    green_NV = np.empty((len(starts_N), len(steps_V)), np.bool_)
    rows = max(1, BLOCK // len(steps_V))
    number_RV = np.empty((min(rows, len(starts_N)), len(steps_V)), np.int64)
    for first in range(0, len(starts_N), rows):
        starts_R1 = starts_N[first : first + rows, None]
        part_RV = number_RV[: len(starts_R1)]
        np.add(starts_R1, steps_V, out=part_RV)
        _mix_in_place(part_RV.reshape(-1).view(np.uint64))
        np.less(part_RV, _bound(share), out=green_NV[first : first + rows])
    return torch.from_numpy(green_NV)


def _bound(share: float) -> int:
    """The int64 that a share of all numbers is below."""
    return int(share * 2**64) - 2**63


def below(numbers: Tensor, share: float) -> Tensor:
    """Whether each number is among a share of all.

    Args:
        numbers: `[...]`, int64.
        share: in (0, 1).

    Returns:
        `[...]`, truth values; true for `share` of all numbers, to 2^-64.
    """
    return numbers < _bound(share)


def uniforms(numbers: Tensor) -> Tensor:
    """Numbers in (0, 1), in steps of 2^-52 and never at an end.

    Args:
        numbers: `[...]`, int64.

    Returns:
        `[...]`, float64.
    """
    # A bit less than a float64 has: there the half that keeps off 0 would be rounded away.
    return ((numbers >> 12).double() + (2**51 + 0.5)) / 2**52


def last_tokens(step: DecodingStep, width: int) -> Tensor:
    """What was read last, prompt and answer alike.

    Args:
        step: of decoding.
        width: C, how many tokens.

    Returns:
        Ids `[B, C]`; -1 before the text.
    """
    columns = min(width, step.tokens_BT.shape[1])
    first = step.tokens_BT.shape[1] - columns
    last_BC = step.tokens_BT[:, first:].masked_fill(step.mask_BT[:, first:] == 0, -1)
    before_BC = last_BC.new_full((len(last_BC), width - columns), -1)
    return torch.cat([before_BC, last_BC], 1)


class Repeats:
    """Which rows of a batch are at a context that was there before in the same answer: a draw that
    is used twice would make the second one no draw.
    """

    def is_new(self, step: DecodingStep, contexts_B: Tensor) -> Tensor:
        """Whether each row's context is new in its answer; it is remembered.

        Args:
            step: of decoding, in whose memory contexts are.
            contexts_B: their numbers.

        Returns:
            `[B]`, truth values.
        """
        index, before_BT = step.memory.get(self, (-1, contexts_B[:, None][:, :0]))
        new_B: Tensor = (before_BT != contexts_B[:, None]).all(-1)
        if index < step.index:
            step.memory[self] = step.index, torch.cat([before_BT, contexts_B[:, None]], 1)
        return new_B
