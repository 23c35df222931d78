"""Gradient redirection against linear programming, autograd, and what must hold for all inputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given as cases
from hypothesis import settings as limits
from hypothesis import strategies as st
from scipy.optimize import linprog

from defenses.decoding.gradient_redirection import (
    LEAST,
    Defense,
    Settings,
    away_from_proxy,
    drain,
    on_image,
    output_weight,
    random_signs,
    redirect,
    slopes_along,
)
from defenses.trained import copied, loss, rows
from distill.completions import BadInput, Interface, Prompt
from distill.generation import DecodingStep

seeds, budgets, floors = (
    st.integers(0, 2**32 - 1),
    st.floats(0, 2),
    st.sampled_from([0.0, 0.01, 0.1]),
)


def instance(seed: int, rows: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of a Dirichlet of random sharpness, some with zeros or one-hot, and values with ties
    (float64).
    """
    rng = np.random.default_rng(seed)
    size = int(rng.integers(2, 12))
    y = rng.dirichlet(np.full(size, rng.choice([0.01, 0.1, 1])), rows) + 1e-300
    y[rng.random(y.shape) < 0.2 * rng.integers(0, 2)] = 0
    y[y.sum(-1) < 1e-9] = np.eye(size)[0]
    g = rng.normal(size=(rows, size))
    if rng.random() < 0.3:
        g = np.round(g)
    return torch.tensor(y / y.sum(-1, keepdims=True)), torch.tensor(g)


def straight_line(
    logprobs: torch.Tensor, g: torch.Tensor, weight: torch.Tensor, eps: float
) -> torch.Tensor:
    """y~ along the first gradient in h, as far as the budget goes."""
    p = logprobs.exp()
    slope = p * (g - (p * g).sum(-1, keepdim=True))
    shift = slope @ weight @ weight.T
    shift = shift / shift.abs().amax(-1, keepdim=True)
    low, high = torch.zeros(len(p), 1), torch.full((len(p), 1), 1000.0)
    for _ in range(60):
        middle = (low + high) / 2
        far = (torch.log_softmax(logprobs + middle * shift, -1).exp() - p).abs().sum(-1, True)
        low, high = torch.where(far <= eps, middle, low), torch.where(far <= eps, high, middle)
    return torch.log_softmax(logprobs + low * shift, -1).exp()


def programmed(y: np.ndarray, g: np.ndarray, eps: float, rho: float) -> float:
    """The optimum over y~ = y + up - down: up, down >= 0, equal sums of at most eps/2, down <= (1 -
    rho) y.
    """
    k = len(y)
    sums = [[1.0] * k + [-1.0] * k], [[1.0] * (2 * k)]
    bounds = [(0, 1)] * k + [(0, (1 - rho) * p) for p in y]
    solution = linprog(
        np.r_[-g, g], A_eq=sums[0], b_eq=[0], A_ub=sums[1], b_ub=[eps], bounds=bounds
    )
    assert solution.status == 0
    return float(y @ g - solution.fun)


