"""The HTTP of an offer: `/v1/models`, `/v1/chat/completions` and `/v1/completions`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse
from starlette.responses import Response as HttpResponse
from starlette.routing import Route

from distill.completions import BadInput, digest
from distill.served.protocol import (
    ChatRequest,
    CompletionRequest,
    ModelCard,
    Models,
    Request,
    Response,
    encode,
    parse,
)
from experiments.serving.admission import Admission
from experiments.serving.offer import Offer

MOST_BYTES = 2**20  # of one request
BODY_SECONDS = 60  # until all of it is there
GRACE_SECONDS = 5  # after Ctrl-C, for requests that are under way
BACKLOG = 128  # callers that wait for a connection
T = TypeVar("T", bound=Request)


def app(offer: Offer, admission: Admission | None = None) -> Starlette:
    """What answers callers.

    Args:
        offer: the teacher.
        admission: the limits of accounts; None serves everybody.
    """
    cards = encode(Models(data=[ModelCard(id=offer.name)]))

    async def models(_: HttpRequest) -> HttpResponse:
        return HttpResponse(cards, media_type="application/json")

    async def chat(http: HttpRequest) -> HttpResponse:
        return await _answer(http, ChatRequest, offer.chat, admission)

    async def complete(http: HttpRequest) -> HttpResponse:
        return await _answer(http, CompletionRequest, offer.complete, admission)

    return Starlette(
        routes=[
            Route("/v1/models", models),
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/v1/completions", complete, methods=["POST"]),
        ]
    )


async def _answer(
    http: HttpRequest,
    kind: type[T],
    answer: Callable[[T, str], Response],
    admission: Admission | None,
) -> HttpResponse:
    """The response to one request; what is wrong with it is said in one line."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in http.stream():
                body += part
                if len(body) > MOST_BYTES:
                    return _error(413, f"request: more than {MOST_BYTES >> 20} MiB")
    except TimeoutError:
        return _error(408, f"request: took over {BODY_SECONDS} s to come")
    # Accounts are told apart, and no key is kept.
    account = digest(http.headers.get("authorization", ""))[:16]
    try:
        request = parse(kind, bytes(body), "request")
        sent = admission.admit(account, len(body) // 4) if admission else None
        if admission and not sent:
            return _error(429, "this account has reached a limit")
        response = await run_in_threadpool(answer, request, account)
    except BadInput as error:
        return _error(400, str(error))
    if sent and response.usage:
        sent.tokens_in = response.usage.prompt_tokens
        sent.tokens_out = response.usage.completion_tokens
    return HttpResponse(encode(response), media_type="application/json")


def _error(status: int, message: str) -> HttpResponse:
    return JSONResponse({"error": {"message": message}}, status)


class Server:
    """An offer that listens.

    Args:
        served: the application.
        host, port: where; port 0 takes one that is free.

    Raises:
        BadInput: nothing can listen there.
    """

    def __init__(self, served: Starlette, host: str, port: int) -> None:
        config = uvicorn.Config(
            served,
            host=host,
            port=port,
            log_level="critical",
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        try:
            self.socket = config.bind_socket()
        except SystemExit:
            raise BadInput(f"{host}:{port}: nothing can listen there; is it taken?") from None
        self.socket.listen(BACKLOG)  # who asks before the first answer waits
        self.uvicorn = uvicorn.Server(config)

    @property
    def url(self) -> str:
        host, port = self.socket.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"

    def run(self) -> None:
        """Answer until Ctrl-C, or `stop` from another thread."""
        self.uvicorn.run(sockets=[self.socket])

    def stop(self) -> None:
        """Answer what is under way, and then no more."""
        self.uvicorn.should_exit = True
