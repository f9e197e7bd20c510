"""CUBIC, as TCP has it, to stand for other people's traffic at a bottleneck.

Rules: RFC 9438 with its constants; bytes; no pacing, since most TCP sends in bursts.
Left to others: everything that a link uses itself (`clawchat.core.recovery`).
"""

from __future__ import annotations

from collections.abc import Sequence

from clawchat.core.instant import SECOND, Instant
from clawchat.core.recovery.contents import Sent
from clawchat.core.recovery.rtt import Rtt

C = 0.4
BETA = 0.7
ALPHA = 3 * (1 - BETA) / (1 + BETA)  # of the Reno it must not be slower than


class Cubic:
    """A `Congestion` controller."""

    pacing_rate = 0

    def __init__(self, datagram: int) -> None:
        self.window = 10 * datagram
        self._datagram = datagram
        self._threshold: float | None = None
        self._peak = 0.0  # packets, where the last loss was
        self._began: Instant = -1  # of this epoch
        self._since: Instant = -1  # losses of what was sent before are the same event
        self._friendly = 0.0  # packets, what Reno would have

    def resized(self, datagram: int) -> None:
        self._datagram = datagram

    def on_sent(self, record: Sent, in_flight: int) -> None:
        """Nothing to note."""

    def on_app_limited(self, in_flight: int) -> None:
        """There is always more to send."""

    def on_acked(self, acked: Sequence[Sent], in_flight: int, rtt: Rtt, now: Instant) -> None:
        for record in acked:
            if record.at > self._since:
                self._grow(record.bytes, rtt, now)

    def _grow(self, size: int, rtt: Rtt, now: Instant) -> None:
        if self._threshold is None or self.window < self._threshold:
            self.window += size
            return
        packets = self.window / self._datagram
        share = size / self.window
        if self._began < 0:
            self._began, self._friendly = now, packets
            self._peak = max(self._peak, packets)
        apart = ((self._peak * (1 - BETA)) / C) ** (1 / 3)
        elapsed = (now - self._began + rtt.smoothed) / SECOND
        target = C * (elapsed - apart) ** 3 + self._peak
        self._friendly += ALPHA * share
        packets += max(0.0, min(target, 1.5 * packets) - packets) * share
        self.window = int(max(packets, self._friendly) * self._datagram)

    def on_lost(
        self, lost: Sequence[Sent], in_flight: int, now: Instant, *, persistent: bool
    ) -> None:
        if lost[-1].at > self._since:
            self._since, self._began = now, -1
            packets = self.window / self._datagram
            self._peak = packets if packets >= self._peak else packets * (1 + BETA) / 2
            self.window = max(int(self.window * BETA), 2 * self._datagram)
            self._threshold = self.window
        if persistent:
            self.window = 2 * self._datagram
