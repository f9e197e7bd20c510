"""What the user of a listener or of a device must learn, kept until the user says that it was read.

    alarms.json    in the store's folder: who used a credential that is not theirs, or not current

Rules: at most `ALARMS_MAX`, the oldest go first; the same thing again only counts; what a flood of
it costs is one write in `AGAIN_SECONDS` for each kind and device. No secret is in the file.
Left to others: noticing (the core's `CredentialReused` and `CopyReported`), wording
(`clawchat.cli`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, unique
from pathlib import Path
from time import time
from typing import Final, TypeAlias

from attrs import evolve, frozen

from clawchat.core.actions import CopyReported, CredentialReused
from clawchat.core.credential import FILE_ID_SIZE, STATIC_SIZE
from clawchat.core.instant import SECOND
from clawchat.drivers import files, locks
from clawchat.drivers.records import Content, Newer, read_record, write_record
from clawchat.errors import StoreError

ALARMS_MAX: Final = 32  # a person reads no more; a device causes at most one of each kind
AGAIN_SECONDS: Final = 60.0  # before the same thing is told and written again
LOCK_SECONDS: Final = 10.0


@unique
class Kind(Enum):
    """What was used, and by whom."""

    FILE = "file"  # a bootstrap file that paired one device, by another
    COPY = "copy"  # a credential, by a machine that is not its device
    OLD = "old"  # an old credential, by its device or a copy of that device's whole folder


Key: TypeAlias = tuple[Kind, bytes, bool]
"""What makes two alarms the same."""


@frozen
class Alarm:
    """One kind of misuse of one pairing. Times are Unix seconds; `remote` is of the last time.

    `name` is what the other side of the pairing is called here. `static` is the key of whoever did
    it; None where this machine is the device, whose listener told it.
    """

    kind: Kind
    file_id: bytes
    name: str
    generation: int
    static: bytes | None
    remote: str
    first: int
    last: int
    count: int = 1

    @property
    def key(self) -> Key:
        return self.kind, self.file_id, self.static is None


def alarm_of(notice: CredentialReused, name: str) -> Alarm:
    """What a notice means for the device that is called `name`."""
    now = int(time())
    where = str(notice.path.remote)
    kind = _kind(notice)
    return Alarm(kind, notice.file_id, name, notice.generation, notice.static, where, now, now)


def alarm_told(notice: CopyReported, file_id: bytes, name: str) -> Alarm:
    """What it means for this device that the listener called `name` said so."""
    then = int(time()) - notice.ago_ns // SECOND
    where, count = str(notice.remote), notice.count
    kind = _kind(notice)
    return Alarm(kind, file_id, name, notice.generation, None, where, then, then, count)


def _kind(notice: CredentialReused | CopyReported) -> Kind:
    if notice.same_device:
        return Kind.OLD
    return Kind.COPY if notice.generation else Kind.FILE


class AlarmLog:
    """The alarms that nobody has acknowledged yet. All methods block; several processes may use
    one file.
    """

    def __init__(self, folder: Path) -> None:
        """Nothing is read or written yet."""
        self.path: Final = folder / "alarms.json"
        self._untold: dict[Key, int] = {}  # since the last writing
        self._told_at: dict[Key, float] = {}

    def note(self, alarm: Alarm) -> Alarm | None:
        """Keep it. The alarm with what is known from before, or None when it was told just now."""
        key = alarm.key
        told_at = self._told_at.get(key)
        if told_at is not None and 0 <= alarm.last - told_at < AGAIN_SECONDS:
            self._untold[key] = self._untold.get(key, 0) + alarm.count
            return None
        self._told_at[key] = alarm.last
        alarm = evolve(alarm, count=alarm.count + self._untold.pop(key, 0))
        with self._explained(), self._changing():
            known = self._read()
            for old in known:
                if old.key == key:
                    alarm = evolve(alarm, first=old.first, count=old.count + alarm.count)
            others = [old for old in known if old.key != key]
            self._write([*others, alarm][-ALARMS_MAX:])
        return alarm

    def all(self) -> list[Alarm]:
        """What is not acknowledged, the latest last."""
        with self._explained():
            return self._read()

    def clear(self) -> int:
        """The user has read them. How many there were."""
        with self._explained():
            if not self.path.exists():
                return 0
            with self._changing():
                count = len(self._read())
                files.remove(self.path)
                return count

    # --- inside -------------------------------------------------------------------------------

    def _read(self) -> list[Alarm]:
        if not self.path.exists():
            return []
        rows = read_record("alarms", self.path).rows("alarms", ALARMS_MAX)
        return [_to_alarm(row) for row in rows]

    def _write(self, alarms: list[Alarm]) -> None:
        write_record(self.path, "alarms", {"alarms": [_from_alarm(alarm) for alarm in alarms]})

    @contextmanager
    def _changing(self) -> Iterator[None]:
        folder = self.path.parent / "locks"
        files.private_folder(self.path.parent)
        files.private_folder(folder)
        handle = locks.take(folder / "alarms", wait_seconds=LOCK_SECONDS)
        try:
            yield
        finally:
            os.close(handle)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(f"cannot use {self.path}: {error.strerror or error}") from error
        except (Newer, ValueError, KeyError, TypeError) as error:
            text = f"{self.path} is damaged, or newer than this ClawChat: move it away"
            raise StoreError(text) from error


def _from_alarm(alarm: Alarm) -> dict[str, object]:
    return {
        "kind": alarm.kind.value,
        "file_id": alarm.file_id.hex(),
        "name": alarm.name,
        "generation": alarm.generation,
        "static": (alarm.static or b"").hex(),
        "remote": alarm.remote,
        "first": alarm.first,
        "last": alarm.last,
        "count": alarm.count,
    }


def _to_alarm(row: Content) -> Alarm:
    return Alarm(
        Kind(row.text("kind")),
        row.octets("file_id", FILE_ID_SIZE),
        row.text("name"),
        row.count("generation"),
        row.octets("static", STATIC_SIZE) if row.text("static") else None,
        row.text("remote"),
        row.count("first"),
        row.count("last"),
        row.count("count"),
    )
