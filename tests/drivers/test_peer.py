"""Peers and streams against a scripted core: no sockets, no clock."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
import trio.testing

from clawchat.core.actions import (
    Closed,
    CopyReported,
    CredentialReused,
    DatagramArrived,
    Established,
    Kept,
    KeysRotated,
    LinkStats,
    Notice,
    Observed,
    PathChanged,
    Ponged,
    PortKept,
    PortRotated,
    Receipt,
    StreamData,
    StreamDrained,
    StreamOpened,
    StreamReset,
    StreamsGranted,
    StreamStopped,
)
from clawchat.core.credential import Address, Path
from clawchat.core.events import (
    Close,
    Consumed,
    DeclareCompromised,
    Event,
    Ping,
    ResetStream,
    RotateKeys,
    RotatePort,
    SendDatagram,
    StopStream,
    StreamClass,
    Write,
    stream_id,
)
from clawchat.drivers.feed import KEPT
from clawchat.drivers.peer import DATAGRAMS_KEPT, REPORTS_KEPT, Peer, fingerprint
from clawchat.drivers.stream import (
    CODE_CANCELLED,
    CODE_CLOSED,
    UNACKNOWLEDGED_MAX,
    UNACKNOWLEDGED_MAX_BULK,
)
from clawchat.errors import (
    BufferFull,
    CloseCode,
    CompromiseReason,
    LinkClosed,
    LocalError,
    StoreError,
    StreamLimit,
    UnknownLink,
    UnknownStream,
)

PATH = Path(Address("127.0.0.1", 1), Address("127.0.0.1", 2))
UP = Established(b"k" * 32, b"f" * 16, 3, b"h" * 32, True, PATH)


class Script:
    """A core that notes what it is told; `refuse` makes it say no."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.refuse: Callable[[Event], LocalError | None] = lambda event: None

    def handle(self, event: Event) -> None:
        error = self.refuse(event)
        if error is not None:
            raise error
        self.events.append(event)

    def link_stats(self, link: int) -> LinkStats:
        return LinkStats("live", 0, 3, PATH, 1, 1, 1200, 1, 0, 0, 0, 0, 0)

    async def declare_compromised(self, event: DeclareCompromised) -> tuple[Receipt, ...]:
        self.handle(event)
        return tuple(
            Receipt(file_id, event.reason, event.everything, False, True, True, Kept())
            for file_id in (b"other file id...", event.file_id)
        )

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    def written(self, stream: int) -> bytes:
        return b"".join(
            bytes(event.data)
            for event in self.events
            if isinstance(event, Write) and event.stream == stream
        )


@pytest.fixture
def core() -> Script:
    return Script()


@pytest.fixture
def peer(core: Script) -> Peer:
    peer = Peer(core, 1, dialer=True)
    peer.arrived(UP)
    return peer


def over(peer: Peer, code: CloseCode = CloseCode.DONE, *, by_peer: bool = True) -> None:
    peer.arrived(Closed(code, "", by_peer))


async def settled() -> None:
    await trio.testing.wait_all_tasks_blocked()


async def test_declaring_gives_the_receipt_of_this_very_link(core: Script, peer: Peer) -> None:
    receipt = await peer.declare_compromised(CompromiseReason.DEVICE_LOST, everything=False)
    assert receipt.file_id == peer.file_id
    (event,) = core.of(DeclareCompromised)
    assert event == DeclareCompromised(peer.file_id, CompromiseReason.DEVICE_LOST, everything=False)


# --- who it is ----------------------------------------------------------------------------------


async def test_a_peer_tells_who_it_is_once_the_handshake_proved_it(core: Script) -> None:
    peer = Peer(core, 1, dialer=True)
    assert repr(peer) == "<Peer link=1 not established>"
    with pytest.raises(LocalError):
        _ = peer.peer_static
    peer.arrived(UP)
    peer.arrived(Observed(Address("192.0.2.9", 77)))
    assert (peer.peer_static, peer.file_id, peer.generation) == (b"k" * 32, b"f" * 16, 3)
    assert peer.handshake_hash == b"h" * 32
    assert peer.remote == PATH.remote
    assert peer.observed == ("192.0.2.9", 77)
    assert peer.fingerprint == fingerprint(b"k" * 32)
    over(peer)
    assert peer.remote == PATH.remote
    assert "DONE" in repr(peer)


