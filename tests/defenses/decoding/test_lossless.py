"""Lossless sampling: each account's draws are the model's own and independent, those of two
accounts are coupled.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given as any_of
from hypothesis import strategies as st
from scipy import stats

from defenses.decoding.lossless import Defense, Settings, bucket, shared_randomness
from distill.completions import BadInput, Interface, Prompt


def first_tokens(model, prompts, seed=0):
    """The first token of each answer; end-of-text is a token as well."""
    end = model.tokenizer.eos_token_id
    return [
        a.token_ids[0] if a.token_ids else end
        for a in model.generate(prompts, seed=seed, interface=Interface())
    ]


@pytest.fixture(scope="module")
def short(teacher):
    return replace(teacher, max_new_tokens=1)


def expected(model, prompt):
    answer = model.generate([prompt], seed=0, interface=Interface("full"))[0]
    row = np.empty(answer.logprobs.ids_TK.shape[1])
    row[answer.logprobs.ids_TK[0]] = np.exp(answer.logprobs.values_TK[0].astype(np.float64))
    return row / row.sum()


def pooled(observed, expected):
    """The cells, with those whose expectation is below 5 made one, as the chi-square approximation
    asks.
    """
    rare = expected < 5
    return (np.append(cells[~rare], cells[rare].sum()) for cells in (observed, expected))


class TestDistribution:
    @pytest.mark.parametrize(
        "how", ["one account again and again", "first visits under other provider's keys"]
    )
    def test_is_the_models_own(self, short, how):
        prompt, draws = Prompt("p", "7+805=", "alice"), 3000
        if how.startswith("one"):
            seen = first_tokens(Defense(Settings(bits=4))(short), [prompt] * draws)
        else:
            made = (Defense(Settings(bits=4, key=f"key{i}"))(short) for i in range(600))
            seen = [first_tokens(model, [prompt])[0] for model in made]
        p = expected(short, prompt)
        counts = np.bincount(seen, minlength=len(p)).astype(float)
        assert stats.chisquare(*pooled(counts, p * len(seen))).pvalue > 0.01

    def test_one_accounts_repeats_are_independent(self, short):
        prompt = Prompt("p", "7+805=", "alice")
        seen = first_tokens(Defense(Settings(bits=0))(short), [prompt] * 4000)
        common = [token for token, _ in Counter(seen).most_common(4)]
        cells = [common.index(token) if token in common else 4 for token in seen]
        table = np.zeros((5, 5))
        np.add.at(table, (cells[0::2], cells[1::2]), 1)
        assert stats.chi2_contingency(table[table.sum(1) > 0][:, table.sum(0) > 0]).pvalue > 0.01

    def test_two_accounts_together_are_far_from_independent(self, short):
        pair = [Prompt("p", "7+805=", name) for name in ("alice", "bob")]
        seen = first_tokens(Defense(Settings(bits=0))(short), pair * 200)
        assert seen[0::2] == seen[1::2] and len(set(seen)) > 3


class TestSharing:
    @pytest.mark.parametrize("accounts", [("alice", "bob"), ("", ""), ("", "alice")])
    def test_two_accounts_get_the_same_text_at_the_same_visit(self, teacher, accounts):
        model = Defense(Settings(bits=0))(teacher)
        a, b = model.generate(
            [Prompt(name + "!", "1+1=", name) for name in accounts], seed=1, interface=Interface()
        )
        assert a.text == b.text

    def test_another_visit_seed_or_key_is_another_draw(self):
        twice = [Prompt("p", "1+1=", "alice")] * 2
        keys = [
            key
            for seed in (0, 1)
            for own in ("a", "b")
            for key in shared_randomness(twice, seed, 0, 3, own)
        ]
        assert len(set(keys)) == len(keys) == 8

    def test_visits_are_counted_for_an_account_and_a_bucket_in_order_of_asking(self):
        def keys(*accounts, text="1+1="):
            return shared_randomness([Prompt("p", text, name) for name in accounts], 0, 0, 3, "k")

        first, second, third = keys("a", "a", "a")
        assert keys("a", "b", "a", "b", "", "a", "") == [
            first,
            first,
            second,
            second,
            first,
            third,
            first,
        ]
        assert len({first, second, third}) == 3
        # With many bits every text is a bucket of its own: asking another question does not move on
        # the count.
        prompts = [Prompt("p", text, "a") for text in ("1+1=", "98#7 6", "1+1=")]
        split, alone = (shared_randomness(ones, 0, 64, 3, "k") for ones in (prompts, prompts[::2]))
        assert [split[0], split[2]] == alone and len(set(split)) == 3

    def test_couples_accounts_that_ask_alike_more_with_fewer_bits(self):
        prompts = [Prompt("p", f"{i * 7919 % 1000}+{i * 104729 % 1000}=") for i in range(200)]
        distinct = [len(set(shared_randomness(prompts, 0, bits, 3, "k"))) for bits in (0, 2, 8, 64)]
        assert (
            distinct[0] == 1
            and distinct == sorted(distinct)
            and distinct[1] <= 4
            and distinct[-1] == 200
        )


class TestBucket:
    @any_of(st.text(max_size=30), st.integers(0, 256), st.integers(1, 5))
    def test_is_a_function_of_the_text_with_that_many_bits_fewer_being_a_prefix(
        self, text, bits, ngram
    ):
        made = bucket(text, bits, ngram, "k")
        assert (
            made == bucket(f" {text.upper().lower()}\n", bits, ngram, "k")
            or text.upper().lower() != text.lower()
        )
        assert (
            len(made) == bits
            and set(made) <= {"0", "1"}
            and bucket(text, 256, ngram, "k").startswith(made)
        )

    def test_bits_differ_with_probability_angle_over_pi(self):
        # Charikar 2002, in the Gaussian limit of many n-grams; the counts' angle is computed here
        # from scratch.
        a = (
            "the train from the north leaves at seven and reaches the coast before noon on every "
            "working day"
        )
        b = a.replace("seven", "eight").replace("coast", "border").replace("every working", "each")
        x, y = (Counter(text[i : i + 3] for i in range(len(text) - 2)) for text in (a, b))
        dot = sum(x[gram] * y[gram] for gram in x)
        angle = math.acos(
            dot / math.sqrt(sum(n * n for n in x.values()) * sum(n * n for n in y.values()))
        )
        pairs = [(bucket(a, 256, 3, f"k{i}"), bucket(b, 256, 3, f"k{i}")) for i in range(40)]
        differ = np.mean([p != q for one in pairs for p, q in zip(*one, strict=True)])
        assert differ == pytest.approx(
            angle / math.pi, abs=0.02
        )  # 10,240 bits: standard error 0.005

    def test_near_duplicates_share_more_often_than_unrelated_texts(self):
        text, near, far = (
            "what is 347 plus 586, step by step?",
            "what is 347 plus 587, step by step?",
            "name a red fruit",
        )
        shared = [
            sum(bucket(text, 4, 3, f"k{i}") == bucket(other, 4, 3, f"k{i}") for i in range(200))
            for other in (near, far)
        ]
        assert shared[0] > 0.4 * 200 and shared[1] < 0.2 * 200


class TestDefense:
    def test_greedy_decoding_has_no_randomness_to_share(self, teacher, prompts):
        greedy = replace(teacher, temperature=0.0)
        with pytest.raises(BadInput, match="greedily.*decoding/temperature before it") as error:
            Defense(Settings())(greedy)
        assert "\n" not in str(error.value)
        assert Defense(Settings(bits=None))(greedy) is greedy

    def test_leaves_the_released_distribution_as_it_is(self, short, prompts):
        clean, made = (
            model.generate(prompts, seed=0, interface=Interface("full"))
            for model in (short, Defense(Settings(bits=0))(short))
        )
        for a, b in zip(clean, made, strict=True):
            assert np.array_equal(a.logprobs.ids_TK, b.logprobs.ids_TK) and (
                b.l1,
                b.kl,
                b.flips,
            ) == (0, 0, 0)
            np.testing.assert_array_equal(a.logprobs.values_TK, b.logprobs.values_TK)
