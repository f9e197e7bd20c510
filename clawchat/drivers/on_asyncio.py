"""One endpoint on asyncio, at the level of events and notices.

    sockets = [UdpSocket(Address("0.0.0.0", 0))]
    async with open_driver(config, sockets, persist=store.save) as driver:
        driver.handle(Dial(1, pairing, paths))
        link, notice = await driver.next_notice()

Rules: everything happens in the loop's thread but writes to disk, which run in one other thread,
in order. Leaving the block tells every peer, bounded to one second.
Needs an event loop with `add_reader` (on Windows the selector loop, not the proactor).
Left to others: moving datagrams (`engine`), a face for applications (Trio has one: `peer`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
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
NOTICES_MAX: Final = 4096  # untaken; from there on nothing is received until half are taken
log = logging.getLogger("clawchat")


class Driver:
    """An endpoint that runs by itself: `handle` events, await notices."""

    def __init__(
        self,
        config: Config,
        sockets: Sequence[UdpSocket],
        *,
        persist: Callable[[Pairing], None],
        erase: Callable[[Destroy | DestroyIdentity], None] | None = None,
        publisher: Publisher | None = None,
    ) -> None:
        self.publish_error: StoreError | None = None  # why the last bootstrap file failed
        self.erase_error: StoreError | None = None  # what could not be destroyed on disk
        self._loop = asyncio.get_running_loop()
        self._engine = Engine(config, sockets, self, watch=open_watch())
        self._notices: asyncio.Queue[tuple[int, Notice]] = asyncio.Queue()
        self._save = persist
        self._erase = erase
        self._publisher = publisher
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="clawchat disk")
        self._turning: asyncio.TimerHandle | asyncio.Handle | None = None
        self._writing: set[UdpSocket] = set()
        self._paused: set[UdpSocket] = set()  # not received from, for notices are not taken
        for sock in sockets:
            self.listen(sock)
        if self._engine.watch is not None:
            self._loop.add_reader(self._engine.watch, self._network_changed)
        self._turn_soon()

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where the sockets are bound."""
        return self._engine.addresses

    def handle(self, event: Event) -> None:
        """Give the core an event. Raises a `LocalError`; then nothing changed."""
        self._engine.handle(event)
        self._turn_soon()

    async def next_notice(self) -> tuple[int, Notice]:
        """The next notice, with the id of its link (0: of none).

        Who does not take them for long stops receiving, and looks silent to peers.
        """
        notice = await self._notices.get()
        if self._paused and self._notices.qsize() <= NOTICES_MAX // 2:
            paused, self._paused = self._paused, set()
            for sock in paused:
                self.listen(sock)
        return notice

    def link_stats(self, link: int) -> LinkStats:
        """A snapshot of one link."""
        return self._engine.link_stats(link)

    async def aclose(self) -> None:
        """Tell every peer, then close the sockets."""
        self._engine.close_links()
        self._turn()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSING_SECONDS):
                while self._engine.links or self._engine.backlog:
                    await self.next_notice()
        self._stop()

    # --- the loop -----------------------------------------------------------------------------

    def _turn_soon(self) -> None:
        if self._turning is not None:
            self._turning.cancel()
        self._turning = self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._engine.turn()
        self._after_turn()

    def _readable(self, sock: UdpSocket) -> None:
        self._engine.receive(sock)  # what is left makes the loop call again
        self._after_turn()
        if self._notices.qsize() > NOTICES_MAX:
            self._loop.remove_reader(sock)
            self._paused.add(sock)

    def _network_changed(self) -> None:
        self._engine.network_changed()
        self._after_turn()

    def _after_turn(self) -> None:
        if self._turning is not None:
            self._turning.cancel()
        self._turning = self._loop.call_later(self._engine.wait_seconds(), self._turn)
        for sock in self._engine.backlog:
            if sock not in self._writing:
                self._writing.add(sock)
                self._loop.add_writer(sock, self._writable, sock)

    def _writable(self, sock: UdpSocket) -> None:
        self._engine.resume(sock)
        if sock not in self._engine.backlog:
            self._writing.discard(sock)
            self._loop.remove_writer(sock)

    def _stop(self) -> None:
        if self._turning is not None:
            self._turning.cancel()
        for sock in self._engine.sockets.values():
            self.unlisten(sock)
        if self._engine.watch is not None:
            self._loop.remove_reader(self._engine.watch)
        self._engine.close()
        self._disk.shutdown(wait=True)

    # --- what the engine says (Host) ----------------------------------------------------------

    def listen(self, sock: UdpSocket) -> None:
        """Receive from it."""
        self._loop.add_reader(sock, self._readable, sock)

    def unlisten(self, sock: UdpSocket) -> None:
        """Wait for it no more."""
        self._loop.remove_reader(sock)
        self._loop.remove_writer(sock)
        self._writing.discard(sock)
        self._paused.discard(sock)

    def notify(self, link: int, notice: Notice) -> None:
        """Queue it for `next_notice`."""
        self._notices.put_nowait((link, notice))

    def persist(self, action: Persist) -> None:
        """Save in the disk thread, then tell the core how it went."""
        done = self._disk.submit(self._save, action.pairing)
        done.add_done_callback(lambda done: self._call(self._persisted, action, done))

    def publish(self, action: Publish | Withdraw) -> None:
        """Write or remove the bootstrap file in the disk thread."""
        self._disk.submit(self._do_publish, action)

    def destroy(self, action: Destroy | DestroyIdentity) -> None:
        """Overwrite and remove it in the disk thread."""
        self._disk.submit(self._do_destroy, action)

    def _do_destroy(self, action: Destroy | DestroyIdentity) -> None:
        try:
            if self._erase is not None:
                self._erase(action)
        except StoreError as error:
            log.error("%s", error)
            self.erase_error = error

    def _do_publish(self, action: Publish | Withdraw) -> None:
        try:
            if self._publisher is not None and isinstance(action, Publish):
                self._publisher.publish(action.content)
            elif self._publisher is not None:
                self._publisher.withdraw()
            self.publish_error = None
        except StoreError as error:
            log.error("%s", error)
            self.publish_error = error

    def _call(
        self, back: Callable[[Persist, Future[None]], None], action: Persist, done: Future[None]
    ) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits for the answer
            self._loop.call_soon_threadsafe(back, action, done)

    def _persisted(self, action: Persist, done: Future[None]) -> None:
        failed = isinstance(done.exception(), StoreError)
        if not failed:
            done.result()  # anything else is a fault of ours: let it be seen
        answer = PersistFailed if failed else Persisted
        with suppress(LocalError):  # the link ended meanwhile
            self.handle(answer(action.link, action.ticket))


@asynccontextmanager
async def open_driver(
    config: Config,
    sockets: Sequence[UdpSocket],
    *,
    persist: Callable[[Pairing], None],
    erase: Callable[[Destroy | DestroyIdentity], None] | None = None,
    publisher: Publisher | None = None,
) -> AsyncIterator[Driver]:
    """Run an endpoint on `sockets`, which are closed on the way out.

    `persist` and `erase` are a store's `save` and `erase`. Without `erase` a `Compromised` pairing
    is yours to remove from where it is kept.
    """
    driver = Driver(config, sockets, persist=persist, erase=erase, publisher=publisher)
    try:
        yield driver
    finally:
        await driver.aclose()
