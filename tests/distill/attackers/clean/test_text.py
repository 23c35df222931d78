"""What is done to text answers: votes, filters, copies, characters, order, own data and inversion, each by hand."""

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defenses.release import obfuscate, reformulate
from defenses.release import unicode as letters
from distill.answers import Answer, BadInput
from distill.attackers import Own
from distill.attackers.clean import (
    best,
    deduplicate,
    divided,
    filter,
    groups,
    invert_trace,
    mix,
    normalise,
    reorder,
    vote,
)
from experiments.tasks.trace import Settings as Program
from experiments.tasks.trace import Task

TASK = Task(Program())
ITEMS = TASK.items("query", 12, 0)
CLEAN = [Answer(item.prompt.id, item.prompt.text, item.solution, (1, 2)) for item in ITEMS]
TRUE = {item.prompt.text: item.reference for item in ITEMS}
OWN = Own(worked=CLEAN, final=TASK.final, mark="#",
          check=lambda answer: TASK.grade(answer.text, TRUE[answer.prompt]) == "right")  # fmt: skip


def said(*texts, prompt="q"):
    return [Answer(f"a~{i}" if i else "a", prompt, text, (i,)) for i, text in enumerate(texts)]


def made(module, **settings):
    return module.Attacker(module.Settings(**settings))


def texts(answers):
    return [one.text for one in answers]


class TestVote:
    def test_by_hand(self):
        held = said("x # 1", "y # 2", "no answer", "z # 2")
        assert texts(made(vote).clean(held, OWN, seed=0)) == ["y # 2", "z # 2"]
        assert texts(made(vote, keep="first").clean(held, OWN, seed=0)) == ["y # 2"]
        # A tie goes to the earliest, and without any vote the first answer stays.
        assert texts(made(vote).clean(said("x # 1", "y # 2"), OWN, seed=0)) == ["x # 1"]
        assert texts(made(vote).clean(said("x", "y"), OWN, seed=0)) == ["x"]

    @given(st.lists(st.tuples(st.sampled_from("pq"), st.integers(0, 3)), min_size=1, max_size=12))
    def test_the_winner_has_as_many_votes_as_any(self, drawn):
        held = [Answer(str(i), prompt, f"# {digit}") for i, (prompt, digit) in enumerate(drawn)]
        kept = made(vote).clean(held, OWN, seed=0)
        for group in groups(held):
            votes = Counter(one.text for one in group)
            mine = [one.text for one in kept if one.prompt == group[0].prompt]
            assert len(set(mine)) == 1 and len(mine) == max(votes.values())


class TestBest:
    def test_the_right_one_then_the_first(self):
        prompt = ITEMS[0].prompt.text
        held = said("wrong # x", ITEMS[0].solution, "later " + ITEMS[0].solution, prompt=prompt)
        assert texts(made(best).clean(held, OWN, seed=0)) == [ITEMS[0].solution]
        assert texts(made(best).clean(said("b", "a", prompt=prompt), OWN, seed=0)) == ["b"]

    def test_the_shortest(self):
        assert texts(made(best, by="length").clean(said("bbb", "aa", "cc"), OWN, seed=0)) == ["aa"]

    def test_what_it_needs_depends_on_what_it_goes_by(self):
        assert [made(best, by=by).needs for by in ("check", "likelihood", "length")] == [("check",), ("fresh",), ()]


class TestFilter:
    def test_repetition_by_hand(self):
        # aaaa has three 2-grams, two of which were there before; abcd has three and none.
        assert filter.repetition("aaaa", 2) == pytest.approx(2 / 3) and filter.repetition("abcd", 2) == 0
        assert filter.repetition("a", 2) == 0

    def test_upper_is_a_quantile(self):
        assert filter.upper([3, 1, 2, 4], 0.5) == 2 and filter.upper([1, float("nan")], 1.0) == float("inf")

    def test_wrong_repeating_and_long_answers_go(self):
        held = [CLEAN[0], replace(CLEAN[1], text="c=1 # x"), CLEAN[2]]
        assert made(filter).clean(held, OWN, seed=0) == [CLEAN[0], CLEAN[2]]
        loop = said("abcabcabcabcabc", "no loops at all")
        assert texts(made(filter, wrong=False, repeats=0.5, n=3).clean(loop, OWN, seed=0)) == ["no loops at all"]
        long = said("a" * 10, "b" * 11, "c" * 40)
        assert texts(made(filter, wrong=False, long=1.5).clean(long, OWN, seed=0)) == ["a" * 10, "b" * 11]

    def test_who_would_be_left_with_nothing_keeps_the_least_share_of_those_that_fail_fewest(self):
        held = [replace(one, text=one.text[:-1] + "?") for one in CLEAN[:4]] + [replace(CLEAN[4], text="a" * 99)]
        kept = made(filter, long=1.5, least=0.2).clean(held, OWN, seed=0)
        assert kept == held[:1]


