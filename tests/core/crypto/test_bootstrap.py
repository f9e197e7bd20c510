"""Bootstrap files: every way to fail has a text of its own that names the file and what to do."""

from __future__ import annotations

import os
from base64 import urlsafe_b64encode

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from clawchat.core.actions import BootstrapContent
from clawchat.core.crypto import bootstrap, suite
from clawchat.core.crypto.bootstrap import (
    BootstrapKey,
    expiry_text,
    open_bootstrap,
    seal_bootstrap,
)
from clawchat.core.crypto.suite import aead_seal
from clawchat.errors import (
    BootstrapError,
    BootstrapForeign,
    BootstrapKeyInvalid,
    BootstrapKeyMissing,
    BootstrapKeyWrong,
    BootstrapTruncated,
    BootstrapVersion,
)
from tests.core.wire.test_bootstrap_body import CONTENT, contents

NAME = "shared/clawchat-current.sec"
RAW = bytes(range(200, 232))
TEXT = urlsafe_b64encode(RAW).decode().rstrip("=")


def key() -> BootstrapKey:
    return BootstrapKey.from_base64url(TEXT)


def sealed() -> bytes:
    return seal_bootstrap(CONTENT, key(), os.urandom)


def refusal(data: bytes, kind: type[BootstrapError], using: BootstrapKey | None = None) -> str:
    with pytest.raises(kind) as caught:
        open_bootstrap(data, using or key(), name=NAME)
    assert type(caught.value) is kind
    text = str(caught.value)
    assert text.startswith(NAME)
    assert RAW.hex() not in text
    assert TEXT not in text
    return text


@given(contents())
def test_a_file_opens_with_its_key(content: BootstrapContent) -> None:
    data = seal_bootstrap(content, key(), os.urandom)
    assert len(data) <= bootstrap.FILE_SIZE_MAX
    assert open_bootstrap(data, key(), name=NAME) == content


def test_two_files_of_the_same_content_share_no_byte_of_ciphertext_key_or_nonce() -> None:
    first, second = sealed(), sealed()
    assert first[:9] == second[:9]
    assert first[9:37] != second[9:37]
    assert first[39:] != second[39:]


def test_a_wrong_key_says_so() -> None:
    other = BootstrapKey.from_base64url(urlsafe_b64encode(bytes(32)).decode())
    assert "clawchat sec new" in refusal(sealed(), BootstrapKeyWrong, other)


