"""One list of scenarios that every driver must play, and be told the same.

A scenario is an async function over a `Stage`: a dialer and a listener, each an `Actor`, which is
one endpoint under the driver in question. What an actor is told (its notices) is written into a
`Transcript` from which everything that depends on timing is taken out; the transcripts of all
drivers for one scenario must be equal, and equal to what the simulator gives.

To add a driver, write `tests/drivers/conformance_<driver>.py` with one `Adapter` called `ADAPTER`,
and name it in `test_conformance.py`. An adapter has a `name` and `play(scenario)`, which

1. makes two actors with fresh identities and `scenario.config(identity)` each,
2. runs `perform(scenario, Stage(dialer, listener))` to its end: under `trio.run`, `asyncio.run`,
   or, when none of its actor's coroutines ever really waits, with `finish`,
3. returns what that returned, and leaves nothing running.

An `Actor` needs six methods, see the class. Endpoints run on loopback or in a virtual network;
no scenario needs more than two seconds of real time, and none fails because it gets more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from hashlib import sha256
from typing import Any, Protocol, TypeAlias, TypeVar

from attrs import define, field, frozen

from clawchat.core.actions import (
    BootstrapContent,
    Closed,
    Compromised,
    CopyReported,
    CredentialReused,
    DatagramArrived,
    Established,
    KeysRotated,
    Notice,
    PathChanged,
    Ponged,
    PortRotated,
    StreamData,
    StreamDrained,
    StreamOpened,
    StreamReset,
    StreamStopped,
)
from clawchat.core.config import Config
from clawchat.core.credential import Address, Pairing, Path
from clawchat.core.crypto.schedule import derive_credential
from clawchat.core.events import (
    Close,
    Consumed,
    DeclareCompromised,
    Dial,
    Event,
    Ping,
    PublishBootstrap,
    Remember,
    ResetStream,
    RotatePort,
    SendDatagram,
    StopStream,
    StreamClass,
    Write,
    stream_id,
)
from clawchat.core.exchange import first_pairing
from clawchat.core.instant import SECOND
from clawchat.core.secret import Secret
from clawchat.errors import BufferFull, CloseCode, CompromiseReason
from tests.waiting import LOOK, PATIENCE

N = TypeVar("N")
Line: TypeAlias = tuple[object, ...]


class Actor(Protocol):
    """One endpoint under one driver."""

    @property
    def address(self) -> Address:
        """Where it is bound."""

    async def handle(self, event: Event) -> None:
        """Give the core an event and let the driver go on. Raises the core's `LocalError`."""

    async def next_notice(self, seconds: float) -> tuple[int, Notice]:
        """The next notice and its link. Raises `TimeoutError` when none comes in time."""

    async def published(self) -> BootstrapContent:
        """The content of the bootstrap file that was published last."""

    async def kept(self) -> list[Pairing]:
        """What it has made durable, when all that was asked for is done and the core knows."""

    async def crash(self) -> list[Pairing]:
        """End the process without a word to the peer; what it had made durable."""

    async def start(self) -> None:
        """A new process with the same identity and, on a listener, the same address.

        It has `PATIENCE` for each dialling: what a scenario shortens is for its first process.
        """


