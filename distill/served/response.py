"""What a served model's response must be, and what it says.

A server is not trusted: one that answers another prompt, is another model, stops in mid-answer,
has another tokenizer or sends what is no distribution is BadInput, and its response is dropped.
"""

from __future__ import annotations

from distill.completions import BadInput, Completion
from distill.served.logprobs import ReleasedLogprobs, likeliest
from distill.served.protocol import Choice, Response, parse
from distill.served.query import Query

ENDED = {"stop": True, "length": False}
"""Why an answer ends, and whether it is finished."""


def completion(query: Query, data: bytes) -> Completion:
    """What a response says.

    Args:
        query: what was asked.
        data: the JSON that came back.

    Raises:
        BadInput: it is not an answer to what was asked.
    """
    response, choice = _checked(query, data)
    finished = ENDED.get(choice.finish_reason or "")
    if finished is None:
        raise BadInput(
            f"{query.where}: the answer stopped for {choice.finish_reason!r}, neither at its "
            "end nor at its length"
        )
    text = _text(query, choice)
    begun = query.tokens.decode(query.forced_ids) if query.tokens and query.forced_ids else ""
    if not query.k:
        return Completion.to(query.prompt, begun + text, finished=finished)
    released = ReleasedLogprobs(query, choice)
    answer_ids, rows = released.answer(finished, text)
    return Completion.to(
        query.prompt,
        begun + text,
        token_ids=(*query.forced_ids, *answer_ids),
        finished=finished,
        logprobs=likeliest(released.scores(response) + rows, query.k),
    )


def nats(query: Query, data: bytes) -> float:
    """-log p of what was dictated, given the prompt.

    Args:
        query: what was asked, with the text that was dictated.
        data: the JSON that came back.

    Raises:
        BadInput: it is not an answer to what was asked, or the text was not scored.
    """
    response, choice = _checked(query, data)
    rows = ReleasedLogprobs(query, choice).scores(response)
    return -sum(row[token] for row, token in zip(rows, query.forced_ids, strict=True))


def _checked(query: Query, data: bytes) -> tuple[Response, Choice]:
    """The response and its one answer, if it is one to this prompt by this model."""
    where, model = query.where, query.options.model
    response = parse(Response, data, where)
    # transformers says the revision behind the name.
    if response.model not in (None, model) and not str(response.model).startswith(f"{model}@"):
        raise BadInput(f"{where}: answered by another model, {response.model!r}")
    if [choice.index for choice in response.choices] != [0]:
        raise BadInput(f"{where}: {len(response.choices)} answers, where one numbered 0 must be")
    choice = response.choices[0]
    _check_prompt(query, choice.prompt_token_ids or response.prompt_token_ids, response)
    limit = query.answer_limit
    if response.usage and response.usage.completion_tokens > limit:
        raise BadInput(
            f"{where}: {response.usage.completion_tokens} tokens, of at most {limit} that were "
            "asked for"
        )
    return response, choice


def _check_prompt(query: Query, read: list[int] | None, response: Response) -> None:
    """BadInput where the server tells that it read something else than the prompt."""
    if query.prompt_ids is None:
        return
    sent = query.prompt_ids + query.forced_ids
    if read is not None and read != sent:
        raise BadInput(
            f"{query.where}: it answers another prompt, or renders this one otherwise than its "
            "tokenizer does"
        )
    if response.usage and response.usage.prompt_tokens != len(sent):
        raise BadInput(
            f"{query.where}: it read {response.usage.prompt_tokens} tokens of a prompt of "
            f"{len(sent)}: cut, another prompt's, or of another tokenizer or chat template"
        )


def _text(query: Query, choice: Choice) -> str:
    """What was said; reasoning that the server took apart stands before it in its tags again."""
    message = choice.message
    reasoning = (message.reasoning_content or message.reasoning) if message else None
    text = message.content if message else choice.text
    if text is None and not reasoning:
        raise BadInput(f"{query.where}: the response holds no text")
    return (f"<think>{reasoning}</think>" if reasoning else "") + (text or "")
