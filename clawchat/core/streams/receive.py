"""The receiving side of one stream: puts bytes in order and hands them on.

Rules: what comes in order is handed on as it is; what comes early is kept in pieces that do not
overlap, as many as the window and `_pieces_max` allow; the final size, once known, stays.
Left to others: the link's window and the notices (`streams`).
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from clawchat.core.events import Buffer
from clawchat.core.streams.windows import ReceiveWindow
from clawchat.errors import CloseCode, Violation

PIECES_FREE: Final = 256  # pieces that a stream may always have
PIECE_SIZE_MIN: Final = 256  # bytes that pieces beyond those must have on average
PIECE_JOIN_MAX: Final = 4096  # bytes; adjoining pieces are joined up to this


class ReceiveStream:
    """`next` is the first byte not handed on; `window.received` is above the highest seen."""

    __slots__ = ("_kept", "_pieces", "_starts", "discarding", "final", "next", "reset", "window")

    def __init__(self, window: int) -> None:
        self.window = ReceiveWindow(window)
        self.next = 0
        self.final: int | None = None
        self.reset = False  # the peer gave up
        self.discarding = False  # we want no more of it
        self._starts: list[int] = []
        self._pieces: list[Buffer] = []
        self._kept = 0  # bytes in pieces

    @property
    def done(self) -> bool:
        """Whether nothing of this side matters any more."""
        if self.final is None:
            return False
        return self.reset or self.discarding or self.window.consumed == self.final

    def check(self, stop: int, fin: bool) -> int:
        """Check a frame that ends at `stop`; returns by how much the highest offset grows.

        Raises `Violation(FINAL_SIZE)` or `Violation(FLOW_CONTROL)`; nothing changed then.
        """
        final, highest = self.final, self.window.received
        if final is None:
            if fin and stop < highest:
                raise Violation(CloseCode.FINAL_SIZE, "a stream ends before bytes already sent")
        elif stop > final or (fin and stop != final):
            raise Violation(CloseCode.FINAL_SIZE, "the end of a stream moved")
        if stop > self.window.limit:
            raise Violation(CloseCode.FLOW_CONTROL, "more bytes than the stream's window allows")
        return max(0, stop - highest)

    def take(self, offset: int, data: Buffer) -> list[Buffer]:
        """Bytes at `offset`; returns what can be handed on now, in order.

        Raises `Violation(LIMIT)` when the stream is torn into too many pieces.
        """
        stop = offset + len(data)
        if stop <= self.next:
            return []
        if offset > self.next:
            self._keep(offset, data, stop)
            return []
        ready = [data[self.next - offset :] if offset < self.next else data]
        self.next = stop
        if self._starts:
            self._hand_on(ready)
        return ready

    def _hand_on(self, ready: list[Buffer]) -> None:
        """Append the pieces that follow without a gap."""
        count = 0
        for start, piece in zip(self._starts, self._pieces, strict=True):
            if start > self.next:
                break
            count += 1
            self._kept -= len(piece)
            known = self.next - start
            if known < len(piece):
                ready.append(piece[known:] if known else piece)
                self.next = start + len(piece)
        del self._starts[:count], self._pieces[:count]

    def _keep(self, offset: int, data: Buffer, stop: int) -> None:
        """Keep what of [offset, stop) is not kept yet."""
        starts, pieces = self._starts, self._pieces
        start = offset
        at = bisect_right(starts, start)
        if at:
            start = max(start, starts[at - 1] + len(pieces[at - 1]))
        while start < stop:
            until = min(stop, starts[at]) if at < len(starts) else stop
            if start < until:
                at += self._insert(at, start, data[start - offset : until - offset])
            if at >= len(starts):
                break
            start = starts[at] + len(pieces[at])
            at += 1
        if len(starts) > PIECES_FREE + self._kept // PIECE_SIZE_MIN:
            raise Violation(CloseCode.LIMIT, "a stream in too many pieces")

    def _insert(self, at: int, start: int, piece: Buffer) -> int:
        """Put a piece before index `at`, or onto the end of a small one; how many were added."""
        self._kept += len(piece)
        if at:
            before = self._pieces[at - 1]
            adjoins = self._starts[at - 1] + len(before) == start
            if adjoins and len(before) + len(piece) <= PIECE_JOIN_MAX // 4:
                self._pieces[at - 1] = bytes(before) + bytes(piece)
                return 0
        self._starts.insert(at, start)
        self._pieces.insert(at, piece)
        return 1

    def discard(self) -> None:
        """Let go of what came early: nobody will read it."""
        self._starts, self._pieces, self._kept = [], [], 0
