"""The phase *following ports*: the peer leaves its port, and is met at the new one (PROTOCOL.md
"Rotating ports").

Both sides challenge each other at the same time, so that NATs on either side let the other's
datagrams in. That data then goes there is the affair of the paths, as for any peer that moved.

Rules: bounded in time and number of datagrams, whatever the peer says.
Left to others: paths and timers (`core.ports`); our own moves (`rotating_ports`).
"""

from __future__ import annotations

from enum import Enum, unique

from attrs import define, field, frozen

from clawchat.core.credential import Address
from clawchat.core.phases.commands import EndPunching, PunchPeer
from clawchat.core.table import Origin, Row, Signal, Table


@unique
class Phase(Enum):
    """Whether the peer is on its way."""

    STEADY = "the peer is where it was heard last"
    FOLLOWING = "the peer told of another port; it is challenged there until it is met"


@frozen
class PeerAnnounced(Signal):
    """The peer told of a port; it may be at any of `addresses`."""

    origin = Origin.PEER
    addresses: tuple[Address, ...]


@frozen
class PunchAgain(Signal):
    """The peer was not met yet: challenge it again."""

    origin = Origin.TIMER


@frozen
class PeerMet(Signal):
    """Data goes to the peer's new address."""

    origin = Origin.PEER


@frozen
class FollowLapsed(Signal):
    """A few seconds went by: it stays where it was."""

    origin = Origin.TIMER


@frozen
class PeerLost(Signal):
    """Nothing is answered on the path in use."""

    origin = Origin.LOCAL


@define
class Follow:
    """The model. `addresses` are where the peer is challenged."""

    phase: Phase = Phase.STEADY
    addresses: tuple[Address, ...] = ()
    out: list[PunchPeer | EndPunching] = field(factory=list)


def take_addresses(follow: Follow, event: PeerAnnounced) -> None:
    follow.addresses = event.addresses


def punch_peer(follow: Follow, _event: Signal) -> None:
    follow.out.append(PunchPeer(follow.addresses))


def end_punching(follow: Follow, _event: Signal) -> None:
    follow.addresses = ()
    follow.out.append(EndPunching())


P = Phase
TABLE: Table[Follow] = Table(
    name="following.ports",
    phases=Phase,
    initial=P.STEADY,
    final=frozenset(),
    rows=(
        Row(P.STEADY, PeerAnnounced, P.FOLLOWING, do=(take_addresses, punch_peer)),
        Row(
            P.FOLLOWING,
            PeerAnnounced,
            P.FOLLOWING,
            do=(take_addresses, punch_peer),
            because="it gave up the one before",
        ),
        Row(P.FOLLOWING, PunchAgain, P.FOLLOWING, do=(punch_peer,)),
        Row(P.FOLLOWING, PeerMet, P.STEADY, do=(end_punching,)),
        Row(P.FOLLOWING, FollowLapsed, P.STEADY, do=(end_punching,)),
        Row(
            P.FOLLOWING,
            PeerLost,
            P.STEADY,
            do=(end_punching,),
            because="the search for the peer challenges what was named here as well",
        ),
    ),
    ignores={(P.STEADY, PeerLost): "nobody is on the way"},
)
