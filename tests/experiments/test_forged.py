"""Nothing forged passes: each lie is told as carefully as can be, with all that follows from it
made to fit.
"""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from distill.completions import digest
from experiments import preregistration
from experiments.planning import plan as planning
from experiments.report import card
from experiments.results.schema.card import Card
from experiments.review import drawn, form
from experiments.review.verify import verify
from experiments.settings import schema
from experiments.store import Store
from tests.experiments import large
from tests.experiments.forger import dump, edit, load, recard, reseal, rewrite, table
from tests.experiments.small import STUDY, last

DEFENDED = ("release/answer_only", "sft")


def failed(home, store=None):
    return {check.claim: check.got for check in verify(home, store) if check.word == "FAIL"}


def replaced(home, name, old, new):
    text = (home / name).read_bytes()
    assert old in text, "the forgery must change something"
    (home / name).write_bytes(text.replace(old, new))


def sealed(home):
    """The seal and the card are made to fit another frozen analysis."""
    text = (home / "analysis.yaml").read_bytes()
    edit(home, "analysis.json", lambda seal: seal | {"sha256": digest(text)})
    recard(home)


def analysed(home, change):
    """The frozen analysis, its seal and all that follows are made to fit a change of it."""
    frozen = yaml.safe_load((home / "analysis.yaml").read_bytes())
    change(frozen)
    (home / "analysis.yaml").write_bytes(preregistration.spelled(frozen))
    sealed(home)


# What is read


def a_report_of_other_words(home):
    replaced(home, "report.html", b"not measurable", b"effective")
    reseal(home)


def a_plot_in_the_report(home):
    replaced(home, "report.html", b"<svg", b'<svg data-a="1"')
    reseal(home)


def another_plot(home):
    replaced(home, "transfer.svg", b"L ", b"L 1")
    reseal(home)


def words_behind_a_plot(home):
    (home / "transfer.svg").write_bytes(
        (home / "transfer.svg").read_bytes() + b"<h1>effective</h1>"
    )
    reseal(home)


def a_style_before_a_plot(home):
    style = b'<?xml-stylesheet href="//elsewhere/x.css"?>'
    (home / "transfer.svg").write_bytes(style + (home / "transfer.svg").read_bytes())
    reseal(home)


def a_plot_of_another_library_that_hides_the_page(home):
    replaced(home, "report.html", b"<defs>", b"<defs><style>body{display:none}</style>")
    replaced(home, "manifest.json", b"matplotlib==", b"matplotlib==0.")
    recard(home)


def a_card_of_other_words(home):
    (home / "card.md").write_text("# All defences are effective\n")
    reseal(home)


def a_line_below_the_card(home):
    (home / "card.md").write_text((home / "card.md").read_text() + "All of it was reviewed.\n")
    reseal(home)


def a_card_without_costs(home):
    edit(home, "card.json", lambda held: held | {"utility": [], "budget": []})
    reseal(home)


def a_card_with_other_times(home):
    edit(home, "card.json", lambda held: held["budget"][0].update(wall_seconds=0.0))
    (home / "card.md").write_text(card.markdown(Card.model_validate(load(home, "card.json"))))
    reseal(home)


def a_card_of_another_run(home):
    edit(home, "card.json", lambda held: held["identity"].update(fingerprint="0" * 64))
    (home / "card.md").write_text(card.markdown(Card.model_validate(load(home, "card.json"))))
    reseal(home)


def a_flag_less(home):
    def quiet(measures):
        assert measures["flags"], "there must be a flag to hide"
        measures["flags"] = measures["flags"][1:]

    edit(home, "measures.json", quiet)
    recard(home)


# The files


def no_digests(home):
    edit(home, "manifest.json", lambda held: held | {"files": {}})
    (home / "report.html").write_text("effective")


def a_digest_less(home):
    edit(home, "manifest.json", lambda held: held["files"].pop("report.html") and None)
    (home / "report.html").write_text("effective")


def a_file_more(home):
    (home / "appendix.html").write_text("effective")


