"""A whole endpoint meets nothing it cannot take, and nothing unauthenticated changes a phase.

The input is a program for two real endpoints in virtual time: the first byte says how far they
are, the others are steps. Of each step one byte chooses what happens: time, a better or worse
network or disk, a restart, something the application asks (which may raise a `LocalError` and
nothing else), noise, a changed, repeated or withheld datagram, or a packet that authenticates and
says whatever the input says. `Closed` is the last word about a link, but for a receipt of what was
destroyed, and time always goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

from clawchat.core.actions import Closed, Compromised, Notify
from clawchat.core.credential import Pairing, Path
from clawchat.core.events import (
    Close,
    Consumed,
    DatagramReceived,
    DeclareCompromised,
    Dial,
    Disturbed,
    Event,
    Forget,
    Persisted,
    PersistFailed,
    Ping,
    PublishBootstrap,
    Remember,
    ResetStream,
    RotateKeys,
    SendDatagram,
    StopStream,
    WithdrawBootstrap,
    Write,
)
from clawchat.core.exchange import first_pairing
from clawchat.core.instant import HOUR, MILLISECOND, SECOND, Instant
from clawchat.core.wire import frames
from clawchat.errors import CloseCode, CompromiseReason, LocalError
from fuzz.snapshot import Snapshot
from tests.core.pair import (
    DIALER,
    LATENCY,
    LISTENER,
    STRANGER,
    Parcel,
    Side,
    calm,
    config_of,
    dead,
    make_pair,
)

EVENTS_MAX = 20_000  # in one stretch of time: more would be a loop that does not end
STEPS_MAX = 64
BUSY = {"max_links": 3, "max_pending": 3, "rotate_packets": 40, "epoch_packets_max": 1200}
WAITS = (0, LATENCY, 100 * MILLISECOND, SECOND, 20 * SECOND, 60 * SECOND)
LINKS = (1, -1, 2, -2, 3, 0)
CODES = tuple(CloseCode)
ENDS = ((False, False), (True, False), (False, True), (True, True))  # of a write: ends, shaped


class Program:
    """The input, read from the front; zeros after its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def over(self) -> bool:
        return self._at >= len(self._data)

    def byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def number(self) -> int:
        """Small ones mostly, now and then one that no varint holds."""
        value = self.byte()
        return value if value < 240 else (value - 247) << self.byte() % 64

    def text(self) -> bytes:
        size = self.byte() * (8 if self._at % 2 else 1)
        piece = self._data[self._at : self._at + size]
        self._at += len(piece)
        return piece


