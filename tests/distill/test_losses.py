"""Losses by hand, against scipy in float64 (values, and gradients as its central differences), and
by their laws.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from scipy.spatial.distance import jensenshannon

from distill.completions import BadInput
from distill.losses import categories, divergence, forward_kl_tail, released_divergence
from distill.objectives import cross_entropy

SIZE = 12
KINDS = {
    "forward": [{}],
    "reverse": [{}],
    "jsd": [{"beta": beta} for beta in (0.0, 0.1, 0.5, 0.9, 1.0)],
    "skew": [{"skew": 0.1}, {"skew": 0.7}],
    "skew_reverse": [{"skew": 0.1}, {"skew": 0.7}],
    "tvd": [{}],
}
WAYS = [(kind, options) for kind, all_options in KINDS.items() for options in all_options]
SEMANTICS = ("tail", "renorm_teacher", "conditional", "truncated")


def refused(kind, semantics, options):
    backward = kind == "reverse" or options.get("beta") == 1
    return (semantics != "tail" and backward) or (semantics == "truncated" and kind != "forward")


CASES = [(k, s, o) for (k, o), s in itertools.product(WAYS, SEMANTICS) if not refused(k, s, o)]


def test_cross_entropy_worked_by_hand():
    # softmax of (ln 3, 0) is (3/4, 1/4): mean of ln 4/3 and ln 4
    logits = torch.tensor([[math.log(3), 0.0]] * 2)
    assert torch.isclose(
        cross_entropy(logits, torch.tensor([0, 1])),
        torch.tensor((math.log(4 / 3) + math.log(4)) / 2),
    )


def test_tail_divergence_worked_by_hand():
    # teacher .5 released, .5 in the tail; student uniform over 4: .5 ln(.5/.25) + .5 ln(.5/.75)
    got = forward_kl_tail(torch.zeros(1, 4), torch.tensor([[0]]), torch.tensor([[math.log(0.5)]]))
    assert torch.isclose(got, torch.tensor(0.5 * math.log(2) + 0.5 * math.log(2 / 3)))


@pytest.mark.parametrize(
    ("kind", "semantics", "by_hand"),
    [
        # teacher (1/2, 1/4 | 1/4) and student (1/4, 1/4 | 1/2), the bucket behind the bar
        ("forward", "tail", 0.5 * math.log(2) - 0.25 * math.log(2)),
        ("reverse", "tail", -0.25 * math.log(2) + 0.5 * math.log(2)),
        ("tvd", "tail", 0.25),
        # (2/3, 1/3 | 0) and (1/4, 1/4 | 1/2)
        ("forward", "renorm_teacher", 2 / 3 * math.log(8 / 3) + 1 / 3 * math.log(4 / 3)),
        ("tvd", "renorm_teacher", 0.5),
        # (2/3, 1/3) and (1/2, 1/2)
        ("forward", "conditional", 2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3)),
        ("tvd", "conditional", 1 / 6),
        # 1/2 ln 2 + 1/4 ln 1
        ("forward", "truncated", 0.5 * math.log(2)),
    ],
)
def test_every_semantics_worked_by_hand(kind, semantics, by_hand):
    released = torch.tensor([[0, 3]]), torch.tensor([[0.5, 0.25]]).log()
    assert float(
        released_divergence(kind, semantics, torch.zeros(1, 4), *released)
    ) == pytest.approx(by_hand, abs=1e-6)


def distributions(seed, k, size=SIZE):
    torch.manual_seed(seed)
    teacher, logits = torch.log_softmax(2 * torch.randn(5, size), -1), torch.randn(5, size)
    values, ids = teacher.topk(k)
    return teacher, logits, ids, values


def reference(kind, semantics, logits, ids, values, beta=0.5, skew=0.1):
    """The mean of rel_entr sums over probabilities in float64."""
    p, q = np.exp(values), np.take_along_axis(special.softmax(logits, -1), ids, -1)
    if semantics in ("conditional", "renorm_teacher"):
        p = p / p.sum(-1, keepdims=True)
    if semantics == "conditional":
        q = q / q.sum(-1, keepdims=True)
    if semantics in ("tail", "renorm_teacher") and ids.shape[-1] < logits.shape[-1]:
        rest = (1 - p.sum(-1, keepdims=True)) * (semantics == "tail")
        p, q = np.concatenate([p, rest], -1), np.concatenate([q, 1 - q.sum(-1, keepdims=True)], -1)
    if kind == "jsd":
        kind, mixed = {0: "forward", 1: "reverse"}.get(beta, kind), beta * p + (1 - beta) * q
    terms = {
        "forward": lambda: special.rel_entr(p, q),
        "reverse": lambda: special.rel_entr(q, p),
        "jsd": lambda: beta * special.rel_entr(p, mixed) + (1 - beta) * special.rel_entr(q, mixed),
        "skew": lambda: special.rel_entr(p, skew * p + (1 - skew) * q),
        "skew_reverse": lambda: special.rel_entr(q, skew * q + (1 - skew) * p),
        "tvd": lambda: abs(p - q) / 2,
    }
    return terms[kind]().sum(-1).mean()


@pytest.mark.parametrize(("kind", "semantics", "options"), CASES)
@pytest.mark.parametrize("k", [1, 4, SIZE])
def test_values_and_gradients_agree_with_scipy(kind, semantics, options, k):
    _, logits, ids, values = distributions(3, k)
    ours = logits.clone().requires_grad_()
    got = released_divergence(kind, semantics, ours, ids, values, **options)
    got.backward()
    double, fixed = logits.double().numpy(), (ids.numpy(), values.double().numpy())
    assert float(got.detach()) == pytest.approx(
        reference(kind, semantics, double, *fixed, **options), abs=1e-6
    )
    slopes = np.zeros_like(double)
    for at in np.ndindex(*double.shape):
        step = np.zeros_like(double)
        step[at] = 1e-5
        ends = [
            reference(kind, semantics, double + sign * step, *fixed, **options) for sign in (1, -1)
        ]
        slopes[at] = (ends[0] - ends[1]) / 2e-5
    np.testing.assert_allclose(ours.grad.numpy(), slopes, atol=1e-6)


def test_full_rows_agree_with_torch():
    teacher, logits, ids, values = distributions(4, SIZE)
    student = torch.log_softmax(logits, -1)
    options = {"reduction": "batchmean", "log_target": True}
    theirs = torch.nn.functional.kl_div(student, teacher, **options)
    assert torch.isclose(
        released_divergence("forward", "tail", logits, ids, values), theirs, atol=1e-6
    )
    theirs = torch.nn.functional.kl_div(teacher, student, **options)
    assert torch.isclose(
        released_divergence("reverse", "tail", logits, ids, values), theirs, atol=1e-6
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, SIZE), st.sampled_from(WAYS))
def test_it_lies_between_zero_and_the_full_divergence(seed, k, way):
    # data processing: joining categories never adds to a divergence; 1 minus float32 values would
    # be no exact tail
    kind, options = way
    teacher, logits, ids, values = distributions(seed, k)
    tail = teacher.scatter(-1, ids, -torch.inf).logsumexp(-1)
    full = divergence(kind, teacher, torch.log_softmax(logits, -1), **options).mean()
    got = released_divergence(kind, "tail", logits, ids, values, tail, **options)
    assert -1e-6 <= got <= full + 2e-6
    if k == SIZE:
        assert torch.isclose(got, full, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, SIZE), st.sampled_from(CASES))
def test_it_is_zero_where_both_are_equal_and_nowhere_else(seed, k, case):
    kind, semantics, options = case
    teacher, logits, ids, values = distributions(seed, k)
    if semantics == "renorm_teacher":  # the equal student has nothing left outside
        same = torch.full_like(teacher, -200.0).scatter(-1, ids, values)
    else:
        same = teacher + 3.0  # logits are free up to a constant
    assert released_divergence(kind, semantics, same, ids, values, **options) == pytest.approx(
        0, abs=1e-6
    )
    if semantics != "truncated":
        pair = categories(semantics, logits, ids, values)
        apart = divergence("tvd", *pair).mean()
        assert divergence(kind, *pair, **options).mean() > 0.1 * float(apart) ** 2 - 1e-6


def test_truncated_rows_can_be_negative_which_is_why_they_are_no_divergence():
    released = torch.tensor([[0]]), torch.tensor([[math.log(0.5)]])
    got = released_divergence("forward", "truncated", torch.tensor([[9.0, 0.0]]), *released)
    assert float(got) == pytest.approx(-0.5 * math.log(2), abs=1e-3)


def test_the_semantics_are_one_where_everything_is_released():
    _, logits, ids, values = distributions(6, SIZE)
    for kind, options in WAYS:
        got = [
            released_divergence(kind, s, logits, ids, values, **options)
            for s in SEMANTICS
            if not refused(kind, s, options)
        ]
        assert max(got) - min(got) < 1e-6


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.02, 0.98))
def test_limits_and_symmetry_of_beta_and_skew(seed, beta):
    p, q = (
        torch.log_softmax(
            torch.randn(4, 7, generator=torch.Generator().manual_seed(seed + i)).double(), -1
        )
        for i in range(2)
    )
    forward, reverse, small = divergence("forward", p, q), divergence("reverse", p, q), 1e-9
    close = {"rtol": 1e-4, "atol": 1e-6}
    assert torch.allclose(divergence("jsd", p, q, beta=small) / small, forward, **close)
    assert torch.allclose(divergence("jsd", p, q, beta=1 - small) / small, reverse, **close)
    assert torch.equal(divergence("jsd", p, q, beta=0), forward) and torch.equal(
        divergence("jsd", p, q, beta=1), reverse
    )
    assert torch.allclose(divergence("skew", p, q, skew=small), forward, **close)
    assert torch.allclose(divergence("skew_reverse", p, q, skew=small), reverse, **close)
    assert torch.allclose(
        divergence("jsd", p, q, beta=beta), divergence("jsd", q, p, beta=1 - beta)
    )
    theirs = jensenshannon(p.exp().numpy(), q.exp().numpy(), axis=-1) ** 2
    np.testing.assert_allclose(divergence("jsd", p, q, beta=0.5).numpy(), theirs, atol=1e-12)


@pytest.mark.parametrize("semantics", ["renorm_teacher", "conditional", "truncated"])
def test_reverse_on_released_rows_needs_the_tail(semantics):
    _, logits, ids, values = distributions(3, 4)
    for kind, options in [("reverse", {}), ("jsd", {"beta": 1.0})]:
        with pytest.raises(BadInput, match="semantics"):
            released_divergence(kind, semantics, logits, ids, values, **options)
    if semantics == "truncated":
        with pytest.raises(BadInput, match="for forward alone"):
            released_divergence("tvd", semantics, logits, ids, values)


@pytest.mark.parametrize("sure", [5.0, 14.0, 18.0, 40.0, 80.0])
@pytest.mark.parametrize("mass", [0.01, 0.1, 0.5])
def test_a_student_without_a_tail_is_drawn_back_as_in_float64(mass, sure):
    """However sure it is; 1 minus the others would be 0 in float32, and so would its gradient."""
    size = 9
    logits = torch.zeros(1, size)
    logits[0, 0] = sure
    logits.requires_grad_()
    released = torch.tensor([[0]]), torch.tensor([[math.log1p(-mass)]])
    got = forward_kl_tail(logits, *released)
    got.backward()
    log_q = logits.detach().double().log_softmax(-1)[0]
    rest = float(log_q[1:].logsumexp(-1))
    wanted = (1 - mass) * (math.log1p(-mass) - float(log_q[0])) + mass * (math.log(mass) - rest)
    assert float(got.detach()) == pytest.approx(wanted, abs=1e-5)
    q = log_q.exp()
    slope = [float(q[0]) - (1 - mass), *((q[1:] - mass / (size - 1)).tolist())]
    np.testing.assert_allclose(logits.grad[0], slope, atol=5e-6)


def test_a_tail_that_is_known_better_is_used():
    # 1/2 released, 1/4 said to be left, so the row itself is not whole; student uniform over 4
    released = torch.tensor([[0]]), torch.tensor([[math.log(0.5)]]), torch.tensor([math.log(0.25)])
    teacher, _ = categories("tail", torch.zeros(1, 4), *released)
    np.testing.assert_allclose(teacher.exp(), [[0.5, 0.25]], atol=1e-6)


def test_gradient_agrees_with_a_float64_reference():
    teacher, logits, ids, values = distributions(3, 4)
    ours = logits.clone().requires_grad_()
    forward_kl_tail(ours, ids, values).backward()
    double = logits.double().requires_grad_()
    q, p = torch.softmax(double, -1).gather(1, ids), values.double().exp()
    rest_p, rest_q = 1 - p.sum(-1), 1 - q.sum(-1)
    ((p * (p / q).log()).sum(-1) + rest_p * (rest_p / rest_q).log()).mean().backward()
    assert torch.allclose(ours.grad.double(), double.grad, atol=1e-6)


@pytest.mark.parametrize(("kind", "semantics", "options"), CASES)
def test_withheld_entries_add_nothing(kind, semantics, options):
    _, logits, ids, values = distributions(5, 3)
    padded = (
        torch.cat([ids, -torch.ones(5, 2, dtype=torch.long)], 1),
        torch.cat([values, torch.full((5, 2), -torch.inf)], 1),
    )
    got = released_divergence(kind, semantics, logits, *padded, **options)
    assert torch.isclose(
        got, released_divergence(kind, semantics, logits, ids, values, **options), atol=1e-6
    )


@pytest.mark.parametrize(("kind", "semantics", "options"), CASES)
def test_odd_rows_leave_values_and_gradients_finite(kind, semantics, options):
    nothing, most = [-1, -1, -1], [0, 1, 2]
    ids = torch.tensor([nothing, most, most, most])
    values = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0.7, 0.4, 0], [1 - 1e-8, 1e-8, 0]]).log()
    logits = torch.tensor(
        [[0.0, 0, 0, 0], [90, 0, 0, 0], [0, 0, 0, 90], [50, 1, 1, -50]]
    ).requires_grad_()
    got = released_divergence(kind, semantics, logits, ids, values, **options)
    got.backward()
    assert got.isfinite() and logits.grad.isfinite().all()


def test_a_small_bucket_of_the_student_is_no_rounding_error():
    # the teacher's bucket is 1/2, the student's e**-20 of a token: 1 minus the rest would be 0 in
    # float32
    logits = torch.tensor([[20.0, 0.0]], requires_grad=True)
    pair = categories("tail", logits, torch.tensor([[0]]), torch.tensor([[math.log(0.5)]]))
    got = divergence("forward", *pair).mean()
    got.backward()
    assert float(got.detach()) == pytest.approx(math.log(0.5) + 10, abs=1e-5)
    assert float(logits.grad[0, 1]) == pytest.approx(-0.5)


def test_released_mass_above_one_is_no_negative_tail():
    # a rounding defence may release .55 + .55
    released = torch.zeros(1, 2), torch.tensor([[0, 1]]), torch.tensor([[0.55, 0.55]]).log()
    assert torch.isclose(forward_kl_tail(*released), torch.tensor(0.0), atol=1e-6)
    for kind, options in WAYS:
        assert float(released_divergence(kind, "tail", *released, **options)) == pytest.approx(
            0, abs=1e-6
        )


@pytest.mark.parametrize(("kind", "semantics", "options"), CASES)
def test_a_signal_that_is_no_number_is_never_taken_for_none(kind, semantics, options):
    ids_NK, logprobs_NK = (
        torch.tensor([[0, 1], [2, -1]]),
        torch.tensor([[-0.5, torch.nan], [-0.1, -torch.inf]]),
    )
    assert released_divergence(
        kind, semantics, torch.randn(2, 5), ids_NK, logprobs_NK, **options
    ).isnan()
