"""Campaigns in a study: settings, what leaks in order, controls with known answers, and what the report says."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from distill.answers import BadInput
from distill.campaigns.presets import PRESETS
from experiments import campaigns, cli, config, entries, plan, reproduce
from experiments.campaigns import measured, runs, shown
from experiments.plan import FLOORS
from experiments.store import Store

STUDY = ["teacher.steps=8", "student.steps=4", "seeds=[0,1]", "selection_seeds=[900]", "measure.items=40",
         "measure.selection_items=20", "measure.teacher_seeds=1", "teacher.items=200", "budget=[8,24]", "task=trace",
         "defense=[none,release/answer_only]", "measure.draws=200", "campaigns.honest.accounts=1500",
         "campaigns.days=14", "campaigns.release=null", "campaigns.clean=2",
         "detector=[volume,content,average,homogeneity,templates]",
         "preset=[gtig_trace_coercion(scale=0.04),deepseek_2026(scale=0.2,days=14,exchanges=30000)]",
         "access=[open,limits,reduce]"]  # fmt: skip


def small():
    raw = yaml.safe_load((entries.config_folder() / "campaigns" / "small.yaml").read_text())
    return campaigns.Campaigns(**raw)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    assert cli.main(["run", "campaigns", "--runs", str(folder), "--workers", "2", *STUDY]) == 0
    return folder


@pytest.fixture(scope="module")
def planned():
    return plan.make(config.load("campaigns", STUDY))


@pytest.fixture(scope="module")
def told(made):
    return json.loads((made / "campaigns" / "measures.json").read_text())["campaigns"]


def files(store, stage):
    return json.loads((store.folder(stage.kind, stage.key) / "done.json").read_text())["files"]


class TestSettings:
    @pytest.mark.parametrize("name", entries.names("campaigns"))
    def test_what_is_shipped_checks(self, name):
        held = campaigns.Campaigns(
            **yaml.safe_load((entries.config_folder() / "campaigns" / f"{name}.yaml").read_text())
        )
        held.check()
        assert {call.partition("(")[0] for call in held.presets} <= set(PRESETS)

    @pytest.mark.parametrize("group", ["access", "detector"])
    def test_every_file_shows_all_its_settings(self, group):
        for name in entries.names(group):
            component, _ = entries.resolved(group, name, {}, name)
            shown_there = set(entries.written(group, name).settings)
            left = {"limits"} if group == "access" and name != "limits" else set()
            assert shown_there | left == set(component.settings), name

    def test_limits_are_written_down_as_they_are(self):
        assert campaigns.access("limits").limits == campaigns.access("verify").limits

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("preset=qwen", "no 'qwen'; did you mean"),
            ("preset=qwen_2026(scale=2)", "scale must be above 0 and at most 1, got 2"),
            ("preset=qwen_2026(mixx=1)", "unknown key 'mixx'; did you mean 'mix'"),
            ("preset=qwen_2026(start=60)", "starts on day 60 of 44"),
            ("preset=qwen_2026(targets={'writing':1})", "wants writing, none of which stands for a task"),
            ("access=verify", "the first must be 'open'"),
            ("access=open,verifi", "did you mean 'verify'"),
            ("access=open,verify(latency=-1)", "greater than or equal to 0"),
            ("detector=volume", "ban_linked acts on 'homogeneity', which is none of campaigns.detectors"),
            ("detector=volume(windw=3)", "unknown key 'windw'; did you mean 'window'"),
            ("campaigns.rates=[0.01,0.001,0.1]", "rates must fall"),
            ("campaigns.rates=[0.01]", "acts at a rate of 0.001, which is none of campaigns.rates"),
            ("campaigns.release=44", "release must be a day of the horizon, got 44 of 44"),
            ("campaigns.release=null", "pivot needs campaigns.release"),
            ("campaigns.stands_for=[maths]", "stands_for: got maths"),
            ("campaigns.honest.accounts=10", "greater than or equal to 100"),
            ("campaigns.price_identity=[3,2]", "from low to high"),
            ("budget=10", "a block needs two budgets or more"),
            ("attacker=clean/filter + sft", "first attacker must be a plain learner of text"),
            ("campaigns=tiny", "campaigns: no 'tiny'"),
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
        whole, part = campaigns.campaign("qwen_2026"), campaigns.campaign("qwen_2026(scale=0.01)")
        assert part.accounts == 250 and part.per_account_day == pytest.approx(whole.per_account_day, rel=1e-3)

    def test_choices_of_an_attacker_are_a_grid(self):
        held = small().model_dump() | {
            "presets": ["adaptive_best_response(mix=[0.05, 0.2], cover=['persona', 'pooled'])"]
        }
        made = [campaigns.campaign(entry) for entry in campaigns.Campaigns(**held).presets]
        assert {(one.mix, one.cover) for one in made} == {(m, c) for m in (0.05, 0.2) for c in ("persona", "pooled")}

    def test_exchanges_a_question_by_hand(self):
        """20 accounts x 1,500 at 90 % wanted, 9 of 10 of them reasoning or grading: 24,300 for 800 questions."""
        held = small()
        assert held.per_question("deepseek_2026(scale=0.2)", 800) == pytest.approx(20 * 1500 * 0.9 * 0.9 / 800)
        fixed = held.model_copy(update={"exchanges_per_question": 7.0})
        assert fixed.per_question("deepseek_2026", 800) == 7.0

    def test_pivot_is_told_the_studys_release(self):
        made = plan.make(config.load("campaigns", ["campaigns.release=9"]))
        (clean,) = [stage for stage in made.stages if stage.kind == "calibration"]
        (pivot,) = [one for one in clean.settings["detectors"] if one["name"] == "pivot"]
        assert pivot["settings"]["release"] == 9


def happened(full, reduced):
    """A run that got so many exchanges a day, in full and reduced, all of one capability."""
    total = [[f + r] for f, r in zip(full, reduced, strict=True)]
    return {"capabilities": ["coding"], "leaked_DC": total, "reduced_DC": [[r] for r in reduced]}


class TestQuestions:
    def test_in_the_order_of_days_every_third_exchange_carries_one(self):
        """Day 0: 3 full; day 1: 3 full and 3 reduced; day 2: 3 reduced: full, full, reduced, reduced."""
        assert runs.questions(happened([3, 3, 0], [0, 3, 3]), ["coding"], 3, 10) == [False, False, True, True]

    def test_no_more_than_the_budget_and_none_of_nothing(self):
        assert runs.questions(happened([9], [0]), ["coding"], 1, 4) == [False] * 4
        assert runs.questions(happened([0, 0], [0, 0]), ["coding"], 3, 10) == []
        assert runs.questions(happened([1], [0]), ["coding"], 3, 10) == [], "less than half of a question"

    def test_other_capabilities_teach_nothing(self):
        run = {"capabilities": ["coding", "vision"], "leaked_DC": [[2, 50]], "reduced_DC": [[0, 0]]}
        assert runs.questions(run, ["coding"], 1, 10) == [False, False]


class TestControls:
    def test_a_campaign_that_nobody_stops_has_the_undefended_student_bit_for_bit(self, made, planned):
        store = Store(made / "store")
        for leak in planned.leaks:
            if (leak.access, leak.split) != ("open", "report") or not leak.preset.startswith("gtig"):
                continue
            for arm in leak.students:
                twin = next(one for one in planned.arms if (one.defense, one.attacker, one.budget, one.seed, one.split)
                            == (arm.defense, "sft", 24, arm.seed, "report"))  # fmt: skip
                for ours, theirs in ((arm.answers, twin.answers), (arm.student, twin.student), (arm.exam, twin.exam)):
                    assert ours.key != theirs.key and files(store, ours) == files(store, theirs)

    def test_a_campaign_that_got_nothing_has_the_untrained_student(self, made, tmp_path):
        folder = Path(shutil.copytree(made, tmp_path / "runs"))
        changed = [
            *STUDY,
            "campaigns.exchanges_per_question=1e9",
            "access=open",
            "preset=gtig_trace_coercion(scale=0.04)",
        ]
        assert cli.main(["run", "campaigns", "--runs", str(folder), "--workers", "1", *changed]) == 0
        store, again = Store(folder / "store"), plan.make(config.load("campaigns", changed))
        for arm in again.leaks[0].students:
            zero = next(
                one for one in again.arms if (one.attacker, one.seed, one.split) == (FLOORS[0], arm.seed, "report")
            )
            assert files(store, arm.exam) == files(store, zero.exam)
        rows = json.loads((folder / "campaigns" / "measures.json").read_text())["campaigns"]["leaks"]
        assert all(row["gain"] == 0 and row["questions"] < 1e-3 and row["per_point"] == [None] * 3 for row in rows)

    def test_output_and_access_defences_multiply(self, told):
        """Every campaign x access x output defence has a row, and no access leaks more than the open one."""
        rows = {(r["preset"], r["access"], r["defense"]): r for r in told["leaks"]}
        assert len(rows) == 2 * 3 * 2
        for (preset, _, defense), row in rows.items():
            assert row["leaked"] <= rows[preset, "open", defense]["leaked"] + 1e-9
            assert row["trained_runs"] == 2

    def test_the_campaign_that_gains_most_is_chosen_in_runs_of_its_own(self, planned, told):
        """Selection runs have their own seed and no students, and every pair of defences has one choice."""
        select = [leak for leak in planned.leaks if leak.split == "select"]
        assert {leak.seed for leak in select} == {900} and not any(leak.students for leak in select)
        assert len(told["worst"]) == 3 * 2

    def test_reduced_answers_are_short_ones(self, made, planned):
        from distill.answers import read_answers

        store, seen = Store(made / "store"), 0
        for leak in (one for one in planned.leaks if one.split == "report"):
            held = json.loads((store.open(leak.run.kind, leak.run.key) / "run.json").read_text())
            less = runs.questions(held, small().stands_for, small().per_question(leak.preset, 24), 24)
            arm = next(one for one in leak.students if one.defense == "none")
            said = read_answers(store.open(arm.answers.kind, arm.answers.key) / "answers.parquet")
            assert len(said) == len(less) or leak.preset.startswith("deepseek")
            seen += sum(less)
            if leak.access != "reduce":
                assert not any(less)
        assert seen, "no campaign was ever reduced, so nothing was tested"

    def test_the_same_seed_gives_the_same_bytes(self, made, planned, tmp_path):
        store = Store(made / "store")
        leak = next(one for one in planned.leaks if one.access == "reduce")
        (clean,) = leak.run.inputs
        runs.run(leak.run.settings, [store.open(clean.kind, clean.key)], tmp_path)
        assert (tmp_path / "run.json").read_bytes() == (
            store.folder("campaign", leak.run.key) / "run.json"
        ).read_bytes()
        runs.calibrate(clean.settings, [], tmp_path)
        ours, theirs = tmp_path / "calibration.npz", store.folder("calibration", clean.key) / "calibration.npz"
        assert ours.read_bytes() == theirs.read_bytes()

    def test_a_torn_file_of_scores_is_refused(self, tmp_path):
        (tmp_path / "scores.npz").write_bytes(b"PK\x03\x04 torn")
        with pytest.raises(BadInput, match="not a whole file of arrays"):
            runs.load(tmp_path / "scores.npz")


class TestDetectors:
    def test_the_oracle_bounds_every_detector(self, told):
        at = {
            (r["preset"], r["detector"], r["rate"]): r["leaked"] for r in told["detectors"] if r["leaked"] is not None
        }
        assert all(at[preset, runs.ORACLE, rate] <= leaked for (preset, _, rate), leaked in at.items())

    def test_false_alarms_have_exact_intervals_and_too_few_customers_say_so(self, told):
        for row in told["detectors"]:
            assert row["false"]["lo"] <= row["false"]["value"] <= row["false"]["hi"]
            assert row["told"] == (row["false"]["n"] * row["rate"] >= 3)
        assert not any(row["told"] for row in told["detectors"] if row["rate"] == 1e-4)

    def test_fusion_is_fitted_on_the_other_campaigns_alone(self):
        """Labels of the campaign that is judged change nothing about its p-values."""
        rng = np.random.default_rng(0)

        def run(seed):
            n = 600
            guilty = np.arange(n) >= 500
            p = rng.random((3, n)).astype(np.float32)
            p[0, guilty] *= 0.01
            return {"p": p, "guilty": guilty, "segment": np.zeros(n, np.uint8), "owner": np.arange(n),
                    "names": np.array(["a", "b", "c"])}  # fmt: skip

        watched = {"one": run(0), "two": run(1), "three": run(2)}
        first = measured.fused(watched)
        watched["one"] = watched["one"] | {"guilty": ~watched["one"]["guilty"]}
        again = measured.fused(watched)
        assert (first["one"] == again["one"]).all() and not (first["two"] == again["two"]).all()
        assert np.median(first["one"][500:]) < 0.02 < np.median(first["one"][:500])
        assert measured.fused({"one": watched["one"]}) == {}, "alone there is nothing to fit on"


class TestReport:
    def test_the_page_has_every_plot_and_table(self, made):
        page = (made / "campaigns" / "report.html").read_text()
        heads = ("what leaks before the ban", "Leak over time", "Accounts, opened and closed", "Detectors")
        for words in (*heads, "Who else is hit", "AML.T0008.005", "fusion", "oracle"):
            assert words in page, words
        assert (made / "campaigns" / "campaigns.svg").is_file()

    def test_terminal_and_markdown(self, made, capsys):
        assert cli.main(["report", "campaigns", "--markdown", "--runs", str(made), *STUDY]) == 0
        out = capsys.readouterr().out
        assert "| `gtig_trace_coercion(scale=0.04)` | open | `none` | 100.0 |" in out
        assert cli.main(["report", "campaigns", "--runs", str(made), *STUDY]) == 0
        assert capsys.readouterr().out.count("campaign (trace, ") == 3 * 2

    def test_verify_recomputes_and_names_a_tampered_outcome(self, made, tmp_path):
        folder = Path(shutil.copytree(made, tmp_path / "runs"))
        home = folder / "campaigns"
        assert not [c for c in reproduce.verify(home, Store(folder / "store")) if c.word == "FAIL"]
        outcomes = json.loads((home / "outcomes.json").read_text())
        outcomes[0]["honest"]["closed"][0] += 5
        (home / "outcomes.json").write_text(json.dumps(outcomes))
        failed = {c.claim: c.got for c in reproduce.verify(home, None) if c.word == "FAIL"}
        assert "outcomes.json is as it was written" in failed
        assert "campaigns" in failed["every aggregate follows from the grades: measures.json"]

    def test_partial_runs_are_reported_as_far_as_they_go(self, made, tmp_path, capsys):
        folder = Path(shutil.copytree(made, tmp_path / "runs"))
        again = plan.make(config.load("campaigns", STUDY))
        lost = next(leak for leak in again.leaks if (leak.access, leak.split) == ("reduce", "report"))
        shutil.rmtree(folder / "store" / "campaign" / lost.run.key)
        assert cli.main(["report", "campaigns", "--runs", str(folder), *STUDY]) == 2
        assert cli.main(["report", "campaigns", "--partial", "--runs", str(folder), *STUDY]) == 0
        assert len(json.loads((folder / "campaigns" / "outcomes.json").read_text())) == len(again.leaks) - 1

    @pytest.mark.parametrize(
        ("value", "text"), [(0.0, "0"), (1.0, "100"), (0.123, "12.3"), (0.00046, "0.046"), (None, "-")]
    )
    def test_shares_have_the_decimals_that_they_need(self, value, text):
        assert shown.share(value) == text

    @pytest.mark.parametrize(
        ("bill", "text"),
        [
            ([1234.0, 0.0, None], "1,200 [0, ∞]"),
            ([0.0123, 0.01, 5.49], "0.012 [0.010, 5.5]"),
            ([99.6, 1, 2], "100 [1.0, 2.0]"),
        ],
    )
    def test_money_has_two_digits(self, bill, text):
        assert shown.money(bill) == text