@given(st.data())
def test_an_altered_byte_never_passes(data: st.DataObject) -> None:
    original = bytearray(seal_bootstrap(CONTENT, key(), bytes))
    original[data.draw(st.integers(0, len(original) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(BootstrapError):
        open_bootstrap(bytes(original), key(), name=NAME)


def test_every_truncation_is_named_as_one() -> None:
    data = sealed()
    for size in range(len(data)):
        assert "ends early" in refusal(data[:size], BootstrapTruncated)


def test_bytes_left_over_are_named() -> None:
    assert "longer" in refusal(sealed() + b"\n", BootstrapTruncated)


def test_a_file_that_claims_to_be_larger_than_any_is_refused_before_a_key_is_derived() -> None:
    head = sealed()[:37] + (3000).to_bytes(2, "big")
    data = head[:8] + b"\x02" + head[9:] + bytes(3000)
    assert "longer" in refusal(data, BootstrapTruncated)


@pytest.mark.parametrize("size", [39, 2048])
def test_a_file_of_a_possible_size_is_tried_with_the_key(size: int) -> None:
    data = sealed()[:37] + (size - 39).to_bytes(2, "big") + bytes(size - 39)
    assert "does not open" in refusal(data, BootstrapKeyWrong)


def test_no_file_has_more_than_2048_bytes() -> None:
    data = sealed()[:37] + (2049 - 39).to_bytes(2, "big") + bytes(2049 - 39)
    assert "longer" in refusal(data, BootstrapTruncated)


@pytest.mark.parametrize("data", [b"PK\x03\x04", b"CLAWSEX" + bytes(100), b"{}", b"\0"])
def test_a_foreign_file_is_named_as_one(data: bytes) -> None:
    assert "not a ClawChat bootstrap file" in refusal(data, BootstrapForeign)


def test_a_future_version_asks_for_an_update() -> None:
    data = bytearray(sealed())
    data[7] = 4
    assert "update this ClawChat" in refusal(bytes(data) + bytes(5000), BootstrapVersion)


def test_an_older_version_asks_for_an_update_of_the_listener() -> None:
    data = bytearray(sealed())
    data[7] = 2
    assert "update the listener" in refusal(bytes(data), BootstrapForeign)


def test_an_unknown_kdf_is_damage() -> None:
    data = bytearray(sealed())
    data[8] = 3
    assert "damaged" in refusal(bytes(data), BootstrapForeign)


def test_a_file_that_opens_onto_nonsense_is_refused() -> None:
    salt, nonce, body = bytes(16), bytes(12), b"nonsense"
    head = b"CLAWSEC\x03\x01" + salt + nonce + (len(body) + 16).to_bytes(2, "big")
    data = head + aead_seal(key().derive(salt), nonce, body, head)
    assert "opens, but" in refusal(data, BootstrapForeign)


# --- keys -------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [None, "", "  \n"])
def test_a_missing_key_names_its_setting(text: str | None) -> None:
    with pytest.raises(BootstrapKeyMissing, match="CLAWCHAT_BOOTSTRAP_KEY is not set"):
        BootstrapKey.from_base64url(text)


@pytest.mark.parametrize("text", [None, ""])
def test_a_missing_passphrase_is_refused(text: str | None) -> None:
    with pytest.raises(BootstrapKeyMissing, match="passphrase is empty"):
        BootstrapKey.from_passphrase(text)


@pytest.mark.parametrize(
    "text",
    [
        "abc",
        TEXT[:-1],
        TEXT + "A",
        TEXT.replace("A", "!") + "!",
        "ключ" * 11,
        TEXT[:-2] + "+/",
        TEXT[:20] + " " + TEXT[20:],
        TEXT[:20] + "!!!!" + TEXT[20:],
        TEXT + "==",
        "=",
    ],
)
def test_a_key_that_is_not_32_bytes_of_base64url_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(BootstrapKeyInvalid, match="--key is not 32 bytes") as caught:
        BootstrapKey.from_base64url(text, name="--key")
    assert text == "=" or text not in str(caught.value)


def test_a_passphrase_in_which_there_are_43_letters_is_not_taken_for_a_key() -> None:
    """A key is not stretched by Argon2id."""
    text = "correct horse battery staple mountain rivers upon"
    assert len(text.replace(" ", "")) == 43
    with pytest.raises(BootstrapKeyInvalid):
        BootstrapKey.from_base64url(text)


def test_a_key_becomes_the_key_of_a_file_as_the_format_says() -> None:
    prk = suite.extract(b"salt", RAW)
    assert key().derive(b"salt") == suite.hkdf_expand(prk, b"clawchat 3 bootstrap", 32)


@pytest.mark.parametrize("text", [TEXT, TEXT + "=", f"  {TEXT}\n"])
def test_padding_and_blanks_around_a_key_do_not_matter(text: str) -> None:
    assert BootstrapKey.from_base64url(text).derive(b"s") == key().derive(b"s")


def test_a_key_is_not_shown_and_can_be_wiped() -> None:
    held = key()
    assert TEXT not in repr(held)
    held.wipe()
    with pytest.raises(ValueError, match="wiped"):
        held.derive(b"s")


# --- time -------------------------------------------------------------------------------------


def test_an_expired_file_opens_and_gives_a_warning() -> None:
    old = evolve(CONTENT, issued=1000, expires=1660)
    data = seal_bootstrap(old, key(), os.urandom)
    content = open_bootstrap(data, key(), name=NAME)
    text = expiry_text(content, 1660 + 3601, name=NAME)
    assert text is not None
    assert text.startswith(f"{NAME} expired 60 min ago")
    assert "clawchat sec new" in text


def test_a_file_expires_at_the_second_that_it_names() -> None:
    text = expiry_text(CONTENT, CONTENT.expires, name=NAME)
    assert text is not None
    assert "expired 0 min ago" in text


def test_a_file_within_its_time_gives_no_warning() -> None:
    for now in (CONTENT.issued - 60, CONTENT.issued, CONTENT.expires - 1):
        assert expiry_text(CONTENT, now, name=NAME) is None


def test_a_file_from_the_future_points_at_the_clock() -> None:
    text = expiry_text(CONTENT, CONTENT.issued - 61, name=NAME)
    assert text is not None
    assert "check the clock" in text


# --- passphrases, which take their time --------------------------------------------------------


def test_a_file_opens_with_its_passphrase_however_it_was_typed() -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    data = seal_bootstrap(CONTENT, BootstrapKey.from_passphrase(composed), os.urandom)
    assert open_bootstrap(data, BootstrapKey.from_passphrase(decomposed), name=NAME) == CONTENT
    text = refusal(data, BootstrapKeyWrong, BootstrapKey.from_passphrase("cafe"))
    assert "passphrase" in text
    assert "cafe" not in text


def test_a_key_where_a_passphrase_is_needed_says_so_and_the_other_way_round() -> None:
    passphrase = BootstrapKey.from_passphrase("x")
    text = refusal(sealed(), BootstrapKeyWrong, passphrase)
    assert "was sealed with a key, not a passphrase: give the key that" in text
    text = refusal(seal_bootstrap(CONTENT, passphrase, os.urandom), BootstrapKeyWrong)
    assert "was sealed with a passphrase, not a key: give the passphrase that" in text


def test_a_passphrase_that_is_no_text_still_makes_a_key() -> None:
    """A terminal or an environment that is not UTF-8 gives its bytes as lone surrogates."""
    key = BootstrapKey.from_passphrase("caf\udce9")
    assert key.derive(b"s" * 16) == suite.argon2id(b"caf\xed\xb3\xa9", b"s" * 16)
