"""Two ends and a network that loses, copies and reorders: the bytes come out as they went in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clawchat.core.actions import StreamData, StreamDrained
from clawchat.core.events import StreamClass, stream_id
from clawchat.core.instant import MILLISECOND
from clawchat.core.recovery.contents import Item, Run
from clawchat.core.streams.streams import Streams
from clawchat.core.streams.windows import Growth
from clawchat.core.wire import frames
from clawchat.core.wire.parameters import Limits
from clawchat.errors import BufferFull

LIMITS = Limits(3000, 1200, 9, 1452)
RTT = 100 * MILLISECOND
IDS = [stream_id(n, StreamClass(n % 2), dialer=True) for n in (1, 2, 3)]
Packet = tuple[list[frames.Frame], list[Item], Run | None]


class Pipe:
    """Packets wait in `there`; each is delivered, copied, lost or mistaken for lost."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.left = Streams(True, LIMITS, LIMITS)
        self.right = Streams(False, LIMITS, LIMITS, Growth(4000, 6000, lambda: 10_000))
        self.now = 0
        self.there: list[Packet] = []
        self.wrote = dict.fromkeys(IDS, b"")
        self.got = dict.fromkeys(IDS, b"")
        self.ended: list[int] = []
        self.finished: list[int] = []

    def pack(self, room: int) -> None:
        for frame, item in self.left.control(room):
            self.there.append((frames.parse_frames(frame), [item], None))
        if self.data.draw(st.booleans()):
            beside = self.left.next_frame(room)
            if beside is not None:
                self.there.append((frames.parse_frames(beside[0]), [beside[1]], None))
            return
        batch = self.left.next_run(self.data.draw(st.integers(1, 5)), room)
        if batch is not None:
            run, payloads = batch
            for number, payload in enumerate(payloads):
                at = run.offset + number * run.chunk
                length = min(run.chunk, run.offset + run.length - at)
                last = number == len(payloads) - 1
                piece = Run(run.stream, at, run.chunk, length, run.fin and last)
                self.there.append((frames.parse_frames(payload), [], piece))

    def fate(self) -> None:
        packet = self.there.pop(self.data.draw(st.integers(0, len(self.there) - 1)))
        fate = self.data.draw(st.sampled_from(["arrives", "twice", "lost", "late"]))
        if fate in ("lost", "late"):
            self.settle(packet, lost=True)
        if fate != "lost":
            for _ in range(2 if fate == "twice" else 1):
                self.arrive(packet)
            self.settle(packet, lost=False)

    def settle(self, packet: Packet, *, lost: bool) -> None:
        _, items, run = packet
        if run is not None:
            (self.left.lost_run if lost else self.left.acked_run)(run)
        for item in items:
            (self.left.lost if lost else self.left.acked)(item)

    def arrive(self, packet: Packet) -> None:
        for frame in packet[0]:
            assert isinstance(frame, frames.Stream)
            self.right.on_stream(frame.stream, frame.offset, frame.data, frame.fin)
        for notice in self.right.notices:
            if isinstance(notice, StreamData):
                assert notice.stream not in self.ended
                self.got[notice.stream] += bytes(notice.data)
                if notice.end:
                    self.ended.append(notice.stream)
        self.right.notices.clear()

    def consume(self) -> None:
        """The right side reads everything; its window frames arrive."""
        self.now += RTT // 2
        for stream in IDS:
            entry = self.right._live.get(stream)
            if entry is not None:
                unread = entry.receive.next - entry.receive.window.consumed
                self.right.consumed(stream, unread, self.now, RTT)
        for frame, _ in self.right.control(1000):
            (parsed,) = frames.parse_frames(frame)
            if isinstance(parsed, frames.MaxData):
                self.left.on_max_data(parsed.limit)
            else:
                assert isinstance(parsed, frames.MaxStream)
                self.left.on_max_stream(parsed.stream, parsed.limit)

    def drain(self) -> None:
        for notice in self.left.notices:
            if isinstance(notice, StreamDrained) and notice.finished:
                self.finished.append(notice.stream)
        self.left.notices.clear()


@given(st.data())
def test_what_goes_in_comes_out_whatever_the_network_does(data: st.DataObject) -> None:
    pipe = Pipe(data)
    rooms = st.integers(40, 400)
    for step in range(data.draw(st.integers(1, 12))):
        stream = data.draw(st.sampled_from(IDS))
        chunk = bytes((step + at) % 256 for at in range(data.draw(st.integers(0, 900))))
        try:
            pipe.left.write(stream, chunk)
            pipe.wrote[stream] += chunk
        except BufferFull:
            pass
        for _ in range(data.draw(st.integers(0, 3))):
            pipe.pack(data.draw(rooms))
        for _ in range(min(len(pipe.there), data.draw(st.integers(0, 4)))):
            pipe.fate()
        if data.draw(st.booleans()):
            pipe.consume()
        for each in IDS:
            assert pipe.wrote[each].startswith(pipe.got[each])
    for stream in IDS:
        pipe.left.write(stream, b"", True)
    for _ in range(200):
        batch = pipe.left.next_run(5, 300)
        if batch is not None:
            for payload in batch[1]:
                pipe.arrive((frames.parse_frames(payload), [], None))
            pipe.left.acked_run(batch[0])
        elif pipe.there:
            pipe.arrive(pipe.there[0])
            pipe.settle(pipe.there.pop(0), lost=False)
        pipe.consume()
    pipe.drain()
    assert pipe.got == pipe.wrote
    assert sorted(pipe.ended) == IDS
    assert sorted(pipe.finished) == IDS
    assert not pipe.left.pending()
    assert pipe.right._window.received == sum(map(len, pipe.wrote.values()))
