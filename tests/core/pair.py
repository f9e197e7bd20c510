"""Two real endpoints in virtual time: what the tests of links, phases and scenarios stand on.

A network function decides about each datagram, a disk can be slow, full or stuck, a process can be
killed and started again from its disk. The idea is that of quinn's `Pair`; for whole networks with
seeds and faults there is the simulator.

Left to others: what is asserted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import Enum
from hashlib import shake_256
from heapq import heappop, heappush
from typing import Any, TypeAlias, TypeVar

from attrs import define, evolve, field, frozen

from clawchat.core.actions import (
    Action,
    BootstrapContent,
    Closed,
    ClosePort,
    Compromised,
    Destroy,
    DestroyIdentity,
    Established,
    Notice,
    Notify,
    OpenPort,
    Persist,
    Publish,
    Receipt,
    StreamData,
    Transmit,
    Withdraw,
)
from clawchat.core.config import Config, Entropy
from clawchat.core.credential import Address, Pairing, Path
from clawchat.core.endpoint import Endpoint
from clawchat.core.events import (
    Consumed,
    DatagramReceived,
    Dial,
    Event,
    Persisted,
    PersistFailed,
    PortOpened,
    PortRefused,
    PublishBootstrap,
    Remember,
    StreamClass,
    Write,
    stream_id,
)
from clawchat.core.exchange import first_pairing
from clawchat.core.instant import MILLISECOND, SECOND, Instant
from clawchat.core.link import Link
from clawchat.core.paths import Way
from clawchat.core.secret import Secret
from clawchat.core.transport import Transport
from clawchat.errors import UnknownLink

LATENCY = 10 * MILLISECOND
UNIX_NS = 1_800_000_000 * SECOND
LISTENER = Address("10.0.0.2", 2000)
DIALER = Address("10.0.0.1", 1000)
STRANGER = Address("10.66.66.66", 666)

Taken: TypeAlias = tuple[str, Enum, str, Enum]
N = TypeVar("N")


@define
class Seeded:
    """See `seeded`. No function, so that a pair can be copied with all that it knows."""

    seed: str
    count: int = 0

    def __call__(self, size: int) -> bytes:
        self.count += 1
        return shake_256(f"{self.seed}/{self.count}".encode()).digest(size)


def seeded(seed: str) -> Entropy:
    """Random bytes that are the same in every run."""
    return Seeded(seed)


@frozen
class Parcel:
    """A datagram on its way."""

    source: Address
    to: Address
    data: bytes


Network: TypeAlias = Callable[[Parcel], tuple[Instant, ...]]
"""After how long each copy of a parcel arrives; no copy: it is lost."""


def calm(_parcel: Parcel) -> tuple[Instant, ...]:
    return (LATENCY,)


def dead(_parcel: Parcel) -> tuple[Instant, ...]:
    return ()


def losing(lost: Callable[[Parcel], bool]) -> Network:
    """Calm, but for what `lost` says of each parcel."""
    return lambda parcel: () if lost(parcel) else (LATENCY,)


@define(eq=False, slots=False)
class Disk:
    """What survives a kill. `delay_ns` None: a write never ends; `fails` says which do."""

    kept: dict[bytes, Pairing] = field(factory=dict)
    delay_ns: Instant | None = 0
    fails: Callable[[int], bool] = lambda _number: False
    writes: int = 0
    destroyed: list[bytes] = field(factory=list)


@define(eq=False, slots=False)
class Side:
    """One endpoint, its disk, and all that it said."""

    name: str
    address: Address
    config: Config
    endpoint: Endpoint
    disk: Disk = field(factory=Disk)
    did: list[tuple[Instant, Action]] = field(factory=list)
    taken: list[Taken] = field(factory=list)
    lives: int = 1
    reads: bool = True  # whether stream data is consumed as it comes
    sockets: dict[Address, None] = field(factory=dict)  # beside its first
    opens: Callable[[Address], bool | None] = lambda _: True  # None: the driver never answers

    def take_down(self, table: str, source: Enum, event: str, dest: Enum) -> None:
        """A row was taken."""
        self.taken.append((table, source, event, dest))

    @property
    def notices(self) -> list[Notice]:
        return [action.notice for _, action in self.did if isinstance(action, Notify)]

    def all(self, kind: type[N]) -> list[N]:
        """The notices of one kind, in order."""
        return [notice for notice in self.notices if isinstance(notice, kind)]

    def acts(self, kind: type[N]) -> list[N]:
        """The actions of one kind, in order."""
        return [action for _, action in self.did if isinstance(action, kind)]

    @property
    def sent(self) -> list[bytes]:
        """Every datagram that left."""
        return [data for action in self.acts(Transmit) for data in action.datagrams]

    @property
    def established(self) -> list[Established]:
        return self.all(Established)

    @property
    def closed(self) -> list[Closed]:
        return self.all(Closed)

    @property
    def receipts(self) -> list[Receipt]:
        return [notice.receipt for notice in self.all(Compromised)]

    @property
    def pairing(self) -> Pairing:
        """The only pairing on the disk."""
        (pairing,) = self.disk.kept.values()
        return pairing

    @property
    def generations(self) -> list[int]:
        return [credential.generation for credential in self.pairing.credentials]

    def link(self, link_id: int | None = None) -> Link:
        """A link by its id; without one, the newest."""
        links = self.endpoint._links.by_id
        return links[list(links)[-1] if link_id is None else link_id]

    def transport(self, link_id: int | None = None) -> Transport:
        transport = self.link(link_id).transport
        assert transport is not None
        return transport

    def received(self, stream: int) -> bytes:
        """All bytes that came on a stream."""
        parts = [bytes(n.data) for n in self.all(StreamData) if n.stream == stream]
        return b"".join(parts)


def config_of(name: str, **changes: Any) -> Config:
    identity = Secret(seeded(f"identity of the {name}")(32))
    return evolve(Config(identity), **changes)


@define(eq=False, slots=False)
class Pair:
    """A listener and a dialer."""

    listener: Side
    dialer: Side
    seed: str
    network: Network = calm
    translate: Callable[[Parcel], Parcel | None] = lambda parcel: parcel  # a NAT on the way
    asleep: Side | None = None  # suspended: it neither hears nor notices time
    also_dialer: Address | None = None  # of a second socket of the dialer
    also_listener: Address | None = None
    now: Instant = 0
    links: int = 0
    parcels: list[Parcel] = field(factory=list)
    _flying: list[tuple[Instant, int, Parcel]] = field(factory=list)
    _writing: list[tuple[Instant, int, Side, Event, Pairing]] = field(factory=list)
    _count: int = 0

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.listener, self.dialer

    # --- things to do -------------------------------------------------------------------------

    def do(self, side: Side, event: Event) -> None:
        """Give an event and carry out what follows."""
        side.endpoint.handle(event, self.now)
        self.flush(side)

    def publish(self) -> BootstrapContent:
        """A new bootstrap file."""
        self.do(self.listener, PublishBootstrap((LISTENER,)))
        return self.listener.acts(Publish)[-1].content

    def dial(self, pairing: Pairing | None = None, *, via: tuple[Path, ...] = ()) -> int:
        """Begin a link with what the dialer's disk holds, or with `pairing`; its id."""
        self.links += 1
        known = self.dialer.pairing if pairing is None else pairing
        self.do(self.dialer, Dial(self.links, known, via or (Path(DIALER, LISTENER),)))
        return self.links

    def connect(self) -> int:
        """Publish, dial, and run until both sides hold exactly generation 1 and epoch 1."""
        link = self.dial(first_pairing(self.publish()))
        self.run(SECOND)
        assert self.dialer.established
        assert self.listener.established
        return link

    def write(
        self, side: Side, data: bytes, *, link: int, sequence: int = 1, end: bool = False
    ) -> int:
        """Append to a bulk stream; its id."""
        stream = stream_id(sequence, StreamClass.BULK, dialer=side is self.dialer)
        self.do(side, Write(link, stream, data, end))
        return stream

    def restart(self, side: Side) -> None:
        """The process is killed, and started again with what its disk holds."""
        self._writing = [entry for entry in self._writing if entry[2] is not side]
        side.lives += 1
        side.endpoint = endpoint_of(self.seed, side.name, side.config, side, self.now, side.lives)
        if side is self.listener:
            for pairing in list(side.disk.kept.values()):
                self.do(side, Remember(pairing))

    def deliver(self, data: bytes, *, to: Side, source: Address = STRANGER) -> None:
        """A datagram arrives out of nowhere."""
        self.do(to, DatagramReceived(Path(to.address, source), data))

    def say(
        self, side: Side, payload: bytes, link: int | None = None, *, way: Way | None = None
    ) -> None:
        """Send one authenticated packet with these frames, whatever they are, on the way in use or
        another.
        """
        transport = side.transport(link)
        where = way or transport.paths.active
        self._send(side, transport.outbound.seal(where, [payload], self.now, eliciting=True))

    # --- carrying out -------------------------------------------------------------------------

    def flush(self, side: Side) -> None:
        """Carry out all that an endpoint wants done."""
        while actions := side.endpoint.actions(self.now):
            for action in actions:
                side.did.append((self.now, action))
                self._carry_out(side, action)

    def _carry_out(self, side: Side, action: Action) -> None:
        match action:
            case Transmit():
                self._send(side, action)
            case Persist():
                self._write(side, action)
            case Notify(link, StreamData(stream, data, _)) if side.reads:
                with suppress(UnknownLink):  # it may have ended with the same batch
                    side.endpoint.handle(Consumed(link, stream, len(data)), self.now)
            case Destroy(file_id):
                side.disk.kept.pop(file_id, None)
                side.disk.destroyed.append(file_id)
            case OpenPort(link, local):
                answer = side.opens(local)
                if answer:
                    side.sockets[local] = None
                if answer is not None:
                    outcome = PortOpened if answer else PortRefused
                    with suppress(UnknownLink):  # it has ended in the same turn
                        side.endpoint.handle(outcome(link, local), self.now)
            case ClosePort(_, local):
                side.sockets.pop(local, None)
            case Notify() | Publish() | Withdraw() | DestroyIdentity():
                pass

    def _send(self, side: Side, action: Transmit) -> None:
        if not self._has(side, action.path.local):
            return  # its socket is gone: lost on the way, as in a real driver
        for data in action.datagrams:
            parcel = Parcel(action.path.local, action.path.remote, data)
            self.parcels.append(parcel)
            passed = self.translate(parcel)
            if passed is None:
                continue
            for delay in self.network(parcel):
                self._count += 1
                heappush(self._flying, (self.now + delay, self._count, passed))

    def _write(self, side: Side, action: Persist) -> None:
        disk = side.disk
        disk.writes += 1
        if disk.delay_ns is None:
            return
        failed = disk.fails(disk.writes)
        outcome = (PersistFailed if failed else Persisted)(action.link, action.ticket)
        if disk.delay_ns == 0:
            self._written(side, outcome, action.pairing)
            return
        self._count += 1
        at = self.now + disk.delay_ns
        heappush(self._writing, (at, self._count, side, outcome, action.pairing))

    def _written(self, side: Side, outcome: Event, pairing: Pairing) -> None:
        if isinstance(outcome, Persisted):
            side.disk.kept[pairing.file_id] = pairing
        side.endpoint.handle(outcome, self.now)

    # --- time ---------------------------------------------------------------------------------

    def run(self, ns: Instant) -> None:
        """Let time go by."""
        until = self.now + ns
        while self._step(until):
            pass
        self.now = until

    def run_until(self, happened: Callable[[], bool], within_ns: Instant = 60 * SECOND) -> None:
        """Let time go by until something is true, which must be soon enough."""
        until = self.now + within_ns
        while not happened():
            assert self._step(until), "it did not happen in time"

    def _step(self, until: Instant) -> bool:
        at, act = min(self._next(), key=lambda pair: pair[0], default=(until + 1, None))
        if act is None or at > until:
            return False
        self.now = max(self.now, at)
        act()
        return True

    def _next(self) -> Iterator[tuple[Instant, Callable[[], None]]]:
        if self._flying:
            yield self._flying[0][0], self._arrive
        if self._writing:
            yield self._writing[0][0], self._finish_writing
        for side in self.sides:
            deadline = side.endpoint.deadline
            if deadline is not None and side is not self.asleep:
                yield deadline.at, lambda side=side: self._wake(side)  # type: ignore[misc]

    def _arrive(self) -> None:
        _, _, parcel = heappop(self._flying)
        for side in self.sides:
            if self._has(side, parcel.to) and side is not self.asleep:
                self.do(side, DatagramReceived(Path(parcel.to, parcel.source), parcel.data))

    def _has(self, side: Side, local: Address) -> bool:
        also = self.also_dialer if side is self.dialer else self.also_listener
        return local in (side.address, also, *side.sockets)

    def _finish_writing(self) -> None:
        _, _, side, outcome, pairing = heappop(self._writing)
        self._written(side, outcome, pairing)
        self.flush(side)

    def _wake(self, side: Side) -> None:
        side.endpoint.advance(self.now)
        self.flush(side)


