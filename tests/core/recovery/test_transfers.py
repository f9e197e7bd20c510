"""What recovery, pacing and the controller do to whole transfers, on the bench.

The figures are the promises of the project (issue 2); `python -m tests.core.recovery.bench` prints
many more.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from clawchat.core.instant import MILLISECOND, SECOND
from clawchat.core.recovery.bbr import Bbr, Mode
from clawchat.core.recovery.congestion import Congestion, NewReno
from clawchat.core.recovery.contents import Sent
from tests.core.recovery.bench import BULK, LIMITS, Pair, bulk_bytes, chat_latency, goodput, pair


def delivered(run: Pair) -> int:
    return sum(map(len, run.right.got.get(BULK, [])))


def share(run: Pair, mbit: float, start: int, stop: int) -> float:
    """The share of the bottleneck's goodput between two instants, in seconds."""
    run.left.bulk_left = 1 << 40
    run.left.pump()
    run.bench.run(start * SECOND)
    before = delivered(run)
    run.bench.run(stop * SECOND)
    return (delivered(run) - before) / (stop - start) / goodput(mbit)


def model(run: Pair) -> Bbr:
    controller = run.left.recovery.congestion
    assert isinstance(controller, Bbr)
    return controller


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("mbit", "rtt_ms"), [(10, 50), (50, 20), (20, 200)])
def test_five_megabytes_arrive_intact_through_bursts_of_loss(
    mbit: float, rtt_ms: float, seed: int
) -> None:
    run = pair(mbit=mbit, rtt_ms=rtt_ms, loss=0.3, burst_max=3, seed=seed)
    took = run.transfer(5_000_000, 60 * SECOND)
    assert took > 0
    assert b"".join(run.right.got[BULK]) == bulk_bytes(5_000_000)


def test_loss_that_is_not_ours_is_measured_and_made_up_for() -> None:
    run = pair(mbit=20, rtt_ms=40, loss=0.3, burst_max=3)
    assert share(run, 20, 1, 5) > 0.5
    assert 0.2 < model(run).base_loss < 0.4


def test_a_transfer_ends_when_acknowledged_and_leaves_nothing_in_flight() -> None:
    run = pair(mbit=10, rtt_ms=40, loss=0.05)
    run.transfer(300_000, 10 * SECOND)
    run.bench.run(run.bench.now + 3 * SECOND)
    assert BULK in run.left.finished
    assert run.left.recovery.in_flight == 0
    assert run.left.recovery.deadline is None


@pytest.mark.parametrize(("loss", "least"), [(0.0, 0.95), (0.01, 0.93), (0.05, 0.88)])
def test_random_loss_costs_little_more_than_what_is_lost(loss: float, least: float) -> None:
    run = pair(mbit=10, rtt_ms=60, loss=loss)
    assert share(run, 10, 1, 8) > least


