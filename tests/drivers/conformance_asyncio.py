"""The asyncio driver in the conformance suite."""

from __future__ import annotations

import asyncio

from clawchat.core.actions import BootstrapContent, Notice
from clawchat.core.credential import Address, Pairing
from clawchat.core.events import Event
from clawchat.drivers.on_asyncio import Driver
from tests.drivers.conformance import Scenario, Stage, Transcript, perform
from tests.drivers.conformance_sockets import Machine
from tests.waiting import PATIENCE


class AsyncioActor:
    def __init__(self, scenario: Scenario) -> None:
        self._machine = Machine.fresh(scenario)
        self.driver: Driver | None = None

    @property
    def address(self) -> Address:
        return self._machine.address

    async def handle(self, event: Event) -> None:
        assert self.driver is not None
        self.driver.handle(event)

    async def next_notice(self, seconds: float) -> tuple[int, Notice]:
        assert self.driver is not None
        async with asyncio.timeout(seconds):
            return await self.driver.next_notice()

    async def published(self) -> BootstrapContent:
        await asyncio.to_thread(self._machine.desk.written.wait, PATIENCE)
        assert self._machine.desk.content is not None
        return self._machine.desk.content

    async def kept(self) -> list[Pairing]:
        assert self.driver is not None
        return await asyncio.wrap_future(self.driver._disk.submit(self._machine.saved))

    async def crash(self) -> list[Pairing]:
        kept = await self.kept()
        assert self.driver is not None
        self.driver._stop()
        self.driver = None
        return kept

    async def start(self) -> None:
        self.driver = self._machine.driver(Driver)


class AsyncioAdapter:
    """Plays scenarios under asyncio, over loopback."""

    name = "asyncio"

    def play(self, scenario: Scenario) -> Transcript:
        return asyncio.run(self._play(scenario))

    async def _play(self, scenario: Scenario) -> Transcript:
        actors = AsyncioActor(scenario), AsyncioActor(scenario)
        for actor in actors:
            await actor.start()
        try:
            return await perform(scenario, Stage.of(*actors))
        finally:
            for actor in actors:
                if actor.driver is not None:
                    await actor.driver.aclose()


ADAPTER = AsyncioAdapter()
