"""`clawchat status`: how this machine is set up, and how its link is doing."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import trio
from cyclopts import Parameter

from clawchat.cli.alarms import unread, unread_lines
from clawchat.cli.device import Listener, choose, open_store, paired
from clawchat.cli.exit_codes import ExitCode
from clawchat.cli.failures import exit_code, explain
from clawchat.cli.known import broken_in, known_in, last_ended
from clawchat.cli.local_socket import LocalSocket, NobodyHome, Refused
from clawchat.cli.options import Json, PeerName, SecurityDir, StateDir
from clawchat.cli.places import SERVE_SOCKET, device_folder, listener_folder
from clawchat.cli.shared_link import SharedLink
from clawchat.cli.terminal import describe, harmless, put, put_json, say
from clawchat.drivers.peer import fingerprint
from clawchat.drivers.store import Entry, Store
from clawchat.errors import ClawChatError


async def status(
    *,
    json: Json = False,
    offline: Annotated[
        bool, Parameter(negative="", help="Dial nothing; ask only what runs here.")
    ] = False,
    peer: PeerName = None,
    security_dir: SecurityDir = None,
    state_dir: StateDir = None,
) -> int:
    """Report. Exits with 3, 4 or 5 when not paired, not linked, or without an agent."""
    store = open_store(state_dir)
    entries = await trio.to_thread.run_sync(paired, store)
    folder = listener_folder(security_dir, state_dir)
    serving = await _serving(folder)
    if peer is not None:
        choose(store, peer)
    reports = [await _report(store, entry, entries, peer, offline=offline) for entry in entries]
    alarms = await unread(device_folder(state_dir), folder)  # the link may have brought one
    code = max((code for _, code in reports), default=ExitCode.OK)
    devices = [] if serving is not None else await trio.to_thread.run_sync(_devices, folder)
    broken = await trio.to_thread.run_sync(broken_in, store.folder, folder)
    if broken:
        code = ExitCode.STORE
    elif not entries and serving is None:
        code = ExitCode.NO_LINK if devices else ExitCode.NOT_PAIRED
    told = {
        "state_dir": str(store.folder.parent),
        "peers": [one for one, _ in reports],
        "unserved": devices,
        "ended": await trio.to_thread.run_sync(last_ended, store.folder, folder),
        "damaged": [one.told() for one in broken],
    }
    if json:
        put_json({**told, "serve": serving, "alarms": alarms})
    else:
        _print(told, serving, alarms)
    return code


async def _serving(folder: Path) -> dict[str, Any] | None:
    """What a `clawchat serve` on this machine says of itself; None when none runs."""
    try:
        answer = await LocalSocket(folder / SERVE_SOCKET).ask({"verb": "status"})
    except (NobodyHome, Refused):
        return None
    return {key: value for key, value in answer.items() if key not in ("ok", "version")}


def _devices(folder: Path) -> list[str]:
    """The devices that a `clawchat serve` here would serve."""
    return [one.name for one in known_in(folder) if not one.dialer]


async def _report(
    store: Store, entry: Entry, entries: list[Entry], peer: str | None, *, offline: bool
) -> tuple[dict[str, Any], ExitCode]:
    listener = Listener(store, entry.pairing.file_id, entry.name)
    told: dict[str, Any] = {
        "name": entry.name,
        "id": entry.pairing.file_id.hex(),
        "fingerprint": fingerprint(entry.pairing.listener_static),
        "paired": entry.paired,
        "candidates": [str(address) for address in entry.candidates],
        "link": None,
        "agent": None,
    }
    wanted = entry.name == peer or told["id"].startswith(peer or "-") or len(entries) == 1
    try:
        if wanted and not offline:
            async with listener.shared(say) as link:
                told["link"] = _trim(await link.ask({"verb": "status"}))
                if not link.own:
                    await link.ask({"verb": "ping"})  # what it believes may be news of yesterday
                told["agent"] = await _agent(link)
        else:
            told["link"] = _trim(await listener.socket.ask({"verb": "status"}))
    except NobodyHome:
        return told, ExitCode.OK  # not asked to dial
    except (ClawChatError, BaseExceptionGroup) as error:
        told["trouble"] = explain(error)
        if told["link"] is not None:  # which has changed while it was asked
            with suppress(NobodyHome, Refused):
                told["link"] = _trim(await listener.socket.ask({"verb": "status"}))
        return told, exit_code(error)
    return told, ExitCode.OK


def _trim(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key not in ("ok", "version", "peer")}


async def _agent(link: SharedLink) -> dict[str, Any]:
    from clawchat.cli.talk import agent_client

    async with agent_client(link, shaped=False) as client:
        info = await client.agent()
    return {"provider": info.provider, "model": info.model}


# --- for people -------------------------------------------------------------------------------


def _print(
    told: dict[str, Any], serving: dict[str, Any] | None, alarms: list[dict[str, Any]]
) -> None:
    lines = [f"state folder  {told['state_dir']}"]
    for peer in told["peers"]:
        lines += ["", *_peer_lines(peer)]
    if serving is not None:
        lines += ["", *_serving_lines(serving)]
    elif told["unserved"]:
        names = ", ".join(told["unserved"])
        lines += ["", f"serving       no: start `clawchat serve`; paired with {names}"]
    elif not told["peers"] and not told["damaged"]:
        if told["ended"]:
            lines += ["", f"nothing is paired here any more: {told['ended']}"]
        lines += [
            "",
            "nothing is set up here: `clawchat demo` shows how it works,",
            "`clawchat serve` makes this the agent's machine, `clawchat connect FILE` a device",
        ]
    for one in told["damaged"]:
        lines += ["", f"damaged       {one['trouble']}"]
    if alarms:
        lines += ["", *unread_lines(alarms)]
    put(harmless("\n".join(lines)) + "\n")


_PHASES = {
    "live": "live",
    "suspect": "suspect: its path is lost, others are being tried",
    "asleep": "asleep: the other side will call",
}


def _peer_lines(peer: dict[str, Any]) -> list[str]:
    lines = [f"listener      {peer['name']}", f"  fingerprint {peer['fingerprint']}"]
    link = peer["link"]
    if link is None:
        lines.append("  link        none, and none is held")
    elif link["link"] != "up":
        lines.append(f"  link        down: {link.get('trouble') or 'dialling'}")
    else:
        lines += [
            f"  link        up for {link['seconds']:.0f} s, held by process {link['holder_pid']}",
            f"  phase       {_PHASES.get(link['phase'], link['phase'])}",
            f"  path        {link['local']} -> {link['remote']}",
            f"  round trip  {link['rtt_ms']:.2f} ms (best {link['rtt_min_ms']:.2f})",
            f"  keys        generation {link['generation']}, epoch {link['epoch']}",
            f"  port        {link['local']}, {_times(link.get('ports_left', 0))}",
            "  packets     {packets_sent} sent, {packets_received} received, "
            "{packets_lost} lost".format_map(link),
        ]
    if peer["agent"] is not None:
        lines.append(f"  agent       {describe(**peer['agent'])}")
    if "trouble" in peer:
        lines.append(f"  trouble     {peer['trouble']}")
    return lines


def _times(changes: int) -> str:
    times = "once" if changes == 1 else f"{changes} times"
    return f"changed {times}" if changes else "as from the start"


def _serving_lines(serving: dict[str, Any]) -> list[str]:
    lines = [
        f"serving       UDP {', '.join(serving['addresses'])}, process {serving['pid']}",
        f"  fingerprint {serving['fingerprint']}",
        f"  agent       {serving['agent']}",
    ]
    if serving["bootstrap_file"]:
        lines.append(f"  file        {serving['bootstrap_file']}")
    if serving["strangers"]:
        lines.append(
            f"  unanswered  {serving['strangers']} datagrams of nobody it knows: scans, or a "
            "device whose pairing is not here any more"
        )
    for device in serving["devices"]:
        where = f"linked from {device['remote']}" if device["link"] == "up" else "no link now"
        lines.append(f"  device      {device['name']}, {device['fingerprint']}: {where}")
    return lines
