"""Graders against tables of oracles: answers that are right, wrong, and that nobody can read."""

import sys
from pathlib import Path

import pytest

from distill.completions import BadInput
from experiments.settings import grader_docs
from experiments.tasks import graders as package
from experiments.tasks.graders.catalog import GRADERS, build_grader, summary

RIGHT, WRONG, UNPARSED = "right", "wrong", "unparsed"
NUMBERS = r"""
18          18  | 18.00 | 18. | +18 | 1.8e1 | 1.8 \times 10^1 | 36/2 | **18** | `18` | $18$
18          $18.00 | \(18\) | \boxed{18} | \text{18 apples} | 18 apples | 18 km/h | 18 m^2 | 18 m²
18          18 m2 | USD 18 | 18 € | €18 | \$18 | 18\text{ cm}^2 | 18\,\text{cm} | 18^\circ | ~18
18          \approx 18 | x = 18 | 9+9=18 | => 18 | (18) | about 18 | about (18) | 18%  | 18\%
18          18/hour | 17 1/2 + 1/2 = 18 | H2O: 18 | 1.5 dozen
-3          −3 | - 3 | -3.0 | $-3$ | -$3 | −€3 | (-3) | -\frac{6}{2} | \frac{-6}{2}
0.5         1/2 | \frac{1}{2} | \dfrac12 | \tfrac{2}{4} | .5 | 5e-1 | 0.50
1.5         1 1/2 | 1\frac{1}{2} | 3/2
1/3         2/6 | \frac13
1234567     1,234,567 | 1{,}234{,}567 | 1\,234\,567 | 12,34,567 | 1.234567 million | 1,234,567.0
1234.5      1,234.50 | $1,234.5
0           -0 | 0.0 | 0/5
"""
NO_NUMBERS = r"""
| eighteen | none | 18 or 19 | 17-18 | 17 to 18 | > 18 | \geq 18 | <18 | ±18 | 18, 19 | 1,8
1,234,56 | 1,2345 | 1.2.3 | 18:30 | 2018-05-06 | 18th | 18k | 18M | 18! | 18^2 | 2^{18}
\sqrt{18} | sqrt(18) | 18\pi | 2\sqrt{18} | 18x2 | 0x18 | 1_8 | 18/0 | 1e999999999
Answer - 18 | 18 - x | x+18 | 18*x | ١٨ | ½ | nan | inf | 18/2/1 | 18(2)
"""


AREA = '[{"area": {"base": [10], "height": [5.0], "unit": ["units", ""]}}]'
BOTH = '[{"f": {"a": [[1, 2]]}}, {"g": {"q": ["San Francisco, CA", "San Francisco"]}}]'


SCHEMA = '{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}'
EQUAL = r"""
1/2            \frac{1}{2} | 0.5 | \dfrac{2}{4} | $\frac12$ | \boxed{0.5} | 2^{-1}
x+1            1+x | (x^2-1)/(x-1)
(x+1)^2        x^2+2x+1
2\sqrt{3}      \sqrt{12} | \sqrt{3}+\sqrt{3}
\{1,2\}        \{2,1\}
(1,2)          (1,2) | (1,\,2)
[1,2)          [1,2)
5              x=5 | 5 | \text{5} | 5.0
1234           1,234 | 1{,}234
x<5            5>x
1              \sin^2 x+\cos^2 x
\infty         \infty
"""
UNEQUAL = r"""
1/2            \frac{1}{3} | 0.51 | 2
(1,2)          (2,1) | 1
[1,2)          [1,2] | (1,2)
5              -5 | x=6 | 5 or 6 | \{5,6\}
x+1            x-1
3\pi           9.42
"""


def cells(text):
    return [cell.strip() for line in text.strip().splitlines() for cell in line.split("|")]


def rows(table):
    for line in table.strip().splitlines():
        reference, _, answers = line.partition(" ")
        for answer in cells(answers):
            yield reference, answer


