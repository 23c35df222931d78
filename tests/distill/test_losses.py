import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.losses import cross_entropy, forward_kl_tail


def test_cross_entropy_worked_by_hand():
    # softmax of (ln 3, 0) is (3/4, 1/4): mean of ln 4/3 and ln 4
    logits = torch.tensor([[math.log(3), 0.0]] * 2)
    assert torch.isclose(cross_entropy(logits, torch.tensor([0, 1])), torch.tensor((math.log(4 / 3) + math.log(4)) / 2))


def test_tail_divergence_worked_by_hand():
    # teacher .5 released, .5 in the tail; student uniform over 4: .5 ln(.5/.25) + .5 ln(.5/.75)
    got = forward_kl_tail(torch.zeros(1, 4), torch.tensor([[0]]), torch.tensor([[math.log(0.5)]]))
    assert torch.isclose(got, torch.tensor(0.5 * math.log(2) + 0.5 * math.log(2 / 3)))


def distributions(seed, k, size=12):
    torch.manual_seed(seed)
    teacher, logits = torch.log_softmax(2 * torch.randn(5, size), -1), torch.randn(5, size)
    values, ids = teacher.topk(k)
    return teacher, logits, ids, values


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12))
def test_it_lies_between_zero_and_the_full_divergence(seed, k):
    teacher, logits, ids, values = distributions(seed, k)
    full = (teacher.exp() * (teacher - torch.log_softmax(logits, -1))).sum(-1).mean()
    got = forward_kl_tail(logits, ids, values)
    assert -1e-5 <= got <= full + 1e-5
    if k == 12:
        assert torch.isclose(got, full, atol=1e-5)


def test_gradient_agrees_with_a_float64_reference():
    teacher, logits, ids, values = distributions(3, 4)
    ours = logits.clone().requires_grad_()
    forward_kl_tail(ours, ids, values).backward()
    double = logits.double().requires_grad_()
    q, p = torch.softmax(double, -1).gather(1, ids), values.double().exp()
    rest_p, rest_q = 1 - p.sum(-1), 1 - q.sum(-1)
    ((p * (p / q).log()).sum(-1) + rest_p * (rest_p / rest_q).log()).mean().backward()
    assert torch.allclose(ours.grad.double(), double.grad, atol=1e-6)


def test_withheld_entries_add_nothing():
    _, logits, ids, values = distributions(5, 3)
    padded = (
        torch.cat([ids, -torch.ones(5, 2, dtype=torch.long)], 1),
        torch.cat([values, torch.full((5, 2), -torch.inf)], 1),
    )
    assert torch.isclose(forward_kl_tail(logits, *padded), forward_kl_tail(logits, ids, values))


def test_released_mass_above_one_is_no_negative_tail():
    # a rounding defence may release .55 + .55
    got = forward_kl_tail(torch.zeros(1, 2), torch.tensor([[0, 1]]), torch.tensor([[0.55, 0.55]]).log())
    assert torch.isclose(got, torch.tensor(0.0), atol=1e-6)
