"""`clawchat devices`: whom this machine is paired with, in either role; naming and ending that.

Rules: what a store says is read from the store, what a link does is asked of the process that has
it; a device is revoked by the process that serves it, or, when none does, in its store. What cannot
be undone asks first.
Left to others: which pairing is meant (`cli.known`), ending one (`drivers.listener`, `.store`).
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import trio
from cyclopts import App, Parameter

from clawchat.cli.alarms import unread, unread_lines
from clawchat.cli.asking import must_type
from clawchat.cli.device import Listener
from clawchat.cli.failures import NotPaired, Usage
from clawchat.cli.known import (
    Broken,
    Known,
    all_in,
    broken_in,
    known_in,
    last_ended,
    own_fingerprint,
    pick,
)
from clawchat.cli.local_socket import LocalSocket, NobodyHome, Refused
from clawchat.cli.options import Json, SecurityDir, StateDir
from clawchat.cli.places import SERVE_SOCKET, device_folder, listener_folder
from clawchat.cli.terminal import clock, harmless, put, put_json, say
from clawchat.drivers.alarms import AlarmLog
from clawchat.drivers.locks import StoreBusy
from clawchat.drivers.store import NAME_RULE, Ending, is_name

LOOK_AGAIN = 0.1  # seconds between two attempts to reach who serves
LOOKS = 100

app = App(name="devices")

Which: TypeAlias = Annotated[
    str, Parameter(help="Its name, or the beginning of its fingerprint or id.")
]
Yes: TypeAlias = Annotated[bool, Parameter(name="--yes", negative="", help="Do not ask.")]

HOW = (
    "`clawchat serve` and `clawchat sec new` let a device pair with it, "
    "`clawchat connect FILE` makes it a device"
)


@app.default
async def devices(
    *, json: Json = False, security_dir: SecurityDir = None, state_dir: StateDir = None
) -> None:
    """List."""
    folders = device_folder(state_dir), listener_folder(security_dir, state_dir)
    known = await trio.to_thread.run_sync(known_in, *folders)
    broken = [one.told() for one in await trio.to_thread.run_sync(broken_in, *folders)]
    alarms = await unread(*folders)
    links = await _links(folders[1])
    ours = [await _device(one, links) for one in known if not one.dialer]
    theirs = [await _listener(one) for one in known if one.dialer]
    own = await trio.to_thread.run_sync(own_fingerprint, folders[0]) if theirs else None
    if json:
        told = {"devices": ours, "listeners": theirs, "damaged": broken}
        put_json({**told, "alarms": alarms, "fingerprint": own})
        return
    if not known and not broken and not alarms:
        raise NotPaired(await trio.to_thread.run_sync(_why_none, *folders))
    mine = [f"this device has the fingerprint {own}"] if own else []
    damaged = [f"DAMAGED  {one['trouble']}" for one in broken]
    tables = _table("DEVICE", ours), _table("LISTENER", theirs) + mine
    parts = (*tables, damaged, unread_lines(alarms))
    put(harmless("\n\n".join("\n".join(part) for part in parts if part)) + "\n")


@app.command
async def name(
    which: Which,
    new_name: Annotated[str, Parameter(help="1 to 40 printable characters.")],
    /,
    *,
    security_dir: SecurityDir = None,
    state_dir: StateDir = None,
) -> None:
    """Call a device, or a listener, something else on this machine."""
    if not is_name(new_name):
        raise Usage(f"{new_name!r} cannot be a name: {NAME_RULE}")
    one = await _meant(which, security_dir, state_dir)
    if isinstance(one, Broken):
        raise one.unusable.error
    await trio.to_thread.run_sync(one.store.rename, one.file_id, new_name)
    say(f"{one.title} is called {new_name} from now on")


@app.command
async def revoke(
    which: Which,
    /,
    *,
    yes: Yes = False,
    json: Json = False,
    security_dir: SecurityDir = None,
    state_dir: StateDir = None,
) -> None:
    """Stop accepting a device, for good.

    For the agent's machine. The device's link is closed with the reason, its pairing destroyed.
    """
    one = await _meant(which, security_dir, state_dir)
    if one.dialer:
        raise Usage(
            f"{one.title} is a listener, and this machine its device: `clawchat devices forget` "
            "drops it here, `clawchat panic` destroys the pairing on both sides"
        )
    if not yes:
        say(f"the device {one.title} will not be accepted here any more")
        await must_type("revoke", otherwise="nothing was revoked")
    told = await _revoke(one)
    if json:
        put_json({"name": one.name, "id": one.file_id.hex(), "told": told})
        return
    how = "its link was closed, and it was told" if told else "it had no link, so it was not told"
    put(f"revoked {one.title}: {how}\n")
    say("  to pair it anew: `clawchat sec new`; to destroy every pairing: `clawchat panic`")


@app.command
async def forget(
    which: Which,
    /,
    *,
    yes: Yes = False,
    security_dir: SecurityDir = None,
    state_dir: StateDir = None,
) -> None:
    """Drop a listener that this device knows.

    Ends the link and destroys this side of the pairing; the listener keeps its own.
    """
    one = await _meant(which, security_dir, state_dir)
    if not one.dialer:
        raise Usage(f"{one.title} is a device of this machine: `clawchat devices revoke` ends it")
    if not yes:
        say(f"the pairing with the listener {one.title} will be destroyed on this side")
        await must_type("forget", otherwise="nothing was forgotten")
    holder = Listener(one.store, one.file_id, one.name)
    with suppress(NobodyHome, Refused):
        await holder.socket.ask({"verb": "stop"})
    await trio.to_thread.run_sync(one.store.destroy, one.file_id, Ending.FORGOTTEN)
    put(f"forgot {one.title}\n")
    say("  it still keeps its side: `clawchat devices revoke` there ends that")


@app.command
async def ack(*, security_dir: SecurityDir = None, state_dir: StateDir = None) -> None:
    """Say that you have read the warnings, which are then shown no more."""
    folders = device_folder(state_dir), listener_folder(security_dir, state_dir)
    logs = [AlarmLog(folder) for folder in folders]
    count = sum([await trio.to_thread.run_sync(log.clear) for log in logs])
    say(f"{count} warning(s) acknowledged" if count else "there is no warning to acknowledge")


# --- finding out ------------------------------------------------------------------------------


async def _meant(which: str, security: Path | None, state: Path | None) -> Known | Broken:
    folders = device_folder(state), listener_folder(security, state)
    known = await trio.to_thread.run_sync(all_in, *folders)
    if not known:
        raise NotPaired(await trio.to_thread.run_sync(_why_none, *folders))
    return pick(known, which)


def _why_none(*folders: Path) -> str:
    what = last_ended(*folders)
    if not what:
        return f"nothing is paired with this machine yet: {HOW}"
    return f"nothing is paired with this machine any more ({what}): {HOW}"


async def _links(folder: Path) -> dict[str, dict[str, Any]] | None:
    """What `clawchat serve` says of each device, by id; None when none runs."""
    try:
        answer = await LocalSocket(folder / SERVE_SOCKET).ask({"verb": "status"})
    except (NobodyHome, Refused):
        return None
    return {device["id"]: device for device in answer["devices"]}


async def _device(one: Known, links: dict[str, dict[str, Any]] | None) -> dict[str, Any]:
    link = (links or {}).get(one.file_id.hex(), {})
    return {**await _told(one), "link": link.get("link"), "remote": link.get("remote")}


async def _listener(one: Known) -> dict[str, Any]:
    holder = Listener(one.store, one.file_id, one.name)
    try:
        link = await holder.socket.ask({"verb": "status"})
    except (NobodyHome, Refused):
        link = {}
    remote = link.get("remote")
    where = remote or next(map(str, one.entry.candidates), None)
    return {**await _told(one), "link": link.get("link"), "remote": where}


async def _told(one: Known) -> dict[str, Any]:
    return {
        "name": one.entry.name,
        "id": one.file_id.hex(),
        "fingerprint": one.fingerprint or None,
        "paired": one.entry.paired,
        "seen": await trio.to_thread.run_sync(one.store.last_seen, one.entry),
        "generation": one.entry.pairing.newest.generation,
    }


# --- revoking ---------------------------------------------------------------------------------


async def _revoke(one: Known | Broken) -> bool:
    """By the process that serves, or in its place. Whether the device was told."""
    socket = LocalSocket(one.store.folder / SERVE_SOCKET)
    for look in range(LOOKS):
        try:
            answer = await socket.ask({"verb": "revoke", "id": one.file_id.hex()})
            return bool(answer["told"])
        except NobodyHome:
            pass
        try:
            with one.store.lock("serve"):  # or one that starts now would accept it once more
                await trio.to_thread.run_sync(one.store.destroy, one.file_id, Ending.REVOKED)
                return False
        except StoreBusy:
            if look == LOOKS - 1:
                raise
        await trio.sleep(LOOK_AGAIN)  # it starts, or ends
    raise AssertionError("the last look returns or raises")


# --- for people -------------------------------------------------------------------------------

_HEAD = ("FINGERPRINT", "PAIRED", "LAST SEEN", "GEN", "LINK")


def _table(title: str, rows: list[dict[str, Any]]) -> list[str]:
    """Columns as wide as they must be; the last one ends as it likes."""
    if not rows:
        return []
    cells = [(title, *_HEAD), *(_cells(row) for row in rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(_HEAD))]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])
        for row in cells
    ]


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    up = row["link"] == "up"
    where = {"up": f"up, {row['remote']}", "down": "down", None: "none"}[row["link"]]
    return (
        row["name"],
        row["fingerprint"] or "unknown",
        clock(row["paired"]),
        "now" if up else clock(row["seen"]),
        str(row["generation"]),
        where,
    )