def endpoint_of(
    seed: str, name: str, config: Config, side: Side | None, now: Instant, life: int
) -> Endpoint:
    """An endpoint that reports the rows it takes to `side`."""

    return Endpoint(
        config,
        now=now,
        unix_ns=UNIX_NS + now,
        entropy=seeded(f"{seed}/{name}/{life}"),
        trace=None if side is None else side.take_down,
    )


def make_side(seed: str, name: str, address: Address, config: Config) -> Side:
    endpoint = endpoint_of(seed, name, config, None, 0, 0)
    side = Side(name, address, config, endpoint)
    side.endpoint = endpoint_of(seed, name, config, side, 0, 1)
    return side


def make_pair(
    seed: str = "pair", *, listener: Config | None = None, dialer: Config | None = None
) -> Pair:
    """Two endpoints that know nothing of each other yet."""
    return Pair(
        make_side(seed, "listener", LISTENER, listener or config_of("listener")),
        make_side(seed, "dialer", DIALER, dialer or config_of("dialer")),
        seed,
    )


def linked_pair(
    seed: str = "pair", *, listener: Config | None = None, dialer: Config | None = None
) -> Pair:
    """Two endpoints with an established link: 1 at the dialer."""
    pair = make_pair(seed, listener=listener, dialer=dialer)
    pair.connect()
    return pair
