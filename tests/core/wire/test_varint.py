"""Variable-length integers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawchat.core.wire import varint
from clawchat.errors import Drop, Malformed

numbers = st.one_of(
    st.integers(0, varint.MAX),
    st.sampled_from([0, 63, 64, 16383, 16384, 2**30 - 1, 2**30, varint.MAX]),
)


@given(numbers, st.sampled_from([1, 2, 4, 8]), st.binary(max_size=3))
def test_what_is_encoded_decodes_to_the_same_number(
    number: int, at_least: int, before: bytes
) -> None:
    encoded = varint.encode(number, at_least)
    assert len(encoded) == max(at_least, varint.size(number))
    assert varint.decode(before + encoded + b"x", len(before)) == (
        number,
        len(before) + len(encoded),
    )


@pytest.mark.parametrize(
    ("encoded", "number"),
    [
        ("c2197c5eff14e88c", 151288809941952652),
        ("9d7f3e7d", 494878333),
        ("7bbd", 15293),
        ("25", 37),
        ("4025", 37),
    ],
)
def test_the_examples_of_rfc_9000_appendix_a1(encoded: str, number: int) -> None:
    data = bytes.fromhex(encoded)
    assert varint.decode(data, 0) == (number, len(data))
    if len(data) != 2 or number > 63:  # 4025 is the RFC's example of a form that is too long
        assert varint.encode(number) == data


@given(numbers, st.data())
def test_a_varint_that_runs_past_its_end_is_malformed(number: int, data: st.DataObject) -> None:
    encoded = varint.encode(number)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(Malformed) as caught:
        varint.decode(encoded[:cut], 0)
    assert caught.value.drop is Drop.MALFORMED_VARINT


@pytest.mark.parametrize("number", [-1, varint.MAX + 1])
def test_a_number_that_no_varint_holds_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match="varint"):
        varint.encode(number)
