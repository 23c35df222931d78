"""A teacher that has learned to add two digits, in either of two orders; and its provider's proxy,
which knows one.
"""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from defenses import ProviderResources
from defenses.trained import learner, loss, rows, tune
from distill.completions import Completion, Interface, Prompt
from distill.embedded import character_tokenizer, llama
from distill.models import LanguageModel

PAIRS = [(a, b) for a in range(7) for b in range(7) if a != b]
SUMS = [Prompt(f"{a}+{b}", f"{a}+{b}=") for a, b in PAIRS]


def right(answer: Completion) -> bool:
    a, b = answer.prompt[:-1].split("+")
    return answer.text.rpartition("#")[2] == str(int(a) + int(b))


def taught(hidden_size: int, train_items: list[Completion], steps: int) -> LanguageModel:
    tokenizer = character_tokenizer("0123456789+=#")
    network = llama(
        tokenizer, hidden_size=hidden_size, num_layers=2, num_heads=2, max_length=32, seed=0
    )
    model = LanguageModel(network, tokenizer, max_new_tokens=10)
    twin = learner(network)
    tune(
        twin.parameters(),
        lambda batch: loss(twin, batch),
        rows(model, train_items),
        steps=steps,
        learning_rate=1e-2,
        batch_size=32,
    )
    twin.zero_grad()
    return replace(model, network=twin.requires_grad_(False))


def train_items(swapped: float) -> list[Completion]:
    """`3+4=` is answered `34#7`, or `43#7` in a share of the lessons."""
    rng, seen = random.Random(0), []
    for (a, b), prompt in zip(PAIRS, SUMS, strict=True):
        for _ in range(10):
            x, y = (b, a) if rng.random() < swapped else (a, b)
            seen.append(Completion(prompt.id, prompt.text, f"{x}{y}#{a + b}"))
    return seen


@pytest.fixture(scope="session")
def adder() -> LanguageModel:
    return taught(32, train_items(0.5), 120)


@pytest.fixture(scope="session")
def provider(adder) -> ProviderResources:
    return ProviderResources(
        proxy=taught(16, train_items(0.1), 80),
        traces=replace(adder, temperature=1.0).generate(SUMS, seed=0, interface=Interface()),
        grade=right,
    )


@pytest.fixture
def untouched(adder, provider):
    """Fails if the teacher or the proxy has changed, or has gathered gradients, by the end of a
    test.
    """
    networks = [adder.network, provider.proxy.network]
    before = [
        {name: value.clone() for name, value in network.state_dict().items()}
        for network in networks
    ]
    yield
    for network, weights in zip(networks, before, strict=True):
        assert all(weights[name].equal(value) for name, value in network.state_dict().items())
        assert all(p.grad is None for p in network.parameters())
        assert network.lm_head.weight is network.model.embed_tokens.weight


@pytest.fixture
def accuracy():
    """The share of sums that a model gets right, greedily."""

    def accuracy(model: LanguageModel) -> float:
        return sum(map(right, model.generate(SUMS, seed=0, interface=Interface()))) / len(SUMS)

    return accuracy
