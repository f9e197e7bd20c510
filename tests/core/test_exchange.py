"""The messages of the handshake as values: what verifies, what does not, and what is agreed."""

from __future__ import annotations

import pytest
from attrs import evolve

from clawchat.core.config import COOKIE_LIFE, DEFAULT_LIMITS
from clawchat.core.credential import Address, Credential, Pairing, Superseded
from clawchat.core.crypto.envelope import Refusal, open_hello, seal_refusal, seal_reply
from clawchat.core.crypto.noise import HandshakeState
from clawchat.core.crypto.schedule import derive_credential, prologue
from clawchat.core.crypto.suite import public_key
from clawchat.core.exchange import (
    Answer,
    DialAttempt,
    answer,
    check_cookie,
    make_cookie,
    read_hello,
)
from clawchat.core.instant import SECOND
from clawchat.core.secret import Secret
from clawchat.core.wire.parameters import Limits, encode_parameters
from clawchat.errors import Drop, Malformed
from tests.core.pair import seeded

FILE_ID = bytes(range(16))
DIALER, LISTENER = Secret(b"\x11" * 32), Secret(b"\x22" * 32)
STATIC = public_key(LISTENER.reveal())
USED = derive_credential(FILE_ID, 7, b"\x33" * 32)
PAIRING = Pairing(FILE_ID, True, STATIC, STATIC, (USED,))
SEEN = Address("192.0.2.7", 4711)
OURS = Limits(1 << 20, 1 << 18, 257, 1452)


def attempt(
    pairing: Pairing = PAIRING, *, cookie: bytes = b"", turn: int = 0, seed: str = "dialer"
) -> DialAttempt:
    return DialAttempt(DIALER, pairing, turn, OURS, cookie, seeded(seed))


def answered(hello: bytes, used: Credential = USED) -> Answer:
    message, _ = open_hello(used, hello)
    heard = read_hello(LISTENER, PAIRING, used.generation, message, seeded("listener"))
    return answer(heard, PAIRING, used, DEFAULT_LIMITS)


def reply(made: Answer, used: Credential = USED) -> bytes:
    return seal_reply(used, SEEN, made.message, seeded("reply"))


def dropped(call: DialAttempt, datagram: bytes) -> Drop:
    with pytest.raises(Malformed) as caught:
        call.read_answer(datagram)
    return caught.value.drop


def test_both_sides_agree_on_root_next_generation_and_each_others_limits() -> None:
    call = attempt()
    theirs = answered(call.hello)
    found = call.read_answer(reply(theirs))
    assert isinstance(found, tuple)
    mine, seen = found
    assert seen == SEEN
    assert (mine.dialer, theirs.agreement.dialer) == (True, False)
    assert mine.root == theirs.agreement.root
    assert mine.handshake_hash == theirs.agreement.handshake_hash
    assert mine.next_credential == theirs.agreement.next_credential
    assert mine.next_credential.generation == 8
    assert mine.peer_static == STATIC
    assert theirs.agreement.peer_static == public_key(DIALER.reveal())
    assert (mine.peer_limits, theirs.agreement.peer_limits) == (DEFAULT_LIMITS, OURS)


def test_an_attempt_uses_the_generation_whose_turn_it_is() -> None:
    older = derive_credential(FILE_ID, 6, b"\x44" * 32)
    call = attempt(evolve(PAIRING, credentials=(USED, older)), turn=1)
    assert call.hint == older.hint
    assert call.hello.startswith(older.hint)


def test_a_hello_of_one_generation_does_not_verify_as_another() -> None:
    message, _ = open_hello(USED, attempt().hello)
    with pytest.raises(Malformed) as caught:
        read_hello(LISTENER, PAIRING, 6, message, seeded("listener"))
    assert caught.value.drop is Drop.HANDSHAKE


def test_a_hello_carries_the_cookie_that_a_refusal_gave() -> None:
    message, beside = open_hello(USED, attempt(cookie=b"cookie").hello)
    assert beside == b"cookie", "seen before any public-key operation"
    assert read_hello(LISTENER, PAIRING, 7, message, seeded("listener")).cookie == b"cookie"


def test_a_reply_that_was_changed_is_dropped_and_the_true_one_still_counts() -> None:
    call = attempt()
    true = reply(answered(call.hello))
    for at in (20, 40, len(true) - 1):
        assert dropped(call, true[:at] + bytes((true[at] ^ 1,)) + true[at + 1 :]) is Drop.ENVELOPE
    assert isinstance(call.read_answer(true), tuple)


def test_a_reply_by_someone_who_only_has_the_envelope_key_is_dropped() -> None:
    call = attempt()
    forged = seal_reply(USED, SEEN, bytes(80), seeded("forger"))
    assert dropped(call, forged) is Drop.HANDSHAKE
    assert isinstance(call.read_answer(reply(answered(call.hello))), tuple)


