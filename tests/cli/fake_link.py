"""A link without a network: its streams echo, and it dies when a test says so."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio
from trio.testing import memory_stream_pair

from clawchat.core.actions import (
    Closed,
    CopyReported,
    Kept,
    LinkStats,
    Notice,
    PathRestored,
    PathSuspect,
    PortKept,
    PortRotated,
    Receipt,
)
from clawchat.core.credential import Address, Path
from clawchat.drivers.feed import Feed
from clawchat.errors import CloseCode, CompromiseReason

HERE, THERE = Address("127.0.0.1", 50000), Address("127.0.0.1", 50001)


class FakeLink:
    """Has what `cli.holder.Link` asks for."""

    file_id = b"f" * 16
    fingerprint = "3f0a 91bc 77d2 e815"
    generation = 1
    remote = THERE
    observed: Address | None = None

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.phase = "live"
        self.reports: deque[CopyReported] = deque()
        self.opened: list[dict[str, bool]] = []
        self.moved: PortRotated | PortKept = PortRotated(Address("0.0.0.0", 51_000), 20_000_000)
        self.packets_received = 1
        self.answers = True  # whether the other end does
        self._said = Feed[Notice]()
        self._closed: Closed | None = None
        self._over = trio.Event()
        self._scopes: list[trio.CancelScope] = []

    def die(self, code: CloseCode = CloseCode.TIMEOUT, reason: str = "pulled the plug") -> None:
        self._closed = Closed(code, reason, by_peer=False)
        self._said.put(self._closed, last=True)
        self._over.set()
        for scope in self._scopes:
            scope.cancel()

    def stats(self) -> LinkStats:
        path = Path(HERE, THERE)
        got = self.packets_received
        return LinkStats(self.phase, 0, 1, path, 10**6, 10**6, 1200, 1 << 16, 0, 1, got, 0, 0, 0)

    async def open_stream(
        self, *, bulk: bool = False, shaped: bool = False
    ) -> trio.abc.HalfCloseableStream:
        if self._closed is not None:
            raise trio.BrokenResourceError("the link is gone")
        self.opened.append({"bulk": bulk, "shaped": shaped})
        near, far = memory_stream_pair()
        await self._nursery.start(self._echo, far)
        return near

    async def _echo(
        self,
        far: trio.StapledStream[trio.abc.SendStream, trio.abc.ReceiveStream],
        task_status: trio.TaskStatus[None],
    ) -> None:
        with trio.CancelScope() as scope:
            self._scopes.append(scope)
            task_status.started()
            try:
                while data := await far.receive_some():
                    await far.send_all(data.upper())
                await far.send_eof()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
        await trio.aclose_forcefully(far)

    async def ping(self) -> float:
        if not self.answers:
            await self._over.wait()
            raise trio.BrokenResourceError("the link is gone: timeout")
        return 0.005

    async def rotate_keys(self) -> int:
        return 2

    async def rotate_port(self) -> PortRotated | PortKept:
        return self.moved

    async def declare_compromised(
        self, reason: CompromiseReason = CompromiseReason.USER, *, everything: bool = True
    ) -> Receipt:
        self.die(CloseCode.COMPROMISED, "declared")
        return Receipt(b"f" * 16, reason, everything, False, True, True, Kept((1,)))

    async def wait_closed(self) -> Closed:
        await self._over.wait()
        assert self._closed is not None
        return self._closed

    async def aclose(self) -> None:
        self.die(CloseCode.DONE, "")

    def say(self, notice: Notice) -> None:
        """Let whoever reads notices have this one."""
        if isinstance(notice, PathSuspect):
            self.phase = "suspect"
        elif isinstance(notice, PathRestored):
            self.phase = "live"
        elif isinstance(notice, CopyReported):
            self.reports.append(notice)
        self._said.put(notice)

    def notices(self) -> AsyncIterator[Notice]:
        return self._said.reader()


class FakeNetwork:
    """Dials `FakeLink`s, unless it was told to fail."""

    def __init__(
        self, nursery: trio.Nursery, make: Callable[[trio.Nursery], FakeLink] = FakeLink
    ) -> None:
        self.links: list[FakeLink] = []
        self.trouble: list[Exception] = []
        self._nursery = nursery
        self._make = make

    @asynccontextmanager
    async def dial(self) -> AsyncIterator[FakeLink]:
        await trio.lowlevel.checkpoint()
        if self.trouble:
            raise self.trouble.pop(0)
        link = self._make(self._nursery)
        self.links.append(link)
        try:
            yield link
        finally:
            link.die()
