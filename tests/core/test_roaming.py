"""Roaming: rebinding, a noticed change, outage, sleep, several paths (PROTOCOL.md "Paths").

Left to others: whole networks with faults (`tests/simulation`), sockets (`tests/drivers`).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from attrs import evolve

from clawchat.core.actions import (
    DatagramArrived,
    HopPort,
    PathChanged,
    PathRestored,
    PathSuspect,
    StreamData,
)
from clawchat.core.config import CHALLENGE_LIFE, PATH_IDS_AHEAD, PATH_IDS_BEHIND
from clawchat.core.credential import Address, Path
from clawchat.core.crypto.packets import OVERHEAD
from clawchat.core.events import (
    Close,
    Disturbed,
    Ping,
    SendDatagram,
    StreamClass,
    Write,
    stream_id,
)
from clawchat.core.exchange import first_pairing
from clawchat.core.instant import HOUR, MILLISECOND, MINUTE, SECOND, Instant
from clawchat.core.paths import AMPLIFICATION, WAYS_MAX, Paths
from clawchat.core.recovery.path_mtu import FLOOR
from clawchat.core.wire import frames
from clawchat.errors import CloseCode, LocalError
from tests.core.pair import (
    DIALER,
    LISTENER,
    Network,
    Pair,
    Parcel,
    calm,
    dead,
    linked_pair,
    losing,
    make_pair,
    seeded,
)

CHAT = stream_id(1, StreamClass.INTERACTIVE, dialer=True)
OUTSIDE = Address("198.51.100.7", 40000)
ELSEWHERE = Address("203.0.113.9", 50000)


def streaming() -> Pair:
    """A pair in the middle of an answer that the listener streams."""
    pair = linked_pair()
    pair.do(pair.dialer, Write(1, CHAT, b"question"))
    pair.run(SECOND)
    return pair


def tokens(pair: Pair, count: int, every: Instant = 50 * MILLISECOND) -> list[Instant]:
    """Stream tokens to the dialer; when each batch of them arrived."""
    arrived: list[Instant] = []
    for _ in range(count):
        pair.do(pair.listener, Write(-1, CHAT, b"token "))
        seen = len(pair.dialer.all(StreamData))
        pair.run(every)
        if len(pair.dialer.all(StreamData)) > seen:
            arrived.append(pair.now)
    return arrived


def behind(outside: Address) -> Callable[[Parcel], Parcel | None]:
    """A NAT that shows the dialer as `outside`, and knows of no older mapping."""

    def translate(parcel: Parcel) -> Parcel | None:
        if parcel.to == LISTENER:
            return evolve(parcel, source=outside)
        if parcel.to == outside:
            return evolve(parcel, to=DIALER)
        return None

    return translate


def test_a_silent_rebinding_is_healed_within_three_seconds_and_no_token_is_lost() -> None:
    pair = streaming()
    tokens(pair, 20)
    pair.translate = behind(OUTSIDE)
    began = pair.now
    arrived = tokens(pair, 80)
    assert arrived[0] - began < 3 * SECOND
    pair.run(SECOND)
    assert pair.dialer.received(CHAT) == b"token " * 100
    assert pair.listener.all(PathChanged) == [PathChanged(Path(LISTENER, OUTSIDE))]


def test_a_change_that_the_host_notices_costs_a_round_trip() -> None:
    pair = streaming()
    tokens(pair, 20)
    pair.translate = behind(OUTSIDE)
    began = pair.now
    pair.do(pair.dialer, Disturbed(1))
    arrived = tokens(pair, 20, 10 * MILLISECOND)
    assert arrived[0] - began < 20 * MILLISECOND + 50 * MILLISECOND
    pair.run(SECOND)
    assert pair.dialer.received(CHAT) == b"token " * 40


def test_who_learns_that_its_network_changed_says_at_once_what_the_peer_lacks() -> None:
    """Whether it has something to say or not: this is how the peer learns of a new address."""
    pair = linked_pair()
    pair.run(5 * SECOND)
    said: list[list[int]] = []
    for question in (b"", b"?" * 700):
        if question:
            pair.do(pair.dialer, Write(1, CHAT, question))
        pair.parcels.clear()
        pair.do(pair.dialer, Disturbed(1))
        said.append([len(sent.data) for sent in pair.parcels if len(sent.data) != FLOOR])
        pair.run(SECOND)
    quiet, asking = said
    assert quiet, "more than a challenge, which has this size"
    assert max(asking) > 700, "what is in flight once more"


def far(parcel: Parcel) -> tuple[Instant, ...]:
    """A round trip of 300 ms."""
    return (150 * MILLISECOND,)


def test_on_a_long_path_too_a_change_costs_one_round_trip_for_all_that_was_in_flight() -> None:
    """Not one more for the proof: six tokens are on their way when the old address dies."""
    pair = streaming()
    pair.network = far
    tokens(pair, 20)
    pair.translate = behind(OUTSIDE)
    began, seen = pair.now, len(pair.dialer.received(CHAT))
    pair.do(pair.dialer, Disturbed(1))
    arrived = tokens(pair, 12)
    back = [at for at in arrived if at - began > 150 * MILLISECOND]  # what was beyond the NAT came
    assert back[0] - began <= 300 * MILLISECOND
    assert len(pair.dialer.received(CHAT)) - seen > 8 * len(b"token ")
    gaps = [after - before for before, after in pairwise(back)]
    assert max(gaps) <= 50 * MILLISECOND, "and then they flow as before, proved or not"
    pair.run(SECOND)
    assert pair.dialer.received(CHAT) == b"token " * 32
    assert pair.listener.all(PathChanged) == [PathChanged(Path(LISTENER, OUTSIDE))]


def test_copies_are_at_most_three_times_what_came_from_where_they_go() -> None:
    """A rebound dialer that says next to nothing, while an upload's worth waits for it."""
    pair = streaming()
    pair.network = far
    pair.do(pair.listener, Write(-1, CHAT, bytes(300_000)))
    pair.run(160 * MILLISECOND)
    pair.translate = behind(OUTSIDE)
    pair.network = lambda parcel: () if parcel.to == DIALER else far(parcel)
    pair.parcels.clear()
    pair.do(pair.dialer, Ping(1, 1))
    pair.run(290 * MILLISECOND)
    came = sum(len(sent.data) for sent in pair.parcels if sent.to == LISTENER)
    went = sum(len(sent.data) for sent in pair.parcels if sent.to == OUTSIDE)
    assert came < 1000
    assert 0 < went <= AMPLIFICATION * came


