"""Which packets are acknowledged, and when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clawchat.core.instant import MILLISECOND
from clawchat.core.recovery.received import CROWDED_EVERY, RANGES_KEPT_MAX, Received
from clawchat.core.wire.frames import Ack


def test_nothing_received_is_nothing_to_tell() -> None:
    received = Received()
    assert received.ack(0) is None
    assert received.largest == -1


def test_a_single_packet_is_acknowledged_within_the_delay() -> None:
    received = Received()
    received.note(0, 0, 100, True)
    assert received.ack_at == 100 + 25 * MILLISECOND
    assert received.ack(3_000_100) == Ack(((0, 0),), 3000)
    assert received.ack_at is None


def test_a_second_packet_is_acknowledged_at_once() -> None:
    received = Received()
    received.note(0, 0, 100, True)
    received.note(1, 1, 200, True)
    assert received.ack_at == 200


def test_one_acknowledgement_covers_a_burst() -> None:
    received = Received()
    received.note(0, 63, 100, True)
    assert received.ack_at == 100
    assert received.ack(100) == Ack(((0, 63),), 0)


def test_a_gap_and_its_filling_are_told_at_once() -> None:
    received = Received()
    received.note(1, 1, 100, True)
    assert received.ack_at == 100
    assert received.ack(100) == Ack(((1, 1),), 0)
    received.note(0, 0, 200, True)
    assert received.ack_at == 200
    assert received.ack(1_000_100) == Ack(((0, 1),), 1000)  # the delay is the newest one's


def test_acknowledgements_alone_do_not_call_for_one() -> None:
    received = Received()
    received.note(0, 5, 100, False)
    received.note(9, 9, 200, False)
    assert received.ack_at is None
    assert received.ack(200) == Ack(((9, 9), (0, 5)), 0)


def test_the_earliest_reason_decides_when() -> None:
    received = Received()
    received.note(0, 0, 0, True)
    received.note(1, 1, 7 * MILLISECOND, False)
    assert received.ack_at == 25 * MILLISECOND


def test_memory_is_bounded_by_forgetting_the_oldest() -> None:
    received = Received()
    for number in range(0, 1000, 2):
        received.note(number, number, number, True)
    ack = received.ack(1000)
    assert ack is not None
    assert len(ack.ranges) == RANGES_KEPT_MAX
    assert ack.ranges[0] == (998, 998)


def test_long_acknowledgements_ask_for_one_themselves_now_and_then() -> None:
    received = Received()
    for number in range(0, 40, 2):
        received.note(number, number, 0, True)
    asked = []
    for _ in range(2 * CROWDED_EVERY):
        received.ack(0)
        asked.append(received.crowded)
    assert asked[0]
    assert sum(asked) == 2


def test_short_acknowledgements_never_ask() -> None:
    received = Received()
    received.note(0, 0, 0, True)
    received.ack(0)
    assert not received.crowded


def test_what_the_peer_knows_is_forgotten() -> None:
    received = Received()
    for number in range(0, 20, 2):
        received.note(number, number, 0, True)
    received.forget(18)
    assert received.ack(0) == Ack(((18, 18),), 0)
    assert received.largest == 18
    received.forget(19)
    assert received.ack(0) is None


@given(st.permutations(range(20)), st.sets(st.integers(0, 19)))
def test_an_acknowledgement_names_exactly_what_arrived(order: list[int], lost: set[int]) -> None:
    received = Received()
    arrived = [number for number in order if number not in lost]
    for number in arrived:
        received.note(number, number, 0, True)
    ack = received.ack(0)
    named = [] if ack is None else [n for low, high in ack.ranges for n in range(low, high + 1)]
    assert sorted(named) == sorted(arrived)
