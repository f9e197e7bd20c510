"""Runs one transfer in virtual time: two hosts, one link, one stream from dialer to listener.

The clock starts when the dialer is told to dial and stops when the listener's application has the
last byte: the handshake is part of it, on our side also the listener's and dialer's writes of the
new credential (up to 5 ms each, as the simulator's disks take) and the first key ratchet.

Rules: both sides take at most `DATAGRAM` bytes and have windows of `WINDOW` bytes, except in the
runs "as shipped". The application reads at once.
Left to others: which runs (`cells`), aioquic's side (`quic`), our pairing (`bench.ours`).
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from time import perf_counter

from attrs import define, field, frozen

from bench.ours import DIALER, LISTENER, pairing
from bench.simulated import quic
from bench.simulated.cells import MEGABYTE, OURS, SHIPPED, Run
from clawchat.core.actions import (
    BootstrapContent,
    Established,
    LinkStats,
    Notice,
    StreamData,
    StreamDrained,
)
from clawchat.core.config import DEFAULT_LIMITS, Config, Entropy
from clawchat.core.credential import Address, Path
from clawchat.core.endpoint import Endpoint
from clawchat.core.events import Consumed, Dial, Remember, StreamClass, Write, stream_id
from clawchat.core.instant import SECOND, Instant
from clawchat.core.secret import Secret
from clawchat.core.wire.parameters import Limits
from clawchat.drivers.simulator.clock import HostClock, Timeline
from clawchat.drivers.simulator.disk import Disk
from clawchat.drivers.simulator.host import Application, Driven, Host, Silent
from clawchat.drivers.simulator.network import Network
from clawchat.errors import BufferFull

DATAGRAM = 1200
WINDOW = 64 << 20
LINK = 1
STREAM = stream_id(1, StreamClass.BULK, dialer=True)
PIECE = bytes(64 * 1024)
HERE = Address("10.0.1.1", 40_000)
THERE = Address("10.0.0.1", 50_000)
PATIENCE_S = 1_000  # virtual; whoever takes longer has not arrived
ENDLESS = 1 << 40


@frozen
class Result:
    """`seconds` is the completion time, -1 when it was not done in `PATIENCE_S`.

    `bits_per_second` counts the application's bytes alone, over the whole run, or over the
    second half of a steady one. `overflowed` and `lost` datagrams of both directions.
    """

    run: str
    seconds: float
    bits_per_second: float
    sent: int
    lost: int
    overflowed: int
    took_s: float


@define
class Arrivals:
    """What has reached the listener's application."""

    timeline: Timeline
    received: int = 0
    ended_at: int = -1
    marks: list[tuple[int, int]] = field(factory=list)

    def take(self, data: bytes, end: bool) -> None:
        self.received += len(data)
        if end:
            self.ended_at = self.timeline.now

    def mark(self) -> None:
        self.marks.append((self.timeline.now, self.received))


class Sender:
    """The dialer's application on our side: writes whenever there is room."""

    def __init__(self, size: int) -> None:
        self._left = size

    def noticed(self, host: Host, link: int, notice: Notice) -> None:
        if isinstance(notice, Established | StreamDrained):
            self._pump(host)

    def _pump(self, host: Host) -> None:
        while self._left:
            size = min(self._left, len(PIECE))
            try:
                host.do(Write(LINK, STREAM, PIECE[:size], end=size == self._left))
            except BufferFull:
                return
            self._left -= size

    def started(self, host: Host) -> None:
        """`Course` says when to dial."""

    def stopped(self, host: Host) -> None:
        """Nobody kills it."""

    def published(self, host: Host, content: BootstrapContent | None) -> None:
        """It publishes nothing."""


