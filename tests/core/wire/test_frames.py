"""Frames: what is written is read, what does not parse is refused."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from clawchat.core.wire import frames, varint
from clawchat.errors import CloseCode, Drop, Malformed
from fuzz.reencode import encode_frame
from tests.core.wire import samples

V = varint.encode


def refused(payload: bytes) -> Drop:
    with pytest.raises(Malformed) as caught:
        frames.parse_frames(payload)
    return caught.value.drop


@given(st.lists(samples.any_frame, min_size=1, max_size=8), st.integers(0, 40))
def test_frames_survive_the_wire_in_order(sent: list[frames.Frame], filling: int) -> None:
    payload = b"".join(map(encode_frame, sent)) + frames.padding(filling)
    assert frames.parse_frames(payload) == sent


@given(samples.any_frame, st.integers(1, 40))
def test_padding_may_stand_anywhere(frame: frames.Frame, filling: int) -> None:
    payload = frames.padding(filling) + encode_frame(frame) + frames.padding(filling)
    assert frames.parse_frames(payload) == [frame]


@given(samples.any_frame, st.data())
def test_a_frame_that_is_cut_short_is_malformed(frame: frames.Frame, data: st.DataObject) -> None:
    encoded = encode_frame(frame)
    assume(len(encoded) > 1)
    cut = encoded[: data.draw(st.integers(1, len(encoded) - 1))]
    assert refused(cut) in {Drop.MALFORMED_FRAME, Drop.MALFORMED_VARINT}
    assert refused(frames.PING + cut) in {Drop.MALFORMED_FRAME, Drop.MALFORMED_VARINT}


def test_an_empty_payload_is_malformed() -> None:
    assert refused(b"") is Drop.MALFORMED_FRAME


def test_a_payload_of_padding_alone_is_allowed() -> None:
    assert frames.parse_frames(frames.padding(1200)) == []


KNOWN = {0, 1, 2, *range(8, 16), *range(0x10, 0x13), 0x14, 0x15, *range(0x1A, 0x1F), 0x30, 0x31}


@pytest.mark.parametrize("kind", sorted(set(range(256)) - KNOWN))
def test_reserved_and_unknown_types_are_malformed(kind: int) -> None:
    assert refused(bytes((kind,)) + bytes(64)) is Drop.MALFORMED_FRAME
    assert refused(frames.PING + bytes((kind,)) + bytes(64)) is Drop.MALFORMED_FRAME


def test_the_reserved_type_has_a_name_and_no_parser() -> None:
    assert frames.FrameType.PUNCH not in KNOWN


def test_a_declaration_of_compromise_is_a_reason_and_a_scope() -> None:
    (declared,) = frames.parse_frames(frames.encode_compromised(3, frames.SCOPE_EVERYTHING))
    assert declared == frames.Compromised(3, 1)
    assert frames.parse_frames(frames.COMPROMISED_ACK) == [frames.CompromisedAck()]


# --- streams ----------------------------------------------------------------------------------

stream_ids = st.one_of(st.integers(0, 63), st.integers(64, 16383), st.integers(0, varint.MAX))
offsets = st.one_of(st.integers(0, 2**30 + 10), st.integers(0, varint.MAX - 64))


@given(stream_ids, offsets, st.binary(max_size=64), st.booleans())
def test_a_lone_stream_frame_is_read_by_the_fast_path(
    stream: int, offset: int, data: bytes, fin: bool
) -> None:
    payload = frames.stream_head(stream, offset, fin=fin) + data
    expected = frames.Stream(stream, offset, data, fin)
    assert frames.lone_stream(payload) == expected
    assert frames.parse_frames(payload) == [expected]


@given(stream_ids, offsets, st.binary(max_size=64), st.sampled_from([1, 2, 4, 8]))
def test_a_stream_frame_is_read_whatever_form_its_numbers_have(
    stream: int, offset: int, data: bytes, at_least: int
) -> None:
    numbers = V(stream, at_least) + V(offset, at_least)
    expected = frames.Stream(stream, offset, data, False)
    assert frames.lone_stream(b"\x0c" + numbers + data) == expected
    with_length = b"\x0e" + numbers + V(len(data), at_least) + data
    assert frames.parse_frames(with_length + frames.PING) == [expected, frames.Ping()]


@given(stream_ids, st.binary(max_size=64), st.booleans())
def test_a_stream_frame_without_an_offset_starts_at_zero(
    stream: int, data: bytes, fin: bool
) -> None:
    payload = bytes((0x08 | fin,)) + V(stream) + data
    assert frames.parse_frames(payload) == [frames.Stream(stream, 0, data, fin)]


@pytest.mark.parametrize("payload", [b"", frames.PING, b"\x0a\x04\x00", b"\x30data"])
def test_what_is_not_one_stream_frame_to_the_end_is_left_to_the_general_parser(
    payload: bytes,
) -> None:
    assert frames.lone_stream(payload) is None


@given(st.integers(0, 600), st.integers(1, 120), st.booleans(), st.booleans())
def test_a_run_is_cut_into_equal_packets(size: int, chunk: int, fin: bool, far: bool) -> None:
    data = bytes(i & 0xFF for i in range(size))
    offset = 2**30 - 300 if far else 12345
    payloads = frames.stream_payloads(4, offset, memoryview(data), chunk, fin=fin)
    if not far:
        assert len({len(payload) for payload in payloads[:-1]}) <= 1
    read = [frames.parse_frames(payload)[0] for payload in payloads]
    assert all(isinstance(frame, frames.Stream) and frame.stream == 4 for frame in read)
    at = offset
    for frame in read:
        assert isinstance(frame, frames.Stream)
        assert frame.offset == at
        at += len(frame.data)
        assert frame.fin is (fin and frame is read[-1])
    assert at == offset + size
    assert b"".join(frame.data for frame in read if isinstance(frame, frames.Stream)) == data


def test_stream_bytes_beyond_the_last_offset_are_malformed() -> None:
    head = frames.stream_head(4, varint.MAX - 3, fin=False)
    assert frames.parse_frames(head + b"abc")
    assert refused(head + b"abcd") is Drop.MALFORMED_FRAME


def test_a_stream_length_beyond_the_packet_is_malformed() -> None:
    assert refused(frames.stream_head(4, 0, fin=False, length=4) + b"abc") is Drop.MALFORMED_FRAME


# --- acknowledgements -------------------------------------------------------------------------


@given(samples.ack_ranges(), samples.numbers)
def test_acknowledged_ranges_survive_the_wire(
    ranges: tuple[tuple[int, int], ...], delay_us: int
) -> None:
    assert frames.parse_frames(frames.encode_ack(ranges, delay_us)) == [
        frames.Ack(ranges, delay_us)
    ]


def test_a_sender_writes_the_newest_33_ranges() -> None:
    ranges = tuple((n, n) for n in range(200, 0, -2))
    (ack,) = frames.parse_frames(frames.encode_ack(ranges, 0))
    assert ack == frames.Ack(ranges[:33], 0)


def test_256_further_ranges_are_accepted_and_257_are_not() -> None:
    def ack(further: int) -> bytes:
        return b"\x02" + V(10_000) + V(0) + V(further) + V(0) + b"\0\0" * further

    (frame,) = frames.parse_frames(ack(256))
    assert isinstance(frame, frames.Ack)
    assert len(frame.ranges) == 257
    assert refused(ack(257)) is Drop.MALFORMED_FRAME


@pytest.mark.parametrize(
    "payload",
    [
        b"\x02" + V(5) + V(0) + V(0) + V(6),
        b"\x02" + V(5) + V(0) + V(1) + V(0) + V(4) + V(0),
        b"\x02" + V(5) + V(0) + V(1) + V(0) + V(3) + V(1),
    ],
)
def test_a_range_below_packet_zero_is_malformed(payload: bytes) -> None:
    assert refused(payload) is Drop.MALFORMED_FRAME


# --- the rare ones ----------------------------------------------------------------------------


def test_more_streams_than_there_are_ids_cannot_be_granted() -> None:
    assert refused(frames.encode_max_streams((1 << 60) + 1)) is Drop.MALFORMED_FRAME


def test_a_reason_that_is_too_long_is_malformed_and_never_written() -> None:
    assert refused(b"\x1c\x00" + V(257) + b"x" * 257) is Drop.MALFORMED_FRAME
    (close,) = frames.parse_frames(frames.encode_close(CloseCode.LIMIT, "é" * 200 + "end"))
    assert close == frames.Close(CloseCode.LIMIT, "é" * 128)
    (close,) = frames.parse_frames(frames.encode_close(CloseCode.LIMIT, "x" + "é" * 200))
    assert close == frames.Close(CloseCode.LIMIT, "x" + "é" * 127)


def test_a_reason_that_is_not_utf8_is_malformed() -> None:
    assert refused(b"\x1c\x00\x01\xff") is Drop.MALFORMED_FRAME


def test_a_datagram_may_fill_the_packet() -> None:
    payload = frames.PING + frames.encode_datagram(b"\x00\x01", to_end=True)
    assert frames.parse_frames(payload) == [frames.Ping(), frames.Datagram(b"\x00\x01")]


@pytest.mark.parametrize("encode", [frames.encode_path_challenge, frames.encode_path_response])
def test_a_path_token_has_8_bytes(encode: object) -> None:
    assert callable(encode)
    with pytest.raises(ValueError, match="8 bytes"):
        encode(b"short")