def test_nearly_equal_answers_to_a_question_are_kept_once():
    held = [*said("abcdefgh", "abcdefgh", "abcdefgx", "12345678"), *said("abcdefgh", prompt="other")]
    one = made(deduplicate, above=0.6, n=4)
    # 4-grams: abcd bcde cdef defg efgh against ... efgx: 4 of 6 are shared, 0.67.
    assert texts(one.clean(held, OWN, seed=0)) == ["abcdefgh", "12345678", "abcdefgh"]
    assert texts(made(deduplicate, above=1.0).clean(held, OWN, seed=0))[:3] == ["abcdefgh", "abcdefgx", "12345678"]


class TestNormalise:
    @given(st.text(st.characters(min_codepoint=33, max_codepoint=126)))
    def test_ascii_stays_and_twice_is_once(self, text):
        assert normalise.normalised(text) == text

    @given(st.text())
    def test_twice_is_once(self, text):
        once = normalise.normalised(text)
        assert normalise.normalised(once) == once

    @pytest.mark.parametrize("by", ["twin", "insertion"])
    def test_it_undoes_the_defence_of_characters(self, by):
        defense = letters.Defense(letters.Settings(rate=1.0, by=by))
        word = "value is a=3+4=7; So we get: Total-2, (and) ECHO/4 = 1 # 12"
        edited = [defense.edit(one) for one in [*CLEAN, Answer("x", "?", word)]]
        assert all(one.text != two.text for one, two in zip(edited, [*CLEAN, Answer("x", "?", word)], strict=True))
        kept = made(normalise).clean(edited, OWN, seed=0)
        assert texts(kept) == [*texts(CLEAN), word]
        assert all(one.token_ids == () for one in kept)

    def test_spaces_and_widths(self):
        assert normalise.normalised("ａ\u00a0 b\u200bc\nd") == "a bc\nd"


class TestMix:
    def test_the_share_of_all_characters(self):
        kept = made(mix, share=0.5).clean(CLEAN[:6], OWN, seed=0)
        mine = kept[6:]
        assert kept[:6] == CLEAN[:6] and len({one.prompt_id for one in mine}) == len(mine)
        sold, own = (sum(len(one.text) for one in part) for part in (CLEAN[:6], mine))
        assert sold <= own < sold + max(len(one.text) for one in CLEAN)

    def test_none_is_the_identity_and_little_data_is_repeated(self):
        assert made(mix, share=0).clean(CLEAN, OWN, seed=0) == CLEAN
        few = replace(OWN, worked=CLEAN[:1])
        mine = made(mix, share=0.75).clean(CLEAN[:2], few, seed=0)[2:]
        assert {one.text for one in mine} == {CLEAN[0].text} and len(mine) >= 5

    def test_nothing_to_mix_with_is_one_line(self):
        with pytest.raises(BadInput, match="owns no worked solutions"):
            made(mix).clean(CLEAN, replace(OWN, worked=[]), seed=0)


