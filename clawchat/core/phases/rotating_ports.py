"""The phase *rotating ports*: one side of a link leaves its local port (PROTOCOL.md "Rotating
ports").

Make before break: the old port stays in use until the peer has answered from the new one, and is
kept for stragglers after that. A move that fails costs nothing: the port stays.

Rules: the link asks the driver for one socket at a time; when both sides begin at once, the
dialer's move goes first.
Left to others: when a move is due, the paths, the timers (`core.ports`); what the peer of a mover
does (`following_ports`).
"""

from __future__ import annotations

from enum import Enum, unique
from typing import Final, TypeAlias

from attrs import define, field, frozen

from clawchat.core.config import Entropy
from clawchat.core.credential import Address
from clawchat.core.instant import Instant
from clawchat.core.phases.commands import (
    CloseNewPort,
    CloseOldPorts,
    KeepPort,
    PortMoved,
    PunchPort,
    PutOffMove,
    SendControl,
    UseNewPort,
    WantSocket,
)
from clawchat.core.table import Origin, Row, Signal, Table
from clawchat.core.wire.control import PortRotate

PORT_FROM: Final = 49_152  # the dynamic ports of RFC 6335: nobody's service is registered there
PORT_MASK: Final = (1 << 14) - 1  # up to 65,535
RECENT_PORTS: Final = 5  # the last ports of a link are not used again: their mappings may linger
SOCKET_TRIES: Final = 3  # ports that are tried when others hold what was drawn

NOWHERE: Final = Address("", 0)
REFUSED: Final = "this machine gave no other port"
UNANSWERED: Final = "the peer did not answer at another port"
TOO_EARLY: Final = "it changed less than 30 s ago"


@unique
class Phase(Enum):
    """Where a side is with its own port."""

    STEADY = "one port"
    OPENING = "the driver was asked for a socket on another port"
    MOVING = "the peer was told; each challenges the other on the new path, data takes the old one"
    OVERLAPPING = "data takes the new path; the old port is kept for what is still under way"


@frozen
class PortDue(Signal):
    """Time says so. `local`: where we are."""

    origin = Origin.TIMER
    local: Address


@frozen
class PortAsked(Signal):
    """The user says so."""

    origin = Origin.LOCAL
    local: Address


@frozen
class SocketOpened(Signal):
    """The driver has the socket that was asked for; `candidates` are where else it is reached."""

    origin = Origin.LOCAL
    candidates: tuple[Address, ...]


@frozen
class SocketRefused(Signal):
    """The driver could not bind that port."""

    origin = Origin.LOCAL


@frozen
class PunchDue(Signal):
    """No answer yet: challenge again."""

    origin = Origin.TIMER


@frozen
class MoveProved(Signal):
    """The peer answered a challenge on the new path."""

    origin = Origin.PEER


@frozen
class MoveLapsed(Signal):
    """A few seconds went by without."""

    origin = Origin.TIMER


@frozen
class PeerMoves(Signal):
    """The peer told of a move of its own."""

    origin = Origin.PEER


@frozen
class LinkLost(Signal):
    """Nothing is answered on the path in use."""

    origin = Origin.LOCAL


@frozen
class OverlapOver(Signal):
    """What was under way to the old port has had its time."""

    origin = Origin.TIMER


MoveCommand: TypeAlias = (
    WantSocket
    | SendControl
    | PunchPort
    | UseNewPort
    | CloseNewPort
    | CloseOldPorts
    | PortMoved
    | KeepPort
    | PutOffMove
)


@define
class Move:
    """The model. `wanted` is the address of the new socket, `recent` are ports not to use again."""

    dialer: bool
    entropy: Entropy
    phase: Phase = Phase.STEADY
    wanted: Address = NOWHERE
    recent: tuple[int, ...] = ()
    tries: int = 0
    sequence: int = 0
    began: Instant = 0
    out: list[MoveCommand] = field(factory=list)

    def draw(self) -> int:
        """A port that was neither used lately nor refused just now."""
        drawn, taken = int.from_bytes(self.entropy(2), "big"), (*self.recent, self.wanted.port)
        ports = (PORT_FROM + (drawn + k & PORT_MASK) for k in range(len(taken) + 1))
        return next(port for port in ports if port not in taken)


def want_socket(move: Move, event: PortDue | PortAsked) -> None:
    move.began, move.tries = event.now, 0
    move.recent = tuple(dict.fromkeys((*move.recent, event.local.port)))[-RECENT_PORTS:]
    move.wanted = event.local
    want_another(move, event)


