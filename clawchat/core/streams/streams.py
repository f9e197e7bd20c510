"""All streams of one link: what the application and the peer may do, and what to send next.

Rules: every frame of the peer is checked before anything changes; the peer's mistakes raise
`Violation`, the application's raise a `LocalError`; `notices` tells the application. Streams are
made by their first use. The control stream (id 0) never ends, does not count for the link's
window, and is consumed as it arrives, so that nothing can block it.
Left to others: packets (`core.packing`), losses (`core.recovery`), the meaning of control
messages (`core.link`).
"""

from __future__ import annotations

from typing import Final

from attrs import define

from clawchat.core.actions import (
    Notice,
    StreamData,
    StreamDrained,
    StreamOpened,
    StreamReset,
    StreamsGranted,
    StreamStopped,
)
from clawchat.core.events import CONTROL_STREAM, Buffer
from clawchat.core.instant import Instant
from clawchat.core.recovery.contents import Item, ItemKind, Run
from clawchat.core.recovery.ranges import RangeSet
from clawchat.core.streams.priorities import Priorities
from clawchat.core.streams.receive import ReceiveStream
from clawchat.core.streams.send import SendStream
from clawchat.core.streams.windows import NO_GROWTH, Growth, ReceiveWindow
from clawchat.core.wire.frames import (
    encode_max_data,
    encode_max_stream,
    encode_max_streams,
    encode_reset,
    encode_stop,
)
from clawchat.core.wire.parameters import Limits
from clawchat.errors import BufferFull, CloseCode, LocalError, StreamLimit, UnknownStream, Violation

CONTROL_WINDOW: Final = 65536  # bytes, in both directions, whatever the parameters say
STREAM_HEAD_MAX: Final = 32  # below this no STREAM frame with a useful amount of data fits
KEPT_LINK_MAX: Final = 24 << 20  # bytes not acknowledged, of all streams: what a large window takes
KEPT_FREE: Final = 1536 << 10  # bytes that each stream may keep beside the others, come what may
_UNLIMITED: Final = 1 << 62  # credit of the control stream


@define(eq=False)
class _Stream:
    """Both sides of a live stream; `stop_code` once we asked the peer to stop."""

    send: SendStream
    receive: ReceiveStream
    stop_code: int | None = None


