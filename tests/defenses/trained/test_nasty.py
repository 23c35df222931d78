"""The nasty teacher's objective by hand and against plain loops, its bounds, and what it does to a
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
from scipy.spatial.distance import jensenshannon

from defenses.trained import fixed_logits, rows
from defenses.trained.nasty import Defense, Settings, capped_kl, jensen_shannon, objective, without

seeds = st.integers(0, 2**32 - 1)
VARIANTS = [
    Settings(omega=0.7, divergence=d, mass=m, cap=0.4)
    for d in ("js", "kl")
    for m in ("rest", "all")
]


def scores(seed: int, scale: float = 2.0, n: int = 5, v: int = 6) -> list[torch.Tensor]:
    rng = np.random.default_rng(seed)
    return [torch.tensor(rng.normal(size=(n, v)) * scale) for _ in range(2)] + [
        torch.tensor(rng.integers(0, v, n))
    ]


def plain(scores_NV, clean_NV, targets_N, settings) -> float:
    """The objective in float64, token by token, with scipy's Jensen-Shannon distance."""
    total = 0.0
    for z, c, y in zip(scores_NV.numpy(), clean_NV.numpy(), targets_N.tolist(), strict=True):
        total -= z[y] - np.log(np.exp(z).sum())
        tokens = [v for v in range(len(z)) if settings.mass == "all" or v != c.argmax()]
        p, q = (
            np.exp(x[tokens] / settings.tau) / np.exp(x[tokens] / settings.tau).sum()
            for x in (z, c)
        )
        apart = (
            jensenshannon(p, q) ** 2
            if settings.divergence == "js"
            else min(settings.cap, sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
        )
        total -= settings.omega * settings.tau**2 * apart
    return total / len(targets_N)


class TestMaths:
    def test_jensen_shannon_by_hand(self):
        # (1/2, 1/2) and (1, 0), middle (3/4, 1/4): (ln 2/3 + ln 2) / 4 + ln(4/3) / 2; without
        # overlap it is ln 2
        a, b = (
            torch.tensor([p, q]).log().clamp(min=-1e4)
            for p, q in (([0.5, 0.5], [1.0, 0.0]), ([1.0, 0], [0, 1.0]))
        )
        wanted = [(math.log(2 / 3) + math.log(2)) / 4 + math.log(4 / 3) / 2, math.log(2)]
        divergences = [float(jensen_shannon(one[:1], one[1:])) for one in (a, b)]
        assert divergences == pytest.approx(wanted, abs=1e-6)

    def test_capped_kl_by_hand_and_without_gradient_above_the_cap(self):
        # KL of (1/2, 1/2) to (1/4, 3/4) is ln 2 / 2 + ln(2/3) / 2 = 0.1438
        a, b = torch.tensor([[0.5, 0.5]]).log().requires_grad_(), torch.tensor([[0.25, 0.75]]).log()
        assert float(capped_kl(a, b, 1.0).detach()) == pytest.approx(0.14384, abs=1e-5)
        assert float(capped_kl(a, b, 0.1).detach()) == pytest.approx(0.1)
        capped_kl(a, b, 0.1).sum().backward()
        assert a.grad.abs().sum() == 0

    def test_a_token_is_left_out_of_each_row(self):
        rest = without(torch.arange(6.0).reshape(2, 3), torch.tensor([1, 2]))
        assert rest.tolist() == [[0, 2], [3, 4]]

    @pytest.mark.parametrize("settings", VARIANTS, ids=lambda s: f"{s.divergence} {s.mass}")
    @given(seed=seeds)
    def test_the_objective_and_its_gradient(self, settings, seed):
        z, c, y = scores(seed)
        assert float(objective(z, c, y, settings)) == pytest.approx(
            plain(z, c, y, settings), rel=1e-9, abs=1e-9
        )
        z.requires_grad_()
        objective(z, c, y, settings).backward()
        step = torch.tensor(np.random.default_rng(seed + 1).normal(size=z.shape)) * 1e-6
        moved = plain(z.detach() + step, c, y, settings) - plain(z.detach() - step, c, y, settings)
        if settings.divergence == "js":  # the cap of a KL has a corner
            assert float((z.grad * step).sum()) * 2 == pytest.approx(moved, rel=1e-3, abs=1e-11)

    @pytest.mark.parametrize("settings", VARIANTS, ids=lambda s: f"{s.divergence} {s.mass}")
    @given(seed=seeds, scale=st.floats(1e-3, 1e4))
    def test_what_can_be_won_is_bounded_and_gradients_are_finite(self, settings, seed, scale):
        z, c, y = (one.float() if one.is_floating_point() else one for one in scores(seed, scale))
        z.requires_grad_()
        value = objective(z, c, y, settings)
        value.backward()
        most = math.log(2) if settings.divergence == "js" else settings.cap
        assert value >= -settings.omega * settings.tau**2 * most - 1e-5
        assert z.grad.isfinite().all()

    @given(seed=seeds, far=st.floats(0, 50))
    def test_the_likeliest_token_does_not_enter_what_it_leaves_over(self, seed, far):
        z, c, y = scores(seed)
        top = torch.nn.functional.one_hot(c.argmax(-1), 6) * far
        js = [
            jensen_shannon(*(torch.log_softmax(without(one, c.argmax(-1)), -1) for one in pair))
            for pair in ((z, c), (z + top, c + top))
        ]
        torch.testing.assert_close(*js)


@pytest.mark.parametrize("part", ["all", "last_block"])
def test_a_small_teacher_stays_right_while_the_rest_moves(
    adder, provider, untouched, accuracy, part
):
    settings = Settings(omega=0.1, part=part, steps=40, learning_rate=2e-3)
    learned = Defense(settings, provider).learn(adder)
    names = [name for name, _ in adder.network.named_parameters()]
    assert list(learned) == [
        name for name in names if part == "all" or name.startswith("model.layers.1.")
    ]
    model = Defense(settings, replace(provider, learned=learned))(adder)
    assert accuracy(model) >= accuracy(adder) - 0.1
    answer_rows = rows(adder, provider.traces)
    clean_NV, nasty_NV = (fixed_logits(one.network, answer_rows) for one in (adder, model))
    rest = [
        torch.log_softmax(without(one, clean_NV.argmax(-1)) / settings.tau, -1)
        for one in (clean_NV, nasty_NV)
    ]
    assert float(jensen_shannon(*rest).mean()) > 0.01
