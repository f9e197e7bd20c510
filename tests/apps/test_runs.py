"""A run outlives its listeners, and always ends in one event that a person can read.

Rules: what a listener has seen is never lost or repeated by a resume, a crash included.
Left to others: the interface's inputs (`test_agent_api`), providers of their own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
import trio

from clawchat.apps import sse
from clawchat.apps.agent import open_agent
from clawchat.apps.agent.providers import ProviderFailed
from clawchat.apps.agent.runs import RunLimits
from clawchat.apps.chat_client import AgentClient
from clawchat.apps.events import (
    LastEvent,
    RunCancelled,
    RunEvent,
    RunFailed,
    RunFinished,
    Token,
    Usage,
    decode_event,
)
from clawchat.apps.problems import Problem, ProblemError
from tests.apps.scripted import Scripted
from tests.apps.world import World, open_world
from tests.waiting import until


@asynccontextmanager
async def scripted(
    folder: Path, limits: RunLimits | None = None, heartbeat: float = 15
) -> AsyncIterator[tuple[World, Scripted]]:
    provider = Scripted()
    async with open_world(folder / "agent", provider, limits=limits, heartbeat=heartbeat) as world:
        yield world, provider


async def begin(client: AgentClient, text: str = "hello", key: str = "k") -> str:
    """Start a run in a new conversation."""
    conversation = await client.create_conversation()
    return (await client.start(conversation.id, text, key=key)).id


async def collect(client: AgentClient, run: str, after: int = 0) -> list[RunEvent]:
    async with client.events(run, after=after) as events:
        return [event async for event in events]


def text_of(events: list[RunEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Token))


async def test_a_reply_goes_on_without_a_listener_and_is_there_afterwards(tmp_path: Path) -> None:
    async with scripted(tmp_path) as (world, provider):
        run = await begin(world.client)
        provider.feed("one ", "two")
        provider.finish()
        await until(lambda: not world.agent.runs.active)
        events = await collect(world.client, run)
        assert text_of(events) == "one two"
        assert isinstance(events[-1], RunFinished)


async def test_a_listener_that_comes_back_misses_and_repeats_nothing(tmp_path: Path) -> None:
    async with scripted(tmp_path) as (world, provider):
        run = await begin(world.client)
        provider.feed("one ", "two ")
        first: list[RunEvent] = []
        async with world.client.events(run) as events:
            async for event in events:
                first.append(event)
                if event.id == 2:
                    break
        provider.feed("three")
        provider.finish()
        rest = await collect(world.client, run, after=first[-1].id)
        assert [event.id for event in first + rest] == [1, 2, 3, 4, 5]
        assert text_of(first + rest) == "one two three"


async def test_two_listeners_hear_the_same(tmp_path: Path) -> None:
    async with scripted(tmp_path) as (world, provider):
        run = await begin(world.client)
        heard: list[list[RunEvent]] = []

        async def listen() -> None:
            heard.append(await collect(world.client, run))

        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(listen)
            provider.feed("a", "b")
            await trio.sleep(0.02)
            provider.feed("c")
            provider.finish()
        assert heard[0] == heard[1]
        assert text_of(heard[0]) == "abc"


async def test_a_browser_that_saw_the_end_is_told_to_stop_asking(tmp_path: Path) -> None:
    async with scripted(tmp_path) as (world, provider):
        run = await begin(world.client)
        provider.finish()
        await until(lambda: not world.agent.runs.active)
        path = f"/v1/runs/{run}/events"
        assert (await world.local.get(path, headers={"Last-Event-ID": "2"})).status_code == 204
        assert await collect(world.client, run, after=2) == []


async def test_a_listener_that_saw_more_than_is_known_gets_the_end(tmp_path: Path) -> None:
    async with scripted(tmp_path) as (world, provider):
        run = await begin(world.client)
        provider.finish()
        await until(lambda: not world.agent.runs.active)
        answer = await world.local.get(f"/v1/runs/{run}/events", params={"after": 99})
        (last,) = sse.Parser().feed(answer.content)
        assert isinstance(decode_event(int(last.id), last.name, last.data), RunFinished)


async def test_an_event_stream_is_kept_alive_by_comments(tmp_path: Path) -> None:
    async with scripted(tmp_path, heartbeat=0.02) as (world, provider):
        run = await begin(world.client)
        async with world.local.stream("GET", f"/v1/runs/{run}/events") as answer:
            assert answer.headers["content-type"] == "text/event-stream"
            received = b""
            async for piece in answer.aiter_bytes():
                received += piece
                if received.count(sse.HEARTBEAT) == 2:
                    provider.finish()
        names = [event.name for event in sse.Parser().feed(received)]
        assert names == ["run.started", "run.finished"]


async def test_usage_and_history_pass_between_provider_and_conversation(tmp_path: Path) -> None:
    async with scripted(tmp_path) as (world, provider):
        conversation = await world.client.create_conversation()
        for number in range(2):
            provider.feed(f"answer {number}", Usage(3, 4))
            provider.finish()
            async with world.client.send(conversation.id, f"question {number}") as events:
                last = [event async for event in events][-1]
            assert last == RunFinished(3, f"answer {number}", Usage(3, 4))
        assert [(one.role, one.text) for one in provider.asked[1]] == [
            ("user", "question 0"),
            ("assistant", "answer 0"),
            ("user", "question 1"),
        ]


async def test_the_provider_is_shown_as_much_history_as_fits(tmp_path: Path) -> None:
    limits = RunLimits(history_messages=3, history_size=30)
    async with scripted(tmp_path, limits) as (world, provider):
        conversation = await world.client.create_conversation()
        for text in ("first", "second", "x" * 40, "last"):
            provider.finish()
            async with world.client.send(conversation.id, text) as events:
                assert [event async for event in events]
        assert [one.text for one in provider.asked[1]] == ["first", "second"]
        assert [one.text for one in provider.asked[2]] == ["x" * 40]
        assert [one.text for one in provider.asked[3]] == ["last"]


async def test_a_cancelled_run_keeps_what_was_written(tmp_path: Path) -> None:
    async with scripted(tmp_path) as (world, provider):
        conversation = await world.client.create_conversation()
        provider.feed("half a ")
        seen: list[RunEvent] = []
        async with world.client.send(conversation.id, "hello") as events:
            async for event in events:
                seen.append(event)
                if isinstance(event, Token):
                    await events.cancel()
        assert seen[-1] == RunCancelled(3, "half a ")
        page = await world.client.conversation(conversation.id)
        assert page.conversation.active_run is None
        assert (page.messages[-1].text, page.messages[-1].state) == ("half a ", "cancelled")
        run = page.messages[-1].run
        assert (await world.client.cancel(run)).state == "cancelled", "again is harmless"


async def test_a_run_cancelled_before_its_first_word_leaves_no_reply(tmp_path: Path) -> None:
    async with scripted(tmp_path) as (world, _):
        run = await world.client.run(await begin(world.client))
        assert (await world.client.cancel(run.id)).state == "cancelled"
        page = await world.client.conversation(run.conversation)
        assert [message.role for message in page.messages] == ["user"]


async def test_a_conversation_takes_one_message_at_a_time(tmp_path: Path) -> None:
    async with scripted(tmp_path) as (world, provider):
        run = await world.client.run(await begin(world.client))
        with pytest.raises(ProblemError) as refused:
            await world.client.start(run.conversation, "more", key="other")
        assert refused.value.problem.kind == "conversation-busy"
        assert run.id in refused.value.problem.detail
        provider.finish()
        await until(lambda: not world.agent.runs.active)
        assert (await world.client.start(run.conversation, "more", key="other")).state == "running"


async def test_the_agent_writes_a_limited_number_of_replies_at_a_time(tmp_path: Path) -> None:
    async with scripted(tmp_path, RunLimits(running=2)) as (world, _):
        first = await begin(world.client, key="1")
        await begin(world.client, key="2")
        conversation = await world.client.create_conversation()
        answer = await world.http.post(
            f"/v1/conversations/{conversation.id}/messages",
            json={"text": "x"},
            headers={"Idempotency-Key": "3"},
        )
        assert answer.status_code == 503
        assert answer.json()["type"].endswith("too-many-runs")
        assert answer.headers["retry-after"] == "5"
        again = await world.client.start(
            (await world.client.run(first)).conversation, "hello", key="1"
        )
        assert again.id == first, "a repeated message is no new run"
        await world.client.cancel(first)
        assert (await world.client.start(conversation.id, "x", key="3")).state == "running"


async def test_a_run_has_a_limited_number_of_listeners(tmp_path: Path) -> None:
    async with scripted(tmp_path, RunLimits(listeners=1)) as (world, provider):
        run = await begin(world.client)
        async with world.local.stream("GET", f"/v1/runs/{run}/events"):
            answer = await world.local.get(f"/v1/runs/{run}/events")
            assert answer.status_code == 503
            provider.finish()
        await until(lambda: not world.agent.runs.active)
        assert (await world.local.get(f"/v1/runs/{run}/events")).status_code == 200


async def test_a_listener_that_leaves_makes_room_for_another(tmp_path: Path) -> None:
    async with scripted(tmp_path, RunLimits(listeners=1)) as (world, _):
        run = await begin(world.client)
        for _ in range(3):
            async with world.client.events(run) as events:
                assert (await anext(events)).id == 1
            await until(lambda: world.agent.runs.active[run].listeners == 0)


@pytest.mark.parametrize("limits", [RunLimits(events=4), RunLimits(reply_size=12)])
async def test_a_reply_without_an_end_is_stopped(tmp_path: Path, limits: RunLimits) -> None:
    async with scripted(tmp_path, limits) as (world, provider):
        run = await begin(world.client)
        provider.feed(*["word "] * 50)
        last = (await collect(world.client, run))[-1]
        assert isinstance(last, RunFailed)
        assert last.problem.kind == "reply-too-long"
        assert last.text.startswith("word word ")


async def test_a_provider_that_stalls_ends_in_an_event_a_person_can_read(tmp_path: Path) -> None:
    async with scripted(tmp_path, RunLimits(idle=0.5)) as (world, provider):
        provider.feed("and then ")
        run = await begin(world.client)
        last = (await collect(world.client, run))[-1]
        assert isinstance(last, RunFailed)
        assert last.problem.kind == "provider-stalled"
        assert "0.5 seconds" in last.problem.detail
        assert last.problem.next
        assert last.text == "and then "


async def test_a_provider_that_says_why_it_failed_is_quoted(tmp_path: Path) -> None:
    why = Problem("provider-429", "The provider's limit is reached", 502, "Quota.", "Wait.")
    async with scripted(tmp_path) as (world, provider):
        run = await begin(world.client)
        provider.feed("half")
        provider.fail(ProviderFailed(why))
        assert (await collect(world.client, run))[-1] == RunFailed(3, why, "half")
        found = await world.client.run(run)
        page = await world.client.conversation(found.conversation)
        assert (page.messages[-1].text, page.messages[-1].state) == ("half", "failed")


async def test_a_provider_with_a_defect_harms_its_own_run_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with scripted(tmp_path) as (world, provider):
        first = await begin(world.client, key="1")
        provider.fail(RuntimeError("the key is sk-secret"))
        last = (await collect(world.client, first))[-1]
        assert isinstance(last, RunFailed)
        assert last.problem.kind == "provider-failed"
        assert "RuntimeError" in last.problem.detail
        second = await begin(world.client, key="2")
        provider.feed("fine")
        provider.finish()
        assert isinstance((await collect(world.client, second))[-1], RunFinished)
    assert "RuntimeError" in caplog.text
    assert "sk-secret" not in caplog.text + str(last)


async def test_half_a_surrogate_pair_does_not_break_a_reply(tmp_path: Path) -> None:
    async with scripted(tmp_path) as (world, provider):
        run = await begin(world.client)
        provider.feed("a\ud83d", "b")
        provider.finish()
        assert text_of(await collect(world.client, run)) == "a?b"


async def test_deleting_a_conversation_stops_its_reply(tmp_path: Path) -> None:
    async with scripted(tmp_path) as (world, _):
        run = await begin(world.client)
        conversation = (await world.client.run(run)).conversation
        async with world.client.events(run) as events:
            await anext(events)
            await world.client.delete_conversation(conversation)
            assert isinstance(await anext(events), RunCancelled)
        assert not world.agent.runs.active
        with pytest.raises(ProblemError, match="no such run"):
            await world.client.run(run)


async def test_an_agent_that_is_stopped_ends_its_runs_and_keeps_their_text(tmp_path: Path) -> None:
    async with scripted(tmp_path) as (world, provider):
        run = await begin(world.client)
        provider.feed("half a ", "reply")
        async with world.client.events(run) as events:
            while (await anext(events)).id < 3:
                pass
    async with scripted(tmp_path) as (world, _):
        rest = await collect(world.client, run, after=3)
        assert isinstance(rest[0], RunFailed)
        assert (rest[0].id, rest[0].problem.kind) == (4, "run-interrupted")
        assert rest[0].text == "half a reply"
        page = await world.client.conversation((await world.client.run(run)).conversation)
        assert page.conversation.active_run is None
        assert (page.messages[-1].text, page.messages[-1].state) == ("half a reply", "failed")


AGENT_PROCESS = """
import sys, trio
from pathlib import Path
from clawchat.apps.agent import open_agent
from clawchat.apps.agent.providers.echo import Echo
async def main():
    async with open_agent(Path(sys.argv[1]), Echo(pause=0.01), port=0) as agent:
        print(agent.url, flush=True)
        await trio.sleep_forever()
