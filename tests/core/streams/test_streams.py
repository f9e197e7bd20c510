"""All streams of a link: rules for the application, rules for the peer, and what goes out."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawchat.core.actions import (
    Notice,
    StreamData,
    StreamDrained,
    StreamOpened,
    StreamReset,
    StreamsGranted,
    StreamStopped,
)
from clawchat.core.events import CONTROL_STREAM, StreamClass, stream_id
from clawchat.core.instant import MILLISECOND, SECOND, Instant
from clawchat.core.recovery.contents import Item, ItemKind, Run
from clawchat.core.streams.send import KEPT_MAX
from clawchat.core.streams.streams import CONTROL_WINDOW, KEPT_FREE, KEPT_LINK_MAX, Streams
from clawchat.core.streams.windows import NO_GROWTH, Growth
from clawchat.core.wire import frames
from clawchat.core.wire.parameters import Limits
from clawchat.errors import (
    BufferFull,
    CloseCode,
    LocalError,
    StreamLimit,
    UnknownStream,
    Violation,
)

LIMITS = Limits(10_000, 4000, 5, 1452)
ROOM = 1000
NOW, RTT = SECOND, 100 * MILLISECOND  # by which nothing of what is taken here was taken fast
CHAT = stream_id(1, StreamClass.INTERACTIVE, dialer=True)
BULK = stream_id(2, StreamClass.BULK, dialer=True)
THEIRS = stream_id(1, StreamClass.INTERACTIVE, dialer=False)


def streams(local: Limits = LIMITS, peer: Limits = LIMITS, growth: Growth = NO_GROWTH) -> Streams:
    return Streams(True, local, peer, growth)


def notices(end: Streams) -> list[Notice]:
    taken = list(end.notices)
    end.notices.clear()
    return taken


def control(end: Streams, room: int = ROOM) -> list[frames.Frame]:
    return [frames.parse_frames(frame)[0] for frame, _ in end.control(room)]


def sent(end: Streams, packets: int = 64, room: int = ROOM) -> list[frames.Stream]:
    """Everything that may leave now."""
    out = []
    while (result := end.next_run(packets, room)) is not None:
        for payload in result[1]:
            (frame,) = frames.parse_frames(payload)
            assert isinstance(frame, frames.Stream)
            out.append(frame)
    return out


def violation(call: object, *arguments: object) -> CloseCode:
    with pytest.raises(Violation) as caught:
        call(*arguments)  # type: ignore[operator]
    return caught.value.code


# --- opening ----------------------------------------------------------------------------------


def test_the_first_write_opens_a_stream() -> None:
    end = streams()
    assert not end.pending()
    end.write(CHAT, b"hello", False)
    assert end.pending()
    assert len(end) == 1
    assert sent(end) == [frames.Stream(CHAT, 0, b"hello", False)]
    assert not end.pending()


@pytest.mark.parametrize("stream", [1, 2, 3, THEIRS])
def test_an_id_that_is_not_ours_cannot_be_opened(stream: int) -> None:
    with pytest.raises(UnknownStream):
        streams().write(stream, b"x")


def test_no_more_streams_are_opened_than_the_peer_granted() -> None:
    end = streams()
    beyond = stream_id(5, StreamClass.BULK, dialer=True)
    with pytest.raises(StreamLimit):
        end.write(beyond, b"x")
    end.on_max_streams(6)
    end.on_max_streams(4)
    assert notices(end) == [StreamsGranted(6)]
    end.write(beyond, b"x")


def test_a_sequence_number_has_one_class() -> None:
    end = streams()
    end.write(CHAT, b"x")
    with pytest.raises(UnknownStream):
        end.write(CHAT ^ 2, b"x")
    end.on_stream(THEIRS, 0, b"x", False)
    assert violation(end.on_stream, THEIRS ^ 2, 0, b"x", False) is CloseCode.STREAM_STATE


def test_the_peers_first_frame_opens_a_stream() -> None:
    end = streams()
    end.on_stream(THEIRS, 0, b"hello", False)
    assert notices(end) == [StreamOpened(THEIRS), StreamData(THEIRS, b"hello", False)]


@pytest.mark.parametrize("stream", [1, 2, 3, CHAT])
def test_a_frame_for_a_stream_that_cannot_be_the_peers_is_a_violation(stream: int) -> None:
    assert violation(streams().on_stream, stream, 0, b"x", False) is CloseCode.STREAM_STATE
    assert violation(streams().on_stop, stream, 0) is CloseCode.STREAM_STATE
    assert violation(streams().on_reset, stream, 0, 0) is CloseCode.STREAM_STATE
    assert violation(streams().on_max_stream, stream, 0) is CloseCode.STREAM_STATE


def test_more_streams_than_were_granted_are_a_violation() -> None:
    beyond = stream_id(5, StreamClass.INTERACTIVE, dialer=False)
    assert violation(streams().on_stream, beyond, 0, b"x", False) is CloseCode.STREAM_LIMIT


# --- receiving --------------------------------------------------------------------------------


def test_packets_in_order_become_one_notice() -> None:
    end = streams()
    for number in range(4):
        end.on_stream(THEIRS, 5 * number, b"%05d" % number, False)
    assert notices(end) == [
        StreamOpened(THEIRS),
        StreamData(THEIRS, b"00000000010000200003", False),
    ]


def test_the_order_of_notices_is_the_order_of_arrival() -> None:
    end = streams()
    other = stream_id(2, StreamClass.BULK, dialer=False)
    end.on_stream(THEIRS, 0, b"a", False)
    end.on_stream(other, 0, b"b", False)
    end.on_stream(THEIRS, 1, b"c", False)
    end.on_stream(other, 1, b"d", True)
    assert notices(end) == [
        StreamOpened(THEIRS),
        StreamData(THEIRS, b"a", False),
        StreamOpened(other),
        StreamData(other, b"b", False),
        StreamData(THEIRS, b"c", False),
        StreamData(other, b"d", True),
    ]


def test_two_streams_that_alternate_keep_their_bytes_apart() -> None:
    end = streams()
    other = stream_id(2, StreamClass.BULK, dialer=False)
    for number in range(3):
        end.on_stream(THEIRS, number, b"a", False)
        end.on_stream(other, number, b"b", False)
    data = [n for n in notices(end) if isinstance(n, StreamData)]
    assert b"".join(n.data for n in data if n.stream == THEIRS) == b"aaa"
    assert b"".join(n.data for n in data if n.stream == other) == b"bbb"


def test_the_end_is_told_once_with_the_last_bytes() -> None:
    end = streams()
    end.on_stream(THEIRS, 3, b"def", True)
    end.on_stream(THEIRS, 0, b"abc", False)
    end.on_stream(THEIRS, 3, b"def", True)
    assert notices(end) == [
        StreamOpened(THEIRS),
        StreamData(THEIRS, b"abc", False),
        StreamData(THEIRS, b"def", True),
    ]


def test_an_end_that_comes_alone_is_told_alone() -> None:
    end = streams()
    end.on_stream(THEIRS, 0, b"abc", False)
    end.on_stream(THEIRS, 3, b"", True)
    end.on_stream(THEIRS, 3, b"", True)
    assert notices(end)[1:] == [StreamData(THEIRS, b"abc", False), StreamData(THEIRS, b"", True)]


def test_an_end_that_comes_early_waits_for_the_bytes() -> None:
    end = streams()
    end.on_stream(THEIRS, 3, b"", True)
    assert notices(end) == [StreamOpened(THEIRS)]
    end.on_stream(THEIRS, 0, b"abc", False)
    assert notices(end) == [StreamData(THEIRS, b"abc", True)]


def test_bytes_beyond_the_streams_window_are_a_violation() -> None:
    end = streams()
    end.on_stream(THEIRS, 0, bytes(4000), False)
    assert violation(end.on_stream, THEIRS, 4000, b"x", False) is CloseCode.FLOW_CONTROL


def test_bytes_beyond_the_links_window_are_a_violation() -> None:
    end = streams()
    for sequence in (1, 2):
        stream = stream_id(sequence, StreamClass.BULK, dialer=False)
        end.on_stream(stream, 0, bytes(4000), False)
    third = stream_id(3, StreamClass.BULK, dialer=False)
    end.on_stream(third, 0, bytes(2000), False)
    assert violation(end.on_stream, third, 2000, b"x", False) is CloseCode.FLOW_CONTROL
    assert violation(end.on_reset, third, 0, 2001) is CloseCode.FLOW_CONTROL


def test_bytes_that_came_twice_count_once_for_the_windows() -> None:
    end = streams()
    for _ in range(10):
        end.on_stream(THEIRS, 1, bytes(3000), False)
        end.on_stream(THEIRS, 0, bytes(3000), False)
    assert end._window.received == 3001


def test_windows_open_when_the_application_consumes() -> None:
    end = streams()
    end.on_stream(THEIRS, 0, bytes(4000), False)
    assert control(end) == []
    end.consumed(THEIRS, 1999, NOW, RTT)
    assert control(end) == []
    end.consumed(THEIRS, 1, NOW, RTT)
    assert control(end) == [frames.MaxStream(THEIRS, 6000)]
    end.consumed(THEIRS, 2000, NOW, RTT)
    end.on_stream(THEIRS, 4000, bytes(2000), False)
    end.consumed(THEIRS, 2000, NOW, RTT)
    assert control(end) == [frames.MaxStream(THEIRS, 10_000), frames.MaxData(16_000)]


def test_a_stream_that_will_bring_no_more_needs_no_window() -> None:
    end = streams()
    end.on_stream(THEIRS, 0, bytes(3000), True)
    end.consumed(THEIRS, 3000, NOW, RTT)
    assert control(end) == []


def test_a_window_frame_that_is_due_is_left_out_when_the_end_came_meanwhile() -> None:
    end = streams()
    end.on_stream(THEIRS, 0, bytes(3000), False)
    end.consumed(THEIRS, 3000, NOW, RTT)
    end.on_stream(THEIRS, 3000, b"", True)
    assert control(end) == []
    assert not end.pending()


def test_more_than_was_delivered_cannot_be_consumed() -> None:
    end = streams()
    end.on_stream(THEIRS, 0, b"abc", False)
    with pytest.raises(LocalError):
        end.consumed(THEIRS, 4, NOW, RTT)
    with pytest.raises(UnknownStream):
        end.consumed(CHAT, 1, NOW, RTT)


def test_frames_that_are_due_wait_for_a_packet_with_room() -> None:
    end = streams()
    end.on_stream(THEIRS, 0, bytes(3000), False)
    end.consumed(THEIRS, 3000, NOW, RTT)
    assert control(end, room=3) == []
    assert end.control_due
    assert end.pending()
    assert control(end) == [frames.MaxStream(THEIRS, 7000)]
    assert not end.control_due


# --- resetting --------------------------------------------------------------------------------


def test_a_reset_discards_and_tells_the_final_size() -> None:
    end = streams()
    end.write(CHAT, bytes(3000))
    end.next_run(1, ROOM)
    end.reset(CHAT, 7)
    assert control(end) == [frames.Reset(CHAT, 7, 994)]
    assert sent(end) == []
    with pytest.raises(UnknownStream):
        end.write(CHAT, b"x")
    with pytest.raises(UnknownStream):
        end.reset(CHAT, 7)
    with pytest.raises(UnknownStream):
        end.reset(BULK, 7)


def test_a_peers_reset_ends_the_stream_at_once() -> None:
    end = streams()
    end.on_stream(THEIRS, 0, b"abc", False)
    end.on_stream(THEIRS, 10, b"early", False)
    end.on_reset(THEIRS, 9, 20)
    end.on_reset(THEIRS, 9, 20)
    assert notices(end)[1:] == [StreamData(THEIRS, b"abc", False), StreamReset(THEIRS, 9)]
    assert end._window.consumed == end._window.received == 20
    end.consumed(THEIRS, 3, NOW, RTT)  # the application may not know yet
    end.on_stream(THEIRS, 3, b"late", False)
    assert notices(end) == []


def test_a_reset_opens_a_stream_whose_bytes_were_lost() -> None:
    end = streams()
    end.on_reset(THEIRS, 9, 20)
    assert notices(end) == [StreamOpened(THEIRS), StreamReset(THEIRS, 9)]


def test_a_reset_after_everything_arrived_says_nothing_new() -> None:
    end = streams()
    end.on_stream(THEIRS, 0, b"abc", True)
    notices(end)
    end.on_reset(THEIRS, 9, 3)
    assert notices(end) == []


def test_a_reset_that_moves_the_end_is_a_violation() -> None:
    end = streams()
    end.on_stream(THEIRS, 0, b"abc", False)
    assert violation(end.on_reset, THEIRS, 9, 2) is CloseCode.FINAL_SIZE
    end.on_stream(THEIRS, 3, b"", True)
    assert violation(end.on_reset, THEIRS, 9, 4) is CloseCode.FINAL_SIZE


# --- stopping ---------------------------------------------------------------------------------


def test_a_stopped_stream_is_discarded_and_opens_the_links_window() -> None:
    end = streams()
    end.on_stream(THEIRS, 0, bytes(3000), False)
    end.consumed(THEIRS, 1000, NOW, RTT)
    notices(end)
    end.stop(THEIRS, 4)
    assert control(end) == [frames.Stop(THEIRS, 4)]
    end.on_stream(THEIRS, 3000, bytes(500), False)
    assert notices(end) == []
    assert end._window.consumed == end._window.received == 3500
    end.consumed(THEIRS, 2000, NOW, RTT)
    assert end._window.consumed == 3500
    with pytest.raises(UnknownStream):
        end.stop(THEIRS, 4)


@pytest.mark.parametrize("reset", [False, True])
def test_a_stopped_stream_is_over_when_its_end_is_known(reset: bool) -> None:
    end = streams()
    end.on_stream(THEIRS, 0, bytes(100), False)
    end.write(THEIRS, b"", True)
    sent(end)
    end.acked((ItemKind.STREAM, THEIRS, 0, 0, 1))
    end.stop(THEIRS, 4)
    control(end)
    notices(end)
    if reset:
        end.on_reset(THEIRS, 4, 300)
    else:
        end.on_stream(THEIRS, 200, bytes(100), True)
    assert notices(end) == []
    assert len(end) == 0
    assert end._window.consumed == 300


def test_stopping_after_the_end_arrived_needs_no_frame() -> None:
    end = streams()
    end.on_stream(THEIRS, 0, b"abc", True)
    end.stop(THEIRS, 4)
    assert control(end) == []
    with pytest.raises(UnknownStream):
        end.stop(THEIRS, 4)


def test_a_stop_that_is_due_is_left_out_when_the_end_came_meanwhile() -> None:
    end = streams()
    end.on_stream(THEIRS, 0, b"abc", False)
    end.stop(THEIRS, 4)
    end.on_stream(THEIRS, 3, b"", True)
    assert control(end) == []


def test_a_peers_stop_makes_us_give_up_and_tells_the_application() -> None:
    end = streams()
    end.write(CHAT, bytes(3000))
    end.on_stop(CHAT, 5)
    end.on_stop(CHAT, 5)
    assert notices(end) == [StreamStopped(CHAT, 5)]
    assert control(end) == [frames.Reset(CHAT, 5, 0)]
    with pytest.raises(UnknownStream):
        end.write(CHAT, b"x")


# --- finishing --------------------------------------------------------------------------------


def finish(end: Streams, stream: int) -> None:
    """Run a stream of the peer's to its end on both sides."""
    end.on_stream(stream, 0, b"request", True)
    end.consumed(stream, 7, NOW, RTT)
    end.write(stream, b"answer", True)
    sent(end)
    end.acked((ItemKind.STREAM, stream, 0, 6, 1))


