"""One link over which replies are streamed, and what an observer on the path sees of each.

Two real endpoints in the simulator; the listener frames each token as our agent and gateway do
(server-sent events in HTTP chunks). The observer notes time, direction and size of every datagram
from the question to the moment at which nothing moves any more. He is told where a reply's traffic
begins and ends, which a real one would have to find out.

Rules: a course depends on its name alone; public faces only.
Left to others: which replies (`replies`), what is made of what was seen (`guess`).
"""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Final

from attrs import Factory, define, frozen

from bench.ours import DIALER, LISTENER, pairing
from bench.shaped.replies import Reply, make_reply
from clawchat.apps import sse
from clawchat.apps.events import RunEvent, RunFinished, RunStarted, Token, encode_event
from clawchat.core.actions import Notice, StreamData
from clawchat.core.credential import Address, Path
from clawchat.core.events import Consumed, Dial, Remember, StreamClass, Write, stream_id
from clawchat.core.instant import MILLISECOND, SECOND
from clawchat.drivers.simulator.build import build_endpoint
from clawchat.drivers.simulator.clock import HostClock, Timeline
from clawchat.drivers.simulator.disk import Disk
from clawchat.drivers.simulator.host import Application, Host, Silent
from clawchat.drivers.simulator.network import HEADERS, Conditions, Network, Parcel

LINK: Final = 1
HERE: Final = Address("10.0.1.1", 40_000)
THERE: Final = Address("10.0.0.1", 50_000)
ROAD: Final = Conditions(
    latency_ns=20 * MILLISECOND, jitter_ns=5 * MILLISECOND, loss=0.005, bandwidth_bps=20_000_000
)
QUIET: Final = 1500 * MILLISECOND  # without a datagram: the reply's traffic is over
QUESTION: Final = b"q" * 600  # request head and a line
ANSWER_HEAD: Final = b"h" * 220  # status line and headers of an event stream
IDLE: Final = 60 * SECOND


@frozen
class Seen:
    """A datagram as an observer on the path sees it; `at` counts from the first of its reply."""

    at: float  # seconds
    down: bool  # from the agent
    size: int  # of the UDP payload


@define
class Trace:
    """What was seen of one reply, and what its reader noticed of the shaping."""

    kind: int
    link: int
    training: bool
    seen: list[Seen] = Factory(list)
    seconds: float = 0.0  # from the first byte of the answer to its last, as it was written
    said: int = 0  # bytes of the answer's stream
    late: list[float] = Factory(list)  # seconds of each write on its way

    @property
    def moved(self) -> int:
        """Bytes on the wire, both ways, with IP and UDP headers."""
        return sum(one.size + HEADERS for one in self.seen)


class Answering(Silent):
    """The listener's application: streams the reply at hand."""

    def __init__(self, *, shaped: bool) -> None:
        self.shaped = shaped
        self.reply: Reply = []
        self.written: list[tuple[int, int]] = []  # when how many bytes had been written in all

    def noticed(self, host: Host, link: int, notice: Notice) -> None:
        if isinstance(notice, StreamData):
            host.do(Consumed(link, notice.stream, len(notice.data)))
            if notice.end:
                self.written = []
                self._write(host, link, notice.stream, ANSWER_HEAD)
                started = RunStarted(1, "r" * 22, "c" * 22, "m" * 22)
                self._event(host, link, notice.stream, started)
                self._go_on(host, link, notice.stream, 0)

    def _go_on(self, host: Host, link: int, stream: int, number: int) -> None:
        """Write a token, then the next when its time comes."""
        if number:
            self._event(host, link, stream, Token(number + 1, self.reply[number - 1][1]))
        if number < len(self.reply):
            wait = self.reply[number][0]
            host.after(wait, partial(self._go_on, host, link, stream, number + 1))
            return
        text = "".join(token for _, token in self.reply)
        self._event(host, link, stream, RunFinished(number + 2, text))
        self._write(host, link, stream, b"0\r\n\r\n", end=True)

    def _event(self, host: Host, link: int, stream: int, event: RunEvent) -> None:
        body = sse.encode(event.id, *encode_event(event))
        self._write(host, link, stream, b"%x\r\n%b\r\n" % (len(body), body))

    def _write(self, host: Host, link: int, stream: int, data: bytes, *, end: bool = False) -> None:
        host.do(Write(link, stream, data, end, self.shaped))
        total = self.written[-1][1] if self.written else 0
        self.written.append((host.timeline.now, total + len(data)))


