"""Pairings and credentials as values, and the numbers of streams."""

from __future__ import annotations

import pytest

from clawchat.core.credential import Address, Pairing
from clawchat.core.crypto.schedule import derive_credential
from clawchat.core.events import StreamClass, stream_id

FILE_ID = bytes(range(16))


def pairing() -> Pairing:
    newer = derive_credential(FILE_ID, 4, b"\x04" * 32)
    older = derive_credential(FILE_ID, 3, b"\x03" * 32)
    return Pairing(FILE_ID, True, b"\x01" * 32, b"\x01" * 32, (newer, older))


def test_the_newest_generation_comes_first() -> None:
    assert pairing().newest.generation == 4


def test_a_pairing_prints_its_hints_and_none_of_its_secrets() -> None:
    known = pairing()
    text = repr(known)
    for credential in known.credentials:
        assert repr(credential.hint) in text
        for secret in (credential.psk, credential.envelope_key):
            assert repr(secret.reveal())[2:-1] not in text
    assert text.count("<Secret 32>") == 4


def test_an_address_is_written_as_people_write_it() -> None:
    assert str(Address("192.0.2.7", 443)) == "192.0.2.7:443"
    assert str(Address("2001:db8::7", 443)) == "[2001:db8::7]:443"


@pytest.mark.parametrize(
    ("sequence", "kind", "dialer", "number"),
    [
        (1, StreamClass.INTERACTIVE, True, 4),
        (1, StreamClass.INTERACTIVE, False, 5),
        (1, StreamClass.BULK, True, 6),
        (1, StreamClass.BULK, False, 7),
        (2, StreamClass.INTERACTIVE, True, 8),
    ],
)
def test_a_stream_id_holds_who_opened_it_its_class_and_its_sequence(
    sequence: int, kind: StreamClass, dialer: bool, number: int
) -> None:
    assert stream_id(sequence, kind, dialer=dialer) == number
