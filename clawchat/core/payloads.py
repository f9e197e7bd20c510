"""What the packets of one link say: frames that are due, put together.

A packet carries small frames (an ACK, what streams have to settle, pings, datagrams) and is filled
up with stream data; a *cell* carries what shaped streams say, or nothing, and is always as long
(PROTOCOL.md "Shaped streams").

Rules: what is put into a payload counts as sent; each payload comes with what recovery must know
about it. Nothing is sealed and no window is looked at here.
Left to others: how much may leave and when (`core.transport`), long runs of stream data, which
need no putting together (`Streams.next_run`).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from clawchat.core.crypto.packets import OVERHEAD
from clawchat.core.epochs import Epochs
from clawchat.core.events import CONTROL_STREAM
from clawchat.core.instant import Instant
from clawchat.core.recovery.contents import Item, ItemKind
from clawchat.core.recovery.received import Received
from clawchat.core.streams.beat import CELL
from clawchat.core.streams.datagrams import Datagrams
from clawchat.core.streams.pings import Pings
from clawchat.core.streams.streams import STREAM_HEAD_MAX, Streams
from clawchat.core.wire import frames

ACK_SIZE_MAX: Final = 300  # 33 ranges of at most 8 bytes, with some air
CELL_ROOM: Final = CELL - OVERHEAD  # frames of one cell
CELL_DATA: Final = CELL_ROOM - 32  # of a stream in one cell, when it carries an ACK as well


class Payload(NamedTuple):
    """The frames of one packet, what becomes of each with its fate, and whether it asks for an ACK.

    Without frames: nothing is due.
    """

    frames: bytes
    items: tuple[Item, ...]
    eliciting: bool


class Payloads:
    """Takes what is due from `streams`, `datagrams`, `pings` and `received`."""

    __slots__ = ("_epochs", "_received", "datagrams", "pings", "streams")

    def __init__(self, streams: Streams, received: Received, epochs: Epochs) -> None:
        self.streams = streams
        self.datagrams = Datagrams()
        self.pings = Pings()
        self._received = received
        self._epochs = epochs

    # --- what is due --------------------------------------------------------------------------

    def has_small_frames(self) -> bool:
        """Whether something is due besides stream data and ACKs."""
        return bool(self.streams.control_due or self.pings or self.datagrams)

    def has_data(self) -> bool:
        """Whether something is due that counts against the congestion window."""
        return self.has_small_frames() or self.streams.pending()

    def carries(self, stream: int) -> None:
        """What the link says for itself makes no epoch old."""
        if stream != CONTROL_STREAM:
            self._epochs.carried = True

    # --- putting together ---------------------------------------------------------------------

    def mixed(self, room: int, whole: int, now: Instant) -> Payload:
        """One packet of small frames and an ACK, filled up with stream data.

        At most `room` bytes; `whole` would fit an empty packet of this path.
        """
        parts: list[bytes] = []
        items: list[Item] = []
        received = self._received
        owed = received.ack_at is not None
        due = received.ack_at is not None and received.ack_at <= now
        eliciting = self.has_small_frames() and self._small_frames(
            parts, items, room - ACK_SIZE_MAX, whole
        )
        if not (eliciting or due or (owed and self.streams.pending())):
            return self._lone_datagram(room)
        if owed:
            ack, told = self.ack(now)
            parts.insert(0, ack)
            items.append(told)
        left = room - sum(map(len, parts))
        while left > STREAM_HEAD_MAX and (found := self.streams.next_frame(left)) is not None:
            parts.append(found[0])
            items.append(found[1])
            left -= len(found[0])
            eliciting = True
            self.carries(found[1][1])
        if due and not eliciting and received.crowded:
            parts.append(frames.PING)  # so that the peer says which of our ACKs it knows
            eliciting = True
        return Payload(b"".join(parts), tuple(items), eliciting)

    def ack(self, now: Instant) -> tuple[bytes, Item]:
        """The ACK frame that is owed."""
        ack = self._received.ack(now)
        assert ack is not None, "the largest number is never forgotten"
        frame = frames.encode_ack(ack.ranges, ack.delay_us)
        return frame, (ItemKind.ACKED_UP_TO, ack.ranges[0][1])

    def _small_frames(self, parts: list[bytes], items: list[Item], room: int, whole: int) -> bool:
        """Append what is due besides stream data and ACKs; whether there was any."""
        while self.pings:
            parts.append(frames.PING)
            items.append((ItemKind.PING, self.pings.take()))
        left = room - sum(map(len, parts))
        for frame, item in self.streams.control(left):
            parts.append(frame)
            items.append(item)
            left -= len(frame)
        while (datagram := self.datagrams.next_frame(left, whole)) is not None:
            parts.append(datagram)
            items.append((ItemKind.DATAGRAM,))
            left -= len(datagram)
            self._epochs.carried = True
        return bool(parts)

    def _lone_datagram(self, room: int) -> Payload:
        """A DATAGRAM too large to stand beside an ACK."""
        frame = self.datagrams.next_frame(room, room)
        if frame is None:
            return Payload(b"", (), False)
        self._epochs.carried = True
        return Payload(frame, ((ItemKind.DATAGRAM,),), True)

    # --- cells --------------------------------------------------------------------------------

    def cells_waiting(self) -> int:
        """How many cells what waits would fill."""
        return -(-self.streams.waiting_for_cells() // CELL_DATA)

    def cell(self, now: Instant) -> Payload:
        """Of the size of every cell, and to be acknowledged like every cell: at once."""
        parts = [frames.PING]
        items: list[Item] = []
        if self._received.ack_at is not None:
            ack, told = self.ack(now)
            parts.append(ack)
            items.append(told)
        for frame, item in self.streams.fill_cell(CELL_ROOM - sum(map(len, parts))):
            parts.append(frame)
            items.append(item)
        self._epochs.carried = True
        parts.append(frames.padding(CELL_ROOM - sum(map(len, parts))))
        return Payload(b"".join(parts), tuple(items), True)
