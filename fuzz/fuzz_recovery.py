"""Each packet that was sent is told acknowledged or lost as the ACKs say, and counted once.

The input is a program of batches that leave, ACK frames, probe timeouts, changes of path and time.
Beside the real `Recovery` stands a table of packet numbers. An ACK of a number that was never used
is a `Violation`, and no other is; what an ACK covers is told acknowledged, nothing else is; a
packet is told lost at most once, and only when a later one was acknowledged; what is in flight adds
up; after ACKs of everything nothing is in flight and no timer runs.

`Received` writes the ACKs of the other side, and is held to a set of numbers.
"""

from __future__ import annotations

from typing import Final

from clawchat.core.instant import MICROSECOND, MILLISECOND, SECOND
from clawchat.core.recovery.bbr import Bbr
from clawchat.core.recovery.congestion import NewReno
from clawchat.core.recovery.contents import Item, ItemKind, Run, Sent
from clawchat.core.recovery.received import RANGES_KEPT_MAX, Received
from clawchat.core.recovery.recovery import ACKS_KEPT_MAX, LOST_KEPT_MAX, Outcome, Recovery
from clawchat.errors import CloseCode, Violation
from fuzz.harness import expect
from fuzz.program import BLOB, BYTE, NUMBER, Grammar, Op

SIZE: Final = 1200
STEPS_MAX: Final = 300
WAITS: Final = (0, MICROSECOND, MILLISECOND, 10 * MILLISECOND, 100 * MILLISECOND, SECOND)


