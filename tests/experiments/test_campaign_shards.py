"""A study whose campaigns run in shards: what is added up, who may look, and what a kill loses."""

import json
import os
import re
import shutil
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from defenses.access import ShadowMonitor
from distill.campaigns import SEGMENTS, Accounts
from distill.campaigns.presets import apart, preset
from experiments import cli
from experiments.analysis.campaign_outcomes import read_scores
from experiments.campaigns.simulate import Outcome, simulate
from experiments.campaigns.world import Truth
from experiments.measure.detection import clopper_pearson
from experiments.planning import plan
from experiments.review.verify import verify
from experiments.seeds import seed_for
from experiments.settings import schema
from experiments.settings.entries import resolve
from experiments.stages import calibration, campaign, merged_campaign
from experiments.stages.served import CampaignReport
from experiments.stages.two_providers import detectors
from experiments.store import Store
from tests.defenses.access.horizons import HONEST
from tests.experiments.small import apart as started
from tests.experiments.small import last
from tests.experiments.test_campaigns import OTHER, STUDY

WATCHED = ("volume", "phrase", "content", "rhythm", "homogeneity")
SHARDED = last(
    *STUDY,
    "name=shards",
    "defense=none",
    "measure.plateau=false",
    "campaigns.honest.accounts=2500",
    "campaigns.honest.vpn=0",  # so few would not fill an exit
    "campaigns.honest.campus=0",
    "campaigns.students=false",
    "campaigns.shards=3",
    f"detector=[{','.join(WATCHED)}]",
    "preset=deepseek_2026(scale=0.6,days=14,exchanges=30000,pathways={'chat':1},probes=6,probe_set=2,"
    "probe_accounts=3)",
    "access=open",
)


def run(folder, workers):
    return ["run", "campaigns", "--runs", str(folder), "--workers", str(workers), *SHARDED]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    assert cli.main(run(folder, 1)) == 0
    return folder


@pytest.fixture(scope="module")
def planned():
    return plan.make(schema.load("campaigns", SHARDED))


def files(store, stage):
    return json.loads((store.folder(stage.kind, stage.key) / "done.json").read_text())["files"]


class TestPlan:
    def test_a_run_is_the_sum_of_its_shards(self, planned):
        assert len(planned.leaks) == 2
        for leak in planned.leaks:
            assert leak.run.kind == "merged_campaign"
            shards = [stage.spec for stage in leak.run.inputs]
            assert [shard.honest.accounts for shard in shards] == [834, 833, 833]
            assert [shard.campaign.accounts for shard in shards] == [20, 20, 20]
            assert [shard.seed for shard in shards] == [
                seed_for("shard", leak.seed * 1000 + n) for n in range(3)
            ]

    def test_thresholds_are_of_one_shards_size(self, planned):
        (clean,) = [stage for stage in planned.stages if stage.kind == "calibration"]
        assert clean.spec.honest.accounts == 834

    def test_runs_of_a_seed_share_their_honest_customers(self):
        words = last(*SHARDED, "preset=[gtg_16012(days=14),gtg_16006(scale=0.2,days=14)]")
        leaks = plan.make(schema.load("campaigns", words)).leaks
        honest = {
            leak.preset[:9] + str(leak.seed): [
                (shard.spec.honest, shard.spec.seed) for shard in leak.run.inputs
            ]
            for leak in leaks
        }
        assert honest["gtg_160120"] == honest["gtg_160060"] != honest["gtg_160061"]
        assert {leak.seed for leak in leaks} == {0, 1, 900}

    def test_without_shards_an_address_says_nothing_of_them(self):
        whole = plan.make(schema.load("campaigns", last(*SHARDED, "campaigns.shards=1")))
        for leak in whole.leaks:
            assert leak.run.kind == "campaign" and "shard" not in leak.run.settings
            assert set(leak.run.needs.named()) == {"calibration"}
        assert not [note for note in whole.notes if "shards" in note]