trio.run(main)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
async def test_an_agent_that_is_killed_loses_nothing_that_was_seen(tmp_path: Path) -> None:
    command = [sys.executable, "-c", AGENT_PROCESS, str(tmp_path / "agent")]
    seen: list[RunEvent] = []
    # The child lives while it is read from a thread; starting it takes no time worth a thread.
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: ASYNC220
        assert process.stdout is not None
        url = (await trio.to_thread.run_sync(process.stdout.readline)).strip()
        async with httpx2.AsyncClient(base_url=url) as http:
            client = AgentClient(http, patience=0)
            run = await begin(client, text=" word" * 1000)
            async with client.events(run) as events:
                while not seen or seen[-1].id < 10:
                    seen.append(await anext(events))
                os.kill(process.pid, signal.SIGKILL)
                with contextlib.suppress(httpx2.TransportError):
                    async for event in events:  # what was on its way
                        seen.append(event)  # noqa: PERF401 - kept also when it breaks
    async with scripted(tmp_path) as (world, _):
        rest = await collect(world.client, run, after=seen[-1].id)
        ids = [event.id for event in seen + rest]
        assert ids == list(range(1, len(ids) + 1))
        last = rest[-1]
        assert isinstance(last, RunFailed)
        assert last.text == text_of(seen + rest)
        found = await world.client.run(run)
        again = await AgentClient(world.local).start(found.conversation, " word" * 1000, key="k")
        assert again.id == run, "the same message still starts no second run"