def a_file_less(home):
    (home / "transfer.svg").unlink()
    edit(home, "manifest.json", lambda held: held["files"].pop("transfer.svg") and None)


def a_file_of_the_machine(home):
    edit(home, "manifest.json", lambda held: held["files"].update({"/etc/passwd": "0" * 64}))


def a_link(home):
    (home / "card.md").rename(home.parent / "card.md")
    (home / "card.md").symlink_to(home.parent / "card.md")


# What was measured


def better_outcomes(home):
    table(home, "outcome", lambda row: "right" if row["attacker"] == "sft" else row["outcome"])
    rewrite(home)


def other_final_answers(home):
    table(home, "final", lambda row: "7")
    rewrite(home)


def other_questions(home):
    table(home, "prompt", lambda row: row["prompt"] + " ")
    rewrite(home)


def reordered(home, order):
    """The rows of the grades, as `order` sorts them."""
    grades = pq.read_table(home / "grades.parquet")
    rows = sorted(range(len(grades)), key=lambda i: order(grades.slice(i, 1).to_pylist()[0]))
    pq.write_table(grades.take(rows), home / "grades.parquet")
    rewrite(home)


def exams_in_another_order(home):
    reordered(home, lambda row: row["attacker"] == DEFENDED[1])


def seeds_that_changed_places(home):
    table(
        home,
        "seed",
        lambda row: 1 - row["seed"] if row["seed"] in (0, 1) and row["attacker"] else row["seed"],
    )
    rewrite(home)


def questions_in_another_order(home):
    grades = pq.read_table(home / "grades.parquet")
    pq.write_table(
        grades.take([*range(len(grades) - 10), *range(len(grades) - 1, len(grades) - 11, -1)]),
        home / "grades.parquet",
    )
    rewrite(home)


def rows_twice(home):
    grades = pq.read_table(home / "grades.parquet")
    pq.write_table(pa.concat_tables([grades, grades]), home / "grades.parquet")
    rewrite(home)


def words_in_the_grades(home):
    grades = pq.read_table(home / "grades.parquet")
    pq.write_table(grades.replace_schema_metadata({"note": "effective"}), home / "grades.parquet")
    reseal(home)
    recard(home)


def answers_below_nothing(home):
    table(home, "tokens", lambda row: -5)
    rewrite(home)


def a_change_beyond_all(home):
    table(home, "l1", lambda row: 2.1)
    rewrite(home)


def a_seed_less(home):
    grades = pq.read_table(home / "grades.parquet")
    gone = pc.and_(pc.equal(grades["seed"], 1), pc.equal(grades["defense"], DEFENDED[0]))
    pq.write_table(grades.filter(pc.invert(gone)), home / "grades.parquet")
    rewrite(home)


def a_seed_more(home):
    table(
        home,
        "seed",
        lambda row: (
            7 if (row["defense"], row["attacker"], row["seed"]) == (*DEFENDED, 1) else row["seed"]
        ),
    )
    edit(
        home,
        "arms.json",
        lambda arms: [
            arm | {"seed": 7}
            if (arm["defense"], arm["attacker"], arm["seed"]) == (*DEFENDED, 1)
            else arm
            for arm in arms
        ],
    )
    rewrite(home)


def an_arm_called_unfinished(home):
    edit(
        home,
        "arms.json",
        lambda arms: [
            {name: arm[name] for name in list(arm)[:6]} | {"finished": False}
            if arm["defense"] == DEFENDED[0]
            else arm
            for arm in arms
        ],
    )
    reseal(home)


def a_number_in_the_measures(home):
    edit(home, "measures.json", lambda held: held["rows"][0].update(defended=0.123))
    dump(home, "results.json", load(home, "measures.json")["rows"])
    recard(home)


def a_word_in_the_results(home):
    edit(home, "results.json", lambda rows: rows[0].update(verdict="effective"))
    reseal(home)


def a_yes_for_a_one(home):
    edit(home, "measures.json", lambda held: held["rows"][0].update(defended_hi=True))
    dump(home, "results.json", load(home, "measures.json")["rows"])
    reseal(home)


