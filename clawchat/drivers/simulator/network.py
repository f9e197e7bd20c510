"""The virtual network: sockets, and between any two hosts one wire in each direction.

Rules: all dice come from one seeded generator; a `Parcel` keeps the truth about where its bytes
came from, which only the invariants may look at; work is per datagram, never per byte.
Conditions may change at any moment and count for what is sent from then on.
Left to others: when conditions change (`faults`), what arrives where (`host`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Protocol, TypeAlias

from attrs import define, field, frozen

from clawchat.core.credential import Address
from clawchat.core.instant import MILLISECOND, SECOND
from clawchat.drivers.simulator.clock import Timeline

HEADERS = 28  # IPv4 and UDP, which take their share of the bandwidth
ETHERNET = 1472  # the largest UDP payload of an unfragmented IPv4 packet on Ethernet
COPY_NS_MAX = 30 * MILLISECOND  # how much later a second copy leaves
ADDED_MAX = 40  # how many bytes a corrupting wire adds at most


@frozen
class Conditions:
    """What one direction of a wire does to datagrams. Shares are 0 to 1, sizes in bytes.

    `loss` is the share of all datagrams that is lost in the long run, in bursts of 1 to `burst`.
    `reorder` is the share that is held back by up to `reorder_ns`. `mtu` is the largest UDP
    payload that gets through; larger ones vanish without a word (a black hole).
    """

    latency_ns: int = 10 * MILLISECOND
    jitter_ns: int = 0
    loss: float = 0.0
    burst: int = 1
    reorder: float = 0.0
    reorder_ns: int = 20 * MILLISECOND
    duplicate: float = 0.0
    corrupt: float = 0.0
    bandwidth_bps: int = 0
    queue_bytes: int = 64 * 1024
    mtu: int = ETHERNET
    cut: bool = False

    @property
    def burst_start(self) -> float:
        """The chance that a burst begins, so that the share lost is `loss` in the long run."""
        mean = (self.burst + 1) / 2
        return self.loss / (mean * (1 - self.loss) + self.loss) if self.loss < 1 else 1.0


@frozen
class Origin:
    """The truth about a datagram: which process made it, when, as which, and from where."""

    host: str
    incarnation: int
    sent_at: int
    serial: int
    address: Address


Tag: TypeAlias = tuple[str, int]
"""Who put a datagram on a wire (a host, or a stranger), and the how manyeth of its own it was."""


@define
class Parcel:
    """A datagram under way. `origin` is None once its bytes are not what a process sent."""

    source: Address
    destination: Address
    data: bytes
    origin: Origin | None
    tag: Tag = ("", 0)


@frozen
class Fate:
    """What a wire does to one datagram beyond what it does to all.

    `later_ns` is jitter or being held back, the latter with `overtaken`; `damage` is the seed of
    the dice that damage it, 0 for none; `again_ns` is how much later a second copy leaves.
    """

    lost: bool = False
    later_ns: int = 0
    overtaken: bool = False
    damage: int = 0
    again_ns: int = 0


PLAIN = Fate()
LOST = Fate(lost=True)


class Socket(Protocol):
    """Where parcels arrive."""

    def arrive(self, parcel: Parcel) -> None: ...


@define
class Tally:
    """What happened to the datagrams of a network."""

    sent: int = 0
    delivered: int = 0
    lost: int = 0
    queue_full: int = 0
    too_large: int = 0
    cut: int = 0
    duplicated: int = 0
    corrupted: int = 0
    reordered: int = 0
    nowhere: int = 0


class Wire:
    """One direction between two hosts."""

    __slots__ = (
        "_burst_left",
        "_conditions",
        "_deliver",
        "_free_at",
        "_judge",
        "_last_arrival",
        "_rng",
        "_start",
        "_tally",
        "_timeline",
    )

    def __init__(
        self,
        timeline: Timeline,
        rng: Random,
        conditions: Conditions,
        tally: Tally,
        deliver: Callable[[Parcel], None],
        judge: Judge,
    ) -> None:
        self._timeline = timeline
        self._rng = rng
        self._tally = tally
        self._deliver = deliver
        self._judge = judge
        self._burst_left = 0
        self._free_at = 0
        self._last_arrival = 0
        self.conditions = conditions

    @property
    def conditions(self) -> Conditions:
        return self._conditions

    @conditions.setter
    def conditions(self, value: Conditions) -> None:
        self._conditions = value
        self._start = value.burst_start

    def carry(self, parcel: Parcel) -> None:
        """Take a datagram and let it arrive later, perhaps, perhaps changed, perhaps twice."""
        now = self._conditions
        if now.cut:
            self._tally.cut += 1
            return
        if len(parcel.data) > now.mtu:
            self._tally.too_large += 1
            return
        departs = self._departure(len(parcel.data) + HEADERS)
        if departs is None:
            self._tally.queue_full += 1
            return
        fate = self._judge(self, parcel)
        if fate.lost:
            self._tally.lost += 1
            return
        if fate.damage:
            self._tally.corrupted += 1
            parcel = damaged(parcel, Random(fate.damage))
        self._tally.reordered += fate.overtaken
        self._arrange(parcel, departs + fate.later_ns, fate.overtaken)
        if fate.again_ns:
            self._tally.duplicated += 1
            self._arrange(parcel, departs + fate.again_ns, fate.overtaken)

    def roll(self) -> Fate:
        """Let the dice decide about the next datagram, under the conditions of now."""
        now, rng = self._conditions, self._rng
        if now.loss and self._loses():
            return LOST
        damage = again = 0
        if now.corrupt and rng.random() < now.corrupt:
            damage = rng.getrandbits(32) or 1
        later, overtaken = self._delay()
        if now.duplicate and rng.random() < now.duplicate:
            again = later + rng.randrange(1, COPY_NS_MAX)
        if not (later or damage or again):
            return PLAIN
        return Fate(False, later, overtaken, damage, again)

    def _delay(self) -> tuple[int, bool]:
        """How long beyond the latency a datagram takes, and whether others may overtake it."""
        now, rng = self._conditions, self._rng
        later = rng.randrange(now.jitter_ns) if now.jitter_ns else 0
        if now.reorder and rng.random() < now.reorder:
            return later + rng.randrange(1, now.reorder_ns + 1), True
        return later, False

    def _departure(self, size: int) -> int | None:
        """When the last bit leaves the queue; None when the queue has no room."""
        rate = self._conditions.bandwidth_bps
        now = self._timeline.now
        if not rate:
            return now
        starts = max(now, self._free_at)
        if (starts - now) * rate // (8 * SECOND) + size > self._conditions.queue_bytes:
            return None
        self._free_at = starts + size * 8 * SECOND // rate
        return self._free_at

    def _loses(self) -> bool:
        if self._burst_left:
            self._burst_left -= 1
            return True
        if self._rng.random() >= self._start:
            return False
        if self._conditions.burst > 1:
            self._burst_left = self._rng.randint(1, self._conditions.burst) - 1
        return True

    def _arrange(self, parcel: Parcel, departs: int, overtaken: bool) -> None:
        arrives = departs + self._conditions.latency_ns
        if not overtaken:
            # Jitter alone keeps the order: a queue somewhere was longer for a while.
            arrives = max(arrives, self._last_arrival)
            self._last_arrival = arrives
        self._timeline.at(arrives, partial(self._deliver, parcel))


def damaged(parcel: Parcel, rng: Random) -> Parcel:
    """The parcel with some bits flipped, its end missing, or something appended."""
    data = bytearray(parcel.data)
    kind = rng.randrange(4)
    if kind == 0:
        del data[rng.randrange(len(data)) if data else 0 :]
    elif kind == 1:
        data += rng.randbytes(rng.randint(1, ADDED_MAX))
    else:
        # Half of the flips hit the header, where they do most.
        reach = min(len(data), 32) if kind == 2 else len(data)
        for _ in range(rng.randint(1, 3)):
            if reach:
                data[rng.randrange(reach)] ^= 1 << rng.randrange(8)
    changed = bytes(data)
    return Parcel(
        parcel.source,
        parcel.destination,
        changed,
        parcel.origin if changed == parcel.data else None,
        parcel.tag,
    )


Tap = Callable[[Parcel], None]
Judge = Callable[[Wire, Parcel], Fate]


def by_dice(wire: Wire, _parcel: Parcel) -> Fate:
    """How fates are decided, unless a scenario names them."""
    return wire.roll()


@define(slots=False)
class Network:
    """All wires and sockets. `default` holds for every wire that was not given its own.

    `judge` decides what becomes of each datagram.
    """

    timeline: Timeline
    rng: Random
    default: Conditions = field(factory=Conditions)
    tally: Tally = field(factory=Tally)
    taps: list[Tap] = field(factory=list)
    judge: Judge = by_dice
    _sockets: dict[Address, Socket] = field(factory=dict)
    _wires: dict[tuple[str, str], Wire] = field(factory=dict)

    def attach(self, address: Address, socket: Socket) -> None:
        """Bind `address`; several sockets may share one IP address on different ports."""
        if address in self._sockets:
            raise ValueError(f"{address} is already bound")
        self._sockets[address] = socket

    def detach(self, address: Address) -> None:
        del self._sockets[address]

    def wire(self, source: str, destination: str) -> Wire:
        """The wire from one IP address to another."""
        wire = self._wires.get((source, destination))
        if wire is None:
            parts = self.timeline, self.rng, self.default, self.tally
            wire = Wire(*parts, self._deliver, self._judge)
            self._wires[source, destination] = wire
        return wire

    def shape(self, one: str, other: str, conditions: Conditions) -> None:
        """Give both directions between two IP addresses these conditions."""
        self.wire(one, other).conditions = conditions
        self.wire(other, one).conditions = conditions

    def shape_all(self, conditions: Conditions) -> None:
        self.default = conditions
        for wire in self._wires.values():
            wire.conditions = conditions

    def send(self, parcel: Parcel) -> None:
        """Let a datagram leave its host. Taps see it as it leaves, as an eavesdropper would."""
        self.tally.sent += 1
        for tap in self.taps:
            tap(parcel)
        self.wire(parcel.source.host, parcel.destination.host).carry(parcel)

    def _judge(self, wire: Wire, parcel: Parcel) -> Fate:
        return self.judge(wire, parcel)

    def _deliver(self, parcel: Parcel) -> None:
        socket = self._sockets.get(parcel.destination)
        if socket is None:
            self.tally.nowhere += 1
            return
        self.tally.delivered += 1
        socket.arrive(parcel)
