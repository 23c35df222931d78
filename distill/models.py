"""Models that answer prompts: networks, and wrappers; `folders` reads and writes them, `recordings`
repeats answers.

Axes: B rows of a batch, T positions, V vocabulary, K released entries.
"""

from __future__ import annotations

import functools
import hashlib
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from distill.completions import BadInput, Completion, Interface, Logprobs, Prompt, digest

TEMPLATE_SECONDS = 5.0
TEMPLATE_LETTERS = 100_000  # more than any system prompt


class Model(Protocol):
    """Anything that answers prompts: a teacher, a defended teacher, a student."""

    def generate(
        self, prompts: Sequence[Prompt], *, seed: int, interface: Interface
    ) -> list[Completion]: ...


@dataclass(frozen=True)
class DecodingStep:
    """One decoding step as an edit sees it: left-padded tokens with their mask, a key a row, tokens
    generated.

    `hidden_BH` is the network's last hidden state; `memory` is what edits keep between the steps of
    one batch.
    """

    tokens_BT: Tensor
    mask_BT: Tensor
    keys: list[str]
    index: int
    hidden_BH: Tensor | None = None
    memory: dict[Any, Any] = field(default_factory=dict)


Edit = Callable[[DecodingStep, Tensor], Tensor]


def read(network: Any, tokens_BT: Tensor, mask_BT: Tensor, cache: Any, **more: Any) -> Any:
    """One forward pass over a batch's last columns; positions count from each row's first token
    that is no padding.
    """
    positions_BT = (mask_BT.cumsum(-1) - 1).clamp(min=0)[:, -tokens_BT.shape[1] :]
    return network(
        input_ids=tokens_BT,
        attention_mask=mask_BT,
        position_ids=positions_BT,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
        **more,
    )


@dataclass(frozen=True, eq=False)
class AuxiliaryModel:
    """A second network that reads along while answers are generated, with a key-value cache of its
    own a batch.
    """

    network: Any

    def logits(self, step: DecodingStep) -> Tensor:
        """Its next-token scores (B, V) in float32; one pass a step, however many edits ask."""
        length, cache, logits_BV = step.memory.get(self, (0, None, None))
        if length < step.tokens_BT.shape[1]:
            out = read(self.network, _unread(self.network, step, length), step.mask_BT, cache)
            logits_BV = out.logits[:, -1].float()
            step.memory[self] = step.tokens_BT.shape[1], out.past_key_values, logits_BV
        return logits_BV


Tangents = Sequence[tuple[Tensor, Tensor]]  # of the keys and values of each layer


def read_dual(
    network: Any,
    direction: Mapping[str, Tensor],
    tokens_BT: Tensor,
    mask_BT: Tensor,
    cache: Any,
    tangents: Tangents,
) -> tuple[Tensor, Any, Tangents]:
    """`read` in forward mode: the slopes d/ds log p(v) (B, V) at weights + s direction, s = 0; the
    cache; its tangents.

    The direction is by parameter name, each with its parameter's dtype; tied weights have one name
    and move together. Keys and values of the past depend on the weights as well, so those of each
    layer have tangents to carry along.
    """
    dual, parts = forward_ad.make_dual, forward_ad.unpack_dual
    # Fused attention has no forward mode, and inference mode allows none; nothing keeps a graph.
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        sdpa_kernel(SDPBackend.MATH),
        forward_ad.dual_level(),
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

        def moved(**inputs: Any) -> Any:
            return torch.func.functional_call(network, weights, kwargs=inputs)

        out = read(
            moved, tokens_BT.clone(), mask_BT.clone(), cache
        )  # clones are no inference tensors
        slopes_BV = parts(torch.log_softmax(out.logits[:, -1], -1)).tangent
        held = [(parts(layer.keys), parts(layer.values)) for layer in out.past_key_values.layers]
        for layer, (keys, values) in zip(out.past_key_values.layers, held, strict=True):
            layer.keys, layer.values = keys.primal, values.primal
        return (
            slopes_BV,
            out.past_key_values,
            [(keys.tangent, values.tangent) for keys, values in held],
        )


