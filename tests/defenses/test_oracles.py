"""Identities that hold of every released distribution: the oracles of the posterior-defence
literature, by number.

The rows are Dirichlet(0.01, 0.1, 1), one-hot, uniform, tied, or with zeros, over 2 to 50,000
tokens. Held elsewhere, as well or better, is what this table names; `here` are the tests below.
Their paths are below tests/defenses.

| oracle | what                                      | test
|--------|-------------------------------------------|----------------------------------------------
| 1      | distribution; eps 0 is the input to a bit | here; test_contract
| 2      | L1 within eps                             | here; test_contract; decoding/test_perturbed
  TestBudgets
| 3      | interpolation has a known L1              | here; decoding/test_perturbed TestMixture
| 4      | a gap above eps keeps the argmax          | here; decoding/test_mad TestPoisoned
| 5      | more eps, more L1, more objective         | here; release/test_modelguard_w
| 6      | scores have mean 0; proxy == teacher      | here; decoding/test_antidistillation
  TestSlopes
| 7      | the last layer's gradient                 | here; decoding/test_mad,
  test_gradient_redirection
| 8      | forward derivatives; all-ones are inert   | here; decoding/test_gradient_redirection
  TestSlopes
| 9      | the angle grows along an interpolation    | here
| 10     | sampled gradients are G'y~ on average     | here
| 11     | GRAD^2 is the LP's optimum                | decoding/test_gradient_redirection
  TestRedirected
| 12     | MAD-extreme for a uniform proxy; [0, 4]   | here; decoding/test_mad TestObjective
| 13     | ModelGuard-W is the LP's optimum          | release/test_modelguard_w; without its
  margin, here
| 14     | ModelGuard-S is a quantiser               | release/test_quantised; data processing,
  one bucket, here
| 15     | reverse sigmoid                           | release/test_reverse_sigmoid; equals stay
  equal, here
| 17     | top-k                                     | here; release/test_top_k
| 18     | rounding                                  | here; release/test_rounding
| 19     | permutations, batches, keys               | here; keys also in test_noise,
  test_perturbed, test_lossless
| 22     | relabelling undoes what keeps the argmax  | here
| 25, 27 | Pinsker, sequences, infinite KL           | here

16 is of adaptive misinformation, which is not shipped, nor are other ensembles of teachers (EDM);
20, 21, 23, 24, 26 and 28 to 33 are of attackers, metrics and detectors. ModelGuard-S has one fixed
grid, and so no list of centroids that grows; a coarser grid need not be further away from a given
row, so 5 is not of it.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume
from hypothesis import example as case_of
from hypothesis import given as cases
from hypothesis import settings as limits
from hypothesis import strategies as st
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from defenses import ProviderResources
from defenses.decoding import gradient_redirection, mad, perturbed
from defenses.decoding.product_of_experts import product
from defenses.release import (
    LogprobEdit,
    information,
    modelguard_w,
    quantised,
    reverse_sigmoid,
    rounding,
    top_k,
)
from defenses.release.noise import add_noise, keyed_normals
from distill.attackers import AttackerResources
from distill.attackers.logprob_kd import example
from distill.attackers.repair import relabel
from distill.auxiliary import jvp_step
from distill.completions import Completion, Interface, Logprobs
from distill.generation import distortion, draw, uniform
from experiments.contracts.answers import same
from experiments.contracts.defenses import Case, Variant, choices, module, shown
from experiments.settings.catalog import shipped

KINDS = ("0.01", "0.1", "1", "one-hot", "uniform", "ties", "zeros")
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}
HIDDEN = 4
LEAST = 0.01  # budget of ModelGuard-S, whose grid would have too many buckets below it
LOOSE = {"quantised": 1e-5}  # its grid allows for the rounding of float32, whatever the dtype
PRODUCTS = (
    "on the image",
    "information",
)  # whose matrix products differ in their last bits with the rows of a batch
# From the weakest strength on: no budget at all is a test of its own.
seeds, budgets, dtypes = (
    st.integers(0, 2**32 - 1),
    st.floats(0.01, 2),
    st.sampled_from(list(TOLERANCE)),
)


def examples(count: int) -> limits:
    return limits(
        max_examples=count, suppress_health_check=[HealthCheck.too_slow]
    )  # which a busy machine is as well


def posterior(seed: int, kind: str, size: int, count: int = 2) -> Tensor:
    """Distributions (count, size) of a kind, in float64."""
    rng = np.random.default_rng([seed, 0])
    y = np.ones((count, size))
    if kind == "one-hot":
        y = np.zeros((count, size))
        y[np.arange(count), rng.integers(0, size, count)] = 1
    elif kind == "ties":
        y = rng.integers(1, 4, (count, size)).astype(float)
    elif kind != "uniform":
        shape = (
            1.0 if kind == "zeros" else float(kind)
        )  # in logarithms, as gammas of 0.01 underflow
        logs = np.log(rng.gamma(shape + 1, size=y.shape)) + np.log(rng.random(y.shape)) / shape
        y = np.exp(logs - logs.max(-1, keepdims=True))
    if kind == "zeros":
        y[:, rng.permutation(size)[: size // 2]] = 0
    return torch.tensor(y / y.sum(-1, keepdims=True))


def posteriors(
    *sizes: int, kinds: tuple[str, ...] = KINDS, count: int = 2
) -> st.SearchStrategy[Tensor]:
    return st.builds(
        posterior, seeds, st.sampled_from(kinds), st.sampled_from(sizes), st.just(count)
    )


def beside(seed: int, y_BV: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What else a defence looks at: a proxy's distribution, values of tokens (B, V), and an output
    layer (V, H).
    """
    rng = np.random.default_rng([seed, 1])
    q = rng.gamma(rng.choice([0.1, 1]), size=y_BV.shape) + 1e-9
    g, weight = rng.normal(size=y_BV.shape), rng.normal(size=(y_BV.shape[1], HIDDEN))
    return torch.tensor(q / q.sum(-1, keepdims=True)), torch.tensor(g), torch.tensor(weight)


