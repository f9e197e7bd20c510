"""Flow control: how much a peer may send, opening as the application consumes.

Rules: limits are absolute counts of bytes since the start and never shrink; a new one is worth
telling when half of the window was consumed.
Left to others: writing MAX_DATA and MAX_STREAM (`streams`).
"""

from __future__ import annotations

from clawchat.errors import CloseCode, Violation


class ReceiveWindow:
    """What we allow. `received` never passes `limit`; `consumed` never passes `received`."""

    __slots__ = ("_size", "consumed", "limit", "received")

    def __init__(self, size: int) -> None:
        self._size = size
        self.limit = size
        self.received = 0
        self.consumed = 0

    def receive(self, count: int) -> None:
        """`count` more bytes. Raises `Violation(FLOW_CONTROL)`, with nothing counted."""
        if self.received + count > self.limit:
            raise Violation(CloseCode.FLOW_CONTROL, "more bytes than the window allows")
        self.received += count

    def consume(self, count: int) -> bool:
        """The application took `count` bytes. True when `open` should be told to the peer."""
        self.consumed += count
        return 2 * (self.limit - self.consumed) <= self._size

    def open(self) -> int:
        """Move the limit to a full window after what was consumed, and return it."""
        self.limit = self.consumed + self._size
        return self.limit
