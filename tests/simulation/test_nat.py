"""The simulated NAT: one mapping for each inside address, until it forgets them."""

from __future__ import annotations

from random import Random

import pytest
from attrs import define, field

from clawchat.core.credential import Address
from clawchat.core.instant import SECOND
from clawchat.drivers.simulator.clock import Timeline
from clawchat.drivers.simulator.nat import Behaviour, Filtering, NatNetwork
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


@pytest.mark.parametrize(
    ("filtering", "from_the_same_host", "from_elsewhere"),
    [
        (Filtering.INDEPENDENT, 1, 1),
        (Filtering.ADDRESS, 1, 0),
        (Filtering.PORT, 0, 0),
    ],
)
def test_a_nat_lets_in_whom_its_filtering_names(
    filtering: Filtering, from_the_same_host: int, from_elsewhere: int
) -> None:
    ends = Ends()
    ends.network.rebind(INSIDE.host, HOME, Behaviour(filtering))
    ends.send(INSIDE, FAR)
    shown = ends.far.heard[-1].source
    ends.send(Address(FAR.host, 1), shown)
    assert len(ends.near.heard) == from_the_same_host
    ends.near.heard.clear()
    ends.send(Address("192.0.2.7", FAR.port), shown)
    assert len(ends.near.heard) == from_elsewhere
    ends.near.heard.clear()
    ends.send(FAR, shown)
    assert len(ends.near.heard) == 1, "the one that was asked always"


def test_a_nat_may_show_another_port_to_each_remote_address() -> None:
    ends = Ends()
    ends.network.rebind(INSIDE.host, HOME, Behaviour(per_remote=True))
    other = Address(FAR.host, 1)
    ends.network.attach(other, ends.far)
    ends.send(INSIDE, FAR)
    ends.send(INSIDE, other)
    ends.send(INSIDE, FAR)
    first, second, third = (parcel.source.port for parcel in ends.far.heard)
    assert first == third != second


def test_a_nat_that_preserves_ports_shows_the_same_address_after_it_forgot() -> None:
    ends = Ends()
    ends.network.rebind(INSIDE.host, HOME, Behaviour(Filtering.PORT, preserves=True))
    ends.send(INSIDE, FAR)
    shown = ends.far.heard[-1].source
    assert shown == Address(HOME, INSIDE.port)
    ends.network.rebind(INSIDE.host, HOME)
    ends.send(FAR, shown)
    assert not ends.near.heard, "it forgot, so nobody is let in"
    ends.send(INSIDE, FAR)
    ends.send(FAR, shown)
    assert len(ends.near.heard) == 1
