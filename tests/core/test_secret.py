"""A secret is not printed, not kept after its end, not compared in a way that tells it."""

from __future__ import annotations

import copy
import pickle

import pytest
from attrs import frozen

from clawchat.core.secret import Secret

BYTES = b"thirty-two bytes, never printed!"


def test_a_secret_reveals_its_bytes_until_it_is_wiped() -> None:
    secret = Secret(BYTES)
    assert secret.reveal() == BYTES
    assert (len(secret), secret.wiped) == (32, False)
    secret.wipe()
    assert (len(secret), secret.wiped) == (0, True)
    with pytest.raises(ValueError, match="wiped"):
        secret.reveal()


def test_wiping_overwrites_the_bytes_themselves() -> None:
    secret = Secret(BYTES)
    held = secret._data
    assert held is not None
    secret.wipe()
    assert held == bytes(32)


def test_wiping_twice_is_harmless() -> None:
    secret = Secret(BYTES)
    secret.wipe()
    secret.wipe()
    assert secret.wiped


def test_a_secret_owns_its_bytes() -> None:
    given = bytearray(BYTES)
    secret = Secret(given)
    given[:] = bytes(32)
    assert secret.reveal() == BYTES


def test_no_text_about_a_secret_contains_it() -> None:
    @frozen
    class Holder:
        inner: Secret

    secret = Secret(BYTES)
    for text in (repr(secret), str(secret), f"{secret}", repr(Holder(secret)), repr([secret])):
        assert "thirty" not in text
        assert "<Secret 32>" in text
    secret.wipe()
    assert repr(secret) == "<Secret wiped>"


def test_equal_secrets_are_equal() -> None:
    assert Secret(BYTES) == Secret(BYTES)
    assert Secret(BYTES) != Secret(bytes(32))
    assert Secret(BYTES) != BYTES


def test_a_wiped_secret_equals_only_itself() -> None:
    wiped, other = Secret(BYTES), Secret(BYTES)
    wiped.wipe()
    assert wiped == wiped
    assert wiped != other
    other.wipe()
    assert wiped != other


def test_a_secret_is_no_key_of_a_dict() -> None:
    with pytest.raises(TypeError):
        hash(Secret(BYTES))


def test_a_secret_is_neither_pickled_nor_copied_by_accident() -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(Secret(BYTES))
    with pytest.raises(TypeError, match="not pickled"):
        copy.deepcopy(Secret(BYTES))


def test_a_view_is_the_secret_itself_and_ends_with_it() -> None:
    secret = Secret(b"s" * 32)
    lent = secret.view()
    assert lent == b"s" * 32
    secret.wipe()
    assert lent == bytes(32)
    with pytest.raises(ValueError, match="wiped"):
        secret.view()


def test_an_adopted_buffer_is_not_copied() -> None:
    buffer = bytearray(b"a" * 32)
    secret = Secret.adopt(buffer)
    assert secret.view() is buffer
    secret.wipe()
    assert buffer == bytes(32)


def test_a_copy_lives_and_is_wiped_on_its_own() -> None:
    first = Secret(b"c" * 32)
    second = first.copy()
    first.wipe()
    assert second.reveal() == b"c" * 32
    assert first.copy().wiped


def test_a_secret_that_is_let_go_of_is_wiped() -> None:
    secret = Secret(b"g" * 32)
    lent = secret.view()
    del secret
    assert lent == bytes(32)


def test_what_is_no_bytes_is_no_secret_and_makes_no_noise() -> None:
    with pytest.raises(TypeError):
        Secret(None)  # type: ignore[arg-type]
