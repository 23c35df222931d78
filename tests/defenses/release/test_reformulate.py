"""Reformulated steps, worked out by hand and turned back by an attacker who knows the rule."""

from __future__ import annotations

import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from defenses.release.reformulate import (
    CHAIN,
    FILLERS,
    NUMBER,
    Defense,
    Settings,
    hoist_result,
    without_fillers,
)
from distill.answer_format import AnswerFormat
from distill.completions import Interface
from experiments.tasks import addition, trace
from tests.defenses.release.texts import LINES, STEPS, edited, final_answer

ADDITION, TRACE = "760=13;481=13;351=09 # 933", "c=3;a=3+4=7;b=7-3=4 # 4"
PROSE = (
    "Hmm, let me see. She sells 16 - 3 - 4 = <<16-3-4=9>>9 eggs.\n"
    "Wait.\n"
    "She makes 9 * 2 = $18 a day.\n"
    "A: 18"
)


def released(text: str, prompt: str = "?", form: AnswerFormat = STEPS, **settings: object) -> str:
    return edited(Defense, Settings(**settings), text, prompt, form)


def restored(step: str) -> str:
    """The attacker's inverse."""
    return re.sub(rf"(?<![\d.])({NUMBER})(\s*=\s*)({CHAIN}|{NUMBER}\Z)(?![\d=])", r"\3\2\1", step)


@pytest.mark.parametrize(
    ("text", "settings", "shown"),
    [
        (ADDITION, {}, "13=760;13=481;09=351 # 933"),
        (TRACE, {}, "c=3;a=7=3+4;b=4=7-3 # 4"),
        (
            PROSE,
            {"form": LINES},
            "She sells 9 eggs = 16 - 3 - 4.\nShe makes $18 = 9 * 2 a day.\nA: 18",
        ),
        (
            PROSE,
            {"form": LINES, "fillers": ()},
            "Hmm, let me see. She sells 9 eggs = 16 - 3 - 4.\nWait.\nShe makes $18 = 9 * 2 a "
            "day.\nA: 18",
        ),
        ("", {}, ""),
        ("Hmm. # 3", {}, " # 3"),
    ],
)
def test_by_hand(text, settings, shown):
    assert released(text, **settings) == shown


@pytest.mark.parametrize(
    ("step", "first"),
    [
        ("3+4=2+5=7", "7=3+4=2+5"),
        ("(3 + 4) x 0.5 = 3.5.", "3.5 = (3 + 4) x 0.5."),
        ("It costs 1,000*2=$2,000, which", "It costs $2,000=1,000*2, which"),
        ("2+2=4 and 3+3=6", "4=2+2 and 6=3+3"),
    ],
)
def test_hoisting_by_hand(step, first):
    assert hoist_result(step) == first


@pytest.mark.parametrize(
    "step",
    [
        "c=3",
        "2y + 3 = 7",
        "rate x 50 = 10",
        "half of 48 = 24",
        "20% of 10*5 = 10",
        "-3+4=1",
        "3+4=x",
        "x=3+4",
        "7=3+4",
        "2(3+4)=14",
        "in 2019 = 5",
        "3+4=7y",
        "3+4=7 - y",
    ],
)
def test_what_is_no_whole_equation_stays(step):
    assert hoist_result(step) == step


@pytest.mark.parametrize(
    ("step", "left"),
    [
        ("Wait, that is wrong. It is 4.", "It is 4."),
        ("Hmm, wait, so 3.5 + 1 = 4.5. OK?", "so 3.5 + 1 = 4.5. OK?"),
        ("It is 4. Hmm.", "It is 4."),
        (
            "Well-known facts. Waiting costs nothing. Well.",
            "Well-known facts. Waiting costs nothing.",
        ),
        (
            "Wait times are 2. Well water costs 3. Let me add them.",
            "Wait times are 2. Well water costs 3.",
        ),
        ("Wait", ""),
        ("We wait.  Twice ", "We wait.  Twice "),
    ],
)
def test_fillers_by_hand(step, left):
    assert without_fillers(step, FILLERS) == left


@pytest.mark.parametrize(
    "task", [addition.Task(addition.Settings(digits=3)), trace.Task(trace.Settings(statements=4))]
)
def test_an_attacker_who_knows_the_rule_turns_every_step_back(task):
    for item in task.items("train", 200, 0):
        text = released(item.solution)
        assert text != item.solution and set(text) <= set(task.alphabet)
        steps, _, rest = text.rpartition(" #")
        assert ";".join(map(restored, steps.split(";"))) + " #" + rest == item.solution


@given(st.text("a1=;# +.w"), st.floats(0, 1), st.text("k", min_size=1, max_size=3))
def test_keeps_the_final_answer_and_the_characters(text, share, key):
    edited = released(text, share=share, key=key)
    assert final_answer(edited) == final_answer(text) and sorted(edited) == sorted(text)
    assert released(text, share=share, key=key) == edited


def test_the_share_of_steps_is_reformulated_and_grows_with_the_strength():
    text = ";".join(["12=3"] * 1000)
    few, many = (released(text, share=share).split(";") for share in (0.3, 0.6))
    assert (
        abs(few.count("3=12") - 300) < 60 and abs(many.count("3=12") - 600) < 60
    )  # four standard deviations
    assert all(b == "3=12" for a, b in zip(few, many, strict=True) if a == "3=12")
    assert (
        released(text, share=0.3, key="other").split(";")
        != few
        != released(text, "another prompt", share=0.3)
    )


def test_share_0_is_the_model_itself(teacher, prompts):
    assert Defense(Settings(share=0.0))(teacher) is teacher
    assert (
        Defense(Settings())(teacher)
        .generate(prompts, seed=0, interface=Interface("full"))[0]
        .logprobs
        is None
    )


def test_the_config_is_the_default():
    assert (
        Settings(**yaml.safe_load(open("configs/defense/release/reformulate.yaml"))["settings"])
        == Settings()
    )
