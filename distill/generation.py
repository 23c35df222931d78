"""Completions of one batch, token by token: scores, edits, what is drawn and what is released.

Axes: B rows of a batch, T positions, V vocabulary, K released entries, H hidden size.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from distill.completions import BadInput, Completion, Interface, Logprobs, Prompt
from distill.rendering import text_ids

if TYPE_CHECKING:
    from distill.models import LanguageModel


@dataclass(frozen=True)
class DecodingStep:
    """One decoding step as an edit sees it.

    `tokens_BT` are left-padded, with `mask_BT`; `keys` has one key a row; `index` counts tokens
    generated. `hidden_BH` is the network's last hidden state; `memory` is what edits keep between
    the steps of one batch.
    """

    tokens_BT: Tensor
    mask_BT: Tensor
    keys: list[str]
    index: int
    hidden_BH: Tensor | None = None
    memory: dict[Any, Any] = field(default_factory=dict)


Edit = Callable[[DecodingStep, Tensor], Tensor]


def forward_step(network: Any, tokens_BT: Tensor, mask_BT: Tensor, cache: Any, **more: Any) -> Any:
    """One forward pass over a batch's last columns.

    Args:
        network: a causal language model of transformers.
        tokens_BT: the columns that it has not read yet.
        mask_BT: of all columns, those that `cache` holds with them.
        cache: keys and values of the past, or None.
        more: further arguments of the network.

    Returns:
        transformers' output, with scores of the last position alone.

    Raises:
        BadInput: the network keeps neither keys and values nor a state.
    """
    # Positions count from each row's first token that is no padding.
    positions_BT = (mask_BT.cumsum(-1) - 1).clamp(min=0)[:, -tokens_BT.shape[1] :]
    inputs = {
        "input_ids": tokens_BT,
        "attention_mask": mask_BT,
        "position_ids": positions_BT,
        "past_key_values": cache,
        "use_cache": True,
        "logits_to_keep": 1,
    }
    if "past_key_values" in (named := _inputs_of(network.__class__)):
        return network(**inputs, **more)
    # A recurrent network keeps a state in place of keys and values, and knows no positions.
    del inputs["position_ids"], inputs["past_key_values"]
    inputs["attention_mask"] = mask_BT[:, -tokens_BT.shape[1] :]
    if "cache_params" not in named:
        raise BadInput(f"{type(network).__name__}: a network that keeps neither keys nor a state")
    out = network(**inputs, cache_params=cache, **more)
    out.past_key_values = out.cache_params
    return out


@functools.lru_cache(maxsize=64)
def _inputs_of(kind: type) -> frozenset[str]:
    """The names of what networks of a class read; a function in place of a network is one of
    keys and values.
    """
    if not issubclass(kind, torch.nn.Module):
        return frozenset({"past_key_values"})
    return frozenset(inspect.signature(kind.forward).parameters)


def uniform(key: str, *parts: object) -> float:
    """A number in [0, 1) that is a function of the key and parts alone (SHA-256, 53 bits), on every
    machine.

    Args:
        key: of one use.
        *parts: what the number is for; their texts count.
    """
    data = "/".join([key, *map(str, parts)]).encode()
    return (int.from_bytes(hashlib.sha256(data).digest()[:8], "big") >> 11) / 2**53


def nucleus(logprobs_BV: Tensor, top_p: float) -> Tensor:
    """Keep the smallest set of most likely tokens whose mass reaches top_p, renormalised (Holtzman
    et al. 2020).

    Args:
        logprobs_BV: log-distributions.
        top_p: mass; 1 keeps all.

    Returns:
        Log-probabilities `[B, V]`, -inf for what is left out.
    """
    if top_p >= 1:
        return logprobs_BV
    sorted_BV, order_BV = logprobs_BV.sort(dim=-1, descending=True, stable=True)
    before_BV = sorted_BV.exp().cumsum(-1) - sorted_BV.exp()
    kept_BV = sorted_BV.masked_fill(before_BV >= top_p, -torch.inf)
    return torch.log_softmax(torch.empty_like(kept_BV).scatter_(-1, order_BV, kept_BV), -1)


def sampled_logprobs(scores_BV: Tensor, temperature: float, top_p: float) -> Tensor:
    """The log-distribution that is sampled; at temperature 0 all of it lies on the likeliest
    token.

    Args:
        scores_BV: logits.
        temperature: 0 is greedy.
        top_p: mass that is sampled from.

    Returns:
        Log-probabilities `[B, V]`, -inf for what is never drawn.
    """
    if temperature == 0:
        return torch.log_softmax(
            scores_BV.masked_fill(scores_BV < scores_BV.amax(-1, True), -torch.inf), -1
        )
    return nucleus(torch.log_softmax(scores_BV / temperature, -1), top_p)


def distortion(clean_BV: Tensor, edited_BV: Tensor) -> Tensor:
    """How far an edit moved log-distributions: L1 in [0, 2], KL(clean || edited) in nats, whether
    the argmax changed (0 or 1).

    Args:
        clean_BV: log-distributions.
        edited_BV: the same behind the edit.

    Returns:
        `[3, B]`, in this order.
    """
    p_BV, q_BV = clean_BV.exp(), edited_BV.exp()
    kl_B = torch.where(p_BV > 0, p_BV * (clean_BV - edited_BV), 0.0).sum(-1)
    flips_B = (clean_BV.argmax(-1) != edited_BV.argmax(-1)).to(p_BV.dtype)
    return torch.stack([(p_BV - q_BV).abs().sum(-1), kl_B, flips_B])


def draw(logprobs_BV: Tensor, uniforms: Sequence[float]) -> Tensor:
    """Sample each row by inverting its cumulative distribution at the given uniform number
    (float64).

    Args:
        logprobs_BV: log-distributions.
        uniforms: B numbers in [0, 1).

    Returns:
        Token ids `[B]`.
    """
    cumulative_BV = logprobs_BV.double().exp().cumsum(-1)
    uniforms_B = torch.tensor(uniforms, dtype=torch.float64, device=logprobs_BV.device)
    points_B1 = uniforms_B[:, None] * cumulative_BV[:, -1:]
    return (cumulative_BV <= points_B1).sum(-1).clamp(max=logprobs_BV.shape[-1] - 1)


class GenerationBatch:
    """Completions of one batch in the making: B rows that grow by one token a step.

    Args:
        model: whose network, edits and sampling are used.
        prompts: B of them.
        prompt_ids: their tokens, which differ in number.
        keys: what the randomness of each row is a function of.
        interface: what is released beside the text.
    """

    def __init__(
        self,
        model: LanguageModel,
        prompts: Sequence[Prompt],
        prompt_ids: Sequence[list[int]],
        keys: list[str],
        interface: Interface,
    ) -> None:
        self.model, self.prompts, self.keys, self.interface = model, prompts, keys, interface
        device, pad = model.network.device, model.tokenizer.pad_token_id
        width = max(map(len, prompt_ids))
        self.tokens_BT = torch.tensor(
            [[pad] * (width - len(ids)) + ids for ids in prompt_ids], device=device
        )
        self.mask_BT = torch.tensor(
            [[0] * (width - len(ids)) + [1] * len(ids) for ids in prompt_ids], device=device
        )
        self.alive_B = torch.ones(len(prompts), dtype=torch.bool, device=device)
        self.ends_E = torch.tensor(model.ends, device=device)
        self.dictated = [text_ids(model.tokenizer, prompt.begin) for prompt in prompts]
        self.is_edited = bool(model.score_edits or model.edits)
        self.cache: Any = None
        self.memory: dict[Any, Any] = {}
        self.picked: list[Tensor] = []
        self.distortions: list[Tensor] = []
        self.released: list[tuple[np.ndarray, np.ndarray]] = []

    @torch.inference_mode()
    def run(self) -> list[Completion]:
        """One completion a prompt, in order."""
        unread_BT = self.tokens_BT
        for index in range(self.model.max_new_tokens):
            unread_BT = self._step(index, unread_BT)[:, None]
            self.tokens_BT = torch.cat([self.tokens_BT, unread_BT], 1)
            self.mask_BT = torch.cat([self.mask_BT, torch.ones_like(unread_BT)], 1)
            if not self.alive_B.any():
                break
        ids_BT = torch.stack(self.picked, 1).tolist()
        far_B3T = None
        if self.distortions:
            far_B3T = torch.stack(self.distortions, -1).transpose(0, 1).tolist()
        return [
            _completion(
                self.model,
                self.prompts[row],
                ids,
                [(ids_BK[row], values_BK[row]) for ids_BK, values_BK in self.released],
                far_B3T[row] if far_B3T else None,
            )
            for row, ids in enumerate(ids_BT)
        ]

    def _step(self, index: int, unread_BT: Tensor) -> Tensor:
        """Read the last columns and pick the next token of every row (B)."""
        model = self.model
        hidden = {"output_hidden_states": True} if model.edits or model.released_edits else {}
        out = forward_step(model.network, unread_BT, self.mask_BT, self.cache, **hidden)
        self.cache = out.past_key_values
        hidden_BH = out.hidden_states[-1][:, -1] if hidden else None
        step = DecodingStep(self.tokens_BT, self.mask_BT, self.keys, index, hidden_BH, self.memory)
        # A network's rows may be padded beyond its tokens: those spell nothing and are never said.
        clean_BV = self._finite("scores", out.logits[:, -1, : model.tokens].float())
        scores_BV = _apply(model.score_edits, step, clean_BV)
        logprobs_BV = _apply(model.edits, step, self._sampling_logprobs(scores_BV))
        if self.is_edited:
            logprobs_BV = self._finite("scores behind its defence", logprobs_BV)
        picked_B = self._pick(_apply(model.drawn_edits, step, logprobs_BV), index)
        self.picked.append(picked_B)
        if self.is_edited:
            far_3B = distortion(self._sampling_logprobs(clean_BV), logprobs_BV)
            self.distortions.append(far_3B.where(self.alive_B, 0))
        if self.interface.kind != "text":
            raw_BV = torch.log_softmax(scores_BV, -1)
            raw_BV = _apply(model.edits + model.released_edits, step, raw_BV)
            self.released.append(_release(raw_BV, self.interface))
        self.alive_B = self.alive_B & ~torch.isin(picked_B, self.ends_E)
        return picked_B

    def _sampling_logprobs(self, scores_BV: Tensor) -> Tensor:
        return sampled_logprobs(scores_BV, self.model.temperature, self.model.top_p)

    def _pick(self, logprobs_BV: Tensor, index: int) -> Tensor:
        """The next token of every row: dictated, likeliest, or drawn; padding behind an end."""
        edits = self.model.edits or self.model.drawn_edits
        if self.model.temperature == 0 and not edits:
            picked_B = logprobs_BV.argmax(-1)
        else:
            picked_B = draw(logprobs_BV, [uniform(key, "draw", index) for key in self.keys])
        for row, ids in enumerate(self.dictated):
            if index < len(ids):
                picked_B[row] = ids[index]
        return torch.where(self.alive_B, picked_B, self.model.tokenizer.pad_token_id)

    def _finite(self, what: str, scores_BV: Tensor) -> Tensor:
        """The scores where each row still alive has a largest one that is a number; NaN is above
        all others.
        """
        broken_B = self.alive_B & ~scores_BV.amax(-1).isfinite()
        if not broken_B.any():
            return scores_BV
        if not self.model.may_diverge:
            first = self.prompts[int(broken_B.nonzero()[0])].id
            raise BadInput(f"prompt {first!r}: the model's {what} are not finite numbers")
        ends_V = torch.full_like(scores_BV[0], -torch.inf)
        ends_V[self.model.tokenizer.eos_token_id] = 0
        return torch.where(broken_B[:, None], ends_V, scores_BV)


def _completion(
    model: LanguageModel,
    prompt: Prompt,
    ids: list[int],
    released: list[tuple[np.ndarray, np.ndarray]],
    far_3T: list[list[float]] | None,
) -> Completion:
    """What was picked for a prompt, up to its end, with what was released for each token and the
    end; means over these of how far edits moved the distribution.
    """
    length = next((t for t, token in enumerate(ids) if token in model.ends), len(ids))
    finished = length < len(ids)
    steps = length + finished
    logprobs = None
    if released:
        ids_TK, values_TK = (np.stack(rows) for rows in zip(*released[:steps], strict=True))
        logprobs = Logprobs(ids_TK.astype(np.int32), values_TK.astype(np.float32))
    means = [sum(far[:steps]) / max(steps, 1) for far in far_3T] if far_3T else [0.0] * 3
    text = model.tokenizer.decode(
        ids[:length], skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    l1, kl, flips = means
    return Completion.to(
        prompt,
        text,
        token_ids=tuple(ids[:length]),
        finished=finished,
        logprobs=logprobs,
        passes=model.passes,
        l1=l1,
        kl=kl,
        flips=flips,
    )


def _apply(edits: Sequence[Edit], step: DecodingStep, values_BV: Tensor) -> Tensor:
    for edit in edits:
        values_BV = edit(step, values_BV)
    return values_BV


def _release(logprobs_BV: Tensor, interface: Interface) -> tuple[np.ndarray, np.ndarray]:
    """The logprobs that are released, at temperature 1 whatever the text is sampled at: ids and
    values (B, K), most likely first.
    """
    size = logprobs_BV.shape[-1]
    k = size if interface.kind == "full" else min(interface.k, size)
    values_BK, ids_BK = logprobs_BV.topk(k, dim=-1)
    return ids_BK.cpu().numpy(), values_BK.cpu().numpy()


def continuation_nats(network: Any, rows: Sequence[tuple[list[int], list[int]]]) -> list[float]:
    """-log p(continuation | prompt) in nats of each pair of token ids, summed in float64.

    Args:
        network: a causal language model.
        rows: pairs of prompt and continuation, neither empty.
    """
    width = max(len(prompt) + len(more) for prompt, more in rows)
    # Causal attention never looks right, so right padding needs no mask.
    tokens_BT = torch.tensor(
        [[*prompt, *more, *[0] * (width - len(prompt) - len(more))] for prompt, more in rows],
        device=network.device,
    )
    logits_BTV = network(input_ids=tokens_BT).logits[:, :-1].float()
    nats_BT = functional.cross_entropy(
        logits_BTV.transpose(1, 2), tokens_BT[:, 1:], reduction="none"
    ).double()
    return [
        float(nats_BT[i, len(prompt) - 1 : len(prompt) + len(more) - 1].sum())
        for i, (prompt, more) in enumerate(rows)
    ]


@torch.inference_mode()
def continuation_probabilities(
    network: Any, rows: Sequence[tuple[list[int], list[int]]], size: int
) -> list[np.ndarray]:
    """A network's distribution at every place of each continuation, of the token that stands there.

    Args:
        network: a causal language model.
        rows: pairs of prompt and continuation, neither empty.
        size: tokens of the vocabulary; a network may have rows beyond them, which are left out.

    Returns:
        `[L, V]` a row, float32, L the length of its continuation.
    """
    width = max(len(prompt) + len(more) for prompt, more in rows)
    tokens_BT = torch.tensor(
        [[*prompt, *more, *[0] * (width - len(prompt) - len(more))] for prompt, more in rows],
        device=network.device,
    )
    logits_BTV = network(input_ids=tokens_BT).logits
    return [
        torch.softmax(
            logits_BTV[i, len(prompt) - 1 : len(prompt) + len(more) - 1, :size].float(), -1
        )
        .cpu()
        .numpy()
        for i, (prompt, more) in enumerate(rows)
    ]
