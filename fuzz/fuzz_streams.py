"""Two sides that keep the rules deliver each other's streams whole, whatever the network does.

The input is a program: what the applications write, take, reset and stop, and for each frame
whether it arrives, late, twice or never, and when its sender learns of that. Beside the two real
`Streams` stand counters of what was written, what arrived and what was granted. Neither side may
see a `Violation`; what arrives is at each moment a prefix of what was written and within the
windows; limits never shrink, and windows grow no further than they may; in the end, when the
network lets everything pass, all has arrived.
"""

from __future__ import annotations

from typing import Final

from attrs import define, field

from clawchat.core.actions import StreamData, StreamReset, StreamStopped
from clawchat.core.instant import MILLISECOND, Instant
from clawchat.core.recovery.contents import Item, Run
from clawchat.core.streams.streams import Streams
from clawchat.core.streams.windows import Growth
from clawchat.core.wire import frames
from clawchat.core.wire.parameters import Limits
from clawchat.errors import LocalError
from fuzz.program import BYTE, NUMBER, Grammar, Op, Step, Value
from fuzz.session import pattern

LIMITS: Final = Limits(max_data=3000, max_stream=1200, max_streams=4, max_datagram=1200)
GROWTH: Final = Growth(stream_max=4000, link_max=6000, room=lambda: 3000)
RTT: Final = 64 * MILLISECOND
STEPS_MAX: Final = 300
ROUNDS_MAX: Final = 2000  # in the end: more would be a deadlock


@define(eq=False)
class Packet:
    """Frames on their way, and what their sender is told of them."""

    sender: int
    payload: bytes
    content: Run | Item
    known: bool = False  # whether the sender was told that it is lost or arrived
    arrived: bool = False


@define(eq=False)
class Side:
    """One real `Streams`, and its application."""

    streams: Streams
    written: dict[int, int] = field(factory=dict)
    ended: set[int] = field(factory=set)
    given_up: set[int] = field(factory=set)  # streams whose bytes need not all arrive
    got: dict[int, int] = field(factory=dict)
    finished: set[int] = field(factory=set)
    owed: dict[int, int] = field(factory=dict)
    granted: dict[int, int] = field(factory=dict)  # to the other, by stream; 0: the link's