@define
class Player:
    """An actor and what it was told so far."""

    actor: Actor
    next_link: int = 0
    told: list[tuple[int, Notice]] = field(factory=list)
    _unread: list[tuple[int, Notice]] = field(factory=list)

    async def do(self, event: Event) -> None:
        await self.actor.handle(event)

    async def expect(
        self, kind: type[N], *, seconds: float = PATIENCE, **values: object
    ) -> tuple[int, N]:
        """Wait for a notice of this kind with these values; others are kept for later."""
        for place, (link, notice) in enumerate(self._unread):
            if isinstance(notice, kind) and _has(notice, values):
                del self._unread[place]
                return link, notice
        while True:
            link, notice = await self._read(seconds)
            if isinstance(notice, kind) and _has(notice, values):
                return link, notice
            self._unread.append((link, notice))

    async def keeps(self, *generations: int) -> None:
        """Wait until its disk holds one pairing, with these generations. Nobody is told of it."""
        found: list[tuple[int, ...]] = []
        for _ in range(int(PATIENCE / LOOK)):
            found = [
                tuple(credential.generation for credential in pairing.credentials)
                for pairing in await self.actor.kept()
            ]
            if found == [generations]:
                return
            with suppress(TimeoutError):
                self._unread.append(await self._read(LOOK))
        raise AssertionError(f"its disk holds {found}")

    async def _read(self, seconds: float) -> tuple[int, Notice]:
        link, notice = await self.actor.next_notice(seconds)
        self.told.append((link, notice))
        if isinstance(notice, StreamData) and notice.data:
            await self._consume(link, notice)
        return link, notice

    async def _consume(self, link: int, notice: StreamData) -> None:
        await self.actor.handle(Consumed(link, notice.stream, len(notice.data)))

    async def read_stream(self, link: int, stream: int) -> bytes:
        """All bytes of a stream, to its end."""
        parts = []
        while True:
            _, notice = await self.expect(StreamData, stream=stream)
            parts.append(bytes(notice.data))
            if notice.end:
                return b"".join(parts)

    async def write_all(self, link: int, stream: int, data: bytes) -> None:
        """Write and end a stream, waiting whenever the buffer is full."""
        at, piece = 0, 100_000
        while True:
            chunk = data[at : at + piece]
            end = at + piece >= len(data)
            try:
                await self.do(Write(link, stream, chunk, end))
            except BufferFull:
                await self.expect(StreamDrained, stream=stream)
                continue
            at += piece
            if end:
                return


def _has(notice: object, values: dict[str, object]) -> bool:
    return all(getattr(notice, name) == value for name, value in values.items())


@define
class Stage:
    """Who takes part."""

    dialer: Player
    listener: Player

    @staticmethod
    def of(dialer: Actor, listener: Actor) -> Stage:
        return Stage(Player(dialer), Player(listener))

    async def file(self) -> Pairing:
        """Let the listener publish a bootstrap file, and read it as the dialer would."""
        await self.listener.do(PublishBootstrap((self.listener.actor.address,)))
        return first_pairing(await self.listener.actor.published())

    async def dial(self, pairing: Pairing) -> int:
        """Begin a link; its id."""
        self.dialer.next_link += 1
        path = Path(self.dialer.actor.address, self.listener.actor.address)
        await self.dialer.do(Dial(self.dialer.next_link, pairing, (path,)))
        return self.dialer.next_link

    async def linked(self) -> tuple[int, int]:
        """A link from a fresh bootstrap file: its id at the dialer and at the listener."""
        return await self.link_with(await self.file())

    async def link_with(self, pairing: Pairing) -> tuple[int, int]:
        ours = await self.dial(pairing)
        await self.dialer.expect(Established)
        theirs, _ = await self.listener.expect(Established)
        return ours, theirs


Act: TypeAlias = Callable[[Stage], Awaitable[None]]


@frozen
class Scenario:
    """A scenario and the settings it needs (seconds)."""

    name: str
    act: Act
    dial_seconds: float = PATIENCE
    silence_seconds: float = 45.0

    def config(self, identity: bytes) -> Config:
        return Config(
            identity=Secret(identity),
            dial_ns_max=int(self.dial_seconds * SECOND),
            silence_ns_max=int(self.silence_seconds * SECOND),
        )


@frozen
class Transcript:
    """What both sides were told, without what depends on timing."""

    dialer: tuple[Line, ...]
    listener: tuple[Line, ...]


class Adapter(Protocol):
    """Plays scenarios on one driver."""

    name: str

    def play(self, scenario: Scenario) -> Transcript: ...


async def perform(scenario: Scenario, stage: Stage) -> Transcript:
    """Act, then write down what was told."""
    await scenario.act(stage)
    return Transcript(lines(stage.dialer.told), lines(stage.listener.told))