def test_copies_on_a_path_that_is_proved_are_no_more_than_that_either() -> None:
    """A large probe comes on the other family, which was proved long before; then silence."""
    pair = dual()
    tokens(pair, 100)
    (spare,) = (way for way in pair.listener.transport().paths if way.path.remote == SIX)
    assert spare.validated
    (there,) = (way for way in pair.dialer.transport().paths if way.path.remote == THERE_SIX)
    came = FLOOR
    asked = frames.encode_path_challenge(b"whereyou")
    pair.say(pair.dialer, asked + frames.padding(came - OVERHEAD - len(asked)), way=there)
    pair.run(60 * MILLISECOND)
    pair.network = dead
    pair.parcels.clear()
    pair.do(pair.listener, Write(-1, CHAT, bytes(300_000)))
    pair.run(SECOND)
    went = {
        to: sum(len(sent.data) for sent in pair.parcels if sent.to == to) for to in (DIALER, SIX)
    }
    assert 0 < went[SIX] <= AMPLIFICATION * came < went[DIALER]


def test_a_peer_that_only_asks_elsewhere_and_talks_on_keeps_its_path() -> None:
    """What is answered there, with copies, moves neither side while the path in use works."""
    pair = streaming()
    pair.also_dialer = ELSEWHERE
    pair.network = lambda parcel: (
        (30 * MILLISECOND,) if ELSEWHERE in (parcel.source, parcel.to) else calm(parcel)
    )
    tokens(pair, 5)
    pair.do(pair.dialer, Disturbed(1, (Path(ELSEWHERE, LISTENER),)))
    pair.parcels.clear()
    tokens(pair, 20)
    assert not pair.dialer.all(PathChanged)
    assert not pair.listener.all(PathChanged)
    there = [sent for sent in pair.parcels if sent.to == ELSEWHERE]
    assert len(there) < 8, "no second stream of copies"
    assert pair.dialer.received(CHAT) == b"token " * 25