def a_whole_number_for_a_real_one(home):
    replaced(home, "card.json", b": 0.0,", b": 0,")
    reseal(home)


def a_null_less(home):
    def dropped(measures):
        name = next(name for name, value in measures["rows"][0].items() if value is None)
        del measures["rows"][0][name]

    edit(home, "measures.json", dropped)
    dump(home, "results.json", load(home, "measures.json")["rows"])
    reseal(home)


def another_learning_rate(home):
    edit(home, "arms.json", lambda arms: [arm | {"learning_rate": 7.0} for arm in arms])
    rewrite(home)


def a_cost_that_is_no_number(home):
    table(home, "kl", lambda row: float("nan"))
    rewrite(home)


def a_clean_teacher_that_was_moved(home):
    table(home, "l1", lambda row: row["l1"] if row["attacker"] or row["defense"] != "none" else 0.5)
    rewrite(home)


def a_student_without_probabilities(home):
    table(home, "nats", lambda row: None)
    rewrite(home)


def answers_that_took_no_pass(home):
    table(home, "passes", lambda row: 0.0)
    table(home, "tokens", lambda row: 5)
    rewrite(home)


def bytes_between_the_grades(home):
    data = (home / "grades.parquet").read_bytes()
    end = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    (home / "grades.parquet").write_bytes(data[:end] + b"effective" + data[end:])
    reseal(home)
    recard(home)


def a_search_that_was_not_planned(home):
    edit(home, "arms.json", lambda arms: [arm | {"trials": 9} for arm in arms])
    rewrite(home)


def a_defence_that_was_not_prepared(home):
    made = {"matched": None, "numbers": {"trust": 1.0}}
    edit(home, "arms.json", lambda arms: [arm | {"prepared": made} for arm in arms])
    rewrite(home)


def words_between_the_values(home):
    (home / "arms.json").write_text((home / "arms.json").read_text() + " " * 80)
    reseal(home)
    recard(home)


def a_name_twice(home):
    replaced(home, "card.json", b'{\n "identity"', b'{\n "results": "effective",\n "identity"')
    reseal(home)


# Where it is from


def scored_before(home):
    edit(home, "analysis.json", lambda seal: seal | {"scored_before": 999})
    recard(home)


def fewer_exams_in_the_seal(home):
    edit(home, "analysis.json", lambda seal: seal | {"of": 1, "scored_before": 0})
    recard(home)


def another_analysis(home):
    replaced(home, "analysis.yaml", b"theta: 0.5", b"theta: 0.9")
    shown = load(home, "card.json")["preregistration"]["deviations"]
    sealed(home)
    edit(home, "card.json", lambda held: held["preregistration"].update(deviations=shown))
    (home / "card.md").write_text(card.markdown(Card.model_validate(load(home, "card.json"))))
    reseal(home)


def a_remark_in_the_analysis(home):
    replaced(home, "analysis.yaml", b"study:", b"# only a draft\nstudy:")
    sealed(home)


def a_name_without_a_value_in_the_analysis(home):
    analysed(home, lambda frozen: frozen.update({"all defences are effective": None}))


def a_name_without_a_value_beside_a_deviation(home):
    analysed(home, lambda frozen: frozen.update({"question": "?", "approved": None}))


def an_analysis_in_another_order(home):
    analysed(home, lambda frozen: frozen.update(question=frozen.pop("question")))


def settings_in_another_order(home):
    config = load(home, "config.json")
    (home / "config.json").write_text(json.dumps(dict(reversed(config.items())), indent=2))
    reseal(home)
    recard(home)


def settings_spelled_otherwise(home):
    replaced(home, "config.json", b"addition", b"\\u0061ddition")
    reseal(home)
    recard(home)


def a_version_that_is_a_fraction(home):
    edit(home, "manifest.json", lambda held: held.update(schema=float(held["schema"])))


