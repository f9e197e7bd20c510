"""Overwrite what this process has freed, so that former copies of secrets cannot be read in it.

Secrets of ours live in `bytearray`s that are wiped. But OpenSSL's results, JSON and hexadecimal
are `bytes` and `str`, which Python does not overwrite when it frees them: they stay readable until
something else is put there. So something else is put there.

Rules: meant for the moment when a pairing was destroyed, not for every day: it takes a tenth of a
second and, for that time, some 50 MB. It reaches what CPython's allocator and the C library's
would give out again, not what is still in use.
Left to others: wiping what is not yet freed (`core.secret`).
"""

from __future__ import annotations

import gc
import sys
from typing import Final

SMALL_MAX: Final = 512  # up to here CPython's own allocator serves, in steps of 16 bytes
SMALL_EACH: Final = 64 * 1024  # bytes of each small size that are taken at least
LARGE_MAX: Final = 16 * 1024  # from here on the C library mostly returns memory to the system
LARGE_EACH: Final = 8
_HEAD: Final = sys.getsizeof(b"")  # what an empty `bytes` takes


def scrub() -> None:
    """Take all free memory that is given out again, fill it with zeros, and give it back."""
    gc.collect()
    taken: list[bytes] = []
    usual = sys.getallocatedblocks() // (SMALL_MAX // 16)  # of one size, as far as one can guess
    for size in range(_HEAD + 15 & ~15, SMALL_MAX + 1, 16):
        length = size - _HEAD
        taken += [bytes(length) for _ in range(usual + SMALL_EACH // size)]
    for size in range(SMALL_MAX + 16, LARGE_MAX, 64):
        taken += [bytes(size - _HEAD) for _ in range(LARGE_EACH)]
    taken.clear()