class Reader(Silent):
    """The listener's application on our side."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals

    def noticed(self, host: Host, link: int, notice: Notice) -> None:
        if isinstance(notice, StreamData):
            data = bytes(notice.data)
            self._arrivals.take(data, notice.end)
            if data:
                host.do(Consumed(link, notice.stream, len(data)))


class Course:
    """A link, two hosts and a transfer between them."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.timeline = Timeline()
        self.network = Network(
            self.timeline, Random(f"bench network/{run.seed}"), run.link.conditions
        )
        self.arrivals = Arrivals(self.timeline)
        self.size = run.size_mb * MEGABYTE or ENDLESS
        if run.who in (OURS, SHIPPED[0]):
            self._make_ours()
        else:
            self._make_theirs()

    def _host(
        self,
        name: str,
        address: Address,
        application: Application,
        build: Callable[[Host, Instant, int, Entropy], Driven],
    ) -> Host:
        dice = Random(f"bench host/{self.run.seed}/{name}")
        host = Host(
            name=name,
            address=address,
            timeline=self.timeline,
            network=self.network,
            clock=HostClock(),
            rng=dice,
            build=build,
            application=application,
            disk=Disk(self.timeline, dice),
            seed=str(self.run.seed),
            identity=DIALER if name == "dialer" else LISTENER,
        )
        host.start()
        return host

    def _make_ours(self) -> None:
        shipped = self.run.who == SHIPPED[0]
        limits = DEFAULT_LIMITS if shipped else Limits(WINDOW, WINDOW, 257, DATAGRAM)

        def build(host: Host, now: Instant, unix_ns: int, entropy: Entropy) -> Driven:
            config = Config(identity=Secret(host.identity), limits=limits)
            return Endpoint(config, now=now, unix_ns=unix_ns, entropy=entropy)

        self.listener = self._host("listener", THERE, Reader(self.arrivals), build)
        self.dialer = self._host("dialer", HERE, Sender(self.size), build)
        self.listener.do(Remember(pairing(0, dialer=False)))
        self.dialer.do(Dial(LINK, pairing(0, dialer=True), (Path(HERE, THERE),)))

    def _make_theirs(self) -> None:
        settings: dict[str, object] = {}
        if self.run.who != SHIPPED[1]:
            settings = {
                "congestion_control_algorithm": self.run.who,
                "max_data": WINDOW,
                "max_stream_data": WINDOW,
                "max_datagram_size": DATAGRAM,
            }
        # A steady run needs an endless supply, which aioquic would hold in memory.
        enough = int(self.run.lasts_s * self.run.link.mbit * 125_000 * 1.1)
        data = bytes(min(self.size, enough) if self.size == ENDLESS else self.size)
        client, server = quic.pair(
            HERE, THERE, lambda: client.write(data), self.arrivals.take, **settings
        )
        self.listener = self._host("listener", THERE, Silent(), lambda *_: server)
        self.dialer = self._host("dialer", HERE, Silent(), lambda *_: client)
        client.connect(THERE, self.dialer.now)
        self.dialer._wake_by(0)

    @property
    def stats(self) -> LinkStats:
        """Of the sending side."""
        assert self.dialer.endpoint is not None
        return self.dialer.endpoint.link_stats(LINK)

    def go(self) -> Result:
        began = perf_counter()
        bits = self._complete() if self.run.size_mb else self._steady()
        tally = self.network.tally
        seconds = self.arrivals.ended_at / SECOND if self.arrivals.ended_at >= 0 else -1.0
        return Result(
            run=self.run.name,
            seconds=round(seconds, 6),
            bits_per_second=round(bits, 1),
            sent=tally.sent,
            lost=tally.lost,
            overflowed=tally.queue_full,
            took_s=round(perf_counter() - began, 2),
        )

    def _complete(self) -> float:
        timeline = self.timeline
        while self.arrivals.ended_at < 0 and timeline.now < PATIENCE_S * SECOND:
            if not timeline.step():
                break
        if self.arrivals.ended_at < 0:
            return 0.0
        return self.size * 8 * SECOND / self.arrivals.ended_at

    def _steady(self) -> float:
        for part in (0.5, 1.0):
            self.timeline.run_until(int(self.run.lasts_s * part * SECOND))
            self.arrivals.mark()
        (since, before), (until, after) = self.arrivals.marks
        return (after - before) * 8 * SECOND / (until - since)


def go(run: Run) -> Result:
    """Run it, from the beginning to the end."""
    return Course(run).go()
