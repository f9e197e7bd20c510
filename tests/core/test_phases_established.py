"""The life of a link: what is told to whom when it ends."""

from __future__ import annotations

import pytest

from clawchat.core.phases.commands import (
    ProbePaths,
    Report,
    ReportRestored,
    ReportSuspect,
    SendClose,
)
from clawchat.core.phases.established import (
    TABLE,
    AsleepDue,
    Begun,
    CloseAsked,
    ClosingOver,
    Destroyed,
    Disturbed,
    HandshakeFailed,
    Heard,
    Life,
    PeerClosed,
    Phase,
    ProbesUnanswered,
    SilenceDue,
    Violated,
)
from clawchat.core.table import Fired, Signal
from clawchat.errors import CloseCode

UP = (Begun(0),)
SUSPECT = (Begun(0), ProbesUnanswered(0))
ASLEEP = (*SUSPECT, AsleepDue(0))
CLOSING = (Begun(0), CloseAsked(0, CloseCode.DONE, "bye"))
CLOSED = (*CLOSING, ClosingOver(0))


def life(*events: Signal) -> Life:
    model = Life()
    for event in events:
        TABLE.fire(model, event)
    model.out = []
    return model


@pytest.mark.parametrize("before", [UP, SUSPECT, ASLEEP])
def test_closing_tells_the_peer_and_the_application_once(before: tuple[Signal, ...]) -> None:
    model = life(*before)
    TABLE.fire(model, CloseAsked(0, CloseCode.DONE, "bye"))
    assert model.out == [Report(CloseCode.DONE, "bye", by_peer=False), SendClose()]
    assert (model.phase, model.code, model.text) == (Phase.CLOSING, CloseCode.DONE, "bye")
    assert TABLE.fire(model, CloseAsked(0, CloseCode.LIMIT, "again")) is Fired.IGNORED
    assert (model.code, model.text) == (CloseCode.DONE, "bye")


def test_a_link_that_never_began_ends_without_a_word_to_the_peer() -> None:
    model = life()
    TABLE.fire(model, CloseAsked(0, CloseCode.DONE, ""))
    assert model.out == [Report(CloseCode.DONE, "", by_peer=False)]
    assert model.phase is Phase.CLOSED


@pytest.mark.parametrize("before", [(), UP, SUSPECT])
def test_a_failed_handshake_ends_a_link_without_a_word_to_the_peer(
    before: tuple[Signal, ...],
) -> None:
    model = life(*before)
    TABLE.fire(model, HandshakeFailed(0, CloseCode.STORE, "full"))
    assert model.out == [Report(CloseCode.STORE, "full", by_peer=False)]
    assert model.phase is Phase.CLOSED


@pytest.mark.parametrize("before", [UP, SUSPECT, ASLEEP])
def test_a_violation_is_answered_with_its_code(before: tuple[Signal, ...]) -> None:
    model = life(*before)
    TABLE.fire(model, Violated(0, CloseCode.FRAME, "a frame"))
    assert model.out == [Report(CloseCode.FRAME, "a frame", by_peer=False), SendClose()]
    assert model.phase is Phase.CLOSING


@pytest.mark.parametrize("before", [UP, SUSPECT])
def test_the_peers_close_is_reported_and_not_answered(before: tuple[Signal, ...]) -> None:
    model = life(*before)
    TABLE.fire(model, PeerClosed(0, CloseCode.DONE, "bye"))
    assert model.out == [Report(CloseCode.DONE, "bye", by_peer=True)]
    assert model.phase is Phase.CLOSED


@pytest.mark.parametrize("before", [UP, SUSPECT, ASLEEP])
def test_silence_ends_a_link_as_a_timeout(before: tuple[Signal, ...]) -> None:
    model = life(*before)
    TABLE.fire(model, SilenceDue(0))
    assert model.out == [Report(CloseCode.TIMEOUT, "nothing came from the peer", by_peer=False)]
    assert model.phase is Phase.CLOSED


def test_unanswered_probes_are_told_and_then_every_path_is_probed() -> None:
    model = life(*UP)
    TABLE.fire(model, ProbesUnanswered(0))
    assert (model.phase, model.out) == (Phase.SUSPECT, [ReportSuspect(), ProbePaths()])


@pytest.mark.parametrize("before", [SUSPECT, ASLEEP])
def test_a_lost_link_is_live_again_when_something_is_heard(before: tuple[Signal, ...]) -> None:
    model = life(*before)
    TABLE.fire(model, Heard(0))
    assert (model.phase, model.out) == (Phase.LIVE, [ReportRestored()])


def test_a_closing_link_says_close_to_whatever_comes_and_reports_nothing_more() -> None:
    model = life(*CLOSING)
    TABLE.fire(model, Heard(0))
    TABLE.fire(model, Heard(0))
    assert model.out == [SendClose(), SendClose()]
    assert model.phase is Phase.CLOSING


@pytest.mark.parametrize(
    "end", [ClosingOver(0), PeerClosed(0, CloseCode.DONE, "")], ids=["time", "peer"]
)
def test_a_closing_link_ends_in_silence(end: Signal) -> None:
    model = life(*CLOSING)
    TABLE.fire(model, end)
    assert (model.phase, model.out) == (Phase.CLOSED, [])


@pytest.mark.parametrize("by_peer", [False, True])
@pytest.mark.parametrize("before", [(), UP, SUSPECT, ASLEEP])
def test_a_pairing_declared_compromised_ends_a_link_that_was_not_ending(
    before: tuple[Signal, ...], *, by_peer: bool
) -> None:
    model = life(*before)
    TABLE.fire(model, Destroyed(0, by_peer))
    why = "this pairing was declared compromised"
    assert model.out == [Report(CloseCode.COMPROMISED, why, by_peer)]
    assert model.phase is Phase.CLOSED


def test_a_closing_link_whose_pairing_is_destroyed_says_nothing_a_second_time() -> None:
    model = life(*CLOSING)
    TABLE.fire(model, Destroyed(0, by_peer=True))
    assert (model.phase, model.out) == (Phase.CLOSED, [])


@pytest.mark.parametrize("before", [CLOSING, CLOSED])
@pytest.mark.parametrize(
    "late",
    [
        Disturbed(0),
        CloseAsked(0, CloseCode.DONE, "again"),
        HandshakeFailed(0, CloseCode.STORE, "full"),
    ],
    ids=lambda event: type(event).__name__,
)
def test_what_comes_after_the_end_changes_nothing(before: tuple[Signal, ...], late: Signal) -> None:
    model = life(*before)
    phase = model.phase
    assert TABLE.fire(model, late) is Fired.IGNORED
    assert (model.phase, model.out) == (phase, [])


def test_a_network_that_changes_during_the_handshake_leaves_the_link_to_the_hello() -> None:
    model = life()
    assert TABLE.fire(model, Disturbed(0)) is Fired.IGNORED
    assert (model.phase, model.out) == (Phase.STARTING, [])
