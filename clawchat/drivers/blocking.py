"""One endpoint without any event loop: it runs while you wait for a notice.

    with Driver(config, [UdpSocket(Address("0.0.0.0", 0))], persist=store.save) as driver:
        driver.handle(Dial(1, pairing, paths))
        link, notice = driver.next_notice(timeout=10)

Rules: one thread; nothing is received or sent outside `next_notice` and `run`, so a program that
stays away for long looks silent to its peers. Writes to disk happen in place. Leaving the block
tells every peer, bounded to one second.
Left to others: moving datagrams (`engine`), a face for applications (Trio has one: `peer`).
"""

from __future__ import annotations

import logging
import selectors
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import Final

from clawchat.core.actions import (
    Destroy,
    DestroyIdentity,
    LinkStats,
    Notice,
    Persist,
    Publish,
    Withdraw,
)
from clawchat.core.config import Config
from clawchat.core.credential import Address, Pairing
from clawchat.core.events import Event, Persisted, PersistFailed
from clawchat.drivers.engine import Engine
from clawchat.drivers.network import open_watch
from clawchat.drivers.publisher import Publisher
from clawchat.drivers.sockets import UdpSocket
from clawchat.errors import LocalError, StoreError

CLOSING_SECONDS: Final = 1.0
NOTICES_MAX: Final = 4096  # untaken; `run` returns then
log = logging.getLogger("clawchat")


class Driver:
    """An endpoint that you turn yourself: `handle` events, wait for notices."""

    def __init__(
        self,
        config: Config,
        sockets: Sequence[UdpSocket],
        *,
        persist: Callable[[Pairing], None],
        erase: Callable[[Destroy | DestroyIdentity], None] | None = None,
        publisher: Publisher | None = None,
    ) -> None:
        """`persist` and `erase` are a store's `save` and `erase`.

        Without `erase` a `Compromised` pairing is yours to remove from where it is kept.
        """
        self.publish_error: StoreError | None = None  # why the last bootstrap file failed
        self.erase_error: StoreError | None = None  # what could not be destroyed on disk
        self._engine = Engine(config, sockets, self, watch=open_watch())
        self._save = persist
        self._erase = erase
        self._publisher = publisher
        self._notices: deque[tuple[int, Notice]] = deque()
        self._selector = selectors.DefaultSelector()
        for sock in sockets:
            self.listen(sock)
        if self._engine.watch is not None:
            self._selector.register(self._engine.watch, selectors.EVENT_READ)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where the sockets are bound."""
        return self._engine.addresses

    def handle(self, event: Event) -> None:
        """Give the core an event. Raises a `LocalError`; then nothing changed."""
        self._engine.handle(event)

    def link_stats(self, link: int) -> LinkStats:
        """A snapshot of one link."""
        return self._engine.link_stats(link)

    def next_notice(self, timeout: float | None = None) -> tuple[int, Notice]:
        """The next notice, with the id of its link (0: of none).

        Raises `TimeoutError` after `timeout` seconds without one.
        """
        until = None if timeout is None else monotonic() + timeout
        self._engine.turn()
        while not self._notices:
            left = None if until is None else until - monotonic()
            if left is not None and left <= 0:
                raise TimeoutError("no notice in time")
            self._step(left)
        return self._notices.popleft()

    def run(self, seconds: float) -> None:
        """Keep the links going for a while; notices wait for `next_notice`.

        Returns early when thousands of them wait.
        """
        until = monotonic() + seconds
        while (left := until - monotonic()) > 0 and len(self._notices) <= NOTICES_MAX:
            self._step(left)

    def close(self) -> None:
        """Tell every peer, then close the sockets. Harmless when repeated."""
        if not self._selector.get_map():
            return
        self._engine.close_links()
        self._engine.turn()
        until = monotonic() + CLOSING_SECONDS
        while (self._engine.links or self._engine.backlog) and monotonic() < until:
            self._step(until - monotonic())
        self._selector.close()
        self._engine.close()

    def __enter__(self) -> Driver:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- the loop -----------------------------------------------------------------------------

    def _step(self, seconds: float | None) -> None:
        """One turn, one wait of at most `seconds`, and what it brought."""
        known = len(self._notices)
        self._engine.turn()
        if len(self._notices) > known:
            seconds = 0  # somebody may be waiting for just that
        for sock in self._engine.sockets.values():
            blocked = sock in self._engine.backlog
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if blocked else 0)
            if self._selector.get_key(sock).events != wanted:
                self._selector.modify(sock, wanted, sock)
        wait = self._engine.wait_seconds()
        for key, ready in self._selector.select(wait if seconds is None else min(wait, seconds)):
            if key.data is None:
                self._engine.network_changed()
                continue
            if ready & selectors.EVENT_WRITE:
                self._engine.resume(key.data)
            if ready & selectors.EVENT_READ:
                self._engine.receive(key.data)

    # --- what the engine says (Host) ----------------------------------------------------------

    def listen(self, sock: UdpSocket) -> None:
        """Receive from it."""
        self._selector.register(sock, selectors.EVENT_READ, sock)

    def unlisten(self, sock: UdpSocket) -> None:
        """Wait for it no more."""
        self._selector.unregister(sock)

    def notify(self, link: int, notice: Notice) -> None:
        """Queue it for `next_notice`."""
        self._notices.append((link, notice))

    def persist(self, action: Persist) -> None:
        """Save now, then tell the core how it went."""
        answer: Persisted | PersistFailed = Persisted(action.link, action.ticket)
        try:
            self._save(action.pairing)
        except StoreError:
            answer = PersistFailed(action.link, action.ticket)
        with suppress(LocalError):  # the link ended meanwhile
            self._engine.handle(answer)

    def publish(self, action: Publish | Withdraw) -> None:
        """Write or remove the bootstrap file now."""
        try:
            if self._publisher is not None and isinstance(action, Publish):
                self._publisher.publish(action.content)
            elif self._publisher is not None:
                self._publisher.withdraw()
            self.publish_error = None
        except StoreError as error:
            log.error("%s", error)
            self.publish_error = error

    def destroy(self, action: Destroy | DestroyIdentity) -> None:
        """Overwrite and remove it now."""
        try:
            if self._erase is not None:
                self._erase(action)
        except StoreError as error:
            log.error("%s", error)
            self.erase_error = error