def want_another(move: Move, _event: Signal) -> None:
    move.tries += 1
    move.wanted = Address(move.wanted.host, move.draw())
    move.out.append(WantSocket(move.wanted))


def announce(move: Move, event: SocketOpened) -> None:
    move.sequence += 1
    move.out.append(SendControl(PortRotate(move.sequence, move.wanted.port, event.candidates)))


def punch(move: Move, _event: Signal) -> None:
    move.out.append(PunchPort())


def use_new_port(move: Move, _event: Signal) -> None:
    move.out.append(UseNewPort())


def report_moved(move: Move, event: Signal) -> None:
    move.out.append(PortMoved(move.wanted, event.now - move.began))


def close_new_port(move: Move, _event: Signal) -> None:
    move.out.append(CloseNewPort())


def close_old_ports(move: Move, _event: Signal) -> None:
    move.out.append(CloseOldPorts())


def put_off(move: Move, _event: Signal) -> None:
    move.out.append(PutOffMove())


def keep_refused(move: Move, _event: Signal) -> None:
    move.out.append(KeepPort(REFUSED, failed=True))


def keep_unanswered(move: Move, _event: Signal) -> None:
    move.out.append(KeepPort(UNANSWERED, failed=True))


def keep_for_now(move: Move, _event: Signal) -> None:
    move.out.append(KeepPort(TOO_EARLY, failed=False))


def we_go_first(move: Move, _event: Signal) -> bool:
    return move.dialer


def tried_enough(move: Move, _event: Signal) -> bool:
    return move.tries >= SOCKET_TRIES


P = Phase
TABLE: Table[Move] = Table(
    name="rotating.ports",
    phases=Phase,
    initial=P.STEADY,
    final=frozenset(),
    rows=(
        Row(P.STEADY, PortDue, P.OPENING, do=(want_socket,)),
        Row(P.STEADY, PortAsked, P.OPENING, do=(want_socket,)),
        Row(P.OPENING, SocketOpened, P.MOVING, do=(announce, punch)),
        Row(P.OPENING, SocketRefused, P.OPENING, do=(want_another,), unless=(tried_enough,)),
        Row(P.OPENING, SocketRefused, P.STEADY, do=(keep_refused,), when=(tried_enough,)),
        Row(
            P.OPENING,
            MoveLapsed,
            P.STEADY,
            do=(keep_refused,),
            because="a driver that does not answer must not hold up the next move",
        ),
        Row(P.OPENING, PeerMoves, P.OPENING, when=(we_go_first,)),
        Row(P.OPENING, PeerMoves, P.STEADY, do=(put_off,), unless=(we_go_first,)),
        Row(P.OPENING, LinkLost, P.STEADY, do=(put_off,)),
        Row(P.MOVING, PunchDue, P.MOVING, do=(punch,)),
        Row(P.MOVING, MoveProved, P.OVERLAPPING, do=(use_new_port, report_moved)),
        Row(
            P.MOVING,
            MoveLapsed,
            P.STEADY,
            do=(close_new_port, keep_unanswered),
            because="a NAT in between does not allow it; keys and CIDs change instead",
        ),
        Row(
            P.MOVING,
            PeerMoves,
            P.MOVING,
            when=(we_go_first,),
            because="the listener yields when it hears of ours",
        ),
        Row(
            P.MOVING,
            PeerMoves,
            P.STEADY,
            do=(close_new_port, put_off),
            unless=(we_go_first,),
            because="two moves at once would each prove a path that the other gives up",
        ),
        Row(
            P.MOVING,
            LinkLost,
            P.STEADY,
            do=(close_new_port, put_off),
            because="the search for the peer knows every path; a move would only confuse it",
        ),
        Row(P.OVERLAPPING, OverlapOver, P.STEADY, do=(close_old_ports,)),
        Row(
            P.OVERLAPPING,
            PortAsked,
            P.OVERLAPPING,
            do=(keep_for_now,),
            because="at most one old port is kept, so that sockets are bounded",
        ),
    ),
    ignores={
        (P.OPENING, PortAsked): "a move is under way",
        (P.MOVING, PortAsked): "a move is under way",
        (P.STEADY, PeerMoves): "we are not moving: following is all there is to do",
        (P.OVERLAPPING, PeerMoves): "our own move is proved: following is all there is to do",
        (P.STEADY, LinkLost): "we are not moving",
        (P.OVERLAPPING, LinkLost): "the old port may be where the peer is found again",
    },
)