def test_a_finished_stream_is_forgotten_and_never_opened_again() -> None:
    end = streams()
    finish(end, THEIRS)
    assert len(end) == 0
    assert notices(end)[-1] == StreamDrained(THEIRS, 0, True)
    end.on_stream(THEIRS, 0, b"request", True)
    end.on_reset(THEIRS, 0, 7)
    end.on_stop(THEIRS, 0)
    end.on_max_stream(THEIRS, 1 << 20)
    end.consumed(THEIRS, 7, NOW, RTT)
    end.acked((ItemKind.STREAM, THEIRS, 0, 6, 1))
    end.lost((ItemKind.STREAM, THEIRS, 0, 6, 1))
    end.acked((ItemKind.RESET, THEIRS))
    assert notices(end) == []
    assert not end.pending()
    with pytest.raises(UnknownStream):
        end.write(THEIRS, b"x")
    with pytest.raises(UnknownStream):
        end.reset(THEIRS, 0)


def test_a_finished_stream_of_ours_cannot_be_used_again() -> None:
    end = streams()
    end.write(CHAT, b"question", True)
    sent(end)
    end.acked((ItemKind.STREAM, CHAT, 0, 8, 1))
    end.on_stream(CHAT, 0, b"", True)
    assert len(end) == 0
    with pytest.raises(UnknownStream):
        end.write(CHAT, b"x")
    end.on_stream(CHAT, 0, b"", True)


