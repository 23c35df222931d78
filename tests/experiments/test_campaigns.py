"""Campaigns in a study: settings, what leaks in order, controls with known answers, and what the
report says.
"""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from defenses.access import policy
from distill.campaigns import CAPABILITIES, NEVER, SEGMENTS, Accounts
from distill.campaigns.presets import PRESETS
from distill.completions import BadInput, read_completions
from experiments import cli
from experiments.analysis import campaign_harm, campaign_outcomes
from experiments.analysis import campaign_leaks as measured
from experiments.analysis.campaign_leaks import Behind
from experiments.analysis.campaign_outcomes import Against, Run, Scores
from experiments.campaigns.simulate import Outcome
from experiments.campaigns.world import Truth
from experiments.measure.detection import clopper_pearson
from experiments.measure.scores import Arm
from experiments.planning import plan
from experiments.planning.arms import FLOORS
from experiments.report import campaign_section
from experiments.results import read
from experiments.results.grades import Key
from experiments.results.schema.outcomes import CampaignOutcome
from experiments.review import form
from experiments.review.outcomes import faults
from experiments.review.verify import verify
from experiments.settings import campaigns, catalog, entries, schema
from experiments.settings.defenses import parse_defense
from experiments.stages import calibration, campaign
from experiments.stages.served import CampaignReport, Leakage, questions
from experiments.store import Store
from tests.experiments import forger
from tests.experiments.small import SHAPES, last

STUDY = [
    "name=campaigns",
    *SHAPES,
    "seeds=[0,1]",
    "selection_seeds=[900]",
    "measure.items=10",
    "measure.selection_items=10",
    "measure.teacher_seeds=1",
    "budget=[12,24]",
    "task=trace",
    "defense=[none,decoding/temperature]",
    "measure.draws=200",
    "campaigns.honest.accounts=1500",
    "campaigns.days=14",
    "campaigns.release=null",
    "campaigns.clean=2",
    "detector=[volume,content,average,homogeneity,templates]",
    "preset=[gtig_trace_coercion(scale=0.04),deepseek_2026(scale=0.2,days=14,exchanges=30000)]",
    "access=[open,limits,reduce]",
]


OTHER = "{names:[here,there],both:0.3,pool:0.7,access:ban_linked}"


def small():
    raw = yaml.safe_load((catalog.config_folder() / "campaigns" / "small.yaml").read_text())
    return campaigns.Campaigns(**raw)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    assert cli.main(["run", "campaigns", "--runs", str(folder), "--workers", "1", *STUDY]) == 0
    return folder


@pytest.fixture(scope="module")
def planned():
    return plan.make(schema.load("campaigns", STUDY))


@pytest.fixture(scope="module")
def results(made):
    return json.loads((made / "campaigns" / "measures.json").read_text())["campaigns"]


def files(store, stage):
    return json.loads((store.folder(stage.kind, stage.key) / "done.json").read_text())["files"]


