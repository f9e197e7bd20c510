"""The queue of unreliable datagrams."""

from __future__ import annotations

from clawchat.core.streams.datagrams import WAITING_MAX, WAITING_SIZE_MAX, Datagrams, framed_size
from clawchat.core.wire.frames import Datagram, parse_frames


def test_datagrams_leave_in_order_and_as_frames() -> None:
    queue = Datagrams()
    queue.push(b"one")
    queue.push(b"two")
    first, second = queue.next_frame(100, 1000), queue.next_frame(100, 1000)
    assert first is not None
    assert second is not None
    assert len(first) == framed_size(3)
    assert parse_frames(first + second) == [Datagram(b"one"), Datagram(b"two")]
    assert queue.next_frame(100, 1000) is None
    assert len(queue) == 0


def test_one_that_does_not_fit_here_waits_for_the_next_packet() -> None:
    queue = Datagrams()
    queue.push(bytes(100))
    assert queue.next_frame(50, 1000) is None
    assert len(queue) == 1
    assert queue.next_frame(framed_size(100), 1000) is not None


def test_one_that_no_longer_fits_any_packet_is_dropped() -> None:
    queue = Datagrams()
    queue.push(bytes(1300))
    queue.push(b"small")
    assert queue.next_frame(1100, 1100) is not None
    assert queue.dropped == 1
    assert len(queue) == 0


def test_too_many_cost_the_oldest() -> None:
    queue = Datagrams()
    for number in range(WAITING_MAX + 3):
        queue.push(bytes((number,)))
    assert len(queue) == WAITING_MAX
    assert queue.dropped == 3
    frame = queue.next_frame(100, 1000)
    assert frame is not None
    assert parse_frames(frame) == [Datagram(bytes((3,)))]


def test_too_many_bytes_cost_the_oldest() -> None:
    queue = Datagrams()
    for _ in range(5):
        queue.push(bytes(WAITING_SIZE_MAX // 4))
    assert len(queue) == 4
    assert queue.dropped == 1
