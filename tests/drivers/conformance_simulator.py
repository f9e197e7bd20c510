"""The simulator as one of the drivers: a virtual network of two hosts."""

from __future__ import annotations

from collections import deque

from attrs import define, field

from clawchat.core.actions import BootstrapContent, Notice
from clawchat.core.config import Entropy
from clawchat.core.credential import Address, Pairing
from clawchat.core.endpoint import Endpoint
from clawchat.core.events import Event
from clawchat.core.instant import SECOND, Instant
from clawchat.drivers.simulator.host import Driven, Host
from clawchat.drivers.simulator.simulation import World
from clawchat.errors import CloseCode
from tests.drivers.conformance import Scenario, Stage, Transcript, finish, perform


@define(slots=False)
class Queue:
    """An application that only writes down what it is told."""

    notices: deque[tuple[int, Notice]] = field(factory=deque)
    file: BootstrapContent | None = None

    def started(self, host: Host) -> None:
        """Nothing to begin."""

    def stopped(self, host: Host) -> None:
        """Nothing to end."""

    def noticed(self, _host: Host, link: int, notice: Notice) -> None:
        self.notices.append((link, notice))

    def published(self, _host: Host, content: BootstrapContent | None) -> None:
        self.file = content


@define
class VirtualActor:
    """A host of a virtual world. Nothing here ever waits: time is virtual."""

    world: World
    host: Host
    queue: Queue

    @property
    def address(self) -> Address:
        return self.host.address

    async def handle(self, event: Event) -> None:
        self.host.do(event)

    async def next_notice(self, seconds: float) -> tuple[int, Notice]:
        waiting = self.queue.notices
        if not self.world.run_until(lambda: bool(waiting), int(seconds * SECOND)):
            raise TimeoutError
        return waiting.popleft()

    async def published(self) -> BootstrapContent:
        assert self.world.run_until(lambda: self.queue.file is not None, SECOND)
        assert self.queue.file is not None
        return self.queue.file

    async def kept(self) -> list[Pairing]:
        return list(self.host.disk.kept.values())

    async def crash(self) -> list[Pairing]:
        self.world.run(SECOND)  # let writes end: what a crash does to them is tested elsewhere
        self.host.kill()
        return await self.kept()

    async def start(self) -> None:
        self.host.start()


class SimulatorAdapter:
    """Plays scenarios in a virtual world."""

    name = "simulator"

    def play(self, scenario: Scenario) -> Transcript:
        def build(host: Host, now: Instant, unix_ns: int, entropy: Entropy) -> Driven:
            config = scenario.config(host.identity)
            return Endpoint(config, now=now, unix_ns=unix_ns, entropy=entropy, trace=host.traced)

        world = World(scenario.name, build=build)
        world.watch.clones = True  # scenarios copy credentials, and close with any code
        world.watch.blameless = frozenset(CloseCode)
        actors = []
        for number, name in enumerate(("dialer", "listener"), 1):
            queue = Queue()
            host = world.host(name, Address(f"10.0.0.{number}", 50_000), queue)
            host.start()
            actors.append(VirtualActor(world, host, queue))
        return finish(perform(scenario, Stage.of(*actors)))


ADAPTER = SimulatorAdapter()