class TestSettings:
    @pytest.mark.parametrize("name", catalog.names("campaigns"))
    def test_what_is_shipped_checks(self, name):
        settings = campaigns.Campaigns(
            **yaml.safe_load((catalog.config_folder() / "campaigns" / f"{name}.yaml").read_text())
        )
        settings.check()
        assert {call.partition("(")[0] for call in settings.presets} <= set(PRESETS)

    @pytest.mark.parametrize("group", ["access", "detector"])
    def test_every_file_shows_all_its_settings(self, group):
        for name in catalog.names(group):
            component = entries.resolve(group, name).spec
            shown_there = set(entries.read_config(group, name).settings)
            left = {"limits"} if group == "access" and name != "limits" else set()
            assert shown_there | left == set(component.settings), name

    def test_limits_are_written_down_as_they_are(self):
        assert campaigns.parse_access("limits").limits == campaigns.parse_access("verify").limits

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("preset=qwen", "no 'qwen'; did you mean"),
            ("preset=qwen_2026(scale=2)", "scale must be above 0 and at most 1, got 2"),
            ("preset=qwen_2026(mixx=1)", "unknown key 'mixx'; did you mean 'mix'"),
            ("preset=qwen_2026(start=60)", "starts on day 60 of 44"),
            (
                "preset=qwen_2026(targets={'writing':1})",
                "wants writing, none of which stands for a task",
            ),
            ("access=verify", "the first must be 'open'"),
            ("access=open,verifi", "did you mean 'verify'"),
            ("access=open,verify(latency=-1)", "must be at least 0"),
            (
                "detector=volume",
                "ban_linked acts on 'homogeneity', which is none of campaigns.detectors",
            ),
            ("detector=volume(windw=3)", "unknown key 'windw'; did you mean 'window'"),
            ("campaigns.rates=[0.01,0.001,0.1]", "rates must fall"),
            ("campaigns.rates=[0.01]", "acts at a rate of 0.001, which is none of campaigns.rates"),
            ("campaigns.release=44", "release must be a day of the horizon, got 44 of 44"),
            ("campaigns.release=null", "pivot needs campaigns.release"),
            ("campaigns.stands_for=[maths]", "stands_for: got maths"),
            ("campaigns.honest.accounts=10", "must be at least 100"),
            ("campaigns.price_identity=[3,2]", "from low to high"),
            ("budget=10", "a block needs two budgets or more"),
            (
                "budget=25,100,150",
                "budgets lie 4 x apart; the query curve that campaigns are read through needs at",
            ),
            ("attacker=clean/filter + sft", "first attacker must be a plain learner of text"),
            ("campaigns=tiny", "campaigns: no 'tiny'"),
            ("detector=volume,volume(window=3)", r"volume and volume\(window=3\) are the same"),
            ("preset=qwen_2026(scale=0.1),qwen_2026(scale=0.10)", "are the same"),
            ("access=open,reduce,reduce(worth=0.5)", "are the same"),
            ("preset=qwen_2026(mix=0)", "wants no exchange within 44 days"),
            ("preset=qwen_2026(mix=[])", "a list of choices must not be empty"),
            ("detector=pivot(release=5)", "the day of the release is campaigns.release"),
            ("attacker=floor", "attacker: no 'floor'"),
            ("campaigns.reduced=bogus", "defense: no 'bogus'"),
            ("campaigns.reduced=release/noise", "must edit finished answers"),
            ("campaigns.reduced=release/downgrade", "needs a weaker teacher; set weaker_teacher"),
            ("preset=qwen_2026(plan=gold)", "plan: got 'gold'"),
            ("preset=qwen_2026(addresses=0)", "addresses: must be at least 1"),
            ("preset=qwen_2026(peak=0.5)", "peak: must be at least 1"),
            ("access=open,reduce(downgraded=0)", "downgraded: must be above 0"),
            ("detector=shared", "shared needs campaigns.other"),
            (f"campaigns.other={OTHER.replace('there', 'here')}", "names must differ"),
            (
                f"campaigns.other={OTHER.replace('ban_linked', 'verify')}",
                "hands nothing on; a rule",
            ),
            (f"campaigns.other={OTHER.replace('0.3', '1.3')}", "both: must be at most 1"),
            (f"campaigns.other={OTHER.replace('pool', 'poool')}", "did you mean 'pool'"),
            ("campaigns.honest.ramp=0", "ramp: must be above 0"),
            ("campaigns.honest.questions=[9,3]", "questions must go from few to many"),
        ],
    )
    def test_a_mistake_is_one_line(self, override, message, capsys):
        assert cli.main(["plan", "campaigns", override]) == 2
        error = capsys.readouterr().err
        assert re.search(message, error) and error.count("\n") == 1

    def test_a_study_without_campaigns_has_no_presets(self, capsys):
        assert cli.main(["plan", "quickstart", "preset=qwen_2026"]) == 2
        assert "quickstart simulates no campaigns" in capsys.readouterr().err

    def test_a_scaled_preset_keeps_its_rate(self):
        whole, part = (
            campaigns.parse_campaign("qwen_2026"),
            campaigns.parse_campaign("qwen_2026(scale=0.01)"),
        )
        assert part.accounts == 250 and part.per_account_day == pytest.approx(
            whole.per_account_day, rel=1e-3
        )

    def test_choices_of_an_attacker_are_a_grid(self):
        settings = small().model_dump() | {
            "presets": ["adaptive_best_response(mix=[0.05, 0.2], cover=['persona', 'pooled'])"]
        }
        presets = campaigns.Campaigns(**settings).presets
        made = [campaigns.parse_campaign(entry) for entry in presets]
        assert {(one.mix, one.cover) for one in made} == {
            (m, c) for m in (0.05, 0.2) for c in ("persona", "pooled")
        }

    def test_exchanges_a_question_by_hand(self):
        """20 accounts x 1,500 at 90 % wanted, 9 of 10 of them reasoning or grading: 24,300 for 800
        questions.
        """
        settings = small()
        assert settings.per_question("deepseek_2026(scale=0.2)", 800) == pytest.approx(
            20 * 1500 * 0.9 * 0.9 / 800
        )
        fixed = settings.model_copy(update={"exchanges_per_question": 7.0})
        assert fixed.per_question("deepseek_2026", 800) == 7.0

    def test_pivot_is_told_the_studys_release(self):
        made = plan.make(schema.load("campaigns", ["campaigns.release=9"]))
        (clean,) = [stage for stage in made.stages if stage.kind == "calibration"]
        (pivot,) = [one for one in clean.settings["detectors"] if one["name"] == "pivot"]
        assert pivot["settings"]["release"] == 9


