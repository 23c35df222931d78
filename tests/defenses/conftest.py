"""Tiny random teachers whose weights are large enough that they look at their prompts, and what
their providers have.

One reads characters. Two are loaded from local folders as a user's own would be: a Llama with byte
pairs and a chat template, and a GPT-2 (learned positions) without a padding token and with more
rows than its tokenizer has tokens.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from defenses import ProviderResources
from distill.completions import Prompt
from distill.embedded import byte_pair_tokenizer, character_tokenizer, llama
from distill.folders import load
from distill.models import LanguageModel
from experiments.contracts.worlds import (
    LENGTH,
    PUBLIC,
    QUESTIONS,
    TEMPLATE,
    World,
    as_prompts,
    provider_resources,
)


@pytest.fixture(scope="session")
def teacher() -> LanguageModel:
    tokenizer = character_tokenizer("0123456789+=# ")
    network = llama(
        tokenizer, hidden_size=16, num_layers=2, num_heads=2, max_length=64, seed=0, init=0.5
    )
    return LanguageModel(network, tokenizer, temperature=1.0, max_new_tokens=24)


@pytest.fixture(scope="session")
def prompts() -> list[Prompt]:
    return as_prompts(["1+1=", "23+9=", "7+805=", "4+4=", "12+34=", "0+1=", "#"])


@pytest.fixture(scope="session")
def resources(teacher) -> ProviderResources:
    network = llama(
        teacher.tokenizer, hidden_size=8, num_layers=1, num_heads=2, max_length=64, seed=1, init=0.5
    )
    proxy = LanguageModel(network, teacher.tokenizer, max_new_tokens=24)
    return provider_resources(teacher, proxy, [f"{i}+{i}=" for i in range(12)])


def gpt2(tokens: int, spare: int, *, hidden_size: int, num_layers: int, seed: int, end: int) -> Any:
    """A random GPT-2 with rows for more tokens than there are; as in models that were trained, it
    never says these.
    """
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=tokens + spare,
        n_positions=LENGTH,
        n_embd=hidden_size,
        n_layer=num_layers,
        n_head=2,
        initializer_range=0.5,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=None,
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        network = GPT2LMHeadModel(config)
        last, rows = (
            network.transformer.ln_f,
            network.lm_head.weight,
        )  # the head is tied to the embedding
        last.weight[0], last.bias[0] = 0, 10
        rows[:, 0], rows[tokens:, 0] = 0, -5
    return network


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> dict[str, Path]:
    """By shape, a folder with a model and its tokenizer; within it `proxy`, a smaller model with
    the same one.
    """
    shapes: dict[str, tuple[Any, Any, Any]] = {}
    size = {"num_heads": 2, "max_length": LENGTH, "init": 0.5}
    chat = byte_pair_tokenizer(PUBLIC, 320)
    chat.chat_template = TEMPLATE
    shapes["llama"] = (
        chat,
        llama(chat, hidden_size=16, num_layers=2, seed=0, **size),
        llama(chat, hidden_size=8, num_layers=1, seed=1, **size),
    )
    plain = byte_pair_tokenizer(PUBLIC, 320)
    plain.pad_token = None
    end = plain.eos_token_id
    shapes["gpt2"] = (
        plain,
        gpt2(len(plain), 8, hidden_size=16, num_layers=2, seed=0, end=end),
        gpt2(len(plain), 0, hidden_size=8, num_layers=1, seed=1, end=end),
    )
    paths = {}
    for name, (tokenizer, network, proxy) in shapes.items():
        paths[name] = tmp_path_factory.mktemp(name)
        for folder, model in ((paths[name], network), (paths[name] / "proxy", proxy)):
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    return paths


@pytest.fixture(scope="session")
def worlds(folders, teacher, resources, prompts) -> dict[str, World]:
    """Every teacher that defences are held to their contract on."""
    questions = as_prompts(QUESTIONS)
    worlds = {
        name: World(
            replace(teacher, temperature=temperature, max_new_tokens=12), resources, prompts[1:5]
        )
        for name, temperature in (("characters", 1.0), ("greedy", 0.0))
    }
    for name, folder in folders.items():
        model, proxy = (
            load(str(one), temperature=1.0, max_new_tokens=12) for one in (folder, folder / "proxy")
        )
        worlds[name] = World(
            model,
            provider_resources(model, proxy, [f"{i}+{i}=" for i in range(9)], PUBLIC),
            questions,
        )
    return worlds
