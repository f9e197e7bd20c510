"""The data plane of one link: frames into sealed packets, opened packets into frames.

Owns packet numbers, acknowledgement, recovery and streams. What is for the
control plane (ratchet messages, a CLOSE, a packet in a new epoch) is collected in `facts` and
never acted on here.

Rules: batches, not packets, cross this file's borders; no table is fired. A packet's frames are
acted on only after it authenticated and its number is new; `holding` delays that until a
credential is durable. A peer that breaks a rule raises `Violation`.
Left to others: phases (`core.link`), routing (`core.endpoint`), algorithms (`core.recovery`,
`core.streams`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

from attrs import define, field

from clawchat.core.actions import (
    DatagramArrived,
    Notice,
    Ponged,
    StreamData,
    Transmit,
)
from clawchat.core.config import HELD_MAX
from clawchat.core.credential import Address, Path
from clawchat.core.crypto.packets import EPOCH_PACKETS_MAX, OVERHEAD
from clawchat.core.crypto.replay import ReplayWindow
from clawchat.core.crypto.schedule import EpochKeys
from clawchat.core.epochs import Epochs
from clawchat.core.events import CONTROL_STREAM, Buffer
from clawchat.core.instant import MICROSECOND, Instant
from clawchat.core.paths import Paths, Trial, Way
from clawchat.core.recovery.contents import Item, ItemKind, Run, Sent
from clawchat.core.recovery.path_mtu import BASE, FLOOR, PathMtu
from clawchat.core.recovery.received import Received
from clawchat.core.recovery.recovery import PROBES, Outcome, Recovery
from clawchat.core.streams.beat import CELL, Beat
from clawchat.core.streams.datagrams import Datagrams, framed_size
from clawchat.core.streams.streams import STREAM_HEAD_MAX, Streams
from clawchat.core.timers import Timer
from clawchat.core.wire import frames
from clawchat.core.wire.control import ControlMessage, ControlReader, encode_control
from clawchat.core.wire.parameters import Limits
from clawchat.errors import (
    BufferFull,
    CloseCode,
    DatagramTooLarge,
    Drop,
    Malformed,
    Violation,
)

BATCH_BYTES: Final = 65_000  # one send with segmentation offload takes at most 65,507 bytes,
BATCH_PACKETS: Final = 64  # and at most 64 segments
CHALLENGES_MAX: Final = 4  # answers owed to PATH_CHALLENGEs; a peer that sends more gets the last
PINGS_MAX: Final = 64  # measurements under way
ACK_SIZE_MAX: Final = 300  # 33 ranges of at most 8 bytes, with some air
CHALLENGE_SIZE: Final = 1 + frames.PATH_TOKEN_SIZE  # by which a copy is longer than its original
CELL_ROOM: Final = CELL - OVERHEAD  # frames of one cell
CELL_DATA: Final = CELL_ROOM - 32  # of a stream in one cell, when it carries an ACK as well
BEAT_PROBES_MAX: Final = 2  # unanswered probe timeouts after which cells wait for the peer


@define
class Facts:
    """What arrived for the control plane since it was last looked at."""

    heard: bool = False
    where: Way | None = None  # from where the newest packet came that tells where the peer is
    validated: Way | None = None  # a challenge of ours was answered
    new_epoch: bool = False
    acknowledged: bool = False
    control: list[ControlMessage] = field(factory=list)
    close: frames.Close | None = None
    compromised: frames.Compromised | None = None
    obeyed: bool = False  # COMPROMISED_ACK


class Transport:
    """The data plane."""

    __slots__ = (
        "_answers",
        "_arriving",
        "_control",
        "_held",
        "_pinged",
        "_pinging",
        "_pings",
        "_probe_wanted",
        "_probing",
        "_resent_at",
        "_trial",
        "_used",
        "beat",
        "between",
        "datagrams",
        "drops",
        "epochs",
        "facts",
        "holding",
        "last_heard",
        "last_sent",
        "mtu",
        "notices",
        "packets_received",
        "packets_sent",
        "paths",
        "received",
        "recovery",
        "replay",
        "streams",
        "was_told",
    )

    def __init__(
        self,
        epochs: Epochs,
        *,
        dialer: bool,
        local: Limits,
        peer: Limits,
        paths: Paths,
        drops: Counter[Drop],
        now: Instant,
    ) -> None:
        self.paths = paths
        self.epochs = epochs
        self.drops = drops
        self.facts = Facts()
        self.notices: list[Notice] = []
        self.holding = False
        self.last_heard = now
        self.last_sent = now
        # Our other ports while we move, and a while after: where the peer was when we left one.
        self.between: dict[Address, Address | None] = {}
        self.was_told = False  # whether the peer said that it moves: it needs no copies
        self.packets_sent = 0
        self.packets_received = 0
        self.replay = ReplayWindow()
        self.received = Received()
        self.mtu = PathMtu(min(local.max_datagram, peer.max_datagram), now)
        self.recovery = Recovery(now, self.mtu.size)
        self.streams = Streams(dialer, local, peer)
        self.datagrams = Datagrams()
        self.beat = Beat()
        self._control = ControlReader()
        self._held: list[tuple[int, bytes]] = []
        self._pings: deque[int] = deque()
        self._pinged = False  # whether a packet just taken asks for an ACK at once
        self._pinging: set[int] = set()  # asked for and not answered
        self._answers: deque[tuple[Way, bytes]] = deque(maxlen=CHALLENGES_MAX)
        self._probing: dict[Way, bool] = {}  # ways to be challenged, in order; whether at full size
        self._trial: Trial | None = None  # where the peer may have moved to
        self._resent_at: Instant | None = None  # the last time that a trial made us send again
        self._arriving: Way | None = None  # from where the packets being taken came
        self._used = False  # whether one of them is no probe
        self._probe_wanted = False

    # --- arriving -----------------------------------------------------------------------------

    def receive(
        self,
        keys: EpochKeys,
        path_id: int,
        cid: bytes,
        datagrams: Sequence[Buffer],
        path: Path,
        now: Instant,
    ) -> int:
        """Open packets that bear `cid` and act on them; how many authenticated and were new.

        Raises `Violation` when an authenticated packet breaks a rule.
        """
        if len(self._held) + len(datagrams) > HELD_MAX and self.holding:
            self.drops[Drop.BUSY] += len(datagrams)
            return 0
        replay, drops, reserved = self.replay, self.drops, keys.open.reserved
        newest = replay.largest
        fresh: list[tuple[int, bytes]] = []
        for opened in keys.open.open(path_id, cid, datagrams, replay.largest):
            if opened is None:
                drops[Drop.SEAL] += 1
            elif not replay.check(opened[0]):
                drops[Drop.REPLAY] += 1
            else:
                replay.mark(opened[0])
                fresh.append(opened)
        if keys.open.reserved != reserved:  # these authenticated: a peer of a later version
            drops[Drop.RESERVED] += keys.open.reserved - reserved
            drops[Drop.SEAL] -= keys.open.reserved - reserved
        if fresh:
            self.last_heard = now
            self.facts.heard = True
            if self.epochs.is_new(keys):
                self.facts.new_epoch = True
            self.packets_received += len(fresh)
            self.epochs.follow(path_id)
            sizes = [len(payload) + OVERHEAD for _, payload in fresh]  # no copy, no forgery
            self._arriving = self.paths.heard(path, sum(sizes))
            self._arriving.heard_at = now
            if self.holding:
                self._held.extend(fresh)
                self._look_for_compromised(fresh)
            else:
                self._take(fresh, now)
                self._look_where(self._arriving, sizes, now, moved_on=replay.largest > newest)
        return len(fresh)

    def _look_where(self, way: Way, sizes: list[int], now: Instant, *, moved_on: bool) -> None:
        """Whether the peer has moved, as its newest packet that is no probe tells."""
        used = self._used
        if not moved_on:
            return
        if self._is_ours(way.path):
            way = self.paths.active  # it is we who move
        if way is not self.paths.active:
            if not self.was_told:
                self._try(way, sum(sizes), now, begin=used or max(sizes) >= FLOOR)
        elif used:
            self._trial = None
        if not used:
            return
        self.facts.where = way
        asked = way.challenged_at
        if not way.validated and (asked is None or now - asked >= self.recovery.pto_ns):
            self.challenge(way)

    def _is_ours(self, path: Path) -> bool:
        """Whether the peer comes that way only because of a move of ours."""
        if path.local not in self.between:
            return False
        left = self.between[path.local]
        return left is None or path.remote in (left, self.path.remote)

    def _try(self, way: Way, size: int, now: Instant, *, begin: bool) -> None:
        """The peer may be there from now on: what it has not acknowledged goes there as well."""
        trial = self._trial
        if trial is None or trial.way is not way:
            if not begin:
                return
            trial = self._trial = Trial(way)
        trial.came += size
        if self._resent_at is None or now - self._resent_at >= self.recovery.pto_ns:
            self._resent_at = now
            if self._send_again(min(trial.room, PROBES * self.mtu.size)):
                self.recovery.probe()

    def overhear(
        self,
        keys: EpochKeys,
        path_id: int,
        cid: bytes,
        datagrams: Sequence[Buffer],
        path: Path,
        now: Instant,
    ) -> None:
        """Packets for a link that is over: did any authenticate, and what do they say to that?"""
        self.holding = True
        self.receive(keys, path_id, cid, datagrams, path, now)
        held, self._held = self._held, []
        for frame in _frames_of(held):
            if isinstance(frame, frames.Close):
                self.facts.close = frame
            elif isinstance(frame, frames.CompromisedAck):
                self.facts.obeyed = True

    def _look_for_compromised(self, packets: list[tuple[int, bytes]]) -> None:
        """It does not wait for a credential to be written, which may never end."""
        for frame in _frames_of(packets):
            if isinstance(frame, frames.Compromised):
                self.facts.compromised = frame

    def release(self, now: Instant) -> None:
        """Act on what came while a credential was being written: a packet at least, since one
        made us write. Raises `Violation`.
        """
        self.holding = False
        held, self._held = self._held, []
        self._take(held, now)

    def _take(self, packets: list[tuple[int, bytes]], now: Instant) -> None:
        """Act on the frames of new packets, and note runs of equal kind to acknowledge."""
        self._used = False
        note = self.received.note
        first, eliciting = packets[0][0], False
        last = first - 1
        for number, payload in packets:
            asks = self._take_payload(payload, now)
            if number != last + 1 or asks is not eliciting:
                if last >= first:
                    note(first, last, now, eliciting)
                first, eliciting = number, asks
            last = number
        note(first, last, now, eliciting)
        if self._pinged:
            self._pinged = False
            self.received.ack_at = now

    def _take_payload(self, payload: bytes, now: Instant) -> bool:
        """Act on one packet; whether it asks for an acknowledgement."""
        try:
            lone = frames.lone_stream(payload)
            if lone is not None:
                self._used = True
                self._on_stream(lone, now)
                return True
            parsed = frames.parse_frames(payload)
        except Malformed as error:
            raise Violation(CloseCode.FRAME, str(error)) from None
        asks = probes = False
        for frame in parsed:
            kind = type(frame)
            _HANDLERS[kind](self, frame, now)
            if kind not in _NOT_ELICITING:
                asks = True
            if kind in _PROBES:
                probes = True
        if not probes:
            self._used = True
        return asks

    def _on_stream(self, frame: frames.Stream, _now: Instant) -> None:
        self.streams.on_stream(frame.stream, frame.offset, frame.data, frame.fin)
        self._carries(frame.stream)

    def _carries(self, stream: int) -> None:
        """What the link says for itself makes no epoch old."""
        if stream != CONTROL_STREAM:
            self.epochs.carried = True

    def _on_ack(self, frame: frames.Ack, now: Instant) -> None:
        outcome = self.recovery.acknowledged(frame.ranges, frame.delay_us * MICROSECOND, now)
        self._settle(outcome, now)

    def _on_ping(self, _frame: frames.Ping, _now: Instant) -> None:
        """Somebody measures, or waits for a sign of life: acknowledge at once."""
        self._pinged = True

    def _on_path_response(self, frame: frames.PathResponse, _now: Instant) -> None:
        way = self.paths.answered(frame.token)
        if way is not None:
            self.facts.validated = way

    def _on_max_data(self, frame: frames.MaxData, _now: Instant) -> None:
        self.streams.on_max_data(frame.limit)

    def _on_max_stream(self, frame: frames.MaxStream, _now: Instant) -> None:
        self.streams.on_max_stream(frame.stream, frame.limit)

    def _on_max_streams(self, frame: frames.MaxStreams, _now: Instant) -> None:
        self.streams.on_max_streams(frame.limit)

    def _on_reset(self, frame: frames.Reset, _now: Instant) -> None:
        self.streams.on_reset(frame.stream, frame.code, frame.final_size)

    def _on_stop(self, frame: frames.Stop, _now: Instant) -> None:
        self.streams.on_stop(frame.stream, frame.code)

    def _on_path_challenge(self, frame: frames.PathChallenge, _now: Instant) -> None:
        assert self._arriving is not None
        answer = self._arriving, frame.token
        if answer not in self._answers:  # each copy on a trial asks the same
            self._answers.append(answer)

    def _on_close(self, frame: frames.Close, _now: Instant) -> None:
        self.facts.close = frame

    def _on_compromised(self, frame: frames.Compromised, _now: Instant) -> None:
        self.facts.compromised = frame

    def _on_compromised_ack(self, _frame: frames.CompromisedAck, _now: Instant) -> None:
        self.facts.obeyed = True

    def _on_datagram(self, frame: frames.Datagram, _now: Instant) -> None:
        self.epochs.carried = True
        self.notices.append(DatagramArrived(frame.data))

    def take_notices(self) -> list[Notice]:
        """What the application is to be told; the control stream's bytes become messages."""
        pending = self.streams.notices
        for notice in pending:
            if isinstance(notice, StreamData) and notice.stream == CONTROL_STREAM:
                self._take_control(bytes(notice.data))
            else:
                self.notices.append(notice)
        pending.clear()
        taken, self.notices = self.notices, []
        return taken

    def _take_control(self, data: bytes) -> None:
        try:
            self.facts.control += self._control.feed(data)
        except Malformed as error:
            raise Violation(CloseCode.FRAME, str(error)) from None

    # --- fate of what was sent ----------------------------------------------------------------

    def _settle(self, outcome: Outcome, now: Instant) -> None:
        streams, mtu, size = self.streams, self.mtu, self.mtu.size
        for sent in outcome.acked:
            self.facts.acknowledged = True
            mtu.on_acked(sent.size, now)
            if sent.run is not None:
                streams.acked_run(sent.run)
            for item in sent.items:
                self._acked(item, sent, now)
        for sent in outcome.lost:
            mtu.on_lost(sent.size, now)
            if sent.run is not None:
                streams.lost_run(sent.run)
            for item in sent.items:
                self._lost(item)
        if mtu.size != size:
            self.recovery.resized(mtu.size)

    def _acked(self, item: Item, sent: Sent, now: Instant) -> None:
        kind = item[0]
        if kind == ItemKind.ACKED_UP_TO:
            self.received.forget(item[1])
        elif kind == ItemKind.PING:
            if item[1] in self._pinging:  # a copy that was thought lost says nothing new
                self._pinging.remove(item[1])
                self.notices.append(Ponged(item[1], now - sent.at))
        elif kind < ItemKind.ACKED_UP_TO:
            self.streams.acked(item)

    def _lost(self, item: Item) -> None:
        kind = item[0]
        if kind == ItemKind.PING:
            if item[1] in self._pinging:
                self._pings.appendleft(item[1])
        elif kind < ItemKind.ACKED_UP_TO:
            self.streams.lost(item)

    # --- leaving ------------------------------------------------------------------------------

    def ping(self, token: int) -> None:
        """Measure a round trip. Raises `BufferFull` when too many are waiting."""
        if len(self._pinging) >= PINGS_MAX or token in self._pinging:
            raise BufferFull("too many pings are under way, or one with this token")
        self._pinging.add(token)
        self._pings.append(token)

    def probe(self) -> None:
        """Send something that asks for an acknowledgement, data or not."""
        self._probe_wanted = True

    def send_control(self, message: ControlMessage) -> None:
        """Append a message to the control stream."""
        self.streams.write(CONTROL_STREAM, encode_control(message), end=False)

    def send_datagram(self, data: bytes) -> None:
        """Queue an unreliable datagram. Raises `DatagramTooLarge`."""
        if framed_size(len(data)) > self.mtu.size - OVERHEAD:
            raise DatagramTooLarge("an unreliable datagram must fit one packet of this path")
        self.datagrams.push(data)

    def pack(self, now: Instant, packets_max: int) -> list[Transmit]:
        """All that may leave now: acknowledgements, probes, data within the windows.

        Some more than `packets_max` packets may leave, at most one batch and two.
        """
        recovery, out = self.recovery, list[Transmit]()
        stop = self.packets_sent + packets_max
        self._pack_probes(out, now)
        self._pack_cells(out, stop, now)
        while self.packets_sent < stop:
            if not (recovery.probes or self._wants_to_send(now)):
                break
            size, most = self.mtu.size, self._payload_max
            room = recovery.room(now)
            if recovery.probes == 0 and room < size:
                break
            if not self.paths.active.may_send(size):
                break
            payload, items, eliciting = self._mixed(most, now)
            if payload:
                self._emit(out, [payload], tuple(items), None, eliciting, now)
                continue
            packets = max(1, min(room // size, BATCH_BYTES // size, BATCH_PACKETS))
            if not self.paths.active.validated:
                packets = 1
            batch = self.streams.next_run(packets, most)
            if batch is None:
                if recovery.probes or self._probe_wanted:
                    self._emit(out, [frames.PING], (), None, True, now)
                    continue
                break
            run, payloads = batch
            self._carries(run.stream)
            self._emit(out, payloads, (), run, True, now)
        if not self.streams.pending():
            recovery.app_limited()
        self._pack_beside_the_window(out, now)
        if out:
            self.last_sent = now
        return out

    # --- cells --------------------------------------------------------------------------------

    def _pack_cells(self, out: list[Transmit], stop: int, now: Instant) -> None:
        """What shaped streams say, or nothing, in packets of one size on a beat."""
        beat, streams, recovery = self.beat, self.streams, self.recovery
        waiting = streams.waiting_for_cells()
        if beat.at is None:
            if not waiting:
                return
            beat.begin(now)
        if beat.at is not None and beat.at <= now and recovery.pto_count < BEAT_PROBES_MAX:
            cells = -(-waiting // CELL_DATA)
            ended, settled = streams.shaped_ended, streams.shaped_settled
            beat.strike(now, cells, ended=ended, settled=settled)
        while (beat.owed or (recovery.probes and beat.at is not None)) and self.packets_sent < stop:
            if recovery.room(now) < CELL or not self.paths.active.may_send(CELL):
                break
            self._pack_cell(out, now)
            beat.sent()

    def _pack_cell(self, out: list[Transmit], now: Instant) -> None:
        """One packet of the size of every cell, to be acknowledged like every cell: at once."""
        parts = [frames.PING]
        items: list[Item] = []
        if self.received.ack_at is not None:
            ack, told = self._ack(now)
            parts.append(ack)
            items.append(told)
        for frame, item in self.streams.fill_cell(CELL_ROOM - sum(map(len, parts))):
            parts.append(frame)
            items.append(item)
        self.epochs.carried = True
        parts.append(frames.padding(CELL_ROOM - sum(map(len, parts))))
        self._emit(out, [b"".join(parts)], tuple(items), None, True, now)

    def _next_beat(self) -> tuple[Instant, Timer] | None:
        """When cells may leave; None while they rest, or wait for the peer."""
        if self.beat.at is None or self.recovery.pto_count >= BEAT_PROBES_MAX:
            return None
        if not self.beat.owed:
            return self.beat.at, Timer.BEAT
        at = self.recovery.room_at if self.paths.active.may_send(CELL) else None
        return None if at is None else (at, Timer.PACING)

    # --- all the rest that leaves -------------------------------------------------------------

    def _wants_to_send(self, now: Instant) -> bool:
        """Whether a packet is worth making now: most looks find that none is."""
        ack_at = self.received.ack_at
        return (
            (ack_at is not None and ack_at <= now)
            or self._probe_wanted
            or self._has_small_frames()
            or self.streams.pending()
        )

    def _pack_beside_the_window(self, out: list[Transmit], now: Instant) -> None:
        """A due acknowledgement and an MTU probe: neither waits for the congestion window."""
        received = self.received
        if received.ack_at is not None and received.ack_at <= now:
            frame, told = self._ack(now)
            self._emit(out, [frame], (told,), None, False, now)
        if not self._may_probe_mtu:
            return
        size = self.mtu.probe(now)
        if size is not None:
            payload = frames.PING + frames.padding(size - OVERHEAD - 1)
            out.append(self._seal([payload], ((ItemKind.MTU_PROBE, size),), None, True, now))

    def _mixed(self, room: int, now: Instant) -> tuple[bytes, list[Item], bool]:
        """One packet of small frames, filled up with stream data; empty when there are none."""
        parts: list[bytes] = []
        items: list[Item] = []
        received = self.received
        owed = received.ack_at is not None
        due = received.ack_at is not None and received.ack_at <= now
        eliciting = self._has_small_frames() and self._small_frames(
            parts, items, room - ACK_SIZE_MAX
        )
        if not (eliciting or due or (owed and self.streams.pending())):
            return self._lone_datagram(room) if self.datagrams else (b"", items, False)
        if owed:
            ack, told = self._ack(now)
            parts.insert(0, ack)
            items.append(told)
        left = room - sum(map(len, parts))
        while left > STREAM_HEAD_MAX and (found := self.streams.next_frame(left)) is not None:
            parts.append(found[0])
            items.append(found[1])
            left -= len(found[0])
            eliciting = True
            self._carries(found[1][1])
        if due and not eliciting and received.crowded:
            parts.append(frames.PING)  # so that the peer says which of our ACKs it knows
            eliciting = True
        return b"".join(parts), items, eliciting

    def _ack(self, now: Instant) -> tuple[bytes, Item]:
        """The ACK frame that is owed."""
        ack = self.received.ack(now)
        assert ack is not None, "the largest number is never forgotten"
        return frames.encode_ack(ack.ranges, ack.delay_us), (
            ItemKind.ACKED_UP_TO,
            ack.ranges[0][1],
        )

    # --- other paths --------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """The path that data takes."""
        return self.paths.active.path

    def challenge(self, way: Way, *, fully: bool = False) -> None:
        """Ask on `way` whether the peer is there; `fully`: so that it may answer at length, if its
        address is proved.
        """
        self._probing[way] = fully

    def move(self, way: Way, now: Instant) -> None:
        """Data takes this validated way from now on; what was learned of the old one is void."""
        self.paths.use(way)
        self._trial = None
        self._settle(self.recovery.path_changed(now), now)
        if way.challenged_at is not None:
            self.recovery.seed_rtt(now - way.challenged_at)
        self.mtu.path_changed(now)
        self.recovery.resized(self.mtu.size)
        self.resume(now)

    def move_gently(self, way: Way) -> None:
        """Data takes another port between the same hosts: what was learned of the path holds, and
        what is in flight arrives.
        """
        self._trial = None
        self.paths.use(way)
        self.probe()

    def resume(self, now: Instant) -> None:
        """The peer is back, or we are elsewhere: what was in flight is sent again now, and what is
        owed is acknowledged, not at the next timeout.
        """
        self.recovery.probe()
        self._send_again(PROBES * self.mtu.size)
        self.probe()
        if self.received.ack_at is not None:
            self.received.ack_at = now

    def _pack_probes(self, out: list[Transmit], now: Instant) -> None:
        """PATH frames, each on the way that it is about; beside the window, for they are few."""
        answers: dict[Way, list[bytes]] = {}
        while self._answers:
            way, token = self._answers.popleft()
            answers.setdefault(way, []).append(frames.encode_path_response(token))
            if not way.validated:
                self._probing.setdefault(way, False)
        probing, self._probing = self._probing, {}
        for way in probing:
            token = self.paths.challenge(way, now)
            answers.setdefault(way, []).append(frames.encode_path_challenge(token))
        for way, parts in answers.items():
            payload = b"".join(parts)
            if probing.get(way) and self.paths.proved(way):
                payload += frames.padding(FLOOR - OVERHEAD - len(payload))
            if not (way.may_send(len(payload) + OVERHEAD) or self.paths.proved(way)):
                continue
            number = self.packets_sent
            datagrams = self.epochs.current.seal.seal(way.id, number, [payload])
            self.packets_sent += 1
            way.sent += len(datagrams[0])
            item = (ItemKind.PATH_CHALLENGE,)
            self.recovery.sent(
                Sent(number, number, now, len(datagrams[0]), eliciting=False, items=(item,))
            )
            out.append(Transmit(way.path, datagrams))

    def _emit(
        self,
        out: list[Transmit],
        payloads: list[bytes],
        items: tuple[Item, ...],
        run: Run | None,
        eliciting: bool,
        now: Instant,
    ) -> None:
        """Send packets on the path in use, and copies of what there is room for to a trial.

        A copy asks for an answer, so what asks for none has no copy: that would never end.
        """
        first = self.packets_sent
        out.append(self._seal(payloads, items, run, eliciting, now))
        trial = self._trial
        if trial is None or not eliciting or (ItemKind.DATAGRAM,) in items:
            return
        whole = Sent(first, first + len(payloads) - 1, now, 0, eliciting, items, run)
        for number, payload in enumerate(payloads, first):
            if not trial.takes(len(payload) + CHALLENGE_SIZE + OVERHEAD):
                break
            out.append(self._copy(trial, payload, whole.cut(number, number), now))

    def _copy(self, trial: Trial, payload: bytes, original: Sent, now: Instant) -> Transmit:
        """The same again in a packet with a challenge, by which it is known as a probe.

        It is not in flight: the original is.
        """
        way, number = trial.way, self.packets_sent
        token = way.token or self.paths.challenge(way, now)
        probe = frames.encode_path_challenge(token) + payload
        datagrams = self.epochs.current.seal.seal(way.id, number, [probe])
        size = len(datagrams[0])
        self.packets_sent += 1
        trial.went += size
        way.sent += size
        sent = Sent(number, number, now, size, False, original.items, original.run)
        self.recovery.sent(sent)
        return Transmit(way.path, datagrams)

    @property
    def _payload_max(self) -> int:
        """Bytes of frames in a packet; of one that is copied, so that any path takes it."""
        if self._trial is None:
            return self.mtu.size - OVERHEAD
        return min(self.mtu.size, BASE) - OVERHEAD - CHALLENGE_SIZE

    def _has_small_frames(self) -> bool:
        return bool(self.streams.control_due or self._pings or self.datagrams)

    def _lone_datagram(self, room: int) -> tuple[bytes, list[Item], bool]:
        """A DATAGRAM too large to stand beside an ACK."""
        frame = self.datagrams.next_frame(room, room)
        return (frame or b"", [(ItemKind.DATAGRAM,)] if frame else [], frame is not None)

    def _small_frames(self, parts: list[bytes], items: list[Item], room: int) -> bool:
        """Append what is due besides stream data and ACKs; whether there was any."""
        while self._pings:
            parts.append(frames.PING)
            items.append((ItemKind.PING, self._pings.popleft()))
        left = room - sum(map(len, parts))
        for frame, item in self.streams.control(left):
            parts.append(frame)
            items.append(item)
            left -= len(frame)
        whole = self.mtu.size - OVERHEAD
        while (datagram := self.datagrams.next_frame(left, whole)) is not None:
            parts.append(datagram)
            items.append((ItemKind.DATAGRAM,))
            left -= len(datagram)
            self.epochs.carried = True
        return bool(parts)

    def _seal(
        self,
        payloads: list[bytes],
        items: tuple[Item, ...],
        run: Run | None,
        eliciting: bool,
        now: Instant,
    ) -> Transmit:
        first = self.packets_sent
        way = self.paths.active
        datagrams = self.epochs.current.seal.seal(way.id, first, payloads)
        if not way.validated:
            way.sent += sum(map(len, datagrams))
        self.packets_sent += len(datagrams)
        if eliciting:
            self._probe_wanted = False
        last = first + len(datagrams) - 1
        sent = Sent(first, last, now, len(datagrams[0]), eliciting, items, run)
        self.recovery.sent(sent)
        return Transmit(way.path, datagrams)

    def last_words(self, way: Way, payloads: list[bytes]) -> list[Transmit]:
        """Packets for `way` that nobody acknowledges: CLOSE, COMPROMISED and its answer.

        As many, from the first on, as the keys may seal and as may go to an unproved address.
        """
        seal, said = self.epochs.current.seal, list[Transmit]()
        for payload in payloads:
            size = len(payload) + OVERHEAD
            if seal.sealed >= EPOCH_PACKETS_MAX:
                break
            if not (way.may_send(size) or self.paths.proved(way)):
                break
            datagrams = seal.seal(self.paths.active.id, self.packets_sent, [payload])
            self.packets_sent += 1
            way.sent += size
            said.append(Transmit(way.path, datagrams))
        return said

    # --- time ---------------------------------------------------------------------------------

    def advance(self, now: Instant) -> None:
        """Declare losses and owe probes when their time has come."""
        deadline = self.recovery.deadline
        if deadline is None or deadline > now:
            return
        self._settle(self.recovery.due(now), now)
        if self.recovery.probes:
            self._send_again(PROBES * self.mtu.size)
        if self.recovery.probes and self.mtu.timed_out(self.recovery.pto_count, now):
            self.recovery.resized(self.mtu.size)

    @property
    def _may_probe_mtu(self) -> bool:
        """Not before the handshake is through, nor to an address that is not proved."""
        return self.paths.active.validated and not self.holding

    def _held_by_the_pacer(self) -> bool:
        """Whether there is something to send, and only time is needed to send it."""
        if not self.paths.active.may_send(self.mtu.size):
            return False
        return self._probe_wanted or self._has_small_frames() or self.streams.pending()

    def _send_again(self, room: int) -> bool:
        """A probe carries what is oldest in flight, so that a lost tail needs no further round.

        Whether there is something in flight.
        """
        oldest = self.recovery.oldest(room)
        for sent in oldest:
            if sent.run is not None:
                self.streams.lost_run(sent.run)
            for item in sent.items:
                if item[0] < ItemKind.ACKED_UP_TO:
                    self.streams.lost(item)
        return bool(oldest)

    def next_timer(self) -> tuple[Instant, Timer] | None:
        """When `advance` or `pack` has something to do, and what."""
        due: tuple[Instant, Timer] | None = None
        at = self.recovery.deadline
        if at is not None:
            due = at, Timer.RECOVERY
        at = self.received.ack_at
        if at is not None and (due is None or at < due[0]):
            due = at, Timer.ACK
        at = self.mtu.probe_at
        if at is not None and self._may_probe_mtu and (due is None or at < due[0]):
            due = at, Timer.PATH_MTU
        if self._held_by_the_pacer():
            at = self.recovery.room_at
            if at is not None and (due is None or at < due[0]):
                due = at, Timer.PACING
        beat = self._next_beat()
        if beat is not None and (due is None or beat[0] < due[0]):
            due = beat
        return due


_HANDLERS: Final[dict[type[Any], Callable[[Transport, Any, Instant], None]]] = {
    frames.Stream: Transport._on_stream,
    frames.Ack: Transport._on_ack,
    frames.Ping: Transport._on_ping,
    frames.MaxData: Transport._on_max_data,
    frames.MaxStream: Transport._on_max_stream,
    frames.MaxStreams: Transport._on_max_streams,
    frames.Reset: Transport._on_reset,
    frames.Stop: Transport._on_stop,
    frames.PathChallenge: Transport._on_path_challenge,
    frames.PathResponse: Transport._on_path_response,
    frames.Close: Transport._on_close,
    frames.Compromised: Transport._on_compromised,
    frames.CompromisedAck: Transport._on_compromised_ack,
    frames.Datagram: Transport._on_datagram,
}
_NOT_ELICITING: Final = frozenset(
    (frames.Ack, frames.Close, frames.Compromised, frames.CompromisedAck)
)
_PROBES: Final = frozenset((frames.PathChallenge, frames.PathResponse))


def _frames_of(packets: list[tuple[int, bytes]]) -> Iterator[frames.Frame]:
    """The frames of packets that parse."""
    for _, payload in packets:
        with suppress(Malformed):
            yield from frames.parse_frames(payload)