def another_setting(home):
    edit(home, "config.json", lambda study: study["student"].update(learning_rate=0.5))
    reseal(home)
    text = preregistration.spelled(preregistration.analysis(planning.make(form.study_of(home), {})))
    (home / "analysis.yaml").write_bytes(text)
    edit(home, "analysis.json", lambda seal: seal | {"sha256": digest(text)})
    edit(home, "card.json", lambda held: held["preregistration"].update(sha256=digest(text)))
    (home / "card.md").write_text(card.markdown(Card.model_validate(load(home, "card.json"))))
    reseal(home)


def a_setting_of_another_kind(home):
    edit(home, "config.json", lambda study: study | {"seeds": ["0", "1"]})
    reseal(home)


def other_versions(home):
    edit(home, "manifest.json", lambda held: held["versions"].update(torch="9.9"))
    recard(home)


def other_threads(home):
    edit(home, "manifest.json", lambda held: held["machine"].update(threads=8))
    recard(home)


def a_package_twice(home):
    edit(home, "manifest.json", lambda held: held["lock"].insert(0, "torch==1.0"))
    reseal(home)


def inputs_that_are_not_named(home):
    def blank(manifest):
        for stage in manifest["stages"]:
            stage["inputs"] = dict.fromkeys(stage["inputs"], "")

    edit(home, "manifest.json", blank)
    recard(home)


def a_plugin_that_was_not_used(home):
    edit(home, "manifest.json", lambda held: held | {"plugins": {"defense/ours": "0" * 64}})
    recard(home)


def plugins_left_out(home):
    edit(home, "manifest.json", lambda held: held.__delitem__("plugins"))


def a_revision_in_words(home):
    edit(home, "manifest.json", lambda held: held["code"].update(revision="reviewed"))
    reseal(home)


def another_fingerprint(home):
    edit(home, "manifest.json", lambda held: held | {"fingerprint": "0" * 64})


def another_teacher(home):
    edit(
        home,
        "manifest.json",
        lambda held: held["stages"][0]["files"].update({"model.safetensors": "0" * 64}),
    )
    reseal(home)
    recard(home)


def other_settings_of_a_stage(home):
    edit(home, "manifest.json", lambda held: held["stages"][0]["settings"].update(items=10_000))
    reseal(home)


def a_stage_called_missing(home):
    def moved(manifest):
        manifest["missing"].append(manifest["stages"].pop()["key"])

    edit(home, "manifest.json", moved)
    reseal(home)


def other_seeds(home):
    edit(home, "manifest.json", lambda held: held["seeds"].update(selection=[1, 2, 3]))
    reseal(home)


# What nothing follows from: each guard has its cases in test_forged_numbers.py.


def statistics_of_other_values(home):
    """In the record behind the columns, which some readers go by."""
    data = (home / "grades.parquet").read_bytes()
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    changed = data[:start] + data[start:].replace(b"wrong", b"right")
    (home / "grades.parquet").write_bytes(changed)
    reseal(home)
    recard(home)


def texts_of_no_token(home):
    table(home, "tokens", lambda row: 0)
    rewrite(home)


def more_steps_than_planned(home):
    edit(home, "arms.json", lambda arms: [arm | {"steps": 999} for arm in arms])
    rewrite(home)


def a_signature_in_words(home):
    (home / "manifest.json.sig").write_text("All of it was reviewed.\n")


def packages_elsewhere(home):
    (home / "lock.txt").symlink_to("/etc/passwd")


