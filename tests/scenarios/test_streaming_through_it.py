"""A chat in the middle of a streamed answer survives whatever happens to its network.

One listener, one dialer, one link for all of it. Before each disturbance the dialer asks, and the
answer comes as a token every 50 ms. The ledger compares every byte that is delivered with what was
written, in order, so a lost, repeated or exchanged token fails the run at once.

Left to others: how fast (`bench.roaming`), random worlds (`tests/simulation`), sockets
(`tests/drivers`).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from attrs import define, evolve

from clawchat.core.credential import Address, Path
from clawchat.core.events import RotateKeys, StreamClass
from clawchat.core.instant import HOUR, MILLISECOND, SECOND
from clawchat.drivers.simulator.host import Host
from clawchat.drivers.simulator.ledger import Answer, Channel
from clawchat.drivers.simulator.nat import Behaviour, Filtering
from clawchat.drivers.simulator.network import Conditions, Parcel
from clawchat.drivers.simulator.simulation import LISTENER
from clawchat.drivers.simulator.workload import Talk
from tests.scenarios.pairs import DIALER, Pair, make_pair

TOKEN = 8  # bytes
EVERY = 50 * MILLISECOND
TOKENS = 600  # half a minute
TRIP = 80 * MILLISECOND
CALM = Conditions(latency_ns=TRIP // 2)
AT_HOME, ELSEWHERE = "198.51.100.1", "203.0.113.1"
LISTENER_SIX = Address("2001:db8::1", 50_000)
DIALER_SIX = Address("2001:db8:1::1", 40_000)
CELLULAR = Address("10.7.7.7", 40_000)
RACER = Address("192.0.2.66", 6_666)


@define
class Chat:
    """A pair, its link, and the answer that is streaming."""

    pair: Pair
    talk: Talk
    answer: Channel

    @property
    def now(self) -> int:
        return self.pair.world.timeline.now

    def run(self, ns: int) -> None:
        self.pair.world.run(ns)

    def ask(self) -> None:
        """A question; the answer streams when this returns."""
        outlet = self.pair.caller.open(
            self.talk, StreamClass.INTERACTIVE, 20, Answer(TOKENS * TOKEN, TOKEN, EVERY)
        )
        self.answer = self.pair.world.ledger.channel(self.talk.hash, outlet.stream, False)
        self.run(3 * SECOND)
        assert 0 < self.answer.received < TOKENS * TOKEN

    def shape(self, conditions: Conditions) -> None:
        self.pair.world.network.shape_all(conditions)

    def goes_on(self, within_ns: int) -> None:
        """The next token comes soon, and then the whole answer."""
        seen = self.answer.received
        assert self.pair.world.run_until(lambda: self.answer.received > seen, within_ns)
        assert self.pair.world.run_until(lambda: self.answer.finished, 60 * SECOND), self.answer

    def rebind(self, outside: str) -> None:
        self.pair.world.network.rebind(DIALER.host, outside)


def begin(seed: str) -> Chat:
    pair = make_pair(f"streaming through {seed}", start=False)
    pair.world.network.shape_all(CALM)
    pair.world.network.rebind(DIALER.host, AT_HOME)
    pair.start_listener()
    pair.dialer.start()
    pair.publish()
    talk = pair.link()
    pair.rest()
    return Chat(pair, talk, Channel("none yet", 0))


def change_that_is_noticed(chat: Chat) -> int:
    chat.rebind(ELSEWHERE)
    chat.pair.dialer.notice_change()
    return TRIP + 50 * MILLISECOND


def change_that_nobody_notices(chat: Chat) -> int:
    chat.rebind(AT_HOME)
    return 3 * SECOND


def outage(chat: Chat) -> int:
    chat.shape(evolve(CALM, cut=True))
    chat.run(60 * SECOND)
    chat.shape(CALM)
    return SECOND


def sleep(chat: Chat) -> int:
    chat.pair.dialer.suspend()
    chat.run(8 * HOUR)
    chat.rebind(ELSEWHERE)
    chat.pair.dialer.resume()
    return SECOND


def to_the_other_family_and_back(chat: Chat) -> int:
    """IPv6 comes, IPv4 goes; then the reverse."""
    pair = chat.pair
    pair.listener.join(LISTENER_SIX)
    pair.dialer.join(DIALER_SIX, LISTENER_SIX)
    chat.run(SECOND)
    seen = chat.answer.received
    pair.dialer.leave(DIALER.host)
    chat.run(TRIP + 50 * MILLISECOND)
    assert chat.answer.received > seen
    chat.run(2 * SECOND)
    assert path_of(chat) == DIALER_SIX.host
    pair.dialer.join(DIALER, LISTENER)
    chat.run(SECOND)
    pair.dialer.leave(DIALER_SIX.host)
    return TRIP + 50 * MILLISECOND


def two_networks(chat: Chat) -> int:
    """Wi-Fi and cellular at once: the one in use goes, and comes back before the other goes."""
    pair = chat.pair
    pair.dialer.join(CELLULAR, LISTENER)
    chat.run(SECOND)
    assert path_of(chat) == DIALER.host, "the one that works is kept"
    seen = chat.answer.received
    pair.dialer.leave(DIALER.host)
    chat.run(TRIP + 50 * MILLISECOND)
    assert chat.answer.received > seen
    assert pair.dialer.endpoint is not None
    assert pair.dialer.endpoint.link_stats(chat.talk.link).phase == "live", "nobody had to search"
    chat.run(2 * SECOND)
    assert path_of(chat) == CELLULAR.host
    pair.dialer.join(DIALER, LISTENER)
    chat.run(SECOND)
    pair.dialer.leave(CELLULAR.host)
    return TRIP + 50 * MILLISECOND


def new_keys(chat: Chat) -> int:
    epochs = len(chat.pair.caller.rotated)
    chat.talk.host.do(RotateKeys(chat.talk.link))
    chat.run(SECOND)
    assert len(chat.pair.caller.rotated) > epochs
    return EVERY + MILLISECOND


def path_of(chat: Chat) -> str:
    """From where the dialer sends."""
    (path,) = paths_of(chat.pair.dialer)
    return path.local.host


def paths_of(host: Host) -> list[Path]:
    """The path that each link of a host uses."""
    assert host.endpoint is not None
    used = [host.endpoint.link_stats(link).path for link in host.endpoint.links]
    return [path for path in used if path is not None]


Disturbance = Callable[[Chat], int]  # what happens; within how many ns the next token must come
ALL: tuple[Disturbance, ...] = (
    change_that_is_noticed,
    change_that_nobody_notices,
    outage,
    sleep,
    to_the_other_family_and_back,
    two_networks,
    new_keys,
)


def still_the_same_link(chat: Chat) -> None:
    assert chat.talk.alive
    assert chat.pair.world.watch.established == 2, "one at each end"
    assert chat.pair.caller.dials == 1


def test_one_link_carries_an_answer_through_each_of_them() -> None:
    chat = begin("all of it")
    for disturbance in ALL:
        chat.ask()
        chat.goes_on(disturbance(chat))
    still_the_same_link(chat)


@pytest.mark.parametrize("disturbance", ALL)
def test_an_answer_survives_it_on_a_network_that_loses_reorders_and_doubles(
    disturbance: Disturbance,
) -> None:
    """Whole and once; how soon is not asked where packets are lost at random."""
    rough = evolve(CALM, loss=0.1, burst=2, reorder=0.05, duplicate=0.05)
    chat = begin(f"rough {disturbance.__name__}")
    chat.ask()
    if disturbance in (outage, sleep, change_that_is_noticed, change_that_nobody_notices):
        chat.shape(rough)
        disturbance(chat)
        chat.shape(rough)
    else:
        disturbance(chat)
        chat.shape(rough)
    chat.goes_on(10 * SECOND)
    still_the_same_link(chat)


# --- somebody who is faster ---------------------------------------------------------------------


@define
class Racer:
    """Copies every packet between the two, and delivers it sooner, from an address of its own."""

    pair: Pair
    address: Address = RACER
    received: int = 0
    raced: int = 0

    def begin(self) -> None:
        network = self.pair.world.network
        network.attach(self.address, self)
        network.taps.append(self._copy)
        for host in (LISTENER.host, DIALER.host):
            network.shape(self.address.host, host, Conditions(latency_ns=MILLISECOND))

    def arrive(self, parcel: Parcel) -> None:
        """Copies for which it asked, so to say; it cannot read them, and carries none on."""
        self.received += len(parcel.data)

    def _copy(self, parcel: Parcel) -> None:
        if self.address in (parcel.source, parcel.destination):
            return
        self.raced += len(parcel.data)
        copy = Parcel(self.address, parcel.destination, parcel.data, parcel.origin)
        self.pair.world.network.send(copy)


def test_somebody_who_overtakes_every_packet_cannot_take_one_token_away() -> None:
    """RFC 9000 section 9.3.3: what he copies counts as heard from him, and nothing follows it."""
    pair = make_pair("racer", conditions=CALM)
    talk = pair.link()
    pair.rest()
    racer = Racer(pair)
    racer.begin()
    chat = Chat(pair, talk, Channel("none yet", 0))
    chat.ask()
    seen, began = chat.answer.received, chat.now
    chat.run(10 * SECOND)
    assert chat.answer.received - seen >= (chat.now - began) // EVERY * TOKEN - TOKEN
    assert 0 < racer.received <= 3 * racer.raced
    chat.goes_on(EVERY + MILLISECOND)
    for host in (pair.listener, pair.dialer):
        assert [path.remote in (LISTENER, DIALER) for path in paths_of(host)] == [True]
    still_the_same_link(chat)


# --- punching -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dialers", "listeners"),
    [
        (Behaviour(Filtering.PORT, preserves=True), Behaviour(Filtering.PORT, preserves=True)),
        (
            Behaviour(Filtering.ADDRESS, preserves=True),
            Behaviour(Filtering.PORT, preserves=True, per_remote=True),
        ),
        (Behaviour(Filtering.PORT), Behaviour(Filtering.ADDRESS, preserves=True)),
    ],
    ids=["both keep their ports", "the listener's maps per remote", "the dialer's port changes"],
)
def test_two_nats_that_forgot_and_filter_are_punched_again_with_keys_kept(
    dialers: Behaviour, listeners: Behaviour
) -> None:
    """Both mappings are gone: what each side sends is let in only because the other sends too."""
    outside = Address(ELSEWHERE, LISTENER.port)
    pair = make_pair("punching", start=False)
    network = pair.world.network
    network.shape_all(CALM)
    forwarded = Behaviour(preserves=True)  # the first handshake needs a listener that is reachable
    network.rebind(LISTENER.host, ELSEWHERE, forwarded)
    network.rebind(DIALER.host, AT_HOME, evolve(dialers, per_remote=False))
    network.send(Parcel(LISTENER, Address(AT_HOME, 1), b"maps the port", None))
    pair.caller.listener = outside
    pair.start_listener()
    pair.dialer.start()
    pair.publish()
    talk = pair.link()
    pair.rest()
    chat = Chat(pair, talk, Channel("none yet", 0))
    chat.ask()
    chat.shape(evolve(CALM, cut=True))
    chat.run(20 * SECOND)
    network.rebind(LISTENER.host, ELSEWHERE, listeners)
    network.rebind(DIALER.host, AT_HOME, dialers)
    chat.shape(CALM)
    kept_out = network.tally.nowhere
    network.send(Parcel(RACER, outside, b"not asked for", None))
    chat.goes_on(3 * SECOND)
    assert network.tally.nowhere > kept_out, "these NATs do not let everybody in"
    still_the_same_link(chat)