def happened(full, reduced):
    """A run that got so many exchanges a day, in full and reduced, all of one capability."""
    total = [[f + r] for f, r in zip(full, reduced, strict=True)]
    reduced_DC = [[r] for r in reduced]
    return Leakage(capabilities=["coding"], leaked_DC=total, reduced_DC=reduced_DC)


def finished(
    preset, access, seed, full=(), reduced=(), split="report", theirs=None, bought=None, **honest
):
    """A run of which all that is not given is 0; honest accounts are of the first segment."""
    zero = [0] * 5
    counts = ("accounts", "closed", "limited", "touched", "sent", "refused")
    accounts = {"opened": 0, "turned_away": 0, "verified": 0} | (theirs or {})
    return CampaignOutcome(
        preset=preset,
        access=access,
        seed=seed,
        split=split,
        students=[],
        bought=bought or [0, 0, 0],
        campaign={"closed_D": [], "opened_D": [], "done": {}} | accounts,
        events=0,
        honest={name: [*honest.get(name, [0]), *zero] for name in counts} | {"done": {}},
        planned=0.0,
        segments=[],
        **happened(full, reduced).model_dump(),
    )


class TestQuestions:
    def test_in_the_order_of_days_every_third_exchange_carries_one(self):
        """Day 0: 3 full; day 1: 3 full and 3 reduced; day 2: 3 reduced: full, full, reduced,
        reduced.
        """
        assert questions(happened([3, 3, 0], [0, 3, 3]), ["coding"], 3, 10) == [
            False,
            False,
            True,
            True,
        ]

    def test_no_more_than_the_budget_and_none_of_nothing(self):
        assert questions(happened([9], [0]), ["coding"], 1, 4) == [False] * 4
        assert questions(happened([0, 0], [0, 0]), ["coding"], 3, 10) == []
        assert questions(happened([1], [0]), ["coding"], 3, 10) == [], (
            "less than half of a question"
        )

    def test_other_capabilities_teach_nothing(self):
        run = Leakage(capabilities=["coding", "vision"], leaked_DC=[[2, 50]], reduced_DC=[[0, 0]])
        assert questions(run, ["coding"], 1, 10) == [False, False]