class TestMerged:
    def test_what_is_cut_adds_up_to_the_whole_run(self, made, planned):
        store = Store(made / "store")
        for leak in planned.leaks:
            report = CampaignReport.read(store.open(leak.run.kind, leak.run.key))
            assert report.bought[0] == 30_000 and report.campaign.opened == 60
            assert sum(report.honest.accounts) == 2500 and report.probes_D2 == [[6, 0]] * 14
            assert report.planned == pytest.approx((30_000 - 6 * 14) * 0.9)
            assert np.sum(report.leaked_DC) == pytest.approx(report.planned, rel=0.02)
            assert report.events == report.bought[0] + sum(report.honest.sent)

    def test_it_is_what_is_counted_over_all_accounts_at_once(self, made, planned):
        """Brute force: the shards simulated again, and all their accounts as one world's."""
        store, leak = Store(made / "store"), planned.leaks[0]
        folder = store.open(leak.run.kind, leak.run.key)
        (clean,) = leak.run.inputs[0].inputs
        learned, levels = calibration.calibrated(store.open(clean.kind, clean.key))
        runs = [watched(shard.spec, learned, levels) for shard in leak.run.inputs]
        happened, crossed, highest = joined(runs)
        report = CampaignReport.read(folder)
        expected = campaign._report(happened, SimpleNamespace())
        assert report.model_copy(update={"detectors": None}) == expected
        caught = {name: campaign._detected(happened, crossed[name]) for name in WATCHED}
        assert {name: report.detectors[name] for name in WATCHED} == caught
        assert max(one.found for rates in caught.values() for one in rates) > 20, "of 60"
        assert {d for rates in caught.values() for one in rates for d in one.days.values()} > {None}

        scores, first = read_scores(folder / "scores.npz"), happened.first
        assert scores.guilty.sum() == 60 and len(scores.guilty) == 2560
        honest = scores.owner[~scores.guilty]
        assert len(np.unique(honest)) == len(np.unique(happened.truth.owner[:first]))
        assert set(scores.owner[scores.guilty]) == {2**32 - 1}, "one operator in all shards"
        assert not set(scores.owner[scores.guilty]) & set(honest)
        for name, p in zip(scores.names, scores.p, strict=True):
            every = levels.p_value(name, highest[name], happened.accounts.segment)
            for ours, theirs in (
                (~scores.guilty, slice(first)),
                (scores.guilty, slice(first, None)),
            ):
                np.testing.assert_array_equal(
                    np.sort(p[ours]), np.sort(every[theirs].astype(np.float32))
                )

    def test_detectors_that_found_nobody_never_did(self):
        parts = [part(found_D=[0, 0], of=3), part(found_D=[0, 0], of=0)]
        assert merged_campaign.merged(parts).detectors["a"][0].days == dict.fromkeys(
            ("0", "0.5", "0.9")
        )

    def test_days_by_hand(self):
        """Of five accounts two are found on day 0, one on day 1, one on day 2: half on day 1."""
        parts = [part(found_D=[1, 0, 1], of=2), part(found_D=[1, 1, 0], of=3)]
        (detected,) = merged_campaign.merged(parts).detectors["a"]
        assert detected.days == {"0": 0, "0.5": 1, "0.9": None}
        assert (detected.found, detected.of, detected.found_D) == (4, 5, [])

    def test_a_list_that_a_part_lacks_counts_as_nothing(self):
        parts = [{"a": [], "b": 1}, {"a": [[1, 2]], "b": 2}, {"a": [[3, 4]], "b": 3, "c": ["x"]}]
        assert merged_campaign.added(parts) == {"a": [[4, 6]], "b": 6, "c": ["x"]}


def part(found_D, of):
    """A shard's report of which all that is not given is nothing."""
    caught = {"found": sum(found_D), "of": of, "found_D": found_D}
    none = {"leaked_C": [0], "false": [0], "customers": [0], "days": {}}
    accounts = {"opened": of, "turned_away": 0, "verified": 0, "done": {}}
    honest = ("accounts", "closed", "limited", "touched", "sent", "refused")
    return CampaignReport(
        planned=0,
        events=0,
        capabilities=["coding"],
        leaked_DC=[[0]],
        reduced_DC=[[0]],
        segments=["chat"],
        bought=[0, 0, 0],
        campaign=accounts | {"opened_D": [0], "closed_D": [0]},
        honest={name: [0] for name in honest} | {"done": {}},
        detectors={"a": [caught | none]},
    )


def watched(spec, learned, levels):
    """A shard with its outcome and what its detectors saw."""
    names = [one.name for one in spec.detectors]
    limits = {n: np.stack([levels.threshold(n, rate) for rate in spec.rates]) for n in names}
    watch = ShadowMonitor(detectors(spec.detectors, learned), limits)
    out = simulate(spec.honest, [spec.campaign], watch, days=spec.days, seed=spec.seed)
    return SimpleNamespace(out=out, watch=watch)


