"""The receiving side of one stream: bytes in order, from frames in any order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawchat.core.streams.receive import PIECE_JOIN_MAX, PIECES_FREE, ReceiveStream
from clawchat.errors import CloseCode, Violation

DATA = bytes(range(256)) * 4


def taken(receive: ReceiveStream, start: int, stop: int) -> bytes:
    return b"".join(receive.take(start, DATA[start:stop]))


def test_bytes_in_order_are_handed_on_as_they_came() -> None:
    receive, data = ReceiveStream(1 << 20), bytes(100)
    assert receive.take(0, data)[0] is data


def test_a_gap_holds_back_what_follows() -> None:
    receive = ReceiveStream(1 << 20)
    assert taken(receive, 10, 20) == b""
    assert taken(receive, 30, 40) == b""
    assert taken(receive, 0, 10) == DATA[:20]
    assert taken(receive, 20, 30) == DATA[20:40]


def test_overlaps_are_handed_on_once() -> None:
    receive = ReceiveStream(1 << 20)
    taken(receive, 20, 40)
    taken(receive, 10, 30)
    taken(receive, 60, 70)
    taken(receive, 15, 65)
    assert taken(receive, 0, 12) == DATA[:70]
    assert taken(receive, 50, 80) == DATA[70:80]
    assert taken(receive, 0, 80) == b""
    taken(receive, 90, 100)
    taken(receive, 110, 120)
    assert taken(receive, 80, 115) == DATA[80:120]


@given(
    st.lists(
        st.tuples(st.integers(0, 1000), st.integers(1, 60)).map(
            lambda span: (span[0], min(len(DATA), span[0] + span[1]))
        ),
        max_size=60,
    )
)
def test_any_frames_in_any_order_give_the_bytes_in_order(spans: list[tuple[int, int]]) -> None:
    receive, have, got = ReceiveStream(1 << 20), set[int](), b""
    for start, stop in spans:
        got += taken(receive, start, stop)
        have |= set(range(start, stop))
        known = next(number for number in range(len(DATA) + 1) if number not in have)
        assert got == DATA[:known]
        assert receive._kept == sum(map(len, receive._pieces))
        assert receive._kept == sum(1 for number in have if number >= known)


def test_a_stream_torn_into_tiny_pieces_is_refused() -> None:
    receive = ReceiveStream(1 << 20)
    for number in range(1, PIECES_FREE + 2):
        receive.take(2 * number, b"x")
    with pytest.raises(Violation) as caught:
        receive.take(2 * PIECES_FREE + 4, b"x")
    assert caught.value.code is CloseCode.LIMIT


def test_full_packets_may_leave_as_many_gaps_as_they_like() -> None:
    receive = ReceiveStream(1 << 30)
    for number in range(1, 5 * PIECES_FREE):
        receive.take(2400 * number, bytes(1200))
    assert len(receive._pieces) == 5 * PIECES_FREE - 1


def test_small_pieces_that_adjoin_count_as_one() -> None:
    receive = ReceiveStream(1 << 20)
    for number in range(1, 4 * PIECES_FREE):
        receive.take(number, b"x")
    assert len(receive._pieces) <= 1 + 4 * PIECES_FREE // (PIECE_JOIN_MAX // 4)
    assert b"".join(receive.take(0, b"x")) == b"x" * 4 * PIECES_FREE


def test_discarding_lets_go_of_what_came_early() -> None:
    receive = ReceiveStream(1 << 20)
    taken(receive, 10, 20)
    receive.discard()
    assert taken(receive, 0, 10) == DATA[:10]


def test_bytes_beyond_the_window_are_a_violation() -> None:
    receive = ReceiveStream(100)
    assert receive.check(100, False) == 100
    with pytest.raises(Violation) as caught:
        receive.check(101, False)
    assert caught.value.code is CloseCode.FLOW_CONTROL


@pytest.mark.parametrize(("stop", "fin"), [(51, False), (51, True), (49, True)])
def test_an_end_that_moves_is_a_violation(stop: int, fin: bool) -> None:
    receive = ReceiveStream(100)
    receive.final = receive.window.received = 50
    assert receive.check(50, True) == 0
    assert receive.check(49, False) == 0
    with pytest.raises(Violation) as caught:
        receive.check(stop, fin)
    assert caught.value.code is CloseCode.FINAL_SIZE


def test_an_end_before_bytes_already_seen_is_a_violation() -> None:
    receive = ReceiveStream(100)
    receive.window.receive(50)
    with pytest.raises(Violation) as caught:
        receive.check(49, True)
    assert caught.value.code is CloseCode.FINAL_SIZE


def test_a_side_is_done_when_all_of_it_was_consumed() -> None:
    receive = ReceiveStream(100)
    receive.window.receive(10)
    assert not receive.done
    receive.final = 10
    assert not receive.done
    receive.window.consume(10)
    assert receive.done
