"""Addresses as people write them, and the ones this machine has.

Rules: an `Address` always holds an IP address in canonical text, never a name; looking names up
is the caller's business (`resolve` does it, in the calling thread).
Left to others: which addresses to advertise or try (`serving`, `connecting`).
"""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import Final

from clawchat.core.credential import Address

# Documentation addresses (RFC 5737, RFC 3849): connecting a UDP socket there sends nothing, it
# only asks the routing table which of our addresses leads to the world.
_ELSEWHERE: Final = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


def parse_address(text: str, *, port: int | None = None) -> Address:
    """`1.2.3.4:5`, `[::1]:5`, or without `:5` when `port` is given. Raises `ValueError`."""
    host, colon, digits = text.strip().rpartition(":")
    if port is not None and (not colon or (":" in host and not host.endswith("]"))):
        host, digits = text.strip(), str(port)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host and port is None:
        raise ValueError(f"{text!r}: write IPv6 as [address]:port")
    if not (digits.isascii() and digits.isdigit() and 0 < int(digits) < 65536):
        raise ValueError(f"{text!r} has no port between 1 and 65535")
    return Address(str(ip_address(host)), int(digits))


def resolve(host: str, port: int) -> list[Address]:
    """The UDP addresses of a name or an address. Blocks; raises `OSError` if there are none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    addresses = [Address(str(ip_address(str(row[4][0]))), port) for row in found]
    return list(dict.fromkeys(addresses))


def own_hosts() -> list[str]:
    """The addresses of this machine that lead somewhere, IPv4 first; loopback if none does."""
    hosts: list[str] = []
    for family, elsewhere in _ELSEWHERE:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as asked:
                asked.connect((elsewhere, 9))
                hosts.append(str(ip_address(asked.getsockname()[0])))
        except OSError:
            continue  # no such family, or no route
    return hosts or ["127.0.0.1"]
