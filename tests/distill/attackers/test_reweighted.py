"""Reweighting: values against autograd in float64, both signs of the paper and its code, and both
scopes.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import special

from distill.attackers import AttackerResources, reweighted, sft
from distill.completions import Completion
from distill.embedded import character_tokenizer, llama
from distill.models import LanguageModel
from distill.objectives import Example
from distill.specs import TrainingConfig

TOKENIZER = character_tokenizer("0123456789+= #")
RECIPE = TrainingConfig(max_length=32, steps=12, batch_size=4)
SAID = [
    Completion(f"{a}{b}", f"{a}+{b}=", f"{a + b} # {a + b}") for a in range(4) for b in range(3)
]
OWN = AttackerResources(worked=[replace(one, text=f"# {one.text[0]}") for one in SAID[:5]])
CPU = torch.device("cpu")


def network(seed=0):
    return llama(TOKENIZER, hidden_size=16, num_layers=1, num_heads=2, max_length=32, seed=seed)


def rows(answers):
    return [sft.example(one, TOKENIZER, 32) for one in answers]


def slopes(net, row):
    """The gradient of minus one answer's mean log-probability a token, unpadded, in float64."""
    ids = torch.tensor([row.prompt_ids + row.answer_ids])
    all_TV = net(input_ids=ids).logits[0].log_softmax(-1)[len(row.prompt_ids) - 1 : -1]
    gradients = torch.autograd.grad(
        -all_TV.gather(-1, torch.tensor(row.answer_ids)[:, None]).mean(), [*net.parameters()]
    )
    return torch.cat([one.flatten() for one in gradients])


def trained(sold=SAID, resources=OWN, recipe=RECIPE, **settings):
    attacker = reweighted.Attacker(reweighted.Settings(**settings))
    done = attacker.train(
        sold, LanguageModel(network(), TOKENIZER), recipe, seed=0, resources=resources
    )
    return torch.cat([p.detach().flatten() for p in done.network.parameters()])


def test_losses_are_means_over_each_answers_tokens():
    net, sold = network(1), rows([SAID[0], replace(SAID[1], text="7")])
    for row, loss in zip(sold, reweighted.nats(net, sold, 0, CPU).tolist(), strict=True):
        assert loss == pytest.approx(reweighted.nats(net, [row], 0, CPU).tolist()[0], rel=1e-5)


def test_values_are_the_papers_and_the_codes_is_their_negative():
    net, examples, sold = network(1), rows(OWN.worked), rows(SAID[5:9])
    direction = reweighted.gradient(net, examples, 0, CPU)
    values = reweighted.values(net, direction, sold, 0, CPU, 1e-2)
    exact = network(1).double()
    g = torch.stack([slopes(exact, one) for one in examples]).mean(0)
    g /= g.norm()
    paper = [-float(g @ -slopes(exact, one)) for one in sold]  # v = -<g, grad log pi>
    np.testing.assert_allclose(values, paper, rtol=2e-3, atol=2e-4)
    # The released code: (NLL(theta - eps g) - NLL(theta + eps g)) / 2 eps.
    ends = []
    for sign in (-1, 1):
        moved = network(1).double()
        with torch.no_grad():
            start = torch.nn.utils.parameters_to_vector(moved.parameters())
            torch.nn.utils.vector_to_parameters(start + sign * 1e-4 * g, moved.parameters())
            ends.append(reweighted.nats(moved, sold, 0, CPU).double())
    code = (ends[0] - ends[1]) / 2e-4
    np.testing.assert_allclose(code, np.negative(paper), rtol=2e-2, atol=2e-3)


