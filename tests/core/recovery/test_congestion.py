"""Controllers one call at a time; what they do to transfers is in test_transfers."""

from __future__ import annotations

from clawchat.core.instant import MILLISECOND, SECOND, Instant
from clawchat.core.recovery.bbr import IDLE_NS, Bbr, Mode
from clawchat.core.recovery.congestion import INITIAL_WINDOW_PACKETS, NewReno
from clawchat.core.recovery.contents import Sent
from clawchat.core.recovery.rtt import Rtt

SIZE = 1200
RTT_NS = 50 * MILLISECOND


def rtt() -> Rtt:
    known = Rtt()
    known.update(RTT_NS, 0)
    return known


def records(count: int, at: Instant = 0) -> list[Sent]:
    return [Sent(0, count - 1, at, SIZE)]


def test_newreno_doubles_in_slow_start() -> None:
    reno = NewReno(SIZE)
    reno.on_acked(records(10), 0, rtt(), RTT_NS)
    assert reno.window == 20 * SIZE
    assert reno.pacing_rate == 2 * 20 * SIZE * SECOND // RTT_NS


def test_newreno_halves_once_for_the_losses_of_a_round() -> None:
    reno = NewReno(SIZE)
    reno.on_lost(records(1, at=5), 0, 10, persistent=False)
    reno.on_lost(records(1, at=6), 0, 12, persistent=False)
    assert reno.window == 5 * SIZE
    reno.on_lost(records(1, at=11), 0, 20, persistent=False)
    assert reno.window == 5 * SIZE // 2


def test_newreno_grows_by_a_packet_a_round_after_a_loss() -> None:
    reno = NewReno(SIZE)
    reno.on_lost(records(1, at=5), 0, 10, persistent=False)
    reno.on_acked(records(5, at=9), 0, rtt(), RTT_NS)
    assert reno.window == 5 * SIZE  # sent before the loss was known
    reno.on_acked(records(5, at=11), 0, rtt(), RTT_NS)
    assert reno.window == 6 * SIZE
    reno.on_acked(records(2, at=12), 0, rtt(), RTT_NS)
    assert reno.window == 6 * SIZE
    assert reno.pacing_rate == int(1.25 * 6 * SIZE * SECOND / RTT_NS)


def test_newreno_never_goes_below_two_packets() -> None:
    reno = NewReno(SIZE)
    for at in range(0, 100, 10):
        reno.on_lost(records(1, at=at), 0, at + 1, persistent=False)
    assert reno.window == 2 * SIZE


def test_persistent_congestion_begins_newreno_again() -> None:
    reno = NewReno(SIZE)
    reno.on_lost(records(1, at=5), 0, 10, persistent=True)
    assert reno.window == 2 * SIZE
    reno.on_acked(records(2, at=4), 0, rtt(), RTT_NS)
    assert reno.window == 4 * SIZE


def test_newreno_does_not_grow_on_what_did_not_fill_its_window() -> None:
    reno = NewReno(SIZE)
    reno.on_sent(records(1)[0], 0)
    reno.on_app_limited(SIZE)
    reno.on_acked(records(1), 0, rtt(), RTT_NS)
    assert reno.window == 10 * SIZE
    reno.on_sent(records(1)[0], 0)
    reno.on_app_limited(9 * SIZE)
    reno.on_acked(records(1), 0, rtt(), RTT_NS)
    assert reno.window == 11 * SIZE


def acked(bbr: Bbr, number: int, count: int, at: Instant, now: Instant) -> None:
    record = Sent(number, number + count - 1, at, SIZE)
    bbr.on_sent(record, 0)
    bbr.on_acked([record], 0, rtt(), now)


def test_nobody_paces_before_a_rate_is_known() -> None:
    assert Bbr(SIZE).pacing_rate == 0
    assert NewReno(SIZE).pacing_rate == 0


def test_bbr_does_not_pace_what_is_faster_than_a_timer() -> None:
    bbr = Bbr(SIZE)
    acked(bbr, 0, 10, MILLISECOND, 2 * MILLISECOND)
    assert bbr.rate > 0
    assert bbr.pacing_rate == 0


def test_bbr_starts_at_nearly_three_times_the_rate_it_saw() -> None:
    bbr = Bbr(SIZE)
    acked(bbr, 0, 32, SECOND, SECOND + RTT_NS)
    assert bbr.rate == 32 * SIZE * SECOND // RTT_NS
    assert 2.7 < bbr.pacing_rate / bbr.rate < 2.8
    assert bbr.mode is Mode.STARTUP


def test_bbr_sends_its_window_in_a_round_trip_while_the_rate_lags_behind() -> None:
    bbr = Bbr(SIZE)
    acked(bbr, 0, 2, SECOND, SECOND + RTT_NS)
    assert bbr.pacing_rate == bbr.window * SECOND // RTT_NS


def test_bbr_stops_growing_when_acknowledgements_in_a_row_tell_of_a_queue() -> None:
    bbr = Bbr(SIZE)
    acked(bbr, 0, 32, SECOND, SECOND + RTT_NS)
    began = SECOND + RTT_NS
    flight = [Sent(40 * n, 40 * n + 39, began, SIZE) for n in range(1, 13)]
    for record in flight:
        bbr.on_sent(record, SIZE)
    windows = []
    for number, record in enumerate(flight):
        waited = RTT_NS if number else 0
        bbr.on_acked([record], SIZE, rtt(), began + RTT_NS + waited + number)
        windows.append(bbr.window)
    assert bbr.mode is Mode.STARTUP
    assert windows[0] < windows[3] < windows[7]
    assert windows[8:] == [windows[8]] * 4


def test_bbr_begins_again_after_a_long_silence() -> None:
    bbr = Bbr(SIZE)
    acked(bbr, 0, 10, SECOND, SECOND + RTT_NS)
    bbr.on_sent(Sent(10, 10, 2 * SECOND, SIZE), 0)
    assert bbr.rate > 0
    bbr.on_sent(Sent(11, 11, 2 * SECOND + IDLE_NS, SIZE), 0)
    assert bbr.rate == 0
    assert bbr.window == INITIAL_WINDOW_PACKETS * SIZE


def test_bbr_falls_to_its_least_window_when_nothing_came_through() -> None:
    bbr = Bbr(SIZE)
    acked(bbr, 0, 10, SECOND, SECOND + RTT_NS)
    bbr.on_lost(records(3), 0, 3 * SECOND, persistent=True)
    assert bbr.window == 4 * SIZE


def test_bbr_takes_larger_datagrams() -> None:
    bbr = Bbr(SIZE)
    bbr.resized(16384)
    assert bbr.window == 4 * 16384


def test_bbr_does_not_take_what_was_limited_by_the_application_for_the_path() -> None:
    bbr = Bbr(SIZE)
    acked(bbr, 0, 10, SECOND, SECOND + RTT_NS)
    rate = bbr.rate
    bbr.on_app_limited(0)
    for second in range(2, 9):
        bbr.on_app_limited(0)
        acked(bbr, 10 * second, 1, second * SECOND, second * SECOND + RTT_NS)
    assert bbr.rate == rate
    assert bbr.mode is Mode.STARTUP