def joined(runs):
    """The outcomes of several worlds as that of one: honest accounts first, then the campaign's."""

    def side_by_side(columns, axis=0):
        columns = list(zip(columns, runs, strict=True))
        honest = [column[..., : run.out.first] for column, run in columns]
        theirs = [column[..., run.out.first : run.out.accounts.count] for column, run in columns]
        return np.concatenate([*honest, *theirs], axis=-1)

    outs = [run.out for run in runs]
    first, total = sum(o.first for o in outs), sum(o.accounts.count for o in outs)
    accounts, truth = Accounts.empty(total), Truth.empty(total)
    for table, name in ((accounts, "accounts"), (truth, "truth")):
        for column in vars(table):
            if column != "count":
                values = side_by_side([getattr(getattr(o, name), column) for o in outs])
                setattr(table, column, values)
    accounts.count = total
    shard = side_by_side([np.full(o.accounts.count, i) for i, o in enumerate(outs)])
    truth.owner = truth.owner.astype(np.int64)
    truth.owner[:first] += shard[:first] * 10**6
    summed = ("bought", "planned", "sent_SD", "refused_SD", "reduced_NDC", "reduced_SD")
    summed += ("events", "transcripts_NDC", "probes_ND2")
    big = Outcome(
        days=outs[0].days,
        first=first,
        accounts=accounts,
        truth=truth,
        campaigns=(),
        leaked_ADC=np.concatenate([o.leaked_ADC[: o.accounts.count - o.first] for o in outs]),
        value_AD=np.concatenate([o.value_AD[: o.accounts.count - o.first] for o in outs]),
        turned_away=side_by_side([o.turned_away for o in outs]),
        **{name: sum(getattr(o, name) for o in outs) for name in summed},
    )
    crossed, highest = (
        {name: side_by_side([getattr(run.watch, what)[name] for run in runs]) for name in WATCHED}
        for what in ("crossed", "highest")
    )
    return big, crossed, highest


class TestStudy:
    def test_killed_and_continued_by_two_processes_it_is_the_same(self, made, planned, tmp_path):
        folder = tmp_path / "runs"
        store, again = Store(made / "store"), Store(folder / "store")
        shutil.copytree(made / "store", folder / "store")
        for kind in ("campaign", "merged_campaign"):
            shutil.rmtree(folder / "store" / kind)
        process = started(run(folder, 2), tmp_path / "streams")
        pattern = "store/campaign/*/done.json"
        while process.is_alive() and not [*folder.glob(pattern)]:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        done = {path: path.stat().st_mtime_ns for path in folder.glob(pattern)}
        assert 0 < len(done) < 6, "some shards are lost, not all"
        process = started(run(folder, 2), tmp_path / "streams")
        process.join()
        assert process.exitcode == 0
        assert all(path.stat().st_mtime_ns == when for path, when in done.items())
        for stage in planned.stages:
            assert files(store, stage) == files(again, stage), stage.kind
        for name in ("outcomes.json", "measures.json", "report.html"):
            ours, theirs = (runs / "shards" / name for runs in (folder, made))
            assert ours.read_bytes() == theirs.read_bytes(), name

    def test_the_report_says_so_and_is_verified(self, made):
        text = "campaigns were simulated in 3 shards of at most 834 honest accounts"
        assert text in (made / "shards" / "report.html").read_text()
        checks = verify(made / "shards", Store(made / "store"))
        assert not [check for check in checks if check.word == "FAIL"]

    def test_plan_counts_the_shards_and_says_so(self, made, capsys):
        assert cli.main(["plan", "campaigns", "--runs", str(made), *SHARDED]) == 0
        text = capsys.readouterr().out
        assert "campaign: 6, 0 to do" in text and "merged_campaign: 2, 0 to do" in text
        assert "thresholds are calibrated on clean horizons of one shard's size" in text


RATE, PARTS = 0.01, 3


