"""Which packets arrived, and when to say so.

Rules: one ACK for a burst: at once when a second packet waits or something came out of order,
else within 25 ms. Memory is bounded: only the newest ranges are kept, and what the peer knows
that we know is forgotten.
Left to others: duplicates (`core.crypto.replay`), writing the frame (`core.wire.frames`).
"""

from __future__ import annotations

from typing import Final

from clawchat.core.instant import MICROSECOND, Instant
from clawchat.core.recovery.ranges import RangeSet
from clawchat.core.recovery.rtt import MAX_ACK_DELAY_NS
from clawchat.core.wire.frames import ACK_RANGES_SENT_MAX, Ack

RANGES_KEPT_MAX: Final = 1 + ACK_RANGES_SENT_MAX
CROWDED_RANGES: Final = 8  # from here on it is worth asking the peer to acknowledge our ACKs ...
CROWDED_EVERY: Final = 32  # ... now and then
_ACK_HEAD_MAX: Final = 1 + 8 + 8 + 2 + 8  # type, largest number, delay, count of ranges, length
_ACK_RANGE_MAX: Final = 8 + 8  # a gap and a length
ELICITING_MAX: Final = 2  # packets that may wait before an ACK goes at once


class Received:
    """Packet numbers of one direction. `ack_at` is when an ACK must go, None when none is owed.

    `crowded`: ACKs have grown long, so the packet of the one just made should elicit an ACK itself
    (by a PING when it has nothing else), so that `forget` follows.
    """

    __slots__ = ("_eliciting", "_largest_at", "_next", "_ranges", "_unasked", "ack_at", "crowded")

    def __init__(self) -> None:
        self._ranges = RangeSet()
        self._next = 0  # above the largest number received
        self._largest_at: Instant = 0
        self._eliciting = 0
        self._unasked = CROWDED_EVERY  # ACKs since the last one that was to be acknowledged
        self.ack_at: Instant | None = None
        self.crowded = False

    def note(self, first: int, last: int, now: Instant, eliciting: bool) -> None:
        """Packets `first` to `last` (both included) arrived together."""
        in_order = first == self._next
        self._ranges.add(first, last + 1)
        if last >= self._next:
            self._next = last + 1
            self._largest_at = now
        if not in_order:
            self._ranges.trim(RANGES_KEPT_MAX)
        if not eliciting:
            return
        self._eliciting += last - first + 1
        if not in_order or self._eliciting >= ELICITING_MAX:
            self.ack_at = now
        else:
            self.ack_at = now + MAX_ACK_DELAY_NS

    def ack(self, now: Instant) -> Ack | None:
        """The ACK frame to send now; nothing is owed afterwards. None: nothing to tell."""
        self._eliciting = 0
        self.ack_at = None
        if not self._ranges:
            return None
        self._unasked += 1
        self.crowded = len(self._ranges) >= CROWDED_RANGES and self._unasked >= CROWDED_EVERY
        if self.crowded:
            self._unasked = 0
        delay_us = max(0, now - self._largest_at) // MICROSECOND
        return Ack(self._ranges.newest(RANGES_KEPT_MAX), delay_us)

    @property
    def ack_size_max(self) -> int:
        """Bytes that the ACK frame takes at most: four numbers, and two for each further range."""
        return _ACK_HEAD_MAX + _ACK_RANGE_MAX * len(self._ranges)

    @property
    def largest(self) -> int:
        """The largest number received, -1 before any."""
        return self._next - 1

    def forget(self, below: int) -> None:
        """The peer knows about every number below this one."""
        self._ranges.remove(0, below)