def test_finished_streams_let_the_peer_open_others() -> None:
    end = streams()
    for sequence in (1, 2):
        assert control(end) == []
        finish(end, stream_id(sequence, StreamClass.INTERACTIVE, dialer=False))
    assert control(end) == [frames.MaxStreams(7)]
    finish(end, stream_id(6, StreamClass.BULK, dialer=False))


def test_a_stream_both_sides_gave_up_is_over_when_ours_is_acknowledged() -> None:
    end = streams()
    end.write(CHAT, b"x")
    end.on_reset(CHAT, 1, 0)
    end.reset(CHAT, 2)
    control(end)
    assert len(end) == 1
    end.acked((ItemKind.RESET, CHAT))
    assert len(end) == 0


def test_frames_that_are_due_for_a_stream_that_is_over_are_left_out() -> None:
    end = streams()
    end.write(CHAT, b"x", True)
    sent(end)
    end.reset(CHAT, 2)
    control(end)
    end.lost((ItemKind.RESET, CHAT))
    end.on_reset(CHAT, 1, 0)
    end.acked((ItemKind.RESET, CHAT))  # the first one had arrived after all
    assert len(end) == 0
    assert control(end) == []


# --- acknowledgement and loss -----------------------------------------------------------------


def test_acknowledgements_make_one_notice_for_a_stream() -> None:
    end = streams()
    end.write(CHAT, bytes(3000))
    end.write(BULK, bytes(2000), True)
    runs = []
    while (result := end.next_run(2, ROOM)) is not None:
        runs.append(result[0])
    for run in runs:
        end.acked_run(run)
    assert notices(end) == [StreamDrained(CHAT, 0, False), StreamDrained(BULK, 0, True)]
    for run in runs:
        end.acked_run(run)
    assert notices(end) == [StreamDrained(CHAT, 0, False)]


