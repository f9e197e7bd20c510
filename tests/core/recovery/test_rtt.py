"""Round-trip time as in RFC 9002, section 5."""

from __future__ import annotations

from clawchat.core.instant import MILLISECOND
from clawchat.core.recovery.rtt import INITIAL_RTT_NS, MAX_ACK_DELAY_NS, TIMEOUT_NS_MAX, Rtt


def test_before_any_sample_the_timeout_comes_from_the_initial_round_trip() -> None:
    rtt = Rtt()
    assert rtt.pto_ns == 3 * INITIAL_RTT_NS + MAX_ACK_DELAY_NS


def test_the_first_sample_is_taken_as_it_is() -> None:
    rtt = Rtt()
    rtt.update(40 * MILLISECOND, 25 * MILLISECOND)
    assert (rtt.min, rtt.smoothed, rtt.variance) == (
        40 * MILLISECOND,
        40 * MILLISECOND,
        20 * MILLISECOND,
    )


def test_the_peers_delay_is_subtracted_from_later_samples() -> None:
    rtt = Rtt()
    rtt.update(40 * MILLISECOND, 0)
    rtt.update(60 * MILLISECOND, 20 * MILLISECOND)
    assert rtt.smoothed == 40 * MILLISECOND
    assert rtt.latest == 60 * MILLISECOND


def test_a_delay_that_would_go_below_the_minimum_is_not_believed() -> None:
    rtt = Rtt()
    rtt.update(40 * MILLISECOND, 0)
    rtt.update(48 * MILLISECOND, 20 * MILLISECOND)
    assert rtt.smoothed == 41 * MILLISECOND


def test_a_peer_cannot_claim_more_than_the_longest_delay() -> None:
    rtt = Rtt()
    rtt.update(40 * MILLISECOND, 0)
    rtt.update(120 * MILLISECOND, 80 * MILLISECOND)
    assert rtt.smoothed == 40 * MILLISECOND + 55 * MILLISECOND // 8


def test_the_minimum_follows_the_shortest_sample() -> None:
    rtt = Rtt()
    rtt.update(40 * MILLISECOND, 0)
    rtt.update(30 * MILLISECOND, 10 * MILLISECOND)
    assert rtt.min == 30 * MILLISECOND


def test_a_steady_round_trip_leaves_the_granularity_and_the_ack_delay_in_the_timeout() -> None:
    rtt = Rtt()
    for _ in range(200):
        rtt.update(10 * MILLISECOND, 0)
    assert abs(rtt.pto_ns - (10 + 1 + 25) * MILLISECOND) < MILLISECOND // 10


def test_late_answers_after_an_outage_make_no_timeout_of_more_than_ten_seconds() -> None:
    rtt = Rtt()
    rtt.update(20 * MILLISECOND, 0)
    for _ in range(5):
        rtt.update(9_900 * MILLISECOND, 0)
    assert rtt.pto_ns == TIMEOUT_NS_MAX
