"""Frames back to bytes, one of each kind: what the invariant "decodes to an equal value" needs.

Left to others: packing frames for a real packet (`clawchat.core.packing`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from clawchat.core.wire import frames
from clawchat.core.wire.frames import Frame
from clawchat.core.wire.varint import encode


def _ack(frame: frames.Ack) -> bytes:
    """A receiver accepts more ranges than a sender writes, so this cannot use `encode_ack`."""
    low, high = frame.ranges[0]
    parts = [b"\x02", *map(encode, (high, frame.delay_us, len(frame.ranges) - 1, high - low))]
    for next_low, next_high in frame.ranges[1:]:
        parts += [encode(low - next_high - 2), encode(next_high - next_low)]
        low = next_low
    return b"".join(parts)


_ENCODERS: dict[type[Any], Callable[[Any], bytes]] = {
    frames.Stream: lambda f: frames.encode_stream(f.stream, f.offset, f.data, fin=f.fin),
    frames.Ack: _ack,
    frames.Ping: lambda _: frames.PING,
    frames.MaxData: lambda f: frames.encode_max_data(f.limit),
    frames.MaxStream: lambda f: frames.encode_max_stream(f.stream, f.limit),
    frames.MaxStreams: lambda f: frames.encode_max_streams(f.limit),
    frames.Reset: lambda f: frames.encode_reset(f.stream, f.code, f.final_size),
    frames.Stop: lambda f: frames.encode_stop(f.stream, f.code),
    frames.PathChallenge: lambda f: frames.encode_path_challenge(f.token),
    frames.PathResponse: lambda f: frames.encode_path_response(f.token),
    frames.Close: lambda f: frames.encode_close(f.code, f.reason),
    frames.Compromised: lambda f: frames.encode_compromised(f.reason, f.scope),
    frames.CompromisedAck: lambda _: frames.COMPROMISED_ACK,
    frames.Datagram: lambda f: frames.encode_datagram(f.data),
}


def encode_frame(frame: Frame) -> bytes:
    """The frame with explicit lengths, so that others can follow it."""
    return _ENCODERS[type(frame)](frame)
