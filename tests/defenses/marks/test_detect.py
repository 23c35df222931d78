"""Tests on text: p-values of texts that never saw the key are uniform, with and without n-grams
that repeat; marks that are there are found; what cannot be tested is a line.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from defenses.marks import adfp, gumbel, kgw, synthid, unigram
from defenses.marks.detect import Evidence, Vocabulary
from defenses.marks.detect.windows import fresh, of_texts, seen_in, spoken
from distill.completions import BadInput, Completion, Interface, Prompt
from tests.defenses.marks.reference import BOOK, SIZE, null_p, pairs, plain_text, repeating_text

MARKS = {
    "kgw": lambda key: kgw.Defense(kgw.Settings(key=key)),
    "kgw self": lambda key: kgw.Defense(kgw.Settings(key=key, hash="self", ngram=3)),
    "kgw n=1": lambda key: kgw.Defense(kgw.Settings(key=key, ngram=1, gamma=0.5)),
    "unigram": lambda key: unigram.Defense(unigram.Settings(key=key)),
    "gumbel": lambda key: gumbel.Defense(gumbel.Settings(key=key)),
    "synthid": lambda key: synthid.Defense(synthid.Settings(key=key)),
    "adfp": lambda key: adfp.Defense(adfp.Settings(key=key)),
}
KEYS, LENGTH = 300, 6000
"""A p-value of counts is in steps, of up to .03 here, and never too small for it."""


def too_small(p: list[float]) -> float:
    """The p-value of a test that p-values are smaller than uniform ones."""
    return float(stats.kstest(p, "uniform", alternative="greater").pvalue)


@pytest.mark.parametrize("name", MARKS)
def test_the_null_is_uniform(name):
    p = null_p(MARKS[name], plain_text(0, LENGTH), KEYS, distinct=True)
    assert stats.kstest(p, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("name", MARKS)
def test_the_null_is_uniform_where_ngrams_repeat_and_the_raw_count_is_not(name):
    text = repeating_text(3, LENGTH)
    counted = null_p(MARKS[name], text, KEYS, distinct=True)
    assert stats.kstest(counted, "uniform").pvalue > 1e-3
    if name == "unigram":  # drawn without putting back, a repeat is not even possible
        return
    raw = null_p(MARKS[name], text, KEYS, distinct=False)
    assert too_small(raw) < 1e-6 and np.mean(np.array(raw) < 0.01) > 0.1


def test_unigrams_usual_count_of_every_occurrence_is_not_uniform():
    text = plain_text(0, LENGTH)
    green = [unigram.green_list(f"null {i}", SIZE, 0.5).numpy()[text].sum() for i in range(KEYS)]
    raw = stats.binom.sf(np.array(green) - 1, LENGTH, 0.5)
    assert too_small(list(raw)) < 1e-6


def marked_text(name: str, seed: int, length: int) -> np.ndarray:
    """A text of a model whose next token is one of fifty that are as likely, behind a mark of which
    the test knows the key.
    """
    rng, mark = np.random.default_rng(seed), MARKS[name]("planted")
    text = list(rng.integers(0, SIZE, 4))
    for _ in range(length):
        among = rng.integers(0, SIZE, 50)
        context = np.array([text[len(text) - mark.width :]] * 50).reshape(50, mark.width)
        read = pairs_of(context, among)
        score = mark.draws(*read, SIZE).score_N.astype(float)
        # Three tokens of ten are marked, by whatever the mark prefers.
        best = int(score.argmax()) if rng.random() < 0.3 else 0
        text.append(int(among[best]))
    return np.array(text)


def pairs_of(contexts: np.ndarray, tokens: np.ndarray):
    import torch

    return torch.from_numpy(contexts.astype(np.int64)), torch.from_numpy(tokens)


@pytest.mark.parametrize("name", MARKS)
def test_a_planted_mark_is_found_and_by_its_key_alone(name):
    text = marked_text(name, 0, 800)
    read = pairs(text, MARKS[name]("planted").width)
    right = MARKS[name]("planted").detect(read, BOOK)
    wrong = MARKS[name]("another").detect(read, BOOK)
    assert right.p < 1e-6 and wrong.p > 1e-3
    assert right.statistic > right.expected and right.scored + right.repeats == len(read)


ALPHABET = {"kgw", "gumbel", "synthid", "adfp"}


@pytest.mark.parametrize("name", sorted(ALPHABET))
def test_what_a_marked_teacher_says_is_found(name, teacher, resources):
    kinds = {
        "kgw": kgw.Defense(kgw.Settings(delta=4.0)),
        "gumbel": gumbel.Defense(gumbel.Settings()),
        "synthid": synthid.Defense(synthid.Settings(ngram=2)),
        "adfp": adfp.Defense(adfp.Settings(lam=200.0), resources),
    }
    mark, other = kinds[name], Vocabulary.of(teacher)
    prompts = [Prompt(f"p{i}", f"{i}+{i * 7 % 90}=") for i in range(60)]
    answers = {
        "clean": teacher.generate(prompts, seed=5, interface=Interface()),
        "marked": mark(teacher).generate(prompts, seed=5, interface=Interface()),
    }
    encoded = [teacher.encode(one) for one in prompts]
    p = {}
    for kind, texts in answers.items():
        read = of_texts(spoken(texts), mark.width, other, encoded)
        p[kind] = mark.detect(read, other).p
    assert p["marked"] < 1e-6 and p["clean"] > 1e-4


def test_a_million_tokens_are_read_at_once():
    text = plain_text(1, 1_000_000)
    read = pairs(text, 2)
    for name in ("kgw", "gumbel", "synthid"):
        mark = MARKS[name]("k")
        narrow = read if mark.width == 2 else pairs(text, mark.width)
        seen = mark.detect(narrow, BOOK)
        assert seen.p is not None and seen.scored + seen.repeats == len(narrow)


def test_a_line_says_what_came_out():
    seen = Evidence("green tokens", 100, 7, 50.0, 25.0, -18.420680743952367)
    assert str(seen) == (
        "green tokens: 50 where 25 is usual, of 100 scored (7 repeats left out), log10 p -8.00"
    )
    assert seen.p == pytest.approx(1e-8) and seen.log10_p == pytest.approx(-8)


class TestWhatCannotBeTested:
    mark = MARKS["kgw"]("k")

    @pytest.mark.parametrize("length", [0, 1, 2, 20])
    def test_too_few_tokens_are_a_line_and_no_p(self, length):
        seen = self.mark.detect(pairs(plain_text(0, length), 2), BOOK)
        assert seen.p is None and seen.log10_p is None and "\n" not in str(seen)
        assert "no p-value" in str(seen)
        assert ("nothing was said" in str(seen)) == (length < 3)

    def test_repeats_do_not_make_up_for_them(self):
        text = np.array([1, 2, 3] * 500)
        seen = self.mark.detect(pairs(text, 2), BOOK)
        assert seen.p is None and (seen.scored, seen.repeats) == (3, 1495)

    @pytest.mark.parametrize("other", [Vocabulary("b" * 64, SIZE), Vocabulary("a" * 64, SIZE + 1)])
    def test_another_tokenizer_is_bad_input(self, other):
        with pytest.raises(BadInput, match="another tokenizer") as error:
            self.mark.detect(pairs(plain_text(0, 99), 2, other), BOOK)
        assert "\n" not in str(error.value) and str(SIZE) in str(error.value)

    @pytest.mark.parametrize("token", [SIZE, -1])
    def test_a_token_that_the_vocabulary_has_not_is_bad_input(self, token):
        with pytest.raises(BadInput, match=f"token id {token} is none"):
            of_texts([[1, 2, 3, token]], 2, BOOK)

    def test_contexts_of_another_width_are_bad_input(self):
        with pytest.raises(BadInput, match="contexts have 3 tokens, this mark's have 2"):
            self.mark.detect(pairs(plain_text(0, 99), 3), BOOK)

    def test_prompts_that_are_not_one_a_text_are_bad_input(self):
        with pytest.raises(BadInput, match="1 prompts for 2 texts"):
            of_texts([[1], [2]], 2, BOOK, [[1]])

    @pytest.mark.parametrize("module", [kgw, unigram, gumbel, synthid, adfp])
    def test_a_key_is_needed(self, module):
        with pytest.raises(ValueError, match="key"):
            module.Settings(key="")

    def test_a_text_that_was_edited_after_it_was_marked_is_bad_input(self, teacher):
        edited = Completion("p7", "1+1=", "2 # 2")
        with pytest.raises(BadInput, match="'p7' has a text but no token ids") as error:
            spoken([edited])
        assert "\n" not in str(error.value)
        ids = spoken([edited, Completion("p8", "?", "")], teacher.tokenizer)
        assert teacher.tokenizer.decode(ids[0]).replace(" ", "") == "2#2" and ids[1] == []
        assert spoken([replace(edited, token_ids=(5, 6))]) == [[5, 6]]


class TestWindows:
    def test_by_hand(self):
        read = of_texts([[1, 2, 3], [4], []], 1, BOOK)
        assert read.contexts_NC.tolist() == [[1], [2]] and read.tokens_N.tolist() == [2, 3]
        read = of_texts([[1, 2, 3], [4], []], 2, BOOK, [[8, 9, 7], [6], [5, 5]])
        assert read.contexts_NC.tolist() == [[9, 7], [7, 1], [1, 2]]
        assert read.tokens_N.tolist() == [1, 2, 3] and read.rows_N.tolist() == [0, 0, 0]

    def test_the_end_of_a_short_prompt_is_no_token_of_the_answer(self):
        read = of_texts([[1, 2, 3]], 2, BOOK, [[9]])
        assert read.contexts_NC.tolist() == [[9, 1], [1, 2]]
        none = of_texts([[]], 1, BOOK, [[4, 5, 6]])
        assert len(none) == 0 and len(of_texts([], 2, BOOK)) == 0

    def test_a_width_of_nothing_is_every_token(self):
        read = of_texts([[1, 2], [3]], 0, BOOK)
        assert read.contexts_NC.shape == (3, 0) and read.tokens_N.tolist() == [1, 2, 3]

    def test_windows_that_were_read_before_are_not_fresh(self):
        read = of_texts([[1, 2, 1, 3], [1, 2]], 1, BOOK)
        assert fresh(read).tokens_N.tolist() == [2, 1, 2]
        prompts = [[2, 7], [1]]
        behind = of_texts([[1, 2, 1, 3], [1, 2]], 1, BOOK, prompts)
        left = fresh(behind, prompts)
        # In row 0: 7 -> 1 and 1 -> 2; 2 stood in the prompt. In row 1 the prompt ends with 1, which
        # is the context of its first token, and no longer fresh for its second.
        assert list(zip(left.contexts_NC[:, 0], left.tokens_N, strict=True)) == [
            (7, 1),
            (1, 2),
            (1, 1),
        ]
        with pytest.raises(BadInput, match="1 prompts for 2 texts"):
            fresh(read, [[1]])

    def test_without_contexts_tokens_of_the_prompt_are_not_fresh(self):
        read = of_texts([[1, 2, 1], [2, 3]], 0, BOOK)
        assert fresh(read).tokens_N.tolist() == [1, 2, 1, 2, 3]
        assert fresh(read, [[2, 9], [3]]).tokens_N.tolist() == [1, 1, 2]
        assert len(seen_in(read, read)) == 5

    def test_windows_of_training_data_alone(self):
        read, trained = of_texts([[1, 2, 3, 4]], 1, BOOK), of_texts([[2, 9, 3, 9]], 1, BOOK)
        assert seen_in(read, trained).contexts_NC.tolist() == [[2], [3]]
        with pytest.raises(BadInput, match="another width"):
            seen_in(read, of_texts([[1, 2, 3]], 2, BOOK))
        with pytest.raises(BadInput, match="another tokenizer"):
            seen_in(read, of_texts([[1, 2]], 1, Vocabulary("b", SIZE)))
