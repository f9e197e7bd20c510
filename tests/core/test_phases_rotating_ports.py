"""One side leaves its port: what is asked of the driver, said to the peer, and told to the user."""

from __future__ import annotations

import pytest

from clawchat.core.credential import Address
from clawchat.core.instant import SECOND
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
from clawchat.core.phases.rotating_ports import (
    NOWHERE,
    TABLE,
    LinkLost,
    Move,
    MoveLapsed,
    MoveProved,
    OverlapOver,
    PeerMoves,
    Phase,
    PortAsked,
    PortDue,
    PunchDue,
    SocketOpened,
    SocketRefused,
)
from clawchat.core.table import Fired, Signal
from clawchat.core.wire.control import PortRotate

HOST = "192.0.2.1"
HERE = Address(HOST, 1000)
ELSEWHERE = (Address("198.51.100.1", 7),)
ASKED = (PortAsked(SECOND, HERE),)
MOVING = (*ASKED, SocketOpened(2 * SECOND, ELSEWHERE))
OVERLAPPING = (*MOVING, MoveProved(3 * SECOND))


def move(*events: Signal, dialer: bool = True) -> Move:
    """Entropy gives zeros, so the first free port is drawn."""
    model = Move(dialer, bytes)
    for event in events:
        TABLE.fire(model, event)
    model.out = []
    return model


def taken(model: Move, event: Signal) -> list[object]:
    """What an event leads to."""
    model.out = []
    assert TABLE.fire(model, event) is Fired.TAKEN
    return list(model.out)


def port(number: int) -> Address:
    return Address(HOST, 49_152 + number)


@pytest.mark.parametrize("event", [PortDue(0, HERE), PortAsked(0, HERE)])
def test_a_side_that_leaves_asks_for_a_port_of_the_same_host(event: Signal) -> None:
    model = move()
    assert (model.wanted, NOWHERE) == (NOWHERE, Address("", 0))
    assert taken(model, event) == [WantSocket(port(0))]
    assert (model.phase, model.wanted) == (Phase.OPENING, port(0))


def leaves(model: Move, times: int) -> list[Address]:
    """Where a side is asked to go, when it leaves so many times one after the other."""
    went = [HERE]
    for _ in range(times):
        for event in (PortDue(0, went[-1]), SocketOpened(0, ()), MoveProved(0)):
            TABLE.fire(model, event)
        went.append(model.wanted)
        TABLE.fire(model, OverlapOver(0))
    return went[1:]


def test_a_port_is_one_of_the_16_384_dynamic_ones_drawn_with_two_bytes_of_entropy() -> None:
    asked: list[int] = []

    def entropy(size: int) -> bytes:
        asked.append(size)
        return b"\xfe\x02"

    model = Move(True, entropy)
    TABLE.fire(model, PortDue(0, HERE))
    assert model.wanted == Address(HOST, 49_152 + 0x3E02)
    assert asked == [2]


def test_the_last_port_is_followed_by_the_first() -> None:
    model = Move(True, lambda size: b"\xff" * size)
    first, second = leaves(model, 2)
    assert (first.port, second.port) == (65_535, 49_152)


def test_none_of_the_last_five_ports_comes_again() -> None:
    """Of 16,384 ports one comes again soon only if nothing prevents it, so let entropy repeat."""
    assert leaves(move(), 14) == [port(number % 6) for number in range(14)]


def test_a_refused_port_and_the_last_five_leave_one_to_be_found() -> None:
    model = move()
    here = leaves(model, 5)[-1]
    assert taken(model, PortDue(0, here)) == [WantSocket(port(5))]
    assert taken(model, SocketRefused(0)) == [WantSocket(port(6))]


def test_a_port_that_another_program_holds_is_not_asked_for_again() -> None:
    model = move(*ASKED)
    assert taken(model, SocketRefused(0)) == [WantSocket(port(1))]
    assert taken(model, SocketRefused(0)) == [WantSocket(port(0))], "only the last is known"
    assert model.phase is Phase.OPENING


