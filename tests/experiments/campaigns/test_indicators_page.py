"""The list of published indicators, and what docs/indicators.md says of them."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from defenses.access.indicators import ACROSS, INDICATORS, covered
from distill.campaigns import SEGMENTS
from distill.campaigns.presets import PRESETS
from experiments.measure.detection import across_runs
from experiments.settings.catalog import shipped
from tests.experiments import indicators

DOCS = Path(__file__).parents[3] / "docs"


def test_every_indicator_names_detectors_that_there_are():
    assert len(INDICATORS) == 10 and covered() == 10
    for indicator in (*INDICATORS, ACROSS):
        assert {*indicator.detectors} <= {*shipped("detector")}, indicator.what
    watched = {file.Detector.name for file in indicators.FILES} | {"shared"}
    assert {name for one in indicators.LISTED for name in one.detectors} == watched


def test_the_docs_say_how_many_are_covered():
    text = (DOCS / "campaigns.md").read_text(encoding="utf-8")
    assert f"detectors cover {covered()} of {len(INDICATORS)}" in text
    page = (DOCS / "indicators.md").read_text(encoding="utf-8")
    for line in indicators.listed():
        assert line in page
    for name in PRESETS:
        assert page.count(f"| `{name}` | ") == len(indicators.RATES), name


@pytest.fixture(scope="module")
def before():
    scale = indicators.Scale(accounts=600, clean=1, days=4, operators=10, runs=2)
    return indicators.market(scale)


def test_a_page_of_toy_size(before):
    """Too few customers for any threshold: it says so, and nothing is found."""
    row, bought = (indicators.measured(before, n) for n in ("gtig_trace_coercion", "gtg_16012"))
    assert all(np.isinf(limit).all() for limit in before.limits.values())
    assert {*row.shares} == {file.Detector.name for file in indicators.FILES} | {"shared"}
    nothing = across_runs([0, 0], [10, 10], operators=True)
    assert row.shares["volume"] == [nothing] * 2
    page = indicators.page(before, [row, bought], "a command", 60)
    assert f"Too few customers to know a threshold: {', '.join(SEGMENTS)};" in page
    assert "| `gtig_trace_coercion` | 0 | 0 |" in page and "the interval [0, 0.84]" in page
    assert "| `gtg_16012` | blind | blind |" in page and not bought.shares


def test_runs_are_of_other_customers_and_counted_one_by_one(before, monkeypatch):
    """The share of each run stands apart: 10 and 5 of 10 are no 15 of 20."""
    counts = iter([[[10, 0]], [[5, 0]]])

    def horizons(before, wanted, run):
        crossed = np.full((2, 10), indicators.NEVER)
        for level, count in enumerate(next(counts)[0]):
            crossed[level, :count] = 1
        accounts = SimpleNamespace(count=10)
        yield (
            SimpleNamespace(first=0, accounts=accounts),
            SimpleNamespace(crossed={"volume": crossed}),
        )

    seeds = []
    monkeypatch.setattr(indicators, "horizons", lambda *at: seeds.append(at[2]) or horizons(*at))
    shares = indicators.measured(before, "gtig_trace_coercion").shares["volume"]
    assert shares[0] == across_runs([10, 5], [10, 10], operators=True) and seeds == [0, 1]
    assert shares[1] == across_runs([0, 0], [10, 10], operators=True)


def test_a_preset_keeps_its_rate_and_is_cut_to_the_horizon():
    scale = indicators.Scale(600, clean=1, days=21, operators=200, runs=1)
    whole, cut = indicators.PRESETS["qwen_2026"].settings, scale.campaign("qwen_2026")
    assert (cut.accounts, cut.days) == (200, 21)
    assert abs(cut.per_account_day / whole.per_account_day - 1) < 0.01
    assert scale.campaign("gtig_trace_coercion").accounts == 50


def test_a_cell_is_a_share_with_its_interval():
    assert indicators.cell(across_runs([2, 4], [10, 10], operators=True)) == "0.30 [0.00, 1.00]"
    assert indicators.cell(across_runs([9, 9], [9, 9], operators=True)) == "1"


def test_every_preset_can_be_cut():
    scale = indicators.Scale(600, clean=1, days=21, operators=200, runs=1)
    for name in PRESETS:
        cut = scale.campaign(name)
        assert cut.days <= 21 and cut.accounts <= 200, name
