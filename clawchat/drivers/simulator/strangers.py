"""Somebody on the network who has no key: sends garbage, replays, changes and splices.

Rules: a stranger sees every datagram (it taps the network) and may use any source address, its
own or a spoofed one; it never blocks or delays anything (wires do that). What it makes carries no
origin, except exact copies, which are what an attacker can at best have. When it strikes is known
in advance, and each strike has dice of its own.
Left to others: whether anybody was impressed (`invariants`).
"""

from __future__ import annotations

from functools import partial
from random import Random

from attrs import define, field, frozen

from clawchat.core.credential import Address
from clawchat.core.instant import SECOND
from clawchat.drivers.simulator.clock import Timeline
from clawchat.drivers.simulator.network import Network, Parcel

MEMORY = 400  # datagrams a stranger keeps
SIZES = (0, 1, 8, 13, 28, 29, 30, 45, 61, 512, 640, 768, 896, 1024, 1200, 1472, 9000)


@frozen
class Strike:
    """One datagram of a stranger: when, and the seed of the dice that make it."""

    at: int
    dice: int


def draw_strikes(dice: Random, rate: float, until: int) -> tuple[Strike, ...]:
    """`rate` of them in a virtual second, at any moment before `until`."""
    found, at = [], 0
    while rate:
        at += int(dice.expovariate(rate) * SECOND) + 1
        if at >= until:
            break
        found.append(Strike(at, dice.getrandbits(32)))
    return tuple(found)


@define(slots=False, eq=False)
class Stranger:
    """One attacker. `rng` decides what it remembers, the strikes' dice what it does with it."""

    timeline: Timeline
    network: Network
    rng: Random
    address: Address
    targets: list[Address]
    strikes: tuple[Strike, ...]
    recorded: list[Parcel] = field(factory=list)
    received: int = 0
    sent: int = 0

    def begin(self) -> None:
        self.network.taps.append(self._overhear)
        self.network.attach(self.address, self)
        for strike in self.strikes:
            self.timeline.at(strike.at, partial(self._strike, strike))

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

    def _strike(self, strike: Strike) -> None:
        dice = Random(strike.dice)
        self.sent += 1
        kind = dice.randrange(6)
        if kind < 2 or not self.recorded:
            self._garbage(dice)
        elif kind == 2:
            self._replay(dice, spoofed=True)
        elif kind == 3:
            self._replay(dice, spoofed=False)
        elif kind == 4:
            self._changed(dice)
        else:
            self._spliced(dice)

    def _emit(self, source: Address, target: Address, data: bytes) -> None:
        self.network.send(Parcel(source, target, data, None, ("stranger", self.sent)))

    def _garbage(self, dice: Random) -> None:
        size = dice.choice(SIZES)
        source = dice.choice([self.address, *self.targets])
        self._emit(source, dice.choice(self.targets), dice.randbytes(size))

    def _replay(self, dice: Random, *, spoofed: bool) -> None:
        """An exact copy: from the address it once came from, or from our own."""
        old = dice.choice(self.recorded)
        source = old.source if spoofed else self.address
        tag = "stranger", self.sent
        self.network.send(Parcel(source, old.destination, old.data, old.origin, tag))

    def _changed(self, dice: Random) -> None:
        old = dice.choice(self.recorded)
        if not old.data:
            return
        data = bytearray(old.data)
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        self._emit(old.source, old.destination, bytes(data))

    def _spliced(self, dice: Random) -> None:
        """The head of one datagram on the body of another: a known id, a foreign packet."""
        head, body = dice.choice(self.recorded), dice.choice(self.recorded)
        cut = dice.choice((8, 13, 16, 29, 32))
        data = head.data[:cut] + body.data[cut:]
        if data not in (head.data, body.data):
            self._emit(head.source, head.destination, data)
