"""Packets, against a second implementation that seals them one by one."""

from __future__ import annotations

from hmac import digest

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import ECB
from hypothesis import example, given
from hypothesis import strategies as st

from clawchat.core.crypto import packets, suite
from clawchat.core.crypto.packets import DIALER, LISTENER, OVERHEAD, OpenKeys, SealKeys
from clawchat.core.crypto.suite import expand
from clawchat.core.events import Buffer
from clawchat.core.secret import Secret

ROOT = bytes(range(32))
payloads = st.lists(st.binary(min_size=1, max_size=80), min_size=1, max_size=9)
numbers = st.one_of(st.integers(0, 1 << 23), st.integers(0, (1 << 62) - 10))
paths = st.integers(0, (1 << 32) - 1)


def aes_block(key: bytes, block: bytes) -> bytes:
    return Cipher(AES256(key), ECB()).encryptor().update(block)


def seal_one(
    path: int, epoch: int, pn: int, payload: bytes, *, flags: int = 0, side: bytes = b"dialer"
) -> bytes:
    """One packet, step by step as PROTOCOL.md "Sealing" has it."""
    key, iv = expand(ROOT, b"key " + side, 32), expand(ROOT, b"iv " + side, 12)
    cid = digest(expand(ROOT, b"cid " + side, 32), path.to_bytes(4, "big"), "sha256")[:8]
    nonce = bytes(a ^ b for a, b in zip(iv, pn.to_bytes(12, "big"), strict=True))
    aad = cid + bytes((flags,)) + pn.to_bytes(8, "big")
    aad += epoch.to_bytes(4, "big") + path.to_bytes(4, "big")
    ciphertext = AESGCM(key).encrypt(nonce, payload, aad)
    mask = aes_block(expand(ROOT, b"mask " + side, 32), ciphertext[:16])[:5]
    plain = bytes((flags,)) + (pn & 0xFFFFFFFF).to_bytes(4, "big")
    return cid + bytes(a ^ b for a, b in zip(mask, plain, strict=True)) + ciphertext


def decode_number(largest: int, truncated: int) -> int:
    """RFC 9000, appendix A.3, for 32 bits."""
    expected, window = largest + 1, 1 << 32
    candidate = (expected & ~(window - 1)) | truncated
    if candidate <= expected - window // 2 and candidate < (1 << 62) - window:
        return candidate + window
    if candidate > expected + window // 2 and candidate >= window:
        return candidate - window
    return candidate


def seal_keys(epoch: int = 0) -> SealKeys:
    return SealKeys(Secret(ROOT), epoch, DIALER)


def open_keys(epoch: int = 0) -> OpenKeys:
    return OpenKeys(Secret(ROOT), epoch, DIALER)


def test_the_block_cipher_of_the_second_implementation_is_aes_256() -> None:
    """FIPS 197, appendix C.3."""
    block = bytes.fromhex("00112233445566778899aabbccddeeff")
    assert aes_block(bytes(range(32)), block).hex() == "8ea2b7ca516745bfeafc49904b496089"


@given(paths, st.integers(0, 100), numbers, payloads)
def test_a_batch_is_what_one_by_one_gives(
    path: int, epoch: int, first: int, batch: list[bytes]
) -> None:
    keys = seal_keys(epoch)
    sealed = keys.seal(path, first, batch)
    assert sealed == [seal_one(path, epoch, first + i, p) for i, p in enumerate(batch)]
    assert keys.sealed == len(batch)
    assert [len(datagram) - len(p) for datagram, p in zip(sealed, batch, strict=True)] == [
        OVERHEAD
    ] * len(batch)


@pytest.mark.parametrize("side", [b"dialer", b"listener"])
def test_each_direction_has_keys_of_its_own_name(side: bytes) -> None:
    keys = SealKeys(Secret(ROOT), 7, DIALER if side == b"dialer" else LISTENER)
    for path in (1, 0, 2):
        (datagram,) = keys.seal(path, 5, [b"payload"])
        assert datagram == seal_one(path, 7, 5, b"payload", side=side)


@given(paths, numbers, payloads, st.integers(-1000, 1000), st.booleans())
def test_what_was_sealed_opens_with_its_number(
    path: int, first: int, batch: list[bytes], lag: int, views: bool
) -> None:
    sealed = seal_keys().seal(path, first, batch)
    largest = max(-1, first + lag)
    datagrams = [memoryview(d) for d in sealed] if views else sealed
    opened = open_keys().open(path, sealed[0][:8], datagrams, largest)
    assert opened == [(first + i, payload) for i, payload in enumerate(batch)]


@given(st.integers(-1, 1 << 40), st.integers(-(1 << 31), 1 << 31))
@example(1 << 40, -(1 << 31))
@example(1 << 40, 1 - (1 << 31))
@example(1 << 40, (1 << 31) - 1)
@example(1 << 40, 1 << 31)
def test_a_number_is_completed_as_rfc_9000_says(largest: int, distance: int) -> None:
    number = max(0, largest + 1 + distance)
    (datagram,) = seal_keys().seal(0, number, [b"payload"])
    (opened,) = open_keys().open(0, datagram[:8], [datagram], largest)
    if decode_number(largest, number & 0xFFFFFFFF) == number:
        assert opened == (number, b"payload")
    else:
        assert opened is None


