"""Requests to a model server of the researcher's own: the one file that opens a connection.

A server is on this machine, or on a host that the researcher lists as theirs; whatever its name
says, no address that the public internet can reach is connected to. No redirect is followed, and
no proxy of the environment is used.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from distill.completions import BadInput

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
                "here; hand it over with --private MODEL=URL"
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


def check_url(url: str, hosts: Sequence[str]) -> str:
    """The host of a server's address; nothing is looked up.

    Raises:
        BadInput: it is no address of a server, or of a host that is not among the researcher's own.
    """
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").casefold(), parts.port
    except ValueError as error:
        raise BadInput(f"{url}: not an address ({error})") from None
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise BadInput(f"{url}: must be like http://127.0.0.1:8000/v1")
    if parts.username is not None or parts.query or parts.fragment:
        raise BadInput(
            f"{url}: must hold no user, no query and no fragment; a key is named by its "
            "environment variable"
        )
    if not _is_loopback(host) and host not in {name.casefold() for name in hosts}:
        raise BadInput(
            f"{url}: {host} is not this machine; a server elsewhere must be your own, and its host "
            f"listed in hosts (listed: {', '.join(hosts) or 'none'})"
        )
    return host


def own_address(host: str, port: int) -> str:
    """`address:port` of a host that is not reachable from the public internet.

    Raises:
        BadInput: the name is unknown, or any of its addresses is public or, for this machine's
            own names, another machine's.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise BadInput(f"{host}: cannot be found ({error.strerror or error})") from None
    addresses = sorted({_address(str(one[4][0])) for one in found}, key=lambda one: one.version)
    for address in addresses:
        if address.is_global or (_is_loopback(host) and not address.is_loopback):
            raise BadInput(
                f"{host}: is at {address}, which is not your own; a server elsewhere is reached "
                "through a tunnel that ends on this machine"
            )
    first = addresses[0]
    return f"[{first}]:{port}" if first.version == 6 else f"{first}:{port}"


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address


def _is_loopback(host: str) -> bool:
    try:
        return _address(host).is_loopback
    except ValueError:
        return host == "localhost"


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
        """What the server has at a path below its `/v1`."""
        return self._send("GET", path, None)

    def post(self, path: str, body: bytes) -> bytes:
        """What it answers to a JSON body.

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
    own = float(after) if after.isdigit() else 0.5 * 2**tries
    return min(own, LONGEST_PAUSE)


def _line(data: bytes) -> str:
    """The beginning of an error's body in one line."""
    return " ".join(data[:2000].decode("utf-8", "replace").split())[:200] or "no word why"
