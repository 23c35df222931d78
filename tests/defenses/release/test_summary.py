"""Summaries by rule, worked out by hand; by model, against a rewriter that counts and can be
predicted.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml
from hypothesis import given as whatever
from hypothesis import strategies as st

from defenses import ProviderResources
from defenses.release import split_answer
from defenses.release._rewriter import fill_template
from defenses.release.summary import (
    INSTRUCTION,
    Defense,
    Settings,
    conclusion,
    evenly_spaced,
    summary,
)
from distill.completions import BadInput, Completion, Interface, Prompt
from tests.defenses.release.texts import HASHES, LETTERS, READS, SENTENCES, STEPS, final_answer

ADDITION, TRACE = "760=13;481=13;351=09 # 933", "c=3;a=3+4=7;b=7-3=4 # 4"
PROSE = (
    "She sells 16 - 3 - 4 = <<16-3-4=9>>9 eggs.\n"
    "That is nine.\n"
    "She makes 9 * 2 = $<<9*2=18>>18 a day.\n"
    "#### 18"
)


class TestSteps:
    @pytest.mark.parametrize(
        ("text", "form", "steps", "rest"),
        [
            (TRACE, STEPS, ["c=3", "a=3+4=7", "b=7-3=4"], " # 4"),
            ("no mark;at all ", STEPS, ["no mark", "at all "], ""),
            ("# 1;2 # 3", STEPS, ["# 1", "2"], " # 3"),
            ("# 9", STEPS, [], "# 9"),
            ("", STEPS, [], ""),
            ("It is 2. So 4.\nA: 4", SENTENCES, ["It is 2.", "So 4."], "\nA: 4"),
            ("<think>\nSo 2.\n</think>\n\nIt is 4.\nA: 4", READS, ["So 2.", "It is 4."], "\nA: 4"),
        ],
    )
    def test_by_hand(self, text, form, steps, rest):
        reasoning, answer = split_answer(text, form)
        assert [step.text for step in form.split_steps(reasoning)] == steps and answer == rest

    @whatever(st.text("a;# \n"), st.sampled_from([";", "; ", "line", "sentence"]))
    def test_joined_again_they_are_the_text(self, text, steps):
        form = STEPS.model_copy(update={"steps": steps})
        reasoning, rest = split_answer(text, form)
        assert "".join(map("".join, form.split_steps(reasoning))) + rest == text
        assert final_answer(rest) == final_answer(text) and "#" not in rest[:-1].lstrip()[1:]


class TestRule:
    @pytest.mark.parametrize(
        ("step", "short"),
        [
            ("760=13", "13"),
            ("c=3", "c=3"),
            ("a=3+4=7", "a=7"),
            ("b=7-3=2+2=4", "b=4"),
            ("She sold 48/2 = 24 clips", "24 clips"),
            ("She sold 48/2 = $<<48/2=24>>24 of clips", "$24 of clips"),
            ("Total cost = 3*4 = 12", "Total cost = 12"),
            ("So nine", "So nine"),
            ("", ""),
        ],
    )
    def test_conclusions_by_hand(self, step, short):
        assert conclusion(step) == short

    @pytest.mark.parametrize(
        ("text", "keep", "form", "short"),
        [
            (ADDITION, 1, STEPS, "13;13;09 # 933"),
            (ADDITION, 0.5, STEPS, "13;09 # 933"),
            (TRACE, 0.34, STEPS, "b=4 # 4"),
            (TRACE, 0, STEPS, "# 4"),
            (PROSE, 1, HASHES, "9 eggs.\nThat is nine.\n$18 a day.\n#### 18"),
        ],
    )
    def test_by_hand(self, text, keep, form, short):
        assert summary(text, form, keep) == short

    def test_what_is_kept_is_spread_and_ends_with_the_last(self):
        assert [evenly_spaced(4, share / 4) for share in range(5)] == [
            [],
            [3],
            [1, 3],
            [1, 2, 3],
            [0, 1, 2, 3],
        ]

    @whatever(st.integers(0, 40), st.floats(0, 1))
    def test_the_share_is_kept_to_half_a_step(self, total, keep):
        steps = evenly_spaced(total, keep)
        assert abs(len(steps) - keep * total) <= 0.5 + 1e-9 and steps[-1:] in ([], [total - 1])
        gaps = [b - a for a, b in zip(steps, steps[1:], strict=False)]
        assert not gaps or max(gaps) - min(gaps) <= 1

    @whatever(st.text("a1=;# "), st.floats(0, 1))
    def test_keeps_the_final_answer_and_adds_nothing(self, text, keep):
        short = summary(text, STEPS, keep)
        assert final_answer(short) == final_answer(text) and len(short) <= len(text)
        assert set(short) <= set(text)


class TestModel:
    def defense(self, resources, **settings):
        return Defense(Settings(by="model", instruction="{reasoning}", **settings), resources)

    def test_one_call_rewrites_what_there_is_to_rewrite(self):
        class Upper:
            tokenizer, context, max_new_tokens = LETTERS, 1000, 9
            calls: list = []

            def generate(self, prompts, *, seed, interface):
                self.calls.append([prompt.text for prompt in prompts])
                return [
                    Completion(p.id, p.text, f" {p.text.upper()}\n", (5,) * 9, passes=2.0)
                    for p in prompts
                ]

        class Teacher:
            def generate(self, prompts, *, seed, interface):
                return [Completion(p.id, p.text, p.text, (1, 2)) for p in prompts]

        texts = ["a=1;b # 7", "# 7", "no mark"]
        model = Defense(
            Settings(by="model", keep=0.25, instruction="{percent}{question}: {reasoning}{x}"),
            ProviderResources(rewriter=Upper()),
        )(Teacher())
        answers = model.generate(
            [Prompt(str(i), text) for i, text in enumerate(texts)], seed=0, interface=Interface()
        )
        assert Upper.calls == [["25a=1;b # 7: a=1;b{x}", "25no mark: no mark{x}"]]
        assert [one.text for one in answers] == [
            "25A=1;B # 7: A=1;B{X} # 7",
            "# 7",
            "25NO MARK: NO MARK{X}",
        ]
        # (9 tokens and end-of-text) * 2 passes for answers of 9 + 1 and 7 + 1 characters
        assert [one.passes for one in answers] == [1 + 20 / 10, 1.0, 1 + 20 / 8]
        assert all(one.token_ids == () for one in answers)

    def test_keeps_order_and_company_and_depends_on_the_key(self, teacher, prompts, resources):
        model = self.defense(resources)(teacher)
        together = model.generate(prompts, seed=3, interface=Interface("full"))
        assert [
            model.generate([prompt], seed=3, interface=Interface("full"))[0] for prompt in prompts
        ] == together
        assert (
            self.defense(resources, key="other")(teacher).generate(
                prompts, seed=3, interface=Interface()
            )
            != together
        )
        clean = teacher.generate(prompts, seed=3, interface=Interface())
        assert [final_answer(one.text) for one in together] == [
            final_answer(one.text) for one in clean
        ]

    def test_needs_a_rewriter_and_only_then(self, teacher, resources):
        assert Defense(Settings()).traits.needs == ()
        assert self.defense(resources).traits.needs == ("rewriter",)
        with pytest.raises(BadInput, match="release/summary.*rewriter"):
            self.defense(replace(resources, rewriter=None))(teacher)
        assert self.defense(ProviderResources(), keep=None)(teacher) is teacher

    def test_an_instruction_must_hold_the_reasoning(self):
        with pytest.raises(ValueError, match="reasoning"):
            Settings(instruction="Summarise!")
        assert fill_template("{a}{b}{c}", a="{b}", b="1") == "{b}1{c}"


def test_the_config_asks_what_the_code_does():
    config = yaml.safe_load(open("configs/defense/release/summary.yaml"))["settings"]
    assert config["instruction"] == INSTRUCTION and Settings(**config) == Settings()
