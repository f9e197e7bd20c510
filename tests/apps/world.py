"""What the tests of the applications share: a link in memory, and an agent at its end.

Rules: no UDP here; a stream of this link behaves as `clawchat.LinkStream` does, reset included.
Left to others: the real link (`tests/drivers`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx2
import trio
import trio.testing
from attrs import frozen

from clawchat.apps.agent import Agent, open_agent
from clawchat.apps.agent.providers import Provider
from clawchat.apps.agent.providers.echo import Echo
from clawchat.apps.agent.runs import RunLimits
from clawchat.apps.chat_client import AgentClient
from clawchat.apps.gateway import RelayLimits, parse_agent_url, relay
from clawchat.apps.http import LinkTransport

DEVICE = bytes(range(32))


class MemoryStream(trio.abc.HalfCloseableStream):
    """One end of a stream in memory that can be reset, as a link's can."""

    def __init__(
        self, sending: trio.testing.MemorySendStream, receiving: trio.testing.MemoryReceiveStream
    ) -> None:
        self._stapled = trio.StapledStream(sending, receiving)
        self.other: MemoryStream
        self.was_reset = trio.Event()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stapled.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stapled.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stapled.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self.was_reset.is_set():
            raise trio.BrokenResourceError("the peer reset the stream")
        data = await self._stapled.receive_some(max_bytes)
        if not data and self.was_reset.is_set():
            raise trio.BrokenResourceError("the peer reset the stream")
        return data

    async def aclose(self) -> None:
        await self._stapled.aclose()

    async def reset(self, code: int = 1) -> None:
        self.other.was_reset.set()
        await self._stapled.aclose()


def stream_pair() -> tuple[MemoryStream, MemoryStream]:
    ones, twos = (trio.testing.memory_stream_one_way_pair() for _ in range(2))
    one, two = MemoryStream(ones[0], twos[1]), MemoryStream(twos[0], ones[1])
    one.other, two.other = two, one
    return one, two


class MemoryLink:
    """Both ends of a link: the dialer opens streams, the listener's side iterates over them."""

    def __init__(self) -> None:
        self.peer_static = DEVICE
        self.down = False
        self.refused = 0  # streams, while it was down
        self._send, self._receive = trio.open_memory_channel[MemoryStream](1000)
        self.opened: list[MemoryStream] = []

    async def open_stream(self) -> MemoryStream:
        await trio.lowlevel.checkpoint()
        if self.down:
            self.refused += 1
            raise trio.BrokenResourceError("the link is gone")
        one, two = stream_pair()
        self.opened.append(one)
        self._send.send_nowait(two)
        return one

    def __aiter__(self) -> AsyncIterator[trio.abc.HalfCloseableStream]:
        return self._receive.__aiter__()

    async def hang_up(self) -> None:
        """End the link: no more streams come."""
        await self._send.aclose()

    async def cut(self) -> None:
        """Break every stream, as a lost link does."""
        for stream in self.opened:
            stream.was_reset.set()
            await stream.reset()
        self.opened.clear()


@frozen
class World:
    """An agent, and a client that reaches it over a link and the gateway."""

    agent: Agent
    link: MemoryLink
    http: httpx2.AsyncClient
    client: AgentClient
    local: httpx2.AsyncClient


@asynccontextmanager
async def open_world(
    folder: Path,
    provider: Provider | None = None,
    *,
    limits: RunLimits | None = None,
    relay_limits: RelayLimits | None = None,
    heartbeat: float = 15.0,
    patience: float = 5.0,
) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        agent = await stack.enter_async_context(
            open_agent(
                folder, provider or Echo(pause=0), port=0, limits=limits, heartbeat=heartbeat
            )
        )
        link = MemoryLink()
        nursery = await stack.enter_async_context(trio.open_nursery())
        address = parse_agent_url(agent.url)

        async def serve() -> None:
            await relay(link, address, name="Ann's phone", limits=relay_limits)

        nursery.start_soon(serve)
        http = httpx2.AsyncClient(transport=LinkTransport(link), base_url="http://agent")
        await stack.enter_async_context(http)
        local = await stack.enter_async_context(httpx2.AsyncClient(base_url=agent.url))
        yield World(agent, link, http, AgentClient(http, patience=patience), local)
        nursery.cancel_scope.cancel()
