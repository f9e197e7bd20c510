"""An established link as a fuzz target: a real endpoint on one side, a puppet on the other.

The input is a program (`fuzz.program`): its head says how far the link is and which congestion
controller it has, its steps are frames, how they are put into packets, what the network does with
these, what the application asks, what the driver answers, and time. A model of what each side may
say stands beside the link and is asked after every step.

What must hold, whatever an authenticated peer says:
- only a `LocalError` leaves the endpoint, only for what the application asked, and changes nothing;
- a datagram that does not authenticate changes no phase and is not answered;
- bytes of streams come out as they were sent, in order, each once, never beyond the windows;
- the endpoint keeps to the peer's windows and to what the application wrote, uses no packet number
  twice, acknowledges what was sent to it and nothing else, writes frames that parse;
- to an address that did not prove itself go at most three times the bytes that came from it;
- after `Closed` nothing is said to the application but a receipt, and memory stays bounded;
- ports and path ids (`fuzz.sockets`) and the cells of shaped streams (`fuzz.observer`) are as these
  say, and what a shaped stream says shows in nothing else.

Rules: the model is told what was sent, never what the endpoint made of it.
Left to others: the two targets (`fuzz_listener`, `fuzz_dialer`), the peer's keys (`fuzz.puppet`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from functools import lru_cache
from hashlib import shake_256
from typing import Any, Final

from attrs import define, evolve, field

from clawchat.core.actions import (
    Action,
    Closed,
    ClosePort,
    Compromised,
    CopyReported,
    Notify,
    OpenPort,
    PortRotated,
    StreamData,
    StreamOpened,
    StreamReset,
    Transmit,
)
from clawchat.core.config import HELD_MAX
from clawchat.core.credential import HINT_SIZE, Address, Path
from clawchat.core.events import (
    CONTROL_STREAM,
    Close,
    Consumed,
    DatagramReceived,
    DeclareCompromised,
    Disturbed,
    Event,
    Forget,
    Ping,
    PortOpened,
    PortRefused,
    ResetStream,
    RotateKeys,
    RotatePort,
    SendDatagram,
    StopStream,
    Write,
)
from clawchat.core.instant import HOUR, MILLISECOND, SECOND
from clawchat.core.link import Link
from clawchat.core.paths import AMPLIFICATION, CANDIDATE_CREDIT, CHALLENGES_MAX, WAYS_MAX
from clawchat.core.phases.established import Phase
from clawchat.core.recovery.bbr import Bbr
from clawchat.core.recovery.congestion import NewReno
from clawchat.core.recovery.ranges import RangeSet
from clawchat.core.recovery.received import RANGES_KEPT_MAX
from clawchat.core.recovery.recovery import ACKS_KEPT_MAX, LOST_KEPT_MAX
from clawchat.core.streams.pings import PINGS_MAX
from clawchat.core.wire import frames, varint
from clawchat.core.wire.control import (
    PORT_CANDIDATES_MAX,
    REPORT_MAX,
    ControlReader,
    CopyReport,
    PortRotate,
    RatchetOffer,
    RatchetReply,
    RotateRequest,
    encode_control,
)
from clawchat.core.wire.parameters import Limits
from clawchat.errors import CloseCode, CompromiseReason, LocalError, Malformed
from fuzz.observer import Observer
from fuzz.program import BLOB, BYTE, NUMBER, Grammar, Op, Step, Value
from fuzz.puppet import OURS, THEIRS, Heard, Linked, config_for, puppet_dials, puppet_listens
from fuzz.snapshot import Snapshot
from fuzz.sockets import Sockets

LIMITS: Final = Limits(max_data=4096, max_stream=2048, max_streams=5, max_datagram=1452)
"""Of both sides: small, so that programs of some steps reach them."""
STREAM_WINDOW_MAX: Final = 6000
LINK_WINDOW_MAX: Final = 9000
"""How far the endpoint's windows grow."""
PAYLOAD_MAX: Final = 1100
STEPS_MAX: Final = 200
RECORDED_MAX: Final = 64
ELSEWHERE: Final = tuple(Address(f"10.0.1.{number}", 3000) for number in range(40))
"""Where else the puppet may send from; more than a link keeps."""
THEIR_PORTS: Final = tuple(Address(THEIRS.host, 50_000 + number) for number in range(4))
"""Other ports of the puppet."""
CONTROLLERS: Final = (Bbr, NewReno)
WORDS_MAX: Final = 100  # bytes of shaped streams that fit one cell, whatever stands beside them
LISTENS: Final = 25 * MILLISECOND  # between two looks of an honest receiver
WAITS: Final = (
    0,
    MILLISECOND,
    25 * MILLISECOND,
    100 * MILLISECOND,
    SECOND,
    3 * SECOND,
    12 * SECOND,
    40 * SECOND,
)
_PATTERN_SIZE: Final = 1 << 15
_PATTERN: Final = shake_256(b"pattern").digest(_PATTERN_SIZE) * 2


def pattern(stream: int, offset: int, size: int) -> bytes:
    """What honest sides write into a stream."""
    at = (offset + 97 * stream) % _PATTERN_SIZE
    return _PATTERN[at : at + size]


@define
class Rows:
    """Counts the rows that an endpoint takes."""

    taken: int = 0

    def __call__(self, _table: str, _source: Enum, _event: str, _dest: Enum) -> None:
        self.taken += 1


