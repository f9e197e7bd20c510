"""The simulated NAT: one mapping for each inside address, until it forgets them."""

from __future__ import annotations

from random import Random

from attrs import define, field

from clawchat.core.credential import Address
from clawchat.core.instant import SECOND
from clawchat.drivers.simulator.clock import Timeline
from clawchat.drivers.simulator.nat import NatNetwork
from clawchat.drivers.simulator.network import Parcel

INSIDE = Address("10.0.1.1", 40_000)
HOME, ELSEWHERE = "198.51.100.1", "203.0.113.1"
FAR = Address("10.0.0.1", 50_000)


@define
class Ear:
    """A socket that keeps what arrives."""

    heard: list[Parcel] = field(factory=list)

    def arrive(self, parcel: Parcel) -> None:
        self.heard.append(parcel)


@define
class Ends:
    """A host behind a NAT and one that is far away."""

    network: NatNetwork = field(factory=lambda: NatNetwork(Timeline(), Random(1)))
    near: Ear = field(factory=Ear)
    far: Ear = field(factory=Ear)

    def __attrs_post_init__(self) -> None:
        self.network.rebind(INSIDE.host, HOME)
        self.network.attach(INSIDE, self.near)
        self.network.attach(FAR, self.far)

    def send(self, source: Address, to: Address) -> None:
        self.network.send(Parcel(source, to, b"data", None))
        timeline = self.network.timeline
        timeline.run_until(timeline.now + SECOND)


def test_the_far_end_sees_one_outside_address_and_answers_reach_the_inside() -> None:
    ends = Ends()
    ends.send(INSIDE, FAR)
    ends.send(INSIDE, FAR)
    first, second = (parcel.source for parcel in ends.far.heard)
    assert first == second
    assert first.host == HOME
    ends.send(FAR, first)
    assert [parcel.destination for parcel in ends.near.heard] == [INSIDE]


def test_a_mapping_that_was_forgotten_leads_nowhere_and_the_next_one_is_another() -> None:
    ends = Ends()
    ends.send(INSIDE, FAR)
    before = ends.far.heard[-1].source
    ends.network.rebind(INSIDE.host, ELSEWHERE)
    ends.send(FAR, before)
    assert not ends.near.heard
    assert ends.network.tally.nowhere == 1
    ends.send(INSIDE, FAR)
    after = ends.far.heard[-1].source
    assert after.host == ELSEWHERE
    ends.send(FAR, after)
    assert len(ends.near.heard) == 1


def test_nobody_reaches_the_inside_address_from_outside_without_a_mapping() -> None:
    ends = Ends()
    ends.send(FAR, Address(HOME, 20_001))
    ends.send(FAR, INSIDE)
    assert not ends.near.heard
    assert ends.network.tally.nowhere == 2
