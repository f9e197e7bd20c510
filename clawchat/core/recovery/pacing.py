"""How many bytes may leave now, so that a window is spread over a round trip.

Rules: bursts, not packets: credit is earned all the time and spent in bursts of about
`BURST_NS`, so that a fast link needs no timer for each packet; a driver that wakes up late
loses nothing as long as it is late by less than `CREDIT_NS`.
Left to others: the rate (`congestion`).
"""

from __future__ import annotations

from typing import Final

from clawchat.core.instant import MILLISECOND, SECOND, Instant

BURST_NS: Final = MILLISECOND  # of the rate, the least that a sleep is worth
CREDIT_NS: Final = 4 * MILLISECOND  # of the rate, the most that is earned while nothing is sent
BURST_PACKETS_MIN: Final = 2


class Pacer:
    """A bucket of credit in bytes. May be overdrawn by what must go out regardless."""

    __slots__ = ("_credit", "_depth", "_rate", "_updated")

    def __init__(self, now: Instant, credit: int) -> None:
        self._credit = credit
        self._depth = credit
        self._rate = 0
        self._updated = now

    def configure(self, rate: int, packet: int, now: Instant) -> None:
        """Earn `rate` bytes a second from now on; `packet` is the size of a full datagram."""
        # First the depth: what an idle time earned must hold a packet of the new size.
        self._depth = max(rate * CREDIT_NS // SECOND, BURST_PACKETS_MIN * packet)
        if rate != self._rate:
            self._earn(now)
            self._rate = rate

    def room(self, now: Instant) -> int:
        """Bytes that may leave now; not positive while the bucket is overdrawn."""
        self._earn(now)
        return self._credit

    def rest(self, now: Instant) -> None:
        """Nothing is paced at the moment: what leaves meanwhile is no debt for later."""
        self._credit, self._updated = 0, now

    def spent(self, size: int) -> None:
        """`size` bytes left."""
        self._credit -= size

    def opens_at(self, packet: int) -> Instant:
        """When a burst is worth waking up for. `packet` as in `configure`."""
        burst = max(self._rate * BURST_NS // SECOND, packet)
        missing = max(0, burst - self._credit)
        return self._updated + -(-missing * SECOND // max(1, self._rate))

    def _earn(self, now: Instant) -> None:
        earned = (now - self._updated) * self._rate // SECOND
        if earned > 0:
            self._credit = min(self._credit + earned, self._depth)
            self._updated = now
