"""Pairs of context and token, read off texts, and which of them a test may count.

A student that is asked to go on with marked text can copy from what it has read: where the window
of a pair stood before in the same text, or in its prompt, the pair says nothing of what the student
has learned (`fresh`). And a student learned most where its training data had the window
(`seen_in`). Both choose by the window alone, never by the token behind it. Axes: N pairs, C tokens
of a context.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from defenses.marks import _keyed
from defenses.marks.detect import Pairs, Vocabulary
from distill.completions import BadInput, Completion
from distill.rendering import text_ids


def of_texts(
    texts: Sequence[Sequence[int]],
    width: int,
    vocabulary: Vocabulary,
    prompts: Sequence[Sequence[int]] | None = None,
) -> Pairs:
    """Every token of some texts that has so many tokens before it, with these.

    Args:
        texts: token ids of each.
        width: C, tokens of a context.
        vocabulary: of the ids.
        prompts: token ids of what stands before each text, which contexts then reach into; without
            them the first `width` tokens of a text are no pairs.

    Raises:
        BadInput: there is not one prompt a text, or an id is not in the vocabulary.
    """
    if prompts is not None and len(prompts) != len(texts):
        raise BadInput(f"mark: {len(prompts)} prompts for {len(texts)} texts; there is one a text")
    before = [list(one)[max(0, len(one) - width) :] for one in prompts or [()] * len(texts)]
    ids = [np.array([*start, *text], np.int64) for start, text in zip(before, texts, strict=True)]
    long = [(row, one) for row, one in enumerate(ids) if len(one) > width]
    windows = [np.lib.stride_tricks.sliding_window_view(one, width + 1) for _, one in long]
    windows_NC = np.concatenate([np.empty((0, width + 1), np.int64), *windows])
    rows = [np.full(len(one) - width, row) for row, one in long]
    return Pairs(
        windows_NC[:, :-1],
        windows_NC[:, -1],
        np.concatenate([np.empty(0, np.int64), *rows]),
        vocabulary,
    )


def spoken(answers: Sequence[Completion], tokenizer: Any = None) -> list[list[int]]:
    """The token ids of answers.

    Args:
        answers: of a marked model, or of anybody.
        tokenizer: the marked model's, to spell a text whose tokens are unknown, as one that was
            edited after it was marked; what was edited carries no mark, and its neighbours may have
            lost theirs.

    Raises:
        BadInput: an answer's tokens are unknown, and there is no tokenizer.
    """
    ids = []
    for answer in answers:
        has_tokens = answer.token_ids or not answer.text
        if not has_tokens and tokenizer is None:
            raise BadInput(
                f"mark: answer {answer.prompt_id!r} has a text but no token ids, so it was edited "
                "after it was marked, or recorded; hand over the marked model's tokenizer to spell "
                "it anew"
            )
        ids.append(list(answer.token_ids) if has_tokens else text_ids(tokenizer, answer.text))
    return ids


def numbers(contexts_NC: np.ndarray) -> np.ndarray:
    """A number a context, the same for the same one `[N]`, int64.

    Args:
        contexts_NC: token ids.
    """
    return _keyed.contexts(torch.from_numpy(contexts_NC.astype(np.int64)), 0).numpy()


def seen_in(pairs: Pairs, trained: Pairs) -> Pairs:
    """The pairs whose context stands in training data.

    Args:
        pairs: to choose from.
        trained: the pairs of the marked texts that a student may have learned from.

    Raises:
        BadInput: the two are of different tokenizers or widths.
    """
    trained.vocabulary.require(pairs.vocabulary)
    if trained.contexts_NC.shape[1] != pairs.contexts_NC.shape[1]:
        raise BadInput("mark: training data were read with contexts of another width")
    return pairs.only(np.isin(numbers(pairs.contexts_NC), numbers(trained.contexts_NC)))


def fresh(pairs: Pairs, prompts: Sequence[Sequence[int]] | None = None) -> Pairs:
    """The pairs whose context has not stood before in the same text, nor in its prompt; of a mark
    without contexts, those whose token does not stand in the prompt.

    Args:
        pairs: in the order of their texts.
        prompts: token ids of what stands before each text; for a mark without contexts, of all that
            was read.

    Raises:
        BadInput: there is no prompt of a text.
    """
    width = pairs.contexts_NC.shape[1]
    if prompts is not None and len(pairs) and pairs.rows_N.max() >= len(prompts):
        raise BadInput(f"mark: {len(prompts)} prompts for {pairs.rows_N.max() + 1} texts")
    if width == 0:
        return pairs.only(_unread(pairs, prompts or ()))
    # A window that ends a prompt is the context of the answer's first token: what stood before it
    # in the prompt counts, and it itself does not.
    earlier = [
        (row, np.lib.stride_tricks.sliding_window_view(np.array(one[:-1], np.int64), width))
        for row, one in enumerate(prompts or ())
        if len(one) > width
    ]
    before_MC = np.concatenate([np.empty((0, width), np.int64), *(one for _, one in earlier)])
    rows_M = np.concatenate([np.empty(0, np.int64), *(np.full(len(w), r) for r, w in earlier)])
    places_X = _keyed.behind(
        torch.from_numpy(np.concatenate([numbers(before_MC), numbers(pairs.contexts_NC)])),
        torch.from_numpy(np.concatenate([rows_M, pairs.rows_N])),
    )
    first = np.unique(places_X.numpy(), return_index=True)[1] - len(rows_M)
    return pairs.only(np.sort(first[first >= 0]))


def _unread(pairs: Pairs, prompts: Sequence[Sequence[int]]) -> np.ndarray:
    """Whether each token does not stand in its text's prompt `[N]`."""
    read_M = np.array([token for one in prompts for token in one], np.int64)
    rows_M = np.repeat(np.arange(len(prompts)), [len(one) for one in prompts])
    size = pairs.vocabulary.tokens
    unread_N: np.ndarray = ~np.isin(pairs.rows_N * size + pairs.tokens_N, rows_M * size + read_M)
    return unread_N
