"""The primitives against their standards."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawchat.core.crypto import suite

# RFC 5869, appendix A.1 to A.3: the test cases with SHA-256.
LONG_OKM = (
    "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb"
    "41c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87"
)
RFC_5869 = [
    (
        "0b" * 22,
        bytes(range(13)).hex(),
        bytes(range(0xF0, 0xFA)).hex(),
        42,
        "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    (
        bytes(range(0x50)).hex(),
        bytes(range(0x60, 0xB0)).hex(),
        bytes(range(0xB0, 0x100)).hex(),
        82,
        "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
        LONG_OKM,
    ),
    (
        "0b" * 22,
        "",
        "",
        42,
        "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ),
]
keys = st.binary(min_size=32, max_size=32)
h = bytes.fromhex


@pytest.mark.parametrize(("ikm", "salt", "info", "size", "prk", "okm"), RFC_5869)
def test_hkdf_agrees_with_rfc_5869(
    ikm: str, salt: str, info: str, size: int, prk: str, okm: str
) -> None:
    assert suite.hkdf_extract(h(salt), h(ikm)).hex() == prk
    assert suite.hkdf_expand(h(prk), h(info), size).hex() == okm


@given(keys, keys, st.integers(1, 64))
def test_a_wrong_secret_gives_another_key(secret: bytes, other: bytes, size: int) -> None:
    """Version 2 of the protocol died of an expand that ignored its key: this is its grave."""
    if secret != other:
        assert suite.expand(secret, b"key", 32) != suite.expand(other, b"key", 32)
        assert suite.extract(b"salt", secret) != suite.extract(b"salt", other)
        assert suite.extract(secret, b"ikm") != suite.extract(other, b"ikm")
    assert len(suite.expand(secret, b"key", size)) == size


def test_expand_prefixes_the_name_of_the_protocol() -> None:
    prk = bytes(32)
    assert suite.expand(prk, b"hint", 16) == suite.hkdf_expand(prk, b"clawchat 3 hint", 16)
    assert suite.expand(prk, b"hint", 16) != suite.expand(prk, b"psk", 16)


def test_what_is_derived_into_memory_that_can_be_wiped_is_the_same() -> None:
    prk = suite.extract(b"salt", b"ikm")
    derived = suite.derive(b"salt", b"ikm", b"label", 40)
    expanded = suite.expand_secret(prk, b"label", 40)
    assert derived == expanded == suite.expand(prk, b"label", 40)
    for held in (derived, expanded):
        suite.wipe(held)
        assert held == bytes(40)


def test_expand_refuses_more_than_255_blocks() -> None:
    with pytest.raises(ValueError, match="larger than 8160"):
        suite.hkdf_expand(bytes(32), b"", 255 * 32 + 1)


def test_argon2id_costs_what_the_format_says() -> None:
    """An independent run at 3 passes, 64 MiB, 4 lanes gives the same key."""
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    independent = Argon2id(salt=b"s" * 16, length=32, iterations=3, lanes=4, memory_cost=65536)
    assert suite.argon2id(b"correct horse", b"s" * 16) == independent.derive(b"correct horse")


# --- AES-256-GCM ------------------------------------------------------------------------------


@given(keys, st.binary(max_size=64), st.binary(max_size=64))
def test_what_is_sealed_opens_with_the_same_key_and_data(
    key: bytes, plaintext: bytes, aad: bytes
) -> None:
    sealed = suite.aead_seal(key, bytes(12), plaintext, aad)
    assert len(sealed) == len(plaintext) + suite.TAG_SIZE
    assert suite.aead_open(key, bytes(12), sealed, aad) == plaintext


@given(keys, st.binary(max_size=64), st.data())
def test_what_was_changed_does_not_open(key: bytes, plaintext: bytes, data: st.DataObject) -> None:
    sealed = bytearray(suite.aead_seal(key, bytes(12), plaintext, b"aad"))
    assert suite.aead_open(key, bytes(12), bytes(sealed), b"aae") is None
    assert suite.aead_open(key, bytes(11) + b"1", bytes(sealed), b"aad") is None
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert suite.aead_open(key, bytes(12), bytes(sealed), b"aad") is None
    assert suite.aead_open(key, bytes(12), b"short", b"aad") is None


# --- X25519 -----------------------------------------------------------------------------------

# Points of small order (RFC 7748, 6.1 and https://cr.yp.to/ecdh.html): the result is zero.
LOW_ORDER = [
    "00" * 32,
    "01" + "00" * 31,
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ec" + "ff" * 30 + "7f",
    "ed" + "ff" * 30 + "7f",
    "ee" + "ff" * 30 + "7f",
]


def test_x25519_agrees_with_rfc_7748_section_6_1() -> None:
    alice = suite.KeyPair(h("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"))
    bob = h("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
    shared = h("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
    assert alice.public == h("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
    assert alice.dh(suite.public_key(bob)) == shared
    assert suite.dh(bob, alice.public) == shared


@pytest.mark.parametrize("point", LOW_ORDER)
def test_an_all_zero_result_is_refused(point: str) -> None:
    with pytest.raises(ValueError, match="shared key"):
        suite.dh(b"\x40" * 32, h(point))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_keys_of_a_wrong_size_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="32"):
        suite.public_key(bytes(size))
    with pytest.raises(ValueError, match="32"):
        suite.dh(b"\x40" * 32, bytes(size))


def test_a_key_pair_does_not_show_its_key() -> None:
    private = b"\x41" * 32
    assert private.hex() not in repr(suite.KeyPair(private))
    assert "AAAA" not in repr(suite.KeyPair(private))