def test_a_reply_to_another_attempt_is_dropped() -> None:
    other = attempt(seed="another attempt")
    assert dropped(attempt(), reply(answered(other.hello))) is Drop.HANDSHAKE


def test_a_reply_with_a_wrong_psk_is_dropped() -> None:
    call = attempt()
    wrong = evolve(USED, psk=Secret(bytes(32)))
    assert dropped(call, reply(answered(call.hello, wrong))) is Drop.HANDSHAKE


def test_a_reply_with_parameters_of_no_use_is_dropped_and_so_is_whatever_follows() -> None:
    call = attempt()
    noise = HandshakeState(
        initiator=False,
        prologue=prologue(FILE_ID, 7),
        s=LISTENER.reveal(),
        e=b"\x55" * 32,
        psks=(USED.psk.reveal(),),
    )
    noise.read_message(open_hello(USED, call.hello)[0])
    useless = seal_reply(USED, SEEN, noise.write_message(b""), seeded("reply"))
    assert dropped(call, useless) is Drop.MALFORMED_PARAMETERS
    assert dropped(call, useless) is Drop.HANDSHAKE


def test_a_hello_with_parameters_of_no_use_is_dropped() -> None:
    noise = HandshakeState(
        initiator=True,
        prologue=prologue(FILE_ID, 7),
        s=DIALER.reveal(),
        e=b"\x55" * 32,
        rs=STATIC,
        psks=(USED.psk.reveal(),),
    )
    message = noise.write_message(encode_parameters(OURS)[:-1])
    with pytest.raises(Malformed) as caught:
        read_hello(LISTENER, PAIRING, 7, message, seeded("listener"))
    assert caught.value.drop is Drop.MALFORMED_PARAMETERS


def test_a_refusal_gives_its_cookie() -> None:
    old = Superseded(USED.generation, USED.hint, USED.envelope_key)
    call = attempt()
    message, _ = open_hello(USED, call.hello)
    refusal = seal_refusal(old, message, b"a cookie", seeded("refusal"))
    found = call.read_answer(refusal)
    assert isinstance(found, Refusal)
    assert found.cookie == b"a cookie"


def test_a_refusal_of_an_earlier_hello_is_dropped() -> None:
    old = Superseded(USED.generation, USED.hint, USED.envelope_key)
    message, _ = open_hello(USED, attempt(seed="before").hello)
    refusal = seal_refusal(old, message, b"a cookie", seeded("refusal"))
    with pytest.raises(Malformed) as caught:
        attempt().read_answer(refusal)
    assert caught.value.drop is Drop.HANDSHAKE


# --- cookies ----------------------------------------------------------------------------------

KEY = Secret(b"\x66" * 32)
HINT = b"h" * 16


def test_a_cookie_is_good_for_thirty_seconds() -> None:
    cookie = make_cookie(KEY, HINT, SEEN, 100 * SECOND)
    assert check_cookie(KEY, cookie, HINT, SEEN, 100 * SECOND)
    assert check_cookie(KEY, cookie, HINT, SEEN, 100 * SECOND + COOKIE_LIFE)
    assert not check_cookie(KEY, cookie, HINT, SEEN, 100 * SECOND + COOKIE_LIFE + 1)
    assert not check_cookie(KEY, cookie, HINT, SEEN, 100 * SECOND - 1)


def test_a_cookie_is_good_for_one_hint_one_address_and_one_listener() -> None:
    cookie = make_cookie(KEY, HINT, SEEN, SECOND)
    assert not check_cookie(KEY, cookie, b"x" * 16, SEEN, SECOND)
    assert not check_cookie(KEY, cookie, HINT, Address(SEEN.host, 4712), SECOND)
    assert not check_cookie(KEY, cookie, HINT, Address("192.0.2.8", SEEN.port), SECOND)
    assert not check_cookie(Secret(bytes(32)), cookie, HINT, SEEN, SECOND)


@pytest.mark.parametrize("change", [0, 7, 8, 23])
def test_a_cookie_that_was_changed_is_worth_nothing(change: int) -> None:
    cookie = bytearray(make_cookie(KEY, HINT, SEEN, 100 * SECOND))
    cookie[change] ^= 1
    assert not check_cookie(KEY, bytes(cookie), HINT, SEEN, 101 * SECOND)


@pytest.mark.parametrize("size", [0, 1, 23, 25, 64])
def test_a_cookie_of_another_size_is_worth_nothing(size: int) -> None:
    cookie = make_cookie(KEY, HINT, SEEN, 100 * SECOND) + bytes(64)
    assert not check_cookie(KEY, cookie[:size], HINT, SEEN, 100 * SECOND)
