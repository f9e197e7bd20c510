"""Noise: turns, late keys, and messages that do not verify."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawchat.core.crypto.noise import (
    PATTERNS,
    CipherState,
    HandshakeState,
    Token,
    messages_of,
)
from clawchat.core.crypto.suite import KeyPair, public_key
from clawchat.errors import Drop, Malformed
from tests.core.crypto.test_suite import LOW_ORDER

I_STATIC, R_STATIC, I_EPHEMERAL, R_EPHEMERAL, PSK = (bytes((n,)) * 32 for n in range(0x41, 0x46))
ALL = [
    *PATTERNS,
    *(f"{p}psk{n}" for p, rows in PATTERNS.items() for n in range(len(rows.messages) + 1)),
    "XKpsk0+psk3",
    "KKpsk0+psk2",
    "IKpsk0+psk2",
]


def pair(
    pattern: str = "IKpsk2", hash_name: str = "SHA256"
) -> tuple[HandshakeState, HandshakeState]:
    known, rows = messages_of(pattern)
    psks = (PSK,) * sum(row.count(Token.PSK) for row in rows)
    tokens = {token for row in rows for token in row}
    mine = known.initiator_known or any(Token.S in row for row in rows[::2])
    theirs = known.responder_known or any(Token.S in row for row in rows[1::2])
    assert Token.E in tokens
    initiator = HandshakeState(
        pattern,
        initiator=True,
        prologue=b"prologue",
        s=I_STATIC if mine else None,
        e=I_EPHEMERAL,
        rs=public_key(R_STATIC) if known.responder_known else None,
        psks=psks,
        hash_name=hash_name,
    )
    responder = HandshakeState(
        pattern,
        initiator=False,
        prologue=b"prologue",
        s=R_STATIC if theirs else None,
        e=R_EPHEMERAL,
        rs=public_key(I_STATIC) if known.initiator_known else None,
        psks=psks,
        hash_name=hash_name,
    )
    return initiator, responder


def state_of(side: HandshakeState) -> tuple[object, ...]:
    return side.hash, side.chaining_key, side.rs, side.finished


@pytest.mark.parametrize("hash_name", ["SHA256", "SHA512"])
@pytest.mark.parametrize("pattern", ALL)
def test_both_sides_of_every_pattern_agree(pattern: str, hash_name: str) -> None:
    writer, reader = initiator, responder = pair(pattern, hash_name)
    while not initiator.finished:
        payload = b"payload of " + pattern.encode()
        assert reader.read_message(writer.write_message(payload)) == payload
        writer, reader = reader, writer
    assert responder.finished
    assert state_of(initiator)[:2] == state_of(responder)[:2]
    (send, receive), (back, forth) = initiator.split(), responder.split()
    for number in range(3):
        text = f"message {number}".encode()
        assert forth.decrypt(b"aad", send.encrypt(b"aad", text)) == text
        assert receive.decrypt(b"", back.encrypt(b"", text)) == text


def test_the_responder_learns_who_is_there_before_it_needs_a_psk() -> None:
    initiator, _ = pair()
    responder = HandshakeState(
        initiator=False, prologue=b"prologue", s=KeyPair(R_STATIC), e=KeyPair(R_EPHEMERAL)
    )
    assert responder.read_message(initiator.write_message(b"hello")) == b"hello"
    assert responder.rs == public_key(I_STATIC)
    before = state_of(responder)
    with pytest.raises(ValueError, match="psk that is missing"):
        responder.write_message(b"")
    assert state_of(responder) == before
    responder.set_psk(PSK)
    assert initiator.read_message(responder.write_message(b"welcome")) == b"welcome"
    assert initiator.hash == responder.hash


def test_reading_without_a_psk_leaves_the_state_alone() -> None:
    _, responder = pair()
    initiator = HandshakeState(
        initiator=True, prologue=b"prologue", s=I_STATIC, e=I_EPHEMERAL, rs=public_key(R_STATIC)
    )
    responder.read_message(initiator.write_message(b""))
    reply, before = responder.write_message(b"welcome"), state_of(initiator)
    with pytest.raises(ValueError, match="psk"):
        initiator.read_message(reply)
    assert state_of(initiator) == before
    initiator.set_psk(PSK)
    assert initiator.read_message(reply) == b"welcome"


@given(st.binary(max_size=300))
def test_a_foreign_message_leaves_the_responder_as_it_was(message: bytes) -> None:
    initiator, responder = pair()
    before = state_of(responder)
    with pytest.raises(Malformed) as caught:
        responder.read_message(message)
    assert caught.value.drop is Drop.HANDSHAKE
    assert state_of(responder) == before
    assert responder.read_message(initiator.write_message(b"hello")) == b"hello"


@given(st.data())
def test_an_altered_message_leaves_the_reader_as_it_was(data: st.DataObject) -> None:
    initiator, responder = pair()
    genuine = initiator.write_message(b"hello")
    reader, other = responder, initiator
    if data.draw(st.booleans()):
        responder.read_message(genuine)
        genuine, reader, other = responder.write_message(b"hello"), initiator, responder
    altered = bytearray(genuine)
    altered[data.draw(st.integers(0, len(altered) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    before = state_of(reader)
    # The top bit of an ephemeral key is ignored by X25519, but hashed, so even that is noticed.
    with pytest.raises(Malformed):
        reader.read_message(bytes(altered))
    assert state_of(reader) == before
    assert reader.read_message(genuine) == b"hello"
    assert reader.hash == other.hash


@pytest.mark.parametrize("point", LOW_ORDER)
def test_a_low_order_point_is_refused_on_reading(point: str) -> None:
    _, responder = pair()
    before = state_of(responder)
    with pytest.raises(Malformed) as caught:
        responder.read_message(bytes.fromhex(point) + bytes(64))
    assert caught.value.drop is Drop.HANDSHAKE
    assert state_of(responder) == before


def test_a_message_longer_than_noise_allows_is_not_written() -> None:
    initiator, responder = pair("IKpsk0")
    with pytest.raises(ValueError, match="65535"):
        initiator.write_message(bytes(65536 - 96))
    message = initiator.write_message(bytes(65535 - 96))
    assert len(message) == 65535
    assert responder.read_message(message) == bytes(65535 - 96)


def test_a_message_longer_than_noise_allows_is_not_read_even_if_it_would_verify() -> None:
    """In NN nothing of the first message is sealed."""
    for size in (65536, 65537):
        with pytest.raises(Malformed):
            pair("NN")[1].read_message(public_key(I_EPHEMERAL) + bytes(size - 32))
    _, responder = pair("NN")
    payload = bytes(65535 - 32)
    assert responder.read_message(public_key(I_EPHEMERAL) + payload) == payload


def test_a_message_that_ends_within_a_key_is_refused() -> None:
    for size in (0, 31):
        _, responder = pair("NN")
        with pytest.raises(Malformed) as caught:
            responder.read_message(bytes(size))
        assert caught.value.drop is Drop.HANDSHAKE


def test_messages_come_in_turns() -> None:
    initiator, responder = pair()
    with pytest.raises(ValueError, match="no such message now"):
        initiator.read_message(b"")
    with pytest.raises(ValueError, match="no such message now"):
        responder.write_message(b"")
    with pytest.raises(ValueError, match="not finished"):
        initiator.split()
    responder.read_message(initiator.write_message(b""))
    with pytest.raises(ValueError, match="no such message now"):
        initiator.write_message(b"")
    initiator.read_message(responder.write_message(b""))
    with pytest.raises(ValueError, match="no such message now"):
        initiator.write_message(b"")


@pytest.mark.parametrize("pattern", ["ZZ", "", "IKpsk3", "IKpsk", "IKpsk00", "IK2", "IKfallback"])
def test_a_pattern_without_rows_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="no Noise pattern"):
        HandshakeState(pattern, initiator=True, prologue=b"", s=I_STATIC, e=I_EPHEMERAL)


def test_a_missing_or_unusable_key_is_refused() -> None:
    def initiator(pattern: str, s: bytes | None, rs: bytes | None) -> HandshakeState:
        return HandshakeState(pattern, initiator=True, prologue=b"", s=s, e=I_EPHEMERAL, rs=rs)

    for rs in (None, b"short", bytes(33)):
        with pytest.raises(ValueError, match="static key that is missing"):
            initiator("IK", I_STATIC, rs)
    with pytest.raises(ValueError, match="static key that is missing"):
        initiator("KK", None, bytes(32))
    with pytest.raises(ValueError, match="static key that is missing"):
        initiator("IK", None, public_key(R_STATIC)).write_message(b"")
    for size in (0, 31, 33):
        with pytest.raises(ValueError, match="32 bytes"):
            initiator("NN", None, None).set_psk(bytes(size))


def test_a_wiped_handshake_cannot_go_on() -> None:
    initiator, _ = pair()
    secret = initiator.chaining_key
    initiator.wipe()
    assert initiator.chaining_key != secret
    with pytest.raises(ValueError, match="no such message now"):
        initiator.write_message(b"")


def test_a_wiped_handshake_holds_no_key_and_gives_none() -> None:
    initiator, responder = pair()
    responder.read_message(initiator.write_message(b""))
    initiator.read_message(responder.write_message(b""))
    for side in (initiator, responder):
        side.split()
        side.wipe()
        assert (side._s, side._e, side._psks) == (None, None, [])
        assert (side.chaining_key, side.hash) == (b"", b"")
        with pytest.raises(ValueError, match="not finished"):
            side.split()


def test_a_cipher_that_fails_to_open_does_not_count() -> None:
    send, receive = CipherState(bytes(32)), CipherState(bytes(32))
    sealed = send.encrypt(b"", b"text")
    with pytest.raises(Malformed):
        receive.decrypt(b"other", sealed)
    assert receive.decrypt(b"", sealed) == b"text"


def test_a_pattern_that_lacks_the_peers_key_when_it_is_needed_says_so() -> None:
    """KK and IK need it beforehand; a row that asked for one that never comes must not pass."""
    initiator, _ = pair("XX")
    with pytest.raises(ValueError, match="not known"):
        initiator._dh(Token.SS)


@pytest.mark.parametrize("role", ["initiator", "responder"])
def test_a_live_handshake_with_an_independent_implementation(role: str) -> None:
    from noise.connection import Keypair, NoiseConnection

    ours_first = role == "initiator"
    mine, theirs = (I_STATIC, R_STATIC) if ours_first else (R_STATIC, I_STATIC)
    other = NoiseConnection.from_name(b"Noise_IKpsk2_25519_AESGCM_SHA256")
    other.set_prologue(b"clawchat 3")
    other.set_psks(PSK)
    other.set_keypair_from_private_bytes(Keypair.STATIC, theirs)
    if ours_first:
        other.set_as_responder()
    else:
        other.set_as_initiator()
        other.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, public_key(mine))
    other.start_handshake()
    ours = HandshakeState(
        initiator=ours_first,
        prologue=b"clawchat 3",
        s=mine,
        e=I_EPHEMERAL,
        rs=public_key(theirs) if ours_first else None,
        psks=(PSK,),
    )
    if ours_first:
        assert other.read_message(ours.write_message(b"hello")) == b"hello"
        assert ours.read_message(bytes(other.write_message(b"welcome"))) == b"welcome"
    else:
        assert ours.read_message(bytes(other.write_message(b"hello"))) == b"hello"
        assert other.read_message(ours.write_message(b"welcome")) == b"welcome"
    assert ours.finished
    assert other.handshake_finished
    assert other.get_handshake_hash() == ours.hash
    assert ours.rs == public_key(theirs)
    send, receive = ours.split()
    for text in (b"first", b"second"):
        assert other.decrypt(send.encrypt(b"", text)) == text
        assert receive.decrypt(b"", bytes(other.encrypt(text))) == text
