"""Every row of every phase table is taken by a scenario that says in its name what happens.

A scenario runs two real endpoints and claims the rows that it is there for. That it takes them is
one test; that all claims together are all rows, neither more nor less, is another.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, TypeAlias

import pytest

from clawchat.core.actions import ClosePort, HopPort, PortKept, PortRotated
from clawchat.core.credential import Address, Path
from clawchat.core.crypto.envelope import ENVELOPE_SIZES
from clawchat.core.events import (
    Close,
    DeclareCompromised,
    Disturbed,
    Forget,
    Ping,
    PublishBootstrap,
    RotateKeys,
    RotatePort,
    WithdrawBootstrap,
)
from clawchat.core.exchange import first_pairing
from clawchat.core.instant import HOUR, MILLISECOND, MINUTE, SECOND
from clawchat.core.phases import (
    answering,
    bootstrap,
    compromised,
    dialing,
    established,
    following_ports,
    rotating_keys,
    rotating_ports,
)
from clawchat.core.table import Table
from clawchat.errors import CloseCode, Drop
from tests.core.pair import (
    DIALER,
    LATENCY,
    LISTENER,
    Pair,
    Parcel,
    Side,
    calm,
    config_of,
    dead,
    linked_pair,
    losing,
    make_pair,
)

TABLES: tuple[Table[Any], ...] = (
    bootstrap.TABLE,
    dialing.TABLE,
    answering.TABLE,
    established.TABLE,
    rotating_keys.DIALER,
    rotating_keys.LISTENER,
    rotating_ports.TABLE,
    following_ports.TABLE,
    compromised.TABLE,
)
RowId: TypeAlias = tuple[str, str, str, str]
Scenario: TypeAlias = Callable[[], Pair]

CLAIMS: dict[Scenario, frozenset[RowId]] = {}

ISSUING = "bootstrap"
DIALING = "handshake.dialer"
ANSWERING = "handshake.listener"
LIFE = "established"
OFFERING = "rotating.keys.dialer"
REPLYING = "rotating.keys.listener"
LEAVING = "rotating.ports"
FOLLOWING = "following.ports"
UNDOING = "compromised"


def takes(table: str, *rows: str) -> Callable[[Scenario], Scenario]:
    """The scenario is there for these rows, each written as `SOURCE Event DEST`."""

    def claim(scenario: Scenario) -> Scenario:
        ids = frozenset((table, *_three(row)) for row in rows)
        CLAIMS[scenario] = CLAIMS.get(scenario, frozenset()) | ids
        return scenario

    return claim


def _three(row: str) -> tuple[str, str, str]:
    source, event, dest = row.split()
    return source, event, dest


def is_hello(parcel: Parcel) -> bool:
    return parcel.to == LISTENER and len(parcel.data) in ENVELOPE_SIZES


def in_phase(side: Side, phase: Enum) -> Callable[[], bool]:
    """Whether the machine that has this phase entered it last."""

    def entered() -> bool:
        dests = [dest for _, _, _, dest in side.taken if type(dest) is type(phase)]
        return bool(dests) and dests[-1] is phase

    return entered


def second_write_takes_long(pair: Pair) -> None:
    """The dialer's disk: the first write is done at once, the second in 20 s."""
    disk = pair.dialer.disk

    def slow_from_the_second_on(number: int) -> bool:
        disk.delay_ns = 0 if number == 1 else 20 * SECOND
        return False

    disk.fails = slow_from_the_second_on


# --- bootstrap files --------------------------------------------------------------------------


@takes(ISSUING, "CLOSED IssueAsked OPEN", "OPEN IssueAsked OPEN", "OPEN FileDue OPEN")
@takes(ISSUING, "OPEN IssueStopped CLOSED")
def a_file_is_issued_asked_for_again_renewed_after_ten_minutes_and_withdrawn() -> Pair:
    pair = make_pair()
    pair.publish()
    pair.publish()
    pair.run(11 * MINUTE)
    pair.do(pair.listener, WithdrawBootstrap())
    return pair


@takes(ISSUING, "OPEN FileRedeemed SPENT", "SPENT IssueAsked OPEN", "SPENT IssueStopped CLOSED")
def a_redeemed_file_ends_issuing_until_the_user_asks_for_a_second_device() -> Pair:
    pair = linked_pair()
    pair.do(pair.listener, PublishBootstrap((LISTENER,)))
    pair.dialer.disk.kept.clear()
    pair.dialer.endpoint.handle(Close(1), pair.now)
    pair.connect()
    pair.do(pair.listener, WithdrawBootstrap())
    return pair


# --- the dialer's handshake -------------------------------------------------------------------


