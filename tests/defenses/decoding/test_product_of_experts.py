"""Product of experts against products worked out by hand, and against the two models
it is made of.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given as any_of
from hypothesis import strategies as st

from defenses import ProviderResources
from defenses.decoding.product_of_experts import Defense, Settings, product
from defenses.trained import copied
from distill.auxiliary import match_vocab_size
from distill.completions import BadInput, Interface
from distill.embedded import character_tokenizer

FULL = Interface("full")


def rows(answers):
    """Released log-probabilities of each answer by token id, its first row."""
    seen = []
    for answer in answers:
        row = np.empty(answer.logprobs.ids_TK.shape[1])
        row[answer.logprobs.ids_TK[0]] = answer.logprobs.values_TK[0]
        seen.append(row)
    return np.array(seen)


@pytest.fixture
def defended(teacher, resources):
    return lambda gamma, **changes: Defense(Settings(gamma=gamma), resources)(
        replace(teacher, **changes)
    )


class TestProduct:
    def test_by_hand(self):
        # sqrt(.8 * .2) = .4 for both tokens, so half of each makes them equal; (.5, .5) with (.2,
        # .8) gives 1 to 2.
        p = torch.tensor([[0.8, 0.2], [0.5, 0.5]]).log()
        q = torch.tensor([[0.2, 0.8], [0.2, 0.8]]).log()
        made = torch.softmax(product(p, q, 0.5), -1)
        torch.testing.assert_close(made, torch.tensor([[0.5, 0.5], [1 / 3, 2 / 3]]))

    @any_of(st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(-9, 9))
    def test_is_the_teacher_tilted_towards_the_proxy_and_knows_no_offsets(
        self, seed, gamma, offset
    ):
        z, y = torch.randn(
            2, 3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
        )
        p, q = torch.softmax(z, -1), torch.softmax(y, -1)
        tilted = p * (gamma * (q / p).log()).exp()
        made = torch.softmax(product(z, y + offset, gamma), -1)
        torch.testing.assert_close(made, tilted / tilted.sum(-1, keepdim=True), rtol=0, atol=1e-12)


class TestFitted:
    def test_by_hand(self):
        scores = torch.tensor([[1.0, 3.0, 2.0], [5.0, 4.0, 6.0]])
        assert match_vocab_size(scores, 3).equal(scores)
        assert match_vocab_size(scores, 2).tolist() == [[1, 3], [5, 4]]
        assert match_vocab_size(scores, 5).tolist() == [[1, 3, 2, 1, 1], [5, 4, 6, 4, 4]]

    @pytest.mark.parametrize("side", ["teacher", "proxy"])
    def test_a_network_with_more_rows_than_the_other_says_the_same(
        self, teacher, prompts, resources, side
    ):
        clean = Defense(Settings(gamma=0.5), resources)(teacher).generate(
            prompts, seed=1, interface=FULL
        )
        size = len(teacher.tokenizer)
        model = teacher if side == "teacher" else resources.proxy
        network = copied(model.network)
        network.resize_token_embeddings(size + 5, mean_resizing=False)
        wide = replace(model, network=network)
        if side == "teacher":
            made = Defense(Settings(gamma=0.5), resources)(wide)
        else:
            made = Defense(Settings(gamma=0.5), replace(resources, proxy=wide))(teacher)
        got = rows(made.generate(prompts, seed=1, interface=FULL))[:, :size]
        np.testing.assert_allclose(got - got[:, :1], rows(clean) - rows(clean)[:, :1], atol=1e-4)


class TestDefense:
    def test_multiplies_the_two_distributions_at_every_step(
        self, teacher, resources, prompts, defended
    ):
        proxy = replace(resources.proxy, temperature=1.0)
        p, q = (
            np.exp(rows(one.generate(prompts, seed=0, interface=FULL))) for one in (teacher, proxy)
        )
        made = p**0.7 * q**0.3
        got = np.exp(rows(defended(0.3).generate(prompts, seed=0, interface=FULL)))
        np.testing.assert_allclose(got, made / made.sum(-1, keepdims=True), atol=1e-5)

    @pytest.mark.parametrize("temperature", [0.0, 0.7])
    def test_gamma_1_is_the_proxy_itself(self, resources, prompts, defended, temperature):
        proxy = replace(resources.proxy, temperature=temperature, top_p=0.9)
        alone = proxy.generate(prompts, seed=4, interface=FULL)
        made = defended(1.0, temperature=temperature, top_p=0.9).generate(
            prompts, seed=4, interface=FULL
        )
        assert [one.text for one in made] == [one.text for one in alone]
        for a, b in zip(made, alone, strict=True):
            np.testing.assert_allclose(a.logprobs.values_TK, b.logprobs.values_TK, atol=1e-5)

    def test_greedy_decoding_stays_deterministic(self, prompts, defended):
        texts = {
            tuple(
                a.text
                for a in defended(0.5, temperature=0.0).generate(
                    prompts, seed=seed, interface=Interface()
                )
            )
            for seed in range(4)
        }
        assert len(texts) == 1

    def test_the_proxy_of_another_vocabulary_is_bad_input(self, teacher, resources):
        other = replace(resources.proxy, tokenizer=character_tokenizer("0123456789"))
        with pytest.raises(BadInput, match="another tokenizer") as error:
            Defense(Settings(), ProviderResources(proxy=other))(teacher)
        assert "\n" not in str(error.value)
        with pytest.raises(BadInput, match="needs a proxy"):
            Defense(Settings())(teacher)
