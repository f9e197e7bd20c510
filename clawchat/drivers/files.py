"""Files that must survive: written whole or not at all, and readable by their owner only.

Rules: a file is replaced by `rename` after its bytes and before its folder are synced, so that a
killed process, a full disk or a power cut leaves the old content or the new, never a mixture;
folders are 0700, files 0600.
Left to others: what is in them (`store`, `publisher`), wording for the user.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from secrets import token_hex
from time import time
from typing import Final

STALE_SECONDS: Final = 60.0  # an unfinished file older than this belongs to a killed process
UNFINISHED: Final = ".unfinished"
_NOFOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)
_BINARY: Final = getattr(os, "O_BINARY", 0)


class ForeignFolder(OSError):
    """The folder belongs to another user: what we would keep there is not ours alone."""


def private_folder(folder: Path) -> None:
    """Make `folder` with mode 0700, or tighten it. Raises `ForeignFolder` and other `OSError`s."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if sys.platform == "win32":
        return  # the profile folder's access list is private already
    found = folder.stat()
    if found.st_uid != os.geteuid():
        raise ForeignFolder(f"{folder} belongs to another user (uid {found.st_uid})")
    if stat.S_IMODE(found.st_mode) & 0o077:
        folder.chmod(0o700)


def write_private(path: Path, data: bytes | bytearray, *, replace: bool = True) -> None:
    """Write `data` to `path` durably and atomically, mode 0600.

    With `replace=False` an existing file is left alone and `FileExistsError` raised. After any
    `OSError` the old content, if there was one, is intact.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.{token_hex(4)}{UNFINISHED}")
    try:
        _write_synced(unfinished, data)
        if replace:
            os.replace(unfinished, path)
        elif sys.platform == "win32":
            os.rename(unfinished, path)  # refuses an existing target on Windows
        else:
            os.link(unfinished, path)
            unfinished.unlink()
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def read_private(path: Path) -> bytearray:
    """The content of a file of ours, in memory that can be wiped; other users' access to it is
    taken away.
    """
    with path.open("rb", buffering=0) as file:
        found = os.fstat(file.fileno())
        if sys.platform != "win32" and stat.S_IMODE(found.st_mode) & 0o077:
            os.fchmod(file.fileno(), 0o600)
        data = bytearray(found.st_size)
        view, size = memoryview(data), 0
        while size < len(data) and (more := file.readinto(view[size:])):
            size += more
    view.release()
    del data[size:]
    return data


def remove(path: Path) -> None:
    """Remove a file durably; harmless when it is gone."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def shred(path: Path) -> None:
    """Overwrite a file and remove it, durably; harmless when it is gone.

    What a file system or a disk copied elsewhere (journals, snapshots, worn-out flash) stays.
    """
    try:
        handle = os.open(path, os.O_WRONLY | _NOFOLLOW | _BINARY)
    except FileNotFoundError:
        return
    try:
        os.write(handle, bytes(os.fstat(handle).st_size))
        os.fsync(handle)
    finally:
        os.close(handle)
    remove(path)


def unfinished(path: Path) -> list[Path]:
    """What killed processes left of writes to `path`."""
    return sorted(path.parent.glob(f".{path.name}.*{UNFINISHED}"))


def sweep(folder: Path) -> None:
    """Remove what killed processes left unfinished."""
    for left in folder.glob(f".*{UNFINISHED}"):
        try:
            if time() - left.stat().st_mtime > STALE_SECONDS:
                left.unlink()
        except OSError:
            continue  # another process swept it, or we may not: it does no harm


def sync_folder(folder: Path) -> None:
    """Make names in `folder` durable."""
    if sys.platform == "win32":
        return  # folders cannot be opened there; NTFS journals its names
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_synced(path: Path, data: bytes | bytearray) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW | _BINARY, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]
        os.fsync(handle)
    finally:
        os.close(handle)
