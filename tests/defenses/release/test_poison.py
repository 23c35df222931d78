"""Wrong numbers: all of them by brute force, as often as p says, and the same whenever they are
asked for.
"""

from __future__ import annotations

import re
from collections import Counter

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from defenses.release.poison import Defense, Settings, with_wrong_answer, with_wrong_result, wrong
from distill.answer_format import AnswerFormat
from experiments.tasks import Outcome, addition, trace
from tests.defenses.release.texts import HASHES, STEPS, edited, final_answer

ADDITION, TRACE = "760=13;481=13;351=09 # 933", "c=3;a=3+4=7;b=7-3=4 # 4"
PROSE = (
    "She sells 16 - 3 - 4 = <<16-3-4=9>>9 eggs.\n"
    "That is nine.\n"
    "She makes 9 * 2 = $18 in 7 days.\n"
    "#### 18"
)
places = st.floats(0, 1, exclude_max=True)
numbers = st.one_of(st.from_regex(r"[0-9]{1,5}(\.[0-9]{1,2})?", fullmatch=True), st.just("1,000"))


def released(text: str, prompt: str = "?", form: AnswerFormat = STEPS, **settings: object) -> str:
    return edited(Defense, Settings(**settings), text, prompt, form)


class TestNumbers:
    @pytest.mark.parametrize("number", ["0", "7", "10", "09", "933", "00", "0.5"])
    def test_every_number_of_that_form_is_as_likely(self, number):
        def apart(other: str) -> int:
            return sum(a != b for a, b in zip(number, other, strict=True))

        size = sum(letter != "." for letter in number)
        every = (f"{n:0{size}d}" for n in range(10**size))
        every = (other[0] + "." + other[1:] if "." in number else other for other in every)
        oracle = [
            n for n in every if apart(n) == 1 and (size == 1 or (n[0] == "0") == (number[0] == "0"))
        ]
        counts = Counter(
            wrong(number, (i + 0.5) / (10 * len(oracle))) for i in range(10 * len(oracle))
        )
        assert counts == {other: 10 for other in oracle}

    @given(numbers, places)
    def test_a_wrong_number_has_the_form_of_the_number_and_another_value(self, number, place):
        other = wrong(number, place)
        assert float(other.replace(",", "")) != float(number.replace(",", ""))
        assert re.sub("[0-9]", "9", other) == re.sub("[0-9]", "9", number)
        assert len(number) == 1 or (other[0] == "0") == (number[0] == "0")

    @pytest.mark.parametrize(
        ("step", "wrong"),
        [
            ("760=13", "760=23"),
            ("c=3", "c=0"),
            ("a=3+4=7", "a=3+4=0"),
            ("She has 2 hens and 16 eggs", "She has 2 hens and 26 eggs"),
            ("16 - 3 - 4 = <<16-3-4=9>>9 eggs of 12", "16 - 3 - 4 = <<16-3-4=0>>0 eggs of 12"),
            ("That is nine", "That is nine"),
            ("3+4=x", "3+4=x"),
        ],
    )
    def test_wrong_results_by_hand(self, step, wrong):
        assert with_wrong_result(step, 0.0) == wrong

    def test_wrong_answers_by_hand(self):
        assert (
            with_wrong_answer(" # 933", 0.0) == " # 133"
            and with_wrong_answer(" # 933", 0.999) == " # 939"
        )
        assert (
            with_wrong_answer("\nA: -$1,000.", 0.0) == "\nA: -$2,000."
            and with_wrong_answer(" # no", 0.0) == " # no"
        )


@pytest.mark.parametrize(("text", "form"), [(ADDITION, STEPS), (TRACE, STEPS), (PROSE, HASHES)])
@pytest.mark.parametrize("where", ["answer", "reasoning", "both"])
def test_what_is_wrong_is_where_it_is_said_to_be(text, form, where):
    poisoned = released(text, form=form, p=1.0, where=where)
    old, new = (one.rpartition(form.mark) for one in (text, poisoned))
    assert (new[2] != old[2]) == (where != "reasoning")
    changed = sum(
        a != b for a, b in zip(old[0].split(form.between), new[0].split(form.between), strict=True)
    )
    assert changed == (where != "answer") and len(poisoned) == len(text)