CASES = [
    *[("number", {}, said, reference, RIGHT) for reference, said in rows(NUMBERS)],
    *[("number", {}, said, "18", UNPARSED) for said in cells(NO_NUMBERS)],
    ("number", {}, "1" * 400, "18", UNPARSED),
    ("number", {}, "17", "18", WRONG),
    ("number", {}, "-18", "18", WRONG),
    ("number", {}, "18.0000001", "18", WRONG),
    ("number", {}, "0.333", "1/3", WRONG),
    ("number", {"relative": 0.01}, "0.333", "1/3", RIGHT),
    ("number", {"relative": 0.01}, "0.32", "1/3", WRONG),
    ("number", {}, "50%", "0.5", WRONG),
    ("number", {"percent": "hundredth"}, "50%", "0.5", RIGHT),
    ("number", {"percent": "hundredth"}, "50", "0.5", WRONG),
    ("number", {"percent": "hundredth"}, "5 per cent", "5%", RIGHT),
    ("number", {}, "9007199254740993", "9007199254740992", WRONG),  # one float, two numbers
    ("exact", {}, " Paris\n", "Paris", RIGHT),
    ("exact", {}, "paris", "Paris", WRONG),
    ("exact", {}, "", "Paris", UNPARSED),
    ("exact", {"loose": True}, "**paris**.", "Paris", RIGHT),
    ("exact", {"loose": True}, "New\n York", "new york", RIGHT),
    ("exact", {"form": "[0-9]+"}, "018", "18", WRONG),
    ("exact", {"form": "[0-9]+"}, "18 ", "18", RIGHT),
    ("exact", {"form": "[0-9]+"}, "18\u00a0", "18", UNPARSED),
    ("exact", {"form": "[0-9]+"}, "١٨", "18", UNPARSED),
    ("gsm8k", {}, " $1,800.00.", "1800", RIGHT),
    ("gsm8k", {}, "18 apples", "18", UNPARSED),
    ("gsm8k", {}, "1e3", "1000", UNPARSED),
    *[
        ("choice", {}, said, "B", RIGHT)
        for said in ("B", "b", "(B)", "B.", "B)", "**B**", r"\text{B}", "B. Paris", "(b) Paris")
        + ("The answer is B", "Answer: B", "the correct option is (B).", "$B$", "B: A is not so")
    ],
    *[
        ("choice", {}, said, "B", UNPARSED)
        for said in (
            "",
            "A or B",
            "B or C",
            "B, C",
            "B and C",
            "AB",
            "Bob",
            "neither",
            "A dog",
            "Z",
        )
        + ("B. or C.", "\u0412")  # the last is Cyrillic
    ],
    ("choice", {}, "A", "B", WRONG),
    ("choice", {"letters": "AB"}, "C", "B", UNPARSED),
    ("regex", {}, "colour", "colou?r", RIGHT),
    ("regex", {}, "colours", "colou?r", WRONG),
    ("regex", {}, "Color", "colou?r", WRONG),
    ("regex", {"ignore_case": True}, "Color", "colou?r", RIGHT),
    ("regex", {}, "", ".*", UNPARSED),
    ("regex", {}, "a" * 40 + "b", "(a|aa|a?)+(a|aa)+c", WRONG),  # takes for ever
    ("json", {}, '{"b": 1.0, "a": [true, null]}', '{"a": [true, null], "b": 1}', RIGHT),
    ("json", {}, '{"a": 1}', '{"a": true}', WRONG),
    ("json", {}, "[1, 2]", "[2, 1]", WRONG),
    *[
        ("json", {}, said, "1", UNPARSED)
        for said in ("", "{", "NaN", '{"a": 1, "a": 1}', "[" * 9999, "{'a': 1}", "1 2")
    ],
    *[
        ("tool_call", {}, said, AREA, RIGHT)
        for said in (
            "area(base=10, height=5)",
            "[area(height=5, base=10)]",
            'area(base=10, height=5.0, unit="Units")',
            '{"name": "area", "arguments": {"base": 10, "height": 5}}',
            '{"function": {"name": "area", "arguments": "{\\"base\\": 10, \\"height\\": 5}"}}',
            '[{"name": "area", "arguments": {"base": 10, "height": 5}}]',
        )
    ],
    *[
        ("tool_call", {}, said, AREA, WRONG)
        for said in (
            "area(base=10)",
            "area(10, 5)",
            "area(base=11, height=5)",
            "area(base=10.0, height=5)",  # a decimal is no whole number
            "area(base=True, height=5)",
            'area(base="10", height=5)',
            'area(base=10, height=5, unit="cm")',
            "area(base=10, height=5, colour=1)",
            "perimeter(base=10, height=5)",
            "area(base=10, height=5), area(base=10, height=5)",
        )
    ],
    *[
        ("tool_call", {}, said, AREA, UNPARSED)
        for said in (
            "",
            "area",
            "the area is area(base=10, height=5)",
            "area(base=10, base=10)",
            "area(**{})",
            "area(base=2*5, height=5)",
            "area(base=x, height=5)",
            "x = area(base=10, height=5)",
            "area(base={1}, height=5)",
            "(lambda: 1)()",
            "f()()",
            '{"name": "area", "arguments": [10, 5]}',
            '{"name": "area", "arguments": {"base": 10, "base": 10}}',
            "f(" * 3000,
            "-" * 9000 + "f()",
            "f();" * 51,
        )
    ],
    ("tool_call", {}, "g(q='San Francisco, CA')\nf(a=[1,2])", BOTH, RIGHT),
    ("tool_call", {}, "f(a=(1, 2)); g(q='san francisco ca')", BOTH, RIGHT),
    ("tool_call", {"ordered": True}, "g(q='San Francisco, CA')\nf(a=[1,2])", BOTH, WRONG),
    ("tool_call", {"ordered": True}, "f(a=[1,2])\ng(q='San Francisco, CA')", BOTH, RIGHT),
    ("tool_call", {"strict": True}, "f(a=[1, 2]); g(q='san francisco ca')", BOTH, WRONG),
    ("tool_call", {}, "f(a=[2, 1]); g(q='San Francisco')", BOTH, WRONG),
    ("tool_call", {}, "f(a=[1, 2])", BOTH, WRONG),
    # Either call fits the first of these, and only one the second: they must be paired.
    ("tool_call", {}, "f(a=1); f(a=2)", '[{"f": {"a": [1, 2]}}, {"f": {"a": [1]}}]', RIGHT),
    ("tool_call", {}, "f(a=2); f(a=2)", '[{"f": {"a": [1, 2]}}, {"f": {"a": [1]}}]', WRONG),
    ("tool_call", {}, "f(a={'x': 1})", '[{"f": {"a": [{"x": [1, 2]}]}}]', RIGHT),
    ("tool_call", {}, "f(a={'x': 3})", '[{"f": {"a": [{"x": [1, 2]}]}}]', WRONG),
    ("tool_call", {}, "now.time()", '[{"now.time": {}}]', RIGHT),
    *[("math", {}, said, reference, RIGHT) for reference, said in rows(EQUAL)],
    *[("math", {}, said, reference, WRONG) for reference, said in rows(UNEQUAL)],
    *[
        ("math", {}, said, "1", UNPARSED)
        for said in ("", "?!", r"\frac{1", "10^{10^{10}}", "9^9^9", "2^{123456}", "99999!", "3!!")
        + ("1+" * 600 + "1",)
    ],
    ("math", {"digits": 2}, "3.1416", r"\pi", RIGHT),
    ("json", {"by": "schema"}, '{"a": 1}', SCHEMA, RIGHT),
    ("json", {"by": "schema"}, '{"a": "1"}', SCHEMA, WRONG),
    ("json", {"by": "schema"}, "{}", SCHEMA, WRONG),
    ("json", {"by": "schema"}, "{", SCHEMA, UNPARSED),
    ("json", {"by": "schema"}, "[1]", '{"$ref": "#"}', WRONG),  # which refers to itself for ever
]


