"""Who an event comes from, and so what it means where no row expects it.

The application's is refused, the peer's is told to the caller, a timer of ours is a bug.
"""

from __future__ import annotations

from enum import Enum
from types import SimpleNamespace
from typing import Any

import pytest

from clawchat.core.table import Fired, Signal, Table, UnexpectedEvent
from spec.machines import tables

OF_THE_PEER = {
    "handshake.dialer": {"ReplyVerified", "Refused", "PeerProved"},
    "handshake.listener": {"HelloRepeated", "DialerProved", "DialerSettled"},
    "established": {"Heard", "Violated", "PeerClosed"},
    "rotating.keys.dialer": {"ReplyArrived", "NewEpochHeard"},
    "rotating.keys.listener": {"OfferArrived", "NewEpochHeard"},
    "rotating.ports": {"MoveProved", "PeerMoves"},
    "following.ports": {"PeerAnnounced", "PeerMet"},
    "compromised": {"PeerDeclared", "PeerObeyed"},
    "bootstrap": {"FileRedeemed"},
}
OF_A_TIMER = {
    "handshake.dialer": {"HelloDue", "DialLapsed"},
    "handshake.listener": {"PendingLapsed"},
    "established": {
        "ProbesUnanswered",
        "ProbeDue",
        "HopDue",
        "AsleepDue",
        "SilenceDue",
        "ClosingOver",
    },
    "rotating.keys.dialer": {"RotationDue", "WipeDue"},
    "rotating.keys.listener": {"RotationDue", "WipeDue"},
    "rotating.ports": {"PortDue", "PunchDue", "MoveLapsed", "OverlapOver"},
    "following.ports": {"PunchAgain", "FollowLapsed"},
    "compromised": {"SayAgain", "PatienceOver"},
    "bootstrap": {"FileDue"},
}


def unexpected() -> list[tuple[Table[Any], Enum, type[Signal]]]:
    """Every cell that is neither a row nor ignored."""
    return [
        (table, phase, event)
        for table in tables()
        for phase in table.phases
        for event in table.events
        if (phase, event) not in {(row.source, row.event) for row in table.rows}
        and (phase, event) not in table.ignores
    ]


@pytest.mark.parametrize(
    ("table", "phase", "event"),
    unexpected(),
    ids=lambda part: getattr(part, "name", getattr(part, "__name__", "")),
)
def test_what_no_row_expects_costs_whoever_caused_it(
    table: Table[Any], phase: Enum, event: type[Signal]
) -> None:
    model = SimpleNamespace(phase=phase)
    happened = object.__new__(event)  # what it says does not matter: it is not looked at
    if event.__name__ in OF_THE_PEER[table.name]:
        assert table.fire(model, happened) is Fired.UNEXPECTED
    elif event.__name__ in OF_A_TIMER[table.name]:
        with pytest.raises(AssertionError, match=event.__name__):
            table.fire(model, happened)
    else:
        with pytest.raises(UnexpectedEvent, match=event.__name__):
            table.fire(model, happened)
    assert model.phase is phase
