"""When the cells of shaped streams leave, and how many (PROTOCOL.md "Shaped streams").

Cells have one size and leave on a beat, with data or without. What an observer can learn is in
here: when a burst of cells begins, its level, and on which step of the ladder it ends.

Rules: nothing here depends on what a stream says, only on how much waits; at rest it costs
nothing. A beat that was missed is not made up for.
Left to others: filling cells (`core.transport`), what waits (`streams`).
"""

from __future__ import annotations

from typing import Final

from clawchat.core.instant import MILLISECOND, SECOND, Instant

CELL: Final = 512  # bytes of every cell's datagram: some eight token events, 160 tokens a second
BEAT: Final = 50 * MILLISECOND  # between cells: as soon as an eye notices; a token waits half of it
STEP_MIN: Final = 16  # cells of the shortest burst, 0.8 s: short messages look alike
STEP_FACTOR: Final = 2  # a burst ends on 16, 32, 64, ... cells
LEVEL_MAX: Final = 64  # cells a beat: 600 kB/s, for what is too large to hide
DRAIN_BEATS: Final = 20  # what waits is gone after this many: else the level rises
CALM_BEATS: Final = 20  # in which half of the level was enough: then it falls to that
HOLD: Final = 5 * SECOND  # a stream that is open and says nothing for so long may let cells rest


class Beat:
    """`at` is when the next cells are due, None at rest; `owed` are cells that are due already."""

    __slots__ = ("_calm", "_said_at", "at", "count", "level", "owed")

    def __init__(self) -> None:
        self.at: Instant | None = None
        self.level = 1
        self.owed = 0
        self.count = 0  # cells of this burst
        self._calm = 0
        self._said_at: Instant = 0

    def begin(self, now: Instant) -> None:
        """Something waits and no burst is under way: the first cell is due at once."""
        self.at = now
        self.level = 1
        self.owed = self.count = self._calm = 0

    def strike(self, now: Instant, waiting: int, *, ended: bool, settled: bool) -> None:
        """The beat has come, and `waiting` cells could be filled.

        `ended`: no shaped stream will say more; `settled`: the peer has all that they said.
        """
        assert self.at is not None
        self._choose_level(waiting)
        if waiting:
            self._said_at = now
        missed = (now - self.at) // BEAT
        self.at += (1 + missed) * BEAT
        self.owed = self.level
        if not waiting and settled and (ended or now - self._said_at >= HOLD):
            self.owed = min(self.level, step_after(self.count) - self.count)
            if self.owed == 0:
                self.at = None

    def sent(self) -> None:
        """A cell left."""
        self.count += 1
        self.owed = max(0, self.owed - 1)

    def _choose_level(self, waiting: int) -> None:
        while self.level < LEVEL_MAX and self.level * DRAIN_BEATS < waiting:
            self.level *= 2
            self._calm = 0
        self._calm = self._calm + 1 if 2 * waiting <= self.level else 0
        if self._calm > CALM_BEATS and self.level > 1:
            self.level //= 2
            self._calm = 0


def step_after(count: int) -> int:
    """The step of the ladder on which a burst of `count` cells may end: the next, or this one."""
    step = STEP_MIN
    while step < count:
        step *= STEP_FACTOR
    return step
