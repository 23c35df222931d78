"""One rendering of prompts and completions as tokens: asking, training and scoring all use it, so
that what a student is trained on and what it is asked are the same tokens.

A prompt goes through the tokenizer's chat template where there is one, and bare behind its
begin-of-text otherwise. A completion has no token that its text does not spell, but for the end.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

from distill.completions import BadInput, Prompt

TEMPLATE_SECONDS = 5.0
TEMPLATE_LETTERS = 100_000  # more than any system prompt


def prompt_ids(tokenizer: Any, prompt: Prompt) -> list[int]:
    """Token ids of a prompt as a model reads it.

    Args:
        tokenizer: a transformers tokenizer, with or without a chat template.
        prompt: the question.

    Raises:
        BadInput: where the chat template errs, takes too long or writes too much.
    """
    if tokenizer.chat_template:  # which writes begin-of-text itself
        return text_ids(tokenizer, prompt_text(tokenizer, prompt))
    ids = list(tokenizer(prompt.text).input_ids)
    # Some tokenizers close every text; a prompt is open, as its completion follows.
    end = [tokenizer.eos_token_id]
    closed = ids[-1:] == end and text_ids(tokenizer, prompt.text)[-1:] != end
    return ids[:-1] if closed else ids


def prompt_text(tokenizer: Any, prompt: Prompt) -> str:
    """A prompt as the text that a model reads, without a begin-of-text that only ids have.

    Raises:
        BadInput: as `prompt_ids`.
    """
    if not tokenizer.chat_template:
        return prompt.text
    turns = [{"role": "user", "content": prompt.text}]
    render = functools.partial(
        tokenizer.apply_chat_template, turns, tokenize=False, add_generation_prompt=True
    )
    try:
        text = str(within(TEMPLATE_SECONDS, render))
    except Exception as error:  # a template is a program of somebody else's
        line = " ".join(str(error).split())
        raise BadInput(
            f"prompt {prompt.id!r}: chat template: {type(error).__name__}: {line}"
        ) from error
    if len(text) > len(prompt.text) + TEMPLATE_LETTERS:
        raise BadInput(
            f"prompt {prompt.id!r}: chat template: writes {len(text)} letters around a prompt of "
            f"{len(prompt.text)}; at most {TEMPLATE_LETTERS} are taken"
        )
    return text


def completion_ids(tokenizer: Any, text: str, finished: bool) -> list[int]:
    """Token ids of a completion: its text, and end-of-text if it was finished."""
    return text_ids(tokenizer, text) + [tokenizer.eos_token_id] * finished


def text_ids(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text alone, without begin or end."""
    return list(tokenizer(text, add_special_tokens=False).input_ids)


def ends(tokenizer: Any, network: Any) -> list[int]:
    """The tokens at which a model's completions end, the tokenizer's own first.

    A chat model may end its turn with another token than its text, and says so in its
    `generation_config`.
    """
    also = network.generation_config.eos_token_id
    named = also if isinstance(also, list) else [also]
    return list(dict.fromkeys(one for one in (tokenizer.eos_token_id, *named) if one is not None))


def within(seconds: float, work: Callable[[], Any]) -> Any:
    """What `work` returns or raises, or TimeoutError after so long.

    A thread cannot be stopped: one that is late is left alone, and ends with the process.
    """
    outcome: list[tuple[Any, Exception | None]] = []

    def run() -> None:
        try:
            outcome.append((work(), None))
        except Exception as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise TimeoutError(f"took over {seconds:g} s")
    value, error = outcome[0]
    if error:
        raise error
    return value
