"""The listener's handshake: what is written when, and what becomes of older generations."""

from __future__ import annotations

import pytest

from clawchat.core.credential import SUPERSEDED_MAX, Credential, Pairing, Superseded
from clawchat.core.crypto.schedule import derive_credential
from clawchat.core.phases.answering import (
    TABLE,
    Answering,
    DialerProved,
    DialerSettled,
    Displaced,
    HelloRepeated,
    PendingLapsed,
    Phase,
    Saved,
    SaveFailed,
    superseded_after,
)
from clawchat.core.phases.commands import Announce, Fail, Save, SendReply
from clawchat.core.table import Fired, Signal
from clawchat.errors import CloseCode

FILE_ID = bytes(16)
DEVICE = b"D" * 32


def generation(number: int) -> Credential:
    return derive_credential(FILE_ID, number, number.to_bytes(32, "big"))


def old(number: int) -> Superseded:
    known = generation(number)
    return Superseded(number, known.hint, known.envelope_key)


def pairing(*numbers: int, superseded: tuple[Superseded, ...] = ()) -> Pairing:
    known = tuple(generation(number) for number in numbers)
    return Pairing(FILE_ID, False, b"L" * 32, None, known, superseded)


def answering(used: int) -> Answering:
    return Answering(generation(used), generation(used + 1), DEVICE)


def saved_pairing(model: Answering) -> Pairing:
    """The pairing of the only command."""
    (save,) = model.out
    assert isinstance(save, Save)
    model.out = []
    return save.pairing


def numbers(pairing: Pairing) -> tuple[list[int], list[int]]:
    """Generations that are accepted, and those that are only recognised."""
    return (
        [known.generation for known in pairing.credentials],
        [known.generation for known in pairing.superseded],
    )


def test_a_repeated_hello_is_answered_again() -> None:
    model = answering(0)
    TABLE.fire(model, HelloRepeated(0))
    TABLE.fire(model, HelloRepeated(0))
    assert model.out == [SendReply(), SendReply()]
    assert model.phase is Phase.REPLIED


def test_the_first_proof_pins_the_device_and_writes_the_next_generation_beside_the_used() -> None:
    model = answering(0)
    TABLE.fire(model, DialerProved(0, pairing(0)))
    kept = saved_pairing(model)
    assert kept.peer_static == DEVICE
    assert numbers(kept) == ([1, 0], [])
    assert model.phase is Phase.SAVING


def test_nothing_is_announced_before_the_write_is_durable() -> None:
    model = answering(0)
    TABLE.fire(model, DialerProved(0, pairing(0)))
    saved_pairing(model)
    TABLE.fire(model, Saved(0))
    assert model.out == [Announce()]


def test_the_used_generation_is_superseded_when_the_dialer_has_settled() -> None:
    model = answering(0)
    for event in (DialerProved(0, pairing(0)), Saved(0)):
        TABLE.fire(model, event)
    model.out = []
    TABLE.fire(model, DialerSettled(0, pairing(1, 0)))
    assert numbers(saved_pairing(model)) == ([1], [0])
    assert model.phase is Phase.SETTLED


def test_a_handshake_at_the_newer_generation_supersedes_the_older_at_once() -> None:
    """The dialer could not have used it without having it."""
    model = answering(1)
    TABLE.fire(model, DialerProved(0, pairing(1, 0)))
    assert numbers(saved_pairing(model)) == ([2, 1], [0])


def test_a_handshake_at_the_older_generation_supersedes_the_newer_that_was_never_used() -> None:
    used = generation(0)
    model = Answering(used, derive_credential(FILE_ID, 1, b"other" + bytes(27)), DEVICE)
    TABLE.fire(model, DialerProved(0, pairing(1, 0)))
    kept = saved_pairing(model)
    assert kept.credentials == (model.next_credential, used)
    assert kept.superseded == (old(1),)


def test_a_superseded_generation_is_kept_without_its_psk() -> None:
    (kept,) = superseded_after(pairing(3), keep=())
    assert kept == old(3)
    assert not hasattr(kept, "psk")


def test_only_the_last_sixteen_superseded_generations_are_kept() -> None:
    many = tuple(old(number) for number in range(15, -1, -1))
    kept = superseded_after(pairing(17, 16, superseded=many), keep=(generation(17),))
    assert len(kept) == SUPERSEDED_MAX
    assert [known.generation for known in kept] == list(range(16, 0, -1))


def test_a_write_that_fails_ends_the_handshake_with_store() -> None:
    model = answering(0)
    TABLE.fire(model, DialerProved(0, pairing(0)))
    model.out = []
    TABLE.fire(model, SaveFailed(0))
    assert model.out == [Fail(CloseCode.STORE, "the credential could not be written")]
    assert model.phase is Phase.LAPSED


def test_an_answered_hello_lapses_or_is_displaced_without_a_word() -> None:
    for event in (PendingLapsed(0), Displaced(0)):
        model = answering(0)
        TABLE.fire(model, event)
        assert (model.phase, model.out) == (Phase.LAPSED, [])


def test_a_displaced_link_keeps_the_older_generation_accepted() -> None:
    model = answering(0)
    for event in (DialerProved(0, pairing(0)), Saved(0)):
        TABLE.fire(model, event)
    model.out = []
    TABLE.fire(model, Displaced(0))
    assert (model.phase, model.out) == (Phase.LAPSED, [])
    assert TABLE.fire(model, DialerSettled(0, pairing(1, 0))) is Fired.UNEXPECTED
    assert not model.out


def test_a_failed_second_write_leaves_the_older_generation_accepted_and_the_link_alone() -> None:
    model = answering(0)
    for event in (DialerProved(0, pairing(0)), Saved(0), DialerSettled(0, pairing(1, 0))):
        TABLE.fire(model, event)
    model.out = []
    assert TABLE.fire(model, SaveFailed(0)) is Fired.IGNORED
    assert (model.phase, model.out) == (Phase.SETTLED, [])


@pytest.mark.parametrize(
    ("phase", "event"),
    [
        (Phase.SAVING, HelloRepeated(0)),
        (Phase.RUNNING, HelloRepeated(0)),
        (Phase.SETTLED, HelloRepeated(0)),
        (Phase.SETTLED, Displaced(0)),
        (Phase.SETTLED, Saved(0)),
        (Phase.SETTLED, SaveFailed(0)),
        (Phase.LAPSED, Displaced(0)),
        (Phase.LAPSED, Saved(0)),
        (Phase.LAPSED, SaveFailed(0)),
    ],
    ids=str,
)
def test_what_comes_late_changes_nothing(phase: Phase, event: Signal) -> None:
    model = answering(0)
    model.phase = phase
    assert TABLE.fire(model, event) is Fired.IGNORED
    assert (model.phase, model.out) == (phase, [])
