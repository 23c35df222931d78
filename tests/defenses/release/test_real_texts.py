r"""Rules on answers as models write them: LaTeX, code, Markdown, self-talk, tool calls, units.

Whatever a rule does, formulas and blocks of code stay whole, tags of thinking too, and the final
answer is the same byte for byte.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from defenses import ProviderResources
from defenses.release._spans import CODE, MATHS, NOTES, Masked, cut_before, protected
from defenses.release.reformulate import hoist_result
from distill.answer_format import AnswerFormat
from distill.completions import Completion
from experiments.settings.components import build_defense
from experiments.settings.defenses import parse_defense

DATA = Path(__file__).parents[2] / "data"
BOXED = AnswerFormat(kind="boxed", steps="sentence")
TAGS = AnswerFormat(kind="tags", steps="line")
FENCED = AnswerFormat(kind="fenced", steps="line")
CALLS = AnswerFormat(kind="tool_call", steps="line")
MARK = AnswerFormat(mark="A:", gap="\n", steps="line")

TEXTS = {
    "latex": (
        BOXED,
        r"Natalia sold \(48 + 24 = 72\) clips in all. Then \[ \frac{72}{2} = 36 \] remain. "
        r"That costs $3 \times 36 = 108$ cents, or $1.08. So the total is \boxed{108}.",
    ),
    "code": (
        FENCED,
        "We add 3 + 4 = 7 first.\n```python\n# a comment; 2 + 2 = 4\nx = 3 + 4\nprint(x)\n```\n"
        "Inline `y = 2*5 = 10` stays. Now 2*5 = 10 apples.\n```python3\nprint(7)\n```",
    ),
    "markdown": (
        TAGS,
        "## Steps\n\n1. **First**: 12 * 3 = 36 pens.\n2. Then 36 - 6 = 30.\n\n| a | b |\n"
        "|---|---|\n| 1 | 2 |\n\n- so 30 = 30\n<answer>30</answer>",
    ),
    "self-talk": (
        BOXED,
        "<think>\nHmm, let me see. 7 * 8 = 56. Wait, is that right? Yes: \\(7 \\cdot 8 = 56\\).\n"
        "Okay.\n</think>\n\nThe product is 7 * 8 = 56. \\boxed{56}",
    ),
    "tool call": (
        CALLS,
        "I need 2 + 3 = 5 items; let me look.\n<tool_call>\n"
        '{"name": "find", "arguments": {"items": 5}}\n</tool_call>',
    ),
    "prose": (
        MARK,
        "Weather in 1903 was mild, as reports say.\nIt rained on 12 days. Few minded; most slept.\n"
        "A: mild",
    ),
    "gsm8k": (
        MARK,
        "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\nShe sold 48+24 = <<48+24=72>>72 clips "
        "altogether.\nA: 72",
    ),
}
RULES = [
    "release/answer_only",
    "release/truncate(keep=0.3)",
    "release/truncate(keep=0.77)",
    "release/summary(keep=1.0)",
    "release/summary(keep=0.34)",
    "release/reformulate",
    "release/anchors(share=1.0)",
    "release/poison(p=1.0, where=reasoning)",
    "release/unicode(rate=1.0)",
    "release/unicode(rate=1.0, by=twin)",
    *(
        f"release/obfuscate(rules=[{rule}])"
        for rule in ("reverse", "shuffle", "drop_second", "merge", "swap_sides", "swap_operands")
    ),
    "release/obfuscate(rules=[drop_left])",
    "release/obfuscate(rules=[drop_result])",
]


def released(rule: str, text: str, form: AnswerFormat) -> str:
    (part,) = build_defense(parse_defense(rule).spec, ProviderResources(format=form)).parts
    return str(part.edit(Completion("a", "How many?", text)).text)


def whole(text: str) -> dict[str, bool]:
    """Whether what comes in pairs does."""
    pairs = {r"\(": r"\)", r"\[": r"\]", "<<": ">>", "<think>": "</think>"}
    fences = re.findall(r"^```", text, re.MULTILINE)
    return {one: text.count(one) == text.count(end) for one, end in pairs.items()} | {
        "fences": len(fences) % 2 == 0,
        "braces": text.count("{") == text.count("}"),
        "ticks": text.count("`") % 2 == 0,
    }


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", TEXTS)
def test_spans_stay_whole_and_the_final_answer_is_the_same(rule, kind):
    form, text = TEXTS[kind]
    assert all(whole(text).values()), "the text itself"
    new = released(rule, text, form)
    assert all(whole(new).values()), (whole(new), new)
    assert form.split(new).answer.lstrip() == form.split(text).answer.lstrip()
    assert form.final(new) == form.final(text) is not None


def recorded() -> list[tuple[AnswerFormat, str]]:
    """200 answers of real models, with what they are read by."""
    with (DATA / "reasoning_gym" / "answers.jsonl").open(encoding="utf-8") as lines:
        tagged = [json.loads(line)["response"] for line in lines]
    with (DATA / "gsm8k" / "example_model_solutions.jsonl").open(encoding="utf-8") as lines:
        solved = [json.loads(line)["175b_verification"]["solution"] for line in lines]
    sentences = TAGS.model_copy(update={"steps": "sentence"})
    return [(sentences, text) for text in tagged] + [(MARK, text) for text in solved]


@pytest.mark.parametrize("rule", RULES)
def test_on_200_recorded_answers_what_was_whole_stays_whole(rule):
    answers = recorded()
    changed = 0
    for form, text in answers:
        new = released(rule, text, form)
        changed += new != text
        before, after = whole(text), whole(new)
        assert not [pair for pair in before if before[pair] and not after[pair]], (text, new)
        assert form.split(new).answer.lstrip() == form.split(text).answer.lstrip(), (text, new)
    assert len(answers) == 200 and changed >= 20


@pytest.mark.parametrize(
    ("step", "hoisted"),
    [
        (r"Natalia sold \(48 + 24 = 72\) clips.", None),
        ("total = 3*4 = 12 apples", "total = 12 apples = 3*4"),
        ("1,000 + 24 = 1,024 dollars", "1,024 dollars = 1,000 + 24"),
        ("3*4 = 12 red apples", None),
        ("3*4 = 12 in total", "12 = 3*4 in total"),
        ("She makes 9 * 2 = $18 a day.", "She makes $18 = 9 * 2 a day."),
        ("so 3*4 = 12 apples and 2*2 = 4 pears.", "so 12 apples = 3*4 and 4 pears = 2*2."),
        ("`x = 3 + 4 = 7` is code", None),
    ],
)
def test_results_go_first_with_their_units_and_formulas_are_left_alone(step, hoisted):
    masked = Masked(step, CODE, MATHS)
    assert masked.unmasked(hoist_result(masked.text)) == (hoisted or step)


class TestSpans:
    @pytest.mark.parametrize(
        ("text", "spans"),
        [
            (r"a \(x\) b \[y\] c", [r"\(x\)", r"\[y\]"]),
            ("it costs $5 and $6, then $7", []),
            ("so $a+b$ and $$c$$", ["$a+b$", "$$c$$"]),
            ("```py\nx\n```\nthen `y`", ["```py\nx\n```", "`y`"]),
            ("```py\nnever closed", ["```py\nnever closed"]),
            (r"\begin{align}a\\b\end{align} c", [r"\begin{align}a\\b\end{align}"]),
            ("48/2 = <<48/2=24>>24", ["<<48/2=24>>"]),
            ("`a $x$ b` $y$", ["`a $x$ b`", "$y$"]),
        ],
    )
    def test_by_hand(self, text, spans):
        places = protected(text, CODE, MATHS, NOTES)
        assert [text[start:end] for start, end in places] == spans

    @given(st.text("ab$`\\()<> \n\ue000\uf8ff", max_size=40))
    def test_what_is_masked_comes_back(self, text):
        masked = Masked(text, CODE, MATHS, NOTES)
        assert masked.unmasked(masked.text) == text and len(masked.text) <= len(text)

    def test_a_cut_never_halves_a_span(self):
        text = r"ab \(cd\) ef"
        assert [cut_before(text, place, MATHS) for place in range(12)] == [
            *(0, 1, 2, 3),
            *(3, 3, 3, 3, 3),
            *(9, 10, 11),
        ]
