"""What people do with a link: chats, bulk transfers, datagrams, pings, rotations, resets, closes.

A `Party` is the application of one host. A `Caller` keeps a link to one listener whatever
happens and works through a list of `Deed`s drawn from the seed; an `Answerer` answers, and does
deeds of its own. All bytes are entered in the `Ledger` before they are written.

Rules: dice are the party's own, so that one side's luck does not move the other's; a party knows
nothing of faults. It redials after every close, as a user's client does.
Left to others: checking (`ledger`, `invariants`), when the day ends (`simulation`).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, unique
from functools import partial
from random import Random

from attrs import define, field, frozen

from clawchat.core.actions import (
    BootstrapContent,
    Closed,
    CopyReported,
    CredentialReused,
    DatagramArrived,
    Established,
    KeysRotated,
    Notice,
    Ponged,
    StreamData,
    StreamDrained,
    StreamReset,
    StreamsGranted,
    StreamStopped,
)
from clawchat.core.credential import Address, Pairing, Path
from clawchat.core.events import (
    Close,
    Consumed,
    Dial,
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
from clawchat.core.instant import MILLISECOND, SECOND
from clawchat.drivers.simulator.host import Host, Power
from clawchat.drivers.simulator.ledger import Answer, Channel, Ledger
from clawchat.errors import (
    BufferFull,
    CloseCode,
    DatagramTooLarge,
    PairingDestroyed,
    StreamLimit,
    UnknownLink,
    UnknownStream,
)

PIECE = 64 * 1024  # bytes per write
DATAGRAM_ALWAYS = 600  # bytes that an unreliable datagram can carry on every path
BEAT_NS = SECOND  # how often a caller with patience looks whether the link answers
GIVEN_UP = 7  # the code of our resets and stops


@unique
class Deed(Enum):
    """Something to do with a link."""

    CHAT = "a small request, answered piece by piece"
    UPLOAD = "a bulk stream to the other side"
    DOWNLOAD = "a small request for a bulk answer"
    CROWD = "many small streams at once"
    DATAGRAM = "a few unreliable datagrams"
    PING = "a round trip"
    ROTATE = "new keys, now"
    MOVE = "another port, now"
    RESET = "a stream that its sender gives up"
    STOP = "a stream that its reader gives up"
    CLOSE = "the end of the link"


@frozen
class Task:
    """One deed of a plan for the day, with dice of its own, and the pause after it."""

    deed: Deed
    dice: int = 0
    pause_ns: int = MILLISECOND


@frozen
class Person:
    """What one host's user does: tasks in order, how fast they read, how long they wait."""

    tasks: tuple[Task, ...] = ()
    reading_ns: int = 0
    patience_ns: int = 0


def draw_tasks(
    dice: Random, count: int, weights: dict[Deed, int], pause_ns: int
) -> tuple[Task, ...]:
    """A plan for the day."""
    deeds = dice.choices(list(weights), list(weights.values()), k=count)
    return tuple(Task(deed, dice.getrandbits(32), dice.randint(1, pause_ns)) for deed in deeds)


def is_shaped(stream: int) -> bool:
    """Whether both sides of a stream leave in cells: every second interactive one does."""
    return not stream >> 1 & 1 and bool(stream >> 2 & 1)


@define(eq=False)
class Outlet:
    """Our sending side of one stream: what is still to be written, and when."""

    stream: int
    channel: Channel
    left: int
    piece: int
    every_ns: int
    shaped: bool = False
    blocked: bool = False


@define(eq=False, slots=False)
class Talk:
    """One link as one side sees it, from `Established` to `Closed`."""

    host: Host
    link: int
    hash: bytes
    dialer: bool
    generation: int
    file_id: bytes
    alive: bool = True
    outlets: dict[int, Outlet] = field(factory=dict)
    waiting: list[Callable[[], None]] = field(factory=list)
    sequence: int = 0
    pings: dict[int, int] = field(factory=dict)