class World:
    """The pair, and what must stay true of it."""

    def __init__(self, stage: int) -> None:
        self.program = Program(b"")
        self.pair = make_pair(
            "fuzz", listener=config_of("listener", **BUSY), dialer=config_of("dialer", **BUSY)
        )
        self.file = self.pair.publish()
        if stage:
            self.pair.dial(first_pairing(self.file))
        if stage > 1:
            self.run(SECOND if stage == 2 else 25 * MILLISECOND)

    # --- steps --------------------------------------------------------------------------------

    def side(self) -> Side:
        return self.pair.sides[self.program.byte() % 2]

    def recorded(self) -> Parcel | None:
        parcels = self.pair.parcels
        return parcels[-1 - self.program.byte() % len(parcels)] if parcels else None

    def wait(self) -> None:
        self.run(WAITS[self.program.byte() % len(WAITS)])

    def sleep(self) -> None:
        """A machine that slept: nobody looked at the clock."""
        self.pair.now += self.program.byte() * HOUR // 100
        self.run(0)

    def weather(self) -> None:
        networks: tuple[Callable[[Parcel], tuple[Instant, ...]], ...] = (
            calm,
            dead,
            lambda parcel: () if parcel.data[-1] % 3 == 0 else (LATENCY,),
            lambda parcel: (LATENCY + parcel.data[-1] * MILLISECOND,),
            lambda parcel: (LATENCY, 2 * LATENCY),
            lambda parcel: () if parcel.to == DIALER else (LATENCY,),
            lambda parcel: () if len(parcel.data) > 1100 else (LATENCY,),
        )
        self.pair.network = networks[self.program.byte() % len(networks)]

    def disk(self) -> None:
        side, kind = self.side(), self.program.byte() % 4
        side.disk.delay_ns = (0, SECOND, None, 0)[kind]
        side.disk.fails = lambda _number: kind == 3

    def restart(self) -> None:
        side = self.side()
        self.closed_is_the_last_word()
        side.did.clear()
        self.pair.restart(side)

    def ask(self) -> None:
        side = self.side()
        rows = len(side.taken)
        event = self.event(side)
        try:
            self.pair.do(side, event)
        except LocalError:
            assert len(side.taken) == rows, "an error of the application changed something"

    def event(self, side: Side) -> Event:
        program = self.program
        kind, link = program.byte() % 19, LINKS[program.byte() % len(LINKS)]
        stream = program.number()
        kept = list(side.disk.kept.values())
        pairing = kept[0] if kept else first_pairing(self.file)
        path = Path(side.address, LISTENER if side is self.pair.dialer else DIALER)
        made: tuple[Callable[[], Event], ...] = (
            lambda: Write(link, stream, program.text() * 20, *ENDS[program.byte() % len(ENDS)]),
            lambda: Consumed(link, stream, program.number()),
            lambda: ResetStream(link, stream, program.number()),
            lambda: StopStream(link, stream, program.number()),
            lambda: SendDatagram(link, program.text()),
            lambda: Ping(link, stream),
            lambda: RotateKeys(link),
            lambda: Close(link, CODES[stream % len(CODES)], program.text().decode("latin-1")),
            lambda: Dial(self.new_link(link), pairing, (path,)),
            lambda: Dial(self.new_link(link), first_pairing(self.file), (path, path)),
            lambda: PublishBootstrap((LISTENER,)),
            WithdrawBootstrap,
            lambda: Forget(pairing.file_id),
            lambda: Remember(pairing),
            lambda: Persisted(link, stream),
            lambda: PersistFailed(link, stream),
            lambda: Disturbed(link),
            lambda: Disturbed(link, (path, Path(side.address, STRANGER))),
            lambda: self.declaration(pairing),
        )
        return made[kind]()

    def declaration(self, pairing: Pairing) -> Event:
        reason, kind = CompromiseReason.UNSPECIFIED, self.program.byte() % 3
        if kind == 2:
            return DeclareCompromised(b"", reason, True)
        return DeclareCompromised(pairing.file_id, reason, kind == 1)

    def new_link(self, link: int) -> int:
        """A link id that was never used; now and then one that cannot be."""
        self.pair.links += 1
        return link if link <= 0 else self.pair.links

    def noise(self) -> None:
        """Bytes of nobody, some behind a hint or connection id that is known."""
        side, kind, data = self.side(), self.program.byte() % 4, self.program.text()
        registry = side.endpoint._registry
        known = (b"", *registry.routes, *registry.hints, *registry.calls)
        head = known[self.program.byte() % len(known)]
        if kind == 1:
            data = data.ljust(512 - len(head), b"\0")
        elif kind == 2:
            data = data * 40
        self.unauthenticated(side, head + data)

    def changed(self) -> None:
        parcel = self.recorded()
        if parcel is None:
            return
        data, at = bytearray(parcel.data), self.program.byte() * 5 % len(parcel.data)
        kind = self.program.byte()
        if kind % 4 == 0:
            del data[at:]
        elif kind % 4 == 1:
            data += bytes((kind,))
        else:
            data[at] ^= 1 << kind % 8
        side = self.pair.listener if parcel.to == LISTENER else self.pair.dialer
        self.unauthenticated(side, bytes(data))

    def again(self) -> None:
        """Something from the past, maybe to the wrong side, maybe from a wrong address."""
        parcel, side = self.recorded(), self.side()
        if parcel is not None:
            source = parcel.source if self.program.byte() % 2 else STRANGER
            self.pair.deliver(parcel.data, to=side, source=source)

    def batch(self) -> None:
        side = self.side()
        datagrams = [parcel.data for _ in range(4) if (parcel := self.recorded()) is not None]
        if datagrams:
            segment = len(datagrams[0]) + self.program.byte() % 3 - 1
            data = b"".join(datagrams)
            path = Path(side.address, STRANGER)
            self.pair.do(side, DatagramReceived(path, data, segment))

    def lie(self) -> None:
        """A packet that authenticates, with the input's bytes as its frames."""
        self.say(self.side(), self.program.text())

    def lie_in_proper_frames(self) -> None:
        """Frames that parse, with numbers that may make no sense."""
        side, program = self.side(), self.program
        payload = b"".join(self.frame() for _ in range(1 + program.byte() % 4))
        self.say(side, payload)

    def frame(self) -> bytes:
        program = self.program
        kind, first, second = program.byte() % 13, program.byte(), program.byte()
        made: tuple[Callable[[], bytes], ...] = (
            lambda: frames.encode_stream(first, second, program.text(), fin=second % 2 == 1),
            lambda: frames.encode_stream(first, 0, b"in order", fin=second % 2 == 1),
            lambda: frames.encode_reset(first, 7, second),
            lambda: frames.encode_stop(first, second),
            lambda: frames.encode_max_data(first << second % 50),
            lambda: frames.encode_max_stream(first, 1 << second % 60),
            lambda: frames.encode_max_streams(first << second % 50),
            lambda: frames.encode_ack(((min(first, second), max(first, second)),), first),
            lambda: frames.encode_path_challenge(bytes((first,)) * 8),
            lambda: frames.encode_datagram(program.text()),
            lambda: frames.encode_path_response(bytes((first,)) * 8),
            lambda: frames.encode_compromised(first, second),
            lambda: frames.COMPROMISED_ACK,
        )
        return made[kind]()

    def lie_on_the_control_stream(self) -> None:
        side = self.side()
        for link in side.endpoint._links.by_id.values():
            if link.transport is not None and link.usable:
                entry = link.transport.streams._live.get(0)
                offset = 0 if entry is None else entry.send.next
                message = self.program.text()
                self.say(side, frames.encode_stream(0, offset, message, fin=False), link.id)
                return

    def say(self, side: Side, payload: bytes, link_id: int | None = None) -> None:
        for link in side.endpoint._links.by_id.values():
            if link.transport is not None and link.usable and link_id in (None, link.id):
                self.pair.say(side, payload, link.id)
                return

    # --- what must stay true ------------------------------------------------------------------

    def unauthenticated(self, side: Side, data: bytes) -> None:
        """A datagram that proves nothing: no row is taken, no phase changes, nothing is said."""
        sent, rows, phases = len(side.sent), len(side.taken), list(self.phases(side))
        side.endpoint.handle(DatagramReceived(Path(side.address, STRANGER), data), self.pair.now)
        assert len(side.taken) == rows
        assert list(self.phases(side)) == phases
        assert not side.endpoint.actions(self.pair.now) or len(side.sent) == sent

    def phases(self, side: Side) -> Iterator[object]:
        endpoint = side.endpoint
        yield endpoint._issuing.model.phase
        for link in endpoint._links:
            yield link, link.handshake.phase, link.life.phase
            yield link.ratchet and link.ratchet.model.phase

    def run(self, ns: Instant) -> None:
        until = self.pair.now + ns
        for _ in range(EVENTS_MAX):
            if not self.pair._step(until):
                self.pair.now = until
                return
        raise AssertionError("time does not go on")

    def closed_is_the_last_word(self) -> None:
        for side in self.pair.sides:
            ended: set[int] = set()
            for action in side.acts(Notify):
                receipt = isinstance(action.notice, Compromised)  # the user needs it even then
                assert receipt or action.link not in ended, action
                if isinstance(action.notice, Closed):
                    ended.add(action.link)


STEPS: tuple[Callable[[World], None], ...] = (
    World.wait,
    World.ask,
    World.lie,
    World.noise,
    World.changed,
    World.again,
    World.batch,
    World.weather,
    World.lie_on_the_control_stream,
    World.ask,
    World.wait,
    World.disk,
    World.sleep,
    World.restart,
    World.lie_in_proper_frames,
    World.lie_in_proper_frames,
)


@lru_cache(maxsize=4)
def begun(stage: int) -> Snapshot[World]:
    """How far the pair is."""
    return Snapshot(World(stage))


def check(data: bytes) -> None:
    program = Program(data)
    world = begun(program.byte() % 4).thaw()
    world.program = program
    for _ in range(STEPS_MAX):
        if program.over:
            break
        STEPS[program.byte() % len(STEPS)](world)
        world.pair.flush(world.pair.dialer)
        world.pair.flush(world.pair.listener)
    world.run(15 * SECOND)
    world.closed_is_the_last_word()


if __name__ == "__main__":
    from fuzz.harness import run

    run("endpoint")
