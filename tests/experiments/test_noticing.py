"""Questions until an attacker notices: exact against simulation, scipy and counting."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from experiments.measure.noticing import (
    alarm_at,
    fixed_questions,
    noticed_by,
    noticed_by_day,
    questions_to_notice,
    shown_share,
)

EIGHT_POINTS = 0.9, shown_share(0.9, 0.82, 0.3)


def ratio(answers, right, seen):
    """Likelihood of right and wrong answers at `seen` over that at `right`."""
    return math.prod((seen / right if answer else (1 - seen) / (1 - right)) for answer in answers)


def test_eight_points_on_three_requests_in_ten_look_like_2_4():
    assert EIGHT_POINTS[1] == pytest.approx(0.876)


@pytest.mark.parametrize("right, seen", [(0.9, 0.5), (0.6, 0.1), (0.97, 0.8)])
def test_the_probabilities_are_those_of_all_sequences(right, seen):
    N, alpha = 9, 0.3
    for truth in (right, seen):
        expected = np.zeros(N)
        for answers in itertools.product((True, False), repeat=N):
            chance = math.prod(truth if answer else 1 - truth for answer in answers)
            called = [ratio(answers[:n], right, seen) >= 1 / alpha for n in range(1, N + 1)]
            expected += chance * np.maximum.accumulate(called)
        assert noticed_by(right, seen, truth, N, alpha) == pytest.approx(expected)


def test_power_and_false_alarms_agree_with_simulation():
    right, seen = EIGHT_POINTS
    rng, studies, N = np.random.default_rng(0), 4000, 2500
    for truth in (right, seen):
        right_SN = (rng.random((studies, N)) < truth).cumsum(1)
        called_SN = np.maximum.accumulate(right_SN <= alarm_at(right, seen, N), axis=1)
        exact = noticed_by(right, seen, truth, N)
        for n in (300, 1000, 2500):
            spread = 4 * math.sqrt(exact[n - 1] * (1 - exact[n - 1]) / studies) + 1e-3
            assert called_SN[:, n - 1].mean() == pytest.approx(exact[n - 1], abs=spread)


def test_a_clean_teacher_is_called_worse_at_most_alpha_of_the_time_however_long_it_is_asked():
    for alpha in (0.05, 0.2):
        noticed = noticed_by(*EIGHT_POINTS, EIGHT_POINTS[0], 4000, alpha)
        assert (np.diff(noticed) >= 0).all() and 0.5 * alpha < noticed[-1] <= alpha


def test_questions_to_notice_is_where_the_power_is_first_reached():
    n = questions_to_notice(*EIGHT_POINTS)
    noticed = noticed_by(*EIGHT_POINTS, EIGHT_POINTS[1], n)
    assert noticed[-1] >= 0.9 > noticed[-2]
    # Looking once, with the number fixed before, takes fewer: 7 to 10 nightly suites of 150.
    fixed = fixed_questions(*EIGHT_POINTS)
    assert 7 * 150 <= fixed < n
    critical = stats.binom.ppf(0.05, fixed, 0.9)
    sizes = [k for k in (critical - 1, critical) if stats.binom.cdf(k, fixed, 0.9) <= 0.05]
    assert stats.binom.cdf(max(sizes), fixed, 0.876) >= 0.9


def test_a_perfect_teacher_is_given_away_by_its_first_wrong_answer():
    assert noticed_by(1.0, 0.9, 0.9, 3) == pytest.approx([0.1, 0.19, 0.271])
    assert questions_to_notice(1.0, 0.9) == 22  # .9 ** 22 < .1


def test_a_teacher_that_is_never_right_is_cleared_by_one_right_answer():
    assert alarm_at(0.5, 0.0, 6).tolist() == [-1, -1, -1, -1, 0, 0]


def test_what_is_too_small_to_notice_is_not_noticed():
    assert questions_to_notice(0.9, 0.8999, most=2000) is None
    assert fixed_questions(0.9, 0.8999, most=2000) is None


@pytest.mark.parametrize("right, seen", [(0.8, 0.8), (0.7, 0.8), (1.1, 0.5), (0.5, -0.1)])
def test_a_loss_that_is_none_is_refused(right, seen):
    with pytest.raises(ValueError, match="must hold"):
        alarm_at(right, seen, 5)


def test_probes_of_a_campaign_are_the_same_test_from_the_first_reduced_answer():
    """Three days of 2, 3 and 4 reduced probes after two days of full ones."""
    full_D, reduced_D = np.array([5, 5, 0, 0, 0]), np.array([0, 0, 2, 3, 4])
    whole = noticed_by(0.9, 0.5, 0.5, 9, 0.2)
    by_day = noticed_by_day(0.9, 0.5, full_D, reduced_D, 0.2)
    assert by_day == pytest.approx([0, 0, whole[1], whole[4], whole[8]]) and by_day[-1] > 0.3


def test_days_with_full_answers_as_well_are_by_all_sequences():
    """Day 0 has one probe in full and one reduced, each right 3 times in 4; day 1 two reduced."""
    right, seen, alpha = 0.9, 0.6, 0.5
    truth, expected = (0.75, 0.75, 0.6, 0.6), np.zeros(2)
    for answers in itertools.product((True, False), repeat=4):
        chance = math.prod(p if answer else 1 - p for answer, p in zip(answers, truth, strict=True))
        called = [ratio(answers[:n], right, seen) >= 1 / alpha for n in range(1, 5)]
        expected += chance * np.array([any(called[:2]), any(called)])
    by_day = noticed_by_day(right, seen, np.array([1, 0]), np.array([1, 2]), alpha)
    assert by_day == pytest.approx(expected)


def test_nobody_notices_what_is_not_reduced_and_too_many_probes_are_named():
    assert noticed_by_day(0.9, 0.5, np.array([9, 9]), np.array([0, 0])).tolist() == [0, 0]
    with pytest.raises(ValueError, match="at most 10000 probes"):
        noticed_by_day(0.9, 0.5, np.array([0]), np.array([10_001]))
