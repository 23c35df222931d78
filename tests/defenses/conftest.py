"""A tiny teacher: a random Llama over digits whose weights are large enough that it looks at its prompts."""

from dataclasses import replace

import pytest

from defenses import Given
from distill.answers import Profile, Prompt
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


@pytest.fixture(scope="session")
def given(teacher) -> Given:
    """What a provider of that teacher might have: a smaller proxy, clean traces, a grader, and a rewriter."""
    network = llama(teacher.tokenizer, hidden_size=8, num_layers=1, num_heads=2, max_length=64, seed=1, init=0.5)
    own = [Prompt(f"own{i}", f"{i}+{i}=") for i in range(12)]
    return Given(
        proxy=LanguageModel(network, teacher.tokenizer, max_new_tokens=24),
        traces=teacher.answer(own, seed=9, profile=Profile("full")),
        grade=lambda answer: len(answer.text) % 2 == 0,
        rewriter=replace(teacher, max_new_tokens=8),
    )
