"""The sending side of one stream: bytes kept until they are acknowledged.

Rules: what was lost goes before what is new; buffers are never joined or moved, only sliced (small
writes are gathered first); a run's packets differ in nothing but offset and bytes, so that they
are equally long.
Left to others: whose turn it is (`priorities`), the link's credit (`streams`).
"""

from __future__ import annotations

from bisect import bisect_right
from struct import Struct
from typing import Final

from clawchat.core.events import Buffer
from clawchat.core.recovery.contents import Item, ItemKind, Run
from clawchat.core.recovery.ranges import RangeSet
from clawchat.core.wire import varint
from clawchat.core.wire.frames import STREAM_FIN, STREAM_OFFSET, FrameType, stream_head
from clawchat.errors import BufferFull, UnknownStream

UNSENT_MAX: Final = 1 << 20  # bytes
KEPT_MAX: Final = 16 << 20  # bytes not acknowledged: the peer says how large its window is, not we
GATHERED_WRITE_MAX: Final = 2048  # writes below this are put together
GATHERED_MAX: Final = 16384
_SHORT_OFFSET_MAX: Final = 1 << 30
_SHORT_FLAG: Final = 0x8000_0000
_LONG_FLAG: Final = 0xC000_0000_0000_0000
_SHORT_HEADS: Final = {size: Struct(f">{size}sI") for size in (2, 3, 5, 9)}
_LONG_HEADS: Final = {size: Struct(f">{size}sQ") for size in (2, 3, 5, 9)}


