"""Interop suite: rebind-port, rebind-addr, connectionmigration.

The suite's `rebind` network is `simple-p2p` with a NAT before the client, which forgets its mapping
after 1 s and then every 5 s, and takes another port, or another address and port. What comes to the
old one is lost.
"""

from __future__ import annotations

from itertools import count

import pytest

from clawchat.core.actions import Notice, PathChanged
from clawchat.core.credential import Address
from clawchat.core.instant import SECOND
from clawchat.drivers.simulator.host import Host
from clawchat.drivers.simulator.simulation import LISTENER
from tests.scenarios.interop.suite import MB, download, finish, link, one_handshake
from tests.scenarios.pairs import DIALER, Pair, make_pair

FIRST, EVERY = 1 * SECOND, 5 * SECOND
CELLULAR = Address("10.7.7.7", 40_000)


def moves_of(pair: Pair) -> list[Address]:
    """Where the server follows the client to, from now on."""
    moves: list[Address] = []
    heard = pair.answerer.noticed

    def noticed(host: Host, link: int, notice: Notice) -> None:
        if isinstance(notice, PathChanged):
            moves.append(notice.path.remote)
        heard(host, link, notice)

    pair.answerer.noticed = noticed  # type: ignore[method-assign]
    return moves


@pytest.mark.parametrize("address", [False, True], ids=["rebind-port", "rebind-addr"])
def test_a_transfer_completes_under_frequent_rebindings(address: bool) -> None:
    """10 MB over exactly one connection; nobody tells the client."""
    pair = make_pair(f"interop rebind {address}", start=False)
    network = pair.world.network
    network.shape_all(link())
    addresses = (f"198.51.100.{number if address else 1}" for number in count(1))
    network.rebind(DIALER.host, next(addresses))
    moves = moves_of(pair)

    def rebind() -> None:
        network.rebind(DIALER.host, next(addresses))
        pair.world.timeline.after(EVERY, rebind)

    pair.world.timeline.at(FIRST, rebind)
    pair.start_listener()
    pair.dialer.start()
    pair.publish()
    talk = pair.link()
    file = download(pair, talk, 10 * MB)
    finish(pair, [file])
    one_handshake(pair)
    assert len(moves) == (pair.world.timeline.now - FIRST) // EVERY + 1
    assert len({move.host for move in moves}) == (len(moves) if address else 1)
    assert len(set(moves)) == len(moves)
    assert pair.world.timeline.now < 15 * SECOND  # nine for the file, two for each rebinding


def test_connectionmigration_of_a_client_that_leaves_its_network_for_another() -> None:
    """2 MB over exactly one connection; the client goes to another address and says so there."""
    pair = make_pair("interop migration", start=False)
    pair.world.network.shape_all(link())
    moves = moves_of(pair)
    pair.start_listener()
    pair.dialer.start()
    pair.publish()
    talk = pair.link()
    file = download(pair, talk, 2 * MB)
    pair.world.run_until(lambda: file.received > MB // 2, 10 * SECOND)
    pair.dialer.join(CELLULAR, LISTENER)
    pair.dialer.leave(DIALER.host)
    finish(pair, [file])
    one_handshake(pair)
    assert moves == [CELLULAR]
    assert pair.world.timeline.now < 4 * SECOND
