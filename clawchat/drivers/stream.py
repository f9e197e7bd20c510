"""One stream of a link, as a `trio.abc.Stream`.

Rules: `send_all` returns once the bytes are in the link's care, and waits while too many of them
are unacknowledged; the peer's window opens only as `receive_some` hands bytes to the application.
A cancelled `send_all` tears the stream: closing it then resets it, so that the peer can never
take half a message for a whole one.
Left to others: which stream goes first (the core), naming and accepting streams (`peer`).
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio

from clawchat.core.actions import Notice, StreamData, StreamDrained, StreamReset, StreamStopped
from clawchat.core.events import (
    Buffer,
    Consumed,
    ResetStream,
    StopStream,
    StreamClass,
    Write,
)
from clawchat.core.streams.send import KEPT_MAX
from clawchat.errors import BufferFull, StreamLimit, UnknownLink, UnknownStream

if TYPE_CHECKING:
    from clawchat.drivers.peer import Peer

UNACKNOWLEDGED_MAX: Final = 256 * 1024  # bytes; interactive: what is queued delays what follows
UNACKNOWLEDGED_MAX_BULK: Final = KEPT_MAX  # bytes; bulk: what fills a long path, see `send`
GATHERED_PIECE_MAX: Final = 512  # bytes; what came in smaller pieces is put together ...
GATHERED_MAX: Final = 4096  # ... up to about this
WRITE_MAX: Final = 128 * 1024  # bytes in one event, so that cancelling never waits for much

CODE_CLOSED: Final = 0  # stream code: the application closed its end
CODE_CANCELLED: Final = 1  # stream code: a send was cancelled half way


class LinkStream(trio.abc.HalfCloseableStream):
    """A bidirectional byte stream to the peer. Made by `Peer.open_stream` and `accept_stream`.

    Raises, as every Trio stream does: `trio.BrokenResourceError` when the link is gone (its
    `__cause__` is a `LinkClosed`) or the peer reset or stopped the stream (then `reset_code` or
    `stop_code` is set), `trio.ClosedResourceError` after `aclose`, `trio.BusyResourceError` when
    two tasks use the same direction at once.
    """

    def __init__(self, peer: Peer, stream: int, *, shaped: bool = False) -> None:
        self.id: Final = stream
        self.peer: Final = peer
        self.reset_code: int | None = None  # the peer gave up sending, with this code
        self.stop_code: int | None = None  # the peer wants no more of ours, with this code
        self.shaped = shaped  # what we send leaves in cells
        bulk = stream >> 1 & 1 == StreamClass.BULK
        self._bound = UNACKNOWLEDGED_MAX_BULK if bulk else UNACKNOWLEDGED_MAX
        self._chunks: deque[Buffer] = deque()
        self._arrived_end = False
        self._opened = stream & 1 == peer.dialer  # by the peer; else with the first write
        self._unacknowledged = 0
        self._sending = self._receiving = False
        self._torn = False  # a send stopped in the middle of its data
        self._sent_end = False  # nothing can be sent any more: ended, reset or stopped
        self._finished = False  # all we sent is acknowledged, or given up
        self._closed = False
        self._writable = trio.lowlevel.ParkingLot()
        self._readable = trio.lowlevel.ParkingLot()

    @property
    def bulk(self) -> bool:
        """Whether this stream yields to interactive ones."""
        return self.id >> 1 & 1 == StreamClass.BULK

    @property
    def unread(self) -> bool:
        """Whether bytes wait for `receive_some`."""
        return bool(self._chunks)

    @property
    def ended(self) -> bool:
        """Whether this side has said that it sends no more."""
        return self._sent_end

    def shape(self) -> None:
        """Let what is sent from now on leave in cells of one size on a beat, to the stream's end.

        An observer then learns little of how it was written (docs/threat-model.md). It costs
        10 kB a second while something is said and up to as long again, a token is late by at
        most 50 ms, and more than 9 kB at once by about a second.
        """
        self.shaped = True

    def __repr__(self) -> str:
        kind = "bulk" if self.bulk else "interactive"
        return f"<LinkStream {self.id} {kind}{' closed' if self._closed else ''}>"

    # --- sending ------------------------------------------------------------------------------

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send everything; waits while too much is unacknowledged: 256 KiB, on bulk streams 16 MiB,
        or 1 MiB that has not left yet.
        """
        # The core keeps views until they are acknowledged: what can change is copied first.
        view = memoryview(data if isinstance(data, bytes) else bytes(data))
        self._begin_sending()
        at, size = 0, len(view)
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            while at < size:
                room = await self._room()
                piece = view[at : at + min(room, WRITE_MAX)]
                if self._write(piece, end=False):
                    at += len(piece)
                else:
                    await self._writable.park()
            # The bytes are on their way: now others may run. Cancelling is too late.
            await trio.lowlevel.cancel_shielded_checkpoint()
        finally:
            self._torn = self._torn or 0 < at < size
            self._sending = False

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until `send_all` could take something at once."""
        self._begin_sending()
        try:
            await trio.lowlevel.checkpoint()
            await self._room()
        finally:
            self._sending = False

    async def send_eof(self) -> None:
        """Say that nothing more will be sent; receiving goes on. Harmless when repeated."""
        self._begin_sending(again=True)
        try:
            await trio.lowlevel.checkpoint()
            while not self._sent_end and not self._write(b"", end=True):
                await self._writable.park()
            self._sent_end = True
        finally:
            self._sending = False

    async def reset(self, code: int = CODE_CANCELLED) -> None:
        """Give up both directions at once: unsent bytes are discarded, the peer sees `code`."""
        self._give_up(code, reset=True)
        await trio.lowlevel.checkpoint()

    async def wait_delivered(self) -> None:
        """Wait until the peer's side has acknowledged everything, the end included.

        Raises `trio.BrokenResourceError` when the link or the stream broke before that.
        """
        await trio.lowlevel.checkpoint()
        while not self._finished:
            self._check_link()
            await self._writable.park()
        if self.stop_code is not None:
            raise trio.BrokenResourceError(self._stopped_text())

    async def wait_unwanted(self) -> None:
        """Wait until nothing that is sent here would be read any more, and return.

        This is when the peer stopped the stream, or the link or this end of it is closed.
        """
        await trio.lowlevel.checkpoint()
        while not self._closed and self.stop_code is None and self.peer.closed is None:
            await self._writable.park()

    def _begin_sending(self, *, again: bool = False) -> None:
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        if self._closed or (self._sent_end and not again and self.stop_code is None):
            raise trio.ClosedResourceError("this side of the stream is closed")
        self._sending = True

    async def _room(self) -> int:
        """Bytes that may be written now, at least one."""
        while True:
            self._check_sendable()
            room = self._bound - self._unacknowledged
            if room > 0:
                return room
            await self._writable.park()

    def _check_sendable(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("the stream was closed by another task")
        if self.stop_code is not None:
            raise trio.BrokenResourceError(self._stopped_text())
        self._check_link()

    def _check_link(self) -> None:
        closed = self.peer.closed
        if closed is not None:
            raise trio.BrokenResourceError(
                f"the link is gone: {closed.code.name.lower()}"
            ) from self.peer.link_closed()

    def _stopped_text(self) -> str:
        return f"the peer wants no more of stream {self.id} (code {self.stop_code})"

    def _write(self, data: Buffer, *, end: bool) -> bool:
        """Hand `data` to the core. False: no room or no grant yet, wait and try again."""
        self._check_sendable()
        try:
            self.peer.handle(Write(self.peer.link, self.id, data, end, self.shaped))
        except (BufferFull, StreamLimit):
            return False
        except (UnknownLink, UnknownStream) as error:
            raise trio.BrokenResourceError("the stream is gone") from error
        self._opened = True
        self._unacknowledged += len(data)
        return True

    # --- receiving ----------------------------------------------------------------------------

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The next bytes, at most `max_bytes`; `b""` once the peer has ended the stream."""
        if max_bytes is not None and max_bytes < 1:
            raise ValueError("max_bytes must be at least 1")
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving on this stream")
        self._receiving = True
        try:
            parked = False
            while not self._chunks:
                if self._check_receivable():
                    break
                await self._readable.park()
                parked = True
            if not parked:
                await trio.lowlevel.checkpoint()
            return self._take(max_bytes) if self._chunks else b""
        finally:
            self._receiving = False

    def _check_receivable(self) -> bool:
        """True at the end of the stream; raises when nothing can come any more."""
        if self._closed:
            raise trio.ClosedResourceError("the stream is closed")
        if self.reset_code is not None:
            raise trio.BrokenResourceError(
                f"the peer reset stream {self.id} (code {self.reset_code})"
            )
        if self._arrived_end:
            return True
        self._check_link()
        return False

    def _take(self, max_bytes: int | None) -> bytes:
        chunks = self._chunks
        if max_bytes is None or len(chunks[0]) >= max_bytes:
            data = _first(chunks, max_bytes) if max_bytes else _all(chunks)
        else:
            parts: list[Buffer] = []
            wanted = max_bytes
            while chunks and wanted:
                part = chunks.popleft()
                if len(part) > wanted:
                    chunks.appendleft(memoryview(part)[wanted:])
                    part = memoryview(part)[:wanted]
                wanted -= len(part)
                parts.append(part)
            data = b"".join(parts)
        self._consume(len(data))
        return data

    def _consume(self, size: int) -> None:
        if size and self.peer.closed is None:
            # The link may have ended in this very turn: then its notice is on the way.
            with suppress(UnknownLink, UnknownStream):
                self.peer.handle(Consumed(self.peer.link, self.id, size))

    # --- closing ------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Close both directions: what was sent is still delivered, what comes is refused.

        After a cancelled `send_all` the stream is reset instead (`CODE_CANCELLED`).
        """
        self._give_up(CODE_CANCELLED if self._torn else CODE_CLOSED, reset=self._torn)
        await trio.lowlevel.checkpoint()

    def _give_up(self, code: int, *, reset: bool) -> None:
        if self._closed:
            return
        if self.peer.closed is None:
            self._end_sending(code, reset=reset)
            self._consume(sum(map(len, self._chunks)))
            if self._opened and not self._arrived_end and self.reset_code is None:
                self._tell(StopStream(self.peer.link, self.id, code))
        self._closed = True
        self._chunks.clear()
        self._wake()
        self._leave()

    def _end_sending(self, code: int, *, reset: bool) -> None:
        if self._finished or (self._sent_end and not reset):
            return
        if not self._opened:  # the peer has never heard of it, and never will
            self._sent_end = self._finished = True
            return
        try:
            if not reset and self._write(b"", end=True):
                self._sent_end = True
                return
        except trio.BrokenResourceError:
            pass  # stopped or gone: nothing of ours would be read
        self._tell(ResetStream(self.peer.link, self.id, code))
        self._sent_end = self._finished = True

    def _tell(self, event: ResetStream | StopStream) -> None:
        # Never opened on the wire, or over already: nobody to tell.
        with suppress(UnknownLink, UnknownStream):
            self.peer.handle(event)

    # --- what the core says -------------------------------------------------------------------

    def arrived(self, notice: Notice) -> None:
        """Take a notice about this stream (called by `Peer`)."""
        if isinstance(notice, StreamData):
            self._data_arrived(notice)
            if not notice.end:
                return
        elif isinstance(notice, StreamDrained):
            self._unacknowledged = notice.buffered
            self._finished = self._finished or notice.finished
            if self._writable:
                self._writable.unpark_all()
            if not notice.finished:
                return
        elif isinstance(notice, StreamReset):
            self.reset_code = notice.code
            self._consume(sum(map(len, self._chunks)))
            self._chunks.clear()
            self._readable.unpark_all()
        elif isinstance(notice, StreamStopped):
            self.stop_code = notice.code
            self._sent_end = self._finished = True
            self._writable.unpark_all()
        self._leave()

    def link_over(self) -> None:
        """The link closed: whoever waits shall look again (called by `Peer`)."""
        self._wake()

    def granted(self) -> None:
        """The peer allowed more streams: a first write may go through now."""
        self._writable.unpark_all()

    def _data_arrived(self, notice: StreamData) -> None:
        if self._closed:
            self._consume(len(notice.data))
        elif notice.data:
            self._append(notice.data)
        self._arrived_end = self._arrived_end or notice.end
        if self._readable:
            self._readable.unpark_all()

    def _append(self, data: Buffer) -> None:
        """Small pieces are put together: each would cost many times its size."""
        chunks = self._chunks
        if len(data) < GATHERED_PIECE_MAX and chunks and len(chunks[-1]) < GATHERED_MAX:
            last = chunks[-1]
            if not isinstance(last, bytearray):
                last = chunks[-1] = bytearray(last)
            last += data
        else:
            chunks.append(data)

    def _wake(self) -> None:
        self._readable.unpark_all()
        self._writable.unpark_all()

    def _leave(self) -> None:
        """Let the peer forget this stream when both directions are over."""
        over = self._arrived_end or self.reset_code is not None or self._closed
        if over and self._finished:
            self.peer.stream_over(self.id)


def _first(chunks: deque[Buffer], size: int) -> bytes:
    chunk = chunks.popleft()
    if len(chunk) > size:
        view = memoryview(chunk)
        chunks.appendleft(view[size:])
        chunk = view[:size]
    return bytes(chunk)


def _all(chunks: deque[Buffer]) -> bytes:
    data = bytes(chunks[0]) if len(chunks) == 1 else b"".join(chunks)
    chunks.clear()
    return data
