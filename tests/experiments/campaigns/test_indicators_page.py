"""The list of published indicators, and what docs/indicators.md says of them."""

from pathlib import Path

import numpy as np

from defenses.access.indicators import ACROSS, INDICATORS, covered
from distill.campaigns import SEGMENTS
from experiments.measure.detection import clopper_pearson
from experiments.settings.catalog import shipped
from tests.experiments import indicators

DOCS = Path(__file__).parents[3] / "docs"


def test_every_indicator_names_detectors_that_there_are():
    assert len(INDICATORS) == 10 and covered() == 10
    for indicator in (*INDICATORS, ACROSS):
        assert {*indicator.detectors} <= {*shipped("detector")}, indicator.what
    watched = {file.Detector.name for file in indicators.FILES} | {"shared"}
    assert {name for one in (*INDICATORS, ACROSS) for name in one.detectors} == watched


def test_the_docs_say_how_many_are_covered():
    text = (DOCS / "campaigns.md").read_text(encoding="utf-8")
    assert f"detectors cover {covered()} of {len(INDICATORS)}" in text
    page = (DOCS / "indicators.md").read_text(encoding="utf-8")
    for indicator in (*INDICATORS, ACROSS):
        for name in indicator.detectors:
            row = f"| {indicator.what} | `{name}` |"
            assert page.count(row) == len(indicators.RATES), row


def test_a_page_of_toy_size():
    """Too few customers for any threshold: it says so, and nothing is found."""
    before = indicators.market(indicators.Scale(accounts=600, clean=1, days=4, operators=10))
    row = indicators.measured(before, "gtig_trace_coercion")
    assert all(np.isinf(limit).all() for limit in before.limits.values())
    assert {*row.shares} == {file.Detector.name for file in indicators.FILES} | {"shared"}
    assert row.shares["volume"] == [clopper_pearson(0, 10)] * 2
    page = indicators.page(before, [row], "a command", 60)
    assert f"Too few customers to know a threshold: {', '.join(SEGMENTS)};" in page
    assert (
        "| use that does not fit the plan that is paid for | `plan` | 0.00 [0.00, 0.31] |" in page
    )


def test_a_preset_keeps_its_rate_and_is_cut_to_the_horizon():
    scale = indicators.Scale(accounts=600, clean=1, days=21, operators=200)
    whole, cut = indicators.PRESETS["qwen_2026"].settings, scale.campaign("qwen_2026")
    assert (cut.accounts, cut.days) == (200, 21)
    assert abs(cut.per_account_day / whole.per_account_day - 1) < 0.01
    assert scale.campaign("gtig_trace_coercion").accounts == 50
