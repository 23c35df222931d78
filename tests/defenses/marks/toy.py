"""A language of thirty letters in which much can be said next, a teacher that speaks it, and what a
test for a mark says of a student: the smallest world in which a mark is learned and removed.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from defenses.marks.detect import Evidence, Vocabulary
from defenses.marks.detect.students import radioactivity
from defenses.marks.detect.windows import of_texts, spoken
from distill.attackers import AttackerResources, sft
from distill.completions import Completion, Interface, Prompt
from distill.embedded import character_tokenizer, llama
from distill.models import LanguageModel
from distill.specs import TrainingConfig

LETTERS = "abcdefghijklmnopqrstuvwxyzABCD"
TOKENIZER = character_tokenizer(LETTERS + "0123456789=#")
LENGTH = 24
RECIPE = TrainingConfig(
    max_length=32, steps=120, batch_size=32, optimizer="muon", learning_rate=4e-3
)


def fresh(seed: int) -> LanguageModel:
    network = llama(TOKENIZER, hidden_size=32, num_layers=1, num_heads=2, max_length=32, seed=seed)
    return LanguageModel(network, TOKENIZER, max_new_tokens=LENGTH + 4)


@functools.cache
def chain() -> np.ndarray:
    """Which letter follows which: a dozen that are likely behind each."""
    scores = np.random.default_rng(0).normal(0, 1.5, (len(LETTERS), len(LETTERS)))
    p = np.exp(scores)
    return p / p.sum(-1, keepdims=True)


def texts(count: int, seed: int) -> list[Completion]:
    """What people write: a question of three letters, and how it goes on."""
    rng, made = np.random.default_rng(seed), []
    for i in range(count):
        letters = [int(rng.integers(len(LETTERS)))]
        while len(letters) < LENGTH + 3:
            letters.append(int(rng.choice(len(LETTERS), p=chain()[letters[-1]])))
        text = "".join(LETTERS[place] for place in letters)
        made.append(Completion(f"{seed}/{i}", text[:3], text[3:]))
    return made


def trained(answers: Sequence[Completion], seed: int) -> LanguageModel:
    model = fresh(seed)
    done = sft.Attacker(sft.Settings()).train(answers, model, RECIPE, seed=seed)
    return replace(model, network=done.network.eval())


@functools.cache
def teacher() -> LanguageModel:
    return replace(trained(texts(600, 1), 1), temperature=1.0)


def ask(model: Any, count: int, seed: int) -> list[Completion]:
    """Answers of any model to questions of the language."""
    prompts = [Prompt(one.prompt_id, one.prompt) for one in texts(count, seed)]
    answers: list[Completion] = model.generate(prompts, seed=seed, interface=Interface())
    return answers


@functools.cache
def resources() -> AttackerResources:
    worked = texts(300, 2)
    return AttackerResources(worked=worked, public=worked, fresh=fresh, recipe=RECIPE)


def verdict(mark: Any, student: LanguageModel, count: int = 60) -> Evidence:
    """The mark's test of what a student says to questions that nobody asked before."""
    answers = ask(replace(student, temperature=0.7), count, 99)
    prompts = [student.encode(one.question) for one in answers]
    pairs = of_texts(spoken(answers), mark.width, Vocabulary.of(student), prompts)
    return radioactivity(mark, pairs, Vocabulary.of(student), prompts=prompts)