LIES = [
    statistics_of_other_values,
    texts_of_no_token,
    more_steps_than_planned,
    a_signature_in_words,
    packages_elsewhere,
    a_report_of_other_words,
    a_plot_in_the_report,
    another_plot,
    words_behind_a_plot,
    a_style_before_a_plot,
    a_plot_of_another_library_that_hides_the_page,
    a_card_of_other_words,
    a_line_below_the_card,
    a_card_without_costs,
    a_card_with_other_times,
    a_card_of_another_run,
    a_flag_less,
    no_digests,
    a_digest_less,
    a_file_more,
    a_file_less,
    a_file_of_the_machine,
    a_link,
    better_outcomes,
    other_final_answers,
    other_questions,
    exams_in_another_order,
    seeds_that_changed_places,
    questions_in_another_order,
    rows_twice,
    words_in_the_grades,
    answers_below_nothing,
    a_change_beyond_all,
    a_seed_less,
    a_seed_more,
    an_arm_called_unfinished,
    a_number_in_the_measures,
    a_word_in_the_results,
    a_yes_for_a_one,
    a_whole_number_for_a_real_one,
    a_null_less,
    another_learning_rate,
    a_cost_that_is_no_number,
    a_clean_teacher_that_was_moved,
    a_student_without_probabilities,
    answers_that_took_no_pass,
    bytes_between_the_grades,
    a_search_that_was_not_planned,
    a_defence_that_was_not_prepared,
    words_between_the_values,
    a_name_twice,
    scored_before,
    fewer_exams_in_the_seal,
    another_analysis,
    a_name_without_a_value_in_the_analysis,
    a_name_without_a_value_beside_a_deviation,
    an_analysis_in_another_order,
    settings_in_another_order,
    settings_spelled_otherwise,
    a_version_that_is_a_fraction,
    a_remark_in_the_analysis,
    another_setting,
    a_setting_of_another_kind,
    other_versions,
    other_threads,
    a_package_twice,
    inputs_that_are_not_named,
    a_plugin_that_was_not_used,
    plugins_left_out,
    a_revision_in_words,
    another_fingerprint,
    another_teacher,
    other_settings_of_a_stage,
    a_stage_called_missing,
    other_seeds,
]


def test_what_is_honest_passes(small, home):
    assert {check.word for check in verify(small / "quickstart", Store(small / "store"))} == {
        "PASS"
    }
    assert {check.word for check in verify(home, None)} == {"PASS"}


def test_a_forger_who_changes_nothing_passes(home):
    before = {path.name: path.read_bytes() for path in home.iterdir()}
    rewrite(home)
    assert {path.name: path.read_bytes() for path in home.iterdir()} == before


def test_the_page_counts_them():
    page = Path(__file__).parents[2] / "docs" / "robustness.md"
    assert f"| {len(LIES)}, and 4 that only a store can tell;" in page.read_text()


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_no_lie_passes(home, lie):
    lie(home)
    assert failed(home)


# What is asked of each other: the students that trained for longer are of the worst attack.


@pytest.fixture(scope="module")
def longer(tmp_path_factory):
    """A run of made-up answers with two attacks, of which one is trained for longer."""
    more = ["measure.plateau=true", "attacker=[sft,best_of]", "seeds=[0]", "baseline_seeds=1"]
    folder = tmp_path_factory.mktemp("longer")
    large.write(planning.make(schema.load("quickstart", last(*STUDY, *more))), folder)
    return folder


def other_attack(row):
    names = {"sft": "best_of", "best_of": "sft"}
    return names[row["attacker"]] if row["split"] == "plateau" else row["attacker"]


def trained_for_longer(home):
    table(home, "attacker", other_attack)


def not_trained_for_longer(home):
    grades = pq.read_table(home / "grades.parquet")
    pq.write_table(grades.filter(pc.not_equal(grades["split"], "plateau")), home / "grades.parquet")


@pytest.mark.parametrize(
    ("lie", "got"),
    [
        (trained_for_longer, "2 missing"),
        (not_trained_for_longer, "2 missing"),
        (lambda home: None, None),
    ],
)
def test_the_worst_attack_is_trained_for_longer(longer, tmp_path, lie, got):
    home = Path(shutil.copytree(longer, tmp_path / "quickstart"))
    lie(home)
    rewrite(home)
    wrong = failed(home)
    assert (got in wrong["every planned student was graded"]) if got else not wrong


# Plots that another library drew: they cannot be compared, and may hold shapes alone.