def test_a_datagram_arrives_once_although_both_paths_work_and_one_is_on_trial() -> None:
    """The dialer moved and is reached at its old address as well: the rest goes to both."""
    pair = streaming()
    pair.translate = lambda parcel: (
        evolve(parcel, source=OUTSIDE) if parcel.to == LISTENER else evolve(parcel, to=DIALER)
    )
    pair.do(pair.dialer, Disturbed(1))
    pair.run(12 * MILLISECOND)
    pair.parcels.clear()
    for number in range(3):
        pair.do(pair.listener, SendDatagram(-1, b"%d" % number * (100 + 400 * number)))
    pair.do(pair.listener, Write(-1, CHAT, b"token "))
    assert {sent.to for sent in pair.parcels} == {DIALER, OUTSIDE}
    pair.run(SECOND)
    came = [notice.data for notice in pair.dialer.all(DatagramArrived)]
    assert came == [b"0" * 100, b"1" * 500, b"2" * 900]
    assert pair.dialer.received(CHAT) == b"token "


# --- two families, two networks -----------------------------------------------------------------

SIX = Address("2001:db8::1", 1000)
THERE_SIX = Address("2001:db8::2", 2000)


def of(*addresses: Address) -> Callable[[Parcel], tuple[Instant, ...]]:
    """Only what goes between these of the four arrives, after 50 ms."""
    known = {*addresses}
    return lambda parcel: (50 * MILLISECOND,) if {parcel.source, parcel.to} <= known else ()


OF_FOUR, OF_SIX = (DIALER, LISTENER), (SIX, THERE_SIX)


def dual(network: Network | None = None) -> Pair:
    """A listener and a dialer with both families, in the middle of an answer over IPv4."""
    pair = make_pair()
    pair.also_dialer, pair.also_listener = SIX, THERE_SIX
    pair.network = network or of(*OF_FOUR, *OF_SIX)
    paths = (Path(DIALER, LISTENER), Path(SIX, THERE_SIX))
    pair.dial(first_pairing(pair.publish()), via=paths)
    pair.run(SECOND)
    pair.do(pair.dialer, Write(1, CHAT, b"question"))
    pair.run(SECOND)
    assert tokens(pair, 10)
    return pair


def test_a_host_that_loses_one_family_goes_on_over_the_other_and_comes_back() -> None:
    pair = dual()
    sent = 10
    for here, there, network in (
        (SIX, THERE_SIX, of(*OF_SIX)),
        (DIALER, LISTENER, of(*OF_FOUR)),
    ):
        pair.network = network
        began = pair.now
        pair.do(pair.dialer, Disturbed(1))
        arrived = tokens(pair, 20)
        sent += 20
        assert arrived[0] - began <= 100 * MILLISECOND + 50 * MILLISECOND
        assert max(after - before for before, after in pairwise(arrived)) <= 100 * MILLISECOND
        assert pair.dialer.transport().path == Path(here, there)
        assert pair.listener.transport().path == Path(there, here)
    pair.run(SECOND)
    assert pair.dialer.received(CHAT) == b"token " * sent
    assert not pair.dialer.all(PathSuspect), "nobody had to search"