@define(slots=False, eq=False, kw_only=True)
class Party:
    """The application of one host."""

    ledger: Ledger
    rng: Random
    reading_ns: int = 0
    todo: list[Task] = field(factory=list)
    talks: dict[int, Talk] = field(factory=dict)
    tokens: int = 0
    rotated: list[tuple[bytes, int, int]] = field(factory=list)
    reports: list[CredentialReused] = field(factory=list)
    warned: list[CopyReported] = field(factory=list)  # by the listener, of this device's credential
    closes: list[Closed] = field(factory=list)
    on_talk: Callable[[Talk], None] | None = None
    on_end: Callable[[Talk, Closed], None] | None = None
    on_file: Callable[[Host, BootstrapContent | None], None] | None = None

    # --- notices ----------------------------------------------------------------------------

    def started(self, host: Host) -> None:
        """A fresh process speaks over no link yet."""

    def stopped(self, host: Host) -> None:
        for talk in self.talks.values():
            talk.alive = False
        self.talks.clear()

    def published(self, host: Host, content: BootstrapContent | None) -> None:
        if self.on_file is not None:
            self.on_file(host, content)

    def noticed(self, host: Host, link: int, notice: Notice) -> None:
        if isinstance(notice, Established):
            self._established(host, link, notice)
        elif isinstance(notice, Closed):
            self.closes.append(notice)
            self._closed(host, link, notice)
        elif isinstance(notice, CredentialReused):
            self.reports.append(notice)
        elif isinstance(notice, CopyReported):
            self.warned.append(notice)
        else:
            talk = self.talks.get(link)
            if talk is not None:
                self._said(talk, notice)

    def _said(self, talk: Talk, notice: Notice) -> None:
        if isinstance(notice, StreamData):
            self._read(talk, notice)
        elif isinstance(notice, StreamDrained):
            self._drained(talk, notice)
        elif isinstance(notice, StreamReset):
            channel = self.ledger.channel(talk.hash, notice.stream, not talk.dialer)
            assert channel.reset or channel.stopped, f"{channel.name}: nobody reset it"
        elif isinstance(notice, StreamStopped):
            self._stopped_by_reader(talk, notice)
        elif isinstance(notice, StreamsGranted):
            waiting, talk.waiting = talk.waiting, []
            for call in waiting:
                call()
        elif isinstance(notice, DatagramArrived):
            self.ledger.datagram_arrived(talk.hash, not talk.dialer, notice.data)
        elif isinstance(notice, Ponged):
            assert notice.rtt_ns > 0, "an answer before the question"
            assert talk.pings.pop(notice.token, None) is not None, "an answer to no question"
        elif isinstance(notice, KeysRotated):
            self.rotated.append((talk.hash, notice.epoch, talk.host.timeline.now))

    def _established(self, host: Host, link: int, notice: Established) -> None:
        talk = Talk(
            host, link, notice.handshake_hash, notice.dialer, notice.generation, notice.file_id
        )
        self.talks[link] = talk
        if self.on_talk is not None:
            self.on_talk(talk)

    def _closed(self, host: Host, link: int, notice: Closed) -> None:
        talk = self.talks.pop(link, None)
        if talk is not None:
            talk.alive = False
            if self.on_end is not None:
                self.on_end(talk, notice)

    # --- reading ----------------------------------------------------------------------------

    def _read(self, talk: Talk, notice: StreamData) -> None:
        channel = self.ledger.channel(talk.hash, notice.stream, not talk.dialer)
        channel.deliver(notice.data, notice.end, talk.host.timeline.now)
        size = len(notice.data)
        if size and self.reading_ns:
            delay = self.rng.randrange(self.reading_ns)
            talk.host.after(delay, partial(self._consume, talk, notice.stream, size))
        elif size:
            self._consume(talk, notice.stream, size)
        if notice.end and channel.answer is not None:
            self._answer(talk, notice.stream, channel.answer)

    def _consume(self, talk: Talk, stream: int, size: int) -> None:
        if talk.alive:
            self._try(talk, Consumed(talk.link, stream, size))

    def _answer(self, talk: Talk, stream: int, answer: Answer) -> None:
        channel = self.ledger.channel(talk.hash, stream, talk.dialer)
        outlet = Outlet(
            stream, channel, answer.size, answer.piece, answer.every_ns, is_shaped(stream)
        )
        talk.outlets[stream] = outlet
        self._pump(talk, outlet)

    # --- writing ----------------------------------------------------------------------------

    def _try(self, talk: Talk, event: Event) -> bool:
        """Hand in what races with the end of its stream or link; false when that was over."""
        try:
            talk.host.do(event)
        except UnknownStream:
            return False
        except UnknownLink:
            talk.alive = False  # its `Closed` is on the way
            return False
        return True

    def open(
        self, talk: Talk, kind: StreamClass, size: int, answer: Answer | None = None
    ) -> Outlet:
        """Open a stream and begin to write `size` bytes; `answer` is what shall come back."""
        talk.sequence += 1
        stream = stream_id(talk.sequence, kind, dialer=talk.dialer)
        channel = self.ledger.channel(talk.hash, stream, talk.dialer)
        channel.answer = answer
        channel.began_at = talk.host.timeline.now
        outlet = Outlet(stream, channel, size, PIECE, 0, is_shaped(stream))
        talk.outlets[stream] = outlet
        self._pump(talk, outlet)
        return outlet

    def _pump(self, talk: Talk, outlet: Outlet) -> None:
        """Write until the buffer is full, the beat says wait, or all is written."""
        outlet.blocked = False
        while talk.alive and not outlet.channel.ended and not outlet.channel.reset:
            size = min(outlet.left, outlet.piece)
            end = size == outlet.left
            if not self._write(talk, outlet, size, end):
                return
            outlet.left -= size
            if outlet.every_ns and not end:
                talk.host.after(outlet.every_ns, partial(self._pump, talk, outlet))
                return

    def _write(self, talk: Talk, outlet: Outlet, size: int, end: bool) -> bool:
        channel = outlet.channel
        before = channel.written
        data = channel.write(size, end)
        try:
            talk.host.do(Write(talk.link, outlet.stream, data, end, outlet.shaped))
        except (BufferFull, StreamLimit, UnknownStream, UnknownLink) as error:
            channel.written, channel.ended = before, False
            if isinstance(error, BufferFull):
                outlet.blocked = True
            elif isinstance(error, StreamLimit):
                talk.waiting.append(partial(self._pump, talk, outlet))
            elif isinstance(error, UnknownLink):
                talk.alive = False
            else:
                assert channel.stopped or channel.reset, f"{channel.name}: forgotten too early"
            return False
        return True

    def _drained(self, talk: Talk, notice: StreamDrained) -> None:
        outlet = talk.outlets.get(notice.stream)
        if outlet is None:
            return
        assert notice.buffered <= outlet.channel.written, "more buffered than written"
        if notice.finished:
            assert outlet.channel.finished or outlet.channel.stopped, (
                f"{outlet.channel.name}: acknowledged, but not delivered"
            )
            del talk.outlets[notice.stream]
        elif outlet.blocked:
            self._pump(talk, outlet)

    def _stopped_by_reader(self, talk: Talk, notice: StreamStopped) -> None:
        channel = self.ledger.channel(talk.hash, notice.stream, talk.dialer)
        assert channel.stopped, f"{channel.name}: nobody stopped it"
        talk.outlets.pop(notice.stream, None)
        channel.reset = True
        self._try(talk, ResetStream(talk.link, notice.stream, notice.code))

    # --- deeds ------------------------------------------------------------------------------

    def act(self, talk: Talk, deed: Deed, dice: Random | None = None) -> None:
        """Do one deed on a live link; sizes come from `dice`, or else from the party's own."""
        dice = dice or self.rng
        small = dice.randint(1, 400)
        if deed is Deed.CHAT:
            answer = Answer(dice.randint(50, 2_000), dice.randint(20, 200), 20 * MILLISECOND)
            self.open(talk, StreamClass.INTERACTIVE, small, answer)
        elif deed is Deed.UPLOAD:
            self.open(talk, StreamClass.BULK, dice.randint(1, 150_000))
        elif deed is Deed.DOWNLOAD:
            answer = Answer(dice.randint(1, 150_000), PIECE, 0)
            self.open(talk, StreamClass.BULK, small, answer)
        elif deed is Deed.CROWD:
            for _ in range(dice.randint(5, 25)):
                self.open(talk, StreamClass.INTERACTIVE, dice.randint(0, 300), Answer(40, 40, 0))
        elif deed is Deed.DATAGRAM:
            self._send_datagrams(talk, dice)
        elif deed is Deed.PING:
            self.ping(talk)
        elif deed is Deed.ROTATE:
            self._try(talk, RotateKeys(talk.link))
        elif deed is Deed.MOVE:
            self._try(talk, RotatePort(talk.link))
        elif deed is Deed.RESET:
            self._begin_and_reset(talk, dice)
        elif deed is Deed.STOP:
            self._begin_and_stop(talk, dice)
        else:
            self._try(talk, Close(talk.link, CloseCode.DONE, "enough for now"))

    def ping(self, talk: Talk) -> int:
        self.tokens += 1
        talk.pings[self.tokens] = talk.host.timeline.now
        self._try(talk, Ping(talk.link, self.tokens))
        return self.tokens

    def _send_datagrams(self, talk: Talk, dice: Random) -> None:
        for _ in range(dice.randint(1, 5)):
            data = dice.randbytes(dice.randint(16, 1_300))
            try:
                if self._try(talk, SendDatagram(talk.link, data)):
                    self.ledger.datagram_sent(talk.hash, talk.dialer, data)
            except DatagramTooLarge:
                assert len(data) > DATAGRAM_ALWAYS, "even a small datagram is refused"

    def _begin_and_reset(self, talk: Talk, dice: Random) -> None:
        outlet = self.open(talk, StreamClass.BULK, dice.randint(1, 100_000))

        def give_up() -> None:
            if talk.alive and not outlet.channel.finished:
                outlet.channel.reset = True
                talk.outlets.pop(outlet.stream, None)
                self._try(talk, ResetStream(talk.link, outlet.stream, GIVEN_UP))

        talk.host.after(dice.randrange(100 * MILLISECOND), give_up)

    def _begin_and_stop(self, talk: Talk, dice: Random) -> None:
        answer = Answer(dice.randint(10_000, 200_000), PIECE, 0)
        outlet = self.open(talk, StreamClass.BULK, 20, answer)
        back = self.ledger.channel(talk.hash, outlet.stream, not talk.dialer)

        def enough() -> None:
            if talk.alive and not back.finished:
                back.stopped = True
                if not self._try(talk, StopStream(talk.link, outlet.stream, GIVEN_UP)):
                    back.stopped = back.reset

        talk.host.after(dice.randrange(SECOND // 5), enough)

    def work(self, talk: Talk) -> None:
        """Do what is to be done, one task after the other; each is taken off the list first."""
        if not talk.alive or not self.todo:
            return
        task = self.todo.pop(0)
        self.act(talk, task.deed, Random(task.dice))
        talk.host.after(task.pause_ns, partial(self.work, talk))


@define(slots=False, eq=False, kw_only=True)
class Caller(Party):
    """The dialer's application: it wants a link, always.

    With `patience_ns` it closes a link that did not answer a ping for so long; without (0) it
    leaves that to the protocol. `invited_in` is the listener's incarnation that issued the file.
    """

    listener: Address
    pairing: Pairing | None = None
    invited_in: int = 0
    wants_link: bool = True
    patience_ns: int = 0
    dials: int = 0
    _dialling: int = 0  # the link id of a dial under way

    def started(self, host: Host) -> None:
        self._dialling = 0
        self._dial_soon(host, 0)

    def invite(self, host: Host, pairing: Pairing) -> None:
        """The user hands over a bootstrap file."""
        self.pairing = pairing
        if host.power is not Power.DOWN and not self.talks:
            self._dial_soon(host, 0)

    def abandon(self, host: Host) -> None:
        """The user throws the file away, and the link that came of it."""
        self.pairing = None
        host.after(0, self._leave)

    def _leave(self) -> None:
        for talk in list(self.talks.values()):
            self._try(talk, Close(talk.link, CloseCode.DONE, "compromised"))

    def credential(self, host: Host) -> Pairing | None:
        """What this installation has to dial with: the disk's word counts."""
        if self.pairing is None or self.pairing.file_id in host.disk.destroyed:
            return None
        return host.disk.kept.get(self.pairing.file_id, self.pairing)

    @property
    def current(self) -> Talk | None:
        """The newest link."""
        return next(reversed(self.talks.values()), None) if self.talks else None

    def _dial_soon(self, host: Host, delay_ns: int) -> None:
        host.after(delay_ns, partial(self._dial, host))

    def _dial(self, host: Host) -> None:
        pairing = self.credential(host)
        if not self.wants_link or pairing is None or self.talks or self._dialling:
            return
        self.dials += 1
        self._dialling = self.dials
        try:
            host.do(Dial(self.dials, pairing, (Path(host.base, self.listener),)))
        except PairingDestroyed:
            self._dialling = 0  # until the user has another file

    def _established(self, host: Host, link: int, notice: Established) -> None:
        self._dialling = 0
        super()._established(host, link, notice)
        talk = self.talks[link]
        self.work(talk)
        if self.patience_ns:
            self._look_after(talk)

    def _closed(self, host: Host, link: int, notice: Closed) -> None:
        self._dialling = 0
        super()._closed(host, link, notice)
        self._dial_soon(host, self.rng.randint(1, SECOND // 2))

    def _look_after(self, talk: Talk) -> None:
        if not talk.alive:
            return
        now = talk.host.timeline.now
        if any(now - asked > self.patience_ns for asked in talk.pings.values()):
            self._try(talk, Close(talk.link, CloseCode.DONE, "no answer"))
            return
        if not talk.pings:
            self.ping(talk)
        talk.host.after(BEAT_NS, partial(self._look_after, talk))


@define(slots=False, eq=False, kw_only=True)
class Answerer(Party):
    """The listener's application."""

    def _established(self, host: Host, link: int, notice: Established) -> None:
        super()._established(host, link, notice)
        self.work(self.talks[link])
