"""A port is left for another without a byte noticing; it stays where the network wants it to.

The rows have their scenarios in `tests/scenarios/test_rows.py`; what NATs make of a move is in
`tests/scenarios/test_moving_ports.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import shake_256
from itertools import pairwise

import pytest

from clawchat.core.actions import ClosePort, OpenPort, PathChanged, PortKept, PortRotated, Transmit
from clawchat.core.credential import Address, Path
from clawchat.core.events import (
    Close,
    DatagramReceived,
    DeclareCompromised,
    Disturbed,
    PortOpened,
    PortRefused,
    RotatePort,
    StreamClass,
    Write,
    stream_id,
)
from clawchat.core.instant import HOUR, MINUTE, SECOND
from clawchat.core.phases import following_ports, rotating_ports
from clawchat.core.ports import LOST, Ports
from clawchat.core.wire import frames
from clawchat.core.wire.control import PortRotate
from clawchat.errors import CloseCode, CompromiseReason, UnknownLink
from fuzz.puppet import OURS, THEIRS, Linked, puppet_dials, puppet_listens
from tests.core.pair import (
    DIALER,
    LISTENER,
    STRANGER,
    Pair,
    Parcel,
    Side,
    config_of,
    dead,
    linked_pair,
    losing,
)

BULK = stream_id(1, StreamClass.BULK, dialer=True)
LINKS = {"dialer": 1, "listener": -1}


def ports(side: Side) -> Ports:
    return side.link().upkeep.ports


def moves(pair: Pair, side: Side) -> Address:
    """The side asks for another port and gets it; where it is now."""
    pair.do(side, RotatePort(LINKS[side.name]))
    pair.run(SECOND)
    return side.all(PortRotated)[-1].local


def says(pair: Pair, side: Side, *messages: PortRotate) -> None:
    """On the control stream, whatever the side's own machine thinks of it."""
    for message in messages:
        side.transport().send_control(message)
    side.endpoint._links.touch(side.link())
    pair.flush(side)


def challenged(side: Side, address: Address) -> int:
    """How many datagrams went there."""
    return sum(
        len(action.datagrams) for action in side.acts(Transmit) if action.path.remote == address
    )


def to_or_from_a_new_port(parcel: Parcel) -> bool:
    return max(parcel.source.port, parcel.to.port) >= rotating_ports.PORT_FROM