@dataclass(frozen=True, eq=False)
class DualAuxiliaryModel:
    """A `Follower` for how its log-probabilities change as its weights move in a direction
    (float32, by name).
    """

    network: Any
    direction: Mapping[str, Tensor]

    def slopes(self, step: DecodingStep) -> Tensor:
        """d/ds log p(v) (B, V) in float32, see `read_dual`; one dual pass a step, the work of about
        three passes.
        """
        length, slopes_BV, cache, tangents = step.memory.get(self, (0, None, None, ()))
        if length < step.tokens_BT.shape[1]:
            new_BT = _unread(self.network, step, length)
            slopes_BV, cache, tangents = read_dual(
                self.network, self.direction, new_BT, step.mask_BT, cache, tangents
            )
            slopes_BV = slopes_BV.float()
            step.memory[self] = step.tokens_BT.shape[1], slopes_BV, cache, tangents
        return slopes_BV


# Networks of one tokenizer may be padded to different sizes; the rows beyond the tokenizer's tokens
# spell nothing.


def _unread(network: Any, step: DecodingStep, length: int) -> Tensor:
    """The columns from `length` on; a token that the network has no row for is read as its last
    row.
    """
    return step.tokens_BT[:, length:].clamp(max=network.get_input_embeddings().num_embeddings - 1)


def fitted(scores_BV: Tensor, size: int) -> Tensor:
    """The first `size` columns; one that a second network lacks is as good as the worst of those it
    has.
    """
    missing = max(0, size - scores_BV.shape[-1])
    return torch.cat(
        [scores_BV[:, :size], scores_BV.amin(-1, keepdim=True).expand(-1, missing)], -1
    )


def uniform(key: str, *parts: object) -> float:
    """A number in [0, 1) that is a function of the key and parts alone (SHA-256, 53 bits), on every
    machine.
    """
    data = "/".join([key, *map(str, parts)]).encode()
    return (int.from_bytes(hashlib.sha256(data).digest()[:8], "big") >> 11) / 2**53


def nucleus(logprobs_BV: Tensor, top_p: float) -> Tensor:
    """Keep the smallest set of most likely tokens whose mass reaches top_p, renormalised (Holtzman
    et al. 2020).
    """
    if top_p >= 1:
        return logprobs_BV
    sorted_BV, order_BV = logprobs_BV.sort(dim=-1, descending=True, stable=True)
    before_BV = sorted_BV.exp().cumsum(-1) - sorted_BV.exp()
    kept_BV = sorted_BV.masked_fill(before_BV >= top_p, -torch.inf)
    return torch.log_softmax(torch.empty_like(kept_BV).scatter_(-1, order_BV, kept_BV), -1)


def finite(network: Any) -> bool:
    """Whether all weights are finite numbers."""
    return all(bool(one.float().isfinite().all()) for one in network.parameters())


def vocabulary_of(tokenizer: Any) -> str:
    """SHA-256 of a tokenizer: token ids of one vocabulary mean nothing in another."""
    return digest(tokenizer.backend_tokenizer.to_str())


def within(seconds: float, work: Callable[[], Any]) -> Any:
    """What `work` returns or raises, or TimeoutError after so long.

    A thread cannot be stopped: one that is late is left alone, and ends with the process.
    """
    told: list[Any] = []

    def run() -> None:
        try:
            told.append((work(), None))
        except Exception as error:
            told.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not told:
        raise TimeoutError(f"took over {seconds:g} s")
    value, error = told[0]
    if error:
        raise error
    return value


def own_randomness(prompts: Sequence[Prompt], seed: int) -> list[str]:
    """A key a prompt: an answer is a function of (seed, prompt text, attempt)."""
    return [f"{seed}/{digest(p.text)}{f'/{p.attempt}' if p.attempt else ''}" for p in prompts]


def distortion(clean_BV: Tensor, edited_BV: Tensor) -> Tensor:
    """How far an edit moved log-distributions: L1 in [0, 2], KL(clean || edited) in nats, argmax
    changed (3 x B).
    """
    p_BV, q_BV = clean_BV.exp(), edited_BV.exp()
    kl_B = torch.where(p_BV > 0, p_BV * (clean_BV - edited_BV), 0.0).sum(-1)
    flips_B = (clean_BV.argmax(-1) != edited_BV.argmax(-1)).to(p_BV.dtype)
    return torch.stack([(p_BV - q_BV).abs().sum(-1), kl_B, flips_B])


