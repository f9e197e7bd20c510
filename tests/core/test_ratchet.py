"""When keys are rotated, and that nothing is lost by it."""

from __future__ import annotations

from hashlib import shake_256
from itertools import pairwise

import pytest
from attrs import evolve

from clawchat.core.actions import Closed, KeysRotated, StreamData
from clawchat.core.config import DEFAULT_LIMITS, EPOCH_PACKETS_KEPT
from clawchat.core.crypto.packets import EPOCH_PACKETS_MAX, OVERHEAD
from clawchat.core.events import (
    Close,
    Ping,
    RotateKeys,
    SendDatagram,
    StreamClass,
    Write,
    stream_id,
)
from clawchat.core.instant import HOUR, MILLISECOND, MINUTE, SECOND, Instant
from clawchat.core.wire import frames
from clawchat.errors import CloseCode, Drop
from tests.core.pair import (
    DIALER,
    LATENCY,
    LISTENER,
    Pair,
    Parcel,
    Side,
    config_of,
    dead,
    linked_pair,
    losing,
)

BULK = stream_id(1, StreamClass.BULK, dialer=True)
SMALL = evolve(DEFAULT_LIMITS, max_datagram=1200)  # so that there are many packets


def epochs(pair: Pair) -> tuple[int, int]:
    return (
        pair.dialer.endpoint.link_stats(1).epoch,
        pair.listener.endpoint.link_stats(-1).epoch,
    )


def rotations(side: Side) -> list[Instant]:
    """When the user was told of new keys."""
    return [
        at for at, action in side.did if isinstance(getattr(action, "notice", None), KeysRotated)
    ]


# --- when -------------------------------------------------------------------------------------


def test_keys_are_rotated_right_after_the_handshake() -> None:
    pair = linked_pair()
    assert epochs(pair) == (1, 1)
    (ours,) = pair.dialer.all(KeysRotated)
    assert (ours.epoch, ours.took_ns) == (1, 4 * LATENCY)


def test_an_epoch_that_carries_nothing_of_the_application_is_not_rotated_for_two_minutes() -> None:
    pair = linked_pair()
    for token in range(20):
        pair.do(pair.dialer, Ping(1, token))
        pair.run(30 * SECOND)
    assert epochs(pair) == (1, 1)


@pytest.mark.parametrize("writer", ["dialer", "listener"])
def test_an_epoch_that_carried_data_in_either_direction_is_rotated_after_two_minutes(
    writer: str,
) -> None:
    pair = linked_pair()
    began = pair.now
    if writer == "dialer":
        pair.write(pair.dialer, b"x", link=1)
    else:
        pair.write(pair.listener, b"x", link=-1)
    pair.run(2 * MINUTE - SECOND)
    assert epochs(pair) == (1, 1)
    pair.run(30 * SECOND)  # a keepalive at the latest
    assert epochs(pair) == (2, 2)
    assert rotations(pair.dialer)[-1] - began > 2 * MINUTE - SECOND
    pair.run(30 * MINUTE)
    assert epochs(pair) == (2, 2)


def test_a_link_that_keeps_talking_rotates_every_two_minutes() -> None:
    pair = linked_pair()
    for _ in range(600):
        pair.write(pair.dialer, b"x", link=1)
        pair.run(SECOND)
    assert epochs(pair) == (5, 5)


@pytest.mark.parametrize("smaller", [0, 200, 1000])
def test_a_datagram_counts_as_data_also_one_that_fills_its_packet(smaller: int) -> None:
    pair = linked_pair(dialer=config_of("dialer", limits=SMALL))
    whole = SMALL.max_datagram - OVERHEAD - 3
    pair.do(pair.dialer, SendDatagram(1, bytes(whole - smaller)))
    pair.run(3 * MINUTE)
    assert epochs(pair) == (2, 2)


