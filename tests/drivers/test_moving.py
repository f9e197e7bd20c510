"""Links that outlive their paths: sockets, clocks and the system's word, and a NAT that forgets."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path as FilePath
from socket import AF_INET, AF_INET6, SOCK_DGRAM, socket, socketpair

import pytest
import trio

import clawchat
from clawchat import Address, Peer, Store
from clawchat.core import roaming
from clawchat.core.actions import (
    Action,
    Closed,
    ClosePort,
    Established,
    HopPort,
    Notice,
    Notify,
    OpenPort,
    PathChanged,
    PathRestored,
    PathSuspect,
)
from clawchat.core.config import Config
from clawchat.core.credential import Path
from clawchat.core.events import (
    DatagramReceived,
    Disturbed,
    Event,
    PortOpened,
    PortRefused,
    PublishBootstrap,
)
from clawchat.core.instant import HOUR, MILLISECOND, SECOND, Deadline, Instant
from clawchat.core.secret import Secret
from clawchat.drivers import clock, engine, on_trio
from clawchat.drivers.engine import DISTURB_EVERY, LOOK_SECONDS_MAX, SETTLE, SOCKETS_MAX, Engine
from clawchat.drivers.network import open_watch
from clawchat.drivers.ports import MOVED_MAX
from clawchat.drivers.sockets import UdpSocket
from clawchat.errors import CloseCode, UnknownLink
from tests.drivers.test_engine import Listening, ScriptedEndpoint
from tests.drivers.test_trio import KEY, Place
from tests.waiting import PATIENCE

THERE = Address("127.0.0.1", 9)


class Machine:
    """An engine with a scripted core, a real socket and a clock that a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now: Instant = 100 * SECOND
        self.slept = 0
        self.core = ScriptedEndpoint()
        monkeypatch.setattr(engine, "Endpoint", lambda *_, **__: self.core)
        monkeypatch.setattr(clock, "now", lambda: self.now)
        monkeypatch.setattr(clock, "slept", lambda: self.slept)
        monkeypatch.setattr(self.core, "advance", self._advance)
        self.host = Listening()
        self.first = UdpSocket(Address("127.0.0.1", 0))
        self.engine = Engine(Config(identity=Secret(os.urandom(32))), [self.first], self.host)
        self.links(1)

    def _advance(self, now: Instant) -> None:
        self.core.handled.append(DatagramReceived(Path(THERE, THERE), b"a timer fired"))
        self.core.deadline = None

    def links(self, *links: int) -> None:
        path = Path(self.first.address, THERE)
        up = Established(b"k" * 32, b"f" * 16, 1, b"h" * 32, True, path)
        self.does(*(Notify(link, up) for link in links))

    def does(self, *actions: Action) -> None:
        """The core wants this."""
        self.core.todo = list(actions)
        self.engine.turn()

    def took(self) -> list[Event]:
        """What the core was told since the last time."""
        handled, self.core.handled = self.core.handled, []
        return handled


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def hops(machine: Machine) -> Address:
    """A link asks for another port; which one it is offered."""
    machine.does(HopPort(1, (THERE,)))
    (told,) = machine.took()
    assert isinstance(told, Disturbed)
    (path,) = told.paths
    assert path.remote == THERE
    return path.local


def test_a_lost_link_is_offered_a_port_that_is_listened_on(machine: Machine) -> None:
    local = hops(machine)
    assert local.host == machine.first.address.host
    assert local != machine.first.address
    assert [sock.address for sock in machine.host.listening] == [local]
    machine.engine.close()


def test_ports_are_bounded_and_the_one_in_use_stays(machine: Machine) -> None:
    used = hops(machine)
    machine.does(Notify(1, PathChanged(Path(used, THERE))))
    offered = [hops(machine) for _ in range(3 * SOCKETS_MAX)]
    addresses = set(machine.engine.sockets)
    assert len(addresses) == SOCKETS_MAX
    assert {machine.first.address, used, offered[-1]} < addresses
    assert {sock.address for sock in machine.host.listening} == addresses - {machine.first.address}
    machine.engine.close()


def wants(machine: Machine, port: int, link: int = 1) -> Event:
    """A link moves to a port; what it is told."""
    machine.does(OpenPort(link, Address("127.0.0.1", port)))
    (told,) = machine.took()
    return told


