"""A model of the path instead of a reaction to loss: rate and round trip, after BBR.

The largest delivery rate and the smallest round trip say how much the path holds. We send at that
rate with at most about twice that much in flight; look for more every few rounds (UP), let the
queue that this made drain again (DOWN), and stay (CRUISE). Random loss does not slow us down.

Additions to draft-cardwell-iccrg-bbr. (1) Loss that remains while we send at the path's
rate or below is not ours: it is measured on packets sent in CRUISE and DOWN, and rate and window
are raised to make up for most of it. A mistake corrects itself: since we make up for less than was
measured, loss that was ours after all is less the next time. (2) A round of CRUISE with a long
queue or much more loss than the base proves the rate wrong, so older samples are forgotten at
once. (3) STARTUP paces at the window over a round trip at least, because a rate lags behind by
one; and its window stops growing when acknowledgements in a row tell of a queue (as RFC 9406).
(4) DOWN goes on until no queue of ours is left, so that the round trip is seen without PROBE_RTT,
which would leave the path idle.

Rules: deterministic; in flight never exceeds `window`.
Left to others: pacing out the rate (`pacing`).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, unique
from typing import Final

from clawchat.core.instant import MILLISECOND, SECOND, Instant
from clawchat.core.recovery.congestion import INITIAL_WINDOW_PACKETS, MINIMUM_WINDOW_PACKETS
from clawchat.core.recovery.contents import Sent
from clawchat.core.recovery.delivery import Delivery, Sample
from clawchat.core.recovery.rtt import Rtt

STARTUP_GAIN: Final = 2.77  # 4 ln 2: doubles what is delivered each round
DRAIN_GAIN: Final = 0.35
UP_GAIN: Final = 1.25
DOWN_GAIN: Final = 0.75
WINDOW_GAIN: Final = 2.0
CRUISE_ROUNDS: Final = 6
DOWN_ROUNDS: Final = 4  # at most: so much queue is not ours alone
FULL_ROUNDS: Final = 3  # without `FULL_GROWTH`: the path is full
FULL_GROWTH: Final = 1.25
QUANTUM_NS: Final = 2 * MILLISECOND  # of the rate, on top: acknowledgements come in bursts
UNPACED_RTT_NS: Final = 2 * MILLISECOND  # below this, a timer is coarser than the path
MIN_RTT_LIFE_NS: Final = 10 * SECOND
PROBE_RTT_NS: Final = 200 * MILLISECOND  # at most ...
PROBE_RTT_TRIPS: Final = 4  # ... and this many round trips
CROWDED_ROUNDS: Final = 3  # a queue that does not go away: the path must have become longer
IDLE_NS: Final = 60 * SECOND  # after this long without traffic the model is old
BASE_LOSS_PACKETS: Final = 32  # the fewest that say something about the base loss
BASE_LOSS_MEMORY: Final = 512
BASE_LOSS_MAX: Final = 0.5
BASE_LOSS_BORNE: Final = 0.05  # UP finds the rate again in spite of this much
EXCESS_LOSS: Final = 0.2  # above the base, in CRUISE: the rate is wrong
LOSSY_WINDOW_PACKETS: Final = 10  # the least where loss comes in bursts that take four
LOSS_INTOLERABLE: Final = 0.5  # in STARTUP: the path is full
TELLING_PACKETS: Final = 32
TELLING_ACKS: Final = 8  # in a row that waited: a queue, and not chance (as in RFC 9406)


@unique
class Mode(Enum):
    """What the controller is doing."""

    STARTUP = "doubling until the rate stops growing"
    DRAIN = "emptying the queue that starting made"
    CRUISE = "staying at the rate"
    UP = "looking for more"
    DOWN = "emptying the queue that looking made"
    PROBE_RTT = "emptying the path to see its round trip"


_PACING: Final = {
    Mode.STARTUP: STARTUP_GAIN,
    Mode.DRAIN: DRAIN_GAIN,
    Mode.CRUISE: 1.0,
    Mode.UP: UP_GAIN,
    Mode.DOWN: DOWN_GAIN,
    Mode.PROBE_RTT: 1.0,
}


class Bbr:
    """A `Congestion` controller; see the file's head."""

    __slots__ = (
        "_base_loss",
        "_best_rate",
        "_calm_delivered",
        "_calm_lost",
        "_crowded",
        "_datagram",
        "_delivery",
        "_full_count",
        "_full_rate",
        "_last_ack_at",
        "_min_rtt_at",
        "_min_rtt_ns",
        "_mode_since",
        "_probed_rtt_ns",
        "_rate_before",
        "_rate_now",
        "_round_ends",
        "_round_lost",
        "_round_min_rtt_ns",
        "_round_rate",
        "_round_since",
        "_round_starts",
        "_rounds",
        "_waited_acks",
        "_window_before",
        "mode",
        "window",
    )

    def __init__(self, datagram: int) -> None:
        self._datagram = datagram
        self._delivery = Delivery()
        self._min_rtt_ns = 0
        self._min_rtt_at: Instant = 0
        self._last_ack_at: Instant = 0
        self._base_loss = 0.0
        self._calm_delivered = self._calm_lost = 0
        self._round_ends = 0
        self._restart()

    def _restart(self) -> None:
        self.mode = Mode.STARTUP
        self.window = INITIAL_WINDOW_PACKETS * self._datagram
        self._mode_since: Instant = 0
        self._rate_now = self._rate_before = 0  # largest samples of this and the last cycle
        self._full_rate = self._full_count = self._best_rate = 0
        self._crowded = 0  # rounds of CRUISE in a row with a queue
        self._probed_rtt_ns = 0  # the shortest round trip seen in PROBE_RTT
        self._waited_acks = 0  # in a row, up to now
        self._window_before = 0  # PROBE_RTT
        self._rounds = 0  # in this mode
        self._round_starts = self._round_ends
        self._round_since: Instant = 0
        self._round_rate = self._round_lost = self._round_min_rtt_ns = 0

    # --- the model ----------------------------------------------------------------------------

    @property
    def rate(self) -> int:
        """What the path delivers, in bytes a second; 0 before the first sample."""
        return max(self._rate_now, self._rate_before)

    @property
    def base_loss(self) -> float:
        """The share of packets that is lost without our doing."""
        return self._base_loss

    @property
    def pacing_rate(self) -> int:
        rate = self.rate
        if self._min_rtt_ns < UNPACED_RTT_NS or rate == 0:
            return 0
        rate = int(rate * _PACING[self.mode] / self._survivors)
        if self.mode is Mode.STARTUP:
            return max(rate, self.window * SECOND // self._min_rtt_ns)
        return rate

    @property
    def _survivors(self) -> float:
        """The share of packets that arrives, counted so that UP makes up for the rest."""
        return 1 - max(0.0, self._base_loss - BASE_LOSS_BORNE)

    @property
    def _least(self) -> int:
        """The smallest window; larger where bursts of loss would too often take all of it."""
        lossy = self._base_loss > 2 * BASE_LOSS_BORNE
        return (LOSSY_WINDOW_PACKETS if lossy else MINIMUM_WINDOW_PACKETS) * self._datagram

    @property
    def _product(self) -> int:
        """Bytes on the path when no queue stands."""
        return int(self.rate * self._min_rtt_ns / SECOND / self._survivors)

    def _inflight(self, gain: float) -> int:
        """Bytes in flight that fill the path `gain` times, and what comes in bursts."""
        return int(gain * self._product + self.rate * QUANTUM_NS / SECOND / self._survivors)

    # --- news ---------------------------------------------------------------------------------

    def resized(self, datagram: int) -> None:
        self._datagram = datagram
        self.window = max(self.window, MINIMUM_WINDOW_PACKETS * datagram)

    def on_sent(self, record: Sent, in_flight: int) -> None:
        if in_flight == 0 and record.at - self._last_ack_at > IDLE_NS and self._last_ack_at:
            self._restart()
        self._delivery.stamp(record, in_flight)
        record.calm = self.mode is Mode.DOWN or self.mode is Mode.CRUISE

    def on_app_limited(self, in_flight: int) -> None:
        self._delivery.limited(in_flight)

    def on_lost(
        self, lost: Sequence[Sent], in_flight: int, now: Instant, *, persistent: bool
    ) -> None:
        for record in lost:
            self._round_lost += record.bytes
            if record.calm:
                self._calm_lost += record.last - record.first + 1
        if persistent:
            self.window = MINIMUM_WINDOW_PACKETS * self._datagram

    def on_acked(self, acked: Sequence[Sent], in_flight: int, rtt: Rtt, now: Instant) -> None:
        before = self._delivery.delivered
        sample = self._delivery.sample(acked, self._min_rtt_ns, now)
        self._last_ack_at = now
        for record in acked:
            if record.calm:
                self._calm_delivered += record.last - record.first + 1
        self._take_rtt(sample.rtt_ns, now)
        if not sample.app_limited or sample.rate > self.rate:
            self._rate_now = max(self._rate_now, sample.rate)
            self._round_rate = max(self._round_rate, sample.rate)
        if sample.delivered >= self._round_ends:
            self._round_over(sample, in_flight, now)
        self._change_mode(in_flight, now)
        self._set_window(self._delivery.delivered - before)

    def _take_rtt(self, rtt_ns: int, now: Instant) -> None:
        if self._min_rtt_ns == 0 or rtt_ns < self._min_rtt_ns:
            self._min_rtt_ns = rtt_ns
        if rtt_ns <= self._min_rtt_ns + self._min_rtt_ns // 16:
            self._min_rtt_at = now  # near enough to confirm it
        self._waited_acks = self._waited_acks + 1 if self._waited(rtt_ns) else 0
        if self._round_min_rtt_ns == 0 or rtt_ns < self._round_min_rtt_ns:
            self._round_min_rtt_ns = rtt_ns
        if self.mode is Mode.PROBE_RTT and self._rounds >= 1:
            self._probed_rtt_ns = min(rtt_ns, self._probed_rtt_ns or rtt_ns)

    def _queued(self) -> bool:
        """Whether every packet of this round waited in a queue."""
        return self._waited(self._round_min_rtt_ns)

    def _waited(self, rtt_ns: int) -> bool:
        return rtt_ns > 1.25 * self._min_rtt_ns + 4 * MILLISECOND

    def _loss(self) -> float:
        """The share of this round's bytes that was lost; 0 when there were too few to tell."""
        total = self._delivery.delivered - self._round_starts + self._round_lost
        return self._round_lost / total if self._telling() else 0.0

    def _telling(self) -> bool:
        """Whether this round had enough packets for chance not to matter much."""
        total = self._delivery.delivered - self._round_starts + self._round_lost
        return total >= TELLING_PACKETS * self._datagram

    # --- rounds and modes ---------------------------------------------------------------------

    def _round_over(self, sample: Sample, in_flight: int, now: Instant) -> None:
        self._rounds += 1
        self._learn_base_loss()
        if self.mode is Mode.STARTUP and not sample.app_limited:
            self._look_for_full_path()
        elif self.mode is Mode.CRUISE and not sample.app_limited:
            self._check_model(now)
        elif self.mode is Mode.UP and self._round_rate > 1.1 * self._full_rate:
            self._full_rate = self._round_rate  # there is more: go on looking
            self._mode_since, self._rounds = now, 0
        self._round_ends = self._round_starts = self._delivery.delivered
        self._round_since = now
        self._round_rate = self._round_lost = self._round_min_rtt_ns = 0

    def _look_for_full_path(self) -> None:
        if self._round_rate >= FULL_GROWTH * self._full_rate:
            self._full_rate, self._full_count = self._round_rate, 0
            return
        if self._queued() or self._loss() > LOSS_INTOLERABLE:
            self._full_count = FULL_ROUNDS
        elif self._telling():
            self._full_count += 1

    def _check_model(self, now: Instant) -> None:
        """A queue in CRUISE proves the rate too high: take what came through, and drain it."""
        queued = self._queued() and self.window > self._least
        self._crowded = self._crowded + 1 if queued else 0
        if queued or self._loss() > self._base_loss + EXCESS_LOSS:
            took_ns = max(1, now - self._round_since)
            mean = (self._delivery.delivered - self._round_starts) * SECOND // took_ns
            self._rate_now = self._rate_before = min(self.rate, mean)
        if 0 < self._crowded < CROWDED_ROUNDS:
            self._enter(Mode.DOWN, now)

    def _enter(self, mode: Mode, now: Instant) -> None:
        self.mode = mode
        self._mode_since = now
        self._rounds = 0

    def _change_mode(self, in_flight: int, now: Instant) -> None:
        mode, since = self.mode, now - self._mode_since
        if mode is Mode.STARTUP:
            if self._full_count >= FULL_ROUNDS:
                self._best_rate = self.rate
                self._enter(Mode.DRAIN, now)
        elif mode is Mode.DRAIN:
            if in_flight <= self._inflight(1.0) or self._rounds >= 4:
                self._enter(Mode.CRUISE, now)
        elif mode is Mode.CRUISE:
            if self._rounds >= CRUISE_ROUNDS:
                self._look_for_more(now)
        elif mode is Mode.UP:
            filled = in_flight >= self._inflight(UP_GAIN)
            if since > self._min_rtt_ns and (filled or self._rounds >= 2):
                self._end_cycle(now)
        elif mode is Mode.DOWN:
            if since > self._min_rtt_ns // 2 and (
                in_flight <= self._product or self._rounds >= DOWN_ROUNDS
            ):
                self._enter(Mode.CRUISE, now)
        elif since > min(PROBE_RTT_NS, PROBE_RTT_TRIPS * self._min_rtt_ns) and self._rounds >= 2:
            self._end_probe_rtt(now)
        old = now - self._min_rtt_at > MIN_RTT_LIFE_NS or self._crowded >= CROWDED_ROUNDS
        if old and self.mode is Mode.CRUISE:
            self._crowded = self._probed_rtt_ns = 0
            self._window_before = self.window
            self._enter(Mode.PROBE_RTT, now)

    def _end_probe_rtt(self, now: Instant) -> None:
        """Take the round trip seen since; when it has grown much, the model is no good."""
        grown = self._probed_rtt_ns > 1.25 * self._min_rtt_ns
        self._min_rtt_ns, self._min_rtt_at = self._probed_rtt_ns, now
        self.window = self._window_before
        self._full_rate, self._full_count = self.rate, 0
        self._enter(Mode.STARTUP if grown else Mode.CRUISE, now)

    def _look_for_more(self, now: Instant) -> None:
        """UP in small steps; by doubling when we lost half of the rate and see no queue."""
        self._full_rate, self._full_count = self.rate, 0
        self._best_rate = max(self._best_rate, self.rate)
        if 2 * self.rate < self._best_rate and not self._crowded:
            self._enter(Mode.STARTUP, now)
        else:
            self._enter(Mode.UP, now)

    def _end_cycle(self, now: Instant) -> None:
        self._rate_before, self._rate_now = self._rate_now or self._rate_before, 0
        self._enter(Mode.DOWN, now)

    def _learn_base_loss(self) -> None:
        total = self._calm_lost + self._calm_delivered
        if total >= BASE_LOSS_PACKETS:
            self._base_loss = min(self._calm_lost / total, BASE_LOSS_MAX)
        if total > BASE_LOSS_MEMORY:
            self._calm_lost //= 2
            self._calm_delivered //= 2

    def _set_window(self, acked: int) -> None:
        least = self._least
        if self.mode is Mode.PROBE_RTT:
            self.window = max(least, min(self.window, self._inflight(0.5)))
            return
        limit = max(self._inflight(WINDOW_GAIN), least)
        if self.mode is Mode.STARTUP:
            if self._waited_acks < TELLING_ACKS:
                self.window = max(self.window, min(self.window + acked, limit))
        else:
            self.window = max(least, min(self.window + acked, limit))