def shuffled(logprobs_BV: Tensor) -> Logprobs:
    """Rows as a model releases them: sorted, with token ids."""
    values, ids = logprobs_BV.sort(dim=-1, descending=True, stable=True)
    return Logprobs(ids.numpy().astype(np.int32), values.numpy())


def spread_out(released: Logprobs, size: int) -> Tensor:
    """Released rows by token id again; what was withheld has -inf."""
    dtype = torch.tensor(released.values_TK).dtype
    out = torch.full((len(released.ids_TK), size), -torch.inf, dtype=dtype)
    for row, ids, values in zip(out, released.ids_TK, released.values_TK, strict=True):
        row[torch.tensor(ids[ids >= 0]).long()] = torch.tensor(values[ids >= 0])
    return out


def posted(defense: LogprobEdit, logprobs_BV: Tensor) -> Tensor:
    edited = defense.edit(Completion("a", "?", "", logprobs=shuffled(logprobs_BV)))
    return spread_out(edited.logprobs, logprobs_BV.shape[1])


Release = Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor]


def redirects(rho: float) -> Release:
    return lambda logprobs, q, g, weight, eps: gradient_redirection.redirect(logprobs, g, eps, rho)


def poisons(variant: str) -> Release:
    return lambda logprobs, q, g, weight, eps: mad.poison(
        logprobs,
        q.log(),
        mad.Settings(variant=variant, eps=eps, most=8, by="vertex"),
        logprobs.shape[1],
    )


def on_image(logprobs: Tensor, q: Tensor, g: Tensor, weight: Tensor, eps: float) -> Tensor:
    return gradient_redirection.on_image(logprobs, g, weight, eps)


def perturbs(logprobs: Tensor, q: Tensor, g: Tensor, weight: Tensor, eps: float) -> Tensor:
    return perturbed.mixture(logprobs, g.argmax(-1), eps / 2)


def guards_w(logprobs: Tensor, q: Tensor, g: Tensor, weight: Tensor, eps: float) -> Tensor:
    return posted(modelguard_w.Defense(modelguard_w.Settings(eps=eps)), logprobs)


def guards_s(logprobs: Tensor, q: Tensor, g: Tensor, weight: Tensor, eps: float) -> Tensor:
    return posted(quantised.Defense(quantised.Settings(eps=min(max(eps, LEAST), 1.99))), logprobs)


# Every defence that has an L1 budget for a distribution; `WHOLE` are those that withhold nothing.
WHOLE: dict[str, Release] = {
    "redirected": redirects(0.0),
    "redirected with a floor": redirects(0.01),
    "on the image": on_image,
    "mad argmax": poisons("argmax"),
    "mad extreme": poisons("extreme"),
    "perturbed": perturbs,
    "modelguard_w": guards_w,
}
BUDGETED = WHOLE | {"quantised": guards_s}


def noises(logprobs: Tensor, q: Tensor, g: Tensor, weight: Tensor, eps: float) -> Tensor:
    released = shuffled(logprobs)
    normals = g.gather(-1, torch.tensor(released.ids_TK).long()).float().numpy()
    return spread_out(add_noise(released, normals, eps), logprobs.shape[1])


