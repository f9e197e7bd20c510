"""A whole endpoint meets nothing it cannot take, and nothing unauthenticated changes a phase.

The input is a program (`fuzz.program`) for two real endpoints in virtual time: its head says how
far they are, its steps what happens: time, a better or worse network or disk, a restart, something
the application asks (which may raise a `LocalError` and nothing else), noise, a changed, repeated
or withheld datagram, or a packet that authenticates and says anything. `Closed` is the last word
about a link, but for a receipt of what was destroyed, and time always goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Final

from clawchat.core.actions import Closed, Compromised, Notify
from clawchat.core.credential import Address, Pairing, Path
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
    PortOpened,
    PortRefused,
    PublishBootstrap,
    Remember,
    ResetStream,
    RotateKeys,
    RotatePort,
    SendDatagram,
    StopStream,
    WithdrawBootstrap,
    Write,
)
from clawchat.core.exchange import first_pairing
from clawchat.core.instant import HOUR, MILLISECOND, SECOND, Instant
from clawchat.core.wire import frames, varint
from clawchat.core.wire.control import PortRotate, encode_control
from clawchat.errors import CloseCode, CompromiseReason, LocalError
from fuzz.program import BLOB, BYTE, NUMBER, Grammar, Op
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
STAGES = 6
WILD = {
    varint.MAX: -1,
    varint.MAX - 1: varint.MAX + 1,
    varint.MAX - 2: 1 << 70,
    varint.MAX - 3: -(1 << 40),
}
ENDS = ((False, False), (True, False), (False, True), (True, True))  # of a write: ends, shaped


def link_of(which: int) -> int:
    """An id: mostly of a link that there may be."""
    return LINKS[which % len(LINKS)]


def wild(number: int) -> int:
    """The highest of all numbers stand for some that no varint holds."""
    return WILD.get(number, number)


class World:
    """The pair, and what must stay true of it."""

    def __init__(self, stage: int) -> None:
        self.pair = make_pair(
            "fuzz", listener=config_of("listener", **BUSY), dialer=config_of("dialer", **BUSY)
        )
        self.file = self.pair.publish()
        if stage:
            self.pair.dial(first_pairing(self.file))
        if stage > 1:
            self.run(25 * MILLISECOND if stage == 2 else SECOND)
        if stage == 4:  # a port's change is under way
            self.pair.do(self.pair.dialer, RotatePort(1))
            self.run(LATENCY + MILLISECOND)
        elif stage == 5:  # cells run
            self.pair.do(self.pair.dialer, Write(1, 4, b"a word", shaped=True))
            self.run(SECOND // 10)

    def side(self, which: int) -> Side:
        return self.pair.sides[which % 2]

    def recorded(self, which: int) -> Parcel | None:
        parcels = self.pair.parcels
        return parcels[-1 - which % len(parcels)] if parcels else None

    # --- time, network, machines --------------------------------------------------------------

    def op_wait(self, which: int) -> None:
        self.run(WAITS[which % len(WAITS)])

    def op_sleep(self, hundredths: int) -> None:
        """A machine that slept: nobody looked at the clock."""
        self.pair.now += hundredths * HOUR // 100
        self.run(0)

    def op_weather(self, which: int) -> None:
        networks: tuple[Callable[[Parcel], tuple[Instant, ...]], ...] = (
            calm,
            dead,
            lambda parcel: () if parcel.data[-1] % 3 == 0 else (LATENCY,),
            lambda parcel: (LATENCY + parcel.data[-1] * MILLISECOND,),
            lambda parcel: (LATENCY, 2 * LATENCY),
            lambda parcel: () if parcel.to == DIALER else (LATENCY,),
            lambda parcel: () if len(parcel.data) > 1100 else (LATENCY,),
        )
        self.pair.network = networks[which % len(networks)]

    def op_disk(self, which: int, kind: int) -> None:
        disk = self.side(which).disk
        disk.delay_ns = (0, SECOND, None, 0)[kind % 4]
        disk.fails = lambda _number: kind % 4 == 3

    def op_ports(self, which: int, kind: int) -> None:
        """What the driver says to who wants a socket: yes, no, nothing."""
        answer = (True, False, None)[kind % 3]
        self.side(which).opens = lambda _local: answer

    def op_restart(self, which: int) -> None:
        side = self.side(which)
        self.closed_is_the_last_word()
        side.did.clear()
        side.sockets.clear()
        self.pair.restart(side)

    # --- the application ----------------------------------------------------------------------

    def ask(self, which: int, event: Event) -> None:
        side = self.side(which)
        rows = len(side.taken)
        try:
            self.pair.do(side, event)
        except LocalError:
            assert len(side.taken) == rows, "an error of the application changed something"

    def op_write(self, side: int, link: int, stream: int, data: bytes, how: int) -> None:
        event = Write(link_of(link), wild(stream), data * 20, *ENDS[how % len(ENDS)])
        self.ask(side, event)

    def op_consumed(self, side: int, link: int, stream: int, size: int) -> None:
        self.ask(side, Consumed(link_of(link), wild(stream), wild(size)))

    def op_reset(self, side: int, link: int, stream: int, code: int) -> None:
        self.ask(side, ResetStream(link_of(link), wild(stream), wild(code)))

    def op_stop(self, side: int, link: int, stream: int, code: int) -> None:
        self.ask(side, StopStream(link_of(link), wild(stream), wild(code)))

    def op_datagram(self, side: int, link: int, data: bytes, times: int) -> None:
        self.ask(side, SendDatagram(link_of(link), data * (1 + times % 8)))

    def op_ping(self, side: int, link: int, token: int) -> None:
        self.ask(side, Ping(link_of(link), wild(token)))

    def op_rotate(self, side: int, link: int) -> None:
        self.ask(side, RotateKeys(link_of(link)))

    def op_move(self, side: int, link: int) -> None:
        self.ask(side, RotatePort(link_of(link)))

    def op_close(self, side: int, link: int, code: int, reason: bytes) -> None:
        event = Close(link_of(link), CODES[code % len(CODES)], reason.decode("latin-1"))
        self.ask(side, event)

    def op_dial(self, which: int, link: int, how: int) -> None:
        """With what the disk holds, or the file once more; now and then with an id of no link."""
        side, wanted = self.side(which), link_of(link)
        self.pair.links += 1
        pairing = first_pairing(self.file) if how % 2 else self.pairing(side)
        paths = (self.path(side),) * (1 + how // 2 % 2)
        self.ask(which, Dial(wanted if wanted <= 0 else self.pair.links, pairing, paths))

    def op_publish(self, side: int) -> None:
        self.ask(side, PublishBootstrap((LISTENER,)))

    def op_withdraw(self, side: int) -> None:
        self.ask(side, WithdrawBootstrap())

    def op_forget(self, side: int) -> None:
        self.ask(side, Forget(self.pairing(self.side(side)).file_id))

    def op_remember(self, side: int) -> None:
        self.ask(side, Remember(self.pairing(self.side(side))))

    def op_persisted(self, side: int, link: int, ticket: int, how: int) -> None:
        """The driver says what became of a write that there may never have been."""
        kind = PersistFailed if how % 2 else Persisted
        self.ask(side, kind(link_of(link), wild(ticket)))

    def op_opened(self, side: int, link: int, port: int, how: int) -> None:
        """Or of a socket."""
        kind = PortRefused if how % 2 else PortOpened
        local = Address(self.side(side).address.host, 50_000 + port)
        self.ask(side, kind(link_of(link), local))

    def op_disturbed(self, which: int, link: int, how: int) -> None:
        path = self.path(self.side(which))
        paths = (path, Path(path.local, STRANGER)) if how % 2 else ()
        self.ask(which, Disturbed(link_of(link), paths))

    def op_declare(self, side: int, kind: int) -> None:
        file_id = b"" if kind % 3 == 2 else self.pairing(self.side(side)).file_id
        reason, everything = CompromiseReason.UNSPECIFIED, kind % 3 > 0
        self.ask(side, DeclareCompromised(file_id, reason, everything))

    def pairing(self, side: Side) -> Pairing:
        return next(iter(side.disk.kept.values()), first_pairing(self.file))

    def path(self, side: Side) -> Path:
        return Path(side.address, LISTENER if side is self.pair.dialer else DIALER)

    # --- strangers ----------------------------------------------------------------------------

    def op_noise(self, which: int, kind: int, head: int, data: bytes) -> None:
        """Bytes of nobody, some behind a hint or connection id that is known."""
        side = self.side(which)
        registry = side.endpoint._registry
        known = (b"", *registry.routes, *registry.hints, *registry.calls)
        start = known[head % len(known)]
        if kind % 4 == 1:
            data = data.ljust(512 - len(start), b"\0")
        elif kind % 4 == 2:
            data = data * 40
        self.unauthenticated(side, start + data)

    def op_changed(self, which: int, at: int, how: int) -> None:
        parcel = self.recorded(which)
        if parcel is None:
            return
        data = bytearray(parcel.data)
        at %= len(data)
        if how % 4 == 0:
            del data[at:]
        elif how % 4 == 1:
            data.append(how)
        else:
            data[at] ^= 1 << how % 8
        side = self.pair.listener if parcel.to == LISTENER else self.pair.dialer
        self.unauthenticated(side, bytes(data))

    def op_again(self, which: int, side: int, how: int) -> None:
        """Something from the past, maybe to the wrong side, maybe from a wrong address."""
        parcel = self.recorded(which)
        if parcel is not None:
            source = parcel.source if how % 2 else STRANGER
            self.pair.deliver(parcel.data, to=self.side(side), source=source)

    def op_batch(self, which: int, first: int, count: int, shift: int) -> None:
        """Several at once, as segmentation offload gives them."""
        side, parcels = self.side(which), self.pair.parcels
        if parcels:
            start = -1 - first % len(parcels)
            datagrams = [parcel.data for parcel in parcels[start:][: 1 + count % 4]]
            segment = max(0, len(datagrams[0]) + shift % 3 - 1)
            path = Path(side.address, STRANGER)
            self.pair.do(side, DatagramReceived(path, b"".join(datagrams), segment))

    # --- a peer that lies ---------------------------------------------------------------------

    def op_lie(self, side: int, payload: bytes) -> None:
        """A packet that authenticates, with any bytes as its frames."""
        self.say(self.side(side), payload)

    def op_say(self, side: int, kind: int, first: int, second: int, text: bytes) -> None:
        """A frame that parses, with numbers that may make no sense."""
        byte, low, high = bytes((first % 256,)) * 8, min(first, second), max(first, second)
        offset = min(second, varint.MAX - len(text))
        made: tuple[Callable[[], bytes], ...] = (
            lambda: frames.encode_stream(first, offset, text, fin=second % 2 == 1),
            lambda: frames.encode_stream(first, 0, b"in order", fin=second % 2 == 1),
            lambda: frames.encode_reset(first, 7, second),
            lambda: frames.encode_stop(first, second),
            lambda: frames.encode_max_data(first),
            lambda: frames.encode_max_stream(first, second),
            lambda: frames.encode_max_streams(first),
            lambda: frames.encode_ack(((low, high),), first),
            lambda: frames.encode_path_challenge(byte),
            lambda: frames.encode_datagram(text),
            lambda: frames.encode_path_response(byte),
            lambda: frames.encode_compromised(first, second),
            lambda: frames.COMPROMISED_ACK,
        )
        self.say(self.side(side), made[kind % len(made)]())

    def op_control(self, side: int, message: bytes) -> None:
        """Bytes on the control stream, in order."""
        self.on_control(self.side(side), message)

    def op_announce(self, side: int, sequence: int, port: int) -> None:
        """A move that may never come."""
        message = PortRotate(sequence, 1 + port % 0xFFFF, (STRANGER,) * (port % 5))
        self.on_control(self.side(side), encode_control(message))

    def on_control(self, side: Side, message: bytes) -> None:
        for link in side.endpoint._links.by_id.values():
            if link.transport is not None and link.usable:
                entry = link.transport.streams._live.get(0)
                offset = 0 if entry is None else entry.send.next
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
            if link._upkeep is not None:
                yield link._upkeep.ports.move.phase, link._upkeep.ports.follow.phase

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


GRAMMAR: Final = Grammar(
    head=(BYTE,),
    ops=(
        Op("wait", BYTE),
        Op("sleep", BYTE),
        Op("weather", BYTE),
        Op("disk", BYTE, BYTE),
        Op("ports", BYTE, BYTE),
        Op("restart", BYTE),
        Op("write", BYTE, BYTE, NUMBER, BLOB, BYTE),
        Op("consumed", BYTE, BYTE, NUMBER, NUMBER),
        Op("reset", BYTE, BYTE, NUMBER, NUMBER),
        Op("stop", BYTE, BYTE, NUMBER, NUMBER),
        Op("datagram", BYTE, BYTE, BLOB, BYTE),
        Op("ping", BYTE, BYTE, NUMBER),
        Op("rotate", BYTE, BYTE),
        Op("move", BYTE, BYTE),
        Op("close", BYTE, BYTE, BYTE, BLOB),
        Op("dial", BYTE, BYTE, BYTE),
        Op("publish", BYTE),
        Op("withdraw", BYTE),
        Op("forget", BYTE),
        Op("remember", BYTE),
        Op("persisted", BYTE, BYTE, NUMBER, BYTE),
        Op("opened", BYTE, BYTE, BYTE, BYTE),
        Op("disturbed", BYTE, BYTE, BYTE),
        Op("declare", BYTE, BYTE),
        Op("noise", BYTE, BYTE, BYTE, BLOB),
        Op("changed", BYTE, NUMBER, BYTE),
        Op("again", BYTE, BYTE, BYTE),
        Op("batch", BYTE, BYTE, BYTE, BYTE),
        Op("lie", BYTE, BLOB),
        Op("say", BYTE, BYTE, NUMBER, NUMBER, BLOB),
        Op("control", BYTE, BLOB),
        Op("announce", BYTE, NUMBER, NUMBER),
    ),
)
_OPS: Final[tuple[Callable[..., None], ...]] = tuple(
    getattr(World, f"op_{op.name}") for op in GRAMMAR.ops
)


@lru_cache(maxsize=STAGES)
def begun(stage: int) -> Snapshot[World]:
    """How far the pair is."""
    return Snapshot(World(stage))


def check(data: bytes) -> None:
    (stage,), steps = GRAMMAR.read(data)
    assert isinstance(stage, int)
    world = begun(stage % STAGES).thaw()
    for op, values in steps[:STEPS_MAX]:
        _OPS[op](world, *values)
        world.pair.flush(world.pair.dialer)
        world.pair.flush(world.pair.listener)
    world.run(2 * SECOND)
    world.closed_is_the_last_word()


def examples() -> list[bytes]:
    """Programs that make sense."""
    wait: tuple[Any, ...] = ("wait", 3)
    late: tuple[Any, ...] = ("wait", 5)
    write: tuple[Any, ...] = ("write", 1, 0, 6, b"data", 1)
    noise = tuple(("noise", 0, kind, 1, b"whatever") for kind in range(4))
    changed = (("changed", 1, 10, 2), ("changed", 3, 35, 4), ("changed", 5, 5, 1))
    crash = (("disk", 0, 1), wait, ("restart", 1), ("dial", 1, 0, 0), wait)
    lies = tuple(("lie", 1, lie) for lie in (b"\1", b"\x1a12345678", b""))
    weather = tuple(step for kind in range(7) for step in (("weather", kind), write, wait))
    linked = 3
    programs: list[tuple[int, tuple[tuple[Any, ...], ...]]] = [
        (0, noise),
        (1, (wait, *changed, late)),
        (linked, (write, wait, ("rotate", 1, 0), wait, ("close", 1, 0, 0, b"bye"), wait)),
        (linked, (*lies, wait)),
        (linked, (*noise, *changed, ("again", 1, 0, 1), ("batch", 0, 1, 2, 3))),
        (2, (*crash, late)),
        (linked, (*crash, write, late)),
        (linked, weather),
        (linked, (write, ("sleep", 9), late)),
        (linked, (("control", 0, b"\x24\0\x24\0"), wait, ("control", 1, b"\x20\0"), wait)),
        (linked, (*(("say", 1, kind, 6, 8, b"xy") for kind in range(10)), wait)),
        (linked, tuple(("say", 0, kind, 7, 3, b"") for kind in range(13))),
        (linked, (("move", 1, 0), wait, ("move", 0, 1), late, ("move", 1, 0), ("ports", 0, 1))),
        (linked, (("ports", 1, 2), ("move", 1, 0), late, ("opened", 1, 0, 9, 0), ("move", 0, 1))),
        (linked, (("announce", 1, 1, 50_000), wait, ("announce", 1, 3, 9), wait)),
        (4, (write, wait, ("disturbed", 1, 0, 1), late, ("declare", 0, 0), wait)),
        (5, (("write", 1, 0, 4, b"another", 3), ("weather", 2), wait, ("consumed", 0, 1, 4, 9))),
        (linked, (("declare", 1, 1), wait, ("dial", 1, 0, 1), ("remember", 0), wait)),
        (linked, (("forget", 0), wait, ("publish", 0), ("withdraw", 0), ("persisted", 0, 1, 9, 0))),
        (linked, (("reset", 1, 0, 4, varint.MAX), ("stop", 0, 1, 4, 7), ("ping", 1, 0, 9), late)),
        (linked, (("datagram", 1, 0, b"audio", 9), ("disturbed", 0, 1, 0), wait)),
    ]
    return [GRAMMAR.program((stage,), *steps) for stage, steps in programs]


if __name__ == "__main__":
    from fuzz.harness import run

    run("endpoint")
