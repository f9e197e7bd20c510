"""The peer leaves its port: where it is challenged, and how that ends."""

from __future__ import annotations

import pytest

from clawchat.core.credential import Address
from clawchat.core.phases.commands import EndPunching, PunchPeer
from clawchat.core.phases.following_ports import (
    TABLE,
    Follow,
    FollowLapsed,
    PeerAnnounced,
    PeerLost,
    PeerMet,
    Phase,
    PunchAgain,
)
from clawchat.core.table import Fired, Signal

FIRST = (Address("192.0.2.1", 50_000), Address("192.0.2.7", 5))
SECOND = (Address("192.0.2.1", 50_001),)


def follow(*events: Signal) -> Follow:
    model = Follow()
    for event in events:
        TABLE.fire(model, event)
    model.out = []
    return model


def test_a_peer_is_challenged_where_it_says_at_once_and_again() -> None:
    model = follow()
    TABLE.fire(model, PeerAnnounced(0, FIRST))
    assert (model.phase, model.out) == (Phase.FOLLOWING, [PunchPeer(FIRST)])
    TABLE.fire(model, PunchAgain(0))
    assert (model.phase, model.out) == (Phase.FOLLOWING, [PunchPeer(FIRST)] * 2)


def test_a_peer_that_names_another_port_is_challenged_there_and_not_where_it_gave_up() -> None:
    model = follow(PeerAnnounced(0, FIRST))
    TABLE.fire(model, PeerAnnounced(0, SECOND))
    TABLE.fire(model, PunchAgain(0))
    assert (model.phase, model.out) == (Phase.FOLLOWING, [PunchPeer(SECOND)] * 2)


@pytest.mark.parametrize(
    "end", [PeerMet(0), FollowLapsed(0), PeerLost(0)], ids=["met", "lapsed", "lost"]
)
def test_who_is_met_or_not_met_in_time_or_lost_is_challenged_no_more(end: Signal) -> None:
    model = follow(PeerAnnounced(0, FIRST))
    TABLE.fire(model, end)
    assert (model.phase, model.addresses, model.out) == (Phase.STEADY, (), [EndPunching()])


def test_a_lost_peer_that_was_not_on_its_way_changes_nothing() -> None:
    model = follow()
    assert TABLE.fire(model, PeerLost(0)) is Fired.IGNORED
    assert (model.phase, model.out) == (Phase.STEADY, [])