BLOCKS = "so <tool_call>f(a)</tool_call>\n<tool_call>g(7)</tool_call> <tool_call>h(8)</tool_call>"


@pytest.mark.parametrize(
    ("text", "kind", "before", "behind"),
    [
        (
            BLOCKS,
            "tool_call",
            "so <tool_call>f(a)</tool_call>\n<tool_call>g(",
            BLOCKS.partition("7")[2],
        ),
        ("<think>7</think> it is 7 of 8", "whole", "<think>7</think> it is ", " of 8"),
        ("7 of 8", "whole", "", " of 8"),
        (r"7 \fbox{7}", "boxed", r"7 \fbox{", "}"),
    ],
)
def test_the_first_number_of_a_final_answer_is_wrong_however_it_is_marked(
    text, kind, before, behind
):
    poisoned = released(text, form=AnswerFormat(kind=kind), p=1.0)
    assert poisoned.startswith(before) and poisoned.endswith(behind) and poisoned != text
    assert len(poisoned) == len(text) == len(before) + 1 + len(behind)


@pytest.mark.parametrize(
    "task", [addition.Task(addition.Settings(digits=3)), trace.Task(trace.Settings(statements=3))]
)
def test_a_poisoned_answer_has_the_form_and_is_wrong(task):
    for item in task.items("train", 100, 0):
        for where, outcome in (
            ("answer", Outcome.WRONG),
            ("both", Outcome.WRONG),
            ("reasoning", Outcome.RIGHT),
        ):
            text = released(item.solution, item.prompt.text, p=1.0, where=where)
            assert text != item.solution and set(text) <= set(task.alphabet)
            assert task.grade(text, item.reference) == outcome


@pytest.mark.parametrize("p", [0.05, 0.3])
def test_the_share_of_poisoned_answers_is_p(p):
    poisoned = [released(TRACE, f"prompt {i}", p=p) != TRACE for i in range(2000)]
    assert stats.binomtest(sum(poisoned), 2000, p).pvalue > 1e-3
    more = [released(TRACE, f"prompt {i}", p=2 * p) != TRACE for i in range(2000)]
    assert all(b for a, b in zip(poisoned, more, strict=True) if a)


@given(
    st.text("a1=;# +.0"),
    st.floats(0, 1),
    st.sampled_from(["answer", "reasoning", "both"]),
    st.text("k", min_size=1, max_size=2),
)
def test_says_the_same_again_and_keeps_the_answer_unless_told(text, p, where, key):
    poisoned = released(text, p=p, where=where, key=key)
    assert poisoned == released(text, p=p, where=where, key=key) and len(poisoned) == len(text)
    assert where != "reasoning" or final_answer(poisoned) == final_answer(text)
    final = final_answer(text)
    assert (
        p < 1
        or where == "reasoning"
        or not re.search("[0-9]", final)
        or final_answer(poisoned) != final
    )


def test_another_key_poisons_other_answers():
    a, b = ([released(TRACE, str(i), p=0.5, key=key) for i in range(50)] for key in "ab")
    assert a != b


def test_p_0_is_the_model_itself(teacher):
    assert Defense(Settings(p=0.0))(teacher) is teacher


def test_the_config_is_the_default():
    assert (
        Settings(**yaml.safe_load(open("configs/defense/release/poison.yaml"))["settings"])
        == Settings()
    )


@pytest.mark.parametrize(
    ("form", "text", "before", "after"),
    [
        (AnswerFormat(kind="boxed"), r"So \boxed{7}, as 7 is.", r"So \boxed{", "}, as 7 is."),
        (AnswerFormat(kind="tags"), "7.\n<answer>7</answer> 7", "7.\n<answer>", "</answer> 7"),
        (AnswerFormat(), "7 # 7", "7 # ", ""),
    ],
)
def test_the_final_answer_is_wrong_in_its_markup_and_nowhere_else(form, text, before, after):
    new = released(text, form=form, p=1.0)
    assert new.startswith(before) and new.endswith(after) and len(new) == len(text)
    assert form.final(new).strip() != "7"
