"""Sharing one link among the commands of a device."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path as FilePath
from typing import Any

import pytest
import trio

from clawchat.cli.exit_codes import ExitCode
from clawchat.cli.failures import exit_code
from clawchat.cli.holder import BLINK_SECONDS, SEARCH_SECONDS, Holder
from clawchat.cli.local_socket import LocalSocket
from clawchat.cli.shared_link import SharedLink, shared_link
from clawchat.core.actions import CopyReported, PathChanged, PathRestored, PathSuspect
from clawchat.core.credential import Address, Path
from clawchat.core.instant import SECOND
from clawchat.drivers.alarms import AlarmLog
from clawchat.drivers.store import Store
from clawchat.errors import CloseCode, CompromiseReason, LinkClosed, StoreError
from tests.cli.fake_link import HERE, THERE, FakeLink, FakeNetwork
from tests.waiting import PATIENCE, until

TIMEOUT = LinkClosed(CloseCode.TIMEOUT, "no answer from 192.0.2.1:5")


class Device:
    """The folder of a device, as two of its commands see it."""

    def __init__(self, folder: FilePath, nursery: trio.Nursery) -> None:
        self.network = FakeNetwork(nursery)
        self.socket = LocalSocket(folder / "link.sock")
        self.store = Store(folder / "store")
        self.alarms = AlarmLog(folder)
        self.told: list[str] = []

    def command(self) -> AbstractAsyncContextManager[SharedLink]:
        return shared_link(
            "home",
            self.network.dial,
            self.socket,
            lambda: self.store.lock("link"),
            self.alarms,
            self.told.append,
        )

    def holder(self) -> Holder:
        return Holder("home", self.network.dial, self.socket, self.alarms, self.told.append)


@pytest.fixture
def device(tmp_path: FilePath, nursery: trio.Nursery) -> Device:
    return Device(tmp_path, nursery)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clawchat.cli.holder.PAUSE_FIRST", 0.01)


async def ask_echo(link: SharedLink, text: bytes) -> bytes:
    stream = await link.open_stream()
    async with stream:
        await stream.send_all(text)
        await stream.send_eof()
        answer = b""
        while data := await stream.receive_some():
            answer += data
        return answer


async def test_a_command_dials_when_nobody_holds_a_link(device: Device) -> None:
    async with device.command() as link:
        assert await ask_echo(link, b"hello") == b"HELLO"
        assert link.own
    assert len(device.network.links) == 1


async def test_a_second_command_uses_the_link_of_the_first(device: Device) -> None:
    async with device.command() as first, device.command() as second:
        assert await ask_echo(first, b"one") == b"ONE"
        assert await ask_echo(second, b"two") == b"TWO"
        assert not second.own
        assert (await second.ask({"verb": "ping"}))["rtt_ms"] == pytest.approx(5.0)
        assert (await second.ask({"verb": "rotate"}))["epoch"] == 2
        assert (await second.ask({"verb": "rotate-port"}))["port"] == 51_000
        status = await second.ask({"verb": "status"})
    assert (status["link"], status["fingerprint"]) == ("up", "3f0a 91bc 77d2 e815")
    assert len(device.network.links) == 1


async def test_how_a_stream_shall_leave_is_told_to_whoever_holds_the_link(device: Device) -> None:
    async with device.command() as first, device.command() as second:
        for link in (first, second):
            async with await link.open_stream(shaped=True):
                pass
            async with await link.open_stream(bulk=True):
                pass
        (held,) = device.network.links
    shaped, bulk = {"bulk": False, "shaped": True}, {"bulk": True, "shaped": False}
    assert held.opened == [shaped, bulk, shaped, bulk]


async def test_two_commands_that_start_at_the_same_moment_make_one_link(device: Device) -> None:
    async with device.command() as first, device.command() as second, trio.open_nursery() as both:
        both.start_soon(ask_echo, first, b"one")
        both.start_soon(ask_echo, second, b"two")
    assert len(device.network.links) == 1


async def test_when_the_holder_ends_another_command_takes_over(device: Device) -> None:
    async with device.command() as second:
        async with device.command() as first:
            await ask_echo(first, b"one")
            assert await ask_echo(second, b"two") == b"TWO"
        assert await ask_echo(second, b"three") == b"THREE"
        assert second.own
    assert len(device.network.links) == 2


async def test_a_first_attempt_that_fails_says_why_and_frees_the_lock(device: Device) -> None:
    device.network.trouble = [TIMEOUT]
    async with device.command() as link:
        with pytest.raises(LinkClosed, match=r"no answer from 192\.0\.2\.1:5"):
            await link.open_stream()
        assert await ask_echo(link, b"again") == b"AGAIN"


async def test_the_first_command_finds_its_own_link_up(device: Device) -> None:
    async with device.command() as link:
        assert (await link.ask({"verb": "status"}))["link"] == "up"


async def test_a_listener_that_stays_away_is_told_of_once(device: Device, quick: None) -> None:
    async with device.command() as link:
        await ask_echo(link, b"one")
        device.network.trouble = [TIMEOUT] * 4
        device.network.links[0].die()
        with trio.fail_after(PATIENCE):
            assert await ask_echo(link, b"two") == b"TWO"
    assert len(device.told) == 3, device.told


async def test_a_damaged_store_is_reported_as_such(device: Device) -> None:
    device.network.trouble = [StoreError("pairing.json is damaged")]
    async with device.command() as link:
        with pytest.raises(StoreError) as caught:
            await link.open_stream()
    assert exit_code(caught.value) is ExitCode.STORE


async def test_a_lost_link_is_made_again_and_both_are_told(device: Device, quick: None) -> None:
    async with device.command() as link:
        await ask_echo(link, b"one")
        device.network.trouble = [TIMEOUT]
        device.network.links[0].die()
        with trio.fail_after(PATIENCE):
            assert await ask_echo(link, b"two") == b"TWO"
    assert device.told == [
        "lost the link to home: pulled the plug; trying again",
        "no link to home: no answer from 192.0.2.1:5; trying again",
        "the link to home is back",
    ]


async def test_a_device_that_was_replaced_revoked_or_refused_does_not_dial_again(
    device: Device,
) -> None:
    for code in (CloseCode.REPLACED, CloseCode.REVOKED, CloseCode.SUPERSEDED):
        async with device.command() as link:
            await ask_echo(link, b"one")
            device.network.links[-1].die(code, "no more")
            await trio.testing.wait_all_tasks_blocked(0.05)
            before = len(device.network.links)
            for _ in range(2):
                with pytest.raises(LinkClosed, match="no more"):
                    await link.open_stream()
            assert len(device.network.links) == before
        (told,) = device.told
        assert told.startswith("lost the link to home: no more; "), "before anything is asked"
        device.told.clear()


async def test_a_device_that_is_refused_when_it_dials_again_says_why_to_every_command(
    device: Device, quick: None
) -> None:
    """So ends a race for a bootstrap file for who came second: with a link that never answers."""
    async with device.command() as link, trio.open_nursery() as nursery:
        await ask_echo(link, b"one")
        first = device.network.links[0]
        first.answers = False
        device.network.trouble = [LinkClosed(CloseCode.SUPERSEDED, "redeemed before")]

        async def ping() -> None:
            with pytest.raises(LinkClosed, match="redeemed before"):
                await link.ask({"verb": "ping"})

        nursery.start_soon(ping)
        await trio.testing.wait_all_tasks_blocked()
        first.die()
    assert len(device.network.links) == 1


async def test_a_ping_over_a_link_that_ends_is_made_over_the_next(
    device: Device, quick: None
) -> None:
    async with device.command() as link, trio.open_nursery() as nursery:
        await ask_echo(link, b"one")
        first = device.network.links[0]
        first.answers = False
        answers: list[float] = []

        async def ping() -> None:
            answers.append((await link.ask({"verb": "ping"}))["rtt_ms"])

        nursery.start_soon(ping)
        await trio.testing.wait_all_tasks_blocked()
        first.die()
    assert answers == [5.0]
    assert len(device.network.links) == 2


async def test_a_link_that_only_lost_its_path_is_left_to_find_another(
    device: Device, quick: None, autojump_clock: trio.testing.MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(device.holder().run)
        await trio.testing.wait_all_tasks_blocked()
        (link,) = device.network.links
        link.say(PathSuspect())
        await trio.sleep(BLINK_SECONDS / 2)
        link.say(PathRestored(SECOND // 2))
        await trio.sleep(BLINK_SECONDS)
        assert not device.told, "nobody wants to hear of a moment"
        link.say(PathSuspect())
        await trio.sleep(SEARCH_SECONDS - 1)
        assert (await device.socket.ask({"verb": "status"}))["phase"] == "suspect"
        link.say(PathRestored(int((SEARCH_SECONDS - 1) * SECOND)))
        link.say(PathChanged(Path(HERE, Address("198.51.100.7", 4000))))
        await trio.sleep(2 * SEARCH_SECONDS)
        assert device.network.links == [link], "nothing was dialled again"
        nursery.cancel_scope.cancel()
    assert device.told == [
        "the path to home is lost, searching ...",
        "home is back after 19 s",
        "home moved to 198.51.100.7:4000",
    ]


async def test_a_listener_that_cannot_write_is_told_from_a_path_that_is_lost(
    device: Device, quick: None, autojump_clock: trio.testing.MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(device.holder().run)
        await trio.testing.wait_all_tasks_blocked()
        (link,) = device.network.links
        link.packets_received = 0  # what answers a dial is none
        link.say(PathSuspect())
        await trio.sleep(SEARCH_SECONDS + 1)
        nursery.cancel_scope.cancel()
    assert device.told[0].startswith("the listener answered the call and nothing after it")
    assert device.told[1].startswith("lost the link to home: the listener answered the call")
    assert "full disk" in device.told[1]


async def test_a_listener_that_lost_its_memory_is_dialled_again_after_20_seconds(
    device: Device, quick: None, autojump_clock: trio.testing.MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(device.holder().run)
        await trio.testing.wait_all_tasks_blocked()
        device.network.links[0].say(PathSuspect())
        await trio.sleep(SEARCH_SECONDS - 1)
        assert len(device.network.links) == 1
        await trio.sleep(2)
        assert len(device.network.links) == 2
        nursery.cancel_scope.cancel()
    assert device.told[1].startswith("lost the link to home: nothing came from it for 20 s")
    assert device.told[2] == "the link to home is back"


async def test_a_copy_that_the_listener_reports_is_told_and_kept_until_it_is_read(
    device: Device,
) -> None:
    report = CopyReported(3, THERE, same_device=True, count=4, ago_ns=3600 * SECOND)
    async with trio.open_nursery() as nursery:
        await nursery.start(device.holder().run)
        await trio.testing.wait_all_tasks_blocked()
        (link,) = device.network.links
        link.say(report)
        link.say(report)  # no second warning within a minute
        nursery.cancel_scope.cancel()
    (told,) = device.told
    assert told.startswith("WARNING: an old copy of this device's credential for home was used\n")
    assert f"from {THERE}, generation 3; 4 times since" in told
    assert "If it was not you" in told
    assert "`clawchat panic`" in told
    (alarm,) = device.alarms.all()
    assert (alarm.file_id, alarm.name, alarm.static) == (link.file_id, "home", None)
    assert 3600 <= time.time() - alarm.last < 3700


@pytest.mark.parametrize("when", ["before anybody read", "at the very end"])
async def test_no_report_of_a_copy_is_lost_however_short_the_link_is(
    device: Device, nursery: trio.Nursery, when: str
) -> None:
    report = CopyReported(0, THERE, same_device=False, count=1, ago_ns=0)

    class Short(FakeLink):
        def __init__(self, nursery: trio.Nursery) -> None:
            super().__init__(nursery)
            if when == "before anybody read":
                self.reports.append(report)

        def die(self, *why: Any) -> None:
            super().die(*why)
            if when == "at the very end":
                self.reports.append(report)

    device.network = FakeNetwork(nursery, Short)
    async with device.command() as link:
        await link.ask({"verb": "ping"})
    (told,) = device.told
    assert "the bootstrap file that paired this device with home was used by a second" in told
    assert [alarm.count for alarm in device.alarms.all()] == [1]


async def test_a_warning_that_cannot_be_kept_is_told_all_the_same(
    device: Device,
) -> None:
    device.alarms.path.mkdir()
    async with device.command() as link:
        await link.ask({"verb": "ping"})
        device.network.links[0].say(CopyReported(1, THERE, False, 1, 0))
        await trio.testing.wait_all_tasks_blocked()
    why, told = device.told
    assert "alarms.json" in why
    assert "this device's credential for home was used by another machine" in told


async def test_a_holder_that_waits_for_its_listener_says_so_when_asked(
    device: Device, quick: None
) -> None:
    device.network.trouble = [TIMEOUT] * 10_000
    async with trio.open_nursery() as nursery:
        holder = device.holder()

        async def run() -> None:
            await holder.run(persistent=True)

        nursery.start_soon(run)
        await until(lambda: device.told)
        status = await device.socket.ask({"verb": "status"})
        assert status["link"] == "down"
        assert "192.0.2.1:5" in status["trouble"]
        await device.socket.ask({"verb": "stop"})


@asynccontextmanager
async def held(device: Device) -> AsyncIterator[Holder]:
    async with trio.open_nursery() as nursery:
        holder = device.holder()
        await nursery.start(holder.run)
        yield holder
        nursery.cancel_scope.cancel()


PANIC = {"verb": "panic", "reason": int(CompromiseReason.USER), "everything": False}


async def test_a_panic_goes_over_the_link_that_is_held_and_gives_its_receipt(
    device: Device,
) -> None:
    async with trio.open_nursery() as nursery:
        holder = device.holder()
        ended: list[LinkClosed] = []

        async def hold(task_status: trio.TaskStatus[None]) -> None:
            try:
                await holder.run(task_status=task_status)
            except LinkClosed as error:
                ended.append(error)

        await nursery.start(hold)
        (receipt,) = (await device.socket.ask(PANIC))["receipts"]
    assert (receipt["told"], receipt["confirmed"], receipt["everything"]) == (True, True, False)
    assert [error.code for error in ended] == [CloseCode.COMPROMISED]
    assert len(device.network.links) == 1, "what was destroyed is not dialled"


async def test_a_panic_while_the_listener_is_away_takes_the_pairing_from_who_waits_for_it(
    device: Device, quick: None
) -> None:
    """Nobody can be told; the process that would dial on ends before the files go."""
    device.network.trouble = [TIMEOUT] * 10_000
    async with trio.open_nursery() as nursery:
        holder = device.holder()
        nursery.start_soon(partial(holder.run, persistent=True))
        await until(lambda: device.told)
        assert (await device.socket.ask(PANIC))["receipts"] == []
    dialled = len(device.network.trouble)
    await trio.testing.wait_all_tasks_blocked(0.05)
    assert len(device.network.trouble) == dialled


async def test_stop_ends_the_holder_for_good(device: Device) -> None:
    async with held(device) as holder:
        await device.socket.ask({"verb": "stop"})
        await trio.testing.wait_all_tasks_blocked(0.05)
        with pytest.raises(LinkClosed, match="stopped"):
            await holder.open_stream()
