"""What rotations of keys and ports cost a link that is in use, in virtual time.

The listener says a token of 8 bytes every 50 ms on an interactive stream, the dialer sends a bulk
stream the other way, and a tenth of all datagrams is lost in either direction. Meanwhile keys and
ports are rotated, by either side in turn. At the moment at which a rotation is asked for, a copy of
the world goes on without it; both lose the same things (`bench.fates`), and what a token's delay
differs by is what this rotation did.

    python -m bench.rotations --rotations 10000 --jobs 2

Rules: a run depends on its seed alone; every byte that arrives is compared with what was sent.
A copy of the world is a copy of the process, so this needs a system with `fork`.
Exit code 1 when a byte is lost, repeated or out of order, a rotation did not end and no rule of
PROTOCOL.md says why, or a token came more than a probe timeout later.
Left to others: NATs (`tests/scenarios/test_moving_ports.py`), faults (`fuzz.campaign`).
"""

from __future__ import annotations

import argparse
import os
import pickle
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from enum import Enum
from functools import partial
from itertools import islice
from multiprocessing import get_context
from random import Random
from statistics import median
from typing import Final, TypeAlias

from attrs import define, field, frozen

from bench.fates import Fates
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
from clawchat.core.phases import following_ports, rotating_ports
from clawchat.core.secret import Secret
from clawchat.drivers.simulator.clock import HostClock, Timeline
from clawchat.drivers.simulator.disk import Disk
from clawchat.drivers.simulator.host import Driven, Host, Silent
from clawchat.drivers.simulator.network import Conditions, Network, Parcel
from clawchat.drivers.simulator.shoulder import phases

LINK: Final = 1
CHAT: Final = stream_id(1, StreamClass.INTERACTIVE, dialer=False)
BULK: Final = stream_id(1, StreamClass.BULK, dialer=True)
HERE: Final = Address("10.0.1.1", 40_000)
THERE: Final = Address("10.0.0.1", 50_000)
WORD: Final = 8  # bytes of a token, and of each counted word of the bulk stream
EVERY: Final = 50 * MILLISECOND
TRIPS: Final = (10, 40, 150)  # round trips in ms that the courses take turns with
BULK_PIECE: Final = 1_000  # bytes, every 40 ms: 25 kB/s
BULK_EVERY: Final = 40 * MILLISECOND
ROUND: Final = 32 * SECOND  # in which each side changes its port once, since it keeps the old 30 s,
IN_ROUND: Final = 16  # and the other rotations are of keys
PER_COURSE: Final = 100  # rotations of one world
START: Final = 3 * SECOND
END: Final = 20 * SECOND  # for what is still under way
GAVE_UP: Final = "put off for a minute: the link became suspect"
FOLLOWS: Final = "put off for 5 s: the peer was about to move"
UNKNOWN: Final = "no rule says why"
SHARED: Final = "it shared a packet with another token in one of the two worlds, and other dice"
AGAIN: Final = "it was sent again sooner, which was lost as well, and then one probe timeout later"
TOLD_LATER: Final = "an acknowledgement that told of its loss was lost, or it was put off"


class Losing(Network):
    """Loses what the dice of its content say."""

    def __init__(self, timeline: Timeline, conditions: Conditions, fates: Fates) -> None:
        super().__init__(timeline, Random(fates.seed), conditions)
        self.fates = fates
        self.left: list[list[Left]] = []  # of each token

    def send(self, parcel: Parcel) -> None:
        fate = self.fates.of(parcel.source.host, parcel.destination.host, parcel.data)
        for stream, token in fate.pieces:
            if stream == CHAT:
                if token == len(self.left):
                    self.left.append([])
                self.left[token].append((self.timeline.now, fate.lost))
        if not fate.lost:
            super().send(parcel)


Left: TypeAlias = tuple[Instant, bool]
"""When a token left once, and whether it was lost."""


@frozen
class Token:
    """What became of one: when it was said, left each time, and was handed to the application."""

    said: Instant
    left: tuple[Left, ...]
    got: Instant

    @property
    def arrived(self) -> int:
        """The how manyeth time that it left was not lost."""
        return next((at for at, (_, lost) in enumerate(self.left) if not lost), len(self.left))


