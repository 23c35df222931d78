"""Formats of the texts in these tests, and answers behind a defence that is told one of them."""

from __future__ import annotations

import string
from typing import Any

from defenses import ProviderResources
from distill.answer_format import AnswerFormat
from distill.completions import Completion
from distill.embedded import character_tokenizer

STEPS = AnswerFormat(steps=";", thinking="none")
LINES = AnswerFormat(mark="A:", gap="\n", thinking="none")
SENTENCES = AnswerFormat(mark="A:", gap="\n", steps="sentence", thinking="none")
READS = AnswerFormat(mark="A:", gap="\n", steps="sentence")
HASHES = AnswerFormat(mark="####", gap="\n", thinking="none")
LETTERS = character_tokenizer(string.printable)


def edited(
    kind: Any,
    settings: Any,
    text: str,
    prompt: str = "?",
    form: AnswerFormat = STEPS,
    tools: tuple[str, ...] = (),
) -> str:
    """The text that a kind of defence releases."""
    defense = kind(settings, ProviderResources(format=form, tools=tools))
    return str(defense.edit(Completion("a", prompt, text, (1, 2))).text)


def final_answer(text: str, form: AnswerFormat = STEPS) -> str:
    """The final answer in its markup."""
    return form.split(text).answer.lstrip()
