"""What NATs make of a port that is left: every kind has its expected outcome.

A listener behind a NAT is reached through one port that a person forwarded. A chat streams all the
while; the ledger compares every byte, and the `Watch` looks at every datagram.

Left to others: sockets (`tests/drivers`), figures (`bench.rotations`).
"""

from __future__ import annotations

from typing import Final

import pytest

from clawchat.core.events import RotatePort, StreamClass
from clawchat.core.instant import MILLISECOND, SECOND
from clawchat.core.phases.rotating_ports import PORT_FROM
from clawchat.drivers.simulator.host import Host
from clawchat.drivers.simulator.ledger import Answer
from clawchat.drivers.simulator.nat import Behaviour, Filtering
from clawchat.drivers.simulator.network import Conditions
from clawchat.drivers.simulator.simulation import LISTENER
from tests.scenarios.pairs import DIALER, Pair, make_pair

EASY: Final = Behaviour()
STRICT: Final = Behaviour(Filtering.PORT)
KEEPS_PORTS: Final = Behaviour(Filtering.PORT, preserves=True)
PER_REMOTE: Final = Behaviour(Filtering.PORT, per_remote=True)
DIALERS_NAT, LISTENERS_NAT = "198.51.100.1", "203.0.113.1"

# NATs before dialer and listener; whether the dialer, the listener, then again the dialer moves.
OUTCOMES: Final = {
    "no NAT": (None, None, (True, True, True)),
    "dialer behind an endpoint-independent NAT": (EASY, None, (True, True, True)),
    "dialer behind a NAT that filters by port": (STRICT, None, (True, True, True)),
    "dialer behind an endpoint-dependent NAT": (PER_REMOTE, None, (True, True, True)),
    "listener behind an endpoint-independent NAT": (None, EASY, (True, True, True)),
    "listener behind an endpoint-dependent NAT": (None, PER_REMOTE, (True, True, True)),
    # The listener leaves the port that lets everybody in, so the dialer must stay after that.
    "both, the dialer's lets everybody in": (EASY, STRICT, (True, True, False)),
    "both, ports kept: the punch": (KEEPS_PORTS, KEEPS_PORTS, (True, True, True)),
    "both filter by port and keep none": (STRICT, STRICT, (True, False, True)),
    "both endpoint-dependent": (PER_REMOTE, PER_REMOTE, (True, False, True)),
}


def linked(name: str, dialers: Behaviour | None, listeners: Behaviour | None) -> Pair:
    pair = make_pair(f"moving ports, {name}", start=False)
    network = pair.world.network
    network.shape_all(Conditions(latency_ns=20 * MILLISECOND))
    if dialers is not None:
        network.rebind(DIALER.host, DIALERS_NAT, dialers)
    if listeners is not None:
        network.rebind(LISTENER.host, LISTENERS_NAT, listeners)
        pair.caller.listener = network.forward(LISTENER)
    pair.start_listener()
    pair.dialer.start()
    pair.publish()
    pair.link()
    pair.rest()
    return pair


def moves(pair: Pair, host: Host) -> bool:
    """Whether a chat goes on while `host` leaves its port, and whether it did leave it."""
    talk = pair.link()
    link = talk.link if host is pair.dialer else pair.far_end(talk).link
    endpoint = host.endpoint
    assert endpoint is not None
    before = endpoint.link_stats(link)
    pair.caller.open(talk, StreamClass.INTERACTIVE, 20, Answer(1_600, 8, 50 * MILLISECOND))
    pair.world.run(SECOND)
    host.do(RotatePort(link))
    pair.world.run(8 * SECOND)
    after = endpoint.link_stats(link)
    assert after.phase == "live"
    assert before.path is not None
    assert after.path is not None
    moved = after.ports_left > before.ports_left
    assert moved is (after.path.local.port >= PORT_FROM and after.path.local != before.path.local)
    assert moved or after.epoch == before.epoch + 1, "the keys change instead"
    pair.world.run(35 * SECOND)
    assert pair.settled(talk)
    assert len(host.sockets) <= 2
    return moved


def lost_by(pair: Pair) -> list[int]:
    """What each side thinks was lost: probes for a larger path MTU, to begin with."""
    talk, found = pair.link(), []
    for host, link in ((pair.dialer, talk.link), (pair.listener, pair.far_end(talk).link)):
        assert host.endpoint is not None
        found.append(host.endpoint.link_stats(link).packets_lost)
    return found


@pytest.mark.parametrize("name", OUTCOMES)
def test_each_kind_of_nat_lets_a_port_be_left_or_not(name: str) -> None:
    dialers, listeners, outcome = OUTCOMES[name]
    pair = linked(name, dialers, listeners)
    movers = pair.dialer, pair.listener, pair.dialer
    assert tuple(moves(pair, host) for host in movers) == outcome


def test_no_datagram_is_lost_because_of_a_move() -> None:
    """Nothing arrives at a socket that was closed, on either side, and none is sent again."""
    pair = linked("no datagram is lost", None, None)
    pair.world.run(10 * SECOND)
    ends = lost_by(pair)
    for host in (pair.dialer, pair.listener, pair.dialer):
        assert moves(pair, host)
    assert pair.world.network.tally.nowhere == 0
    assert lost_by(pair) == ends


def test_a_listener_that_moved_is_found_again_at_its_forwarded_port_when_its_nat_forgets() -> None:
    pair = linked("a NAT forgets", EASY, EASY)
    assert moves(pair, pair.listener)
    network = pair.world.network
    network.rebind(LISTENER.host, LISTENERS_NAT)
    talk = pair.link()
    pair.caller.open(talk, StreamClass.INTERACTIVE, 20, Answer(400, 8, 50 * MILLISECOND))
    pair.world.run(20 * SECOND)
    assert pair.settled(talk)
    assert talk.alive