@frozen
class Rotation:
    """One that was asked for: when, of what, when the last side was told that it is over, and what
    became of the tokens that were under way when it was asked for, or were said after that and
    until a probe timeout after its end, with it and in the world without it.
    """

    asked: Instant
    port: bool
    ended: Instant
    probe_ns: int  # the probe timeout of the side that says the tokens
    tokens: tuple[Token, ...]
    without: tuple[Token, ...]

    def delays(self) -> Iterator[tuple[int, str]]:
        """By how much each token came later than without, and if by more than one probe timeout,
        why.
        """
        first = 0  # of those that came together: it is what the others waited for
        for at, (token, other) in enumerate(zip(self.tokens, self.without, strict=False)):
            if token.got != self.tokens[first].got:
                first = at
            added = token.got - other.got
            late = added > self.probe_ns
            yield added, _reason(self.tokens[first], self.without[first]) if late else ""

    def starts(self) -> Iterator[int]:
        """By how much each token left later than without, the first time."""
        for token, other in zip(self.tokens, self.without, strict=False):
            yield token.left[0][0] - other.left[0][0]


def _reason(token: Token, other: Token) -> str:
    if token.arrived > other.arrived:
        return SHARED
    times = list(zip(token.left, other.left, strict=False))[: token.arrived]
    return AGAIN if any(ours[0] < theirs[0] for ours, theirs in times) else TOLD_LATER


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
    gave_up: int = 0  # moves, for the link was suspect
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


def build(half: Half, host: Host, now: Instant, unix_ns: int, entropy: Entropy) -> Driven:
    """An endpoint that rotates nothing by itself but what a handshake brings."""

    def trace(table: str, source: Enum, event: str, dest: Enum) -> None:
        half.gave_up += event == "LinkLost" and source is rotating_ports.Phase.MOVING
        host.traced(table, source, event, dest)

    config = Config(
        identity=Secret(host.identity),
        rotate_traffic_ns=1000 * HOUR,
        rotate_latest_ns=1000 * HOUR,
        rotate_ports_ns=0,
    )
    return Endpoint(config, now=now, unix_ns=unix_ns, entropy=entropy, trace=trace)


@frozen
class Result:
    """What one course gave; `open` has why rotations had no end."""

    trip_ms: int
    rotations: tuple[Rotation, ...]
    open: tuple[str, ...]
    tokens: tuple[Token, ...]
    wrong: int
    missing: int
    bulk: int