# Those without a budget, at some strength.
OTHERS: dict[str, Release] = {
    "noise": noises,
    "reverse sigmoid": lambda y, q, g, w, eps: posted(
        reverse_sigmoid.Defense(reverse_sigmoid.Settings(c=eps)), y
    ),
    "rounding": lambda y, q, g, w, eps: posted(rounding.Defense(rounding.Settings()), y),
    "top_k": lambda y, q, g, w, eps: posted(top_k.Defense(top_k.Settings()), y),
    "information": lambda y, q, g, w, eps: information.transform(y.double(), w.T, eps / len(w) * w),
    "product of experts": lambda y, q, g, w, eps: product(y.double(), q.log(), eps / 2).log_softmax(
        -1
    ),
}


def l1(y_BV: Tensor, released_BV: Tensor) -> Tensor:
    """Over the tokens that are named, and all others as one: what withheld mass is taken for is the
    reader's matter.
    """
    apart_BV = (y_BV - released_BV).masked_fill(released_BV == 0, 0)
    return apart_BV.abs().sum(-1) + apart_BV.sum(-1).abs()


def run(
    name: str, y_BV: Tensor, seed: int, eps: float, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """The distribution that a defence is given, as far as its logprobs in a dtype say, and the one
    that it releases.
    """
    logprobs_BV = y_BV.log().to(dtype)
    return logprobs_BV.double().exp(), BUDGETED[name](
        logprobs_BV, *beside(seed, y_BV), eps
    ).double().exp()


def assert_close(got: Tensor, wanted: Tensor, within: float = 1e-9) -> None:
    torch.testing.assert_close(got, wanted, rtol=0, atol=within)


@pytest.mark.parametrize("name", BUDGETED)
@examples(25)
@cases(posteriors(2, 10, 1000, 50_000), seeds, budgets, dtypes)
def test_a_distribution_is_released_within_its_budget(name, y, seed, eps, dtype):
    """Oracles 1 and 2."""
    clean, out = run(name, y, seed, eps, dtype)
    within = max(TOLERANCE[dtype], LOOSE.get(name, 0.0))
    assert out.isfinite().all() and (out >= 0).all() and (out.sum(-1) <= 1 + within).all()
    assert (l1(clean, out) <= min(eps, 2) + within).all()
    if name in WHOLE:
        assert_close(out.sum(-1), clean.sum(-1), within)
        assert_close((clean - out).abs().sum(-1), 2 * (out - clean).clamp(min=0).sum(-1), within)


@pytest.mark.parametrize(
    "name", [name for name in WHOLE if name != "on the image"]
)  # where eps 0 is the model itself
@examples(20)
@cases(posteriors(2, 10, 1000, 50_000), seeds, dtypes)
def test_no_budget_is_the_input_bit_for_bit(name, y, seed, dtype):
    """Oracle 1."""
    logprobs = y.log().to(dtype)
    assert torch.equal(WHOLE[name](logprobs, *beside(seed, y), 0.0), logprobs)


@examples(50)
@cases(posteriors(2, 10, 1000), seeds, budgets)
def test_an_interpolation_goes_as_far_as_the_budget_or_its_end(y, seed, eps):
    """Oracle 3."""
    q, g, _ = beside(seed, y)
    far = (q - y).abs().sum(-1)
    assert_close((mad.interpolate(y.log(), q, eps).exp() - y).abs().sum(-1), far.clamp(max=eps))
    k = g.argmax(-1, keepdim=True)
    vertex = torch.zeros_like(y).scatter_(-1, k, 1.0)
    reached = (2 * (1 - y.gather(-1, k)[:, 0])).clamp(max=eps)
    assert_close((mad.interpolate(y.log(), vertex, eps).exp() - y).abs().sum(-1), reached)


@pytest.mark.parametrize("name", BUDGETED)
@examples(30)
@cases(
    posteriors(2, 10, 1000, kinds=("0.01", "0.1", "1", "one-hot", "zeros"), count=1),
    seeds,
    st.floats(0, 0.999),
)
def test_a_budget_below_the_gap_cannot_change_the_likeliest_token(name, y, seed, share):
    """Oracle 4."""
    first, second = y.topk(2).values[0]
    eps = share * float(first - second)
    assume(name != "quantised" or eps >= LEAST)
    clean, out = run(name, y, seed, eps)
    assert (out.argmax(-1) == clean.argmax(-1)).all()


@pytest.mark.parametrize("name", WHOLE)
@examples(20)
@cases(posteriors(2, 10, 1000), seeds)
def test_more_budget_is_never_less_far_nor_less_effective(name, y, seed):
    """Oracle 5; a search on the image may need less than it may take, and is never below its
    start.
    """
    q, g, _ = beside(seed, y)
    outs = torch.stack([run(name, y, seed, eps)[1] for eps in np.linspace(0, 2, 9)])
    if name == "on the image":
        assert ((outs * g).sum(-1) >= (y * g).sum(-1) - 1e-9).all()
        return
    assert ((outs - y).abs().sum(-1).diff(dim=0) >= -1e-9).all()
    if name.startswith("redirected"):
        assert ((outs * g).sum(-1).diff(dim=0) >= -1e-9).all()
    if name == "modelguard_w":
        assert ((outs * (y + modelguard_w.FLOOR).log()).sum(-1).diff(dim=0) <= 1e-9).all()


@examples(50)
@cases(posteriors(2, 10, 1000, 50_000), budgets, dtypes)
def test_where_the_proxy_agrees_prediction_poisoning_leaves_the_row(y, eps, dtype):
    """Oracle 6: the score identity makes G'y = 0 there, and the objective undefined."""
    logprobs = y.log().to(dtype)
    for variant in ("argmax", "extreme"):
        assert torch.equal(
            mad.poison(
                logprobs, logprobs, mad.Settings(variant=variant, eps=eps, most=8), y.shape[1]
            ),
            logprobs,
        )


@pytest.mark.parametrize("variant", ["argmax", "extreme"])
@pytest.mark.parametrize("where", ["logprobs", "text"])
def test_a_teacher_that_is_its_own_proxy_says_what_it_would_have_said(
    teacher, prompts, variant, where
):
    """Oracle 6."""
    defense = mad.Defense(
        mad.Settings(variant=variant, where=where), ProviderResources(proxy=teacher)
    )
    clean, released = (
        m.generate(prompts, seed=0, interface=Interface("full"))
        for m in (teacher, defense(teacher))
    )
    assert same(clean, [replace(one, passes=1.0) for one in released])


@examples(30)
@cases(posteriors(2, 10, 60, count=1), seeds)
def test_a_last_layers_gradient_is_the_error_times_the_hidden_state(y, seed):
    """Oracle 7, and 6, with G from autograd: what MAD and MIN-IP need of it is had without it."""
    (y,), rng = y, torch.Generator().manual_seed(seed)
    weight, h = (
        torch.randn(*shape, generator=rng, dtype=torch.float64) for shape in ((len(y), 3), (3,))
    )
    G = torch.func.jacrev(lambda w: torch.log_softmax(w @ h, -1))(weight).flatten(1)
    logq = torch.log_softmax(weight @ h, -1)
    q = logq.exp()
    assert_close(G.T @ q, torch.zeros(3 * len(y), dtype=torch.float64))
    assert_close(G.T @ y, torch.outer(y - q, h).flatten())
    assert_close(
        gradient_redirection.away_from_proxy(y.log()[None], logq[None])[0], G @ -(G.T @ y) / (h @ h)
    )
    values = G @ (G.T @ y) / G.norm(dim=-1)
    target = mad.one_token_target(y[None], q[None])[0]
    assert float(values[target.argmax()] - values.min()) <= 1e-9 * float(1 + values.abs().max())
    out = mad.poison(
        y.log()[None], logq[None], mad.Settings(variant="extreme", eps=0.7, most=8), len(y)
    )[0].exp()
    assert_close((G.T @ (out - y)).norm(), (out - y).norm() * h.norm())


@pytest.fixture(scope="module")
def network():
    """A tiny network in double precision, its output layer its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = GPT2Config(
            vocab_size=11,
            n_positions=16,
            n_embd=8,
            n_layer=1,
            n_head=2,
            initializer_range=0.5,
            tie_word_embeddings=False,
        )
        return GPT2LMHeadModel(config).eval().double().requires_grad_(False)


@examples(15)
@cases(seeds, st.floats(-3, 3))
def test_slopes_are_centred_and_all_ones_on_the_output_layer_are_inert(network, seed, added):
    """Oracle 8: Gz = zdot - <q, zdot>, zdot the slopes of the logits, here by finite
    differences.
    """
    rng = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, 11, (2, 5), generator=rng)
    mask = torch.ones_like(tokens)
    z = {
        n: torch.randn(p.shape, generator=rng, dtype=p.dtype) for n, p in network.named_parameters()
    }
    slopes = jvp_step(network, z, tokens, mask, None, ())[0]

    def logits(step: float) -> Tensor:
        moved = {name: p + step * z[name] for name, p in network.named_parameters()}
        return torch.func.functional_call(network, moved, (tokens,)).logits[:, -1]

    zdot, q = (logits(1e-6) - logits(-1e-6)) / 2e-6, logits(0.0).softmax(-1)
    size = 1 + float(zdot.abs().max())
    assert_close(slopes, zdot - (q * zdot).sum(-1, keepdim=True), 1e-5 * size)
    assert_close((q * slopes).sum(-1), torch.zeros(2, dtype=torch.float64), 1e-12 * size)
    more = z | {"lm_head.weight": z["lm_head.weight"] + added}
    assert_close(jvp_step(network, more, tokens, mask, None, ())[0], slopes, 1e-10 * size)


@examples(60)
@cases(posteriors(2, 10, 1000, count=1), seeds)
def test_the_angle_to_the_clean_gradient_grows_along_an_interpolation(y, seed):
    """Oracle 9, for a Jacobian of any network (G'q = 0) and any end."""
    rng = np.random.default_rng([seed, 2])
    q, _, _ = beside(seed, y)
    G = torch.tensor(rng.normal(size=(y.shape[1], 5)))
    G = G - q @ G
    ends = [
        posterior(seed + 1, "0.1", y.shape[1], 1),
        mad.one_token_target(y, q),
        mad.uniform_target(y, q, 8),
    ]
    for end in ends:
        outs = torch.cat(
            [mad.interpolate(y.log(), end, eps).exp() for eps in np.linspace(0, 2, 17)]
        )
        clean, moved = (y @ G)[0], outs @ G
        size = clean.norm() * moved.norm(dim=-1)
        if size.min() > 1e-6:
            assert ((moved @ clean / size).diff() <= 1e-9).all()


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_sampled_tokens_are_those_of_the_distribution_on_average(name, kind):
    """Oracle 10: E over k ~ y~ of grad log q_k is G'y~; 147 means, so to four standard errors, not
    three.
    """
    n, y = 4000, posterior(7, kind, 10, 1)
    theta = torch.tensor([0.5, -1.0, 0.3], dtype=torch.float64)
    network = torch.tensor(np.random.default_rng(3).normal(size=(10, 3)))
    G = torch.func.jacrev(
        lambda weights: torch.log_softmax(torch.tanh(network * weights).sum(-1), -1)
    )(theta)
    released = WHOLE[name](y.log(), *beside(7, y), 0.5)
    tokens = draw(released.expand(n, 10), [uniform("oracle 10", name, kind, i) for i in range(n)])
    mean = released.exp() @ G
    error = (released.exp() @ (G - mean).square()).sqrt() / math.sqrt(n)
    assert ((G[tokens].mean(0) - mean).abs() <= 4 * error + 1e-12).all()


@examples(50)
@cases(posteriors(2, 10, 1000, 50_000), seeds, budgets, st.floats(0.01, 3))
def test_prediction_poisoning_picks_the_least_likely_and_its_objective_is_0_for_parallels_alone(
    y, seed, eps, t
):
    """Oracle 12."""
    flat = torch.full_like(y, 1 / y.shape[1])
    assert_close(
        y.gather(-1, mad.one_token_target(y, flat).argmax(-1, keepdim=True))[:, 0], y.amin(-1)
    )
    q, _, _ = beside(seed, y)
    a = y - q

    def objective(out: Tensor) -> Tensor:
        return 2 - 2 * torch.cosine_similarity(a, out - q, -1, eps=1e-300)

    assert_close(objective(q + t * a), torch.zeros(len(y), dtype=torch.float64))
    for variant in ("argmax", "extreme"):
        out = mad.poison(
            y.log(), q.log(), mad.Settings(variant=variant, eps=eps, most=8), y.shape[1]
        ).exp()
        losses, b = objective(out), out - q
        assert (losses >= -1e-9).all() and (losses <= 4 + 1e-9).all()
        across = b - (a * b).sum(-1, keepdim=True) / a.square().sum(-1, keepdim=True) * a
        assert (
            losses >= across.square().sum(-1) / b.square().sum(-1) - 1e-9
        ).all()  # the squared sine


@examples(100)
@cases(posteriors(2, 10, 1000, count=1), budgets)
def test_modelguard_w_without_its_margin_is_gradient_redirection_along_minus_log_y(y, eps):
    """Oracle 13: the margin costs something only where redirection does not keep it by itself."""
    costs = (y + modelguard_w.FLOOR).log()
    free = gradient_redirection.redirect(y.log(), -costs, eps, 0.0).exp()[0]
    out = torch.tensor(modelguard_w.poison(y[0].numpy(), eps))
    top, others = int(y.argmax()), torch.arange(y.shape[1]) != y.argmax()
    gap = min(modelguard_w.MARGIN, float(y[0, top] - y[0, others].max()))
    bound, reached = float(costs[0] @ free), float(costs[0] @ out)
    assert reached >= bound - 1e-9
    if free[top] - free[others].max() >= gap:
        assert reached == pytest.approx(bound, abs=1e-9)


@examples(30)
@cases(
    seeds, st.sampled_from([0.05, 0.2, 0.5, 1.0, 1.5, 1.9]), st.sampled_from(["0.01", "0.1", "1"])
)
def test_a_quantiser_tells_no_more_than_the_logarithm_of_its_buckets(seed, eps, kind):
    """Oracle 14: I(y; f(y~)) <= I(y; y~) <= log #buckets, in whatever order and company rows are
    asked for.
    """
    rng = np.random.default_rng([seed, 3])
    y = posterior(seed, kind, 5, 30).log()
    queries = rng.permutation(np.repeat(np.arange(30), rng.integers(1, 4, 30))).tolist()
    halves = queries[:20], queries[20:]
    points = [
        point.tobytes() for half in halves for point in guards_s(y[half], y, y, y, eps).numpy()
    ]
    tops = [
        int(np.frombuffer(point).argmax()) for point in points
    ]  # what an attacker may make of it

    def entropy(seen: list) -> float:
        return -sum(n / len(queries) * math.log(n / len(queries)) for n in Counter(seen).values())

    def information_of(seen: list) -> float:
        return (
            entropy(list(queries)) + entropy(seen) - entropy(list(zip(queries, seen, strict=True)))
        )

    assert information_of(tops) <= information_of(points) + 1e-9
    assert information_of(points) <= math.log(len(set(points))) + 1e-9
    for i in range(30):  # asked again, the same is said
        assert len({point for j, point in zip(queries, points, strict=True) if j == i}) == 1


@examples(50)
@cases(posteriors(2, 10, 1000, 50_000), st.floats(0.01, 1.99))
def test_a_coarse_quantiser_has_one_bucket_a_likeliest_token(y, eps):
    """Oracle 14: where a token alone makes up 1 - eps/2, it is all that is said."""
    out = guards_s(y.log(), y, y, y, eps)
    sure = y.amax(-1) >= (1 - eps / 2) * (1 + 1e-9)
    wanted = torch.full_like(y, -torch.inf).scatter_(
        -1, y.argmax(-1, keepdim=True), math.log1p(-eps / 2)
    )
    assert_close(out[sure].exp(), wanted[sure].exp())


@examples(50)
@cases(posteriors(2, 10, 1000, 50_000), st.floats(0.01, 20), st.floats(0.01, 2))
def test_reverse_sigmoid_treats_equals_as_equals(y, c, gamma):
    """Oracle 15."""
    out = reverse_sigmoid.add_reverse_sigmoid(y.numpy(), np.ones(y.shape, bool), c, gamma)
    for before, after in zip(y.numpy(), out, strict=True):
        _, groups = np.unique(before, return_inverse=True)
        high, low = np.full(groups.max() + 1, -1.0), np.full(groups.max() + 1, 2.0)
        np.maximum.at(high, groups, after)
        np.minimum.at(low, groups, after)
        assert (high == low).all()


@examples(50)
@cases(posteriors(2, 10, 1000, 50_000), st.integers(1, 60), dtypes)
def test_top_k_is_off_by_the_tail_and_twice_that_if_renormalised(y, k, dtype):
    """Oracle 17."""
    released = shuffled(y.log().to(dtype))
    out = top_k.top_k(released, k)
    p, mass = (
        np.exp(out.values_TK.astype(np.float64)),
        y.sort(descending=True).values[:, :k].sum(-1),
    )
    assert np.array_equal(out.ids_TK, released.ids_TK[:, :k])
    assert (
        (np.diff(out.values_TK) <= 0).all()
        if np.isfinite(out.values_TK).all()
        else (np.diff(p) <= 0).all()
    )
    named = spread_out(out, y.shape[1]).double().exp()
    assert_close((named - y).abs().sum(-1), 1 - mass, TOLERANCE[dtype])
    whole = named / named.sum(-1, keepdim=True)
    assert_close((whole - y).abs().sum(-1), 2 * (1 - mass), TOLERANCE[dtype])
    if k == 1:
        assert_close(
            whole,
            torch.nn.functional.one_hot(
                torch.tensor(released.ids_TK[:, 0]).long(), y.shape[1]
            ).double(),
        )
    assert np.array_equal(top_k.top_k(released, y.shape[1]).values_TK, released.values_TK)


@examples(60)
@cases(posteriors(2, 10, 1000, 50_000), st.integers(0, 6), dtypes)
def test_rounding_moves_by_half_a_unit_and_once_is_enough(y, decimals, dtype):
    """Oracle 18, in nats: half a unit, and what the dtype holds of so large a number."""
    released = shuffled(y.log().to(dtype))
    once = rounding.round_logprobs(released, decimals)
    there = np.isfinite(released.values_TK)
    assert np.array_equal(once.ids_TK, released.ids_TK) and np.array_equal(
        np.isfinite(once.values_TK), there
    )
    moved = np.abs(once.values_TK[there].astype(np.float64) - released.values_TK[there])
    spacing = np.spacing(np.abs(released.values_TK[there]))
    assert (moved <= 0.5 * 10.0**-decimals + 2 * spacing).all()
    assert np.array_equal(rounding.round_logprobs(once, decimals).values_TK, once.values_TK)


@pytest.mark.parametrize("name", [*BUDGETED, *OTHERS])
@examples(20)
@cases(posteriors(2, 10, 1000, kinds=("0.1", "1"), count=3), seeds, st.floats(0.01, 1.9), dtypes)
def test_every_defence_follows_a_permutation_of_the_tokens_and_rows_do_not_meet(
    name, y, seed, eps, dtype
):
    """Oracle 19. Without ties, which ids break: then it holds of the objective alone
    (release/test_modelguard_w).
    """
    logprobs, (q, g, weight) = y.log().to(dtype), beside(seed, y)
    release = (BUDGETED | OTHERS)[name]
    out = release(logprobs, q, g, weight, eps)
    for b in range(3):
        rows = slice(b, b + 1)
        alone = release(logprobs[rows], q[rows], g[rows], weight, eps)
        assert_close(
            alone.double().exp(),
            out[rows].double().exp(),
            TOLERANCE[dtype] if name in PRODUCTS else 0,
        )
    if all(len(row.unique()) == len(row) for row in logprobs):
        order = torch.tensor(np.random.default_rng(seed).permutation(y.shape[1]))
        moved = release(logprobs[:, order], q[:, order], g[:, order], weight[order], eps)
        assert_close(moved.double().exp(), out[:, order].double().exp(), TOLERANCE[dtype])


@pytest.fixture(scope="module")
def large():
    """Rows over 50,000 tokens that are as different as can be, and what else a defence looks at."""
    y = torch.cat([posterior(0, kind, 50_000, 1) for kind in ("1", "one-hot", "uniform")])
    return y.log().float(), *beside(0, y)


@pytest.mark.parametrize("name", [*BUDGETED, *OTHERS])
def test_rows_of_a_large_vocabulary_do_not_meet(large, name):
    """Oracle 19."""
    logprobs, q, g, weight = large
    release = (BUDGETED | OTHERS)[name]
    out = release(logprobs, q, g, weight, 0.7)
    for b in range(len(logprobs)):
        rows = slice(b, b + 1)
        alone = release(logprobs[rows], q[rows], g[rows], weight, 0.7)
        if name in PRODUCTS:
            assert_close(alone.double().exp(), out[rows].double().exp(), 1e-5)
        else:
            assert torch.equal(alone, out[rows])


def test_keyed_noise_has_mean_0_and_another_key_is_other_noise():
    """Oracle 19: over keys, prompts, positions and tokens."""
    ids = np.tile(np.arange(50), (20, 1))
    drawn = np.stack([keyed_normals(f"k{i}", f"p{i % 7}", ids) for i in range(40)]).astype(
        np.float64
    )
    assert np.array_equal(keyed_normals("k3", "p3", ids), drawn[3].astype(np.float32))
    for axes in ((0, 1, 2), (0, 1), (0, 2), (1, 2)):
        means = drawn.mean(axes)
        assert np.abs(means).max() <= 4.5 / np.sqrt(drawn.size / means.size)
    assert len(np.unique(drawn)) > 0.99 * drawn.size


STRENGTHS = (None, 0.0, 0.5, 1.0)  # the config's own, and shares of the way along the strength


def keepers() -> list[Variant]:
    """All shipped configs, with other choices and strengths, that say they keep the argmax and act
    on logprobs.
    """
    seen = []
    for entry in [one for name in shipped("defense") for one in (Variant(name), *choices(name))]:
        kind, strength = module(entry.name), module(entry.name).Defense.traits.strength
        for share in STRENGTHS if strength else (None,):
            value = {} if share is None else {strength.name: strength.interpolate(share)}
            whole = isinstance(shown(entry.name).get(strength.name if strength else ""), int)
            changes = entry.changes | {n: round(v) if whole else v for n, v in value.items()}
            defense = kind.Defense(kind.Settings(**shown(entry.name) | changes))
            if defense.traits.keeps_argmax and defense.traits.acts_on == "logprobs":
                seen.append(Variant(entry.name, changes))
    return seen


def relabelled(answers: list[Completion], tokenizer: Any) -> list[tuple]:
    """The training data of an attacker that takes each position's likeliest token for its label."""
    examples = [
        example(one, tokenizer)
        for one in relabel.Attacker(relabel.Settings()).clean(answers, AttackerResources(), seed=0)
    ]
    return [
        (e.prompt_ids, e.answer_ids, e.logprobs.ids_TK.tobytes(), e.logprobs.values_TK.tobytes())
        for e in examples
    ]


def test_the_defences_that_keep_the_likeliest_token_are_found():
    assert {
        "decoding/mad",
        "release/quantised",
        "release/modelguard_w",
        "release/rounding",
        "release/top_k",
    } <= {one.name for one in keepers()}


@pytest.mark.parametrize("world", ["characters", "greedy", "llama", "gpt2"])
@pytest.mark.parametrize(
    "interface",
    [Interface("full"), Interface("top_k", 1), Interface("top_k", 4), Interface("top_k", 20)],
    ids=lambda interface: f"{interface.kind}{interface.k or ''}",
)
def test_relabelling_what_keeps_the_argmax_gives_the_undefended_labels(worlds, world, interface):
    """Oracle 22, bit for bit."""
    case = Case(worlds[world], interface)
    clean = relabelled(case.answers(), worlds[world].teacher.tokenizer)
    for entry in keepers():
        assert relabelled(case.answers(entry), worlds[world].teacher.tokenizer) == clean, str(entry)


@examples(60)
@cases(posteriors(2, 10, 1000, 50_000), seeds, budgets, dtypes)
@case_of(
    posterior(0, "ties", 1000), 0, 0.25, torch.float64
)  # where rounding once lifted others above the likeliest
def test_the_first_of_a_released_row_is_that_of_the_clean_row(y, seed, eps, dtype):
    """Oracle 22, for rows that no tiny teacher has; ties as well."""
    released = shuffled(y.log().to(dtype))
    for edit in (
        modelguard_w.Defense(modelguard_w.Settings(eps=eps)),
        quantised.Defense(quantised.Settings(eps=min(max(eps, LEAST), 1.99))),
        rounding.Defense(rounding.Settings(decimals=int(3 * eps))),
        top_k.Defense(top_k.Settings(k=1 + int(20 * eps))),
    ):
        out = edit.edit(Completion("a", "?", "", logprobs=released)).logprobs
        assert np.array_equal(out.ids_TK[:, 0], released.ids_TK[:, 0])
    q, _, _ = beside(seed, y)
    out = mad.poison(
        y.log().to(dtype), q.log(), mad.Settings(variant="argmax", eps=eps, most=8), y.shape[1]
    )
    assert torch.equal(out.argmax(-1), y.log().to(dtype).argmax(-1))


@examples(100)
@cases(posteriors(2, 10, 1000, 50_000), posteriors(2, 10, 1000, 50_000), st.floats(0, 1), dtypes)
def test_pinsker_holds_of_what_is_accounted_and_kl_is_infinite_only_where_mass_is_lost(
    y, other, share, dtype
):
    """Oracles 25 and 27."""
    other = other if other.shape == y.shape else y.flip(-1)
    p, q = y.log().to(dtype), (share * y + (1 - share) * other).log().to(dtype)
    far, kl, flips = distortion(p, q)
    assert not torch.stack([far, kl, flips]).isnan().any() and (kl >= -TOLERANCE[dtype]).all()
    assert (far <= (2 * kl.clamp(min=0)).sqrt() + 5e-3 * (dtype == torch.float32) + 1e-6).all()
    assert torch.equal(kl.isinf(), ((p.exp() > 0) & q.isneginf()).any(-1))
    assert torch.equal(flips, (p.argmax(-1) != q.argmax(-1)).to(dtype))


@examples(40)
@cases(seeds, st.sampled_from(KINDS), st.sampled_from(list(WHOLE)), budgets)
def test_a_sequence_is_as_far_as_its_tokens_allow(seed, kind, name, eps):
    """Oracle 25, by enumeration of all texts of three tokens: the chain rule of KL, and how TV adds
    up.
    """
    V, T = 3, 3
    prefixes = [prefix for t in range(T) for prefix in itertools.product(range(V), repeat=t)]
    y = posterior(seed, kind, V, len(prefixes))
    _, out = run(name, y, seed, eps)
    moved, kl, _ = distortion(y.log(), out.log())
    row = {prefix: i for i, prefix in enumerate(prefixes)}

    def log_chance(p: Tensor, text: tuple[int, ...]) -> float:
        """A sum of logs: a product of three tiny chances is 0 in a float."""
        return sum(float(p[row[text[:t]], text[t]].log()) for t in range(len(text)))

    texts = list(itertools.product(range(V), repeat=T))
    log_clean, log_out = (np.array([log_chance(p, text) for text in texts]) for p in (y, out))
    clean, poisoned = np.exp(log_clean), np.exp(log_out)
    if kl.isfinite().all():
        with np.errstate(invalid="ignore"):
            whole = np.where(clean > 0, clean * (log_clean - log_out), 0).sum()
        assert whole == pytest.approx(
            sum(math.exp(log_chance(y, one)) * float(kl[row[one]]) for one in prefixes), abs=1e-9
        )
    worst = [max(float(moved[row[one]]) / 2 for one in prefixes if len(one) == t) for t in range(T)]
    tv = np.abs(clean - poisoned).sum() / 2
    assert tv <= 1 - math.prod(1 - one for one in worst) + 1e-9 <= sum(worst) + 2e-9
