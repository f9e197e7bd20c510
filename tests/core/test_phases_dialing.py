"""The dialer's handshake, step by step: what is sent, what is written, in which order."""

from __future__ import annotations

import pytest

from clawchat.core.config import HELLO_FIRST, HELLO_MAX
from clawchat.core.credential import Credential, Pairing
from clawchat.core.crypto.schedule import derive_credential
from clawchat.core.instant import MILLISECOND, SECOND, Instant
from clawchat.core.phases.commands import Announce, Fail, Save, SendHello, StartAttempt
from clawchat.core.phases.dialing import (
    TABLE,
    Dialing,
    DialLapsed,
    GivenUp,
    HelloDue,
    PeerProved,
    Phase,
    Refused,
    ReplyVerified,
    Saved,
    SaveFailed,
)
from clawchat.core.table import Fired, Signal
from clawchat.errors import CloseCode

FILE_ID = bytes(16)
ZERO, ONE, TWO = (derive_credential(FILE_ID, n, bytes((n,)) * 32) for n in range(3))


def dialing(*generations: Credential) -> Dialing:
    known = generations or (ZERO,)
    return Dialing(Pairing(FILE_ID, True, b"L" * 32, b"L" * 32, known))


def generations(pairing: Pairing) -> list[int]:
    return [credential.generation for credential in pairing.credentials]


def taken(model: Dialing) -> list[object]:
    """The commands since the last look."""
    out, model.out = model.out, []
    return list(out)


def call(model: Dialing, times: int) -> list[Instant]:
    """Let `times` HELLOs be due; the waits between them."""
    waits = []
    now = 0
    for _ in range(times):
        TABLE.fire(model, HelloDue(now))
        assert model.hello_at is not None
        waits.append(model.hello_at - now)
        now = model.hello_at
    return waits


def test_the_wait_for_a_reply_doubles_up_to_two_seconds() -> None:
    waits = call(dialing(), 7)
    milliseconds = [wait // MILLISECOND for wait in waits]
    assert milliseconds == [250, 500, 1000, 2000, 2000, 2000, 2000]
    assert (HELLO_FIRST, HELLO_MAX) == (250 * MILLISECOND, 2 * SECOND)


def test_a_dialer_knows_when_its_hello_left_so_that_the_reply_tells_the_round_trip() -> None:
    model = dialing()
    TABLE.fire(model, HelloDue(5 * SECOND))
    assert model.called_at == 5 * SECOND


def test_a_dialer_with_one_generation_repeats_the_same_hello() -> None:
    model = dialing()
    call(model, 10)
    assert taken(model) == [SendHello()] * 10


def test_a_dialer_with_two_generations_gives_each_three_hellos_in_turn() -> None:
    model = dialing(ONE, ZERO)
    call(model, 10)
    hello = [SendHello()] * 3
    assert taken(model) == [
        *hello,
        StartAttempt(1, b""),
        *hello,
        StartAttempt(0, b""),
        *hello,
        StartAttempt(1, b""),
        SendHello(),
    ]


def test_the_next_generation_is_written_beside_the_used_one_before_anything_is_announced() -> None:
    model = dialing()
    call(model, 1)
    taken(model)
    TABLE.fire(model, ReplyVerified(SECOND, ONE))
    (save,) = taken(model)
    assert isinstance(save, Save)
    assert generations(save.pairing) == [1, 0]
    assert model.hello_at is None
    TABLE.fire(model, Saved(SECOND))
    assert taken(model) == [Announce()]
    assert model.phase is Phase.PROVING


def test_the_used_generation_is_kept_even_if_it_was_the_older_one() -> None:
    model = dialing(ONE, ZERO)
    call(model, 4)  # three HELLOs of generation 1, then generation 0 has its turn
    taken(model)
    other_one = derive_credential(FILE_ID, 1, b"another" + bytes(25))
    TABLE.fire(model, ReplyVerified(SECOND, other_one))
    (save,) = taken(model)
    assert isinstance(save, Save)
    assert save.pairing.credentials == (other_one, ZERO)


def test_the_older_generation_goes_only_when_the_listener_has_proved_itself() -> None:
    model = dialing(ONE)
    TABLE.fire(model, ReplyVerified(0, TWO))
    TABLE.fire(model, Saved(0))
    taken(model)
    TABLE.fire(model, PeerProved(0))
    (save,) = taken(model)
    assert isinstance(save, Save)
    assert generations(save.pairing) == [2]
    TABLE.fire(model, Saved(0))
    assert model.phase is Phase.UP
    assert not taken(model)


def test_a_refusal_is_answered_once_with_its_cookie() -> None:
    model = dialing()
    call(model, 5)
    taken(model)
    TABLE.fire(model, Refused(SECOND, b"cookie"))
    assert taken(model) == [StartAttempt(0, b"cookie"), SendHello()]
    assert model.hello_at == SECOND + HELLO_FIRST


def test_a_second_refusal_ends_the_dial() -> None:
    model = dialing()
    TABLE.fire(model, Refused(SECOND, b"cookie"))
    taken(model)
    TABLE.fire(model, Refused(SECOND, b"another"))
    newer = "the listener knows a newer generation of this credential"
    assert taken(model) == [Fail(CloseCode.SUPERSEDED, newer)]
    assert (model.phase, model.hello_at) == (Phase.FAILED, None)


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ((), "no answer from the listener"),
        ((ReplyVerified(0, ONE),), "not written in time"),
        ((ReplyVerified(0, ONE), Saved(0)), "answered the call and nothing after it"),
    ],
)
def test_a_dial_that_takes_too_long_fails_wherever_it_is_and_says_where(
    events: tuple[Signal, ...], why: str
) -> None:
    model = dialing()
    call(model, 2)
    for event in events:
        TABLE.fire(model, event)
    taken(model)
    TABLE.fire(model, DialLapsed(30 * SECOND))
    (failed,) = taken(model)
    assert isinstance(failed, Fail)
    assert failed.code is CloseCode.TIMEOUT
    assert why in failed.text
    assert (model.phase, model.hello_at) == (Phase.FAILED, None)


def test_a_dial_does_not_lapse_once_the_listener_has_proved_itself() -> None:
    model = dialing()
    for event in (ReplyVerified(0, ONE), Saved(0), PeerProved(0)):
        TABLE.fire(model, event)
    assert TABLE.fire(model, DialLapsed(30 * SECOND)) is Fired.IGNORED
    assert model.phase is Phase.DROPPING


def test_a_write_that_fails_ends_the_dial_with_store() -> None:
    for events in ((ReplyVerified(0, ONE),), (ReplyVerified(0, ONE), Saved(0), PeerProved(0))):
        model = dialing()
        for event in events:
            TABLE.fire(model, event)
        taken(model)
        TABLE.fire(model, SaveFailed(0))
        assert taken(model) == [Fail(CloseCode.STORE, "the credential could not be written")]
        assert model.phase is Phase.FAILED


def test_giving_up_stops_the_calls_and_says_nothing() -> None:
    model = dialing()
    call(model, 2)
    taken(model)
    TABLE.fire(model, GivenUp(SECOND))
    assert (model.phase, model.hello_at) == (Phase.FAILED, None)
    assert not taken(model)


def test_what_ends_after_the_dial_did_changes_nothing() -> None:
    model = dialing()
    TABLE.fire(model, GivenUp(0))
    for event in (GivenUp(0), Saved(0), SaveFailed(0)):
        assert TABLE.fire(model, event) is Fired.IGNORED
    assert model.phase is Phase.FAILED
