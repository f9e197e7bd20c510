"""The life of a link: what is told to whom when it ends."""

from __future__ import annotations

import pytest

from clawchat.core.phases.commands import Report, ReportRestored, SendClose
from clawchat.core.phases.established import (
    TABLE,
    Begun,
    CloseAsked,
    ClosingOver,
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
CLOSING = (Begun(0), CloseAsked(0, CloseCode.DONE, "bye"))


def life(*events: Signal) -> Life:
    model = Life()
    for event in events:
        TABLE.fire(model, event)
    model.out = []
    return model


@pytest.mark.parametrize("before", [UP, SUSPECT])
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


@pytest.mark.parametrize("before", [UP, SUSPECT])
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


@pytest.mark.parametrize("before", [UP, SUSPECT])
def test_silence_ends_a_link_as_a_timeout(before: tuple[Signal, ...]) -> None:
    model = life(*before)
    TABLE.fire(model, SilenceDue(0))
    assert model.out == [Report(CloseCode.TIMEOUT, "nothing came from the peer", by_peer=False)]
    assert model.phase is Phase.CLOSED


def test_a_suspect_link_is_live_again_when_something_is_heard() -> None:
    model = life(*SUSPECT)
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
