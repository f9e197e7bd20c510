"""What was written and what was delivered on every stream, so that the two can be compared.

The content of a stream follows from its `key` alone: a slice of one fixed blob, read in a circle.
Comparing a delivery is one memory comparison, whatever its size.

Rules: a channel is one direction of one stream of one link, named by the handshake hash, which
both ends know. Delivered bytes are a prefix of the written ones; the end comes once and where it
was put.
Left to others: producing traffic (`workload`).
"""

from __future__ import annotations

from random import Random

from attrs import define, field

from clawchat.core.events import Buffer

BLOB_SIZE = 1 << 17
_CIRCLE = Random("clawchat simulator").randbytes(BLOB_SIZE)
_BLOB = _CIRCLE + _CIRCLE  # so that any slice of up to one turn is contiguous


def content(key: int, offset: int, size: int) -> bytes:
    """Bytes `offset` to `offset + size` of the stream `key`; `size` is at most `BLOB_SIZE`."""
    start = (key * 7919 + offset) % BLOB_SIZE
    return _BLOB[start : start + size]


def matches(key: int, offset: int, data: Buffer) -> bool:
    """Whether `data` is what the stream `key` has at `offset`."""
    view = memoryview(data)
    at = 0
    while at < len(view):
        piece = view[at : at + BLOB_SIZE]
        if content(key, offset + at, len(piece)) != piece:
            return False
        at += len(piece)
    return True


@define
class Answer:
    """How the other side answers once a stream's request is complete."""

    size: int
    piece: int
    every_ns: int


@define(eq=False)
class Channel:
    """One direction of one stream."""

    name: str
    key: int
    answer: Answer | None = None
    written: int = 0
    ended: bool = False
    reset: bool = False
    stopped: bool = False
    received: int = 0
    finished: bool = False
    began_at: int = 0
    last_at: int = 0

    def write(self, size: int, end: bool) -> bytes:
        """The next `size` bytes to write; to be called when they are accepted."""
        assert not self.ended
        data = content(self.key, self.written, size)
        self.written += size
        self.ended = end
        return data

    def deliver(self, data: Buffer, end: bool, at: int) -> None:
        """The other side was handed `data`. Raises `AssertionError` when it is not ours."""
        size = len(data)
        assert not self.finished, f"{self.name}: bytes after the end"
        assert self.received + size <= self.written, f"{self.name}: more than was written"
        assert matches(self.key, self.received, data), f"{self.name}: other bytes than written"
        self.received += size
        self.last_at = at
        if end:
            assert self.ended, f"{self.name}: an end that nobody wrote"
            assert self.received == self.written, f"{self.name}: ended early"
            self.finished = True

    @property
    def owing(self) -> bool:
        """Whether the other side must still get something, if the link lives."""
        if self.reset or self.stopped:
            return False
        return self.received < self.written or self.ended is not self.finished


@define(slots=False)
class Ledger:
    """All channels of a world."""

    channels: dict[tuple[bytes, int, bool], Channel] = field(factory=dict)
    sent: set[tuple[bytes, bool, bytes]] = field(factory=set)
    arrived: set[tuple[bytes, bool, bytes]] = field(factory=set)
    _keys: int = 0
    _of: dict[bytes, list[Channel]] = field(factory=dict)

    def datagram_sent(self, link: bytes, from_dialer: bool, data: bytes) -> None:
        self.sent.add((link, from_dialer, data))

    def datagram_arrived(self, link: bytes, from_dialer: bool, data: bytes) -> None:
        """Raises `AssertionError` when nobody sent it on this link, or it came before."""
        datagram = (link, from_dialer, bytes(data))
        assert datagram in self.sent, "a datagram that nobody sent"
        assert datagram not in self.arrived, "a datagram that came twice"
        self.arrived.add(datagram)

    def channel(self, link: bytes, stream: int, from_dialer: bool) -> Channel:
        """The channel of a link (its handshake hash), made at its first mention."""
        where = (link, stream, from_dialer)
        found = self.channels.get(where)
        if found is None:
            self._keys += 1
            side = "dialer" if from_dialer else "listener"
            found = Channel(f"{link.hex()[:8]} stream {stream} from {side}", self._keys)
            self.channels[where] = found
            self._of.setdefault(link, []).append(found)
        return found

    def of(self, link: bytes) -> list[Channel]:
        """All channels of a link, in the order of their first mention."""
        return self._of.get(link, [])
