"""DOGe's mask and objective by hand and against plain loops, what learns, and what it does to a
small teacher.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from defenses.trained import answer_logits, doge, fixed_logits, rows
from defenses.trained.doge import (
    Defense,
    Settings,
    add_bottleneck,
    bottleneck,
    objective,
    reasoning,
)
from distill.answer_format import AnswerFormat
from distill.completions import BadInput, Interface, Prompt
from distill.embedded import byte_pair_tokenizer

seeds = st.integers(0, 2**32 - 1)
KINDS = {"alpha": 0.3, "tau": 2.0, "cap": 0.5}


def scores(seed: int, scale: float = 2.0, n: int = 5, v: int = 6):
    rng = np.random.default_rng(seed)
    pair = [torch.tensor(rng.normal(size=(n, v)) * scale) for _ in range(2)]
    return *pair, torch.tensor(rng.integers(0, v, n)), torch.tensor(rng.random(n) < 0.6)


def plain(z_NV, proxy_NV, targets_N, carries_N, alpha, tau, cap) -> float:
    """The objective in float64, token by token."""
    nats, kls = [], []
    for z, s, y, carries in zip(
        z_NV.numpy(), proxy_NV.numpy(), targets_N.tolist(), carries_N.tolist(), strict=True
    ):
        nats.append(math.log(np.exp(z).sum()) - z[y])
        if carries:
            p, q = (np.exp(x / tau) / np.exp(x / tau).sum() for x in (z, s))
            kls.append(min(cap, sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))))
    return float(np.mean(nats) - (alpha * np.mean(kls) if kls else 0))


class TestReasoning:
    @pytest.mark.parametrize(
        ("text", "count"), [("34#7", 2), ("#", 0), ("347", 3), ("3#4#7", 3), ("34#", 2)]
    )
    def test_characters_by_hand(self, adder, text, count):
        assert reasoning(adder.tokenizer, adder.tokenizer(text).input_ids, AnswerFormat()) == count

    def test_byte_pairs_that_hold_the_marker_or_share_it(self):
        tokenizer = byte_pair_tokenizer(["so #### 7 and", "so #### 8 and"] * 50, 300)
        ids = tokenizer("so #### 7").input_ids
        words = [tokenizer.decode([one]) for one in ids]
        for marker in ("####", "#", "# 7"):
            count = reasoning(tokenizer, ids, AnswerFormat(mark=marker))
            start, ends = "so #### 7".rindex(marker), np.cumsum([len(word) for word in words])
            assert count == int(np.searchsorted(ends, start, side="right")), (words, marker)


class TestObjective:
    def test_by_hand(self):
        # tau 2 halves the scores: teacher (1/2, 1/2), proxy (3/4, 1/4): KL = ln(4/3) / 2; a second
        # token carries none
        z, proxy = torch.zeros(2, 2), torch.tensor([[2 * math.log(3), 0], [9, 0]])
        value = objective(
            z, proxy, torch.tensor([0, 1]), torch.tensor([True, False]), alpha=0.5, tau=2.0, cap=9.0
        )
        assert float(value) == pytest.approx(math.log(2) - 0.5 * math.log(4 / 3) / 2)

    @given(seeds)
    def test_against_a_plain_loop(self, seed):
        z, proxy, y, carries = scores(seed)
        assert float(objective(z, proxy, y, carries, **KINDS)) == pytest.approx(
            plain(z, proxy, y, carries, **KINDS)
        )
        free = KINDS | {"cap": 1e9}
        z.requires_grad_()
        objective(z, proxy, y, carries, **free).backward()
        step = torch.tensor(np.random.default_rng(seed + 1).normal(size=z.shape)) * 1e-6
        up, down = (plain(z.detach() + sign * step, proxy, y, carries, **free) for sign in (1, -1))
        assert 2 * float((z.grad * step).sum()) == pytest.approx(up - down, rel=1e-3, abs=1e-11)

    @given(seeds, st.floats(1e-3, 1e4))
    def test_it_is_bounded_and_its_gradient_finite(self, seed, scale):
        z, proxy, y, carries = scores(seed, scale)
        z = z.float().requires_grad_()
        value = objective(z, proxy.float(), y, carries, **KINDS)
        value.backward()
        assert value >= -KINDS["alpha"] * KINDS["cap"] - 1e-5 and z.grad.isfinite().all()

    @given(seeds)
    def test_more_of_the_same_tokens_is_the_same_loss(self, seed):
        z, proxy, y, carries = scores(seed)
        twice = [torch.cat([one, one]) for one in (z, proxy, y, carries)]
        torch.testing.assert_close(
            objective(*twice, **KINDS), objective(z, proxy, y, carries, **KINDS)
        )

    @given(seeds)
    def test_spare_scores_of_a_proxy_do_not_count(self, seed):
        z, proxy, y, carries = scores(seed)
        wide = torch.cat([proxy, torch.full((5, 3), 7.0)], -1)
        torch.testing.assert_close(
            objective(z, wide, y, carries, **KINDS), objective(z, proxy, y, carries, **KINDS)
        )

    def test_a_teacher_that_is_surer_than_its_proxy_is_only_made_surer(self):
        # d KL / d z_v = p_v (log p_v / q_v - KL) / tau: below 0 wherever p_v < q_v, which is
        # everywhere but at the top
        z, proxy = torch.tensor([[6.0, 0, 0]], requires_grad=True), torch.tensor([[3.0, 0, 0.5]])
        kl_alone = objective(
            z, proxy, torch.tensor([0]), torch.tensor([True]), alpha=1e6, tau=2.0, cap=1e9
        )
        kl_alone.backward()
        assert z.grad[0, 0] < 0 < z.grad[0, 1:].min()  # a step against the gradient


class TestLearning:
    @pytest.mark.parametrize("masked", [True, False])
    def test_the_kl_falls_on_reasoning_and_never_on_prompts_or_padding(
        self, adder, provider, monkeypatch, masked
    ):
        seen = []

        def spy(scores_NV, proxy_NV, targets_N, carries_N, **settings):
            seen.append((targets_N.tolist(), carries_N.tolist(), len(proxy_NV)))
            return objective(scores_NV, proxy_NV, targets_N, carries_N, **settings)

        monkeypatch.setattr(doge, "objective", spy)
        Defense(Settings(steps=1, batch_size=42, masked=masked), provider).learn(adder)
        [(targets, carries, length)] = seen
        answers = "".join(adder.tokenizer.decode(targets).split()).split("<end>")[:-1]
        texts = {trace.text for trace in provider.traces}
        assert (
            len({len(answer) for answer in answers}) > 1 and set(answers) <= texts
        )  # the batch is ragged
        wanted = [
            place < answer.rindex("#") for answer in answers for place in range(len(answer) + 1)
        ]
        assert length == len(targets) == len(wanted)
        assert carries == (wanted if masked else [True] * len(wanted))

    @pytest.mark.parametrize("part", ["head", "bottleneck"])
    def test_a_small_teacher_stays_right_and_leaves_its_proxy(
        self, adder, provider, untouched, accuracy, part
    ):
        settings = Settings(alpha=0.3, part=part, width=8, steps=60, learning_rate=3e-3)
        defense = Defense(settings, provider)
        learned = defense.learn(adder)
        assert list(learned) == (["lm_head.weight"] if part == "head" else ["down_RV", "up_VR"])
        assert {value.dtype for value in learned.values()} == {torch.float32}
        model = Defense(settings, replace(provider, learned=learned))(adder)
        assert accuracy(model) >= accuracy(adder) - 0.1
        answer_rows = rows(adder, provider.traces)
        clean_NV, targets_N = answer_logits(adder.network, answer_rows)
        moved_NV = fixed_logits(model.network, answer_rows)
        if part == "bottleneck":
            moved_NV = add_bottleneck(moved_NV, **learned)
        proxy_NV, every = (
            fixed_logits(provider.proxy.network, answer_rows),
            torch.ones_like(targets_N, dtype=torch.bool),
        )
        kls = [
            torch.nn.functional.cross_entropy(one, targets_N)
            - objective(one, proxy_NV, targets_N, every, alpha=1.0, tau=2.0, cap=10.0)
            for one in (clean_NV, moved_NV)
        ]
        assert kls[1] > 1.1 * kls[0]

    def test_a_head_of_its_own_leaves_the_embedding_alone(self, adder, provider):
        settings = Settings(alpha=0.3, steps=3)
        model = Defense(
            settings, replace(provider, learned=Defense(settings, provider).learn(adder))
        )(adder)
        assert model.network.model.embed_tokens.weight.equal(
            adder.network.model.embed_tokens.weight
        )
        assert not model.network.lm_head.weight.equal(adder.network.lm_head.weight)

    def test_a_proxy_with_another_tokenizer_is_refused(self, adder, teacher, provider):
        with pytest.raises(BadInput, match="trained/doge: the proxy has another tokenizer"):
            Defense(Settings(), replace(provider, proxy=teacher)).learn(adder)


class TestBottleneck:
    def test_by_hand(self):
        # A z = 1*1 + 2*0 = 1 with A = (1, 0); B = (0, 3): z + (0, 3)
        assert add_bottleneck(
            torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0]]), torch.tensor([[0.0], [3.0]])
        ).tolist() == [[1, 5]]

    def test_a_new_one_adds_nothing_and_has_a_gradient(self):
        added, z = bottleneck(6, 3), torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
        assert torch.equal(add_bottleneck(z, **added), z)
        add_bottleneck(z, **added)[:, 0].sum().backward()
        assert added["up_VR"].grad.abs().sum() > 0

    def test_it_changes_what_is_said_at_no_pass(self, adder, provider):
        # B A z = -3 z turns the scores around
        size = len(adder.tokenizer)
        learned = {"down_RV": torch.eye(size), "up_VR": -3 * torch.eye(size)}
        model = Defense(Settings(part="bottleneck"), replace(provider, learned=learned))(adder)
        [clean], [turned] = (
            one.generate([Prompt("p", "1+2=")], seed=0, interface=Interface("full"))
            for one in (adder, model)
        )
        assert turned.passes == clean.passes and turned.token_ids[0] == clean.logprobs.ids_TK[0, -1]
