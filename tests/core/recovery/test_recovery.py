"""Loss recovery after RFC 9002: what is acknowledged, what is lost, and when to probe."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawchat.core.instant import MILLISECOND, SECOND, Instant
from clawchat.core.recovery.congestion import INITIAL_WINDOW_PACKETS, NewReno
from clawchat.core.recovery.contents import Item, ItemKind, Run, Sent
from clawchat.core.recovery.recovery import (
    LOST_KEPT_MAX,
    PACKET_THRESHOLD,
    PROBES,
    PTO_NS_MAX,
    SAMPLE_NS_MAX,
    Outcome,
    Recovery,
)
from clawchat.errors import CloseCode, Violation

SIZE = 1200
RTT = 50 * MILLISECOND


def recovery() -> Recovery:
    return Recovery(0, SIZE, NewReno)


def send(
    end: Recovery, first: int, last: int, at: Instant, *items: Item, eliciting: bool = True
) -> Sent:
    run = None if items else Run(6, first * 1000, 1000, (last - first + 1) * 1000, False)
    record = Sent(first, last, at, SIZE, eliciting, items, run)
    end.sent(record)
    return record


def numbers(records: list[Sent]) -> list[int]:
    return [number for record in records for number in range(record.first, record.last + 1)]


def warmed_up(end: Recovery) -> Instant:
    """One packet there and back, so that the round trip is known; packet 0 is used up."""
    send(end, 0, 0, 0)
    end.acknowledged([(0, 0)], 0, RTT)
    return RTT


# --- records ----------------------------------------------------------------------------------


def test_a_cut_record_carries_the_bytes_of_its_packets() -> None:
    record = Sent(10, 13, 5, SIZE, True, (), Run(6, 7000, 1000, 3500, True))
    middle, tail = record.cut(11, 12), record.cut(13, 13)
    assert middle.run is not None
    assert tail.run is not None
    assert (middle.run.offset, middle.run.length, middle.run.fin) == (8000, 2000, False)
    assert (tail.run.offset, tail.run.length, tail.run.fin) == (10_000, 500, True)
    assert (middle.at, middle.bytes) == (5, 2 * SIZE)


# --- acknowledgements -------------------------------------------------------------------------


def test_a_whole_batch_is_acknowledged_as_the_record_it_was_sent_as() -> None:
    end = recovery()
    record = send(end, 0, 31, 0)
    outcome = end.acknowledged([(0, 31)], 0, RTT)
    assert outcome.acked == [record]
    assert outcome.rtt_sample_ns == RTT
    assert end.in_flight == 0
    assert end.deadline is None


def test_a_peer_that_slept_on_its_acknowledgement_says_nothing_of_the_path() -> None:
    end = recovery()
    now = warmed_up(end)
    before = end.rtt.pto_ns
    send(end, 1, 1, now)
    outcome = end.acknowledged([(1, 1)], 0, now + SAMPLE_NS_MAX + 1)
    assert numbers(outcome.acked) == [1]
    assert outcome.rtt_sample_ns is None
    assert end.rtt.pto_ns == before
    send(end, 2, 2, now)
    assert end.acknowledged([(2, 2)], 0, now + SAMPLE_NS_MAX).rtt_sample_ns == SAMPLE_NS_MAX


def test_an_acknowledgement_in_the_middle_cuts_a_batch() -> None:
    end = recovery()
    send(end, 0, 31, 0)
    outcome = end.acknowledged([(10, 11)], 0, RTT)
    assert numbers(outcome.acked) == [10, 11]
    assert numbers(outcome.lost) == list(range(9))  # three or more behind 11
    assert end.in_flight == 21 * SIZE


def test_an_acknowledgement_of_what_was_never_sent_is_a_violation() -> None:
    end = recovery()
    send(end, 0, 1, 0)
    with pytest.raises(Violation) as caught:
        end.acknowledged([(0, 2)], 0, RTT)
    assert caught.value.code is CloseCode.ACK


def test_an_acknowledgement_of_a_number_left_out_on_purpose_is_a_violation() -> None:
    end = recovery()
    send(end, 0, 1, 0)
    send(end, 3, 4, 0)
    send(end, 6, 6, 0)
    end.acknowledged([(3, 4), (0, 1)], 0, RTT)
    with pytest.raises(Violation) as caught:
        end.acknowledged([(0, 4)], 0, RTT)
    assert caught.value.code is CloseCode.ACK


def test_a_repeated_acknowledgement_is_no_news() -> None:
    end = recovery()
    send(end, 0, 3, 0)
    end.acknowledged([(0, 3)], 0, RTT)
    outcome = end.acknowledged([(0, 3)], 0, 2 * RTT)
    assert outcome == Outcome()


def test_only_the_newest_number_makes_a_round_trip_sample() -> None:
    end = recovery()
    send(end, 0, 0, 0)
    send(end, 1, 1, 0)
    end.acknowledged([(1, 1)], 0, RTT)
    assert end.acknowledged([(0, 1)], 0, 2 * RTT).rtt_sample_ns is None


def test_what_tells_of_our_acknowledgements_comes_back_as_acknowledged() -> None:
    end = recovery()
    told = send(end, 0, 0, 0, (ItemKind.ACKED_UP_TO, 7), eliciting=False)
    send(end, 1, 1, 0, (ItemKind.ACKED_UP_TO, 9), eliciting=False)
    send(end, 2, 2, 0)
    assert end.in_flight == SIZE
    outcome = end.acknowledged([(2, 2), (0, 0)], 0, RTT)
    assert told in outcome.acked
    assert numbers(outcome.acked) == [2, 0]
    assert end.acknowledged([(2, 2), (0, 0)], 0, RTT).acked == []


def test_acknowledgements_alone_are_neither_in_flight_nor_timed() -> None:
    end = recovery()
    for number in range(100):
        send(end, number, number, 0, (ItemKind.ACKED_UP_TO, number), eliciting=False)
    assert end.in_flight == 0
    assert end.deadline is None
    assert len(end.acknowledged([(0, 99)], 0, RTT).acked) < 100  # only the last are remembered


# --- losses -----------------------------------------------------------------------------------


def test_three_newer_packets_make_one_lost() -> None:
    end = recovery()
    now = warmed_up(end)
    send(end, 1, 4, now)
    assert end.acknowledged([(2, 3)], 0, now + RTT).lost == []
    outcome = end.acknowledged([(2, 4)], 0, now + RTT)
    assert numbers(outcome.lost) == [1]
    assert end.packets_lost == 1
    assert end.in_flight == 0


def test_a_little_over_a_round_trip_makes_one_lost() -> None:
    end = recovery()
    now = warmed_up(end)
    send(end, 1, 2, now)
    end.acknowledged([(2, 2)], 0, now + RTT)
    assert end.deadline == now + RTT * 9 // 8
    assert end.due(now + RTT).lost == []
    assert numbers(end.due(now + RTT * 9 // 8).lost) == [1]
    assert end.probes == 0


def test_an_old_acknowledgement_that_comes_late_moves_nothing_back() -> None:
    end = recovery()
    now = warmed_up(end)
    send(end, 1, 20, now)
    end.acknowledged([(15, 18)], 0, now + RTT)
    outcome = end.acknowledged([(16, 16)], 0, now + RTT)
    assert outcome == Outcome()
    assert numbers(end.acknowledged([(15, 20)], 0, now + RTT).acked) == [19, 20]


def test_a_late_acknowledgement_of_a_lost_packet_is_passed_on() -> None:
    end = recovery()
    now = warmed_up(end)
    send(end, 1, 10, now)
    assert numbers(end.acknowledged([(6, 10)], 0, now + RTT).lost) == [1, 2, 3, 4, 5]
    outcome = end.acknowledged([(6, 10), (2, 3)], 0, now + RTT)
    assert numbers(outcome.acked) == [2, 3]
    assert end.packets_spurious == 2
    assert numbers(end.acknowledged([(5, 10), (2, 3), (0, 0)], 0, now + RTT).acked) == [5]
    assert numbers(end.acknowledged([(1, 10)], 0, now + RTT).acked) == [1, 4]
    assert end.in_flight == 0


def test_reordering_that_was_taken_for_loss_makes_us_patient() -> None:
    end = recovery()
    now = warmed_up(end)
    send(end, 1, 8, now)
    end.acknowledged([(4, 8)], 0, now + RTT)
    end.acknowledged([(1, 8)], 0, now + RTT)
    send(end, 9, 16, now + RTT)
    outcome = end.acknowledged([(10, 16), (0, 8)], 0, now + 2 * RTT)
    assert outcome.lost == []


def test_memory_of_losses_is_bounded() -> None:
    end = recovery()
    now = warmed_up(end)
    last = 4 * LOST_KEPT_MAX
    for number in range(1, last + 1):
        send(end, number, number, now)
    end.acknowledged([(number, number) for number in range(last, 0, -2)], 0, now + RTT)
    outcome = end.acknowledged([(1, last)], 0, now + RTT)
    assert 0 < len(outcome.acked) <= LOST_KEPT_MAX + PACKET_THRESHOLD


def test_losing_an_mtu_probe_is_no_sign_of_congestion() -> None:
    end = recovery()
    now = warmed_up(end)
    window = end.cwnd
    send(end, 1, 1, now, (ItemKind.MTU_PROBE, 1452))
    send(end, 2, 5, now)
    outcome = end.acknowledged([(2, 5)], 0, now + RTT)
    assert outcome.lost[0].items == ((ItemKind.MTU_PROBE, 1452),)
    assert end.cwnd >= window


# --- probing ----------------------------------------------------------------------------------


def test_silence_owes_two_probes_and_doubles_the_wait() -> None:
    end = recovery()
    send(end, 0, 0, 0)
    first = end.deadline
    assert first == end.pto_ns
    assert end.due(first) == Outcome()
    assert end.probes == PROBES
    assert end.deadline == first + 2 * end.pto_ns
    send(end, 1, 1, first)
    assert end.probes == 1
    send(end, 2, 3, first)
    assert end.probes == 0


def test_waiting_early_changes_nothing() -> None:
    end = recovery()
    assert end.due(SECOND) == Outcome()
    send(end, 0, 0, SECOND)
    assert end.due(SECOND) == Outcome()
    assert end.probes == 0


def test_doubling_ends_so_that_a_path_that_comes_back_is_noticed() -> None:
    end = recovery()
    now = warmed_up(end)
    send(end, 1, 1, now)
    for _ in range(30):
        assert end.deadline is not None
        assert end.deadline - now <= PTO_NS_MAX
        now = end.deadline
        end.due(now)
    assert end.pto_count == 30


def test_probes_may_leave_although_the_window_is_full() -> None:
    end = recovery()
    send(end, 0, 9, 0)
    assert end.room(0) == 0
    assert end.deadline is not None
    end.due(end.deadline)
    assert end.room(end.deadline) == PROBES * SIZE


def test_probes_carry_the_oldest_packets_again() -> None:
    end = recovery()
    now = warmed_up(end)
    assert end.oldest(2 * SIZE) == []
    send(end, 1, 1, now)
    send(end, 2, 9, now)
    assert numbers(end.oldest(2 * SIZE)) == [1, 2]
    assert numbers(end.oldest(5 * SIZE - 1)) == [1, 2, 3, 4]
    assert numbers(end.oldest(1)) == [1], "one always"
    assert end.in_flight == 9 * SIZE


def test_a_probe_of_the_path_mtu_takes_no_place_among_what_is_sent_again() -> None:
    end = recovery()
    now = warmed_up(end)
    end.sent(Sent(1, 1, now, 2 * SIZE, items=((ItemKind.MTU_PROBE, 2 * SIZE),)))
    send(end, 2, 3, now)
    assert numbers(end.oldest(2 * SIZE)) == [2, 3]


def test_an_acknowledgement_ends_probing() -> None:
    end = recovery()
    now = warmed_up(end)
    send(end, 1, 2, now)
    assert end.deadline is not None
    end.due(end.deadline)
    end.acknowledged([(1, 1)], 0, 2 * SECOND)
    assert (end.pto_count, end.probes) == (0, 0)


def test_losing_everything_for_three_timeouts_is_persistent_congestion() -> None:
    end = recovery()
    now = warmed_up(end)
    number = 1
    for _ in range(10):
        send(end, number, number, now)
        number += 1
        now += SECOND
    send(end, number, number, now)
    end.acknowledged([(number, number)], 0, now + RTT)
    assert end.cwnd == 3 * SIZE  # the least, and one for the packet that came through


def test_losses_with_deliveries_between_them_are_not_persistent() -> None:
    end = recovery()
    now = warmed_up(end)
    for number in range(1, 12):
        send(end, number, number, now)
        now += SECOND
    send(end, 12, 12, now)
    delivered = [(number, number) for number in range(12, 0, -2)]
    end.acknowledged(delivered, 0, now + RTT)
    assert end.packets_lost == 6
    assert end.cwnd > 2 * SIZE


def test_without_a_round_trip_nothing_is_persistent() -> None:
    end = recovery()
    for number in range(6):
        send(end, number, number, number * SECOND)
    end.acknowledged([(5, 5)], 0, 6 * SECOND)
    assert end.packets_lost == 5
    assert end.cwnd > 2 * SIZE


def test_losses_from_before_the_first_sample_do_not_count_as_persistent() -> None:
    end = recovery()
    for number in range(6):
        send(end, number, number, number * SECOND)
    end.acknowledged([(0, 0)], 0, 6 * SECOND)  # the first sample comes after all were sent
    send(end, 6, 6, 7 * SECOND)
    end.acknowledged([(6, 6), (0, 0)], 0, 7 * SECOND + RTT)
    assert end.packets_lost == 3
    assert end.cwnd > 2 * SIZE


# --- the window -------------------------------------------------------------------------------


def test_the_first_flight_has_ten_packets_at_once_and_the_others_over_a_round_trip() -> None:
    end = Recovery(0, SIZE)
    end.seed_rtt(RTT)
    assert end.room(0) == 10 * SIZE
    send(end, 0, 9, 0)
    assert end.room(0) == 0
    sent, now = 10, 0
    while (opens := end.room_at) is not None:
        assert opens > now
        now = opens
        assert end.room(now) >= SIZE
        send(end, sent, sent, now)
        sent += 1
    assert sent == INITIAL_WINDOW_PACKETS
    assert RTT // 2 < now < RTT


def test_less_than_a_packet_is_no_room() -> None:
    end = recovery()
    end.sent(Sent(0, 9, 0, SIZE - 1))
    assert end.room(0) == 0


def test_pacing_says_when_it_opens() -> None:
    end = recovery()
    now = warmed_up(end)
    send(end, 1, 1, now)
    while end.room(now):
        number = end.packets_sent
        send(end, number, number, now)
    opens = end.room_at
    assert opens is not None
    assert opens > now
    assert end.room(opens) >= SIZE


def test_a_probe_for_larger_datagrams_takes_nothing_from_what_is_paced() -> None:
    """A path that does not take it does not carry it either: it would only be missed time."""
    end = recovery()
    now = warmed_up(end)
    send(end, 1, 1, now)
    room = end.room(now)
    end.sent(Sent(2, 2, now, 4 * SIZE, items=((ItemKind.MTU_PROBE, 4 * SIZE),)))
    assert end.in_flight == 5 * SIZE
    assert end.room(now) == room > 0


def test_a_path_that_is_faster_than_a_timer_is_not_paced() -> None:
    end = Recovery(0, SIZE)
    send(end, 0, 0, 0)
    end.acknowledged([(0, 0)], 0, MILLISECOND)
    assert end.room(MILLISECOND) == end.cwnd
    assert end.room_at is None


def test_a_sender_that_says_it_has_nothing_does_not_grow_its_window() -> None:
    idle, busy = recovery(), recovery()
    for end in (idle, busy):
        send(end, 0, 3, 0)
    idle.app_limited()
    for end in (idle, busy):
        end.acknowledged([(0, 3)], 0, RTT)
    assert idle.cwnd == 10 * SIZE
    assert busy.cwnd == 14 * SIZE


def test_a_sender_that_filled_its_window_was_not_held_back_by_itself() -> None:
    end = recovery()
    send(end, 0, 9, 0)
    end.app_limited()
    end.acknowledged([(0, 9)], 0, RTT)
    assert end.cwnd == 20 * SIZE


def test_a_larger_datagram_is_the_unit_from_then_on() -> None:
    end = recovery()
    end.resized(9000)
    assert end.max_datagram == 9000
    assert end.cwnd == 2 * 9000


def test_the_handshakes_round_trip_shortens_the_first_timeout() -> None:
    end = recovery()
    end.seed_rtt(RTT)
    assert end.pto_ns == 3 * RTT + 25 * MILLISECOND
    warmed_up(end)
    end.seed_rtt(SECOND)
    assert end.rtt.smoothed == RTT


def test_another_path_begins_with_a_fresh_window_and_round_trip() -> None:
    end = Recovery(0, SIZE)
    now = warmed_up(end)
    send(end, 1, 8, now)
    assert end.deadline is not None
    end.due(end.deadline)
    changed = now + SECOND
    end.path_changed(changed)
    assert (end.pto_count, end.probes) == (0, 0)
    assert end.cwnd == INITIAL_WINDOW_PACKETS * SIZE
    assert not end.rtt.sampled
    outcome = end.acknowledged([(1, 8)], 0, changed + SECOND)
    assert numbers(outcome.acked) == list(range(1, 9))
    assert outcome.rtt_sample_ns is None  # the round trip of the old path
    send(end, 9, 9, changed + SECOND)
    end.acknowledged([(9, 9)], 0, changed + SECOND + RTT)
    assert end.rtt.latest == RTT


def test_what_was_lost_on_the_old_path_takes_no_room_on_the_new_one_and_is_no_congestion() -> None:
    end = Recovery(0, SIZE)
    now = warmed_up(end)
    send(end, 1, 8, now)
    end.path_changed(now)
    assert end.in_flight == 0
    send(end, 9, 12, now)
    outcome = end.acknowledged([(9, 12)], 0, now + RTT)
    assert numbers(outcome.lost) == list(range(1, 9)), "the new path's packets overtook them"
    assert end.in_flight == 0
    assert end.cwnd >= INITIAL_WINDOW_PACKETS * SIZE


# --- against a plain model --------------------------------------------------------------------


class Naive:
    """Every packet by itself, by the letter of RFC 9002 section 6.1 (packet threshold only)."""

    def __init__(self) -> None:
        self.flight: set[int] = set()
        self.lost: set[int] = set()
        self.largest = -1

    def acknowledged(self, ranges: list[tuple[int, int]]) -> tuple[set[int], set[int]]:
        covered = {n for low, high in ranges for n in range(low, high + 1)}
        acked = covered & (self.flight | self.lost)
        self.flight -= covered
        self.lost -= covered
        self.largest = max(self.largest, ranges[0][1])
        lost = {n for n in self.flight if n <= self.largest - PACKET_THRESHOLD}
        self.flight -= lost
        self.lost |= lost
        return acked, lost


batches = st.lists(st.integers(1, 9), min_size=1, max_size=8)


@given(batches, st.data())
def test_records_of_batches_tell_the_same_as_packets_one_by_one(
    sizes: list[int], data: st.DataObject
) -> None:
    end, naive = recovery(), Naive()
    total = 0
    for size in sizes:
        send(end, total, total + size - 1, 0)
        naive.flight |= set(range(total, total + size))
        total += size
        known = sorted(data.draw(st.sets(st.integers(0, total - 1), max_size=8)), reverse=True)
        if not known:
            continue
        ranges: list[tuple[int, int]] = []
        for number in known:
            if ranges and ranges[-1][0] == number + 1:
                ranges[-1] = (number, ranges[-1][1])
            else:
                ranges.append((number, number))
        outcome = end.acknowledged(ranges, 0, RTT)
        acked, lost = naive.acknowledged(ranges)
        assert sorted(numbers(outcome.acked)) == sorted(acked)
        if end.packets_spurious:
            return  # patient now: the threshold is no longer the RFC's
        assert numbers(outcome.lost) == sorted(lost)
        assert end.in_flight == SIZE * len(naive.flight)
        for record in outcome.acked + outcome.lost:
            assert record.run is not None
            assert record.run.offset == record.first * 1000
            assert record.run.length == (record.last - record.first + 1) * 1000


# --- pacing that comes and goes ---------------------------------------------------------------


class Switched(NewReno):
    """Paces when told to, and lets anything be in flight."""

    rate = 0

    @property
    def pacing_rate(self) -> int:
        return self.rate


def test_what_left_unpaced_is_no_debt_when_pacing_begins() -> None:
    """A link in the same house is not paced; one that grew longer is, and must not stand still."""
    end = Recovery(0, SIZE, Switched)
    controller = end.congestion
    assert isinstance(controller, Switched)
    now = warmed_up(end)
    controller.window = 1 << 30
    for at in range(10_000):
        first = 1 + 64 * at
        assert end.room(now) >= 64 * SIZE
        send(end, first, first + 63, now)
        end.acknowledged([(first, first + 63)], 0, now := now + MILLISECOND)
    controller.rate = 1_000_000
    assert end.room(now) == 0
    opens = end.room_at
    assert opens is not None
    assert opens - now < SECOND // 5, "a batch is owed at most"
    assert end.room(opens) >= SIZE