def test_the_path_that_is_not_used_is_proved_while_nothing_is_wrong_and_then_left_alone() -> None:
    pair = dual()
    before = len(pair.parcels)
    tokens(pair, 100)
    for side, path in (
        (pair.dialer, Path(SIX, THERE_SIX)),
        (pair.listener, Path(THERE_SIX, SIX)),
    ):
        assert [way.path for way in side.transport().paths if way.validated][1:] == [path]
        assert not side.all(PathChanged)
    there = [sent for sent in pair.parcels[before:] if sent.to in (SIX, THERE_SIX)]
    assert not there


def test_a_path_that_never_answers_is_not_asked_for_long() -> None:
    pair = dual(of(*OF_FOUR))
    pair.run(HOUR)
    asked = [len(sent.data) for sent in pair.parcels if sent.to == THERE_SIX][1:]  # but the HELLO
    assert 0 < sum(asked) <= 1200


@pytest.mark.parametrize("sooner", [OF_FOUR, OF_SIX])
@pytest.mark.parametrize("ms", [0, 5])
def test_two_sides_that_search_at_once_settle_on_one_path(
    sooner: tuple[Address, Address], ms: int
) -> None:
    """What each finds first may differ, and each sees the other there: they must not swap."""
    pair = dual()
    works = pair.network
    pair.network = dead
    tokens(pair, 100)
    pair.network = lambda parcel: tuple(
        delay + (0 if parcel.to in sooner else ms * MILLISECOND) for delay in works(parcel)
    )
    tokens(pair, 40)
    before = [len(side.all(PathChanged)) for side in pair.sides]
    tokens(pair, 40)
    assert [len(side.all(PathChanged)) for side in pair.sides] == before, "settled"
    there, here = (side.transport().path for side in pair.sides)
    assert (here.local, here.remote) == (there.remote, there.local)


def test_two_sides_that_see_each_other_elsewhere_at_one_moment_do_not_swap_for_ever() -> None:
    """The dialer has just gone to the other path; what both say crosses on the way."""
    pair = dual()
    tokens(pair, 100)
    transport = pair.dialer.transport()
    (other,) = (way for way in transport.paths if way is not transport.paths.active)
    other.heard_at = pair.now  # the answer to its search has just come that way
    transport.move(other, pair.now)
    for token in range(40):
        pair.do(pair.dialer, Ping(1, token))
        pair.do(pair.listener, Ping(-1, token))
        pair.run(50 * MILLISECOND)
    assert not pair.dialer.all(PathChanged), "it stays where it went"
    assert pair.listener.all(PathChanged) == [PathChanged(Path(THERE_SIX, SIX))]


def test_a_listener_that_moves_is_followed_when_it_is_not_heard_any_more_where_it_was() -> None:
    pair = streaming()
    tokens(pair, 5)

    def translate(parcel: Parcel) -> Parcel | None:
        if parcel.to == DIALER:
            return evolve(parcel, source=ELSEWHERE)
        return evolve(parcel, to=LISTENER) if parcel.to == ELSEWHERE else None

    pair.translate = translate
    arrived = tokens(pair, 40)
    assert max(after - before for before, after in pairwise(arrived)) <= 50 * MILLISECOND
    assert pair.dialer.all(PathChanged) == [PathChanged(Path(DIALER, ELSEWHERE))]
    pair.do(pair.dialer, Write(1, CHAT, b"more"))
    pair.run(SECOND)
    assert pair.listener.received(CHAT) == b"questionmore"


def test_a_family_that_is_lost_without_a_word_is_left_after_a_short_search() -> None:
    pair = dual()
    pair.network = of(*OF_SIX)
    began = pair.now
    arrived = tokens(pair, 100)
    assert arrived[0] - began < 3 * SECOND
    pair.run(SECOND)
    assert pair.dialer.received(CHAT) == b"token " * 110
    assert pair.dialer.transport().path == Path(SIX, THERE_SIX)


