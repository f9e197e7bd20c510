"""Somebody records everything and plays it back, at any time and from anywhere."""

from __future__ import annotations

from functools import partial

from clawchat.core.credential import Address
from clawchat.core.crypto.envelope import ENVELOPE_SIZES
from clawchat.core.instant import MILLISECOND, SECOND
from clawchat.drivers.simulator.network import Parcel
from clawchat.drivers.simulator.simulation import LISTENER
from clawchat.drivers.simulator.workload import Deed
from clawchat.errors import Drop
from tests.scenarios.pairs import Pair, make_pair

STRANGER = Address("10.66.66.66", 666)


def tapped(pair: Pair) -> list[Parcel]:
    tape: list[Parcel] = []
    pair.world.network.taps.append(tape.append)
    return tape


def hellos(tape: list[Parcel]) -> list[Parcel]:
    return [p for p in tape if p.destination == LISTENER and len(p.data) in ENVELOPE_SIZES]


def play_back(pair: Pair, tape: list[Parcel], *, spoofed: bool) -> None:
    for parcel in tape:
        source = parcel.source if spoofed else STRANGER
        pair.world.network.send(Parcel(source, parcel.destination, parcel.data, parcel.origin))
        pair.world.run(MILLISECOND)


def test_recorded_hellos_never_disturb_a_live_link() -> None:
    for spoofed in (True, False):
        pair = make_pair(f"recorded hellos {spoofed}")
        tape = tapped(pair)
        talk = pair.link()
        recorded = hellos(tape)
        assert recorded
        for pause in (0, 20 * MILLISECOND, SECOND, 31 * SECOND):
            play_back(pair, recorded, spoofed=spoofed)
            pair.world.run(pause)
        pair.caller.act(talk, Deed.CHAT)
        assert pair.world.run_until(partial(pair.settled, talk), 5 * SECOND)
        assert pair.linked() is talk
        assert pair.world.watch.reports == 0, "a replay was taken for a clone"
        assert pair.world.watch.established == 2


def test_a_recorded_hello_of_an_old_generation_is_not_taken_for_a_clone() -> None:
    pair = make_pair("old recording")
    tape = tapped(pair)
    pair.link()
    pair.rest()
    for _ in range(3):
        pair.dialer.kill()
        pair.dialer.start()
        pair.world.run(5 * SECOND)
        pair.link()
    assert pair.listener.endpoint is not None
    play_back(pair, hellos(tape), spoofed=False)
    pair.world.run(SECOND)
    assert pair.listener.endpoint.drops[Drop.SUPERSEDED] > 0
    assert pair.world.watch.reports == 0
    assert pair.linked() is not None


def test_a_whole_recorded_session_changes_nothing_when_played_back() -> None:
    pair = make_pair("whole session")
    tape = tapped(pair)
    talk = pair.link()
    for deed in (Deed.CHAT, Deed.UPLOAD, Deed.ROTATE, Deed.DATAGRAM):
        pair.caller.act(talk, deed)
    assert pair.world.run_until(lambda: pair.settled(talk), 10 * SECOND)
    pair.rest()
    recorded = list(tape)
    assert pair.listener.endpoint is not None
    replays = pair.listener.endpoint.drops[Drop.REPLAY]
    play_back(pair, recorded, spoofed=True)
    pair.world.run(SECOND)
    assert pair.listener.endpoint.drops[Drop.REPLAY] > replays
    assert pair.linked() is talk
    pair.caller.act(talk, Deed.CHAT)
    assert pair.world.run_until(lambda: pair.settled(talk), 5 * SECOND)