class Asking(Silent):
    """The dialer's application."""

    def __init__(self) -> None:
        self.arrived: list[tuple[int, int]] = []  # when how many bytes had come in all
        self.ended = False

    def noticed(self, host: Host, link: int, notice: Notice) -> None:
        if isinstance(notice, StreamData):
            host.do(Consumed(link, notice.stream, len(notice.data)))
            total = self.arrived[-1][1] if self.arrived else 0
            self.arrived.append((host.timeline.now, total + len(notice.data)))
            self.ended = notice.end


class Course:
    """One link; `ask` streams one reply over it."""

    def __init__(self, name: str, *, shaped: bool) -> None:
        self.shaped = shaped
        self.dice = Random(f"shaped/{name}")
        self.timeline = Timeline()
        self.network = Network(self.timeline, self.dice, ROAD)
        self.network.taps.append(self._look)
        self.answering, self.asking = Answering(shaped=shaped), Asking()
        self.listener = self._host("listener", THERE, LISTENER, self.answering)
        self.dialer = self._host("dialer", HERE, DIALER, self.asking)
        self.seen: list[Seen] = []
        self.began = self.last = 0
        self.sequence = 0
        self.listener.do(Remember(pairing(0, dialer=False)))
        self.dialer.do(Dial(LINK, pairing(0, dialer=True), (Path(HERE, THERE),)))
        self._run(5 * SECOND)

    def _host(self, name: str, address: Address, identity: bytes, application: Application) -> Host:
        host = Host(
            name=name,
            address=address,
            timeline=self.timeline,
            network=self.network,
            clock=HostClock(),
            rng=self.dice,
            build=build_endpoint,
            application=application,
            disk=Disk(self.timeline, self.dice),
            seed=str(self.dice.random()),
            identity=identity,
        )
        host.start()
        return host

    def _look(self, parcel: Parcel) -> None:
        self.last = self.timeline.now
        at = (self.timeline.now - self.began) / SECOND
        self.seen.append(Seen(at, parcel.source == THERE, len(parcel.data)))

    def _run(self, for_ns: int) -> None:
        self.timeline.run_until(self.timeline.now + for_ns)

    def ask(self, reply: Reply, trace: Trace) -> None:
        """Stream one reply, and note what was seen of it in `trace`."""
        self.answering.reply = reply
        self.asking.arrived, self.asking.ended = [], False
        self.seen, self.began = [], self.timeline.now
        self.sequence += 1
        stream = stream_id(self.sequence, StreamClass.INTERACTIVE, dialer=True)
        self.dialer.do(Write(LINK, stream, QUESTION, end=True, shaped=self.shaped))
        while not self.asking.ended:
            self._run(100 * MILLISECOND)
        while self.timeline.now - self.last < QUIET:
            self._run(100 * MILLISECOND)
        written, arrived = self.answering.written, self.asking.arrived
        trace.seen = self.seen
        trace.seconds = (written[-1][0] - written[0][0]) / SECOND
        trace.said = written[-1][1]
        at = 0
        for when, total in written:
            while arrived[at][1] < total:
                at += 1
            trace.late.append((arrived[at][0] - when) / SECOND)

    def idle(self) -> int:
        """How many datagrams a minute takes in which nobody says anything."""
        self.seen, self.began = [], self.timeline.now
        self._run(IDLE)
        return len(self.seen)


@define
class Plan:
    """The replies of one link."""

    what: str
    link: int
    classes: int
    replies: int
    training: bool
    shaped: bool


def go(plan: Plan) -> tuple[list[Trace], int]:
    """Stream all of a plan's replies; the traces, and the datagrams of an idle minute after."""
    name = f"{plan.what}/{plan.link}/{plan.training}"
    course = Course(name, shaped=plan.shaped)
    kinds = [number % plan.classes for number in range(plan.replies)]
    Random(name).shuffle(kinds)
    traces = []
    for number, kind in enumerate(kinds):
        trace = Trace(kind, plan.link, plan.training)
        serial = plan.link * plan.replies + number
        course.ask(make_reply(plan.what, kind, serial, training=plan.training), trace)
        traces.append(trace)
    return traces, course.idle()
