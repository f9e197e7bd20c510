"""The whole product but its terminal: agent, gateway, a real encrypted link over loopback UDP,
client.

Left to others: each part's corners, in the other files here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from pathlib import Path

import httpx2
import pytest
import trio

import clawchat
from clawchat.apps.agent import Agent, open_agent
from clawchat.apps.agent.providers import Provider
from clawchat.apps.agent.providers.echo import Echo
from clawchat.apps.chat_client import AgentClient
from clawchat.apps.events import RunEvent, RunFailed, RunFinished, Token
from clawchat.apps.gateway import parse_agent_url, relay
from clawchat.apps.http import LinkTransport
from clawchat.apps.problems import ProblemError
from clawchat.core.crypto.suite import public_key
from clawchat.core.endpoint import Endpoint
from clawchat.core.events import Event, ResetStream, StopStream, Write
from tests.apps.scripted import Scripted
from tests.waiting import PATIENCE, until

KEY = clawchat.BootstrapKey.from_base64url("A" * 43)


@asynccontextmanager
async def open_link(folder: Path, agent_url: str) -> AsyncIterator[clawchat.Peer]:
    """A paired device whose requests go to the agent."""
    publisher = clawchat.Publisher(folder / "security", KEY)
    listening = clawchat.Store(folder / "listener")

    async def serve(listener: clawchat.Listener) -> None:
        async with trio.open_nursery() as links:
            async for peer in listener:
                links.start_soon(relay, peer, parse_agent_url(agent_url))

    with trio.fail_after(PATIENCE):
        async with (
            clawchat.serve(listening, host="127.0.0.1", publisher=publisher) as listener,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(serve, listener)
            store = clawchat.Store(folder / "dialer")
            async with clawchat.connect(publisher.path, key=KEY, store=store) as peer:
                yield peer
            nursery.cancel_scope.cancel()


def client_of(peer: clawchat.Peer, *, shaped: bool = False) -> httpx2.AsyncClient:
    transport = LinkTransport(peer, shaped=shaped)
    return httpx2.AsyncClient(transport=transport, base_url="http://agent")


@pytest.mark.parametrize("shaped", [False, True])
async def test_a_reply_streams_over_an_encrypted_link(tmp_path: Path, shaped: bool) -> None:
    async with (
        open_agent(tmp_path / "agent", Echo(pause=0.001), port=0) as agent,
        open_link(tmp_path, agent.url) as peer,
        client_of(peer, shaped=shaped) as http,
    ):
        client = AgentClient(http)
        conversation = await client.create_conversation()
        text = " ".join(f"word{number}" for number in range(200))
        async with client.send(conversation.id, text) as events:
            seen = [event async for event in events]
        assert "".join(event.text for event in seen if isinstance(event, Token)) == text
        assert isinstance(seen[-1], RunFinished)
        page = await client.conversation(conversation.id)
        (static,) = {message.caller for message in page.messages if message.role == "user"}
        own = clawchat.Store(tmp_path / "dialer").identity()
        assert static == sha256(public_key(own.reveal())).hexdigest()


async def test_large_messages_and_many_requests_at_a_time_pass(tmp_path: Path) -> None:
    async with (
        open_agent(tmp_path / "agent", Echo(pause=0), port=0) as agent,
        open_link(tmp_path, agent.url) as peer,
        client_of(peer) as http,
    ):
        client = AgentClient(http)
        last: list[RunEvent] = []

        async def chat(text: str) -> None:
            conversation = await client.create_conversation()
            async with client.send(conversation.id, text) as events:
                last.append([event async for event in events][-1])

        texts = [str(number) * 200_000 for number in range(5)]
        async with trio.open_nursery() as nursery:
            for text in texts:
                nursery.start_soon(chat, text)
        assert sorted(event.text for event in last if isinstance(event, RunFinished)) == texts


async def test_both_sides_of_a_shaped_request_leave_in_cells_and_its_end_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever resets or stops a stream when the answer is over tells when that is."""
    written: list[Write] = []
    ended: list[Event] = []
    handle = Endpoint.handle

    def noting(endpoint: Endpoint, event: Event, now: int) -> None:
        if isinstance(event, Write):
            written.append(event)
        elif isinstance(event, ResetStream | StopStream):
            ended.append(event)
        handle(endpoint, event, now)

    monkeypatch.setattr(Endpoint, "handle", noting)
    async with (
        open_agent(tmp_path / "agent", Echo(pause=0.02), port=0) as agent,
        open_link(tmp_path, agent.url) as peer,
        client_of(peer, shaped=True) as http,
    ):
        client = AgentClient(http)
        conversation = await client.create_conversation()
        async with client.send(conversation.id, "a few words of no matter") as events:
            assert [event async for event in events]
        assert {event.link > 0 for event in written} == {True, False}
        assert all(event.shaped for event in written)
        assert ended == []


@pytest.mark.parametrize("shaped", [False, True])
async def test_a_client_that_leaves_is_noticed_by_the_agent_at_once(
    tmp_path: Path, shaped: bool
) -> None:
    async with (
        open_agent(tmp_path / "agent", Scripted(), port=0) as agent,
        open_link(tmp_path, agent.url) as peer,
        client_of(peer, shaped=shaped) as http,
    ):
        client = AgentClient(http)
        conversation = await client.create_conversation()
        run = await client.start(conversation.id, "hello", key="k")
        for _ in range(3):
            async with client.events(run.id) as events:
                await anext(events)
                assert agent.runs.active[run.id].listeners == 1
            await until(lambda: agent.runs.active[run.id].listeners == 0)


async def live_and_die(
    folder: Path,
    provider: Provider,
    scope: trio.CancelScope,
    task_status: trio.TaskStatus[Agent],
) -> None:
    """Run an agent until `scope` is cancelled."""
    with scope:
        async with open_agent(folder, provider, port=0) as agent:
            task_status.started(agent)
            await trio.sleep_forever()


async def test_an_agent_that_dies_is_a_problem_and_the_link_stays(tmp_path: Path) -> None:
    provider, life = Scripted(), trio.CancelScope()
    async with trio.open_nursery() as nursery:
        agent: Agent = await nursery.start(live_and_die, tmp_path / "agent", provider, life)
        async with open_link(tmp_path, agent.url) as peer, client_of(peer) as http:
            client = AgentClient(http, patience=0)
            conversation = await client.create_conversation()
            run = await client.start(conversation.id, "hello", key="k")
            provider.feed("half ")
            async with client.events(run.id) as events:
                assert [(await anext(events)).id for _ in range(2)] == [1, 2]
                life.cancel()
                with suppress(httpx2.TransportError, ProblemError):
                    assert isinstance(await anext(events), RunFailed)
            await until(lambda: not nursery.child_tasks)
            with pytest.raises(ProblemError, match="clawchat agent"):
                await client.agent()
            port = int(agent.url.rpartition(":")[2])
            async with open_agent(tmp_path / "agent", Echo(), port=port):
                page = await client.conversation(conversation.id)
                assert page.messages[-1].text == "half "
