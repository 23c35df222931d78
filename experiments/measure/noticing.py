"""How many questions it takes an attacker to notice that a teacher has become worse.

The attacker asks questions whose answers it knows, and knows how often the undefended teacher was
right. Its test is the likelihood ratio of the worse teacher to the clean one, which says "worse"
where it reaches 1 / alpha (Wald 1945): whenever the attacker looks, a clean teacher is called worse
with probability alpha at most (Ville 1939). It is told how large the loss is, so it needs no more
questions than anybody else with that guarantee. Everything is exact, by recursion over the number
of right answers.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
from scipy import stats

MOST = 10_000  # questions; beyond it nothing is said


Share = TypeVar("Share", float, np.ndarray)


def shown_share(right: float, weaker: float, share: Share) -> Share:
    """How often a teacher is right that answers a share of its requests with a weaker model.

    Args:
        right: how often the clean teacher is, in [0, 1].
        weaker: how often the weaker model is.
        share: of the requests that the weaker model answers, or shares `[n]`.
    """
    return right - share * (right - weaker)


def alarm_at(right: float, seen: float, questions: int, alpha: float = 0.05) -> np.ndarray:
    """The most right answers with which the attacker calls a teacher worse, by questions asked.

    Args:
        right: how often the clean teacher is right, in (0, 1].
        seen: how often the worse one is, below `right`.
        questions: N, how many are asked.
        alpha: how often a clean teacher may ever be called worse.

    Returns:
        `[N]` after 1 to N questions; -1 where no number of right answers is few enough.

    Raises:
        ValueError: `seen` is not below `right`, or one is outside [0, 1].
    """
    if not 0 <= seen < right <= 1:
        raise ValueError(f"0 <= seen < right <= 1 must hold, got seen {seen:g}, right {right:g}")
    asked_N = np.arange(1, questions + 1)
    if right == 1:  # one wrong answer tells
        return asked_N - 1
    wrong = math.log((1 - seen) / (1 - right))
    if seen == 0:  # one right answer clears the teacher
        return np.where(asked_N * wrong >= -math.log(alpha), 0, -1)
    gain = math.log(seen / right)  # of a right answer, below 0
    most_N = (asked_N * wrong + math.log(alpha)) / (wrong - gain)
    return np.asarray(np.maximum(np.floor(most_N + 1e-9), -1), int)


def noticed_by(
    right: float, seen: float, truth: float | np.ndarray, questions: int, alpha: float = 0.05
) -> np.ndarray:
    """Probability that the attacker has called a teacher worse, by questions asked.

    Args:
        right: how often the clean teacher is right.
        seen: how often the worse one is, which the test is made for.
        truth: how often the teacher that is asked is right, or at each question `[N]`: `seen` gives
            the power, `right` the false alarms.
        questions: N.
        alpha: how often a clean teacher may ever be called worse.

    Returns:
        `[N]` probabilities after 1 to N questions.
    """
    alarms, truth_N = alarm_at(right, seen, questions, alpha), np.broadcast_to(truth, questions)
    # going_on[k]: the probability of k right answers so far and no alarm.
    going_on, noticed = np.array([1.0]), np.empty(questions)
    called = 0.0
    for n, (alarm, p) in enumerate(zip(alarms, truth_N, strict=True)):
        after = np.zeros(len(going_on) + 1)
        after[:-1] += (1 - p) * going_on
        after[1:] += p * going_on
        called += after[: alarm + 1].sum()
        after[: alarm + 1] = 0
        going_on, noticed[n] = after, called
    return noticed


def noticed_by_day(
    right: float, seen: float, full_D: np.ndarray, reduced_D: np.ndarray, alpha: float = 0.05
) -> np.ndarray:
    """Probability that a campaign's probes have shown by the end of each day that answers are
    reduced.

    Its test begins on the first day with a reduced answer, as if somebody had told it when: who is
    not told needs more. It is made for answers that are all reduced; where a day has full ones as
    well, each of the day is taken to be right as often as the day's mean.

    Args:
        right: how often a full answer is right.
        seen: how often a reduced one is, below `right`.
        full_D: probes that were answered in full, by day.
        reduced_D: probes whose answers were reduced.
        alpha: how often a clean teacher may ever be called worse.

    Returns:
        `[D]`, 0 before the first reduced answer.

    Raises:
        ValueError: more probes than `MOST` since then, or as of `alarm_at`.
    """
    first = int(np.argmax(np.append(reduced_D, 1) > 0))
    n_D = (np.asarray(full_D) + np.asarray(reduced_D)) * (np.arange(len(reduced_D)) >= first)
    questions = int(n_D.sum())
    if questions > MOST:
        raise ValueError(f"at most {MOST} probes since the first reduced answer, got {questions}")
    if not questions:
        return np.zeros(len(reduced_D))
    shown_D = shown_share(right, seen, np.asarray(reduced_D) / np.maximum(n_D, 1))
    noticed = noticed_by(right, seen, np.repeat(shown_D, n_D), questions, alpha)
    by_day: np.ndarray = np.concatenate([[0.0], noticed])[np.cumsum(n_D)]
    return by_day


def questions_to_notice(
    right: float, seen: float, alpha: float = 0.05, power: float = 0.9, most: int = MOST
) -> int | None:
    """The fewest questions after which a worse teacher has been called so with a probability of
    `power`; None beyond `most`.

    Args:
        right: how often the clean teacher is right.
        seen: how often the worse one is.
        alpha: how often a clean teacher may ever be called worse.
        power: the probability.
        most: questions that are tried.
    """
    tried = 64
    while True:
        noticed = noticed_by(right, seen, seen, tried, alpha)
        if noticed[-1] >= power:
            return int(np.argmax(noticed >= power)) + 1
        if tried >= most:
            return None
        tried = min(4 * tried, most)


def fixed_questions(
    right: float, seen: float, alpha: float = 0.05, power: float = 0.9, most: int = MOST
) -> int | None:
    """The fewest questions with which a single exact binomial test notices, looked at once in the
    end; None beyond `most`.

    Args:
        right: how often the clean teacher is right.
        seen: how often the worse one is.
        alpha: how often a clean teacher may be called worse.
        power: with what probability the worse one must be.
        most: questions that are tried.
    """
    asked_N = np.arange(1, most + 1)
    critical_N = stats.binom.ppf(alpha, asked_N, right)
    critical_N = critical_N - (stats.binom.cdf(critical_N, asked_N, right) > alpha)
    enough = stats.binom.cdf(critical_N, asked_N, seen) >= power
    return int(np.argmax(enough)) + 1 if enough.any() else None