def test_the_third_refusal_leaves_the_port_and_the_next_move_has_three_tries_again() -> None:
    model = move(*ASKED)
    for _ in range(2):
        why = "this machine gave no other port"
        taken(model, SocketRefused(0))
        taken(model, SocketRefused(0))
        assert taken(model, SocketRefused(0)) == [KeepPort(why, failed=True)]
        assert model.phase is Phase.STEADY
        taken(model, PortDue(0, HERE))


def test_a_driver_that_does_not_answer_leaves_the_port() -> None:
    model = move(*ASKED)
    why = "this machine gave no other port"
    assert taken(model, MoveLapsed(0)) == [KeepPort(why, failed=True)]
    assert model.phase is Phase.STEADY


def test_the_peer_is_told_of_the_new_port_before_it_is_challenged_from_there_and_again() -> None:
    model = move(*ASKED)
    told = SendControl(PortRotate(1, port(0).port, ELSEWHERE))
    assert taken(model, SocketOpened(0, ELSEWHERE)) == [told, PunchPort()]
    assert taken(model, PunchDue(0)) == [PunchPort()]
    assert model.phase is Phase.MOVING


def test_moves_are_counted_by_their_announcements() -> None:
    model = move(*OVERLAPPING, OverlapOver(0))
    taken(model, PortDue(0, port(0)))
    told = SendControl(PortRotate(2, port(1).port, ()))
    assert taken(model, SocketOpened(0, ())) == [told, PunchPort()]


def test_data_takes_the_new_port_and_then_the_user_is_told_how_long_it_took() -> None:
    model = move(*MOVING)
    assert taken(model, MoveProved(4 * SECOND)) == [UseNewPort(), PortMoved(port(0), 3 * SECOND)]
    assert model.phase is Phase.OVERLAPPING


def test_the_old_port_is_closed_when_what_was_under_way_to_it_has_had_its_time() -> None:
    model = move(*OVERLAPPING)
    assert taken(model, OverlapOver(0)) == [CloseOldPorts()]
    assert model.phase is Phase.STEADY


def test_a_peer_that_does_not_answer_there_leaves_the_port_and_the_new_socket_is_closed() -> None:
    model = move(*MOVING)
    why = "the peer did not answer at another port"
    assert taken(model, MoveLapsed(0)) == [CloseNewPort(), KeepPort(why, failed=True)]
    assert model.phase is Phase.STEADY


@pytest.mark.parametrize("before", [ASKED, MOVING], ids=["opening", "moving"])
def test_when_both_begin_the_dialer_goes_on(before: tuple[Signal, ...]) -> None:
    model = move(*before)
    phase = model.phase
    assert taken(model, PeerMoves(0)) == []
    assert model.phase is phase


@pytest.mark.parametrize(
    ("dialer", "event"), [(False, PeerMoves(0)), (True, LinkLost(0)), (False, LinkLost(0))]
)
def test_a_listener_yields_to_its_peer_and_both_to_a_search_and_try_later(
    *, dialer: bool, event: Signal
) -> None:
    opening, moving = move(*ASKED, dialer=dialer), move(*MOVING, dialer=dialer)
    assert taken(opening, event) == [PutOffMove()]
    assert taken(moving, event) == [CloseNewPort(), PutOffMove()]
    assert opening.phase is moving.phase is Phase.STEADY


def test_who_has_just_changed_ports_keeps_the_new_one_and_that_is_no_failure() -> None:
    model = move(*OVERLAPPING)
    why = "it changed less than 30 s ago"
    assert taken(model, PortAsked(0, port(0))) == [KeepPort(why, failed=False)]
    assert model.phase is Phase.OVERLAPPING


@pytest.mark.parametrize(
    ("before", "event"),
    [
        (ASKED, PortAsked(0, HERE)),
        (MOVING, PortAsked(0, HERE)),
        ((), PeerMoves(0)),
        (OVERLAPPING, PeerMoves(0)),
        ((), LinkLost(0)),
        (OVERLAPPING, LinkLost(0)),
    ],
)
def test_what_does_not_concern_a_move_changes_nothing(
    before: tuple[Signal, ...], event: Signal
) -> None:
    model = move(*before)
    phase = model.phase
    assert TABLE.fire(model, event) is Fired.IGNORED
    assert (model.phase, model.out) == (phase, [])
