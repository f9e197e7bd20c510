"""A network of which one host lies behind a NAT that may forget it, or move to another address.

Rules: each inside address has one outside address until `rebind`; what arrives for a mapping that
was forgotten is lost. The wires that a datagram takes are those of its outside address.
Left to others: when a mapping is lost (whoever runs the world), what wires do (`network`).
"""

from __future__ import annotations

from attrs import define, evolve, field

from clawchat.core.credential import Address
from clawchat.drivers.simulator.network import Network, Parcel

PORTS_FROM = 20_000


@define(slots=False)
class NatNetwork(Network):
    """`inside` is the IP address of the host behind the NAT, `outside` the NAT's own."""

    inside: str = "10.0.1.1"
    outside: str = "198.51.100.1"
    _mapped: dict[Address, Address] = field(factory=dict)
    _behind: dict[Address, Address] = field(factory=dict)
    _opened: int = 0

    def rebind(self, outside: str | None = None) -> None:
        """Forget every mapping, as a NAT that restarts does; perhaps with another address."""
        self._mapped.clear()
        self._behind.clear()
        self.outside = outside or self.outside

    def send(self, parcel: Parcel) -> None:
        """Let a datagram leave its host, and the NAT if it is behind it."""
        if parcel.source.host == self.inside:
            parcel = evolve(parcel, source=self._mapping(parcel.source))
        super().send(parcel)

    def _mapping(self, inside: Address) -> Address:
        outside = self._mapped.get(inside)
        if outside is None:
            self._opened += 1
            outside = Address(self.outside, PORTS_FROM + self._opened)
            self._mapped[inside] = outside
            self._behind[outside] = inside
        return outside

    def _deliver(self, parcel: Parcel) -> None:
        inside = self._behind.get(parcel.destination)
        if inside is not None:
            parcel = evolve(parcel, destination=inside)
        super()._deliver(parcel)
