"""From a policy to answers: who is downgraded, which exchanges are, and who wrote what a student of
them reads; and a study with two providers.
"""

import json

import numpy as np
import pytest

from distill.completions import read_completions
from experiments import cli
from experiments.planning import plan
from experiments.settings import catalog, schema
from experiments.stages.served import CampaignReport, questions
from experiments.store import Store
from tests.experiments.small import SHAPES

STUDY = [
    "name=downgraded",
    *SHAPES,
    "seeds=[0,1]",
    "measure.items=10",
    "measure.selection_items=10",
    "measure.teacher_seeds=1",
    "budget=[12,24]",
    "task=trace",
    "defense=none",
    "measure.draws=200",
    "weaker_teacher.name=weaker",
    "weaker_teacher.steps=40",
    "weaker_teacher.items=50",
    "weaker_teacher.hidden_size=16",
    "weaker_teacher.num_layers=1",
    "weaker_teacher.max_new_tokens=32",
    "campaigns.honest.accounts=1500",
    "campaigns.days=14",
    "campaigns.release=null",
    "campaigns.clean=2",
    "campaigns.reduced='release/downgrade(share=1.0)'",
    "detector=[volume,content,average,homogeneity,templates,shared]",
    "preset=[deepseek_2026(scale=0.2,days=14,exchanges=30000,pathways={'chat':1})]",
    "access=[open,downgrade(downgraded=0.5),handed_on]",
    "campaigns.rates=[0.01,0.001]",
    "campaigns.other={names:[here,there],both:0.3,pool:0.7,access:'ban_linked(latency=1)'}",
]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The shipped study of campaigns, with a weaker teacher."""
    shipped = (catalog.config_folder() / "study" / "campaigns.yaml").read_text(encoding="utf-8")
    file = tmp_path_factory.mktemp("study") / "downgraded.yaml"
    file.write_text(
        shipped.replace("  - /provider", "  - /teacher@weaker_teacher: quick\n  - /provider")
    )
    return str(file)


@pytest.fixture(scope="module")
def made(study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    command = ["run", study, "--runs", str(folder), "--workers", "1", *STUDY]
    assert cli.main(command) == 0
    return folder


@pytest.fixture(scope="module")
def planned(study):
    return plan.make(schema.load(study, STUDY))


def run_of(planned, access, seed=0):
    (leak,) = [
        leak
        for leak in planned.leaks
        if leak.access.startswith(access) and (leak.seed, leak.split) == (seed, "report")
    ]
    return leak


def answers(store, leak):
    (arm,) = leak.students
    folder = store.open(arm.completions.kind, arm.completions.key)
    return [answer.text for answer in read_completions(folder / "completions.parquet")]


def test_what_is_downgraded_is_the_weaker_teachers_and_the_rest_the_teachers(made, planned):
    """By exchange: half of what a suspect asks, in the answers that its student learns from."""
    store, open_to_all = Store(made / "store"), run_of(planned, "open")
    leak = run_of(planned, "downgrade")
    report = CampaignReport.read(store.open(leak.run.kind, leak.run.key))
    settings = planned.study.campaigns
    per = settings.per_question(leak.preset, 24)
    less = np.array(questions(report, settings.stands_for, per, 24))
    assert 0.1 < less.mean() < 0.7, "neither nobody nor everybody"
    leaked, reduced = (np.sum(counts) for counts in (report.leaked_DC, report.reduced_DC))
    assert 0.2 < reduced / leaked < 0.5, "half of the days after the alarm"
    full, got = answers(store, open_to_all), answers(store, leak)
    assert len(got) == len(less), "the gateway refused the rest"
    same = np.array([a == b for a, b in zip(full, got, strict=False)])
    assert same[~less].all() and not same[less].all()


def test_honest_accounts_that_were_suspected_are_counted_and_shown(made):
    measures = json.loads((made / "downgraded" / "measures.json").read_text())["campaigns"]
    rows = [row for row in measures["harm"] if row["segment"] == "all"]
    by_access = {row["access"].partition("(")[0]: row for row in rows if row["preset"] == "all"}
    row = by_access["downgrade"]
    assert row["downgraded"]["value"] > 0 and row["reduced"] > 0
    assert (
        row["downgraded"]["value"] == row["done"]["downgrade"]["value"] <= row["touched"]["value"]
    )
    assert by_access["open"]["reduced"] == by_access["open"]["downgraded"]["value"] == 0
    page = (made / "downgraded" / "report.html").read_text()
    assert "Answered less by false suspicion" in page


def test_the_second_provider_closes_what_the_first_named(made, planned):
    store, leak = Store(made / "store"), run_of(planned, "handed_on")
    report = CampaignReport.read(store.open(leak.run.kind, leak.run.key))
    assert report.campaign.done["ban"] > 0 and report.campaign.turned_away > 0


def test_another_provider_is_part_of_the_address_and_none_is_not(planned):
    without = plan.make(schema.load("campaigns", []))
    (clean,) = [stage for stage in without.stages if stage.kind == "calibration"]
    assert "other" not in clean.settings
    (clean,) = [stage for stage in planned.stages if stage.kind == "calibration"]
    assert clean.settings["other"]["overlap"] == {"both": 0.3, "pool": 0.7}
    assert "names" not in clean.settings["other"], "what the two are called changes nothing"
