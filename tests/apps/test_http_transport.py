"""HTTP over a link's streams, with the clients people know."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
import trio

from clawchat.apps.http import LinkTransport
from tests.apps.scripted import Scripted
from tests.apps.world import MemoryLink, World, open_world
from tests.waiting import PATIENCE, until

LIBRARIES: list[Any] = [httpx, httpx2]


@pytest.fixture(params=LIBRARIES, ids=["httpx", "httpx2"])
def library(request: pytest.FixtureRequest) -> Any:
    return request.param


def client(library: Any, link: MemoryLink) -> Any:
    return library.AsyncClient(transport=LinkTransport(link), base_url="http://agent")


async def test_both_libraries_talk_to_the_agent(world: World, library: Any) -> None:
    async with client(library, world.link) as http:
        made = await http.post("/v1/conversations", json={"title": "T"})
        assert isinstance(made, library.Response)
        assert made.json()["title"] == "T"
        assert (await http.get("/v1/none")).status_code == 404


async def test_a_request_takes_one_stream_and_leaves_none_open(world: World, library: Any) -> None:
    async with client(library, world.link) as http:
        for _ in range(3):
            await http.get("/v1/health")
        assert len(world.link.opened) == 3


async def test_an_https_url_needs_no_tls_inside_the_link(world: World) -> None:
    transport = LinkTransport(world.link)
    async with httpx2.AsyncClient(transport=transport, base_url="https://agent") as http:
        assert (await http.get("/v1/health")).status_code == 200


async def test_requests_do_not_wait_behind_each_other(tmp_path: Path, library: Any) -> None:
    provider = Scripted()
    async with open_world(tmp_path / "agent", provider) as world:
        conversation = await world.client.create_conversation()
        run = await world.client.start(conversation.id, "x", key="k")
        async with (
            client(library, world.link) as http,
            http.stream("GET", f"/v1/runs/{run.id}/events") as events,
        ):
            assert events.status_code == 200
            with trio.fail_after(PATIENCE):
                assert (await http.get("/v1/health")).status_code == 200
            provider.feed("a")
            provider.finish()
            assert "run.finished" in (await events.aread()).decode()


async def test_a_body_is_streamed_up(world: World) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b'{"title": '
        yield b'"streamed"}'

    answer = await world.http.post(
        "/v1/conversations", content=body(), headers={"Content-Type": "application/json"}
    )
    assert answer.json()["title"] == "streamed"


async def test_a_broken_link_is_the_librarys_own_error(library: Any) -> None:
    link = MemoryLink()
    link.down = True
    async with client(library, link) as http:
        with pytest.raises(library.ConnectError, match="the link is gone"):
            await http.get("/v1/health")


async def test_a_link_that_breaks_midway_is_a_read_error(tmp_path: Path, library: Any) -> None:
    async with open_world(tmp_path / "agent", Scripted()) as world:
        conversation = await world.client.create_conversation()
        run = await world.client.start(conversation.id, "x", key="k")
        async with (
            client(library, world.link) as http,
            http.stream("GET", f"/v1/runs/{run.id}/events") as events,
        ):
            pieces = events.aiter_bytes()
            assert b"run.started" in await anext(pieces)
            await world.link.cut()
            with pytest.raises((library.ReadError, library.RemoteProtocolError)):
                await anext(pieces)


async def test_an_agent_that_does_not_answer_is_a_read_timeout(library: Any) -> None:
    async with client(library, MemoryLink()) as http:  # nobody serves this link
        with pytest.raises(library.ReadTimeout):
            await http.get("/v1/health", timeout=0.05)


async def test_a_cancelled_request_is_cancelled_at_the_agent(tmp_path: Path) -> None:
    async with open_world(tmp_path / "agent", Scripted()) as world:
        conversation = await world.client.create_conversation()
        run = await world.client.start(conversation.id, "x", key="k")
        active = world.agent.runs.active[run.id]
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(world.http.get, f"/v1/runs/{run.id}/events")
                await until(lambda: active.listeners == 1)
                scope.cancel()
        await until(lambda: active.listeners == 0)
