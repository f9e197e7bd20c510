"""The other installation, as the application sees it: streams, datagrams, notices, closing.

Rules: a `Peer` never touches a socket, a clock or a file; it turns calls into events and notices
into wake-ups. All methods belong to the Trio thread.
Left to others: running the endpoint (`on_trio`), bytes of one stream (`stream`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from hashlib import sha256
from typing import Final, Protocol

import trio

from clawchat.core.actions import (
    Closed,
    Compromised,
    CopyReported,
    CredentialReused,
    DatagramArrived,
    Established,
    KeysRotated,
    LinkStats,
    Notice,
    Observed,
    PathChanged,
    PathRestored,
    PathSuspect,
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
from clawchat.core.credential import Address
from clawchat.core.events import (
    Close,
    DeclareCompromised,
    Disturbed,
    Event,
    Ping,
    RotateKeys,
    RotatePort,
    SendDatagram,
    StreamClass,
    stream_id,
)
from clawchat.core.instant import SECOND
from clawchat.drivers.feed import Feed
from clawchat.drivers.stream import LinkStream
from clawchat.errors import (
    CloseCode,
    CompromiseReason,
    LinkClosed,
    LocalError,
    StoreError,
    UnknownLink,
)

DATAGRAMS_KEPT: Final = 256  # unreliable datagrams waiting for the application; the oldest go
REPORTS_KEPT: Final = 16  # of copies: a listener that keeps the rules makes two a minute
DRAIN_SECONDS: Final = 2.0  # how long a clean exit waits for acknowledgements


# A peer sends nothing that leads to these, or to what a stream tells, before the next credential
# is durable.
_ANSWERS: Final = (StreamOpened, Ponged, KeysRotated, DatagramArrived)

_PATH_NEWS: Final = (  # nothing to do: the core roams and rotates
    PathChanged,
    PathSuspect,
    PathRestored,
    PortRotated,
    PortKept,
)


class Carrier(Protocol):
    """What runs the endpoint for a `Peer`."""

    def handle(self, event: Event) -> None:
        """Give the core an event and see that what follows from it is done soon."""

    def link_stats(self, link: int) -> LinkStats:
        """A snapshot of one link."""

    async def declare_compromised(self, event: DeclareCompromised) -> tuple[Receipt, ...]:
        """Destroy pairings; a receipt for each."""


def fingerprint(static: bytes) -> str:
    """What two people compare: the first 8 bytes of SHA-256 of a public key, as grouped hex."""
    digits = sha256(static).digest()[:8].hex()
    return " ".join(digits[at : at + 4] for at in range(0, 16, 4))


class Peer:
    """An established link to one peer. Made by `clawchat.connect` and by `Listener`.

    Every waiting method raises `trio.BrokenResourceError` (its `__cause__` is a `LinkClosed`)
    when the link ends meanwhile, and can be cancelled at any time.

    `reports` is what our listener said of copies of this device's credential. Whoever shows them to
    the user takes them out; they stay when the link ends, so that none comes too early or too late.
    """

    def __init__(self, carrier: Carrier, link: int, *, dialer: bool) -> None:
        self.link: Final = link
        self.dialer: Final = dialer
        self.closed: Closed | None = None  # why the link ended, once it has
        self.observed: Address | None = None  # where the peer saw us come from
        self.store_error: StoreError | None = None  # why the credential could not be kept
        self.receipt: Receipt | None = None  # of the pairing's destruction, by whomever declared
        self.reports: Final[deque[CopyReported]] = deque(maxlen=REPORTS_KEPT)
        self._carrier = carrier
        self._established: Established | None = None
        self._streams: dict[int, LinkStream] = {}
        self._accepted: deque[LinkStream] = deque()
        self._sequence = 0  # of the streams this side opened; both classes share it
        self._datagrams: deque[bytes] = deque(maxlen=DATAGRAMS_KEPT)
        self._pings: dict[int, float | None] = {}
        self._pinged = 0
        self._epoch = 0
        self._answered = False  # whether the peer has proved that it keeps the next credential
        self._feed = Feed[Notice]()
        self._changed = trio.lowlevel.ParkingLot()

    # --- who it is ----------------------------------------------------------------------------

    @property
    def peer_static(self) -> bytes:
        """The peer's X25519 public key, 32 bytes, proved by the handshake."""
        return self._proof().peer_static

    @property
    def file_id(self) -> bytes:
        """The pairing this link was authorised by, 16 bytes."""
        return self._proof().file_id

    @property
    def generation(self) -> int:
        """The generation agreed on this link, for the next one: 1 after a bootstrap file."""
        return self._proof().generation

    @property
    def handshake_hash(self) -> bytes:
        """Equal on both sides of this link and nowhere else: for channel binding."""
        return self._proof().handshake_hash

    @property
    def remote(self) -> Address:
        """The peer's address at the moment."""
        path = None if self.closed else self.stats().path
        return (path or self._proof().path).remote

    @property
    def fingerprint(self) -> str:
        """The peer's key for people to compare, such as `3f0a 91bc 77d2 e815`."""
        return fingerprint(self.peer_static)

    def stats(self) -> LinkStats:
        """A snapshot: times in ns, sizes in bytes. Raises `UnknownLink` after the end."""
        return self._carrier.link_stats(self.link)

    def __repr__(self) -> str:
        if self._established is None:
            return f"<Peer link={self.link} not established>"
        state = f" closed={self.closed.code.name}" if self.closed else ""
        return f"<Peer link={self.link} {self.fingerprint}{state}>"

    # --- streams ------------------------------------------------------------------------------

    async def open_stream(self, *, bulk: bool = False, shaped: bool = False) -> LinkStream:
        """A new stream. The peer hears of it with the first bytes sent (or the end).

        `bulk` streams yield to the others. With `shaped`, sizes and times of what we send tell
        an observer little (`LinkStream.shape`); the peer decides the same for its own side. When
        the peer's grant of streams is used up, the first `send_all` waits for another.
        """
        await trio.lowlevel.checkpoint()
        self._check_open()
        kind = StreamClass.BULK if bulk else StreamClass.INTERACTIVE
        self._sequence += 1
        stream = LinkStream(
            self, stream_id(self._sequence, kind, dialer=self.dialer), shaped=shaped
        )
        self._streams[stream.id] = stream
        return stream

    async def accept_stream(self) -> LinkStream:
        """The next stream the peer opened."""
        await trio.lowlevel.checkpoint()
        while not self._accepted:
            self._check_open()
            await self._changed.park()
        return self._accepted.popleft()

    def __aiter__(self) -> AsyncIterator[LinkStream]:
        """Every stream the peer opens, until the link ends (see `closed` for why)."""
        return self

    async def __anext__(self) -> LinkStream:
        try:
            return await self.accept_stream()
        except trio.BrokenResourceError:
            raise StopAsyncIteration from None

    # --- datagrams ----------------------------------------------------------------------------

    async def send_datagram(self, data: bytes) -> None:
        """Send one unreliable datagram. Raises `DatagramTooLarge` if it fits no packet."""
        await trio.lowlevel.checkpoint()
        self._check_open()
        self.handle(SendDatagram(self.link, bytes(data)))

    async def receive_datagram(self) -> bytes:
        """The next unreliable datagram; when 256 wait unread, the oldest are lost."""
        await trio.lowlevel.checkpoint()
        while not self._datagrams:
            self._check_open()
            await self._changed.park()
        return self._datagrams.popleft()

    # --- the link itself ----------------------------------------------------------------------

    async def ping(self) -> float:
        """The round trip time over the link, in seconds."""
        self._check_open()
        self._pinged += 1
        token = self._pinged
        self._pings[token] = None
        try:
            self.handle(Ping(self.link, token))
            while (answer := self._pings[token]) is None:
                self._check_open()
                await self._changed.park()
            return answer
        finally:
            del self._pings[token]

    async def rotate_keys(self) -> int:
        """Run the key ratchet now; returns the new epoch once both sides use it."""
        self._check_open()
        before = self._epoch
        self.handle(RotateKeys(self.link))
        while self._epoch == before:
            self._check_open()
            await self._changed.park()
        return self._epoch

    async def rotate_port(self) -> PortRotated | PortKept:
        """Leave the local port for another now; what came of it.

        `PortKept` says why nothing did: no harm is done. While the peer leaves its own port, this
        waits.
        """
        self._check_open()
        notices = self.notices()
        self.handle(RotatePort(self.link))
        async for notice in notices:
            if isinstance(notice, PortRotated | PortKept):
                return notice
        self._check_open()
        raise AssertionError("its notices end only when a link is over")

    async def declare_compromised(
        self, reason: CompromiseReason = CompromiseReason.USER, *, everything: bool = True
    ) -> Receipt:
        """Destroy this pairing for good, telling the peer, who does likewise; what was destroyed.

        With `everything`, all other pairings of this endpoint and its own key too; a listener that
        is told so by its device does the same. Takes a round trip, or ten seconds when the peer
        does not answer. Raises `PairingDestroyed` when it was done before, and `NotErased` (a
        `StoreError` with the receipts) when a file could not be removed.
        """
        file_id = self.file_id
        event = DeclareCompromised(file_id, reason, everything)
        for receipt in await self._carrier.declare_compromised(event):
            if receipt.file_id == file_id:
                return receipt
        assert self.receipt is not None, "this one was destroyed before the others"
        return self.receipt

    def disturbed(self) -> None:
        """Find out at once whether the path still works, since the network may have changed.

        For who knows better than the system's own word, which is heeded without this. Nothing is
        lost while a path is searched for: sending waits. Harmless when the link is over.
        """
        if self.closed is None:
            with suppress(UnknownLink):  # ended in this very turn
                self.handle(Disturbed(self.link))

    def notices(self) -> AsyncIterator[Notice]:
        """What happens to the link from now on, ending with `Closed`.

        `Observed`, `KeysRotated`, `PathSuspect` (nothing is heard: every path is searched),
        `PathRestored`, `PathChanged`, `PortRotated`, `PortKept` (a move to another port was given
        up; nothing to worry about), `CredentialReused` (of this device, if we listen for it),
        `CopyReported` (of ours, by our listener; see `reports`), `Compromised` and `Closed`; each
        call gives an iterator of its own. A reader more than 64 notices late loses the oldest.
        """
        reader = self._feed.reader()
        if self.closed is not None:
            reader.put(self.closed, last=True)
        return reader

    async def aclose(self, code: CloseCode = CloseCode.DONE, reason: str = "") -> None:
        """End the link at once, telling the peer why. Harmless when repeated."""
        self.close_soon(code, reason)
        await trio.lowlevel.checkpoint()

    async def wait_closed(self) -> Closed:
        """Wait for the end of the link and say why it ended. Never raises `LinkClosed`."""
        await trio.lowlevel.checkpoint()
        while self.closed is None:
            await self._changed.park()
        return self.closed

    # --- for the drivers ----------------------------------------------------------------------

    def handle(self, event: Event) -> None:
        """Give the core an event. Raises a `LocalError`; then nothing changed."""
        self._carrier.handle(event)

    def link_closed(self) -> LinkClosed:
        """The end of the link as an exception."""
        assert self.closed is not None, "asked why an open link was closed"
        closed = self.closed
        return LinkClosed(closed.code, closed.reason, by_peer=closed.by_peer)

    def close_soon(self, code: CloseCode = CloseCode.DONE, reason: str = "") -> None:
        """As `aclose`, from where nothing can be awaited."""
        if self.closed is None:
            with suppress(UnknownLink):  # ended in this very turn: its notice is on the way
                self.handle(Close(self.link, code, reason))

    async def wait_established(self) -> None:
        """Wait for the handshake. Raises `LinkClosed`, or the `StoreError` that stopped it."""
        await trio.lowlevel.checkpoint()
        while self._established is None:
            if self.closed is not None:
                raise self.store_error or self.link_closed()
            await self._changed.park()

    async def drain(self) -> None:
        """Wait until the peer has everything, for at most `DRAIN_SECONDS`: what was sent on
        streams that were ended, and the next credential (else the next dial would be slow).
        """
        with trio.move_on_after(DRAIN_SECONDS), suppress(trio.BrokenResourceError):
            if not self._answered:
                await self.ping()
            for stream in list(self._streams.values()):
                if stream.ended:
                    try:
                        await stream.wait_delivered()
                    except trio.BrokenResourceError:
                        continue

    def stream_over(self, stream: int) -> None:
        """Forget a stream whose two directions are over.

        One with nothing to read that nobody has accepted yet is not worth accepting any more: else
        a peer could open and reset streams without end while the application is busy.
        """
        over = self._streams.pop(stream, None)
        if over is not None and not over.unread and over in self._accepted:
            self._accepted.remove(over)

    def arrived(self, notice: Notice) -> None:
        """Take a notice about this link."""
        if isinstance(notice, (StreamData, StreamDrained, StreamReset, StreamStopped)):
            self._answered = True
            stream = self._streams.get(notice.stream)
            if stream is not None:
                stream.arrived(notice)
            return
        self._answered = self._answered or isinstance(notice, _ANSWERS)
        if isinstance(notice, StreamOpened):
            stream = self._streams[notice.stream] = LinkStream(self, notice.stream)
            self._accepted.append(stream)
        elif isinstance(notice, DatagramArrived):
            self._datagrams.append(notice.data)
        elif isinstance(notice, StreamsGranted):
            for stream in self._streams.values():
                stream.granted()
        elif isinstance(notice, Ponged):
            if notice.token in self._pings:
                self._pings[notice.token] = notice.rtt_ns / SECOND
        else:
            self._link_changed(notice)
        self._changed.unpark_all()

    def _link_changed(self, notice: Notice) -> None:
        if isinstance(notice, Established):
            self._established = notice
            return
        if isinstance(notice, Observed):
            self.observed = notice.address
        elif isinstance(notice, KeysRotated):
            self._epoch = notice.epoch
        elif isinstance(notice, CopyReported):
            self.reports.append(notice)
        elif isinstance(notice, Compromised):
            self.receipt = notice.receipt
        elif isinstance(notice, Closed):
            self.closed = notice
            for stream in list(self._streams.values()):
                stream.link_over()
        else:
            assert isinstance(notice, (CredentialReused, *_PATH_NEWS)), notice
        self._feed.put(notice, last=self.closed is not None)

    def _proof(self) -> Established:
        if self._established is None:
            raise LocalError("the link is not established yet")
        return self._established

    def _check_open(self) -> None:
        if self.closed is not None:
            text = f"the link is gone: {self.closed.code.name.lower()}"
            raise trio.BrokenResourceError(text) from self.link_closed()
