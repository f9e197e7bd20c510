"""Losses that go with what a datagram says, so that two runs of one world can be compared.

Two runs that differ in one thing soon send other packets at other moments. Dice that are rolled
for a moment, or for the next packet, would then fall otherwise for what both have to say, and the
difference between the runs would be that of the dice. Here the dice belong to the content: the
k-th time that some bytes of a stream are sent is lost in both runs or in neither, whenever it is,
and so is the first acknowledgement that tells of it, and what asks for an acknowledgement and
carries nothing. What only one run has, has dice of its own.

Rules: a packet is lost or not as a whole: one with several pieces of the application's bytes is
lost if the dice of any of them say so. What rides with bytes shares their fate, and what rides with
an acknowledgement shares that of the acknowledgement. What the link says for itself (the control
stream, PATH frames) is named by its packet number.
Left to others: the worlds (`bench.rotations`), looking into packets (`simulator.shoulder`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import IntEnum, unique
from hashlib import blake2b
from typing import Final, TypeAlias

from attrs import define, field, frozen

from clawchat.core.wire import frames
from clawchat.drivers.simulator.shoulder import Contents

NAME_SIZE: Final = 16
DICE: Final = 1 << 32


Piece: TypeAlias = tuple[int, int]
"""A stream, and which of its pieces."""


@unique
class Kind(IntEnum):
    """What names a packet; the smaller goes first where an acknowledgement tells of several."""

    BYTES = 0
    TOLD = 1
    OWN = 2


@frozen
class Name:
    """What a packet is in either run, or in this one only (OWN). It is lost with any of `dice`."""

    kind: Kind
    dice: tuple[bytes, ...]


@frozen
class Fate:
    """What becomes of a datagram, and the pieces of the application that are in it."""

    lost: bool = False
    pieces: tuple[Piece, ...] = ()


@define
class _Side:
    """What one host has sent."""

    times: Counter[Piece] = field(factory=Counter)
    last: bytes = b""  # dice of the last packet with bytes of the application
    after: int = 0  # packets since then that carried nothing
    untold: dict[int, Name] = field(factory=dict)  # that arrive, and no ACK told of, by number


@define
class Fates:
    """`losses`: the share of what each host sends; `sizes`: in pieces of how many bytes each stream
    is counted.
    """

    seed: str
    losses: Mapping[str, float]
    sizes: Mapping[int, int]
    contents: Contents = field(factory=Contents)
    _sides: dict[str, _Side] = field(factory=dict)

    def of(self, source: str, destination: str, datagram: bytes) -> Fate:
        """What becomes of this datagram, which leaves now."""
        carried = self.contents.carried.pop(datagram, None)
        if carried is None:
            return Fate()  # an envelope: the link has yet to begin
        number, payload = carried
        side = self._sides.setdefault(source, _Side())
        other = self._sides.setdefault(destination, _Side())
        found = frames.parse_frames(payload)
        pieces = self._pieces(found)
        name = _name(side, other, number, found, pieces)
        lost = any(self._falls(source, dice) for dice in name.dice)
        if not lost:
            side.untold[number] = name
        return Fate(lost, pieces)

    def _pieces(self, found: list[frames.Frame]) -> tuple[Piece, ...]:
        """None of a copy, which is a packet that only one run has."""
        if any(isinstance(frame, frames.PathChallenge) for frame in found):
            return ()
        streams = (frame for frame in found if isinstance(frame, frames.Stream))
        return tuple(
            (frame.stream, piece)
            for frame in streams
            if (size := self.sizes.get(frame.stream)) is not None
            for piece in range(frame.offset // size, -(-(frame.offset + len(frame.data)) // size))
        )

    def _falls(self, source: str, dice: bytes) -> bool:
        drawn = blake2b(source.encode() + dice, key=self.seed.encode(), digest_size=4).digest()
        return int.from_bytes(drawn, "big") < self.losses[source] * DICE


def _name(
    side: _Side,
    other: _Side,
    number: int,
    found: list[frames.Frame],
    pieces: tuple[Piece, ...],
) -> Name:
    told = [_told(other, frame) for frame in found if isinstance(frame, frames.Ack)]
    if pieces:
        side.times.update(pieces)
        dice = tuple(_dice("bytes", piece, side.times[piece]) for piece in pieces)
        side.last, side.after = dice[-1], 0
        return Name(Kind.BYTES, dice)
    known = min((name for name in told if name), default=None, key=lambda name: name.kind)
    if known is not None and known.kind is not Kind.OWN:
        return Name(Kind.TOLD, (_dice("told", known.dice),))
    if told or any(isinstance(frame, _LINK) for frame in found):
        return Name(Kind.OWN, (_dice("own", number),))
    side.after += 1
    return Name(Kind.TOLD, (_dice("after", side.last, side.after),))


_LINK: Final = (frames.Stream, frames.PathChallenge, frames.PathResponse)


def _told(other: _Side, ack: frames.Ack) -> Name | None:
    """The first packet, best one that both runs have, of which no ACK has told before."""
    new = [
        number for number in other.untold if any(low <= number <= high for low, high in ack.ranges)
    ]
    names = [other.untold.pop(number) for number in new]
    return min(names, default=None, key=lambda name: name.kind)


def _dice(*parts: object) -> bytes:
    return blake2b(repr(parts).encode(), digest_size=NAME_SIZE).digest()
