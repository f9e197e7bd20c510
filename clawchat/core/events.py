"""All that can go into an `Endpoint`.

Rules: frozen values of plain data; ids are chosen by whoever makes the event, so that a session
can be recorded as `(now, event)` pairs and replayed. `link` ids of dialled links are positive and
the caller's choice; the endpoint numbers incoming links -1, -2, ... `stream` ids follow
`stream_id` below.
Left to others: what each event means to a phase (`core.phases`).
"""

from __future__ import annotations

from enum import IntEnum
from typing import TypeAlias

from attrs import frozen

from clawchat.core.credential import Address, Pairing, Path
from clawchat.errors import CloseCode, CompromiseReason

Buffer: TypeAlias = bytes | bytearray | memoryview


class StreamClass(IntEnum):
    """Who goes first when a link is full. Both ends read it from the stream id."""

    INTERACTIVE = 0
    BULK = 1


CONTROL_STREAM = 0  # opened by nobody, always there, ahead of every other


def stream_id(sequence: int, kind: StreamClass, *, dialer: bool) -> int:
    """The id of an initiator's `sequence`-th stream (from 1): `sequence << 2 | class << 1 | side`.

    The side bit is 0 for streams that the dialer opened, 1 for the listener's
    (PROTOCOL.md "Streams").
    """
    return sequence << 2 | kind << 1 | (0 if dialer else 1)


@frozen
class DatagramReceived:
    """One datagram, or several of `segment` bytes each (the last may be shorter), from one path.

    `segment` 0 means one. The core may keep views of `data`: do not write into it afterwards.
    """

    path: Path
    data: Buffer
    segment: int = 0


@frozen
class Remember:
    """Accept this peer from now on (listener), replacing what was known of its `file_id`."""

    pairing: Pairing


@frozen
class Forget:
    """Stop accepting a peer and close its links with `REVOKED`."""

    file_id: bytes


@frozen
class PublishBootstrap:
    """Begin (or, after one was redeemed, begin again) to issue bootstrap files."""

    candidates: tuple[Address, ...]


@frozen
class WithdrawBootstrap:
    """Stop issuing bootstrap files; the live ones are no longer accepted."""


@frozen
class Dial:
    """Make a link to the listener of `pairing`, trying every path."""

    link: int
    pairing: Pairing
    paths: tuple[Path, ...]


@frozen
class Persisted:
    """The pairing of `Persist(ticket=...)` is durable."""

    link: int
    ticket: int


@frozen
class PersistFailed:
    """The pairing could not be written: the link closes with `STORE`, nothing is lost."""

    link: int
    ticket: int


@frozen
class Write:
    """Append to a stream (the first write opens it); `end` closes our side after `data`.

    From the first `shaped` write on our side leaves in cells on a beat, to its end
    (PROTOCOL.md "Shaped streams").
    """

    link: int
    stream: int
    data: Buffer
    end: bool = False
    shaped: bool = False


@frozen
class Consumed:
    """The application has taken `size` bytes of a stream: the window opens by as much."""

    link: int
    stream: int
    size: int


@frozen
class ResetStream:
    """Give up our sending side of a stream; unsent bytes are discarded."""

    link: int
    stream: int
    code: int


@frozen
class StopStream:
    """Ask the peer to give up its sending side of a stream; what still comes is discarded."""

    link: int
    stream: int
    code: int


@frozen
class SendDatagram:
    """Send one unreliable datagram."""

    link: int
    data: bytes


@frozen
class Ping:
    """Measure the round trip; answered by `Ponged` with the same `token`."""

    link: int
    token: int


@frozen
class RotateKeys:
    """Run the key ratchet now."""

    link: int


@frozen
class RotatePort:
    """Move to another local port now. Ends with the notice `PortRotated` or `PortKept`."""

    link: int


@frozen
class PortOpened:
    """The socket of `OpenPort`; `candidates` are other addresses at which it is reached."""

    link: int
    local: Address
    candidates: tuple[Address, ...] = ()


@frozen
class PortRefused:
    """The socket of `OpenPort` could not be had: the port is taken, or there are too many."""

    link: int
    local: Address


@frozen
class Disturbed:
    """The network changed, or this machine woke up: find out at once whether the path still works.

    `paths` are ways to the peer that were not known before, from a new socket for example.
    """

    link: int
    paths: tuple[Path, ...] = ()


@frozen
class Close:
    """End a link, telling the peer why."""

    link: int
    code: CloseCode = CloseCode.DONE
    reason: str = ""


@frozen
class DeclareCompromised:
    """Destroy a pairing for good, and tell the peer if there is a link to it.

    With `everything`, every other pairing of this endpoint and its identity as well; `file_id`
    may then be empty. Afterwards this endpoint knows the pairing no more: `Dial` and `Remember`
    raise `PairingDestroyed`.
    """

    file_id: bytes = b""
    reason: CompromiseReason = CompromiseReason.USER
    everything: bool = True


Event: TypeAlias = (
    DatagramReceived
    | Remember
    | Forget
    | PublishBootstrap
    | WithdrawBootstrap
    | Dial
    | Persisted
    | PersistFailed
    | Write
    | Consumed
    | ResetStream
    | StopStream
    | SendDatagram
    | Ping
    | RotateKeys
    | RotatePort
    | PortOpened
    | PortRefused
    | Disturbed
    | Close
    | DeclareCompromised
)
