"""Radioactivity, green mass and triggers: students that are rows of numbers, with and without what
a marked teacher would have taught them.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from defenses import ProviderResources
from defenses.marks import adfp, kgw, trigger
from defenses.marks.detect import LEAST, Pairs, Vocabulary, laws
from defenses.marks.detect.students import green_mass, radioactivity, tokens_of
from defenses.marks.detect.windows import of_texts
from distill.answer_format import AnswerFormat
from distill.completions import BadInput, Completion

SIZE = 200
BOOK = Vocabulary("c" * 64, SIZE)
WINDOWS = 3000


def contexts(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, SIZE, (WINDOWS, 2))


def student(seed: int, contexts_NC: np.ndarray) -> np.ndarray:
    """Next-token distributions that are a function of the context alone."""
    rows = np.unique(contexts_NC, axis=0, return_inverse=True)[1].reshape(-1)
    scores = np.random.default_rng(seed).normal(0, 2, (rows.max() + 1, SIZE))[rows]
    p = np.exp(scores)
    return p / p.sum(-1, keepdims=True)


def tilted(p_NV: np.ndarray, green_NV: np.ndarray, delta: float) -> np.ndarray:
    """What a student knows that learned from a marked teacher."""
    q = p_NV * np.exp(delta * green_NV)
    return q / q.sum(-1, keepdims=True)


def read(contexts_NC: np.ndarray, tokens_N: np.ndarray) -> Pairs:
    return Pairs(contexts_NC, tokens_N, np.arange(len(tokens_N)), BOOK)


@pytest.mark.parametrize("by", ["argmax", "draw"])
def test_a_radioactive_student_is_found_and_a_clean_one_is_not(by):
    mark, windows = kgw.Defense(kgw.Settings(key="k")), contexts(0)
    tokens_V = torch.arange(SIZE)
    green = mark.green(torch.from_numpy(windows), tokens_V).numpy()
    p = student(1, windows)
    learned = radioactivity(mark, read(windows, tokens_of(tilted(p, green, 0.3), by)), BOOK)
    clean = radioactivity(mark, read(windows, tokens_of(p, by)), BOOK)
    assert learned.p < 1e-5 < 1e-2 < clean.p


@pytest.mark.parametrize("by", ["argmax", "draw"])
def test_clean_students_p_values_are_uniform_over_keys(by):
    windows = np.concatenate([contexts(0), contexts(0)[:1500]])  # half is asked again
    tokens = tokens_of(student(1, windows), by, seed=3)
    if by == "argmax":
        assert (tokens[:1500] == tokens[WINDOWS:]).all()
    pairs = read(windows, tokens)
    p = [radioactivity(kgw.Defense(kgw.Settings(key=f"{i}")), pairs, BOOK).p for i in range(200)]
    assert stats.kstest(p, "uniform").pvalue > 1e-3


def test_only_windows_of_the_training_data_count_where_they_are_known():
    mark, windows = kgw.Defense(kgw.Settings(key="k")), contexts(0)
    green = mark.green(torch.from_numpy(windows), torch.arange(SIZE)).numpy()
    p = student(1, windows)
    half = np.arange(WINDOWS) % 10 == 0  # of which the student learned
    p[half] = tilted(p, green, 2.0)[half]
    pairs = read(windows, tokens_of(p))
    trained = read(windows[half], tokens_of(p)[half])
    every, filtered = (radioactivity(mark, pairs, BOOK, trained=t) for t in (None, trained))
    assert filtered.scored < 0.2 * every.scored and filtered.log_p < 3 * every.log_p < 0


def test_a_student_that_copies_what_it_reads_is_not_radioactive():
    """It reads marked texts that say everything twice, and says at each window what stood behind
    that window before.
    """
    mark, rng = kgw.Defense(kgw.Settings(key="k")), np.random.default_rng(0)
    texts, copies = [], []
    for _ in range(100):
        text = [int(one) for one in rng.integers(0, SIZE, 2)]
        for _ in range(10):
            green = mark.green(torch.tensor([text[-2:]]), torch.arange(SIZE))[0].numpy()
            text.append(int(rng.choice(np.flatnonzero(green))))
        texts.append(text + text)
        copies += [*rng.integers(0, SIZE, 12), *text[2:]]
    pairs = of_texts(texts, 2, BOOK)
    copied = Pairs(pairs.contexts_NC, np.array(copies), pairs.rows_N, BOOK)
    assert mark.detect(copied, BOOK).p < 1e-6
    counted = radioactivity(mark, copied, BOOK)
    assert counted.p > 1e-3 and counted.scored + counted.repeats == 1200


def test_a_token_is_the_likeliest_or_as_often_drawn_as_it_is_likely():
    p = np.tile([0.2, 0.5, 0.3], (20_000, 1))
    assert set(tokens_of(p)) == {1}
    counts = np.bincount(tokens_of(p, "draw", seed=1), minlength=3)
    assert stats.chisquare(counts, 20_000 * p[0]).pvalue > 1e-3
    assert (tokens_of(p, "draw", seed=1) == tokens_of(p, "draw", seed=1)).all()


class TestGreenMass:
    def test_by_hand(self):
        mark = adfp.Defense(adfp.Settings(key="k"))
        windows = np.array([[1, 2], [3, 4], [1, 2]])
        p = np.full((3, 4), 0.25)
        green = mark.green(torch.from_numpy(windows), 4).numpy()
        seen = green_mass(mark, windows, p, special=[3], least=1)
        mass = green[:2, :3].sum() / 3
        assert (seen.scored, seen.repeats) == (2, 1) and seen.expected == 1.0
        assert seen.statistic == pytest.approx(mass)
        excess = mass - 1.0
        assert seen.log_p == pytest.approx(-(excess**2) if excess > 0 else 0)
        tokens = green_mass(mark, windows, p, special=[3], bound="tokens", least=1)
        assert tokens.log_p == pytest.approx(laws.hoeffding(excess, 2 * 3 / 9))

    def test_a_fingerprinted_student_is_found_and_the_bound_holds_over_keys(self):
        windows = contexts(0)
        p = student(1, windows)
        mark = adfp.Defense(adfp.Settings(key="k"))
        green = mark.green(torch.from_numpy(windows), SIZE).numpy()
        places, tokens = (
            green_mass(mark, windows, tilted(p, green, 0.3), bound=b) for b in ("places", "tokens")
        )
        assert tokens.log_p < places.log_p < np.log(1e-5)
        null = [
            green_mass(adfp.Defense(adfp.Settings(key=f"{i}")), windows[:400], p[:400], bound=b).p
            for i in range(100)
            for b in ("places", "tokens")
        ]
        worst = max(np.mean(np.array(null) <= level) - level for level in (0.01, 0.05, 0.2, 0.5))
        assert worst < 0.05

    def test_bad_input(self):
        mark = adfp.Defense(adfp.Settings(key="k"))
        with pytest.raises(BadInput, match="1 distributions for 2 contexts"):
            green_mass(mark, contexts(0)[:2], np.ones((1, SIZE)))
        few = green_mass(mark, contexts(0)[:5], student(1, contexts(0)[:5]))
        assert few.p is None and f"{LEAST} distinct ones" in few.note


LINES = AnswerFormat(mark="A:", gap="\n", thinking="none")


class TestTrigger:
    def released(self, text: str, form: AnswerFormat = LINES, **settings) -> str:
        made = trigger.Defense(
            trigger.Settings(share=1.0, **settings), ProviderResources(format=form)
        )
        return made.edit(Completion("p", "?", text, (1, 2))).text

    def test_a_step_is_put_behind_the_first_one_and_the_answer_stays(self):
        triggers = {f"{t.asked_as}{t.number}" for t in trigger.Defense(trigger.Settings()).triggers}
        lines = self.released("one\ntwo\nA: 3").split("\n")
        assert [lines[0], lines[2], lines[3]] == ["one", "two", "A: 3"] and lines[1] in triggers
        assert self.released("one\nA: 3").split("\n")[::2] == ["one", "A: 3"]
        assert self.released("A: 3") == "A: 3"
        thinks = LINES.model_copy(update={"thinking": "read"})
        both = self.released("<think>a\nb</think>one\ntwo\nA: 3", thinks)
        assert sum(both.count(one) for one in triggers) == 1 and both.endswith("one\ntwo\nA: 3")

    def test_words_and_numbers_are_the_keys(self):
        made = [trigger.Defense(trigger.Settings(words=900, key=key)).triggers for key in "ab"]
        words = [[one.asked_as for one in triggers] for triggers in made]
        assert len({*words[0]}) == 900 and {*words[0]} == {*words[1]} and words[0] != words[1]
        same = sum(
            dict(made[0])[word] == number for word, number in made[1]
        )  # one in a thousand by chance
        assert same < 8
        assert all(len(one.number) == 3 and one.asked_as[-1] == "=" for one in made[0])

    def test_a_share_of_the_prompts_and_always_the_same(self):
        made = trigger.Defense(trigger.Settings(share=0.3), ProviderResources(format=LINES))
        answers = [Completion("p", f"{i}?", "one\nA: 3") for i in range(400)]
        texts = [made.edit(one).text for one in answers]
        marked = [text != "one\nA: 3" for text in texts]
        assert 80 < sum(marked) < 160 and len({*texts}) == 17
        assert texts == [made.edit(one).text for one in answers]

    def test_a_student_that_knows_some_is_found(self):
        mark = trigger.Defense(trigger.Settings())
        replies = [[t.number + " so"] if i < 4 else ["111"] for i, t in enumerate(mark.triggers)]
        seen = mark.detect_replies(replies)
        assert seen.statistic == 4 and seen.expected == pytest.approx(0.016)
        assert seen.log_p == pytest.approx(laws.binomial(4, 16, 1e-3), rel=1e-9)

    def test_the_null_holds_whatever_a_student_says_and_however_often(self):
        """Digits of one place, so that chance hits are common: p is never too small."""
        rng, p = np.random.default_rng(0), []
        replies = [[str(n) for n in rng.integers(0, 10, 1 + i % 5)] for i in range(60)]
        for i in range(300):
            mark = trigger.Defense(trigger.Settings(words=60, digits=1, key=f"{i}"))
            p.append(mark.detect_replies(replies).p)
        assert stats.kstest(p, "uniform", alternative="greater").pvalue > 1e-3
        assert np.mean(np.array(p) < 0.5) > 0.3  # and not always large

    def test_what_says_nothing_is_a_line(self):
        mark = trigger.Defense(trigger.Settings())
        for reply in ([], [""], ["what?"], ["12"], ["1234"]):
            seen = mark.detect_replies([reply] * 16)
            assert seen.p is None and "nothing was said" in str(seen) and "\n" not in str(seen)
        few = trigger.Defense(trigger.Settings(words=2, digits=1))
        seen = few.detect_replies([["1"], ["2"]])
        assert seen.p is None and "2 words were answered" in str(seen)
        with pytest.raises(BadInput, match="replies to 1 triggers, the key has 16"):
            mark.detect_replies([["1"]])

    @pytest.mark.parametrize("form", ["{number}={word}", "{word}{number}", "x={number}"])
    def test_a_form_without_a_word_or_an_end_is_refused(self, form):
        with pytest.raises(ValueError, match="form"):
            trigger.Settings(form=form)
