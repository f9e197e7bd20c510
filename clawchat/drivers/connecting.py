"""`clawchat.connect`: a link to a listener for as long as a block runs.

Rules: one link per pairing at a time (`Store.lock`), because two that dial with one credential
look like a clone; a bootstrap file that was redeemed here already leads to its pairing, so
connecting twice with one file is harmless.
Left to others: what a link can do (`peer`), running it (`on_trio`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path as FilePath
from time import time
from typing import Final

import trio

from clawchat.core.actions import BootstrapContent
from clawchat.core.config import ROTATE_PORTS, Config
from clawchat.core.credential import Address, Pairing, Path
from clawchat.core.crypto.bootstrap import BootstrapKey, open_bootstrap
from clawchat.core.exchange import first_pairing
from clawchat.core.instant import SECOND
from clawchat.core.phases.dialing import FORSAKEN, SLOW_DISK, UNANSWERED
from clawchat.drivers.on_trio import Runner, open_runner
from clawchat.drivers.peer import Peer
from clawchat.drivers.sockets import UdpSocket
from clawchat.drivers.store import Ending, Entry, Store
from clawchat.errors import (
    BootstrapError,
    BootstrapExpired,
    BootstrapKeyMissing,
    CloseCode,
    LinkClosed,
    StoreError,
)

BOOTSTRAP_FILE_MAX: Final = 2048  # bytes, PROTOCOL.md "Bootstrap file"
LINK: Final = 1  # the endpoint of a dialer carries one link
LATE_SECONDS: Final = 1.0  # for the core to say itself why a dial lapsed
WILDCARDS: Final = {4: "0.0.0.0", 6: "::"}  # noqa: S104

FILE_USED: Final = (
    "this bootstrap file was redeemed before, by another device or by an earlier state of this one,"
    " and a file is good for one. If you did not pair another device with it, somebody else has the"
    " file and its key"
)
SUPERSEDED_TEXT: Final = (
    "the listener has seen a newer credential of this device: what is kept here was restored from a"
    " backup, or it was copied and the copy is in use. If you restored nothing, somebody else uses"
    " a copy of this device's folder"
)

FILE_KNOWN: Final = (
    "this file was not used or replaced already (by another device, by a newer file, or because"
    " the listener was restarted): a new file would help"
)
KNOWN: Final = (
    "it still knows this device: not if the device was removed there, if either side's folder was"
    " restored from an old backup, or if a copy of this one is in use. Pairing anew with a new"
    " bootstrap file would help"
)

log = logging.getLogger("clawchat")

Target = str | os.PathLike[str] | BootstrapContent | Pairing | Entry


@asynccontextmanager
async def connect(
    target: Target,
    *,
    store: Store,
    key: BootstrapKey | None = None,
    candidates: Sequence[Address] = (),
    timeout: float = 30.0,
    bind: Sequence[Address] = (),
    rotate_ports: bool = True,
) -> AsyncIterator[Peer]:
    """Dial a listener and keep the link while the block runs.

    `target`: a bootstrap file (then `key` opens it), its content, or what `store` kept of an
    earlier link: a `Pairing` or an `Entry` (`store.find(name)`). `candidates`: addresses to try
    instead of the known ones. `timeout`: seconds for the handshake. `bind`: local addresses to
    send from, at most one per family; empty: the system chooses. `rotate_ports`: whether the link
    leaves its port every hour for another one, where the network allows it.

    On a clean exit what was sent on ended streams is waited for (at most 2 s), then the peer is
    told; on an exception it is told at once. A pairing that the listener revokes meanwhile is
    destroyed in `store`, as it is of no use any more. Raises `BootstrapError` for a file that
    cannot be used, `StoreError` when the credential cannot be kept or another process uses it, and
    `LinkClosed` when no link came about, with what to check next.
    """
    entry, expires = await trio.to_thread.run_sync(_prepare, target, store, key)
    fresh = _is_unconfirmed(entry.pairing)
    known = tuple(candidates) or entry.candidates
    if not known:
        raise StoreError(
            f"no address is known for {entry.name!r}: give one, or pair again with a new file"
        )
    file_id = entry.pairing.file_id
    with store.lock(file_id.hex()):
        identity = await trio.to_thread.run_sync(store.identity)
        config = Config(
            identity=identity,
            dial_ns_max=int(timeout * SECOND),
            rotate_ports_ns=ROTATE_PORTS * rotate_ports,
        )
        where, pairing = entry.candidates or known, entry.pairing

        def persist(pairing: Pairing) -> None:
            store.save(pairing, candidates=where)

        sockets = _sockets(known, bind)
        async with open_runner(config, sockets, persist=persist, erase=store.erase) as runner:
            peer = runner.dial(LINK, pairing, _paths(runner, known))
            # Whatever is secret belongs to the endpoint now, which knows when to wipe it.
            del target, key, identity, config, entry, pairing
            try:
                await _established(peer, known, fresh, expires, timeout)
                await runner.in_thread(store.reached, file_id, peer.remote)
                yield peer
                await peer.drain()
            finally:
                if _was_revoked(peer):
                    with trio.CancelScope(shield=True):
                        await runner.in_thread(store.destroy, file_id, Ending.REVOKED)


def _was_revoked(peer: Peer) -> bool:
    """Whether the listener itself, on a link that proved it, said that this pairing is over."""
    closed = peer.closed
    return closed is not None and closed.by_peer and closed.code is CloseCode.REVOKED


def read_bootstrap(path: str | os.PathLike[str], key: BootstrapKey | None) -> BootstrapContent:
    """Open a bootstrap file. Raises a `BootstrapError` that names it and the next step."""
    name = os.fspath(path)
    if key is None:
        raise BootstrapKeyMissing(
            f"{name} needs its bootstrap key: set CLAWCHAT_BOOTSTRAP_KEY to the listener's"
        )
    try:
        with FilePath(path).open("rb") as file:
            data = file.read(BOOTSTRAP_FILE_MAX + 1)
    except OSError as error:
        raise BootstrapError(
            f"cannot read {name}: {error.strerror or error}; check the path, or copy the file"
            " from the listener again"
        ) from error
    return open_bootstrap(data, key, name=name)


def _prepare(target: Target, store: Store, key: BootstrapKey | None) -> tuple[Entry, int]:
    """The entry to dial with, and when its file expires (0: it is kept already)."""
    if isinstance(target, Entry):
        store.refuse_destroyed(target.pairing.file_id)
        return target, 0
    if isinstance(target, Pairing):
        store.refuse_destroyed(target.file_id)
        return store.get(target.file_id) or Entry(target, target.file_id.hex()[:8]), 0
    content = target if isinstance(target, BootstrapContent) else read_bootstrap(target, key)
    store.refuse_destroyed(content.file_id)
    kept = store.get(content.file_id)
    if kept is not None:
        return kept, 0
    if content.expires < time():
        log.warning("the bootstrap file is past its time, if this clock is right; trying it")
    name = content.file_id.hex()[:8]
    return Entry(first_pairing(content), name, content.candidates), content.expires


def _sockets(known: Sequence[Address], bind: Sequence[Address]) -> list[UdpSocket]:
    """One socket per family that the candidates need; a family this machine lacks is left out."""
    sockets: list[UdpSocket] = []
    trouble: OSError | None = None
    for family in sorted({6 if ":" in address.host else 4 for address in known}):
        wanted = [at for at in bind if (":" in at.host) == (family == 6)]
        try:
            sockets.append(UdpSocket(wanted[0] if wanted else Address(WILDCARDS[family], 0)))
        except OSError as error:
            trouble = error
    if not sockets:
        raise LinkClosed(
            CloseCode.UNREACHABLE, f"no UDP socket could be opened here: {trouble}"
        ) from trouble
    return sockets


def _paths(runner: Runner, known: Sequence[Address]) -> tuple[Path, ...]:
    return tuple(
        Path(local, remote)
        for remote in known
        for local in runner.addresses
        if (":" in local.host) == (":" in remote.host)
    )


def _is_unconfirmed(pairing: Pairing) -> bool:
    """Whether no listener has ever proved that it paired us: all there is came from a file."""
    return pairing.credentials[-1].generation == 0


async def _established(
    peer: Peer, known: Sequence[Address], fresh: bool, expires: int, timeout: float
) -> None:
    try:
        with trio.fail_after(timeout + LATE_SECONDS):
            await peer.wait_established()
        return
    except trio.TooSlowError:
        pass
    except LinkClosed as error:
        if error.code == CloseCode.SUPERSEDED:
            text = FILE_USED if fresh else SUPERSEDED_TEXT
            raise LinkClosed(error.code, text, by_peer=error.by_peer) from None
        if error.code != CloseCode.TIMEOUT or str(error) != UNANSWERED:
            raise  # it says more than we could guess
    if expires and expires < time():
        raise BootstrapExpired(
            "the listener did not answer, and the bootstrap file is past its time: get the"
            " newest clawchat-current.sec from it (a file is valid for 11 minutes)"
        ) from None
    where = ", ".join(str(address) for address in known)
    raise LinkClosed(CloseCode.TIMEOUT, _silence(where, fresh, timeout)) from None


def is_silence(error: BaseException) -> bool:
    """Whether a link ended for want of any answer, of which nobody here can know the cause."""
    lapsed = isinstance(error, LinkClosed) and error.code is CloseCode.TIMEOUT
    return lapsed and not any(known in str(error) for known in (SLOW_DISK, FORSAKEN))


def _silence(where: str, fresh: bool, timeout: float) -> str:
    """A listener says nothing to who lacks a credential of its own, so this is all we can know."""
    return (
        f"no answer from {where} within {timeout:g} s. Check that the listener is running there,"
        f" that its firewall lets UDP in on that port, and that {FILE_KNOWN if fresh else KNOWN}"
    )
