"""The key schedule, written a second time with plain HMAC and compared."""

from __future__ import annotations

import hmac
from hashlib import sha256

import pytest

from clawchat.core.crypto import schedule
from clawchat.core.crypto.packets import DIALER, LISTENER, OpenKeys, SealKeys
from clawchat.core.secret import Secret

FILE_ID = bytes(range(16))
SECRET = bytes(range(100, 132))
CK, H = b"\x01" * 32, b"\x02" * 32


def mac(key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, sha256).digest()


def expand_32(prk: bytes, label: bytes) -> bytes:
    """HKDF-Expand for at most one block: T(1) = HMAC(prk, info | 0x01)."""
    return mac(prk, b"clawchat 3 " + label + b"\x01")


def test_a_credential_comes_from_file_id_and_secret() -> None:
    prk = mac(FILE_ID, SECRET)
    for secret in (SECRET, Secret(SECRET)):
        credential = schedule.derive_credential(FILE_ID, 7, secret)
        assert credential.generation == 7
        assert credential.hint == expand_32(prk, b"hint")[:16]
        assert credential.envelope_key.reveal() == expand_32(prk, b"envelope")
        assert credential.psk.reveal() == expand_32(prk, b"psk")


@pytest.mark.parametrize(("file_id", "secret"), [(bytes(16), SECRET), (FILE_ID, bytes(32))])
def test_another_file_or_secret_shares_nothing(file_id: bytes, secret: bytes) -> None:
    mine = schedule.derive_credential(FILE_ID, 0, SECRET)
    other = schedule.derive_credential(file_id, 0, secret)
    assert mine.hint != other.hint
    assert mine.envelope_key != other.envelope_key
    assert mine.psk != other.psk


def test_a_finished_handshake_gives_a_root_and_the_next_secret() -> None:
    prk = mac(H, CK)
    assert schedule.first_root(CK, H).reveal() == expand_32(prk, b"root")
    assert schedule.next_secret(CK, H).reveal() == expand_32(prk, b"next")


def test_the_ratchet_binds_epoch_offer_and_reply() -> None:
    root, shared = Secret(b"\x03" * 32), b"\x04" * 32
    offer, reply = b"o" * 1216, b"r" * 1120
    transcript = sha256(b"\0\0\0\x05" + offer + reply).digest()
    expected = expand_32(mac(b"\x03" * 32, shared), b"ratchet " + transcript)
    assert schedule.ratchet_root(root, shared, 5, offer, reply).reveal() == expected
    for other in (
        schedule.ratchet_root(root, shared, 6, offer, reply),
        schedule.ratchet_root(root, shared, 5, b"p" + offer[1:], reply),
        schedule.ratchet_root(root, shared, 5, offer, b"s" + reply[1:]),
        schedule.ratchet_root(root, b"\x05" * 32, 5, offer, reply),
        schedule.ratchet_root(Secret(bytes(32)), shared, 5, offer, reply),
    ):
        assert other.reveal() != expected


def test_the_prologue_is_label_file_id_and_generation() -> None:
    assert schedule.prologue(FILE_ID, 258) == b"clawchat 3" + FILE_ID + b"\0\0\0\0\0\0\x01\x02"


def test_each_side_opens_what_the_other_seals() -> None:
    dialer = schedule.EpochKeys(Secret(SECRET), 0, dialer=True)
    listener = schedule.EpochKeys(Secret(SECRET), 0, dialer=False)
    for seal, opening in ((dialer.seal, listener.open), (listener.seal, dialer.open)):
        (datagram,) = seal.seal(0, 0, [b"payload"])
        assert opening.open(0, datagram[:8], [datagram], -1) == [(0, b"payload")]
    assert dialer.seal.cid(0) != listener.seal.cid(0)
    assert dialer.seal.cid(0) == SealKeys(Secret(SECRET), 0, DIALER).cid(0)
    assert dialer.open.cid(0) == OpenKeys(Secret(SECRET), 0, LISTENER).cid(0)


def test_wiping_an_epoch_wipes_its_root_and_both_directions() -> None:
    keys = schedule.EpochKeys(Secret(SECRET), 3, dialer=True)
    assert keys.epoch == 3
    keys.wipe()
    keys.wipe()
    assert keys.root.wiped
    for use in (
        lambda: keys.seal.seal(0, 0, [b"x"]),
        lambda: keys.open.open(0, bytes(8), [bytes(40)], -1),
        lambda: keys.seal.cid(0),
        lambda: keys.open.cid(0),
    ):
        with pytest.raises(ValueError, match="wiped"):
            use()