class TestControls:
    def test_a_campaign_that_nobody_stops_has_the_undefended_student_bit_for_bit(
        self, made, planned
    ):
        store = Store(made / "store")
        for leak in planned.leaks:
            if (leak.access, leak.split) != ("open", "report") or not leak.preset.startswith(
                "gtig"
            ):
                continue
            for arm in leak.students:
                twin = next(
                    one
                    for one in planned.arms
                    if (one.defense, one.attacker, one.budget, one.seed, one.split)
                    == (arm.defense, "sft", 24, arm.seed, "report")
                )
                for ours, theirs in (
                    (arm.completions, twin.completions),
                    (arm.student, twin.student),
                    (arm.exam, twin.exam),
                ):
                    assert ours.key != theirs.key and files(store, ours) == files(store, theirs)

    def test_a_campaign_that_got_nothing_has_the_untrained_student(self, made, tmp_path):
        folder = Path(shutil.copytree(made, tmp_path / "runs"))
        changed = last(
            *STUDY,
            "name=nothing",
            "campaigns.exchanges_per_question=1e9",
            "access=open",
            "preset=gtig_trace_coercion(scale=0.04)",
        )
        assert (
            cli.main(["run", "campaigns", "--runs", str(folder), "--workers", "1", *changed]) == 0
        )
        store, again = Store(folder / "store"), plan.make(schema.load("campaigns", changed))
        for arm in again.leaks[0].students:
            zero = next(
                one
                for one in again.arms
                if (one.attacker, one.seed, one.split) == (FLOORS[0], arm.seed, "report")
            )
            assert files(store, arm.exam) == files(store, zero.exam)
        rows = json.loads((folder / "nothing" / "measures.json").read_text())["campaigns"]["leaks"]
        assert all(
            row["gain"] == 0 and row["questions"] < 1e-3 and row["per_point"] == [None] * 3
            for row in rows
        )

    def test_output_and_access_defences_multiply(self, results):
        """Every campaign x access x output defence has a row, and no access leaks more than the
        open one.
        """
        rows = {(r["preset"], r["access"], r["defense"]): r for r in results["leaks"]}
        assert len(rows) == 2 * 3 * 2
        for (preset, _, defense), row in rows.items():
            assert row["leaked"] <= rows[preset, "open", defense]["leaked"] + 1e-9
            assert row["trained"] is not None

    def test_the_campaign_that_gains_most_is_chosen_in_runs_of_its_own(self, planned, results):
        """Selection runs have their own seed and no students, and every pair of defences has one
        choice.
        """
        select = [leak for leak in planned.leaks if leak.split == "select"]
        assert {leak.seed for leak in select} == {900} and not any(leak.students for leak in select)
        assert len(results["worst"]) == 3 * 2

    def test_reduced_answers_have_passed_the_reduction_and_the_others_have_not(self, made, planned):
        store, seen = Store(made / "store"), 0
        cut = parse_defense(small().reduced).chain.parts[0]

        def answers_of(leak, defense):
            arm = next(one for one in leak.students if one.defense == defense)
            return read_completions(
                store.open(arm.completions.kind, arm.completions.key) / "completions.parquet"
            )

        there = {
            (leak.preset, leak.access, leak.seed): leak
            for leak in planned.leaks
            if leak.split == "report"
        }
        for (preset, access, seed), leak in there.items():
            report = CampaignReport.read(store.open(leak.run.kind, leak.run.key))
            less = questions(report, small().stands_for, small().per_question(preset, 24), 24)
            assert access == "reduce" or not any(less)
            for defense in ("none", "decoding/temperature"):
                unstopped = there[preset, "open", seed]
                full, got = (answers_of(one, defense) for one in (unstopped, leak))
                expected = [
                    cut.text(answer) if short else answer.text
                    for answer, short in zip(full, less, strict=False)
                ]
                if defense == "none":  # sampled ones differ with what else is asked in a batch
                    assert [answer.text for answer in got] == expected
                assert len(got) == len(less)
                changed = [e != answer.text for e, answer in zip(expected, full, strict=False)]
                seen += sum(changed)
        assert seen, (
            "no campaign was ever reduced, or no answer was changed by it, so nothing was tested"
        )

    def test_the_same_seed_gives_the_same_bytes(self, made, planned, tmp_path):
        store = Store(made / "store")
        leak = next(one for one in planned.leaks if one.access == "reduce")
        (clean,) = leak.run.inputs
        inputs = leak.run.needs.map(lambda stage: store.open(stage.kind, stage.key))
        campaign.run(leak.run.spec, inputs, tmp_path)
        assert (tmp_path / "run.json").read_bytes() == (
            store.folder("campaign", leak.run.key) / "run.json"
        ).read_bytes()
        calibration.run(clean.spec, clean.needs, tmp_path)
        ours, theirs = (
            tmp_path / "calibration.npz",
            store.folder("calibration", clean.key) / "calibration.npz",
        )
        assert ours.read_bytes() == theirs.read_bytes()

    def test_a_torn_file_of_scores_is_refused(self, tmp_path):
        (tmp_path / "scores.npz").write_bytes(b"PK\x03\x04 torn")
        with pytest.raises(BadInput, match="not a whole file of arrays"):
            calibration.load(tmp_path / "scores.npz")