def outcome(name, settings, text, reference):
    grader = build_grader(name, **settings)
    canonical = grader.read(text)
    if canonical is None:
        return UNPARSED
    return RIGHT if grader.same(canonical, reference) else WRONG


@pytest.mark.parametrize(("name", "settings", "text", "reference", "expected"), CASES)
def test_graders_say_what_a_person_would(name, settings, text, reference, expected):
    assert outcome(name, settings, text, reference) == expected


@pytest.mark.parametrize(("name", "settings", "text", "reference", "expected"), CASES)
def test_a_canonical_answer_is_its_own_canonical_form(name, settings, text, reference, expected):
    grader = build_grader(name, **settings)
    canonical = grader.read(text)
    if canonical is not None and settings.get("percent") != "hundredth":
        assert grader.read(canonical) == canonical


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("math", r"\frac{1"),
        ("number", "eighteen"),
        ("exact", " "),
        ("choice", "neither"),
        ("regex", "("),
        ("regex", ""),
        ("json", "{"),
        ("tool_call", "f(a=1)"),
        ("tool_call", "[]"),
        ("tool_call", '[{"f": {"a": 1}}]'),
        ("tool_call", '[{"f": {"a": []}}]'),
        ("tool_call", '[{"f": {}, "g": {}}]'),
        ("code", "add(1, 2) == 3"),
        ("code", "assert ("),
        ("code", '{"inputs": ["1"], "outputs": []}'),
    ],
)
def test_a_reference_that_no_answer_can_match_is_one_line(name, reference):
    with pytest.raises(BadInput, match="^reference") as error:
        build_grader(name).check(reference)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("numbr", {}, "grader: no 'numbr'; did you mean 'number'?"),
        ("number", {"tolerance": 1}, "grader number: tolerance: Extra inputs are not permitted"),
        ("number", {"relative": -1}, "grader number: relative: "),
        ("exact", {"form": "("}, "grader exact: form: "),
    ],
)
def test_a_wrong_name_or_setting_is_one_line(name, settings, message):
    with pytest.raises(BadInput) as error:
        build_grader(name, **settings)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "settings", "library", "module"),
    [
        ("math", {}, "math-verify", "math_verify"),
        ("json", {"by": "schema"}, "jsonschema", "jsonschema"),
    ],
)
def test_a_library_that_is_missing_is_one_line(name, settings, library, module, monkeypatch):
    grader = build_grader(name, **settings)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BadInput, match=f"needs {library}; pip install 'distill-resist\\[real\\]'"):
        grader.same(grader.read("1") or "", "1")


@pytest.mark.parametrize("schema", ['{"type": "number of things"}', '{"type": 5}'])
def test_what_is_no_schema_is_one_line(schema):
    with pytest.raises(BadInput, match="reference is no JSON schema") as error:
        build_grader("json", by="schema").check(schema)
    assert "\n" not in str(error.value)


def test_every_file_is_in_the_catalog_and_says_what_it_is():
    folder = Path(package.__file__).parent
    there = {path.stem for path in folder.glob("[!_]*.py")} - {"catalog", "sandbox"}
    assert there == {*GRADERS}
    assert all(summary(name) and GRADERS[name].Grader().read("") is None for name in GRADERS)
    assert {name for name, *_ in CASES} == {*GRADERS} - {"code"}  # which has a file of its own


def test_the_page_of_graders_is_what_they_say():
    page = Path(__file__).parents[2] / "docs" / "graders.md"
    assert page.read_text(encoding="utf-8") == grader_docs.markdown()