def test_a_fingerprint_is_sixteen_hex_digits_in_fours() -> None:
    # SHA-256 of 32 zero bytes, as every other tool computes it.
    assert fingerprint(bytes(32)) == "6668 7aad f862 bd77"


async def test_a_store_that_fails_is_what_the_waiting_user_sees(core: Script) -> None:
    peer = Peer(core, 1, dialer=True)
    peer.store_error = StoreError("the disk is full")
    over(peer, CloseCode.STORE, by_peer=False)
    with pytest.raises(StoreError, match="full"):
        await peer.wait_established()


async def test_a_refused_dial_raises_the_reason(core: Script) -> None:
    peer = Peer(core, 1, dialer=True)
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(LinkClosed) as caught:
                await peer.wait_established()
            assert caught.value.code == CloseCode.REVOKED
            assert caught.value.by_peer

        nursery.start_soon(wait)
        await settled()
        over(peer, CloseCode.REVOKED)


# --- sending ------------------------------------------------------------------------------------


async def test_streams_are_numbered_and_classed_as_the_wire_wants(core: Script) -> None:
    dialer, listener = Peer(core, 1, dialer=True), Peer(core, -1, dialer=False)
    opened = [
        await dialer.open_stream(),
        await dialer.open_stream(bulk=True),
        await listener.open_stream(),
        await listener.open_stream(bulk=True),
    ]
    assert [stream.id for stream in opened] == [0b100, 0b1010, 0b101, 0b1011]
    assert [stream.bulk for stream in opened] == [False, True, False, True]
    assert not core.events, "the first bytes open a stream, not its name"


async def test_sent_bytes_reach_the_core_in_order(core: Script, peer: Peer) -> None:
    stream = await peer.open_stream()
    await stream.send_all(b"one ")
    await stream.send_all(bytearray(b"two "))
    await stream.send_all(memoryview(b"three"))
    await stream.send_all(b"")
    await stream.send_eof()
    await stream.send_eof()
    assert core.written(stream.id) == b"one two three"
    assert core.events[-1] == Write(1, stream.id, b"", end=True)
    assert len([event for event in core.of(Write) if event.end]) == 1  # type: ignore[union-attr]
    with pytest.raises(trio.ClosedResourceError):
        await stream.send_all(b"more")


async def test_a_stream_leaves_in_cells_from_when_it_is_asked_to(core: Script, peer: Peer) -> None:
    shaped, later = await peer.open_stream(shaped=True), await peer.open_stream()
    await shaped.send_all(b"one")
    await later.send_all(b"two")
    later.shape()
    await later.send_eof()
    assert [event.shaped for event in core.of(Write)] == [True, False, True]  # type: ignore[union-attr]


async def test_who_streams_in_silence_learns_that_nobody_listens(
    core: Script, peer: Peer, nursery: trio.Nursery
) -> None:
    stream = await peer.open_stream()
    await stream.send_all(b"one")
    told = trio.Event()

    async def wait() -> None:
        await stream.wait_unwanted()
        told.set()

    nursery.start_soon(wait)
    await settled()
    assert not told.is_set()
    stream.arrived(StreamStopped(stream.id, 1))
    await settled()
    assert told.is_set()


async def test_a_buffer_may_be_reused_after_send_all(core: Script, peer: Peer) -> None:
    stream = await peer.open_stream()
    data = bytearray(b"before")
    await stream.send_all(data)
    data[:] = b"after!"
    assert core.written(stream.id) == b"before"


