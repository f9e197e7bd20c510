"""A pairing's file is either an entry that is written and read again as equal, or a `StoreError`.

The input is the file as it is found on the disk. A damaged one is named in the error, is left as it
is, and nothing of its secrets stands in the error or in what led to it.
"""

from __future__ import annotations

import re
import tempfile
import traceback
from functools import lru_cache
from pathlib import Path
from typing import Final

from clawchat.drivers.store import Store
from clawchat.errors import StoreError

MEMORY: Final = Path("/dev/shm")
FILE_ID: Final = bytes(range(16))
_SECRET: Final = re.compile(rb'"(?:psk|envelope_key|private)"\s*:\s*"([0-9a-fA-F]{64})"')


@lru_cache(maxsize=1)
def store() -> tuple[Store, Path]:
    """A store in memory where that can be had, and the file of its only pairing."""
    folder = tempfile.mkdtemp(prefix="clawchat-fuzz-", dir=MEMORY if MEMORY.is_dir() else None)
    path = Path(folder) / "pairings" / f"{FILE_ID.hex()}.json"
    path.parent.mkdir(mode=0o700)
    return Store(folder), path


def check(data: bytes) -> None:
    kept, path = store()
    path.write_bytes(data)
    try:
        entry = kept.get(FILE_ID)
    except StoreError as error:
        check_refusal(error, data, path)
        return
    assert entry is not None
    kept.save(entry.pairing)
    again = kept.get(FILE_ID)
    assert again is not None
    assert (again.pairing, again.name) == (entry.pairing, entry.name)
    assert again.candidates == entry.candidates


def check_refusal(error: StoreError, data: bytes, path: Path) -> None:
    assert str(path) in str(error)
    assert path.read_bytes() == data
    told = "".join(traceback.format_exception(error)).encode(errors="replace")
    for secret in _SECRET.findall(data):
        assert secret not in told, "a secret stands in an error"


if __name__ == "__main__":
    from fuzz.harness import run

    run("store")
