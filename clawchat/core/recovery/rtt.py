"""Round-trip time, smoothed as in RFC 9002 section 5.

Rules: nanoseconds; the peer's delay is subtracted only where that cannot make a sample smaller
than the smallest ever seen.
Left to others: which acknowledgement makes a sample (`recovery`).
"""

from __future__ import annotations

from typing import Final

from clawchat.core.instant import MILLISECOND, SECOND

INITIAL_RTT_NS: Final = 333 * MILLISECOND
GRANULARITY_NS: Final = MILLISECOND
MAX_ACK_DELAY_NS: Final = 25 * MILLISECOND  # how long a peer holds an acknowledgement back
TIMEOUT_NS_MAX: Final = 10 * SECOND  # a few late answers after an outage say nothing of the path


class Rtt:
    """`smoothed` and `variance` have RFC 9002's initial values until the first sample."""

    __slots__ = ("latest", "min", "sampled", "smoothed", "variance")

    def __init__(self) -> None:
        self.latest = 0
        self.min = 0
        self.smoothed = INITIAL_RTT_NS
        self.variance = INITIAL_RTT_NS // 2
        self.sampled = False

    def update(self, sample_ns: int, ack_delay_ns: int) -> None:
        """Take a sample of which the peer says that it held it for `ack_delay_ns`."""
        self.latest = sample_ns
        if not self.sampled:
            self.sampled = True
            self.min = self.smoothed = sample_ns
            self.variance = sample_ns // 2
            return
        if sample_ns < self.min:
            self.min = sample_ns
        adjusted = sample_ns - min(ack_delay_ns, MAX_ACK_DELAY_NS)
        if adjusted < self.min:
            adjusted = sample_ns
        self.variance += (abs(self.smoothed - adjusted) - self.variance) // 4
        self.smoothed += (adjusted - self.smoothed) // 8

    @property
    def pto_ns(self) -> int:
        """How long to wait for an acknowledgement before probing for one."""
        waits = self.smoothed + max(4 * self.variance, GRANULARITY_NS) + MAX_ACK_DELAY_NS
        return min(waits, TIMEOUT_NS_MAX)