def finish(coroutine: Coroutine[Any, Any, N]) -> N:
    """Run a coroutine that never really waits to its end."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: N = stop.value
        return result
    raise AssertionError("it waited for an event loop, and there is none")


def lines(told: list[tuple[int, Notice]]) -> tuple[Line, ...]:
    """Sorted lines: stream data joined, hashes and addresses and times left out."""
    streams: dict[tuple[int, int], list[bytes]] = defaultdict(list)
    ended: set[tuple[int, int]] = set()
    found: list[Line] = []
    for link, notice in told:
        if isinstance(notice, StreamData):
            streams[link, notice.stream].append(bytes(notice.data))
            if notice.end:
                ended.add((link, notice.stream))
        else:
            line = _line(notice)
            if line is not None:
                found.append((link, *line))
    for (link, stream), parts in streams.items():
        data = b"".join(parts)
        digest = sha256(data).hexdigest()[:16]
        found.append((link, "data", stream, len(data), digest, (link, stream) in ended))
    return tuple(sorted(found, key=repr))


def _line(notice: Notice) -> Line | None:
    if isinstance(notice, Established):
        return ("established", notice.generation, notice.dialer)
    if isinstance(notice, StreamOpened):
        return ("opened", notice.stream)
    if isinstance(notice, StreamReset):
        return ("reset", notice.stream, notice.code)
    if isinstance(notice, StreamStopped):
        return ("stopped", notice.stream, notice.code)
    if isinstance(notice, DatagramArrived):
        return ("datagram", notice.data)
    if isinstance(notice, Ponged):
        return ("ponged", notice.token)
    if isinstance(notice, PortRotated):
        return ("port rotated",)
    if isinstance(notice, CredentialReused):
        return ("reused", notice.generation)
    if isinstance(notice, CopyReported):
        return ("copy reported", notice.generation, notice.same_device, notice.count)
    if isinstance(notice, Compromised):
        return ("compromised", notice.receipt.reason.name, notice.receipt.by_peer)
    if isinstance(notice, Closed):
        return ("closed", notice.code.name, notice.by_peer)
    # Drained and granted come as often as timing has it, keys rotate by themselves at the start,
    # and where we were seen is a matter of the network.
    return None


# --- the scenarios ----------------------------------------------------------------------------

FIRST = stream_id(1, StreamClass.INTERACTIVE, dialer=True)
SECOND_STREAM = stream_id(2, StreamClass.INTERACTIVE, dialer=True)
BULK = stream_id(1, StreamClass.BULK, dialer=True)
LISTENERS = stream_id(1, StreamClass.INTERACTIVE, dialer=False)
BIG = sha256(b"conformance").digest() * 20_000  # 640 kB


async def dial_and_close(stage: Stage) -> None:
    ours, _ = await stage.linked()
    await stage.dialer.do(Close(ours, CloseCode.DONE, "bye"))
    await stage.dialer.expect(Closed, code=CloseCode.DONE, by_peer=False)
    await stage.listener.expect(Closed, code=CloseCode.DONE, by_peer=True, reason="bye")


async def listener_closes(stage: Stage) -> None:
    _, theirs = await stage.linked()
    await stage.listener.do(Close(theirs, CloseCode.LIMIT, "too busy"))
    await stage.listener.expect(Closed, code=CloseCode.LIMIT, by_peer=False)
    await stage.dialer.expect(Closed, code=CloseCode.LIMIT, by_peer=True, reason="too busy")


async def echo(stage: Stage) -> None:
    ours, theirs = await stage.linked()
    await stage.dialer.do(Write(ours, FIRST, b"are you there?", end=True))
    await stage.listener.expect(StreamOpened, stream=FIRST)
    assert await stage.listener.read_stream(theirs, FIRST) == b"are you there?"
    await stage.listener.do(Write(theirs, FIRST, b"yes", end=True))
    assert await stage.dialer.read_stream(ours, FIRST) == b"yes"
    await stage.dialer.expect(StreamDrained, stream=FIRST, finished=True)


async def both_sides_speak_in_cells(stage: Stage) -> None:
    ours, theirs = await stage.linked()
    await stage.dialer.do(Write(ours, FIRST, bytes(3000), end=True, shaped=True))
    await stage.listener.expect(StreamOpened, stream=FIRST)
    assert await stage.listener.read_stream(theirs, FIRST) == bytes(3000)
    for word in (b"word ", b"by ", b"word"):
        await stage.listener.do(Write(theirs, FIRST, word, end=word == b"word", shaped=True))
    assert await stage.dialer.read_stream(ours, FIRST) == b"word by word"


async def listener_opens(stage: Stage) -> None:
    ours, theirs = await stage.linked()
    await stage.listener.do(Write(theirs, LISTENERS, b"news", end=True))
    await stage.dialer.expect(StreamOpened, stream=LISTENERS)
    assert await stage.dialer.read_stream(ours, LISTENERS) == b"news"


async def bulk_both_ways(stage: Stage) -> None:
    ours, theirs = await stage.linked()
    await stage.dialer.write_all(ours, BULK, BIG)
    assert await stage.listener.read_stream(theirs, BULK) == BIG
    await stage.listener.write_all(theirs, BULK, BIG[::-1])
    assert await stage.dialer.read_stream(ours, BULK) == BIG[::-1]


async def datagrams(stage: Stage) -> None:
    ours, theirs = await stage.linked()
    await stage.dialer.do(SendDatagram(ours, b"ping"))
    await stage.listener.expect(DatagramArrived, data=b"ping")
    await stage.listener.do(SendDatagram(theirs, b"pong"))
    await stage.dialer.expect(DatagramArrived, data=b"pong")


async def pings(stage: Stage) -> None:
    ours, theirs = await stage.linked()
    await stage.dialer.do(Ping(ours, 71))
    _, pong = await stage.dialer.expect(Ponged, token=71)
    assert 0 < pong.rtt_ns < PATIENCE * SECOND
    await stage.listener.do(Ping(theirs, 72))
    await stage.listener.expect(Ponged, token=72)


async def keys_rotate(stage: Stage) -> None:
    """Once by themselves after the start, once because each side asks; data goes on."""
    ours, theirs = await stage.linked()
    await stage.dialer.expect(KeysRotated, epoch=1)
    await stage.listener.expect(KeysRotated, epoch=1)
    await stage.dialer.do(Write(ours, FIRST, b"under the new keys", end=True))
    assert await stage.listener.read_stream(theirs, FIRST) == b"under the new keys"


async def a_stream_is_reset(stage: Stage) -> None:
    ours, _ = await stage.linked()
    await stage.dialer.do(Write(ours, FIRST, b"half a thou"))
    await stage.listener.expect(StreamData, stream=FIRST)
    await stage.dialer.do(ResetStream(ours, FIRST, 9))
    await stage.listener.expect(StreamReset, stream=FIRST, code=9)


async def a_stream_is_stopped(stage: Stage) -> None:
    ours, theirs = await stage.linked()
    await stage.dialer.do(Write(ours, FIRST, b"blah"))
    await stage.listener.expect(StreamData, stream=FIRST)
    await stage.listener.do(StopStream(theirs, FIRST, 5))
    await stage.dialer.expect(StreamStopped, stream=FIRST, code=5)


async def reconnect_with_the_next_generation(stage: Stage) -> None:
    pairing = await stage.file()
    await stage.link_with(pairing)
    await _settled(stage)
    kept = await stage.dialer.actor.crash()
    assert [pairing.file_id for pairing in kept] == [pairing.file_id]
    assert [credential.generation for credential in kept[0].credentials] == [1]
    await stage.dialer.actor.start()
    ours = await stage.dial(kept[0])
    _, established = await stage.dialer.expect(Established, generation=2)
    await stage.listener.expect(Closed, code=CloseCode.REPLACED)
    theirs, _ = await stage.listener.expect(Established, generation=2)
    assert established.peer_static == pairing.listener_static
    await stage.dialer.do(Write(ours, FIRST, b"me again", end=True))
    assert await stage.listener.read_stream(theirs, FIRST) == b"me again"


async def the_listener_restarts(stage: Stage) -> None:
    pairing = await stage.file()
    ours, _ = await stage.link_with(pairing)
    await _settled(stage)
    kept = await stage.listener.actor.crash()
    await stage.listener.actor.start()
    for known in kept:
        await stage.listener.do(Remember(known))
    await stage.dialer.do(Close(ours))
    await stage.dialer.expect(Closed)
    own = await stage.dialer.actor.crash()
    await stage.dialer.actor.start()
    await stage.link_with(own[0])


async def a_wrong_credential_gets_silence(stage: Stage) -> None:
    pairing = await stage.file()
    wrong = Pairing(
        file_id=pairing.file_id,
        dialer=True,
        listener_static=pairing.listener_static,
        peer_static=pairing.peer_static,
        credentials=(derive_credential(pairing.file_id, 0, b"not the secret of the file......"),),
    )
    await stage.dial(wrong)
    await stage.dialer.expect(Closed, code=CloseCode.TIMEOUT, by_peer=False)
    await stage.dialer.actor.crash()
    await stage.dialer.actor.start()
    await stage.link_with(pairing)


async def the_peer_vanishes(stage: Stage) -> None:
    ours, _ = await stage.linked()
    await _settled(stage)
    await stage.listener.actor.crash()
    await stage.dialer.do(Ping(ours, 1))
    await stage.dialer.expect(Closed, code=CloseCode.TIMEOUT, by_peer=False)


async def a_second_file_is_needed_for_a_second_device(stage: Stage) -> None:
    """A file that was redeemed is worth nothing to anybody else."""
    pairing = await stage.file()
    ours, _ = await stage.link_with(pairing)
    await _settled(stage)
    await stage.dialer.do(Close(ours))
    await stage.dialer.expect(Closed, code=CloseCode.DONE)
    await stage.listener.expect(Closed, code=CloseCode.DONE)
    await stage.dial(pairing)  # as somebody who copied the file would
    await stage.listener.expect(CredentialReused, generation=0)
    await stage.dialer.expect(Closed)


async def a_device_with_a_link_is_told_of_a_copy(stage: Stage) -> None:
    pairing = await stage.file()
    await stage.link_with(pairing)
    await _settled(stage)
    await stage.dial(pairing)  # as an old state of that device would
    await stage.dialer.expect(CopyReported, generation=0, same_device=True, count=1)
    await stage.dialer.expect(Closed, code=CloseCode.SUPERSEDED)
    await stage.listener.expect(CredentialReused, generation=0)


async def _settled(stage: Stage) -> None:
    """Both sides have given up the generation that they used, and their disks say so too."""
    for side in (stage.dialer, stage.listener):
        await side.expect(KeysRotated, epoch=1)
        await side.keeps(1)


async def ports_rotate(stage: Stage) -> None:
    ours, theirs = await stage.linked()
    for link, mover, peer in (
        (ours, stage.dialer, stage.listener),
        (theirs, stage.listener, stage.dialer),
    ):
        before = mover.actor.address
        await mover.do(RotatePort(link))
        _, moved = await mover.expect(PortRotated)
        assert moved.local.host == before.host
        assert moved.local != before
        change = PathChanged(Path(before, before))  # to begin with
        while change.path.remote.port != moved.local.port:
            _, change = await peer.expect(PathChanged)
        await peer.do(Ping(theirs if link == ours else ours, 1))
        await peer.expect(Ponged, token=1)
    await stage.dialer.write_all(ours, BULK, BIG)
    assert await stage.listener.read_stream(theirs, BULK) == BIG


async def a_device_declares_that_it_is_compromised(stage: Stage) -> None:
    await stage.linked()
    await _settled(stage)
    (pairing,) = [notice for _, notice in stage.dialer.told if isinstance(notice, Established)]
    await stage.dialer.do(DeclareCompromised(pairing.file_id, CompromiseReason.DEVICE_LOST))
    for side in (stage.dialer, stage.listener):
        _, notice = await side.expect(Compromised)
        assert notice.receipt.confirmed
        assert notice.receipt.kept.generations == (1,)
        assert notice.receipt.by_peer is (side is stage.listener)
        await side.expect(Closed, code=CloseCode.COMPROMISED)
    assert await stage.dialer.actor.crash() == []
    assert await stage.listener.actor.crash() == []


SCENARIOS = (
    Scenario("dial_and_close", dial_and_close),
    Scenario("listener_closes", listener_closes),
    Scenario("echo", echo),
    Scenario("both_sides_speak_in_cells", both_sides_speak_in_cells),
    Scenario("listener_opens", listener_opens),
    Scenario("bulk_both_ways", bulk_both_ways),
    Scenario("datagrams", datagrams),
    Scenario("pings", pings),
    Scenario("keys_rotate", keys_rotate),
    Scenario("ports_rotate", ports_rotate),
    Scenario("a_stream_is_reset", a_stream_is_reset),
    Scenario("a_stream_is_stopped", a_stream_is_stopped),
    Scenario("reconnect_with_the_next_generation", reconnect_with_the_next_generation),
    Scenario("the_listener_restarts", the_listener_restarts),
    Scenario("a_wrong_credential_gets_silence", a_wrong_credential_gets_silence, dial_seconds=1),
    Scenario("a_device_declares_that_it_is_compromised", a_device_declares_that_it_is_compromised),
    Scenario("the_peer_vanishes", the_peer_vanishes, silence_seconds=1),
    Scenario(
        "a_second_file_is_needed_for_a_second_device",
        a_second_file_is_needed_for_a_second_device,
    ),
    Scenario("a_device_with_a_link_is_told_of_a_copy", a_device_with_a_link_is_told_of_a_copy),
)
