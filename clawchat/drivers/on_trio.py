"""The driver the product uses: one endpoint in one Trio nursery.

Rules: the nursery owns every task, so nothing outlives the block; leaving it, also by
cancellation, tells every peer, bounded to one second; writes to disk run in threads, one at a
time and in order, and are never abandoned half way.
Left to others: moving datagrams (`engine`), what the application sees (`peer`, `listener`).
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final, TypeAlias, TypeVar, TypeVarTuple

import trio

from clawchat.core.actions import (
    Closed,
    Compromised,
    CredentialReused,
    Destroy,
    DestroyIdentity,
    Established,
    LinkStats,
    Notice,
    Persist,
    Publish,
    Receipt,
    Withdraw,
)
from clawchat.core.config import Config
from clawchat.core.credential import Address, Pairing, Path
from clawchat.core.events import (
    Consumed,
    DeclareCompromised,
    Dial,
    Event,
    Persisted,
    PersistFailed,
)
from clawchat.core.instant import Instant
from clawchat.drivers.engine import Engine
from clawchat.drivers.network import Watch, open_watch
from clawchat.drivers.peer import Peer
from clawchat.drivers.publisher import Publisher
from clawchat.drivers.scrub import scrub
from clawchat.drivers.sockets import UdpSocket
from clawchat.errors import Drop, LocalError, StoreError

CLOSING_SECONDS: Final = 1.0  # how long leaving may take, shielded from cancellation
log = logging.getLogger("clawchat")

Args = TypeVarTuple("Args")
Result = TypeVar("Result")
_Job: TypeAlias = Callable[[], Awaitable[None]]
_Erase: TypeAlias = Callable[[Destroy | DestroyIdentity], None]


class NotErased(StoreError):
    """Pairings were destroyed in memory, but not all files of theirs could be."""

    def __init__(self, error: StoreError, receipts: tuple[Receipt, ...]) -> None:
        super().__init__(str(error))
        self.receipts = receipts


@asynccontextmanager
async def open_runner(
    config: Config,
    sockets: Sequence[UdpSocket],
    *,
    persist: Callable[[Pairing], None],
    erase: _Erase | None = None,
    publisher: Publisher | None = None,
) -> AsyncIterator[Runner]:
    """Run an endpoint on `sockets`, which are closed on the way out.

    `persist` makes a pairing durable, `erase` destroys what is kept of one; both are called in a
    thread and may raise `StoreError`. Without `erase` a `Compromised` pairing is yours to remove
    from where it is kept.
    What the block raises comes out as it is, not wrapped in an `ExceptionGroup`.
    """
    trouble: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            runner = Runner(config, sockets, persist=persist, erase=erase, publisher=publisher)
            del config  # the endpoint has an identity of its own, which it can wipe
            await nursery.start(runner.run)
            try:
                yield runner
            except BaseException as error:  # raised again below, outside the nursery
                trouble = error
            with trio.move_on_after(CLOSING_SECONDS, shield=True):
                await runner.close()
        if trouble is not None:
            raise trouble
    finally:
        trouble = None  # a frame that holds its own exception is a cycle
        for sock in sockets:
            sock.close()


class Runner:
    """Runs one `Engine` on Trio and shares its notices out among `Peer`s."""

    def __init__(
        self,
        config: Config,
        sockets: Sequence[UdpSocket],
        *,
        persist: Callable[[Pairing], None],
        publisher: Publisher | None,
        erase: _Erase | None = None,
    ) -> None:
        self.peers: Final[dict[int, Peer]] = {}
        self.accept: Callable[[Peer], None] = lambda peer: None
        self.overheard: Callable[[Notice], None] = lambda notice: None
        self.attempts = 0  # to write a bootstrap file, whether or not it worked
        self._engine: Final = Engine(config, sockets, self, watch=open_watch())
        self._nursery: trio.Nursery  # of `run`
        # Who uses the endpoint may be cancelled: the peer is told all the same, so its tasks
        # end only when `close` says so.
        self._shield = trio.CancelScope(shield=True)
        self._failed = False
        self._save_pairing = persist
        self._erase = erase
        self._receipts: dict[bytes, Receipt | None] = {}  # of pairings that were destroyed
        self._erase_error: StoreError | None = None
        self._publisher = publisher
        self._publish_error: StoreError | None = None
        self._published = False
        # Work on files, in the order in which it was asked for; one thread at a time.
        self._disk_jobs, self._disk_queue = trio.open_memory_channel[_Job](math.inf)
        self._saving = 0  # credentials being written or erased
        self._armed: Instant = 0  # what the timer task sleeps for
        self._sleep: trio.CancelScope | None = None  # of the timer task, while it sleeps
        self._resuming: set[UdpSocket] = set()
        self._changed = trio.lowlevel.ParkingLot()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until `close`: one task for timers, one per socket for what arrives."""
        with self._shield:
            try:
                async with trio.open_nursery() as self._nursery:
                    self._nursery.start_soon(self._keep_time, name="clawchat timer")
                    self._nursery.start_soon(self._work_on_files, name="clawchat files")
                    for sock in self._engine.sockets.values():
                        self.listen(sock)
                    if self._engine.watch is not None:
                        self._nursery.start_soon(self._watch_network, self._engine.watch)
                    task_status.started()
            except BaseException:
                self._failed = not self._shield.cancel_called
                raise
            finally:
                self._engine.close()

    # --- for peers, connect and serve ---------------------------------------------------------

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where the sockets are bound."""
        return self._engine.addresses

    @property
    def static(self) -> bytes:
        """Our X25519 public key."""
        return self._engine.static

    def handle(self, event: Event) -> None:
        """Give the core an event, and do what follows. Raises a `LocalError`."""
        engine = self._engine
        if type(event) is not Consumed:
            engine.handle(event)
        elif not engine.consumed(event):
            return
        engine.turn()
        self._after_turn()

    @property
    def drops(self) -> Counter[Drop]:
        """How many datagrams were dropped, by reason."""
        return self._engine.drops

    def link_stats(self, link: int) -> LinkStats:
        """A snapshot of one link."""
        return self._engine.link_stats(link)

    def dial(self, link: int, pairing: Pairing, paths: tuple[Path, ...]) -> Peer:
        """Begin a link; wait for it with `Peer.wait_established`."""
        peer = self.peers[link] = Peer(self, link, dialer=True)
        self.handle(Dial(link, pairing, paths))
        return peer

    async def declare_compromised(self, event: DeclareCompromised) -> tuple[Receipt, ...]:
        """Destroy pairings; a receipt for each, once every peer was told or had its ten seconds.

        Raises `PairingDestroyed` when that was done before, and `NotErased`.
        """
        before = dict(self._receipts)
        self.handle(event)
        doomed = [file_id for file_id in self._receipts if file_id not in before]
        while self._saving or any(self._receipts[file_id] is None for file_id in doomed):
            await self._changed.park()
        receipts = tuple(receipt for i in doomed if (receipt := self._receipts[i]) is not None)
        if self._erase_error is not None:
            raise NotErased(self._erase_error, receipts)
        return receipts

    async def published_since(self, attempts: int) -> None:
        """Wait for the next bootstrap file to be written. Raises `StoreError` if it is not."""
        while self.attempts == attempts:
            await self._changed.park()
        if self._publish_error is not None:
            raise self._publish_error

    async def in_thread(self, work: Callable[[*Args], Result], *args: *Args) -> Result:
        """Run file work in order with the endpoint's own; never abandoned half way."""
        results: list[Result] = []
        errors: list[Exception] = [trio.ClosedResourceError("the endpoint has ended")]
        done = trio.Event()

        async def job() -> None:
            try:
                results.append(await trio.to_thread.run_sync(work, *args))
            except Exception as error:
                errors.append(error)
            finally:
                done.set()

        self._disk_jobs.send_nowait(job)
        await done.wait()
        if not results:
            raise errors[-1]
        return results[0]

    async def close(self) -> None:
        """Tell every peer, take the published bootstrap file away, end the tasks."""
        if self._failed:
            return  # a fault of ours, on its way up: the core is not asked again
        try:
            self._close_links()
            while self._engine.links or self._engine.backlog or self._saving:
                await self._changed.park()
                self._close_links()  # one that was just being written is up now
            if self._publisher is not None and self._published:
                await self._do_publish(Withdraw())
        finally:
            self._shield.cancel()

    def _close_links(self) -> None:
        self._engine.close_links()
        self._engine.turn()
        self._after_turn()

    # --- tasks --------------------------------------------------------------------------------

    async def _keep_time(self) -> None:
        while True:
            self._engine.turn()
            self._after_turn()
            self._armed = self._engine.due
            wakes = trio.current_time() + self._engine.wait_seconds()
            with trio.CancelScope(deadline=wakes) as self._sleep:
                await trio.sleep_forever()
            self._sleep = None

    async def _work_on_files(self) -> None:
        async for job in self._disk_queue:
            await job()

    async def _listen(self, sock: UdpSocket) -> None:
        with suppress(trio.ClosedResourceError):  # `unlisten`
            while sock.fileno() >= 0:
                await trio.lowlevel.wait_readable(sock.socket)
                while self._engine.receive(sock):
                    self._after_turn()
                    await trio.lowlevel.checkpoint()
                self._after_turn()

    async def _watch_network(self, watch: Watch) -> None:
        while True:
            await trio.lowlevel.wait_readable(watch)
            self._engine.network_changed()
            self._after_turn()

    def _after_turn(self) -> None:
        """Wake earlier when a deadline moved forward; see to sockets that block."""
        for sock in self._engine.backlog:
            if sock not in self._resuming:
                self._resuming.add(sock)
                self._nursery.start_soon(self._resume, sock)
        if self._engine.due < self._armed and self._sleep is not None:
            self._armed = self._engine.due
            self._sleep.deadline = trio.current_time() + self._engine.wait_seconds()

    async def _resume(self, sock: UdpSocket) -> None:
        with suppress(trio.ClosedResourceError):  # `unlisten`
            while sock in self._engine.backlog:
                await trio.lowlevel.wait_writable(sock.socket)
                self._engine.resume(sock)
        self._resuming.discard(sock)
        self._changed.unpark_all()

    # --- what the engine says (Host) ----------------------------------------------------------

    def listen(self, sock: UdpSocket) -> None:
        """Receive from it, in a task of its own."""
        self._nursery.start_soon(self._listen, sock, name=f"clawchat {sock.address}")

    def unlisten(self, sock: UdpSocket) -> None:
        """Let its task end."""
        trio.lowlevel.notify_closing(sock.socket)

    def notify(self, link: int, notice: Notice) -> None:
        """Pass a notice to its peer; a link that was not dialled gets a peer when it is up."""
        peer = self.peers.get(link)
        if isinstance(notice, Compromised):
            self._receipts[notice.receipt.file_id] = notice.receipt
            self._changed.unpark_all()
            self.overheard(notice)
        if peer is not None:
            peer.arrived(notice)
            if type(notice) is Closed:
                del self.peers[link]
                self._changed.unpark_all()
        elif isinstance(notice, CredentialReused):
            self._warn(notice)
        elif isinstance(notice, Established):  # else of a link that never came up
            peer = self.peers[link] = Peer(self, link, dialer=False)
            peer.arrived(notice)
            self.accept(peer)

    def _warn(self, notice: CredentialReused) -> None:
        """It concerns no link, but everybody who talks to that device."""
        self.overheard(notice)
        for peer in list(self.peers.values()):
            if peer.closed is None and peer.file_id == notice.file_id:
                peer.arrived(notice)

    def persist(self, action: Persist) -> None:
        """Save in a thread, then say so."""
        self._saving += 1
        self._disk_jobs.send_nowait(partial(self._do_persist, action))

    def publish(self, action: Publish | Withdraw) -> None:
        """Write or remove the bootstrap file in a thread."""
        self._disk_jobs.send_nowait(partial(self._do_publish, action))

    def destroy(self, action: Destroy | DestroyIdentity) -> None:
        """Overwrite and remove it in a thread."""
        if isinstance(action, Destroy):
            self._receipts[action.file_id] = None
        self._saving += 1
        self._disk_jobs.send_nowait(partial(self._do_destroy, action))

    async def _do_destroy(self, action: Destroy | DestroyIdentity) -> None:
        try:
            if self._erase is not None:
                await trio.to_thread.run_sync(self._erase, action)
                await trio.to_thread.run_sync(scrub)  # the same thread: its files went through it
        except StoreError as error:
            log.error("%s", error)
            self._erase_error = error
        self._saving -= 1
        self._changed.unpark_all()

    async def _do_persist(self, action: Persist) -> None:
        answer: Persisted | PersistFailed = Persisted(action.link, action.ticket)
        try:
            await trio.to_thread.run_sync(self._save_pairing, action.pairing)
        except StoreError as error:
            log.error("%s", error)
            peer = self.peers.get(action.link)
            if peer is not None:
                peer.store_error = error
            answer = PersistFailed(action.link, action.ticket)
        with suppress(LocalError):  # the link ended meanwhile: nobody waits for the answer
            self.handle(answer)
        self._saving -= 1
        self._changed.unpark_all()

    async def _do_publish(self, action: Publish | Withdraw) -> None:
        if self._publisher is None:
            return
        try:
            if isinstance(action, Publish):
                await trio.to_thread.run_sync(self._publisher.publish, action.content)
            else:
                await trio.to_thread.run_sync(self._publisher.withdraw)
            self._published = isinstance(action, Publish)
            self._publish_error = None
        except StoreError as error:
            log.error("%s", error)
            self._publish_error = error
        self.attempts += isinstance(action, Publish)
        self._changed.unpark_all()
