"""A tiny endpoint without any protocol, to test the virtual host by itself."""

from __future__ import annotations

from collections import Counter
from random import Random

from attrs import define, field

from clawchat.core.actions import Action, LinkStats, Persist, Transmit
from clawchat.core.credential import Address, Path
from clawchat.core.events import DatagramReceived, Event
from clawchat.core.instant import Deadline, Instant
from clawchat.drivers.simulator.clock import HostClock, Timeline
from clawchat.drivers.simulator.disk import Disk
from clawchat.drivers.simulator.host import Driven, Entropy, Host, Silent, Watcher
from clawchat.drivers.simulator.network import Network
from clawchat.errors import Drop


@define(slots=False)
class Fake:
    """Echoes each datagram unless it begins with `#`, and remembers how it was called."""

    dice: bytes
    drops: Counter[Drop] = field(factory=Counter)
    events: list[tuple[Instant, Event]] = field(factory=list)
    advanced: list[Instant] = field(factory=list)
    wake: Instant | None = None
    out: list[Action] = field(factory=list)

    def handle(self, event: Event, now: Instant) -> None:
        self.events.append((now, event))
        if isinstance(event, DatagramReceived) and bytes(event.data[:1]) != b"#":
            self.out.append(Transmit(event.path, [b"#" + bytes(event.data)]))

    def advance(self, now: Instant) -> None:
        self.advanced.append(now)
        self.wake = None

    def actions(self, _now: Instant) -> list[Action]:
        out, self.out = self.out, []
        return out

    @property
    def deadline(self) -> Deadline | None:
        return None if self.wake is None else Deadline(self.wake, "because the test says so")

    @property
    def links(self) -> list[int]:
        return []

    def link_stats(self, link: int) -> LinkStats:
        raise KeyError(link)


def build(_host: Host, _now: Instant, _unix_ns: int, entropy: Entropy) -> Driven:
    return Fake(entropy(8))


def fake_of(host: Host) -> Fake:
    assert isinstance(host.endpoint, Fake)
    return host.endpoint


def two_hosts(watchers: list[Watcher] | None = None) -> tuple[Timeline, Network, Host, Host]:
    timeline = Timeline()
    network = Network(timeline, Random(1))
    made = []
    for number in (1, 2):
        dice = Random(number)
        made.append(
            Host(
                name=f"host{number}",
                address=Address(f"10.0.0.{number}", number),
                timeline=timeline,
                network=network,
                clock=HostClock(boot_ns=number * 10**9, drift_ppm=100),
                rng=dice,
                build=build,
                application=Silent(),
                disk=Disk(timeline, dice),
                seed="test",
                identity=bytes([number]) * 32,
                watchers=watchers or [],
            )
        )
    return timeline, network, made[0], made[1]


def path_between(one: Host, other: Host) -> Path:
    return Path(one.address, other.address)


__all__ = ["Fake", "Persist", "build", "fake_of", "path_between", "two_hosts"]