def test_an_idle_link_rotates_every_hour_give_or_take_a_tenth() -> None:
    pair = linked_pair()
    pair.run(25 * HOUR)
    times = rotations(pair.dialer)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert len(gaps) > 20
    assert min(gaps) >= HOUR * 9 // 10 - SECOND
    assert max(gaps) <= HOUR * 11 // 10 + SECOND
    assert max(gaps) - min(gaps) > 5 * MINUTE
    assert len({gap // SECOND for gap in gaps}) > 15


def test_the_dialer_rotates_when_it_has_sealed_many_packets() -> None:
    pair = linked_pair(dialer=config_of("dialer", limits=SMALL, rotate_packets=100))
    pair.write(pair.dialer, bytes(200_000), link=1)
    pair.run(SECOND)
    assert epochs(pair)[0] >= 2
    assert pair.listener.received(BULK) == bytes(200_000)


def test_a_listener_that_has_sealed_many_packets_asks_for_a_rotation() -> None:
    pair = linked_pair(listener=config_of("listener", limits=SMALL, rotate_packets=100))
    pair.write(pair.listener, bytes(1_000_000), link=-1)
    pair.run(5 * SECOND)
    assert epochs(pair)[0] >= 2
    assert epochs(pair)[0] == epochs(pair)[1]


def test_a_listener_asks_once_in_each_epoch() -> None:
    pair = linked_pair(listener=config_of("listener", rotate_packets=20))
    pair.network = dead
    for token in range(60):
        pair.do(pair.listener, Ping(-1, token))
        pair.run(50 * MILLISECOND)
    requests = [row for row in pair.listener.taken if row[2] == "RotationDue"]
    assert len(requests) == 1


@pytest.mark.parametrize("asker", ["dialer", "listener"])
def test_either_user_can_ask_for_new_keys(asker: str) -> None:
    pair = linked_pair()
    if asker == "dialer":
        pair.do(pair.dialer, RotateKeys(1))
    else:
        pair.do(pair.listener, RotateKeys(-1))
    pair.run(SECOND)
    assert epochs(pair) == (2, 2)
    assert len(pair.dialer.all(KeysRotated)) == len(pair.listener.all(KeysRotated)) == 2


def test_asking_again_while_a_rotation_is_under_way_starts_no_second_one() -> None:
    pair = linked_pair()
    for _ in range(3):
        pair.do(pair.dialer, RotateKeys(1))
        pair.do(pair.listener, RotateKeys(-1))
    pair.run(10 * MILLISECOND)
    pair.do(pair.dialer, RotateKeys(1))
    pair.run(5 * SECOND)
    assert epochs(pair) == (2, 2)


# --- nothing is lost --------------------------------------------------------------------------


def jittered(parcel: Parcel) -> tuple[Instant, ...]:
    """Between 10 and 30 ms, so that packets overtake each other; the same in every run."""
    share = shake_256(parcel.data).digest(1)[0]
    return (LATENCY + share * 20 * MILLISECOND // 255,)


def test_no_packet_is_lost_or_refused_because_of_rotations() -> None:
    pair = linked_pair()
    pair.network = jittered
    size = 0
    for _ in range(30):
        pair.write(pair.dialer, bytes(20_000), link=1)
        pair.write(pair.listener, bytes(20_000), link=-1)
        size += 20_000
        pair.do(pair.dialer, RotateKeys(1))
        pair.run(200 * MILLISECOND)
    pair.run(5 * SECOND)
    assert epochs(pair)[0] > 10
    for side in pair.sides:
        assert not side.endpoint.drops
        assert sum(len(notice.data) for notice in side.all(StreamData)) == size


def test_an_offer_or_a_reply_that_is_lost_is_sent_again() -> None:
    for victim in (LISTENER, DIALER):
        pair = linked_pair()
        lost = 0

        def first_large(parcel: Parcel, victim: object = victim) -> bool:
            nonlocal lost
            if parcel.to == victim and 1100 < len(parcel.data) <= 1300 and not lost:
                lost += 1
                return True
            return False

        pair.network = losing(first_large)
        pair.do(pair.dialer, RotateKeys(1))
        pair.run(5 * SECOND)
        assert lost == 1
        assert epochs(pair) == (2, 2)


def test_packets_of_the_old_epoch_are_read_for_three_probe_timeouts_and_then_strangers() -> None:
    pair = linked_pair()
    pair.network = dead
    pair.say(pair.dialer, frames.PING)
    early, late = pair.parcels[-1].data, b""
    pair.say(pair.dialer, frames.PING)
    late = pair.parcels[-1].data
    pair.network = lambda _parcel: (LATENCY,)
    pair.do(pair.dialer, RotateKeys(1))
    pair.run_until(lambda: len(pair.listener.all(KeysRotated)) == 2)
    wait = 3 * pair.listener.transport().recovery.pto_ns
    pair.run(wait // 2)
    pair.deliver(early, to=pair.listener, source=DIALER)
    assert not pair.listener.endpoint.drops
    pair.run(wait)
    pair.deliver(late, to=pair.listener, source=DIALER)
    assert pair.listener.endpoint.drops == {Drop.STRANGER: 1}


def test_at_most_two_epochs_are_readable_when_a_rotation_has_settled_and_then_one() -> None:
    pair = linked_pair()
    registry = pair.listener.endpoint._registry

    def readable() -> int:
        return len({route.keys.epoch for route in registry.routes.values()})

    assert readable() == 1
    pair.do(pair.dialer, RotateKeys(1))
    most = 0
    for _ in range(200):
        pair.run(MILLISECOND)
        most = max(most, readable())
    pair.run(SECOND)
    assert most == 2
    assert readable() == 1


def test_no_connection_id_survives_a_rotation() -> None:
    pair = linked_pair()
    before = {parcel.data[:8] for parcel in pair.parcels}
    pair.do(pair.dialer, RotateKeys(1))
    pair.run(SECOND)
    pair.parcels.clear()
    pair.do(pair.dialer, Ping(1, 1))
    pair.run(SECOND)
    after = {parcel.data[:8] for parcel in pair.parcels}
    assert len(after) == 2
    assert not before & after


# --- limits -----------------------------------------------------------------------------------


def exhausted(pair: Pair) -> bool:
    return [closed.code for closed in pair.dialer.closed] == [CloseCode.KEYS_EXHAUSTED]


LIMIT = EPOCH_PACKETS_KEPT + 300


def test_the_hard_limit_of_an_epoch_closes_the_link() -> None:
    pair = linked_pair(dialer=config_of("dialer", limits=SMALL, epoch_packets_max=LIMIT))
    seal = pair.dialer.transport().epochs.current.seal
    pair.write(pair.dialer, bytes(1_000_000), link=1)
    pair.run_until(lambda: exhausted(pair))
    one_batch_and_a_close = 67
    used = seal.sealed - (LIMIT - EPOCH_PACKETS_KEPT)
    assert 0 <= used <= one_batch_and_a_close
    pair.run(SECOND)
    assert pair.listener.closed == [
        Closed(CloseCode.KEYS_EXHAUSTED, "too many packets in one epoch", by_peer=True)
    ]


def test_the_hard_limit_holds_although_the_peer_asks_for_the_close_again_and_again() -> None:
    pair = linked_pair(dialer=config_of("dialer", limits=SMALL, epoch_packets_max=LIMIT))
    seal = pair.dialer.transport().epochs.current.seal
    pair.write(pair.dialer, bytes(1_000_000), link=1)
    pair.run_until(lambda: exhausted(pair))
    pair.network = dead
    for _ in range(EPOCH_PACKETS_KEPT + 100):
        pair.say(pair.listener, frames.PING)
        pair.deliver(pair.parcels[-1].data, to=pair.dialer, source=LISTENER)
    assert seal.sealed == LIMIT


def test_a_rotation_in_time_keeps_a_link_from_the_hard_limit() -> None:
    pair = linked_pair(
        dialer=config_of("dialer", limits=SMALL, epoch_packets_max=LIMIT, rotate_packets=150),
        listener=config_of("listener", epoch_packets_max=LIMIT, rotate_packets=150),
    )
    seals = [pair.dialer.transport().epochs.current.seal]
    for _ in range(20):
        pair.do(pair.dialer, Write(1, BULK, bytes(100_000)))
        pair.run(2 * SECOND)
        seals.append(pair.dialer.transport().epochs.current.seal)
    assert not pair.dialer.closed
    assert len(pair.listener.received(BULK)) == 2_000_000
    assert max(seal.sealed for seal in seals) < LIMIT - EPOCH_PACKETS_KEPT


def test_the_limits_of_a_real_endpoint_are_those_of_the_protocol() -> None:
    config = config_of("anybody")
    assert config.epoch_packets_max == EPOCH_PACKETS_MAX == 2**23
    assert config.rotate_packets == 2**22
    assert config.rotate_traffic_ns == 2 * MINUTE
    assert config.rotate_latest_ns == HOUR


def test_a_closed_link_rotates_no_more() -> None:
    pair = linked_pair()
    pair.network = dead
    pair.do(pair.dialer, Close(1))
    pair.run(2 * HOUR)
    assert pair.dialer.endpoint.links == []
    assert len(pair.dialer.all(KeysRotated)) == 1
