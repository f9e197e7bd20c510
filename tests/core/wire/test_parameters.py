"""Handshake parameters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawchat.core.wire import varint
from clawchat.core.wire.parameters import Limits, cookie_of, decode_parameters, encode_parameters
from clawchat.errors import Drop, Malformed

GOOD = Limits(max_data=1 << 20, max_stream=1 << 18, max_streams=257, max_datagram=1452)
limits = st.builds(
    Limits,
    max_data=st.integers(0, varint.MAX),
    max_stream=st.integers(0, varint.MAX),
    max_streams=st.integers(0, 1 << 60),
    max_datagram=st.integers(1024, varint.MAX),
)


def parameter(identifier: int, value: bytes) -> bytes:
    return varint.encode(identifier) + varint.encode(len(value)) + value


def numbered(**changes: bytes) -> bytes:
    values = {
        "1": varint.encode(9),
        "2": varint.encode(9),
        "3": varint.encode(9),
        "4": varint.encode(1024),
    } | {name.removeprefix("p"): value for name, value in changes.items()}
    return b"".join(parameter(int(name), values[name]) for name in sorted(values))


def refused(data: bytes) -> bool:
    with pytest.raises(Malformed) as caught:
        decode_parameters(data)
    return caught.value.drop is Drop.MALFORMED_PARAMETERS


@given(limits)
def test_limits_survive_the_wire(value: Limits) -> None:
    assert decode_parameters(encode_parameters(value)) == value


def test_an_unknown_parameter_is_skipped() -> None:
    later = parameter(5, b"something of a later version")
    assert decode_parameters(encode_parameters(GOOD) + later) == GOOD


def test_a_value_in_a_longer_form_is_taken() -> None:
    assert decode_parameters(numbered(p1=varint.encode(9, 8))).max_data == 9


@pytest.mark.parametrize("left_out", [1, 2, 3, 4])
def test_each_of_the_four_is_required(left_out: int) -> None:
    values = [parameter(i, varint.encode(1024)) for i in (1, 2, 3, 4) if i != left_out]
    assert refused(b"".join(values))


def test_ids_that_do_not_ascend_are_malformed() -> None:
    one = parameter(1, varint.encode(9))
    assert refused(one + one + numbered()[len(one) :])
    assert refused(numbered() + one)


def test_a_value_that_is_not_exactly_one_varint_is_malformed() -> None:
    assert refused(numbered(p1=b""))
    assert refused(numbered(p1=b"\x09\x09"))
    assert refused(numbered(p2=varint.encode(70000)[:2]))


@pytest.mark.parametrize("cut", range(1, len(numbered())))
def test_a_truncated_sequence_is_malformed(cut: int) -> None:
    assert refused(numbered()[:cut])


def test_more_than_256_bytes_are_malformed() -> None:
    room = 256 - len(numbered()) - 3
    assert decode_parameters(numbered() + parameter(9, bytes(room))).max_data == 9
    assert refused(numbered() + parameter(9, bytes(room + 1)))


def test_a_datagram_limit_below_1024_is_refused_by_both_sides() -> None:
    assert refused(numbered(p4=varint.encode(1023)))
    with pytest.raises(ValueError, match="1024"):
        encode_parameters(Limits(1, 1, 1, 1023))


def test_more_streams_than_there_are_ids_is_refused_by_both_sides() -> None:
    assert refused(numbered(p3=varint.encode((1 << 60) + 1)))
    with pytest.raises(ValueError, match="2\\^60"):
        encode_parameters(Limits(1, 1, (1 << 60) + 1, 1200))


@given(limits, st.binary(max_size=64))
def test_a_cookie_rides_along(value: Limits, cookie: bytes) -> None:
    encoded = encode_parameters(value, cookie)
    assert decode_parameters(encoded) == value
    assert cookie_of(encoded) == cookie


def test_a_cookie_of_more_than_64_bytes_is_refused_by_both_sides() -> None:
    assert refused(numbered() + parameter(5, bytes(65)))
    with pytest.raises(ValueError, match="cookie"):
        encode_parameters(GOOD, bytes(65))