def test_a_step_on_an_answer_of_value_above_0_lowers_the_attackers_loss():
    net, examples, sold = network(1), rows(OWN.worked), rows(SAID)
    worth = reweighted.values(net, reweighted.gradient(net, examples, 0, CPU), sold, 0, CPU, 1e-2)
    before = float(reweighted.nats(net, examples, 0, CPU).mean().detach())
    best = sold[int(worth.argmax())]
    with torch.no_grad():
        start = torch.nn.utils.parameters_to_vector(net.parameters())
    step = slopes(net, best)
    torch.nn.utils.vector_to_parameters(start - 1e-2 * step / step.norm(), net.parameters())
    assert (
        worth.max() > 0 and float(reweighted.nats(net, examples, 0, CPU).mean().detach()) < before
    )


def test_the_gradient_has_length_1_and_values_leave_the_network_as_it_was():
    net, examples = network(1), rows(OWN.worked)
    direction = reweighted.gradient(net, examples, 0, CPU)
    assert float(sum((one**2).sum() for one in direction)) == pytest.approx(1, rel=1e-5)
    reweighted.values(net, direction, examples, 0, CPU, 0.5)
    assert all(
        torch.equal(a, b) for a, b in zip(net.parameters(), network(1).parameters(), strict=True)
    )


def test_weights_by_hand():
    # Standardised: (-1, 1); e**2 / (e**2 + e**-2) doubled.
    softmax_weights = reweighted.softmax_weights(torch.tensor([3.0, 5.0]), 2.0)
    np.testing.assert_allclose(softmax_weights, 2 * special.softmax([-2.0, 2.0]), rtol=1e-6)
    assert reweighted.softmax_weights(torch.ones(5), 3.0).tolist() == pytest.approx([1.0] * 5)


def test_weighted_answers_by_hand():
    net, examples = network(1), rows(SAID[:2])
    nats = reweighted.nats(net, examples, 0, CPU).tolist()
    weighted_loss = reweighted.weighted_loss(
        net, [replace(r, weight=w) for r, w in zip(examples, (0.5, 1.5), strict=True)], 0, CPU
    )
    assert float(weighted_loss.detach()) == pytest.approx(
        (0.5 * nats[0] + 1.5 * nats[1]) / 2, rel=1e-6
    )


def test_global_weights_are_made_once_and_opposite_signs_order_them_oppositely():
    examples, sold = rows(OWN.worked), [*rows(SAID), Example([1], [])]
    orders = []
    for sign in (1, -1):
        attacker = reweighted.Attacker(reweighted.Settings(scope="global", sign=sign, beta=1.0))
        weighted = attacker._once(network(1), examples, sold, 0, 5)
        assert [row.answer_ids for row in weighted] == [row.answer_ids for row in sold[:-1]]
        assert np.mean([row.weight for row in weighted]) == pytest.approx(1)
        orders.append(np.argsort([row.weight for row in weighted]).tolist())
    assert orders[0] == orders[1][::-1]


def test_signs_and_scopes_differ_and_beta_0_is_plain_fine_tuning():
    sold = [
        *SAID,
        Completion("short", "8+8=", "# 16"),
    ]  # shorter: a mean over answers is none over tokens
    plain = sft.Attacker(sft.Settings()).train(
        sold, LanguageModel(network(), TOKENIZER), RECIPE, seed=0
    )
    want = torch.cat([p.detach().flatten() for p in plain.network.parameters()])
    assert torch.equal(trained(sold, beta=0.0), want)
    kinds = [
        trained(sold, sign=sign, scope=scope) for sign in (1, -1) for scope in ("batch", "global")
    ]
    assert all(not torch.equal(a, b) for i, a in enumerate([want, *kinds]) for b in kinds[i:])
    assert torch.equal(trained(sign=-1), trained(sign=-1))


def test_no_more_of_its_own_data_than_it_says_is_looked_at():
    more = replace(OWN, worked=[*OWN.worked[:2], Completion("x", "9+9=", "99999")])
    assert torch.equal(trained(held_out=2), trained(held_out=2, resources=more))
    assert not torch.equal(trained(held_out=3), trained(held_out=3, resources=more))