def test_lost_runs_are_sent_again() -> None:
    end = streams()
    end.write(CHAT, bytes(range(250)) * 4, True)
    result = end.next_run(64, 100)
    assert result is not None
    end.lost_run(result[0])
    again = sent(end, room=100)
    assert b"".join(frame.data for frame in again) == bytes(range(250)) * 4
    assert again[-1].fin


@pytest.mark.parametrize(
    "item",
    [
        (ItemKind.MAX_DATA,),
        (ItemKind.MAX_STREAMS,),
        (ItemKind.MAX_STREAM, THEIRS),
        (ItemKind.RESET, CHAT),
        (ItemKind.STOP, THEIRS),
    ],
)
def test_lost_frames_are_sent_again_with_the_values_of_now(item: Item) -> None:
    end = streams()
    end.write(CHAT, b"x")
    end.on_stream(THEIRS, 0, b"x", False)
    if item[0] == ItemKind.RESET:
        end.reset(CHAT, 1)
    if item[0] == ItemKind.STOP:
        end.stop(THEIRS, 1)
    first = control(end)
    end.acked(item) if not first else None
    end.lost(item)
    again = end.control(ROOM)
    assert [found for _, found in again] == [item]
    if first:
        assert [frames.parse_frames(frame)[0] for frame, _ in again] == first


