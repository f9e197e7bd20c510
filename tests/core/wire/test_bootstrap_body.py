"""The inside of a bootstrap file: canonical, strict."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from clawchat.core.actions import BootstrapContent
from clawchat.core.credential import Address
from clawchat.core.secret import Secret
from clawchat.core.wire.bootstrap import decode_body, encode_body
from clawchat.errors import Drop, Malformed
from tests.core.wire.test_address import hosts

CONTENT = BootstrapContent(
    listener_static=bytes(range(32)),
    secret=Secret(bytes(range(32, 64))),
    file_id=bytes(range(16)),
    candidates=(Address("192.0.2.1", 50000), Address("2001:db8::1", 50001)),
    issued=1_800_000_000,
    expires=1_800_000_660,
    rendezvous="",
)
moments = st.integers(0, (1 << 64) - 1)


@st.composite
def contents(draw: st.DrawFn) -> BootstrapContent:
    issued, expires = sorted((draw(moments), draw(moments)))
    return BootstrapContent(
        listener_static=draw(st.binary(min_size=32, max_size=32)),
        secret=Secret(draw(st.binary(min_size=32, max_size=32))),
        file_id=draw(st.binary(min_size=16, max_size=16)),
        candidates=tuple(
            draw(st.lists(st.builds(Address, hosts, st.integers(1, 65535)), max_size=16))
        ),
        issued=issued,
        expires=expires,
        rendezvous=draw(st.text(max_size=120)),
    )


def refused(body: bytes) -> bool:
    with pytest.raises(Malformed) as caught:
        decode_body(body)
    return caught.value.drop is Drop.MALFORMED_BOOTSTRAP


@given(contents())
def test_content_survives_and_has_one_encoding(content: BootstrapContent) -> None:
    body = encode_body(content)
    assert decode_body(body) == content
    assert encode_body(decode_body(body)) == body


@given(contents(), st.data())
def test_a_body_with_bytes_missing_or_left_over_is_malformed(
    content: BootstrapContent, data: st.DataObject
) -> None:
    body = encode_body(content)
    assert refused(body[: data.draw(st.integers(0, len(body) - 1))])
    assert refused(body + data.draw(st.binary(min_size=1, max_size=8)))


COUNT_AT = 32 + 32 + 16 + 8 + 8


@pytest.mark.parametrize(
    ("at", "patch"),
    [
        (COUNT_AT, b"\x11"),  # 17 candidates
        (COUNT_AT + 1, b"\x05"),  # a family that is neither 4 nor 6
        (COUNT_AT + 6, b"\x00\x00"),  # port 0
        (80, (1_800_000_661).to_bytes(8, "big")),  # issued after it expires
    ],
)
def test_a_field_of_no_use_is_malformed(at: int, patch: bytes) -> None:
    body = encode_body(CONTENT)
    assert refused(body[:at] + patch + body[at + len(patch) :])


def test_a_rendezvous_that_is_not_utf8_or_too_long_is_malformed() -> None:
    body = encode_body(evolve(CONTENT, rendezvous="ab"))
    assert refused(body[:-2] + b"\xff\xff")
    assert refused(body[:-4] + (513).to_bytes(2, "big") + b"x" * 513)


@pytest.mark.parametrize(
    "content",
    [
        evolve(CONTENT, listener_static=b""),
        evolve(CONTENT, secret=Secret(b"short")),
        evolve(CONTENT, file_id=bytes(17)),
        evolve(CONTENT, candidates=CONTENT.candidates * 9),
        evolve(CONTENT, candidates=(Address("192.0.2.1", 0),)),
        evolve(CONTENT, rendezvous="x" * 513),
        evolve(CONTENT, expires=CONTENT.issued - 1),
        evolve(CONTENT, issued=-1),
        evolve(CONTENT, expires=1 << 64),
    ],
)
def test_content_that_does_not_fit_is_not_written(content: BootstrapContent) -> None:
    with pytest.raises(ValueError, match="bootstrap"):
        encode_body(content)
