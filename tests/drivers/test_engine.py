"""The crank: what happens when a socket blocks, a turn nests, a deadline comes."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, cast

import pytest

from clawchat.core.actions import (
    Action,
    DatagramArrived,
    Destroy,
    DestroyIdentity,
    Notice,
    Notify,
    Observed,
    Persist,
    Publish,
    Transmit,
)
from clawchat.core.actions import Withdraw as WithdrawAction
from clawchat.core.config import Config
from clawchat.core.credential import Address, Path
from clawchat.core.events import Consumed, DatagramReceived, Event, Ping
from clawchat.core.instant import SECOND, Deadline, Instant
from clawchat.core.secret import Secret
from clawchat.drivers import clock, engine
from clawchat.drivers.engine import BACKLOG_MAX, WAIT_SECONDS_MAX, Engine
from clawchat.drivers.sockets import UdpSocket

HERE, THERE = Address("127.0.0.1", 1), Address("192.0.2.1", 2)
PATH = Path(HERE, THERE)


class ScriptedEndpoint:
    """Gives out what a test puts in."""

    def __init__(self) -> None:
        self.todo: list[Action] = []
        self.handled: list[Event] = []
        self.advanced: list[Instant] = []
        self.deadline: Deadline | None = None
        self.each: list[Action] = []  # what every event leads to

    def may_be_ours(self, head: bytes) -> bool:
        return True

    @property
    def waiting(self) -> int:
        return len(self.todo)

    def handle(self, event: Event, now: Instant) -> None:
        self.handled.append(event)
        self.todo += self.each

    def advance(self, now: Instant) -> None:
        self.advanced.append(now)
        self.deadline = None

    def actions(self, now: Instant) -> list[Action]:
        todo, self.todo = self.todo, []
        return todo


class NarrowSocket:
    """Takes `room` datagrams, then blocks."""

    def __init__(self, room: int) -> None:
        self.address = HERE
        self.room = room
        self.sent: list[bytes] = []

    def send(self, remote: Address, datagrams: list[bytes]) -> int:
        assert remote == THERE
        taken = datagrams[: self.room]
        self.room -= len(taken)
        self.sent += taken
        return len(taken)

    def close(self) -> None:
        self.room = 0


class Listening:
    """A host that notes what it is told, and may act on it."""

    def __init__(self) -> None:
        self.told: list[tuple[int, Notice]] = []
        self.destroyed: list[Destroy | DestroyIdentity] = []
        self.listening: list[UdpSocket] = []  # besides those it began with
        self.engine: Engine | None = None

    def destroy(self, action: Destroy | DestroyIdentity) -> None:
        self.destroyed.append(action)

    def listen(self, sock: UdpSocket) -> None:
        self.listening.append(sock)

    def unlisten(self, sock: UdpSocket) -> None:
        self.listening.remove(sock)

    def notify(self, link: int, notice: Notice) -> None:
        self.told.append((link, notice))
        if self.engine is not None:  # as an application that answers at once
            self.engine.handle(Ping(link, 1))
            self.engine.turn()

    def persist(self, action: Persist) -> None:
        raise AssertionError(action)

    def publish(self, action: Publish | WithdrawAction) -> None:
        raise AssertionError(action)


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch) -> ScriptedEndpoint:
    scripted = ScriptedEndpoint()
    monkeypatch.setattr(engine, "Endpoint", lambda *_, **__: scripted)
    return scripted


def an_engine(sock: Any, host: Listening | None = None) -> Engine:
    return Engine(Config(identity=Secret(os.urandom(32))), [sock], host or Listening())


def numbered(count: int, start: int = 0) -> list[bytes]:
    return [b"%04d" % number for number in range(start, start + count)]


def test_what_a_blocked_socket_could_not_take_follows_in_order(core: ScriptedEndpoint) -> None:
    sock = NarrowSocket(room=3)
    turned = an_engine(sock)
    core.todo = [Transmit(PATH, numbered(5)), Transmit(PATH, numbered(5, 5))]
    turned.turn()
    assert sock.sent == numbered(3)
    sock.room = 4
    turned.resume(sock)  # type: ignore[arg-type]
    assert sock.sent == numbered(7)
    core.todo = [Transmit(PATH, numbered(2, 10))]
    turned.turn()
    assert sock.sent == numbered(7), "nothing overtakes what waits"
    sock.room = 100
    turned.resume(sock)  # type: ignore[arg-type]
    assert sock.sent == numbered(12)
    assert not turned.backlog


def test_a_socket_that_stays_blocked_fills_no_memory(core: ScriptedEndpoint) -> None:
    sock = NarrowSocket(room=0)
    turned = an_engine(sock)
    core.todo = [Transmit(PATH, [b"x"]) for _ in range(BACKLOG_MAX + 10)]
    turned.turn()
    (waiting,) = turned.backlog.values()
    assert len(waiting) == BACKLOG_MAX
    assert turned.overflowed == 10


def test_a_path_whose_socket_is_gone_loses_what_is_sent_on_it(core: ScriptedEndpoint) -> None:
    sock = NarrowSocket(room=9)
    turned = an_engine(sock)
    core.todo = [Transmit(Path(Address("127.0.0.1", 99), THERE), [b"x"])]
    turned.turn()
    assert not sock.sent


def test_what_tiny_frames_lead_to_is_done_before_more_is_received(core: ScriptedEndpoint) -> None:
    class FullSocket(NarrowSocket):
        def receive(self, wanted: Callable[[bytes], bool]) -> DatagramReceived:
            return DatagramReceived(PATH, b"full of tiny frames")

    host, sock = Listening(), FullSocket(0)
    core.each = [Notify(1, DatagramArrived(b""))] * (engine.ACTIONS_MAX // 2 + 1)
    assert an_engine(sock, host).receive(cast(UdpSocket, sock)), "there may be more"
    assert len(core.handled) == 2
    assert len(host.told) == 2 * len(core.each)


def test_an_answer_from_within_a_notice_belongs_to_the_same_turn(core: ScriptedEndpoint) -> None:
    host = Listening()
    sock = NarrowSocket(room=9)
    turned = host.engine = an_engine(sock, host)
    core.todo = [Notify(1, Observed(HERE)), Transmit(PATH, [b"x"])]
    turned.turn()
    assert core.handled == [Ping(1, 1)]
    assert sock.sent == [b"x"]


def test_timers_fire_when_they_are_due_and_not_before(
    core: ScriptedEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100 * SECOND
    monkeypatch.setattr(clock, "now", lambda: now)
    turned = an_engine(NarrowSocket(room=9))
    turned.turn()
    assert turned.wait_seconds() == WAIT_SECONDS_MAX
    core.deadline = Deadline(101 * SECOND, "ACK")
    turned.turn()
    assert turned.wait_seconds() == 1.0
    turned.turn()
    assert not core.advanced
    now = 102 * SECOND
    assert turned.wait_seconds() == 0.0
    turned.turn()
    assert core.advanced == [now]


def test_credit_waits_for_an_eighth_of_the_window(core: ScriptedEndpoint) -> None:
    turned = an_engine(NarrowSocket(room=9))
    step = turned.credit_step
    assert not turned.consumed(Consumed(1, 4, step - 1))
    assert turned.consumed(Consumed(1, 4, 1))
    turned.turn()
    assert not turned.consumed(Consumed(1, 4, 1))


def test_the_clock_goes_forward_in_nanoseconds() -> None:
    first = clock.now()
    assert isinstance(first, int)
    assert first <= clock.now() < first + SECOND


def test_an_endpoint_on_a_real_socket_is_silent_to_strangers() -> None:
    with_core, stranger = UdpSocket(Address("127.0.0.1", 0)), UdpSocket(Address("127.0.0.1", 0))
    turned = an_engine(with_core)
    for size in (0, 1, 29, 512, 1024, 9000):
        stranger.send(with_core.address, [os.urandom(size)])
    turned.receive(with_core)
    assert stranger.receive() is None
    turned.close()
    stranger.close()
