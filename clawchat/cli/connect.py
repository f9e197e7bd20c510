"""`clawchat connect`: pairing with a listener, and holding the link to it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import trio
from cyclopts import Parameter

from clawchat.cli.bootstrap_file import outside, read_file
from clawchat.cli.bootstrap_key import needed_key
from clawchat.cli.device import Listener, choose, open_store, paired
from clawchat.cli.failures import Cancelled, Usage
from clawchat.cli.local_socket import NobodyHome
from clawchat.cli.options import ExitWithStdin, KeyFile, PeerName, StateDir
from clawchat.cli.terminal import one_line, say
from clawchat.cli.until_stopped import until_stopped
from clawchat.core.actions import BootstrapContent
from clawchat.core.crypto.bootstrap import expiry_text
from clawchat.drivers.connecting import read_bootstrap
from clawchat.drivers.locks import StoreBusy
from clawchat.drivers.store import NAME_RULE, Store, is_name


async def connect(
    file: Annotated[Path | None, Parameter(help="The bootstrap file.")] = None,
    /,
    *,
    once: Annotated[bool, Parameter(negative="", help="Pair (or try the link) and exit.")] = False,
    name: Annotated[
        str | None,
        Parameter(help="What to call the listener from now on."),
    ] = None,
    peer: PeerName = None,
    key_file: KeyFile = None,
    state_dir: StateDir = None,
    exit_with_stdin: ExitWithStdin = False,
) -> None:
    """Pair, and hold the link until stopped."""
    store = open_store(state_dir)
    if file is None:
        if name is not None or key_file is not None:
            raise Usage("--name and --key-file belong to a bootstrap file: name the file as well")
        listener = choose(store, peer)
    else:
        listener = await _redeemable(store, file, name, key_file)
    if once:
        await _once(listener, name)
        return
    linked = trio.Event()
    async with until_stopped(with_stdin=exit_with_stdin):
        await _hold(listener, name, linked, persistent=file is None)
    if not linked.is_set():
        raise Cancelled("stopped: there was no link yet")
    say("stopped: the link is closed")


async def _redeemable(
    store: Store, file: Path, name: str | None, key_file: Path | None
) -> Listener:
    """The listener of a bootstrap file, which may be known already."""
    data = await trio.to_thread.run_sync(read_file, file, abandon_on_cancel=True)  # of a pipe, say
    outside(data, str(file))
    key = needed_key(key_file, f"open {file.name}")
    content = await trio.to_thread.run_sync(read_bootstrap, file, key)
    kept = store.get(content.file_id)
    if name is not None:
        _check_name(store, content, name)
    if kept is not None:
        say(f"{file} was redeemed by this device before: it is paired with {kept.name}")
        return Listener(store, content.file_id, kept.name)
    warning = expiry_text(content, int(time.time()), name=str(file))
    if warning:
        say(f"warning: {warning}")
        say("trying all the same: only the listener's clock decides")
    where = ", ".join(str(address) for address in content.candidates)
    say(f"redeeming {file}: the listener should be at {where}")
    return Listener(store, content.file_id, name or str(content.candidates[0]), content)


def _check_name(store: Store, content: BootstrapContent, name: str) -> None:
    """Before anything is redeemed, for afterwards it is too late to refuse."""
    if not is_name(name):
        raise Usage(f"--name {name!r}: {NAME_RULE}")
    others = [other for other in paired(store) if other.name == name]
    if any(other.pairing.listener_static != content.listener_static for other in others):
        raise Usage(f"--name {name}: another listener is called so already; choose another name")


async def _once(listener: Listener, name: str | None) -> None:
    status = None
    async with until_stopped(), listener.shared(say) as link:
        await link.ask({"verb": "ping"})  # both ends keep the new credential once it is answered
        status = await link.ask({"verb": "status"})
    if status is None:
        raise Cancelled("stopped")
    _settle(listener, name)
    say(
        f"paired with {_called(listener)}, fingerprint {status['fingerprint']}: "
        "next, run `clawchat chat`"
    )


async def _hold(
    listener: Listener, name: str | None, linked: trio.Event, *, persistent: bool
) -> None:
    try:
        with listener.lock():
            await _hold_locked(listener, name, linked, persistent=persistent)
    except StoreBusy as error:
        try:
            status = await listener.socket.ask({"verb": "status"})
        except NobodyHome:
            raise error from None
        raise StoreBusy(
            f"process {status.get('holder_pid')} holds the link to {listener.name} already, and "
            "every command uses it; `clawchat disconnect` ends it"
        ) from None


async def _hold_locked(
    listener: Listener, name: str | None, linked: trio.Event, *, persistent: bool
) -> None:
    new = listener.content is not None
    holder = listener.holder(say)
    async with trio.open_nursery() as nursery:

        async def hold(task_status: trio.TaskStatus[None]) -> None:
            await holder.run(persistent=persistent, task_status=task_status)
            nursery.cancel_scope.cancel()

        await nursery.start(hold)
        linked.set()
        await holder.control({"verb": "ping"})
        status = await holder.control({"verb": "status"})
        _settle(listener, name)
        holder.name = _called(listener)
        say(
            f"{'paired and linked' if new else 'linked'} with {holder.name} at "
            f"{status['remote']}, fingerprint {status['fingerprint']}"
        )
        if new:
            say("  it must be the one that `clawchat serve` shows there")
        say("  holding the link; next: `clawchat chat` in another terminal (Ctrl-C ends this)")


def _settle(listener: Listener, name: str | None) -> None:
    """Name the pairing; an earlier one with the same listener gives way, and leaves its name."""
    store = listener.store
    static = None if listener.content is None else listener.content.listener_static
    for other in paired(store):
        pairing = other.pairing
        if pairing.file_id == listener.file_id or pairing.listener_static != static:
            continue
        try:
            with Listener(store, pairing.file_id, other.name).lock():
                store.remove(pairing.file_id)
        except StoreBusy:
            continue  # in use by another process: the user has both for now
        say(f"this replaces the earlier pairing with that listener, {one_line(other.name)}")
        name = name or other.name
    if name is not None:
        store.rename(listener.file_id, name)


def _called(listener: Listener) -> str:
    return one_line(listener.store.label(listener.file_id))
