"""docs/agent-api.md says what is so: its Python runs, its lists are complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trio

from clawchat.apps.agent import api, runs
from clawchat.apps.events import NAMES
from clawchat.apps.gateway import RelayLimits
from tests.apps.test_over_a_link import open_link
from tests.apps.world import World

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "agent-api.md").read_text("utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


async def test_the_snippet_that_chats_runs(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[object] = []
    monkeypatch.setattr(trio, "run", started.append)
    code = SNIPPETS[1].replace("http://127.0.0.1:55556", world.agent.url)
    exec(compile(code, "docs/agent-api.md", "exec"), {})
    (main,) = started
    assert callable(main)
    await main()
    assert capsys.readouterr().out == "Hello, who are you?\n"


async def test_the_snippet_over_a_link_runs(world: World, tmp_path: Path) -> None:
    names: dict[str, object] = {}
    exec(compile(SNIPPETS[0], "docs/agent-api.md", "exec"), names)
    who_answers = names["who_answers"]
    assert callable(who_answers)
    async with open_link(tmp_path, world.agent.url) as peer:
        assert await who_answers(peer) == "echo, echo"


def test_every_snippet_is_tested() -> None:
    assert len(SNIPPETS) == 2


async def test_every_address_is_documented(world: World) -> None:
    application = api.Api(world.agent.runs.store, world.agent.runs).application()
    offered = {
        (method, route.path)  # type: ignore[attr-defined]
        for route in application.routes
        for method in route.methods - {"HEAD"}  # type: ignore[attr-defined]
    }
    documented = set(re.findall(r"^\| `(GET|POST|DELETE) (/v1/[^`]*)`", TEXT, re.MULTILINE))
    assert offered == documented


def test_every_problem_and_event_is_documented() -> None:
    code = "".join(file.read_text("utf-8") for file in (ROOT / "clawchat/apps").rglob("*.py"))
    kinds = set(re.findall(r'kind="([a-z0-9-]+)"', code)) | {"not-found"}
    problems = TEXT.partition("## Problems")[2]
    documented = set(re.findall(r"`([a-z]+(?:-[a-z]+)+)`", problems)) | {"internal"}
    assert kinds <= documented
    assert documented <= kinds
    for name in NAMES.values():
        assert f"| `{name}` |" in TEXT


def test_the_limits_are_those_of_the_code() -> None:
    limits, relay_limits = runs.RunLimits(), RelayLimits()
    for sentence in (
        f"| one message | {api.TEXT_MAX // 1024} KiB of UTF-8 |",
        f"| one reply | {limits.reply_size // 1024**2} MiB, {limits.events:,} events |",
        f"| between two pieces of a reply | {limits.idle:g} s,",
        f"| runs at a time | {limits.running} in all, 1 in a conversation |",
        f"| listeners of a run | {limits.listeners} |",
        f"the newest {limits.history_messages} messages, {limits.history_size // 1024} KiB |",
        f"| requests at a time on a link | {relay_limits.requests} |",
        f"| headers of a request over a link | {relay_limits.header_size // 1024} KiB |",
        f"is {api.PAGE_DEFAULT} when not given and at most {api.PAGE_MAX}",
        f"at most {api.KEY_MAX} characters",
        f"comes every {api.HEARTBEAT:g} seconds",
    ):
        assert sentence in TEXT