# --- when --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LINKS)
def test_an_idle_link_changes_ports_every_hour_give_or_take_a_tenth(name: str) -> None:
    periods = {side: HOUR if side == name else 0 for side in LINKS}
    pair = linked_pair(
        dialer=config_of("dialer", rotate_ports_ns=periods["dialer"]),
        listener=config_of("listener", rotate_ports_ns=periods["listener"]),
    )
    side: Side = getattr(pair, name)
    pair.run(25 * HOUR)
    times = [
        at for at, action in side.did if isinstance(getattr(action, "notice", None), PortRotated)
    ]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert len(gaps) > 20
    assert min(gaps) >= HOUR * 9 // 10 - SECOND
    assert max(gaps) <= HOUR * 11 // 10 + SECOND
    assert len({gap // SECOND for gap in gaps}) > 15
    assert side.endpoint.link_stats(LINKS[name]).ports_left == len(times)
    assert len(side.sockets) <= 2


def test_a_side_that_keeps_its_port_follows_a_peer_that_does_not() -> None:
    pair = linked_pair(listener=config_of("listener", rotate_ports_ns=0))
    pair.run(3 * HOUR)
    assert not pair.listener.acts(OpenPort)
    moved = pair.dialer.all(PortRotated)
    assert len(moved) >= 2
    assert pair.listener.endpoint.link_stats(-1).path == Path(LISTENER, moved[-1].local)


def test_a_side_that_keeps_its_port_leaves_it_when_its_user_asks() -> None:
    pair = linked_pair(dialer=config_of("dialer", rotate_ports_ns=0))
    moves(pair, pair.dialer)
    pair.run(3 * HOUR)
    assert len(pair.dialer.all(PortRotated)) == 1


def test_after_three_failures_in_a_row_a_day_goes_by_before_each_further_try() -> None:
    pair = linked_pair(listener=config_of("listener", rotate_ports_ns=0))
    pair.network = losing(to_or_from_a_new_port)
    pair.run(24 * HOUR)
    assert len(pair.dialer.all(PortKept)) == 3
    pair.run(27 * HOUR)
    assert len(pair.dialer.all(PortKept)) == 4
    assert not pair.dialer.sockets
    pair.network = lambda _: (1,)
    moves(pair, pair.dialer)
    pair.run(HOUR + HOUR // 5)
    assert len(pair.dialer.all(PortRotated)) == 2, "it works again: every hour"


def test_a_link_that_is_looking_for_its_peer_keeps_its_port() -> None:
    pair = linked_pair(dialer=config_of("dialer", silence_ns_max=10 * HOUR))
    pair.network = dead
    pair.run(MINUTE)
    pair.do(pair.dialer, RotatePort(1))
    assert [kept.why for kept in pair.dialer.all(PortKept)] == [LOST]
    pair.run(3 * HOUR)
    assert not pair.dialer.acts(OpenPort)


# --- nothing notices --------------------------------------------------------------------------


@pytest.mark.parametrize("name", LINKS)
def test_neither_round_trip_nor_window_nor_size_begins_anew_and_nothing_is_sent_again(
    name: str,
) -> None:
    pair = linked_pair()
    side: Side = getattr(pair, name)
    data = shake_256(b"bulk").digest(3 << 20)
    pair.do(pair.dialer, Write(1, BULK, data[: 1 << 20]))
    pair.run(5 * SECOND)
    before = [(s.transport().mtu.size, s.transport().recovery.rtt.min) for s in pair.sides]
    lost = [s.transport().recovery.packets_lost for s in pair.sides]
    windows = [s.transport().recovery.cwnd for s in pair.sides]
    pair.do(pair.dialer, Write(1, BULK, data[1 << 20 : 2 << 20]))
    moves(pair, side)
    pair.do(pair.dialer, Write(1, BULK, data[2 << 20 :], end=True))
    pair.run(30 * SECOND)
    assert [(s.transport().mtu.size, s.transport().recovery.rtt.min) for s in pair.sides] == before
    assert [s.transport().recovery.packets_lost for s in pair.sides] == lost
    assert all(
        s.transport().recovery.cwnd >= window // 2
        for s, window in zip(pair.sides, windows, strict=True)
    )
    assert pair.listener.received(BULK) == data
    assert all(not s.all(type(kept)) for s in pair.sides for kept in (PortKept(""),))


def test_data_takes_the_old_path_until_the_new_one_is_proved() -> None:
    pair = linked_pair()
    pair.network = losing(to_or_from_a_new_port)
    pair.do(pair.dialer, RotatePort(1))
    pair.do(pair.dialer, Write(1, BULK, b"meanwhile"))
    pair.run(SECOND)
    assert pair.listener.received(BULK) == b"meanwhile"


@pytest.mark.parametrize("name", LINKS)
def test_what_a_peer_sends_to_the_old_port_for_a_while_calls_nobody_back(name: str) -> None:
    """It has not yet heard of the move: that is no move of its own."""
    pair = linked_pair()
    side: Side = getattr(pair, name)
    other = pair.listener if side is pair.dialer else pair.dialer
    stream = pair.write(other, bytes(1 << 20), link=LINKS[other.name])
    local = moves(pair, side)
    changes = [change.path.local for change in side.all(PathChanged)]
    assert changes == [local]
    assert len(side.received(stream)) == 1 << 20


@pytest.mark.parametrize("seed", range(8))
def test_moves_under_loss_lose_no_byte_and_end(seed: int) -> None:
    dice = iter(shake_256(f"dice {seed}".encode()).digest(200_000))
    pair = linked_pair(f"loss {seed}")
    pair.network = losing(lambda _: next(dice) < 26)  # a tenth
    data = shake_256(b"much").digest(400_000)
    for at in range(10):
        pair.do(pair.dialer, Write(1, BULK, data[at * 40_000 : (at + 1) * 40_000]))
        side = (pair.dialer, pair.listener)[at % 2]
        pair.do(side, RotatePort(LINKS[side.name]))
        pair.run(40 * SECOND)
    assert pair.listener.received(BULK) == data
    moved = [len(side.all(PortRotated)) for side in pair.sides]
    assert sum(moved) >= 9
    for side in pair.sides:
        assert len(side.sockets) <= 1
        assert ports(side).move.phase is rotating_ports.Phase.STEADY
        assert ports(side).follow.phase is following_ports.Phase.STEADY


# --- sockets ----------------------------------------------------------------------------------


def test_a_machine_that_has_no_other_port_is_asked_three_times_and_keeps_the_one_it_has() -> None:
    pair = linked_pair()
    asked: list[Address] = []

    def refuse(local: Address) -> bool:
        asked.append(local)
        return False

    pair.dialer.opens = refuse
    pair.do(pair.dialer, RotatePort(1))
    pair.run(SECOND)
    assert len(set(asked)) == rotating_ports.SOCKET_TRIES
    assert pair.dialer.all(PortKept) == [PortKept(rotating_ports.REFUSED)]
    assert pair.dialer.endpoint.link_stats(1).path == Path(DIALER, LISTENER)


def test_a_socket_that_comes_too_late_or_unasked_is_given_back() -> None:
    pair = linked_pair()
    unasked = Address(DIALER.host, 50_000)
    pair.do(pair.dialer, PortOpened(1, unasked))
    assert pair.dialer.acts(ClosePort) == [ClosePort(1, unasked)]
    pair.do(pair.dialer, PortRefused(1, unasked))
    assert not pair.dialer.all(PortKept)


def test_a_socket_that_is_told_of_twice_is_kept() -> None:
    pair = linked_pair()
    local = moves(pair, pair.dialer)
    pair.do(pair.dialer, PortOpened(1, local))
    assert not pair.dialer.acts(ClosePort)


def test_a_path_that_is_given_up_is_challenged_no_more() -> None:
    """Time may come late: the next challenge and the end of the wait at once."""
    pair = linked_pair()
    pair.network = losing(to_or_from_a_new_port)
    pair.do(pair.dialer, RotatePort(1))
    pair.asleep = pair.dialer
    pair.run(MINUTE)
    pair.asleep = None
    began = len(pair.dialer.did)
    pair.run(SECOND)
    (gone,) = pair.dialer.acts(ClosePort)
    late = [action for _, action in pair.dialer.did[began:] if isinstance(action, Transmit)]
    assert late
    assert all(action.path.local != gone.local for action in late)


@pytest.mark.parametrize("make", [puppet_dials, puppet_listens])
def test_what_the_peer_asks_at_a_port_that_is_given_up_is_not_answered(
    make: Callable[[], Linked],
) -> None:
    linked = make()
    linked.do(RotatePort(linked.link))
    (wanted,) = [action.local for action in linked.did if isinstance(action, OpenPort)]
    linked.do(PortOpened(linked.link, wanted))
    asking = linked.puppet.seal(frames.encode_path_challenge(b"whereami"))
    linked.endpoint.handle(DatagramReceived(Path(wanted, THEIRS), asking), linked.now)
    linked.endpoint.advance(linked.now + MINUTE)
    linked.now += MINUTE
    actions = linked.flush()
    assert ClosePort(linked.link, wanted) in actions
    assert not [a for a in actions if isinstance(a, Transmit) and a.path.local == wanted]


def test_no_copies_leave_from_a_port_that_was_given_up() -> None:
    """The peer was heard from elsewhere, at the old port, just before that was closed."""
    linked = puppet_dials()
    linked.do(RotatePort(linked.link))
    (wanted,) = [action.local for action in linked.did if isinstance(action, OpenPort)]
    linked.do(PortOpened(linked.link, wanted))
    (token,) = [
        frame.token
        for heard in linked.puppet.heard
        for frame in heard.frames
        if isinstance(frame, frames.PathChallenge)
    ]
    puppet = linked.puppet
    linked.hear(puppet.seal(frames.encode_path_response(token)), THEIRS, wanted)
    for number in range(31):  # probes, which leave it open where the peer is
        linked.wait(SECOND)
        if number < 29:
            linked.hear(puppet.seal(frames.PING + frames.padding(1000)), STRANGER, OURS)
        seen = frames.encode_ack([(puppet.largest, puppet.largest)], 0)
        asked = frames.encode_path_challenge(bytes((number,)) * 8)
        linked.hear(puppet.seal(asked + seen), THEIRS, wanted)
    assert ClosePort(linked.link, OURS) in linked.did
    linked.did.clear()
    linked.do(Write(linked.link, BULK | 1, b"after"))
    assert {a.path.local for a in linked.did if isinstance(a, Transmit)} == {wanted}


def test_a_network_that_changes_while_a_port_does_leaves_no_port_open() -> None:
    pair = linked_pair()
    pair.do(pair.dialer, RotatePort(1))
    pair.do(pair.dialer, Disturbed(1))
    pair.run(MINUTE)
    (moved,) = pair.dialer.all(PortRotated)
    assert [change.path.local for change in pair.dialer.all(PathChanged)] == [moved.local]
    assert pair.dialer.acts(ClosePort) == [ClosePort(1, DIALER)]


@pytest.mark.parametrize("name", LINKS)
def test_a_side_that_has_moved_obeys_a_declaration_aloud(name: str) -> None:
    """Its answers leave from the new port, which stays open until the last of them."""
    pair = linked_pair()
    side: Side = getattr(pair, name)
    (other,) = (one for one in pair.sides if one is not side)
    local = moves(pair, side)
    pair.do(other, DeclareCompromised(other.pairing.file_id, CompromiseReason.USER, False))
    pair.run(SECOND)
    assert [receipt.confirmed for receipt in other.receipts] == [True]
    pair.run(MINUTE)
    assert local in [action.local for action in side.acts(ClosePort)]


def test_after_a_move_a_search_begins_from_the_new_port_alone() -> None:
    pair = linked_pair()
    local = moves(pair, pair.dialer)
    pair.run(MINUTE)
    pair.network = dead
    began = len(pair.dialer.did)
    pair.run(MINUTE)
    sent = [action for _, action in pair.dialer.did[began:] if isinstance(action, Transmit)]
    assert {action.path for action in sent} == {Path(local, LISTENER)}


def test_a_link_that_ends_gives_its_sockets_back() -> None:
    pair = linked_pair()
    local = moves(pair, pair.listener)
    pair.do(pair.listener, Close(-1))
    pair.run(5 * SECOND)
    closed = [action.local for action in pair.listener.acts(ClosePort)]
    assert closed == [local, LISTENER]


def test_a_link_that_is_over_wants_no_port() -> None:
    pair = linked_pair()
    pair.do(pair.dialer, Close(1))
    pair.run(5 * SECOND)
    for event in (RotatePort(1), PortOpened(1, DIALER), PortRefused(1, DIALER)):
        with pytest.raises(UnknownLink):
            pair.do(pair.dialer, event)


# --- what a peer may say ----------------------------------------------------------------------


@pytest.mark.parametrize("sequence", [0, 2, 1 << 40])
def test_a_move_out_of_sequence_closes_the_link(sequence: int) -> None:
    pair = linked_pair()
    says(pair, pair.dialer, PortRotate(sequence, 50_000))
    pair.run(SECOND)
    assert pair.listener.closed[-1].code is CloseCode.FRAME


def test_a_peer_is_looked_for_where_it_says_a_dozen_times_and_with_little() -> None:
    pair = linked_pair()
    named = Address("192.0.2.7", 5)
    says(pair, pair.dialer, PortRotate(1, 50_000, (named, Address("2001:db8::1", 5))))
    pair.run(MINUTE)
    for address in (named, Address(DIALER.host, 50_000)):
        assert 10 <= challenged(pair.listener, address) <= 13
    assert not challenged(pair.listener, Address("2001:db8::1", 5)), "from a socket for IPv4"
    sizes = [
        len(data)
        for action in pair.listener.acts(Transmit)
        if action.path.remote == named
        for data in action.datagrams
    ]
    assert sum(sizes) < 1200


def test_whoever_names_ports_too_fast_is_heeded_once_a_second() -> None:
    pair = linked_pair()
    many = [PortRotate(at, 50_000 + at) for at in range(1, 100)]
    says(pair, pair.dialer, *many)
    pair.run(MINUTE)
    elsewhere = [
        action for action in pair.listener.acts(Transmit) if action.path.remote.port > 50_000
    ]
    assert {action.path.remote.port for action in elsewhere} == {50_001}
    assert not pair.listener.closed


def test_a_port_that_the_peer_left_before_the_last_is_not_searched() -> None:
    pair = linked_pair()
    moves(pair, pair.dialer)
    pair.run(MINUTE)
    moves(pair, pair.dialer)
    pair.network = losing(lambda _: True)
    before = challenged(pair.listener, DIALER)
    pair.write(pair.listener, b"into the void", link=-1)
    pair.run(5 * SECOND)
    assert challenged(pair.listener, DIALER) == before
    assert challenged(pair.listener, pair.dialer.transport().path.local) > 0


def test_of_the_addresses_of_a_new_socket_the_peer_is_told_four() -> None:
    pair = linked_pair()
    pair.dialer.opens = lambda _: None
    pair.do(pair.dialer, RotatePort(1))
    (wanted,) = pair.dialer.acts(OpenPort)
    named = tuple(Address("192.0.2.9", 1 + number) for number in range(6))
    pair.do(pair.dialer, PortOpened(1, wanted.local, named))
    pair.run(SECOND)
    assert [challenged(pair.listener, address) > 0 for address in named] == 4 * [True] + 2 * [False]


def test_a_mover_that_never_comes_is_not_followed() -> None:
    pair = linked_pair()
    says(pair, pair.dialer, PortRotate(1, STRANGER.port))
    pair.run(MINUTE)
    assert pair.listener.endpoint.link_stats(-1).path == Path(LISTENER, DIALER)
    assert not pair.listener.all(PathChanged)


def test_a_peer_that_is_met_before_its_word_of_the_move_comes_is_not_waited_for() -> None:
    """The word was lost at first. Nobody is challenged in vain; our own move need not wait."""
    pair = linked_pair()
    old_path = iter([True])  # PORT_ROTATE is the first that the mover says there
    pair.network = losing(lambda parcel: parcel.source == DIALER and next(old_path, False))
    local = moves(pair, pair.dialer)
    assert pair.listener.transport().path.remote == local
    assert ports(pair.dialer).move.sequence == ports(pair.listener)._told == 1
    before = challenged(pair.listener, local)
    pair.run(5 * SECOND)
    assert challenged(pair.listener, local) == before
    assert len(pair.listener.all(PathChanged)) == 1


def test_a_side_moves_at_once_although_the_word_of_its_peers_move_came_late() -> None:
    pair = linked_pair()
    old_path = iter([True])
    pair.network = losing(lambda parcel: parcel.source == DIALER and next(old_path, False))
    moves(pair, pair.dialer)
    pair.do(pair.listener, RotatePort(-1))
    pair.run(SECOND)
    assert len(pair.listener.all(PortRotated)) == 1


def test_a_user_who_asks_while_the_peer_moves_waits_for_that() -> None:
    pair = linked_pair()
    says(pair, pair.dialer, PortRotate(1, 50_000))
    pair.run(SECOND)
    pair.do(pair.listener, RotatePort(-1))
    assert not pair.listener.acts(OpenPort)
    pair.run(6 * SECOND)
    assert len(pair.listener.all(PortRotated)) == 1


def test_a_move_that_is_due_while_the_peer_moves_comes_a_minute_later() -> None:
    pair = linked_pair(listener=config_of("listener", rotate_ports_ns=10 * SECOND))
    pair.run(SECOND)
    pair.network = losing(to_or_from_a_new_port)
    says(pair, pair.dialer, *(PortRotate(at, 50_000 + at) for at in range(1, 2)))
    pair.run(4 * SECOND)
    says(pair, pair.dialer, PortRotate(2, 50_002))
    pair.run(4 * SECOND)
    says(pair, pair.dialer, PortRotate(3, 50_003))
    pair.run(4 * SECOND)
    pair.network = lambda _: (1,)
    pair.run(50 * SECOND)
    assert not pair.listener.acts(OpenPort)
    pair.run(20 * SECOND)
    assert pair.listener.all(PortRotated)
