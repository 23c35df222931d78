"""Which tokens a mark prefers behind which contexts, estimated without its key.

Where marked text says a token behind a context more often than unmarked text does, the mark is
thought to prefer it. The score of a token v behind a context c of n tokens is s_n(c, v) =
min(r, cap) / cap where r >= 1, and 0 below, with r the ratio of the two probabilities: with cap 2
it is that of watermark stealing (Jovanovic et al. 2024, 2402.19361) and of watermark neutralisation
(Pan et al. 2025, 2502.11598; formulas of its released code, at second hand). As there, contexts of
several lengths are added up, a rarer one with weight (ln f / ln f_max)^-0.3, f its share of the
places that count: P(c, v) = sum over n of w_n(c) s_n(last n of c, v).

Probabilities are counted in two sets of texts (stealing) or are the mean distributions of two
networks that read the same text (neutralisation), which tells more of fewer tokens. A mark that
reads more tokens of context than the longest estimate looks random to it.

Axes: B rows of a batch, C contexts, N tokens of one, T positions, V vocabulary.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distill.completions import Completion
from distill.generation import DecodingStep, Edit
from distill.models import LanguageModel, batches_by_length
from distill.rendering import completion_ids

Row = tuple[list[int], list[int]]
"""Token ids of a prompt, and of an answer to it."""
Context = tuple[int, ...]
RARE = -0.3  # exponent of the weight of rarer contexts


def rows_of(model: LanguageModel, answers: Sequence[Completion]) -> list[Row]:
    """Prompts and answers as a model of the attacker's own spells them; what its context cannot
    hold is left out.

    Args:
        model: with its tokenizer.
        answers: of anybody; one of no token is left out.
    """
    rows = [
        (model.encode(one.question), completion_ids(model.tokenizer, one.text, finished=False))
        for one in answers
    ]
    return [row for row in rows if row[1] and len(row[0]) + len(row[1]) < model.context]


def _places(row: Row, order: int) -> Iterator[tuple[Context, int]]:
    """The context before each token of the answer, where there are so many tokens, and its place
    in prompt and answer together.
    """
    ids = [*row[0], *row[1]]
    for place in range(max(len(row[0]), order), len(ids)):
        yield tuple(ids[place - order : place]), place


def common_contexts(
    rows: Sequence[Row], order: int, least: int, most: int | None
) -> dict[Context, int]:
    """The commonest contexts before tokens of answers, and how often each is there.

    Args:
        rows: prompts and answers.
        order: tokens of a context.
        least: places below which a context is left out.
        most: contexts at most; None: any number.
    """
    counts = Counter(context for row in rows for context, _ in _places(row, order))
    return {context: n for context, n in counts.most_common(most) if n >= least}


def counted(rows: Sequence[Row], contexts: Sequence[Context], size: int) -> Tensor:
    """How often each token is said behind each context `[C, V]`.

    Args:
        rows: prompts and answers.
        contexts: of one length.
        size: of the vocabulary.
    """
    counts_CV = np.zeros((len(contexts), size), np.float32)
    place_of = {context: place for place, context in enumerate(contexts)}
    for row in rows:
        ids = [*row[0], *row[1]]
        for context, place in _places(row, len(contexts[0]) if contexts else 0):
            if context in place_of:
                counts_CV[place_of[context], ids[place]] += 1
    return torch.from_numpy(counts_CV)


@torch.inference_mode()
def expected(
    model: LanguageModel, rows: Sequence[Row], contexts: Sequence[Sequence[Context]]
) -> list[Tensor]:
    """How often a network that reads the rows would say each token behind each context, one
    `[C, V]` a length: the sum of its next-token distributions there.

    Args:
        model: of the attacker's own.
        rows: prompts and answers, in its tokens.
        contexts: those of each length.
    """
    sums = [torch.zeros(len(every), model.tokens) for every in contexts]
    place_of = [{context: place for place, context in enumerate(every)} for every in contexts]
    sizes = [len(prompt) + len(answer) for prompt, answer in rows]
    for part in batches_by_length(sizes, model.batch_size, model.context):
        batch = [rows[i] for i in part]
        p_BTV = _distributions(model.network, batch, model.tokens)
        for order, sums_CV in enumerate(sums):
            length = len(contexts[order][0]) if contexts[order] else 0
            for b, row in enumerate(batch):
                pairs = [(place_of[order].get(c), t) for c, t in _places(row, length) if t > 0]
                wanted = [(c, t) for c, t in pairs if c is not None]
                if wanted:
                    to, at = (torch.tensor(numbers) for numbers in zip(*wanted, strict=True))
                    sums_CV.index_add_(0, to, p_BTV[b, at - 1])
    return sums


def _distributions(network: Any, rows: Sequence[Row], size: int) -> Tensor:
    """The next-token distribution at each position `[B, T, V]`, on the CPU."""
    width = max(len(prompt) + len(answer) for prompt, answer in rows)
    # Causal attention never looks right, so right padding needs no mask.
    tokens_BT = torch.tensor(
        [[*prompt, *answer, *[0] * (width - len(prompt) - len(answer))] for prompt, answer in rows],
        device=network.device,
    )
    logits_BTV = network(input_ids=tokens_BT).logits[..., :size].float()
    return torch.softmax(logits_BTV, -1).cpu()


@torch.inference_mode()
def token_nats(model: LanguageModel, row: Row) -> np.ndarray:
    """-log p of each token of an answer and of its end `[N]`, in nats.

    Args:
        model: of the attacker's own.
        row: prompt and answer.
    """
    prompt, answer = row
    ids = [*prompt, *answer, model.tokenizer.eos_token_id]
    logits_TV = model.network(input_ids=torch.tensor([ids], device=model.network.device)).logits[0]
    logp_TV = torch.log_softmax(logits_TV[..., : model.tokens].float(), -1).cpu()
    places_N = torch.arange(len(prompt), len(ids))
    nats_N: np.ndarray = -logp_TV[places_N - 1, torch.tensor(ids[len(prompt) :])].numpy()
    return nats_N


def preferred(marked_CV: Tensor, base_CV: Tensor, cap: float) -> Tensor:
    """min(r, cap) / cap where r = p_marked / p_base is at least 1, and 0 below `[C, V]`.

    A token is counted half a time more on either side, so that what neither says has r = 1 / 1.

    Args:
        marked_CV: how often each token was said in marked text.
        base_CV: in unmarked text.
        cap: ratio from which a preference is whole.
    """
    size = marked_CV.shape[-1]
    p_CV, q_CV = (
        (counts_CV + 0.5) / (counts_CV.sum(-1, keepdim=True) + 0.5 * size)
        for counts_CV in (marked_CV, base_CV)
    )
    ratio_CV = p_CV / q_CV
    return (ratio_CV.clamp(max=cap) / cap).where(ratio_CV > 1, 0.0)


def weights(counts: Sequence[int]) -> list[float]:
    """(ln f / ln f_max)^-0.3 of each context, 1 for the commonest.

    Args:
        counts: places of each context of one length.
    """
    total, largest = sum(counts), max(counts, default=0)
    if largest == total:  # one context is all there is: ln f_max = 0
        return [1.0] * len(counts)
    return [(math.log(n / total) / math.log(largest / total)) ** RARE for n in counts]


@dataclass(frozen=True)
class Order:
    """Contexts of one length: the row of each in `score_CV`, weighted."""

    length: int
    rows: dict[Context, int]
    score_CV: Tensor


@dataclass(frozen=True)
class Preference:
    """What a mark is thought to prefer: contexts of several lengths, and the ids that are left
    alone, such as the end.
    """

    orders: Sequence[Order]
    special: Sequence[int]

    def behind(self, tokens_BT: Tensor, mask_BT: Tensor, size: int) -> Tensor:
        """P of all tokens behind each row `[B, V]`, at least 0; 0 where nothing is known.

        Args:
            tokens_BT: ids that were read, padded on the left.
            mask_BT: 1 for what is no padding.
            size: of the vocabulary.
        """
        total_BV = torch.zeros(len(tokens_BT), size)
        read = [
            ids_T[mask_T.bool()].tolist() for ids_T, mask_T in zip(tokens_BT, mask_BT, strict=True)
        ]
        for order in self.orders:
            for b, ids in enumerate(read):
                place = order.rows.get(tuple(ids[len(ids) - order.length :]))
                if place is not None and len(ids) >= order.length:
                    total_BV[b, : order.score_CV.shape[1]] += order.score_CV[place]
        total_BV[:, list(self.special)] = 0
        return total_BV.to(tokens_BT.device)

    def edit(self, strength: float) -> Edit:
        """What adds `strength` P to scores; a negative one takes the mark out.

        Args:
            strength: nats before temperature.
        """

        def edit(step: DecodingStep, scores_BV: Tensor) -> Tensor:
            more_BV = self.behind(step.tokens_BT, step.mask_BT, scores_BV.shape[-1])
            return scores_BV.add(more_BV.to(scores_BV.dtype), alpha=strength)

        return edit


@dataclass(frozen=True)
class Search:
    """How a preference is looked for: contexts up to `order` tokens, those that are there `least`
    times, `most` of each length, and the ratio at which a preference is whole.
    """

    order: int
    least: int
    most: int
    cap: float


def of_texts(
    marked: Sequence[Row], base: Sequence[Row], model: LanguageModel, how: Search
) -> Preference:
    """From what marked texts say and what others say: watermark stealing.

    Args:
        marked: prompts and answers of the marked model.
        base: prompts and answers of a model that is not marked.
        model: of the attacker's own, whose tokens the rows are.
        how: what is looked for.
    """
    orders = []
    for length in range(how.order + 1):
        there = common_contexts(marked, length, how.least, how.most)
        other = common_contexts(base, length, how.least, None)
        both = {context: n for context, n in there.items() if context in other}
        tables = [counted(rows, [*both], model.tokens) for rows in (marked, base)]
        orders.append(_order(length, both, tables[0], tables[1], how.cap))
    return Preference(orders, _special(model))


def of_models(
    marked: LanguageModel, base: LanguageModel, rows: Sequence[Row], how: Search
) -> Preference:
    """From what two networks would say behind the same texts: one that learned from marked text,
    and one that did not.

    Args:
        marked: that learned from the marked model.
        base: that did not, of the same tokenizer.
        rows: prompts and answers that both read.
        how: what is looked for.
    """
    there = [common_contexts(rows, length, how.least, how.most) for length in range(how.order + 1)]
    every = [[*contexts] for contexts in there]
    tables = [expected(model, rows, every) for model in (marked, base)]
    orders = [
        _order(length, contexts, marked_CV, base_CV, how.cap)
        for length, (contexts, marked_CV, base_CV) in enumerate(zip(there, *tables, strict=True))
    ]
    return Preference(orders, _special(marked))


def _order(
    length: int, contexts: dict[Context, int], marked_CV: Tensor, base_CV: Tensor, cap: float
) -> Order:
    weight_C = torch.tensor(weights([*contexts.values()]))
    score_CV = preferred(marked_CV, base_CV, cap) * weight_C[:, None]
    return Order(length, {context: place for place, context in enumerate(contexts)}, score_CV)


def _special(model: LanguageModel) -> list[int]:
    """Ids that end an answer or spell nothing: to favour one would make answers longer or shorter,
    which no mark does.
    """
    return sorted({i for i in [*model.tokenizer.all_special_ids, *model.ends] if i < model.tokens})