class Streams:
    """`local` is what we told the peer we accept, `peer` what it told us; `growth` says how far our
    windows grow.
    """

    __slots__ = (
        "_announced",
        "_arrived",
        "_arriving",
        "_blocked",
        "_cells",
        "_credit",
        "_credit_limit",
        "_dialer",
        "_drained",
        "_due",
        "_due_in_cells",
        "_finished",
        "_finished_count",
        "_granted",
        "_granted_more",
        "_growth",
        "_kept",
        "_live",
        "_local",
        "_notices",
        "_peer",
        "_priorities",
        "_shaped",
        "_window",
    )

    def __init__(
        self, dialer: bool, local: Limits, peer: Limits, growth: Growth = NO_GROWTH
    ) -> None:
        self._dialer = dialer
        self._local = local
        self._peer = peer
        self._growth = growth
        self._window = ReceiveWindow(local.max_data)
        self._credit = self._credit_limit = peer.max_data  # new bytes that we may still send
        self._granted = peer.max_streams  # our sequence numbers must stay below
        self._granted_more = False  # told once for all that comes at once
        self._announced = local.max_streams  # the peer's must stay below
        self._finished_count = 0  # of streams that the peer opened
        self._kept = 0  # bytes of ours that are not acknowledged, of all streams
        self._live: dict[int, _Stream] = {}
        self._finished: list[RangeSet | None] = [None, None]  # sequences, by the id's side bit
        self._priorities = Priorities()
        self._cells = Priorities()  # of the streams that leave in cells
        self._shaped: dict[int, SendStream] = {}  # those of which we may still say something
        self._blocked: dict[int, None] = {}  # streams that wait for the link's credit
        self._due: dict[Item, None] = {}  # frames to send, in the order in which they fell due
        self._due_in_cells: dict[Item, None] = {}
        self._drained: dict[int, SendStream] = {}
        self._notices: list[Notice] = []
        self._arriving = CONTROL_STREAM  # the stream of `_arrived`
        self._arrived: list[Buffer] = []  # bytes in order that no notice tells of yet

    @property
    def notices(self) -> list[Notice]:
        """What to tell the application; whoever takes them clears the list."""
        if self._arrived:
            self._flush()
        if self._granted_more:
            self._granted_more = False
            self._notices.append(StreamsGranted(self._granted))
        if self._drained:
            for stream, send in self._drained.items():
                self._notices.append(StreamDrained(stream, send.buffered, send.delivered))
            self._drained.clear()
        return self._notices

    def _tell(self, notice: Notice) -> None:
        if self._arrived:
            self._flush()
        self._notices.append(notice)

    def _flush(self) -> None:
        """Make one notice of what came in order on one stream, as many packets as it were."""
        arrived = self._arrived
        data = arrived[0] if len(arrived) == 1 else b"".join(arrived)
        self._notices.append(StreamData(self._arriving, data, False))
        self._arrived = []

    def __len__(self) -> int:
        """How many streams are live, without the control stream."""
        return len(self._live) - (CONTROL_STREAM in self._live)

    @property
    def control_unheard(self) -> bool:
        """Whether something that we said on the control stream is not acknowledged."""
        control = self._live.get(CONTROL_STREAM)
        return control is not None and control.send.buffered > 0

    # --- the application ----------------------------------------------------------------------

    def write(self, stream: int, data: Buffer, end: bool = False, *, shaped: bool = False) -> None:
        """Append to our side; the first write to an id of ours opens the stream.

        With `shaped` our side leaves in cells, from now to its end. Raises `UnknownStream`,
        `StreamLimit` or `BufferFull`.
        """
        entry = self._live.get(stream)
        if entry is None:
            entry = self._open(stream)
        send = entry.send
        if self._kept >= KEPT_LINK_MAX and send.buffered >= KEPT_FREE:
            raise BufferFull("too much of this link is not acknowledged")
        before = send.end
        send.write(data, end)
        self._kept += send.end - before
        if shaped and not send.shaped:
            self._shape(stream, send)
        self._wake(stream, send)

    def _shape(self, stream: int, send: SendStream) -> None:
        """What it sends from now on, what was lost before as well, leaves in cells."""
        send.shaped = True
        self._shaped[stream] = send
        if send.queued:
            send.queued = False
            self._priorities.remove(stream)

    def consumed(self, stream: int, size: int, now: Instant, rtt_ns: int) -> None:
        """The application took `size` bytes: the windows open, and grow if it takes a lot in a
        round trip of `rtt_ns`.

        Raises `UnknownStream`, or `LocalError` for more than was handed on. For a stream whose
        receiving side is over this does nothing.
        """
        entry = self._live.get(stream)
        if entry is None:
            if self._is_finished(stream):
                return
            raise UnknownStream("no such stream")
        receive = entry.receive
        if receive.discarding or receive.reset:
            return
        if size > receive.next - receive.window.consumed:
            raise LocalError("more was consumed than had arrived")
        if receive.window.take(size, now, rtt_ns) and receive.final is None:
            self._widen(receive.window)
        if self._window.take(size, now, rtt_ns):
            self._widen_link(2 * self._window.size)
        self._tell_window(stream, receive)
        self._tell_link_window()
        self._maybe_finish(stream, entry)

    def reset(self, stream: int, code: int) -> None:
        """Give up our side. Raises `UnknownStream` when it is not open."""
        entry = self._live.get(stream)
        if entry is None or entry.send.done or entry.send.reset_code is not None:
            raise UnknownStream("this side of the stream is not open")
        self._give_up(stream, entry, code)

    def stop(self, stream: int, code: int) -> None:
        """Refuse what still comes. Raises `UnknownStream` when the peer's side is over."""
        entry = self._live.get(stream)
        if entry is None or entry.receive.done or entry.receive.discarding:
            raise UnknownStream("the peer's side of the stream is not open")
        receive = entry.receive
        receive.discarding = True
        receive.discard()
        self._discard(receive.window.received - receive.window.consumed)
        if receive.final is None:
            entry.stop_code = code
            self._due[(ItemKind.STOP, stream)] = None
        self._maybe_finish(stream, entry)

    def _give_up(self, stream: int, entry: _Stream, code: int) -> None:
        self._kept -= entry.send.buffered
        entry.send.reset(code)
        self._owe((ItemKind.RESET, stream))

    def _owe(self, item: Item) -> None:
        """A frame must go (again). The end of a shaped stream must not show."""
        cells = item[0] == ItemKind.RESET and item[1] in self._shaped
        (self._due_in_cells if cells else self._due)[item] = None

    # --- opening and finishing ----------------------------------------------------------------

    def _is_ours(self, stream: int) -> bool:
        return (stream & 1 == 0) == self._dialer

    def _is_finished(self, stream: int) -> bool:
        finished = self._finished[stream & 1]
        return finished is not None and stream >> 2 in finished

    def _open(self, stream: int) -> _Stream:
        """Make a stream that the application uses first."""
        if stream == CONTROL_STREAM:
            return self._make(stream)
        sequence = stream >> 2
        if sequence < 1 or not self._is_ours(stream) or self._is_finished(stream):
            raise UnknownStream("no such stream")
        if stream ^ 2 in self._live:
            raise UnknownStream("this sequence number has the other class")
        if sequence >= self._granted:
            raise StreamLimit("the peer has not granted another stream yet")
        return self._make(stream)

    def _find(self, stream: int) -> _Stream | None:
        """The stream of a peer's frame, made if it is new; None when it is finished.

        Raises `Violation(STREAM_STATE)` or `Violation(STREAM_LIMIT)`.
        """
        entry = self._live.get(stream)
        if entry is not None:
            return entry
        if stream == CONTROL_STREAM:
            return self._make(stream)
        if self._is_finished(stream):
            return None
        sequence = stream >> 2
        if sequence < 1 or self._is_ours(stream) or stream ^ 2 in self._live:
            raise Violation(CloseCode.STREAM_STATE, "a frame for a stream that does not exist")
        if sequence >= self._announced:
            raise Violation(CloseCode.STREAM_LIMIT, "more streams than were granted")
        self._tell(StreamOpened(stream))
        return self._make(stream)

    def _make(self, stream: int) -> _Stream:
        if stream == CONTROL_STREAM:
            entry = _Stream(SendStream(stream, CONTROL_WINDOW), ReceiveStream(CONTROL_WINDOW))
        else:
            entry = _Stream(
                SendStream(stream, self._peer.max_stream), ReceiveStream(self._local.max_stream)
            )
        self._live[stream] = entry
        return entry

    def _maybe_finish(self, stream: int, entry: _Stream) -> None:
        """Forget a stream of which neither side matters any more."""
        if not (entry.receive.done and entry.send.done):
            return
        del self._live[stream]
        self._blocked.pop(stream, None)
        side = stream & 1
        finished = self._finished[side]
        if finished is None:
            finished = self._finished[side] = RangeSet()
        finished.add(stream >> 2, (stream >> 2) + 1)
        if not self._is_ours(stream):
            self._finished_count += 1
            grantable = self._local.max_streams + self._finished_count
            if 2 * (grantable - self._announced) >= self._local.max_streams - 1:
                self._due[(ItemKind.MAX_STREAMS,)] = None

    # --- the peer -----------------------------------------------------------------------------

    def on_stream(self, stream: int, offset: int, data: Buffer, fin: bool) -> None:
        """A STREAM frame. Raises `Violation`."""
        entry = self._live.get(stream) or self._find(stream)
        if entry is None:
            return
        receive = entry.receive
        window, size = receive.window, len(data)
        link = self._window
        if (  # in order, wanted, and nothing special: what nearly every packet is
            offset == window.received == receive.next
            and size
            and not fin
            and offset + size <= window.limit
            and link.received + size <= link.limit
            and receive.final is None
            and stream
            and not receive.discarding
        ):
            receive.next = window.received = offset + size
            link.received += size
            if stream != self._arriving:
                if self._arrived:
                    self._flush()
                self._arriving = stream
            self._arrived.append(data)
            return
        self._on_stream(stream, entry, offset, data, fin)

    def _on_stream(self, stream: int, entry: _Stream, offset: int, data: Buffer, fin: bool) -> None:
        receive = entry.receive
        stop = offset + len(data)
        if fin and stream == CONTROL_STREAM:
            raise Violation(CloseCode.STREAM_STATE, "the control stream does not end")
        grown = receive.check(stop, fin)
        if receive.done:
            return
        if stream:
            self._window.receive(grown)
        receive.window.received += grown
        ended = fin and receive.final is None
        if fin:
            receive.final = stop
        if receive.discarding:
            self._discard(grown)
            self._maybe_finish(stream, entry)
            return
        before = receive.next
        ready = receive.take(offset, data)
        self._hand_on(stream, receive, ready, ended and receive.next == before)
        if stream == CONTROL_STREAM:
            receive.window.consume(receive.next - receive.window.consumed)
            self._tell_window(stream, receive)
        self._maybe_finish(stream, entry)

    def _hand_on(
        self, stream: int, receive: ReceiveStream, ready: list[Buffer], bare_end: bool
    ) -> None:
        """Make notices of bytes, the end on the last one; an end without bytes is one as well."""
        at_end = receive.next == receive.final
        if bare_end and at_end:
            ready = [b""]
        last = len(ready) - 1
        for at, piece in enumerate(ready):
            self._tell(StreamData(stream, piece, at_end and at == last))

    def on_reset(self, stream: int, code: int, final_size: int) -> None:
        """A RESET frame. Raises `Violation`."""
        self._refuse_control(stream)
        entry = self._find(stream)
        if entry is None:
            return
        receive = entry.receive
        grown = receive.check(final_size, True)
        if receive.done or receive.next == receive.final:
            return  # all of it was handed on before the peer gave up
        self._window.receive(grown)
        receive.window.received += grown
        receive.final = final_size
        if receive.discarding:
            self._discard(grown)
        else:
            receive.reset = True
            receive.discard()
            self._discard(final_size - receive.window.consumed)
            self._tell(StreamReset(stream, code))
        self._maybe_finish(stream, entry)

    def on_stop(self, stream: int, code: int) -> None:
        """A STOP frame: our side is reset, and the application told. Raises `Violation`."""
        self._refuse_control(stream)
        entry = self._find(stream)
        if entry is None or entry.send.done or entry.send.reset_code is not None:
            return
        self._give_up(stream, entry, code)
        self._tell(StreamStopped(stream, code))

    def on_max_data(self, limit: int) -> None:
        """A MAX_DATA frame: all streams together may carry `limit` bytes."""
        more = limit - self._credit_limit
        if more <= 0:
            return
        self._credit_limit = limit
        self._credit += more
        waiting, self._blocked = self._blocked, {}
        for stream in waiting:
            self._wake(stream, self._live[stream].send)

    def on_max_stream(self, stream: int, limit: int) -> None:
        """A MAX_STREAM frame. Raises `Violation`."""
        entry = self._find(stream)
        if entry is not None and limit > entry.send.limit:
            entry.send.limit = limit
            self._wake(stream, entry.send)

    def on_max_streams(self, limit: int) -> None:
        """A MAX_STREAMS frame."""
        if limit > self._granted:
            self._granted = limit
            self._granted_more = True

    def _refuse_control(self, stream: int) -> None:
        if stream == CONTROL_STREAM:
            raise Violation(CloseCode.STREAM_STATE, "the control stream cannot be given up")

    # --- windows ------------------------------------------------------------------------------

    @property
    def grown(self) -> int:
        """By how many bytes the link's window has grown."""
        return self._window.size - self._local.max_data

    def _widen(self, window: ReceiveWindow) -> None:
        """A stream's window doubles. The link's keeps ahead of it by half, for other streams."""
        wanted = min(2 * window.size, self._growth.stream_max)
        if wanted <= window.size:
            return
        self._widen_link(wanted + wanted // 2)
        wanted = min(wanted, 2 * self._window.size // 3)
        if wanted > window.size:
            window.grow(wanted)

    def _widen_link(self, wanted: int) -> None:
        window = self._window
        more = min(wanted, self._growth.link_max) - window.size
        if more > 0 and (room := self._growth.room()) > 0:
            window.grow(window.size + min(more, room))
            self._due[(ItemKind.MAX_DATA,)] = None

    def _tell_window(self, stream: int, receive: ReceiveStream) -> None:
        if receive.window.is_worth_telling() and receive.final is None:
            self._due[(ItemKind.MAX_STREAM, stream)] = None

    def _tell_link_window(self) -> None:
        if self._window.is_worth_telling():
            self._due[(ItemKind.MAX_DATA,)] = None

    def _discard(self, size: int) -> None:
        """Nobody will read these."""
        self._window.consume(size)
        self._tell_link_window()

    # --- sending ------------------------------------------------------------------------------

    def _wake(self, stream: int, send: SendStream) -> None:
        """Queue a stream that has something to send and is not queued yet."""
        if send.queued:
            return
        if send.sendable(self._credit if stream else _UNLIMITED):
            send.queued = True
            (self._cells if send.shaped else self._priorities).add(stream)
        elif send.starved():
            self._blocked[stream] = None

    def _next(self, queue: Priorities) -> tuple[int, SendStream, int] | None:
        """Whose turn it is, and its credit; streams without anything to send leave the queue."""
        if not queue.waiting:
            return None
        while (stream := queue.pick()) is not None:
            entry = self._live.get(stream)
            credit = self._credit if stream else _UNLIMITED
            if entry is not None:
                send = entry.send
                if send.sendable(credit):
                    return stream, send, credit
                send.queued = False
                if send.starved():
                    self._blocked[stream] = None
            queue.remove(stream)
        return None

    def pending(self) -> bool:
        """Whether there is anything to send now, besides what leaves in cells."""
        return bool(self._due) or self._next(self._priorities) is not None

    def next_run(self, packets: int, room: int) -> tuple[Run, list[bytes]] | None:
        """Up to `packets` payloads of exactly `room` bytes (the last may be shorter) for the stream
        whose turn it is; each payload is one STREAM frame. None when there is nothing to send.
        """
        turn = self._next(self._priorities)
        if turn is None:
            return None
        stream, send, credit = turn
        before = send.next
        result = send.run(self._priorities.allowed(stream, packets), room, credit)
        if result is not None:
            if stream:
                self._credit -= send.next - before
            self._priorities.served(stream, len(result[1]))
        return result

    def next_frame(self, room: int) -> tuple[bytes, Item] | None:
        """One STREAM frame of at most `room` bytes that others may follow, or None."""
        return self._frame(self._priorities, room)

    def _frame(self, queue: Priorities, room: int) -> tuple[bytes, Item] | None:
        turn = self._next(queue)
        if turn is None:
            return None
        stream, send, credit = turn
        before = send.next
        result = send.frame(room, credit)
        if result is not None:
            if stream:
                self._credit -= send.next - before
            queue.served(stream, 1)
        return result

    @property
    def control_due(self) -> bool:
        """Whether `control` has frames."""
        return bool(self._due)

    def control(self, room: int) -> list[tuple[bytes, Item]]:
        """The frames that are due besides STREAM, as many as fit into `room` bytes together."""
        return self._take_due(self._due, room)

    def _take_due(self, due: dict[Item, None], room: int) -> list[tuple[bytes, Item]]:
        frames: list[tuple[bytes, Item]] = []
        for item in list(due):
            frame = self._encode(item)
            if len(frame) > room:
                break
            del due[item]
            if frame:
                frames.append((frame, item))
                room -= len(frame)
        return frames

    def _encode(self, item: Item) -> bytes:
        """The frame for what is due; empty when it no longer matters."""
        if item[0] == ItemKind.MAX_DATA:
            return encode_max_data(self._window.open())
        if item[0] == ItemKind.MAX_STREAMS:
            self._announced = self._local.max_streams + self._finished_count
            return encode_max_streams(self._announced)
        stream = item[1]
        entry = self._live.get(stream)
        if entry is None:
            return b""
        if item[0] == ItemKind.RESET:
            return encode_reset(stream, entry.send.reset_code or 0, entry.send.next)
        receive = entry.receive
        if receive.final is not None:
            return b""
        if item[0] == ItemKind.STOP:
            return encode_stop(stream, entry.stop_code or 0)
        return encode_max_stream(stream, receive.window.open())

    # --- sending in cells ---------------------------------------------------------------------

    def waiting_for_cells(self) -> int:
        """Bytes, or a little more, that could leave in cells now."""
        if not (self._cells.waiting or self._due_in_cells):
            return 0
        bytes_waiting = sum(send.waiting(self._credit) for send in self._shaped.values())
        return bytes_waiting + len(self._due_in_cells)

    def fill_cell(self, room: int) -> list[tuple[bytes, Item]]:
        """Frames of shaped streams, as much as fits into `room` bytes together."""
        frames = self._take_due(self._due_in_cells, room)
        room -= sum(len(frame) for frame, _ in frames)
        while room > STREAM_HEAD_MAX and (found := self._frame(self._cells, room)) is not None:
            frames.append(found)
            room -= len(found[0])
        return frames

    @property
    def shaped_ended(self) -> bool:
        """Whether no shaped stream will say anything new."""
        return all(send.ended for send in self._shaped.values())

    @property
    def shaped_settled(self) -> bool:
        """Whether the peer has all that shaped streams sent."""
        return all(send.settled for send in self._shaped.values())

    # --- what became of it --------------------------------------------------------------------

    def acked_run(self, run: Run) -> None:
        """The peer has these bytes."""
        self._acked(run.stream, run.offset, run.length, run.fin)

    def lost_run(self, run: Run) -> None:
        """These bytes were lost."""
        self._lost(run.stream, run.offset, run.length, run.fin)

    def acked(self, item: Item) -> None:
        """The peer has this. Items that are no matter of streams are ignored."""
        if item[0] == ItemKind.STREAM:
            self._acked(item[1], item[2], item[3], item[4] != 0)
        elif item[0] == ItemKind.RESET:
            entry = self._live.get(item[1])
            if entry is not None:
                entry.send.reset_acked = True
                self._shaped.pop(item[1], None)
                self._maybe_finish(item[1], entry)

    def lost(self, item: Item) -> None:
        """This was lost: what still matters is sent again."""
        kind = item[0]
        if kind == ItemKind.STREAM:
            self._lost(item[1], item[2], item[3], item[4] != 0)
        elif kind in _RETRANSMITTED and not self._is_reset(item):
            self._owe(item)

    def _is_reset(self, item: Item) -> bool:
        """Whether this is a RESET of which the peer had another copy: of one that was shaped, it
        would leave outside cells.
        """
        entry = self._live.get(item[1]) if item[0] == ItemKind.RESET else None
        return entry is not None and entry.send.reset_acked

    def _acked(self, stream: int, offset: int, length: int, fin: bool) -> None:
        entry = self._live.get(stream)
        if entry is None or entry.send.reset_code is not None:
            return
        send = entry.send
        if send.delivered:
            return
        before = send.base
        delivered = send.acked(offset, length, fin)
        self._kept -= send.base - before
        if stream:
            self._drained[stream] = send
        if delivered:
            self._shaped.pop(stream, None)
            self._maybe_finish(stream, entry)

    def _lost(self, stream: int, offset: int, length: int, fin: bool) -> None:
        entry = self._live.get(stream)
        if entry is not None:
            entry.send.lost(offset, length, fin)
            self._wake(stream, entry.send)


_RETRANSMITTED: Final[frozenset[int]] = frozenset(
    {
        ItemKind.MAX_DATA,
        ItemKind.MAX_STREAM,
        ItemKind.MAX_STREAMS,
        ItemKind.RESET,
        ItemKind.STOP,
    }
)
