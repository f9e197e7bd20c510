"""`clawchat panic`: this machine's pairings are compromised; destroy them, here and there.

Rules: what is going to be destroyed is said before, and a person at a terminal types a word; what
is stored goes before a link is made to tell the peer, so that who kills this process, or ends it by
Ctrl-C, saves nothing; a peer that cannot be told, a damaged file and a disk that cannot be written
keep nothing else from being done. Everything that was destroyed is printed, whatever ends it.
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
from clawchat.cli.holder import PANIC_SECONDS
from clawchat.cli.known import Broken, Known, all_in, pick
from clawchat.cli.local_socket import LocalSocket, NobodyHome, Refused
from clawchat.cli.options import Json, SecurityDir, StateDir
from clawchat.cli.places import SERVE_SOCKET, device_folder, listener_folder
from clawchat.cli.receipts import NO_LINK, Told, as_told, receipt_lines
from clawchat.cli.terminal import put, put_json, say
from clawchat.cli.until_stopped import until_stopped
from clawchat.core.actions import Kept, Receipt
from clawchat.drivers import files
from clawchat.drivers.connecting import is_silence
from clawchat.drivers.locks import StoreBusy
from clawchat.drivers.parting import PartingStore
from clawchat.drivers.publisher import FILE_NAME
from clawchat.drivers.store import Store
from clawchat.errors import ClawChatError, CompromiseReason, StoreError

WORD = "destroy"
TELL_SECONDS = 5.0  # for a link to a peer that is not connected, only to tell it
ASK_SECONDS = PANIC_SECONDS + 2.0  # for a process that uses a pairing, unless it hangs

STOPPED = "that was stopped"
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
    known = await trio.to_thread.run_sync(all_in, device, listener)
    chosen = _choose(known, peer, only_this_peer)
    order = _Order(REASONS[reason], not only_this_peer)
    if not yes:
        await _confirm(chosen, order)
    undoing = _Undoing(chosen, order)
    try:
        async with until_stopped():  # Ctrl-C ends the telling
            await undoing.run()
    finally:
        undoing.finish()
        if order.everything:
            undoing.trouble += _destroy_rest(device, listener)
        _print(list(undoing.receipts.values()), undoing.trouble, order, json=json)
    if undoing.trouble:
        return ExitCode.STORE
    receipts = undoing.receipts.values()
    unconfirmed = any(not told["confirmed"] and not told["already"] for told in receipts)
    return ExitCode.UNCONFIRMED if unconfirmed else ExitCode.OK


def _choose(known: Sequence[Known | Broken], name: str | None, only: bool) -> list[Known | Broken]:
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


async def _confirm(chosen: Sequence[Known | Broken], order: _Order) -> None:
    """Raises `Usage` when nobody can be asked, `Cancelled` when the answer is another word."""
    for pairing in chosen:
        if isinstance(pairing, Broken):
            say(f"the damaged pairing {pairing.name} will be destroyed, on this side")
            continue
        role = "listener" if pairing.dialer else "device"
        say(f"the pairing with the {role} {pairing.name} will be destroyed, on both sides")
    if order.everything:
        say("so will this machine's own key, and every other pairing of a listener that is told")
    say("conversations are not touched; there is no way back but to pair anew")
    await must_type(WORD, otherwise="nothing was destroyed")


# --- destroying -------------------------------------------------------------------------------


class _Undoing:
    """Destroys pairings and tells their peers; what came of it so far."""

    def __init__(self, chosen: Sequence[Known | Broken], order: _Order) -> None:
        self.receipts: dict[str, Told] = {}  # by id
        self.trouble: list[str] = []  # with files
        self._chosen = chosen
        self._left = list(chosen)  # what is not erased yet
        self._order = order

    async def run(self) -> None:
        """Destroy everything and tell everybody. It may be cancelled; then `finish`."""
        for one in self._chosen:
            if isinstance(one, Broken):
                self._erase(one)
        known = [one for one in self._chosen if isinstance(one, Known)]
        async with trio.open_nursery() as nursery:
            # One process answers for all devices of this machine; listeners are asked at once.
            nursery.start_soon(self._destroy, [one for one in known if not one.dialer])
            for one in known:
                if one.dialer:
                    nursery.start_soon(self._destroy, [one])

    def finish(self) -> None:
        """Destroy what is left, and tell nobody any more. Blocks."""
        for one in list(self._left):
            self._erase(one, why=STOPPED)

    async def _destroy(self, pairings: Sequence[Known]) -> None:
        for pairing in pairings:
            for told in await _ask(pairing, self._order):
                self.receipts.setdefault(told["id"], told)
            already, parting = False, None
            if pairing.file_id.hex() not in self.receipts:
                already = await trio.to_thread.run_sync(_is_over, pairing)
                if pairing.dialer and not already:
                    parting = await trio.to_thread.run_sync(_parting, pairing)
            # First, so that whoever kills this process saves nothing.
            why = NO_LINK if parting is None else STOPPED
            self._erase(pairing, already=already, why=why)
            if parting is not None:
                told = await _tell(pairing, parting, self._order)
                self.receipts[pairing.file_id.hex()].update(told)

    def _erase(self, one: Known | Broken, *, already: bool = False, why: str = NO_LINK) -> None:
        """Whoever was asked has done it, unless something is wrong with the files.

        `why` nobody is told, as it is known so far.
        """
        self._left.remove(one)
        try:
            if isinstance(one, Broken):
                one.store.discard(one.unusable)
                self.trouble.append(
                    f"{one.unusable.path} could not be read: it is overwritten and removed, but "
                    "its peer could not be told: declare it there as well"
                )
                return
            told = {**_unlinked(one, self._order), "already": already, "why": why}
            self.receipts.setdefault(one.file_id.hex(), told)
            one.store.destroy(one.file_id)
        except StoreError as error:
            self.trouble.append(f"NOT DESTROYED: {error}")


async def _ask(pairing: Known, order: _Order) -> list[Told]:
    """The receipts of the process that uses the pairing; none when there is no such process."""
    holder = Listener(pairing.store, pairing.file_id, pairing.name)
    socket = holder.socket if pairing.dialer else LocalSocket(pairing.store.folder / SERVE_SOCKET)
    with trio.move_on_after(ASK_SECONDS), suppress(NobodyHome, Refused, StoreError):
        answer = await socket.ask(order.message(pairing.file_id))
        found: list[Told] = answer["receipts"]
        return found
    return []


def _parting(pairing: Known) -> PartingStore | None:
    with suppress(StoreError):  # without a key nobody can be told
        return PartingStore(pairing.store)
    return None


async def _tell(pairing: Known, store: PartingStore, order: _Order) -> Told:
    """Make a link only to tell the peer; what a receipt says then."""
    linking = clawchat.connect(pairing.entry, store=store, timeout=TELL_SECONDS)
    try:
        async with linking as peer:
            receipt = await peer.declare_compromised(order.reason, everything=order.everything)
            return as_told(receipt, pairing.name)
    except (ClawChatError, OSError) as error:
        return {"why": NO_LINK if is_silence(error) else f"no link came about ({error})"}


def _is_over(pairing: Known) -> bool:
    """Whether a declaration of the peer, or of another command, came first. Blocks."""
    with suppress(StoreError):
        if pairing.dialer:  # a process whose link just ended may still be at it
            with suppress(StoreBusy), pairing.store.lock(pairing.file_id.hex(), wait_seconds=5.0):
                pass
        return any(one.file_id == pairing.file_id for one in pairing.store.ended())
    return False


def _destroy_rest(*folders: Path) -> list[str]:
    """Own keys, and a bootstrap file that lies about."""
    trouble = []
    for folder in folders:
        try:
            Store(folder).destroy_identity()
            files.shred(folder / FILE_NAME)
        except (StoreError, OSError) as error:
            trouble.append(f"NOT DESTROYED: {error}")
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
        say(line)
