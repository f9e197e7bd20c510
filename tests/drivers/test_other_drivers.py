"""What the conformance suite cannot see of the asyncio and the blocking driver: failing disks."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path as FilePath
from time import monotonic

import pytest

from clawchat.core.actions import BootstrapContent, Closed, Established, Notice, PathSuspect
from clawchat.core.config import Config
from clawchat.core.credential import Address, Pairing, Path
from clawchat.core.events import Dial, PublishBootstrap
from clawchat.core.exchange import first_pairing
from clawchat.core.secret import Secret
from clawchat.drivers import blocking, on_asyncio
from clawchat.drivers.sockets import UdpSocket
from clawchat.errors import CloseCode, StoreError
from tests.drivers.conformance_sockets import Desk
from tests.waiting import LOOK, PATIENCE

LOOPBACK = Address("127.0.0.1", 0)


class LockedDesk(Desk):
    """Cannot write."""

    def publish(self, content: BootstrapContent) -> FilePath:
        super().publish(content)
        raise StoreError("the folder is read-only")


def refuse(pairing: Pairing) -> None:
    raise StoreError("the disk is full")


def keep(pairing: Pairing) -> None:
    """As if it were written."""


def turn_until(holds: Callable[[], object], *drivers: blocking.Driver) -> None:
    end = monotonic() + PATIENCE
    while not holds():
        assert monotonic() < end, "it did not come about"
        for driver in drivers:
            driver.run(0.005)


def fresh() -> Config:
    return Config(identity=Secret(os.urandom(32)))


def test_asyncio_closes_the_link_whose_credential_cannot_be_kept() -> None:
    async def play() -> None:
        desk = Desk()
        async with (
            on_asyncio.open_driver(
                fresh(), [UdpSocket(LOOPBACK)], persist=keep, publisher=desk
            ) as listener,
            on_asyncio.open_driver(fresh(), [UdpSocket(LOOPBACK)], persist=refuse) as dialer,
        ):
            listener.handle(PublishBootstrap(listener.addresses))
            await asyncio.to_thread(desk.written.wait, PATIENCE)
            assert desk.content is not None
            path = Path(dialer.addresses[0], listener.addresses[0])
            dialer.handle(Dial(1, first_pairing(desk.content), (path,)))
            async with asyncio.timeout(PATIENCE):
                while not isinstance((await dialer.next_notice())[1], Closed):
                    pass

    asyncio.run(play())


def test_blocking_closes_the_link_whose_credential_cannot_be_kept() -> None:
    desk = Desk()
    with (
        blocking.Driver(fresh(), [UdpSocket(LOOPBACK)], persist=keep, publisher=desk) as listener,
        blocking.Driver(fresh(), [UdpSocket(LOOPBACK)], persist=refuse) as dialer,
    ):
        listener.handle(PublishBootstrap(listener.addresses))
        turn_until(lambda: desk.content, listener)
        assert desk.content is not None
        path = Path(dialer.addresses[0], listener.addresses[0])
        dialer.handle(Dial(1, first_pairing(desk.content), (path,)))
        told: list[Notice] = []
        while not told or not isinstance(told[-1], Closed):
            turn_until(lambda: dialer._notices, listener, dialer)
            told.append(dialer.next_notice()[1])
        assert told[-1].code == CloseCode.STORE
        assert not any(isinstance(notice, Established) for notice in told)


def test_a_bootstrap_file_that_cannot_be_written_is_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def play() -> None:
        async with on_asyncio.open_driver(
            fresh(), [UdpSocket(LOOPBACK)], persist=keep, publisher=LockedDesk()
        ) as listener:
            listener.handle(PublishBootstrap(listener.addresses))
            async with asyncio.timeout(PATIENCE):
                while listener.publish_error is None:  # noqa: ASYNC110  (nobody announces it)
                    await asyncio.sleep(LOOK)
            assert isinstance(listener.publish_error, StoreError)

    asyncio.run(play())
    with blocking.Driver(
        fresh(), [UdpSocket(LOOPBACK)], persist=keep, publisher=LockedDesk()
    ) as listener:
        listener.handle(PublishBootstrap(listener.addresses))
        turn_until(lambda: listener.publish_error, listener)
        assert isinstance(listener.publish_error, StoreError)
    assert caplog.text.count("read-only") == 2


def test_who_takes_no_notices_stops_receiving_until_he_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(on_asyncio, "NOTICES_MAX", 4)
    monkeypatch.setattr(blocking, "NOTICES_MAX", 4)

    async def play() -> None:
        async with on_asyncio.open_driver(fresh(), [UdpSocket(LOOPBACK)], persist=keep) as driver:
            stranger = UdpSocket(LOOPBACK)
            for _ in range(5):
                driver.notify(0, PathSuspect())
            async with asyncio.timeout(PATIENCE):
                stranger.send(driver.addresses[0], [b"noise"])
                while not driver._paused:  # noqa: ASYNC110  (nobody announces it)
                    await asyncio.sleep(0)
                for _ in range(3):
                    assert await driver.next_notice() == (0, PathSuspect())
            assert not driver._paused
            driver.notify(0, PathSuspect())
            driver.notify(0, PathSuspect())
            driver.notify(0, PathSuspect())
            async with asyncio.timeout(PATIENCE):
                stranger.send(driver.addresses[0], [b"noise"])
                while not driver._paused:  # noqa: ASYNC110  (it receives again)
                    await asyncio.sleep(0)
            stranger.close()

    asyncio.run(play())
    with blocking.Driver(fresh(), [UdpSocket(LOOPBACK)], persist=keep) as driver:
        for _ in range(5):
            driver.notify(0, PathSuspect())
        driver.run(3600)  # returns at once
        assert driver.next_notice() == (0, PathSuspect())


def test_waiting_for_a_notice_ends_in_time() -> None:
    driver = blocking.Driver(fresh(), [UdpSocket(LOOPBACK)], persist=keep)
    with pytest.raises(TimeoutError):
        driver.next_notice(timeout=0.02)
    driver.close()
    driver.close()