class World:
    """The sender's recovery and the receiver's memory, with a table of what is true."""

    def __init__(self, controller: int) -> None:
        self.now = 0
        self.recovery = Recovery(0, SIZE, (Bbr, NewReno)[controller % 2])
        self.next = 0
        self.state: dict[int, str] = {}  # of what elicits: flight, lost, acked
        self.small: set[int] = set()  # numbers of packets that do not elicit
        self.received = Received()
        self.known: set[int] = set()  # what the receiver got
        self.over = False

    # --- steps --------------------------------------------------------------------------------

    def op_send(self, count: int, what: int) -> None:
        """A batch; the bits of `what` say of what kind."""
        count = 1 + count % 40
        first, self.next = self.next, self.next + count
        last, eliciting = self.next - 1, what % 4 != 3
        items: tuple[Item, ...] = ()
        run: Run | None = None
        if what % 4 == 0:
            run = Run(4, first * 1000, 1000, count * 1000 - what % 1000, what > 128)
        elif what % 4 == 1 or not eliciting:
            last, self.next = first, first + 1
            items = ((ItemKind.MTU_PROBE, SIZE) if what > 128 else (ItemKind.PING, first),)
        for number in range(first, last + 1):
            if eliciting:
                self.state[number] = "flight"
            else:
                self.small.add(number)
        self.recovery.sent(Sent(first, last, self.now, SIZE, eliciting, items, run))

    def op_skip(self, count: int) -> None:
        """Numbers that are left out."""
        self.next += count % 8

    def op_wait(self, which: int) -> None:
        self.now += WAITS[which % len(WAITS)] * (1 + which // 16)

    def op_due(self) -> None:
        """The timer, when there is one; its time comes."""
        deadline = self.recovery.deadline
        if deadline is not None:
            self.now = max(self.now, deadline)
            before = self.recovery.pto_count
            outcome = self.recovery.due(self.now)
            later = (self.recovery.deadline or 0) > deadline  # the path's time has become longer
            assert outcome.lost or self.recovery.pto_count > before or later, "a timer for nothing"
            self.settle(outcome, set())

    def op_arrive(self, first: int, count: int, eliciting: int) -> None:
        """Packets reach the receiver."""
        low = min(first, 1 << 40)
        self.known.update(range(low, low + 1 + count % 20))
        self.received.note(low, low + count % 20, self.now, eliciting % 2 == 0)

    def op_say(self, delay: int) -> None:
        """The receiver's ACK; as far as it is of packets that were sent, it reaches the sender."""
        if not self.known:
            return
        self.now += delay
        ack = self.received.ack(self.now)
        if ack is None:
            return
        assert len(ack.ranges) <= RANGES_KEPT_MAX
        told = {number for low, high in ack.ranges for number in range(low, high + 1)}
        assert told <= self.known, "an ACK of what did not arrive"
        self.acknowledge(ack.ranges, delay)

    def op_forget(self, below: int) -> None:
        self.received.forget(below)

    def op_ack(self, back: int, length: int, gaps: bytes, delay: int) -> None:
        """Any ACK frame, counted back from the newest packet; a little ahead of it, too."""
        high = self.next + 1 - back
        low = high - length % 64
        ranges = [(low, high)]
        for gap, size in zip(gaps[::2], gaps[1::2], strict=False):
            high = low - 2 - gap % 16
            low = high - size % 16
            ranges.append((low, high))
        self.acknowledge(tuple((max(0, a), b) for a, b in ranges if b >= 0), delay)

    def op_path(self) -> None:
        self.recovery.path_changed(self.now)

    def op_probe(self, room: int) -> None:
        self.recovery.probe()
        oldest = self.recovery.oldest(room)
        assert len(oldest) * SIZE <= max(room, SIZE)
        for packet in oldest:
            assert packet.first == packet.last
            assert self.state[packet.first] == "flight"

    def op_room(self, size: int) -> None:
        assert self.recovery.room(self.now) >= 0
        self.recovery.resized(SIZE + size)
        at = self.recovery.room_at
        assert at is None or at >= 0

    # --- what must hold -----------------------------------------------------------------------

    def acknowledge(self, ranges: tuple[tuple[int, int], ...], delay: int) -> None:
        if not ranges:
            return
        covered = {n for low, high in ranges for n in range(low, min(high, self.next) + 1)}
        wrong = ranges[0][1] >= self.next or not covered <= self.state.keys() | self.small
        try:
            outcome = self.recovery.acknowledged(ranges, delay, self.now)
        except Violation as violation:
            expect(wrong and violation.code is CloseCode.ACK)
            self.over = True
            return
        assert not wrong, "an ACK of what was never sent was taken"
        assert outcome.rtt_sample_ns is None or outcome.rtt_sample_ns >= 0
        self.settle(outcome, covered)
        flying = {number for number in covered if self.state.get(number) == "flight"}
        assert not flying, f"{flying} were acknowledged, and nobody was told"

    def settle(self, outcome: Outcome, covered: set[int]) -> None:
        """What recovery tells of records fits the table."""
        for record in outcome.acked:
            for number in range(record.first, record.last + 1):
                assert number in covered, "acknowledged without an ACK"
                if number in self.small:
                    self.small.remove(number)
                    self.state[number] = "acked"
                    continue
                assert self.state[number] != "acked", "acknowledged twice"
                self.state[number] = "acked"
            self.fits(record)
        newest = max((n for n, state in self.state.items() if state == "acked"), default=-1)
        for record in outcome.lost:
            assert record.last < newest, "lost, and nothing later has arrived"
            for number in range(record.first, record.last + 1):
                assert self.state[number] == "flight", "lost twice, or after it was acknowledged"
                self.state[number] = "lost"
            self.fits(record)
        self.adds_up()

    @staticmethod
    def fits(record: Sent) -> None:
        """A part of a batch holds the bytes that these packets had."""
        if record.run is not None:
            assert record.run.offset == record.first * 1000
            assert 0 < record.run.length <= 1000 * (record.last - record.first + 1)

    def adds_up(self) -> None:
        recovery = self.recovery
        flying = sorted(number for number, state in self.state.items() if state == "flight")
        told = [n for record in recovery._flight for n in range(record.first, record.last + 1)]
        assert told == flying
        here = sum(number >= recovery._path_first for number in flying)
        assert recovery.in_flight == here * SIZE
        assert len(recovery._lost) <= LOST_KEPT_MAX
        assert len(recovery._acks) <= ACKS_KEPT_MAX
        assert (recovery.deadline is None) == (not flying)
        assert recovery.cwnd >= SIZE
        assert recovery.probes >= 0

    def all_is_acknowledged(self) -> None:
        """The last ACKs come: everything rests."""
        numbers = sorted(number for number, state in self.state.items() if state == "flight")
        for number in numbers:
            self.acknowledge(((number, number),), 0)
        assert self.recovery.in_flight == 0
        assert self.recovery.deadline is None


GRAMMAR: Final = Grammar(
    head=(BYTE,),
    ops=(
        Op("send", BYTE, BYTE),
        Op("skip", BYTE),
        Op("wait", BYTE),
        Op("due"),
        Op("arrive", NUMBER, BYTE, BYTE),
        Op("say", NUMBER),
        Op("forget", NUMBER),
        Op("ack", NUMBER, BYTE, BLOB, NUMBER),
        Op("path"),
        Op("probe", NUMBER),
        Op("room", BYTE),
    ),
)
_OPS: Final = tuple(getattr(World, f"op_{op.name}") for op in GRAMMAR.ops)


def check(data: bytes) -> None:
    head, steps = GRAMMAR.read(data)
    (controller,) = head
    assert isinstance(controller, int)
    world = World(controller)
    for op, values in steps[:STEPS_MAX]:
        _OPS[op](world, *values)
        if world.over:
            return
    world.all_is_acknowledged()


def examples() -> list[bytes]:
    """Programs that make sense."""
    many = ("send", 9, 0)
    return [
        GRAMMAR.program((0,), many, ("wait", 3), ("ack", 2, 9, b"", 0), many, ("due",), ("due",)),
        GRAMMAR.program((1,), many, many, ("wait", 3), ("ack", 2, 3, b"\2\1\0\3", 5), ("due",)),
        GRAMMAR.program((0,), many, ("ack", 2, 0, b"", 0), ("wait", 4), ("ack", 5, 9, b"", 0)),
        GRAMMAR.program(
            (0,), many, ("path",), ("send", 1, 3), ("ack", 2, 3, b"", 0), ("probe", 3000)
        ),
        GRAMMAR.program((0,), many, ("arrive", 0, 3, 0), ("arrive", 6, 2, 1), ("say", 9)),
        GRAMMAR.program((0,), many, ("skip", 1), ("send", 0, 1), ("ack", 2, 3, b"", 0)),
    ]


if __name__ == "__main__":
    from fuzz.harness import run

    run("recovery")
