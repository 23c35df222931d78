"""Antidistillation against finite differences, autograd one token at a time, and what a step of
training does.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from defenses import ProviderResources
from defenses.decoding.antidistillation import NORM, Defense, Settings, difference
from defenses.trained import changed, copied, loss, rows, unit_direction
from distill.auxiliary import JvpModel, jvp_step
from distill.completions import BadInput, Interface
from distill.embedded import character_tokenizer
from distill.generation import DecodingStep, forward_step

TOKENS_BT = torch.tensor([[0, 0, 3, 5, 7, 2], [4, 3, 8, 2, 9, 6], [0, 0, 0, 0, 0, 5]])
MASK_BT = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 1]])


@pytest.fixture(scope="module")
def network():
    """A tiny network that is double precision all the way, which Llama's norms and rotations are
    not; tied.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = GPT2Config(
            vocab_size=11, n_positions=16, n_embd=8, n_layer=2, n_head=2, initializer_range=0.5
        )
        return GPT2LMHeadModel(config).eval().double()


@pytest.fixture(scope="module")
def direction(network):
    generator = torch.Generator().manual_seed(1)
    random = {
        n: torch.randn(p.shape, dtype=p.dtype, generator=generator)
        for n, p in network.named_parameters()
    }
    return unit_direction(random, "d")[0]


@pytest.fixture(scope="module")
def learned(teacher, resources):
    return dict(Defense(Settings(), resources).learn(teacher))


@pytest.fixture(scope="module")
def unit(learned):
    return {name: one for name, one in learned.items() if name != NORM}


def logprobs(network):
    return torch.log_softmax(forward_step(network, TOKENS_BT, MASK_BT, None).logits[:, -1], -1)


def moved(network, direction, size):
    named = dict(network.named_parameters())
    return changed(network, {name: named[name] + size * d for name, d in direction.items()})


def steps(count=5):
    """Decoding steps of one batch that generates some tokens, none of them padding, whatever a
    network says.
    """
    tokens, mask, memory = TOKENS_BT, MASK_BT, {}
    for index in range(count):
        yield DecodingStep(tokens, mask, [], index, None, memory)
        tokens = torch.cat([tokens, torch.tensor([[index + 4], [3], [9 - index]])], 1)
        mask = torch.cat([mask, torch.ones(3, 1, dtype=torch.long)], 1)


class TestSlopes:
    def test_are_finite_differences_in_double_precision(self, network, direction):
        slopes, _, _ = jvp_step(network, direction, TOKENS_BT, MASK_BT, None, ())
        up, down = (logprobs(moved(network, direction, size)) for size in (1e-5, -1e-5))
        assert slopes.dtype == torch.float64 and slopes.abs().max() > 0.1
        torch.testing.assert_close(slopes, (up - down) / 2e-5, rtol=1e-6, atol=1e-8)

    def test_are_gradients_of_every_token_dotted_with_the_direction(self, network, direction):
        slopes, _, _ = jvp_step(network, direction, TOKENS_BT, MASK_BT, None, ())
        twin = copied(network)
        named = dict(twin.named_parameters())
        assert "lm_head.weight" not in named, "the embeddings are tied"
        brute = torch.empty_like(slopes)
        for b, v in np.ndindex(*slopes.shape):
            of = torch.autograd.grad(logprobs(twin)[b, v], list(named.values()))
            brute[b, v] = sum(
                (one * direction[name]).sum() for name, one in zip(named, of, strict=True)
            )
        torch.testing.assert_close(slopes, brute, rtol=1e-9, atol=1e-11)

    def test_have_mean_0_under_the_network(self, network, direction):
        slopes, _, _ = jvp_step(network, direction, TOKENS_BT, MASK_BT, None, ())
        means = (logprobs(network).exp() * slopes).sum(-1)
        torch.testing.assert_close(means, torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-12)

    def test_with_a_cache_are_those_of_a_full_pass(self, network, direction):
        follower = JvpModel(network, direction)
        with torch.inference_mode():  # as in decoding
            for step in steps():
                cached = follower.slopes(step)
                full = jvp_step(network, direction, step.tokens_BT, step.mask_BT, None, ())[0]
                torch.testing.assert_close(cached, full.float(), rtol=1e-6, atol=1e-6)
                assert follower.slopes(step) is cached, "one pass a step"
                assert not cached.requires_grad

    def test_do_not_see_padding_or_the_rest_of_the_batch(self, network, direction):
        slopes, _, _ = jvp_step(network, direction, TOKENS_BT, MASK_BT, None, ())
        for b in range(3):
            alone = TOKENS_BT[b : b + 1, MASK_BT[b] == 1]
            got, _, _ = jvp_step(network, direction, alone, torch.ones_like(alone), None, ())
            torch.testing.assert_close(got[0], slopes[b], rtol=1e-9, atol=1e-11)

    def test_leave_the_network_as_it_was(self, network, direction):
        before = logprobs(network)
        jvp_step(network, direction, TOKENS_BT, MASK_BT, None, ())
        assert logprobs(network).equal(before)


