"""`clawchat panic`: this machine's pairings are compromised; destroy them, here and there.

Rules: what is going to be destroyed is said before, and a person at a terminal types a word; who
cannot be told is destroyed on this side all the same; Ctrl-C while a peer is being told does not
save anything. Everything that was destroyed is printed.
Left to others: what a declaration does (PROTOCOL.md "Compromised"), files (`drivers.store`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import trio
from attrs import frozen
from cyclopts import Parameter

import clawchat
from clawchat.cli.asking import must_type
from clawchat.cli.device import Listener
from clawchat.cli.exit_codes import ExitCode
from clawchat.cli.failures import NotPaired, Usage
from clawchat.cli.known import Known, known_in, pick
from clawchat.cli.local_socket import LocalSocket, NobodyHome, Refused
from clawchat.cli.options import Json, SecurityDir, StateDir
from clawchat.cli.places import SERVE_SOCKET, device_folder, listener_folder
from clawchat.cli.receipts import Told, as_told, receipt_lines
from clawchat.cli.terminal import put, put_json, say
from clawchat.core.actions import Kept, Receipt
from clawchat.drivers import files
from clawchat.drivers.locks import StoreBusy
from clawchat.drivers.publisher import FILE_NAME
from clawchat.drivers.store import Store
from clawchat.errors import ClawChatError, CompromiseReason, StoreError

WORD = "destroy"
TELL_SECONDS = 5.0  # for a link to a peer that is not connected, only to tell it

REASONS = {
    "user": CompromiseReason.USER,
    "reused": CompromiseReason.CREDENTIAL_REUSED,
    "lost": CompromiseReason.DEVICE_LOST,
    "leaked": CompromiseReason.FILE_LEAKED,
    "intrusion": CompromiseReason.INTRUSION,
}


@frozen
class _Order:
    """What the user wants."""

    reason: CompromiseReason
    everything: bool

    def message(self, file_id: bytes) -> dict[str, Any]:
        return {
            "verb": "panic",
            "id": file_id.hex(),
            "reason": int(self.reason),
            "everything": self.everything,
        }


async def panic(
    *,
    peer: Annotated[
        str | None,
        Parameter(help="The pairing that is compromised: its name, as `clawchat status` says it."),
    ] = None,
    only_this_peer: Annotated[
        bool,
        Parameter(
            negative="",
            help="Spare all other pairings of this machine, and its key; tell the peer to do so.",
        ),
    ] = False,
    reason: Annotated[
        str,
        Parameter(help="What to tell the peer: user, reused, lost, leaked or intrusion."),
    ] = "user",
    yes: Annotated[bool, Parameter(negative="", help="Do not ask.")] = False,
    json: Json = False,
    security_dir: SecurityDir = None,
    state_dir: StateDir = None,
) -> ExitCode:
    """Destroy, and say what was destroyed."""
    if reason not in REASONS:
        raise Usage(f"--reason {reason}: one of {', '.join(REASONS)}")
    device, listener = device_folder(state_dir), listener_folder(security_dir, state_dir)
    known = await trio.to_thread.run_sync(known_in, device, listener)
    chosen = _choose(known, peer, only_this_peer)
    order = _Order(REASONS[reason], not only_this_peer)
    if not yes:
        await _confirm(chosen, order)
    receipts, trouble = await _destroy_all(chosen, order)
    if order.everything:
        trouble += await trio.to_thread.run_sync(_destroy_rest, device, listener)
    _print(receipts, trouble, order, json=json)
    if trouble:
        return ExitCode.STORE
    unconfirmed = any(not told["confirmed"] and not told["already"] for told in receipts)
    return ExitCode.UNCONFIRMED if unconfirmed else ExitCode.OK


def _choose(known: Sequence[Known], name: str | None, only: bool) -> list[Known]:
    """The pairings to destroy, the one that was named first."""
    names = ", ".join(pairing.name for pairing in known)
    if not known:
        raise NotPaired("nothing is paired with this machine: there is nothing to destroy")
    if name is None:
        if only and len(known) > 1:
            raise Usage(f"--only-this-peer needs --peer NAME; paired: {names}")
        return list(known)
    found = pick(known, name)
    return [found] if only else [found, *(other for other in known if other is not found)]


async def _confirm(chosen: Sequence[Known], order: _Order) -> None:
    """Raises `Usage` when nobody can be asked, `Cancelled` when the answer is another word."""
    for pairing in chosen:
        role = "listener" if pairing.dialer else "device"
        say(f"the pairing with the {role} {pairing.name} will be destroyed, on both sides")
    if order.everything:
        say("so will this machine's own key, and every other pairing of a listener that is told")
    say("conversations are not touched; there is no way back but to pair anew")
    await must_type(WORD, otherwise="nothing was destroyed")


# --- destroying -------------------------------------------------------------------------------


async def _destroy_all(chosen: Sequence[Known], order: _Order) -> tuple[list[Told], list[str]]:
    """Receipts, and what went wrong with files."""
    receipts: dict[str, Told] = {}
    trouble: list[str] = []

    async def destroy(pairings: Sequence[Known]) -> None:
        for pairing in pairings:
            try:
                for told in await _ask_or_tell(pairing, order):
                    receipts.setdefault(told["id"], told)
                already = await trio.to_thread.run_sync(_is_over, pairing)
            finally:  # whatever became of telling the peer
                trouble.extend(_erase(pairing))
            unlinked = {**_unlinked(pairing, order), "already": already}
            receipts.setdefault(pairing.file_id.hex(), unlinked)

    async with trio.open_nursery() as nursery:
        # One process answers for all devices of this machine; listeners are asked at once.
        nursery.start_soon(destroy, [p for p in chosen if not p.dialer])
        for pairing in chosen:
            if pairing.dialer:
                nursery.start_soon(destroy, [pairing])
    return list(receipts.values()), trouble


async def _ask_or_tell(pairing: Known, order: _Order) -> list[Told]:
    """By the process that uses the pairing, or here, over a link that is made only for that."""
    dialer = pairing.dialer
    holder = Listener(pairing.store, pairing.file_id, pairing.name)
    socket = holder.socket if dialer else LocalSocket(pairing.store.folder / SERVE_SOCKET)
    try:
        answer = await socket.ask(order.message(pairing.file_id))
    except (NobodyHome, Refused, StoreError):
        answer = {"receipts": []}
    found: list[Told] = answer["receipts"]
    return found or (await _tell(pairing, order) if dialer else [])


async def _tell(pairing: Known, order: _Order) -> list[Told]:
    """Make a link only to tell the peer. Empty when none comes about."""
    linking = clawchat.connect(pairing.entry, store=pairing.store, timeout=TELL_SECONDS)
    with suppress(ClawChatError, OSError):
        async with linking as peer:
            receipt = await peer.declare_compromised(order.reason, everything=order.everything)
            return [as_told(receipt, pairing.name)]
    return []


def _is_over(pairing: Known) -> bool:
    """Whether a declaration of the peer, or of another command, came first. Blocks."""
    if pairing.dialer:  # a process whose link just ended may still be at it
        with suppress(StoreBusy), pairing.store.lock(pairing.file_id.hex(), wait_seconds=5.0):
            pass
    return any(one.file_id == pairing.file_id for one in pairing.store.ended())


def _erase(pairing: Known) -> list[str]:
    """Whoever was asked has done it, unless something is wrong with the files."""
    try:
        pairing.store.destroy(pairing.file_id)
    except StoreError as error:
        return [str(error)]
    return []


def _destroy_rest(*folders: Path) -> list[str]:
    """Own keys, and a bootstrap file that lies about."""
    trouble = []
    for folder in folders:
        try:
            Store(folder).destroy_identity()
            files.shred(folder / FILE_NAME)
        except (StoreError, OSError) as error:
            trouble.append(str(error))
    return trouble


def _unlinked(pairing: Known, order: _Order) -> Told:
    """The receipt of what only lay on the disk."""
    known = pairing.entry.pairing
    kept = Kept(
        generations=tuple(credential.generation for credential in known.credentials),
        superseded=len(known.superseded),
        pinned_key=known.peer_static is not None,
        identity=order.everything,
    )
    receipt = Receipt(pairing.file_id, order.reason, order.everything, False, False, False, kept)
    return as_told(receipt, pairing.name)


# --- for people -------------------------------------------------------------------------------


def _print(receipts: Sequence[Told], trouble: Sequence[str], order: _Order, *, json: bool) -> None:
    if json:
        put_json(
            {"everything": order.everything, "receipts": list(receipts), "trouble": list(trouble)}
        )
        return
    for told in receipts:
        put("\n".join(receipt_lines(told)) + "\n")
    if order.everything:
        put("this machine's own key is destroyed: the next pairing makes another\n")
    for line in trouble:
        say(f"NOT DESTROYED: {line}")
