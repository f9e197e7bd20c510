"""A virtual host: one `Endpoint`, its socket, clock, dice and disk, and an application.

This is a driver like the others: it wakes up, hands in what the socket holds, advances when the
deadline is due, and performs actions in order. Beyond that it can be killed, restarted, suspended
and copied.

Rules: what survives a kill is the disk, the identity and the application's own memory; nothing of
the endpoint does. Every call of an endpoint is announced to the `Watcher`s before and after.
Left to others: faults (`faults`), what is right (`invariants`), what is said (`workload`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, unique
from functools import partial
from random import Random
from typing import Protocol, runtime_checkable

from attrs import define, field

from clawchat.core.actions import (
    Action,
    BootstrapContent,
    ClosePort,
    Destroy,
    DestroyIdentity,
    HopPort,
    LinkStats,
    Notice,
    Notify,
    OpenPort,
    Persist,
    Publish,
    Transmit,
    Withdraw,
)
from clawchat.core.credential import Address, Path
from clawchat.core.events import (
    DatagramReceived,
    Disturbed,
    Event,
    Persisted,
    PersistFailed,
    PortOpened,
    PortRefused,
)
from clawchat.core.instant import MICROSECOND, Deadline, Instant
from clawchat.drivers.ports import PortBook
from clawchat.drivers.simulator.clock import HostClock, Timeline
from clawchat.drivers.simulator.disk import Disk
from clawchat.drivers.simulator.network import Network, Origin, Parcel
from clawchat.errors import Drop, LocalError

RECEIVE_BUFFER = 4 * 1024 * 1024  # bytes a socket holds while nobody reads it
SEGMENTS_MAX = 64  # datagrams that one receive call can hand over together
ASLEEP_NS = 50_000 * MICROSECOND  # how often a suspended process's own timers look again
SPIN_MAX = 10_000  # wake-ups at one instant before we call it an endless loop

Entropy = Callable[[int], bytes]


@runtime_checkable
class Driven(Protocol):
    """The face of `clawchat.core.endpoint.Endpoint`, so that a test can put a fake here."""

    @property
    def drops(self) -> Counter[Drop]: ...
    def handle(self, event: Event, now: Instant) -> None: ...
    def advance(self, now: Instant) -> None: ...
    def actions(self, now: Instant) -> list[Action]: ...
    @property
    def deadline(self) -> Deadline | None: ...
    @property
    def links(self) -> list[int]: ...
    def link_stats(self, link: int) -> LinkStats: ...


Build = Callable[["Host", Instant, int, Entropy], Driven]
"""Makes a fresh endpoint: host, monotonic now, Unix time in nanoseconds, dice."""


class Application(Protocol):
    """What runs above the endpoint. It survives a kill; the links it spoke over do not."""

    def started(self, host: Host) -> None: ...
    def stopped(self, host: Host) -> None: ...
    def noticed(self, host: Host, link: int, notice: Notice) -> None: ...
    def published(self, host: Host, content: BootstrapContent | None) -> None: ...


class Silent:
    """An application that does nothing."""

    def started(self, host: Host) -> None:
        """Nothing to begin."""

    def stopped(self, host: Host) -> None:
        """Nothing to end."""

    def noticed(self, host: Host, link: int, notice: Notice) -> None:
        """Nothing to say."""

    def published(self, host: Host, content: BootstrapContent | None) -> None:
        """No user to hand a file to."""


class Watcher(Protocol):
    """Sees everything. Raises to fail the run."""

    def handling(self, host: Host, event: Event, parcels: list[Parcel]) -> None: ...
    def handled(self, host: Host, event: Event, parcels: list[Parcel]) -> None: ...
    def acting(self, host: Host, action: Action) -> None: ...
    def acted(self, host: Host, action: Action) -> None: ...
    def sent(self, host: Host, parcels: list[Parcel]) -> None: ...
    def woke(self, host: Host) -> None: ...
    def changed(self, host: Host, what: str) -> None: ...
    def traced(self, host: Host, table: str, source: Enum, event: str, dest: Enum) -> None: ...


@unique
class Power(Enum):
    """Whether the process of a host can act."""

    DOWN = "killed, or not yet started"
    RUNNING = "running"
    SUSPENDED = "asleep: time passes, nothing happens"


@define(slots=False, eq=False)
class Host:
    """One installation: address, identity, disk, and a process that may come and go.

    `fallen`: this process destroyed its identity, and is of no use any more.
    """

    name: str
    address: Address
    timeline: Timeline
    network: Network
    clock: HostClock
    rng: Random
    build: Build
    application: Application
    disk: Disk
    seed: str
    identity: bytes
    watchers: list[Watcher] = field(factory=list)
    wake_delay_ns: int = 200 * MICROSECOND
    power: Power = Power.DOWN
    incarnation: int = 0
    fallen: bool = False
    endpoint: Driven | None = None
    sockets: list[Address] = field(factory=list)
    book: PortBook = field(factory=lambda: PortBook(()))
    _inbox: deque[Parcel] = field(factory=deque)
    _inbox_bytes: int = 0
    _wake_at: int | None = None
    _spins: int = 0
    _spun_at: int = -1
    _serial: int = 0
    _in_wake: bool = False

    # --- the process ------------------------------------------------------------------------

    def start(self) -> None:
        """A new process: fresh endpoint, fresh dice, the old disk."""
        assert self.power is Power.DOWN, f"{self.name} runs already"
        self.incarnation += 1
        self.fallen = False
        self.power = Power.RUNNING
        self._inbox.clear()
        self._inbox_bytes = 0
        self._wake_at = None
        self._bind(self.address)
        self.book = PortBook(self.sockets)
        dice = Random(f"{self.seed}/{self.name}/{self.incarnation}").randbytes
        self.endpoint = self.build(self, self.now, self.clock.unix(self.timeline.now), dice)
        self._tell("started")
        self.application.started(self)
        self._wake_by(self.timeline.now)

    def kill(self, survivors: int | None = None) -> None:
        """SIGKILL: nothing is said to anybody. `survivors`: see `Disk.crash`."""
        if self.power is Power.DOWN:
            return
        self.power = Power.DOWN
        self.endpoint = None
        self._wake_at = None
        for address in self.sockets:
            self.network.detach(address)
        self.sockets.clear()
        self.disk.crash(survivors)
        self._tell("killed")
        self.application.stopped(self)

    def suspend(self) -> None:
        """The lid is closed. Datagrams that arrive find no ear."""
        if self.power is Power.RUNNING:
            self.power = Power.SUSPENDED
            self._wake_at = None
            self._tell("suspended")

    def resume(self) -> None:
        if self.power is Power.SUSPENDED:
            self.power = Power.RUNNING
            self._wake_at = None
            self._tell("resumed")
            self._disturb()
            self._wake_by(self.timeline.now)

    def notice_change(self) -> None:
        """The system tells that the network changed."""
        if self.running:
            self._disturb()
            self._wake_by(self.timeline.now)

    def join(self, address: Address, *remotes: Address) -> None:
        """Another network, or the other family: from here links may try to reach `remotes`."""
        self._bind(address)
        self._tell(f"joined as {address}")
        self._disturb(tuple(Path(address, remote) for remote in remotes))
        self._wake_by(self.timeline.now)

    def leave(self, ip: str) -> None:
        """A network is gone, and all sockets of our address there; the system tells."""
        for address in [bound for bound in self.sockets if bound.host == ip]:
            self.network.detach(address)
            self.sockets.remove(address)
        self._tell(f"left {ip}")
        self.notice_change()

    def _bind(self, address: Address) -> None:
        self.network.attach(address, self)
        self.sockets.append(address)

    def _disturb(self, paths: tuple[Path, ...] = ()) -> None:
        """What a driver does when it notices another network, or that the machine was asleep."""
        assert self.endpoint is not None
        for link in self.endpoint.links:
            with suppress(LocalError):  # not established yet, or not any more
                self._handle(Disturbed(link, paths), [])

    def _hop(self, action: HopPort) -> None:
        """Another socket, on another port; the old ones stay until the process ends."""
        port = self.address.port
        while Address(self.address.host, port) in self.sockets:
            port = self.rng.randint(49_152, 65_535)
        here = Address(self.address.host, port)
        self._bind(here)
        self._tell(f"hopped to {here}")
        paths = tuple(Path(here, remote) for remote in action.remotes)
        with suppress(LocalError):  # the link has ended meanwhile
            self._handle(Disturbed(action.link, paths), [])

    @property
    def base(self) -> Address:
        """The socket to dial from."""
        return self.book.lent[0]

    def _open_port(self, action: OpenPort) -> None:
        local = action.local
        free = self.book.has_room() and local not in self.sockets
        if free:
            self._bind(local)
            self.book.opened(action.link, local)
            self._tell(f"opened {local}")
        try:
            self._handle((PortOpened if free else PortRefused)(action.link, local), [])
        except LocalError:  # the link has ended meanwhile
            self._close_port(ClosePort(action.link, local))

    def _close_port(self, action: ClosePort) -> None:
        if self.book.left(action.link, action.local) and action.local in self.sockets:
            self.sockets.remove(action.local)
            self.network.detach(action.local)
            self._tell(f"closed {action.local}")

    def move(self, address: Address) -> None:
        """Bind another address from now on (only between two processes)."""
        assert self.power is Power.DOWN
        self.address = address

    def traced(self, table: str, source: Enum, event: str, dest: Enum) -> None:
        """To be given to the endpoint as its trace."""
        for watcher in self.watchers:
            watcher.traced(self, table, source, event, dest)

    @property
    def running(self) -> bool:
        return self.power is Power.RUNNING

    @property
    def now(self) -> Instant:
        """The host's own monotonic clock."""
        return self.clock.monotonic(self.timeline.now)

    # --- for the application ----------------------------------------------------------------

    def do(self, event: Event) -> None:
        """Hand in an event of the application. Raises what `Endpoint.handle` raises."""
        assert self.endpoint is not None, f"{self.name} is down"
        self._handle(event, [])
        self._wake_by(self.timeline.now)

    def after(self, delay_ns: int, call: Callable[[], None]) -> None:
        """Run `call` later, unless the process has died by then."""
        self.timeline.after(delay_ns, partial(self._call_later, self.incarnation, call))

    def _call_later(self, incarnation: int, call: Callable[[], None]) -> None:
        if incarnation != self.incarnation or self.power is Power.DOWN:
            return
        if self.power is Power.SUSPENDED:
            self.timeline.after(ASLEEP_NS, partial(self._call_later, incarnation, call))
            return
        call()

    # --- the socket -------------------------------------------------------------------------

    def arrive(self, parcel: Parcel) -> None:
        """A datagram reaches the socket; it is read when the process wakes up."""
        size = len(parcel.data)
        if self.power is Power.SUSPENDED or self._inbox_bytes + size > RECEIVE_BUFFER:
            return
        self._inbox.append(parcel)
        self._inbox_bytes += size
        if self._wake_at is None or self._wake_at > self.timeline.now + self.wake_delay_ns:
            delay = self.rng.randrange(self.wake_delay_ns) if self.wake_delay_ns else 0
            self._wake_by(self.timeline.now + delay)

    # --- the loop ---------------------------------------------------------------------------

    def _wake_by(self, when: int) -> None:
        if self._in_wake:
            return  # this wake-up looks at everything before it ends
        if self._wake_at is None or when < self._wake_at:
            self._wake_at = when
            self.timeline.at(when, partial(self._wake, self.incarnation, when))

    def _wake(self, incarnation: int, when: int) -> None:
        if incarnation != self.incarnation or self._wake_at != when or not self.running:
            return  # a wake-up that was overtaken by an earlier one
        self._wake_at = None
        self._guard_against_spinning()
        self._in_wake = True
        try:
            self._drain_socket()
            if self.endpoint is not None:
                deadline = self.endpoint.deadline
                if deadline is not None and self.now >= deadline.at:
                    self.endpoint.advance(self.now)
            self._perform_all()
        finally:
            self._in_wake = False
        if not self._still(incarnation):
            return  # killed on the way
        endpoint = self.endpoint
        assert endpoint is not None
        for watcher in self.watchers:
            watcher.woke(self)
        deadline = endpoint.deadline
        if self._inbox:
            self._wake_by(self.timeline.now)
        elif deadline is not None:
            self._wake_by(max(self.clock.world(deadline.at), self.timeline.now))

    def _still(self, incarnation: int) -> bool:
        """Whether the process that began this turn is the one that runs."""
        return self.running and incarnation == self.incarnation

    def _guard_against_spinning(self) -> None:
        if self._spun_at != self.timeline.now:
            self._spun_at, self._spins = self.timeline.now, 0
        self._spins += 1
        if self._spins > SPIN_MAX:
            why = self.endpoint.deadline if self.endpoint is not None else None
            raise AssertionError(f"{self.name} wakes up without end at one instant: {why}")

    def _drain_socket(self) -> None:
        while self._inbox and self.running:
            parcels = [self._inbox.popleft()]
            first = parcels[0]
            size = len(first.data)
            while self._inbox and len(parcels) < SEGMENTS_MAX and self._continues(first):
                parcels.append(self._inbox.popleft())
                if len(parcels[-1].data) < size:
                    break  # a shorter datagram ends a batch
            self._inbox_bytes -= sum(len(parcel.data) for parcel in parcels)
            path = Path(first.destination, first.source)
            if len(parcels) == 1:
                self._handle(DatagramReceived(path, first.data), parcels)
            else:
                joined = b"".join([parcel.data for parcel in parcels])
                self._handle(DatagramReceived(path, joined, size), parcels)

    def _continues(self, first: Parcel) -> bool:
        """Whether the next datagram belongs into the batch that `first` began.

        Only datagrams of the same truth are put together, so that the invariants can say
        of each call whether it was told something genuine.
        """
        following = self._inbox[0]
        return (
            following.source == first.source
            and following.destination == first.destination
            and 0 < len(following.data) <= len(first.data)
            and following.origin is not None
            and first.origin is not None
            and following.origin.host == first.origin.host
        )

    def _handle(self, event: Event, parcels: list[Parcel]) -> None:
        endpoint = self.endpoint
        if endpoint is None:
            return
        for watcher in self.watchers:
            watcher.handling(self, event, parcels)
        if self.endpoint is not endpoint:
            return  # a watcher pulled the plug
        endpoint.handle(event, self.now)
        self.book.handled(event)
        for watcher in self.watchers:
            watcher.handled(self, event, parcels)

    def _perform_all(self) -> None:
        while (endpoint := self.endpoint) is not None and self.running:
            actions = endpoint.actions(self.now)
            if not actions:
                return
            self._guard_against_spinning()
            for action in actions:
                for watcher in self.watchers:
                    watcher.acting(self, action)
                if self.endpoint is not endpoint:
                    return  # killed on the way
                self._perform(action)
                for watcher in self.watchers:
                    watcher.acted(self, action)
                if self.endpoint is not endpoint:
                    return

    def _begin_with(self, identity: bytes) -> None:
        self.identity = identity

    def _perform(self, action: Action) -> None:
        if isinstance(action, Transmit):
            self._transmit(action)
        elif isinstance(action, Notify):
            self.book.noticed(action.link, action.notice)
            self.application.noticed(self, action.link, action.notice)
        elif isinstance(action, Persist):
            self._persist(action)
        elif isinstance(action, Destroy):
            self.disk.destroy(action.file_id)
        elif isinstance(action, DestroyIdentity):
            self.disk.in_turn(partial(self._begin_with, self.rng.randbytes(len(self.identity))))
            self.fallen = True
        elif isinstance(action, HopPort):
            self._hop(action)
        elif isinstance(action, OpenPort):
            self._open_port(action)
        elif isinstance(action, ClosePort):
            self._close_port(action)
        elif isinstance(action, Publish):
            self.application.published(self, action.content)
        else:
            assert isinstance(action, Withdraw)
            self.application.published(self, None)

    def _transmit(self, action: Transmit) -> None:
        if action.path.local not in self.sockets:
            return  # its socket is gone: lost on the way
        parcels = []
        for data in action.datagrams:
            self._serial += 1
            origin = Origin(
                self.name, self.incarnation, self.timeline.now, self._serial, action.path.local
            )
            tag = self.name, self._serial
            parcels.append(Parcel(action.path.local, action.path.remote, data, origin, tag))
        for watcher in self.watchers:
            watcher.sent(self, parcels)
        for parcel in parcels:
            self.network.send(parcel)

    def _persist(self, action: Persist) -> None:
        life = self.incarnation

        def told(kept: bool) -> None:
            if life != self.incarnation or self.power is Power.DOWN:
                return
            if self.power is Power.SUSPENDED:
                self.timeline.after(
                    ASLEEP_NS, partial(told, kept)
                )  # the disk's thread sleeps as well
                return
            answer = Persisted if kept else PersistFailed
            self._handle(answer(action.link, action.ticket), [])
            self._wake_by(self.timeline.now)

        self.disk.write(action.pairing, told)

    def _tell(self, what: str) -> None:
        for watcher in self.watchers:
            watcher.changed(self, what)
