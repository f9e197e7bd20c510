"""What was in the packets that were sent, so that it can be told lost or delivered.

Rules: one `Sent` for a batch of packets whose bytes of one stream are contiguous (`Run`); losses
and acknowledgements cut it. Only a record of one packet has `items`.
Left to others: acting on what was lost (`core.streams`, `core.link`).
"""

from __future__ import annotations

from enum import IntEnum, unique
from typing import TypeAlias

from attrs import define

from clawchat.core.instant import Instant


@unique
class ItemKind(IntEnum):
    """The first element of an `Item`, which says what the others are."""

    STREAM = 0  # stream, offset, length, fin
    MAX_DATA = 1
    MAX_STREAM = 2  # stream
    MAX_STREAMS = 3
    RESET = 4  # stream
    STOP = 5  # stream
    ACKED_UP_TO = 6  # the largest packet number that an ACK frame in the packet told of
    PING = 7  # token
    MTU_PROBE = 8  # size of the datagram
    PATH_CHALLENGE = 9  # the link's own numbering
    PATH_RESPONSE = 10
    DATAGRAM = 11  # an unreliable one: it may arrive once, so its packet is never copied


Item: TypeAlias = tuple[int, ...]
"""One thing in a packet: an `ItemKind` and what identifies it."""


@define(eq=False)
class Run:
    """Contiguous bytes of one stream: packet i of a batch has `chunk` of them from
    `offset + i * chunk` on, the last one the rest, and the stream's end when `fin`.
    """

    stream: int
    offset: int
    chunk: int
    length: int
    fin: bool


@define(eq=False)
class Sent:
    """A batch of packets numbered `first` to `last` (both included), each of `size` bytes.

    A shorter last packet is counted as a full one. What does not elicit an acknowledgement is
    not in flight. The fields after `run` belong to the congestion controller.
    """

    first: int
    last: int
    at: Instant
    size: int
    eliciting: bool = True
    items: tuple[Item, ...] = ()
    run: Run | None = None
    delivered: int = 0
    delivered_at: Instant = 0
    first_sent_at: Instant = 0
    app_limited: bool = False
    calm: bool = False

    @property
    def bytes(self) -> int:
        """What this record counts for in flight."""
        return self.size * (self.last - self.first + 1)

    @property
    def probes_mtu(self) -> bool:
        """Whether it is a probe for larger datagrams: large, and nothing in it is missed."""
        return any(item[0] == ItemKind.MTU_PROBE for item in self.items)

    def cut(self, first: int, last: int) -> Sent:
        """The part of this record with these packet numbers."""
        run = self.run
        if run is not None:
            start = (first - self.first) * run.chunk
            stop = run.length if last == self.last else (last + 1 - self.first) * run.chunk
            fin = run.fin and last == self.last
            run = Run(run.stream, run.offset + start, run.chunk, stop - start, fin)
        return Sent(
            first,
            last,
            self.at,
            self.size,
            self.eliciting,
            self.items,
            run,
            self.delivered,
            self.delivered_at,
            self.first_sent_at,
            self.app_limited,
            self.calm,
        )
