"""Flow control windows."""

from __future__ import annotations

import pytest

from clawchat.core.instant import MILLISECOND, SECOND
from clawchat.core.streams.windows import ReceiveWindow
from clawchat.errors import CloseCode, Violation

RTT = 40 * MILLISECOND


def test_a_window_takes_what_it_allows_and_not_a_byte_more() -> None:
    window = ReceiveWindow(100)
    window.receive(100)
    with pytest.raises(Violation) as caught:
        window.receive(1)
    assert caught.value.code is CloseCode.FLOW_CONTROL
    assert window.received == 100


def consumed_until_worth_telling(window: ReceiveWindow) -> int:
    """Consume byte by byte until the peer should hear of it; how many bytes that were."""
    before = window.consumed
    while not window.is_worth_telling():
        window.consume(1)
    return window.consumed - before


def test_a_window_is_worth_telling_when_half_of_it_was_consumed() -> None:
    window = ReceiveWindow(100)
    window.receive(80)
    assert consumed_until_worth_telling(window) == 50
    assert window.open() == 150
    assert consumed_until_worth_telling(window) == 50


def test_a_window_that_has_grown_is_worth_telling_when_a_quarter_of_it_was() -> None:
    window = ReceiveWindow(100)
    window.grow(200)
    assert consumed_until_worth_telling(window) == 0, "at once"
    assert window.open() == 200
    assert consumed_until_worth_telling(window) == 50
    assert window.open() == 250


def test_a_quarter_taken_within_a_round_trip_asks_for_a_larger_window() -> None:
    window = ReceiveWindow(100)
    assert not window.take(25, SECOND, RTT), "it may have come at any time before"
    assert not window.take(24, SECOND + RTT, RTT)
    assert window.take(1, SECOND + RTT, RTT)
    assert not window.take(24, SECOND + 2 * RTT, RTT), "another quarter, in a round trip of its own"
    assert window.take(1, SECOND + 2 * RTT, RTT)


def test_a_quarter_taken_in_more_than_a_round_trip_does_not() -> None:
    window = ReceiveWindow(100)
    window.take(0, SECOND, RTT)
    assert not window.take(24, SECOND + RTT, RTT)
    assert not window.take(24, SECOND + RTT + 1, RTT)


def test_what_nobody_reads_counts_for_nothing() -> None:
    window = ReceiveWindow(100)
    window.take(0, SECOND, RTT)
    window.consume(100)
    assert not window.take(24, SECOND, RTT)
    assert window.consumed == 124
