"""How large a datagram the path takes: RFC 8899, by acknowledgements alone.

Rules: starts at `BASE`, never below `FLOOR`; a larger size is used only after a probe of that
size was acknowledged; a lost probe says nothing about congestion. When large packets vanish while
small ones arrive (a black hole), the size falls back and the search begins again later.
Left to others: building probes (`core.transport`), what the ends themselves take (parameters).
"""

from __future__ import annotations

from typing import Final

from clawchat.core.instant import MINUTE, SECOND, Instant

FLOOR: Final = 1024  # every path has it
BASE: Final = 1200
STEPS: Final = (1280, 1380, 1452, 1472, 4096, 8952, 16384, 65507)
PROBE_TRIES: Final = 3
PROBE_EVERY_NS: Final = 10 * MINUTE  # whether a size that failed fits by now
RETRY_NS: Final = SECOND // 2  # after a probe was lost
BLACK_HOLE_LOSSES: Final = 6  # records of full packets in a row ...
BLACK_HOLE_NS: Final = SECOND  # ... over at least this long: a full queue is over sooner
BLACK_HOLE_TIMEOUTS: Final = 3  # probe timeouts in a row
BLACK_HOLE_WAIT_NS: Final = MINUTE


class PathMtu:
    """`size` is the UDP payload to use now; `probe_at` when a larger one is worth a probe.

    `ceiling`: the largest that both ends take.
    """

    __slots__ = (
        "_ceiling",
        "_losing_since",
        "_losses",
        "_probing",
        "_tries",
        "_upper",
        "probe_at",
        "size",
    )

    def __init__(self, ceiling: int, now: Instant) -> None:
        self._ceiling = ceiling
        self.path_changed(now)

    def path_changed(self, now: Instant) -> None:
        """Another path: begin again."""
        self.size = min(BASE, self._ceiling)
        self._restart(now)

    def _restart(self, at: Instant) -> None:
        """Search from `size` upwards, at `at` or later."""
        self._upper = self._ceiling  # larger sizes failed lately
        self._probing = 0  # the size of the probe under way
        self._tries = 0
        self._losses = 0  # of full packets, in a row
        self._losing_since: Instant = 0
        self.probe_at: Instant | None = at if self._target() else None

    # --- searching ----------------------------------------------------------------------------

    def _target(self) -> int:
        """The next size worth a probe, the smallest step above what works; 0: none."""
        for step in STEPS:
            if self.size < step < self._upper:
                return step
        return self._upper if self._upper > self.size else 0

    def probe(self, now: Instant) -> int | None:
        """The size of a probe that must be sent now, or None."""
        if self.probe_at is None or now < self.probe_at:
            return None
        if not self._target():
            self._upper = self._ceiling  # what failed long ago may fit by now
        self._probing = self._target()
        self.probe_at = None
        return self._probing

    def on_acked(self, size: int, now: Instant) -> None:
        """A packet of `size` bytes, probe or not, arrived."""
        if size > self.size:
            self.size = size
            self._probing = self._tries = 0
            self._schedule(now)
        if size >= self.size:
            self._losses = 0

    def on_lost(self, size: int, now: Instant) -> bool:
        """A packet of `size` bytes, probe or not, was lost. True when `size` fell back."""
        if size > self.size:
            if size == self._probing:
                self._probe_lost(now)
            return False
        if size < self.size:
            return False
        if self._losses == 0:
            self._losing_since = now
        self._losses += 1
        if self._losses < BLACK_HOLE_LOSSES or now - self._losing_since < BLACK_HOLE_NS:
            return False
        return self._fall_back(now)

    def _probe_lost(self, now: Instant) -> None:
        """By chance, or because the path does not take it: only several losses tell."""
        size, self._probing = self._probing, 0
        self._tries += 1
        self.probe_at = now + RETRY_NS
        if self._tries >= PROBE_TRIES:
            self._tries = 0
            below = (step for step in STEPS if self.size < step < size)
            self._upper = max(below, default=self.size)
            self._schedule(now)

    def _schedule(self, now: Instant) -> None:
        """Go on at once while there is a size to try, else look again much later."""
        if self._target():
            self.probe_at = now
        else:
            self.probe_at = now + PROBE_EVERY_NS if self.size < self._ceiling else None

    # --- black holes --------------------------------------------------------------------------

    def timed_out(self, count: int, now: Instant) -> bool:
        """`count` probe timeouts in a row: nothing arrives at all. True when `size` fell back."""
        return count >= BLACK_HOLE_TIMEOUTS and self._fall_back(now)

    def _fall_back(self, now: Instant) -> bool:
        self._losses = 0
        if self.size == FLOOR:
            return False
        self.size = BASE if self.size > BASE else FLOOR
        self._restart(now + BLACK_HOLE_WAIT_NS)
        return True