class TestDetectors:
    def test_the_oracle_bounds_every_detector(self, results):
        at = {
            (r["preset"], r["detector"], r["rate"]): r["leaked"]
            for r in results["detectors"]
            if r["leaked"] is not None
        }
        assert all(
            at[preset, campaign.ORACLE, rate] <= leaked for (preset, _, rate), leaked in at.items()
        )

    def test_false_alarms_have_exact_intervals_and_too_few_customers_say_so(self, results):
        for row in results["detectors"]:
            assert row["false"]["lo"] <= row["false"]["value"] <= row["false"]["hi"]
            assert row["measurable"] == (row["false"]["n"] * row["rate"] >= 3)
        assert not any(row["measurable"] for row in results["detectors"] if row["rate"] == 1e-4)

    @pytest.fixture
    def scores(self):
        """Two presets by two seeds; the first of three detectors sees the guilty, and seeds share
        their customers.
        """

        def simulated(seed):
            p = np.random.default_rng(seed).random((3, 600)).astype(np.float32)
            guilty = np.arange(600) >= 500
            p[0, guilty] *= 0.01
            names = np.array(["a", "b", "c"])
            return Scores(p, guilty, np.zeros(600, np.uint8), np.arange(600), names)

        return {Run(name, seed): simulated(seed) for name in ("x(mix=1)", "y") for seed in (0, 1)}

    def test_fusion_is_fitted_and_calibrated_on_other_campaigns_beside_other_customers(
        self, scores
    ):
        at, fused = Run("y", 0), campaign_outcomes.fused
        judged = fused(scores, at, [0.01])
        assert np.median(judged.p[500:]) < 0.02 < np.median(judged.p[:500])
        hits, accounts, false, customers = judged.at_rates[0]
        assert (accounts, customers) == (100, 500) and hits > 50 and false < 25
        # What is judged, its seed and its preset, may hold anything: the fit does not look at it.
        spoilt = {
            run: one if run in (at, Run("x(mix=1)", 1)) else one._replace(p=one.p[::-1])
            for run, one in scores.items()
        }
        assert (fused(spoilt, at, [0.01]).p == judged.p).all()
        assert fused({Run("x", 0): scores[at], at: scores[at]}, at, [0.01]) is None
        grid = {Run("y(mix=0.1)", 1): scores["y", 1], at: scores[at]}
        assert fused(grid, at, [0.01]) is None, "siblings of a grid are the same campaign"

    def test_roc_by_hand(self):
        """Customers 0 (accounts at .2 and .004), 1 (.5), 2 (.03); campaign accounts .001 and .6."""
        p, guilty = (
            np.array([0.2, 0.004, 0.5, 0.03, 0.001, 0.6]),
            np.array([0, 0, 0, 0, 1, 1], bool),
        )
        scores = Scores(p[None], guilty, np.zeros(6, int), np.array([0, 0, 1, 2, 9, 9]), ["a"])
        curve = campaign_outcomes.roc(p, scores)
        at = int(np.argmin(abs(campaign.ROC - 0.01)))
        assert campaign.ROC[at] == pytest.approx(0.01)
        assert (curve.fpr[at], curve.tpr[at]) == (pytest.approx(1 / 3), 0.5)
        assert (curve.fpr[-1], curve.tpr[-1]) == (1, 1)


class Watched:
    """A provider that does nothing."""


class Enforced(policy.PolicyEnforcer):
    """A provider that did as told: the day of each action by account, and 429s."""

    def __init__(self, done, refused):
        self.done = {name: np.array(days, np.int16) for name, days in done.items()}
        self.gateway = SimpleNamespace(refused=np.array(refused))


@pytest.fixture
def outcome():
    """Honest accounts 0 and 1; of the campaign 2 (all three days), 3 (reduced after day 0) and 4
    (turned away on day 1) and 5 (opened and banned on day 1); two wanted exchanges a day and
    account of coding.
    """
    accounts, truth = Accounts.empty(6), Truth.empty(6)
    accounts.add(
        6,
        segment=[0, 1, 2, 2, 2, 2],
        created=[-5, -5, -3, 0, 1, 1],
        payment=0,
        device=0,
        network=0,
        verified=[False, False, True, False, False, False],
    )
    accounts.closed[:] = [NEVER, 1, NEVER, NEVER, 1, 1]
    truth.campaign[2:], truth.owner[:2] = 0, [7, 8]
    leaked = np.zeros((4, 3, len(CAPABILITIES)), np.uint32)
    coding = list(CAPABILITIES).index("coding")
    leaked[0, :, coding], leaked[1, :, coding], leaked[3, 1, coding] = 2, 2, 2
    turned = np.array([False] * 4 + [True, False])
    reduced = np.zeros((1, 3, len(CAPABILITIES)), np.int64)
    reduced[0, :, coding] = 0, 2, 2
    return Outcome(
        3,
        2,
        accounts,
        truth,
        (),
        leaked,
        np.zeros((4, 3)),
        np.array([[14, 100, 200]]),
        np.array([18.0]),
        np.full((6, 3), 5),
        np.zeros((6, 3), np.int64),
        turned,
        reduced,
        np.array([[0, 4, 4], *[[0, 0, 0]] * 5]),
        events=99,
    )


