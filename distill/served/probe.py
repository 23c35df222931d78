"""Whether a server is there, has the model, and does what its settings say, before it is asked in
earnest.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from distill.completions import BadInput, Prompt
from distill.served import response
from distill.served.connection import Connection
from distill.served.model import ServedModel
from distill.served.protocol import Models, parse
from distill.served.query import Query, ScoringQuery

SHORT = 16  # tokens of the answers that tell whether a server mixes prompts up


def probe(model: ServedModel, prompts: Sequence[Prompt]) -> None:
    """Find out whether the server does what the settings of its model promise.

    Args:
        model: what is tried.
        prompts: a few different ones; what it says to them is not written down.

    Raises:
        BadInput: it does not.
    """
    with model.server.connect() as connection:
        _check_name(model, connection)
        for query in _queries(model, prompts):
            response.completion(query, query.send(connection))
        if model.options.capabilities.surprisal:
            scored = ScoringQuery(model.options, model.tokens, prompts[0], text=prompts[0].text)
            response.nats(scored, scored.send(connection))
        _check_order(model, connection, prompts)


def _queries(model: ServedModel, prompts: Sequence[Prompt]) -> list[Query]:
    """Each prompt, and where an answer can be begun, the first with a beginning."""
    questions = list(prompts)
    if model.options.capabilities.prefill:
        questions.append(replace(prompts[0], begin=prompts[0].text))
    return [Query(model.options, model.tokens, one, k=model.options.logprobs) for one in questions]


def _check_name(model: ServedModel, connection: Connection) -> None:
    where = f"{model.server.url}/models"
    names = [card.id for card in parse(Models, connection.get("/models"), where).data]
    if model.options.model not in names:
        raise BadInput(
            f"{where}: has no model {model.options.model!r} (there are: "
            f"{', '.join(names[:20]) or 'none'})"
        )


def _check_order(model: ServedModel, connection: Connection, prompts: Sequence[Prompt]) -> None:
    """BadInput where prompts that are asked at once get each other's answers."""
    greedy = replace(model.options, temperature=0.0, max_new_tokens=SHORT)
    queries = [Query(greedy, model.tokens, one) for one in prompts]

    def ask(query: Query) -> str:
        return response.completion(query, query.send(connection)).text

    alone = [ask(query) for query in queries]
    with ThreadPoolExecutor(len(queries)) as pool:
        together = list(pool.map(ask, queries))
    for place, text in enumerate(together):
        if text != alone[place] and text in alone:
            raise BadInput(
                f"{model.server.url}: answers one prompt with what it says to another when it is "
                "asked both at once"
            )
