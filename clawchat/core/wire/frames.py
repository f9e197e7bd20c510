"""The frames inside a packet (PROTOCOL.md "Frames").

Rules: a payload is parsed whole before any of it is acted on; a frame type is one byte; lengths,
counts and sums are checked here, so that later code adds and compares without asking. STREAM and
ACK are what nearly every packet holds: their values are light tuples, and a payload that is one
STREAM frame takes a path of its own.
Left to others: whether a frame is allowed now (`core.link`), what is in a stream (`core.streams`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum, unique
from struct import Struct
from typing import Final, NamedTuple, TypeAlias

from attrs import frozen

from clawchat.core.events import Buffer
from clawchat.core.wire import varint
from clawchat.core.wire.parameters import STREAMS_MAX
from clawchat.errors import Drop, Malformed

ACK_RANGES_MAX: Final = 256  # ranges after the first that a receiver accepts
ACK_RANGES_SENT_MAX: Final = 32  # ranges after the first that a sender writes
REASON_SIZE_MAX: Final = 256
PATH_TOKEN_SIZE: Final = 8


@unique
class FrameType(IntEnum):
    """The first byte of a frame. STREAM is 0x08 with flag bits below."""

    PADDING = 0x00
    PING = 0x01
    ACK = 0x02
    STREAM = 0x08
    MAX_DATA = 0x10
    MAX_STREAM = 0x11
    MAX_STREAMS = 0x12
    RESET = 0x14
    STOP = 0x15
    PATH_CHALLENGE = 0x1A
    PATH_RESPONSE = 0x1B
    CLOSE = 0x1C
    COMPROMISED = 0x1D
    COMPROMISED_ACK = 0x1E
    PUNCH = 0x1F  # reserved: refused until a later version uses it
    DATAGRAM = 0x30
    DATAGRAM_WITH_LENGTH = 0x31


_OFFSET: Final = Struct(">I")
_OFFSET_AT: Final = _OFFSET.unpack_from
_OFFSET_FORM: Final = 0x8000_0000  # a varint of 4 bytes
_OFFSET_END: Final = 1 << 30
_new_tuple: Final = tuple.__new__  # half the price of calling a NamedTuple class

SCOPE_EVERYTHING: Final = 0x01  # of COMPROMISED: every pairing of the sender, not this one alone

STREAM_FIN: Final = 0x01
STREAM_LENGTH: Final = 0x02
STREAM_OFFSET: Final = 0x04


class Stream(NamedTuple):
    """Bytes of a stream from `offset` on; `fin` says that it ends with them."""

    stream: int
    offset: int
    data: bytes
    fin: bool


class Ack(NamedTuple):
    """Received packet numbers as (low, high) ranges, both included, newest first, with gaps.

    `delay_us`: how long the newest one waited for this acknowledgement.
    """

    ranges: tuple[tuple[int, int], ...]
    delay_us: int


@frozen
class Ping:
    """Asks for an acknowledgement."""


@frozen
class MaxData:
    """All streams together may carry `limit` bytes since the start of the link."""

    limit: int


@frozen
class MaxStream:
    """`stream` may carry `limit` bytes."""

    stream: int
    limit: int


@frozen
class MaxStreams:
    """The peer may open streams with sequence numbers below `limit`."""

    limit: int


@frozen
class Reset:
    """The sender gave up its side of `stream`, after `final_size` bytes."""

    stream: int
    code: int
    final_size: int


@frozen
class Stop:
    """The sender wants no more of `stream`."""

    stream: int
    code: int


@frozen
class PathChallenge:
    """To be answered with the same 8 bytes on the same path."""

    token: bytes


@frozen
class PathResponse:
    """The answer to a challenge."""

    token: bytes


@frozen
class Close:
    """The link is over. `code` is a `CloseCode` where this version knows it."""

    code: int
    reason: str


@frozen
class Compromised:
    """This pairing must not be used any more: destroy it.

    `reason` is a `CompromiseReason` where this version knows it; bits of `scope` that it does not
    know mean nothing.
    """

    reason: int
    scope: int


@frozen
class CompromisedAck:
    """COMPROMISED was understood, and is obeyed."""


@frozen
class Datagram:
    """An unreliable datagram."""

    data: bytes


Frame: TypeAlias = (
    Stream
    | Ack
    | Ping
    | MaxData
    | MaxStream
    | MaxStreams
    | Reset
    | Stop
    | PathChallenge
    | PathResponse
    | Close
    | Compromised
    | CompromisedAck
    | Datagram
)


# --- reading ----------------------------------------------------------------------------------


def lone_stream(payload: bytes) -> Stream | None:
    """The STREAM frame that fills `payload` to its end, or None when it begins otherwise.

    Most packets of a transfer are this one frame. Raises `Malformed`.
    """
    if not payload or payload[0] & 0xFA != 0x08:
        return None
    return _stream_to_end(payload)


def parse_frames(payload: bytes) -> list[Frame]:
    """The frames of a packet in order, padding left out.

    Raises `Malformed`: MALFORMED_FRAME or MALFORMED_VARINT. An empty payload is malformed; one
    of padding alone is not.
    """
    if not payload:
        raise Malformed(Drop.MALFORMED_FRAME)
    if payload[0] & 0xFA == 0x08:
        return [_stream_to_end(payload)]
    frames: list[Frame] = []
    at, end = 0, len(payload)
    while at < end:
        kind = payload[at]
        if kind == 0:
            at = end - len(payload[at:].lstrip(b"\0"))
            continue
        parse = _PARSERS.get(kind)
        if parse is None:
            raise Malformed(Drop.MALFORMED_FRAME)
        frame, at = parse(payload, at)
        frames.append(frame)
    return frames


def _stream_to_end(payload: bytes) -> Stream:
    """A STREAM frame without a length: first as `stream_payloads` writes it, then in general."""
    kind = payload[0]
    if kind >= 0x0C and len(payload) >= 7 and payload[1] < 0x80:
        stream, at = payload[1], 2
        if stream >= 0x40:
            stream, at = (stream & 0x3F) << 8 | payload[2], 3
        if payload[at] & 0xC0 == 0x80:
            offset = _OFFSET_AT(payload, at)[0] & 0x3FFF_FFFF
            return _new_tuple(Stream, (stream, offset, payload[at + 4 :], kind == 0x0D))
    return _parse_stream(payload, 0)[0]


def _parse_stream(payload: bytes, at: int) -> tuple[Stream, int]:
    kind = payload[at]
    stream, at = varint.decode(payload, at + 1)
    offset = 0
    if kind & STREAM_OFFSET:
        offset, at = varint.decode(payload, at)
    end = len(payload)
    if kind & STREAM_LENGTH:
        length, at = varint.decode(payload, at)
        if length > end - at:
            raise Malformed(Drop.MALFORMED_FRAME)
        end = at + length
    if offset + end - at > varint.MAX:
        raise Malformed(Drop.MALFORMED_FRAME)
    return Stream(stream, offset, payload[at:end], kind & STREAM_FIN != 0), end


def _parse_ping(payload: bytes, at: int) -> tuple[Ping, int]:
    return Ping(), at + 1


def _parse_ack(payload: bytes, at: int) -> tuple[Ack, int]:
    high, at = varint.decode(payload, at + 1)
    delay_us, at = varint.decode(payload, at)
    count, at = varint.decode(payload, at)
    if count > ACK_RANGES_MAX:
        raise Malformed(Drop.MALFORMED_FRAME)
    length, at = varint.decode(payload, at)
    low = high - length
    ranges = [(low, high)]
    for _ in range(count):
        gap, at = varint.decode(payload, at)
        length, at = varint.decode(payload, at)
        high = low - gap - 2
        low = high - length
        ranges.append((low, high))
    if low < 0:  # the lowest comes last, so one test covers every range
        raise Malformed(Drop.MALFORMED_FRAME)
    return Ack(tuple(ranges), delay_us), at


def _parse_max_data(payload: bytes, at: int) -> tuple[MaxData, int]:
    limit, at = varint.decode(payload, at + 1)
    return MaxData(limit), at


def _parse_max_stream(payload: bytes, at: int) -> tuple[MaxStream, int]:
    stream, at = varint.decode(payload, at + 1)
    limit, at = varint.decode(payload, at)
    return MaxStream(stream, limit), at


def _parse_max_streams(payload: bytes, at: int) -> tuple[MaxStreams, int]:
    limit, at = varint.decode(payload, at + 1)
    if limit > STREAMS_MAX:
        raise Malformed(Drop.MALFORMED_FRAME)
    return MaxStreams(limit), at


def _parse_reset(payload: bytes, at: int) -> tuple[Reset, int]:
    stream, at = varint.decode(payload, at + 1)
    code, at = varint.decode(payload, at)
    final_size, at = varint.decode(payload, at)
    return Reset(stream, code, final_size), at


def _parse_stop(payload: bytes, at: int) -> tuple[Stop, int]:
    stream, at = varint.decode(payload, at + 1)
    code, at = varint.decode(payload, at)
    return Stop(stream, code), at


def _parse_path_challenge(payload: bytes, at: int) -> tuple[PathChallenge, int]:
    token, at = _take(payload, at + 1, PATH_TOKEN_SIZE)
    return PathChallenge(token), at


def _parse_path_response(payload: bytes, at: int) -> tuple[PathResponse, int]:
    token, at = _take(payload, at + 1, PATH_TOKEN_SIZE)
    return PathResponse(token), at


def _parse_close(payload: bytes, at: int) -> tuple[Close, int]:
    code, at = varint.decode(payload, at + 1)
    length, at = varint.decode(payload, at)
    if length > REASON_SIZE_MAX:
        raise Malformed(Drop.MALFORMED_FRAME)
    raw, at = _take(payload, at, length)
    try:
        return Close(code, raw.decode()), at
    except UnicodeDecodeError:
        raise Malformed(Drop.MALFORMED_FRAME) from None


def _parse_compromised(payload: bytes, at: int) -> tuple[Compromised, int]:
    reason, at = varint.decode(payload, at + 1)
    scope, at = varint.decode(payload, at)
    return Compromised(reason, scope), at


def _parse_compromised_ack(payload: bytes, at: int) -> tuple[CompromisedAck, int]:
    return CompromisedAck(), at + 1


def _parse_datagram(payload: bytes, at: int) -> tuple[Datagram, int]:
    return Datagram(payload[at + 1 :]), len(payload)


def _parse_datagram_with_length(payload: bytes, at: int) -> tuple[Datagram, int]:
    length, at = varint.decode(payload, at + 1)
    data, at = _take(payload, at, length)
    return Datagram(data), at


def _take(payload: bytes, at: int, length: int) -> tuple[bytes, int]:
    end = at + length
    if end > len(payload):
        raise Malformed(Drop.MALFORMED_FRAME)
    return payload[at:end], end


_Parser: TypeAlias = Callable[[bytes, int], tuple[Frame, int]]
_PARSERS: Final[dict[int, _Parser]] = {
    FrameType.PING: _parse_ping,
    FrameType.ACK: _parse_ack,
    **dict.fromkeys(range(FrameType.STREAM, FrameType.STREAM + 8), _parse_stream),
    FrameType.MAX_DATA: _parse_max_data,
    FrameType.MAX_STREAM: _parse_max_stream,
    FrameType.MAX_STREAMS: _parse_max_streams,
    FrameType.RESET: _parse_reset,
    FrameType.STOP: _parse_stop,
    FrameType.PATH_CHALLENGE: _parse_path_challenge,
    FrameType.PATH_RESPONSE: _parse_path_response,
    FrameType.CLOSE: _parse_close,
    FrameType.COMPROMISED: _parse_compromised,
    FrameType.COMPROMISED_ACK: _parse_compromised_ack,
    FrameType.DATAGRAM: _parse_datagram,
    FrameType.DATAGRAM_WITH_LENGTH: _parse_datagram_with_length,
}


# --- writing ----------------------------------------------------------------------------------

PING: Final = bytes((FrameType.PING,))
COMPROMISED_ACK: Final = bytes((FrameType.COMPROMISED_ACK,))


def padding(size: int) -> bytes:
    """`size` bytes of PADDING frames."""
    return bytes(size)


def stream_head(stream: int, offset: int, *, fin: bool, length: int | None = None) -> bytes:
    """What stands before a STREAM frame's data; without `length` it fills the packet.

    The offset takes 4 bytes (8 from 2^30 on), so that the packets of one run are equally long.
    """
    kind = FrameType.STREAM | STREAM_OFFSET | (STREAM_FIN if fin else 0)
    where = varint.encode(stream) + varint.encode(offset, 4)
    if length is None:
        return bytes((kind,)) + where
    return bytes((kind | STREAM_LENGTH,)) + where + varint.encode(length)


def stream_payloads(
    stream: int, offset: int, data: Buffer, chunk: int, *, fin: bool
) -> list[bytes]:
    """`data` as packet payloads, each one STREAM frame with `chunk` bytes of it, the last fewer.

    `fin` stands on the last. They are equally long as long as `offset` stays below or above 2^30.
    An empty `data` is one frame.
    """
    head = bytes((FrameType.STREAM | STREAM_OFFSET,)) + varint.encode(stream)
    encode_offset = _OFFSET.pack
    size = len(data)
    if offset + size > _OFFSET_END:
        payloads = [
            head + varint.encode(offset + at, 4) + data[at : at + chunk]
            for at in range(0, size, chunk)
        ]
    else:
        payloads = [
            head + encode_offset(offset + at | _OFFSET_FORM) + data[at : at + chunk]
            for at in range(0, size, chunk)
        ]
    if not payloads:
        return [stream_head(stream, offset, fin=fin)]
    if fin:
        payloads[-1] = bytes((payloads[-1][0] | STREAM_FIN,)) + payloads[-1][1:]
    return payloads


def encode_stream(stream: int, offset: int, data: bytes, *, fin: bool) -> bytes:
    """A STREAM frame with its length, so that other frames can follow."""
    return stream_head(stream, offset, fin=fin, length=len(data)) + data


def encode_ack(ranges: Sequence[tuple[int, int]], delay_us: int) -> bytes:
    """`ranges` as in `Ack`: newest first; what exceeds the limit for senders is left out."""
    low, high = ranges[0]
    rest = ranges[1 : 1 + ACK_RANGES_SENT_MAX]
    encode = varint.encode
    head = (high, delay_us, len(rest), high - low)
    parts = [b"\x02", *map(encode, head)]
    for next_low, next_high in rest:
        parts.append(encode(low - next_high - 2))
        parts.append(encode(next_high - next_low))
        low = next_low
    return b"".join(parts)


def encode_max_data(limit: int) -> bytes:
    return b"\x10" + varint.encode(limit)


def encode_max_stream(stream: int, limit: int) -> bytes:
    return b"\x11" + varint.encode(stream) + varint.encode(limit)


def encode_max_streams(limit: int) -> bytes:
    return b"\x12" + varint.encode(limit)


def encode_reset(stream: int, code: int, final_size: int) -> bytes:
    return b"\x14" + varint.encode(stream) + varint.encode(code) + varint.encode(final_size)


def encode_stop(stream: int, code: int) -> bytes:
    return b"\x15" + varint.encode(stream) + varint.encode(code)


def encode_path_challenge(token: bytes) -> bytes:
    """Raises `ValueError` unless `token` has 8 bytes."""
    return b"\x1a" + _path_token(token)


def encode_path_response(token: bytes) -> bytes:
    """Raises `ValueError` unless `token` has 8 bytes."""
    return b"\x1b" + _path_token(token)


def encode_close(code: int, reason: str) -> bytes:
    """A reason that is too long is cut at a character."""
    raw = reason.encode(errors="replace")
    if len(raw) > REASON_SIZE_MAX:
        raw = raw[:REASON_SIZE_MAX].decode(errors="ignore").encode()
    return b"\x1c" + varint.encode(code) + varint.encode(len(raw)) + raw


def encode_compromised(reason: int, scope: int) -> bytes:
    return b"\x1d" + varint.encode(reason) + varint.encode(scope)


def encode_datagram(data: bytes, *, to_end: bool = False) -> bytes:
    """With `to_end` the frame has no length and must be the packet's last."""
    return b"\x30" + data if to_end else b"\x31" + varint.encode(len(data)) + data


def _path_token(token: bytes) -> bytes:
    if len(token) != PATH_TOKEN_SIZE:
        raise ValueError("a path challenge has 8 bytes")
    return token