def free_port() -> int:
    sock = UdpSocket(Address("127.0.0.1", 0))
    sock.close()
    return sock.address.port


def goes(machine: Machine, local: Address, link: int = 1) -> None:
    """Data takes another socket, and the one before is left."""
    before = machine.first.address
    machine.does(Notify(link, PathChanged(Path(local, THERE))))
    machine.does(ClosePort(link, before))


def test_a_dialer_that_moved_closes_its_first_socket_and_keeps_the_new_one_in_its_place(
    machine: Machine,
) -> None:
    machine.host.listening.append(machine.first)
    opened = wants(machine, free_port())
    assert isinstance(opened, PortOpened)
    goes(machine, opened.local)
    assert machine.engine.addresses == tuple(machine.engine.sockets) == (opened.local,)
    assert machine.first.fileno() < 0
    machine.does(Notify(1, Closed(CloseCode.DONE, "", False)), ClosePort(1, opened.local))
    assert machine.engine.addresses == (opened.local,), "the next link needs it"
    machine.engine.close()


def test_a_listener_keeps_the_socket_that_credentials_name(machine: Machine) -> None:
    machine.engine.handle(PublishBootstrap((machine.first.address,)))
    machine.took()
    opened = wants(machine, free_port())
    assert isinstance(opened, PortOpened)
    goes(machine, opened.local)
    assert machine.engine.addresses == (machine.first.address,)
    assert set(machine.engine.sockets) == {machine.first.address, opened.local}
    machine.does(Notify(1, Closed(CloseCode.DONE, "", False)), ClosePort(1, opened.local))
    assert set(machine.engine.sockets) == {machine.first.address}
    assert machine.host.listening == []
    machine.engine.close()


def test_a_socket_that_another_link_sends_from_stays(machine: Machine) -> None:
    machine.links(1, 2)
    opened = wants(machine, free_port())
    assert isinstance(opened, PortOpened)
    goes(machine, opened.local)
    assert set(machine.engine.sockets) == {machine.first.address, opened.local}
    machine.engine.close()


def test_a_port_that_is_taken_is_refused(machine: Machine) -> None:
    port = machine.first.address.port
    assert wants(machine, port) == PortRefused(1, machine.first.address)
    machine.engine.close()


def test_sockets_to_which_links_moved_are_bounded(machine: Machine) -> None:
    told = [wants(machine, free_port(), link) for link in range(1, MOVED_MAX + 2)]
    assert [type(event) for event in told] == [PortOpened] * MOVED_MAX + [PortRefused]
    for event in told:
        assert isinstance(event, PortOpened | PortRefused)
        machine.does(ClosePort(event.link, event.local))
    assert set(machine.engine.sockets) == {machine.first.address}
    machine.engine.close()


def test_a_socket_for_a_link_that_has_just_ended_is_closed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(event: Event, now: Instant) -> None:
        raise UnknownLink("no link 1")

    monkeypatch.setattr(machine.core, "handle", ended)
    machine.does(OpenPort(1, Address("127.0.0.1", free_port())))
    assert set(machine.engine.sockets) == {machine.first.address}
    machine.engine.close()


