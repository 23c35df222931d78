"""Every number of a report on simulated grades of known truth: several attacks, budgets and
defences at once.
"""

import json
import operator
import os
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import measures as simulated
from distill.completions import BadInput
from experiments.analysis import card, flagging, summary, verdicts
from experiments.analysis.exhibits import exhibits
from experiments.analysis.families import family
from experiments.measure.scores import Arm, NotMeasurable
from experiments.planning.arms import IDENTITY
from experiments.report import card as card_page
from experiments.report import frontier_plot, html, plots, terminal
from experiments.results import grades, grades_file
from experiments.results.grades import Key
from experiments.results.manifest import Code, Machine, Manifest, Seal
from experiments.results.schema.curves import BillResult, CurveBill, HalfBill
from experiments.results.schema.defenses import CaseResult, Utility
from experiments.results.schema.measures import Measures
from experiments.results.table import jsonable
from experiments.settings import schema


@pytest.fixture(scope="module")
def study():
    changes = [
        "seeds=[0,1,2,3,4]",
        "baseline_seeds=5",
        "measure.looks=[5]",
        "measure.items=200",
        "measure.draws=200",
    ]
    return schema.load("quickstart", changes)


@pytest.fixture(scope="module")
def made():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulated, "SEEDS", 5)
        patch.setattr(simulated, "ITEMS", 200)
        return simulated.simulated(np.random.default_rng(1))


@pytest.fixture(scope="module")
def results(study, made):
    return jsonable(measures(study, made))


def measures(study, made):
    return summary.measure(study, grades_file.read(made[0]), made[1])


def case(results, defense, budget=4000, task="trace"):
    return next(
        c
        for c in results["cases"]
        if (c["task"], c["budget"], c["defense"]) == (task, budget, defense)
    )


def test_each_defence_has_a_case_over_all_its_attacks(results):
    row = case(results, "release/truncate")
    assert set(row["attacks"]) == {"sft", "logprob_kd"} and row["attack"] in row["attacks"]
    assert row["lcb"] <= row["transfer"] <= row["ucb"]
    # The truth is 0.1 + 0.6 x 0.5 against 0.1 + 0.6 over a floor of 0.1: half of the gain.
    assert row["lcb"] < 0.5 < row["ucb"]


def test_verdicts_stand_at_the_largest_budget_alone(results):
    assert {c["verdict"] for c in results["cases"] if c["budget"] < 4000} == {""}
    words = {c["defense"]: c["verdict"] for c in results["cases"] if c["budget"] == 4000}
    # Defences beside the first two halve the gain; the identity control is the undefended arm
    # again.
    assert words[IDENTITY] == "" and words["release/truncate"] in ("inconclusive", "effective")
    assert "naive-only: 0 adaptive attacks of 2" in case(results, "release/truncate")["remarks"]


def test_rows_follow_from_the_grades(results, made):
    rows = {(r["task"], r["budget"], r["attacker"], r["defense"]): r for r in results["rows"]}
    exams = grades_file.read(made[0])[grades.Key("trace", "release/truncate", "sft", 500, "report")]
    row = rows["trace", 500, "sft", "release/truncate"]
    assert (
        row["defended"] == pytest.approx(exams.right_SN.mean())
        and row["seeds"] == row["planned"] == 5
    )
    assert rows["trace", 500, "sft", "none"]["transfer"] == pytest.approx(1.0)
    assert row["floor_arm"].startswith("floor/") and row["components"]["smallest_change"] > 0
    assert set(row["fidelity"]) >= {
        "agreement",
        "error_consistency",
        "brier",
        "nll",
        "bits_per_byte",
    }
    assert rows["trace", 500, "floor/own_data", "none"]["verdict"] is None


def test_query_curves_have_multipliers_and_bills(results):
    curve = next(
        c
        for c in results["curves"]
        if (c["task"], c["attacker"], c["defense"]) == ("trace", "sft", IDENTITY)
    )
    middle = curve["multipliers"][1]
    assert middle["lo"] <= 1 <= middle["hi"] and curve["below_minimum"]
    halved = next(
        c for c in results["curves"] if (c["attacker"], c["defense"]) == ("sft", "release/truncate")
    )
    assert halved["multipliers"][2]["sign"] == ">" and halved["area_between"]["lo"] > 0
    assert (
        halved["bill"]["defended"]["dollars"]["median"]
        >= halved["bill"]["undefended"]["dollars"]["median"]
    )


