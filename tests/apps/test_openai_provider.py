"""The OpenAI-compatible provider against an endpoint that behaves well, badly, or not at all."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing
from starlette.responses import PlainTextResponse

from clawchat.apps.agent.providers import (
    ProviderSettingMissing,
    ProviderSettings,
    make_provider,
)
from clawchat.apps.agent.runs import RunLimits
from clawchat.apps.events import RunCancelled, RunEvent, RunFailed, RunFinished, Token, Usage
from clawchat.errors import UserError
from tests.apps.fake_openai import Answer, FakeOpenAI, Stream, chunk, open_fake, reply, status
from tests.apps.world import open_world
from tests.waiting import PATIENCE

KEY = "sk-very-secret"


def ignore(_event: RunEvent) -> None:
    """For who does not want to be told."""


async def ask(
    folder: Path,
    fake: FakeOpenAI,
    *,
    retries: int = 0,
    idle: float = 60,
    told: Callable[[RunEvent], None] = ignore,
) -> list[RunEvent]:
    """What a user sees who sends one message to an agent with this endpoint."""
    seen: list[RunEvent] = []
    settings = ProviderSettings("openai", "some-model", fake.url, KEY, retries)
    provider = make_provider(settings)
    async with open_world(folder / "agent", provider, limits=RunLimits(idle=idle)) as world:
        conversation = await world.client.create_conversation()
        with trio.fail_after(PATIENCE):
            async with world.client.send(conversation.id, "Hello") as events:
                async for event in events:
                    seen.append(event)
                    told(event)
    return seen


async def failure(
    folder: Path,
    *answers: Answer,
    idle: float = 60,
    told: Callable[[RunEvent], None] = ignore,
) -> RunFailed:
    async with open_fake(*answers) as fake:
        last = (await ask(folder, fake, idle=idle, told=told))[-1]
    assert isinstance(last, RunFailed)
    assert last.problem.title
    assert last.problem.next, "the user is told what to do"
    return last


async def test_a_reply_is_streamed_with_model_key_and_usage(tmp_path: Path) -> None:
    async with open_fake(reply("Good ", "day")) as fake:
        events = await ask(tmp_path, fake)
    assert [event.text for event in events if isinstance(event, Token)] == ["Good ", "day"]
    last = events[-1]
    assert isinstance(last, RunFinished)
    assert (last.text, last.usage) == ("Good day", Usage(7, 2))
    (request,) = fake.requests
    assert request["model"] == "some-model"
    assert request["messages"] == [{"role": "user", "content": "Hello"}]
    assert fake.keys == [f"Bearer {KEY}"]


async def test_a_refusal_for_now_is_tried_again(tmp_path: Path) -> None:
    soon = {"retry-after-ms": "1"}
    async with open_fake(status(429, **soon), status(503, **soon), reply("fine")) as fake:
        events = await ask(tmp_path, fake, retries=2)
    assert isinstance(events[-1], RunFinished)
    assert len(fake.requests) == 3


async def test_tries_are_bounded(tmp_path: Path) -> None:
    async with open_fake(status(500, **{"retry-after-ms": "1"})) as fake:
        events = await ask(tmp_path, fake, retries=2)
    assert isinstance(events[-1], RunFailed)
    assert len(fake.requests) == 3


@pytest.mark.parametrize(
    ("code", "word"),
    [
        (400, "refused the request"),
        (401, "refused the key"),
        (403, "refused the key"),
        (404, "some-model"),
        (429, "limit"),
        (500, "out of order"),
        (503, "out of order"),
    ],
)
async def test_each_status_is_told_in_words(tmp_path: Path, code: int, word: str) -> None:
    last = await failure(tmp_path, status(code))
    assert last.problem.kind == f"provider-{code}"
    assert word in last.problem.title
    assert str(code) in last.problem.detail


async def test_what_the_endpoint_says_about_the_key_is_not_repeated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    last = await failure(tmp_path, status(401, f"Incorrect API key provided: {KEY}"))
    assert KEY not in str(last)
    assert KEY not in caplog.text


async def test_an_endpoint_that_stalls_at_once_is_told(tmp_path: Path) -> None:
    last = await failure(tmp_path, lambda: Stream(then="hang"), idle=0.1)
    assert last.problem.kind == "provider-stalled"


async def test_an_endpoint_that_stalls_midway_leaves_what_came(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    mock_clock.rate = 1  # as time goes, until the first piece came

    def leap(event: RunEvent) -> None:
        if isinstance(event, Token):
            mock_clock.jump(40)

    stream = Stream(chunk("Once "), then="hang")
    last = await failure(tmp_path, lambda: stream, idle=30, told=leap)
    assert (last.problem.kind, last.text) == ("provider-stalled", "Once ")


async def test_a_connection_cut_midway_leaves_what_came(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    last = await failure(tmp_path, lambda: Stream(chunk("Once "), then="break"))
    assert (last.problem.kind, last.text) == ("provider-cut-off", "Once ")


async def test_a_stream_that_ends_before_the_reply_is_no_whole_reply(tmp_path: Path) -> None:
    last = await failure(tmp_path, lambda: Stream(chunk("Once ")))
    assert (last.problem.kind, last.text) == ("provider-cut-off", "Once ")


async def test_a_filtered_reply_is_told(tmp_path: Path) -> None:
    last = await failure(tmp_path, reply("Once ", finish="content_filter"))
    assert last.problem.kind == "provider-filtered"


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "not json",
        "5",
        "[]",
        '{"choices": 3}',
        '{"choices": [3]}',
        '{"choices": [{"delta": 5}]}',
        '{"choices": [{"delta": {"content": 5}}]}',
        '{"usage": 3}',
    ],
)
async def test_garbage_is_told(tmp_path: Path, line: str) -> None:
    last = await failure(tmp_path, lambda: Stream(chunk("Once "), line))
    assert (last.problem.kind, last.text) == ("provider-garbage", "Once ")


async def test_an_error_within_the_stream_is_told(tmp_path: Path) -> None:
    last = await failure(tmp_path, lambda: Stream('{"error": {"message": "overloaded"}}'))
    assert last.problem.kind == "provider-broke-off"


async def test_a_page_instead_of_a_stream_is_told(tmp_path: Path) -> None:
    last = await failure(tmp_path, lambda: PlainTextResponse("<html>Hello</html>"))
    assert last.problem.kind in ("provider-garbage", "provider-cut-off")


async def test_an_endpoint_that_is_not_there_is_told(tmp_path: Path) -> None:
    async with open_fake(reply()) as gone:
        pass
    last = (await ask(tmp_path, gone))[-1]
    assert isinstance(last, RunFailed)
    assert last.problem.kind == "provider-unreachable"


async def test_cancelling_closes_the_connection_to_the_endpoint(tmp_path: Path) -> None:
    async with open_fake(lambda: Stream(chunk("Once "), then="hang")) as fake:
        provider = make_provider(ProviderSettings("openai", "m", fake.url, KEY, 0))
        async with open_world(tmp_path / "agent", provider) as world:
            conversation = await world.client.create_conversation()
            seen: list[RunEvent] = []
            async with world.client.send(conversation.id, "Hello") as events:
                async for event in events:
                    seen.append(event)
                    if isinstance(event, Token):
                        await events.cancel()
            assert isinstance(seen[-1], RunCancelled)


def test_without_a_key_the_setting_is_named() -> None:
    with pytest.raises(ProviderSettingMissing, match="OPENAI_API_KEY"):
        make_provider(ProviderSettings("openai"))
    with pytest.raises(ProviderSettingMissing):
        make_provider(ProviderSettings("openai", base_url="https://models.example/v1"))


def test_a_local_endpoint_needs_no_key() -> None:
    provider = make_provider(ProviderSettings("openai", "m", "http://127.0.0.1:11434/v1"))
    assert (provider.name, provider.model) == ("openai", "m")


def test_a_base_url_that_is_none_is_named() -> None:
    with pytest.raises(UserError, match="--base-url"):
        make_provider(ProviderSettings("openai", "m", "ftp://x", KEY))


def test_the_default_provider_needs_nothing() -> None:
    assert make_provider(ProviderSettings.from_environment(env={})).name == "echo"


def test_an_unknown_provider_is_named_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"'nope'.*echo, openai"):
        make_provider(ProviderSettings("nope"))


def test_settings_come_from_options_before_the_environment() -> None:
    env = {
        "CLAWCHAT_PROVIDER": "openai",
        "CLAWCHAT_MODEL": "env-model",
        "OPENAI_BASE_URL": "https://env.example/v1",
        "OPENAI_API_KEY": KEY,
    }
    assert ProviderSettings.from_environment(env={}).name == "echo"
    found = ProviderSettings.from_environment(model="mine", env=env)
    assert (found.name, found.model) == ("openai", "mine")
    assert found.base_url == "https://env.example/v1"
    assert KEY not in repr(found)
    assert KEY not in repr(make_provider(found))


def test_the_library_is_not_imported_before_it_is_used() -> None:
    code = (
        "import sys, clawchat.apps.agent, clawchat.apps.agent.providers.openai;"
        "assert 'openai' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