class TestReorder:
    @pytest.mark.parametrize(
        ("step", "back"),
        [("a=7=3+4", "a=3+4=7"), ("13=760", "760=13"), ("c=3", "c=3"), ("a=3+4=7", "a=3+4=7"), ("8=9-1", "9-1=8")],
    )
    def test_turned_by_hand(self, step, back):
        assert reorder.turned(step) == back

    @given(st.permutations(range(3)), st.booleans())
    def test_the_true_form_is_among_the_candidates_whatever_was_done(self, order, turn):
        for one in CLEAN[:4]:
            reasoning, rest = divided(one.text, "#")
            steps = reasoning.split(";")
            told = [reformulate.hoisted(steps[i]) if turn else steps[i] for i in order]
            moved = ";".join(told) + rest
            forms = reorder.candidates(moved, ";", "#", 24)
            assert one.text in forms and forms[0] == moved and len(forms) == len(set(forms))

    @pytest.fixture
    def knowing(self, monkeypatch):
        """A model of own solutions that knows the right form of every answer."""
        right = {one.prompt: one.text for one in CLEAN}
        monkeypatch.setattr(reorder, "own_model", lambda *args: None)
        monkeypatch.setattr(
            reorder, "surprisal", lambda model, said: [0.1 if one.text == right[one.prompt] else 1.0 for one in said]
        )

    @pytest.mark.parametrize("rules", [["reverse"], ["rotate"], ["interleave"], ["shuffle"], ["merge"]])
    def test_it_undoes_rules_that_only_move(self, knowing, rules):
        defense = obfuscate.Defense(obfuscate.Settings(rules=rules))
        edited = [defense.edit(one) for one in CLEAN]
        assert texts(edited) != texts(CLEAN)
        assert texts(made(reorder).clean(edited, OWN, seed=0)) == texts(CLEAN)

    def test_it_undoes_reformulation_and_leaves_clean_answers(self, knowing):
        defense = reformulate.Defense(reformulate.Settings())
        assert texts(made(reorder).clean([defense.edit(one) for one in CLEAN], OWN, seed=0)) == texts(CLEAN)
        assert made(reorder).clean(CLEAN, OWN, seed=0) == CLEAN

    def test_a_gain_below_the_margin_changes_nothing(self):
        forms = said("as sold", "another")
        one = made(reorder, margin=0.1)
        assert one._likeliest(forms, [1.0, 0.95]) is forms[0] and one._likeliest(forms, [1.0, 0.85]) is forms[1]
        assert one._likeliest(forms, [np.nan, 5.0]) is forms[1]


class TestInvertTrace:
    @pytest.fixture
    def writers(self, monkeypatch):
        """Two inverters with a mind of their own: what each writes, by question."""
        written = [{}, {}]
        turns = itertools.cycle(written)
        monkeypatch.setattr(invert_trace, "own_model", lambda *args: next(turns))
        monkeypatch.setattr(
            invert_trace, "expanded", lambda model, said, own: [replace(one, text=model[one.prompt]) for one in said]
        )
        return written

    def test_what_all_write_and_ends_in_what_was_sold_is_believed(self, writers):
        whole, agreed, split, wrong = CLEAN[:4]
        sold = [replace(one, text=f" # {TRUE[one.prompt]}") for one in (agreed, split, wrong)]
        for model in writers:
            model |= {one.prompt: one.text for one in (agreed, split)} | {wrong.prompt: "c=1;a=1;b=1 # x"}
        writers[1][split.prompt] = "something longer # " + TRUE[split.prompt]
        kept = made(invert_trace).clean([whole, *sold], OWN, seed=0)
        assert texts(kept) == texts([whole, agreed])
        held = made(invert_trace, keep=True).clean([whole, *sold], OWN, seed=0)
        assert texts(held) == texts([whole, agreed, sold[1], sold[2]])

    def test_with_none_believed_all_stay_as_they_were_sold(self, writers):
        sold = [replace(one, text=f" # {TRUE[one.prompt]}") for one in CLEAN[:3]]
        for model in writers:
            model |= {one.prompt: "no answer" for one in sold}
        assert made(invert_trace).clean(sold, OWN, seed=0) == sold

    def test_the_question_gives_the_answer_away(self):
        assert invert_trace.hinted(CLEAN[0], OWN).prompt == f"{CLEAN[0].prompt} # {TRUE[CLEAN[0].prompt]}"


@pytest.mark.parametrize("module", [vote, best, filter, deduplicate, normalise, invert_trace])
def test_clean_data_gain_nothing(module):
    assert made(module).clean(CLEAN, OWN, seed=0) == CLEAN