def test_the_frontier_names_what_is_best_and_what_is_dominated(results):
    row = results["frontier"][0]
    assert (
        row["volume"] is not None
        and row["volume"]["lo"] <= row["volume"]["value"] <= row["volume"]["hi"]
    )
    assert set(row["best_at_points"]) == {"0.5", "1", "2", "5"}


def test_teachers_are_told_by_their_text(study, made):
    there = grades_file.read(made[0])
    key = grades.Key("trace", "release/truncate", "", 0, "report")
    exams = tuple(
        exam._replace(
            texts=tuple("#" * 40 for _ in exam.texts),
            nats_N=np.full(len(exam.texts), 41 * np.log(7)),
        )
        for exam in there[key].exams
    )
    results = jsonable(
        summary.measure(study, there | {key: there[key]._replace(exams=exams)}, made[1])
    )
    rows = {row["defense"]: row for row in results["teachers"] if row["task"] == "trace"}
    broken, clean, other = rows["release/truncate"], rows["none"], rows["release/answer_only"]
    assert (broken["longest_repeat"], broken["distinct_4"]) == (39, pytest.approx(1 / 37))
    assert (
        broken["perplexity"] == pytest.approx(7.0)
        and broken["perplexity_clean"] == clean["perplexity"] < 1.1
    )
    assert (
        broken["detectability"] == 1.0
        and 0.9 < broken["detectability_lo"] < broken["detectability_hi"] == 1.0
    )
    # "because of 1 # 1": simulated answers differ by their numbers alone, whatever the defence.
    assert (
        other["detectability_lo"] <= 0.5 <= other["detectability_hi"] and other["distinct_4"] == 1.0
    )
    assert clean["detectability"] is None and clean["longest_repeat"] < 4


def test_what_a_file_of_grades_lacks_is_named(made):
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pq.read_table(pa.BufferReader(made[0])).drop_columns("nats"), sink)
    with pytest.raises(BadInput, match="grades: no column nats; another version wrote them"):
        grades_file.read(sink.getvalue().to_pybytes())


def test_equal_budgets_are_equal_spending_here(results):
    row = case(results, "release/truncate")
    assert row["sensitivity"]["compute_matched"] == pytest.approx(row["transfer"])
    low, high = row["sensitivity"]["drop_one_seed"]
    assert low <= row["transfer"] <= high


def test_order_of_the_file_changes_nothing(study, made, results):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(pa.BufferReader(made[0]))
    starts = range(0, len(table), 200)
    shuffled = pa.concat_tables(
        [table.slice(i, 200) for i in np.random.default_rng(0).permutation(list(starts))]
    )
    sink = pa.BufferOutputStream()
    pq.write_table(shuffled, sink)
    again = summary.measure(study, grades_file.read(sink.getvalue().to_pybytes()), made[1])
    by_arm = operator.itemgetter("task", "budget", "attacker", "defense")
    rows = sorted(jsonable(again.rows), key=by_arm)
    for a, b in zip(sorted(results["rows"], key=by_arm), rows, strict=True):
        assert all(a[name] == b[name] for name in ("transfer", "defended", "fidelity"))


@pytest.mark.parametrize("lost", ["floor/untrained", "floor/own_data"])
def test_without_the_first_two_floors_nothing_is_computed(study, made, lost):
    there = {key: exams for key, exams in grades_file.read(made[0]).items() if key.attacker != lost}
    with pytest.raises(NotMeasurable, match="F0 and F1 must be there"):
        summary.measure(study, there, made[1])


def test_other_items_in_one_arm_are_refused(study, made):
    there = grades_file.read(made[0])
    key = grades.Key("trace", "none", "sft", 500, "report")
    exams = tuple(exam._replace(items=("other", *exam.items[1:])) for exam in there[key].exams)
    with pytest.raises(NotMeasurable, match="not scored on the items of the other exams"):
        summary.measure(study, there | {key: there[key]._replace(exams=exams)}, made[1])


