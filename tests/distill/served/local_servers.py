"""Real servers of the protocol on this machine, in threads of the test: an honest one, and ones
that do one thing wrong.
"""

import contextlib
import json
import threading

from distill.completions import Interface
from distill.embedded import character_tokenizer, llama
from distill.models import LanguageModel
from experiments.serving.app import Server, app
from experiments.serving.offer import Offer

TEACHER = "a teacher"


def tiny(seed=0, alphabet="0123456789+=# ", **more):
    """A random network with a token a character."""
    tokenizer = character_tokenizer(alphabet)
    network = llama(tokenizer, hidden_size=16, num_layers=1, num_heads=2, max_length=64, seed=seed)
    return LanguageModel(network, tokenizer, **{"max_new_tokens": 8} | more)


def offer(model, interface=None, prefill=True):
    return Offer(TEACHER, model, interface or Interface("top_k", 5), prefill, model.temperature)


@contextlib.contextmanager
def serving(application):
    """The `/v1` of an application that listens on this machine."""
    server = Server(application, "127.0.0.1", 0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield server.url
    finally:
        server.stop()
        thread.join(10)
        server.socket.close()


class Counting:
    """An application that counts what it is asked, and may answer otherwise than it would.

    Args:
        honest: what answers.
        change: from (path, request, status, response) to what is sent: (status, headers, body);
            a body of None is cut off in its middle.
    """

    def __init__(self, honest, change=None):
        self.honest, self.change, self.requests = honest, change, []

    async def __call__(self, scope, receive, send):
        messages, request = [], bytearray()

        async def hear():
            message = await receive()
            request.extend(message.get("body", b""))
            return message

        async def keep(message):
            messages.append(message)

        await self.honest(scope, hear, keep)
        self.requests.append((scope["path"], bytes(request), dict(scope["headers"])))
        status = messages[0]["status"]
        body = b"".join(message.get("body", b"") for message in messages[1:])
        sent = self.change and self.change(scope["path"], bytes(request), status, body)
        status, headers, body = sent or (status, {}, body)
        cut = body is None
        headers = {"content-type": "application/json"} | headers
        if cut:
            body, headers["content-length"] = b'{"choices": [', "1000"
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": body, "more_body": cut})
        if cut:
            raise ConnectionError("cut off")


def edited(edit, path="/v1/chat/completions"):
    """A change that edits the JSON of the responses at a path."""

    def change(where, request, status, body):
        if where != path or status != 200:
            return None
        response = json.loads(body)
        response = edit(response, json.loads(request or b"{}")) or response
        return status, {}, json.dumps(response).encode()

    return change


def application(model, **more):
    """What answers for a model."""
    return app(offer(model, **more))