def test_an_outage_of_a_minute_ends_within_a_second_of_the_networks_return() -> None:
    pair = streaming()
    pair.network = dead
    tokens(pair, 10)
    pair.run(60 * SECOND)
    assert pair.dialer.all(PathSuspect)
    pair.network = calm
    pair.run(SECOND)
    assert pair.dialer.received(CHAT) == b"token " * 10
    (restored,) = pair.dialer.all(PathRestored)
    assert restored.after_ns > 55 * SECOND


def test_a_listener_that_slept_searches_for_half_a_minute_when_its_network_changes() -> None:
    pair = streaming()
    pair.network = dead
    tokens(pair, 10)
    pair.run_until(lambda: pair.listener.endpoint.link_stats(-1).phase == "asleep", MINUTE)
    pair.run(MINUTE)
    pair.parcels.clear()
    pair.do(pair.listener, Disturbed(-1))
    pair.run(29 * SECOND)
    from_listener = [sent for sent in pair.parcels if sent.source == LISTENER]
    assert len(from_listener) > 50
    pair.run(2 * SECOND)
    pair.parcels.clear()
    pair.run(MINUTE)
    assert not [sent for sent in pair.parcels if sent.source == LISTENER]


def test_of_the_paths_that_a_program_names_at_once_sixteen_are_tried() -> None:
    pair = linked_pair()
    pair.parcels.clear()
    named = tuple(Path(DIALER, Address("192.0.2.1", 1000 + number)) for number in range(30))
    pair.do(pair.dialer, Disturbed(1, named))
    assert {sent.to for sent in pair.parcels} == {LISTENER, *(p.remote for p in named[:16])}


def test_a_dialer_that_slept_for_eight_hours_finds_its_link_within_a_second() -> None:
    pair = streaming()
    pair.network = dead
    tokens(pair, 10)
    pair.asleep = pair.dialer
    pair.run(8 * HOUR)
    pair.asleep = None
    pair.network = calm
    pair.do(pair.dialer, Disturbed(1))
    pair.run(SECOND)
    assert pair.dialer.received(CHAT) == b"token " * 10
    assert not pair.dialer.closed
    assert not pair.listener.closed


def test_a_suspect_dialer_asks_for_another_port_after_ten_seconds_and_moves_to_it() -> None:
    pair = streaming()
    pair.network = lambda parcel: calm(parcel) if ELSEWHERE in (parcel.source, parcel.to) else ()
    tokens(pair, 5)
    pair.run_until(lambda: bool(pair.dialer.acts(HopPort)), 20 * SECOND)
    assert pair.dialer.acts(HopPort) == [HopPort(1, (LISTENER,))]
    pair.also_dialer = ELSEWHERE
    pair.do(pair.dialer, Disturbed(1, (Path(ELSEWHERE, LISTENER),)))
    pair.run(SECOND)
    assert pair.dialer.transport().path == Path(ELSEWHERE, LISTENER)
    assert pair.listener.transport().path == Path(LISTENER, ELSEWHERE)
    assert pair.dialer.received(CHAT) == b"token " * 5


def test_another_port_is_asked_for_as_long_as_the_search_lasts() -> None:
    """The old mapping is gone for good, and the network comes back only after a while."""
    pair = streaming()
    pair.network = dead
    tokens(pair, 5)
    pair.run_until(lambda: bool(pair.dialer.acts(HopPort)), 20 * SECOND)
    pair.also_dialer = ELSEWHERE
    pair.do(pair.dialer, Disturbed(1, (Path(ELSEWHERE, LISTENER),)))
    pair.run(50 * SECOND)
    pair.network = lambda parcel: calm(parcel) if ELSEWHERE in (parcel.source, parcel.to) else ()
    pair.run(2 * SECOND)
    assert pair.dialer.transport().path == Path(ELSEWHERE, LISTENER)
    assert pair.dialer.received(CHAT) == b"token " * 5


def test_a_new_path_shows_none_of_the_old_connection_ids() -> None:
    pair = streaming()
    before = {parcel.data[:8] for parcel in pair.parcels}
    pair.translate = behind(OUTSIDE)
    pair.parcels.clear()
    pair.do(pair.dialer, Disturbed(1))
    pair.run(5 * SECOND)
    pair.parcels.clear()
    tokens(pair, 5)
    to_dialer = {parcel.data[:8] for parcel in pair.parcels if parcel.source == LISTENER}
    assert to_dialer
    assert not to_dialer & before


