"""What an attacker does to the completions that it was sold: `clean(completions, resources,
seed=...)` returns those that the student learns from.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from distill.answer_format import AnswerFormat
from distill.attackers import AttackerResources, sft
from distill.completions import Completion, Interface
from distill.models import LanguageModel
from distill.rendering import completion_ids


def groups(completions: Sequence[Completion]) -> list[list[Completion]]:
    """The answers to each question, in order of appearance.

    Args:
        completions: some of them of the same question.
    """
    by_question: dict[str, list[Completion]] = {}
    for completion in completions:
        by_question.setdefault(completion.question.conversation, []).append(completion)
    return list(by_question.values())


def with_text(answer: Completion, text: str) -> Completion:
    """The answer with another text; token ids and logprobs would spell the old one.

    Args:
        answer: with or without token ids and logprobs.
        text: equal to the old one gives the same answer back.
    """
    return (
        answer if text == answer.text else replace(answer, text=text, token_ids=(), logprobs=None)
    )


def split_answer(text: str, form: AnswerFormat) -> tuple[str, str]:
    """A text as its reasoning, what is thought with it, and the rest, which begins with the space
    before the final answer; the two joined are it.

    Args:
        text: of an answer.
        form: the task's answer format.
    """
    parts = form.split(text)
    return parts.thinking + parts.reasoning, parts.answer


def train_own_model(
    completions: Sequence[Completion], resources: AttackerResources, seed: int, share: float = 1.0
) -> LanguageModel:
    """A model of the student's shape that the attacker trains on answers of its choice, for `share`
    of the steps.

    Args:
        completions: what it learns from.
        resources: with `fresh` and `recipe`.
        seed: of its weights and of the order.
        share: of the recipe's steps.
    """
    assert resources.fresh is not None and resources.recipe is not None
    model = resources.fresh(seed)
    recipe = resources.recipe.model_copy(
        update={"steps": max(1, round(share * resources.recipe.steps))}
    )
    trained = sft.Attacker(sft.Settings()).train(completions, model, recipe, seed=seed)
    return replace(model, network=trained.network.eval())


def turns(completions: Sequence[Completion]) -> list[int]:
    """How many answers to the same question stand before each: asked again as that attempt, each of
    them draws a text of its own.

    Args:
        completions: some of them of the same question.
    """
    before: Counter[str] = Counter()
    numbers = []
    for completion in completions:
        numbers.append(before[completion.question.conversation])
        before[completion.question.conversation] += 1
    return numbers


def say_anew(
    model: LanguageModel,
    completions: Sequence[Completion],
    resources: AttackerResources,
    samples: int,
    temperature: float,
    seed: int,
) -> list[str | None]:
    """What a model says to the questions of some answers: the first text of each that comes to its
    end and says something, with the same final answer; None where there is none such.

    Args:
        model: of the attacker's own, with the edits that it speaks with.
        completions: as they were sold.
        resources: which read final answers.
        samples: times that a question is answered at most.
        temperature: at which answers are drawn.
        seed: of what is drawn.
    """
    texts: list[str | None] = [None] * len(completions)
    turn = turns(completions)
    most = max(turn, default=0) + 1
    speaker = replace(model, network=model.network.eval(), temperature=temperature)
    for attempt in range(samples):
        places = [i for i, text in enumerate(texts) if text is None]
        prompts = [
            replace(completions[i].question, attempt=most * attempt + turn[i]) for i in places
        ]
        written = speaker.generate(prompts, seed=seed, interface=Interface())
        for i, new in zip(places, written, strict=True):
            same = resources.final(new) == resources.final(completions[i])
            texts[i] = new.text if new.finished and new.text and same else None
    return texts


def surprisal(model: LanguageModel, completions: Sequence[Completion]) -> list[float]:
    """-log p of each answer a token of it and its end, in nats; infinite where the context does not
    hold it.

    Args:
        model: of the attacker's own.
        completions: answers of anybody.
    """
    nats = model.surprisal(
        [one.question for one in completions],
        [one.text for one in completions],
    )
    sizes = [len(completion_ids(model.tokenizer, one.text, finished=True)) for one in completions]
    return [math.inf if math.isnan(n) else n / size for n, size in zip(nats, sizes, strict=True)]
