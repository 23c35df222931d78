"""Where calls stand: read as the grader reads them, put in and taken out again byte for byte."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.answer_format import AnswerFormat
from distill.tool_calls import Call, only_defined, renamed, row_of
from experiments.tasks.graders.tool_call import parse_calls

MARK, FENCED = AnswerFormat(thinking="none"), AnswerFormat(kind="fenced")
BOXED, WHOLE = AnswerFormat(kind="boxed"), AnswerFormat(kind="whole")
MARKUP, LINE = AnswerFormat(kind="tool_call"), AnswerFormat(mark="A:", until="line")
F, G = '{"name": "f", "arguments": {"a": 1}}', '{"function": {"name": "g", "arguments": "{}"}}'
BLOCK = "<tool_call>\n{}\n</tool_call>"
ROWS = [
    (MARK, "1+1=2 # f(1)", ["f(1)"], "; "),
    (MARK, "# f(1); g(a='é ☃', b=[{'x': (3,)}])", ["f(1)", "g(a='é ☃', b=[{'x': (3,)}])"], "; "),
    (MARK, "#  f(x='é')\nm.g()\n", ["f(x='é')", "m.g()"], "\n"),
    (MARK, "# f(1), g()", ["f(1)", "g()"], ", "),
    (MARK, "# [f(1)]", ["f(1)"], ", "),
    (MARK, "# (f(1),)", ["f(1)"], ", "),
    (MARK, "# [ f(1) ,\n g() ]", ["f(1)", "g()"], " ,\n "),
    (MARK, "# f('a(b;')", ["f('a(b;')"], "; "),
    (LINE, "A: f(1)\nso it is", ["f(1)"], "; "),
    (FENCED, "so\n```python\nf(1)\ng()\n```\ndone", ["f(1)", "g()"], "\n"),
    (BOXED, r"\boxed{f({'a': 1})}.", ["f({'a': 1})"], "; "),
    (WHOLE, "<think>f(2)</think>\nf(1)", ["f(1)"], "; "),
    (WHOLE, F, [F], "; "),
    (WHOLE, f"{F}\n{G}", [F, G], "\n"),
    (WHOLE, f"[{F},{G}]", [F, G], ","),
    (MARKUP, f"so {BLOCK.format(F)}", [BLOCK.format(F)], "\n"),
    (MARKUP, f"{BLOCK.format(F)} {BLOCK.format(G)}", [BLOCK.format(F), BLOCK.format(G)], " "),
    (MARKUP, "<tool_call>f(1)</tool_call> ", ["<tool_call>f(1)</tool_call>"], "\n"),
]
NONE = [
    (MARK, "f(1)"),
    (MARK, "# 12"),
    (MARK, "# f(1) g()"),
    (MARK, "# f(1); 12"),
    (MARK, "# x = f(1)"),
    (MARK, "# f(1)(2)"),
    (MARK, "# (f)(1)"),
    (MARK, "# [f(1)]; g()"),  # in several lists
    (MARK, "# (f(1)); (g())"),
    (MARK, "# f(1)\rg()"),
    (MARK, "# f(" + "[" * 5000),
    (MARK, "# f('" + "a" * 10_000 + "')"),
    (MARK, "# \x00"),
    (WHOLE, "# why\nf(1) # because\ng()"),
    (WHOLE, '{"arguments": {}}'),
    (WHOLE, '{"function": "f"}'),
    (WHOLE, f"{F} and so on"),
    (WHOLE, f"[{F}, 3]"),
    (MARKUP, BLOCK.format(f"{F}\n{F}")),
    (MARKUP, f"{BLOCK.format(F)} and {BLOCK.format(F)}"),
    (MARKUP, f"{BLOCK.format(F)}\n{BLOCK.format(12)}"),
    (MARKUP, "<tool_call>f(1)"),
]


@pytest.mark.parametrize(("form", "text", "calls", "between"), ROWS)
def test_calls_stand_where_they_are_written(form, text, calls, between):
    row = row_of(text, form)
    assert [row.source(call) for call in row.calls] == calls and row.between == between
    assert [call.function for call in row.calls] == [c.function for c in graded(text, form)]


def graded(text, form):
    """The calls of a final answer as they are graded."""
    return parse_calls(form.final(text))


@pytest.mark.parametrize(("form", "text"), NONE)
def test_what_is_no_row_of_calls_is_left_alone(form, text):
    assert row_of(text, form) is None
    assert only_defined(text, form, ["f"]) == text


def test_an_answer_that_was_cut_off_has_calls_only_where_they_were_closed():
    assert row_of("# f(1)", MARK, finished=False) is None
    assert row_of(f"{BLOCK.format(F)} an", MARKUP, finished=False).calls == (Call("f", 0, 61),)


@pytest.mark.parametrize(
    ("text", "functions", "left"),
    [
        ("# f(1); d(1)", "f", "# f(1)"),
        ("# d(1); f(1)", "f", "# f(1)"),
        ("# f(1); d(1)\ng()", "fg", "# f(1); g()"),
        ("# d();d(); f(1), e(2); g();d() ", "fg", "# f(1), g() "),
        ("# [f(1), d(1)]", "f", "# [f(1)]"),
        ("# [d(1), f(1)]", "f", "# [f(1)]"),
        ("# f(1); g()", "fg", "# f(1); g()"),
        ("# d(1); e()", "fg", "# d(1); e()"),  # nothing would be left
        ("# d(1); e()", "", "# d(1); e()"),
    ],
)
def test_calls_of_what_is_not_defined_go_with_what_separates_them(text, functions, left):
    assert only_defined(text, MARK, functions) == left


def test_a_call_in_markup_goes_with_it():
    three = "\n".join(BLOCK.format(one) for one in ("d(1)", F, "d(2)"))
    assert only_defined(f"so\n{three}", MARKUP, ["f"]) == f"so\n{BLOCK.format(F)}"


@pytest.mark.parametrize(
    ("source", "new"),
    [
        ("f(1, x='f(')", "d(1, x='f(')"),
        ("a.f(2)", "d(2)"),
        (F, '{"name": "d", "arguments": {"a": 1}}'),
        (G, '{"function": {"name": "d", "arguments": "{}"}}'),
        ('{"arguments":{"name":"é"},"name":"f"}', '{"arguments": {"name": "é"}, "name": "d"}'),
        (BLOCK.format("f(1)"), BLOCK.format("d(1)")),
        (BLOCK.format(F), BLOCK.format('{"name": "d", "arguments": {"a": 1}}')),
    ],
)
def test_another_function_takes_the_same_arguments(source, new):
    assert renamed(source, "d") == new


@pytest.mark.parametrize(("form", "text", "calls", "between"), ROWS)
@settings(max_examples=20)
@given(data=st.data())
def test_what_is_put_in_is_graded_and_taken_out_again(form, text, calls, between, data):
    new, row = text, row_of(text, form)
    defined = {call.function for call in row.calls}
    for _ in range(data.draw(st.integers(1, 4))):
        copied = row.calls[data.draw(st.integers(0, len(row.calls) - 1))]
        place = data.draw(st.integers(0, len(row.calls)))
        before = [call.function for call in row.calls]
        new = row.with_call(place, renamed(row.source(copied), "decoy"))
        row = row_of(new, form)
        expected = [*before[:place], "decoy", *before[place:]]
        assert [c.function for c in graded(new, form)] == expected
    assert only_defined(new, form, defined) == text
