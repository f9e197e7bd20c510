"""Interop suite: handshake, longrtt, handshakeloss, handshakecorruption, amplificationlimit, ipv6.

Left out, because nothing here corresponds: versionnegotiation and v2 (one version), chacha20 (one
suite), retry (the listener answers nothing that could need it), resumption and zerortt (no 0-RTT;
generations have scenarios of their own).
"""

from __future__ import annotations

from random import Random

import pytest

from clawchat.core.credential import Address
from clawchat.core.crypto.envelope import ENVELOPE_SIZES
from clawchat.core.events import Close
from clawchat.core.instant import MILLISECOND, SECOND
from clawchat.drivers.simulator.ledger import Channel
from clawchat.drivers.simulator.network import Parcel
from clawchat.drivers.simulator.simulation import LISTENER
from clawchat.drivers.simulator.workload import Talk
from clawchat.errors import CloseCode
from tests.scenarios.interop.suite import (
    KB,
    TIMEOUT,
    CorruptRate,
    DropList,
    DropRate,
    Gate,
    InARow,
    download,
    finish,
    link,
    one_handshake,
)
from tests.scenarios.pairs import Pair, make_pair

CONNECTIONS = 50


def test_handshake_and_a_small_file() -> None:
    """`handshake`: 1 KB over exactly one connection."""
    pair = make_pair("interop handshake", conditions=link())
    talk = pair.link()
    finish(pair, [download(pair, talk, KB)])
    one_handshake(pair)


def test_longrtt_lets_hellos_be_repeated_and_makes_one_link() -> None:
    """`longrtt`: 750 ms each way; at least two first messages, exactly one connection."""
    pair = make_pair("interop longrtt", conditions=link(delay_ms=750), start=False)
    tape: list[Parcel] = []
    pair.world.network.taps.append(tape.append)
    pair.start_listener()
    pair.dialer.start()
    pair.publish()
    talk = pair.link(TIMEOUT)
    assert pair.world.timeline.now < 2300 * MILLISECOND  # a round trip and half of one
    finish(pair, [download(pair, talk, KB)])
    hellos = [p for p in tape if p.destination == LISTENER and len(p.data) in ENVELOPE_SIZES]
    assert len({p.data for p in hellos[:2]}) == 1
    assert len(hellos) >= 2
    one_handshake(pair)


class MultiConnect:
    """`multiconnect`: connection after connection, each for one file of 1 KB."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.files: list[Channel] = []
        self.hashes: set[bytes] = set()
        pair.caller.on_talk = self._begin

    def _begin(self, talk: Talk) -> None:
        if len(self.files) == CONNECTIONS:
            return
        self.hashes.add(talk.hash)
        self.files.append(download(self.pair, talk, KB))
        self._end_when_done(talk, self.files[-1])

    def _end_when_done(self, talk: Talk, file: Channel) -> None:
        if file.finished:
            talk.host.do(Close(talk.link, CloseCode.DONE, "got it"))
        elif talk.alive:
            talk.host.after(5 * MILLISECOND, lambda: self._end_when_done(talk, file))

    def done(self) -> bool:
        return len(self.files) == CONNECTIONS and all(file.finished for file in self.files)


@pytest.mark.parametrize("model", [DropRate, CorruptRate])
def test_fifty_connections_one_after_the_other_at_30_percent_both_ways(
    model: type[DropRate | CorruptRate],
) -> None:
    """`handshakeloss`, `handshakecorruption`: 30 %, at most 3 in a row; 50 within 300 s.

    All of them with one pairing: each handshake makes the credential of the next, so that a
    mistake about who has which generation would show.
    """
    pair = make_pair(f"interop {model.__name__}", conditions=link())
    models: list[InARow] = []
    for host in (pair.listener, pair.dialer):
        strikes = model(30, 3, Random(f"interop {host.name}"))
        Gate(host, strikes)
        models.append(strikes)
    connections = MultiConnect(pair)
    assert pair.world.run_until(connections.done, 300 * SECOND), len(connections.files)
    assert len(connections.hashes) == CONNECTIONS
    assert all(model.struck > 100 for model in models)
    assert pair.world.watch.reports == 0, "a retransmission was taken for a copied credential"


def test_amplificationlimit_holds_while_the_clients_packets_are_lost() -> None:
    """`amplificationlimit`: the first HELLO arrives, the next six packets do not; then 5 KB.

    Until the client has proved where it is, the server sends at most 3 times what it got.
    """
    pair = make_pair("interop amplification", conditions=link(), start=False)
    came, went, proved = 0, 0, False
    drops = DropList(2, 3, 4, 5, 6, 7)

    def arriving(parcel: Parcel) -> Parcel | None:
        nonlocal came, proved
        passed = drops(parcel)
        if passed is not None:
            came += len(parcel.data)
            proved = proved or len(parcel.data) not in ENVELOPE_SIZES
        return passed

    def leaving(parcel: Parcel) -> None:
        nonlocal went
        if parcel.source == LISTENER and not proved:
            went += len(parcel.data)
            assert went <= 3 * came

    pair.world.network.taps.append(leaving)
    pair.start_listener()
    Gate(pair.listener, arriving)
    pair.dialer.start()
    pair.publish()
    talk = pair.link(TIMEOUT)
    finish(pair, [download(pair, talk, 5 * KB)])
    assert went > 0
    one_handshake(pair)


def test_ipv6_carries_a_link_as_ipv4_does() -> None:
    """`ipv6`: 5 KB and 10 KB."""
    there, here = Address("2001:db8::1", 50_000), Address("2001:db8::2", 40_000)
    pair = make_pair("interop ipv6", start=False)
    pair.listener.move(there)
    pair.dialer.move(here)
    pair.caller.listener = there
    pair.world.network.shape(there.host, here.host, link())
    pair.start_listener()
    pair.dialer.start()
    pair.publish()
    talk = pair.link(TIMEOUT)
    finish(pair, [download(pair, talk, 5 * KB), download(pair, talk, 10 * KB)])
    one_handshake(pair)
