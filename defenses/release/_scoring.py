"""What a rewriting is scored by: how little a proxy has learned that was tuned on what it made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from pydantic import Field
from torch.nn import functional

from defenses import DefenseSettings, ProviderResources, require_traces
from defenses.release import split_answer
from defenses.trained import Row, answer_logits, copied, loss, rows, tune
from distill.answer_format import AnswerFormat
from distill.completions import BadInput, Completion, Interface
from distill.models import LanguageModel
from distill.rendering import completion_ids, text_ids


class ProxySettings(DefenseSettings):
    """How a copy of the proxy is tuned that scores a candidate: for `steps` batches of `batch_size`
    at `learning_rate`.
    """

    steps: int = Field(100, ge=1, le=1_000_000)
    batch_size: int = Field(16, ge=1, le=100_000)
    learning_rate: float = Field(2e-3, gt=0)


def scoring_proxy(resources: ProviderResources, name: str) -> LanguageModel:
    """The proxy that candidates are scored on.

    Args:
        resources: of the provider.
        name: of the defence, for its message.

    Raises:
        BadInput: there is none.
    """
    if resources.proxy is None:
        raise BadInput(
            f"defense {name}: needs a proxy, a small model that stands for students; the study "
            "names none"
        )
    return resources.proxy


def hurt(
    proxy: LanguageModel,
    shown: Sequence[Completion],
    held_out: Sequence[Completion],
    form: AnswerFormat,
    settings: ProxySettings,
) -> float:
    """How little a copy of the proxy knows of held-out answers once it is tuned on rewritten ones.

    Args:
        proxy: stands for students; it stays as it is.
        shown: rewritten answers.
        held_out: clean answers to other questions.
        form: where final answers are.
        settings: of the tuning.

    Returns:
        `final_answer_loss`, in [0, 1].
    """
    network: Any = copied(proxy.network)
    tune(
        network.parameters(),
        partial(loss, network),
        rows(proxy, [replace(answer, token_ids=()) for answer in shown]),
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
    )
    student = replace(proxy, network=network, temperature=0.0)
    return final_answer_loss(student, held_out, form, settings.batch_size)


@torch.inference_mode()
def final_answer_loss(
    student: LanguageModel, held_out: Sequence[Completion], form: AnswerFormat, batch_size: int
) -> float:
    """1 - the probability of the right final answer after the student's own reasoning, a mean in
    [0, 1].

    Smoother than how often it is right. Mean nats would be carried by the few answers it is most
    wrongly sure of.

    Args:
        student: that was trained on obfuscated answers.
        held_out: clean answers.
        form: where their final answers are.
        batch_size: answers at once.
    """
    attempts = student.generate([one.question for one in held_out], seed=0, interface=Interface())
    finals = [
        _final_answer_row(student, clean, own, form)
        for clean, own in zip(held_out, attempts, strict=True)
    ]
    right = 0.0
    for start in range(0, len(finals), batch_size):
        batch = finals[start : start + batch_size]
        nats_N = functional.cross_entropy(
            *answer_logits(student.network, batch), reduction="none"
        ).double()
        lengths = [len(row.answer_ids) for row in batch]
        right += sum(float((-answer_T.sum()).exp()) for answer_T in nats_N.split(lengths))
    return 1 - right / len(finals)


def _final_answer_row(
    student: LanguageModel, clean: Completion, attempt: Completion, form: AnswerFormat
) -> Row:
    final = split_answer(clean.text, form)[1]
    final_ids = completion_ids(student.tokenizer, final, finished=True)
    reasoning_ids = text_ids(student.tokenizer, split_answer(attempt.text, form)[0])
    # What never came to an answer must leave it some context.
    room = max(student.max_new_tokens - len(final_ids), 0)
    return Row(
        student.encode(clean.question) + reasoning_ids[:room],
        final_ids,
    )


def split_traces(
    resources: ProviderResources, name: str
) -> tuple[list[Completion], list[Completion]]:
    """Traces that have a final answer, to tune proxies on (three of four), and held out.

    Args:
        resources: of the provider.
        name: of the defence, for its message.

    Raises:
        BadInput: fewer than two have one.
    """
    answered = [
        trace
        for trace in require_traces(resources, name)
        if split_answer(trace.text, resources.format)[1]
    ]
    if len(answered) < 2:
        raise BadInput(
            f"defense {name}: {len(answered)} of {len(resources.traces)} traces have a "
            "final answer; the search needs 2"
        )
    return [trace for i, trace in enumerate(answered) if i % 4], answered[::4]
