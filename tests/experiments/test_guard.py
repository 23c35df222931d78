"""Defences in a study: lists, what they must be handed, strength matched to its cost, and what is
refused.
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.completions import BadInput
from experiments import cli
from experiments.planning import plan
from experiments.seeds import seed_for
from experiments.settings import catalog, component_docs, schema
from experiments.settings.defenses import parse_defense
from experiments.stages.defense import strength_at
from experiments.stages.grades import read_grades
from experiments.store import Store
from tests.experiments.small import STUDY, last

ROOT = Path(__file__).parents[2]
PAIR = "decoding/temperature(temperature=0.5) + release/truncate(keep=0.25)"


class TestEntries:
    def test_a_list_is_a_defence(self):
        defense = parse_defense(PAIR)
        assert [(p.name, p.spec.settings) for p in defense.parts] == [
            ("decoding/temperature", {"temperature": 0.5, "top_p": None}),
            ("release/truncate", {"keep": 0.25}),
        ]
        assert defense.chain.traits.acts_on == "text" and defense.match is None

    def test_a_list_in_yaml_and_one_on_the_command_line_are_the_same(self):
        raw = {
            "tasks": ["trace"],
            "defenses": [["none", "release/top_k"]],
            "attackers": ["sft"],
            "budgets": [1],
        }
        assert schema.Block(**raw).defenses == ["none + release/top_k"]
        words = [*STUDY, f"defense=[none,{PAIR}]"]
        assert schema.load("quickstart", words).blocks[0].defenses == ["none", PAIR]

    @pytest.mark.parametrize(
        ("entry", "line"),
        [
            (
                "release/answer_only + decoding/perturbed",
                "decoding/perturbed cannot act after release/answer_only",
            ),
            (
                "release/answer_onyl + none",
                "no 'release/answer_onyl'; did you mean 'release/answer_only'",
            ),
            ("release/rounding(match_utility=2)", "release/rounding changes no text"),
            (
                "release/answer_only(match_utility=2)",
                "release/answer_only has no one setting that is its strength",
            ),
            (
                "release/truncate(match_utility=2)",
                "release/truncate keeps the final answers as they are",
            ),
            (
                "decoding/lossless(match_utility=2)",
                "decoding/lossless keeps the final answers as they are",
            ),
            (
                "decoding/perturbed(match_utility=true)",
                "match_utility: points: must be a number",
            ),
            (
                "decoding/perturbed(match_utility=null)",
                "match_utility: points: must be a number",
            ),
            (
                "decoding/perturbed(match_utilty=2)",
                "unknown key 'match_utilty'; did you mean 'match_utility'",
            ),
            (
                "decoding/perturbed(eps=0.1, eps=0.2)",
                "an entry is a name, or name(key=value, ...) with each key once",
            ),
            (
                "decoding/perturbed(**{'eps': 0.1})",
                "an entry is a name, or name(key=value, ...) with each key once",
            ),
            (
                "decoding/perturbed(eps=0.1)(eps=0.2)",
                "an entry is a name, or name(key=value, ...) with each key once",
            ),
            (
                "decoding/perturbed(eps={[1]: 2})",
                "an entry is a name, or name(key=value, ...) with each key once",
            ),
            (
                "decoding/perturbed(match_utility=0)",
                "match_utility: points: must be above 0",
            ),
            (
                "decoding/perturbed(match_utility=some)",
                "match_utility: points: must be a number",
            ),
            ("decoding/perturbed(key='')", "key: must have 1 letters or more"),
            ("release/poison(key=null)", "key: must be a text"),
            ("decoding/perturbed(eps=1.5)", "eps: must be at most 1"),
            ("decoding/perturbed(epsilon=0.5)", "unknown key 'epsilon'; did you mean 'eps'"),
        ],
    )
    def test_a_mistake_is_one_line(self, entry, line):
        with pytest.raises(BadInput) as error:
            parse_defense(entry)
        assert line in str(error.value) and "\n" not in str(error.value)

    def test_two_parts_cannot_both_be_matched(self):
        with pytest.raises(BadInput, match="match_utility: one part can be matched"):
            parse_defense("decoding/perturbed(match_utility=2) + release/truncate(match_utility=2)")

    def test_lists_and_quotes_are_values(self):
        (part,) = parse_defense("release/obfuscate(rules=[reverse, merge], key='+)')").parts
        settings = part.spec.settings
        assert settings["rules"] == ["reverse", "merge"] and settings["key"] == "+)"
        words = [
            *STUDY,
            "defense=[[decoding/temperature,release/truncate],"
            "release/reformulate(fillers=['a, b'])]",
        ]
        study = schema.load("quickstart", words)
        assert study.blocks[0].defenses == [
            "decoding/temperature + release/truncate",
            "release/reformulate(fillers=['a, b'])",
        ]

    def test_what_is_matched_is_asked_what_it_needs_as_it_will_be(self):
        chain = parse_defense("trained/doge(alpha=0, match_utility=2)").chain
        assert chain.traits.learns and chain.traits.needs == ("proxy", "traces")


class TestNeeds:
    def made(self, *words):
        return plan.make(schema.load("quickstart", [*STUDY, *words]))

    def test_a_proxy_and_traces_are_made_once_and_are_nobody_elses(self):
        made = self.made("defense=[decoding/product_of_experts,decoding/antidistillation]")
        seeds = [stage.settings["seed"] for stage in made.stages if stage.kind == "student"]
        provider = seed_for("provider")
        assert seeds.count(provider) == 1 and max({*seeds} - {provider}) < provider
        traces = [
            stage
            for stage in made.stages
            if stage.kind == "completions" and stage.settings["source"] == "traces"
        ]
        # The proxy learns from one half; what defences learn with the other half, it has never
        # seen.
        assert {stage.settings["skip"] for stage in traces} == {
            0,
            made.study.provider.traces,
        } and len(traces) == 2

    def test_what_is_not_there_is_named_before_anything_runs(self):
        with pytest.raises(
            BadInput, match="decoding/product_of_experts: needs a proxy; set provider.proxy"
        ):
            self.made("defense=decoding/product_of_experts", "provider.proxy=null")

    def test_traces_that_a_task_does_not_have_are_refused(self):
        with pytest.raises(
            BadInput, match="provider.traces: 2000 .* trace has 1926 training questions"
        ):
            self.made("task=trace", "defense=decoding/antidistillation", "provider.traces=2000")

    def test_a_rule_that_changes_no_answer_is_refused_and_one_that_changes_some_is_told(self):
        with pytest.raises(BadInput, match="reformulate: its rule changes none of 20 answers to l"):
            self.made("task=lookup", "defense=release/reformulate")
        made = self.made("defense=release/unicode(rate=0.01)")
        assert any(
            re.fullmatch(r"release/unicode\S+: release/unicode changes \d of 20 answers.*", note)
            for note in made.notes
        )
        rule = self.made("defense=release/reformulate").notes
        assert not any("reformulate" in note for note in rule)

    def test_a_chain_that_cools_to_nothing_does_not_sample(self):
        with pytest.raises(BadInput, match="acts through sampling"):
            self.made("defense=[decoding/temperature(temperature=0) + decoding/lossless]")
        with pytest.raises(BadInput, match="decoding/gradient_redirection: acts through sampling"):
            self.made("defense=decoding/gradient_redirection(form=hidden)")

    def test_what_acts_through_sampling_needs_a_teacher_that_samples(self):
        with pytest.raises(BadInput, match="write 'decoding/temperature \\+ decoding/lossless'"):
            self.made("defense=decoding/lossless")
        self.made("defense=[decoding/temperature + decoding/lossless]")

    def test_a_proxy_with_another_tokenizer_is_refused_before_anything_runs(self):
        with pytest.raises(
            BadInput, match="proxy 'proxy' has another tokenizer than the teacher 'quick'"
        ):
            self.made("defense=decoding/product_of_experts", "provider.proxy.vocabulary=300")


class TestStrength:
    def test_by_hand(self):
        # Loss is 10 x share: 2 points are lost at 0.2; seven halvings come within 1/128 of it.
        share, loss, tried = strength_at(lambda x: 10 * x, 2.0)
        assert abs(share - 0.2) <= 1 / 128 and loss == 10 * share
        assert [x for x, _ in tried[:4]] == [1.0, 0.5, 0.25, 0.125]

    def test_full_strength_where_even_that_costs_less(self):
        assert strength_at(lambda x: 0.5 * x, 2.0) == (1.0, 0.5, [(1.0, 0.5)])

    @given(st.floats(0.1, 5), st.floats(1, 50), st.floats(0.1, 20))
    def test_the_loss_that_is_found_is_as_near_as_the_halvings_allow(self, power, most, points):
        share, loss, tried = strength_at(lambda x: most * x**power, points, 12)
        assert loss == min((lost for _, lost in tried), key=lambda lost: abs(lost - points))
        if most > points:
            wanted = (points / most) ** (1 / power)
            assert abs(share - wanted) <= 2**-12 or abs(loss - points) < 1e-9


def test_a_matched_list_of_defences_runs_and_costs_about_what_it_was_matched_to(tmp_path):
    """On a teacher that has learned something: sums of two digits, all of them right without a
    defence.
    """
    words = [*STUDY, "task=addition(digits=2)", "seeds=[0]", "baseline_seeds=1", "budget=16"]
    words += ["teacher.hidden_size=64", "teacher.num_layers=2", "teacher.steps=250"]
    words += ["teacher.items=3000", "measure.items=50", "measure.selection_items=50"]
    words += ["measure.teacher_seeds=2"]
    words = last(*words, "defense=[decoding/perturbed(match_utility=20) + release/answer_only]")
    assert cli.main(["run", "quickstart", "--runs", str(tmp_path), "--workers", "1", *words]) == 0
    made, store = plan.make(schema.load("quickstart", words)), Store(tmp_path / "store")
    (stage,) = [stage for stage in made.stages if stage.kind == "defense"]
    data = json.loads((store.open("defense", stage.key) / "defense.json").read_text())
    matched = data["matched"]
    assert data["defense"][0]["settings"]["eps"] == matched["value"] > 0
    # What was found is what the defended teacher then does on the questions it was found on.
    clean, guarded = (
        np.mean(
            [
                row.outcome == "right"
                for exam in exams
                for row in read_grades(store.open("evaluation", exam.key))
            ]
        )
        for (_, _, split), exams in made.teachers.items()
        if split == "report"
    )
    assert clean > 0.95 and abs(matched["loss"] - 20) <= 5
    assert 0 < 100 * (clean - guarded) < 40  # other questions: 20 within three standard errors
    rows = json.loads((tmp_path / "quickstart" / "measures.json").read_text())["teachers"]
    (row,) = [row for row in rows if row["defense"] != "none"]
    assert row["matched"] == {name: matched[name] for name in ("knob", "value", "points", "loss")}


def test_the_page_of_defences_is_what_the_code_says():
    page = component_docs.PAGES["defense"]
    assert (ROOT / "docs" / "defenses.md").read_text() == page.markdown()
    assert {name for name, *_ in page.rows()} == set(catalog.names("defense"))