@takes(DIALING, "CALLING HelloDue CALLING", "CALLING ReplyVerified SAVING")
@takes(DIALING, "SAVING Saved PROVING", "PROVING PeerProved DROPPING", "DROPPING Saved UP")
@takes(ANSWERING, "REPLIED HelloRepeated REPLIED", "REPLIED DialerProved SAVING")
@takes(ANSWERING, "SAVING Saved RUNNING", "RUNNING DialerSettled SETTLED")
@takes(LIFE, "STARTING Begun LIVE")
def a_lost_reply_is_sent_again_and_both_sides_end_with_one_new_generation() -> Pair:
    pair = make_pair()
    replies = 0

    def first_reply_is_lost(parcel: Parcel) -> bool:
        nonlocal replies
        replies += parcel.to == DIALER
        return parcel.to == DIALER and replies == 1

    pair.network = losing(first_reply_is_lost)
    pair.dial(first_pairing(pair.publish()))
    pair.run(SECOND)
    hellos = [parcel.data for parcel in pair.parcels if is_hello(parcel)]
    assert len(hellos) == 2
    assert hellos[0] == hellos[1]
    assert pair.dialer.generations == pair.listener.generations == [1]
    return pair


@takes(DIALING, "CALLING HelloDue CALLING")
def a_dialer_that_kept_two_generations_tries_the_newer_and_then_the_older() -> Pair:
    """The listener never had generation 1: the dialer was killed before it could prove it."""
    pair = make_pair()
    pair.network = losing(lambda parcel: parcel.to == LISTENER and not is_hello(parcel))
    pair.dial(first_pairing(pair.publish()))
    pair.run(SECOND)
    assert pair.dialer.generations == [1, 0]
    pair.restart(pair.dialer)
    pair.network = calm
    pair.dial()
    pair.run(5 * SECOND)
    hints = [parcel.data[:16] for parcel in pair.parcels if is_hello(parcel)]
    assert len(set(hints)) == 2  # this cell has two rows, and both were taken
    assert pair.dialer.generations == pair.listener.generations == [1]
    return pair


@takes(DIALING, "CALLING Refused CALLING", "CALLING Refused FAILED")
@takes(LIFE, "STARTING HandshakeFailed CLOSED")
def a_copied_file_is_refused_and_refused_again_with_the_cookie() -> Pair:
    pair = make_pair()
    copied = first_pairing(pair.publish())
    pair.dial(copied)
    pair.run(SECOND)
    pair.dial(copied)
    pair.run(SECOND)
    assert pair.dialer.closed[-1].code is CloseCode.SUPERSEDED
    return pair


@takes(DIALING, "CALLING DialLapsed FAILED")
def a_dial_that_nobody_answers_is_given_up_after_thirty_seconds() -> Pair:
    pair = make_pair()
    pair.network = dead
    pair.dial(first_pairing(pair.publish()))
    pair.run(30 * SECOND)
    assert pair.dialer.closed[-1].code is CloseCode.TIMEOUT
    return pair


@takes(DIALING, "CALLING GivenUp FAILED")
@takes(LIFE, "STARTING CloseAsked CLOSED")
def the_application_gives_up_while_the_listener_is_called() -> Pair:
    pair = make_pair()
    pair.network = dead
    link = pair.dial(first_pairing(pair.publish()))
    pair.do(pair.dialer, Close(link))
    assert pair.dialer.endpoint.links == []
    return pair


@takes(DIALING, "SAVING SaveFailed FAILED")
def the_dialers_disk_is_full_when_the_reply_comes() -> Pair:
    pair = make_pair()
    pair.dialer.disk.fails = lambda _number: True
    pair.dial(first_pairing(pair.publish()))
    pair.run(SECOND)
    assert pair.dialer.closed[-1].code is CloseCode.STORE
    return pair


@takes(DIALING, "SAVING DialLapsed FAILED")
def the_dialers_disk_takes_longer_than_the_dial_may() -> Pair:
    pair = make_pair()
    pair.dialer.disk.delay_ns = MINUTE
    pair.dial(first_pairing(pair.publish()))
    pair.run(2 * MINUTE)
    assert pair.dialer.closed[-1].code is CloseCode.TIMEOUT
    return pair


