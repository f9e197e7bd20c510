"""A listener and one dialer in a calm virtual world: the ground for directed scenarios."""

from __future__ import annotations

from random import Random

from attrs import define

from clawchat.core.actions import BootstrapContent
from clawchat.core.credential import Address, Pairing
from clawchat.core.events import PublishBootstrap, Remember
from clawchat.core.exchange import first_pairing
from clawchat.core.instant import SECOND
from clawchat.drivers.simulator.build import build_endpoint
from clawchat.drivers.simulator.host import Build, Host
from clawchat.drivers.simulator.network import Conditions
from clawchat.drivers.simulator.simulation import LISTENER, World
from clawchat.drivers.simulator.workload import Answerer, Caller, Talk

DIALER = Address("10.0.1.1", 40_000)


@define
class Pair:
    """Two hosts and what runs on them."""

    world: World
    listener: Host
    dialer: Host
    answerer: Answerer
    caller: Caller

    def shape(self, conditions: Conditions) -> None:
        """Conditions in both directions."""
        self.world.network.shape(LISTENER.host, self.dialer.address.host, conditions)

    def start_listener(self) -> None:
        """Start (again) with what the disk holds."""
        self.listener.start()
        for pairing in list(self.listener.disk.kept.values()):
            self.listener.do(Remember(pairing))

    def publish(self) -> None:
        self.listener.do(PublishBootstrap((LISTENER,)))

    def linked(self) -> Talk | None:
        """The dialer's link, once both ends have it."""
        talk = self.caller.current
        if talk is None or not talk.alive:
            return None
        ends = [other for other in self.answerer.talks.values() if other.hash == talk.hash]
        return talk if ends else None

    def is_linked(self) -> bool:
        return self.linked() is not None

    def far_end(self, talk: Talk) -> Talk:
        return next(end for end in self.answerer.talks.values() if end.hash == talk.hash)

    def link(self, within_ns: int = 30 * SECOND) -> Talk:
        """Run until there is a link."""
        assert self.world.run_until(self.is_linked, within_ns), "no link"
        talk = self.linked()
        assert talk is not None
        return talk

    def rest(self, within_ns: int = 30 * SECOND) -> None:
        """Run until no machine awaits anything."""
        watch = self.world.watch
        assert self.world.run_until(lambda: not watch.restless(), within_ns), watch.restless()

    def settled(self, talk: Talk) -> bool:
        return not any(channel.owing for channel in self.world.ledger.of(talk.hash))


def make_pair(
    seed: object,
    *,
    conditions: Conditions | None = None,
    build: Build = build_endpoint,
    write_ns: int = 0,
    start: bool = True,
) -> Pair:
    """A pair whose listener publishes a file that the dialer dials with at once."""
    world = World(str(seed), build=build, write_ns=write_ns)
    answerer = Answerer(ledger=world.ledger, rng=Random(f"answerer/{seed}"))
    caller = Caller(ledger=world.ledger, rng=Random(f"caller/{seed}"), listener=LISTENER)
    listener = world.host("listener", LISTENER, answerer)
    dialer = world.host("dialer", DIALER, caller)
    pair = Pair(world, listener, dialer, answerer, caller)

    def hand_over(_host: Host, content: BootstrapContent | None) -> None:
        if content is not None and caller.pairing is None:
            caller.invite(dialer, first_pairing(content))

    answerer.on_file = hand_over
    if conditions is not None:
        pair.shape(conditions)
    if start:
        pair.start_listener()
        dialer.start()
        pair.publish()
    return pair


def generations(pairing: Pairing | None) -> list[int]:
    """The generations that a pairing still holds, newest first."""
    return [] if pairing is None else [known.generation for known in pairing.credentials]
