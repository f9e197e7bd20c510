"""The ground on which the public QUIC interop suite's cases are played.

The cases are those of quic-interop-runner (`testcases_quic.py`, commit 1d6f6554 of April 2026); the
networks those of quic-network-simulator (`sim/scenarios`, commit e557a545 of November 2025), by
their READMEs and error models: loss and corruption strike where a packet arrives, behind the
bottleneck and its queue, each packet with the stated chance and never more than `burst` in a row.
As there, the server sends and the client downloads.

Rules: a case keeps the suite's parameters, sizes and time limits; what it asserts beyond them it
says itself. MB is 2**20 there, so it is here.
Left to others: the cases (`test_*`).
"""

from __future__ import annotations

from random import Random
from typing import Protocol

from clawchat.core.actions import BootstrapContent
from clawchat.core.credential import Address
from clawchat.core.events import StreamClass
from clawchat.core.exchange import first_pairing
from clawchat.core.instant import MILLISECOND, SECOND
from clawchat.drivers.simulator.host import Host
from clawchat.drivers.simulator.ledger import Answer, Channel
from clawchat.drivers.simulator.network import Conditions, Parcel
from clawchat.drivers.simulator.simulation import LISTENER
from clawchat.drivers.simulator.workload import PIECE, Answerer, Caller, Talk
from tests.scenarios.pairs import DIALER, Pair

KB = 1 << 10
MB = 1 << 20
MBIT = 10
TIMEOUT = 60 * SECOND  # of a case that says nothing else (testcase.py)
PACKET = 1500  # the suite's queues count packets
CORRUPTED_MAX = 50  # the byte that is changed is one of the first so many, or the next


def link(delay_ms: int = 15, queue: int = 25) -> Conditions:
    """`simple-p2p --delay=15ms --bandwidth=10Mbps --queue=25`, which all scenarios build on."""
    return Conditions(
        latency_ns=delay_ms * MILLISECOND,
        bandwidth_bps=MBIT * 1_000_000,
        queue_bytes=queue * PACKET,
    )


class Model(Protocol):
    """Decides about a datagram that arrives: as it is, changed, or not at all."""

    def __call__(self, parcel: Parcel) -> Parcel | None: ...


class InARow:
    """A chance in percent, but never more than `burst` times in a row."""

    def __init__(self, percent: int, burst: int, rng: Random) -> None:
        self._percent = percent
        self._burst = burst
        self._rng = rng
        self._count = 0
        self.struck = 0

    def strikes(self) -> bool:
        if self._count < self._burst and self._rng.randrange(100) < self._percent:
            self._count += 1
            self.struck += 1
            return True
        self._count = 0
        return False


class DropRate(InARow):
    """`drop-rate --rate=percent --burst=burst` of one direction."""

    def __call__(self, parcel: Parcel) -> Parcel | None:
        return None if self.strikes() else parcel


class CorruptRate(InARow):
    """`corrupt-rate`: one byte near the start is replaced by another."""

    def __call__(self, parcel: Parcel) -> Parcel | None:
        if not self.strikes():
            return parcel
        data = bytearray(parcel.data)
        at = self._rng.randint(0, min(CORRUPTED_MAX, len(data) - 1))
        data[at] ^= self._rng.randint(1, 255)
        return Parcel(parcel.source, parcel.destination, bytes(data), None)


class DropList:
    """`droplist --drops=1,2,3`: packets by their place in the order of arrival, from 1."""

    def __init__(self, *numbers: int) -> None:
        self._numbers = frozenset(numbers)
        self._seen = 0

    def __call__(self, parcel: Parcel) -> Parcel | None:
        self._seen += 1
        return None if self._seen in self._numbers else parcel


class Gate:
    """Stands before a host's socket and applies a model to what arrives."""

    def __init__(self, host: Host, model: Model) -> None:
        self._host = host
        self._model = model
        host.network.detach(host.address)
        host.network.attach(host.address, self)

    def arrive(self, parcel: Parcel) -> None:
        passed = self._model(parcel)
        if passed is not None:
            self._host.arrive(passed)


def download(pair: Pair, talk: Talk, size: int) -> Channel:
    """The client requests a file of `size` bytes; what comes back."""
    outlet = pair.caller.open(talk, StreamClass.BULK, 20, Answer(size, PIECE, 0))
    file = pair.world.ledger.channel(talk.hash, outlet.stream, not talk.dialer)
    file.began_at = pair.world.timeline.now
    return file


def finish(pair: Pair, files: list[Channel], within_ns: int = TIMEOUT) -> None:
    """Run until all files are there; the ledger has compared every byte."""
    assert pair.world.run_until(lambda: all(file.finished for file in files), within_ns), files


def one_handshake(pair: Pair) -> None:
    """One link was made, and nobody took a retransmission for an attack."""
    assert pair.world.watch.established == 2  # one at each end
    assert pair.caller.dials == 1
    assert pair.world.watch.reports == 0


def bits_per_second(file: Channel) -> float:
    """Of the application's bytes, from the request to the last byte."""
    return file.received * 8 * SECOND / (file.last_at - file.began_at)


def beside(pair: Pair) -> Pair:
    """Other programs on the same two machines: their packets share the wire and its queue."""
    world = pair.world
    there, here = Address(LISTENER.host, 50_001), Address(DIALER.host, 40_001)
    answerer = Answerer(ledger=world.ledger, rng=Random(f"answerer beside {world.seed}"))
    caller = Caller(ledger=world.ledger, rng=Random(f"caller beside {world.seed}"), listener=there)
    listener = world.host("listener beside", there, answerer)
    dialer = world.host("dialer beside", here, caller)

    def hand_over(_host: Host, content: BootstrapContent | None) -> None:
        if content is not None and caller.pairing is None:
            caller.invite(dialer, first_pairing(content))

    answerer.on_file = hand_over
    other = Pair(world, listener, dialer, answerer, caller)
    other.start_listener()
    dialer.start()
    other.publish()
    return other