class TestCounts:
    def test_of_a_run_by_hand(self, outcome):
        done = {
            "reduce": [NEVER, NEVER, NEVER, 0, NEVER, NEVER],
            "downgrade": [0, NEVER, NEVER, NEVER, NEVER, NEVER],
            "verify": [0, NEVER, 0, 0, NEVER, NEVER],
        }
        report = campaign._report(outcome, Enforced(done, [3, 0, 0, 0, 0, 0])).model_dump()
        coding = report["capabilities"].index("coding")
        assert [day[coding] for day in report["leaked_DC"]] == [4, 6, 4]
        assert [day[coding] for day in report["reduced_DC"]] == [0, 2, 2], "from the day after"
        theirs, honest = report["campaign"], report["honest"]
        assert (theirs["opened"], theirs["turned_away"], theirs["verified"]) == (3, 1, 1)
        assert (theirs["opened_D"], theirs["closed_D"]) == ([2, 1, 0], [0, 1, 0]), (
            "banned where it opened, not turned away"
        )
        assert theirs["done"] == {"reduce": 1, "downgrade": 0, "verify": 2}
        assert honest["downgraded"] == [1, 0, 0, 0, 0, 0] and honest["reduced"][:2] == [8, 0]
        assert honest["accounts"] == [1, 1, 0, 0, 0, 0] and honest["closed"] == [0, 1, 0, 0, 0, 0]
        assert honest["touched"] == [1, 1, 0, 0, 0, 0] and honest["limited"] == [1, 0, 0, 0, 0, 0]
        assert honest["done"]["verify"][0] == 1 and sum(honest["sent"]) == 90
        assert report["bought"] == [14, 100, 200]

    def test_of_a_provider_that_only_watches(self, outcome):
        report = campaign._report(outcome, Watched()).model_dump()
        assert report["campaign"]["verified"] == 0 and report["campaign"]["done"] == {}
        assert sum(report["honest"]["limited"]) == 0

    def test_what_a_detector_found(self, outcome):
        """Account 2 is found on day 1 and leaks on days 0 and 1; account 3 on day 0; one honest
        customer is flagged.
        """
        crossed = np.array([[2, NEVER, 1, 0, NEVER, NEVER]])
        [detected] = campaign._detected(outcome, crossed)
        row = detected.model_dump()
        assert (row["found"], row["of"]) == (2, 4)
        assert row["leaked_C"][list(CAPABILITIES).index("coding")] == 4 + 2 + 2
        assert row["false"] == [1, 0, 0, 0, 0, 0] and row["customers"] == [1, 1, 0, 0, 0, 0]
        assert row["days"] == {"0": 0, "0.5": 1, "0.9": None}