@pytest.mark.parametrize(
    ("bulk", "bound"), [(False, UNACKNOWLEDGED_MAX), (True, UNACKNOWLEDGED_MAX_BULK)]
)
async def test_send_all_waits_while_too_much_is_unacknowledged(
    core: Script, peer: Peer, bulk: bool, bound: int, nursery: trio.Nursery
) -> None:
    stream = await peer.open_stream(bulk=bulk)
    data = bytes(range(256)) * (3 * bound // 256)
    done = trio.Event()

    async def send() -> None:
        await stream.send_all(data)
        done.set()

    nursery.start_soon(send)
    for _ in range(200):
        await settled()
        sent = len(core.written(stream.id))
        if done.is_set():
            break
        stream.arrived(StreamDrained(stream.id, bound // 2, False))
        assert sent <= len(data)
        assert not done.is_set() or sent == len(data)
    assert core.written(stream.id) == data
    assert done.is_set()


async def test_send_all_holds_at_the_bound(core: Script, peer: Peer, nursery: trio.Nursery) -> None:
    stream = await peer.open_stream()
    nursery.start_soon(stream.send_all, bytes(2 * UNACKNOWLEDGED_MAX))
    await settled()
    assert len(core.written(stream.id)) == UNACKNOWLEDGED_MAX
    stream.arrived(StreamDrained(stream.id, UNACKNOWLEDGED_MAX - 1000, False))
    await settled()
    assert len(core.written(stream.id)) == UNACKNOWLEDGED_MAX + 1000
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("error", [BufferFull("full"), StreamLimit("no grant")])
async def test_send_all_waits_while_the_core_has_no_room(
    core: Script, peer: Peer, error: LocalError, nursery: trio.Nursery
) -> None:
    core.refuse = lambda event: error
    stream = await peer.open_stream()
    nursery.start_soon(stream.send_all, b"patience")
    await settled()
    assert not core.events
    core.refuse = lambda event: None
    peer.arrived(StreamsGranted(300))
    await settled()
    assert core.written(stream.id) == b"patience"


async def test_one_direction_has_one_task_at_a_time(
    core: Script, peer: Peer, nursery: trio.Nursery
) -> None:
    stream = await peer.open_stream()
    nursery.start_soon(stream.send_all, bytes(UNACKNOWLEDGED_MAX + 1))
    nursery.start_soon(stream.receive_some)
    await settled()
    with pytest.raises(trio.BusyResourceError):
        await stream.send_all(b"x")
    with pytest.raises(trio.BusyResourceError):
        await stream.send_eof()
    with pytest.raises(trio.BusyResourceError):
        await stream.receive_some()
    nursery.cancel_scope.cancel()


async def test_waiting_for_room_sends_nothing(
    core: Script, peer: Peer, nursery: trio.Nursery
) -> None:
    stream = await peer.open_stream()
    await stream.wait_send_all_might_not_block()
    await stream.send_all(bytes(UNACKNOWLEDGED_MAX))
    ready = trio.Event()

    async def wait() -> None:
        await stream.wait_send_all_might_not_block()
        ready.set()

    nursery.start_soon(wait)
    await settled()
    assert not ready.is_set()
    stream.arrived(StreamDrained(stream.id, 10, False))
    await settled()
    assert ready.is_set()
    assert len(core.written(stream.id)) == UNACKNOWLEDGED_MAX


async def test_sending_fails_when_the_peer_wants_no_more(core: Script, peer: Peer) -> None:
    stream = await peer.open_stream()
    await stream.send_all(b"x")
    peer.arrived(StreamStopped(stream.id, 9))
    with pytest.raises(trio.BrokenResourceError, match="code 9"):
        await stream.send_all(b"y")
    assert stream.stop_code == 9
    with pytest.raises(trio.BrokenResourceError):
        await stream.wait_delivered()


async def test_a_sender_learns_at_once_that_the_link_is_gone(
    core: Script, peer: Peer, nursery: trio.Nursery
) -> None:
    stream = await peer.open_stream()

    async def send() -> None:
        with pytest.raises(trio.BrokenResourceError) as caught:
            await stream.send_all(bytes(UNACKNOWLEDGED_MAX * 2))
        assert isinstance(caught.value.__cause__, LinkClosed)
        assert caught.value.__cause__.code == CloseCode.TIMEOUT

    nursery.start_soon(send)
    await settled()
    over(peer, CloseCode.TIMEOUT, by_peer=False)
    await settled()
    assert not nursery.child_tasks


@pytest.mark.parametrize("error", [UnknownLink("gone"), UnknownStream("gone")])
async def test_a_stream_the_core_no_longer_knows_is_broken(
    core: Script, peer: Peer, error: LocalError
) -> None:
    stream = await peer.open_stream()
    core.refuse = lambda event: error
    with pytest.raises(trio.BrokenResourceError):
        await stream.send_all(b"x")
    await stream.aclose()


async def test_delivery_can_be_waited_for(core: Script, peer: Peer, nursery: trio.Nursery) -> None:
    stream = await peer.open_stream()
    await stream.send_all(b"x")
    await stream.send_eof()
    nursery.start_soon(stream.wait_delivered)
    await settled()
    peer.arrived(StreamDrained(stream.id, 0, False))
    await settled()
    assert nursery.child_tasks
    peer.arrived(StreamDrained(stream.id, 0, True))
    await settled()
    assert not nursery.child_tasks


# --- receiving ----------------------------------------------------------------------------------


async def test_the_window_opens_only_as_the_application_takes_bytes(
    core: Script, peer: Peer
) -> None:
    peer.arrived(StreamOpened(5))
    peer.arrived(StreamData(5, b"hello ", False))
    peer.arrived(StreamData(5, b"world", True))
    stream = await peer.accept_stream()
    assert not core.of(Consumed)
    assert await stream.receive_some(4) == b"hell"
    assert await stream.receive_some(5) == b"o wor"
    assert await stream.receive_some() == b"ld"
    assert await stream.receive_some() == b""
    assert await stream.receive_some() == b""
    assert core.of(Consumed) == [Consumed(1, 5, 4), Consumed(1, 5, 5), Consumed(1, 5, 2)]


async def test_everything_waiting_comes_at_once_without_a_limit(peer: Peer) -> None:
    peer.arrived(StreamOpened(5))
    for part in (b"a", memoryview(b"bc"), bytearray(b"d")):
        peer.arrived(StreamData(5, part, False))
    stream = await peer.accept_stream()
    assert await stream.receive_some() == b"abcd"
    with pytest.raises(ValueError, match="max_bytes"):
        await stream.receive_some(0)


async def test_bytes_that_come_one_by_one_do_not_cost_many_times_their_size(peer: Peer) -> None:
    peer.arrived(StreamOpened(5))
    sent = bytes(number % 251 for number in range(20_000))
    for at in range(0, len(sent), 2):
        peer.arrived(StreamData(5, sent[at : at + 2], False))
    stream = await peer.accept_stream()
    assert len(stream._chunks) < 10
    assert await stream.receive_some(3) == sent[:3]
    peer.arrived(StreamData(5, b"more", True))
    assert await stream.receive_some() == sent[3:] + b"more"


async def test_streams_given_up_before_anybody_accepted_them_are_forgotten(peer: Peer) -> None:
    for number in range(1000):
        stream = stream_id(1 + number, StreamClass.BULK, dialer=not peer.dialer)
        peer.arrived(StreamOpened(stream))
        peer.arrived(StreamReset(stream, 1))
        peer.arrived(StreamStopped(stream, 1))
    last = stream_id(2000, StreamClass.BULK, dialer=not peer.dialer)
    peer.arrived(StreamOpened(last))
    peer.arrived(StreamData(last, b"a message", True))
    peer.arrived(StreamStopped(last, 1))
    assert not peer._streams
    accepted = await peer.accept_stream()
    assert accepted.id == last
    assert await accepted.receive_some() == b"a message"
    assert not peer._accepted


async def test_a_receiver_is_woken_by_data_reset_and_the_end_of_the_link(
    core: Script, peer: Peer, nursery: trio.Nursery
) -> None:
    causes: list[Callable[[int], None]] = [
        lambda stream: peer.arrived(StreamData(stream, b"x", False)),
        lambda stream: peer.arrived(StreamReset(stream, 7)),
        lambda stream: over(peer),
    ]
    for number, happens in enumerate(causes):
        stream = await peer.open_stream()
        outcome: list[object] = []

        async def receive(stream: trio.abc.ReceiveStream, outcome: list[object]) -> None:
            try:
                outcome.append(await stream.receive_some())
            except trio.BrokenResourceError as error:
                outcome.append(error)

        nursery.start_soon(receive, stream, outcome)
        await settled()
        assert not outcome
        happens(stream.id)
        await settled()
        assert len(outcome) == 1
        assert (outcome[0] == b"x") is (number == 0)
        assert (stream.reset_code == 7) is (number == 1)


async def test_what_arrived_before_the_link_ended_can_still_be_read(
    core: Script, peer: Peer
) -> None:
    peer.arrived(StreamOpened(5))
    peer.arrived(StreamData(5, b"last words", False))
    peer.arrived(StreamOpened(9))
    peer.arrived(StreamData(9, b"all", True))
    over(peer)
    cut, whole = await peer.accept_stream(), await peer.accept_stream()
    assert await cut.receive_some() == b"last words"
    with pytest.raises(trio.BrokenResourceError, match="done"):
        await cut.receive_some()
    assert await whole.receive_some() == b"all"
    assert await whole.receive_some() == b""
    assert not core.of(Consumed), "there is no window any more"


async def test_bytes_of_a_reset_stream_are_discarded_but_credited(core: Script, peer: Peer) -> None:
    peer.arrived(StreamOpened(5))
    peer.arrived(StreamData(5, b"half", False))
    peer.arrived(StreamReset(5, 3))
    stream = await peer.accept_stream()
    with pytest.raises(trio.BrokenResourceError, match="code 3"):
        await stream.receive_some()
    assert core.of(Consumed) == [Consumed(1, 5, 4)]


# --- closing streams ----------------------------------------------------------------------------


async def test_closing_ends_what_we_send_and_refuses_what_comes(core: Script, peer: Peer) -> None:
    stream = await peer.open_stream()
    await stream.send_all(b"x")
    peer.arrived(StreamData(stream.id, b"unread", False))
    await stream.aclose()
    await stream.aclose()
    assert core.events[1:] == [
        Write(1, stream.id, b"", end=True),
        Consumed(1, stream.id, 6),
        StopStream(1, stream.id, CODE_CLOSED),
    ]
    peer.arrived(StreamData(stream.id, b"late", False))
    assert core.events[-1] == Consumed(1, stream.id, 4)
    for attempt in (stream.send_all(b"x"), stream.receive_some()):
        with pytest.raises(trio.ClosedResourceError):
            await attempt


async def test_closing_a_finished_stream_says_nothing_more(core: Script, peer: Peer) -> None:
    stream = await peer.open_stream()
    await stream.send_all(b"question")
    await stream.send_eof()
    peer.arrived(StreamData(stream.id, b"answer", True))
    await stream.receive_some()
    said = list(core.events)
    await stream.aclose()
    assert core.events == said


async def test_a_cancelled_send_resets_the_stream_on_close(core: Script, peer: Peer) -> None:
    stream = await peer.open_stream()
    with trio.move_on_after(0.01):
        await stream.send_all(bytes(UNACKNOWLEDGED_MAX + 1))
    await stream.aclose()
    assert ResetStream(1, stream.id, CODE_CANCELLED) in core.events
    assert not any(event.end for event in core.of(Write))  # type: ignore[union-attr]


async def test_a_stream_can_be_reset_with_a_code(core: Script, peer: Peer) -> None:
    stream = await peer.open_stream()
    await stream.send_all(b"x")
    await stream.reset(42)
    assert core.events[1:] == [ResetStream(1, stream.id, 42), StopStream(1, stream.id, 42)]


async def test_closing_wakes_the_other_tasks_of_a_stream(
    core: Script, peer: Peer, nursery: trio.Nursery
) -> None:
    stream = await peer.open_stream()

    async def broken(attempt: Callable[[], object]) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await attempt()  # type: ignore[misc]

    nursery.start_soon(broken, lambda: stream.send_all(bytes(UNACKNOWLEDGED_MAX + 1)))
    nursery.start_soon(broken, stream.receive_some)
    await settled()
    await stream.aclose()
    await settled()
    assert not nursery.child_tasks


async def test_closing_after_the_link_ended_is_quiet(core: Script, peer: Peer) -> None:
    stream = await peer.open_stream()
    await stream.send_all(b"x")
    over(peer)
    said = list(core.events)
    await stream.aclose()
    assert core.events == said


async def test_finished_streams_are_forgotten(core: Script, peer: Peer) -> None:
    for _ in range(3):
        stream = await peer.open_stream()
        await stream.send_all(b"q")
        await stream.send_eof()
        peer.arrived(StreamData(stream.id, b"a", True))
        peer.arrived(StreamDrained(stream.id, 0, True))
        await stream.aclose()
        stopped = await peer.open_stream()
        await stopped.reset()
    assert not peer._streams


# --- the link -----------------------------------------------------------------------------------


async def test_accepting_ends_with_the_link(
    core: Script, peer: Peer, nursery: trio.Nursery
) -> None:
    seen: list[int] = []

    async def accept() -> None:
        seen.extend([stream.id async for stream in peer])
        with pytest.raises(trio.BrokenResourceError):
            await peer.accept_stream()

    nursery.start_soon(accept)
    peer.arrived(StreamOpened(5))
    await settled()
    peer.arrived(StreamOpened(9))
    await settled()
    over(peer)
    await settled()
    assert seen == [5, 9]
    assert not nursery.child_tasks


async def test_datagrams_come_newest_first_to_survive(core: Script, peer: Peer) -> None:
    await peer.send_datagram(b"out")
    assert core.events == [SendDatagram(1, b"out")]
    for number in range(DATAGRAMS_KEPT + 2):
        peer.arrived(DatagramArrived(b"%d" % number))
    assert await peer.receive_datagram() == b"2"
    over(peer)
    assert await peer.receive_datagram() == b"3"
    with pytest.raises(trio.BrokenResourceError):
        await peer.send_datagram(b"x")


async def test_pings_are_told_apart(core: Script, peer: Peer, nursery: trio.Nursery) -> None:
    answers: dict[str, float] = {}

    async def ping(name: str) -> None:
        answers[name] = await peer.ping()

    nursery.start_soon(ping, "one")
    await settled()
    nursery.start_soon(ping, "two")
    await settled()
    one, two = core.of(Ping)
    assert isinstance(one, Ping)
    assert isinstance(two, Ping)
    peer.arrived(Ponged(two.token, 2_000_000))
    peer.arrived(Ponged(one.token, 1_000_000))
    peer.arrived(Ponged(999, 5))
    await settled()
    assert answers == {"one": 0.001, "two": 0.002}


async def test_waiting_ends_when_the_link_does(
    core: Script, peer: Peer, nursery: trio.Nursery
) -> None:
    async def broken(attempt: Callable[[], object]) -> None:
        with pytest.raises(trio.BrokenResourceError):
            await attempt()  # type: ignore[misc]

    waiting = peer.ping, peer.rotate_keys, peer.rotate_port, peer.receive_datagram
    for attempt in (*waiting, peer.accept_stream):
        nursery.start_soon(broken, attempt)
    await settled()
    assert len(nursery.child_tasks) == 5
    over(peer)
    await settled()
    assert not nursery.child_tasks
    for attempt in (peer.ping, peer.rotate_keys, peer.rotate_port, peer.open_stream):
        await broken(attempt)


async def test_rotating_keys_returns_the_new_epoch(
    core: Script, peer: Peer, nursery: trio.Nursery
) -> None:
    epochs: list[int] = []
    peer.arrived(KeysRotated(1, 5))

    async def rotate() -> None:
        epochs.append(await peer.rotate_keys())

    nursery.start_soon(rotate)
    await settled()
    assert core.events == [RotateKeys(1)]
    peer.arrived(KeysRotated(2, 5))
    await settled()
    assert epochs == [2]


@pytest.mark.parametrize("outcome", [PortRotated(Address("0.0.0.0", 50_000), 5), PortKept("a NAT")])
async def test_rotating_the_port_returns_what_came_of_it(
    core: Script, peer: Peer, nursery: trio.Nursery, outcome: PortRotated | PortKept
) -> None:
    outcomes: list[PortRotated | PortKept] = []

    async def rotate() -> None:
        outcomes.append(await peer.rotate_port())

    nursery.start_soon(rotate)
    await settled()
    assert core.events == [RotatePort(1)]
    peer.arrived(PathChanged(PATH))
    peer.arrived(outcome)
    await settled()
    assert outcomes == [outcome]


async def test_every_reader_gets_every_notice_and_the_end(
    core: Script, peer: Peer, nursery: trio.Nursery
) -> None:
    told: list[list[Notice]] = [[], []]

    async def read(into: list[Notice]) -> None:
        into.extend([notice async for notice in peer.notices()])

    for into in told:
        nursery.start_soon(read, into)
    await settled()
    said: list[Notice] = [
        Observed(Address("192.0.2.1", 5)),
        KeysRotated(1, 1),
        CredentialReused(b"f" * 16, 1, PATH, b"s" * 32, same_device=True),
        CopyReported(1, PATH.remote, same_device=True, count=1, ago_ns=0),
        Closed(CloseCode.DONE, "", True),
    ]
    for notice in said:
        peer.arrived(notice)
    await settled()
    assert told == [said, said]
    late: list[Notice] = []
    await read(late)
    assert late == said[-1:]


async def test_reports_of_copies_wait_for_who_shows_them_and_a_flood_of_them_is_bounded(
    peer: Peer,
) -> None:
    for generation in range(REPORTS_KEPT + 5):
        peer.arrived(CopyReported(generation, PATH.remote, False, 1, 0))
    peer.arrived(Closed(CloseCode.DONE, "", True))
    assert [report.generation for report in peer.reports] == [*range(5, REPORTS_KEPT + 5)]


async def test_a_reader_that_went_away_is_forgotten(peer: Peer) -> None:
    reader = peer.notices()
    del reader
    peer.arrived(KeysRotated(1, 1))
    assert not peer._feed._readers


async def test_a_slow_reader_loses_the_oldest_notices(peer: Peer) -> None:
    reader = peer.notices()
    for epoch in range(KEPT + 5):
        peer.arrived(KeysRotated(epoch, 1))
    assert await anext(reader) == KeysRotated(5, 1)


async def test_closing_tells_the_core_once(core: Script, peer: Peer) -> None:
    await peer.aclose(CloseCode.DONE, "good night")
    assert core.events == [Close(1, CloseCode.DONE, "good night")]
    over(peer, by_peer=False)
    await peer.aclose()
    assert core.of(Close) == [Close(1, CloseCode.DONE, "good night")]
    assert (await peer.wait_closed()).code == CloseCode.DONE


async def test_closing_a_link_that_ended_in_this_turn_is_harmless(core: Script, peer: Peer) -> None:
    core.refuse = lambda event: UnknownLink("over")
    await peer.aclose()


async def test_a_clean_exit_waits_for_ended_streams_but_not_for_ever(
    core: Script, peer: Peer, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    peer.arrived(DatagramArrived(b"the peer is there"))
    ended, open_ = await peer.open_stream(), await peer.open_stream()
    await ended.send_all(b"x")
    await ended.send_eof()
    await open_.send_all(b"x")
    began = trio.current_time()
    await peer.drain()
    assert trio.current_time() - began == pytest.approx(2.0)

    async def acknowledge() -> None:
        await trio.sleep(0.1)
        peer.arrived(StreamDrained(ended.id, 0, True))

    began = trio.current_time()
    nursery.start_soon(acknowledge)
    await peer.drain()
    assert trio.current_time() - began == pytest.approx(0.1)


async def test_a_stream_that_was_never_used_is_never_heard_of(core: Script, peer: Peer) -> None:
    await (await peer.open_stream()).aclose()
    await (await peer.open_stream()).reset(3)
    assert not core.events
    assert not peer._streams


async def test_a_clean_exit_waits_until_the_peer_keeps_the_next_credential(
    core: Script, peer: Peer, nursery: trio.Nursery
) -> None:
    nursery.start_soon(peer.drain)
    await settled()
    (ping,) = core.of(Ping)
    assert isinstance(ping, Ping)
    peer.arrived(Ponged(ping.token, 1))
    await settled()
    assert not nursery.child_tasks
    await peer.drain()
    assert len(core.of(Ping)) == 1
