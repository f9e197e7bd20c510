"""Flow control: how much a peer may send, opening as the application consumes.

A window begins small. It grows while the application takes a quarter of it in a round trip, for
then it may soon be what holds the peer back: in a round trip no more comes than one window, and
less, since a new limit is told now and then only.

Rules: limits are absolute counts of bytes since the start and never shrink; a new one is worth
telling when half of the window was consumed, of one that has grown a quarter. What the application
does not take earns nothing, and neither does what nobody will read.
Left to others: writing MAX_DATA and MAX_STREAM, and how far which window grows (`streams`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import frozen

from clawchat.core.instant import Instant
from clawchat.errors import CloseCode, Violation

GROWTH_PART: Final = 4  # a window grows when this part of it is taken within a round trip


@frozen
class Growth:
    """How far windows grow, in bytes: one stream's, and a link's.

    `room` says by how much the windows of this link and all others beside it may still grow.
    """

    stream_max: int
    link_max: int
    room: Callable[[], int]


NO_GROWTH: Final = Growth(0, 0, lambda: 0)


class ReceiveWindow:
    """What we allow. `received` never passes `limit`; `consumed` never passes `received`."""

    __slots__ = ("_quarters", "_since", "_taken", "consumed", "limit", "received", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.limit = size
        self.received = 0
        self.consumed = 0
        self._quarters = 2  # of the window, which are left when a new limit is worth telling
        self._since: Instant = 0
        self._taken = 0  # by the application since then

    def receive(self, count: int) -> None:
        """`count` more bytes. Raises `Violation(FLOW_CONTROL)`, with nothing counted."""
        if self.received + count > self.limit:
            raise Violation(CloseCode.FLOW_CONTROL, "more bytes than the window allows")
        self.received += count

    def consume(self, count: int) -> None:
        """`count` bytes are gone, whether anybody read them or not."""
        self.consumed += count

    def take(self, count: int, now: Instant, rtt_ns: int) -> bool:
        """The application took `count` bytes. True when it takes so much in a round trip of
        `rtt_ns` that the window ought to be larger.
        """
        self.consumed += count
        if now - self._since > rtt_ns:
            # What it takes at once after a rest came in over any time.
            self._since, self._taken = now, 0
            return False
        self._taken += count
        if GROWTH_PART * self._taken < self.size:
            return False
        self._since, self._taken = now, 0
        return True

    def grow(self, size: int) -> None:
        """Let the window be `size` bytes from now on, which is more than before."""
        self.size = size
        self._quarters = 3  # who fills this much in a round trip must hear of it in time

    def is_worth_telling(self) -> bool:
        """Whether the peer should be told what `open` gives."""
        return 4 * (self.limit - self.consumed) <= self._quarters * self.size

    def open(self) -> int:
        """Move the limit to a full window after what was consumed, and return it."""
        self.limit = self.consumed + self.size
        return self.limit