def test_what_is_no_matter_of_streams_is_ignored() -> None:
    end = streams()
    for item in ((ItemKind.PING, 1), (ItemKind.ACKED_UP_TO, 5), (ItemKind.MTU_PROBE, 1452)):
        end.lost(item)
        end.acked(item)
    assert not end.pending()


def test_what_becomes_of_a_given_up_streams_bytes_does_not_matter() -> None:
    end = streams()
    end.write(CHAT, bytes(500))
    result = end.next_run(1, ROOM)
    assert result is not None
    end.reset(CHAT, 1)
    control(end)
    end.lost_run(result[0])
    end.acked_run(result[0])
    assert not end.pending()
    assert notices(end) == []


# --- sending ----------------------------------------------------------------------------------


def test_interactive_goes_before_bulk_and_bulk_does_not_starve() -> None:
    end = streams(peer=Limits(1 << 20, 1 << 20, 5, 1452))
    end.write(BULK, bytes(50_000))
    end.write(CHAT, bytes(50_000))
    order = [frame.stream for frame in sent(end, room=ROOM)]
    assert order[:16] == [CHAT] * 15 + [BULK]
    assert order[16:32] == [CHAT] * 15 + [BULK]


def test_frames_beside_others_follow_the_same_order() -> None:
    end = streams()
    assert end.next_frame(ROOM) is None
    end.write(BULK, b"bulk")
    end.write(CHAT, b"chat")
    end.write(CONTROL_STREAM, b"control")
    assert end.next_frame(5) is None
    found = []
    while (result := end.next_frame(ROOM)) is not None:
        found.append(result[1][1])
    assert found == [CONTROL_STREAM, CHAT, BULK]


