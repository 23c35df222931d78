"""Rules worked out by hand, and a search that has to find what a brute-force oracle finds."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace

import pytest
import torch
import yaml
from hypothesis import given as whatever
from hypothesis import strategies as st

from defenses.release._scoring import final_answer_loss
from defenses.release.obfuscate import (
    RULES,
    Defense,
    Settings,
    mutate,
    rewrite,
    search,
)
from defenses.trained import Row, loss
from distill.answer_format import AnswerFormat
from distill.completions import BadInput, Interface, Prompt
from experiments.tasks import addition, trace
from tests.defenses.release.texts import HASHES, STEPS, edited, final_answer

ADDITION, TRACE = "760=13;481=13;351=09 # 933", "c=3;a=3+4=7;b=7-3=4 # 4"
PROSE = "She has 2 + 3 = 5 hens.\nEach costs $4.\nSo she pays 5 * 4 = $20.\n#### 20"
names = st.lists(st.sampled_from(list(RULES)), min_size=1, max_size=4)


def released(text: str, prompt: str = "?", form: AnswerFormat = STEPS, **settings: object) -> str:
    return edited(Defense, Settings(**settings), text, prompt, form)


class TestRules:
    @pytest.mark.parametrize(
        ("rules", "shown"),
        [
            (["reverse"], "b=7-3=4;a=3+4=7;c=3 # 4"),
            (["rotate"], "a=3+4=7;b=7-3=4;c=3 # 4"),
            (["interleave"], "c=3;b=7-3=4;a=3+4=7 # 4"),
            (["drop_second"], "c=3;b=7-3=4 # 4"),
            (["drop_third"], "c=3;a=3+4=7 # 4"),
            (["repeat"], "c=3;a=3+4=7;b=7-3=4;c=3 # 4"),
            (["merge"], "c=3 a=3+4=7;b=7-3=4 # 4"),
            (["swap_operands"], "c=3;a=4+3=7;b=7-3=4 # 4"),
            (["swap_sides"], "3=c;7=3+4=a;4=7-3=b # 4"),
            (["drop_left"], "3;3+4=7;7-3=4 # 4"),
            (["drop_result"], "c;a=3+4;b=7-3 # 4"),
            (["drop_left", "drop_result", "reverse"], "7-3;3+4;3 # 4"),
        ],
    )
    def test_by_hand_on_a_trace(self, rules, shown):
        assert rewrite(TRACE, rules, STEPS, "k") == shown

    def test_by_hand_on_a_sum_and_on_prose(self):
        assert (
            rewrite(ADDITION, ["swap_sides", "merge"], STEPS, "k") == "13=760 13=481;09=351 # 933"
        )
        assert rewrite(PROSE, ["swap_operands", "rotate"], HASHES, "k") == (
            "Each costs $4.\nSo she pays 4 * 5 = $20.\nShe has 3 + 2 = 5 hens.\n#### 20"
        )

    @whatever(
        st.lists(
            st.tuples(st.integers(1, 99), st.sampled_from(["+", "*", " + ", "-", "/", "**"])),
            min_size=2,
        )
    )
    def test_swapped_operands_change_no_value(self, parts):
        step = "".join(f"{number}{operator}" for number, operator in parts[:4]) + "1"
        swapped = rewrite(step.replace("**", "^"), ["swap_operands"], STEPS, "k").replace("^", "**")
        if step.count("**") < 2:
            assert eval(swapped) == pytest.approx(eval(step))

    @whatever(st.text("a1=;# +"), names, st.text("k", min_size=1, max_size=2))
    def test_keep_the_final_answer_and_are_functions_of_the_key(self, text, rules, key):
        rewritten = rewrite(text, rules, STEPS, key)
        assert final_answer(rewritten) == final_answer(text)
        assert rewritten == rewrite(text, rules, STEPS, key)

    @whatever(st.integers(0, 9), names)
    def test_leave_steps_that_are_among_the_steps(self, n, rules):
        steps = [f"s{i}" for i in range(n)]
        rewritten = rewrite(";".join(steps) + "# 1", rules, STEPS, "k").removesuffix("# 1")
        left = rewritten.replace(" ", ";").split(";") if rewritten else []
        assert set(left) <= set(steps) and bool(left) == bool(steps)

    def test_interleaving_and_shuffling_lose_nothing(self):
        steps = list("abcdefg")
        assert RULES["interleave"](steps, "") == list("aebfcgd")
        orders = [RULES["shuffle"](steps, str(key)) for key in range(30)]
        assert all(sorted(order) == steps for order in orders) and len(set(map(tuple, orders))) > 25


@pytest.mark.parametrize(
    "task", [addition.Task(addition.Settings(digits=3)), trace.Task(trace.Settings(statements=4))]
)
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_stays_within_the_alphabet(task, rule):
    for item in task.items("train", 20, 0):
        text = released(item.solution, rules=[rule])
        assert task.final(text) == item.reference and set(text) <= set(task.alphabet)


class TestSearch:
    def test_finds_what_brute_force_finds(self):
        def score(candidate: tuple[str, ...]) -> float:
            # A hill with one top: every right rule in its place counts, and length costs.
            goal = ("reverse", "merge", "drop_left")
            return sum(a == b for a, b in zip(candidate, goal, strict=False)) - 0.1 * len(candidate)

        every = [c for n in (1, 2, 3) for c in itertools.product(RULES, repeat=n)]
        scores = search(score, 40, 20, 3, "k")
        assert max(scores, key=scores.get) == max(every, key=score) and len(scores) < len(every)
        assert all(scores[one] == score(one) for one in scores)
        assert (
            search(score, 2, 5, 3, "k")
            == search(score, 2, 5, 3, "k")
            != search(score, 2, 5, 3, "l")
        )

    @whatever(names, st.integers(0, 99))
    def test_a_mutation_is_one_change(self, parent, seed):
        child = mutate(tuple(parent), 4, random.Random(seed))
        assert 1 <= len(child) <= 4 and abs(len(child) - len(parent)) <= 1
        if len(child) == len(parent):
            assert sum(a != b for a, b in zip(child, parent, strict=True)) <= 1
        else:
            longer, shorter = sorted((child, tuple(parent)), key=len, reverse=True)
            assert any(longer[:i] + longer[i + 1 :] == shorter for i in range(len(longer)))

    def test_the_score_is_the_chance_that_it_is_wrong_after_its_own_reasoning(self, resources):
        proxy = replace(resources.proxy, temperature=0.0)
        traces = [one for one in resources.traces if "#" in one.text][:5]
        answers = proxy.generate(
            [Prompt("x", one.prompt) for one in traces], seed=0, interface=Interface()
        )
        right = 0.0
        for clean, answer in zip(traces, answers, strict=True):
            reasoning = answer.text.rpartition("#")[0] if "#" in answer.text else answer.text
            final = clean.text[len(clean.text.rpartition("#")[0].rstrip()) :]
            ids = proxy.tokenizer(final).input_ids + [proxy.tokenizer.eos_token_id]
            start = proxy.tokenizer(
                reasoning.rstrip() if "#" in answer.text else reasoning
            ).input_ids[: 24 - len(ids)]
            row = Row(proxy.encode(Prompt("x", clean.prompt)) + start, ids)
            right += math.exp(-loss(proxy.network, [row]).item() * len(ids)) / len(traces)
        assert 1 - final_answer_loss(proxy, traces, STEPS, 2) == pytest.approx(right, rel=1e-4)

    def test_learns_the_candidate_that_hurts_most(self, resources, teacher):
        settings = Settings(steps=3, rounds=2, samples=3, learning_rate=0.01)
        before = {key: value.clone() for key, value in resources.proxy.network.state_dict().items()}
        learned = Defense(settings, resources).learn(teacher)
        assert all(
            (before[key] == value).all()
            for key, value in resources.proxy.network.state_dict().items()
        )
        best = learned["candidates"][learned["scores"].argmax()]
        assert best[best >= 0].tolist() == learned["rules"].tolist()
        again = Defense(settings, resources).learn(teacher)
        assert all(torch.equal(learned[key], again[key]) for key in learned)
        assert len(learned["scores"].unique()) > 1
        defense = Defense(settings, replace(resources, learned=learned))
        assert defense.rules == tuple(list(RULES)[i] for i in learned["rules"])
        fixed = Defense(Settings(rules=defense.rules))
        assert defense.text(resources.traces[0]) == fixed.text(resources.traces[0])

    def test_says_what_is_missing(self, resources, teacher, prompts):
        with pytest.raises(BadInput, match="release/obfuscate.*proxy"):
            Defense(Settings(), replace(resources, proxy=None)).learn(teacher)
        with pytest.raises(BadInput, match="release/obfuscate.*traces"):
            Defense(Settings(), replace(resources, traces=())).learn(teacher)
        other = replace(resources, format=AnswerFormat(mark="@"))
        with pytest.raises(BadInput, match="0 of 12 traces have a final answer"):
            Defense(Settings(), other).learn(teacher)
        with pytest.raises(BadInput, match="learn"):
            Defense(Settings(), resources)(teacher).generate(prompts, seed=0, interface=Interface())
        with pytest.raises(ValueError, match="no rule 'mirror'.*reverse"):
            Settings(rules=["mirror"])


class TestSettings:
    def test_what_is_needed_follows_from_them(self):
        def says(**settings: object) -> tuple[bool, tuple[str, ...]]:
            defense = Defense(Settings(**settings))
            return defense.traits.learns, defense.traits.needs

        assert says() == (True, ("proxy", "traces")) and says(rules=["merge"]) == (False, ())

    def test_the_share_of_answers_is_rewritten_by_prompt(self, teacher, prompts, resources):
        texts = {
            share: [released(TRACE, str(i), share=share, rules=["reverse"]) for i in range(1000)]
            for share in (0.3, 0.6)
        }
        few, many = ([text != TRACE for text in texts[share]] for share in (0.3, 0.6))
        assert abs(sum(few) - 300) < 60 and abs(sum(many) - 600) < 60  # four standard deviations
        assert all(b for a, b in zip(few, many, strict=True) if a)
        assert (
            Defense(Settings(share=0.0))(teacher) is teacher
            and Defense(Settings(share=0.0), resources).learn(teacher) == {}
        )

    def test_the_config_is_the_default(self):
        config = yaml.safe_load(open("configs/defense/release/obfuscate.yaml"))["settings"]
        assert Settings(**config) == Settings()
