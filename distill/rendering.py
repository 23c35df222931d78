"""One rendering of prompts and completions as tokens: asking, training and scoring all use it, so
that what a student is trained on and what it is asked are the same tokens.

A prompt goes through the tokenizer's chat template where there is one, and bare behind its
begin-of-text otherwise. A completion has no token that its text does not spell, but for the end.
"""

from __future__ import annotations

import ctypes
import functools
import random
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from distill.completions import BadInput, Message, Prompt
from distill.specs import ChatConfig

TEMPLATE_SECONDS = 2.0
TEMPLATE_LETTERS = 100_000  # more than any system prompt
CHAT = "distill_resist_chat"  # in a tokenizer's own settings, which are kept with it


def with_chat(tokenizer: Any, chat: ChatConfig) -> None:
    """What a tokenizer's chat template is told from now on, and where it is saved.

    Args:
        tokenizer: of transformers; changed in place.
        chat: what the template is told.
    """
    tokenizer.init_kwargs[CHAT] = chat.model_dump(mode="json")


def chat_of(tokenizer: Any) -> ChatConfig:
    """What a tokenizer's chat template is told.

    Args:
        tokenizer: of transformers.

    Raises:
        BadInput: its folder says nonsense.
    """
    try:
        return ChatConfig.model_validate(tokenizer.init_kwargs.get(CHAT, {}))
    except ValidationError as error:
        line = " ".join(str(error).split())[:200]
        raise BadInput(f"tokenizer_config.json: {CHAT}: {line}") from error


def prompt_ids(tokenizer: Any, prompt: Prompt) -> list[int]:
    """Token ids of a prompt as a model reads it.

    Args:
        tokenizer: a transformers tokenizer, with or without a chat template.
        prompt: the question, and what stands before it.

    Raises:
        BadInput: where the chat template errs, takes too long, writes too much or leaves something
            out, or where there is none for a system prompt or earlier turns.
    """
    text = prompt_text(tokenizer, prompt)
    if tokenizer.chat_template:  # which writes begin-of-text itself
        contents = [turn.content for turn in turns(prompt, chat_of(tokenizer).system)]
        if any(_spells_control(tokenizer, content) for content in contents):
            return _guarded_ids(tokenizer, prompt, contents)
        return _whole_ids(tokenizer, text)
    ids = list(tokenizer(text, split_special_tokens=True).input_ids)
    # Some tokenizers close every text; a prompt is open, as its completion follows.
    end = [tokenizer.eos_token_id]
    closed = ids[-1:] == end and text_ids(tokenizer, text)[-1:] != end
    return ids[:-1] if closed else ids


def _guarded_ids(tokenizer: Any, prompt: Prompt, contents: Sequence[str]) -> list[int]:
    """Token ids of a conversation that spells a control token: what the template writes around
    stand-ins of the contents, and the contents as mere text.
    """
    places = [f"\ue000{place}\ue001" for place in range(len(contents))]
    system, *others = places if len(contents) > 1 + len(prompt.history) else ["", *places]
    *history, question = others
    earlier = [
        Message(turn.role, place) for turn, place in zip(prompt.history, history, strict=True)
    ]
    stand_in = replace(prompt, text=question, system=system, history=tuple(earlier))
    ids = list[int]()
    for piece in re.split("(\ue000\\d+\ue001)", prompt_text(tokenizer, stand_in)):
        if piece in places:
            ids += text_ids(tokenizer, contents[places.index(piece)])
        elif piece:
            ids += _whole_ids(tokenizer, piece)
    return ids


def _spells_control(tokenizer: Any, text: str) -> bool:
    """Whether a text holds the spelling of a token that only a template or a model may write."""
    added = tokenizer.added_tokens_decoder.values()
    return any(token.special and token.content in text for token in added)


