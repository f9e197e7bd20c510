"""Locks between processes that die with whoever holds them.

Rules: a lock is a file that is never removed; one that is held for long names its process.
Left to others: what a lock protects (`store`, `alarms`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Final

from clawchat.errors import StoreError

LOOK_SECONDS: Final = 0.01  # between two looks at a lock that somebody else holds


class StoreBusy(StoreError):
    """Another process holds the lock that was asked for."""


def take(path: Path, *, wait_seconds: float = 0.0) -> int:
    """Hold the lock `path`, whose folder exists, until the handle is closed.

    Raises `StoreBusy` when another keeps it, and `OSError`.
    """
    until = monotonic() + wait_seconds
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while not _try_lock(handle):
            if monotonic() >= until:
                raise StoreBusy(_busy_text(path, handle))
            sleep(LOOK_SECONDS)
    except BaseException:
        os.close(handle)
        raise
    return handle


@contextmanager
def signed(handle: int) -> Iterator[None]:
    """Say in a lock that this process holds it, and close it in the end."""
    try:
        _sign(handle, str(os.getpid()))
        yield
        _sign(handle, "")
    finally:
        os.close(handle)


def _sign(handle: int, text: str) -> None:
    with suppress(OSError):  # a full disk: the lock is held all the same, by nobody in particular
        os.ftruncate(handle, 0)
        os.write(handle, text.encode())


def _busy_text(path: Path, handle: int) -> str:
    try:
        holder = os.pread(handle, 20, 0).decode() if hasattr(os, "pread") else ""
    except OSError:
        holder = ""
    who = f"process {holder}" if holder.isdigit() else "another process"
    return f"{path.parent.parent} is in use by {who} ({path.name}): stop it, or use it instead"


if sys.platform == "win32":
    import msvcrt

    def _try_lock(handle: int) -> bool:
        try:
            os.lseek(handle, 64, os.SEEK_SET)  # beyond the process id, which stays readable
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            os.lseek(handle, 0, os.SEEK_SET)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