async def test_a_full_disk_is_told_and_nothing_hangs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    async with scripted(tmp_path) as (world, provider):
        run = await begin(world.client)
        provider.feed("before ")
        await until(lambda: world.agent.runs.active[run].last == 2)
        await limit_pages(world, extra=0)
        provider.feed("x" * 100_000)
        last = (await collect(world.client, run))[-1]
        assert isinstance(last, RunFailed)
        assert last.problem.kind == "storage-failed"
        assert "full" in last.problem.detail
        conversation = await world.local.get("/v1/conversations")
        found = conversation.json()["conversations"][0]
        answer = await world.local.post(
            f"/v1/conversations/{found['id']}/messages",
            json={"text": "y" * 100_000},
            headers={"Idempotency-Key": "2"},
        )
        assert answer.status_code == 507
        await limit_pages(world, extra=1_000_000)
        provider.finish()
        async with world.client.send(found["id"], "again") as events:
            assert isinstance([event async for event in events][-1], LastEvent)
        record = await world.client.run(run)
        assert record.state == "failed"


async def test_a_disk_that_takes_nothing_leaves_no_conversation_stuck(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    async with scripted(tmp_path) as (world, provider):
        run = await begin(world.client)
        conversation = (await world.client.run(run)).conversation
        provider.feed("before ")
        db = world.agent.runs.store._db
        async with world.client.events(run, after=1) as events:
            assert isinstance(await anext(events), Token)
            await db.async_run(lambda: db.execute("PRAGMA query_only = 1").fetchall())
            provider.feed("lost")
            last = await anext(events)
        assert isinstance(last, RunFailed)
        assert last.problem.kind == "storage-failed"
        assert last.text == "before "
        for refused in (world.client.run(run), world.client.create_conversation()):
            with pytest.raises(ProblemError, match="cannot write its conversations"):
                await refused
        await db.async_run(lambda: db.execute("PRAGMA query_only = 0").fetchall())
        provider.finish()
        async with world.client.send(conversation, "again") as events:
            assert isinstance([event async for event in events][-1], RunFinished)
        assert (await world.client.run(run)).state == "failed"
        page = await world.client.conversation(conversation)
        assert [message.text for message in page.messages] == ["hello", "before ", "again"]


async def limit_pages(world: World, extra: int) -> None:
    """Let the file grow by `extra` pages from here on: what a full disk does, as SQLite tells it.

    SQLite takes the pages it has freed first, so a small write may still succeed.
    """
    db = world.agent.runs.store._db

    def limit() -> None:
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count = {pages + extra}").fetchall()

    await db.async_run(limit)


async def test_agents_on_one_folder_one_after_the_other_share_it(tmp_path: Path) -> None:
    for number in range(2):
        provider = Scripted()
        async with (
            open_agent(tmp_path / "agent", provider, port=0) as agent,
            httpx2.AsyncClient(base_url=agent.url) as http,
        ):
            client = AgentClient(http)
            assert len((await client.conversations()).conversations) == number
            await client.create_conversation()
