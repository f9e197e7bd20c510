"""What a user is told when the way to the agent fails: how far the message came, and what to do."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import h11
import pytest
import trio
import trio.testing

from clawchat.apps.problems import Problem
from clawchat.cli import chat, send, status
from clawchat.cli.exit_codes import ExitCode
from clawchat.cli.failures import AgentTrouble, NoLink, Usage, exit_code, main_cause
from clawchat.cli.local_socket import LocalSocket
from clawchat.cli.places import device_folder
from clawchat.cli.prompt import PlainPrompt
from clawchat.cli.shared_link import SharedLink, shared_link
from clawchat.core.actions import CopyReported
from clawchat.drivers.alarms import AlarmLog, alarm_told
from clawchat.drivers.locks import StoreBusy
from clawchat.drivers.store import Store
from clawchat.errors import CloseCode, LinkClosed
from tests.cli.fake_link import THERE, FakeLink, FakeNetwork

TIMEOUT = LinkClosed(CloseCode.TIMEOUT, "no answer from 192.0.2.1:5 within 30 s. Look there")
OFF = [TIMEOUT] * 10_000  # the listener does not come back
CONVERSATION = {"id": "c1", "title": "", "created_ms": 0, "updated_ms": 0, "active_run": None}
RUN = {"id": "r1", "conversation": "c1", "state": "running", "created_ms": 0} | {
    "finished_ms": None,
    "last_event": 0,
}
TOKEN = b'id: 1\nevent: token\ndata: {"text": "well, "}\n\n'

Step: TypeAlias = "Callable[[FakeLink, trio.abc.HalfCloseableStream], Any]"


class Agent:
    """Answers what each path says, or does what a test puts there. Lives behind every link."""

    def __init__(self) -> None:
        self.does: dict[str, Step] = {
            "GET /v1/health": says({"status": "ok"}),
            "POST /v1/conversations": says(CONVERSATION),
            "POST /v1/conversations/c1/messages": says(RUN),
            "GET /v1/runs/r1/events": begins_a_reply,
        }

    def link(self, nursery: trio.Nursery) -> FakeLink:
        return AgentLink(self, nursery)


class AgentLink(FakeLink):
    """Its streams lead to the agent."""

    def __init__(self, agent: Agent, nursery: trio.Nursery) -> None:
        super().__init__(nursery)
        self._agent = agent

    async def _echo(
        self,
        far: trio.StapledStream[trio.abc.SendStream, trio.abc.ReceiveStream],
        task_status: trio.TaskStatus[None],
    ) -> None:
        with trio.CancelScope() as scope:
            self._scopes.append(scope)
            task_status.started()
            connection = h11.Connection(h11.SERVER)
            while (event := connection.next_event()) is h11.NEED_DATA:
                connection.receive_data(bytes(await far.receive_some()))
            assert isinstance(event, h11.Request)
            asked = f"{event.method.decode()} {event.target.decode().partition('?')[0]}"
            await self._agent.does[asked](self, far)
        await trio.aclose_forcefully(far)


def says(body: object, status: int = 200) -> Step:
    async def step(link: FakeLink, stream: trio.abc.HalfCloseableStream) -> None:
        text = json.dumps(body).encode()
        head = f"HTTP/1.1 {status} .\r\nContent-Length: {len(text)}\r\n\r\n"
        await stream.send_all(head.encode() + text)

    return step


async def begins_a_reply(link: FakeLink, stream: trio.abc.HalfCloseableStream) -> None:
    await stream.send_all(b"HTTP/1.1 200 .\r\nContent-Type: text/event-stream\r\n\r\n" + TOKEN)
    await trio.sleep_forever()


async def says_nothing(link: FakeLink, stream: trio.abc.HalfCloseableStream) -> None:
    await trio.sleep_forever()


class World:
    """A device that is paired with `home`."""

    def __init__(self, folder: Path, nursery: trio.Nursery) -> None:
        self.agent = Agent()
        self.network = FakeNetwork(nursery, self.agent.link)
        self.told: list[str] = []
        self.folder = folder
        self.alarms = AlarmLog(device_folder(folder))
        self.socket = LocalSocket(folder / "link.sock")

    def the_link(self, *ignored: object) -> AbstractAsyncContextManager[SharedLink]:
        lock = partial(Store(self.folder / "store").lock, "link")
        return shared_link(
            "home", self.network.dial, self.socket, lock, self.alarms, self.told.append
        )

    def loses_the_link(self, *, for_good: bool = True) -> Step:
        async def step(link: FakeLink, stream: trio.abc.HalfCloseableStream) -> None:
            self.network.trouble = list(OFF) if for_good else []
            link.die()

        return step

    async def fails_to_send(self) -> Exception:
        with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is, in any group
            await send.send("hello")
        cause = main_cause(caught.value)
        assert isinstance(cause, Exception)
        return cause


@pytest.fixture
def world(
    tmp_path: Path,
    nursery: trio.Nursery,
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    made = World(tmp_path, nursery)
    monkeypatch.setattr(send, "the_link", made.the_link)
    monkeypatch.setattr(chat, "the_link", made.the_link)
    return made


async def test_a_listener_that_was_started_again_meanwhile_gets_the_message(
    world: World,
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The link that is held is one of the process before: it breaks, and the next one serves."""
    first = world.agent.does["GET /v1/health"]

    async def dead(link: FakeLink, stream: trio.abc.HalfCloseableStream) -> None:
        world.agent.does["GET /v1/health"] = first
        await trio.sleep(20)
        link.die()

    world.agent.does["GET /v1/health"] = dead
    world.agent.does["GET /v1/runs/r1/events"] = says({"type": "x", "title": "It began"}, 400)
    failure = await world.fails_to_send()
    assert str(failure) == "It began."
    assert len(world.network.links) == 2
    assert "no answer from home yet; waiting for it (Ctrl-C gives up)" in world.told


