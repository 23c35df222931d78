"""Where reasoning and final answers are: what is read, what is written, and that the two agree."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from distill.answer_format import AnswerFormat, final_spans
from distill.completions import BadInput

KINDS = ("mark", "tags", "boxed", "fenced", "tool_call", "whole")
BOXED, TAGS = AnswerFormat(kind="boxed"), AnswerFormat(kind="tags")
FENCED, CALLS = AnswerFormat(kind="fenced"), AnswerFormat(kind="tool_call")
HASH, WHOLE = AnswerFormat(mark="####"), AnswerFormat(kind="whole")
LINE = AnswerFormat(mark="A:", until="line")
READ = [
    (HASH, "48/2=24\n#### 72", " 72"),
    (HASH, "#### 1 #### 2", " 2"),
    (HASH, "no mark", None),
    (AnswerFormat(), "<think>is it # 3</think> yes # 4", " 4"),
    (AnswerFormat(), "<think>it is # 3</think> yes", None),
    (AnswerFormat(), "<think>it is # 3", None),
    (AnswerFormat(), "of Qwen: # 3</think>\n# 4", " 4"),
    (AnswerFormat(), "<think>a</think> # 3 <think>or # 4", None),
    (AnswerFormat(thinking="none"), "<think>it is # 3", " 3"),
    (LINE, "A: 5\nBecause of A", " 5"),
    (LINE, "A:\n5\nBecause", "5"),
    (TAGS, "a <answer>5</answer> b", "5"),
    (TAGS, "<answer>5</answer> no, <answer>6", None),
    (TAGS, "<answer>5</answer><answer>\n6\n</answer>", "\n6\n"),
    (TAGS, "<Answer>5</Answer>", None),
    (BOXED, r"so \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
    (BOXED, r"so $\fbox {5}$", "5"),
    (BOXED, r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
    (BOXED, r"\boxed{a} then \boxed{b", None),
    (BOXED, r"\boxed{a} then \boxed{b}", "b"),
    (BOXED, r"<think>\boxed{a}</think> b", None),
    (BOXED, "boxed{5}", None),
    (FENCED, "x\n```python\na = 1\n```\nbye", "a = 1"),
    (FENCED, "```\na\n```\n~~~py\nb\n~~~", "b"),
    (FENCED, "````\n```\n````", "```"),
    (FENCED, "```\na", None),
    (FENCED, "```\na\n```\n```\nb", None),
    (FENCED, "a ``` b ``` c", None),
    (FENCED, "```\n```", ""),
    (CALLS, '<tool_call>\n{"a": 1}\n</tool_call>', '{"a": 1}'),
    (CALLS, "<tool_call>a</tool_call> and <tool_call>b</tool_call>", "a\nb"),
    (CALLS, "<tool_call>a</tool_call> and <tool_call>b", None),
    (CALLS, "a</tool_call>", None),
    (WHOLE, "<think>hm</think>\nParis", "\nParis"),
    (WHOLE, "Paris", "Paris"),
]
CUT = [  # what an answer that was cut off says for sure
    (AnswerFormat(), "a # 18", None),
    (LINE, "A: 18", None),
    (LINE, "A: 18\nBec", " 18"),
    (TAGS, "<answer>18</answer> bec", "18"),
    (BOXED, r"\boxed{18} bec", "18"),
    (BOXED, r"\boxed{18", None),
    (FENCED, "```\na = 1\n```\nbec", "a = 1"),
    (CALLS, "<tool_call>a</tool_call> and", "a"),
    (WHOLE, "18", None),
]


@pytest.mark.parametrize(("form", "text", "final"), READ)
def test_the_last_markup_outside_of_thinking_decides(form, text, final):
    parts = form.split(text)
    assert parts.final == final
    assert parts.thinking + parts.reasoning + parts.answer == text


def at_its_spans(form, text, finished):
    """What stands where the final answer is said to stand, a line a call."""
    spans = final_spans(form, text, finished)
    return "\n".join(text[start:end] for start, end in spans) if spans else None


@pytest.mark.parametrize(
    ("form", "text", "final", "finished"),
    [*((*case, True) for case in READ), *((*case, False) for case in CUT)],
)
def test_a_final_answer_stands_where_it_is_said_to(form, text, final, finished):
    assert at_its_spans(form, text, finished) == final


@pytest.mark.parametrize(("form", "text", "final"), CUT)
def test_a_cut_answer_counts_only_where_its_markup_was_closed(form, text, final):
    assert form.final(text, finished=False) == final


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(text=st.text("ab<>/{}\\`~#\n thinkanswerboxed_cl", max_size=60), finished=st.booleans())
def test_parts_joined_are_the_text(kind, text, finished):
    parts = AnswerFormat(kind=kind).split(text, finished)
    assert parts.thinking + parts.reasoning + parts.answer == text
    assert (
        parts.final is None
        or parts.final.replace("\n", "") in text.replace("\n", "")
        or (kind == "tool_call")
    )
    stands = at_its_spans(AnswerFormat(kind=kind), text, finished)
    assert (stands or "").strip() == (parts.final or "").strip()


@pytest.mark.parametrize("thinking", ["none", "read", "write"])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30)
@given(
    reasoning=st.text("ab#{}\\`<>/ \nanswer", max_size=20),
    final=st.text("ab{}\\`#</>\nanswer", min_size=1, max_size=20),
)
def test_what_is_written_is_read_again_or_refused(kind, thinking, reasoning, final):
    form = AnswerFormat(kind=kind, thinking=thinking)
    try:
        texts = form.answer(final), form.solution(reasoning, final)
    except BadInput as error:
        assert "\n" not in str(error)
        return
    assert {(form.final(text) or "").strip() for text in texts} == {final.strip()}


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (HASH, "a=1;b=2 #### 3"),
        (TAGS, "a=1;b=2\n<answer>3</answer>"),
        (BOXED, r"a=1;b=2 \boxed{3}"),
        (FENCED, "a=1;b=2\n```\n3\n```"),
        (CALLS, "a=1;b=2\n<tool_call>\n3\n</tool_call>"),
        (WHOLE, "<think>\na=1;b=2\n</think>\n\n3"),
        (AnswerFormat(kind="boxed", thinking="write"), "<think>\na=1;b=2\n</think>\n\n\\boxed{3}"),
        (AnswerFormat(mark="A:", gap="\n"), "a=1;b=2\nA: 3"),
    ],
)
def test_worked_solutions_are_written_so(form, text):
    assert form.solution("a=1;b=2", "3") == text
    assert form.begin in text


@pytest.mark.parametrize(
    ("steps", "text", "divided"),
    [
        ("line", "a\nb\n\nc", ["a\n", "b\n", "\n", "c"]),
        (";", "a;b;", ["a;", "b;"]),
        ("line", "", []),
        (
            "sentence",
            'It is 3.5 m. "So e.g. Bob is." Then C! done? Yes.',
            ["It is 3.5 m. ", '"So e.g. Bob is." ', "Then C! done? ", "Yes."],
        ),
        ("sentence", "no stop", ["no stop"]),
    ],
)
def test_steps_joined_are_the_reasoning(steps, text, divided):
    assert [*map("".join, AnswerFormat(steps=steps).split_steps(text))] == divided
    assert "".join(divided) == text


@pytest.mark.parametrize(
    "wrong", [{"kind": "box"}, {"mark": ""}, {"tag": "a b"}, {"steps": ""}, {"marker": "#"}]
)
def test_what_is_no_format_is_refused(wrong):
    with pytest.raises(ValidationError):
        AnswerFormat(**wrong)