@given(st.integers(-1, 1 << 33), st.integers(0, (1 << 32) - 1))
def test_every_header_number_is_completed_as_rfc_9000_says(largest: int, truncated: int) -> None:
    number = decode_number(largest, truncated)
    (datagram,) = seal_keys().seal(0, number, [b"payload"])
    assert open_keys().open(0, datagram[:8], [datagram], largest) == [(number, b"payload")]


@given(payloads, st.data())
def test_an_altered_packet_is_none_and_its_neighbours_are_not(
    batch: list[bytes], data: st.DataObject
) -> None:
    sealed = seal_keys().seal(3, 50, batch)
    victim = data.draw(st.integers(0, len(batch) - 1))
    altered = bytearray(sealed[victim])
    at = data.draw(st.integers(8, len(altered) - 1))
    altered[at] ^= 1 << data.draw(st.integers(0, 7))
    cid, sealed[victim] = sealed[0][:8], bytes(altered)
    opened = open_keys().open(3, cid, sealed, 49)
    assert opened == [None if i == victim else (50 + i, payload) for i, payload in enumerate(batch)]


@given(payloads, st.integers(0, 28))
def test_a_datagram_too_short_for_a_packet_is_none(batch: list[bytes], size: int) -> None:
    sealed = seal_keys().seal(0, 0, batch)
    keys = open_keys()
    opened = keys.open(0, sealed[0][:8], [sealed[0][:size], *sealed, sealed[0][:size]], -1)
    assert opened == [None, *((i, payload) for i, payload in enumerate(batch)), None]
    assert keys.open(0, sealed[0][:8], [b""], -1) == [None]


def test_an_empty_packet_is_as_short_as_a_packet_can_be() -> None:
    (datagram,) = seal_keys().seal(0, 0, [b""])
    assert len(datagram) == OVERHEAD == 29
    opened = open_keys().open(0, datagram[:8], [datagram[:28], datagram], -1)
    assert opened == [None, (0, b"")]


@pytest.mark.parametrize(
    ("path", "epoch", "side"), [(1, 0, DIALER), (0, 1, DIALER), (0, 0, LISTENER)]
)
def test_another_path_epoch_or_direction_does_not_open(path: int, epoch: int, side: bytes) -> None:
    (datagram,) = seal_keys().seal(0, 0, [b"payload"])
    keys = OpenKeys(Secret(ROOT), epoch, side)
    assert keys.open(path, datagram[:8], [datagram], -1) == [None]
    assert open_keys().open(0, b"\0" * 8, [datagram], -1) == [None]


@given(st.integers(1, 255), numbers)
def test_flags_of_a_later_version_are_counted_and_not_read(flags: int, number: int) -> None:
    keys = open_keys()
    ours, theirs = seal_one(0, 0, number, b"now"), seal_one(0, 0, number, b"later", flags=flags)
    opened = keys.open(0, ours[:8], [theirs, ours, theirs[:-1] + b"?"], number)
    assert opened[:2] == [None, (number, b"now")]
    assert opened[2] is None
    assert keys.reserved == (2 if theirs[-1:] == b"?" else 1)


def test_connection_ids_differ_by_path_and_direction() -> None:
    mine, theirs = seal_keys(), SealKeys(Secret(ROOT), 0, LISTENER)
    ids = [keys.cid(path) for keys in (mine, theirs) for path in range(50)]
    assert len(set(ids)) == 100
    assert {len(cid) for cid in ids} == {8}


def test_batches_on_changing_paths_bear_their_own_connection_ids() -> None:
    keys = seal_keys()
    for number, path in enumerate((0, 1, 1, 0)):
        (datagram,) = keys.seal(path, number, [b"x"])
        assert datagram[:8] == keys.cid(path)


def test_keys_show_nothing_of_themselves() -> None:
    for keys in (seal_keys(), open_keys()):
        assert ROOT.hex() not in repr(keys)
        assert not hasattr(keys, "__dict__")


def test_wiped_keys_seal_and_open_nothing_and_hold_no_secret() -> None:
    sealing, opening = seal_keys(), open_keys()
    (datagram,) = sealing.seal(0, 0, [b"payload"])
    for keys in (sealing, opening):
        keys.wipe()
        keys.wipe()
        assert (keys._aead, keys._ecb, keys._iv, keys._cid_key.wiped) == (None, None, 0, True)
        with pytest.raises(ValueError, match="wiped"):
            keys.cid(0)
    with pytest.raises(ValueError, match="wiped"):
        sealing.seal(0, 1, [b"payload"])
    with pytest.raises(ValueError, match="wiped"):
        opening.open(0, datagram[:8], [datagram], -1)


def test_what_contexts_are_made_of_is_wiped_when_they_are_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: dict[bytes, bytearray] = {}

    def expand_secret(prk: Buffer, label: bytes, size: int) -> bytearray:
        made[label] = suite.expand_secret(prk, label, size)
        return made[label]

    monkeypatch.setattr(packets, "expand_secret", expand_secret)
    keys = seal_keys()
    assert made[b"key dialer"] == made[b"mask dialer"] == bytes(32)
    assert keys.seal(0, 0, [b"payload"]) == [seal_one(0, 0, 0, b"payload")]


def test_the_keys_of_an_epoch_are_good_for_two_to_the_twenty_third_packets() -> None:
    """PROTOCOL.md "Sealing": what AES-GCM allows, with room to spare."""
    assert packets.EPOCH_PACKETS_MAX == 8_388_608