def test_false_alarms_of_shards_are_as_rare_as_stated(tmp_path):
    """Nobody attacks, as a campaign that buys has no account. 1 % of customers by segment,
    calibrated on four horizons of one shard's size, judged on three shards that are added up: by
    Clopper and Pearson never above, by the law of a count at an estimated threshold (beta-binomial)
    neither, and over all segments near it from below too.
    """
    names = ("volume", "phrase", "content", "rhythm")
    components = [resolve("detector", name).spec for name in names]
    traffic = {"honest": HONEST, "days": 14, "release": None, "detectors": components}
    clean = tmp_path / "clean"
    clean.mkdir()
    calibration.run(
        calibration.CalibrationSpec(**traffic, clean=4), calibration.CalibrationInputs(), clean
    )
    folders = []
    for number, bought in enumerate(apart(preset("gtg_16012", exchanges=300, days=14), PARTS)):
        folders.append(tmp_path / str(number))
        folders[-1].mkdir()
        spec = campaign.CampaignSpec(
            **traffic,
            campaign=bought,
            access=None,
            rates=[RATE],
            seed=seed_for("shard", number),
            shard=number,
        )
        campaign.run(spec, campaign.CampaignInputs(clean), folders[-1])
    merged = tmp_path / "merged"
    merged.mkdir()
    merged_campaign.run(
        merged_campaign.MergedSpec(), merged_campaign.MergedInputs(tuple(folders)), merged
    )
    _, levels = calibration.calibrated(clean)
    report = CampaignReport.read(merged)
    assert sum(report.honest.accounts) == PARTS * HONEST.accounts and report.bought[0] == 300
    level = 0.05 / (len(names) * len(SEGMENTS))
    for name in names:
        (detected,) = report.detectors[name]
        assert detected.of == 0 and set(detected.days.values()) == {None}
        for past, false, m in zip(
            levels.sorted[name], detected.false, detected.customers, strict=True
        ):
            n = len(past)
            rank = int(np.ceil((n + 1) * (1 - RATE) - 1e-9))
            assert n >= 99, "too few customers to calibrate on"
            assert stats.betabinom(m, n + 1 - rank, rank).sf(false - 1) >= level / 2, name
            assert clopper_pearson(false, m, level).lo <= RATE
        rate = sum(detected.false) / sum(detected.customers)
        assert 0.3 * RATE < rate < 1.7 * RATE, name


IN_SHARDS = ("campaigns.shards=3", "access=open", "detector=volume,rhythm")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["access=open,limits"], "campaigns.shards=3: a policy acts on the whole campaign"),
        (
            ["detector=volume,templates(window=3),cotiming"],
            r"campaigns.shards=3: templates\(window=3\), cotiming may compare accounts",
        ),
        (
            [f"campaigns.other={OTHER}", "detector=homogeneity"],
            "a second provider sees the whole campaign; set no campaigns.other",
        ),
        (["campaigns.shards=0"], "campaigns.shards: must be at least 1"),
        (["campaigns.shards=1001"], "campaigns.shards: must be at most 1000"),
        (["campaigns.shards=true"], "campaigns.shards: must be a whole number"),
        (["campaigns.shards=2.5"], "campaigns.shards: must be a whole number"),
        (
            ["campaigns.shards=400", "preset=gtg_16012"],
            "honest accounts must be at least 100 a shard, got 75",
        ),
        (
            ["campaigns.shards=4"],
            "of 7500 honest accounts a shard 349 are behind a campaigns.honest.vpn address that",
        ),
        (
            ["campaigns.shards=13", "campaigns.honest.vpn=0"],
            "of 2307 honest accounts a shard 171 are behind a campaigns.honest.campus address that",
        ),
        (
            ["campaigns.shards=6", "preset=deepseek_2026", "campaigns.honest.accounts=90000"],
            "presets: deepseek_2026: accounts=100 that share cards or addresses by 20 are too few",
        ),
        (["preset=gtg_16012(exchanges=2)"], "exchanges=2 are too few for 3 shards"),
        (["preset=gtg_16001(customers=2)"], "customers=2 are too few for 3 shards"),
        (["preset=academic_benign_twin"], "accounts=1 are too few for 3 shards"),
        (
            [
                "campaigns.shards=300",
                "campaigns.honest.accounts=3000000",
                "seeds=[" + ",".join(map(str, range(34))) + "]",
            ],
            "10200 runs of campaigns are more than 10000",
        ),
    ],
)
def test_a_mistake_is_one_line(overrides, message, capsys):
    words = last(*IN_SHARDS, "preset=qwen_2026", *overrides)
    assert cli.main(["plan", "campaigns", *words]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count("\n") == 1


def test_the_largest_is_planned_at_its_full_size(capsys):
    words = ["campaigns=full", "preset=gtg_16005", "campaigns.honest.accounts=3000000"]
    words += ["campaigns.days=92", "campaigns.release=null", "campaigns.shards=15", "access=open"]
    words += ["detector=volume,phrase,content,rhythm", "campaigns.students=false"]
    assert cli.main(["plan", "campaigns", *words]) == 0
    assert "15 shards of at most 200000 honest accounts" in capsys.readouterr().out
