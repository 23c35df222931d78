"""Attackers in a study: lists of parts, batteries, floors, what an attack may see, and what is
refused.
"""

import json
from pathlib import Path

import pytest

from distill.completions import BadInput
from experiments import tasks
from experiments.launch import one
from experiments.planning import arms, plan
from experiments.settings import attacks, catalog, component_docs, models, schema
from experiments.settings.defenses import parse_defense
from tests.experiments.small import STUDY, run

ROOT = Path(__file__).parents[2]
OWN = [*STUDY, "own=worked", "own.worked=12", "provider.prefill=true"]


def made(*words):
    return plan.make(schema.load("quickstart", [*OWN, *words]))


class TestEntries:
    def test_a_list_is_an_attack(self):
        parts = "ask/repeats(k=2) + clean/vote + sft + follow/expert_iteration"
        attack = attacks.parse_attack(parts)
        kinds = [attacks.kind_of(part.name) for part in attack.parts]
        assert kinds == ["ask", "clean", "learn", "follow"]
        assert attack.adaptive and attack.asks
        assert attack.needs_interface == "text" and "check" in attack.needs
        assert not attacks.parse_attack("sft").adaptive
        assert attacks.parse_attack("repair/relabel + logprob_kd").needs_interface == "top_k"

    @pytest.mark.parametrize(
        ("entry", "line"),
        [
            ("sft + clean/vote", "its parts act in the order ask, clean, repair, learn, follow"),
            ("clean/vote", "exactly one part must be how the student learns"),
            ("sft + logprob_kd", "exactly one part must be how the student learns"),
            ("clean/vtoe + sft", "no 'clean/vtoe'; did you mean 'clean/vote'"),
            ("ask/repeats(k=0) + sft", "k: must be at least 1"),
            ("strongest/vote(k=2)", "a battery's attack stands alone and has no settings"),
            ("strongest/vtoe", "no 'vtoe'; did you mean 'vote'"),
        ],
    )
    def test_a_mistake_is_one_line(self, entry, line):
        with pytest.raises(BadInput) as error:
            attacks.parse_attack(entry)
        assert line in str(error.value) and "\n" not in str(error.value)

    def test_a_battery_is_its_attacks_and_has_no_settings(self):
        battery = attacks.battery("strongest")
        study = schema.load("quickstart", [*OWN, "attacker=[sft,strongest]"])
        assert study.blocks[0].attackers == [
            "sft",
            *(f"strongest/{key}" for key in battery.attacks),
        ]
        assert (
            attacks.parse_attack("strongest/vote").parts
            == attacks.parse_attack(battery.attacks["vote"]).parts
        )
        assert attacks.batteries(study.blocks[0].attackers) == [f"strongest {battery.version}"]
        assert attacks.batteries(["sft"]) == []


class TestPlan:
    def test_plain_students_are_the_same_work_with_or_without_other_attacks(self):
        alone, beside = made("attacker=sft"), made("attacker=[sft,clean/vote + sft]")
        ours = {arm.exam.key for arm in alone.arms if arm.split == "report"}
        assert ours <= {arm.exam.key for arm in beside.arms}

    def test_what_follows_shares_the_student(self):
        plan = made("attacker=[sft,sft + follow/prune]")
        arms = {
            arm.attacker: arm
            for arm in plan.arms
            if arm.defense == "none" and arm.split == "report"
        }
        followed = arms["sft + follow/prune"]
        assert (
            followed.student.kind == "post_training"
            and followed.student.inputs[0].key == arms["sft"].student.key
        )
        assert followed.completions.key == arms["sft"].completions.key

    def test_an_attack_that_asks_nothing_is_a_floor(self):
        plan = made("attacker=[sft,solo]", "defense=[none,release/answer_only]")
        solo = [arm for arm in plan.arms if arm.attacker == "solo"]
        assert {arm.defense for arm in solo} == {"none"} and {arm.split for arm in solo} == {
            "report",
            "select",
        }
        assert arms.is_floor("solo") and "solo" in arms.choices(plan.study)
        assert all(arm.completions.settings["source"] == "public" for arm in solo)
        # With one attack that asks there is nothing to choose, so no student is trained to choose
        # it.
        assert not [arm for arm in plan.arms if arm.attacker == "sft" and arm.split == "select"]

    def test_attacks_that_an_interface_does_not_allow_are_left_out_with_a_note(self):
        plan = made("attacker=[sft,ask/prefill + sft]", "provider.prefill=false")
        assert "ask/prefill + sft" not in {arm.attacker for arm in plan.arms}
        assert any("lets nobody begin an answer" in note for note in plan.notes)
        plan = made(
            "attacker=[logprob_kd,repair/recovery + logprob_kd]",
            "defense=[none,release/information]",
        )
        assert any("cannot rebuild a defence that learns" in note for note in plan.notes)

    @pytest.mark.parametrize(
        ("words", "line"),
        [
            (["attacker=solo"], "no cell is left to run"),
            (
                ["attacker=[sft,solo]", "own.worked=0"],
                "solo: needs worked solutions; own.worked must be above 0",
            ),
            (
                ["task=trace", "attacker=ask/select(pool=500) + sft"],
                "query items asked for, only 892 available",
            ),
        ],
    )
    def test_what_cannot_be_is_told_before_anything_runs(self, words, line):
        with pytest.raises(BadInput) as error:
            made(*words)
        assert line in str(error.value)

    def test_no_attack_is_fed_by_a_clean_answer_or_by_another_arm(self):
        """Everything a student is made from carries its own arm's defence, seed and budget, or
        needs no teacher.
        """
        plan = made("attacker=strongest", "defense=[none,release/answer_only,release/truncate]")
        asking = [
            arm
            for arm in plan.arms
            if not arms.is_floor(arm.attacker) and arm.defense != arms.IDENTITY
        ]
        assert len({arm.attacker for arm in asking}) > 5
        for arm in asking:
            spec = parse_defense(arm.defense).spec
            for stage in arm.student.walk():
                assert stage.kind not in ("evaluation", "search")
                if stage.kind != "student":
                    continue
                fed = stage.needs.completions
                assert fed.spec.defense == spec and fed.settings["seed"] == arm.seed
                assert fed.settings["budget"] <= arm.budget
                source = fed.settings["source"]
                assert source in ("teacher", "asked", "edited"), "it comes from a teacher"
                if source == "edited":  # of clean completions, which only its defence reads
                    clean = fed.needs.completions.settings
                    assert (clean["source"], clean["seed"]) == ("teacher", arm.seed)
                    assert clean["budget"] == fed.settings["budget"]
                    # Undefended text is what the same asking released beside its logprobs.
                    assert fed.spec.after == (arm.defense == "none")