class TestRedirected:
    def test_by_hand(self):
        # eps/2 = 0.3 to token 1; token 2 has the least g and gives 0.9 * 0.2 = 0.18, then token 0
        # the other 0.12
        y = torch.tensor([[0.5, 0.3, 0.2]])
        edited = redirect(y.log(), torch.tensor([[0.0, 1.0, -1.0]]), 0.6, 0.1).exp()
        torch.testing.assert_close(edited, torch.tensor([[0.38, 0.6, 0.02]]))

    def test_a_greedy_distribution_gives_half_of_eps_to_another_token(self):
        sure = torch.tensor([[0.0, 1.0, 0.0]]).log()
        assert redirect(sure, torch.tensor([[2.0, 1.0, 0.0]]), 0.5, 0.01).exp().tolist() == [
            [0.25, 0.75, 0.0]
        ]
        assert torch.equal(redirect(sure, torch.tensor([[1.0, 2.0, 0.0]]), 0.5, 0.01), sure)

    @limits(max_examples=80, deadline=None)
    @cases(seeds, budgets, floors)
    def test_is_the_optimum_of_the_linear_program(self, seed, eps, rho):
        y, g = instance(seed)
        edited = redirect(y.log(), g, eps, rho).exp()
        best = y.gather(-1, g.argmax(-1, keepdim=True))[:, 0]
        for row in range(len(y)):
            assert float(edited[row] @ g[row]) == pytest.approx(
                programmed(y[row].numpy(), g[row].numpy(), eps, rho), abs=1e-6
            )
        reached = (2 * (1 - rho) * (1 - best)).clamp(max=eps)
        torch.testing.assert_close((edited - y).abs().sum(-1), reached, rtol=0, atol=1e-9)
        torch.testing.assert_close(
            edited.sum(-1), torch.ones(len(y), dtype=torch.float64), rtol=0, atol=1e-9
        )
        assert (edited >= rho * y - 1e-12).all()

    @limits(deadline=None)
    @cases(seeds, budgets, floors)
    def test_takes_all_or_nothing_from_all_but_one_token(self, seed, eps, rho):
        y, g = instance(seed)
        edited = redirect(y.log(), g, eps, rho).exp()
        share = ((y - edited) / (y * (1 - rho)).clamp(min=1e-300)).masked_fill(y < 1e-12, 0)
        assert (((share > 1e-6) & (share < 1 - 1e-6)).sum(-1) <= 1).all()

    @limits(deadline=None)
    @cases(seeds, budgets, st.floats(-5, 5), st.floats(0.1, 10))
    def test_ignores_constants_and_scale_and_turns_round_with_z(self, seed, eps, added, scale):
        y, g = instance(seed)
        edited = redirect(y.log(), g, eps, 0.01).exp()
        other = added + scale * g
        again = redirect(y.log(), other, eps, 0.01).exp()
        torch.testing.assert_close((again * other).sum(-1), (edited * other).sum(-1))
        back = redirect(y.log(), -g, eps, 0.01).exp()
        clean = (y * g).sum(-1)
        assert ((edited * g).sum(-1) >= clean - 1e-9).all() and (
            (back * g).sum(-1) <= clean + 1e-9
        ).all()

    @limits(deadline=None)
    @cases(seeds, budgets)
    def test_is_ahead_of_every_interpolation_at_its_l1(self, seed, eps):
        y, g = instance(seed)
        edited = redirect(y.log(), g, eps, 0.0).exp()
        spent = (edited - y).abs().sum(-1, keepdim=True)
        for end in torch.eye(y.shape[1], dtype=y.dtype):
            far = (end - y).abs().sum(-1, keepdim=True).clamp(min=1e-12)
            other = y + (spent / far).clamp(max=1) * (end - y)
            assert ((edited * g).sum(-1) >= (other * g).sum(-1) - 1e-9).all()

    @cases(seeds)
    def test_eps_0_is_the_input_bit_for_bit_and_rows_do_not_meet(self, seed):
        y, g = instance(seed)
        logprobs = y.float().log()
        assert torch.equal(redirect(logprobs, g, 0.0, 0.01), logprobs)
        batch = redirect(logprobs, g, 0.7, 0.01)
        for row in range(len(y)):
            assert torch.equal(
                redirect(logprobs[row : row + 1], g[row : row + 1], 0.7, 0.01),
                batch[row : row + 1],
            )

    def test_drains_equals_from_the_lowest_id_and_large_vocabularies_as_a_sort_would(self):
        ones = torch.ones(1, 6, dtype=torch.float64)
        taken = drain(torch.tensor([[1.0, 0, 0, 2, 0, 0]]), ones, torch.tensor([[2.5]]))
        assert taken.tolist() == [[0, 1, 1, 0, 0.5, 0]]
        generator = torch.Generator().manual_seed(0)
        values = torch.randn(3, 50_000, generator=generator).square()
        values[1], values[2] = (
            values[1] ** 9,
            values[2].round(),
        )  # nearly all in one bin; equals in thousands
        rooms = torch.softmax(3 * torch.randn(3, 50_000, generator=generator), -1).double()
        order = values.sort(dim=-1, stable=True).indices
        for give in (0.0, 1e-6, 0.2, 0.9, 1.0):
            before = rooms.gather(-1, order).cumsum(-1) - rooms.gather(-1, order)
            wanted = torch.minimum((give - before).clamp(min=0), rooms.gather(-1, order))
            oracle = torch.zeros_like(rooms).scatter_(-1, order, wanted)
            torch.testing.assert_close(
                drain(values, rooms, torch.full((3, 1), give, dtype=torch.float64)),
                oracle,
                rtol=0,
                atol=1e-12,
            )

    def test_moves_nothing_to_tokens_that_spell_nothing(self):
        y, g = torch.full((1, 4), 0.25), torch.tensor([[0.0, 1.0, 2.0, 3.0]])
        assert redirect(y.log(), g, 0.2, 0.0, size=3).argmax() == 2


