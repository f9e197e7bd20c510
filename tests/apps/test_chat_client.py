"""The client keeps its promises while the way to the agent comes and goes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
import trio
import trio.testing

from clawchat.apps import sse
from clawchat.apps.agent import open_agent
from clawchat.apps.agent.providers.echo import Echo
from clawchat.apps.chat_client import AgentClient, AgentInfo
from clawchat.apps.events import RunEvent, RunFinished, Token
from clawchat.apps.http import LinkTransport
from clawchat.apps.problems import Problem, ProblemError
from clawchat.errors import CloseCode, LinkClosed
from tests.apps.scripted import Scripted
from tests.apps.world import MemoryLink, World, open_world
from tests.waiting import until


class Unreliable(httpx2.AsyncBaseTransport):
    """Passes requests on, but loses the first `losses` answers after the agent made them."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, losses: int) -> None:
        self.inner, self.losses = inner, losses

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        answer = await self.inner.handle_async_request(request)
        if self.losses:
            self.losses -= 1
            await answer.aread()
            await answer.aclose()
            raise httpx2.ReadError("the answer was lost")
        return answer

    async def aclose(self) -> None:
        await self.inner.aclose()


def pretending(
    handler: Callable[[httpx2.Request], httpx2.Response], patience: float
) -> AgentClient:
    http = httpx2.AsyncClient(transport=httpx2.MockTransport(handler), base_url="http://agent")
    return AgentClient(http, patience=patience)


async def test_a_message_whose_answer_was_lost_is_sent_again_and_run_once(tmp_path: Path) -> None:
    async with open_agent(tmp_path / "agent", Echo(pause=0), port=0) as agent:
        unreliable = Unreliable(httpx2.AsyncHTTPTransport(), losses=0)
        async with httpx2.AsyncClient(transport=unreliable, base_url=agent.url) as http:
            client = AgentClient(http)
            conversation = await client.create_conversation()
            unreliable.losses = 2
            async with client.send(conversation.id, "once") as events:
                seen = [event async for event in events]
            assert isinstance(seen[-1], RunFinished)
            page = await client.conversation(conversation.id)
            assert [message.text for message in page.messages] == ["once", "once"]


async def test_a_conversation_whose_answer_was_lost_is_made_once(tmp_path: Path) -> None:
    async with open_agent(tmp_path / "agent", Echo(), port=0) as agent:
        unreliable = Unreliable(httpx2.AsyncHTTPTransport(), losses=1)
        async with httpx2.AsyncClient(transport=unreliable, base_url=agent.url) as http:
            client = AgentClient(http)
            made = await client.create_conversation()
            assert (await client.conversations()).conversations == (made,)


@pytest.mark.parametrize("code", [CloseCode.REVOKED, CloseCode.SUPERSEDED, CloseCode.TIMEOUT])
async def test_patience_ends_at_once_when_the_link_ended_for_good(
    code: CloseCode, autojump_clock: trio.testing.MockClock
) -> None:
    attempts = 0

    def handler(_request: httpx2.Request) -> httpx2.Response:
        nonlocal attempts
        attempts += 1
        if attempts > 2:
            return httpx2.Response(200, json={"conversations": [], "next": None})
        raise httpx2.ConnectError("no link") from LinkClosed(code, "over")

    client = pretending(handler, patience=60)
    if code is CloseCode.TIMEOUT:
        await client.conversations()
        assert attempts == 3
    else:
        with pytest.raises(httpx2.ConnectError):
            await client.conversations()
        assert attempts == 1


async def test_events_go_on_where_they_were_when_the_link_broke(tmp_path: Path) -> None:
    provider = Scripted()
    async with open_world(tmp_path / "agent", provider) as world:
        conversation = await world.client.create_conversation()
        seen: list[RunEvent] = []
        async with world.client.send(conversation.id, "hello") as events:
            for number in range(3):
                provider.feed(f"piece {number} ")
                async for event in events:
                    seen.append(event)
                    if isinstance(event, Token):
                        break
                await world.link.cut()
            provider.finish()
            seen += [event async for event in events]
        assert [event.id for event in seen] == [1, 2, 3, 4, 5]
        assert isinstance(seen[-1], RunFinished)
        assert seen[-1].text == "piece 0 piece 1 piece 2 "


async def test_a_link_that_is_down_for_a_while_is_waited_for(world: World) -> None:
    world.link.down = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.client.health)
        await until(lambda: world.link.refused > 1)
        world.link.down = False


