"""Kinds of campaigns in a study: what is joined without accounts, and what is refused."""

import json
import re

import pytest

from experiments import cli
from experiments.planning import plan
from experiments.review.verify import verify
from experiments.settings import schema
from experiments.settings.campaigns import parse_campaign
from experiments.stages.served import CampaignReport
from experiments.store import Store
from tests.experiments.small import last
from tests.experiments.test_campaigns import STUDY, small

BOUGHT = "gtg_16012(exchanges=4000,days=14,mix=1.0)"
PRESETS = (
    f"preset=[{BOUGHT},gtg_16001(scale=0.002,probes=6,probe_set=2,probe_accounts=3),"
    "gtg_16008(scale=0.02,days=14)]"
)
KINDS = last(*STUDY, "name=kinds", PRESETS, "access=[open,reduce]")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds")
    assert cli.main(["run", "campaigns", "--runs", str(folder), "--workers", "1", *KINDS]) == 0
    return folder


@pytest.fixture(scope="module")
def results(made):
    return json.loads((made / "kinds" / "measures.json").read_text())["campaigns"]


def of(rows, preset=BOUGHT):
    return [row for row in rows if row["preset"] == preset]


def test_what_was_bought_leaks_under_every_access_alike(results):
    rows = of(results["leaks"])
    assert {row["access"] for row in rows} == {"open", "reduce"}
    assert all(row["leaked"] == pytest.approx(1, abs=0.01) and not row["reduced"] for row in rows)
    for defense in {row["defense"] for row in rows}:
        alike = [row for row in rows if row["defense"] == defense]
        assert len({json.dumps(row | {"access": ""}, sort_keys=True) for row in alike}) == 1
    assert {row["access"] for row in results["worst"]} == {"open", "reduce"}


def test_its_students_are_those_of_the_undefended_budget(made):
    store, planned = Store(made / "store"), plan.make(schema.load("campaigns", KINDS))
    runs = [leak for leak in planned.leaks if leak.preset == BOUGHT and leak.split == "report"]
    assert len(runs) == 2 * 2
    for leak in runs:
        for arm in leak.students:
            (twin,) = [
                one
                for one in planned.arms
                if (one.defense, one.attacker, one.budget, one.seed, one.split)
                == (arm.defense, "sft", 24, arm.seed, "report")
            ]
            ours, theirs = (
                json.loads((store.folder(s.kind, s.key) / "done.json").read_text())["files"]
                for s in (arm.student, twin.student)
            )
            assert ours == theirs


def test_every_detector_is_blind_to_it_and_says_so(made, results):
    rows = of(results["detectors"])
    assert {row["detector"] for row in rows} > {"volume", "oracle"}
    for row in rows:
        assert row["found"]["n"] == 0 and row["found"]["value"] is None
        assert row["leaked"] == 1 and set(row["days"].values()) <= {None}
        assert row["false"]["n"] > 0, "who is flagged beside it is counted as ever"
    assert not of(results["roc"]) and len(of(results["days"])) == 2
    page = (made / "kinds" / "report.html").read_text()
    table = page[page.index(f"<code>{BOUGHT}</code><th class=n>found") :]
    assert table[: table.index("</table>")].count("<td class=n>blind") == len(rows)
    assert page.count("<td class=n>blind") == len(rows), "and of no other campaign"
    fused = [row for row in results["detectors"] if row["detector"] == "fusion"]
    assert fused and not of(fused), "a fusion of nothing is none"


def test_the_others_have_accounts_that_detectors_find_or_not(results):
    for preset in {row["preset"] for row in results["leaks"]} - {BOUGHT}:
        rows = of(results["detectors"], preset)
        assert all(row["found"]["n"] > 0 for row in rows)
        opened = [row for row in of(results["leaks"], preset) if row["access"] == "open"]
        assert all(row["leaked"] > 0.5 for row in opened)


def test_probes_are_in_the_run_and_not_in_the_tables(made):
    store, planned = Store(made / "store"), plan.make(schema.load("campaigns", KINDS))
    for leak in planned.leaks:
        report = CampaignReport.read(store.open(leak.run.kind, leak.run.key))
        probing = "probes" in leak.preset
        assert bool(report.probes_D2) == probing
        if probing and leak.access == "open":
            assert report.probes_D2 == [[6, 0]] * 14


def test_a_run_with_all_kinds_is_verified(made):
    checks = verify(made / "kinds", Store(made / "store"))
    assert not [check for check in checks if check.word == "FAIL"]


def test_what_stands_for_a_task_is_counted_of_customers_requests():
    settings = small()
    share = settings.share(parse_campaign("gtg_16001"))
    assert share == pytest.approx(0.95), "agents write in one exchange of twenty"
    assert settings.per_question("gtg_16001", 800) == pytest.approx(12_100_000 * 0.95 / 800)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("preset=gtg_16005(busiest=1000)", "busiest=1000 a day is below the mean of 1,641,304"),
        ("preset=gtg_16005(days=14)", "busiest=3000000 a day is below the mean"),
        ("preset=qwen_2026(most=20)", "28800000 exchanges are more than 25000 accounts x 44 days"),
        ("preset=gtg_16001(customers=0)", "a relay passes requests of customers on"),
        ("preset=gtg_16001(targets={'coding':1})", "customers ask what they like"),
        ("preset=gtg_16012(accounts=5)", "bought transcripts need no account, got accounts=5"),
        ("preset=qwen_2026(probes=5)", "probes need known questions"),
        ("preset=qwen_2026(kind=rely)", "kind"),
        ("preset=gtig_media_2026", "wants vision, none of which stands for a task"),
        (
            "preset=gtg_16001(clientele={'chat':1}) campaigns.stands_for=[agentic]",
            "wants what its customers ask, none of which stands for a task",
        ),
    ],
)
def test_a_mistake_is_one_line(override, message, capsys):
    assert cli.main(["plan", "campaigns", *override.split(" ")]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count("\n") == 1
