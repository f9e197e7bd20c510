"""Which packet numbers have already come (PROTOCOL.md "Opening").

Kept as the highest number and a bitmap of the *missing* ones below it, bit 0 nearest: while
nothing is missing the bitmap is zero, and a run that comes in order costs one addition.

Rules: what is older than the window counts as received; a number is marked only after its packet
authenticated.
Left to others: authenticating.
"""

from __future__ import annotations

from typing import Final

WINDOW: Final = 8192


class ReplayWindow:
    """The last `size` packet numbers of one direction, for all epochs and paths."""

    __slots__ = ("_full", "_missing", "_next")

    def __init__(self, size: int = WINDOW) -> None:
        self._full = (1 << size) - 1
        self._missing = 0
        self._next = 0

    @property
    def largest(self) -> int:
        """The highest number marked, -1 before the first."""
        return self._next - 1

    def check(self, number: int) -> bool:
        """Whether `number` is new."""
        age = self._next - 1 - number
        return age < 0 or self._missing >> age & 1 == 1

    def mark(self, number: int) -> None:
        """`number` came."""
        self.mark_run(number, number)

    def mark_run(self, first: int, last: int) -> None:
        """All from `first` to `last` came."""
        top = self._next
        if first == top and not self._missing:
            self._next = last + 1
            return
        if last < top:
            self._clear(first, last)
            return
        if first < top:
            self._clear(first, top - 1)
            first = top
        self._advance(first - top, last + 1 - first)

    def _clear(self, first: int, last: int) -> None:
        low = self._next - 1 - last
        self._missing &= ~(((1 << (last + 1 - first)) - 1) << low)

    def _advance(self, gap: int, run: int) -> None:
        """The window moves up: `gap` numbers are missing, then `run` came."""
        self._next += gap + run
        width = self._full.bit_length()
        if run >= width:
            self._missing = 0
        elif gap >= width:
            self._missing = self._full << run & self._full
        else:
            gaps = self._missing << gap | ((1 << gap) - 1)
            self._missing = gaps << run & self._full
