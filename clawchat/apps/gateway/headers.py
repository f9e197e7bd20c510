"""Which header fields pass the gateway, and which it sets.

Rules: hop-by-hop fields end here (RFC 9110 7.6.1), framing is made anew from what was parsed, and
no field of a peer can look like one of the gateway's own.
Left to others: parsing and writing HTTP (h11).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias
from urllib.parse import quote

Headers: TypeAlias = list[tuple[bytes, bytes]]

HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    }
)
SET_HERE: Final = frozenset({b"host", b"content-length", b"expect"})
RESERVED: Final = b"clawchat-"
"""Only the gateway says these. `_` counts as `-`: some servers take one for the other."""


def request_headers(
    received: Iterable[tuple[bytes, bytes]], *, host: str, device: str, name: str
) -> Headers:
    """What the agent gets: the peer's end-to-end fields, our framing, and who is calling."""
    received = list(received)
    passed = [
        (field, value)
        for field, value in _end_to_end(received)
        if field not in SET_HERE and not field.replace(b"_", b"-").startswith(RESERVED)
    ]
    who = [(b"clawchat-device", device.encode())]
    if name:
        who.append((b"clawchat-device-name", quote(name, safe=" ").encode()))
    return [
        (b"host", host.encode()),
        *passed,
        *_framing(received),
        *who,
        (b"connection", b"close"),
    ]


def response_headers(received: Iterable[tuple[bytes, bytes]]) -> Headers:
    """What the peer gets: the agent's end-to-end fields and our framing."""
    received = list(received)
    passed = [(field, value) for field, value in _end_to_end(received) if field not in SET_HERE]
    return [*passed, *_framing(received), (b"connection", b"close")]


def prefers_shaped(received: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether the peer asks that sizes and times of its answer's packets tell nothing."""
    return any(
        b"shaped" in [one.strip().lower() for one in value.split(b",")]
        for field, value in received
        if field == b"prefer"
    )


def _end_to_end(received: Headers) -> Headers:
    named = {
        option.strip().lower()
        for field, value in received
        if field == b"connection"
        for option in value.split(b",")
    }
    return [
        (field, value)
        for field, value in received
        if field not in HOP_BY_HOP and field not in named
    ]


def _framing(received: Headers) -> Headers:
    """The framing that h11 saw: chunked wins over a length, as RFC 9112 6.3 says."""
    fields = dict(received)
    if b"transfer-encoding" in fields:
        return [(b"transfer-encoding", b"chunked")]
    if b"content-length" in fields:
        return [(b"content-length", fields[b"content-length"])]
    return []