@pytest.mark.parametrize(
    "part",
    [
        "<script>alert(1)</script>",
        "words",
        "<text>effective</text>",
        "<image href='//elsewhere/x.png'/>",
        "<style>body{display:none}</style>",
        "<path style='fill: url(//elsewhere/x)'/>",
        "<path style='position: fixed'/>",
        "<g onload='x'/>",
        "<g clip-path='url(//elsewhere/x)'/>",
        "<use xmlns:x='http://www.w3.org/1999/xlink' x:href='//elsewhere/x'/>",
        "<foreignObject/>",
        "<a xmlns='http://www.w3.org/1999/xhtml'/>",
        "<!-- ",
        "<g>",
    ],
)
def test_a_plot_holds_shapes_alone(home, part):
    (plot,) = drawn.PLOT.findall((home / "transfer.svg").read_bytes())
    assert drawn.is_plot(plot)
    assert not drawn.is_plot(plot.replace(b"</svg>", part.encode() + b"</svg>"))
    assert not drawn.is_plot(plot.replace(b"<svg ", b"<svg style='position: fixed' ", 1))


# What made the results: modules that are not named are other code.


def with_makers(manifest, change):
    """A manifest with other makers, each of them once."""
    makers = [change(maker) for maker in manifest["made_by"]]
    different = [maker for place, maker in enumerate(makers) if maker not in makers[:place]]
    for stage in manifest["stages"]:
        stage["made_by"] = different.index(makers[stage["made_by"]])
    return manifest | {"made_by": different}


@pytest.mark.parametrize(
    ("made", "got"),
    [
        ({"code": {}}, " more changed"),
        ({"libraries": {}}, "torch None -> "),
        ({"version": 99}, "version 99 of a stage -> "),
    ],
    ids=lambda one: str(one)[:30],
)
def test_a_maker_that_says_less_is_not_what_is_installed_here(home, made, got):
    edit(home, "manifest.json", lambda held: with_makers(held, lambda maker: maker | made))
    reseal(home)
    recard(home)
    checks = {check.claim: check for check in verify(home, None)}
    assert checks["that code is installed here"].word == "INCONCLUSIVE"
    assert got in checks["that code is installed here"].got


# What only the store can tell: grades that somebody typed in are consistent with themselves.


def typed_in_answers(home):
    table(home, "text", lambda row: "?" if row["attacker"] == "sft" else row["text"])
    table(home, "final", lambda row: None if row["attacker"] == "sft" else row["final"])
    table(home, "outcome", lambda row: "unparsed" if row["attacker"] == "sft" else row["outcome"])
    table(home, "tokens", lambda row: row["tokens"] or int(bool(row["text"])))
    rewrite(home)


def better_training(home):
    edit(home, "arms.json", lambda arms: [arm | {"leaked": 3} for arm in arms])
    rewrite(home)


def another_exam(home):
    def changed(manifest):
        last = next(stage for stage in manifest["stages"][::-1] if stage["kind"] == "evaluation")
        last["files"]["grades.parquet"] = "0" * 64

    edit(home, "manifest.json", changed)
    rewrite(home)


def faster_stages(home):
    edit(
        home,
        "manifest.json",
        lambda held: (
            [
                stage.update(dict.fromkeys({"seconds", "answer_seconds"} & stage.keys(), 1e-3))
                for stage in held["stages"]
            ]
            and None
        ),
    )
    recard(home)


@pytest.mark.parametrize(
    "lie",
    [typed_in_answers, better_training, another_exam, faster_stages],
    ids=lambda lie: lie.__name__,
)
def test_a_store_beside_tells_what_grades_alone_cannot(small, home, lie):
    lie(home)
    assert not failed(home), "careful enough for whoever has no store"
    assert failed(home, Store(small / "store"))


@pytest.mark.parametrize("what", ["seconds", "inputs", "files", "json"])
def test_a_damaged_record_in_the_store_is_named(small, tmp_path, what):
    runs = Path(shutil.copytree(small, tmp_path / "runs"))
    done = next((runs / "store" / "student").glob("*/done.json"))
    data = json.loads(done.read_text())
    spoilt = {
        "seconds": data | {"seconds": 0.5},
        "inputs": data | {"inputs": dict.fromkeys(data["inputs"], "0" * 16)},
        "files": data | {"files": {}},
    }
    done.write_text(json.dumps(spoilt[what]) if what in spoilt else done.read_text()[:-9])
    claims = failed(runs / "quickstart", Store(runs / "store"))
    assert done.parent.name in claims["the store names the same code and inputs"]
