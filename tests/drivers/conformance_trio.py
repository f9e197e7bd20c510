"""The Trio driver in the conformance suite."""

from __future__ import annotations

import trio

from clawchat.core.actions import BootstrapContent, Notice
from clawchat.core.credential import Address, Pairing
from clawchat.core.events import Event
from clawchat.drivers.on_trio import Runner
from tests.drivers.conformance import Scenario, Stage, Transcript, perform
from tests.drivers.conformance_sockets import Machine


class RecordingRunner(Runner):
    """Hands every notice out as it is, besides to its peer."""

    def __init__(self, machine: Machine, told: trio.MemorySendChannel[tuple[int, Notice]]) -> None:
        super().__init__(
            machine.next_config(),
            [machine.bind()],
            persist=machine.save,
            erase=machine.erase,
            publisher=machine.desk,
        )
        self.told = told

    def notify(self, link: int, notice: Notice) -> None:
        super().notify(link, notice)
        self.told.send_nowait((link, notice))


class TrioActor:
    def __init__(self, scenario: Scenario, nursery: trio.Nursery) -> None:
        self._machine = Machine.fresh(scenario)
        self._nursery = nursery
        self._send, self._told = trio.open_memory_channel[tuple[int, Notice]](10_000)
        self._runner: RecordingRunner | None = None

    @property
    def address(self) -> Address:
        return self._machine.address

    async def handle(self, event: Event) -> None:
        assert self._runner is not None
        self._runner.handle(event)

    async def next_notice(self, seconds: float) -> tuple[int, Notice]:
        with trio.move_on_after(seconds):
            return await self._told.receive()
        raise TimeoutError

    async def published(self) -> BootstrapContent:
        assert self._runner is not None
        await self._runner.published_since(0)
        assert self._machine.desk.content is not None
        return self._machine.desk.content

    async def kept(self) -> list[Pairing]:
        assert self._runner is not None
        return await self._runner.in_thread(self._machine.saved)

    async def crash(self) -> list[Pairing]:
        kept = await self.kept()
        self.kill()
        return kept

    def kill(self) -> None:
        if self._runner is not None:
            self._runner._shield.cancel()
            self._runner._engine.close()
            self._runner = None

    async def start(self) -> None:
        self._runner = RecordingRunner(self._machine, self._send)
        await self._nursery.start(self._runner.run)


class TrioAdapter:
    """Plays scenarios under Trio, over loopback."""

    name = "trio"

    def play(self, scenario: Scenario) -> Transcript:
        return trio.run(self._play, scenario)

    async def _play(self, scenario: Scenario) -> Transcript:
        async with trio.open_nursery() as nursery:
            dialer, listener = (TrioActor(scenario, nursery) for _ in range(2))
            for actor in (dialer, listener):
                await actor.start()
            try:
                return await perform(scenario, Stage.of(dialer, listener))
            finally:  # a runner shields itself: a scenario that failed would wait for it for ever
                for actor in (dialer, listener):
                    actor.kill()


ADAPTER = TrioAdapter()
