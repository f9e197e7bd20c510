"""The listening side, as the application sees it: peers that come, bootstrap files, pairings.

Rules: a `Listener` never touches a socket or a file itself; all methods belong to the Trio
thread. A peer whose link ends stays with whoever accepted it.
Left to others: making one (`serving`), one link (`peer`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import trio

from clawchat.core.actions import Compromised, CredentialReused, Notice, Receipt
from clawchat.core.credential import Address
from clawchat.core.events import (
    DeclareCompromised,
    Forget,
    PublishBootstrap,
    WithdrawBootstrap,
)
from clawchat.drivers.feed import Feed
from clawchat.drivers.on_trio import Runner
from clawchat.drivers.peer import Peer, fingerprint
from clawchat.drivers.publisher import Publisher
from clawchat.drivers.store import Ending, Entry, Store
from clawchat.errors import CompromiseReason, Drop

WAITING_MAX: Final = 64  # links not accepted yet, from which on those that ended are forgotten


class Listener:
    """Accepts links from paired devices. Made by `clawchat.serve`."""

    def __init__(
        self,
        runner: Runner,
        store: Store,
        candidates: tuple[Address, ...],
        publisher: Publisher | None,
    ) -> None:
        self.candidates: Final = candidates  # what a bootstrap file advertises
        self.publisher: Final = publisher
        self.store: Final = store
        self._runner = runner
        self._accepted: deque[Peer] = deque()
        self._feed = Feed[CredentialReused | Compromised]()
        self._changed = trio.lowlevel.ParkingLot()
        runner.accept = self._arrived
        runner.overheard = self._overheard

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where the sockets are bound; `0.0.0.0` or `::` when bound to every address."""
        return self._runner.addresses

    @property
    def address(self) -> Address:
        """The first of `addresses`."""
        return self._runner.addresses[0]

    @property
    def static(self) -> bytes:
        """Our X25519 public key, which every bootstrap file names."""
        return self._runner.static

    @property
    def fingerprint(self) -> str:
        """What a dialer sees as its peer's fingerprint."""
        return fingerprint(self.static)

    @property
    def peers(self) -> tuple[Peer, ...]:
        """The links that are up now, accepted or not."""
        return tuple(peer for peer in self._runner.peers.values() if peer.closed is None)

    @property
    def drops(self) -> Counter[Drop]:
        """How many datagrams were dropped, by reason. A device that is unknown is a `STRANGER`."""
        return self._runner.drops

    def __repr__(self) -> str:
        return f"<Listener {', '.join(map(str, self.addresses))}>"

    # --- peers --------------------------------------------------------------------------------

    async def accept(self) -> Peer:
        """The next link a paired device made. It is established when it comes out here."""
        await trio.lowlevel.checkpoint()
        while not self._accepted:
            await self._changed.park()
        return self._accepted.popleft()

    def __aiter__(self) -> AsyncIterator[Peer]:
        """Every link, for as long as the listener exists."""
        return self

    async def __anext__(self) -> Peer:
        return await self.accept()

    # --- bootstrap files and pairings ---------------------------------------------------------

    async def publish(self) -> Path:
        """Begin to issue bootstrap files, a new one every 10 minutes until one is redeemed.

        Returns once the first is on disk. Raises `StoreError` when it cannot be written, and
        `ValueError` when `serve` was given no publisher.
        """
        if self.publisher is None:
            raise ValueError("this listener has no publisher: pass one to serve()")
        before = self._runner.attempts
        self._runner.handle(PublishBootstrap(self.candidates))
        await self._runner.published_since(before)
        return self.publisher.path

    async def withdraw(self) -> None:
        """Stop issuing: the published file is removed and no longer accepted."""
        self._runner.handle(WithdrawBootstrap())
        await trio.lowlevel.checkpoint()

    async def pairings(self) -> list[Entry]:
        """Every pairing in the store, with its name."""
        return await self._runner.in_thread(self.store.entries)

    async def forget(self, file_id: bytes) -> bool:
        """Stop accepting a device, for good: its links close with `REVOKED`.

        True when it had a link, and so was told. A backup does not bring it back.
        """
        told = any(peer.file_id == file_id for peer in self.peers)
        self._runner.handle(Forget(file_id))
        await self._runner.in_thread(self.store.destroy, file_id, Ending.REVOKED)
        return told

    async def declare_compromised(
        self,
        file_id: bytes = b"",
        *,
        reason: CompromiseReason = CompromiseReason.USER,
        everything: bool = True,
    ) -> tuple[Receipt, ...]:
        """Destroy the pairing with a device, or with `everything` all of them and our own key.

        Each device with a link is told; returns when all have answered or had ten seconds. Raises
        `PairingDestroyed` when that was done before, and `NotErased` (a `StoreError` with the
        receipts) when a file could not be removed.
        """
        event = DeclareCompromised(file_id, reason, everything)
        return await self._runner.declare_compromised(event)

    def notices(self) -> AsyncIterator[CredentialReused | Compromised]:
        """From now on: somebody used an old generation of a credential (a copied file), or a
        pairing was destroyed, by either side.

        Each call gives an iterator of its own; a reader 64 notices late loses the oldest.
        """
        return self._feed.reader()

    # --- inside -------------------------------------------------------------------------------

    def _arrived(self, peer: Peer) -> None:
        if len(self._accepted) >= WAITING_MAX:  # else a device that comes and goes fills it
            self._accepted = deque(waiting for waiting in self._accepted if waiting.closed is None)
        self._accepted.append(peer)
        self._changed.unpark_all()

    def _overheard(self, notice: Notice) -> None:
        if isinstance(notice, CredentialReused | Compromised):
            self._feed.put(notice)
