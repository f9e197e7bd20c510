"""The data plane of one link: what leaves when, and what became of it.

Puts together the halves that know no more than they must: `inbound` takes packets apart,
`payloads` fills new ones, `outbound` seals them, `cells` shapes what is to look like nothing,
`recovery` says how many may be under way, `whereabouts` where the peer is.

Rules: batches, not packets, cross this file's borders; no table is fired.
Left to others: phases (`core.link`), routing (`core.endpoint`), algorithms (`core.recovery`,
`core.streams`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from clawchat.core.actions import Notice, Ponged, StreamData, Transmit
from clawchat.core.cells import Cells
from clawchat.core.config import MUTE_AFTER
from clawchat.core.credential import Path
from clawchat.core.crypto.packets import OVERHEAD
from clawchat.core.crypto.schedule import EpochKeys
from clawchat.core.epochs import Epochs
from clawchat.core.events import CONTROL_STREAM, Buffer
from clawchat.core.inbound import Inbound, size_of
from clawchat.core.instant import MICROSECOND, Instant
from clawchat.core.outbound import CHALLENGE_SIZE, Outbound
from clawchat.core.paths import Paths, Way
from clawchat.core.payloads import Payloads
from clawchat.core.recovery.contents import Item, ItemKind, Sent
from clawchat.core.recovery.path_mtu import BASE, PathMtu
from clawchat.core.recovery.recovery import PROBES, Outcome, Recovery
from clawchat.core.streams.datagrams import framed_size
from clawchat.core.streams.streams import Streams
from clawchat.core.streams.windows import Growth
from clawchat.core.timers import Timer
from clawchat.core.whereabouts import Whereabouts
from clawchat.core.wire import frames
from clawchat.core.wire.control import ControlMessage, encode_control
from clawchat.core.wire.parameters import Limits
from clawchat.errors import DatagramTooLarge, Drop

BATCH_BYTES: Final = 65_000  # one send with segmentation offload takes at most 65,507 bytes,
BATCH_PACKETS: Final = 64  # and at most 64 segments


class Transport:
    """The data plane. `notices` is what the application is to know, in order."""

    __slots__ = (
        "cells",
        "epochs",
        "inbound",
        "last_sent",
        "mtu",
        "notices",
        "outbound",
        "paths",
        "payloads",
        "recovery",
        "streams",
        "whereabouts",
    )

    def __init__(
        self,
        epochs: Epochs,
        *,
        dialer: bool,
        local: Limits,
        peer: Limits,
        growth: Growth,
        paths: Paths,
        drops: Counter[Drop],
        now: Instant,
    ) -> None:
        self.paths = paths
        self.epochs = epochs
        self.notices: list[Notice] = []
        self.last_sent = now
        self.mtu = PathMtu(min(local.max_datagram, peer.max_datagram), now)
        self.recovery = Recovery(now, self.mtu.size)
        self.streams = Streams(dialer, local, peer, growth)
        self.inbound = Inbound(
            epochs,
            paths,
            self.streams,
            on_ack=self._on_ack,
            notices=self.notices,
            drops=drops,
            now=now,
        )
        self.outbound = Outbound(epochs, paths, self.recovery)
        self.payloads = Payloads(self.streams, self.inbound.received, epochs)
        self.cells = Cells(paths, self.payloads, self.outbound, self.recovery)
        self.whereabouts = Whereabouts(paths, self.outbound, self.recovery, self._try_again)

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
        inbound = self.inbound
        newest = inbound.replay.largest
        found = inbound.open(keys, path_id, cid, datagrams, path, now)
        if found is None:
            return 0
        way, packets = found
        if inbound.holding:
            inbound.hold(packets)
            return len(packets)
        inbound.take(packets, now)
        if inbound.replay.largest > newest:
            sizes = [size_of(packet) for packet in packets]
            where = self.whereabouts.look(way, sizes, now, used=inbound.used)
            if where is not None:
                inbound.facts.where = where
        return len(packets)

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
        self.inbound.holding = True
        self.receive(keys, path_id, cid, datagrams, path, now)
        self.inbound.overhear()

    def take_notices(self) -> list[Notice]:
        """What the application is to be told; the control stream's bytes become messages.

        Raises `Violation`.
        """
        pending = self.streams.notices
        for notice in pending:
            if isinstance(notice, StreamData) and notice.stream == CONTROL_STREAM:
                self.inbound.take_control(bytes(notice.data))
            else:
                self.notices.append(notice)
        pending.clear()
        taken = self.notices.copy()
        self.notices.clear()
        return taken

    # --- fate of what was sent ----------------------------------------------------------------

    def _on_ack(self, frame: frames.Ack, now: Instant) -> None:
        outcome = self.recovery.acknowledged(frame.ranges, frame.delay_us * MICROSECOND, now)
        self._settle(outcome, now)

    def _settle(self, outcome: Outcome, now: Instant) -> None:
        streams, mtu, size = self.streams, self.mtu, self.mtu.size
        if outcome.acked:
            self.inbound.facts.acknowledged = True
        for sent in outcome.acked:
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
            self.inbound.received.forget(item[1])
        elif kind == ItemKind.PING:
            if self.payloads.pings.answered(item[1]):
                self.notices.append(Ponged(item[1], now - sent.at))
        elif kind < ItemKind.ACKED_UP_TO:
            self.streams.acked(item)

    def _lost(self, item: Item) -> None:
        kind = item[0]
        if kind == ItemKind.PING:
            self.payloads.pings.lost(item[1])
        elif kind < ItemKind.ACKED_UP_TO:
            self.streams.lost(item)

    # --- what is asked of it ------------------------------------------------------------------

    def ping(self, token: int) -> None:
        """Measure a round trip. Raises `BufferFull` when too many are waiting."""
        self.payloads.pings.ask(token)

    def probe(self) -> None:
        """Send something that asks for an acknowledgement, data or not."""
        self.outbound.probe_wanted = True

    def send_control(self, message: ControlMessage) -> None:
        """Append a message to the control stream."""
        self.streams.write(CONTROL_STREAM, encode_control(message), end=False)

    def send_datagram(self, data: bytes) -> None:
        """Queue an unreliable datagram. Raises `DatagramTooLarge`."""
        if framed_size(len(data)) > self.mtu.size - OVERHEAD:
            raise DatagramTooLarge("an unreliable datagram must fit one packet of this path")
        self.payloads.datagrams.push(data)

    # --- leaving ------------------------------------------------------------------------------

    def pack(self, now: Instant, packets_max: int) -> list[Transmit]:
        """All that may leave now: acknowledgements, probes, data within the windows.

        Some more than `packets_max` packets may leave, at most one batch and two.
        """
        recovery, outbound, out = self.recovery, self.outbound, list[Transmit]()
        stop = outbound.packets_sent + packets_max
        self._pack_probes(out, now)
        self.cells.pack(out, stop, now)
        while outbound.packets_sent < stop:
            if not (recovery.probes or self._wants_to_send(now)):
                break
            size, most = self.mtu.size, self._payload_max
            room = recovery.room(now)
            if recovery.probes == 0 and room < size:
                break
            if not self.paths.active.may_send(size):
                break
            payload, items, eliciting = self.payloads.mixed(most, size - OVERHEAD, now)
            if payload:
                outbound.send(out, [payload], now, eliciting=eliciting, items=items)
                continue
            packets = max(1, min(room // size, BATCH_BYTES // size, BATCH_PACKETS))
            if not self.paths.active.validated:
                packets = 1
            batch = self.streams.next_run(packets, most)
            if batch is None:
                if recovery.probes or outbound.probe_wanted:
                    outbound.send(out, [frames.PING], now)
                    continue
                break
            run, payloads = batch
            self.payloads.carries(run.stream)
            outbound.send(out, payloads, now, run=run)
        if not self.streams.pending():
            recovery.app_limited()
        self._pack_beside_the_window(out, now)
        if out:
            self.last_sent = now
        return out

    def _wants_to_send(self, now: Instant) -> bool:
        """Whether a packet is worth making now: most looks find that none is."""
        ack_at = self.inbound.received.ack_at
        return (
            (ack_at is not None and ack_at <= now)
            or self.outbound.probe_wanted
            or self.payloads.has_data()
        )

    @property
    def _payload_max(self) -> int:
        """Bytes of frames in a packet; of one that is copied, so that any path takes it."""
        if self.outbound.trial is None:
            return self.mtu.size - OVERHEAD
        return min(self.mtu.size, BASE) - OVERHEAD - CHALLENGE_SIZE

    def _pack_probes(self, out: list[Transmit], now: Instant) -> None:
        """PATH frames; beside the window, for they are few."""
        for way, payload in self.paths.probes(now):
            item = (ItemKind.PATH_CHALLENGE,)
            out.append(self.outbound.seal(way, [payload], now, eliciting=False, items=(item,)))

    def _pack_beside_the_window(self, out: list[Transmit], now: Instant) -> None:
        """A due acknowledgement and an MTU probe: neither waits for the congestion window."""
        ack_at = self.inbound.received.ack_at
        if ack_at is not None and ack_at <= now and self._may_ack:
            frame, told = self.payloads.ack(now)
            self.outbound.send(out, [frame], now, eliciting=False, items=(told,))
        if not self._may_probe_mtu:
            return
        size = self.mtu.probe(now)
        if size is not None:
            payload = frames.PING + frames.padding(size - OVERHEAD - 1)
            item, active = (ItemKind.MTU_PROBE, size), self.paths.active
            out.append(self.outbound.seal(active, [payload], now, eliciting=True, items=(item,)))

    @property
    def _may_ack(self) -> bool:
        """Whether an ACK alone keeps to what an address that is not proved may be sent."""
        return self.paths.active.may_send(self.inbound.received.ack_size_max + OVERHEAD)

    @property
    def _may_probe_mtu(self) -> bool:
        """Not before the handshake is through, nor to an address that is not proved."""
        return self.paths.active.validated and not self.inbound.holding

    # --- other paths --------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """The path that data takes."""
        return self.paths.active.path

    def move(self, way: Way, now: Instant) -> None:
        """Data takes this validated way from now on; what was learned of the old one is void."""
        self.paths.use(way)
        self.outbound.trial = None
        self._settle(self.recovery.path_changed(now), now)
        if way.round_trip is not None:
            self.recovery.seed_rtt(way.round_trip)
        self.mtu.path_changed(now)
        self.recovery.resized(self.mtu.size)
        self.resume(now)

    def move_gently(self, way: Way) -> None:
        """Data takes another port between the same hosts: what was learned of the path holds, and
        what is in flight arrives.
        """
        self.outbound.trial = None
        self.paths.use(way)
        self.probe()

    def resume(self, now: Instant) -> None:
        """The peer is back, or we are elsewhere: what was in flight is sent again now, and what is
        owed is acknowledged, not at the next timeout.
        """
        self.recovery.probe()
        self._send_again(PROBES * self.mtu.size)
        self.probe()
        received = self.inbound.received
        if received.ack_at is not None:
            received.ack_at = now

    def _try_again(self, room: int) -> None:
        """What is in flight goes to a trial as well, as far as there is room."""
        if self._send_again(min(room, PROBES * self.mtu.size)):
            self.recovery.probe()

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

    def next_timer(self) -> tuple[Instant, Timer] | None:
        """When `advance` or `pack` has something to do, and what."""
        due: tuple[Instant, Timer] | None = None
        at = self.recovery.deadline
        if at is not None:
            due = at, Timer.RECOVERY
        at = self.inbound.received.ack_at
        if at is not None and self._may_ack and (due is None or at < due[0]):
            due = at, Timer.ACK
        at = self.mtu.probe_at
        if at is not None and self._may_probe_mtu and (due is None or at < due[0]):
            due = at, Timer.PATH_MTU
        if self._held_by_the_pacer():
            at = self.recovery.room_at
            if at is not None and (due is None or at < due[0]):
                due = at, Timer.PACING
        beat = self.cells.next_timer()
        if beat is not None and (due is None or beat[0] < due[0]):
            due = beat
        return due

    def is_mute(self, now: Instant) -> bool:
        """Whether an address that was never proved has been sent all that it may, and is silent.

        No probe timeout tells, for what may not be sent is not answered either.
        """
        active = self.paths.active
        return (
            not active.may_send(self.mtu.size)
            and (self.outbound.probe_wanted or self.payloads.has_data())
            and now - self.inbound.last_heard >= MUTE_AFTER * self.recovery.pto_ns
        )

    def _held_by_the_pacer(self) -> bool:
        """Whether there is something to send, and only time is needed to send it."""
        if not self.paths.active.may_send(self.mtu.size):
            return False
        return self.outbound.probe_wanted or self.payloads.has_data()
