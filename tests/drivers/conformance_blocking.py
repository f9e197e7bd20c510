"""The blocking driver in the conformance suite: two of them, turned alternately in one thread."""

from __future__ import annotations

from time import monotonic

from clawchat.core.actions import BootstrapContent, Notice
from clawchat.core.credential import Address, Pairing
from clawchat.core.events import Event
from clawchat.drivers.blocking import Driver
from tests.drivers.conformance import Scenario, Stage, Transcript, finish, perform
from tests.drivers.conformance_sockets import Machine

SLICE = 0.002  # seconds for which one of the two runs


class BlockingActor:
    def __init__(self, scenario: Scenario, all_of_them: list[BlockingActor]) -> None:
        self._machine = Machine.fresh(scenario)
        self._all = all_of_them
        self.driver: Driver | None = None

    @property
    def address(self) -> Address:
        return self._machine.address

    async def handle(self, event: Event) -> None:
        assert self.driver is not None
        self.driver.handle(event)

    async def next_notice(self, seconds: float) -> tuple[int, Notice]:
        assert self.driver is not None
        until = monotonic() + seconds
        while monotonic() < until:
            self._run_all()
            try:
                return self.driver.next_notice(timeout=0)
            except TimeoutError:
                continue
        raise TimeoutError

    def _run_all(self) -> None:
        for actor in self._all:
            if actor.driver is not None:
                actor.driver.run(SLICE)

    async def published(self) -> BootstrapContent:
        while not self._machine.desk.written.is_set():
            self._run_all()
        assert self._machine.desk.content is not None
        return self._machine.desk.content

    async def kept(self) -> list[Pairing]:
        return self._machine.saved()  # it writes in place

    async def crash(self) -> list[Pairing]:
        assert self.driver is not None
        self.driver._selector.close()
        self.driver._engine.close()
        self.driver = None
        return self._machine.saved()

    async def start(self) -> None:
        self.driver = self._machine.driver(Driver)


class BlockingAdapter:
    """Plays scenarios without an event loop, over loopback."""

    name = "blocking"

    def play(self, scenario: Scenario) -> Transcript:
        actors: list[BlockingActor] = []
        for _ in range(2):
            actors.append(BlockingActor(scenario, actors))
        for actor in actors:
            finish(actor.start())
        try:
            return finish(perform(scenario, Stage.of(*actors)))
        finally:
            for actor in actors:
                if actor.driver is not None:
                    actor.driver.close()


ADAPTER = BlockingAdapter()
