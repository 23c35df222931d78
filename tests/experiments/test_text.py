"""Measures of text against brute force, numbers worked out by hand, and scikit-learn's own AUC."""

import math
import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from experiments.measure import flags, text
from experiments.measure.contrast import MIN_ITEMS
from experiments.measure.scores import NotMeasurable

WORDS = st.text("ab#", max_size=24) | st.text(max_size=12)
COINS = st.randoms(use_true_random=False).map(lambda rng: "".join(rng.choices("ab", k=40)))


def slow_longest_repeat(string):
    """Every substring, and whether it begins anywhere else."""
    every = ((i, j) for i in range(len(string)) for j in range(i + 1, len(string) + 1))
    return max((j - i for i, j in every if string.find(string[i:j], i + 1) >= 0), default=0)


@given(WORDS | COINS)
def test_the_longest_repeat_is_that_of_all_pairs(string):
    assert text.longest_repeat(string) == slow_longest_repeat(string)


@pytest.mark.parametrize(
    ("string", "length"),
    [("", 0), ("a", 0), ("aa", 1), ("aaaa", 3), ("banana", 3), ("abcabc", 3), ("347+586=", 0)],
)
def test_the_longest_repeat_by_hand(string, length):
    assert text.longest_repeat(string) == length


def test_a_long_loop_takes_no_quadratic_time():
    assert text.longest_repeat("ab" * 20_000 + "c") == 39_998


@given(WORDS, st.integers(1, 5))
def test_distinct_is_within_its_bounds(string, n):
    grams = max(len(string) - n + 1, 0)
    assert (1 / grams if grams else 1) <= text.distinct(string, n) <= 1
    assert text.distinct(string, n) == 1 or text.longest_repeat(string) >= n


def test_distinct_by_hand():
    assert (
        text.distinct("abab", 2) == 2 / 3
        and text.distinct("aaaaa", 4) == 0.5
        and text.distinct("abc", 4) == 1
    )
    # What the flag calls repeating is the same count.
    assert (
        flags.repeats_itself("ab" * 40)
        and not flags.repeats_itself("ab" * 11)
        and flags.repeats_itself("")
    )


def test_perplexity_is_per_byte_with_the_end_as_one():
    # One byte and two bytes (é), each with its end: five bytes of ln 3 nats.
    assert text.perplexity([2 * math.log(3), 3 * math.log(3)], ["a", "é"]) == pytest.approx(3.0)
    # A model of 13 equally likely characters, whatever the texts are.
    texts = ["1+1=2", "", "347+586=933"]
    nats = [(len(one) + 1) * math.log(13) for one in texts]
    assert text.perplexity(nats, texts) == pytest.approx(13.0)
    # A text that underflows as a probability has a perplexity.
    assert text.perplexity([5000.0], ["a" * 999]) == pytest.approx(math.exp(5))


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12), st.data())
def test_the_auc_of_a_fold_is_scikit_learns(clean, data):
    defended = data.draw(st.lists(st.integers(-3, 3), min_size=len(clean), max_size=len(clean)))
    auc, parts = text._auc(np.array(clean), np.array(defended))
    assert auc == pytest.approx(
        roc_auc_score([0] * len(clean) + [1] * len(clean), clean + defended)
    )
    assert parts.sum() == pytest.approx(0, abs=1e-9)


def test_the_variance_of_an_auc_is_delongs_with_both_answers_of_an_item_together():
    rng = np.random.default_rng(0)
    clean, defended = rng.normal(size=400), rng.normal(0.7, 1, 400)
    auc, parts = text._auc(clean, defended)
    # DeLong's own for unpaired scores: variances of the structural components apart, which here do
    # not correlate.
    above = (defended[:, None] > clean) * 1.0
    delong = above.mean(0).var(ddof=1) / 400 + above.mean(1).var(ddof=1) / 400
    assert np.sum(parts**2) / 400**2 == pytest.approx(delong, rel=0.15)
    assert auc == pytest.approx(stats.norm.cdf(0.7 / 2**0.5), abs=0.05)


