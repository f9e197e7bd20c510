"""What the application asks of one link, done.

Rules: a stream of the application is never the control stream; a link is touched when something
was asked of it that it can do.
Left to others: what the application asks of the endpoint (`core.endpoint`), the doing (`core.link`,
`core.transport`, `core.streams`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from clawchat.core.events import (
    CONTROL_STREAM,
    Close,
    Consumed,
    Disturbed,
    Ping,
    PortOpened,
    PortRefused,
    ResetStream,
    RotateKeys,
    RotatePort,
    SendDatagram,
    StopStream,
    Write,
)
from clawchat.core.instant import Instant
from clawchat.core.links import Links
from clawchat.core.transport import Transport
from clawchat.core.wire.varint import MAX as VARINT_MAX
from clawchat.errors import CloseCode, LocalError, UnknownStream

# --- streams ----------------------------------------------------------------------------------


def _data_plane(links: Links, event: Write | Consumed | ResetStream | StopStream) -> Transport:
    """What carries the stream that an event is about."""
    if event.stream == CONTROL_STREAM:
        raise UnknownStream("the control stream is not the application's")
    link = links.find(event.link)
    transport = link.data_plane()
    links.touch(link)
    return transport


def _check_code(code: int) -> None:
    if not 0 <= code <= VARINT_MAX:
        raise LocalError("a code is a number from 0 to 2^62 - 1")


def write(links: Links, event: Write, _now: Instant) -> None:
    _data_plane(links, event).streams.write(
        event.stream, event.data, event.end, shaped=event.shaped
    )


def consumed(links: Links, event: Consumed, now: Instant) -> None:
    transport = _data_plane(links, event)
    rtt_ns = transport.recovery.rtt.smoothed
    transport.streams.consumed(event.stream, event.size, now, rtt_ns)


def reset_stream(links: Links, event: ResetStream, _now: Instant) -> None:
    _check_code(event.code)
    _data_plane(links, event).streams.reset(event.stream, event.code)


def stop_stream(links: Links, event: StopStream, _now: Instant) -> None:
    _check_code(event.code)
    _data_plane(links, event).streams.stop(event.stream, event.code)


# --- the rest ---------------------------------------------------------------------------------


def send_datagram(links: Links, event: SendDatagram, _now: Instant) -> None:
    link = links.find(event.link)
    link.data_plane().send_datagram(event.data)
    links.touch(link)


def ping(links: Links, event: Ping, _now: Instant) -> None:
    link = links.find(event.link)
    link.data_plane().ping(event.token)
    links.touch(link)


def rotate_keys(links: Links, event: RotateKeys, now: Instant) -> None:
    link = links.find(event.link)
    link.rotate_keys(now)
    links.touch(link)


def rotate_port(links: Links, event: RotatePort, now: Instant) -> None:
    link = links.find(event.link)
    link.rotate_port(now)
    links.touch(link)


def port_opened(links: Links, event: PortOpened, now: Instant) -> None:
    link = links.find(event.link)
    link.port_opened(event.local, event.candidates, now)
    links.touch(link)


def port_refused(links: Links, event: PortRefused, now: Instant) -> None:
    link = links.find(event.link)
    link.port_refused(event.local, now)
    links.touch(link)


def disturbed(links: Links, event: Disturbed, now: Instant) -> None:
    link = links.find(event.link)
    link.disturbed(event.paths, now)
    links.touch(link)


def close(links: Links, event: Close, now: Instant) -> None:
    if event.code >= CloseCode.TIMEOUT:
        raise LocalError(f"{event.code.name} is never sent to a peer")
    link = links.find(event.link)
    link.close(event.code, event.reason, now)
    links.touch(link)


Asked: TypeAlias = Callable[[Links, Any, Instant], None]

HANDLERS: Final[dict[type[Any], Asked]] = {
    Write: write,
    Consumed: consumed,
    ResetStream: reset_stream,
    StopStream: stop_stream,
    SendDatagram: send_datagram,
    Ping: ping,
    RotateKeys: rotate_keys,
    RotatePort: rotate_port,
    PortOpened: port_opened,
    PortRefused: port_refused,
    Disturbed: disturbed,
    Close: close,
}
"""Raises a `LocalError` for what cannot be done."""
