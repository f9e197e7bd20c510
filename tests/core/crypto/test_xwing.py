"""X-Wing: both ends agree, and nothing of no use passes."""

from __future__ import annotations

import os

import pytest

from clawchat.core.crypto import xwing
from clawchat.core.crypto.suite import Entropy
from tests.core.crypto.test_suite import LOW_ORDER


def test_both_ends_agree_on_a_secret() -> None:
    private, public = xwing.keypair(bytes(32))
    assert len(public) == xwing.PUBLIC_SIZE
    shared, ciphertext = xwing.encapsulate(public, os.urandom)
    assert len(ciphertext) == xwing.CIPHERTEXT_SIZE
    assert len(shared) == 32
    assert private.decapsulate(ciphertext) == shared


def test_each_half_of_a_ciphertext_matters() -> None:
    private, public = xwing.keypair(bytes(32))
    shared, ciphertext = xwing.encapsulate(public, os.urandom)
    for at in (0, 1087, 1088, 1118):
        altered = bytearray(ciphertext)
        altered[at] ^= 1
        assert private.decapsulate(bytes(altered)) != shared


def test_an_exact_replay_can_bring_its_own_mlkem() -> None:
    asked: list[int] = []

    def entropy(size: int) -> bytes:
        asked.append(size)
        return b"\x42" * size

    def fixed(public: bytes, entropy: Entropy) -> tuple[bytes, bytes]:
        assert len(public) == 1184
        return entropy(32), bytes(1088)

    _, public = xwing.keypair(bytes(32))
    first = xwing.encapsulate(public, entropy, mlkem=fixed)
    assert first == xwing.encapsulate(public, entropy, mlkem=fixed)
    assert asked == [32, 32, 32, 32]


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_seed_of_a_wrong_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="seed"):
        xwing.keypair(bytes(size))


def test_keys_and_ciphertexts_of_a_wrong_size_are_refused() -> None:
    private, public = xwing.keypair(bytes(32))
    for key in (public[:-1], public + b"\0"):
        with pytest.raises(ValueError, match="1216"):
            xwing.encapsulate(key, os.urandom)
    for size in (1119, 1121):
        with pytest.raises(ValueError, match="1120"):
            private.decapsulate(bytes(size))


def test_a_public_key_that_is_no_mlkem_key_is_refused() -> None:
    """FIPS 203, 7.2: coefficients above the modulus."""
    _, public = xwing.keypair(bytes(32))
    with pytest.raises(ValueError, match="ML-KEM"):
        xwing.encapsulate(b"\xff" * 384 + public[384:], os.urandom)


@pytest.mark.parametrize("point", LOW_ORDER)
def test_an_x25519_point_of_no_use_is_refused(point: str) -> None:
    private, public = xwing.keypair(bytes(32))
    _, ciphertext = xwing.encapsulate(public, os.urandom)
    with pytest.raises(ValueError, match="shared key"):
        xwing.encapsulate(public[:-32] + bytes.fromhex(point), os.urandom)
    with pytest.raises(ValueError, match="shared key"):
        private.decapsulate(ciphertext[:-32] + bytes.fromhex(point))


def test_a_wiped_key_opens_nothing() -> None:
    private, public = xwing.keypair(bytes(32))
    _, ciphertext = xwing.encapsulate(public, os.urandom)
    private.wipe()
    private.wipe()
    with pytest.raises(ValueError, match="wiped"):
        private.decapsulate(ciphertext)