class SendStream:
    """Bytes [`base`, `end`) are kept: up to `next` they were sent at least once."""

    __slots__ = (
        "_acked",
        "_chunks",
        "_fin_acked",
        "_fin_sent",
        "_lost",
        "_prefix",
        "_starts",
        "_stream",
        "_tail",
        "base",
        "end",
        "ended",
        "limit",
        "next",
        "queued",
        "reset_acked",
        "reset_code",
        "shaped",
    )

    def __init__(self, stream: int, limit: int) -> None:
        self._stream = stream
        self._prefix = bytes((FrameType.STREAM | STREAM_OFFSET,)) + varint.encode(stream)
        self.limit = limit  # of the peer
        self.base = self.next = self.end = 0
        self.ended = False  # nothing can be written any more
        self.queued = False  # in `Priorities`
        self.shaped = False  # leaves in cells only
        self.reset_code: int | None = None
        self.reset_acked = False
        self._fin_sent = self._fin_acked = False
        self._starts: list[int] = []
        self._chunks: list[memoryview] = []
        self._tail: bytearray | None = None  # small writes, after the last chunk
        self._lost: RangeSet | None = None
        self._acked: RangeSet | None = None  # beyond `base`

    # --- the application ----------------------------------------------------------------------

    def write(self, data: Buffer, end: bool) -> None:
        """Append. Raises `UnknownStream` after the end, `BufferFull` when too much is unsent."""
        if self.ended:
            raise UnknownStream("this side of the stream is finished")
        if isinstance(data, memoryview) and not _is_plain(data):
            data = data.tobytes()
        size = len(data)
        if self.end - self.next + size > UNSENT_MAX or self.end - self.base + size > KEPT_MAX:
            raise BufferFull("too much waits to be sent on this stream")
        if size >= GATHERED_WRITE_MAX:
            self._freeze()
            self._starts.append(self.end)
            self._chunks.append(_steady(data))
        elif size:
            self._tail = self._tail or bytearray()
            self._tail += data
        self.end += size
        self.ended = end
        if self._tail and len(self._tail) >= GATHERED_MAX:
            self._freeze()

    def reset(self, code: int) -> None:
        """Forget everything: the peer will be told that no more comes."""
        self.reset_code = code
        self.ended = True
        self._starts, self._chunks, self._tail = [], [], None
        self._lost = self._acked = None

    # --- sending ------------------------------------------------------------------------------

    def sendable(self, credit: int) -> bool:
        """Whether there is something to send, when the link takes `credit` new bytes."""
        if self.reset_code is not None:
            return False
        if self._lost or (credit > 0 and self.next < self.end and self.next < self.limit):
            return True
        return self.ended and not self._fin_sent and self.next == self.end

    def waiting(self, credit: int) -> int:
        """Bytes that could leave now, if the link takes `credit` new ones; an end counts as one."""
        if not self.sendable(credit):
            return 0
        lost = sum(stop - start for start, stop in self._lost) if self._lost else 0
        until = min(self.end, self.limit, self.next + credit)
        return lost + max(0, until - self.next) + int(self.ended)

    def starved(self) -> bool:
        """Whether only the link's credit is missing."""
        return self.reset_code is None and self.next < min(self.end, self.limit)

    def run(self, packets: int, room: int, credit: int) -> tuple[Run, list[bytes]] | None:
        """Up to `packets` payloads of `room` bytes, each one STREAM frame that fills it; the last
        may be shorter. None when not a byte fits. `sendable` must be true.
        """
        start, stop = self._choose(credit)
        short = stop <= _SHORT_OFFSET_MAX
        chunk = room - len(self._prefix) - (4 if short else 8)
        if chunk < 1:
            return None
        stop = min(stop, start + packets * chunk)
        fin = self._sent(start, stop)
        payloads = self._payloads(start, stop, chunk, short)
        if fin:
            last = payloads[-1]
            payloads[-1] = bytes((last[0] | STREAM_FIN,)) + last[1:]
        return Run(self._stream, start, chunk, stop - start, fin), payloads

    def frame(self, room: int, credit: int) -> tuple[bytes, Item] | None:
        """One STREAM frame with a length, in at most `room` bytes. `sendable` must be true."""
        start, stop = self._choose(credit)
        head = len(self._prefix) + (4 if start < _SHORT_OFFSET_MAX else 8) + varint.size(room)
        if room < head + min(1, stop - start):
            return None
        stop = min(stop, start + room - head)
        fin = self._sent(start, stop)
        length = stop - start
        frame = stream_head(self._stream, start, fin=fin, length=length) + self._bytes(start, stop)
        return frame, (ItemKind.STREAM, self._stream, start, length, int(fin))

    def _choose(self, credit: int) -> tuple[int, int]:
        """What to send next: the oldest loss, or new bytes."""
        if self._lost:
            return self._lost.first()
        return self.next, max(self.next, min(self.end, self.limit, self.next + credit))

    def _sent(self, start: int, stop: int) -> bool:
        """Note that [start, stop) is sent; returns whether the end goes with it."""
        if self._lost:
            self._lost.remove(start, stop)
        self.next = max(self.next, stop)
        if self.ended and stop == self.end:
            self._fin_sent = True
            return True
        return False

    def _payloads(self, start: int, stop: int, chunk: int, short: bool) -> list[bytes]:
        prefix = self._prefix
        heads, flag = (_SHORT_HEADS, _SHORT_FLAG) if short else (_LONG_HEADS, _LONG_FLAG)
        pack = heads[len(prefix)].pack
        if start == stop:
            return [pack(prefix, start | flag)]
        payloads: list[bytes] = []
        while start < stop:
            view, origin = self._chunk_at(start, stop)
            whole = (min(stop, origin + len(view)) - start) // chunk * chunk  # bytes
            payloads += [
                pack(prefix, at | flag) + view[at - origin : at - origin + chunk]
                for at in range(start, start + whole, chunk)
            ]
            start += whole
            if start < stop:  # one that is short, or needs bytes of the next chunk as well
                until = min(start + chunk, stop)
                payloads.append(pack(prefix, start | flag) + self._bytes(start, until))
                start = until
        return payloads

    def _chunk_at(self, offset: int, stop: int) -> tuple[memoryview, int]:
        """The chunk that holds `offset`, and where it begins."""
        if not self._chunks or stop > self._starts[-1] + len(self._chunks[-1]):
            self._freeze()
        at = bisect_right(self._starts, offset) - 1
        return self._chunks[at], self._starts[at]

    def _bytes(self, start: int, stop: int) -> bytes:
        """The bytes [start, stop), from as many chunks as it takes."""
        pieces = []
        while start < stop:
            view, origin = self._chunk_at(start, stop)
            piece = view[start - origin : stop - origin]
            pieces.append(piece)
            start += len(piece)
        return b"".join(pieces)

    def _freeze(self) -> None:
        """Turn gathered small writes into a chunk."""
        if self._tail:
            self._starts.append(self.end - len(self._tail))
            self._chunks.append(memoryview(bytes(self._tail)))
            self._tail = None

    # --- what became of it --------------------------------------------------------------------

    def acked(self, offset: int, length: int, fin: bool) -> bool:
        """The peer has these bytes (and the end, with `fin`). Returns whether it has all."""
        stop = offset + length
        if fin:
            self._fin_acked = True
        if self._lost:
            self._lost.remove(offset, stop)
        if offset > self.base:
            if self._acked is None:
                self._acked = RangeSet()
            self._acked.add(offset, stop)
        elif stop > self.base:
            self.base = stop
            if self._acked:
                self._absorb(self._acked)
            self._release()
        return self.delivered

    def _absorb(self, acked: RangeSet) -> None:
        """Move `base` over what was acknowledged ahead of it."""
        acked.remove(0, self.base)
        if acked and self.base in acked:
            self.base = acked.first()[1]
            acked.remove(0, self.base)

    def _release(self) -> None:
        """Let go of the chunks below `base`."""
        starts, chunks = self._starts, self._chunks
        done = bisect_right(starts, self.base)
        if done and starts[done - 1] + len(chunks[done - 1]) > self.base:
            done -= 1
        if done:
            del starts[:done], chunks[:done]

    def lost(self, offset: int, length: int, fin: bool) -> None:
        """The network lost these bytes: send what is still missing again."""
        if self.reset_code is not None:
            return
        if fin and not self._fin_acked:
            self._fin_sent = False
        offset, stop = max(offset, self.base), offset + length
        if offset >= stop:
            return
        if self._lost is None:
            self._lost = RangeSet()
        if self._acked:
            for start, until in self._acked.gaps(offset, stop):
                self._lost.add(start, until)
        else:
            self._lost.add(offset, stop)

    @property
    def buffered(self) -> int:
        """Bytes written and not yet acknowledged in order."""
        return 0 if self.reset_code is not None else self.end - self.base

    @property
    def delivered(self) -> bool:
        """Whether the peer has everything, the end included."""
        return self._fin_acked and self.base == self.end and self.reset_code is None

    @property
    def settled(self) -> bool:
        """Whether the peer has all that was sent so far."""
        if self.reset_code is not None:
            return self.reset_acked
        return self.base == self.next and (self._fin_acked or not self._fin_sent)

    @property
    def done(self) -> bool:
        """Whether nothing of this side matters any more."""
        return self.reset_acked or self.delivered


def _is_plain(view: memoryview) -> bool:
    """Whether a view is bytes in a row, so that its length and its slices mean what they seem."""
    return view.c_contiguous and view.itemsize == 1 and view.ndim == 1


def _steady(data: Buffer) -> memoryview:
    """A view of bytes that nobody can change: a copy unless they are `bytes` already."""
    if isinstance(data, memoryview) and isinstance(data.obj, bytes):
        return data
    return memoryview(data if isinstance(data, bytes) else bytes(data))
