"""Requests to a model server of the researcher's own: the one file that opens a connection.

It connects to what `address.own_address` allows. No redirect is followed, and no proxy of the
environment is used.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from distill.completions import BadInput
from distill.served.address import check_url, own_address

if TYPE_CHECKING:
    import httpx

MOST_BYTES = 64 * 2**20  # of one response
LONGEST_PAUSE = 30.0  # seconds between two tries
AGAIN = frozenset({429, 500, 502, 503, 504})
"""What a server says that may be otherwise in a moment."""


class Unreachable(BadInput):
    """A server that gave no answer, however often it was asked."""


@dataclass(frozen=True)
class Server:
    """Where a server is, and how patiently it is asked.

    `url` is that of its `/v1`; `hosts` are the researcher's own beside this machine. `timeout`:
    seconds for a whole response. `retries`: further tries after one that failed. `key_variable`
    names the environment variable that holds its API key, which is in no file and no message.
    """

    url: str
    hosts: tuple[str, ...] = ()
    timeout: float = 600.0
    retries: int = 5
    key_variable: str | None = None
    pause: Callable[[float], None] = time.sleep

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection pool to it, which threads may share.

        Raises:
            BadInput: the address is not the researcher's own, or there is no API key.
        """
        import httpx

        if not self.url:
            raise BadInput(
                "served model: it never said what it is asked now, and where it is is not known "
                "here; hand it over with --where MODEL=URL"
            )
        host = check_url(self.url, self.hosts)
        parts = urlsplit(self.url)
        headers = {"accept-encoding": "identity", "host": parts.netloc}
        if self.key_variable:
            headers["authorization"] = f"Bearer {_api_key(self.key_variable)}"
        # The address that was looked at is the one that is connected to: a name may mean another
        # a moment later.
        address = own_address(host, parts.port or (443 if parts.scheme == "https" else 80))
        base = parts._replace(netloc=address).geturl().rstrip("/")
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
        with httpx.Client(
            headers=headers,
            timeout=self.timeout,
            trust_env=False,
            follow_redirects=False,
            limits=limits,
        ) as client:
            yield Connection(self, client, base, host)


def _api_key(variable: str) -> str:
    key = os.environ.get(variable, "")
    if not key or not key.isascii() or not key.isprintable():
        raise BadInput(f"environment variable {variable}: must hold the server's API key")
    return key


@dataclass(frozen=True)
class Connection:
    """A pool of connections to one server. `base` is its address, `host` its name."""

    server: Server
    client: httpx.Client
    base: str
    host: str

    def get(self, path: str) -> bytes:
        """What the server has at a path below its `/v1`.

        Args:
            path: as `/models`.

        Raises:
            Unreachable: it is not there, or fails or is busy every time.
            BadInput: it refuses, or sends too much.
        """
        return self._send("GET", path, None)

    def post(self, path: str, body: bytes) -> bytes:
        """What it answers to a JSON body.

        Args:
            path: as `/completions`.
            body: JSON in UTF-8.

        Raises:
            Unreachable: it is not there, or fails or is busy every time.
            BadInput: it refuses, or sends too much.
        """
        return self._send("POST", path, body)

    def _send(self, method: str, path: str, body: bytes | None) -> bytes:
        import httpx

        where, failure = f"{self.server.url}{path}", ""
        for tries in range(self.server.retries + 1):
            try:
                status, after, data = self._once(method, path, body)
            except (httpx.TransportError, _TooLate) as error:
                failure, after = f"{type(error).__name__.strip('_')}: {error}".strip(": "), ""
            else:
                if status == 200:
                    return data
                failure = f"status {status}: {_line(data)}"
                if status not in AGAIN:
                    raise BadInput(f"{where}: {failure}")
            if tries < self.server.retries:
                self.server.pause(_seconds(after, tries))
        raise Unreachable(
            f"{where}: no answer after {self.server.retries + 1} tries ({failure}); nothing that "
            "it said before is lost"
        )

    def _once(self, method: str, path: str, body: bytes | None) -> tuple[int, str, bytes]:
        """Status, how long to wait by its own word, and body of one response."""
        where, until = f"{self.server.url}{path}", time.monotonic() + self.server.timeout
        headers = {"content-type": "application/json"} if body is not None else {}
        data = bytearray()
        with self.client.stream(
            method,
            self.base + path,
            content=body,
            headers=headers,
            extensions={"sni_hostname": self.host},
        ) as response:
            if response.is_redirect:
                raise BadInput(f"{where}: sends to another place, and no redirect is followed")
            if response.headers.get("content-encoding", "identity") != "identity":
                raise BadInput(f"{where}: sends a compressed body, which was not asked for")
            for part in response.iter_raw():
                data += part
                if len(data) > MOST_BYTES:
                    raise BadInput(f"{where}: sends more than {MOST_BYTES >> 20} MiB")
                if time.monotonic() > until:
                    raise _TooLate(f"took over {self.server.timeout:g} s")
            return response.status_code, response.headers.get("retry-after", ""), bytes(data)


class _TooLate(Exception):
    """A response that goes on for too long."""


def _seconds(after: str, tries: int) -> float:
    """The pause before the next try: what the server asks for, else twice the one before."""
    wished = after.isascii() and after.isdecimal()  # it may be a date, or "\u00b2"
    return min(float(after) if wished else 0.5 * 2**tries, LONGEST_PAUSE)


def _line(data: bytes) -> str:
    """The beginning of an error's body in one line."""
    return " ".join(data[:2000].decode("utf-8", "replace").split())[:200] or "no word why"