def prompt_text(tokenizer: Any, prompt: Prompt) -> str:
    """A prompt as the text that a model reads, without a begin-of-text that only ids have.

    Args:
        tokenizer: of transformers, with or without a chat template.
        prompt: question, system prompt and history.

    Raises:
        BadInput: as `prompt_ids`.
    """
    if not tokenizer.chat_template:
        check_bare(prompt, chat_of(tokenizer).system)
        return prompt.text
    chat = chat_of(tokenizer)
    messages = [{"role": one.role, "content": one.content} for one in turns(prompt, chat.system)]
    thinking = {} if chat.enable_thinking is None else {"enable_thinking": chat.enable_thinking}
    render = functools.partial(
        tokenizer.apply_chat_template,
        messages,
        tokenize=False,
        add_generation_prompt=True,
        # A template that asks for today's date would make another prompt of it every day.
        strftime_now=chat.date.strftime,
        **thinking,
    )
    if _has_powers(str(tokenizer.chat_template)):
        raise BadInput(f"prompt {prompt.id!r}: chat template: raises numbers to a power (**)")
    state = random.getstate()
    random.seed(0)  # a template that draws lots draws the same ones each time
    try:
        text = str(within(TEMPLATE_SECONDS, render))
    except Exception as error:  # a template is a program of somebody else's
        line = " ".join(str(error).split())
        raise BadInput(
            f"prompt {prompt.id!r}: chat template: {type(error).__name__}: {line}"
        ) from error
    finally:
        random.setstate(state)
    letters = sum(len(one["content"]) for one in messages)
    if len(text) > letters + TEMPLATE_LETTERS:
        raise BadInput(
            f"prompt {prompt.id!r}: chat template: writes {len(text)} letters around a prompt of "
            f"{letters}; at most {TEMPLATE_LETTERS} are taken"
        )
    system = prompt.system or chat.system
    earlier = [("question before", turn.content) for turn in prompt.history if turn.role == "user"]
    for what, content in (("system prompt", system), ("question", prompt.text), *earlier):
        if content.strip() not in text:  # some templates know no system role, and say nothing
            raise BadInput(f"prompt {prompt.id!r}: chat template: leaves the {what} out")
    return text


@functools.lru_cache
def _has_powers(template: str) -> bool:
    """Whether a template computes powers: no other step of one can be so long that nothing stops
    it.
    """
    from jinja2 import Environment, TemplateSyntaxError

    try:
        words = [*Environment().lex(template)]
    except TemplateSyntaxError:  # which rendering it says
        return False
    return any(kind == "operator" and word == "**" for _, kind, word in words)


def turns(prompt: Prompt, system: str = "") -> list[Message]:
    """A prompt as a conversation; `system` is of one that has none.

    Args:
        prompt: with its earlier turns.
        system: of a prompt that has none.
    """
    text = prompt.system or system
    first = [Message("system", text)] if text else []
    return [*first, *prompt.history, Message("user", prompt.text)]


def check_bare(prompt: Prompt, system: str = "") -> None:
    """Refuse a prompt that is more than a text, where there is no chat template to write it.

    Args:
        prompt: to be asked.
        system: the model's own system prompt.

    Raises:
        BadInput: it has a system prompt or earlier turns.
    """
    parts = {"a system prompt": prompt.system or system, "earlier turns": prompt.history}
    if more := [name for name, part in parts.items() if part]:
        raise BadInput(
            f"prompt {prompt.id!r}: has {' and '.join(more)}, and the model's tokenizer has no "
            "chat template that could write them"
        )


def completion_ids(tokenizer: Any, text: str, finished: bool) -> list[int]:
    """Token ids of a completion: its text, and end-of-text if it was finished.

    Args:
        tokenizer: of transformers.
        text: of the completion.
        finished: whether it came to its own end.
    """
    return text_ids(tokenizer, text) + [tokenizer.eos_token_id] * finished


def text_ids(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text alone, without begin or end; one that spells a control token stays mere
    text.

    Args:
        tokenizer: of transformers.
        text: of any length.
    """
    return list(tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids)


def _whole_ids(tokenizer: Any, text: str) -> list[int]:
    """Token ids of what a template wrote, control tokens with it."""
    return list(tokenizer(text, add_special_tokens=False).input_ids)


def token_count(tokenizer: Any) -> int:
    """One more than the largest token id that spells something.

    Args:
        tokenizer: of transformers.
    """
    return int(max(tokenizer.get_vocab().values())) + 1


def ends(tokenizer: Any, network: Any) -> list[int]:
    """The tokens at which a model's completions end, the tokenizer's own first.

    A chat model may end its turn with another token than its text, and says so in its
    `generation_config`.

    Args:
        tokenizer: of transformers.
        network: of transformers, with its `generation_config`.

    Returns:
        Token ids, each once.

    Raises:
        BadInput: one is no token's number.
    """
    also = network.generation_config.eos_token_id
    named = also if isinstance(also, list) else [also]
    numbers = [one for one in (tokenizer.eos_token_id, *named) if one is not None]
    if wrong := [one for one in numbers if type(one) is not int or one < 0]:
        raise BadInput(
            "generation_config.json: eos_token_id: must be the numbers of tokens (got "
            f"{wrong[0]!r})"
        )
    return list(dict.fromkeys(numbers))


def within(seconds: float, work: Callable[[], Any]) -> Any:
    """What `work` returns, if it does so in time.

    Args:
        seconds: that it may take.
        work: without arguments.

    Raises:
        TimeoutError: it took longer. What is late ends where it next runs Python; what does not is
            left alone, and ends with the process.
        Exception: what `work` raised.
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
        # CPython's own way to interrupt a thread; it would keep a core busy otherwise.
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit)
        )
        raise TimeoutError(f"took over {seconds:g} s")
    value, error = outcome[0]
    if error:
        raise error
    return value
