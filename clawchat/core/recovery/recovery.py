"""Loss recovery of one direction of a link, after RFC 9002.

Rules: records of batches, kept in sending order, so that an acknowledgement costs what it newly
acknowledges; lost records are remembered a little longer, so that a late acknowledgement is
recognised and makes us more patient with reordering (as in RFC 8985) instead of costing twice.
Packets that do not elicit an acknowledgement are neither in flight nor ever lost.
Left to others: retransmitting (`core.streams`), the window (`congestion`, `bbr`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Final

from attrs import Factory, define

from clawchat.core.instant import SECOND, Instant
from clawchat.core.recovery.bbr import Bbr
from clawchat.core.recovery.congestion import INITIAL_BURST_PACKETS, Congestion
from clawchat.core.recovery.contents import Sent
from clawchat.core.recovery.pacing import Pacer
from clawchat.core.recovery.ranges import RangeSet
from clawchat.core.recovery.rtt import GRANULARITY_NS, Rtt
from clawchat.errors import CloseCode, Violation

PACKET_THRESHOLD: Final = 3
PACKET_THRESHOLD_MAX: Final = 96
TIME_EIGHTHS: Final = 9  # of the round trip: RFC 9002's 9/8
TIME_EIGHTHS_MAX: Final = 16
PTO_NS_MAX: Final = 3 * SECOND  # doubling ends here: a path that comes back is soon noticed
PTO_DOUBLINGS_MAX: Final = 10
SAMPLE_NS_MAX: Final = 10 * SECOND  # no path takes longer; a machine that slept does
PROBES: Final = 2  # packets for each probe timeout
PERSISTENT_PTOS: Final = 3
WINDOW_PACKETS_MIN: Final = 10  # per round trip, whatever the controller's rate (RFC 9002 7.2)
ACKS_KEPT_MAX: Final = 16  # records of packets that hold nothing but ACKs
LOST_KEPT_MAX: Final = 64  # records whose late acknowledgement we would still notice
FLIGHT_KEPT_MAX: Final = 1024  # records in flight that outlast a probe timeout or a move


@define
class Outcome:
    """What an acknowledgement or a timer told: records in ascending order.

    `acked` may hold records that were reported lost before; streams ignore what is not news.
    """

    acked: list[Sent] = Factory(list)
    lost: list[Sent] = Factory(list)
    rtt_sample_ns: int | None = None


class Recovery:
    """What is in flight, and what became of it. `max_datagram`: the size of a full packet."""

    __slots__ = (
        "_acks",
        "_flight",
        "_largest_acked",
        "_loss_at",
        "_lost",
        "_next",
        "_pacer",
        "_path_first",
        "_probe_base",
        "_rtt_since",
        "_skipped",
        "_threshold",
        "_time_eighths",
        "congestion",
        "in_flight",
        "max_datagram",
        "packets_lost",
        "packets_sent",
        "packets_spurious",
        "probes",
        "pto_count",
        "rtt",
    )

    def __init__(
        self,
        now: Instant,
        max_datagram: int,
        controller: Callable[[int], Congestion] = Bbr,
    ) -> None:
        self.max_datagram = max_datagram
        self.rtt = Rtt()
        self.congestion = controller(max_datagram)
        self._pacer = Pacer(now, INITIAL_BURST_PACKETS * max_datagram)
        self._flight: list[Sent] = []
        self._acks: list[Sent] = []
        self._lost: list[Sent] = []
        self._skipped: RangeSet | None = None
        self._next = 0
        self._largest_acked = -1
        self._loss_at: Instant | None = None
        self._probe_base: Instant = now
        self._path_first = 0  # lower numbers went another way, and say nothing of this one
        self._rtt_since: Instant | None = None
        self._threshold = PACKET_THRESHOLD
        self._time_eighths = TIME_EIGHTHS
        self.in_flight = 0
        self.probes = 0
        self.pto_count = 0
        self.packets_sent = self.packets_lost = self.packets_spurious = 0

    # --- sending ------------------------------------------------------------------------------

    def sent(self, record: Sent) -> None:
        """A batch left. Packet numbers ascend; those left out must never be acknowledged."""
        assert record.first >= self._next
        assert not record.items or record.first == record.last
        if record.first > self._next:
            if self._skipped is None:
                self._skipped = RangeSet()
            self._skipped.add(self._next, record.first)
        self._next = record.last + 1
        count = record.last - record.first + 1
        self.packets_sent += count
        if not record.eliciting:
            self._acks.append(record)
            del self._acks[:-ACKS_KEPT_MAX]
            return
        self.congestion.on_sent(record, self.in_flight)
        self._flight.append(record)
        size = record.size * count
        self.in_flight += size
        if not record.probes_mtu:  # they are rare (RFC 8899 3), and one that is lost took no time
            self._pacer.spent(size)
        self._probe_base = record.at
        if self.probes:
            self.probes = max(0, self.probes - count)

    def room(self, now: Instant) -> int:
        """Bytes that may leave now; what is less than a full packet counts as nothing.

        Probes that are owed may always leave.
        """
        packet = self.max_datagram
        room = self.congestion.window - self.in_flight
        rate = self._pacing_rate
        if rate:
            # A rate that was measured while little was sent may be far too low: the initial
            # window in each round trip is always fair.
            floor = WINDOW_PACKETS_MIN * packet * SECOND // max(self.rtt.smoothed, GRANULARITY_NS)
            self._pacer.configure(max(rate, floor), packet, now)
            room = min(room, self._pacer.room(now))
        else:
            self._pacer.rest(now)
        if room < packet:
            room = 0
        return max(room, self.probes * packet)

    @property
    def _pacing_rate(self) -> int:
        """The controller's; before the first acknowledgement the window over one round trip."""
        if self.rtt.sampled:
            return self.congestion.pacing_rate
        return self.congestion.window * SECOND // max(self.rtt.smoothed, GRANULARITY_NS)

    @property
    def room_at(self) -> Instant | None:
        """When pacing lets more go, after `room` said 0; None when only the window holds us."""
        packet = self.max_datagram
        if self.congestion.window - self.in_flight < packet or not self._pacing_rate:
            return None
        return self._pacer.opens_at(packet)

    def app_limited(self) -> None:
        """There is nothing more to send: unless the window is full, it says nothing of the path."""
        if self.congestion.window - self.in_flight >= self.max_datagram:
            self.congestion.on_app_limited(self.in_flight)

    # --- hearing ------------------------------------------------------------------------------

    def acknowledged(
        self, ranges: Sequence[tuple[int, int]], delay_ns: int, now: Instant
    ) -> Outcome:
        """An ACK frame came: (low, high) ranges, both included, newest first.

        Raises `Violation(ACK)` when it tells of a packet that was never sent.
        """
        self._check(ranges)
        largest = ranges[0][1]
        outcome = Outcome()
        newly = self._take_acked(ranges)
        if newly:
            outcome.acked = newly
            self.pto_count = 0
            self.probes = 0
            self._sample_rtt(outcome, largest, delay_ns, now)
        late = self._take_late(ranges) if self._lost else None
        if largest > self._largest_acked:
            self._largest_acked = largest
        self._detect(outcome, now)
        here = [record for record in newly if record.first >= self._path_first]
        if here:
            self.congestion.on_acked(here, self.in_flight, self.rtt, now)
        if late:
            outcome.acked = late + newly
        if self._acks:
            outcome.acked += self._take_acks(ranges)
        return outcome

    def _check(self, ranges: Sequence[tuple[int, int]]) -> None:
        if ranges[0][1] >= self._next:
            raise Violation(CloseCode.ACK, "an acknowledgement from the future")
        if self._skipped is not None and any(
            self._skipped.overlaps(low, high + 1) for low, high in ranges
        ):
            raise Violation(CloseCode.ACK, "an acknowledgement of a number that was left out")

    def _take_acked(self, ranges: Sequence[tuple[int, int]]) -> list[Sent]:
        """Remove from the flight what `ranges` cover."""
        flight = self._flight
        acked: list[Sent] = []
        kept: list[Sent] = []
        at, end = 0, len(flight)
        oldest = flight[0].first if flight else self._next
        for low, high in reversed(ranges):
            if high < oldest:
                continue
            while at < end:
                record = flight[at]
                if record.first > high:
                    break
                if record.last < low:
                    kept.append(record)
                    at += 1
                    continue
                if record.first < low:
                    kept.append(record.cut(record.first, low - 1))
                    record = record.cut(low, record.last)
                if record.last > high:
                    acked.append(record.cut(record.first, high))
                    flight[at] = record.cut(high + 1, record.last)
                    break
                acked.append(record)
                at += 1
        flight[:at] = kept
        for record in acked:
            if record.first >= self._path_first:
                self.in_flight -= record.bytes
        return acked

    def _take_acks(self, ranges: Sequence[tuple[int, int]]) -> list[Sent]:
        """Remove the covered records that held only ACKs: what they told is known to the peer."""
        rising = ranges[::-1]
        highs = [high for _, high in rising]
        covered = [
            record
            for record in self._acks
            if (at := bisect_left(highs, record.first)) < len(highs)
            and rising[at][0] <= record.first
        ]
        if covered:
            self._acks = [record for record in self._acks if record not in covered]
        return covered

    def _take_late(self, ranges: Sequence[tuple[int, int]]) -> list[Sent]:
        """Acknowledged parts of records that were thought lost: we were too impatient."""
        late: list[Sent] = []
        kept: list[Sent] = []
        rising = ranges[::-1]
        highs = [high for _, high in rising]
        for record in self._lost:
            rest = record.first
            for at in range(bisect_left(highs, rest), len(highs)):
                low, high = max(rising[at][0], rest), min(highs[at], record.last)
                if low > high:
                    break
                if low > rest:
                    kept.append(record.cut(rest, low - 1))
                late.append(record.cut(low, high))
                rest = high + 1
            if rest == record.first:
                kept.append(record)
            elif rest <= record.last:
                kept.append(record.cut(rest, record.last))
        if late:
            self._lost = kept[-LOST_KEPT_MAX:]
            self._be_patient(late)
        return late

    def _be_patient(self, late: Sequence[Sent]) -> None:
        self.packets_spurious += sum(record.last - record.first + 1 for record in late)
        behind = self._largest_acked - late[0].first + 1
        self._threshold = min(max(self._threshold, behind), PACKET_THRESHOLD_MAX)
        self._time_eighths = min(self._time_eighths + 1, TIME_EIGHTHS_MAX)

    def _sample_rtt(self, outcome: Outcome, largest: int, delay_ns: int, now: Instant) -> None:
        newest = outcome.acked[-1]
        if newest.last != largest or newest.first < self._path_first:
            return
        sample = now - newest.at
        if sample > SAMPLE_NS_MAX:
            return
        outcome.rtt_sample_ns = sample
        if self._rtt_since is None:
            self._rtt_since = now
        self.rtt.update(sample, delay_ns)

    # --- losing -------------------------------------------------------------------------------

    def _detect(self, outcome: Outcome, now: Instant) -> None:
        """Declare lost what is overtaken by too many packets or too much time."""
        flight = self._flight
        self._loss_at = None
        if not flight or flight[0].first > self._largest_acked:
            return
        longest = max(self.rtt.smoothed, self.rtt.latest)
        delay = max(longest * self._time_eighths // 8, GRANULARITY_NS)
        overtaken = self._largest_acked - self._threshold
        lost = outcome.lost
        at = 0
        for record in flight:
            if record.first > self._largest_acked:
                break
            if record.last > overtaken and record.at > now - delay:
                if record.first <= overtaken:
                    lost.append(record.cut(record.first, overtaken))
                    record = flight[at] = record.cut(overtaken + 1, record.last)
                self._loss_at = record.at + delay
                break
            lost.append(record)
            at += 1
        del flight[:at]
        if lost:
            self._lose(lost, now)

    def _lose(self, lost: list[Sent], now: Instant) -> None:
        congested = []
        for record in lost:
            self.packets_lost += record.last - record.first + 1
            if record.first < self._path_first:
                continue
            self.in_flight -= record.bytes
            if not record.probes_mtu:
                congested.append(record)
        self._lost += lost
        horizon = now - 4 * self.rtt.smoothed
        stale = sum(1 for record in self._lost if record.at < horizon)
        del self._lost[: max(stale, len(self._lost) - LOST_KEPT_MAX)]
        if congested:
            persistent = self._persistent(congested)
            if persistent:
                self._threshold, self._time_eighths = PACKET_THRESHOLD, TIME_EIGHTHS
            self.congestion.on_lost(congested, self.in_flight, now, persistent=persistent)

    def _persistent(self, lost: Sequence[Sent]) -> bool:
        """RFC 9002 7.6: everything sent over three probe timeouts was lost."""
        if self._rtt_since is None:
            return False
        limit = PERSISTENT_PTOS * self.rtt.pto_ns
        start: Instant | None = None
        following = -1
        for record in lost:
            if record.at <= self._rtt_since:
                continue
            if start is None or record.first != following:
                start = record.at
            if record.at - start > limit:
                return True
            following = record.last + 1
        return False

    # --- timers -------------------------------------------------------------------------------

    @property
    def pto_ns(self) -> int:
        """The probe timeout, without its doubling."""
        return self.rtt.pto_ns

    @property
    def deadline(self) -> Instant | None:
        """When `due` must be called; None while nothing is in flight."""
        if self._loss_at is not None:
            return self._loss_at
        if not self._flight:
            return None
        pto = self.rtt.pto_ns
        doubled = pto << min(self.pto_count, PTO_DOUBLINGS_MAX)
        return self._probe_base + max(pto, min(doubled, PTO_NS_MAX))

    def due(self, now: Instant) -> Outcome:
        """Act on `deadline` when it has come: report losses, or owe `probes`. Harmless early."""
        outcome = Outcome()
        deadline = self.deadline
        if deadline is None or now < deadline:
            return outcome
        if self._loss_at is not None:
            self._detect(outcome, now)
            return outcome
        self.pto_count += 1
        self.probes = PROBES
        self._probe_base = now
        self._shorten(outcome, now)
        return outcome

    def _shorten(self, outcome: Outcome, now: Instant) -> None:
        """Give the oldest up as lost when there are too many: a peer that talks and acknowledges
        nothing makes us send probes, which no window holds back, for as long as it likes.
        """
        excess = len(self._flight) - FLIGHT_KEPT_MAX
        if excess > 0:
            outcome.lost += self._flight[:excess]
            del self._flight[:excess]
            self._lose(outcome.lost, now)

    def probe(self) -> None:
        """Owe probes now: the path is new, or works again."""
        self.pto_count = 0
        self.probes = PROBES

    def oldest(self, room: int) -> list[Sent]:
        """The first packets still in flight, one at least and no more than `room` bytes of them,
        for probes to carry again.

        They stay in flight: only their contents are worth sending twice.
        """
        packets: list[Sent] = []
        for record in self._flight:
            if record.probes_mtu:
                continue
            for number in range(record.first, record.last + 1):
                room -= record.size
                if packets and room < 0:
                    return packets
                packets.append(record.cut(number, number))
        return packets

    # --- the rest -----------------------------------------------------------------------------

    @property
    def cwnd(self) -> int:
        """The congestion window, in bytes."""
        return self.congestion.window

    def resized(self, max_datagram: int) -> None:
        """Full packets have this size from now on."""
        self.max_datagram = max_datagram
        self.congestion.resized(max_datagram)

    def seed_rtt(self, sample_ns: int) -> None:
        """The handshake took this long: better than RFC 9002's guess for the first timeouts."""
        if not self.rtt.sampled:
            self.rtt.smoothed = sample_ns
            self.rtt.variance = sample_ns // 2

    def path_changed(self, now: Instant, controller: Callable[[int], Congestion] = Bbr) -> Outcome:
        """Another path: what was learned about the old one does not hold (RFC 9002 section 9.4).

        What went the old way is acknowledged or lost, but takes no room on the new one.
        """
        outcome = Outcome()
        self._shorten(outcome, now)
        self.rtt = Rtt()
        self._rtt_since = None
        self._path_first = self._next
        self.in_flight = 0
        self.congestion = controller(self.max_datagram)
        self._pacer = Pacer(now, INITIAL_BURST_PACKETS * self.max_datagram)
        self._threshold, self._time_eighths = PACKET_THRESHOLD, TIME_EIGHTHS
        self.pto_count = 0
        self.probes = 0
        self._probe_base = now
        return outcome