def test_the_links_credit_is_shared_and_losses_are_free() -> None:
    end = streams(peer=Limits(1500, 1000, 5, 1452))
    end.write(CHAT, bytes(1200))
    end.write(BULK, bytes(1200))
    first = sent(end, room=600)
    assert sum(len(frame.data) for frame in first) == 1500
    assert not end.pending()
    end.lost((ItemKind.STREAM, CHAT, 0, 100, 0))
    assert end.pending()
    assert [len(frame.data) for frame in sent(end)] == [100]
    end.on_max_data(1500)
    end.on_max_data(1400)
    assert not end.pending()
    end.on_max_data(1700)
    assert [(f.stream, len(f.data)) for f in sent(end)] == [(BULK, 200)]
    end.on_max_stream(CHAT, 1200)
    end.on_max_data(9000)
    end.on_max_stream(CHAT, 1100)
    assert sum(len(frame.data) for frame in sent(end)) == 200 + 300
    assert not end.pending()


def test_frames_use_the_links_credit_as_well() -> None:
    end = streams(peer=Limits(150, 1000, 5, 1452))
    end.write(CHAT, bytes(400))
    result = end.next_frame(100)
    assert result is not None
    used = result[1][3]
    assert sum(len(frame.data) for frame in sent(end)) == 150 - used


def test_a_stream_given_up_while_it_waits_for_credit_is_not_woken() -> None:
    end = streams(peer=Limits(100, 1000, 5, 1452))
    end.write(CHAT, bytes(400))
    end.write(BULK, bytes(400))
    sent(end)
    end.reset(CHAT, 1)
    end.on_reset(CHAT, 1, 0)
    control(end)
    end.acked((ItemKind.RESET, CHAT))
    end.on_max_data(1000)
    assert {frame.stream for frame in sent(end)} == {BULK}


def test_a_stream_that_is_over_leaves_its_place_in_the_queue() -> None:
    end = streams()
    end.write(CHAT, bytes(400))
    end.on_reset(CHAT, 1, 0)
    end.reset(CHAT, 1)
    control(end)
    end.acked((ItemKind.RESET, CHAT))
    assert end.next_run(1, ROOM) is None
    assert not end.pending()


def test_a_packet_without_room_takes_nothing() -> None:
    end = streams()
    end.write(CHAT, bytes(400))
    assert end.next_run(1, 5) is None
    assert end.pending()


def test_too_much_unsent_is_refused() -> None:
    end = streams(peer=Limits(0, 0, 5, 1452))
    end.write(CHAT, bytes(1 << 20))
    with pytest.raises(BufferFull):
        end.write(CHAT, b"x")


# --- the control stream -----------------------------------------------------------------------


def test_the_control_stream_needs_no_opening_and_no_credit() -> None:
    end = streams(peer=Limits(0, 0, 5, 1452))
    end.write(CONTROL_STREAM, b"offer")
    assert sent(end) == [frames.Stream(CONTROL_STREAM, 0, b"offer", False)]
    end.acked((ItemKind.STREAM, CONTROL_STREAM, 0, 5, 0))
    assert notices(end) == []
    assert len(end) == 0