class TestJoined:
    """Rows of the join by hand: a curve of five students that are right on their first 10, 40 and
    80 % of questions.
    """

    @pytest.fixture
    def table(self):
        study = schema.load(
            "campaigns", ["budget=[50,100,200]", "seeds=[0,1]", "measure.draws=400"]
        )

        def exams_of(p, seeds=(0, 1)):
            right = np.tile((np.arange(200) < 200 * p).astype(float), (len(seeds), 1))
            return Arm(right, seeds)

        at = {
            Key("trace", defense, "sft", n, "report"): exams_of(p)
            for defense in study.blocks[0].defenses
            for n, p in ((50, 0.1), (100, 0.4), (200, 0.8))
        }
        floor = Key("trace", "none", FLOORS[1], 200, "report")
        at |= {Key("trace", "none", FLOORS[0], 50, "report"): exams_of(0.0), floor: exams_of(0.2)}
        return SimpleNamespace(
            study=study,
            report=at,
            alpha=0.05,
            budgets=lambda task: [50, 100, 200],
            clusters=lambda task: None,
            floor_key=lambda *_: floor,
            scores=at.get,
        )

    def run(self, preset, access, full, reduced, bought, seed=0, split="report"):
        theirs = {"opened": 10, "turned_away": 2, "verified": 1}
        return finished(preset, access, seed, [full], [reduced], split, theirs, bought=bought)

    def test_a_row(self, table):
        """1,000 exchanges in full and 1,000 reduced at .3 are 100 questions of 13: accuracy .4, .2
        above the floor.
        """
        settings = table.study.campaigns.model_copy(
            update={"exchanges_per_question": 13.0, "stands_for": ["coding"]}
        )
        preset, bought = settings.presets[0], [1, 2_000_000, 1_000_000]
        reduced, unstopped = Against(preset, "reduce"), Against(preset, "open")
        by = {
            reduced: [self.run(*reduced, 1000, 1000, bought)] * 2,
            unstopped: [self.run(*unstopped, 13_000, 0, bought)] * 2,
        }
        arm = Behind("trace", "none", "sft")
        row = measured.leak_result(settings, table, arm, reduced, by)
        assert row.questions == pytest.approx(100) and row.full == pytest.approx(1000 / 13)
        assert row.gain == pytest.approx(0.2) and row.trained is None
        assert measured.spending(by[unstopped][0]) == (2e6, 1e6, 12, 1)
        # Open it gains .6 for the same money, so a point costs three times as much; items are
        # redrawn for both alike.
        assert row.times[0] == pytest.approx(3, rel=0.15)

    def test_the_worst_is_chosen_by_the_runs_that_are_not_reported(self, table):
        settings = table.study.campaigns.model_copy(
            update={"exchanges_per_question": 13.0, "stands_for": ["coding"]}
        )
        first, other = Against(settings.presets[0], "open"), Against(settings.presets[2], "open")
        by = {at: [self.run(*at, n, 0, [1, 1, 1])] for at, n in ((first, 1300), (other, 13_000))}
        rows = measured.leak_results(settings, by, table, "trace")
        choosing = {first: by[other], other: by[first]}
        worst = measured.worst_campaigns(settings, table, rows, choosing)
        assert {row.preset for row in worst} == {first.preset}
        lawful = [row.model_copy(update={"lawful": row.preset == first.preset}) for row in rows]
        worst = measured.worst_campaigns(settings, table, lawful, choosing)
        assert {row.preset for row in worst} == {other.preset}

    def test_honest_accounts_beside_several_campaigns_count_once(self):
        by = {
            Against(p, "limits"): [
                finished(p, "limits", seed, accounts=[100], touched=[4 * (p == "a")])
                for seed in (0, 1)
            ]
            for p in ("a", "b")
        }
        rows = campaign_harm.harm_results(by, 0.05)
        (row,) = [one for one in rows if (one.preset, one.segment) == ("all", "all")]
        assert row.touched.n == 200 and row.touched.value == pytest.approx(0.02)

    def test_what_false_suspicion_costs_by_hand(self):
        """4 of 100 accounts of the first segment, and 30 of their 1,000 exchanges, in each run."""
        at = Against("a", "downgrade")
        runs = []
        for seed in (0, 1):
            run = finished(*at, seed, accounts=[100], sent=[1000])
            met = {"reduced": [30, *[0] * 5], "downgraded": [4, *[0] * 5]}
            runs.append(run.model_copy(update={"honest": run.honest.model_copy(update=met)}))
        rows = {row.segment: row for row in campaign_harm.harm_results({at: runs}, 0.05)}
        first, everybody = rows[SEGMENTS[0]], rows["all"]
        assert first.downgraded.value == 0.04 and first.reduced == 0.03
        assert everybody.reduced == 0.03 and rows[SEGMENTS[1]].reduced == 0
        older = [finished(*at, seed, accounts=[100], sent=[1000]) for seed in (0, 1)]
        assert campaign_harm.harm_results({at: older}, 0.05)[0].reduced == 0

    def test_a_rate_varies_between_runs(self):
        at = Against("a", "limits")
        runs = [
            finished(*at, seed, accounts=[10_000], closed=[n])
            for seed, n in enumerate((10, 40, 100))
        ]
        rate = campaign_harm.harm_results({at: runs}, 0.05)[0].closed
        alone = clopper_pearson(150, 30_000)
        assert rate.value == pytest.approx(0.005) and rate.lo < alone.lo and rate.hi > 2 * alone.hi


