"""What each side tells the other about its limits, inside the handshake (PROTOCOL.md "Parameters").

A sequence of `id varint | length varint | value`, ids strictly ascending, each value one varint.

Rules: all four are required; unknown ids are skipped, so that later versions can add some.
Left to others: choosing limits (`core.config`), keeping to them (`core.streams`).
"""

from __future__ import annotations

from typing import Final

from attrs import astuple, frozen

from clawchat.core.wire import varint
from clawchat.errors import Drop, Malformed

PARAMETERS_SIZE_MAX: Final = 256
DATAGRAM_SIZE_MIN: Final = 1024  # what every peer must take
STREAMS_MAX: Final = 1 << 60  # a stream id has two bits below its sequence number


@frozen
class Limits:
    """What one side accepts: bytes for all streams, bytes for each, streams, bytes in a datagram.

    `max_streams` n allows the peer the sequence numbers below n; `max_datagram` is the largest
    UDP payload this side takes.
    """

    max_data: int
    max_stream: int
    max_streams: int
    max_datagram: int


_IDS: Final = (1, 2, 3, 4)  # in the order of the fields of `Limits`
_COOKIE: Final = 5
COOKIE_SIZE_MAX: Final = 64


def encode_parameters(limits: Limits, cookie: bytes = b"") -> bytes:
    """Raises `ValueError` when a limit cannot be written or the peer would refuse it.

    `cookie` repeats what a REFUSAL gave, at most 64 bytes; empty, it is left out.
    """
    if len(cookie) > COOKIE_SIZE_MAX:
        raise ValueError("a cookie has at most 64 bytes")
    if not _usable(limits):
        raise ValueError("max_datagram is at least 1024, max_streams at most 2^60")
    parts = []
    for identifier, number in zip(_IDS, astuple(limits), strict=True):
        value = varint.encode(number)
        parts.append(bytes((identifier, len(value))) + value)
    if cookie:
        parts.append(bytes((_COOKIE,)) + varint.encode(len(cookie)) + cookie)
    return b"".join(parts)


def cookie_of(data: bytes) -> bytes:
    """The cookie in parameters that `decode_parameters` took; empty when there is none."""
    at = 0
    while at < len(data):
        identifier, at = varint.decode(data, at)
        length, at = varint.decode(data, at)
        if identifier == _COOKIE:
            return data[at : at + length]
        at += length
    return b""


def decode_parameters(data: bytes) -> Limits:
    """Raises `Malformed(MALFORMED_PARAMETERS)`."""
    if len(data) > PARAMETERS_SIZE_MAX:
        raise Malformed(Drop.MALFORMED_PARAMETERS)
    try:
        found = _numbers(data)
    except Malformed:
        raise Malformed(Drop.MALFORMED_PARAMETERS) from None
    try:
        limits = Limits(*(found[identifier] for identifier in _IDS))
    except KeyError:
        raise Malformed(Drop.MALFORMED_PARAMETERS) from None
    if not _usable(limits):
        raise Malformed(Drop.MALFORMED_PARAMETERS)
    return limits


def _numbers(data: bytes) -> dict[int, int]:
    found: dict[int, int] = {}
    at, last = 0, -1
    while at < len(data):
        identifier, at = varint.decode(data, at)
        length, at = varint.decode(data, at)
        end = at + length
        if identifier <= last or end > len(data):
            raise Malformed(Drop.MALFORMED_PARAMETERS)
        if identifier in _IDS:
            found[identifier], read_to = varint.decode(data[:end], at)
            if read_to != end:
                raise Malformed(Drop.MALFORMED_PARAMETERS)
        elif identifier == _COOKIE and length > COOKIE_SIZE_MAX:
            raise Malformed(Drop.MALFORMED_PARAMETERS)
        last, at = identifier, end
    return found


def _usable(limits: Limits) -> bool:
    return limits.max_datagram >= DATAGRAM_SIZE_MIN and limits.max_streams <= STREAMS_MAX
