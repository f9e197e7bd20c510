"""What rotations of keys and ports cost a link that is in use, in virtual time.

The listener says a token of 8 bytes every 50 ms on an interactive stream, the dialer sends a bulk
stream the other way, and a tenth of all datagrams is lost in either direction. Meanwhile keys and
ports are rotated, by either side in turn. Each world is run twice, with the rotations and without:
whether a datagram is lost is a matter of its direction and its millisecond, so both runs meet the
same losses, and what a token's delay differs by is what the rotation did.

    python -m bench.rotations --rotations 10000 --jobs 2

Rules: a run depends on its seed alone; every byte that arrives is compared with what was sent.
Exit code 1 when a byte is lost, repeated or out of order, or a rotation did not end.
Left to others: NATs (`tests/scenarios/test_moving_ports.py`), faults (`fuzz.campaign`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from hashlib import blake2b
from multiprocessing import get_context
from random import Random
from statistics import median
from typing import Final

from attrs import define, field, frozen

from bench.ours import DIALER, LISTENER, pairing
from clawchat.core.actions import (
    Closed,
    KeysRotated,
    Notice,
    PathChanged,
    PortKept,
    PortRotated,
    StreamData,
)
from clawchat.core.config import Config, Entropy
from clawchat.core.credential import Address, Path
from clawchat.core.endpoint import Endpoint
from clawchat.core.events import (
    Consumed,
    Dial,
    Remember,
    RotateKeys,
    RotatePort,
    StreamClass,
    Write,
    stream_id,
)
from clawchat.core.instant import HOUR, MILLISECOND, SECOND, Instant
from clawchat.core.secret import Secret
from clawchat.drivers.simulator.clock import HostClock, Timeline
from clawchat.drivers.simulator.disk import Disk
from clawchat.drivers.simulator.host import Driven, Host, Silent
from clawchat.drivers.simulator.network import Conditions, Network, Parcel

LINK: Final = 1
CHAT: Final = stream_id(1, StreamClass.INTERACTIVE, dialer=False)
BULK: Final = stream_id(1, StreamClass.BULK, dialer=True)
HERE: Final = Address("10.0.1.1", 40_000)
THERE: Final = Address("10.0.0.1", 50_000)
WORD: Final = 8  # bytes of a token, and of each counted word of the bulk stream
EVERY: Final = 50 * MILLISECOND
TRIPS: Final = (10, 40, 150)  # round trips in ms that the courses take turns with
SLOT: Final = MILLISECOND  # datagrams of one direction share their fate in it
BULK_PIECE: Final = 1_000  # bytes, every 40 ms: 25 kB/s
BULK_EVERY: Final = 40 * MILLISECOND
ROUND: Final = 32 * SECOND  # in which each side changes its port once, since it keeps the old 30 s,
IN_ROUND: Final = 16  # and the other rotations are of keys
PER_COURSE: Final = 100  # rotations of one world
START: Final = 3 * SECOND
END: Final = 20 * SECOND  # for what is still under way


class Losing(Network):
    """Loses datagrams by direction and time, not by how many came before."""

    def __init__(self, timeline: Timeline, seed: str, conditions: Conditions, loss: float) -> None:
        super().__init__(timeline, Random(seed), conditions)
        self.seed = seed
        self.limit = int(loss * 65_536)

    def send(self, parcel: Parcel) -> None:
        slot = self.timeline.now // SLOT
        name = f"{self.seed}/{parcel.source.host}/{slot}".encode()
        if int.from_bytes(blake2b(name, digest_size=2).digest(), "big") >= self.limit:
            super().send(parcel)


@frozen
class Rotation:
    """One that was asked for: when, of what, and when the last side was told that it is over."""

    asked: Instant
    port: bool
    ended: Instant
    probe_ns: int  # the probe timeout of the side that says the tokens


@define
class Half(Silent):
    """Either end's application: writes counted words, checks the words that come."""

    stream: int  # on which it writes
    piece: int
    link: int = 0
    written: int = 0  # words
    received: int = 0  # bytes
    wrong: int = 0  # pieces that are not what was due
    sent_at: list[Instant] = field(factory=list)
    got_at: list[Instant] = field(factory=list)
    told: list[tuple[Instant, Notice]] = field(factory=list)
    going: bool = True
    ended: bool = False

    def write(self, host: Host) -> None:
        words = range(self.written, self.written + self.piece // WORD)
        self.written = words.stop
        data = b"".join(word.to_bytes(WORD, "big") for word in words)
        self.sent_at.append(host.timeline.now)
        host.do(Write(self.link, self.stream, data))

    def every(self, host: Host, ns: Instant) -> None:
        if self.going and not self.ended:
            self.write(host)
            host.after(ns, partial(self.every, host, ns))

    def noticed(self, host: Host, link: int, notice: Notice) -> None:
        now = host.timeline.now
        if isinstance(notice, StreamData):
            self._take(bytes(notice.data), now)
            host.do(Consumed(link, notice.stream, len(notice.data)))
        elif isinstance(notice, KeysRotated | PortRotated | PortKept | PathChanged):
            self.told.append((now, notice))
        elif isinstance(notice, Closed):
            self.ended = True

    def _take(self, data: bytes, now: Instant) -> None:
        first, skip = divmod(self.received, WORD)
        last = (self.received + len(data)) // WORD + 1
        due = b"".join(word.to_bytes(WORD, "big") for word in range(first, last))
        self.wrong += due[skip : skip + len(data)] != data
        self.received += len(data)
        while (len(self.got_at) + 1) * WORD <= self.received and len(self.got_at) < 1 << 20:
            self.got_at.append(now)


def build(host: Host, now: Instant, unix_ns: int, entropy: Entropy) -> Driven:
    """An endpoint that rotates nothing by itself but what a handshake brings."""
    config = Config(
        identity=Secret(host.identity),
        rotate_traffic_ns=1000 * HOUR,
        rotate_latest_ns=1000 * HOUR,
        rotate_ports_ns=0,
    )
    return Endpoint(config, now=now, unix_ns=unix_ns, entropy=entropy, trace=host.traced)


@frozen
class Result:
    """What one course gave. Delays of tokens in ns; `failed` counts rotations without an end."""

    trip_ms: int
    rotations: tuple[Rotation, ...]
    failed: int
    kept: int
    sent_at: tuple[Instant, ...]
    delays: tuple[Instant, ...]
    wrong: int
    missing: int
    bulk: int


class Course:
    """One world."""

    def __init__(self, seed: int, loss: float, count: int, *, rotates: bool) -> None:
        self.trip_ms = TRIPS[seed % len(TRIPS)]
        self.count = count if rotates else 0
        self.lasts = START + ROUND * -(-count // IN_ROUND)
        self.timeline = Timeline()
        calm = Conditions(latency_ns=self.trip_ms * MILLISECOND // 2)
        self.network = Losing(self.timeline, f"rotations/{seed}", calm, loss)
        self.talking, self.sending = Half(CHAT, WORD), Half(BULK, BULK_PIECE, LINK)
        self.listener = self._host("listener", THERE, LISTENER, self.talking)
        self.dialer = self._host("dialer", HERE, DIALER, self.sending)

    def _host(self, name: str, address: Address, identity: bytes, half: Half) -> Host:
        host = Host(
            name=name,
            address=address,
            timeline=self.timeline,
            network=self.network,
            clock=HostClock(boot_ns=0),
            rng=Random(name),
            build=build,
            application=half,
            disk=Disk(self.timeline, Random(name)),
            seed="rotations",
            identity=identity,
            wake_delay_ns=0,
        )
        host.start()
        return host

    def _run(self, for_ns: Instant) -> None:
        self.timeline.run_until(self.timeline.now + for_ns)

    def go(self) -> Result:
        self.listener.do(Remember(pairing(0, dialer=False)))
        self.dialer.do(Dial(LINK, pairing(0, dialer=True), (Path(HERE, THERE),)))
        self.timeline.run_until(START)
        assert self.listener.endpoint is not None
        (self.talking.link,) = self.listener.endpoint.links
        self.talking.every(self.listener, EVERY)
        self.sending.every(self.dialer, BULK_EVERY)
        rotations = [found for found in map(self._rotate, range(self.count)) if found is not None]
        self.timeline.run_until(self.lasts)
        self.talking.going = self.sending.going = False
        self._run(END)
        return self._result(rotations)

    def _rotate(self, number: int) -> Rotation | None:
        """Ask for one at its moment; None when it did not end before the next."""
        length = ROUND // IN_ROUND
        port, by_dialer = number % IN_ROUND < 2, number % 2 == 0
        begins = START + number * length + Random(number).randrange(length // 8)
        self.timeline.run_until(begins)
        host, half = (self.dialer, self.sending) if by_dialer else (self.listener, self.talking)
        for side in (self.talking, self.sending):
            side.told.clear()
        host.do(RotatePort(half.link) if port else RotateKeys(half.link))
        wanted, probe_ns = PathChanged if port else KeysRotated, self._probe_ns()
        until = begins + length - length // 7
        while self.timeline.now < until:
            ends = [
                [at for at, told in side.told if isinstance(told, wanted)]
                for side in (self.talking, self.sending)
            ]
            if all(ends):
                return Rotation(begins, port, max(found[-1] for found in ends), probe_ns)
            self._run(MILLISECOND)
        return None

    def _probe_ns(self) -> int:
        endpoint = self.listener.endpoint
        assert isinstance(endpoint, Endpoint)
        transport = endpoint._links.by_id[self.talking.link].transport
        assert transport is not None
        return transport.recovery.pto_ns

    def _result(self, rotations: list[Rotation]) -> Result:
        chat, bulk = self.talking, self.sending
        delays = tuple(b - a for a, b in zip(chat.sent_at, bulk.got_at, strict=False))
        missing = (chat.written - bulk.received // WORD) + (bulk.written - chat.received // WORD)
        return Result(
            trip_ms=self.trip_ms,
            rotations=tuple(rotations),
            failed=self.count - len(rotations),
            kept=sum(isinstance(told, PortKept) for half in (chat, bulk) for _, told in half.told),
            sent_at=tuple(chat.sent_at),
            delays=delays,
            wrong=chat.wrong + bulk.wrong + chat.ended + bulk.ended,
            missing=missing,
            bulk=chat.received,
        )


@define
class Figures:
    """Of all courses with one round trip. Times in ms."""

    trip_ms: int
    keys: int = 0
    ports: int = 0
    failed: int = 0
    wrong: int = 0
    missing: int = 0
    tokens: int = 0
    bulk: int = 0
    over: int = 0  # tokens during a rotation that came a probe timeout later, or more
    durations: list[float] = field(factory=list)
    probes: list[float] = field(factory=list)
    during: list[float] = field(factory=list)
    outside: list[float] = field(factory=list)
    added: list[float] = field(factory=list)  # to tokens said during a rotation
    differs: list[float] = field(factory=list)  # to all others: what chance alone does

    def take(self, ours: Result, plain: Result) -> None:
        self.keys += sum(not rotation.port for rotation in ours.rotations)
        self.ports += sum(rotation.port for rotation in ours.rotations)
        self.failed += ours.failed
        self.wrong += ours.wrong + plain.wrong
        self.missing += ours.missing + plain.missing
        self.tokens += len(ours.delays)
        self.bulk += ours.bulk
        self.durations += [(r.ended - r.asked) / MILLISECOND for r in ours.rotations]
        self.probes += [r.probe_ns / MILLISECOND for r in ours.rotations]
        spans = iter(ours.rotations)
        span = next(spans, None)
        for at, delay, other in zip(ours.sent_at, ours.delays, plain.delays, strict=False):
            while span is not None and at > span.ended + span.probe_ns:
                span = next(spans, None)
            inside = span is not None and at >= span.asked
            (self.during if inside else self.outside).append(delay / MILLISECOND)
            (self.added if inside else self.differs).append((delay - other) / MILLISECOND)
            if span is not None and inside:
                self.over += delay - other > span.probe_ns


def share(values: list[float], percent: float) -> float:
    """The value that so many percent do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def go(run: tuple[int, float, int]) -> tuple[Result, Result]:
    """One world, with rotations and without."""
    return Course(*run, rotates=True).go(), Course(*run, rotates=False).go()


def measured(rotations: int, loss: float, jobs: int) -> list[Figures]:
    """Run enough courses."""
    courses = -(-rotations // PER_COURSE)
    runs = [(seed, loss, min(PER_COURSE, rotations)) for seed in range(courses)]
    by_trip = {trip: Figures(trip) for trip in TRIPS}
    if jobs > 1:
        with get_context("spawn").Pool(jobs) as pool:
            for ours, plain in pool.imap_unordered(go, runs):
                by_trip[ours.trip_ms].take(ours, plain)
    else:
        for ours, plain in map(go, runs):
            by_trip[ours.trip_ms].take(ours, plain)
    return [figures for figures in by_trip.values() if figures.tokens]


HEAD: Final = (
    "round trip",
    "rotations of keys, of ports",
    "not ended",
    "tokens",
    "bulk",
    "lost or repeated",
    "rotation lasts: median, 95 %",
)
DELAYS: Final = (
    "round trip",
    "token's delay outside: median, 95 %",
    "during: median, 95 %",
    "added during: mean, 95 %, 99.9 %, most",
    "the same outside",
    "one probe timeout: median",
    "added more than one",
)


def told(found: list[Figures]) -> list[str]:
    """Two tables."""
    lines = [row(HEAD), row(["---"] * len(HEAD))]
    for f in found:
        lasts = f"{median(f.durations):.0f} ms, {share(f.durations, 95):.0f} ms"
        counts = f"{f.keys}, {f.ports}", f.failed, f.tokens, f"{f.bulk / 1e6:.0f} MB"
        lines.append(row([f"{f.trip_ms} ms", *counts, f.wrong + f.missing, lasts]))
    lines += ["", row(DELAYS), row(["---"] * len(DELAYS))]
    for f in found:
        delays = _pair(f.outside), _pair(f.during), _spread(f.added), _spread(f.differs)
        probe = f"{median(f.probes):.0f} ms"
        lines.append(row([f"{f.trip_ms} ms", *delays, probe, f"{f.over} of {len(f.added)}"]))
    return lines


def row(cells: Sequence[object]) -> str:
    """One line of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def _pair(values: list[float]) -> str:
    return f"{median(values):.2f}, {share(values, 95):.2f} ms"


def _spread(values: list[float]) -> str:
    mean = sum(values) / len(values)
    return f"{mean:+.2f}, {share(values, 95):.2f}, {share(values, 99.9):.1f}, {max(values):.1f} ms"


def main() -> int:
    """Exit code 1 when a byte is wrong or a rotation did not end."""
    parser = argparse.ArgumentParser(prog="python -m bench.rotations")
    parser.add_argument("--rotations", type=int, default=10_000)
    parser.add_argument("--loss", type=float, default=0.1)
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    found = measured(arguments.rotations, arguments.loss, arguments.jobs)
    print("\n".join(told(found)))
    return int(any(f.wrong or f.missing or f.failed for f in found))


if __name__ == "__main__":
    sys.exit(main())