def test_a_challenge_that_nobody_answers_moves_nothing() -> None:
    pair = streaming()
    pair.network = lambda parcel: () if parcel.to == OUTSIDE else calm(parcel)
    pair.do(pair.dialer, Disturbed(1, (Path(OUTSIDE, LISTENER),)))
    pair.run(5 * SECOND)
    assert pair.dialer.transport().path == Path(DIALER, LISTENER)
    assert tokens(pair, 3)


# --- numbers ----------------------------------------------------------------------------------


def test_an_address_that_is_not_validated_gets_three_times_what_came_from_it() -> None:
    paths = Paths(Path(DIALER, LISTENER), seeded("paths"))
    way = paths.heard(Path(DIALER, OUTSIDE), 100)
    assert way.may_send(AMPLIFICATION * 100)
    assert not way.may_send(AMPLIFICATION * 100 + 1)
    way.sent = AMPLIFICATION * 100
    assert not way.may_send(1)
    token = paths.challenge(way, 0)
    assert paths.answered(token, 0) is way
    assert way.may_send(1 << 20)


def test_only_the_right_token_validates_and_only_once() -> None:
    paths = Paths(Path(DIALER, LISTENER), seeded("paths"))
    way = paths.heard(Path(DIALER, OUTSIDE), 100)
    token = paths.challenge(way, 0)
    assert paths.challenge(way, 1) == token, "a lost challenge is repeated as it was"
    assert paths.answered(bytes(8), 0) is None
    assert paths.answered(token, 0) is way
    assert paths.answered(token, 0) is None


def test_an_answer_that_was_kept_back_proves_nothing() -> None:
    paths = Paths(Path(DIALER, LISTENER), seeded("paths"))
    way = paths.heard(Path(DIALER, OUTSIDE), 100)
    token = paths.challenge(way, 0)
    assert paths.challenge(way, CHALLENGE_LIFE - 1) == token
    assert paths.answered(token, CHALLENGE_LIFE) is None
    newer = paths.challenge(way, CHALLENGE_LIFE)
    assert newer != token
    assert paths.answered(token, CHALLENGE_LIFE) is None
    assert paths.answered(newer, 2 * CHALLENGE_LIFE - 1) is way


@pytest.mark.parametrize(
    ("asked_at", "answered_at", "expected"),
    [
        ((0,), 40, 40),
        ((0,), 2_000, 2_000),  # there was but one: it is a long path
        ((0, 190), 200, 200),  # an answer to the first, or a path of 10 ms
        ((0, 900), 1_000, 333),  # perhaps the first was lost: what is assumed of any path
        ((0, 500), 1_000, 500),  # at least this, whichever it answers
    ],
)
def test_the_round_trip_of_a_new_path_is_not_that_of_the_last_repetition(
    asked_at: tuple[int, ...], answered_at: int, expected: int
) -> None:
    paths = Paths(Path(DIALER, LISTENER), seeded("paths"))
    way = paths.heard(Path(DIALER, OUTSIDE), 100)
    tokens = {paths.challenge(way, at * MILLISECOND) for at in asked_at}
    assert paths.answered(tokens.pop(), answered_at * MILLISECOND) is way
    assert way.round_trip == expected * MILLISECOND


def test_who_moves_while_an_answer_streams_waits_as_long_as_the_new_path_takes() -> None:
    """Each copy on the path that is tried repeats the challenge, the last one just before."""
    pair = streaming()
    pair.network = far
    pair.translate = behind(OUTSIDE)
    pair.do(pair.dialer, Disturbed(1))
    while not pair.listener.all(PathChanged):
        tokens(pair, 1, 5 * MILLISECOND)
    assert pair.listener.endpoint.link_stats(-1).rtt_ns >= 300 * MILLISECOND