def test_the_control_stream_is_consumed_as_it_arrives() -> None:
    end = streams(local=Limits(0, 0, 5, 1452))
    for number in range(CONTROL_WINDOW // 1024):
        end.on_stream(CONTROL_STREAM, 1024 * number, bytes(1024), False)
    assert sum(len(n.data) for n in notices(end) if isinstance(n, StreamData)) == CONTROL_WINDOW
    assert control(end) == [frames.MaxStream(CONTROL_STREAM, 2 * CONTROL_WINDOW)]


def test_the_control_stream_has_a_window_of_its_own() -> None:
    code = violation(streams().on_stream, CONTROL_STREAM, CONTROL_WINDOW, b"x", False)
    assert code is CloseCode.FLOW_CONTROL


def test_the_control_stream_can_neither_end_nor_be_given_up() -> None:
    end = streams()
    assert violation(end.on_stream, CONTROL_STREAM, 0, b"x", True) is CloseCode.STREAM_STATE
    assert violation(end.on_reset, CONTROL_STREAM, 0, 0) is CloseCode.STREAM_STATE
    assert violation(end.on_stop, CONTROL_STREAM, 0) is CloseCode.STREAM_STATE


# --- windows that grow ------------------------------------------------------------------------

GROWTH = Growth(stream_max=20_000, link_max=30_000, room=lambda: 1_000_000)


def take(end: Streams, stream: int, size: int, now: Instant) -> None:
    """The peer sends `size` more bytes, and the application takes them at once."""
    entry = end._live.get(stream)
    at = 0 if entry is None else entry.receive.next
    end.on_stream(stream, at, bytes(size), False)
    end.consumed(stream, size, now, RTT)


def sizes(end: Streams, stream: int) -> tuple[int, int]:
    """Of the stream's window and of the link's."""
    return end._live[stream].receive.window.size, end._window.size


def gulp(end: Streams, stream: int) -> None:
    """A quarter of the stream's window within a round trip."""
    take(end, stream, 1, NOW)
    take(end, stream, end._live[stream].receive.window.size // 4, NOW + RTT)
    control(end)


def test_a_window_doubles_when_a_quarter_of_it_is_taken_within_a_round_trip() -> None:
    end = streams(growth=GROWTH)
    take(end, THEIRS, 1, NOW)
    take(end, THEIRS, 999, NOW + RTT)
    assert control(end) == []
    take(end, THEIRS, 1, NOW + RTT)
    assert sizes(end, THEIRS) == (8000, 12_000)
    assert control(end) == [frames.MaxData(13_001), frames.MaxStream(THEIRS, 9001)]
    take(end, THEIRS, 1999, NOW + 3 * RTT)
    assert control(end) == [], "a quarter of a window that has grown"
    take(end, THEIRS, 1, NOW + 5 * RTT)
    assert control(end) == [frames.MaxStream(THEIRS, 11_001)]


def test_what_is_taken_more_slowly_opens_a_window_that_does_not_grow() -> None:
    end = streams(growth=GROWTH)
    for trip in range(20):
        take(end, THEIRS, 999, NOW + trip * RTT)
        control(end)
    assert sizes(end, THEIRS) == (4000, 10_000)


def test_what_is_taken_at_once_after_a_rest_earns_nothing() -> None:
    """It may have come over any time: the peer was not held back for a round trip."""
    end = streams(growth=GROWTH)
    for second in range(1, 20):
        take(end, THEIRS, 4000, second * SECOND)
        control(end)
    assert sizes(end, THEIRS) == (4000, 10_000)


def test_what_the_application_does_not_take_earns_nothing() -> None:
    end = streams(growth=GROWTH)
    for sequence in range(1, 5):
        stream = stream_id(sequence, StreamClass.BULK, dialer=False)
        end.on_stream(stream, 0, bytes(2500), False)
    assert control(end) == []
    for sequence in range(1, 5):
        end.stop(stream_id(sequence, StreamClass.BULK, dialer=False), 0)
    assert end._window.consumed == 10_000
    assert end._window.size == 10_000
    assert frames.MaxData(20_000) in control(end)


def test_a_streams_window_stops_at_its_most_and_the_links_stays_ahead() -> None:
    end = streams(growth=GROWTH)
    found = []
    for _ in range(5):
        gulp(end, THEIRS) if THEIRS in end._live else take(end, THEIRS, 1, NOW)
        found.append(sizes(end, THEIRS))
    assert found == [
        (4000, 10_000),
        (8000, 12_000),
        (16_000, 24_000),
        (20_000, 30_000),
        (20_000, 30_000),
    ]


def test_many_streams_make_the_links_window_grow_and_not_their_own() -> None:
    end = streams(growth=GROWTH)
    take(end, THEIRS, 1, NOW)
    for sequence in range(2, 5):
        take(end, stream_id(sequence, StreamClass.BULK, dialer=False), 900, NOW)
    assert sizes(end, THEIRS) == (4000, 20_000)


def test_a_streams_window_leaves_a_third_of_the_links_to_others() -> None:
    end = streams(growth=Growth(20_000, 9000, lambda: 1_000_000))
    take(end, THEIRS, 1, NOW)
    gulp(end, THEIRS)
    assert sizes(end, THEIRS) == (6666, 10_000)


def test_windows_grow_no_further_than_all_links_together_may() -> None:
    left = 1000
    end = streams(growth=Growth(20_000, 30_000, lambda: left - end.grown))
    take(end, THEIRS, 1, NOW)
    gulp(end, THEIRS)
    assert sizes(end, THEIRS) == (7333, 11_000)
    gulp(end, THEIRS)
    assert sizes(end, THEIRS) == (7333, 11_000)


def test_a_stream_whose_end_is_known_does_not_grow() -> None:
    end = streams(growth=GROWTH)
    take(end, THEIRS, 1, NOW)
    end.on_stream(THEIRS, 1, bytes(2000), True)
    end.consumed(THEIRS, 1500, NOW, RTT)
    assert sizes(end, THEIRS) == (4000, 10_000)


def test_the_control_streams_window_never_grows() -> None:
    end = streams(growth=GROWTH)
    for at in range(0, 10 * CONTROL_WINDOW, 1000):
        end.on_stream(CONTROL_STREAM, at, bytes(1000), False)
        notices(end)
        control(end)
    assert sizes(end, CONTROL_STREAM) == (CONTROL_WINDOW, 10_000)


@given(st.data())
def test_limits_never_shrink_and_stay_within_what_was_taken_and_the_most(
    data: st.DataObject,
) -> None:
    room = data.draw(st.integers(0, 40_000))
    end = streams(growth=Growth(20_000, 30_000, lambda: room - end.grown))
    ids = [stream_id(n, StreamClass.BULK, dialer=False) for n in (1, 2, 3)]
    told = dict.fromkeys(ids, LIMITS.max_stream) | {0: LIMITS.max_data}
    now = NOW
    for _ in range(data.draw(st.integers(1, 40))):
        stream = data.draw(st.sampled_from(ids))
        entry = end._live.get(stream)
        at = 0 if entry is None else entry.receive.next
        free = min(told[stream] - at, told[0] - end._window.received)
        end.on_stream(stream, at, bytes(data.draw(st.integers(0, free))), False)
        receive = end._live[stream].receive
        unread = receive.next - receive.window.consumed
        now += data.draw(st.integers(0, 2 * RTT))
        end.consumed(stream, data.draw(st.integers(0, unread)), now, RTT)
        for frame in control(end):
            key = frame.stream if isinstance(frame, frames.MaxStream) else 0
            assert isinstance(frame, frames.MaxData | frames.MaxStream)
            assert frame.limit >= told[key], "a limit that shrank"
            told[key] = frame.limit
        assert told[0] <= end._window.consumed + 30_000
        assert told[0] <= end._window.consumed + LIMITS.max_data + room
        for each in ids:
            window = None if each not in end._live else end._live[each].receive.window
            taken = 0 if window is None else window.consumed
            assert told[each] <= taken + 20_000
            if window is not None and window.size > LIMITS.max_stream:
                assert 3 * window.size <= 2 * end._window.size
            if not taken:
                assert told[each] == LIMITS.max_stream


# --- what we keep -----------------------------------------------------------------------------


def written_until_full(end: Streams, stream: int) -> int:
    """Write as long as it is taken; how many bytes that were."""
    written = 0
    with suppress(BufferFull):
        while True:
            end.write(stream, bytes(1 << 18))
            written += 1 << 18
            sent(end)
    return written


def test_what_all_streams_keep_is_bounded_and_each_may_keep_some() -> None:
    """The peer lets everything go out and acknowledges nothing."""
    end = streams(peer=Limits(1 << 40, 1 << 40, 257, 1452))
    hogs = [stream_id(n, StreamClass.BULK, dialer=True) for n in (1, 2, 3)]
    kept = [written_until_full(end, stream) for stream in hogs]
    assert kept == [KEPT_MAX, KEPT_LINK_MAX - KEPT_MAX, KEPT_FREE]
    full = sum(kept)
    end.acked_run(Run(hogs[0], 0, 1 << 18, full - KEPT_LINK_MAX, False))
    assert written_until_full(end, hogs[2]) == 0
    end.acked_run(Run(hogs[0], full - KEPT_LINK_MAX, 1 << 18, 1 << 18, False))
    assert written_until_full(end, hogs[2]) == 1 << 18
    end.reset(hogs[1], 0)
    assert written_until_full(end, hogs[2]) == kept[1]
    assert end._kept == sum(end._live[stream].send.buffered for stream in hogs)
