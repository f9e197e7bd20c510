"""Whose turn it is: control before interactive before bulk, and nobody starves.

Rules: round-robin inside a class; while bulk waits it gets one packet in `BULK_SHARE`; a stream
is in its queue at most once.
Left to others: whether a stream has anything to send (`streams`).
"""

from __future__ import annotations

from typing import Final

from clawchat.core.events import CONTROL_STREAM

BULK_SHARE: Final = 16
_CONTROL, _INTERACTIVE, _BULK = range(3)


def _rank(stream: int) -> int:
    return _CONTROL if stream == CONTROL_STREAM else _INTERACTIVE + (stream >> 1 & 1)


class Priorities:
    """Queues of streams that may have something to send."""

    __slots__ = ("_ahead", "_queues", "waiting")

    def __init__(self) -> None:
        self._queues: tuple[list[int], list[int], list[int]] = ([], [], [])
        self._ahead = 0  # packets that went before waiting bulk
        self.waiting = 0  # streams in all queues

    def add(self, stream: int) -> None:
        """`stream` has something to send. It must not be queued already."""
        self._queues[_rank(stream)].append(stream)
        self.waiting += 1

    def pick(self) -> int | None:
        """The stream whose turn it is, None when no stream waits."""
        control, interactive, bulk = self._queues
        if bulk and (self._ahead >= BULK_SHARE - 1 or not (control or interactive)):
            return bulk[0]
        if control:
            return control[0]
        return interactive[0] if interactive else None

    def allowed(self, stream: int, packets: int) -> int:
        """How many of `packets` the picked stream may send before asking again."""
        control, interactive, bulk = self._queues
        if not bulk:
            return packets
        if _rank(stream) == _BULK:
            return min(packets, 1) if control or interactive else packets
        return min(packets, BULK_SHARE - 1 - self._ahead)

    def remove(self, stream: int) -> None:
        """The picked stream has nothing to send."""
        self._queues[_rank(stream)].remove(stream)
        self.waiting -= 1

    def served(self, stream: int, packets: int) -> None:
        """The picked stream sent this many packets: it goes to the end of its queue."""
        rank = _rank(stream)
        queue = self._queues[rank]
        if len(queue) > 1:
            queue.append(queue.pop(0))
        if rank == _BULK or not self._queues[_BULK]:
            self._ahead = 0
        else:
            self._ahead += packets
