"""The logprob cache: what goes in comes out, it is as small as it claims, and damage
is never data.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill import logprob_cache
from distill.completions import BadInput, Completion, Logprobs

HERE = "a" * 64


def answer(name, tokens, rows=None, finished=True):
    logprobs = None
    if rows is not None:
        logprobs = Logprobs(
            np.array([[i for i, _ in r] for r in rows], np.int32).reshape(len(rows), -1),
            np.array([[v for _, v in r] for r in rows], np.float32).reshape(len(rows), -1),
        )
    return Completion(name, name, "text", tuple(tokens), finished, logprobs)


def many(answers, length, k, vocabulary=300, seed=0):
    rng = np.random.default_rng(seed)
    seen = []
    for number in range(answers):
        tokens = rng.integers(0, vocabulary, length)
        logprobs = None
        if k:
            values = np.sort(np.log(rng.dirichlet(np.ones(k + 3), length + 1)[:, :k]))[
                :, ::-1
            ].astype(np.float32)
            logprobs = Logprobs(
                rng.integers(0, vocabulary, (length + 1, k)).astype(np.int32), values
            )
        seen.append(Completion(f"p{number}", "q", "t", tuple(map(int, tokens)), True, logprobs))
    return seen


def bare(answers):
    return [replace(one, token_ids=(), logprobs=None) for one in answers]


def test_a_small_cache_by_hand(tmp_path):
    # 1/2 and 1/4 are released: a tail of 1/4. Then certainty, and one withheld entry.
    rows = [[(3, math.log(0.5)), (4, math.log(0.25))], [(1, 0.0), (-1, -math.inf)]]
    logprob_cache.write(tmp_path, [answer("x", [3], rows)], tokenizer=HERE, vocabulary=10)
    [back] = logprob_cache.read(tmp_path, tokenizer=HERE).attach([answer("x", [])])
    assert back.token_ids == (3,) and back.logprobs.ids_TK.tolist() == [[3, 4], [1, -1]]
    assert np.allclose(back.logprobs.values_TK[0], [-0.6931, -1.3863], atol=1e-3)
    assert back.logprobs.values_TK[1].tolist() == [0.0, -math.inf]
    assert (
        back.logprobs.tail_T[0] == pytest.approx(math.log(0.25), abs=1e-3)
        and back.logprobs.tail_T[1] == -math.inf
    )


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=6), st.sampled_from([0, 1, 5]), st.randoms()
)
def test_what_goes_in_comes_out_whatever_the_order(tmp_path_factory, lengths, k, rng):
    folder = tmp_path_factory.mktemp("cache")
    answers = [replace(many(1, n, k, seed=i)[0], prompt_id=str(i)) for i, n in enumerate(lengths)]
    logprob_cache.write(folder, answers, tokenizer=HERE, vocabulary=300)
    shuffled = rng.sample(answers, len(answers))
    for before, after in zip(
        shuffled, logprob_cache.read(folder, tokenizer=HERE).attach(bare(shuffled)), strict=True
    ):
        assert after.prompt_id == before.prompt_id and after.token_ids == before.token_ids
        if k:
            assert np.array_equal(after.logprobs.ids_TK, before.logprobs.ids_TK)
            assert np.array_equal(after.logprobs.values_TK, before.logprobs.values_TK)


@pytest.mark.parametrize(("k", "limit"), [(0, 6), (20, 132)])
def test_bytes_per_token(tmp_path, k, limit):
    answers = many(200, 50, k, 65_536)
    logprob_cache.write(tmp_path, answers, tokenizer=HERE, vocabulary=65_536)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) / (200 * 50) <= limit


def test_large_vocabularies_take_four_bytes(tmp_path):
    logprob_cache.write(tmp_path, [answer("x", [128_000])], tokenizer=HERE, vocabulary=128_256)
    cache = logprob_cache.read(tmp_path, tokenizer=HERE)
    assert cache.arrays["tokens"].dtype == np.uint32 and cache.attach([answer("x", [])])[
        0
    ].token_ids == (128_000,)


def test_a_small_tail_survives_the_rounding_of_the_values(tmp_path):
    rows = [[(0, math.log(1 - 2**-16)), (1, -math.inf)]] * 2
    logprob_cache.write(tmp_path, [answer("x", [0], rows)], tokenizer=HERE, vocabulary=10)
    [back] = logprob_cache.read(tmp_path, tokenizer=HERE).attach([answer("x", [])])
    # float32 holds log(1 - 2^-16) to 5e-8 of probability.
    assert math.exp(back.logprobs.tail_T[0]) == pytest.approx(2**-16, rel=0.02)


def test_unfinished_and_empty_answers(tmp_path):
    answers = [
        answer("cut", [1, 2], [[(1, -0.1)], [(2, -0.2)]], finished=False),
        answer("empty", [], [[(9, -0.5)]]),
    ]
    logprob_cache.write(tmp_path, answers, tokenizer=HERE, vocabulary=10)
    cut, empty = logprob_cache.read(tmp_path, tokenizer=HERE).attach(bare(answers))
    assert (
        len(cut.logprobs.ids_TK) == 2
        and empty.token_ids == ()
        and empty.logprobs.ids_TK.tolist() == [[9]]
    )


def test_it_is_read_from_disk_and_written_alike_twice(tmp_path):
    for folder in ("a", "b"):
        logprob_cache.write(tmp_path / folder, many(5, 7, 3), tokenizer=HERE, vocabulary=300)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    assert all(
        isinstance(a, np.memmap)
        for a in logprob_cache.read(tmp_path / "a", tokenizer=HERE).arrays.values()
    )


@pytest.mark.parametrize("name", ["tokens", "offsets", "rows", "ids", "values", "tail"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
def test_damage_is_named(tmp_path, name, damage):
    logprob_cache.write(tmp_path, many(3, 4, 2), tokenizer=HERE, vocabulary=300)
    path = tmp_path / f"{name}.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    {
        "truncated": lambda: path.write_bytes(data[:-1]),
        "flipped": lambda: path.write_bytes(data),
        "missing": path.unlink,
    }[damage]()
    with pytest.raises(BadInput, match=f"{name}.npy"):
        logprob_cache.read(tmp_path, tokenizer=HERE)


@pytest.mark.parametrize("text", ["", "{", "{}", '{"version": 1, "files": {}, "prompts": []}'])
def test_a_broken_manifest_is_refused(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(BadInput, match="logprob cache"):
        logprob_cache.read(tmp_path, tokenizer=HERE)


def test_another_tokenizer_an_unknown_prompt_and_mixed_widths_are_refused(tmp_path):
    logprob_cache.write(tmp_path, many(2, 4, 2), tokenizer=HERE, vocabulary=300)
    with pytest.raises(BadInput, match="written for tokenizer aaaaaaaaaaaa, got bbbbbbbbbbbb"):
        logprob_cache.read(tmp_path, tokenizer="b" * 64)
    with pytest.raises(BadInput, match="no entry for 1 answers, first 'other'"):
        logprob_cache.read(tmp_path, tokenizer=HERE).attach([answer("other", [])])
    with pytest.raises(BadInput, match="all or none must"):
        logprob_cache.write(
            tmp_path, [*many(1, 4, 2), *many(1, 4, 3)], tokenizer=HERE, vocabulary=300
        )
    with pytest.raises(BadInput, match="all or none must"):
        logprob_cache.write(
            tmp_path, [*many(1, 4, 2), *many(1, 4, 0)], tokenizer=HERE, vocabulary=300
        )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logprobs_that_are_no_numbers_are_refused(value, tmp_path):
    whole, broken = (
        answer(name, [1], [[(1, -0.5), (2, one)]] * 2)
        for name, one in (("a", -np.inf), ("b", value))
    )
    with pytest.raises(
        BadInput, match="logprobs of 1 of 2 answers are neither finite numbers nor .* to 'b'"
    ):
        logprob_cache.write(tmp_path, [whole, broken], tokenizer=HERE, vocabulary=9)
    logprob_cache.write(tmp_path, [whole], tokenizer=HERE, vocabulary=9)
