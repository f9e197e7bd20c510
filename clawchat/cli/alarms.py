"""Alarms as people read them: what was used, who may have done it, and what to do about it.

Rules: each names the commands that end the matter; none is told twice within a minute, and all are
shown until `clawchat devices ack`.
Left to others: keeping them (`drivers.alarms`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trio

from clawchat.cli.terminal import clock, one_line
from clawchat.drivers.alarms import Alarm, AlarmLog, Kind
from clawchat.drivers.peer import fingerprint
from clawchat.drivers.store import Store

_HAPPENED = {
    Kind.FILE: "the bootstrap file that paired {name} was used by a second device",
    Kind.COPY: "a credential of {name} was used by a machine that is not {name}",
    Kind.OLD: "an old credential of {name} was used",
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

_PANIC = "If somebody may have been on a machine of yours: `clawchat panic`."


def as_told(alarm: Alarm, name: str) -> dict[str, Any]:
    """An alarm as JSON carries it; `name` is what its pairing is called now."""
    return {
        "kind": alarm.kind.value,
        "name": name,
        "id": alarm.file_id.hex(),
        "generation": alarm.generation,
        "fingerprint": fingerprint(alarm.static),
        "remote": alarm.remote,
        "first": alarm.first,
        "last": alarm.last,
        "count": alarm.count,
    }


def alarm_lines(told: dict[str, Any]) -> list[str]:
    """An alarm for people; the first line says what happened."""
    kind, name = Kind(told["kind"]), one_line(str(told["name"]))
    names = {"name": name, "quoted": f'"{name}"' if " " in name else name}
    happened = _HAPPENED[kind].format_map(names)
    often = "" if told["count"] == 1 else f"; {told['count']} times since {clock(told['first'])}"
    who = f"from {told['remote']}, fingerprint {told['fingerprint']}"
    return [
        f"WARNING: {happened}",
        f"  at {clock(told['last'])} {who}, generation {told['generation']}{often}",
        *(f"  {line}".format_map(names) for line in _MEANS[kind]),
        f"  {_PANIC}",
    ]


async def unread(folder: Path) -> list[dict[str, Any]]:
    """The alarms that the user of the listener in `folder` has not acknowledged."""

    def read() -> list[dict[str, Any]]:
        if not folder.is_dir():
            return []
        names = {entry.pairing.file_id: entry.name for entry in Store(folder).entries()}
        alarms = AlarmLog(folder).all()
        return [as_told(alarm, names.get(alarm.file_id, alarm.name)) for alarm in alarms]

    return await trio.to_thread.run_sync(read)


def unread_lines(alarms: Sequence[dict[str, Any]]) -> list[str]:
    """All alarms that nobody has acknowledged, and how to."""
    if not alarms:
        return []
    lines = [line for told in alarms for line in alarm_lines(told)]
    return [*lines, "  (`clawchat devices ack`, once you have read this)"]