@define(eq=False, slots=False)
class Session:
    """The link, and what is known about it from outside."""

    linked: Linked
    rows: Rows
    payload: bytes = b""  # frames that wait for their packet
    recorded: list[tuple[bytes, Address]] = field(factory=list)
    reads: bool = True  # whether the application takes what comes at once
    owed: dict[int, int] = field(factory=Counter)  # bytes that it has not taken
    # What the puppet said
    said: RangeSet = field(factory=RangeSet)  # packet numbers
    reached: dict[int, int] = field(factory=dict)  # highest byte of each stream that it sends
    skipped: int = 0  # bytes of which a RESET said that they never come
    lied: set[int] = field(factory=set)  # streams with other bytes than the pattern's
    sent_to: dict[int, int] = field(factory=dict)  # where honest data goes on
    max_data: int = LIMITS.max_data
    max_streams: int = LIMITS.max_streams
    max_stream: dict[int, int] = field(factory=dict)
    challenges: set[bytes] = field(factory=set)
    estranged: bool = False  # it tampered with a ratchet, so keys may differ
    # What the endpoint said
    granted: dict[int, int] = field(factory=dict)  # by stream; the control stream's is the link's
    numbers: set[tuple[int, int]] = field(factory=set)
    highest: dict[int, int] = field(factory=dict)
    control: dict[int, bytes] = field(factory=dict)
    control_read: int = 0
    reader: ControlReader = field(factory=ControlReader)
    answers: list[bytes] = field(factory=list)  # pieces of one to a dialer's newest offer
    looked_at: int = 0
    # What the application did and saw
    written: dict[int, int] = field(factory=dict)
    delivered: dict[int, int] = field(factory=dict)
    ended: set[int] = field(factory=set)
    closed: bool = False
    declared: bool = False
    # Ports, paths and cells
    sockets: Sockets = field(factory=Sockets)
    observer: Observer = field(factory=Observer)
    toward: int = 0  # the socket to which the puppet sends
    told: int = 0  # moves that it told of
    terse: bool = False  # whether the application says little where it is shaped
    # Addresses
    uttered: int = 0  # bytes of the puppet's control stream
    their_reader: ControlReader = field(factory=ControlReader)
    mumbled: int = 0  # pieces of it that a model cannot follow
    named: Counter[Address] = field(factory=Counter)
    named_ports: Counter[int] = field(factory=Counter)
    came: Counter[Address] = field(factory=Counter)
    went: Counter[Address] = field(factory=Counter)
    proved: set[Address] = field(factory=lambda: {THEIRS})

    # --- shorthands ---------------------------------------------------------------------------

    @property
    def theirs(self) -> int:
        """The side bit of the puppet's streams."""
        return 0 if self.linked.puppet.dialer else 1

    def stream(self, slot: int) -> int:
        """A stream id: mostly one of a few that can exist, of either side."""
        sequence, kind = 1 + slot % 6, slot >> 3 & 1
        side = self.theirs if slot < 128 else 1 - self.theirs
        return sequence << 2 | kind << 1 | side

    def link(self) -> Link | None:
        endpoint = self.linked.endpoint
        found = endpoint._links.by_id.get(self.linked.link)
        return found or next(iter(endpoint._links.pending.values()), None)

    # --- frames -------------------------------------------------------------------------------

    def add(self, frame: bytes) -> None:
        if len(self.payload) + len(frame) > PAYLOAD_MAX:
            self.op_send(0, 0, 0, 0)
        self.payload += frame

    def op_ping(self) -> None:
        self.add(frames.PING)

    def op_padding(self, size: int) -> None:
        self.add(frames.padding(size))

    def op_ack(self, skip: int, delay: int) -> None:
        """The truth, but for packets that are left out."""
        known = RangeSet()
        for number, heard in enumerate(self.linked.puppet.heard[-64:]):
            if not (skip >> number % 8) & 1:
                known.add(heard.number, heard.number + 1)
        if known:
            self.add(frames.encode_ack(known.newest(33), delay))

    def op_ack_raw(self, high: int, below: int, length: int, gaps: bytes) -> None:
        """Anything: `high` counts from somewhat above the newest packet that was heard."""
        top = max(0, self.linked.puppet.largest + 2 - high) if below % 2 else high
        ranges, low = [(max(0, top - length), top)], max(0, top - length)
        for gap, size in zip(gaps[::2], gaps[1::2], strict=False):
            top = low - gap - 2
            low = top - size
            if low < 0:
                break
            ranges.append((low, top))
        self.add(frames.encode_ack(ranges, below))

    def op_stream(self, slot: int, jump: int, size: int, fin: int) -> None:
        """Honest bytes: the next ones, or some before or after them."""
        stream = self.stream(slot)
        start = self.sent_to.get(stream, 0)
        offset = max(0, start + (jump if jump < 128 else 8 * (jump - 256)))
        data = pattern(stream, offset, min(size, 1000))
        self.sent_to[stream] = max(start, offset + len(data))
        self.add(frames.encode_stream(stream, offset, data, fin=fin % 4 == 1))

    def op_stream_raw(self, stream: int, offset: int, data: bytes, fin: int) -> None:
        offset = min(offset, varint.MAX - len(data))
        self.add(frames.encode_stream(stream, offset, data, fin=fin % 2 == 1))

    def op_max_data(self, limit: int) -> None:
        self.add(frames.encode_max_data(limit))

    def op_max_stream(self, slot: int, limit: int) -> None:
        self.add(frames.encode_max_stream(self.stream(slot), limit))

    def op_max_streams(self, limit: int) -> None:
        self.add(frames.encode_max_streams(limit))

    def op_reset(self, slot: int, code: int, final: int, near: int) -> None:
        stream = self.stream(slot)
        if near % 2:
            final = self.sent_to.get(stream, 0) + near // 16
        self.add(frames.encode_reset(stream, code, final))

    def op_stop(self, slot: int, code: int) -> None:
        self.add(frames.encode_stop(self.stream(slot), code))

    def op_path_challenge(self, token: int) -> None:
        self.add(frames.encode_path_challenge(bytes((token,)) * 8))

    def op_path_response(self, which: int) -> None:
        """A true one for each even number."""
        tokens = list(self.sockets.tokens)
        if tokens and which % 2 == 0:
            self.add(frames.encode_path_response(tokens[-1 - which // 2 % len(tokens)]))
        else:
            self.add(frames.encode_path_response(bytes((which,)) * 8))

    def op_close(self, code: int, reason: bytes) -> None:
        self.add(frames.encode_close(code, reason.decode("latin-1")))

    def op_compromised(self, reason: int, scope: int) -> None:
        self.add(frames.encode_compromised(reason, scope))

    def op_compromised_ack(self) -> None:
        self.add(frames.COMPROMISED_ACK)

    def op_datagram(self, data: bytes, to_end: int) -> None:
        self.add(frames.encode_datagram(data, to_end=to_end % 2 == 1))

    def op_raw(self, data: bytes) -> None:
        self.add(data)

    def op_control(self, data: bytes) -> None:
        """Bytes on the control stream, in order."""
        self.estranged = True
        self.add(self.linked.puppet.on_control(data))

    def op_ratchet(self, kind: int, epoch: int, at: int) -> None:
        """A step of the ratchet; the odd kinds are out of turn or tampered with."""
        puppet, right = self.linked.puppet, max(self.linked.puppet.epochs) + 1
        epoch %= 1 << 32
        message: RatchetOffer | RatchetReply | RotateRequest
        if kind % 4 == 0 and not puppet.dialer:
            self.op_answer()
            return
        if kind % 4 == 0:
            message = puppet.offer()
        elif kind % 4 == 2:
            message = RotateRequest()
        elif kind % 4 == 1:
            self.estranged = True
            message = RatchetReply(epoch if at % 2 else right, bytes((at,)) * 1120)
        else:
            self.estranged = True
            public = puppet.offer().public if at % 4 else bytes((at,)) * 1216
            message = RatchetOffer(epoch if at % 2 else right, public)
        encoded = encode_control(message)
        for start in range(0, len(encoded), 1000):
            self.add(puppet.on_control(encoded[start : start + 1000]))

    def op_copy_report(self, generation: int, count: int, seconds: int, who: int) -> None:
        """Somebody used a copy, says a listener; a dialer says so against the rules."""
        count, seconds = max(1, count % (REPORT_MAX + 1)), seconds % (REPORT_MAX + 1)
        report = CopyReport(generation, who % 2 == 1, count, seconds, self.source(who))
        self.add(self.linked.puppet.on_control(encode_control(report)))

    def op_answer(self) -> None:
        """Answer the newest offer of a dialer, as a listener should."""
        for piece in self.answers:
            self.add(self.linked.puppet.on_control(piece))
        self.answers = []

    def op_announce(self, how: int, port: int, candidates: int) -> None:
        """The puppet moves, or says so: the odd kinds are out of order."""
        self.told += 1
        sequence = self.told + (port - 128 if how % 8 == 7 else 0)
        if port < 128:
            port = THEIR_PORTS[port % len(THEIR_PORTS)].port
        named = (*THEIR_PORTS, *ELSEWHERE)[how // 8 : how // 8 + candidates % 8]
        message = PortRotate(max(0, sequence), port, named[:PORT_CANDIDATES_MAX])
        self.add(self.linked.puppet.on_control(encode_control(message)))

    def op_epoch(self, epoch: int) -> None:
        """Seal with the keys of this epoch from now on."""
        known = sorted(self.linked.puppet.epochs)
        self.linked.puppet.epoch = known[epoch % len(known)]

    # --- packets ------------------------------------------------------------------------------

    def sealed(self, mode: int, shift: int, path_id: int) -> bytes:
        """The packet around the frames that wait."""
        puppet = self.linked.puppet
        payload, self.payload = self.payload or frames.PING, b""
        number = puppet.number
        if mode % 4 == 1:
            number += shift % (1 << 31)
        elif mode % 4 == 2:
            number = max(0, number - 1 - shift % (1 << 14))
        elif mode % 4 == 3:
            number = min(number + shift, varint.MAX)
        self.learn(payload)
        self.said.add(number, number + 1)
        kept = puppet.number
        datagram = puppet.seal(payload, number=number, path_id=path_id)
        if mode % 4 == 3:  # it will not be understood: too far ahead
            puppet.number = kept
        self.record(datagram, THEIRS)
        return datagram

    def record(self, datagram: bytes, source: Address) -> None:
        self.recorded.append((datagram, source))
        del self.recorded[:-RECORDED_MAX]

    def source(self, where: int) -> Address:
        if where < 64:
            return THEIRS
        places = THEIR_PORTS if where < 128 else ELSEWHERE
        return places[where % len(places)]

    def hear(self, datagram: bytes, source: Address, local: Address | None = None) -> None:
        """A datagram of the puppet arrives, at the socket that it sends to or at `local`."""
        self.came[source] += len(datagram)
        self.after(self.linked.hear(datagram, source, local or self.sockets.at(self.toward)))

    def op_send(self, mode: int, shift: int, path_id: int, where: int) -> None:
        """Put the frames into a packet and let it arrive."""
        self.hear(self.sealed(mode, shift, path_id % 16), self.source(where))

    def op_to(self, which: int) -> None:
        """The puppet sends to this one of the endpoint's sockets from now on; 0 is the oldest."""
        self.toward = which

    def op_meet(self, how: int) -> None:
        """The puppet answers the newest challenge where it arrived; `how`: it moves there, asks."""
        tokens = self.sockets.tokens
        if not tokens:
            return
        token, (path, _) = list(tokens.items())[-1 - how // 16 % len(tokens)]
        self.add(frames.encode_path_response(token))
        if how % 2:
            self.add(frames.encode_path_challenge(bytes((how,)) * 8))
        local = path.local if path.local in self.sockets.open else None
        self.hear(self.sealed(0, 0, how // 4 % 4), path.remote, local)
        if how // 2 % 2:
            self.op_ping()
            self.hear(self.sealed(0, 0, how // 4 % 4), path.remote, local)

    def op_lose(self) -> None:
        """Put the frames into a packet that arrives later or never."""
        self.sealed(0, 0, 0)

    def op_again(self, which: int, where: int) -> None:
        """Something from the past, maybe lost before, maybe from elsewhere."""
        if self.recorded:
            datagram, _ = self.recorded[-1 - which % len(self.recorded)]
            source = self.source(where)
            first = self.linked.puppet.dialer and not self.said
            if datagram == self.linked.greeting and first and source != THEIRS:
                self.proved.discard(THEIRS)  # the HELLO has come from two addresses
            self.hear(datagram, source)

    def op_batch(self, first: int, count: int, where: int) -> None:
        """Several at once, as segmentation offload gives them."""
        if not self.recorded:
            return
        start = first % len(self.recorded)
        some = [datagram for datagram, _ in self.recorded[start : start + 1 + count % 16]]
        size, source = len(some[0]), self.source(where)
        data = b"".join(datagram.ljust(size, b"\0")[:size] for datagram in some)
        self.came[source] += len(data)
        event = DatagramReceived(Path(self.sockets.at(self.toward), source), data, size)
        self.after(self.linked.do(event))

    def op_corrupt(self, which: int, at: int, how: int) -> None:
        """A changed datagram of the past, of which nothing may come."""
        if not self.recorded:
            return
        data = bytearray(self.recorded[-1 - which % len(self.recorded)][0])
        at %= len(data)
        if how % 4 == 0:
            del data[at:]
        elif how % 4 == 1:
            data.append(how)
        else:
            data[at] ^= 1 << how % 8
        self.unauthenticated(bytes(data))

    def op_noise(self, kind: int, data: bytes) -> None:
        registry = self.linked.endpoint._registry
        known = (b"", *registry.routes, *registry.hints, *registry.calls)
        head = known[kind // 4 % len(known)]
        if kind % 4 == 1:
            data = data.ljust(512 - len(head), b"\0")
        elif kind % 4 == 2:
            data = data * 40
        self.unauthenticated(head + data)

    def unauthenticated(self, data: bytes) -> None:
        endpoint = self.linked.endpoint
        # What is due anyway, for nobody's sake, comes first.
        for link in endpoint._links.by_id.values():
            endpoint._links.touch(link)
        self.after(self.linked.flush())
        rows, phases = self.rows.taken, self.phases()
        actions = self.linked.hear(data, ELSEWHERE[-1], self.sockets.at(self.toward))
        assert self.rows.taken == rows, "a row was taken for nobody"
        assert self.phases() == phases
        assert not actions, f"nobody was answered: {actions}"

    def phases(self) -> list[object]:
        endpoint = self.linked.endpoint
        found: list[object] = [endpoint._issuing.model.phase]
        for link in endpoint._links:
            found += [link, link.handshake.phase, link.life.phase]
            found.append(link.ratchet and link.ratchet.model.phase)
            if link._upkeep is not None:
                ports = link._upkeep.ports
                found += [ports.move.phase, ports.follow.phase]
        return found

    # --- time ---------------------------------------------------------------------------------

    def op_wait(self, which: int) -> None:
        self.after(self.linked.wait(WAITS[which % len(WAITS)]))

    def op_listen(self, looks: int) -> None:
        """An honest receiver for a while: while it acknowledges all, cells keep to their beat."""
        since, calm = len(self.observer.cells), self.is_calm
        for _ in range(1 + looks % 64):
            known = len(self.linked.puppet.heard)
            self.after(self.linked.wait(LISTENS))
            calm = calm and self.is_calm
            if len(self.linked.puppet.heard) > known:
                self.op_ack(0, 0)
                self.op_send(0, 0, 0, 0)
        if calm:
            self.observer.keeps_the_beat(since)

    @property
    def is_calm(self) -> bool:
        """Whether nothing keeps a cell from leaving in time, and none has to leave before."""
        link = self.link()
        if link is None or link.transport is None or link.life.phase is not Phase.LIVE:
            return False
        recovery, beat = link.transport.recovery, link.transport.cells.beat
        return recovery.pto_count == recovery.probes == beat.owed == 0

    def op_sleep(self, hundredths: int) -> None:
        """A machine that slept: nobody looked at the clock."""
        self.linked.now += hundredths * HOUR // 100
        self.after(self.linked.wait(0))

    def op_disk(self, works: int) -> None:
        self.linked.persists = works % 2 == 0

    # --- the application ----------------------------------------------------------------------

    def ask(self, event: Event) -> bool:
        """Whether it was done; if not, nothing changed."""
        rows, phases = self.rows.taken, self.phases()
        try:
            actions = self.linked.do(event)
        except LocalError:
            assert self.rows.taken == rows, "an error of the application changed something"
            assert self.phases() == phases
            return False
        self.after(actions)
        return True

    def op_write(self, slot: int, size: int, end: int) -> None:
        stream = self.stream(slot ^ 128)
        self.write(stream, size, end, shaped=stream in self.observer.shaped)

    def op_shaped(self, slot: int, size: int, end: int) -> None:
        self.write(self.stream(slot ^ 128), size, end, shaped=True)

    def write(self, stream: int, size: int, end: int, *, shaped: bool) -> None:
        known, start = self.observer.shaped.copy(), self.written.get(stream, 0)
        if shaped:
            self.observer.shaped.add(stream)
        size = min(size, 1 if shaped and self.terse else 5000)
        self.written[stream] = start + size
        data = b"".join(
            pattern(stream, start + at, min(1000, size - at)) for at in range(0, size, 1000)
        )
        if not self.ask(Write(self.linked.link, stream, data, end % 4 == 1, shaped=shaped)):
            self.written[stream], self.observer.shaped = start, known

    def op_consume(self, slot: int, size: int) -> None:
        stream = self.stream(slot)
        size = min(size, 4096)
        if self.ask(Consumed(self.linked.link, stream, size)):
            self.owed[stream] = max(0, self.owed[stream] - size)

    def op_appetite(self, reads: int) -> None:
        self.reads = reads % 2 == 0
        if self.reads:
            owed, self.owed = self.owed, Counter()
            for stream, size in owed.items():
                self.ask(Consumed(self.linked.link, stream, size))

    def op_app_reset(self, slot: int, code: int) -> None:
        self.ask(ResetStream(self.linked.link, self.stream(slot), code))

    def op_app_stop(self, slot: int, code: int) -> None:
        self.ask(StopStream(self.linked.link, self.stream(slot), code))

    def op_app_datagram(self, data: bytes, times: int) -> None:
        self.ask(SendDatagram(self.linked.link, data * (1 + times % 8)))

    def op_app_ping(self, token: int) -> None:
        self.ask(Ping(self.linked.link, token))

    def op_app_rotate(self) -> None:
        self.ask(RotateKeys(self.linked.link))

    def op_app_disturbed(self, count: int) -> None:
        named, local = ELSEWHERE[: count % 20], self.sockets.at(self.toward)
        for address in named:
            self.came[address] = max(self.came[address], CANDIDATE_CREDIT)
        self.ask(Disturbed(self.linked.link, tuple(Path(local, address) for address in named)))

    def op_app_hop(self, number: int) -> None:
        """The driver has a socket of its own accord, as when it was asked for another path."""
        local = Address(OURS.host, OURS.port + 1 + number % 3)
        self.sockets.open[local] = None
        self.came[THEIRS] = max(self.came[THEIRS], CANDIDATE_CREDIT)
        self.ask(Disturbed(self.linked.link, (Path(local, THEIRS),)))

    def op_app_port(self) -> None:
        self.ask(RotatePort(self.linked.link))

    def op_port_opened(self, which: int, count: int) -> None:
        """The driver has a socket: in time, late, once more, one that nobody asked for."""
        local, candidates = self.sockets.to_answer(which), ELSEWHERE[: count % 8]
        known = local in self.sockets.open
        self.sockets.answer(local)
        self.sockets.lend(local, candidates)
        link = self.linked.link + (5 if which >= 240 else 0)
        if not self.ask(PortOpened(link, local, candidates)) and not known:
            self.sockets.drop(local)  # of a link that is over

    def op_port_refused(self, which: int) -> None:
        local = self.sockets.to_answer(which)
        self.sockets.answer(local)
        self.ask(PortRefused(self.linked.link + (5 if which >= 240 else 0), local))

    def op_app_close(self, code: int, reason: bytes) -> None:
        closing = CloseCode(code % 9)
        self.ask(Close(self.linked.link, closing, reason.decode("latin-1")))

    def op_app_declare(self, kind: int) -> None:
        file_id = b"" if kind % 8 == 7 else self.linked.pairing.file_id
        before, self.declared = self.declared, True
        if not self.ask(DeclareCompromised(file_id, CompromiseReason.USER, kind % 2 == 1)):
            self.declared = before

    def op_app_forget(self) -> None:
        self.ask(Forget(self.linked.pairing.file_id))

    # --- the model: what the puppet said --------------------------------------------------------

    def learn(self, payload: bytes) -> None:
        """What these frames allow the endpoint, and what they may make it say."""
        try:
            parsed = frames.parse_frames(payload)
        except Malformed:
            return
        for frame in parsed:
            match frame:
                case frames.Stream(0, offset, data, _):
                    self.learn_control(offset, data)
                case frames.Stream(stream, offset, data, _):
                    end = offset + len(data)
                    self.reached[stream] = max(self.reached.get(stream, 0), end)
                    if data != pattern(stream, offset, len(data)):
                        self.lied.add(stream)
                case frames.Reset(_, _, size):
                    self.skipped += size
                case frames.MaxData(limit):
                    self.max_data = max(self.max_data, limit)
                case frames.MaxStream(stream, limit):
                    before = self.max_stream.get(stream, LIMITS.max_stream)
                    self.max_stream[stream] = max(before, limit)
                case frames.MaxStreams(limit):
                    self.max_streams = max(self.max_streams, limit)
                case frames.PathChallenge(token):
                    self.challenges.add(token)
                case frames.PathResponse(token):
                    address = self.sockets.answer_reaches(token)
                    if address is not None:
                        self.proved.add(address)

    def learn_control(self, offset: int, data: bytes) -> None:
        """The addresses that the puppet names: each may be asked whether it is there.

        It may contradict itself, or leave something out: then it may have named any address.
        """
        if offset != self.uttered:
            self.mumbled += 1
            return
        self.uttered += len(data)
        try:
            messages = self.their_reader.feed(data)
        except Malformed:
            return  # the link closes
        for message in messages:
            if isinstance(message, PortRotate):
                self.named_ports[message.port] += 1
                self.named.update(set(message.candidates))

    # --- the model: what the endpoint says ------------------------------------------------------

    def after(self, actions: list[Action]) -> None:
        """Look at all that the endpoint did."""
        for action in actions:
            match action:
                case OpenPort():
                    assert action.link == self.linked.link
                    self.sockets.ask(action)
                case ClosePort():
                    assert action.link == self.linked.link
                    self.sockets.close(action)
                case Transmit(path, datagrams):
                    self.sockets.send(path)
                    self.went[path.remote] += sum(map(len, datagrams))
                    self.mind_amplification(path.remote)
                case Notify(link, notice):
                    assert link in (0, self.linked.link)
                    self.on_notice(notice)
        puppet = self.linked.puppet
        hint = self.linked.greeting[:HINT_SIZE]  # of answers to the HELLO when it came again
        puppet.unread = [datagram for datagram in puppet.unread if datagram[:HINT_SIZE] != hint]
        for heard in puppet.heard[self.looked_at :]:
            self.on_heard(heard)
        self.looked_at = len(puppet.heard)
        assert self.estranged or not puppet.unread, "a packet that the peer cannot read"
        self.look()
        for event in self.consumed():
            self.ask(event)

    def look(self) -> None:
        """What must hold between two steps."""
        link = self.link()
        usable = link is not None and link.usable
        self.sockets.look(self.linked.now, over=not usable, gone=link is None)
        if link is not None and link.transport is not None and link.transport.cells.beat.at is None:
            self.observer.rest()

    def mind_amplification(self, address: Address) -> None:
        if address not in self.proved:
            named = self.named[address] + self.named_ports[address.port] + self.mumbled
            came = self.came[address] + CANDIDATE_CREDIT * named
            assert self.went[address] <= AMPLIFICATION * came, (
                f"{self.went[address]} bytes to {address}, from which {came} came"
            )

    def consumed(self) -> list[Event]:
        """What the application takes at once, if it does."""
        if not self.reads or self.closed:
            return []
        owed, self.owed = self.owed, Counter()
        return [Consumed(self.linked.link, stream, size) for stream, size in owed.items() if size]

    def on_notice(self, notice: object) -> None:
        if isinstance(notice, Compromised):
            return  # the user needs a receipt even after the end
        assert not self.closed, f"{notice} after Closed"
        match notice:
            case StreamData(stream, data, end):
                self.on_data(stream, bytes(data), end)
            case StreamOpened(stream):
                assert stream & 1 == self.theirs
                assert stream not in self.delivered, "opened twice"
                self.delivered[stream] = 0
            case StreamReset(stream, _):
                assert stream not in self.ended
                self.ended.add(stream)
            case PortRotated(local, _):
                self.sockets.move(local, self.linked.now)
            case CopyReported():
                assert not self.linked.puppet.dialer, "a dialer was believed"
            case Closed():
                self.closed = True

    def on_data(self, stream: int, data: bytes, end: bool) -> None:
        at = self.delivered.get(stream, 0)
        assert stream not in self.ended, "data after the end"
        assert at + len(data) <= self.reached.get(stream, 0), "more than was sent"
        if stream not in self.lied:
            assert data == pattern(stream, at, len(data)), "other bytes than were sent"
        self.delivered[stream] = at + len(data)
        self.owed[stream] += len(data)
        assert sum(self.owed.values()) <= LINK_WINDOW_MAX, "more than the window of the link"
        assert self.owed[stream] <= STREAM_WINDOW_MAX, "more than the window of the stream"
        granted = self.granted.get(stream, LIMITS.max_stream)
        assert self.delivered[stream] <= granted, "more than was granted"
        granted = self.granted.get(CONTROL_STREAM, LIMITS.max_data)
        assert sum(self.delivered.values()) <= granted, "more than was granted to the link"
        if end:
            self.ended.add(stream)

    def on_heard(self, heard: Heard) -> None:
        key = heard.epoch, heard.number
        assert key not in self.numbers, "a packet number was used twice with one key"
        self.numbers.add(key)
        self.sockets.hear(heard)
        self.observer.hear(heard)
        for frame in heard.frames:
            match frame:
                case frames.Stream(0, offset, data, fin):
                    assert not fin
                    self.on_control(offset, data)
                case frames.Stream(stream, offset, data, _):
                    self.on_stream(stream, offset, data)
                case frames.Ack(ranges, _):
                    for low, high in ranges:
                        unsaid = list(self.said.gaps(low, high + 1))
                        assert not unsaid, "an ACK of what was not sent"
                case frames.MaxStream(stream, limit) if stream != CONTROL_STREAM:
                    most = self.delivered.get(stream, 0) + STREAM_WINDOW_MAX
                    assert self.granted.get(stream, LIMITS.max_stream) <= limit <= most
                    self.granted[stream] = limit
                case frames.MaxData(limit):
                    most = sum(self.reached.values()) + self.skipped + LINK_WINDOW_MAX
                    assert self.granted.get(CONTROL_STREAM, LIMITS.max_data) <= limit <= most
                    self.granted[CONTROL_STREAM] = limit
                case frames.PathResponse(token):
                    assert token in self.challenges
                case frames.Close(code, _):
                    assert code < CloseCode.TIMEOUT
                case frames.Compromised():
                    assert self.declared

    def on_stream(self, stream: int, offset: int, data: bytes) -> None:
        """Bytes of the application: its own, within the puppet's windows."""
        end = offset + len(data)
        assert end <= self.written.get(stream, 0), "nobody wrote that"
        assert data == pattern(stream, offset, len(data)), "other bytes than were written"
        assert end <= self.max_stream.get(stream, LIMITS.max_stream), "beyond the stream's window"
        if stream & 1 != self.theirs:
            assert stream >> 2 < self.max_streams, "a stream that was not granted"
        self.highest[stream] = max(self.highest.get(stream, 0), end)
        assert sum(self.highest.values()) <= self.max_data, "beyond the link's window"

    def on_control(self, offset: int, data: bytes) -> None:
        """Ratchet messages: a puppet takes replies at once, and keeps answers to offers."""
        puppet = self.linked.puppet
        self.control[offset] = max(self.control.get(offset, b""), data, key=len)
        while (piece := self.control_piece()) is not None:
            for message in self.reader.feed(piece):
                with suppress(ValueError):
                    if isinstance(message, PortRotate):
                        self.sockets.tell(message)
                    elif isinstance(message, RatchetReply):
                        puppet.take_reply(message)
                    elif isinstance(message, RatchetOffer) and message.epoch not in puppet.epochs:
                        encoded = encode_control(puppet.reply_to(message))
                        self.answers = [
                            encoded[at : at + 1000] for at in range(0, len(encoded), 1000)
                        ]

    def control_piece(self) -> bytes | None:
        """The next bytes of the endpoint's control stream, when they are there."""
        for offset, data in self.control.items():
            if offset <= self.control_read < offset + len(data):
                piece = data[self.control_read - offset :]
                self.control_read = offset + len(data)
                return piece
        return None

    @property
    def says_little(self) -> bool:
        """Whether what it says in cells fits one of them, and fills no window."""
        of_shaped = sum(self.written.get(stream, 0) for stream in self.observer.shaped)
        return 0 < of_shaped <= WORDS_MAX and sum(self.written.values()) <= LIMITS.max_data

    # --- the end --------------------------------------------------------------------------------

    def memory_is_bounded(self) -> None:
        link = self.link()
        transport = link and link.transport
        if not transport:
            return
        recovery = transport.recovery
        here = [record for record in recovery._flight if record.first >= recovery._path_first]
        assert recovery.in_flight == sum(record.bytes for record in here)
        assert len(recovery._acks) <= ACKS_KEPT_MAX
        assert len(recovery._lost) <= LOST_KEPT_MAX
        assert len(transport.inbound._held) <= HELD_MAX
        assert len(transport.paths._answers) <= CHALLENGES_MAX
        assert len(transport.payloads.pings._asked) <= PINGS_MAX
        assert len(transport.paths) <= WAYS_MAX
        assert len(transport.inbound.received._ranges) <= RANGES_KEPT_MAX
        assert len(transport.epochs.numbers) <= 3
        assert len(transport.streams) <= 2 * LIMITS.max_streams + len(self.written)
        kept = sum(entry.receive._kept for entry in transport.streams._live.values())
        assert kept <= LINK_WINDOW_MAX + (1 << 16)  # the control stream's window is beside it


# --- programs -----------------------------------------------------------------------------------

GRAMMAR: Final = Grammar(
    head=(BYTE, BYTE),  # stage, controller
    ops=(
        Op("send", BYTE, NUMBER, BYTE, BYTE),
        Op("ping"),
        Op("padding", BYTE),
        Op("ack", BYTE, NUMBER),
        Op("ack_raw", NUMBER, BYTE, NUMBER, BLOB),
        Op("stream", BYTE, BYTE, NUMBER, BYTE),
        Op("stream_raw", NUMBER, NUMBER, BLOB, BYTE),
        Op("max_data", NUMBER),
        Op("max_stream", BYTE, NUMBER),
        Op("max_streams", NUMBER),
        Op("reset", BYTE, NUMBER, NUMBER, BYTE),
        Op("stop", BYTE, NUMBER),
        Op("path_challenge", BYTE),
        Op("path_response", BYTE),
        Op("close", NUMBER, BLOB),
        Op("compromised", NUMBER, NUMBER),
        Op("compromised_ack"),
        Op("datagram", BLOB, BYTE),
        Op("raw", BLOB),
        Op("control", BLOB),
        Op("ratchet", BYTE, NUMBER, BYTE),
        Op("answer"),
        Op("epoch", BYTE),
        Op("lose"),
        Op("again", BYTE, BYTE),
        Op("batch", BYTE, BYTE, BYTE),
        Op("corrupt", BYTE, NUMBER, BYTE),
        Op("noise", BYTE, BLOB),
        Op("wait", BYTE),
        Op("sleep", BYTE),
        Op("disk", BYTE),
        Op("write", BYTE, NUMBER, BYTE),
        Op("consume", BYTE, NUMBER),
        Op("appetite", BYTE),
        Op("app_reset", BYTE, NUMBER),
        Op("app_stop", BYTE, NUMBER),
        Op("app_datagram", BLOB, BYTE),
        Op("app_ping", NUMBER),
        Op("app_rotate"),
        Op("app_disturbed", BYTE),
        Op("app_close", BYTE, BLOB),
        Op("app_declare", BYTE),
        Op("app_forget"),
        Op("shaped", BYTE, NUMBER, BYTE),
        Op("listen", BYTE),
        Op("app_port"),
        Op("port_opened", BYTE, BYTE),
        Op("port_refused", BYTE),
        Op("app_hop", BYTE),
        Op("announce", BYTE, BYTE, BYTE),
        Op("meet", BYTE),
        Op("to", BYTE),
        Op("copy_report", NUMBER, NUMBER, NUMBER, BYTE),
    ),
)
_OPS: Final[tuple[Callable[..., None], ...]] = tuple(
    getattr(Session, f"op_{op.name}") for op in GRAMMAR.ops
)

STAGES: Final[tuple[tuple[tuple[str, *tuple[Value, ...]], ...], ...]] = (
    (),  # just established
    (("write", 1, 3000, 0), ("stream", 1, 0, 900, 0), ("send", 0, 0, 0, 0), ("ack", 3, 0)),
    (("ratchet", 0, 0, 0), ("send", 0, 0, 0, 0), ("answer",), ("send", 0, 0, 0, 0), ("epoch", 1)),
    (("write", 1, 500, 0), ("wait", 5)),  # suspect
    (("write", 1, 500, 0), ("wait", 7)),  # asleep, or another port was asked for
    (("app_close", 0, b""),),
    (("app_declare", 0),),
    (("app_port",), ("port_opened", 0, 0)),  # moving
    (("app_port",), ("port_opened", 0, 0), ("meet", 3)),  # the old port is kept for a while
    (("announce", 0, 0, 2), ("send", 0, 0, 0, 0)),  # following
    (("shaped", 1, 700, 0), ("listen", 3)),  # cells run
)
"""How far the link is, by programs; and before them all: with the handshake not through."""


@lru_cache(maxsize=64)
def _begun(dialer: bool, stage: int, controller: int) -> Snapshot[Session]:
    rows = Rows()
    config = evolve(
        config_for(b"session"),
        limits=LIMITS,
        stream_window_max=STREAM_WINDOW_MAX,
        link_window_max=LINK_WINDOW_MAX,
        rotate_packets=150,
        epoch_packets_max=1400,
    )
    make = puppet_listens if dialer else puppet_dials
    linked = make(config, limits=LIMITS, settled=stage > 0, trace=rows)
    session = Session(linked, rows, sockets=Sockets(listens=not dialer))
    link = session.link()
    if link is not None and link.transport is not None:  # links have no choice; its code has
        link.transport.recovery.congestion = CONTROLLERS[controller](link.transport.mtu.size)
    linked.puppet.unread.clear()  # the handshake's
    linked.did.clear()
    session.said.add(0, linked.puppet.number)
    session.record(linked.greeting, THEIRS)
    session.came[THEIRS] = session.went[THEIRS] = len(linked.greeting)
    session.after([])
    _, steps = GRAMMAR.read(GRAMMAR.program((0, 0), *STAGES[stage - 1])) if stage else ([], [])
    play(session, steps)
    linked.did.clear()
    return Snapshot(session)


def play(session: Session, steps: list[Step]) -> None:
    """Take the steps, as many as a run may have."""
    for op, values in steps[:STEPS_MAX]:
        _OPS[op](session, *values)
        session.linked.did.clear()


def begun(dialer: bool, stage: int, controller: int = 0) -> Session:
    """A session at this stage; `dialer`: the endpoint is."""
    return _begun(dialer, stage % (len(STAGES) + 1), controller % len(CONTROLLERS)).thaw()


def check_session(data: bytes, *, dialer: bool) -> None:
    """Run a program against an endpoint in one of its two roles."""
    head, steps = GRAMMAR.read(data)
    stage, controller = (value for value in head if isinstance(value, int))
    session = begun(dialer, stage, controller)
    run(session, steps)
    session.memory_is_bounded()
    if session.says_little:
        other_words(session, begun(dialer, stage, controller), steps)


def run(session: Session, steps: list[Step]) -> None:
    """Take the steps, and wait a moment."""
    play(session, steps)
    if session.payload:
        session.op_send(0, 0, 0, 0)
    session.after(session.linked.wait(100 * MILLISECOND))


def other_words(session: Session, twin: Session, steps: list[Step]) -> None:
    """Somebody on the way does not see what was said where it was shaped.

    The same again with other words in shaped streams: all that leaves has the same sizes, at the
    same times, on the same paths.
    """
    twin.terse = True
    run(twin, steps)
    seen, seen_of_twin = (
        [(heard.at, heard.path, heard.size) for heard in one.linked.puppet.heard]
        for one in (session, twin)
    )
    assert seen == seen_of_twin, "what was shaped shows"


def examples() -> list[bytes]:
    """Programs that make sense, for the committed corpora."""
    send: tuple[Any, ...] = ("send", 0, 0, 0, 0)
    moved: tuple[Any, ...] = ("send", 0, 0, 1, 130)
    talk = (("stream", 1, 0, 200, 0), ("ack", 0, 0), send, ("wait", 2))
    write = (("write", 1, 1500, 0), ("wait", 2), ("ack", 0, 100), send)
    lossy = (("write", 2, 5000, 0), ("wait", 2), ("ack", 5, 0), send, ("wait", 4), ("ack", 0, 0))
    wide = (("shaped", 1, 9, 0), ("max_data", 60_000), ("max_stream", 129, 60_000), send)
    patient = (("listen", 63),) * 4  # longer than anybody waits for a path
    opened = (("app_port",), ("port_opened", 0, 1))
    their_port: tuple[Any, ...] = ("send", 0, 0, 1, 64)
    programs: list[tuple[tuple[Any, ...], ...]] = [
        talk + write,
        (*write, ("stream", 1, 0, 10, 1), send, ("app_reset", 129, 7), ("wait", 4)),
        (("stream", 2, 100, 50, 0), send, ("stream", 2, 200, 50, 0), send, *talk),
        (("ratchet", 0, 0, 0), send, ("wait", 2), ("answer",), send, ("epoch", 1), ("ping",), send),
        (("write", 1, 9, 0), ("ping",), moved, ("path_response", 0), moved, ("wait", 4)),
        (("path_challenge", 1), moved, ("app_disturbed", 3), ("wait", 4), *talk),
        (("compromised", 1, 0), send, ("wait", 5), ("compromised", 1, 0), send),
        (("app_declare", 0), ("compromised_ack",), send, ("wait", 5)),
        (("close", 0, b"bye"), send, ("wait", 4), ("ping",), send),
        (("max_data", 9000), ("max_stream", 129, 9000), ("max_streams", 9), send, *write, *write),
        (("ping",), ("lose",), ("ping",), send, ("again", 0, 0), ("batch", 0, 3, 0), ("wait", 5)),
        (("datagram", b"audio", 0), ("datagram", b"more", 1), send, ("app_datagram", b"back", 1)),
        (("reset", 1, 3, 0, 1), ("stop", 129, 4), send, ("app_stop", 1, 5), ("consume", 1, 9)),
        (("corrupt", 0, 9, 2), ("noise", 1, b"x"), ("noise", 6, b"y"), *talk),
        (*talk, ("corrupt", 0, 20, 7), ("corrupt", 0, 3, 7), ("corrupt", 0, 30, 0), *talk),
        (("ack_raw", 2, 1, 0, b"\1\2"), send),
        (("appetite", 1), *talk * 4, ("appetite", 0), ("wait", 2)),
        (("disk", 1), ("ping",), send, ("app_ping", 5), ("app_rotate",), ("wait", 4), *talk),
        (("sleep", 90), *talk, ("app_close", 0, b"enough"), ("wait", 4)),
        (*opened, ("meet", 3), *talk, ("wait", 7), *talk, ("app_port",), ("wait", 5)),
        (*opened, ("to", 1), *talk, ("wait", 6), ("meet", 0), ("app_port",), ("port_opened", 0, 2)),
        (*opened, ("port_opened", 2, 0), ("port_opened", 3, 0), ("port_opened", 255, 0), *talk),
        (
            ("app_port",),
            ("port_refused", 0),
            ("port_refused", 0),
            ("wait", 6),
            ("port_opened", 0, 0),
        ),
        (("announce", 0, 0, 0), send, ("meet", 3), ("path_challenge", 2), their_port, *talk),
        (("announce", 8, 1, 4), send, ("wait", 5), ("announce", 0, 2, 0), send, ("meet", 2), *talk),
        (*opened, ("announce", 0, 0, 0), send, ("meet", 3), ("wait", 6), ("meet", 3), *talk),
        (("app_hop", 0), ("meet", 2), *opened, ("meet", 3), ("wait", 7), *talk, ("app_port",)),
        (("announce", 7, 130, 0), send, ("ping",), send),
        (*opened, *patient, ("announce", 0, 0, 1), send, *patient, *talk),
        (*opened, ("meet", 3), ("app_port",), *talk, ("wait", 6), *talk),
        (*talk, ("sleep", 121), ("port_opened", 0, 0), ("meet", 3), *talk),
        (("shaped", 1, 40, 0), ("listen", 2), ("shaped", 1, 30, 1), ("listen", 40), *write),
        (("shaped", 1, 2000, 0), ("wait", 4), ("listen", 30), ("shaped", 2, 9, 1), ("wait", 2)),
        (("write", 1, 300, 0), ("shaped", 1, 20, 0), ("app_reset", 1, 3), ("listen", 63), *talk),
        (("shaped", 1, 10, 1), ("ping",), moved, ("wait", 2), ("ping",), moved, ("listen", 50)),
        (*wide, *(("shaped", 1, 5000, 0),) * 4, ("listen", 63), ("listen", 63), *talk),
        (("shaped", 1, 50, 0), *opened, ("meet", 3), ("listen", 20), ("wait", 6), *talk),
    ]
    reports = (("copy_report", 1, 1, 0, 0), ("copy_report", 0, 70_000, 9, 131), send, *talk)
    stages = range(len(STAGES) + 1)
    return [
        *(GRAMMAR.program((1, 0), *program) for program in programs),
        *(GRAMMAR.program((stage, 0), *programs[0], *programs[4]) for stage in stages),
        *(GRAMMAR.program((stage, 1), *write, *lossy, *write) for stage in (1, 2)),
        GRAMMAR.program((1, 0), *reports),
    ]
