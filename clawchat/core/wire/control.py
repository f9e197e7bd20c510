"""Messages of the control stream: `type varint | length varint | body` (PROTOCOL.md, section 10).

Rules: a message is refused as soon as its type or length is known to be wrong, so that no more
than one message of at most 2048 bytes is ever buffered; after a refusal the reader stays dead.
Left to others: when a message is allowed (`core.phases`).
"""

from __future__ import annotations

from enum import IntEnum, unique
from typing import Final, TypeAlias

from attrs import frozen

from clawchat.core.credential import Address
from clawchat.core.wire import varint
from clawchat.core.wire.address import decode_address, encode_address
from clawchat.errors import Drop, Malformed

BODY_SIZE_MAX: Final = 2048
OFFER_SIZE: Final = 1216  # an X-Wing public key
REPLY_SIZE: Final = 1120  # an X-Wing ciphertext
EPOCH_MAX: Final = (1 << 32) - 1
PORT_CANDIDATES_MAX: Final = 4  # addresses of one socket: host, IPv6, mapped, seen by others
REPORT_MAX: Final = (1 << 32) - 1  # of a report's count, and of its seconds: 136 years


@unique
class ControlType(IntEnum):
    """The first number of a control message."""

    CANDIDATES = 0x20  # reserved: refused until a later version uses it
    RATCHET_OFFER = 0x22
    RATCHET_REPLY = 0x23
    ROTATE_REQUEST = 0x24
    PORT_ROTATE = 0x25
    COPY_REPORT = 0x26


@frozen
class RatchetOffer:
    """The dialer's public key for `epoch`."""

    epoch: int
    public: bytes


@frozen
class RatchetReply:
    """The listener's answer for `epoch`."""

    epoch: int
    ciphertext: bytes


@frozen
class RotateRequest:
    """The listener would like a `RatchetOffer`."""


@frozen
class PortRotate:
    """The sender's `sequence`-th move (from 1): it can be reached at `port` as well from now on.

    At the address from which it is heard, if its NAT keeps port numbers or it has none, and at
    the `candidates` that it knows of.
    """

    sequence: int
    port: int
    candidates: tuple[Address, ...] = ()


@frozen
class CopyReport:
    """The listener noticed `count` uses of credentials of this pairing by somebody else.

    The last was `seconds` ago, from `remote`, with the credential of `generation`; `same_device`
    says that it was by the paired device's own key.
    """

    generation: int
    same_device: bool
    count: int
    seconds: int
    remote: Address


RatchetMessage: TypeAlias = RatchetOffer | RatchetReply | RotateRequest
ControlMessage: TypeAlias = RatchetMessage | PortRotate | CopyReport

_KINDS: Final = frozenset(
    {
        ControlType.RATCHET_OFFER,
        ControlType.RATCHET_REPLY,
        ControlType.ROTATE_REQUEST,
        ControlType.PORT_ROTATE,
        ControlType.COPY_REPORT,
    }
)
_KEY_SIZE: Final = {ControlType.RATCHET_OFFER: OFFER_SIZE, ControlType.RATCHET_REPLY: REPLY_SIZE}


def encode_control(message: ControlMessage) -> bytes:
    """Raises `ValueError` when a number, a key or an address does not fit its field."""
    if isinstance(message, RotateRequest):
        return varint.encode(ControlType.ROTATE_REQUEST) + b"\0"
    if isinstance(message, PortRotate):
        return _port_rotate(message)
    if isinstance(message, CopyReport):
        return _copy_report(message)
    if isinstance(message, RatchetOffer):
        kind, key = ControlType.RATCHET_OFFER, message.public
    else:
        kind, key = ControlType.RATCHET_REPLY, message.ciphertext
    if len(key) != _KEY_SIZE[kind] or message.epoch > EPOCH_MAX:
        raise ValueError("a ratchet message of a wrong size")
    body = varint.encode(message.epoch) + key
    return varint.encode(kind) + varint.encode(len(body)) + body


def _port_rotate(message: PortRotate) -> bytes:
    addresses = message.candidates
    if len(addresses) > PORT_CANDIDATES_MAX or not all(address.port for address in addresses):
        raise ValueError("at most four candidates, each with a port")
    if not 0 < message.port <= 0xFFFF:
        raise ValueError(f"no port: {message.port}")
    body = varint.encode(message.sequence) + message.port.to_bytes(2, "big")
    body += bytes((len(addresses),)) + b"".join(map(encode_address, addresses))
    return varint.encode(ControlType.PORT_ROTATE) + varint.encode(len(body)) + body


