"""A network in which hosts may lie behind a NAT that forgets them, or moves to another address.

Rules: each inside address has one outside address until `rebind`; what arrives for a mapping that
was forgotten is lost. The wires that a datagram takes are those of its outside address. A host is
not behind a NAT before `rebind` was called for it.
Left to others: when a mapping is lost (`faults`), what wires do (`network`).
"""

from __future__ import annotations

from attrs import define, evolve, field

from clawchat.core.credential import Address
from clawchat.drivers.simulator.network import Network, Parcel

PORTS_FROM = 20_000


@define(slots=False)
class NatNetwork(Network):
    """Every host that is behind a NAT has one of its own."""

    _nats: dict[str, str] = field(factory=dict)  # inside and outside IP address
    _mapped: dict[Address, Address] = field(factory=dict)
    _behind: dict[Address, Address] = field(factory=dict)
    _opened: int = 0

    def rebind(self, inside: str, outside: str) -> None:
        """Forget every mapping of a host, as a NAT that restarts does; from now on `outside`."""
        self._nats[inside] = outside
        for address in [known for known in self._mapped if known.host == inside]:
            del self._behind[self._mapped.pop(address)]

    def send(self, parcel: Parcel) -> None:
        """Let a datagram leave its host, and the NAT if it is behind one."""
        outside = self._nats.get(parcel.source.host)
        if outside is not None and parcel.source not in self._behind:
            source, origin = self._mapping(parcel.source, outside), parcel.origin
            if origin is not None:  # for the far end the truth is what the NAT shows
                origin = evolve(origin, address=source)
            parcel = evolve(parcel, source=source, origin=origin)
        super().send(parcel)

    def _mapping(self, inside: Address, outside: str) -> Address:
        shown = self._mapped.get(inside)
        if shown is None:
            self._opened += 1
            shown = self._mapped[inside] = Address(outside, PORTS_FROM + self._opened)
            self._behind[shown] = inside
        return shown

    def _deliver(self, parcel: Parcel) -> None:
        inside = self._behind.get(parcel.destination)
        if inside is not None:
            parcel = evolve(parcel, destination=inside)
        elif parcel.destination.host in self._nats:
            self.tally.nowhere += 1
            return
        super()._deliver(parcel)
