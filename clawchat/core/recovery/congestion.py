"""How much may be in flight, and how fast it leaves: one small interface, and its plain form.

Rules: bytes, and bytes a second; a controller sees batches (`Sent`), and never schedules.
`NewReno` is RFC 9002 appendix B, kept to compare with; links use `Bbr`.
Left to others: what is lost (`recovery`), when a rate's next burst goes (`pacing`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from clawchat.core.instant import SECOND, Instant
from clawchat.core.recovery.contents import Sent
from clawchat.core.recovery.rtt import Rtt

INITIAL_WINDOW_PACKETS: Final = 32  # the first round trip's, as Chromium's QUIC has it: ...
INITIAL_BURST_PACKETS: Final = 10  # ... RFC 9002's ten at once, the others paced over it
MINIMUM_WINDOW_PACKETS: Final = 4
RENO_MINIMUM_PACKETS: Final = 2


class Congestion(Protocol):
    """What `Recovery` asks of a controller. `in_flight` is what is left after the call's news."""

    @property
    def window(self) -> int:
        """Bytes that may be in flight."""

    @property
    def pacing_rate(self) -> int:
        """Bytes a second; 0 means that pacing is not worth it."""

    def resized(self, datagram: int) -> None:
        """Full datagrams have this size from now on."""

    def on_sent(self, record: Sent, in_flight: int) -> None:
        """A record leaves; `in_flight` does not yet count it. May fill the record's fields."""

    def on_acked(self, acked: Sequence[Sent], in_flight: int, rtt: Rtt, now: Instant) -> None:
        """Records in ascending order were acknowledged. Called after `on_lost` of the same ACK."""

    def on_lost(
        self, lost: Sequence[Sent], in_flight: int, now: Instant, *, persistent: bool
    ) -> None:
        """Records were lost; `persistent` by RFC 9002 section 7.6."""

    def on_app_limited(self, in_flight: int) -> None:
        """There was less to send than the window allowed."""


class NewReno:
    """Additive increase, multiplicative decrease: RFC 9002 appendix B."""

    __slots__ = (
        "_acknowledged",
        "_datagram",
        "_limited",
        "_rtt_ns",
        "_since",
        "_threshold",
        "window",
    )

    def __init__(self, datagram: int) -> None:
        self.window = INITIAL_BURST_PACKETS * datagram
        self._datagram = datagram
        self._threshold: int | None = None  # of slow start
        self._since: Instant = -1  # recovery began: older losses are the same event
        self._acknowledged = 0  # bytes towards the next additive step
        self._limited = False
        self._rtt_ns = 0

    @property
    def pacing_rate(self) -> int:
        if self._rtt_ns == 0:
            return 0
        gain = 2 if self._threshold is None or self.window < self._threshold else 1.25
        return int(gain * self.window * SECOND / self._rtt_ns)

    def resized(self, datagram: int) -> None:
        self._datagram = datagram
        self.window = max(self.window, RENO_MINIMUM_PACKETS * datagram)

    def on_sent(self, record: Sent, in_flight: int) -> None:
        self._limited = False

    def on_acked(self, acked: Sequence[Sent], in_flight: int, rtt: Rtt, now: Instant) -> None:
        self._rtt_ns = rtt.smoothed
        if self._limited:
            return
        for record in acked:
            if record.at > self._since:
                self._grow(record.bytes)

    def _grow(self, size: int) -> None:
        if self._threshold is None or self.window < self._threshold:
            self.window += size
            return
        self._acknowledged += size
        if self._acknowledged >= self.window:
            self._acknowledged -= self.window
            self.window += self._datagram

    def on_lost(
        self, lost: Sequence[Sent], in_flight: int, now: Instant, *, persistent: bool
    ) -> None:
        if lost[-1].at > self._since:
            self._since = now
            self._threshold = self.window // 2
            self.window = max(self._threshold, RENO_MINIMUM_PACKETS * self._datagram)
            self._acknowledged = 0
        if persistent:
            self.window = RENO_MINIMUM_PACKETS * self._datagram
            self._since = -1

    def on_app_limited(self, in_flight: int) -> None:
        self._limited = 2 * in_flight < self.window
