"""The lean pass of a small Llama against transformers' own, and when it is not taken."""

import pytest
import torch
from torch.nn import functional

from distill import lean
from distill.embedded import character_tokenizer, llama
from distill.objectives import Example, imitation, score_answers

TOKENIZER = character_tokenizer("0123456789+=# ")
ROWS = [Example([3, 4, 5], [6, 7, 1]), Example([8, 9], [3, 1]), Example([5] * 7, [4, 4, 4, 1])]
CPU = torch.device("cpu")


def network(heads=4, seed=0):
    return llama(TOKENIZER, hidden_size=32, num_layers=2, num_heads=heads, max_length=32, seed=seed)


def by_transformers(net, rows):
    """Cross-entropy of answers as transformers computes it from labels: one row at a time, so
    without padding.
    """
    nats = [
        net(input_ids=torch.tensor([r.prompt_ids + r.answer_ids])).logits[
            0, len(r.prompt_ids) - 1 : -1
        ]
        for r in rows
    ]
    return functional.cross_entropy(
        torch.cat(nats), torch.tensor([t for r in rows for t in r.answer_ids])
    )


@pytest.mark.parametrize("heads", [1, 2, 4, 8])
def test_states_are_those_of_transformers(heads):
    net = network(heads)
    tokens = torch.randint(0, len(TOKENIZER), (3, 11), generator=torch.Generator().manual_seed(0))
    assert lean.fits(net.model)
    want = net.model(input_ids=tokens).last_hidden_state
    rows = torch.tensor([0, 3, 10, 11, 32])
    assert torch.allclose(lean.states(net.model, tokens, rows), want.flatten(0, 1)[rows], atol=1e-5)


def test_loss_and_gradients_are_those_of_transformers():
    ours, theirs = network(), network()
    loss, want = imitation(ours, ROWS, 0, CPU), by_transformers(theirs, ROWS)
    loss.backward()
    want.backward()
    assert torch.allclose(loss, want, atol=1e-6)
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-5 * float(b.grad.abs().max())), name


def test_gradients_are_slopes():
    net = network(2).double()
    x = torch.randn(
        6, 32, dtype=torch.double, generator=torch.Generator().manual_seed(1), requires_grad=True
    )
    y = torch.randn(
        6, 32, dtype=torch.double, generator=torch.Generator().manual_seed(2), requires_grad=True
    )
    assert torch.autograd.gradcheck(
        lambda a: lean._Norm.apply(a, net.model.norm.weight, 1e-6), (x,)
    )
    assert torch.autograd.gradcheck(lean._Gate.apply, (x, y))


def test_what_is_not_plain_is_left_to_transformers():
    assert lean.fits(network().model)
    assert not lean.fits(network().model.half())
    assert not lean.fits(torch.nn.Linear(2, 2))
    more = network()
    more.model.layers[0].self_attn.q_proj.bias = torch.nn.Parameter(torch.zeros(32))
    assert not lean.fits(more.model)
    grouped = network()
    grouped.model.config.num_key_value_heads = 2
    assert not lean.fits(grouped.model)
    with torch.autocast("cpu"):
        assert not lean.fits(network().model)


def test_a_batch_is_read_the_lean_way_where_it_fits(monkeypatch):
    called = []
    real = lean.states
    monkeypatch.setattr(lean, "states", lambda *given: called.append(1) or real(*given))
    net = network()
    seen = score_answers(net, ROWS, 0, CPU)
    monkeypatch.setattr(lean, "fits", lambda decoder: False)
    assert called == [1] and torch.allclose(
        seen.logits_NV, score_answers(net, ROWS, 0, CPU).logits_NV, atol=1e-5
    )
