"""Alarms as people read them: what was used, who may have done it, and what to do about it.

Rules: each names the commands that end the matter; none is told twice within a minute, and all are
shown until `clawchat devices ack`.
Left to others: keeping them (`drivers.alarms`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import trio

from clawchat.cli.terminal import clock, one_line
from clawchat.drivers.alarms import Alarm, AlarmLog, Kind
from clawchat.drivers.peer import fingerprint
from clawchat.drivers.store import Store
from clawchat.errors import StoreError

_HAPPENED = {
    Kind.FILE: "the bootstrap file that paired {name} was used by a second device",
    Kind.COPY: "a credential of {name} was used by a machine that is not {name}",
    Kind.OLD: "an old credential of {name} was used",
}

_HAPPENED_TO_US = {
    Kind.FILE: "the bootstrap file that paired this device with {name} was used by a second device",
    Kind.COPY: "this device's credential for {name} was used by another machine",
    Kind.OLD: "an old copy of this device's credential for {name} was used",
}

_MEANS = {
    Kind.FILE: (
        "It was refused; a file is good for one device. If both are yours: `clawchat sec new`",
        "makes a file for the second. If not, somebody has the file and its key. Compare the",
        "fingerprint of {name}: if it is not your device, `clawchat devices revoke {quoted}`.",
    ),
    Kind.COPY: (
        "It was refused, but somebody has a copy of what {name} keeps:",
        "`clawchat devices revoke {quoted}`, then `clawchat sec new` and pair it anew.",
    ),
    Kind.OLD: (
        "It was refused. If you restored {name} from a backup: pair it anew, with",
        "`clawchat sec new`. If not, there is a copy of its folder, and either the one that was",
        "refused or the one that is accepted is the copy: `clawchat devices revoke {quoted}`.",
    ),
}

_MEANS_TO_US = {
    Kind.FILE: (
        "{name} refused it; a file is good for one device. If both are yours: `clawchat sec new`",
        "there makes a file for the second. If not, somebody has the file and its key: choose",
        "another key there, `clawchat sec key`, before the next file is made.",
    ),
    Kind.COPY: (
        "{name} refused it. If it was not you, somebody has a copy of what this device keeps:",
        "`clawchat panic` destroys the pairing on both sides; then pair anew.",
    ),
    Kind.OLD: (
        "{name} refused it. If you started this device from a backup, or a copy of its folder on",
        "another machine: nothing is lost, use only this one. If it was not you, somebody has a",
        "copy of what this device keeps: `clawchat panic` destroys the pairing on both sides; then",
        "pair anew.",
    ),
}

_PANIC = "If somebody may have been on a machine of yours: `clawchat panic`."


def as_told(alarm: Alarm, name: str) -> dict[str, Any]:
    """An alarm as JSON carries it; `name` is what the other side of its pairing is called now.

    `role` is this machine's in that pairing. A device is not told the other's fingerprint.
    """
    return {
        "kind": alarm.kind.value,
        "role": "device" if alarm.static is None else "listener",
        "name": name,
        "id": alarm.file_id.hex(),
        "generation": alarm.generation,
        "fingerprint": None if alarm.static is None else fingerprint(alarm.static),
        "remote": alarm.remote,
        "first": alarm.first,
        "last": alarm.last,
        "count": alarm.count,
    }


def alarm_lines(told: dict[str, Any]) -> list[str]:
    """An alarm for people; the first line says what happened."""
    kind, name = Kind(told["kind"]), one_line(str(told["name"]))
    names = {"name": name, "quoted": f'"{name}"' if " " in name else name}
    ours = told["role"] == "device"
    happened, means = (_HAPPENED_TO_US, _MEANS_TO_US) if ours else (_HAPPENED, _MEANS)
    often = "" if told["count"] == 1 else f"; {told['count']} times since {clock(told['first'])}"
    who = "" if told["fingerprint"] is None else f", fingerprint {told['fingerprint']}"
    where = f"from {told['remote']}{who}, generation {told['generation']}"
    return [
        f"WARNING: {happened[kind].format_map(names)}",
        f"  at {clock(told['last'])} {where}{often}",
        *(f"  {line}".format_map(names) for line in means[kind]),
        f"  {_PANIC}",
    ]


async def keep_and_tell(
    log: AlarmLog, alarm: Alarm, name: str, tell: Callable[[str], None]
) -> None:
    """Tell it, unless it was told just now, and keep it for a user who does not look."""
    news: Alarm | None = alarm
    try:
        news = await trio.to_thread.run_sync(log.note, alarm)
    except StoreError as error:
        tell(f"clawchat: {error}")
    if news is not None:
        tell("\n".join(alarm_lines(as_told(news, name))))


async def unread(*folders: Path) -> list[dict[str, Any]]:
    """The alarms that the user of the device and the listener in `folders` has not acknowledged."""

    def read(folder: Path) -> list[dict[str, Any]]:
        alarms = AlarmLog(folder).all()
        if not alarms:
            return []
        names = {entry.pairing.file_id: entry.name for entry in Store(folder).entries()}
        return [as_told(alarm, names.get(alarm.file_id, alarm.name)) for alarm in alarms]

    def read_all() -> list[dict[str, Any]]:
        return [told for folder in dict.fromkeys(folders) for told in read(folder)]

    return await trio.to_thread.run_sync(read_all)


class News:
    """The alarms in a folder that this process has not shown yet."""

    def __init__(self, folder: Path) -> None:
        self._folder: Final = folder
        self._shown: list[dict[str, Any]] = []

    async def lines(self) -> list[str]:
        """Those that came since the last call, or came again."""
        known, self._shown = self._shown, await unread(self._folder)
        return unread_lines([told for told in self._shown if told not in known])


def unread_lines(alarms: Sequence[dict[str, Any]]) -> list[str]:
    """All alarms that nobody has acknowledged, and how to."""
    if not alarms:
        return []
    lines = [line for told in alarms for line in alarm_lines(told)]
    return [*lines, "  (`clawchat devices ack`, once you have read this)"]