class TestSlopes:
    @pytest.fixture
    def network(self, resources):
        return resources.proxy.network

    @pytest.fixture
    def step(self):
        tokens = torch.tensor([[0, 5, 9, 11], [4, 4, 16, 7]])
        return lambda: DecodingStep(tokens, (tokens > 0).long(), ["a", "b"], 0)

    def test_are_the_product_of_autograds_gradients_with_the_direction(self, network, step):
        z = random_signs(network, "k")
        length = sum(float(v.square().sum()) for v in z.values()) ** 0.5
        twin, at = copied(network), step()
        logprobs = torch.log_softmax(twin(input_ids=at.tokens_BT[1:]).logits[0, -1], -1)
        named = dict(twin.named_parameters())
        wanted = [
            sum(float((one * z[name]).sum()) for name, one in zip(z, grads, strict=True)) / length
            for grads in (
                torch.autograd.grad(logprobs[k], [named[name] for name in z], retain_graph=True)
                for k in range(17)
            )
        ]
        slopes = slopes_along(network, z)(at)
        torch.testing.assert_close(slopes[1], torch.tensor(wanted), rtol=1e-4, atol=1e-5)
        logits = network(
            input_ids=at.tokens_BT,
            attention_mask=at.mask_BT,
            position_ids=(at.mask_BT.cumsum(-1) - 1).clamp(min=0),
        ).logits[:, -1]
        torch.testing.assert_close(
            (torch.softmax(logits, -1) * slopes).sum(-1), torch.zeros(2), rtol=0, atol=1e-5
        )

    def test_signs_are_keyed_plus_or_minus_one_and_leave_the_output_layer_out(self, network):
        z, other = random_signs(network, "a"), random_signs(network, "b")
        assert {float(v) for one in z.values() for v in one.unique()} == {-1.0, 1.0}
        assert set(z) == {name for name, _ in network.named_parameters()} - {
            "model.embed_tokens.weight"
        }  # tied
        assert all(torch.equal(z[name], one) for name, one in random_signs(network, "a").items())
        same = torch.cat([(z[name] == other[name]).flatten() for name in z]).double()
        assert abs(float(same.mean()) - 0.5) < 4 * 0.5 / len(same) ** 0.5

    def test_all_ones_on_the_output_layer_are_inert(self, network, step):
        from defenses.trained import untie

        twin = copied(network)
        untie(twin)
        ones = {"lm_head.weight": torch.ones_like(twin.lm_head.weight)}
        assert slopes_along(twin, ones)(step()).abs().max() < 1e-5
        assert slopes_along(twin, random_signs(network, "k"))(step()).abs().max() > 1e-3

    @cases(seeds)
    def test_the_uncoordinated_form_is_the_last_layers_jacobian(self, seed):
        rng = np.random.default_rng(seed)
        y, q, h = rng.dirichlet(np.ones(10)), rng.dirichlet(np.ones(10)), rng.normal(size=4)
        weight = torch.tensor(np.log(q)[:, None] * h / (h @ h), requires_grad=True)
        logprobs = torch.log_softmax(weight @ torch.tensor(h), -1)
        G = torch.stack(
            [
                torch.autograd.grad(logprobs[k], weight, retain_graph=True)[0].flatten()
                for k in range(10)
            ]
        )
        wanted = G @ -(G.T @ torch.tensor(y)) / (h @ h)
        direction = away_from_proxy(torch.tensor(y).log()[None], torch.tensor(q).log()[None])[0]
        torch.testing.assert_close(direction, wanted, rtol=0, atol=1e-9)
        assert abs(float((torch.tensor(q) * direction).sum())) < 1e-12

    def test_a_direction_without_length_is_an_error(self, network):
        with pytest.raises(BadInput, match="direction has length 0"):
            slopes_along(network, {})

    def test_learning_from_loss_redirected_answers_raises_the_loss(self, teacher, resources):
        """A step of the proxy on y~ at one context, against one on y: the loss on the provider's
        traces is higher.
        """
        defense = Defense(Settings(direction="loss", eps=2, rho=0), resources)
        changed = replace(resources, learned=defense.learn(teacher))
        answer_rows = rows(resources.proxy, resources.traces)
        slopes = slopes_along(resources.proxy.network, changed.learned)
        tokens = torch.tensor([resources.proxy.encode(Prompt("x", "3+4="))])
        g = slopes(DecodingStep(tokens, torch.ones_like(tokens), ["k"], 0))
        y = torch.softmax(teacher.network(input_ids=tokens).logits[:, -1], -1).detach()

        def after(target):
            twin = copied(resources.proxy.network)
            (
                -(target * torch.log_softmax(twin(input_ids=tokens).logits[:, -1], -1)).sum()
            ).backward()
            with torch.no_grad():
                for parameter in twin.parameters():
                    parameter -= 1e-3 * parameter.grad
                return float(loss(twin, answer_rows))

        up, down = (after(redirect(y.log(), sign * g, 2, 0).exp()) for sign in (1, -1))
        assert up > after(y) > down