class World:
    """Both sides and the network."""

    def __init__(self) -> None:
        self.sides = tuple(
            Side(Streams(dialer, LIMITS, LIMITS, GROWTH)) for dialer in (True, False)
        )
        self.now: Instant = 0
        self.packets: list[Packet] = []

    @staticmethod
    def stream(slot: int) -> int:
        """Of sequence 1 to 5, of either class and side; now and then the control stream."""
        return 0 if slot > 250 else (1 + slot % 5) << 2 | (slot >> 3) % 4

    # --- applications -------------------------------------------------------------------------

    def op_write(self, who: int, slot: int, size: int, how: int) -> None:
        side, stream, size = self.sides[who % 2], self.stream(slot), min(size, 5000)
        start, end = side.written.get(stream, 0), how % 4 == 1 and stream != 0
        data = b"".join(
            pattern(stream, start + at, min(1000, size - at)) for at in range(0, size, 1000)
        )
        try:
            side.streams.write(stream, data, end, shaped=how % 8 >= 6)
        except LocalError:
            return
        side.written[stream] = start + size
        if end:
            side.ended.add(stream)

    def op_take(self, who: int, slot: int, size: int) -> None:
        side, stream = self.sides[who % 2], self.stream(slot)
        size = min(size, side.owed.get(stream, 0))
        self.now += (who >> 1) * RTT // 32
        if size:
            side.streams.consumed(stream, size, self.now, RTT)
            side.owed[stream] -= size

    def op_reset(self, who: int, slot: int, code: int) -> None:
        side, stream = self.sides[who % 2], self.stream(slot)
        if stream:
            try:
                side.streams.reset(stream, code)
            except LocalError:
                return
            side.given_up.add(stream)

    def op_stop(self, who: int, slot: int, code: int) -> None:
        side, stream = self.sides[who % 2], self.stream(slot)
        if stream:
            try:
                side.streams.stop(stream, code)
            except LocalError:
                return
            side.owed.pop(stream, None)
            side.finished.add(stream)
            self.sides[1 - who % 2].given_up.add(stream)

    # --- the network --------------------------------------------------------------------------

    def op_send(self, who: int, kind: int, room: int, count: int) -> None:
        """Take from a side what it wants to send."""
        sender = who % 2
        streams, room = self.sides[sender].streams, 40 + room % 1200
        made: list[tuple[bytes, Run | Item]] = []
        if kind % 4 == 0:
            made += streams.control(room)
            for frame, _ in made:
                self.grants(self.sides[sender], frame)
        elif kind % 4 == 1 and (found := streams.next_frame(room)) is not None:
            made.append(found)
        elif kind % 4 == 2 and (batch := streams.next_run(1 + count % 8, room)) is not None:
            run, payloads = batch
            at = run.offset
            for number, payload in enumerate(payloads):
                length = min(run.chunk, run.offset + run.length - at)
                fin = run.fin and number == len(payloads) - 1
                made.append((payload, Run(run.stream, at, run.chunk, length, fin)))
                at += length
        elif kind % 4 == 3:
            made += streams.fill_cell(room)
        self.packets += [Packet(sender, payload, content) for payload, content in made]

    def pick(self, which: int) -> Packet | None:
        return self.packets[which % len(self.packets)] if self.packets else None

    def op_arrive(self, which: int) -> None:
        """A packet arrives, maybe for the second time."""
        packet = self.pick(which)
        if packet is None:
            return
        packet.arrived = True
        side = self.sides[1 - packet.sender]
        for frame in frames.parse_frames(packet.payload):
            self.take(side.streams, frame)
        self.listen(side, self.sides[packet.sender])

    @staticmethod
    def take(streams: Streams, frame: frames.Frame) -> None:
        match frame:
            case frames.Stream(stream, offset, data, fin):
                streams.on_stream(stream, offset, data, fin)
            case frames.MaxData(limit):
                streams.on_max_data(limit)
            case frames.MaxStream(stream, limit):
                streams.on_max_stream(stream, limit)
            case frames.MaxStreams(limit):
                streams.on_max_streams(limit)
            case frames.Reset(stream, code, final):
                streams.on_reset(stream, code, final)
            case frames.Stop(stream, code):
                streams.on_stop(stream, code)
            case _:
                raise AssertionError(f"streams do not say {frame}")

    def op_tell(self, which: int) -> None:
        """The sender learns that a packet arrived; one that did not is taken for lost."""
        packet = self.pick(which)
        if packet is None or (packet.known and not packet.arrived):
            return
        streams, content, packet.known = self.sides[packet.sender].streams, packet.content, True
        if isinstance(content, Run):
            (streams.acked_run if packet.arrived else streams.lost_run)(content)
        else:
            (streams.acked if packet.arrived else streams.lost)(content)
        if packet.arrived:
            self.packets.remove(packet)

    def op_suspect(self, which: int) -> None:
        """The sender takes a packet for lost that may have arrived."""
        packet = self.pick(which)
        if packet is not None and not packet.known:
            arrived, packet.arrived = packet.arrived, False
            self.op_tell(which)
            packet.arrived = arrived

    @staticmethod
    def grants(side: Side, payload: bytes) -> None:
        """Note what a side says of its windows."""
        (frame,) = frames.parse_frames(payload)
        match frame:
            case frames.MaxStream(stream, limit) if stream:
                taken = side.got.get(stream, 0) - side.owed.get(stream, 0)
                assert side.granted.get(stream, LIMITS.max_stream) <= limit
                assert limit <= taken + GROWTH.stream_max
                side.granted[stream] = limit
            case frames.MaxData(limit):
                assert side.granted.get(0, LIMITS.max_data) <= limit
                side.granted[0] = limit

    # --- what must hold -----------------------------------------------------------------------

    def listen(self, side: Side, other: Side) -> None:
        notices, told = side.streams.notices, []
        told += notices
        notices.clear()
        for notice in told:
            if isinstance(notice, StreamData):
                self.data(side, other, notice)
            elif isinstance(notice, StreamReset):
                assert notice.stream in other.given_up
                side.finished.add(notice.stream)
                side.owed.pop(notice.stream, None)
            elif isinstance(notice, StreamStopped):
                side.given_up.add(notice.stream)

    @staticmethod
    def data(side: Side, other: Side, notice: StreamData) -> None:
        stream, data, end = notice.stream, bytes(notice.data), notice.end
        at = side.got.get(stream, 0)
        assert stream not in side.finished, "data after the end"
        assert at + len(data) <= other.written[stream], "more than was written"
        assert data == pattern(stream, at, len(data)), "other bytes than were written"
        side.got[stream] = at + len(data)
        if stream:
            side.owed[stream] = side.owed.get(stream, 0) + len(data)
            assert side.got[stream] <= side.granted.get(stream, LIMITS.max_stream)
            assert sum(side.got.values()) - side.got.get(0, 0) <= side.granted.get(
                0, LIMITS.max_data
            )
            assert side.owed[stream] <= GROWTH.stream_max
            assert sum(side.owed.values()) <= GROWTH.link_max
        if end:
            assert stream in other.ended
            assert side.got[stream] == other.written[stream]
            side.finished.add(stream)

    def settle(self) -> None:
        """A network that lets everything pass, and applications that take everything."""
        for _ in range(ROUNDS_MAX):
            if not self.round():
                return
        raise AssertionError("the two sides never come to rest")

    def round(self) -> bool:
        """Whether anything happened."""
        busy = bool(self.packets)
        while self.packets:
            if not self.packets[0].arrived:
                self.op_arrive(0)
            self.op_tell(0)
        for who, side in enumerate(self.sides):
            for stream, size in list(side.owed.items()):
                side.owed[stream] = 0
                if size:
                    side.streams.consumed(stream, size, self.now, RTT)
                    busy = True
            for kind in range(4):
                self.op_send(who, kind, 1160, 7)
        return busy or bool(self.packets)

    def all_has_arrived(self) -> None:
        for side, other in (self.sides, self.sides[::-1]):
            for stream, size in side.written.items():
                if stream not in side.given_up:
                    assert other.got.get(stream, 0) == size, f"stream {stream} is not whole"
                    assert (stream in other.finished) == (stream in side.ended)


