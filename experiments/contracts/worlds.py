"""Tiny teachers, with what their providers have, that defences are held to their contract on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from defenses import ProviderResources
from distill.answer_format import AnswerFormat
from distill.completions import Completion, Interface, Prompt
from distill.embedded import byte_pair_tokenizer, character_tokenizer, llama
from distill.models import LanguageModel

LENGTH = 96
TEMPLATE = (
    "{% for turn in messages %}<{{ turn.role }}>{{ turn.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
PUBLIC = [
    "How many pens are in 3 boxes of 12 pens each? 3 boxes hold 3*12=36 pens.;So there are 36 "
    "pens. # 36",
    "What is 7 plus 805? 7+805=812;The sum is 812. # 812",
    "c=3;a=c+4;b=a-c;b? c=3;a=3+4=7;b=7-3=4 # 4",
]
SUMS = ("23+9=", "7+805=", "4+4=", "12+34=")
QUESTIONS = (
    "7+805=",
    "é ☃?",
    "a=8;b?",
    "3 boxes hold 12 pens each; how many pens is that?",
)


class World(NamedTuple):
    """A teacher, what its provider has, and questions of several lengths, so that a batch of them
    is padded.
    """

    teacher: LanguageModel
    resources: ProviderResources
    prompts: list[Prompt]


def as_prompts(texts: Sequence[str]) -> list[Prompt]:
    """Texts as prompts p0, p1 and so on.

    Args:
        texts: any.
    """
    return [Prompt(f"p{i}", text) for i, text in enumerate(texts)]


def provider_resources(
    teacher: LanguageModel,
    proxy: LanguageModel,
    questions: Sequence[str],
    worked: Sequence[str] = (),
) -> ProviderResources:
    """What a provider might have: a smaller proxy, clean traces, a grader, a rewriter, and weaker
    teachers.

    Args:
        teacher: whose clean answers the traces are.
        proxy: the small model that stands for students.
        questions: what the traces answer.
        worked: questions with answers by hand, `question? answer`, which are traces too.
    """
    prompts = [Prompt(f"own{i}", text) for i, text in enumerate(questions)]
    pairs = [text.split("? ") for text in worked]
    by_hand = [
        Completion(f"worked{i}", question + "?", text) for i, (question, text) in enumerate(pairs)
    ]
    return ProviderResources(
        proxy=proxy,
        traces=teacher.generate(prompts, seed=9, interface=Interface("full")) + by_hand,
        grade=lambda answer: len(answer.text) % 2 == 0,
        rewriter=replace(teacher, max_new_tokens=8),
        weaker_teacher=proxy,
        base=proxy,
        format=AnswerFormat(steps=";"),
    )


def character_world(temperature: float = 1.0) -> World:
    """A Llama of 16 channels with a token a character.

    Args:
        temperature: of the teacher; 0 is greedy.
    """
    tokenizer = character_tokenizer("0123456789+=# ")
    size = {"num_heads": 2, "max_length": 64}
    network = llama(tokenizer, hidden_size=16, num_layers=2, seed=0, init=0.5, **size)
    small = llama(tokenizer, hidden_size=8, num_layers=1, seed=1, init=0.5, **size)
    teacher = LanguageModel(network, tokenizer, temperature=1.0, max_new_tokens=24)
    proxy = LanguageModel(small, tokenizer, max_new_tokens=24)
    resources = provider_resources(teacher, proxy, [f"{i}+{i}=" for i in range(12)])
    sampled = replace(teacher, temperature=temperature, max_new_tokens=12)
    return World(sampled, resources, as_prompts(SUMS))


def chat_world() -> World:
    """A Llama with a byte-pair tokenizer and a chat template."""
    tokenizer = byte_pair_tokenizer(PUBLIC, 320)
    tokenizer.chat_template = TEMPLATE
    size = {"num_heads": 2, "max_length": LENGTH}
    network = llama(tokenizer, hidden_size=16, num_layers=2, seed=0, init=0.5, **size)
    small = llama(tokenizer, hidden_size=8, num_layers=1, seed=1, init=0.5, **size)
    teacher = LanguageModel(network, tokenizer, temperature=1.0, max_new_tokens=12)
    proxy = LanguageModel(small, tokenizer, temperature=1.0, max_new_tokens=12)
    resources = provider_resources(teacher, proxy, [f"{i}+{i}=" for i in range(9)], PUBLIC)
    return World(teacher, resources, as_prompts(QUESTIONS))