class Course:
    """One world."""

    def __init__(self, seed: int, loss: float, count: int, *, one_way: bool = False) -> None:
        self.trip_ms = TRIPS[seed % len(TRIPS)]
        self.count = count
        self.lasts = START + ROUND * -(-count // IN_ROUND)
        self.open: list[str] = []
        self.timeline = Timeline()
        calm = Conditions(latency_ns=self.trip_ms * MILLISECOND // 2)
        losses = {THERE.host: loss, HERE.host: 0.0 if one_way else loss}
        fates = Fates(f"rotations/{seed}", losses, {CHAT: WORD, BULK: BULK_PIECE})
        self.network = Losing(self.timeline, calm, fates)
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
            build=partial(build, half),
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
        with self.network.fates.contents:
            return self._go()

    def _go(self) -> Result:
        self.listener.do(Remember(pairing(0, dialer=False)))
        self.dialer.do(Dial(LINK, pairing(0, dialer=True), (Path(HERE, THERE),)))
        self.timeline.run_until(START)
        assert self.listener.endpoint is not None
        (self.talking.link,) = self.listener.endpoint.links
        self.talking.every(self.listener, EVERY)
        self.sending.every(self.dialer, BULK_EVERY)
        rotations = [found for found in map(self._rotate, range(self.count)) if found]
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
            side.gave_up = 0
        first, probe_ns = len(self.sending.got_at), self._probe_ns()
        without = self._without(first, begins + length)
        follows = any(following_ports.Phase.FOLLOWING in found for _, found in _phases(host))
        host.do(RotatePort(half.link) if port else RotateKeys(half.link))
        wanted = PathChanged if port else KeysRotated
        until = begins + length - length // 7
        while self.timeline.now < until:
            ends = [
                [at for at, told in side.told if isinstance(told, wanted)]
                for side in (self.talking, self.sending)
            ]
            if all(ends):
                ended = max(found[-1] for found in ends)
                self.timeline.run_until(ended + probe_ns)
                return Rotation(begins, port, ended, probe_ns, self._tokens(first), without)
            self._run(MILLISECOND)
        self.open.append(_why(half, follows=follows and port))
        return None

    def _without(self, first: int, until: Instant) -> tuple[Token, ...]:
        """The tokens from `first` on that are said until then, if nothing is asked for.

        That happens in a copy of this process, which ends with it.
        """
        source, sink = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                self.timeline.run_until(until)
                told = pickle.dumps(self._tokens(first))
                with open(sink, "wb") as pipe:
                    pipe.write(told)
            finally:
                os._exit(0)
        os.close(sink)
        with open(source, "rb") as pipe:
            found = pipe.read()
        os.waitpid(child, 0)
        assert found, "the other world broke"
        tokens: tuple[Token, ...] = pickle.loads(found)
        return tokens

    def _tokens(self, first: int = 0) -> tuple[Token, ...]:
        """Those from `first` on that were said until now; time goes by until they have arrived."""
        said = len(self.talking.sent_at)
        while len(self.sending.got_at) < said:
            self._run(MILLISECOND)
        found = zip(self.talking.sent_at, self.network.left, self.sending.got_at, strict=False)
        return tuple(Token(at, tuple(left), got) for at, left, got in islice(found, first, said))

    def _probe_ns(self) -> int:
        endpoint = self.listener.endpoint
        assert isinstance(endpoint, Endpoint)
        transport = endpoint._links.by_id[self.talking.link].transport
        assert transport is not None
        return transport.recovery.pto_ns

    def _result(self, rotations: list[Rotation]) -> Result:
        chat, bulk = self.talking, self.sending
        missing = (chat.written - bulk.received // WORD) + (bulk.written - chat.received // WORD)
        return Result(
            trip_ms=self.trip_ms,
            rotations=tuple(rotations),
            open=tuple(self.open),
            tokens=self._tokens(),
            wrong=chat.wrong + bulk.wrong + chat.ended + bulk.ended,
            missing=missing,
            bulk=chat.received,
        )


def _phases(host: Host) -> Iterator[tuple[int, tuple[Enum, ...]]]:
    assert host.endpoint is not None
    return phases(host.endpoint)


def _why(half: Half, *, follows: bool) -> str:
    """Why a rotation that this side was asked for has not ended (PROTOCOL.md 17.5)."""
    kept = [told.why for _, told in half.told if isinstance(told, PortKept)]
    if kept:
        return kept[-1]
    if half.gave_up:
        return GAVE_UP
    return FOLLOWS if follows else UNKNOWN


@define
class Figures:
    """Of all courses with one round trip. Times in ms."""

    trip_ms: int
    keys: int = 0
    ports: int = 0
    open: Counter[str] = field(factory=Counter)
    wrong: int = 0
    missing: int = 0
    tokens: int = 0
    bulk: int = 0
    starts: int = 0  # ns by which a token left later the first time, at most
    earlier: int = 0  # tokens during a rotation that came earlier than without it
    later: int = 0
    under: int = 0  # more than a probe timeout earlier
    over: Counter[str] = field(factory=Counter)  # more than a probe timeout later, and why
    durations: list[float] = field(factory=list)
    probes: list[float] = field(factory=list)
    during: list[float] = field(factory=list)
    outside: list[float] = field(factory=list)
    added: list[float] = field(factory=list)  # to tokens during a rotation

    def take(self, found: Result) -> None:
        self.keys += sum(not rotation.port for rotation in found.rotations)
        self.ports += sum(rotation.port for rotation in found.rotations)
        self.open.update(found.open)
        self.wrong += found.wrong
        self.missing += found.missing
        self.tokens += len(found.tokens)
        self.bulk += found.bulk
        inside: set[Instant] = set()
        for rotation in found.rotations:
            self._compare(rotation)
            inside.update(token.said for token in rotation.tokens if token.said >= rotation.asked)
        for token in found.tokens:
            during = self.during if token.said in inside else self.outside
            during.append((token.got - token.said) / MILLISECOND)

    def _compare(self, rotation: Rotation) -> None:
        self.durations.append((rotation.ended - rotation.asked) / MILLISECOND)
        self.probes.append(rotation.probe_ns / MILLISECOND)
        self.starts = max(self.starts, *rotation.starts())
        for added, why in rotation.delays():
            self.added.append(added / MILLISECOND)
            self.earlier += added < 0
            self.later += added > 0
            self.under += added < -rotation.probe_ns
            if why:
                self.over[why] += 1


def share(values: list[float], percent: float) -> float:
    """The value that so many percent do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def go(run: tuple[int, float, int, bool]) -> Result:
    """One world."""
    seed, loss, count, one_way = run
    return Course(seed, loss, count, one_way=one_way).go()


def measured(rotations: int, loss: float, jobs: int, *, one_way: bool) -> list[Figures]:
    """Run enough courses."""
    courses = -(-rotations // PER_COURSE)
    runs = [(seed, loss, min(PER_COURSE, rotations), one_way) for seed in range(courses)]
    by_trip = {trip: Figures(trip) for trip in TRIPS}
    if jobs > 1:
        with get_context("spawn").Pool(jobs) as pool:
            for found in pool.imap_unordered(go, runs):
                by_trip[found.trip_ms].take(found)
    else:
        for found in map(go, runs):
            by_trip[found.trip_ms].take(found)
    return [figures for figures in by_trip.values() if figures.tokens]


ROTATIONS: Final = (
    "round trip",
    "rotations of keys, of ports",
    "not ended in 1.7 s",
    "tokens",
    "bulk",
    "lost, repeated or out of order",
    "rotation lasts: median, 95 %",
    "token's delay outside: median, 95 %",
    "during: median, 95 %",
)
TOKENS: Final = (
    "round trip",
    "tokens during a rotation",
    "left later, the first time: most",
    "came earlier than without it",
    "later",
    "added: mean, most",
    "one probe timeout: median",
    "more than one earlier",
    "more than one later",
)


def told(found: list[Figures]) -> list[str]:
    """Two tables, and reasons."""
    lines = [row(ROTATIONS), row(["---"] * len(ROTATIONS))]
    for f in found:
        lasts = f"{median(f.durations):.0f} ms, {share(f.durations, 95):.0f} ms"
        counts = f"{f.keys}, {f.ports}", f.open.total(), f.tokens, f"{f.bulk / 1e6:.0f} MB"
        delays = _pair(f.outside), _pair(f.during)
        lines.append(row([f"{f.trip_ms} ms", *counts, f.wrong + f.missing, lasts, *delays]))
    lines += ["", row(TOKENS), row(["---"] * len(TOKENS))]
    for f in found:
        starts = f"{f.starts / MILLISECOND:.1f} ms"
        added = f"{sum(f.added) / len(f.added):+.2f}, {max(f.added):.1f} ms"
        probe = f"{median(f.probes):.0f} ms"
        cells = len(f.added), starts, f.earlier, f.later, added, probe, f.under, f.over.total()
        lines.append(row([f"{f.trip_ms} ms", *cells]))
    for what, reasons in (("Not ended", "open"), ("More than one later", "over")):
        total = sum((getattr(f, reasons) for f in found), Counter[str]())
        lines += ["", *(f"{what}, {count} times: {why}." for why, count in total.items())]
    return lines


def row(cells: Sequence[object]) -> str:
    """One line of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def _pair(values: list[float]) -> str:
    return f"{median(values):.2f}, {share(values, 95):.2f} ms"


def failed(f: Figures) -> bool:
    """Whether something is not as it must be."""
    waited = f.starts > min(f.probes) * MILLISECOND
    return bool(f.wrong or f.missing or f.open[UNKNOWN] or waited)


def main() -> int:
    """Exit code 1 when something is not as it must be."""
    parser = argparse.ArgumentParser(prog="python -m bench.rotations")
    parser.add_argument("--rotations", type=int, default=10_000)
    parser.add_argument("--loss", type=float, default=0.1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--one-way", action="store_true", help="lose what the listener sends")
    chosen = parser.parse_args()
    found = measured(chosen.rotations, chosen.loss, chosen.jobs, one_way=chosen.one_way)
    print("\n".join(told(found)))
    return int(any(map(failed, found)))


if __name__ == "__main__":
    sys.exit(main())