@takes(DIALING, "SAVING GivenUp FAILED")
def the_application_gives_up_while_the_dialers_disk_is_slow() -> Pair:
    pair = make_pair()
    pair.dialer.disk.delay_ns = SECOND
    link = pair.dial(first_pairing(pair.publish()))
    pair.run(SECOND // 2)
    pair.do(pair.dialer, Close(link))
    pair.run(2 * SECOND)
    return pair


@takes(DIALING, "PROVING DialLapsed FAILED")
def the_listener_answers_the_hello_and_then_nothing_any_more() -> Pair:
    pair = make_pair()
    pair.network = losing(lambda parcel: parcel.to == LISTENER and not is_hello(parcel))
    pair.dial(first_pairing(pair.publish()))
    pair.run(31 * SECOND)
    assert pair.dialer.closed[-1].code is CloseCode.TIMEOUT
    assert pair.dialer.generations == [1, 0]
    return pair


@takes(DIALING, "PROVING GivenUp FAILED")
def the_application_closes_before_the_listener_has_proved_itself() -> Pair:
    pair = make_pair()
    pair.network = losing(lambda parcel: parcel.to == LISTENER and not is_hello(parcel))
    link = pair.dial(first_pairing(pair.publish()))
    pair.run(SECOND)
    pair.do(pair.dialer, Close(link))
    return pair


@takes(DIALING, "DROPPING SaveFailed FAILED")
@takes(LIFE, "LIVE HandshakeFailed CLOSED")
def the_dialers_disk_is_full_when_the_older_generation_is_dropped() -> Pair:
    pair = make_pair()
    pair.dialer.disk.fails = lambda number: number == 2
    pair.dial(first_pairing(pair.publish()))
    pair.run(SECOND)
    assert pair.dialer.closed[-1].code is CloseCode.STORE
    assert pair.dialer.generations == [1, 0]
    return pair


@takes(DIALING, "DROPPING GivenUp FAILED")
def the_application_closes_while_the_older_generation_is_dropped() -> Pair:
    pair = make_pair()
    second_write_takes_long(pair)
    link = pair.dial(first_pairing(pair.publish()))
    pair.run(SECOND)
    pair.do(pair.dialer, Close(link))
    return pair


# --- the listener's handshake -----------------------------------------------------------------


@takes(ANSWERING, "REPLIED PendingLapsed LAPSED")
def an_answered_hello_that_nobody_proves_is_forgotten_after_thirty_seconds() -> Pair:
    pair = make_pair()
    pair.network = losing(lambda parcel: parcel.to == DIALER)
    link = pair.dial(first_pairing(pair.publish()))
    pair.run(SECOND)
    pair.do(pair.dialer, Close(link))
    pair.run(31 * SECOND)
    assert pair.listener.endpoint.deadline is not None
    assert pair.listener.endpoint.deadline.why == "BOOTSTRAP"
    return pair


@takes(ANSWERING, "REPLIED Displaced LAPSED")
def of_two_answered_hellos_of_one_device_the_proved_one_displaces_the_other() -> Pair:
    pair = make_pair()
    content = pair.publish()
    pair.network = losing(lambda parcel: parcel.to == DIALER)
    link = pair.dial(first_pairing(content))
    pair.run(SECOND)
    pair.do(pair.dialer, Close(link))
    pair.network = calm
    pair.dial(first_pairing(content))
    pair.run(SECOND)
    assert len(pair.listener.endpoint.links) == 1
    return pair


@takes(ANSWERING, "SAVING SaveFailed LAPSED")
def the_listeners_disk_is_full_when_the_dialer_proves_itself() -> Pair:
    pair = make_pair()
    pair.listener.disk.fails = lambda _number: True
    pair.dial(first_pairing(pair.publish()))
    pair.run(SECOND)
    assert pair.listener.closed[-1].code is CloseCode.STORE
    return pair


@takes(ANSWERING, "SAVING Displaced LAPSED")
def a_device_is_forgotten_while_the_listener_writes_its_generation() -> Pair:
    pair = make_pair()
    pair.listener.disk.delay_ns = SECOND
    content = pair.publish()
    pair.dial(first_pairing(content))
    pair.run(SECOND // 2)
    pair.do(pair.listener, Forget(content.file_id))
    pair.run(2 * SECOND)
    assert pair.listener.closed[-1].code is CloseCode.REVOKED
    assert pair.listener.endpoint.pairings == []
    return pair


@takes(ANSWERING, "RUNNING Displaced LAPSED")
def the_listener_closes_before_the_dialer_has_dropped_the_older_generation() -> Pair:
    pair = make_pair()
    second_write_takes_long(pair)
    pair.dial(first_pairing(pair.publish()))
    pair.run(SECOND)
    pair.do(pair.listener, Close(-1))
    assert pair.listener.generations == [1, 0]
    return pair


# --- the life of a link -----------------------------------------------------------------------


@takes(LIFE, "LIVE ProbesUnanswered SUSPECT", "SUSPECT Heard LIVE")
def a_link_is_suspect_while_the_network_is_gone_and_live_when_it_is_back() -> Pair:
    pair = linked_pair()
    pair.network = dead
    pair.do(pair.dialer, Ping(1, 1))
    pair.run(5 * SECOND)
    assert pair.dialer.endpoint.link_stats(1).phase == "suspect"
    pair.network = calm
    pair.run(5 * SECOND)
    assert pair.dialer.endpoint.link_stats(1).phase == "live"
    return pair


@takes(LIFE, "SUSPECT SilenceDue CLOSED", "SUSPECT ProbeDue SUSPECT", "SUSPECT HopDue SUSPECT")
def a_dialer_whose_peer_is_gone_searches_for_90_seconds_and_then_ends_the_link() -> Pair:
    pair = linked_pair()
    pair.network = dead
    pair.run(2 * MINUTE)
    assert pair.dialer.acts(HopPort)
    assert pair.dialer.closed[-1].code is CloseCode.TIMEOUT
    return pair


@takes(LIFE, "LIVE Disturbed LIVE")
def the_network_of_a_live_link_changes() -> Pair:
    pair = linked_pair()
    before = len(pair.dialer.sent)
    pair.do(pair.dialer, Disturbed(1))
    assert before < len(pair.dialer.sent) <= before + 3
    return pair


@takes(LIFE, "SUSPECT Disturbed SUSPECT")
def the_network_changes_while_the_peer_is_searched_for() -> Pair:
    pair = linked_pair()
    pair.network = dead
    pair.do(pair.dialer, Ping(1, 1))
    pair.run_until(in_phase(pair.dialer, established.Phase.SUSPECT))
    before = len(pair.dialer.sent)
    pair.do(pair.dialer, Disturbed(1))
    assert before < len(pair.dialer.sent) <= before + 3
    return pair


def sleeping_listener() -> Pair:
    """The listener has not heard its dialer for so long that it no longer asks."""
    pair = linked_pair()
    pair.network = dead
    pair.do(pair.listener, Ping(-1, 1))
    pair.run_until(in_phase(pair.listener, established.Phase.ASLEEP))
    return pair


@takes(LIFE, "SUSPECT AsleepDue ASLEEP", "ASLEEP Heard LIVE")
def a_listener_sleeps_until_its_dialer_comes_back() -> Pair:
    pair = sleeping_listener()
    pair.network = calm
    pair.do(pair.dialer, Disturbed(1))
    pair.run(SECOND)
    assert pair.listener.endpoint.link_stats(-1).phase == "live"
    return pair


@takes(LIFE, "ASLEEP SilenceDue CLOSED")
def a_sleeping_listener_forgets_its_dialer_after_a_day() -> Pair:
    pair = sleeping_listener()
    pair.run(24 * HOUR)
    assert pair.listener.closed[-1].code is CloseCode.TIMEOUT
    return pair


@takes(LIFE, "ASLEEP Disturbed SUSPECT")
def a_sleeping_listener_searches_again_when_its_own_network_changes() -> Pair:
    pair = sleeping_listener()
    before = len(pair.listener.sent)
    pair.do(pair.listener, Disturbed(-1))
    assert len(pair.listener.sent) > before
    pair.run(MINUTE)
    assert pair.listener.endpoint.link_stats(-1).phase == "asleep"
    return pair


@takes(LIFE, "ASLEEP CloseAsked CLOSING")
def the_application_closes_a_sleeping_link() -> Pair:
    pair = sleeping_listener()
    pair.do(pair.listener, Close(-1))
    pair.run(MINUTE)
    assert pair.listener.endpoint.links == []
    return pair


@takes(LIFE, "ASLEEP Violated CLOSING")
def the_packet_that_wakes_a_listener_breaks_a_rule() -> Pair:
    pair = sleeping_listener()
    pair.network = calm
    pair.say(pair.dialer, b"\xff", link=1)
    pair.run(LATENCY)
    assert pair.listener.closed[-1].code is CloseCode.FRAME
    return pair


@takes(LIFE, "ASLEEP Destroyed CLOSED")
def a_sleeping_link_is_declared_compromised() -> Pair:
    pair = sleeping_listener()
    declare(pair, pair.listener)
    pair.run(11 * SECOND)
    assert pair.listener.closed[-1].code is CloseCode.COMPROMISED
    return pair


@takes(LIFE, "LIVE SilenceDue CLOSED")
def a_machine_that_slept_finds_that_its_peer_is_gone() -> Pair:
    pair = linked_pair()
    pair.network = dead
    pair.now += HOUR  # nobody called `advance`
    pair.run(SECOND)
    assert pair.dialer.closed[-1].code is CloseCode.TIMEOUT
    return pair


@takes(LIFE, "LIVE CloseAsked CLOSING", "LIVE PeerClosed CLOSED", "CLOSING ClosingOver CLOSED")
def one_side_closes_and_tells_the_other() -> Pair:
    pair = linked_pair()
    pair.do(pair.dialer, Close(1, CloseCode.DONE, "good night"))
    pair.run(5 * SECOND)
    assert pair.listener.closed[-1].reason == "good night"
    return pair


@takes(LIFE, "SUSPECT CloseAsked CLOSING")
def the_application_closes_a_suspect_link() -> Pair:
    pair = linked_pair()
    pair.network = dead
    pair.do(pair.dialer, Ping(1, 1))
    pair.run(5 * SECOND)
    pair.do(pair.dialer, Close(1))
    return pair


@takes(LIFE, "CLOSING Heard CLOSING")
def a_lost_close_is_sent_again_when_the_peer_still_talks() -> Pair:
    pair = linked_pair()
    pair.network = dead
    pair.do(pair.listener, Ping(-1, 1))
    pair.do(pair.dialer, Close(1))
    pair.network = calm
    pair.run_until(lambda: bool(pair.listener.closed), SECOND)
    assert pair.listener.closed[-1].by_peer
    return pair


@takes(LIFE, "CLOSING PeerClosed CLOSED")
def both_sides_close_at_the_same_time() -> Pair:
    pair = linked_pair()
    pair.do(pair.dialer, Close(1))
    pair.do(pair.listener, Close(-1))
    pair.run(LATENCY)
    assert pair.dialer.endpoint.links == pair.listener.endpoint.links == []
    return pair


@takes(LIFE, "LIVE Violated CLOSING")
def a_peer_that_breaks_a_rule_is_closed() -> Pair:
    pair = linked_pair()
    pair.say(pair.dialer, b"\xff", link=1)
    pair.run(LATENCY)
    assert pair.listener.closed[-1].code is CloseCode.FRAME
    return pair


@takes(LIFE, "SUSPECT Violated CLOSING")
def the_first_packet_after_a_silence_breaks_a_rule() -> Pair:
    pair = linked_pair()
    pair.network = dead
    pair.do(pair.listener, Ping(-1, 1))
    pair.run_until(in_phase(pair.listener, established.Phase.SUSPECT))
    pair.network = calm
    pair.say(pair.dialer, b"\xff", link=1)
    pair.run(LATENCY)
    assert pair.listener.closed[-1].code is CloseCode.FRAME
    return pair


@takes(LIFE, "SUSPECT PeerClosed CLOSED")
def the_peers_close_waits_until_a_slow_disk_is_done() -> Pair:
    pair = make_pair()
    second_write_takes_long(pair)
    pair.dial(first_pairing(pair.publish()))
    pair.run(SECOND)
    pair.do(pair.listener, Close(-1, CloseCode.DONE, "good night"))
    pair.run(25 * SECOND)
    assert pair.dialer.closed[-1].reason == "good night"
    assert pair.dialer.generations == [1]
    return pair


@takes(LIFE, "SUSPECT HandshakeFailed CLOSED")
def the_dialers_disk_fails_after_the_listener_fell_silent() -> Pair:
    pair = make_pair()
    second_write_takes_long(pair)
    slow = pair.dialer.disk.fails
    pair.dialer.disk.fails = lambda number: slow(number) or number == 2
    pair.dial(first_pairing(pair.publish()))
    pair.run(SECOND)
    pair.network = dead
    pair.run(25 * SECOND)
    assert pair.dialer.closed[-1].code is CloseCode.STORE
    assert pair.dialer.generations == [1, 0]
    return pair


# --- rotating keys ----------------------------------------------------------------------------


@takes(OFFERING, "STEADY RotationDue OFFERED", "OFFERED ReplyArrived SWITCHED")
@takes(OFFERING, "SWITCHED NewEpochHeard SETTLING", "SETTLING WipeDue STEADY")
@takes(REPLYING, "STEADY OfferArrived ANSWERED", "ANSWERED NewEpochHeard SETTLING")
@takes(REPLYING, "SETTLING WipeDue STEADY")
def keys_are_ratcheted_right_after_the_handshake() -> Pair:
    pair = linked_pair()
    assert pair.dialer.endpoint.link_stats(1).epoch == 1
    assert pair.listener.endpoint.link_stats(-1).epoch == 1
    return pair


@takes(OFFERING, "STEADY RotationAsked OFFERED")
def the_dialers_user_asks_for_new_keys() -> Pair:
    pair = linked_pair()
    pair.do(pair.dialer, RotateKeys(1))
    pair.run(SECOND)
    assert pair.dialer.endpoint.link_stats(1).epoch == 2
    return pair


@takes(REPLYING, "STEADY RotationAsked STEADY")
def the_listeners_user_asks_for_new_keys() -> Pair:
    pair = linked_pair()
    pair.do(pair.listener, RotateKeys(-1))
    pair.run(SECOND)
    assert pair.listener.endpoint.link_stats(-1).epoch == 2
    return pair


@takes(REPLYING, "STEADY RotationDue STEADY")
def a_listeners_epoch_grows_an_hour_old_before_the_dialers_does() -> Pair:
    pair = linked_pair(
        listener=config_of("listener", rotate_latest_ns=MINUTE),
        dialer=config_of("dialer", rotate_latest_ns=HOUR),
    )
    pair.run(MINUTE + MINUTE // 5)
    assert pair.listener.endpoint.link_stats(-1).epoch == 2
    return pair


@takes(REPLYING, "SETTLING OfferArrived ANSWERED")
def the_dialer_offers_again_before_the_listener_has_settled() -> Pair:
    """The listener measured a slow round trip, so it waits longer for stragglers."""
    pair = linked_pair()
    pair.network = lambda _parcel: (400 * MILLISECOND,)
    pair.do(pair.listener, Ping(-1, 1))
    pair.run(2 * SECOND)
    pair.network = calm
    pair.do(pair.dialer, RotateKeys(1))
    pair.run_until(in_phase(pair.dialer, rotating_keys.DialerPhase.SETTLING))
    pair.run_until(in_phase(pair.dialer, rotating_keys.DialerPhase.STEADY))
    pair.do(pair.dialer, RotateKeys(1))
    pair.run(5 * SECOND)
    assert pair.listener.endpoint.link_stats(-1).epoch == 3
    return pair


@takes(OFFERING, "SWITCHED RotationAsked SWITCHED", "SETTLING RotationAsked SETTLING")
@takes(OFFERING, "SETTLING WipeDue OFFERED")
def the_dialers_user_asks_while_the_last_rotation_ends() -> Pair:
    pair = linked_pair()
    for phase in (rotating_keys.DialerPhase.SWITCHED, rotating_keys.DialerPhase.SETTLING):
        pair.do(pair.dialer, RotateKeys(1))
        pair.run_until(in_phase(pair.dialer, phase))
        pair.do(pair.dialer, RotateKeys(1))
        pair.run(SECOND)
    assert pair.dialer.endpoint.link_stats(1).epoch == 5
    return pair


@takes(REPLYING, "SETTLING RotationAsked SETTLING")
@takes(OFFERING, "SETTLING RotationDue SETTLING", "SETTLING WipeDue OFFERED")
def the_listeners_user_asks_while_the_last_rotation_ends() -> Pair:
    pair = linked_pair()
    pair.do(pair.listener, RotateKeys(-1))
    pair.run_until(in_phase(pair.listener, rotating_keys.ListenerPhase.SETTLING))
    pair.do(pair.listener, RotateKeys(-1))
    pair.run(SECOND)
    assert pair.listener.endpoint.link_stats(-1).epoch == 3
    return pair


# --- rotating ports ---------------------------------------------------------------------------


def to_or_from_a_new_port(parcel: Parcel) -> bool:
    return max(parcel.source.port, parcel.to.port) >= rotating_ports.PORT_FROM


@takes(LEAVING, "STEADY PortAsked OPENING", "OPENING SocketOpened MOVING")
@takes(LEAVING, "MOVING MoveProved OVERLAPPING", "OVERLAPPING OverlapOver STEADY")
@takes(FOLLOWING, "STEADY PeerAnnounced FOLLOWING", "FOLLOWING PeerMet STEADY")
def a_dialer_moves_to_another_port() -> Pair:
    pair = linked_pair()
    pair.do(pair.dialer, RotatePort(1))
    pair.run(31 * SECOND)
    (moved,) = pair.dialer.all(PortRotated)
    assert pair.dialer.endpoint.link_stats(1).path == Path(moved.local, LISTENER)
    assert pair.listener.endpoint.link_stats(-1).path == Path(LISTENER, moved.local)
    assert [closed.local for closed in pair.dialer.acts(ClosePort)] == [DIALER]
    return pair


@takes(LEAVING, "STEADY PortDue OPENING")
def a_listeners_port_grows_an_hour_old() -> Pair:
    pair = linked_pair(dialer=config_of("dialer", rotate_ports_ns=0))
    pair.run(HOUR + HOUR // 9)
    (moved,) = pair.listener.all(PortRotated)
    assert pair.dialer.endpoint.link_stats(1).path == Path(DIALER, moved.local)
    return pair


@takes(LEAVING, "OPENING SocketRefused OPENING")
def the_first_port_that_is_drawn_is_taken() -> Pair:
    pair = linked_pair()
    tried: list[Address] = []

    def first_is_taken(local: Address) -> bool:
        tried.append(local)
        return len(tried) > 1

    pair.dialer.opens = first_is_taken
    pair.do(pair.dialer, RotatePort(1))
    pair.run(SECOND)
    assert [moved.local for moved in pair.dialer.all(PortRotated)] == tried[1:]
    return pair


@takes(LEAVING, "OPENING SocketRefused STEADY")
def every_port_that_is_drawn_is_taken() -> Pair:
    pair = linked_pair()
    pair.dialer.opens = lambda _: False
    pair.do(pair.dialer, RotatePort(1))
    pair.run(SECOND)
    assert [kept.why for kept in pair.dialer.all(PortKept)] == [rotating_ports.REFUSED]
    return pair


@takes(LEAVING, "OPENING MoveLapsed STEADY")
def a_driver_never_says_whether_it_has_a_socket() -> Pair:
    pair = linked_pair()
    pair.dialer.opens = lambda _: None
    pair.do(pair.dialer, RotatePort(1))
    pair.run(6 * SECOND)
    assert [kept.why for kept in pair.dialer.all(PortKept)] == [rotating_ports.REFUSED]
    return pair


@takes(LEAVING, "MOVING PunchDue MOVING", "MOVING MoveLapsed STEADY")
@takes(FOLLOWING, "FOLLOWING PunchAgain FOLLOWING", "FOLLOWING FollowLapsed STEADY")
def nothing_gets_through_to_another_port() -> Pair:
    pair = linked_pair()
    pair.network = losing(to_or_from_a_new_port)
    pair.do(pair.dialer, RotatePort(1))
    pair.run(6 * SECOND)
    assert [kept.why for kept in pair.dialer.all(PortKept)] == [rotating_ports.UNANSWERED]
    assert pair.dialer.endpoint.link_stats(1).path == Path(DIALER, LISTENER)
    assert pair.dialer.endpoint.link_stats(1).epoch == 2, "the keys change instead"
    assert not pair.dialer.sockets
    return pair


@takes(LEAVING, "OVERLAPPING PortAsked OVERLAPPING")
def a_user_asks_for_another_port_right_after_a_move() -> Pair:
    pair = linked_pair()
    pair.do(pair.dialer, RotatePort(1))
    pair.run(SECOND)
    pair.do(pair.dialer, RotatePort(1))
    pair.run(SECOND)
    assert [kept.why for kept in pair.dialer.all(PortKept)] == [rotating_ports.TOO_EARLY]
    assert len(pair.dialer.sockets) == 1
    return pair


@takes(LEAVING, "MOVING PeerMoves MOVING", "MOVING PeerMoves STEADY")
def both_sides_leave_their_ports_at_the_same_moment() -> Pair:
    pair = linked_pair()
    pair.do(pair.listener, RotatePort(-1))
    pair.do(pair.dialer, RotatePort(1))
    pair.run(SECOND)
    (ours,) = pair.dialer.all(PortRotated)
    assert not pair.listener.all(PortRotated)
    assert pair.listener.endpoint.link_stats(-1).path == Path(LISTENER, ours.local)
    pair.run(MINUTE + SECOND)
    (theirs,) = pair.listener.all(PortRotated)
    assert pair.dialer.endpoint.link_stats(1).path == Path(ours.local, theirs.local)
    return pair


@takes(LEAVING, "OPENING PeerMoves OPENING", "OPENING PeerMoves STEADY")
def each_side_hears_of_the_others_move_while_its_driver_opens_a_socket() -> Pair:
    pair = linked_pair()
    for side, other in ((pair.dialer, pair.listener), (pair.listener, pair.dialer)):
        side.opens, other.opens = (lambda _: None), (lambda _: True)
        pair.do(side, RotatePort(1 if side is pair.dialer else -1))
        pair.do(other, RotatePort(1 if other is pair.dialer else -1))
        pair.run(MINUTE)
    assert len(pair.listener.all(PortRotated)) == 1
    assert len(pair.dialer.all(PortRotated)) == 1
    return pair


@takes(LEAVING, "OPENING LinkLost STEADY")
def the_peer_is_lost_while_a_socket_is_opened() -> Pair:
    pair = linked_pair()
    pair.dialer.opens = lambda _: None
    pair.network = dead
    pair.do(pair.dialer, Ping(1, 1))
    pair.do(pair.dialer, RotatePort(1))
    pair.run_until(in_phase(pair.dialer, established.Phase.SUSPECT))
    pair.network = calm
    pair.dialer.opens = lambda _: True
    pair.run(MINUTE + SECOND)
    assert len(pair.dialer.all(PortRotated)) == 1, "a minute later"
    return pair


@takes(LEAVING, "MOVING LinkLost STEADY")
@takes(FOLLOWING, "FOLLOWING PeerAnnounced FOLLOWING")
def the_mover_loses_its_peer_and_tells_of_another_port_when_it_is_back() -> Pair:
    pair = linked_pair()
    pair.network = losing(to_or_from_a_new_port)
    pair.do(pair.dialer, RotatePort(1))
    pair.run(SECOND)
    pair.network = dead
    pair.do(pair.dialer, Ping(1, 1))
    pair.run_until(in_phase(pair.dialer, established.Phase.SUSPECT))
    assert not pair.dialer.sockets
    pair.network = calm
    pair.run(SECOND)
    pair.do(pair.dialer, RotatePort(1))
    pair.run(SECOND)
    assert len(pair.dialer.all(PortRotated)) == 1
    return pair


@takes(FOLLOWING, "FOLLOWING PeerLost STEADY")
def the_peer_of_a_mover_loses_it() -> Pair:
    pair = linked_pair()
    pair.network = losing(to_or_from_a_new_port)
    pair.do(pair.dialer, RotatePort(1))
    pair.run(LATENCY)
    pair.network = dead
    pair.do(pair.listener, Ping(-1, 1))
    pair.run_until(in_phase(pair.listener, established.Phase.SUSPECT))
    pair.network = calm
    pair.run(SECOND)
    assert pair.listener.endpoint.link_stats(-1).phase == "live"
    return pair


# --- compromised ------------------------------------------------------------------------------


def declare(pair: Pair, side: Side) -> None:
    pair.do(side, DeclareCompromised(side.link().file_id))


@takes(UNDOING, "SAFE Declared DECLARING", "DECLARING PeerObeyed DESTROYED")
@takes(UNDOING, "SAFE PeerDeclared ECHOING", "ECHOING SayAgain ECHOING")
@takes(UNDOING, "ECHOING SayAgain DESTROYED")
@takes(LIFE, "LIVE Destroyed CLOSED")
def a_device_declares_that_it_is_compromised() -> Pair:
    pair = linked_pair()
    declare(pair, pair.dialer)
    pair.run(2 * LATENCY)
    assert [side.receipts[0].confirmed for side in pair.sides] == [True, True]
    pair.run(MINUTE)
    assert pair.listener.endpoint.links == pair.dialer.endpoint.links == []
    assert pair.listener.disk.kept == pair.dialer.disk.kept == {}
    return pair


@takes(UNDOING, "DECLARING SayAgain DECLARING", "DECLARING PatienceOver DESTROYED")
def nobody_answers_a_declaration_for_ten_seconds() -> Pair:
    pair = linked_pair()
    pair.network = dead
    declare(pair, pair.listener)
    pair.run(9 * SECOND)
    assert pair.listener.receipts == []
    pair.run(2 * SECOND)
    (receipt,) = pair.listener.receipts
    assert receipt.told
    assert not receipt.confirmed
    return pair


@takes(UNDOING, "DECLARING PeerDeclared ECHOING")
def both_declare_at_the_same_moment() -> Pair:
    pair = linked_pair()
    declare(pair, pair.dialer)
    declare(pair, pair.listener)
    pair.run(LATENCY)
    for side in pair.sides:
        (receipt,) = side.receipts
        assert receipt.confirmed
        assert not receipt.by_peer
    pair.run(MINUTE)
    return pair


@takes(UNDOING, "SAFE Declared DESTROYED")
@takes(LIFE, "STARTING Destroyed CLOSED")
def a_device_declares_before_the_listener_has_answered() -> Pair:
    pair = make_pair()
    pair.network = dead
    link = pair.dial(first_pairing(pair.publish()))
    declare(pair, pair.dialer)
    (receipt,) = pair.dialer.receipts
    assert not receipt.told
    assert pair.dialer.closed[-1].code is CloseCode.COMPROMISED
    assert link not in pair.dialer.endpoint.links
    return pair


@takes(LIFE, "SUSPECT Destroyed CLOSED")
def a_suspect_link_is_declared_compromised() -> Pair:
    pair = linked_pair()
    pair.network = dead
    pair.do(pair.dialer, Ping(1, 1))
    pair.run_until(in_phase(pair.dialer, established.Phase.SUSPECT))
    declare(pair, pair.dialer)
    pair.run(11 * SECOND)
    assert pair.dialer.closed[-1].code is CloseCode.COMPROMISED
    return pair


@takes(LIFE, "CLOSING Destroyed CLOSED")
def a_link_that_is_closing_is_declared_compromised() -> Pair:
    pair = linked_pair()
    pair.network = dead
    file_id = pair.listener.link().file_id
    pair.do(pair.listener, Close(-1))
    pair.do(pair.listener, DeclareCompromised(file_id))
    (receipt,) = pair.listener.receipts
    assert not receipt.told
    assert pair.listener.endpoint.links == []
    return pair


# --- the tests --------------------------------------------------------------------------------


@pytest.mark.parametrize("scenario", CLAIMS, ids=lambda scenario: scenario.__name__)
def test_a_scenario_takes_the_rows_that_it_is_there_for(scenario: Scenario) -> None:
    pair = scenario()
    taken = {
        (table, source.name, event, dest.name)
        for side in pair.sides
        for table, source, event, dest in side.taken
    }
    missing = CLAIMS[scenario] - taken
    assert not missing
    for side in pair.sides:
        assert not side.endpoint.drops[Drop.MALFORMED_FRAME]


def test_every_row_of_every_table_has_a_scenario() -> None:
    rows = {
        (table.name, row.source.name, row.event.__name__, row.dest.name)
        for table in TABLES
        for row in table.rows
    }
    claimed = frozenset[RowId]().union(*CLAIMS.values())
    assert rows - claimed == set()
    assert claimed - rows == set()


def test_only_one_cell_has_rows_that_a_trace_cannot_tell_apart() -> None:
    """And the scenario for it looks at the wire to be sure that both were taken."""
    doubles = [
        (table.name, row.source.name, row.event.__name__)
        for table in TABLES
        for at, row in enumerate(table.rows)
        if any(
            (row.source, row.event, row.dest) == (other.source, other.event, other.dest)
            for other in table.rows[:at]
        )
    ]
    assert doubles == [("handshake.dialer", "CALLING", "HelloDue")]
