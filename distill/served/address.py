"""Which addresses may be connected to: those of this machine, or of hosts that the researcher lists
as theirs; whatever its name says, none that the public internet can reach.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

from distill.completions import BadInput


def check_url(url: str, hosts: Sequence[str]) -> str:
    """The host of a server's address; nothing is looked up.

    Args:
        url: as the researcher wrote it, up to `/v1`.
        hosts: names beside this machine's that are the researcher's own.

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

    Args:
        host: a name or an address.
        port: 1 to 65535.

    Raises:
        BadInput: the name is unknown, or any of its addresses is public or, for this machine's
            own names, another machine's.
    """
    try:
        entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise BadInput(f"{host}: cannot be found ({error.strerror or error})") from None
    addresses = sorted(
        {_address(str(entry[4][0])) for entry in entries}, key=lambda one: one.version
    )
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
