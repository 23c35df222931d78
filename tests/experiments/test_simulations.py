"""A fast part of `make simulations`: the same code, fewer studies, bands widened by three Monte
Carlo errors.
"""

import math

import pytest

from tests.experiments import simulations as s

RUNS = 600


def band(low: float, high: float, runs: int = RUNS) -> tuple[float, float]:
    """A pass band for `runs` studies: its limits for infinitely many, and three standard errors."""
    wider = [3 * math.sqrt(p * (1 - p) / runs) for p in (low, high)]
    return low - wider[0], min(1.0, high + wider[1])


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
@pytest.mark.parametrize(
    ("items", "accuracy", "seed_sd"), [(50, 0.3, 0.0), (200, 0.5, 0.02), (200, 0.02, 0.03)]
)
def test_intervals_of_differences_hold_the_truth(seeds, items, accuracy, seed_sd):
    F, U = accuracy, accuracy + 0.2
    got = s.contrasts(s.Design((F, U, U), (seeds,) * 3, items, seed_sd, runs=RUNS))
    low, high = band(0.93, 0.99)
    assert low <= got.uplift <= high and low <= got.harm <= high and low <= got.fieller
    assert got.rejected <= 1 - band(1 - 0.065, 1)[0] and abs(got.bias) < 0.1 + 3 / math.sqrt(RUNS)


def test_unequal_seeds_and_clusters():
    low, _ = band(0.93, 0.99)
    assert s.contrasts(s.Design((0.3, 0.5, 0.4), (3, 5, 8), 200, 0.02, runs=RUNS)).harm >= low
    clustered = s.Design((0.3, 0.5, 0.4), (5,) * 3, 200, 0.02, cluster=10, runs=RUNS)
    assert s.contrasts(clustered).harm >= low


def test_a_gap_of_nothing_is_not_identified_and_never_bounded():
    got = s.contrasts(s.Design((0.3, 0.3, 0.3), (5,) * 3, 500, 0.018, runs=RUNS))
    assert got.not_identified >= band(0.94, 1)[0] and got.bounded_wrongly == 0


def test_size_of_the_threshold_test():
    got = s.contrasts(s.Design((0.3, 0.5, 0.4), (5,) * 3, 500, 0.018, runs=RUNS))
    assert got.size <= band(0, 0.025 * 1.3)[1]


@pytest.mark.parametrize(("seeds", "items", "change"), [(5, 500, 0.05), (3, 200, 0.1)])
def test_predicted_power_is_the_power_that_is_seen(seeds, items, change):
    got = s.seen_power(s.Design((0.3, 0.5, 0.5 - change), (seeds,) * 3, items, 0.02, runs=RUNS))
    assert got.predicted == pytest.approx(got.seen, abs=0.05 + 3 * 0.5 / math.sqrt(RUNS))


@pytest.mark.parametrize(("attacks", "winner"), [(5, 0.0), (5, 0.05)])
def test_the_worst_case_is_unbiased_and_its_bounds_hold(attacks, winner):
    got = s.selection(attacks, winner, runs=RUNS)
    assert (
        abs(got.split_bias) < 0.2 + 3 / math.sqrt(RUNS) or winner
    )  # with a winner, a worse choice costs a little
    assert got.split_bias < 0.2 and got.ucb >= band(0.97, 1)[0] and got.lcb >= band(0.97, 1)[0]
    assert (
        got.naive_points > 1 or winner
    )  # what selecting and reporting on the same students would add


@pytest.mark.parametrize(("case", "factor"), [("shift", 1.0), ("shift", 3.0), ("ceiling", 0.6)])
def test_the_multiplier_by_isotonic_inversion(case, factor):
    got = s.multiplier(case, factor, runs=60, draws=150)
    assert 0.9 <= got.ratio <= 1.1 and got.coverage >= band(0.93, 1, 60)[0]
    assert case == "shift" or got.shown <= 0.2


def test_a_curve_that_never_gets_there_is_a_bound():
    assert s.multiplier("shift", 60.0, runs=60, draws=100).greater >= 0.95


def test_the_hypervolume_is_less_flattered_on_other_students():
    got = s.hypervolumes(runs=100, draws=150)
    assert abs(got.held_out) < abs(got.naive) and got.coverage >= band(0.9, 1, 100)[0]


def test_family_wise_error_and_planned_looks():
    assert s.family_error(runs=RUNS) <= band(0, 0.06)[1]
    assert s.stopping(runs=RUNS) <= band(0, 0.06)[1]


def test_the_worst_case_simulation_uses_the_level_of_the_bounds():
    # Bounds are one-sided at alpha / 2, so the ends of a two-sided interval at alpha.
    mean = s.combine(s.variance([s.np.triu(s.np.ones((4, 4)))]), [1], alpha=0.05)
    assert mean.hi - mean.value == pytest.approx(float(s.stats.t.ppf(0.975, mean.df)) * mean.se)


def test_all_of_it_runs_at_toy_size_and_says_what_does_not_hold(tmp_path, monkeypatch):
    """What eight studies a cell show holds in some lines and not in others: then it must not end
    well.
    """
    few = list(s.grid(8))[::50]
    monkeypatch.setattr(s, "grid", lambda runs: few)
    with pytest.raises(SystemExit) as ended:
        s.main(["--runs", "8", "--workers", "1", "--write", str(tmp_path / "page.md")])
    page = (tmp_path / "page.md").read_text()
    assert ended.value.code == 1 and page.startswith("# ") and "8 simulated studies a cell" in page
    for of in (
        "E2 coverage",
        "E12 power",
        "false effective",
        "worst of 11 attacks",
        "campaign trained",
        "clusters of 5",
    ):
        assert f"| {of}" in page or of in page
    assert page.count("| yes |") > 20 and "| NO |" in page
