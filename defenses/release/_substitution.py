"""Tokens of a finished reasoning in whose place others stand, so that a step of training on it
hurts a proxy.

A small step on an answer x moves the proxy along grad log p(x). It raises the loss over clean,
held-out traces by an amount that is proportional to J(x) = <d, grad mean_t log p(x_t | x_<t)>, d
the direction of that loss's gradient (Savani et al. 2025, 2504.13146, use it of one token at a
time). J is sought to be large, one token after another: its gradient by every token's one-hot row
ranks all substitutions (HotFlip, Ebrahimi et al. 2018, 1712.06751), and of those that rank best J
itself chooses (Zou et al. 2023, 2307.15043, who draw them at random). Axes: B answers, T tokens of
an answer, V vocabulary.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from defenses import ProviderResources, require_traces
from defenses.release import TAGGED, edit_reasoning
from defenses.release._scoring import scoring_proxy
from defenses.trained import Row, copied, gradient, unit_direction
from distill.answer_format import AnswerFormat
from distill.completions import BadInput, Completion
from distill.models import LanguageModel, is_network
from distill.rendering import prompt_ids, text_ids

LOOKED_AT = 32  # substitutions for each that is tried; others are not spelled as they are read
NORM = "gradient_norm"
GRADIENT, SLOPE = 9.0, 3.0  # forward passes that a gradient of a gradient takes, and a dual pass


def loss_rise(
    network: Any, direction: Mapping[str, Tensor], prompt: Sequence[int], answers_BT: Tensor
) -> Tensor:
    """J of answers to one prompt: d/ds of the mean log p of their tokens at weights + s direction.

    Args:
        network: a causal language model; it stays as it is.
        direction: `[...]` by parameter name; a weight that it lacks stays.
        prompt: token ids, at least one.
        answers_BT: token ids of answers of one length.

    Returns:
        `[B]`, nats a token for a step of length 1 along the direction.
    """
    ids_T = torch.tensor(list(prompt), device=network.device)
    answers_BT = answers_BT.to(network.device)
    tokens_BT = torch.cat([ids_T.expand(len(answers_BT), -1), answers_BT], 1)
    # Products of a dual and a plain tensor take a path a hundred times as long, and rotary tables
    # are plain: they are dual here, and do not move.
    weights = dict(network.named_parameters()) | {
        name: value for name, value in network.named_buffers() if value.is_floating_point()
    }
    tangents = {
        name: direction.get(name, torch.zeros_like(value)) for name, value in weights.items()
    }

    def means(weights: dict[str, Tensor]) -> Tensor:
        out = torch.func.functional_call(network, weights, kwargs={"input_ids": tokens_BT})
        logprobs_BTV = torch.log_softmax(out.logits[:, len(prompt) - 1 : -1], -1)
        return logprobs_BTV.gather(-1, answers_BT[..., None]).squeeze(-1).mean(-1)

    with torch.inference_mode(False), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        return torch.as_tensor(torch.func.jvp(means, (weights,), (tangents,))[1])


def token_slopes(
    network: Any, direction: Mapping[str, Tensor], row: Row, vocabulary: int
) -> Tensor:
    """How J changes by each answer token's one-hot row, both where the proxy reads it and where it
    is to say it.

    Args:
        network: a causal language model whose weights ask for gradients; they get none.
        direction: `[...]` by parameter name.
        row: a prompt and an answer as token ids.
        vocabulary: tokens that may stand there, of the first ids.

    Returns:
        dJ / d one-hot `[T, V]`. An entry less that of the token there is J's change if it is
        substituted, to first order.
    """
    answer_T = torch.tensor(row.answer_ids, device=network.device)
    prompt_P = torch.tensor(row.prompt_ids, device=network.device)
    # Fused attention has no second derivative.
    with torch.inference_mode(False), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        onehot_TV = functional.one_hot(answer_T, vocabulary).to(network.dtype).requires_grad_()
        embed = network.get_input_embeddings()
        table_VD = embed(torch.arange(vocabulary, device=network.device))
        embedded_TD = torch.cat([embed(prompt_P), onehot_TV @ table_VD])
        logits_TV = network(inputs_embeds=embedded_TD[None]).logits[0, len(prompt_P) - 1 : -1]
        mean = (onehot_TV * torch.log_softmax(logits_TV, -1)[:, :vocabulary]).sum() / len(answer_T)
        named = [(p, direction[n]) for n, p in network.named_parameters() if n in direction]
        weights, directions = zip(*named, strict=True)
        slopes = torch.autograd.grad(mean, weights, create_graph=True, materialize_grads=True)
        rise = sum((g * d).sum() for g, d in zip(slopes, directions, strict=True))
        (slopes_TV,) = torch.autograd.grad(rise, onehot_TV)
    return slopes_TV


def reasoning_tokens(tokenizer: Any, text: str, form: AnswerFormat) -> list[int]:
    """The places of the tokens that lie within the reasoning: in what is thought, without its tags,
    or in what is shown before the final answer.

    Args:
        tokenizer: a fast one of transformers.
        text: of an answer.
        form: where reasoning and answer are.
    """
    parts = form.split(text)
    thought = re.fullmatch(TAGGED, parts.thinking, re.DOTALL)
    assert thought is not None  # everything matches
    shown = len(parts.thinking)
    spans = [thought.span(2), (shown, shown + len(parts.reasoning))]
    read = tokenizer(
        text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
    )
    return [
        place
        for place, (start, end) in enumerate(read.offset_mapping)
        if any(first <= start < end <= last for first, last in spans)
    ]


def proxy_weights(resources: ProviderResources, name: str) -> LanguageModel:
    """The proxy, whose weights gradients are of.

    Args:
        resources: of the provider.
        name: of the defence, for its message.

    Raises:
        BadInput: there is none, or it has no weights here, as a served or a recorded model.
    """
    proxy = scoring_proxy(resources, name)
    if not proxy.capabilities.weights or not is_network(proxy):
        raise BadInput(
            f"defense {name}: a search by gradients needs the proxy's weights; a "
            f"{type(proxy).__name__} has none"
        )
    return proxy


def fitting_row(proxy: LanguageModel, answer: Completion) -> Row | None:
    """An answer as the proxy reads it, or None where its context does not hold that.

    Args:
        proxy: with its tokenizer.
        answer: finished or cut off.
    """
    question = prompt_ids(proxy.tokenizer, answer.question)
    ids = text_ids(proxy.tokenizer, answer.text)
    ids += [proxy.tokenizer.eos_token_id] * answer.finished
    fits = question and ids and len(question) + len(ids) <= proxy.context
    return Row(question, ids) if fits else None


def held_out_direction(
    resources: ProviderResources, name: str, batch_size: int
) -> dict[str, Tensor]:
    """In which direction of the proxy's weights the mean loss over the clean traces rises fastest.

    Args:
        resources: of the provider.
        name: of the defence, for its message.
        batch_size: traces at once.

    Returns:
        `[...]` by parameter name, of unit L2 norm over all; the gradient's own norm as NORM.

    Raises:
        BadInput: there are no traces that the proxy can read, or there is no proxy with weights.
    """
    proxy = proxy_weights(resources, name)
    traces = [fitting_row(proxy, trace) for trace in require_traces(resources, name)]
    fitting = [row for row in traces if row]
    if not fitting:
        raise BadInput(
            f"defense {name}: the proxy's context of {proxy.context:g} tokens holds none of "
            f"{len(traces)} traces"
        )
    direction, norm = unit_direction(gradient(proxy.network, fitting, batch_size), name)
    return direction | {NORM: norm}


@dataclass(frozen=True)
class Substitution:
    """Puts other tokens into the reasoning of a finished answer, as long as J rises.

    The final answer and the tags around what is thought stay letter by letter. What is released is
    read as the very tokens that were tried. An answer that the proxy's context does not hold, or
    that its tokenizer cannot spell, stays as it is.

    Args:
        proxy: of the provider.
        direction: `[...]` by parameter name, in which the loss over clean traces rises.
        form: where reasoning and answer are.
        share: of the reasoning's tokens that are substituted at most, rounded up.
        tried: substitutions whose J is computed before one is made.
    """

    proxy: LanguageModel
    direction: Mapping[str, Tensor]
    form: AnswerFormat
    share: float
    tried: int

    def __call__(self, answer: Completion) -> Completion:
        """The answer with its substitutions, without token ids and logprobs.

        Args:
            answer: finished or cut off.
        """
        answer = replace(answer, token_ids=(), logprobs=None)
        row = fitting_row(self.proxy, answer)
        if row is None or self._text(row.answer_ids, answer) != answer.text:
            return answer
        places = reasoning_tokens(self.proxy.tokenizer, answer.text, self.form)
        for _ in range(math.ceil(self.share * len(places))):
            candidates = self._candidates(row, places, answer)
            if not candidates:
                break
            answers = [row.answer_ids, *candidates]
            rises_B = loss_rise(
                self.proxy.network, self.direction, row.prompt_ids, torch.tensor(answers)
            )
            again = 1 + len(row.prompt_ids) / len(row.answer_ids)  # the prompt is read each time
            passes = again * (GRADIENT + SLOPE * len(answers))
            answer = replace(answer, passes=answer.passes + passes)
            best = int(rises_B.argmax())
            if rises_B[best] <= rises_B[0]:
                break
            row = row._replace(answer_ids=answers[best])
        return replace(answer, text=self._text(row.answer_ids, answer))

    def _text(self, ids: Sequence[int], answer: Completion) -> str:
        """What token ids spell, without the end."""
        spelled = ids[: len(ids) - answer.finished]
        text = self.proxy.tokenizer.decode(
            spelled, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return str(text)

    def _candidates(self, row: Row, places: Sequence[int], answer: Completion) -> list[list[int]]:
        """The answers with one more substitution that rank best, of those that can be released."""
        frame = self._frame(answer.text)
        candidates = list[list[int]]()
        for place, token in self._ranked(row, places):
            ids = [*row.answer_ids[:place], token, *row.answer_ids[place + 1 :]]
            text = self._text(ids, answer)
            if self._frame(text) == frame and self._reads(text, ids, answer):
                candidates.append(ids)
            if len(candidates) == self.tried:
                break
        return candidates

    def _ranked(self, row: Row, places: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Places and tokens, those first by which J rises most to first order."""
        network, tokenizer = self.proxy.network, self.proxy.tokenizer
        size = min(self.proxy.tokens, network.get_input_embeddings().num_embeddings)
        slopes_TV = token_slopes(network, self.direction, row, size)
        gains_TV = slopes_TV - slopes_TV.gather(
            1, torch.tensor(row.answer_ids, device=slopes_TV.device)[:, None]
        )
        control = [i for i, token in tokenizer.added_tokens_decoder.items() if token.special]
        gains_TV[:, [i for i in {*control, *tokenizer.all_special_ids} if i < size]] = -math.inf
        gains_TV[range(len(row.answer_ids)), row.answer_ids] = -math.inf
        gains_NV = gains_TV[list(places)]
        values, order = gains_NV.flatten().topk(min(gains_NV.numel(), LOOKED_AT * self.tried))
        for value, index in zip(values.tolist(), order.tolist(), strict=True):
            if value > -math.inf:
                yield places[index // size], index % size

    def _frame(self, text: str) -> str:
        """What of a text must stay: all but the reasoning."""
        return edit_reasoning(text, self.form, lambda _: "-")

    def _reads(self, text: str, ids: Sequence[int], answer: Completion) -> bool:
        """Whether the proxy reads a text as these ids, the end aside."""
        return text_ids(self.proxy.tokenizer, text) == [*ids[: len(ids) - answer.finished]]


def substitution(resources: ProviderResources, name: str, share: float, tried: int) -> Substitution:
    """What substitutes tokens, with a copy of the proxy in float32: of second derivatives in less,
    most is rounding.

    Args:
        resources: of the provider, with what `held_out_direction` returned as `learned`.
        name: of the defence, for its message.
        share: of the reasoning's tokens.
        tried: substitutions for each that is made.

    Raises:
        BadInput: there is no proxy with weights, or nothing was learned.
    """
    proxy = proxy_weights(resources, name)
    if not resources.learned:
        raise BadInput(f"defense {name}: no gradient of the proxy's loss; let it learn one first")
    network = copied(proxy.network).float()
    direction = {
        weight: value.to(network.device, network.dtype)
        for weight, value in resources.learned.items()
        if weight != NORM
    }
    return Substitution(replace(proxy, network=network), direction, resources.format, share, tried)
