"""The virtual wires do what their conditions say."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from attrs import define, field

from clawchat.core.credential import Address
from clawchat.core.instant import MILLISECOND, SECOND
from clawchat.drivers.simulator.clock import Timeline
from clawchat.drivers.simulator.network import Conditions, Network, Origin, Parcel

HERE, THERE = Address("10.0.0.1", 1), Address("10.0.0.2", 2)


@define
class Ear:
    timeline: Timeline
    heard: list[tuple[int, Parcel]] = field(factory=list)

    def arrive(self, parcel: Parcel) -> None:
        self.heard.append((self.timeline.now, parcel))


def send_many(
    conditions: Conditions, count: int, size: int = 100, every_ns: int = MILLISECOND
) -> tuple[Network, list[tuple[int, Parcel]]]:
    timeline = Timeline()
    network = Network(timeline, Random(5), conditions)
    ear = Ear(timeline)
    network.attach(THERE, ear)
    for number in range(count):
        timeline.run_until(number * every_ns)
        data = number.to_bytes(4, "big") + bytes(size - 4)
        network.send(Parcel(HERE, THERE, data, Origin("here", 1, timeline.now, number, HERE)))
    timeline.run_until(timeline.now + 10 * SECOND)
    return network, ear.heard


def numbers(heard: list[tuple[int, Parcel]]) -> list[int]:
    return [int.from_bytes(parcel.data[:4], "big") for _, parcel in heard]


def test_a_perfect_wire_delivers_everything_in_order_after_its_latency() -> None:
    _, heard = send_many(Conditions(latency_ns=7 * MILLISECOND), 50)
    assert numbers(heard) == list(range(50))
    assert [at for at, _ in heard] == [(n + 7) * MILLISECOND for n in range(50)]


@pytest.mark.parametrize("burst", [1, 2, 3])
def test_the_share_lost_is_the_share_asked_for_whatever_the_bursts(burst: int) -> None:
    network, heard = send_many(Conditions(loss=0.3, burst=burst), 20_000)
    assert 0.28 < network.tally.lost / 20_000 < 0.32
    assert len(heard) + network.tally.lost == 20_000


def test_bursts_of_loss_reach_their_length() -> None:
    _, heard = send_many(Conditions(loss=0.1, burst=3), 5_000)
    arrived = numbers(heard)
    gaps = {b - a - 1 for a, b in pairwise(arrived)}
    assert {0, 1, 2, 3} <= gaps


def test_jitter_alone_keeps_the_order_and_reordering_does_not() -> None:
    _, heard = send_many(Conditions(jitter_ns=50 * MILLISECOND), 500)
    assert numbers(heard) == list(range(500))
    network, heard = send_many(Conditions(reorder=0.2), 500)
    assert numbers(heard) != list(range(500))
    assert sorted(numbers(heard)) == list(range(500))
    assert network.tally.reordered > 50


def test_duplicates_come_twice() -> None:
    network, heard = send_many(Conditions(duplicate=0.5), 400)
    assert len(heard) == 400 + network.tally.duplicated
    assert network.tally.duplicated > 100


def test_a_corrupted_datagram_has_no_origin_and_others_keep_theirs() -> None:
    network, heard = send_many(Conditions(corrupt=0.5), 400)
    assert network.tally.corrupted > 100
    for _, parcel in heard:
        if parcel.origin is not None:
            assert len(parcel.data) == 100
            assert parcel.data[:4] == parcel.origin.serial.to_bytes(4, "big")
    assert sum(parcel.origin is None for _, parcel in heard) > 100


def test_bandwidth_spaces_datagrams_and_a_full_queue_drops_the_rest() -> None:
    narrow = Conditions(latency_ns=0, bandwidth_bps=1_024_000, queue_bytes=10 * 128)
    network, heard = send_many(narrow, 20, size=100, every_ns=0)
    assert len(heard) == 10
    assert network.tally.queue_full == 10
    assert [at for at, _ in heard] == [(n + 1) * MILLISECOND for n in range(10)]


def test_a_black_hole_swallows_what_is_too_large_in_silence() -> None:
    network, heard = send_many(Conditions(mtu=1200), 3, size=1201)
    assert heard == []
    assert network.tally.too_large == 3
    _, heard = send_many(Conditions(mtu=1200), 3, size=1200)
    assert len(heard) == 3


def test_a_cut_wire_and_an_unbound_address_deliver_nothing() -> None:
    network, heard = send_many(Conditions(cut=True), 3)
    assert (heard, network.tally.cut) == ([], 3)
    network.send(Parcel(HERE, Address("10.9.9.9", 9), b"x", None))
    network.default = Conditions()
    network.send(Parcel(HERE, Address("10.9.9.8", 9), b"x", None))
    network.timeline.run_until(network.timeline.now + SECOND)
    assert network.tally.nowhere == 1


def test_the_two_directions_are_independent() -> None:
    timeline = Timeline()
    network = Network(timeline, Random(1))
    network.wire(HERE.host, THERE.host).conditions = Conditions(cut=True)
    ear = Ear(timeline)
    network.attach(HERE, ear)
    network.send(Parcel(THERE, HERE, b"x", None))
    timeline.run_until(SECOND)
    assert len(ear.heard) == 1
    assert not network.wire(THERE.host, HERE.host).conditions.cut


def test_an_address_is_bound_once() -> None:
    network = Network(Timeline(), Random(1))
    network.attach(HERE, Ear(network.timeline))
    with pytest.raises(ValueError, match="already bound"):
        network.attach(HERE, Ear(network.timeline))
    network.detach(HERE)
    network.attach(HERE, Ear(network.timeline))


def test_the_same_seed_gives_the_same_network() -> None:
    rough = Conditions(loss=0.2, burst=3, jitter_ns=1000, reorder=0.2, duplicate=0.1, corrupt=0.1)
    first, second = send_many(rough, 300)[1], send_many(rough, 300)[1]
    assert [(at, p.data) for at, p in first] == [(at, p.data) for at, p in second]