def test_no_port_to_be_had_leaves_the_link_searching_on_what_there_is(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(address: Address) -> UdpSocket:
        raise OSError(24, "too many open files")

    monkeypatch.setattr(machine.engine, "_open_socket", refuse)
    machine.does(HopPort(1, (THERE, Address("::1", 9))))
    assert not machine.took()
    assert machine.engine.addresses == (machine.first.address,)
    machine.engine.close()


def test_after_sleep_every_link_is_probed_before_any_timer_may_judge_it(machine: Machine) -> None:
    machine.links(1, 2)
    machine.core.deadline = Deadline(machine.now + 90 * SECOND, "SILENCE")
    machine.engine.turn()
    machine.now += 8 * HOUR
    machine.slept += 8 * HOUR
    machine.engine.turn()
    took = machine.took()
    assert took[:2] == [Disturbed(1), Disturbed(2)]
    assert len(took) == 3, "and then the timers"
    machine.engine.close()


def test_being_late_is_not_sleep(machine: Machine) -> None:
    machine.now += 20 * SECOND
    machine.engine.turn()
    assert not machine.took()
    machine.engine.close()


def test_a_driver_with_links_looks_once_a_second_for_sleep(machine: Machine) -> None:
    assert machine.engine.wait_seconds() == LOOK_SECONDS_MAX
    machine.engine.close()


def test_a_change_of_network_probes_every_link_once_it_has_settled(machine: Machine) -> None:
    for _ in range(5):
        machine.engine.network_changed()
        machine.engine.turn()
        machine.now += 10 * MILLISECOND
    assert not machine.took()
    assert machine.engine.due - machine.now < SETTLE
    machine.now += SETTLE
    machine.engine.turn()
    assert machine.took()[0] == Disturbed(1)
    machine.engine.network_changed()
    machine.engine.turn()
    assert machine.engine.due == machine.now + DISTURB_EVERY, "a restless network costs little"
    machine.engine.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says when the network changes")
def test_the_systems_word_can_be_heard_or_done_without() -> None:
    watch = open_watch()
    if watch is not None:
        assert watch.fileno() >= 0
        watch.drain()
        watch.close()


# --- over real sockets ------------------------------------------------------------------------


class Nat:
    """Forwards datagrams to a listener, and shows the dialer under a port that may change."""

    def __init__(self, inside: Address) -> None:
        self._inside = (inside.host, inside.port)
        self._loopback = inside.host
        self._near = a_port(self._loopback)
        self._far = a_port(self._loopback)
        self._dialer: tuple[str, int] | None = None
        self._scope = trio.CancelScope()
        self.deaf = False  # loses everything

    async def run(self, task_status: trio.TaskStatus[Address]) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._outwards)
                nursery.start_soon(self._inwards)
                task_status.started(Address(*self._near.getsockname()[:2]))
        finally:
            self._near.close()
            self._far.close()

    def forget(self) -> None:
        """From now on another port; what comes to the old one is lost without a word."""
        old, self._far = self._far, a_port(self._loopback)
        self._scope.cancel()
        old.close()

    async def _outwards(self) -> None:
        while True:
            data, self._dialer = await self._near.recvfrom(65535)
            if not self.deaf:
                await self._far.sendto(data, self._inside)

    async def _inwards(self) -> None:
        while True:
            with trio.CancelScope() as self._scope, suppress(trio.ClosedResourceError):
                while True:
                    data, _ = await self._far.recvfrom(65535)
                    if self._dialer is not None and not self.deaf:
                        await self._near.sendto(data, self._dialer)


def a_port(loopback: str) -> trio.socket.SocketType:
    sock = socket(AF_INET6 if ":" in loopback else AF_INET, SOCK_DGRAM)
    sock.bind((loopback, 0))
    return trio.socket.from_stdlib_socket(sock)


@asynccontextmanager
async def behind_a_nat(
    folder: FilePath, serve: Callable[[Peer], Awaitable[None]]
) -> AsyncIterator[tuple[Peer, Nat]]:
    async with behind_nats(folder, serve, "127.0.0.1") as (peer, (nat,)):
        yield peer, nat


@asynccontextmanager
async def behind_nats(
    folder: FilePath, serve: Callable[[Peer], Awaitable[None]], *loopbacks: str
) -> AsyncIterator[tuple[Peer, list[Nat]]]:
    """A dialer that has one way for each of these to a listener on all of them."""
    place = Place(folder)
    host = loopbacks[0] if len(loopbacks) == 1 else ""
    with trio.fail_after(PATIENCE):
        async with place.serving(host, echo=False) as listener, trio.open_nursery() as nursery:

            async def answer() -> None:
                async for peer in listener:
                    nursery.start_soon(serve, peer)

            nursery.start_soon(answer)
            nats = [Nat(Address(loopback, listener.address.port)) for loopback in loopbacks]
            outside = [await nursery.start(nat.run) for nat in nats]
            await listener.publish()
            async with clawchat.connect(
                place.file, key=KEY, store=Store(folder / "dialer"), candidates=outside
            ) as peer:
                yield peer, nats
            nursery.cancel_scope.cancel()


TOKENS = 200
EVERY = 0.02


async def stream_tokens(peer: Peer) -> None:
    async for stream in peer:
        await stream.receive_some()
        for number in range(TOKENS):
            await stream.send_all(b"%04d " % number)
            await trio.sleep(EVERY)
        await stream.send_eof()