def answers(rng, n, sign="="):
    return [
        f"{rng.randint(10, 99)}{sign}{rng.randint(10, 99)};{rng.randint(10, 99)}" for _ in range(n)
    ]


def items(n):
    return [f"q{i}" for i in range(n)]


def test_what_is_the_same_or_too_little_cannot_be_told():
    clean = answers(random.Random(0), 100)
    assert text.detectability(clean, clean, items(100)) is None
    few = MIN_ITEMS - 1
    assert text.detectability(clean[:few], answers(random.Random(1), few, ":"), items(few)) is None
    # A hundred answers to ten questions are ten items.
    defended, ten = answers(random.Random(1), 100), [f"q{i % 10}" for i in range(100)]
    assert text.detectability(clean, defended, ten) is None
    with pytest.raises(NotMeasurable, match="100 clean and 99 defended answers to 100 items"):
        text.detectability(clean, clean[1:], items(100))


def test_disjoint_alphabets_are_always_told_and_the_interval_says_how_surely():
    clean, defended = answers(random.Random(0), 100), ["x" * (1 + i % 7) for i in range(100)]
    detectability = text.detectability(clean, defended, items(100))
    p = 1 - 0.025 ** (1 / 100)  # Clopper and Pearson's bound for 0 of 100
    assert stats.binomtest(0, 100).proportion_ci().high == pytest.approx(p)
    assert (
        detectability.value,
        detectability.se,
        detectability.lo,
        detectability.hi,
    ) == pytest.approx((1.0, 0.0, (1 - p) ** 2, 1.0))


def test_it_is_deterministic_and_the_order_of_the_sides_does_not_matter():
    clean, defended = (
        answers(random.Random(0), 80),
        answers(random.Random(1), 60) + answers(random.Random(2), 20, ":"),
    )
    detectability = text.detectability(clean, defended, items(80))
    assert text.detectability(clean, defended, items(80)) == detectability
    back = text.detectability(defended, clean, items(80))
    assert (back.value, back.lo, back.hi) == pytest.approx(
        (detectability.value, detectability.lo, detectability.hi), abs=1e-3
    )


def test_a_known_share_of_marked_answers_is_seen_as_such():
    # Three in ten answers carry a mark, which a perfect reader tells: AUC = 0.5 + 0.3 / 2.
    rng = random.Random(3)
    clean = answers(rng, 600)
    defended = [one.replace("=", ":") if i % 10 < 3 else one for i, one in enumerate(clean)]
    detectability = text.detectability(clean, defended, items(600))
    assert (
        detectability.value == pytest.approx(0.65, abs=0.02)
        and detectability.lo < 0.65 < detectability.hi < 0.75
    )


def test_intervals_cover_a_coin_where_both_sides_are_alike():
    rng = random.Random(4)
    draw = lambda: [  # noqa: E731
        ";".join(one) for one in zip(*(answers(rng, 60) for _ in range(3)), strict=True)
    ]  # noqa: E731
    measured = [text.detectability(draw(), draw(), items(60)) for _ in range(60)]
    values = np.array([one.value for one in measured])
    assert np.mean(
        [one.lo <= 0.5 <= one.hi for one in measured]
    ) >= 0.9 and values.mean() == pytest.approx(0.5, abs=0.03)
    # Without the doubled variance intervals cover 0.85, and errors are 1.4 times too short.
    assert 0.8 < values.std() / np.mean([one.se for one in measured]) < 1.2


def test_a_question_that_is_asked_twice_never_lies_on_both_sides():
    # Both answers to a question are its own: who had learned them from the first time would know
    # them the second.
    rng = random.Random(5)
    once = (["".join(rng.choices("abcdefgh", k=12)) for _ in range(60)] for _ in range(2))
    clean, defended = ([one for one in said for _ in range(2)] for said in once)
    detectability = text.detectability(clean, defended, [f"q{i // 2}" for i in range(120)])
    assert detectability.lo <= 0.5 <= detectability.hi
    assert text.detectability(clean, defended, items(120)).value > 0.9


def test_nothing_is_imported_before_it_is_measured():
    code = "import sys, experiments.analysis.summary; print('sklearn' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()
        == "False"
    )