GRAMMAR: Final = Grammar(
    ops=(
        Op("write", BYTE, BYTE, NUMBER, BYTE),
        Op("take", BYTE, BYTE, NUMBER),
        Op("reset", BYTE, BYTE, NUMBER),
        Op("stop", BYTE, BYTE, NUMBER),
        Op("send", BYTE, BYTE, NUMBER, BYTE),
        Op("arrive", BYTE),
        Op("tell", BYTE),
        Op("suspect", BYTE),
    )
)
_OPS: Final = tuple(getattr(World, f"op_{op.name}") for op in GRAMMAR.ops)


def check(data: bytes) -> None:
    _, steps = GRAMMAR.read(data)
    world = World()
    play(world, steps)
    world.settle()
    world.all_has_arrived()


def play(world: World, steps: list[Step]) -> None:
    for op, values in steps[:STEPS_MAX]:
        _OPS[op](world, *values)


def examples() -> list[bytes]:
    """Programs that make sense."""
    write: tuple[str, *tuple[Value, ...]] = ("write", 0, 0, 4000, 1)
    back: tuple[str, *tuple[Value, ...]] = ("write", 1, 8, 700, 0)
    run: tuple[str, *tuple[Value, ...]] = ("send", 0, 2, 400, 5)
    return [
        GRAMMAR.program(
            (), write, run, ("arrive", 2), ("tell", 0), ("arrive", 1), ("take", 1, 0, 9)
        ),
        GRAMMAR.program((), write, run, ("arrive", 0), ("suspect", 0), ("arrive", 0), ("tell", 0)),
        GRAMMAR.program((), write, run, ("reset", 0, 0, 5), ("send", 0, 0, 99, 0), ("arrive", 3)),
        GRAMMAR.program((), write, run, ("arrive", 0), ("stop", 1, 0, 5), ("send", 1, 0, 99, 0)),
        GRAMMAR.program((), back, ("send", 1, 1, 90, 0), ("write", 1, 251, 60, 0), run, write),
        GRAMMAR.program((), ("write", 0, 0, 90, 7), ("send", 0, 3, 400, 0), ("arrive", 0), back),
    ]


if __name__ == "__main__":
    from fuzz.harness import run

    run("streams")
