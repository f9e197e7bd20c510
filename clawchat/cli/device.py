"""This machine as a device: its pairings, and the link to one of them.

Rules: every command that needs the link gets it here, so all of them share one.
Left to others: pairing (`cli.connect`), holding and sharing (`cli.holder`, `cli.shared_link`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from pathlib import Path

import trio
from attrs import frozen

import clawchat
from clawchat.cli.failures import NotPaired, Usage
from clawchat.cli.holder import Holder, Link, Tell
from clawchat.cli.local_socket import LocalSocket
from clawchat.cli.places import device_folder, private_folder
from clawchat.cli.shared_link import SharedLink, shared_link
from clawchat.cli.terminal import clock, one_line
from clawchat.core.actions import BootstrapContent
from clawchat.drivers.alarms import AlarmLog
from clawchat.drivers.store import Ending, Entry, Store
from clawchat.errors import CloseCode, LinkClosed, StoreError

HOW_TO_PAIR = (
    "run `clawchat serve` on the machine with your agent, copy the bootstrap file it publishes "
    "here, and run `clawchat connect FILE`"
)

_CODES = {Ending.REVOKED: CloseCode.REVOKED, Ending.COMPROMISED: CloseCode.COMPROMISED}


@frozen
class Listener:
    """A listener this device is paired with, or about to be."""

    store: Store
    file_id: bytes
    name: str
    content: BootstrapContent | None = None  # of the bootstrap file, before it is redeemed

    @property
    def socket(self) -> LocalSocket:
        """Where the process that holds the link listens."""
        return LocalSocket(self.store.folder / f"link-{self.file_id.hex()[:8]}.sock")

    @property
    def alarms(self) -> AlarmLog:
        """Where warnings about this device's credentials are kept."""
        return AlarmLog(self.store.folder)

    def lock(self) -> AbstractContextManager[None]:
        """Held by the process that holds the link. Raises `StoreBusy`."""
        return self.store.lock(f"link-{self.file_id.hex()}")

    def dial(self) -> AbstractAsyncContextManager[Link]:
        """A new link, with the newest credential there is."""
        target = self.store.get(self.file_id) or self.content
        if target is None:
            for ended in self.store.ended():
                if ended.file_id == self.file_id and ended.why in _CODES:
                    raise LinkClosed(_CODES[ended.why], f"this pairing was {ended.why.value}")
            raise NotPaired(f"the pairing with {self.name} is gone: {HOW_TO_PAIR}")
        return clawchat.connect(target, store=self.store)

    def holder(self, tell: Tell) -> Holder:
        """What keeps the link up in this process."""
        return Holder(self.name, self.dial, self.socket, self.alarms, tell)

    def shared(self, tell: Tell) -> AbstractAsyncContextManager[SharedLink]:
        """The link, made here or lent by the process that holds it."""
        return shared_link(self.name, self.dial, self.socket, self.lock, self.alarms, tell)


def open_store(state: Path | None) -> Store:
    """The store of this device. Raises `StoreError` when its folder cannot be used."""
    folder = device_folder(state)
    private_folder(folder.parent, "--state-dir or CLAWCHAT_STATE_DIR")
    return Store(private_folder(folder, "--state-dir or CLAWCHAT_STATE_DIR"))


def paired(store: Store) -> list[Entry]:
    """The listeners this device is paired with, oldest first."""
    return [entry for entry in store.entries() if entry.pairing.dialer]


def choose(store: Store, name: str | None) -> Listener:
    """The listener called `name`, or the only one. Raises `NotPaired` or `Usage`."""
    entries = paired(store)
    if not entries or name is None:  # it may be the damaged one that is meant
        for unusable in store.unusable():
            other = "; --peer NAME uses another listener" if entries else ""
            raise StoreError(f"{unusable.error}{other}")
    if not entries:
        raise NotPaired(f"{_why_none(store)}: {HOW_TO_PAIR}")
    names = ", ".join(entry.name for entry in entries)
    if name is None and len(entries) > 1:
        raise Usage(
            f"several listeners are paired ({names}): choose one with --peer NAME; "
            "`clawchat devices forget NAME` drops one"
        )
    for entry in entries:
        if name is None or entry.name == name or _is_id(entry, name):
            return Listener(store, entry.pairing.file_id, entry.name)
    raise NotPaired(f"no listener is called {name!r}; paired: {names}")


def _why_none(store: Store) -> str:
    gone = [ended for ended in store.ended() if ended.dialer]
    if not gone:
        return "this device is not paired yet"
    last = gone[-1]
    at = clock(last.when)
    return f"this device is not paired any more ({one_line(last.name)} was {last.why.value}, {at})"


def _is_id(entry: Entry, name: str) -> bool:
    return len(name) >= 4 and entry.pairing.file_id.hex().startswith(name.lower())


@asynccontextmanager
async def the_link(
    state: Path | None, peer: str | None, tell: Callable[[str], None]
) -> AsyncIterator[SharedLink]:
    """The link to the chosen listener, for the time of a command."""
    store = await trio.to_thread.run_sync(open_store, state)
    listener = await trio.to_thread.run_sync(choose, store, peer)
    async with listener.shared(tell) as link:
        yield link
