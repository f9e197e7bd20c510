"""A network in which hosts may lie behind a NAT that forgets them, or moves to another address.

What a NAT does is said in the words of RFC 4787 (`Behaviour`); without a word it maps each inside
address to one outside address, lets everybody in, and takes another port after it forgot.

Rules: what arrives for a mapping that was forgotten, or that the NAT does not let in, is lost. The
wires that a datagram takes are those of its outside address. A host is not behind a NAT before
`rebind` was called for it.
Left to others: when a mapping is lost (`faults`), what wires do (`network`).
"""

from __future__ import annotations

from enum import Enum, unique

from attrs import define, evolve, field, frozen

from clawchat.core.credential import Address
from clawchat.drivers.simulator.network import Network, Parcel

PORTS_FROM = 20_000


@unique
class Filtering(Enum):
    """Who may send to an outside address (RFC 4787 section 5)."""

    INDEPENDENT = "everybody"
    ADDRESS = "every port of a host to which something was sent from it"
    PORT = "the addresses to which something was sent from it"


@frozen
class Behaviour:
    """`per_remote`: another outside port for each remote address (RFC 4787 section 4.1).
    `preserves`: the outside port is the inside one, also after the NAT forgot (section 4.2).
    """

    filtering: Filtering = Filtering.INDEPENDENT
    per_remote: bool = False
    preserves: bool = False


@define
class _Mapping:
    """An outside address: whose it is, and to whom was sent from it."""

    inside: Address
    asked: set[Address] = field(factory=set)
    forwarded: bool = False


@define(slots=False)
class NatNetwork(Network):
    """Every host that is behind a NAT has one of its own."""

    _nats: dict[str, tuple[str, Behaviour]] = field(factory=dict)  # by inside IP address
    _mapped: dict[tuple[Address, Address | None], Address] = field(factory=dict)
    _behind: dict[Address, _Mapping] = field(factory=dict)
    _forwards: dict[Address, Address] = field(factory=dict)
    _opened: int = 0

    def rebind(self, inside: str, outside: str, behaviour: Behaviour | None = None) -> None:
        """Forget every mapping of a host, as a NAT that restarts does; from now on `outside`."""
        known = self._nats.get(inside, ("", Behaviour()))[1]
        self._nats[inside] = outside, behaviour or known
        for key in [key for key in self._mapped if key[0].host == inside]:
            del self._behind[self._mapped.pop(key)]

    def forward(self, inside: Address) -> Address:
        """Whatever comes to that port outside goes to `inside`, as a person told the router."""
        shown = Address(self._nats[inside.host][0], inside.port)
        self._behind[shown] = _Mapping(inside, forwarded=True)
        self._forwards[inside] = shown
        return shown

    def send(self, parcel: Parcel) -> None:
        """Let a datagram leave its host, and the NAT if it is behind one."""
        super().send(self.shown(parcel))

    def shown(self, parcel: Parcel) -> Parcel:
        """As the world outside sees it; opens a mapping if that takes one."""
        nat = self._nats.get(parcel.source.host)
        if nat is not None and parcel.source not in self._behind:
            source, origin = self._shown(parcel, *nat), parcel.origin
            if origin is not None:  # for the far end the truth is what the NAT shows
                origin = evolve(origin, address=source)
            parcel = evolve(parcel, source=source, origin=origin)
        return parcel

    def _shown(self, parcel: Parcel, outside: str, behaviour: Behaviour) -> Address:
        key = parcel.source, parcel.destination if behaviour.per_remote else None
        shown = self._forwards.get(parcel.source) or self._mapped.get(key)
        if shown is None:
            shown = Address(outside, parcel.source.port)
            if not behaviour.preserves or shown in self._behind:
                self._opened += 1
                shown = Address(outside, PORTS_FROM + self._opened)
            self._mapped[key] = shown
            self._behind[shown] = _Mapping(parcel.source)
        self._behind[shown].asked.add(parcel.destination)
        return shown

    def _deliver(self, parcel: Parcel) -> None:
        mapping = self._behind.get(parcel.destination)
        if mapping is not None and self._lets_in(mapping, parcel.source):
            parcel = evolve(parcel, destination=mapping.inside)
        elif mapping is not None or parcel.destination.host in self._nats:
            self.tally.nowhere += 1
            return
        super()._deliver(parcel)

    def _lets_in(self, mapping: _Mapping, source: Address) -> bool:
        filtering = self._nats[mapping.inside.host][1].filtering
        if mapping.forwarded:
            return True
        if filtering is Filtering.PORT:
            return source in mapping.asked
        if filtering is Filtering.ADDRESS:
            return any(source.host == asked.host for asked in mapping.asked)
        return True