def draw(logprobs_BV: Tensor, uniforms: Sequence[float]) -> Tensor:
    """Sample each row by inverting its cumulative distribution at the given uniform number
    (float64).
    """
    cumulative_BV = logprobs_BV.double().exp().cumsum(-1)
    points_B1 = (
        torch.tensor(uniforms, dtype=torch.float64, device=logprobs_BV.device)[:, None]
        * cumulative_BV[:, -1:]
    )
    return (cumulative_BV <= points_B1).sum(-1).clamp(max=logprobs_BV.shape[-1] - 1)


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model with its tokenizer, decoding settings and edits of three kinds,
    applied in this order.

    `score_edits` change raw scores (logits) before temperature and nucleus; `edits` change the
    log-distribution that is sampled; `released_edits` change the released logprobs alone, which the
    first two change as well. temperature 0 decodes greedily; `edits` then still apply to the one
    likeliest token, and the result is sampled, because a perturbation that is never sampled would
    be no perturbation. `randomness` gives each answer its key. Scores that are not finite are
    BadInput; a network that `may_diverge`, as one in training may, says end-of-text there.
    """

    network: Any
    tokenizer: Any
    score_edits: tuple[Edit, ...] = ()
    edits: tuple[Edit, ...] = ()
    released_edits: tuple[Edit, ...] = ()
    randomness: Callable[[Sequence[Prompt], int], list[str]] = own_randomness
    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int = 64
    batch_size: int = 256
    passes: float = 1.0
    may_diverge: bool = False

    def generate(
        self, prompts: Sequence[Prompt], *, seed: int, interface: Interface
    ) -> list[Completion]:
        encoded, keys = [self.encode(prompt) for prompt in prompts], self.randomness(prompts, seed)
        # Rows of one length need no padding at all, so most batches are free of it; order is
        # restored below.
        order = sorted(range(len(prompts)), key=lambda i: len(encoded[i]))
        answers: dict[int, Completion] = {}
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            batch = self._generate(
                [prompts[i] for i in rows],
                [encoded[i] for i in rows],
                [keys[i] for i in rows],
                interface,
            )
            answers.update(zip(rows, batch, strict=True))
        return [answers[i] for i in range(len(prompts))]

    @functools.cached_property
    def vocabulary(self) -> str:
        """SHA-256 of the tokenizer: token ids of one vocabulary mean nothing in another."""
        return vocabulary_of(self.tokenizer)

    @torch.inference_mode()
    def surprisal(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> list[float]:
        """-log p(text and end-of-text | prompt) in nats, one number a text, of the model's raw
        distribution.

        NaN where the context does not hold prompt and text, as where a defence has made a text
        longer.
        """
        tails = [list(self.tokenizer(text, add_special_tokens=False).input_ids) for text in texts]
        rows = [
            (self.encode(prompt), tail + [self.tokenizer.eos_token_id])
            for prompt, tail in zip(prompts, tails, strict=True)
        ]
        sizes, most = (
            [len(a) + len(b) for a, b in rows],
            self.network.config.max_position_embeddings,
        )
        order = sorted((i for i, size in enumerate(sizes) if size <= most), key=lambda i: sizes[i])
        nats = dict.fromkeys(range(len(rows)), math.nan)
        for start in range(0, len(order), self.batch_size):
            part = order[start : start + self.batch_size]
            nats.update(zip(part, self._surprisal([rows[i] for i in part]), strict=True))
        return [nats[i] for i in range(len(rows))]

    def _surprisal(self, rows: list[tuple[list[int], list[int]]]) -> list[float]:
        width = max(len(a) + len(b) for a, b in rows)
        # Causal attention never looks right, so right padding needs no mask.
        tokens_BT = torch.tensor(
            [[*a, *b, *[0] * (width - len(a) - len(b))] for a, b in rows],
            device=self.network.device,
        )
        logits_BTV = self.network(input_ids=tokens_BT).logits[:, :-1].float()
        nats_BT = functional.cross_entropy(
            logits_BTV.transpose(1, 2), tokens_BT[:, 1:], reduction="none"
        ).double()
        return [
            float(nats_BT[i, len(a) - 1 : len(a) + len(b) - 1].sum())
            for i, (a, b) in enumerate(rows)
        ]

    def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt, through the chat template where the tokenizer has one; BadInput if
        it cannot fit.
        """
        ids = list(self.tokenizer(self.rendered(prompt), add_special_tokens=False).input_ids)
        room = self.network.config.max_position_embeddings - self.max_new_tokens
        if not ids:
            raise BadInput(f"prompt {prompt.id!r}: it is empty; a prompt needs at least one token")
        if len(ids) > room:
            raise BadInput(
                f"prompt {prompt.id!r}: {len(ids)} tokens, but the context leaves {room} beside "
                f"{self.max_new_tokens} new tokens"
            )
        return ids

    def rendered(self, prompt: Prompt) -> str:
        """A prompt as the network reads it; BadInput where a chat template errs, takes too long or
        writes too much.
        """
        if not getattr(self.tokenizer, "chat_template", None):
            return prompt.text
        turns = [{"role": "user", "content": prompt.text}]
        render = functools.partial(
            self.tokenizer.apply_chat_template, turns, tokenize=False, add_generation_prompt=True
        )
        try:
            text = str(within(TEMPLATE_SECONDS, render))
        except Exception as error:  # a template is a program of somebody else's
            line = " ".join(str(error).split())
            raise BadInput(
                f"prompt {prompt.id!r}: chat template: {type(error).__name__}: {line}"
            ) from error
        if len(text) > len(prompt.text) + TEMPLATE_LETTERS:
            raise BadInput(
                f"prompt {prompt.id!r}: chat template: writes {len(text)} letters around a "
                "prompt of "
                f"{len(prompt.text)}; at most {TEMPLATE_LETTERS} are taken"
            )
        return text

    @torch.inference_mode()
    def _generate(
        self, prompts: list[Prompt], encoded: list[list[int]], keys: list[str], interface: Interface
    ) -> list[Completion]:
        device, pad, end = (
            self.network.device,
            self.tokenizer.pad_token_id,
            self.tokenizer.eos_token_id,
        )
        width = max(map(len, encoded))
        tokens_BT = torch.tensor(
            [[pad] * (width - len(ids)) + ids for ids in encoded], device=device
        )
        mask_BT = torch.tensor(
            [[0] * (width - len(ids)) + [1] * len(ids) for ids in encoded], device=device
        )
        edited = bool(self.score_edits or self.edits)
        memory: dict[Any, Any] = {}
        cache, fed_BT = None, tokens_BT
        alive = torch.ones(len(prompts), dtype=torch.bool, device=device)
        chosen, moved, released = [], [], []
        begun = [
            self.tokenizer(p.begin, add_special_tokens=False).input_ids if p.begin else []
            for p in prompts
        ]
        for index in range(self.max_new_tokens):
            hidden = {"output_hidden_states": True} if self.edits or self.released_edits else {}
            out = read(self.network, fed_BT, mask_BT, cache, **hidden)
            cache = out.past_key_values
            hidden_BH = out.hidden_states[-1][:, -1] if hidden else None
            step = DecodingStep(tokens_BT, mask_BT, keys, index, hidden_BH, memory)
            clean_BV = self._finite("scores", out.logits[:, -1].float(), alive, prompts)
            scores_BV = _applied(self.score_edits, step, clean_BV)
            logprobs_BV = _applied(self.edits, step, self._sampled(scores_BV))
            if edited:
                logprobs_BV = self._finite("scores behind its defence", logprobs_BV, alive, prompts)
            if self.temperature == 0 and not self.edits:
                picked_B = logprobs_BV.argmax(-1)
            else:
                picked_B = draw(logprobs_BV, [uniform(key, "draw", index) for key in keys])
            for row in [row for row, ids in enumerate(begun) if index < len(ids)]:
                picked_B[row] = begun[row][index]
            picked_B = torch.where(alive, picked_B, pad)
            chosen.append(picked_B)
            if edited:
                moved.append(distortion(self._sampled(clean_BV), logprobs_BV).where(alive, 0))
            if interface.kind != "text":
                raw_BV = torch.log_softmax(scores_BV, -1)
                released.append(
                    _released(_applied(self.edits + self.released_edits, step, raw_BV), interface)
                )
            alive = alive & (picked_B != end)
            fed_BT = picked_B[:, None]
            tokens_BT = torch.cat([tokens_BT, fed_BT], 1)
            mask_BT = torch.cat([mask_BT, torch.ones_like(fed_BT)], 1)
            if not alive.any():
                break
        return self._collect(prompts, torch.stack(chosen, 1).tolist(), moved, released)

    def _finite(
        self, what: str, scores_BV: Tensor, alive_B: Tensor, prompts: list[Prompt]
    ) -> Tensor:
        """The scores where each row still alive has a largest one that is a number; NaN is above
        all others.
        """
        broken_B = alive_B & ~scores_BV.amax(-1).isfinite()
        if not broken_B.any():
            return scores_BV
        if not self.may_diverge:
            first = prompts[int(broken_B.nonzero()[0])].id
            raise BadInput(f"prompt {first!r}: the model's {what} are not finite numbers")
        ends_V = torch.full_like(scores_BV[0], -torch.inf)
        ends_V[self.tokenizer.eos_token_id] = 0
        return torch.where(broken_B[:, None], ends_V, scores_BV)

    def _sampled(self, scores_BV: Tensor) -> Tensor:
        """The log-distribution that is sampled; at temperature 0 all of it lies on the likeliest
        token.
        """
        if self.temperature == 0:
            return torch.log_softmax(
                scores_BV.masked_fill(scores_BV < scores_BV.amax(-1, True), -torch.inf), -1
            )
        return nucleus(torch.log_softmax(scores_BV / self.temperature, -1), self.top_p)

    def _collect(
        self,
        prompts: list[Prompt],
        chosen: list[list[int]],
        moved: list[Tensor],
        released: list[Any],
    ) -> Any:
        end, answers = self.tokenizer.eos_token_id, []
        moved_B3T = torch.stack(moved, -1).transpose(0, 1).tolist() if moved else None
        for row, (prompt, ids) in enumerate(zip(prompts, chosen, strict=True)):
            finished = end in ids
            length = ids.index(end) if finished else len(ids)
            steps = length + finished
            kept = None
            if released:
                ids_TK = np.stack([np.asarray(r[0][row]) for r in released[:steps]]).astype(
                    np.int32
                )
                kept = Logprobs(
                    ids_TK,
                    np.stack([np.asarray(r[1][row]) for r in released[:steps]]).astype(np.float32),
                )
            text = self.tokenizer.decode(
                ids[:length], skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
            far = (
                [sum(one[:steps]) / max(steps, 1) for one in moved_B3T[row]]
                if moved_B3T
                else [0.0] * 3
            )
            answers.append(
                Completion(
                    prompt.id,
                    prompt.text,
                    text,
                    tuple(ids[:length]),
                    finished,
                    kept,
                    self.passes,
                    *far,
                )
            )
        return answers


def _applied(edits: Sequence[Edit], step: DecodingStep, values_BV: Tensor) -> Tensor:
    for edit in edits:
        values_BV = edit(step, values_BV)
    return values_BV


def _released(logprobs_BV: Tensor, interface: Interface) -> tuple[Tensor, Tensor]:
    """The logprobs that are released, at temperature 1 whatever the text is sampled at: ids and
    values, sorted.
    """
    k = (
        logprobs_BV.shape[-1]
        if interface.kind == "full"
        else min(interface.k, logprobs_BV.shape[-1])
    )
    values_BK, ids_BK = logprobs_BV.topk(k, dim=-1)
    return ids_BK.cpu(), values_BK.cpu()


@dataclass(frozen=True)
class EditedModel:
    """A model whose finished answers are edited before they are released."""

    model: Model
    edit: Callable[[Completion], Completion]

    def generate(
        self, prompts: Sequence[Prompt], *, seed: int, interface: Interface
    ) -> list[Completion]:
        return [
            self.edit(answer)
            for answer in self.model.generate(prompts, seed=seed, interface=interface)
        ]