class TestDifference:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_is_close_to_exact_whatever_the_proxys_precision(
        self, teacher, prompts, resources, learned, dtype
    ):
        # In bfloat16 the two perturbed copies would be the same network nearly everywhere (the
        # released code's trap).
        proxy = replace(resources.proxy, network=copied(resources.proxy.network).to(dtype))
        changed = replace(resources, proxy=proxy, learned=learned)
        ways = (
            Defense(Settings(lam=1.0, product=product), changed)(teacher)
            for product in ("exact", "difference")
        )
        exact, near = (
            [edit(step, torch.zeros(3, len(teacher.tokenizer))) for step in steps()]
            for edit in (model.score_edits[-1] for model in ways)
        )
        assert all(one.abs().max() > 0.5 for one in exact)
        torch.testing.assert_close(near, exact, rtol=0, atol=5e-3)

    def test_error_falls_with_the_square_of_epsilon(self, network, direction):
        exact, _, _ = jvp_step(network, direction, TOKENS_BT, MASK_BT, None, ())
        step = DecodingStep(TOKENS_BT, MASK_BT, [], 0)
        wide, narrow = (
            (difference(network, direction, e)(step) - exact).abs().max() for e in (0.4, 0.2)
        )
        assert 3 < wide / narrow < 5


class TestNormalised:
    def test_by_hand(self):
        raw = {"a": torch.tensor([3.0]), "b": torch.tensor([[0.0, 4.0]])}
        made, norm = unit_direction(raw, "d")
        assert float(norm) == 5 and made["a"].dtype == torch.float32
        torch.testing.assert_close(made["a"], torch.tensor([0.6]))
        torch.testing.assert_close(made["b"], torch.tensor([[0.0, 0.8]]))

    def test_no_direction_is_bad_input(self):
        for value in (0.0, float("nan"), float("inf")):
            with pytest.raises(BadInput, match="defense d: .* no direction"):
                unit_direction({"a": torch.tensor([value])}, "d")


