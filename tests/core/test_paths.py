"""The ways of a link: what may be sent where, and under which ids."""

from __future__ import annotations

from attrs import evolve

from clawchat.core.actions import PathChanged
from clawchat.core.config import PATH_IDS_BEHIND
from clawchat.core.credential import Address, Path
from clawchat.core.events import Disturbed, Ping, StreamClass, stream_id
from clawchat.core.exchange import first_pairing
from clawchat.core.instant import SECOND
from clawchat.core.paths import AMPLIFICATION, CANDIDATE_CREDIT, Paths
from tests.core.pair import (
    DIALER,
    LISTENER,
    STRANGER,
    Parcel,
    dead,
    linked_pair,
    make_pair,
    seeded,
)

OUTSIDE = Address("198.51.100.7", 40000)


def test_a_way_that_was_left_long_ago_gets_an_id_that_the_peer_still_reads() -> None:
    paths = Paths(Path(LISTENER, DIALER), seeded("paths"))
    first = paths.active
    for number in range(PATH_IDS_BEHIND + 2):
        way = paths.heard(Path(LISTENER, Address("192.0.2.1", 1000 + number)), 100)
        assert paths.answered(paths.challenge(way, 0), 0) is way
        paths.use(way)
    paths.use(first)
    assert paths.active is first
    assert paths.id_of(first) > 0


def test_an_answer_from_an_older_way_gives_no_id_a_second_time() -> None:
    paths = Paths(Path(LISTENER, DIALER), seeded("paths"))
    ways = [paths.heard(Path(LISTENER, Address("192.0.2.1", port)), 100) for port in (1, 2, 3)]
    for way in sorted(ways, key=lambda way: -way.id):  # the newest first
        assert paths.answered(paths.challenge(way, 0), 0) is way
    later = [paths.heard(Path(LISTENER, Address("192.0.2.2", port)), 100) for port in (1, 2, 3)]
    assert len({way.id for way in paths}) == len([paths.active, *ways, *later])


def test_a_named_address_that_never_answers_gets_little() -> None:
    pair = linked_pair()
    pair.network = dead
    pair.parcels.clear()
    pair.do(pair.dialer, Disturbed(1, (Path(DIALER, STRANGER),)))
    pair.run(120 * SECOND)
    there = [len(parcel.data) for parcel in pair.parcels if parcel.to == STRANGER]
    assert len(there) > 10
    assert sum(there) <= AMPLIFICATION * CANDIDATE_CREDIT


def test_a_listener_streams_at_most_three_times_what_came_before_its_first_path_is_proved() -> None:
    """The HELLO was also seen from elsewhere, so the first packet does not prove its address."""
    pair = make_pair()
    pair.dial(first_pairing(pair.publish()))
    pair.deliver(pair.parcels[0].data, to=pair.listener, source=STRANGER)
    pair.run_until(lambda: bool(pair.dialer.established))
    pair.write(pair.dialer, bytes(4000), link=1)
    pair.run_until(lambda: bool(pair.listener.established))
    came = sum(len(p.data) for p in pair.parcels if p.to == LISTENER)
    pair.network = dead
    pair.parcels.clear()
    pair.write(pair.listener, bytes(200_000), link=-1)
    pair.run(SECOND)
    assert 0 < sum(len(p.data) for p in pair.parcels if p.to == DIALER) <= AMPLIFICATION * came


def test_a_peer_that_comes_back_to_its_first_address_is_followed_at_once() -> None:
    pair = linked_pair()

    def through_a_nat(parcel: Parcel) -> Parcel | None:
        if parcel.to == LISTENER:
            return evolve(parcel, source=OUTSIDE)
        return evolve(parcel, to=DIALER) if parcel.to == OUTSIDE else None

    plain, pair.translate = pair.translate, through_a_nat
    pair.do(pair.dialer, Ping(1, 1))
    pair.run(5 * SECOND)
    pair.translate = plain
    pair.do(pair.dialer, Ping(1, 2))
    pair.run(5 * SECOND)
    moves = [change.path.remote for change in pair.listener.all(PathChanged)]
    assert moves == [OUTSIDE, DIALER]


def test_a_stream_of_the_listener_that_waited_for_the_first_proof_arrives() -> None:
    pair = make_pair()
    pair.dial(first_pairing(pair.publish()))
    pair.run_until(lambda: bool(pair.listener.established))
    stream = stream_id(1, StreamClass.BULK, dialer=False)
    pair.write(pair.listener, bytes(100_000), link=-1)
    pair.run(5 * SECOND)
    assert pair.dialer.received(stream) == bytes(100_000)
