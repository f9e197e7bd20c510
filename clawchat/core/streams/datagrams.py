"""Unreliable datagrams that wait to be sent.

Rules: bounded; when it is full the oldest goes, because for audio the newest is worth most.
Left to others: whether a datagram fits the path (`core.link`).
"""

from __future__ import annotations

from typing import Final

from clawchat.core.wire import varint
from clawchat.core.wire.frames import encode_datagram

WAITING_MAX: Final = 64
WAITING_SIZE_MAX: Final = 256 * 1024  # bytes


class Datagrams:
    """A queue of datagrams. `dropped` counts those that never left."""

    __slots__ = ("_size", "_waiting", "dropped")

    def __init__(self) -> None:
        self._waiting: list[bytes] = []
        self._size = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, data: bytes) -> None:
        """Queue `data`, at the cost of the oldest when there is no room."""
        self._waiting.append(data)
        self._size += len(data)
        while len(self._waiting) > WAITING_MAX or self._size > WAITING_SIZE_MAX:
            self._drop()

    def next_frame(self, room: int, whole: int) -> bytes | None:
        """The oldest as a DATAGRAM frame of at most `room` bytes, or None.

        One that would not even fit an empty packet (`whole` bytes) is dropped.
        """
        while self._waiting:
            size = framed_size(len(self._waiting[0]))
            if size <= room:
                data = self._waiting.pop(0)
                self._size -= len(data)
                return encode_datagram(data)
            if size <= whole:
                return None
            self._drop()
        return None

    def _drop(self) -> None:
        self._size -= len(self._waiting.pop(0))
        self.dropped += 1


def framed_size(length: int) -> int:
    """The size of a DATAGRAM frame that carries `length` bytes."""
    return 1 + varint.size(length) + length