@pytest.mark.parametrize("rtt_ms", [20, 40, 100])
@pytest.mark.parametrize("queue", [1, 20])
def test_chat_stays_quick_beside_a_saturating_transfer(rtt_ms: float, queue: float) -> None:
    run = pair(mbit=10, rtt_ms=rtt_ms, queue=queue)
    run.left.bulk_left = 1 << 40
    run.left.pump()
    trips = chat_latency(run, 60, SECOND // 10, SECOND // 20)
    run.bench.run(7 * SECOND)
    assert len(trips) == 60
    assert max(trips) < (2 * rtt_ms + 50) * MILLISECOND


def test_a_shallow_queue_is_still_filled() -> None:
    run = pair(mbit=20, rtt_ms=80, queue=0.1)
    assert share(run, 20, 1, 6) > 0.9


@pytest.mark.parametrize("controller", [Bbr, NewReno])
def test_data_never_leaves_beyond_the_window(
    controller: Callable[[int], Congestion], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = pair(mbit=10, rtt_ms=40, loss=0.02, controller=controller)
    send, recovery, most = run.left._send, run.left.recovery, list[int]()

    def watched(payloads: list[bytes], record: Sent) -> None:
        probing = recovery.probes > 0
        send(payloads, record)
        if record.run is not None and not probing:
            most.append(recovery.in_flight - recovery.cwnd)

    monkeypatch.setattr(run.left, "_send", watched)
    run.left.bulk_left = 1 << 40
    run.left.pump()
    run.bench.run(3 * SECOND)
    assert len(most) > 100
    assert max(most) <= 0


def test_a_fast_short_path_is_not_held_back_by_pacing() -> None:
    run = pair(mbit=800, rtt_ms=0.1, queue=100)
    took = run.transfer(4_000_000, SECOND)
    assert took < 1.5 * 4_000_000 / goodput(800) * SECOND
    assert run.left.wakes < 50


def test_a_timer_is_set_for_bursts_and_not_for_packets() -> None:
    run = pair(mbit=100, rtt_ms=20)
    run.transfer(5_000_000, 5 * SECOND)
    assert run.left.wakes < run.left.packet / 4


def test_a_late_timer_costs_no_throughput() -> None:
    run = pair(mbit=50, rtt_ms=40)
    run.left.coarse_ns = 2 * MILLISECOND
    assert share(run, 50, 1, 4) > 0.93


def test_reordering_is_not_taken_for_loss_for_long() -> None:
    run = pair(mbit=20, rtt_ms=40, queue=4, jitter_ms=10)
    assert share(run, 20, 2, 6) > 0.9
    assert run.left.recovery.packets_spurious < 60


def test_a_path_that_gets_slower_is_followed_and_its_queue_drained() -> None:
    run = pair(mbit=20, rtt_ms=40, queue=10)

    def slower() -> None:
        run.there.rate = 4_000_000

    run.bench.at(3 * SECOND, slower)
    assert share(run, 4, 5, 9) > 0.9
    run.there.queue_ns_max = 0
    run.bench.run(11 * SECOND)
    assert run.there.queue_ns_max < 40 * MILLISECOND


def test_a_path_that_gets_faster_is_followed() -> None:
    run = pair(mbit=10, rtt_ms=40, queue=4)

    def faster() -> None:
        run.there.rate = 60_000_000

    run.bench.at(2 * SECOND, faster)
    assert share(run, 60, 5, 7) > 0.9


def test_a_path_that_becomes_longer_is_noticed() -> None:
    run = pair(mbit=20, rtt_ms=20, queue=4)

    def longer() -> None:
        run.there.delay_ns = run.back.delay_ns = 60 * MILLISECOND

    run.bench.at(2 * SECOND, longer)
    assert share(run, 20, 6, 9) > 0.9


def test_the_round_trip_is_looked_at_again_when_nothing_confirms_it() -> None:
    run = pair(mbit=10, rtt_ms=40, queue=4)
    run.left.bulk_left = 1 << 40
    run.left.pump()
    seen = set[Mode]()

    def longer() -> None:  # too little to look like a queue, enough not to confirm
        run.there.delay_ns += 4 * MILLISECOND

    run.bench.at(SECOND, longer)
    for step in range(1, 270):
        run.bench.run(step * SECOND // 20)
        seen.add(model(run).mode)
    assert seen >= {Mode.CRUISE, Mode.UP, Mode.PROBE_RTT}
    assert model(run).rate > 0.9 * 10 * 125_000


def test_a_dead_time_is_survived() -> None:
    run = pair(mbit=10, rtt_ms=40)

    def dead() -> None:
        run.there.loss = run.back.loss = 0.999

    def alive() -> None:
        run.there.loss = run.back.loss = 0.0
        run.there.burst = run.back.burst = 0

    run.bench.at(SECOND, dead)
    run.bench.at(7 * SECOND, alive)
    assert share(run, 10, 11, 13) > 0.9
    assert run.left.recovery.pto_count == 0


def test_a_trickle_of_small_messages_is_never_held_back() -> None:
    run = pair(mbit=10, rtt_ms=40)
    trips = chat_latency(run, 50, 30 * MILLISECOND, MILLISECOND)
    run.bench.run(3 * SECOND)
    assert len(trips) == 50
    assert max(trips) < 45 * MILLISECOND


def test_a_small_window_of_the_peer_is_kept_to_and_kept_moving() -> None:
    limits = type(LIMITS)(40_000, 30_000, 257, 1452)
    run = pair(mbit=100, rtt_ms=20, loss=0.02, limits=limits)
    assert run.transfer(400_000, 20 * SECOND) > 0
    assert b"".join(run.right.got[BULK]) == bulk_bytes(400_000)


def test_newreno_is_there_to_compare_with() -> None:
    run = pair(mbit=10, rtt_ms=40, controller=NewReno)
    assert share(run, 10, 1, 6) > 0.9