class TestDefense:
    def test_learns_the_gradient_of_the_loss_over_the_traces(
        self, teacher, resources, learned, unit
    ):
        answer_rows, twin = rows(resources.proxy, resources.traces), copied(resources.proxy.network)
        loss(twin, answer_rows).backward()
        whole = {name: p.grad for name, p in twin.named_parameters()}
        assert set(unit) == set(whole) and all(one.dtype == torch.float32 for one in unit.values())
        for name, g in whole.items():
            torch.testing.assert_close(unit[name] * float(learned[NORM]), g, rtol=1e-3, atol=1e-5)
        assert (
            Defense(Settings(), replace(resources, learned=learned)).gradient_norm
            == float(learned[NORM])
            > 0
        )
        torch.testing.assert_close(
            sum(one.square().sum() for one in unit.values()), torch.tensor(1.0)
        )

    def test_a_step_of_training_on_a_token_changes_the_traces_loss_by_its_slope(
        self, resources, learned, unit
    ):
        # SGD on v: loss(theta + rate grad log p(v)) - loss(theta) = rate |g| Delta(v) + O(rate^2):
        # up where Delta > 0.
        answer_rows, network = rows(resources.proxy, resources.traces), resources.proxy.network
        tokens = torch.tensor([[5, 6, 7]])
        mask, rate = torch.ones_like(tokens), 1e-4
        slopes = jvp_step(network, unit, tokens, mask, None, ())[0][0]
        for token in (int(slopes.argmax()), int(slopes.argmin())):
            twin = copied(network)
            torch.log_softmax(forward_step(twin, tokens, mask, None).logits[0, -1], -1)[
                token
            ].backward()
            change = {name: p + rate * p.grad for name, p in twin.named_parameters()}
            with torch.no_grad():
                gained = (
                    float(loss(changed(network, change), answer_rows) - loss(network, answer_rows))
                    / rate
                )
            assert np.sign(gained) == np.sign(float(slopes[token]))
            assert gained == pytest.approx(float(learned[NORM] * slopes[token]), rel=0.05)

    @pytest.mark.parametrize("temperature", [0.0, 0.7])
    def test_adds_lam_slopes_to_the_scores_before_temperature(
        self, teacher, prompts, resources, learned, unit, temperature
    ):
        model = Defense(Settings(lam=2.0), replace(resources, learned=learned))(
            replace(teacher, temperature=temperature)
        )
        for prompt, answer in zip(
            prompts, model.generate(prompts, seed=0, interface=Interface("full")), strict=True
        ):
            tokens = torch.tensor([teacher.encode(prompt)])
            slopes = jvp_step(
                resources.proxy.network, unit, tokens, torch.ones_like(tokens), None, ()
            )[0][0]
            with torch.no_grad():
                scores = teacher.network(input_ids=tokens).logits[0, -1] + 2 * slopes
            ids = torch.tensor(answer.logprobs.ids_TK[0]).long()
            expected = torch.log_softmax(scores, -1)[ids].numpy()
            np.testing.assert_allclose(answer.logprobs.values_TK[0], expected, atol=1e-4)
            if temperature == 0:
                first = answer.token_ids[0] if answer.token_ids else teacher.tokenizer.eos_token_id
                assert first == int(scores.argmax())

    @pytest.mark.parametrize("product", ["exact", "difference"])
    def test_the_proxy_may_have_other_rows_beyond_the_tokenizers(
        self, teacher, prompts, resources, product
    ):
        network = copied(resources.proxy.network)
        network.resize_token_embeddings(len(teacher.tokenizer) + 3, mean_resizing=False)
        changed = replace(resources, proxy=replace(resources.proxy, network=network))
        defense = Defense(Settings(lam=2.0, product=product), changed)
        made = Defense(defense.settings, replace(changed, learned=defense.learn(teacher)))(teacher)
        for answer in made.generate(prompts, seed=0, interface=Interface("full")):
            assert answer.logprobs.ids_TK.shape[1] == len(teacher.tokenizer)
            assert np.isfinite(answer.logprobs.values_TK).all()

    def test_what_it_lacks_is_bad_input_of_one_line(self, teacher, resources, learned):
        other = replace(resources.proxy, tokenizer=character_tokenizer("0123456789"))
        for lacking, message in [
            (ProviderResources(traces=resources.traces, learned=learned), "needs a proxy"),
            (replace(resources, proxy=other, learned=learned), "another tokenizer"),
            (resources, "has learned nothing"),
        ]:
            with pytest.raises(BadInput, match=message) as error:
                Defense(Settings(), lacking)(teacher)
            assert "\n" not in str(error.value)
        for lacking in (replace(resources, proxy=other), replace(resources, traces=())):
            with pytest.raises(BadInput):
                Defense(Settings(), lacking).learn(teacher)


def test_the_mean_over_traces_is_another_direction(teacher, resources):
    """Traces of unequal length: cosine .74 in the audit's five."""
    directions = [
        Defense(Settings(mean=mean), resources).learn(teacher) for mean in ("token", "trace")
    ]
    first, other = (
        torch.cat([value.flatten() for name, value in sorted(found.items()) if name != NORM])
        for found in directions
    )
    assert float(first @ other) < 0.9999