async def test_patience_ends(autojump_clock: trio.testing.MockClock) -> None:
    link = MemoryLink()
    link.down = True
    async with httpx2.AsyncClient(transport=LinkTransport(link), base_url="http://agent") as http:
        began = trio.current_time()
        with pytest.raises(httpx2.ConnectError, match="the link is gone"):
            await AgentClient(http, patience=30).agent()
        assert trio.current_time() - began == pytest.approx(30)


async def test_an_agent_that_is_down_is_waited_for_and_then_told(
    autojump_clock: trio.testing.MockClock,
) -> None:
    down = Problem("agent-down", "The agent is not running", 503, "", "Start it.")
    tries = 0

    def handler(request: httpx2.Request) -> httpx2.Response:
        nonlocal tries
        tries += 1
        return httpx2.Response(503, content=down.encode())

    with pytest.raises(ProblemError, match="Start it") as refused:
        await pretending(handler, patience=30).agent()
    assert refused.value.problem == down
    assert tries > 1


async def test_a_refusal_for_good_is_told_at_once() -> None:
    tries = 0

    def handler(request: httpx2.Request) -> httpx2.Response:
        nonlocal tries
        tries += 1
        return httpx2.Response(409, content=b"not even a problem document")

    with pytest.raises(ProblemError, match="HTTP status 409"):
        await pretending(handler, patience=60).agent()
    assert tries == 1


async def test_what_a_newer_agent_adds_is_ignored() -> None:
    client = pretending(
        lambda _: httpx2.Response(
            200, json={"api": 1, "provider": "p", "model": "m", "mood": "good"}
        ),
        patience=0,
    )
    assert await client.agent() == AgentInfo(1, "p", "m")


async def test_a_damaged_event_stream_is_read_again_from_the_last_good_event() -> None:
    asked: list[str] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        if not request.url.path.endswith("/events"):
            record = {"id": "r", "conversation": "c", "state": "running"}
            times = {"created_ms": 0, "finished_ms": None, "last_event": 1}
            return httpx2.Response(200, json=record | times)
        asked.append(request.headers["last-event-id"])
        if len(asked) == 1:
            content = sse.encode(1, "token", '{"text": "a"}') + sse.encode(2, "token", "{")
        else:
            content = sse.encode(2, "new.kind", "?") + sse.encode(3, "run.cancelled", '{"text":""}')
        return httpx2.Response(200, content=content)

    client = pretending(handler, patience=5)
    async with client.events("r") as events:
        assert [event.id async for event in events] == [1, 3]
    assert asked == ["0", "1"]


async def test_leaving_the_events_leaves_the_run_alone(tmp_path: Path) -> None:
    provider = Scripted()
    async with open_world(tmp_path / "agent", provider) as world:
        conversation = await world.client.create_conversation()
        async with world.client.send(conversation.id, "hello") as events:
            await anext(events)
            run = events.run
        assert run is not None
        assert [event async for event in events] == []
        provider.feed("done")
        provider.finish()
        await until(lambda: not world.agent.runs.active)
        assert (await world.client.run(run)).state == "finished"


async def test_nothing_is_sent_before_the_iteration_begins(world: World) -> None:
    conversation = await world.client.create_conversation()
    async with world.client.send(conversation.id, "hello") as events:
        assert events.run is None
        await events.cancel()  # harmless: there is nothing yet
    assert (await world.client.conversation(conversation.id)).messages == ()


async def test_the_same_key_follows_the_same_reply(world: World) -> None:
    conversation = await world.client.create_conversation()
    replies = []
    for _ in range(2):
        async with world.client.send(conversation.id, "one two", key="k") as events:
            replies.append([event async for event in events])
    assert replies[0] == replies[1]


async def test_half_characters_of_a_terminal_do_not_stop_a_message(world: World) -> None:
    conversation = await world.client.create_conversation()
    async with world.client.send(conversation.id, "a\udcffb") as events:
        last = [event async for event in events][-1]
    assert isinstance(last, RunFinished)
    assert last.text == "a?b"


async def test_conversations_are_paged_and_deleted(world: World) -> None:
    made = [await world.client.create_conversation(f"n{number}") for number in range(3)]
    page = await world.client.conversations(limit=2)
    rest = await world.client.conversations(before=page.next)
    assert {one.id for one in page.conversations + rest.conversations} == {one.id for one in made}
    await world.client.delete_conversation(made[0].id)
    with pytest.raises(ProblemError) as refused:
        await world.client.conversation(made[0].id)
    assert refused.value.problem.kind == "no-such-conversation"