class TestOnImage:
    @limits(deadline=None)
    @cases(seeds, st.floats(0.01, 2))
    def test_stays_in_the_image_within_eps_and_climbs(self, seed, eps):
        rng = torch.Generator().manual_seed(seed)
        weight, h, g = (
            torch.randn(*shape, generator=rng, dtype=torch.float64)
            for shape in ((9, 3), (2, 3), (2, 9))
        )
        clean = torch.log_softmax(h @ weight.T, -1)
        edited = on_image(clean, g, weight, eps)
        centred = (edited - edited.mean(-1, keepdim=True)).T
        image = weight - weight.mean(0)
        residual = centred - image @ torch.linalg.lstsq(image, centred).solution
        assert residual.abs().max() < 1e-6 * max(1, float(centred.abs().max()))
        l1 = (edited.exp() - clean.exp()).abs().sum(-1)
        assert (l1 <= eps + 1e-9).all()
        gain = ((edited.exp() - clean.exp()) * g).sum(-1)
        straight = ((straight_line(clean, g, weight, eps) - clean.exp()) * g).sum(-1)
        # A step that is worth less than this is not taken.
        least = LEAST * eps / 2 * (g.amax(-1) - g.amin(-1))
        assert (gain >= 0).all() and (gain >= straight - 0.02 * straight.abs() - least).all()

    @pytest.mark.parametrize("eps", [0.05, 0.4, 1.0, 1.5, 2.0])
    def test_comes_near_what_a_search_without_a_form_finds(self, eps):
        """On eight networks and 96 contexts; at these budgets a straight line lowered what is to
        be raised in 15 to 50 of 200.
        """
        pairs = [self.gain_and_search(seed, eps) for seed in range(8)]
        gain, best = (torch.cat(values) for values in zip(*pairs, strict=True))
        assert float(gain.mean()) > 0.92 * float(best.mean()) and (gain >= 0).all()

    def gain_and_search(self, seed, eps):
        rng = torch.Generator().manual_seed(seed)
        weight, h, g = (
            torch.randn(*shape, generator=rng, dtype=torch.float64)
            for shape in ((9, 3), (12, 3), (12, 9))
        )
        clean = torch.log_softmax(h @ weight.T, -1)
        gain = ((on_image(clean, g, weight, eps).exp() - clean.exp()) * g).sum(-1)
        best = torch.zeros(len(h), dtype=torch.float64)
        for scale in (0.1, 0.3, 1, 3, 10, 30):  # by chance, and from nowhere near
            dh = scale * torch.randn(300, 12, 3, generator=rng, dtype=torch.float64)
            moved = torch.log_softmax(clean + dh @ weight.T, -1).exp() - clean.exp()
            worth = torch.where(moved.abs().sum(-1) <= eps, (moved * g).sum(-1), 0.0)
            best = best.maximum(worth.amax(0))
        return gain, best

    def test_needs_logits_that_the_output_layer_makes(self, teacher, resources):
        assert output_weight(teacher.network) is teacher.network.get_output_embeddings().weight

        class Capped(type(teacher.network)):
            def forward(self, *args, **more):
                out = super().forward(*args, **more)
                out.logits = 5 * torch.tanh(out.logits / 5)
                return out

        network = Capped(teacher.network.config).eval()
        network.load_state_dict(teacher.network.state_dict())
        with pytest.raises(BadInput, match="Capped changes its logits"):
            Defense(Settings(form="hidden"), resources)(replace(teacher, network=network))


