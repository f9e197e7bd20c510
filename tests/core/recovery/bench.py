"""A test bench for recovery and streams: two ends, two wires, virtual time, no cryptography.

Each end packs as a link does (small frames and ACKs first, then runs of stream data), so that a
controller is judged by what it does to transfers. `python -m tests.core.recovery.bench` prints a
table.

Rules: deterministic for a seed.
Left to others: the real link, NAT and all other faults (`clawchat.drivers.simulator`).
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Callable
from functools import partial
from random import Random

from attrs import define, field

from clawchat.core.actions import StreamData, StreamDrained
from clawchat.core.events import StreamClass, stream_id
from clawchat.core.instant import MILLISECOND, SECOND, Instant
from clawchat.core.recovery.bbr import Bbr
from clawchat.core.recovery.congestion import Congestion, NewReno
from clawchat.core.recovery.contents import Item, ItemKind, Sent
from clawchat.core.recovery.received import Received
from clawchat.core.recovery.recovery import PROBES, Outcome, Recovery
from clawchat.core.streams.streams import Streams
from clawchat.core.wire import frames
from clawchat.core.wire.parameters import Limits
from clawchat.errors import BufferFull

OVERHEAD = 29  # of a sealed packet
HEADERS = 28  # of UDP and IPv4
LIMITS = Limits(1 << 25, 1 << 24, 257, 1452)
BULK = stream_id(1, StreamClass.BULK, dialer=True)
CHAT = stream_id(2, StreamClass.INTERACTIVE, dialer=True)
PATTERN = bytes(range(251)) * 800


@define
class Bench:
    """Virtual time."""

    now: Instant = 0
    events: list[tuple[Instant, int, Callable[[], None]]] = field(factory=list)
    count: int = 0

    def at(self, when: Instant, call: Callable[[], None]) -> None:
        self.count += 1
        heapq.heappush(self.events, (max(when, self.now), self.count, call))

    def run(self, until: Instant, stop: Callable[[], bool] = lambda: False) -> None:
        while self.events and self.events[0][0] <= until and not stop():
            self.now, _, call = heapq.heappop(self.events)
            call()
        if not stop():
            self.now = max(self.now, until)


@define
class Wire:
    """One direction: a queue before a bottleneck, then delay and loss."""

    bench: Bench
    random: Random
    rate: int  # bits a second
    delay_ns: int
    queue_max: int = 1 << 30  # bytes
    loss: float = 0.0  # of packets
    burst_max: int = 1  # losses come in bursts of 1 to this many
    jitter_ns: int = 0
    mtu: int = 65535
    free_at: Instant = 0
    burst: int = 0
    passed: int = 0  # bytes, headers included
    overflowed: int = 0
    lost: int = 0
    queue_ns_max: int = 0
    queue_ns_sum: int = 0
    packets: int = 0

    def send(self, size: int, deliver: Callable[[], None]) -> None:
        now = self.bench.now
        size += HEADERS
        waiting_ns = max(0, self.free_at - now)
        if size > self.mtu + HEADERS or waiting_ns * self.rate // (8 * SECOND) > self.queue_max:
            self.overflowed += 1
            return
        self.packets += 1
        self.queue_ns_sum += waiting_ns
        self.queue_ns_max = max(self.queue_ns_max, waiting_ns)
        self.free_at = max(self.free_at, now) + size * 8 * SECOND // self.rate
        self.passed += size
        if self._loses():
            self.lost += 1
            return
        jitter = self.random.randrange(self.jitter_ns) if self.jitter_ns else 0
        self.bench.at(self.free_at + self.delay_ns + jitter, deliver)

    def _loses(self) -> bool:
        if self.burst:
            self.burst -= 1
            return True
        mean = (1 + self.burst_max) / 2
        start = self.loss / (mean * (1 - self.loss) + self.loss)
        if self.loss and self.random.random() < start:
            self.burst = self.random.randint(1, self.burst_max) - 1
            return True
        return False


class End:
    """One peer: what a link does, as short as it can be."""

    def __init__(
        self,
        bench: Bench,
        dialer: bool,
        controller: Callable[[int], Congestion],
        size: int = 1200,
        limits: Limits = LIMITS,
    ) -> None:
        self.bench = bench
        self.size = size
        self.recovery = Recovery(bench.now, size, controller)
        self.received = Received()
        self.streams = Streams(dialer, limits, limits)
        self.out: Wire | None = None
        self.other: End | None = None
        self.packet = 0
        self.got: dict[int, list[bytes]] = {}
        self.ended: dict[int, Instant] = {}
        self.finished: dict[int, Instant] = {}
        self.on_data: Callable[[int, bytes], None] = lambda stream, data: None
        self.bulk_left = 0
        self.bulk_stream = BULK
        self.wake_at: Instant | None = None
        self.wakes = 0
        self.coarse_ns = 0  # how late a timer wakes us

    # --- receiving

    def arrive(self, number: int, payload: bytes) -> None:
        now = self.bench.now
        eliciting = False
        for frame in frames.parse_frames(payload):
            eliciting |= self._frame(frame, now)
        self.received.note(number, number, now, eliciting)
        self._notices()
        self.pump()

    def _frame(self, frame: frames.Frame, now: Instant) -> bool:
        if isinstance(frame, frames.Stream):
            self.streams.on_stream(frame.stream, frame.offset, frame.data, frame.fin)
        elif isinstance(frame, frames.Ack):
            self.settle(self.recovery.acknowledged(frame.ranges, frame.delay_us * 1000, now))
            return False
        elif isinstance(frame, frames.MaxData):
            self.streams.on_max_data(frame.limit)
        elif isinstance(frame, frames.MaxStream):
            self.streams.on_max_stream(frame.stream, frame.limit)
        elif isinstance(frame, frames.MaxStreams):
            self.streams.on_max_streams(frame.limit)
        elif isinstance(frame, frames.Reset):
            self.streams.on_reset(frame.stream, frame.code, frame.final_size)
        elif isinstance(frame, frames.Stop):
            self.streams.on_stop(frame.stream, frame.code)
        return True

    def settle(self, outcome: Outcome) -> None:
        for sent in outcome.acked:
            if sent.run is not None:
                self.streams.acked_run(sent.run)
            for item in sent.items:
                if item[0] == ItemKind.ACKED_UP_TO:
                    self.received.forget(item[1])
                else:
                    self.streams.acked(item)
        self._lose(outcome.lost)

    def _lose(self, records: list[Sent]) -> None:
        for sent in records:
            if sent.run is not None:
                self.streams.lost_run(sent.run)
            for item in sent.items:
                self.streams.lost(item)

    def _notices(self) -> None:
        taken = list(self.streams.notices)
        self.streams.notices.clear()
        for notice in taken:
            if isinstance(notice, StreamData):
                data = bytes(notice.data)
                self.got.setdefault(notice.stream, []).append(data)
                if data:
                    rtt_ns = self.recovery.rtt.smoothed
                    self.streams.consumed(notice.stream, len(data), self.bench.now, rtt_ns)
                self.on_data(notice.stream, data)
                if notice.end:
                    self.ended[notice.stream] = self.bench.now
            elif isinstance(notice, StreamDrained) and notice.finished:
                self.finished[notice.stream] = self.bench.now

    # --- sending

    def feed(self) -> None:
        """Keep the bulk stream's buffer full."""
        while self.bulk_left:
            size = min(65536, self.bulk_left)
            at = (-self.bulk_left) % 251
            try:
                self.streams.write(
                    self.bulk_stream, PATTERN[at : at + size], size == self.bulk_left
                )
            except BufferFull:
                return
            self.bulk_left -= size

    def pump(self) -> None:
        """Send what may leave, then set the timer."""
        now, recovery = self.bench.now, self.recovery
        self.feed()
        while True:
            room = recovery.room(now)
            if room < self.size:
                break
            if recovery.probes:
                self._lose(recovery.oldest(PROBES * self.size))
            payload, items, eliciting = self._mixed(self.size - OVERHEAD)
            if payload:
                self._send([payload], Sent(0, 0, now, 0, eliciting, tuple(items)))
                continue
            batch = self.streams.next_run(min(room // self.size, 32), self.size - OVERHEAD)
            if batch is None:
                if recovery.probes:
                    self._send([frames.PING], Sent(0, 0, now, 0))
                    continue
                recovery.app_limited()
                break
            self._send(batch[1], Sent(0, 0, now, 0, run=batch[0]))
        ack_at = self.received.ack_at
        if ack_at is not None and ack_at <= now and (ack := self.received.ack(now)):
            payload = frames.encode_ack(ack.ranges, ack.delay_us)
            item = (ItemKind.ACKED_UP_TO, ack.ranges[0][1])
            crowded = self.received.crowded
            self._send([payload + frames.PING * crowded], Sent(0, 0, now, 0, crowded, (item,)))
        self._set_timer()

    def _mixed(self, room: int) -> tuple[bytes, list[Item], bool]:
        parts: list[bytes] = []
        items: list[Item] = []
        now = self.bench.now
        for frame, item in self.streams.control(room - 300):
            parts.append(frame)
            items.append(item)
        ack_at = self.received.ack_at
        eliciting = bool(parts)
        if parts or (ack_at is not None and ack_at <= now):
            ack = self.received.ack(now) if ack_at is not None else None
            if ack is not None:
                parts.append(frames.encode_ack(ack.ranges, ack.delay_us))
                items.append((ItemKind.ACKED_UP_TO, ack.ranges[0][1]))
            if self.received.crowded:
                parts.append(frames.PING)
                eliciting = True
            left = room - sum(map(len, parts))
            while left > 32 and (found := self.streams.next_frame(left)):
                parts.append(found[0])
                items.append(found[1])
                left -= len(found[0])
                eliciting = True
        return b"".join(parts), items, eliciting

    def _send(self, payloads: list[bytes], record: Sent) -> None:
        assert self.out is not None
        assert self.other is not None
        record.first = self.packet
        self.packet += len(payloads)
        record.last = self.packet - 1
        record.size = len(payloads[0]) + OVERHEAD
        self.recovery.sent(record)
        for number, payload in enumerate(payloads, record.first):
            self.out.send(len(payload) + OVERHEAD, partial(self.other.arrive, number, payload))

    def _set_timer(self) -> None:
        times = [self.recovery.deadline, self.received.ack_at]
        if self.streams.pending():
            times.append(self.recovery.room_at)
        due = min((time for time in times if time is not None), default=None)
        if due is not None and due != self.wake_at:
            self.wake_at = due
            self.bench.at(max(due, self.bench.now) + self.coarse_ns, lambda: self._wake(due))

    def _wake(self, due: Instant) -> None:
        if due != self.wake_at:
            return
        self.wakes += 1
        self.wake_at = None
        outcome = self.recovery.due(self.bench.now)
        self.settle(outcome)
        self.pump()


@define
class Pair:
    """Two ends with a wire each way."""

    bench: Bench
    left: End
    right: End
    there: Wire
    back: Wire

    def transfer(self, size: int, limit: Instant) -> Instant:
        """Send `size` bytes as bulk; returns how long it took, -1 when not in time."""
        start = self.bench.now
        self.left.bulk_left = size
        self.left.pump()
        self.bench.run(start + limit, lambda: BULK in self.right.ended)
        if BULK not in self.right.ended:
            return -1
        return self.right.ended[BULK] - start


def pair(
    *,
    mbit: float,
    rtt_ms: float,
    loss: float = 0.0,
    burst_max: int = 1,
    queue: float = 1.0,  # in bandwidth-delay products, at least 16 packets
    jitter_ms: float = 0.0,
    controller: Callable[[int], Congestion] = Bbr,
    seed: int = 1,
    loss_back: float | None = None,
    size: int = 1200,
    limits: Limits = LIMITS,
) -> Pair:
    bench = Bench()
    random = Random(seed)
    rate = int(mbit * 1_000_000)
    delay = int(rtt_ms * MILLISECOND / 2)
    queue_max = max(int(queue * rate * rtt_ms / 8000), 16 * 1228)
    jitter = int(jitter_ms * MILLISECOND)

    def wire(lossy: float) -> Wire:
        return Wire(bench, random, rate, delay, queue_max, lossy, burst_max, jitter)

    there, back = wire(loss), wire(loss if loss_back is None else loss_back)
    left = End(bench, True, controller, size, limits)
    right = End(bench, False, controller, size, limits)
    left.out, left.other, right.out, right.other = there, right, back, left
    return Pair(bench, left, right, there, back)


def goodput(mbit: float, size: int = 1200) -> float:
    """Stream bytes a second that fill such a bottleneck."""
    return mbit * 125_000 * (size - OVERHEAD - 7) / (size + HEADERS)


def bulk_bytes(size: int) -> bytes:
    """What `Pair.transfer` sends."""
    at = -size % 251
    return (PATTERN * (size // len(PATTERN) + 2))[at : at + size]


# --- the table --------------------------------------------------------------------------------


def chat_latency(run: Pair, count: int, every_ns: int, start_ns: int) -> list[int]:
    """Round trips of small messages beside whatever else the pair does."""
    times: list[int] = []
    sent: list[Instant] = []

    def echo(stream: int, data: bytes) -> None:
        if stream == CHAT:
            run.right.streams.write(CHAT, data)

    def back(stream: int, data: bytes) -> None:
        times.extend(run.bench.now - sent[len(times)] for _ in range(len(data) // 100))

    def say() -> None:
        sent.append(run.bench.now)
        run.left.streams.write(CHAT, bytes(100))
        run.left.pump()

    run.right.on_data, run.left.on_data = echo, back
    for number in range(count):
        run.bench.at(start_ns + number * every_ns, say)
    return times


def row(name: str, controller: Callable[[int], Congestion], seconds: int, **setup: float) -> None:
    """One steady transfer with chat beside it."""
    run = pair(controller=controller, **setup)  # type: ignore[arg-type]
    run.left.bulk_left = 1 << 40
    run.left.pump()
    rtts = chat_latency(run, seconds * 10 - 5, SECOND // 10, SECOND // 10)
    half = SECOND
    run.bench.run(half)
    before = sum(map(len, run.right.got.get(BULK, [])))
    run.bench.run(seconds * SECOND)
    after = sum(map(len, run.right.got.get(BULK, [])))
    share = (after - before) / (seconds - 1) / goodput(setup["mbit"])
    there = run.there
    rtts.sort()
    model = run.left.recovery.congestion
    base = f" base={model.base_loss:.2f}" if isinstance(model, Bbr) else ""
    print(
        f"{name:9} {setup['mbit']:6} Mbit {setup['rtt_ms']:5} ms loss {setup.get('loss', 0):4.0%} "
        f"queue {setup.get('queue', 1):3} | {share:6.1%} of goodput | "
        f"queue mean {there.queue_ns_sum / max(1, there.packets) / MILLISECOND:6.1f} "
        f"max {there.queue_ns_max / MILLISECOND:6.1f} ms | overflow {there.overflowed:5} | "
        f"chat median {rtts[len(rtts) // 2] / MILLISECOND:6.1f} p95 "
        f"{rtts[len(rtts) * 95 // 100] / MILLISECOND:6.1f} max {rtts[-1] / MILLISECOND:6.1f} ms"
        f" spurious {run.left.recovery.packets_spurious}{base}"
    )


def completion(
    name: str, controller: Callable[[int], Congestion], size: int, **setup: float
) -> None:
    run = pair(controller=controller, **setup)  # type: ignore[arg-type]
    took = run.transfer(size, 900 * SECOND)
    if took < 0:
        print(f"{name:9} {size / 1e6:5} MB {setup} | not within 900 s")
        return
    ideal = size / goodput(setup["mbit"]) + setup["rtt_ms"] / 1000
    print(
        f"{name:9} {size / 1e6:5} MB {setup['mbit']:6} Mbit {setup['rtt_ms']:5} ms loss "
        f"{setup.get('loss', 0):4.0%} | {took / SECOND:8.2f} s ({ideal * SECOND / took:5.1%} of "
        f"the ideal) | lost {run.left.recovery.packets_lost} spurious "
        f"{run.left.recovery.packets_spurious} overflow {run.there.overflowed}"
    )


def main() -> None:
    pick = sys.argv[1:] or ["steady", "bursts", "cells"]
    controllers = [("bbr", Bbr)] + [("newreno", NewReno)] * ("reno" in pick)
    for name, controller in controllers:
        if "steady" in pick:
            for mbit, rtt, seconds in ((10, 40, 20), (10, 100, 20), (50, 20, 10), (20, 300, 20)):
                for loss in (0.0, 0.01, 0.05):
                    row(name, controller, seconds, mbit=mbit, rtt_ms=rtt, loss=loss, queue=1)
            row(name, controller, 20, mbit=10, rtt_ms=40, queue=20)
            row(name, controller, 20, mbit=10, rtt_ms=40, queue=0.25)
            row(name, controller, 20, mbit=10, rtt_ms=100, queue=0.1)
        if "bursts" in pick:
            for rtt in (20, 50, 200):
                completion(name, controller, 5_000_000, mbit=20, rtt_ms=rtt, loss=0.3, burst_max=3)
        if "cells" in pick:
            for size in (1_000_000, 10_000_000):
                for rtt in (20, 100, 300):
                    for mbit in (5, 20, 100):
                        for loss in (0.0, 0.01, 0.02, 0.05):
                            completion(name, controller, size, mbit=mbit, rtt_ms=rtt, loss=loss)


if __name__ == "__main__":
    main()