def test_students_are_made_without_a_question_of_the_exam_or_its_reference(monkeypatch, tmp_path):
    """Only query questions are drawn, and only their references are held, while answers and
    students are made.
    """
    again = "follow/expert_iteration(rounds=1,samples=1,steps=1)"
    plan = made(
        f"attacker=[solo,sft,clean/filter + sft + {again}]", "seeds=[0]", "baseline_seeds=1"
    )
    drawn, making = [], [""]
    original = tasks.Task.items

    def watched(self, split, n, seed):
        drawn.append((making[0], split))
        return original(self, split, n, seed)

    monkeypatch.setattr(tasks.Task, "items", watched)
    for stage in plan.stages:
        making[0] = stage.kind
        one.make(stage, tmp_path)
    splits = {kind: {split for k, split in drawn if k == kind} for kind, _ in drawn}
    assert (
        all(splits[kind] <= {"query"} for kind in ("completions", "student", "post_training"))
        and "report" in splits["evaluation"]
    )
    assert {"completions", "student", "post_training", "evaluation"} <= {*splits}


def test_the_page_of_attackers_is_what_the_code_says():
    page = component_docs.PAGES["attacker"]
    assert (ROOT / "docs" / "attackers.md").read_text() == page.markdown()
    assert {name for name, *_ in page.rows()} | {"strongest"} == set(catalog.names("attacker"))


def test_a_study_with_parts_of_every_kind_runs_and_counts_what_was_exchanged(tmp_path):
    attacks = (
        "[sft,ask/repeats(k=2) + clean/vote + sft + follow/prune,ask/select(pool=2) + sft,solo]"
    )
    run(tmp_path, *OWN, f"attacker={attacks}", "defense=[none,decoding/temperature]")
    data = json.loads((tmp_path / "quickstart" / "measures.json").read_text())
    spent = {
        row["attacker"]: row["exchanges"]
        for row in data["ledger"]
        if row["defense"] == "decoding/temperature"
    }
    assert spent["ask/repeats(k=2) + clean/vote + sft + follow/prune"] == 2 * spent["sft"] > 0
    assert spent["ask/select(pool=2) + sft"] == spent["sft"]
    (case,) = [case for case in data["cases"] if case["defense"] == "decoding/temperature"]
    assert (
        len(case["attacks"]) == 3
        and case["attack"] in case["attacks"]
        and "solo" in case["sensitivity"]["by_floor"]
    )


def test_a_stolen_judge_is_asked_behind_the_defence_and_paid_for(tmp_path):
    words = ["attacker=[sft,judged(first=0.5)]", "student.steps=4", "defense=release/rounding"]
    run(tmp_path, *OWN, *words)
    data = json.loads((tmp_path / "quickstart" / "measures.json").read_text())
    spent = {(row["defense"], row["attacker"]): row["exchanges"] for row in data["ledger"]}
    for defense in ("none", "release/rounding"):
        # Two rounds of a step of sixteen answers, of which some may be alike.
        assert 0 < spent[defense, "judged(first=0.5)"] - spent["none", "sft"] <= 2 * 16
    reports = [json.loads(path.read_text()) for path in tmp_path.rglob("student/*/training.json")]
    assert any("asked" in report for report in reports)
    assert not any("unscored" in report for report in reports)


def test_a_recorded_teacher_judges_nothing():
    recorded = models.Recorded(
        kind="recorded", name="gone", path="gone.jsonl", prompt="prompt", answer="answer"
    )
    for attacker in ("judged", "judged(by=instruction)"):
        study = schema.load("quickstart", [*OWN, f"attacker={attacker}", "defense=none"])
        study = study.model_copy(update={"teacher": recorded})
        with pytest.raises(BadInput) as error:
            plan.make(study, opens=False)
        assert "no cell is left to run; skipped against none, as a recorded teacher" in str(
            error.value
        ) and "\n" not in str(error.value)
