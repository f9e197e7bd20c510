"""Inputs that are wrong in interesting ways, from ones that are right, by a seeded generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

SIZE_MAX = 4096
INTERESTING = (
    b"\x00",
    b"\xff",
    b"\x3f",
    b"\x40\x00",
    b"\x7f\xff",
    b"\x80\x00\x00\x00",
    b"\xbf\xff\xff\xff",
    b"\xc0" + bytes(7),
    b"\xff" * 8,
    b"\x02",
    b"\x0c\x04\x80\x00\x00\x00",
)


def _flip(data: bytearray, random: Random) -> None:
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _replace(data: bytearray, random: Random) -> None:
    if data:
        data[random.randrange(len(data))] = random.randrange(256)


def _overwrite(data: bytearray, random: Random) -> None:
    piece = random.choice(INTERESTING)
    at = random.randrange(len(data) + 1)
    data[at : at + len(piece)] = piece


def _insert(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data) + 1)
    data[at:at] = random.choice((*INTERESTING, random.randbytes(random.randrange(1, 9))))


def _delete(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data) + 1)
    del data[at : at + random.choice((1, 1, 2, 4, 8, 64))]


def _cut(data: bytearray, random: Random) -> None:
    del data[random.randrange(len(data) + 1) :]


def _repeat(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data) + 1)
    data[at:at] = data[at : at + random.randrange(1, 17)] * random.randrange(1, 4)


MUTATIONS: tuple[Callable[[bytearray, Random], None], ...] = (
    _flip,
    _flip,
    _replace,
    _overwrite,
    _insert,
    _delete,
    _cut,
    _repeat,
)


def mutated(corpus: Sequence[bytes], random: Random) -> bytes:
    """One input: mostly a corpus entry with a few changes, sometimes two joined, or noise."""
    kind = random.randrange(16)
    if kind == 0 or not corpus:
        return random.randbytes(random.randrange(random.choice((8, 64, 600))))
    data = bytearray(random.choice(corpus))
    if kind == 1:
        return bytes(data)
    if kind <= 4:
        other = random.choice(corpus)
        data[random.randrange(len(data) + 1) :] = other[random.randrange(len(other) + 1) :]
    for _ in range(random.choice((1, 1, 2, 3, 6))):
        random.choice(MUTATIONS)(data, random)
    return bytes(data[:SIZE_MAX])
