"""Radioactivity: has a student learned from marked text? (Sander et al. 2024, 2402.14904.)

Nothing here runs a student. A closed one answers prompts of its own, and its answers are pairs like
any text's. An open one reads texts, and at each place its distribution gives a token, the likeliest
or one that is drawn; with them the place's context is a pair. The test is the mark's own, on pairs
that may be counted: those at a window that the student has just read are left out (`fresh`), and
where the marked training data are known those at any other window are, too (`seen_in`), which
leaves fewer draws and a far larger effect.

Exactness: the null is a student that never saw the key at work. Where it goes on with text that was
made without the key, every distinct draw is independent and p exact. Where it reads marked text,
what it draws depends on draws at other windows; at a fresh window each draw is green with the same
chance as ever, and that they are independent of one another is assumed. Axes: N places, C tokens of
a context, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from defenses.marks import Mark
from defenses.marks.adfp import Defense as Fingerprint
from defenses.marks.detect import LEAST, Evidence, Pairs, Vocabulary, laws, too_few
from defenses.marks.detect.windows import fresh, numbers, seen_in
from distill.completions import BadInput

ROWS = 256  # of a vocabulary at once


def tokens_of(
    probabilities_NV: np.ndarray, by: Literal["argmax", "draw"] = "argmax", seed: int = 0
) -> np.ndarray:
    """A token a place `[N]`, from a student's distribution there.

    Args:
        probabilities_NV: of next tokens.
        by: the likeliest, or one that is drawn.
        seed: of what is drawn.
    """
    if by == "argmax":
        likeliest_N: np.ndarray = probabilities_NV.argmax(-1)
        return likeliest_N
    cumulative_NV = probabilities_NV.astype(np.float64).cumsum(-1)
    points_N = np.random.default_rng(seed).random(len(cumulative_NV)) * cumulative_NV[:, -1]
    drawn_N: np.ndarray = (cumulative_NV <= points_N[:, None]).sum(-1)
    return drawn_N.clip(max=cumulative_NV.shape[1] - 1)


def radioactivity(
    mark: Mark,
    pairs: Pairs,
    vocabulary: Vocabulary,
    *,
    prompts: Sequence[Sequence[int]] | None = None,
    trained: Pairs | None = None,
    least: int = LEAST,
) -> Evidence:
    """Whether what a student says carries a mark.

    Args:
        mark: with the provider's key.
        pairs: contexts that the student read or wrote, and its token behind each.
        vocabulary: of the model that was marked.
        prompts: token ids of what stood before each text.
        trained: pairs of the marked training data, where they are known.
        least: draws below which no p-value is said.

    Raises:
        BadInput: tokens are of another tokenizer, or contexts of another width.
    """
    pairs = fresh(pairs, prompts)
    if trained is not None:
        pairs = seen_in(pairs, trained)
    return mark.detect(pairs, vocabulary, least=least)


def green_mass(
    mark: Fingerprint,
    contexts_NC: np.ndarray,
    probabilities_NV: np.ndarray,
    *,
    special: Sequence[int] = (),
    bound: Literal["places", "tokens"] = "places",
    least: int = LEAST,
) -> Evidence:
    """The fingerprint's test on an open student: its mass on green tokens, one distribution a
    context, against Hoeffding's bound.

    Args:
        mark: the fingerprint.
        contexts_NC: ids of the last tokens; of a context that is there again the first counts.
        probabilities_NV: of next tokens.
        special: ids that are never green, whose mass is left out.
        bound: `places`, as published: each mass is anywhere in [0, 1]. `tokens`: each token's mass
            is all green or not at all, so the squares of p_v add up; never a weaker bound.
        least: contexts below which no p-value is said.

    Raises:
        BadInput: there is not one distribution a context.
    """
    if len(contexts_NC) != len(probabilities_NV):
        raise BadInput(
            f"mark: {len(probabilities_NV)} distributions for {len(contexts_NC)} contexts"
        )
    test = f"green mass (Hoeffding, by {bound})"
    first = np.unique(numbers(contexts_NC), return_index=True)[1]
    repeats = len(contexts_NC) - len(first)
    if len(first) < max(1, least):
        return too_few(test, len(first), repeats, max(1, least))
    mass, squares = 0.0, 0.0
    for start in range(0, len(first), ROWS):
        part = first[start : start + ROWS]
        p_RV = probabilities_NV[part].astype(np.float64)
        p_RV[:, list(special)] = 0
        p_RV /= p_RV.sum(-1, keepdims=True)
        contexts_RC = torch.from_numpy(contexts_NC[part].astype(np.int64))
        mass += float((p_RV * mark.green(contexts_RC, p_RV.shape[1]).numpy()).sum())
        squares += float((p_RV**2).sum())
    expected = mark.settings.gamma * len(first)
    log_p = laws.hoeffding(mass - expected, len(first) if bound == "places" else squares)
    return Evidence(test, len(first), repeats, mass, expected, log_p)