def test_it_is_json_page_table_and_card(study, made):
    results = measures(study, made)
    json.dumps(jsonable(results), allow_nan=False)
    shown = exhibits(grades_file.read(made[0]), ["a note"], "0" * 64)
    text = html.render(results, html.plots(results), shown, "")
    assert "detectability (AUC)" in text and "perplexity a byte" in text
    assert (
        text.count("<svg") == 3
        and "Capability against exchanges" in text
        and "How closely students copy" in text
    )
    assert terminal.table(results.rows, "x").columns[0].header == "budget"
    sha = "0" * 64
    machine = Machine(python="", platform="", cores=1, device="", cpu_capability="", threads=1)
    manifest = Manifest.model_construct(
        stages=[],
        config_sha256=sha,
        fingerprint=sha,
        code=Code(sources_sha256=sha, revision=None),
        versions={},
        machine=machine,
        old=[],
    )
    seal = Seal(sha256=sha, scored_before=0, of=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(card, "arm_seconds", lambda *_: defaultdict(lambda: card.Seconds(1.0, 1.0)))
        patch.setattr(card, "answer_ms", lambda *_: defaultdict(lambda: 1.0))
        planned = SimpleNamespace(study=study)
        fields = card.card(planned, results, manifest, seal, ["theta: 1 was, 2 is"])
    open_end = BillResult(median=None, lo=1.0, hi=None)  # no curve gets to half of it
    half = HalfBill(accounts=open_end, dollars=open_end, lower_bound=True)
    endless = [
        curve.model_copy(update={"bill": CurveBill(undefended=half, defended=half)})
        for curve in fields.curves
        if curve.bill
    ]
    text = card_page.markdown(fields.model_copy(update={"curves": endless}))
    assert "undefended at least ∞, $∞; defended at least ∞, $∞" in text
    text = card_page.markdown(fields)
    assert (
        "theta: 1 was, 2 is" in text
        and "| trace | 4000 | release/truncate |" in text
        and "Query cost" in text
    )
    paid = text[text.index("What the honest user pays") : text.index("Milliseconds")].splitlines()
    assert (
        len({line.count(" | ") for line in paid if line.startswith("| ")}) == 1
        and paid[3].count("---") == 20
    )


MANY = [
    IDENTITY,
    "release/noise(sigma=2.0) + release/top_k",
    "decoding/temperature + release/noise",
]
MANY += [
    f"{name}({setting}={value})"
    for name, setting, values in (
        ("release/noise", "sigma", (0.5, 2.0)),
        ("decoding/perturbed", "eps", (0.02, 0.1)),
        ("decoding/temperature", "temperature", (0.9, 1.2, 1.5)),
    )
    for value in values
]


def many(defenses, transfer=1.0):
    """Measures of which only what the frontier draws is there."""
    cases = [
        CaseResult.model_construct(
            task=task,
            budget=800,
            defense=defense,
            family=family(defense),
            transfer=transfer,
            lcb=0.9,
            hi=None,
            utility=Utility.model_construct(change=0.0),
        )
        for task in ("trace", "addition")
        for defense in defenses
    ]
    return Measures.model_construct(cases=cases, rows=[])


def test_strengths_of_a_defence_are_one_entry_and_families_stand_together():
    entries = frontier_plot.entries(many(MANY).cases)
    assert [(one.name, one.family) for one in entries] == [
        ("decoding/perturbed", "decoding"),
        ("decoding/temperature", "decoding"),
        ("release/noise + release/top_k", "release, logprobs"),
        ("release/noise", "release, logprobs"),
        ("decoding/temperature + release/noise", "several"),
        (IDENTITY, "controls"),
    ]
    temperature, control = entries[1], entries[5]
    assert str(temperature) == "temperature: temperature=0.9 → 1.2 → 1.5"
    assert [temperature.filled(defense) for defense in temperature.strengths] == [0.0, 0.5, 1.0]
    assert str(control) == IDENTITY and control.filled(IDENTITY) == 1.0
    assert family("release/truncate") == "release, text"


def test_a_crowded_frontier_is_numbered_and_no_point_hides_another(monkeypatch):
    monkeypatch.setattr(plots, "MOST_NAMED", 5)
    figure = plots.frontier(many(MANY))
    labels = {text.get_text() for text in figure.texts}
    assert {"decoding", "release, logprobs", "several", "controls"} <= labels
    assert any(text.strip() == "1  perturbed: eps=0.02 → 0.1" for text in labels)
    assert [axes.get_title() for axes in figure.axes] == ["trace", "addition"]
    for axes in figure.axes:
        # All have the same loss and transfer.
        assert sorted(text.get_text() for text in axes.texts) == sorted("112223445" + "6")
        dots = axes.transData.transform([text.xy for text in axes.texts]) / figure.dpi
        apart = np.hypot(*(dots[:, None] - dots).T) + 9 * np.eye(len(dots))
        assert apart.min() >= frontier_plot.DOT - 1e-6 and np.ptp(dots[:, 1]) < 1e-9
        assert np.ptp(dots[:, 0]) < 1.1 * frontier_plot.DOT * len(dots)
    with plots.as_everywhere():
        again = [plots.svg(plots.frontier(many(MANY))) for _ in range(2)]
    assert again[0] == again[1]


def test_a_crowd_of_which_nothing_is_measured_has_empty_panels(monkeypatch):
    monkeypatch.setattr(plots, "MOST_NAMED", 5)
    figure = plots.frontier(many(MANY, transfer=None))
    assert [len(axes.texts) for axes in figure.axes] == [0, 0]


class TestFaults:
    """What makes a case invalid, by attack: a passive student and one that adapts, under a defence
    of text.
    """

    @staticmethod
    def faults(digest, unparsed):
        """Of `sft` and of a vote: digests of their answers (those of the undefended are `u`), and
        shares unparsed.
        """
        attackers = ("sft", "ask/repeats(k=4) + clean/vote + sft")

        def exams_of(digest, unparsed):
            return SimpleNamespace(
                digest_of=lambda _: digest,
                unparsed=unparsed,
                right_SN=np.full((5, 50), 0.5),
                seeds=(0,),
            )

        keys = [Key("t", "release/reformulate(share=1.0)", one, 9, "report") for one in attackers]
        graded = [exams_of(d, u) for d, u in zip(digest, unparsed, strict=True)]
        there = dict(zip(keys, graded, strict=True)) | {
            key._replace(defense="none"): exams_of("u", 0.0) for key in keys
        }
        half = Arm(np.full((5, 50), 0.5), tuple(range(5)))
        table = SimpleNamespace(
            exams=there.get,
            report=there,
            students={},
            finished=lambda _: [],
            alpha=0.05,
            floor_key=lambda *_: None,
            clusters=lambda _: None,
            scores=lambda _: half,
            study=SimpleNamespace(seeds=[0]),
        )
        return [flagging.attack_faults(table, key).reasons for key in keys]

    def test_an_attack_that_undoes_a_defence_is_no_alias_and_a_passive_student_is(self):
        passive, adaptive = self.faults(("u", "u"), (0.0, 0.0))
        assert "arms are aliases: every answer equals those under none" in passive and not adaptive

    def test_a_fault_of_an_attack_that_is_not_the_worst(self):
        """It matters as long as the attack could have recovered more than the worst one surely
        does.
        """
        faults = self.faults(("a", "b"), (0.3, 0.0))
        assert "unparsed answers differ" in faults[0][0] and not faults[1]
        assert verdicts.invalid_reasons(faults, 1, 0.85, 0.8) == []
        assert (
            verdicts.invalid_reasons(faults, 1, 0.75, 0.8)
            == verdicts.invalid_reasons(faults, 1, None, 0.8)
            == faults[0]
        )
        assert verdicts.invalid_reasons(faults, 0, 0.85, 0.8) == faults[0], (
            "the worst attack itself must be sound"
        )


def test_plots_are_the_same_whatever_a_user_set_for_plots_of_their_own(monkeypatch):
    import matplotlib

    def drawn():
        with plots.as_everywhere():
            return plots.svg(frontier_plot.draw(plots.figure(11, 4.2), many(MANY).cases))

    before = drawn()
    monkeypatch.setenv("MPLBACKEND", "nonsense")
    with matplotlib.rc_context({"axes.facecolor": "red", "font.size": 30, "svg.fonttype": "none"}):
        assert drawn() == before
        assert matplotlib.rcParams["font.size"] == 30
    assert os.environ["MPLBACKEND"] == "nonsense"
