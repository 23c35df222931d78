"""A tiny teacher: a random Llama over digits whose weights are large enough that it looks at its prompts."""

import pytest

from distill.answers import Prompt
from distill.embedded import character_tokenizer, llama
from distill.models import LanguageModel


@pytest.fixture(scope="session")
def teacher() -> LanguageModel:
    tokenizer = character_tokenizer("0123456789+=# ")
    network = llama(tokenizer, hidden_size=16, num_layers=2, num_heads=2, max_length=64, seed=0, init=0.5)
    return LanguageModel(network, tokenizer, temperature=1.0, max_new_tokens=24)


@pytest.fixture(scope="session")
def prompts() -> list[Prompt]:
    return [Prompt(f"p{i}", text) for i, text in enumerate(("1+1=", "23+9=", "7+805=", "4+4=", "12+34=", "0+1=", "#"))]
