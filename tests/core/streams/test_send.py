"""The sending side of one stream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawchat.core.recovery.contents import ItemKind
from clawchat.core.streams.send import GATHERED_MAX, GATHERED_WRITE_MAX, UNSENT_MAX, SendStream
from clawchat.core.wire.frames import Stream, parse_frames
from clawchat.errors import BufferFull, UnknownStream

FREE = 1 << 62
ROOM = 100


def sender(
    data: bytes = b"", *, end: bool = False, limit: int = FREE, stream: int = 6
) -> SendStream:
    send = SendStream(stream, limit)
    send.write(data, end)
    return send


def run(send: SendStream, packets: int = 64, room: int = ROOM, credit: int = FREE) -> list[Stream]:
    """The frames of a run, checked against what the run says of them."""
    result = send.run(packets, room, credit)
    assert result is not None
    made, payloads = result
    frames = []
    for number, payload in enumerate(payloads):
        (frame,) = parse_frames(payload)
        assert isinstance(frame, Stream)
        assert len(payload) == room or (number == len(payloads) - 1 and len(payload) < room)
        assert frame.offset == made.offset + number * made.chunk
        assert frame.fin == (made.fin and number == len(payloads) - 1)
        frames.append(frame)
    assert sum(len(frame.data) for frame in frames) == made.length
    return frames


def body(frames: list[Stream]) -> bytes:
    return b"".join(frame.data for frame in frames)


def test_a_run_fills_its_packets_and_says_what_is_in_them() -> None:
    data = bytes(range(256)) * 20
    send = sender(data, end=True)
    frames = run(send)
    assert body(frames) == data
    assert frames[-1].fin
    assert not send.sendable(FREE)


def test_a_run_stops_after_the_packets_it_was_given() -> None:
    send = sender(bytes(5000))
    assert len(run(send, packets=3)) == 3
    assert send.next == 3 * (ROOM - 6)
    assert send.sendable(FREE)


def test_nothing_fits_into_no_room() -> None:
    send = sender(bytes(5000))
    assert send.run(3, 6, FREE) is None
    assert send.frame(6, FREE) is None
    assert send.next == 0


def test_an_end_without_bytes_is_a_packet_of_its_own() -> None:
    send = sender(b"x")
    run(send)
    assert not send.sendable(FREE)
    send.write(b"", True)
    assert send.sendable(0)
    (frame,) = run(send)
    assert (frame.offset, frame.data, frame.fin) == (1, b"", True)


@pytest.mark.parametrize("stream", [2, 6, 63 << 2, 5000 << 2, 1 << 40])
def test_packets_of_one_run_are_equally_long_whatever_the_id(stream: int) -> None:
    assert body(run(sender(bytes(5000), stream=stream))) == bytes(5000)


def test_packets_are_equally_long_across_the_offset_where_varints_grow() -> None:
    send = sender()
    send.base = send.next = send.end = (1 << 30) - 150
    send.write(bytes(300), True)
    frames = run(send)
    assert frames[0].offset == (1 << 30) - 150
    assert len(body(frames)) == 300


def test_small_writes_are_sent_together() -> None:
    send = sender()
    for _ in range(90):
        send.write(b"a", False)
    assert len(run(send)) == 1


def test_writes_of_all_sizes_come_out_in_order() -> None:
    data = bytes(range(256)) * 400
    sizes = (1, 10, 2047, 2048, 5000, 3, 30_000, GATHERED_WRITE_MAX - 1, 7)
    send, at = sender(), 0
    for size in sizes:
        send.write(data[at : at + size], False)
        at += size
    out = []
    while send.sendable(FREE):
        out += run(send, packets=7)
    assert body(out) == data[:at]


def test_many_small_writes_do_not_pile_up_in_one_piece() -> None:
    send = sender()
    for _ in range(3 * GATHERED_MAX // 1000):
        send.write(bytes(1000), False)
    assert len(send._chunks) == 2


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_what_the_writer_does_with_its_buffer_afterwards_does_not_matter(
    kind: type[bytes] | type[bytearray] | type[memoryview],
) -> None:
    data = bytearray(b"z" * 4000)
    send = sender()
    send.write(kind(data), False)
    data[:] = bytes(4000)
    assert body(run(send)) == b"z" * 4000


def test_views_of_bytes_are_kept_without_a_copy() -> None:
    data = b"z" * 4000
    send = sender()
    send.write(memoryview(data)[:3000], False)
    assert send._chunks[0].obj is data
    assert body(run(send)) == b"z" * 3000


def test_views_of_any_shape_are_the_bytes_they_show() -> None:
    data = bytes(range(200))
    send = sender()
    send.write(memoryview(data)[::2], False)
    send.write(memoryview(data).cast("I"), False)
    send.write(memoryview(data).cast("B", (20, 10)), False)
    assert body(run(send)) == data[::2] + data + data


def test_too_much_unsent_is_refused_and_changes_nothing() -> None:
    send = sender(bytes(UNSENT_MAX))
    with pytest.raises(BufferFull):
        send.write(b"x", True)
    assert not send.ended
    run(send, packets=1)
    send.write(b"x", True)


def test_nothing_can_be_written_after_the_end() -> None:
    send = sender(b"x", end=True)
    with pytest.raises(UnknownStream):
        send.write(b"", False)


# --- credit -----------------------------------------------------------------------------------


def test_the_peers_limits_are_kept() -> None:
    send = sender(bytes(1000), limit=250)
    assert len(body(run(send, credit=120))) == 120
    assert not send.sendable(0)
    assert send.starved()
    assert len(body(run(send))) == 130
    assert not send.sendable(FREE)
    assert not send.starved()
    send.limit = 400
    assert send.sendable(FREE)


def test_the_end_waits_for_the_bytes_before_it() -> None:
    send = sender(bytes(100), end=True, limit=60)
    assert not run(send)[-1].fin
    assert not send.sendable(FREE)


# --- acknowledgement and loss -----------------------------------------------------------------


def test_acknowledged_bytes_are_let_go_of() -> None:
    send = sender(bytes(4000))
    send.write(bytes(4000), True)
    run(send, packets=200)
    assert not send.acked(0, 5000, False)
    assert send.buffered == 3000
    assert len(send._chunks) == 1
    assert not send.acked(5000, 3000, False)
    assert send.buffered == 0
    assert not send._chunks
    assert send.acked(8000, 0, True)
    assert send.done


def test_acknowledgements_out_of_order_wait_for_the_ones_before() -> None:
    send = sender(bytes(1000), end=True)
    run(send)
    send.acked(300, 100, False)
    send.acked(500, 500, True)
    send.acked(400, 50, False)
    assert send.buffered == 1000
    send.acked(0, 300, False)
    assert send.buffered == 550
    send.acked(100, 100, False)
    assert send.buffered == 550
    send.acked(430, 70, False)
    assert send.delivered


def test_an_acknowledgement_may_reach_into_what_was_acknowledged_before() -> None:
    send = sender(bytes(400), end=True)
    run(send)
    send.acked(100, 100, False)
    send.acked(300, 100, True)
    assert send.acked(0, 350, False)  # a retransmission with other borders


def test_an_old_acknowledgement_changes_nothing() -> None:
    send = sender(bytes(400))
    run(send)
    send.acked(0, 200, False)
    send.acked(50, 100, False)
    assert send.buffered == 200


def test_lost_bytes_go_again_before_new_ones() -> None:
    data = bytes(range(250))
    send = sender(data)
    run(send, packets=1)
    send.lost(20, 30, False)
    (again,) = run(send, packets=1)
    assert (again.offset, again.data) == (20, data[20:50])
    (new,) = run(send, packets=1)
    assert new.offset == ROOM - 6


def test_losses_need_no_credit() -> None:
    send = sender(bytes(250), limit=100)
    run(send)
    send.lost(0, 94, False)
    assert send.sendable(0)
    assert body(run(send, credit=0)) == bytes(94)


def test_what_was_acknowledged_meanwhile_is_not_sent_again() -> None:
    send = sender(bytes(1000))
    run(send)
    send.acked(0, 100, False)
    send.acked(200, 100, False)
    send.lost(50, 300, False)
    frames = run(send, packets=1) + run(send, packets=1) + run(send, packets=1)
    assert sorted((f.offset, f.offset + len(f.data)) for f in frames) == [
        (100, 194),
        (194, 200),
        (300, 350),
    ]
    send.lost(0, 90, False)
    assert not send.sendable(FREE)


def test_a_late_acknowledgement_cancels_a_retransmission() -> None:
    send = sender(bytes(1000))
    run(send)
    send.lost(0, 94, False)
    send.acked(0, 94, False)
    assert not send.sendable(FREE)


def test_a_lost_end_is_sent_again() -> None:
    send = sender(bytes(10), end=True)
    run(send)
    send.lost(0, 10, True)
    (frame,) = run(send)
    assert frame.fin
    send.lost(10, 0, True)
    (frame,) = run(send)
    assert (frame.offset, frame.fin) == (10, True)
    send.acked(10, 0, True)
    send.lost(10, 0, True)
    assert not send.sendable(FREE)


# --- frames beside others ---------------------------------------------------------------------


def test_a_frame_beside_others_has_a_length_and_an_item() -> None:
    send = sender(b"hello", end=True)
    result = send.frame(ROOM, FREE)
    assert result is not None
    assert parse_frames(result[0] + b"\x01")[0] == Stream(6, 0, b"hello", True)
    assert result[1] == (ItemKind.STREAM, 6, 0, 5, 1)


@given(st.integers(0, 60), st.booleans(), st.sampled_from([0, 1 << 30]))
def test_a_frame_never_exceeds_its_room(room: int, end: bool, base: int) -> None:
    send = sender()
    send.base = send.next = send.end = base
    send.write(bytes(40), end)
    result = send.frame(room, FREE)
    assert result is None or 0 < len(result[0]) <= room


def test_a_bare_end_fits_where_no_byte_would() -> None:
    send = sender(b"", end=True)
    result = send.frame(7, FREE)
    assert result is not None
    assert parse_frames(result[0]) == [Stream(6, 0, b"", True)]


# --- giving up --------------------------------------------------------------------------------


def test_giving_up_forgets_everything() -> None:
    send = sender(bytes(4000), end=True)
    run(send, packets=2)
    send.lost(0, 50, False)
    send.reset(7)
    assert not send.sendable(FREE)
    assert not send.starved()
    assert (send.buffered, send.done, send.delivered) == (0, False, False)
    send.lost(50, 50, True)
    assert not send.sendable(FREE)
    send.reset_acked = True
    assert send.done