async def test_a_streamed_reply_survives_a_nat_that_forgets_whole_and_once(
    tmp_path: FilePath,
) -> None:
    async with behind_a_nat(tmp_path, stream_tokens) as (peer, nat):
        stream = await peer.open_stream()
        await stream.send_all(b"a question")
        reply, gap, last = b"", 0.0, trio.current_time()
        forgotten = False
        while data := await stream.receive_some():
            gap = max(gap, trio.current_time() - last)
            last = trio.current_time()
            reply += data
            if not forgotten and len(reply) > 5 * TOKENS // 4:
                forgotten = nat.deaf = True  # for a moment, so that what is in flight is lost
                nat.forget()
                await trio.sleep(5 * EVERY)
                nat.deaf = False
    assert reply == b"".join(b"%04d " % number for number in range(TOKENS))
    assert 5 * EVERY < gap < 20, "it was interrupted, and healed long before it was given up"


def has_ipv6() -> bool:
    with suppress(OSError), socket(AF_INET6, SOCK_DGRAM) as sock:
        sock.bind(("::1", 0))
        return True
    return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
async def test_a_streamed_reply_goes_from_one_family_to_the_other_and_back(
    tmp_path: FilePath,
) -> None:
    async with behind_nats(tmp_path, stream_tokens, "127.0.0.1", "::1") as (peer, (four, six)):
        stream = await peer.open_stream()
        await stream.send_all(b"a question")
        reply, used = b"", []

        async def read(tokens: int) -> None:
            nonlocal reply
            while len(reply) < 5 * tokens:
                reply += await stream.receive_some()

        for tokens in (TOKENS // 3, 2 * TOKENS // 3, TOKENS):
            await read(tokens)
            path = peer.stats().path
            assert path is not None
            is_six = ":" in path.remote.host
            used.append(is_six)
            six.deaf, four.deaf = is_six, not is_six
            peer.disturbed()
        assert await stream.receive_some() == b"", "and its end"
    assert reply == b"".join(b"%04d " % number for number in range(TOKENS))
    assert used in ([True, False, True], [False, True, False])


async def test_the_systems_word_heals_a_link_at_once(
    tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = socketpair()
    near.setblocking(False)

    class Told:
        def fileno(self) -> int:
            return near.fileno()

        def drain(self) -> None:
            near.recv(100)

        def close(self) -> None:
            near.close()

    words = [None, Told()]  # the listener hears nothing, the dialer opens its own after it
    monkeypatch.setattr(on_trio, "open_watch", lambda: words.pop(0))
    monkeypatch.setattr(roaming, "BUSY_QUIET", 3600 * SECOND)  # nothing else would heal it in time
    with near, far:
        async with behind_a_nat(tmp_path, stream_tokens) as (peer, nat):
            stream = await peer.open_stream()
            await stream.send_all(b"a question")
            reply = b""
            while len(reply) < 5 * TOKENS // 4:
                reply += await stream.receive_some()
            nat.deaf = True  # until the last acknowledgement is gone: who sends nothing more is
            nat.forget()  # not found under the new port
            await trio.sleep(5 * EVERY)
            nat.deaf = False
            far.send(b"the network changed")
            while len(reply) < 5 * TOKENS // 2:
                reply += await stream.receive_some()


async def test_an_application_sees_the_search_and_its_end_and_sending_waits_meanwhile(
    tmp_path: FilePath,
) -> None:
    async def take_all(peer: Peer) -> None:
        async for stream in peer:
            while await stream.receive_some():
                pass
            await stream.send_all(b"all")
            await stream.send_eof()

    async with behind_a_nat(tmp_path, take_all) as (peer, nat):
        seen: list[Notice] = []
        notices = peer.notices()
        stream = await peer.open_stream()
        await stream.send_all(b"x")
        nat.deaf = True
        while PathSuspect() not in seen:
            seen.append(await anext(notices))
        assert peer.stats().phase == "suspect"
        with trio.move_on_after(0.5) as waiting:
            await stream.send_all(bytes(1 << 20))
        assert waiting.cancelled_caught, "a bound of what may wait"
        nat.deaf = False
        peer.disturbed()
        while not any(isinstance(notice, PathRestored) for notice in seen):
            seen.append(await anext(notices))
        assert peer.stats().phase == "live"
        await peer.ping()
