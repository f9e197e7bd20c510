"""The end of a pairing, row by row: what goes first, what is said, and when it is over."""

from __future__ import annotations

import pytest

from clawchat.core.config import ECHOES
from clawchat.core.phases.commands import (
    DestroyKept,
    GiveReceipt,
    SealEchoes,
    SendDeclaration,
    SendEcho,
    WipePackets,
)
from clawchat.core.phases.compromised import (
    TABLE,
    Compromise,
    Declared,
    PatienceOver,
    PeerDeclared,
    PeerObeyed,
    Phase,
    SayAgain,
)
from clawchat.core.table import Signal
from clawchat.errors import CompromiseReason

OURS = Declared(0, CompromiseReason.USER, False, True)
THEIRS = PeerDeclared(0, CompromiseReason.USER, True)


def obeyed(model: Compromise, event: Signal) -> list[type]:
    """The commands that an event gives."""
    TABLE.fire(model, event)
    commands, model.out = model.out, []
    return [type(command) for command in commands]


def test_what_is_stored_goes_before_the_peer_is_told() -> None:
    model = Compromise()
    assert obeyed(model, OURS) == [DestroyKept, SendDeclaration]
    assert (model.phase, model.told, model.confirmed) == (Phase.DECLARING, True, False)
    assert (model.reason, model.everything) == (CompromiseReason.USER, False)
    assert obeyed(model, SayAgain(0)) == [SendDeclaration]


def test_without_anybody_to_tell_it_is_over_at_once() -> None:
    model = Compromise()
    silent = Declared(0, CompromiseReason.USER, True, False)
    assert obeyed(model, silent) == [DestroyKept, WipePackets, GiveReceipt]
    assert (model.phase, model.told, model.everything) == (Phase.DESTROYED, False, True)


def test_who_is_told_has_no_key_when_the_receipt_is_given_and_answers_after_that() -> None:
    model = Compromise()
    assert obeyed(model, THEIRS) == [DestroyKept, SealEchoes, WipePackets, GiveReceipt, SendEcho]
    assert model.phase is Phase.ECHOING
    assert model.by_peer
    assert model.told
    assert model.confirmed
    assert model.everything


@pytest.mark.parametrize(
    ("event", "commands", "phase", "confirmed"),
    [
        (PeerObeyed(0), [WipePackets, GiveReceipt], Phase.DESTROYED, True),
        (PatienceOver(0), [WipePackets, GiveReceipt], Phase.DESTROYED, False),
        (THEIRS, [SealEchoes, WipePackets, GiveReceipt, SendEcho], Phase.ECHOING, True),
    ],
)
def test_a_declarers_keys_are_gone_when_its_receipt_is_given(
    event: Signal, commands: list[type], phase: Phase, confirmed: bool
) -> None:
    model = Compromise(Phase.DECLARING)
    assert obeyed(model, event) == commands
    assert (model.phase, model.confirmed, model.by_peer) == (phase, confirmed, False)


def test_every_acknowledgement_that_was_sealed_is_sent_once_and_then_it_is_over() -> None:
    model = Compromise()
    sent = obeyed(model, THEIRS).count(SendEcho)
    for _ in range(ECHOES - 1):
        sent += obeyed(model, SayAgain(0)).count(SendEcho)
    assert sent == ECHOES
    assert obeyed(model, SayAgain(0)) == []
    assert model.phase is Phase.DESTROYED
