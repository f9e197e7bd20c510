"""Somebody on the network who has no key: sends garbage, replays, changes and splices.

Rules: a stranger sees every datagram (it taps the network) and may use any source address, its
own or a spoofed one; it never blocks or delays anything (wires do that). What it makes carries no
origin, except exact copies, which are what an attacker can at best have.
Left to others: whether anybody was impressed (`invariants`).
"""

from __future__ import annotations

from random import Random

from attrs import define, field

from clawchat.core.credential import Address
from clawchat.core.instant import SECOND
from clawchat.drivers.simulator.clock import Timeline
from clawchat.drivers.simulator.network import Network, Parcel

MEMORY = 400  # datagrams a stranger keeps
SIZES = (0, 1, 8, 13, 28, 29, 30, 45, 61, 512, 640, 768, 896, 1024, 1200, 1472, 9000)


@define(slots=False, eq=False)
class Stranger:
    """One attacker. `rate` is how many datagrams it sends in a virtual second."""

    timeline: Timeline
    network: Network
    rng: Random
    address: Address
    targets: list[Address]
    rate: float
    until: int
    recorded: list[Parcel] = field(factory=list)
    received: int = 0
    sent: int = 0

    def begin(self) -> None:
        self.network.taps.append(self._overhear)
        self.network.attach(self.address, self)
        self._next()

    def arrive(self, _parcel: Parcel) -> None:
        """Somebody answered: allowed for an exact copy only, which the invariants judge."""
        self.received += 1

    def _overhear(self, parcel: Parcel) -> None:
        if parcel.origin is None or parcel.source == self.address:
            return
        if len(self.recorded) < MEMORY:
            self.recorded.append(parcel)
        else:
            self.recorded[self.rng.randrange(MEMORY)] = parcel

    def _next(self) -> None:
        pause = int(self.rng.expovariate(self.rate) * SECOND) + 1
        self.timeline.after(pause, self._strike)

    def _strike(self) -> None:
        if self.timeline.now >= self.until:
            return
        self.sent += 1
        kind = self.rng.randrange(6)
        if kind < 2 or not self.recorded:
            self._garbage()
        elif kind == 2:
            self._replay(spoofed=True)
        elif kind == 3:
            self._replay(spoofed=False)
        elif kind == 4:
            self._changed()
        else:
            self._spliced()
        self._next()

    def _emit(self, source: Address, target: Address, data: bytes) -> None:
        self.network.send(Parcel(source, target, data, None))

    def _garbage(self) -> None:
        size = self.rng.choice(SIZES)
        source = self.rng.choice([self.address, *self.targets])
        self._emit(source, self.rng.choice(self.targets), self.rng.randbytes(size))

    def _replay(self, *, spoofed: bool) -> None:
        """An exact copy: from the address it once came from, or from our own."""
        old = self.rng.choice(self.recorded)
        source = old.source if spoofed else self.address
        self.network.send(Parcel(source, old.destination, old.data, old.origin))

    def _changed(self) -> None:
        old = self.rng.choice(self.recorded)
        if not old.data:
            return
        data = bytearray(old.data)
        data[self.rng.randrange(len(data))] ^= 1 << self.rng.randrange(8)
        self._emit(old.source, old.destination, bytes(data))

    def _spliced(self) -> None:
        """The head of one datagram on the body of another: a known id, a foreign packet."""
        head, body = self.rng.choice(self.recorded), self.rng.choice(self.recorded)
        cut = self.rng.choice((8, 13, 16, 29, 32))
        data = head.data[:cut] + body.data[cut:]
        if data not in (head.data, body.data):
            self._emit(head.source, head.destination, data)
