"""Control messages: cut out of a stream, bounded, refused early."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawchat.core.credential import Address
from clawchat.core.wire import varint
from clawchat.core.wire.control import (
    REPORT_MAX,
    ControlMessage,
    ControlReader,
    CopyReport,
    PortRotate,
    RatchetOffer,
    RatchetReply,
    RotateRequest,
    encode_control,
)
from clawchat.errors import Drop, Malformed
from tests.core.wire import samples

V = varint.encode
OFFER = RatchetOffer(3, bytes(1216))
SEEN = Address("192.0.2.1", 5)
FROM = b"\4\xc0\0\2\1\0\5"


def refused(reader: ControlReader, data: bytes) -> bool:
    with pytest.raises(Malformed) as caught:
        reader.feed(data)
    return caught.value.drop is Drop.MALFORMED_FRAME


@given(st.lists(samples.any_control, max_size=4), st.lists(st.integers(0, 5000), max_size=6))
def test_messages_survive_however_the_stream_is_cut(
    sent: list[ControlMessage], cuts: list[int]
) -> None:
    stream = b"".join(map(encode_control, sent))
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    reader = ControlReader()
    got = [message for start, end in pairwise(places) for message in reader.feed(stream[start:end])]
    assert got == sent
    assert reader.buffered == 0


def test_messages_survive_byte_by_byte() -> None:
    sent: list[ControlMessage] = [OFFER, RotateRequest(), RatchetReply(70_000, bytes(1120))]
    reader = ControlReader()
    stream = b"".join(map(encode_control, sent))
    got = [message for byte in stream for message in reader.feed(bytes((byte,)))]
    assert got == sent


@pytest.mark.parametrize("kind", [0x00, 0x20, 0x21, 0x27, 0x4000])
def test_a_reserved_or_unknown_type_is_refused_before_its_length_arrives(kind: int) -> None:
    assert refused(ControlReader(), V(kind))


def test_a_length_above_2048_is_refused_before_the_body_arrives() -> None:
    assert refused(ControlReader(), V(0x22) + V(2049))


def test_an_unfinished_message_is_all_that_is_buffered() -> None:
    reader = ControlReader()
    encoded = encode_control(OFFER)
    assert reader.feed(encoded + encoded[:-1]) == [OFFER]
    assert reader.buffered == len(encoded) - 1
    assert reader.feed(encoded[-1:]) == [OFFER]


@pytest.mark.parametrize(
    "message",
    [
        V(0x22) + V(1216) + V(3) + bytes(1215),
        V(0x22) + V(1218) + V(3) + bytes(1217),
        V(0x23) + V(1217) + V(3) + bytes(1216),
        V(0x22) + V(1224) + V(1 << 32) + bytes(1216),
        V(0x22) + V(0),
        V(0x24) + V(1) + b"x",
        V(0x25) + V(0),
        V(0x25) + V(3) + V(1) + b"\xc0\x00",
        V(0x25) + V(4) + V(1) + b"\0\0\0",
        V(0x25) + V(5) + V(1) + b"\xc0\x00\0x",
        V(0x25) + V(4) + V(1) + b"\xc0\x00\5",
        V(0x25) + V(5) + V(1) + b"\xc0\x00\1\4",
        V(0x25) + V(11) + V(1) + b"\xc0\x00\1" + b"\4\xc0\0\2\1\0\0",
        V(0x26) + V(0),
        V(0x26) + V(4) + V(3) + V(1) + V(1) + V(0),
        V(0x26) + V(10) + V(3) + V(1) + V(1) + V(0) + FROM[:-1],
        V(0x26) + V(12) + V(3) + V(1) + V(1) + V(0) + FROM + b"x",
        V(0x26) + V(11) + V(3) + V(2) + V(1) + V(0) + FROM,
        V(0x26) + V(11) + V(3) + V(1) + V(0) + V(0) + FROM,
        V(0x26) + V(18) + V(3) + V(1) + V(REPORT_MAX + 1) + V(0) + FROM,
        V(0x26) + V(18) + V(3) + V(1) + V(1) + V(REPORT_MAX + 1) + FROM,
        V(0x26) + V(23) + V(3) + V(1) + V(1) + V(0) + b"\6" + bytes(10) + b"\xff\xff\xc0\0\2\1\0\5",
    ],
)
def test_a_body_that_does_not_fit_its_type_is_refused(message: bytes) -> None:
    assert refused(ControlReader(), message)


def test_a_reader_that_refused_once_stays_dead() -> None:
    reader = ControlReader()
    assert refused(reader, V(0x20))
    assert reader.buffered == 0
    assert refused(reader, encode_control(RotateRequest()))


@pytest.mark.parametrize(
    "message",
    [
        PortRotate(1, 0),
        PortRotate(1, 65_536),
        PortRotate(1, 5, (Address("192.0.2.1", 5),) * 5),
        PortRotate(1, 5, (Address("192.0.2.1", 0),)),
    ],
)
def test_a_move_to_no_port_or_to_too_many_addresses_is_not_written(message: PortRotate) -> None:
    with pytest.raises(ValueError, match="port"):
        encode_control(message)


@pytest.mark.parametrize(
    "message",
    [RatchetOffer(1, b""), RatchetReply(1, bytes(1216)), RatchetOffer(1 << 32, bytes(1216))],
)
def test_a_ratchet_message_of_a_wrong_size_is_not_written(message: ControlMessage) -> None:
    with pytest.raises(ValueError, match="wrong size"):
        encode_control(message)


def test_the_largest_report_of_a_copy_is_small() -> None:
    report = CopyReport((1 << 62) - 1, True, REPORT_MAX, REPORT_MAX, Address("2001:db8::1", 65_535))
    encoded = encode_control(report)
    assert ControlReader().feed(encoded) == [report]
    assert len(encoded) <= 48


@pytest.mark.parametrize(
    "report",
    [
        CopyReport(1, True, 0, 0, SEEN),
        CopyReport(1, True, REPORT_MAX + 1, 0, SEEN),
        CopyReport(1, True, 1, REPORT_MAX + 1, SEEN),
        CopyReport(-1, True, 1, 0, SEEN),
        CopyReport(1, True, 1, -1, SEEN),
        CopyReport(1, True, 1, 0, Address("not an address", 5)),
    ],
)
def test_a_report_that_nobody_could_read_is_not_written(report: CopyReport) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        encode_control(report)