async def test_a_listener_that_is_gone_was_sent_nothing(
    world: World,
    autojump_clock: trio.testing.MockClock,
) -> None:
    world.agent.does["GET /v1/health"] = world.loses_the_link()
    failure = await world.fails_to_send()
    assert exit_code(failure) is ExitCode.NO_LINK
    assert (
        "the link to home is down. The message was not sent. Is the machine with the agent on"
        in str(failure)
    )


async def test_a_link_lost_after_the_message_leaves_open_whether_it_arrived(
    world: World,
    autojump_clock: trio.testing.MockClock,
) -> None:
    world.agent.does["POST /v1/conversations/c1/messages"] = world.loses_the_link()
    failure = await world.fails_to_send()
    assert exit_code(failure) is ExitCode.NO_LINK
    assert "Whether the message arrived is not known" in str(failure)
    assert "`clawchat chat -c c1`" in str(failure)


async def test_a_link_lost_within_the_reply_says_where_the_reply_will_be(
    world: World, autojump_clock: trio.testing.MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async def within(link: FakeLink, stream: trio.abc.HalfCloseableStream) -> None:
        with trio.move_on_after(1):
            await begins_a_reply(link, stream)
        await world.loses_the_link()(link, stream)

    world.agent.does["GET /v1/runs/r1/events"] = within
    failure = await world.fails_to_send()
    assert exit_code(failure) is ExitCode.NO_LINK
    assert "The agent has the message: `clawchat chat -c c1` shows what it replied." in str(failure)
    assert capsys.readouterr().out == "well, "


async def test_who_waits_over_the_link_of_another_process_is_told_of_it(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    """What the process that holds the link says of it is on another terminal."""
    world.agent.does["POST /v1/conversations/c1/messages"] = world.loses_the_link()
    async with world.the_link() as holding:
        await holding.ask({"verb": "status"})
        await world.fails_to_send()
    assert "waiting for the link to home (Ctrl-C gives up)" in world.told


async def test_status_does_not_call_a_link_up_that_died_while_it_was_asked(
    world: World, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = SimpleNamespace(shared=world.the_link, socket=world.socket)
    monkeypatch.setattr(status, "Listener", lambda *_: listener)
    pairing = SimpleNamespace(file_id=bytes(16), listener_static=bytes(32))
    store: Any = None
    entry: Any = SimpleNamespace(name="home", pairing=pairing, paired=0, candidates=())
    async with world.the_link() as holding, trio.open_nursery() as nursery:
        await holding.ask({"verb": "status"})
        (link,) = world.network.links
        link.answers = False

        async def dies() -> None:
            await trio.sleep(20)
            world.network.trouble = list(OFF)
            link.die()

        nursery.start_soon(dies)
        told, code = await status._report(store, entry, [entry], None, offline=False)
    assert code is ExitCode.NO_LINK
    assert told["link"]["link"] == "down"
    assert "home" in told["trouble"]


async def test_streams_that_break_over_no_link_say_what_to_look_at(
    world: World,
    autojump_clock: trio.testing.MockClock,
) -> None:
    """No word of the HTTP library is shown; the machine and the command to look at are."""

    async def breaks(link: FakeLink, stream: trio.abc.HalfCloseableStream) -> None:
        link.phase = "suspect"

    world.agent.does["GET /v1/health"] = breaks
    failure = await world.fails_to_send()
    assert isinstance(failure, NoLink)
    assert str(failure) == (
        "the link to home is down. The message was not sent. Is the machine with the agent on, and "
        "does `clawchat serve` run there? `clawchat status` says more."
    )


async def test_an_agent_that_hangs_is_not_taken_for_a_lost_link(
    world: World,
    autojump_clock: trio.testing.MockClock,
) -> None:
    world.agent.does["GET /v1/health"] = says_nothing
    failure = await world.fails_to_send()
    assert isinstance(failure, AgentTrouble)
    assert str(failure).startswith("the link to home is fine, but the agent stopped answering. The")
    assert "The message was not sent." in str(failure)


async def test_an_agent_that_dies_is_told_without_the_terms_of_http(
    world: World,
    autojump_clock: trio.testing.MockClock,
) -> None:
    died = Problem("agent-died", "The agent stopped", 502, "It closed.", next="Idempotency-Key")
    path = "POST /v1/conversations/c1/messages"
    world.agent.does[path] = says(died.to_json(), 502)
    failure = await world.fails_to_send()
    assert isinstance(failure, AgentTrouble)
    assert str(failure) == (
        "The agent stopped. It closed. What it prints on its machine may say why. Whether the "
        "message arrived is not known: look with `clawchat chat -c c1` before you send it again."
    )


async def test_an_agent_that_is_down_says_how_to_start_it_and_what_became_of_the_message(
    world: World,
    autojump_clock: trio.testing.MockClock,
) -> None:
    down = Problem("agent-down", "The agent is down", 503, "No.", next="Start: clawchat agent")
    world.agent.does["GET /v1/health"] = says(down.to_json(), 503)
    failure = await world.fails_to_send()
    assert str(failure) == (
        "The agent is down. No. Start: clawchat agent. The message was not sent."
    )


@pytest.mark.parametrize("wanted", ["", "../agent", "c_1?limit=0", "c\x01"])
async def test_what_is_no_id_is_no_conversation_and_asks_for_nothing(
    world: World, autojump_clock: trio.testing.MockClock, wanted: str
) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - in whatever group
        await send.send("hello", conversation=wanted)
    failure = main_cause(caught.value)
    assert isinstance(failure, Usage)
    assert f"--conversation {wanted!r}: the agent has no such" in str(failure)


async def test_another_process_in_the_way_keeps_its_own_exit_code(
    world: World,
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def breaks(link: FakeLink, stream: trio.abc.HalfCloseableStream) -> None:
        world.network.trouble = [StoreBusy("process 7 uses the folder: end it")]
        link.die()

    world.agent.does["GET /v1/health"] = breaks
    failure = await world.fails_to_send()
    assert exit_code(failure) is ExitCode.IN_USE
    assert str(failure) == "process 7 uses the folder: end it"


@pytest.mark.parametrize(
    ("lost", "code"), [(True, ExitCode.NO_LINK), (False, ExitCode.AGENT)], ids=["link", "agent"]
)
async def test_a_chat_from_a_pipe_ends_with_the_code_of_what_failed(
    world: World,
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    lost: bool,
    code: ExitCode,
) -> None:
    lines = iter(["hello", None])

    class Lines(PlainPrompt):
        async def ask(self, question: str) -> str | None:
            await trio.lowlevel.checkpoint()
            return next(lines)

    @asynccontextmanager
    async def open_prompt() -> AsyncIterator[PlainPrompt]:
        yield Lines()

    monkeypatch.setattr(chat, "open_prompt", open_prompt)
    path = "POST /v1/conversations/c1/messages"
    if lost:
        world.agent.does[path] = world.loses_the_link()
    else:
        world.agent.does[path] = says({"type": "x", "title": "It refuses"}, 400)
    assert await chat.run_chat(world.folder, None, None) == code
    said = capsys.readouterr().err
    assert ("`clawchat chat -c c1`" if lost else "It refuses.") in said


@pytest.mark.parametrize("holder", ["another process", "this process"])
async def test_a_chat_shows_each_warning_about_a_copy_once(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    holder: str,
) -> None:
    """What this process was told over its own link was shown by whoever keeps that link."""

    def note(*, same_device: bool) -> None:
        report = CopyReported(3, THERE, same_device, count=1, ago_ns=0)
        world.alarms.note(alarm_told(report, b"f" * 16, "home"))

    class Lines(PlainPrompt):
        asked = 0

        async def ask(self, question: str) -> str | None:
            await trio.lowlevel.checkpoint()
            self.asked += 1
            if self.asked == 1:
                return "hello" if holder == "this process" else ""
            if self.asked == 2:
                note(same_device=False)
            return "" if self.asked < 5 else None

    @asynccontextmanager
    async def open_prompt() -> AsyncIterator[PlainPrompt]:
        yield Lines()

    monkeypatch.setattr(chat, "open_prompt", open_prompt)
    refusal = says({"type": "x", "title": "It refuses"}, 400)
    world.agent.does["POST /v1/conversations/c1/messages"] = refusal
    note(same_device=True)
    async with world.the_link() as holding:
        if holder == "another process":
            await holding.ask({"verb": "ping"})
        await chat.run_chat(world.folder, None, None)
    said = capsys.readouterr().err
    assert said.count("an old copy of this device's credential for home was used") == 1
    again = said.count("this device's credential for home was used by another machine")
    assert again == (holder == "another process")
