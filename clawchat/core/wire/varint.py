"""Variable-length integers of RFC 9000, section 16: 1, 2, 4 or 8 bytes, up to 2^62 - 1.

Rules: `encode` writes the shortest form unless told otherwise; `decode` takes any form, as the
RFC does (PROTOCOL.md "Notation").
Left to others: what a number may be.
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError  # noqa: N812
from typing import Final

from clawchat.errors import Drop, Malformed

MAX: Final = (1 << 62) - 1

_TWO: Final = Struct(">H")
_FOUR: Final = Struct(">I")
_EIGHT: Final = Struct(">Q")
_ONE_BYTE: Final = tuple(bytes((value,)) for value in range(64))


def encode(value: int, at_least: int = 1) -> bytes:
    """`value` in the fewest of 1, 2, 4 or 8 bytes that hold it and are not fewer than `at_least`.

    Raises `ValueError` outside 0..2^62-1.
    """
    if 0 <= value < 64 and at_least <= 1:
        return _ONE_BYTE[value]
    if 0 <= value < 1 << 14 and at_least <= 2:
        return _TWO.pack(value | 0x4000)
    if 0 <= value < 1 << 30 and at_least <= 4:
        return _FOUR.pack(value | 0x8000_0000)
    if 0 <= value <= MAX:
        return _EIGHT.pack(value | 0xC000_0000_0000_0000)
    raise ValueError("a varint holds 0 to 2^62 - 1")


def size(value: int) -> int:
    """How many bytes `encode(value)` has."""
    if value < 64:
        return 1
    if value < 1 << 14:
        return 2
    return 4 if value < 1 << 30 else 8


def decode(buffer: bytes | memoryview, at: int) -> tuple[int, int]:
    """The number at `at`, and where the next thing begins. Raises `Malformed(MALFORMED_VARINT)`."""
    try:
        first = buffer[at]
        if first < 0x40:
            return first, at + 1
        if first < 0x80:
            return (first & 0x3F) << 8 | buffer[at + 1], at + 2
        if first < 0xC0:
            return _FOUR.unpack_from(buffer, at)[0] & 0x3FFF_FFFF, at + 4
        return _EIGHT.unpack_from(buffer, at)[0] & MAX, at + 8
    except (IndexError, StructError):
        raise Malformed(Drop.MALFORMED_VARINT) from None
