"""Whether answers are the same, where they differ, and how far their rows are apart."""

from __future__ import annotations

import numpy as np

from distill.completions import Completion, Logprobs


def same(left: list[Completion], right: list[Completion], *, exact: bool = True) -> bool:
    """Equal in every field; numbers to 1e-4 if not exact, as the width of a batch moves a network's
    last bits.

    Args:
        left: answers.
        right: answers.
        exact: whether numbers must be equal to the last bit.
    """

    def alike(a: Logprobs, b: Logprobs) -> bool:
        if exact:
            return np.array_equal(a.ids_TK, b.ids_TK) and np.array_equal(a.values_TK, b.values_TK)
        return len(a.ids_TK) == len(b.ids_TK) and all(map(near, tokens(a), tokens(b)))

    def pair(a: Completion, b: Completion) -> bool:
        texts = [(x.prompt_id, x.prompt, x.text, x.token_ids, x.finished, x.passes) for x in (a, b)]
        if texts[0] != texts[1] or (a.logprobs is None) != (b.logprobs is None):
            return False
        before, after = ((x.l1, x.kl, x.flips) for x in (a, b))
        if not np.allclose(before, after, rtol=0, atol=0 if exact else 1e-4):
            return False
        return a.logprobs is None or b.logprobs is None or alike(a.logprobs, b.logprobs)

    return len(left) == len(right) and all(map(pair, left, right))


def tokens(rows: Logprobs) -> list[dict[int, float]]:
    """Each row as its tokens' logprobs; withheld entries are none."""
    each = zip(rows.ids_TK, rows.values_TK, strict=True)
    return [{int(i): float(v) for i, v in zip(*row, strict=True) if i >= 0} for row in each]


def near(a: dict[int, float], b: dict[int, float]) -> bool:
    """Logprobs to 1e-4, or probabilities to 1e-6: what an edit leaves of a token may be the
    rounding of another.

    Args:
        a: logprobs in nats by token id.
        b: logprobs in nats by token id.
    """
    pairs = np.array([(a.get(i, -np.inf), b.get(i, -np.inf)) for i in a.keys() | b.keys()])
    with np.errstate(invalid="ignore"):  # -inf less -inf
        apart = np.abs(pairs[:, 0] - pairs[:, 1])
    close = np.abs(np.exp(pairs[:, 0]) - np.exp(pairs[:, 1])) <= 1e-6
    return bool(((apart <= 1e-4) | close).all())


def distance(clean: dict[int, float], released: dict[int, float]) -> float:
    """L1 over the tokens that were released, and all others as one.

    Args:
        clean: logprobs in nats by token id.
        released: logprobs in nats by token id.

    Returns:
        0 to 2.
    """
    apart = [np.exp(released[i]) - np.exp(clean.get(i, -np.inf)) for i in released]
    return float(np.abs(apart).sum() + abs(sum(apart)))


def first_difference(left: list[Completion], right: list[Completion]) -> str:
    """Where two lists of answers differ, in words.

    Args:
        left: answers.
        right: answers.
    """
    for a, b in zip(left, right, strict=False):
        if not same([a], [b]):
            return f"to {a.prompt[:40]!r} it answers {a.text[:60]!r}, and {b.text[:60]!r}"
    return f"{len(left)} answers, and {len(right)}"
