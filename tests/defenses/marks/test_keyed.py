"""The integers behind marks against Python's own, and how even they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from defenses.marks import _keyed
from tests.defenses.marks.reference import WORD, mix, number, secret, share, step


def test_the_mixer_is_splitmix64s():
    # The first outputs of splitmix64 from seed 0, as published with it.
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    made = _keyed.behind(torch.zeros(1, dtype=torch.int64), torch.arange(3))
    assert [int(one) % WORD for one in made] == published


@pytest.mark.parametrize("size", [1, 7, _keyed.BLOCK, _keyed.BLOCK + 3])
def test_blocks_and_torchs_own_integers_agree_with_python(size):
    numbers = torch.randint(-(2**63), 2**63 - 1, (size,), generator=torch.manual_seed(0))
    before, made = numbers.clone(), _keyed.mixed(numbers)
    assert torch.equal(numbers, before)
    assert [int(one) % WORD for one in made[-3:]] == [mix(int(one) % WORD) for one in numbers[-3:]]
    for places, factor in zip((30, 27), _keyed.FACTORS, strict=True):  # what a GPU does
        numbers = (numbers ^ _keyed._shifted(numbers, places)) * _keyed.signed(factor)
    assert torch.equal(made, numbers ^ _keyed._shifted(numbers, 31))


def test_contexts_by_hand():
    start = _keyed.secret("k", "p")
    assert start % WORD == secret("k", "p")
    contexts = _keyed.contexts(torch.tensor([[3, 5], [5, 3], [-1, 3]]), start)
    by_hand = [number(secret("k", "p"), c) for c in ((3, 5), (5, 3), (-1, 3))]
    assert [int(one) % WORD for one in contexts] == by_hand
    assert len({*by_hand}) == 3


@pytest.mark.parametrize("rows", [1, 40])
def test_green_tokens_are_those_with_small_numbers(rows):
    contexts, tokens = torch.arange(rows) * 1_000_003, torch.arange(2000)
    green = _keyed.green_behind(contexts, tokens, 0.3)
    assert torch.equal(green, _keyed.below(_keyed.behind(contexts[:, None], tokens), 0.3))
    by_hand = [share(number(int(contexts[-1]), [v])) < 0.3 for v in range(2000)]
    assert green[-1].tolist() == by_hand


def test_numbers_are_even_and_neighbours_are_strangers():
    numbers = _keyed.behind(torch.arange(50)[:, None], torch.arange(4000))
    u = _keyed.uniforms(numbers)
    assert 0 < float(u.min()) and float(u.max()) < 1
    assert stats.kstest(u.flatten().numpy(), "uniform").pvalue > 1e-3
    for other in (u.roll(1, 0), u.roll(1, 1)):
        assert abs(np.corrcoef(u.flatten(), other.flatten())[0, 1]) < 0.01
    bits = torch.stack([(numbers >> i) & 1 for i in range(60)]).flatten(1).double()
    assert float((bits.mean(1) - 0.5).abs().max()) < 4.5 * 0.5 / bits.shape[1] ** 0.5


def test_uniforms_keep_off_the_ends():
    u = _keyed.uniforms(torch.tensor([-(2**63), 2**63 - 1]))
    assert 0 < u[0] < 1e-15 and 1 - 1e-15 < u[1] < 1


def test_last_tokens_are_minus_one_before_the_text():
    last = _keyed.last_tokens(step([[-1, -1, 7], [4, 5, 6]]), 2)
    assert last.tolist() == [[-1, 7], [5, 6]]
    assert _keyed.last_tokens(step([[7]]), 3).tolist() == [[-1, -1, 7]]
    assert _keyed.last_tokens(step([[7]]), 0).shape == (1, 0)


def test_repeats_are_seen_a_row_at_a_time_and_once_a_step():
    repeats, memory = _keyed.Repeats(), {}
    seen = []
    for index, contexts in enumerate(([1, 2], [2, 2], [1, 3])):
        now = step([[0], [0]], index, memory)
        first = repeats.is_new(now, torch.tensor(contexts)).tolist()
        assert repeats.is_new(now, torch.tensor(contexts)).tolist() == [False, False]
        seen.append(first)
    assert seen == [[True, True], [True, False], [False, True]]
