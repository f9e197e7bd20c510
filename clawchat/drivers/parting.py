"""The store of a link that is made only to tell the peer that the pairing is destroyed.

Rules: what the link needs comes out of memory; nothing is read from the folder any more, and
nothing is written to it but the lock that keeps other processes from dialling with the same
credential. A folder that is full or cannot be written does not keep the peer from being told.
Left to others: destroying what the folder holds, before (`store`), dialling (`connecting`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from clawchat.core.actions import Destroy, DestroyIdentity
from clawchat.core.credential import Address, Pairing
from clawchat.core.secret import Secret
from clawchat.drivers.locks import StoreBusy
from clawchat.drivers.store import Ending, Entry, Store
from clawchat.errors import StoreError


class PartingStore(Store):
    """Takes the place of `store` for `connect`; its pairing may be destroyed there already."""

    def __init__(self, store: Store) -> None:
        """Reads the key that the link needs. Blocks; raises `StoreError`."""
        super().__init__(store.folder)
        self._key = store.identity()

    def identity(self) -> Secret:
        return self._key.copy()

    @contextmanager
    def lock(self, name: str = "store", *, wait_seconds: float = 0.0) -> Iterator[None]:
        """As in a `Store`, where the folder allows it."""
        with ExitStack() as held:
            try:
                held.enter_context(super().lock(name, wait_seconds=wait_seconds))
            except StoreBusy:
                raise
            except StoreError:
                pass
            yield

    def refuse_destroyed(self, file_id: bytes) -> None:
        """It is destroyed, and used all the same for these last words."""

    def get(self, file_id: bytes) -> Entry | None:
        return None

    def save(self, pairing: Pairing, *, candidates: tuple[Address, ...] = ()) -> None:
        """The next credential lives as long as the link."""

    def reached(self, file_id: bytes, address: Address) -> None:
        """Nobody dials it again."""

    def erase(self, action: Destroy | DestroyIdentity) -> None:
        """Nothing of it is kept."""

    def destroy(self, file_id: bytes, why: Ending = Ending.COMPROMISED) -> None:
        """As `erase`."""