class TestDefense:
    @pytest.mark.parametrize("direction", ["random", "uncoordinated", "loss"])
    @pytest.mark.parametrize("form", ["tokens", "hidden"])
    @pytest.mark.parametrize("where", ["text", "logprobs"])
    def test_every_setting_moves_what_it_says_within_eps(
        self, teacher, prompts, resources, direction, form, where
    ):
        defense = Defense(Settings(eps=0.5, direction=direction, form=form, where=where), resources)
        assert defense.traits.learns == (direction == "loss") == ("traces" in defense.traits.needs)
        if defense.traits.learns:
            defense = Defense(defense.settings, replace(resources, learned=defense.learn(teacher)))
        clean, released = (
            m.generate(prompts, seed=0, interface=Interface("full"))
            for m in (teacher, defense(teacher))
        )
        assert released[0].passes == 1 + (1 if direction == "uncoordinated" else 3)
        if where == "text":
            assert defense.traits.acts_on == "decoding"
            assert all(0.1 < one.l1 <= 0.5 + 1e-6 for one in released)
            return
        assert defense.traits.acts_on == "logprobs"
        for a, b in zip(clean, released, strict=True):
            assert (a.text, a.token_ids, b.l1) == (b.text, b.token_ids, 0)
            p, q = (np.zeros((len(a.logprobs.ids_TK), 17)) for _ in range(2))
            np.put_along_axis(p, a.logprobs.ids_TK, np.exp(a.logprobs.values_TK), -1)
            np.put_along_axis(q, b.logprobs.ids_TK, np.exp(b.logprobs.values_TK), -1)
            assert 0.1 < np.abs(p - q).sum(-1).mean() <= np.abs(p - q).sum(-1).max() <= 0.5 + 1e-5

    def test_a_greedy_text_is_moved_by_tokens_alone(self, teacher, prompts, resources):
        greedy = replace(teacher, temperature=0.0)
        answers = Defense(Settings(eps=0.5), resources)(greedy).generate(
            prompts, seed=0, interface=Interface()
        )
        assert any(0 < one.l1 for one in answers) and all(one.l1 <= 0.5 + 1e-6 for one in answers)
        with pytest.raises(BadInput, match="form=hidden cannot move a greedy"):
            Defense(Settings(form="hidden"), resources)(greedy)
        Defense(Settings(form="hidden", where="logprobs"), resources)(greedy)
