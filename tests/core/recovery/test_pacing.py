"""The pacer: a rate kept in bursts, without a timer for each packet."""

from __future__ import annotations

from clawchat.core.instant import MILLISECOND, SECOND
from clawchat.core.recovery.pacing import Pacer

PACKET = 1200


def test_a_new_pacer_lets_its_first_credit_go_at_once() -> None:
    assert Pacer(0, 12_000).room(0) == 12_000


def test_over_a_second_of_prompt_wake_ups_the_rate_is_kept() -> None:
    pacer, now, sent, wakes = Pacer(0, 0), 0, 0, 0
    pacer.configure(10_000_000, PACKET, now)
    while now < SECOND:
        now = max(now, pacer.opens_at(PACKET))
        wakes += 1
        while (room := pacer.room(now)) >= PACKET:
            pacer.spent(room // PACKET * PACKET)
            sent += room // PACKET * PACKET
    assert 0.99 < sent / 10_000_000 < 1.01
    assert wakes <= 1100  # once a millisecond, not once for each of 8,300 packets


def test_a_late_wake_up_loses_nothing_up_to_the_credit() -> None:
    pacer = Pacer(0, 0)
    pacer.configure(1_000_000_000, PACKET, 0)
    assert pacer.room(3 * MILLISECOND) == 3_000_000
    assert pacer.room(SECOND) == 4_000_000


def test_a_slow_rate_still_lets_two_packets_gather() -> None:
    pacer = Pacer(0, 0)
    pacer.configure(1000, PACKET, 0)
    assert pacer.room(10 * SECOND) == 2 * PACKET


def test_what_must_go_out_overdraws_the_credit() -> None:
    pacer = Pacer(0, 0)
    pacer.configure(1_200_000, PACKET, 0)
    pacer.spent(2 * PACKET)
    assert pacer.room(0) == -2 * PACKET
    assert pacer.opens_at(PACKET) == 3 * MILLISECOND
    assert pacer.room(3 * MILLISECOND) == PACKET


def test_a_change_of_rate_does_not_revalue_the_past() -> None:
    pacer = Pacer(0, 0)
    pacer.configure(1_000_000, PACKET, 0)
    pacer.configure(9_000_000, PACKET, 2 * MILLISECOND)
    assert pacer.room(2 * MILLISECOND) == 2000
