"""What issue 2 demands of bad networks, each as one scenario in virtual time."""

from __future__ import annotations

from functools import partial

import pytest

from clawchat.core.events import StreamClass
from clawchat.core.instant import MILLISECOND, SECOND
from clawchat.drivers.simulator.ledger import Answer, Channel
from clawchat.drivers.simulator.network import Conditions
from clawchat.drivers.simulator.workload import Deed, Talk
from tests.scenarios.pairs import Pair, make_pair

MEGABYTE = 1_000_000
ROUGH = Conditions(latency_ns=25 * MILLISECOND, loss=0.3, burst=3)


def test_five_megabytes_arrive_intact_at_30_percent_loss_both_ways_in_bursts_of_up_to_3() -> None:
    pair = make_pair("five megabytes", conditions=ROUGH)
    talk = pair.link()
    up = pair.caller.open(talk, StreamClass.BULK, 5 * MEGABYTE)
    assert pair.world.run_until(lambda: up.channel.finished, 300 * SECOND), up.channel
    assert up.channel.received == 5 * MEGABYTE  # the ledger compared every byte


def test_fifty_of_fifty_handshakes_succeed_at_30_percent_loss_both_ways() -> None:
    linked = 0
    for seed in range(50):
        pair = make_pair(f"handshake {seed}", conditions=ROUGH)
        linked += pair.world.run_until(pair.is_linked, 30 * SECOND)
    assert linked == 50


class Chatter:
    """Sends a small request every 100 ms and notes how long the answer takes."""

    def __init__(self, pair: Pair, talk: Talk, count: int) -> None:
        self.pair = pair
        self.talk = talk
        self.left = count
        self.took: list[int] = []

    def ask(self) -> None:
        answer = Answer(size=200, piece=200, every_ns=0)
        outlet = self.pair.caller.open(self.talk, StreamClass.INTERACTIVE, 100, answer)
        back = self.pair.world.ledger.channel(self.talk.hash, outlet.stream, not self.talk.dialer)
        began = self.pair.world.timeline.now
        self.talk.host.after(SECOND * 3, partial(self._note, back, began))
        self.left -= 1
        if self.left:
            self.talk.host.after(100 * MILLISECOND, self.ask)

    def _note(self, back: Channel, began: int) -> None:
        assert back.finished, "no answer within three seconds"
        self.took.append(back.last_at - began)


@pytest.mark.parametrize("bulk", [Deed.UPLOAD, Deed.DOWNLOAD])
@pytest.mark.parametrize("queue_ms", [20, 100, 400])
def test_chat_stays_quick_while_bulk_saturates_a_10_mbit_link(bulk: Deed, queue_ms: int) -> None:
    rate = 10_000_000
    one_way = 20 * MILLISECOND
    pair = make_pair(
        f"chat beside {bulk.name} {queue_ms}",
        conditions=Conditions(
            latency_ns=one_way,
            bandwidth_bps=rate,
            queue_bytes=rate // 8 * queue_ms // 1000,
        ),
    )
    talk = pair.link()
    size = 12 * MEGABYTE  # ten seconds of the link's whole capacity
    if bulk is Deed.UPLOAD:
        channel = pair.caller.open(talk, StreamClass.BULK, size).channel
    else:
        outlet = pair.caller.open(talk, StreamClass.BULK, 10, Answer(size, 65536, 0))
        channel = pair.world.ledger.channel(talk.hash, outlet.stream, not talk.dialer)
    pair.world.run(2 * SECOND)
    before = channel.received
    chatter = Chatter(pair, talk, 40)
    chatter.ask()
    pair.world.run(4 * SECOND)
    carried = (channel.received - before) * 8 // 4
    pair.world.run(4 * SECOND)
    assert len(chatter.took) == 40
    assert carried > rate * 0.7, f"the bulk stream had {carried} bit/s only"
    limit = 2 * (2 * one_way) + 50 * MILLISECOND
    slow = [took // MILLISECOND for took in chatter.took if took > limit]
    assert not slow, f"{len(slow)} of 40 took longer than {limit // MILLISECOND} ms: {slow}"


def test_a_path_that_shrinks_under_a_transfer_is_a_black_hole_that_gets_repaired() -> None:
    pair = make_pair("black hole", conditions=Conditions(latency_ns=10 * MILLISECOND))
    talk = pair.link()
    pair.rest()
    first = pair.caller.open(talk, StreamClass.BULK, MEGABYTE)
    assert pair.world.run_until(lambda: first.channel.finished, 30 * SECOND)
    assert pair.dialer.endpoint is not None
    assert pair.dialer.endpoint.link_stats(talk.link).datagram_size == 1472
    pair.shape(Conditions(latency_ns=10 * MILLISECOND, mtu=1100))
    second = pair.caller.open(talk, StreamClass.BULK, MEGABYTE)
    assert pair.world.run_until(lambda: second.channel.finished, 30 * SECOND)
    assert pair.dialer.endpoint.link_stats(talk.link).datagram_size <= 1100
    assert pair.world.network.tally.too_large > 0


def test_a_path_that_never_takes_more_than_1024_bytes_carries_everything() -> None:
    pair = make_pair("floor", conditions=Conditions(latency_ns=10 * MILLISECOND, mtu=1024))
    talk = pair.link()
    pair.caller.act(talk, Deed.DOWNLOAD)
    pair.caller.act(talk, Deed.ROTATE)
    outlet = pair.caller.open(talk, StreamClass.BULK, MEGABYTE)
    assert pair.world.run_until(lambda: outlet.channel.finished, 30 * SECOND)


def test_a_partition_of_ten_seconds_does_not_end_a_link() -> None:
    pair = make_pair("partition")
    talk = pair.link()
    outlet = pair.caller.open(talk, StreamClass.BULK, MEGABYTE)
    pair.world.run(50 * MILLISECOND)
    pair.shape(Conditions(cut=True))
    pair.world.run(10 * SECOND)
    pair.shape(Conditions())
    assert pair.world.run_until(lambda: outlet.channel.finished, 30 * SECOND)
    assert pair.linked() is talk


def test_an_idle_link_lives_for_an_hour_on_a_few_packets() -> None:
    pair = make_pair("idle")
    talk = pair.link()
    pair.rest()
    before = pair.world.network.tally.sent
    pair.world.run(3600 * SECOND)
    assert pair.linked() is talk
    assert pair.world.network.tally.sent - before < 3600 / 15 * 2 * 2 + 100


def test_a_ping_on_an_idle_link_is_answered_after_one_round_trip_at_any_time() -> None:
    pair = make_pair("pings", conditions=Conditions(latency_ns=20 * MILLISECOND))
    talk = pair.link()
    for _ in range(100):
        pair.world.run(pair.world.dice.randint(1, 3 * SECOND))
        asked = pair.world.timeline.now
        pair.caller.ping(talk)
        assert pair.world.run_until(lambda: not talk.pings, SECOND)
        assert pair.world.timeline.now - asked < 45 * MILLISECOND
