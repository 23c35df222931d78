"""Teachers behind a server: a whole response with one thing wrong in it, or a server that is down,
stops in its middle, goes on for ever, or speaks no HTTP. Each is one line, and none is written
down.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import strategies as st

from distill.completions import Interface, Prompt
from distill.served import connection
from distill.served.connection import Server
from distill.served.model import ServedModel
from distill.served.protocol import ChatRequest, encode, parse
from distill.served.query import Query, TokenTable
from distill.served.request_options import RequestOptions
from distill.served.response_log import ResponseLog
from tests.distill.served.local_servers import TEACHER, offer, tiny
from tests.fuzz import Kind, Outcome, call
from tests.fuzz.kinds.formats import put

OPTIONS = RequestOptions(TEACHER, max_new_tokens=6, logprobs=3, token_ids=True)
PROMPT, OTHER = Prompt("p", "12+34="), Prompt("q", "56+78=")
TOP = Interface("top_k", 3)
MOST_BYTES = 1 << 16
SECONDS = 0.5  # for a whole response
NO_NUMBER = [None, "a", [], {}, math.nan, math.inf, -math.inf]
FAULTS: dict[str, list[Any]] = {
    "model": ["another", 1, [], "a teacher "],
    "choices": [None, [], {}, [1], "a"],
    "choices.0": [None, 1, [], {"index": 0, "finish_reason": "stop"}],
    "choices.0.index": [1, -1, None, "a", 1.5],
    "choices.0.finish_reason": [None, "", "content_filter", "tool_calls", 1, []],
    "choices.0.message": [None, 1, [], {}, {"content": None}, {"content": 1}],
    "choices.0.message.content": [None, 1, [], "", "another text", "\u2028"],
    "choices.0.logprobs": [None, 1, [], {}, {"content": []}, {"content": None}],
    "choices.0.logprobs.content": [None, [], [1], [None], {}],
    "choices.0.logprobs.content.0": [None, 1, [], {}],
    "choices.0.logprobs.content.0.id": [-1, 10**6, 10**12, 1.5, "3"],
    "choices.0.logprobs.content.0.token": [None, 1, []],
    "choices.0.logprobs.content.0.logprob": [*NO_NUMBER, 0.5, -1e300],
    "choices.0.logprobs.content.0.top_logprobs": [None, [], {}, [1], "a"],
    "choices.0.logprobs.content.0.top_logprobs.0.id": [-1, 10**6, "a", 1.5],
    "choices.0.logprobs.content.0.top_logprobs.0.logprob": [*NO_NUMBER, 1, 700.0],
    "choices.0.prompt_token_ids": [[0], [-1], "a", [1.5], {}],
    "usage": [1, [], "a"],
    "usage.prompt_tokens": [0, -1, 99, None, "a", 1.5],
    "usage.completion_tokens": [-1, 99, None, "a", 1.5],
}
ALL = [(place, value) for place, values in FAULTS.items() for value in values]
SERVERS = {
    "down": [b""],
    "silent": [b""],
    "no HTTP": [
        b"\x00\xff\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/9 200 OK\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
    ],
    "status": [b"200", b"204", b"301", b"401", b"404", b"429", b"500", b"503", b"999"],
    "retry": [b"\xb2", b"-1", b"1e9", b"nan", b"9" * 400, b"Wed, 21 Oct 2015 07:28:00 GMT"],
    "body": [b"", b"<html>", b"[]", b"null", b"\xff\xfe", b"[" * 9999, b"9" * 5000, b'{"choices":'],
    "cut": [b"0", b"0.3", b"0.9", b"0.999"],
    "endless": [b" ", b'{"choices": [', b"0" * 4096],
    "dripping": [b" ", b"{"],
    "huge": [b" ", b"x"],
    "compressed": [b"gzip", b"br", b"deflate"],
    "another prompt": [b""],
}
CASE = st.sampled_from(ALL).map(lambda one: ("json", one)) | st.sampled_from(
    [(kind, detail) for kind, details in SERVERS.items() for detail in details]
)


@functools.cache
def answers() -> tuple[Any, dict[str, bytes]]:
    """A model, and its whole response to each prompt."""
    model = tiny(max_new_tokens=6)
    teacher, tokens = offer(model), TokenTable(model.tokenizer)
    responses = {}
    for prompt in (PROMPT, OTHER):
        query = Query(OPTIONS, tokens, prompt, k=OPTIONS.logprobs)
        request = parse(ChatRequest, query.body, "request")
        responses[prompt.id] = encode(teacher.chat(request, "someone"))
    return model, responses


def attempt(case: Any, folder: Path) -> Outcome:
    model, _ = answers()
    with serving(replier(*case), down=case[0] == "down") as url:
        server = Server(url, timeout=SECONDS, retries=1, pause=lambda _: None)
        log = ResponseLog(folder / "log")
        served = ServedModel(server, OPTIONS, log, TokenTable(model.tokenizer))
        with mock.patch.object(connection, "MOST_BYTES", MOST_BYTES):
            outcome = call(lambda: served.generate([PROMPT], seed=0, interface=TOP))
    if outcome.code == 2 and len(log):
        return Outcome(2, "", outcome.error, "written down: a response that was refused")
    return outcome


def fine(case: Any, folder: Path) -> str:
    return f"taken in silence: {str(case)[:200]}" if case != WHOLE else ""


WHOLE = ("status", b"200")
"""The one case in which nothing is wrong."""


def replier(kind: str, detail: Any) -> Callable[[socket.socket], None]:
    """What is sent on a connection once its request is there."""
    whole = answers()[1][PROMPT.id]
    simple = {
        "json": lambda: http(edited(whole, detail)),
        "no HTTP": lambda: detail,
        "status": lambda: http(whole, status=detail),
        "retry": lambda: http(b"", b"503", b"retry-after: " + detail + b"\r\n"),
        "body": lambda: http(detail),
        "huge": lambda: http(detail * (2 * MOST_BYTES)),
        "compressed": lambda: http(whole, more=b"content-encoding: " + detail + b"\r\n"),
        "another prompt": lambda: http(answers()[1][OTHER.id]),
    }
    if kind in simple:
        return lambda there: there.sendall(simple[kind]())
    if kind == "cut":
        return lambda there: there.sendall(http(whole)[: int(float(detail) * len(http(whole)))])
    if kind == "silent":
        return lambda there: time.sleep(2 * SECONDS)
    return lambda there: go_on(there, detail, pause=0.05 if kind == "dripping" else 0)


def edited(whole: bytes, change: tuple[str, Any]) -> bytes:
    """The response with a value at a place."""
    return json.dumps(put(copy.deepcopy(json.loads(whole)), *change)).encode()


def http(body: bytes, status: bytes = b"200", more: bytes = b"") -> bytes:
    head = b"HTTP/1.1 " + status + b" Reason\r\ncontent-type: application/json\r\n" + more
    return head + b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body) + body


def go_on(there: socket.socket, part: bytes, pause: float) -> None:
    """A body without an end, until the caller hangs up."""
    there.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    until = time.monotonic() + 60
    while time.monotonic() < until:
        there.sendall(b"%x\r\n%s\r\n" % (len(part), part))
        time.sleep(pause)


@contextlib.contextmanager
def serving(reply: Callable[[socket.socket], None], down: bool) -> Iterator[str]:
    """The `/v1` of a server on this machine that answers every request alike."""
    listening = socket.create_server(("127.0.0.1", 0))
    address = listening.getsockname()[1]
    if down:
        listening.close()

    def answer(there: socket.socket) -> None:
        with there, contextlib.suppress(OSError):
            heard(there)
            reply(there)

    def accept() -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                there, _ = listening.accept()
                threading.Thread(target=answer, args=[there], daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{address}/v1"
    finally:
        with contextlib.suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def heard(there: socket.socket) -> None:
    """Read one request to its end, or what comes after is a reset and no response."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += there.recv(1 << 16)
    head, _, body = data.partition(b"\r\n\r\n")
    size = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
    while len(body) < size:
        body += there.recv(1 << 16)


KIND = Kind(CASE, attempt, fine, few=12, sockets=True)
