"""What a defence does to the text that is released: repetition, surprise to the clean teacher, and
whether it shows.

Repetition is counted in characters, so that it means the same for every tokenizer.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from scipy import special, stats

from experiments.measure.contrast import MIN_ITEMS, Estimate
from experiments.measure.scores import NotMeasurable

FOLDS = 5
FEATURES = 2**12


def longest_repeat(text: str) -> int:
    """Characters of the longest substring that begins at two places or more, which may overlap: 3
    in `aaaa`.

    Substrings of 1, 2, 4 ... characters are numbered by prefix doubling (Karp, Miller & Rosenberg
    1972) until none repeats, then the length is found bit by bit: O(n log n).
    """
    levels, names = [], _numbered(text)
    while _repeats(names):
        levels.append(names)
        names = _numbered(zip(names, names[2 ** (len(levels) - 1) :], strict=False))
    if not levels:
        return 0
    length, names = 1 << (len(levels) - 1), levels[-1]
    for k in reversed(range(len(levels) - 1)):
        longer = _numbered(zip(names, levels[k][length:], strict=False))
        if _repeats(longer):
            length, names = length + (1 << k), longer
    return length


def _numbered(parts: Iterable[Hashable]) -> list[int]:
    """Equal parts get equal numbers, counted from 0 as they appear."""
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(part, len(numbers)) for part in parts]


def _repeats(numbers: list[int]) -> bool:
    return max(numbers, default=-1) + 1 < len(numbers)


def distinct(text: str, n: int) -> float:
    """Share of a text's character n-grams that are distinct (distinct-n of Li et al. 2016, who
    count words).

    1 where there is no n-gram, as nothing is said twice.

    Args:
        text: any.
        n: characters of one.
    """
    grams = [text[i : i + n] for i in range(len(text) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 1.0


def perplexity(nats: Iterable[float], texts: Iterable[str]) -> float:
    """Perplexity per byte of texts, pooled: exp of all nats over all UTF-8 bytes, the end of a text
    counting as one.

    `nats` is the surprisal of each whole text and its end; per byte, models of any vocabulary can
    be compared.

    Args:
        nats: one a text.
        texts: as many.
    """
    pairs = list(zip(nats, texts, strict=True))
    return float(
        np.exp(sum(one for one, _ in pairs) / sum(len(text.encode()) + 1 for _, text in pairs))
    )


def changed(clean: Sequence[str], defended: Sequence[str]) -> float:
    """The share of answers that differ.

    Args:
        clean: answers.
        defended: answers to the same questions.
    """
    return float(np.mean([new != old for old, new in zip(clean, defended, strict=True)]))


def detectability(
    clean: Sequence[str], defended: Sequence[str], items: Sequence[str], alpha: float = 0.05
) -> Estimate | None:
    """AUC of telling defended from clean answers, which a reader does who has examples of both: 0.5
    is not at all.

    Cross-validated logistic regression on hashed character 1- to 4-grams. Folds are of whole items
    (N labels, equal ones belong together), as the clean and the defended answer to one question
    must not lie on both sides; the value is the mean over folds of each fold's AUC. It is a lower
    bound: whoever checks answers against the question, or knows the key, may tell more; and it
    falls below 0.5 where defended answers are the clean ones of other questions, as texts then
    change sides between folds. None where no text differs, or items are fewer than MIN_ITEMS.

    The interval takes the variance over items (LeDell et al. 2015) twice, on the logit scale: each
    fold is tested by what others taught and teaches them in turn, so where nothing can be told
    every pair of items counts twice.

    Args:
        clean: answers to N questions.
        defended: answers to the same.
        items: labels of the questions; equal ones belong together.
        alpha: level of the two-sided interval.

    Raises:
        NotMeasurable: answers and items are not equally many.
    """
    N = len(items)
    if not len(clean) == len(defended) == N:
        raise NotMeasurable(f"{len(clean)} clean and {len(defended)} defended answers to {N} items")
    names, group_N = np.unique(np.asarray(items), return_inverse=True)
    G = len(names)
    if list(clean) == list(defended) or G < MIN_ITEMS:
        return None
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold

    hashed = HashingVectorizer(
        analyzer="char", ngram_range=(1, 4), lowercase=False, n_features=FEATURES
    )
    texts_2NF = hashed.transform([*clean, *defended])
    is_defended = np.repeat([0, 1], N)
    value, influence_N = 0.0, np.zeros(N)
    for train, test in GroupKFold(FOLDS).split(texts_2NF, groups=np.tile(group_N, 2)):
        model = LogisticRegression(C=10.0, solver="liblinear").fit(
            texts_2NF[train], is_defended[train]
        )
        held_out = test[test < N]
        auc, own_N = _auc(
            *(model.decision_function(texts_2NF[held_out + shift]) for shift in (0, N))
        )
        value += auc * len(held_out) / N
        influence_N[held_out] = own_N
    se = float(np.sqrt(2 * np.sum(np.bincount(group_N, influence_N) ** 2) * G / (G - FOLDS))) / N
    return Estimate(value, se, np.inf, *_limits(value, se, G, alpha))


def _auc(clean_M: np.ndarray, defended_M: np.ndarray) -> tuple[float, np.ndarray]:
    """P(defended score > clean score), ties half, and what each item adds to it by both its
    answers, summing to 0.

    Structural components of DeLong et al. 1988, those of an item together (Obuchowski 1997).
    """
    above_MM = (defended_M[:, None] > clean_M) + 0.5 * (defended_M[:, None] == clean_M)
    auc = float(above_MM.mean())
    return auc, above_MM.mean(0) + above_MM.mean(1) - 2 * auc


def _limits(value: float, se: float, groups: int, alpha: float) -> tuple[float, float]:
    """On the logit scale; without variance, what an AUC can be if items that were not seen to
    differ did.

    At most a share p = 1 - (alpha/2)^(1/groups) of all items does (Clopper & Pearson 1934), and (1
    - p)^2 of all pairs stay as they are.
    """
    if se and 0 < value < 1:
        centre, half = (
            special.logit(value),
            stats.norm.ppf(1 - alpha / 2) * se / (value * (1 - value)),
        )
        return float(special.expit(centre - half)), float(special.expit(centre + half))
    remaining = (alpha / 2) ** (2 / groups)
    return remaining * value, 1 - remaining * (1 - value)
