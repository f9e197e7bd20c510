"""Envelopes: opaque, one of five sizes, strict inside."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawchat.core.credential import Address, Superseded
from clawchat.core.crypto import envelope, suite
from clawchat.core.crypto.envelope import ENVELOPE_SIZES, Refusal
from clawchat.core.crypto.schedule import derive_credential
from clawchat.core.crypto.suite import aead_seal, expand, extract
from clawchat.core.events import Buffer
from clawchat.errors import Drop, Malformed
from tests.core.wire.test_address import addresses

CREDENTIAL = derive_credential(bytes(16), 0, b"\x07" * 32)
OTHER = derive_credential(bytes(16), 0, b"\x08" * 32)
OLD = Superseded(0, CREDENTIAL.hint, CREDENTIAL.envelope_key)
SEEN = Address("192.0.2.9", 40000)
messages = st.binary(max_size=900)


def crafted(inside: bytes, direction: bytes = b"reply", size: int = 512) -> bytes:
    """An envelope as a holder of the credential could make it, whatever is inside."""
    head = CREDENTIAL.hint + b"s" * 16
    key = expand(extract(b"s" * 16, CREDENTIAL.envelope_key.reveal()), direction, 32)
    return head + aead_seal(key, bytes(12), inside.ljust(size - 48, b"\0"), head)


def drop_of(datagram: bytes, *, hello: bool = False) -> Drop:
    with pytest.raises(Malformed) as caught:
        (envelope.open_hello if hello else envelope.open_reply)(CREDENTIAL, datagram)
    return caught.value.drop


@given(messages)
def test_a_hello_survives(message: bytes) -> None:
    datagram = envelope.seal_hello(CREDENTIAL, message, os.urandom)
    assert len(datagram) in ENVELOPE_SIZES
    assert datagram[:16] == CREDENTIAL.hint
    assert envelope.open_hello(CREDENTIAL, datagram) == (message, b"")
    assert envelope.open_hello(OLD, datagram) == (message, b"")


@given(messages, st.binary(min_size=1, max_size=64))
def test_a_cookie_stands_beside_the_message_of_a_hello(message: bytes, cookie: bytes) -> None:
    datagram = envelope.seal_hello(CREDENTIAL, message[:800], os.urandom, cookie)
    assert envelope.open_hello(OLD, datagram) == (message[:800], cookie)


@given(addresses, messages)
def test_a_reply_survives_and_tells_where_the_hello_came_from(
    seen: Address, message: bytes
) -> None:
    datagram = envelope.seal_reply(CREDENTIAL, seen, message, os.urandom)
    assert len(datagram) in ENVELOPE_SIZES
    assert envelope.open_reply(CREDENTIAL, datagram) == (seen, message)


@given(st.binary(max_size=64))
def test_a_refusal_gives_a_cookie_and_no_address(cookie: bytes) -> None:
    datagram = envelope.seal_refusal(OLD, bytes(range(96)), cookie, os.urandom)
    assert envelope.open_reply(CREDENTIAL, datagram) == Refusal(bytes(range(16)), cookie)


def test_the_longest_cookie_has_64_bytes() -> None:
    datagram = envelope.seal_refusal(OLD, bytes(96), bytes(64), os.urandom)
    assert envelope.open_reply(CREDENTIAL, datagram) == Refusal(bytes(16), bytes(64))


def test_a_refusal_with_a_cookie_that_could_not_be_repeated_is_malformed() -> None:
    datagram = envelope.seal_refusal(OLD, bytes(96), bytes(65), os.urandom)
    assert drop_of(datagram) is Drop.MALFORMED_ENVELOPE
    datagram = envelope.seal_hello(CREDENTIAL, bytes(96), os.urandom, bytes(65))
    assert drop_of(datagram, hello=True) is Drop.MALFORMED_ENVELOPE


def test_every_size_that_fits_is_used() -> None:
    assert ENVELOPE_SIZES == (512, 640, 768, 896, 1024)
    small = Counter(
        len(envelope.seal_hello(CREDENTIAL, bytes(100), lambda n, i=i: bytes((i,)) * n))  # type: ignore[misc]
        for i in range(100)
    )
    assert small == dict.fromkeys(ENVELOPE_SIZES, 20)
    large = {
        len(envelope.seal_hello(CREDENTIAL, bytes(800), lambda n, i=i: bytes((i,)) * n))  # type: ignore[misc]
        for i in range(10)
    }
    assert large == {896, 1024}


def test_a_message_too_long_for_the_largest_envelope_is_not_written() -> None:
    longest = 1024 - 48 - 2
    datagram = envelope.seal_hello(CREDENTIAL, bytes(longest), os.urandom)
    assert len(datagram) == 1024
    assert envelope.open_hello(CREDENTIAL, datagram) == (bytes(longest), b"")
    almost = envelope.seal_hello(CREDENTIAL, bytes(longest - 1), os.urandom)
    assert envelope.open_hello(CREDENTIAL, almost) == (bytes(longest - 1), b"")
    with pytest.raises(ValueError, match="too long"):
        envelope.seal_hello(CREDENTIAL, bytes(longest + 1), os.urandom)


@given(messages, st.data())
def test_an_altered_envelope_does_not_open(message: bytes, data: st.DataObject) -> None:
    datagram = bytearray(envelope.seal_hello(CREDENTIAL, message, bytes))
    datagram[data.draw(st.integers(0, len(datagram) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert drop_of(bytes(datagram), hello=True) is Drop.ENVELOPE


@pytest.mark.parametrize("size", [0, 16, 48, 511, 513, 1025])
def test_an_envelope_of_another_size_is_not_looked_at(size: int) -> None:
    assert drop_of(bytes(size), hello=True) is Drop.ENVELOPE
    assert drop_of(crafted(b"", b"hello", max(size, 48)), hello=True) is Drop.ENVELOPE


def test_the_two_directions_and_another_credential_do_not_open_each_other() -> None:
    hello = envelope.seal_hello(CREDENTIAL, b"hello", os.urandom)
    reply = envelope.seal_reply(CREDENTIAL, SEEN, b"hello", os.urandom)
    assert drop_of(hello) is Drop.ENVELOPE
    assert drop_of(reply, hello=True) is Drop.ENVELOPE
    assert drop_of(envelope.seal_hello(OTHER, b"x", os.urandom), hello=True) is Drop.ENVELOPE


@pytest.mark.parametrize(
    "inside",
    [
        b"\x05" + bytes(40),  # a family that is neither 4, 6 nor a refusal
        b"\x04" + bytes(6) + b"\x00\x01m!",  # padding that is not zero
        b"\x04" + bytes(6) + b"\xff\xff",  # longer than the envelope
    ],
)
def test_a_reply_whose_inside_does_not_parse_is_malformed(inside: bytes) -> None:
    assert drop_of(crafted(inside)) is Drop.MALFORMED_ENVELOPE


@pytest.mark.parametrize("inside", [b"\x00\x01m!", b"\xff\xff", b"\x01\xcf"])
def test_a_hello_whose_inside_does_not_parse_is_malformed(inside: bytes) -> None:
    assert drop_of(crafted(inside, b"hello"), hello=True) is Drop.MALFORMED_ENVELOPE


def test_padding_of_any_byte_but_zero_is_malformed() -> None:
    for byte in range(1, 256):
        inside = b"\x00\x01m" + bytes((byte,))
        assert drop_of(crafted(inside, b"hello"), hello=True) is Drop.MALFORMED_ENVELOPE


def test_an_envelope_takes_a_byte_of_entropy_for_its_size_and_sixteen_for_its_salt() -> None:
    """So a run that was recorded can be run again."""
    asked: list[int] = []

    def entropy(size: int) -> bytes:
        asked.append(size)
        return b"\x01" * size

    datagram = envelope.seal_hello(CREDENTIAL, b"hello", entropy)
    assert asked == [1, 16]
    assert (len(datagram), datagram[16:32]) == (640, b"\x01" * 16)


def test_the_key_of_an_envelope_is_wiped_once_it_was_used(monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[bytearray] = []

    def derive(salt: bytes, ikm: Buffer, label: bytes, size: int) -> bytearray:
        keys.append(suite.derive(salt, ikm, label, size))
        return keys[-1]

    monkeypatch.setattr(envelope, "derive", derive)
    datagram = envelope.seal_hello(CREDENTIAL, b"hello", os.urandom)
    assert envelope.open_hello(CREDENTIAL, datagram) == (b"hello", b"")
    assert drop_of(datagram) is Drop.ENVELOPE
    assert keys == [bytes(32)] * 3


def test_no_two_envelopes_are_alike() -> None:
    first, second = (envelope.seal_hello(CREDENTIAL, b"hello", os.urandom) for _ in range(2))
    assert first[16:48] != second[16:48]
