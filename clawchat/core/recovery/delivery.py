"""How fast the path delivers: rate samples after draft-cheng-iccrg-delivery-rate-estimation.

Rules: a sample is what was delivered between a record's departure and its acknowledgement,
divided by the longer of the times it took to send and to acknowledge that much, so that neither
a burst sent nor acknowledgements bunched together make a path look faster than it is.
Left to others: making a model of samples (`bbr`).
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from clawchat.core.instant import SECOND, Instant
from clawchat.core.recovery.contents import Sent


@frozen
class Sample:
    """`rate` in bytes a second (0: too short to tell); `delivered` when the record was sent."""

    rate: int
    delivered: int
    app_limited: bool
    rtt_ns: int


class Delivery:
    """Counts delivered bytes and stamps records with the count."""

    __slots__ = ("_first_sent_at", "_limited_until", "delivered", "delivered_at")

    def __init__(self) -> None:
        self.delivered = 0  # bytes since the start
        self.delivered_at: Instant = 0
        self._first_sent_at: Instant = 0
        self._limited_until = 0  # samples up to this count say what we sent, not what fits

    def stamp(self, record: Sent, in_flight: int) -> None:
        """Note on a record that leaves what was delivered before."""
        if in_flight == 0:
            self._first_sent_at = self.delivered_at = record.at
        record.delivered = self.delivered
        record.delivered_at = self.delivered_at
        record.first_sent_at = self._first_sent_at
        record.app_limited = self.delivered < self._limited_until

    def sample(self, acked: Sequence[Sent], shortest_ns: int, now: Instant) -> Sample:
        """Count `acked` (ascending) as delivered. Intervals below `shortest_ns` have rate 0."""
        for record in acked:
            self.delivered += record.size * (record.last - record.first + 1)
        newest = acked[-1]
        self.delivered_at = now
        self._first_sent_at = newest.at
        took_ns = max(newest.at - newest.first_sent_at, now - newest.delivered_at)
        rate = 0
        if took_ns >= max(1, shortest_ns):
            rate = (self.delivered - newest.delivered) * SECOND // took_ns
        return Sample(rate, newest.delivered, newest.app_limited, now - newest.at)

    def limited(self, in_flight: int) -> None:
        """What is in flight now is all there is to send."""
        self._limited_until = max(1, self.delivered + in_flight)