def test_of_paths_that_were_tried_at_once_the_one_in_use_keeps_its_number_to_itself() -> None:
    """Else who sees two of them could tell by their connection ids that they belong together."""
    paths = Paths(Path(DIALER, LISTENER), seeded("paths"))
    tried = [paths.heard(Path(DIALER, Address("192.0.2.1", port)), 100) for port in range(1, 8)]
    assert paths.answered(paths.challenge(tried[0], 0), 0) is tried[0]
    assert [way for way in tried[1:] if way.id == tried[0].id], "there are more paths than numbers"
    paths.use(tried[0])
    assert all(way.id != tried[0].id for way in paths if way is not tried[0])


def test_a_path_that_is_used_again_after_long_keeps_its_new_number_to_itself() -> None:
    paths = Paths(Path(DIALER, LISTENER), seeded("paths"))
    first = paths.active
    for port in range(1, 2 * PATH_IDS_BEHIND):
        way = paths.heard(Path(DIALER, Address("192.0.2.1", port)), 100)
        paths.answered(paths.challenge(way, 0), 0)
        paths.use(way)
    highest = paths.active.id
    paths.use(first)
    assert highest < paths.id_of(first) < highest + PATH_IDS_AHEAD
    later = [paths.heard(Path(DIALER, Address("192.0.2.2", port)), 100) for port in range(1, 8)]
    assert all(way.id != first.id for way in later)


def test_no_packet_bears_a_number_that_the_peer_may_have_forgotten() -> None:
    """Not even when it is overtaken by those that were sent up to three numbers later."""
    paths = Paths(Path(DIALER, LISTENER), seeded("paths"))
    seen = 0
    for port in range(1, 100):
        way = paths.heard(Path(DIALER, Address("192.0.2.1", port)), 100)
        token = paths.challenge(way, 0)
        for each in (way, paths.active, *paths):
            number = paths.id_of(each)
            assert seen - PATH_IDS_BEHIND + PATH_IDS_AHEAD <= number < seen + PATH_IDS_AHEAD
        assert [other for other in paths if other.id == paths.active.id] == [paths.active]
        if paths.answered(token, 0):
            seen = max(seen, way.id)


def test_an_answer_says_nothing_about_a_number_that_the_path_took_later() -> None:
    paths = Paths(Path(DIALER, LISTENER), seeded("paths"))
    early = paths.heard(Path(DIALER, OUTSIDE), 100)
    token = paths.challenge(early, 0)
    number = early.id
    while paths.id_of(early) == number:
        way = paths.heard(Path(DIALER, Address("192.0.2.1", len(paths))), 100)
        paths.answered(paths.challenge(way, 0), 0)
    assert paths.answered(token, 0) is None


def test_many_addresses_take_bounded_memory_and_never_the_way_in_use() -> None:
    paths = Paths(Path(DIALER, LISTENER), seeded("paths"))
    for port in range(1, 1000):
        paths.heard(Path(DIALER, Address("192.0.2.1", port)), 100)
    assert len(paths) == WAYS_MAX
    assert paths.active in list(paths)


@pytest.mark.parametrize("moves", [1, 40])
def test_every_way_gets_an_id_that_the_peer_can_read(moves: int) -> None:
    pair = streaming()
    for move in range(moves):
        pair.translate = behind(Address("198.51.100.7", 40000 + move))
        pair.do(pair.dialer, Disturbed(1))
        pair.run(2 * SECOND)
        assert tokens(pair, 2), f"lost after {move} moves"
    assert not pair.dialer.closed


def test_a_path_that_was_left_long_ago_is_used_again_under_another_id() -> None:
    paths = Paths(Path(DIALER, LISTENER), seeded("paths"))
    first = paths.active
    for port in range(1, 12):
        way = paths.heard(Path(DIALER, Address("192.0.2.1", port)), 100)
        assert paths.answered(paths.challenge(way, 0), 0) is way
        paths.use(way)
    newest = paths.active.id
    paths.use(first)
    assert newest < paths.id_of(first) <= newest + 3
    assert first.validated