def _copy_report(message: CopyReport) -> bytes:
    if not (0 < message.count <= REPORT_MAX and message.seconds <= REPORT_MAX):
        raise ValueError("a report of no use, or of too many")
    numbers = (message.generation, message.same_device, message.count, message.seconds)
    body = b"".join(map(varint.encode, numbers)) + encode_address(message.remote)
    return varint.encode(ControlType.COPY_REPORT) + varint.encode(len(body)) + body


class ControlReader:
    """Cuts the control stream's bytes into messages."""

    __slots__ = ("_buffer", "_dead")

    def __init__(self) -> None:
        self._buffer = b""
        self._dead = False

    @property
    def buffered(self) -> int:
        """Bytes of an unfinished message, at most 2048 and its head."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[ControlMessage]:
        """The messages that end within `data`. Raises `Malformed(MALFORMED_FRAME)`."""
        if self._dead:
            raise Malformed(Drop.MALFORMED_FRAME)
        buffer, at = self._buffer + data, 0
        messages: list[ControlMessage] = []
        try:
            while (found := _message(buffer, at)) is not None:
                message, at = found
                messages.append(message)
        except Malformed:
            self._dead, self._buffer = True, b""
            raise Malformed(Drop.MALFORMED_FRAME) from None
        self._buffer = buffer[at:]
        return messages


def _message(buffer: bytes, at: int) -> tuple[ControlMessage, int] | None:
    """The message at `at` and its end; None when more bytes are needed."""
    if not _whole_varint(buffer, at):
        return None
    kind, at = varint.decode(buffer, at)
    if kind not in _KINDS:
        raise Malformed(Drop.MALFORMED_FRAME)
    if not _whole_varint(buffer, at):
        return None
    length, at = varint.decode(buffer, at)
    if length > BODY_SIZE_MAX:
        raise Malformed(Drop.MALFORMED_FRAME)
    if len(buffer) - at < length:
        return None
    return _body(ControlType(kind), buffer[at : at + length]), at + length


def _whole_varint(buffer: bytes, at: int) -> bool:
    return at < len(buffer) and at + (1 << (buffer[at] >> 6)) <= len(buffer)


def _body(kind: ControlType, body: bytes) -> ControlMessage:
    if kind is ControlType.ROTATE_REQUEST:
        if body:
            raise Malformed(Drop.MALFORMED_FRAME)
        return RotateRequest()
    if kind is ControlType.PORT_ROTATE:
        return _read_port_rotate(body)
    if kind is ControlType.COPY_REPORT:
        return _read_copy_report(body)
    epoch, at = varint.decode(body, 0)
    if epoch > EPOCH_MAX or len(body) - at != _KEY_SIZE[kind]:
        raise Malformed(Drop.MALFORMED_FRAME)
    if kind is ControlType.RATCHET_OFFER:
        return RatchetOffer(epoch, body[at:])
    return RatchetReply(epoch, body[at:])


def _read_port_rotate(body: bytes) -> PortRotate:
    sequence, at = varint.decode(body, 0)
    if len(body) < at + 3:
        raise Malformed(Drop.MALFORMED_FRAME)
    port, count = int.from_bytes(body[at : at + 2], "big"), body[at + 2]
    if port == 0 or count > PORT_CANDIDATES_MAX:
        raise Malformed(Drop.MALFORMED_FRAME)
    at += 3
    addresses = []
    for _ in range(count):
        address, at = decode_address(body, at, Drop.MALFORMED_FRAME)
        if address.port == 0:
            raise Malformed(Drop.MALFORMED_FRAME)
        addresses.append(address)
    if at != len(body):
        raise Malformed(Drop.MALFORMED_FRAME)
    return PortRotate(sequence, port, tuple(addresses))


def _read_copy_report(body: bytes) -> CopyReport:
    generation, at = varint.decode(body, 0)
    whose, at = varint.decode(body, at)
    count, at = varint.decode(body, at)
    seconds, at = varint.decode(body, at)
    remote, at = decode_address(body, at, Drop.MALFORMED_FRAME)
    if whose > 1 or not 0 < count <= REPORT_MAX or seconds > REPORT_MAX or at != len(body):
        raise Malformed(Drop.MALFORMED_FRAME)
    return CopyReport(generation, whose == 1, count, seconds, remote)