class TestReport:
    def test_the_page_has_every_plot_and_table(self, made):
        page = (made / "campaigns" / "report.html").read_text()
        heads = (
            "what leaks before the ban",
            "Leak over time",
            "Accounts, opened and closed",
            "Detectors",
        )
        for words in (*heads, "Who else is hit", "AML.T0008.005", "fusion", "oracle"):
            assert words in page, words
        assert (made / "campaigns" / "campaigns.svg").is_file()

    def test_terminal_and_markdown(self, made, capsys):
        assert cli.main(["report", "campaigns", "--markdown", "--runs", str(made), *STUDY]) == 0
        out = capsys.readouterr().out
        assert "| `gtig_trace_coercion(scale=0.04)` | open | `none` | 100.0 |" in out
        assert out.count("| trace | `control/identity` |") == 1, (
            "verdicts are those of the largest budget"
        )
        assert cli.main(["report", "campaigns", "--runs", str(made), *STUDY]) == 0
        assert capsys.readouterr().out.count("campaign (trace, ") == 3 * 2

    def test_verify_recomputes_and_names_a_tampered_outcome(self, made, tmp_path):
        folder = Path(shutil.copytree(made, tmp_path / "runs"))
        home = folder / "campaigns"
        assert not [c for c in verify(home, Store(folder / "store")) if c.word == "FAIL"]
        outcomes = json.loads((home / "outcomes.json").read_text())
        outcomes[0]["honest"]["closed"][0] += 5
        (home / "outcomes.json").write_text(json.dumps(outcomes))
        failed = {c.claim: c.got for c in verify(home, None) if c.word == "FAIL"}
        assert "outcomes.json is as it was written" in failed
        assert "campaigns" in failed["every aggregate follows from the grades: measures.json"]

    @pytest.mark.parametrize("left", [0, -1])
    def test_verify_names_campaigns_that_are_left_out(self, made, tmp_path, left):
        home = Path(shutil.copytree(made / "campaigns", tmp_path / "campaigns"))
        forger.edit(home, "outcomes.json", lambda outcomes: outcomes[:left])
        if not left:
            for name in ("outcomes.json", "campaigns.svg"):
                (home / name).unlink()
                forger.edit(
                    home, "manifest.json", lambda m, gone=name: m["files"].pop(gone) and None
                )
        forger.rewrite(home)
        failed = {c.claim: c.got for c in verify(home, None) if c.word == "FAIL"}
        assert [*failed] == ["outcomes.json lists the planned campaigns"]

    @pytest.mark.parametrize(
        ("change", "fault"),
        [
            ({}, ""),
            ({"leaked_DC": []}, "leaked_DC is not of 14 days and 10 capabilities"),
            ({"reduced_DC": [[9] * 10] * 14, "leaked_DC": [[0] * 10] * 14}, "1260 answers were"),
            ({"capabilities": ["harmless"] * 10}, "among its capabilities"),
            ({"detectors": {}}, "detectors are none"),
            ({"segments": ["all"]}, "segments that there are not"),
        ],
        ids=str,
    )
    def test_a_campaign_that_is_of_other_settings_is_named(self, made, change, fault):
        home = made / "campaigns"
        before, campaigns = read.outcomes_of(home), form.study_of(home).campaigns
        opened = next(outcome for outcome in before if outcome.access == "open")
        assert not [*faults(before, campaigns)]
        wrong = [*faults([opened.model_copy(update=change)], campaigns)]
        assert bool(wrong) == bool(fault) and fault in "".join(wrong)

    def test_partial_runs_are_reported_as_far_as_they_go(self, made, tmp_path, capsys):
        folder = Path(shutil.copytree(made, tmp_path / "runs"))
        again = plan.make(schema.load("campaigns", STUDY))
        lost = next(
            leak for leak in again.leaks if (leak.access, leak.split) == ("reduce", "report")
        )
        shutil.rmtree(folder / "store" / "campaign" / lost.run.key)
        assert cli.main(["report", "campaigns", "--runs", str(folder), *STUDY]) == 2
        assert cli.main(["report", "campaigns", "--partial", "--runs", str(folder), *STUDY]) == 0
        assert (
            len(json.loads((folder / "campaigns" / "outcomes.json").read_text()))
            == len(again.leaks) - 1
        )

    @pytest.mark.parametrize(
        ("value", "text"),
        [(0.0, "0"), (1.0, "100"), (0.123, "12.3"), (0.00046, "0.046"), (None, "-")],
    )
    def test_shares_have_the_decimals_that_they_need(self, value, text):
        assert campaign_section.share(value) == text

    @pytest.mark.parametrize(
        ("bill", "text"),
        [
            ([1234.0, 0.0, None], "1,200 [0, ∞]"),
            ([0.0123, 0.01, 5.49], "0.012 [0.010, 5.5]"),
            ([99.6, 1.0, 2.0], "100 [1.0, 2.0]"),
        ],
    )
    def test_money_has_two_digits(self, bill, text):
        assert campaign_section.money(bill) == text