def test_a_dialer_that_comes_back_to_its_first_address_is_followed_there() -> None:
    pair = streaming()
    pair.translate = behind(OUTSIDE)
    pair.do(pair.dialer, Disturbed(1))
    tokens(pair, 20)
    assert pair.listener.transport().path.remote == OUTSIDE
    pair.translate = lambda parcel: parcel
    pair.do(pair.dialer, Disturbed(1))
    assert tokens(pair, 20)
    assert pair.listener.transport().path.remote == DIALER


def test_an_address_that_never_answers_is_not_asked_for_ever() -> None:
    pair = streaming()
    pair.network = dead
    pair.parcels.clear()
    pair.do(pair.dialer, Disturbed(1, (Path(DIALER, OUTSIDE),)))
    tokens(pair, 1)
    pair.run(60 * SECOND)
    assert 0 < sum(len(sent.data) for sent in pair.parcels if sent.to == OUTSIDE) <= 1200


def test_a_first_packet_by_way_of_a_stranger_reflects_no_more_than_three_times() -> None:
    """Somebody repeats the HELLO and what follows from his own address, faster than the network."""
    pair = make_pair()
    pair.network = losing(lambda parcel: parcel.to == LISTENER and len(parcel.data) < 512)
    pair.dial(first_pairing(pair.publish()))
    hello = pair.parcels[0].data
    pair.deliver(hello, to=pair.listener, source=OUTSIDE)
    pair.run(100 * MILLISECOND)
    first = pair.parcels[-1]
    assert first.to == LISTENER
    before = len(pair.parcels)
    pair.deliver(first.data, to=pair.listener, source=OUTSIDE)
    pair.do(pair.listener, Write(-1, stream_id(1, StreamClass.BULK, dialer=False), bytes(100_000)))
    pair.run(2 * SECOND)
    there = sum(len(sent.data) for sent in pair.parcels[before:] if sent.to == OUTSIDE)
    assert 0 < there <= 3 * (len(first.data) + len(hello))
    pair.network = calm
    pair.run(5 * SECOND)
    assert pair.listener.transport().path.remote == DIALER
    assert len(pair.dialer.received(stream_id(1, StreamClass.BULK, dialer=False))) == 100_000


def test_a_stranger_who_carries_one_direction_gets_no_more_than_three_times_of_an_answer() -> None:
    pair = make_pair()
    pair.network = losing(lambda parcel: parcel.to == LISTENER and parcel is not pair.parcels[0])
    pair.dial(first_pairing(pair.publish()))
    carried = [pair.parcels[0].data]
    pair.deliver(carried[0], to=pair.listener, source=OUTSIDE)
    pair.run(100 * MILLISECOND)
    pair.do(pair.dialer, Write(1, stream_id(1, StreamClass.BULK, dialer=True), bytes(3000)))
    for said in [parcel.data for parcel in pair.parcels if parcel.to == LISTENER][1:]:
        carried.append(said)
        pair.deliver(said, to=pair.listener, source=OUTSIDE)
    pair.run(50 * MILLISECOND)
    pair.do(pair.listener, Write(-1, stream_id(1, StreamClass.BULK, dialer=False), bytes(100_000)))
    pair.run(20 * SECOND)
    there = sum(len(sent.data) for sent in pair.parcels if sent.to == OUTSIDE)
    assert 5000 < there <= 3 * sum(map(len, carried))


def test_a_local_close_code_is_neither_sent_nor_believed() -> None:
    pair = linked_pair()
    with pytest.raises(LocalError, match="never sent"):
        pair.do(pair.dialer, Close(1, CloseCode.TIMEOUT))
    pair.say(pair.dialer, frames.encode_close(CloseCode.STORE, "so they say"))
    pair.run(SECOND)
    assert pair.listener.closed[0].code is CloseCode.INTERNAL
