"""Packets as they arrive at one link: opened, told from copies, and acted on frame by frame.

What is for the control plane (ratchet messages, a CLOSE, a packet in a new epoch) is collected as
`Facts` and never acted on here.

Rules: a packet's frames are acted on only after it authenticated and its number is new; `holding`
delays that until a credential is durable. A peer that breaks a rule raises `Violation`.
Left to others: what follows from facts (`core.link`), from where a packet came
(`core.whereabouts`), what an ACK settles (`core.transport`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias

from attrs import define, field

from clawchat.core.actions import DatagramArrived, Notice
from clawchat.core.config import HELD_MAX
from clawchat.core.credential import Path
from clawchat.core.crypto.packets import OVERHEAD
from clawchat.core.crypto.replay import ReplayWindow
from clawchat.core.crypto.schedule import EpochKeys
from clawchat.core.epochs import Epochs
from clawchat.core.events import CONTROL_STREAM, Buffer
from clawchat.core.instant import Instant
from clawchat.core.paths import Paths, Way
from clawchat.core.recovery.received import Received
from clawchat.core.streams.streams import Streams
from clawchat.core.wire import frames
from clawchat.core.wire.control import ControlMessage, ControlReader
from clawchat.errors import CloseCode, Drop, Malformed, Violation

Packet: TypeAlias = tuple[int, bytes]  # its number and its frames


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


class Inbound:
    """`on_ack` is given each ACK, `notices` what the application is to know.

    `received` is what is to be acknowledged, `replay` what was seen; `used` says whether one of
    the packets taken last was no probe.
    """

    __slots__ = (
        "_arriving",
        "_control",
        "_drops",
        "_epochs",
        "_held",
        "_notices",
        "_on_ack",
        "_paths",
        "_pinged",
        "_streams",
        "facts",
        "holding",
        "last_heard",
        "packets_received",
        "received",
        "replay",
        "used",
    )

    def __init__(
        self,
        epochs: Epochs,
        paths: Paths,
        streams: Streams,
        *,
        on_ack: Callable[[frames.Ack, Instant], None],
        notices: list[Notice],
        drops: Counter[Drop],
        now: Instant,
    ) -> None:
        self._epochs = epochs
        self._paths = paths
        self._streams = streams
        self._on_ack = on_ack
        self._notices = notices
        self._drops = drops
        self._control = ControlReader()
        self._held: list[Packet] = []
        self._arriving: Way | None = None  # from where the packets being taken came
        self._pinged = False  # whether a packet just taken asks for an ACK at once
        self.facts = Facts()
        self.holding = False
        self.last_heard = now
        self.packets_received = 0
        self.received = Received()
        self.replay = ReplayWindow()
        self.used = False

    # --- packets ------------------------------------------------------------------------------

    def open(
        self,
        keys: EpochKeys,
        path_id: int,
        cid: bytes,
        datagrams: Sequence[Buffer],
        path: Path,
        now: Instant,
    ) -> tuple[Way, list[Packet]] | None:
        """Those of the packets that bear `cid` which authenticate and are new, and their way."""
        if len(self._held) + len(datagrams) > HELD_MAX and self.holding:
            self._drops[Drop.BUSY] += len(datagrams)
            return None
        fresh = self._fresh(keys, path_id, cid, datagrams)
        if not fresh:
            return None
        self.last_heard = now
        self.facts.heard = True
        if self._epochs.is_new(keys):
            self.facts.new_epoch = True
        self.packets_received += len(fresh)
        self._epochs.follow(path_id)
        way = self._paths.heard(path, sum(map(size_of, fresh)))
        way.heard_at = now
        self._arriving = way
        return way, fresh

    def _fresh(
        self, keys: EpochKeys, path_id: int, cid: bytes, datagrams: Sequence[Buffer]
    ) -> list[Packet]:
        """Open them, and mark their numbers as seen."""
        replay, drops, reserved = self.replay, self._drops, keys.open.reserved
        fresh: list[Packet] = []
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
        return fresh

    # --- packets that wait --------------------------------------------------------------------

    def hold(self, packets: list[Packet]) -> None:
        """Keep them until `release`; but COMPROMISED does not wait for a credential to be written,
        which may never end.
        """
        self._held.extend(packets)
        for frame in _frames_of(packets):
            if isinstance(frame, frames.Compromised):
                self.facts.compromised = frame

    def release(self, now: Instant) -> None:
        """Act on what came while a credential was being written: a packet at least, since one
        made us write. Raises `Violation`.
        """
        self.holding = False
        held, self._held = self._held, []
        self.take(held, now)

    def overhear(self) -> None:
        """The link is over: all that packets can still say is that the peer knows it."""
        held, self._held = self._held, []
        for frame in _frames_of(held):
            if isinstance(frame, frames.Close):
                self.facts.close = frame
            elif isinstance(frame, frames.CompromisedAck):
                self.facts.obeyed = True

    # --- frames -------------------------------------------------------------------------------

    def take(self, packets: list[Packet], now: Instant) -> None:
        """Act on the frames of new packets, and note runs of equal kind to acknowledge.

        Raises `Violation`.
        """
        self.used = False
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
                self.used = True
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
            self.used = True
        return asks

    def _acknowledge(self, frame: frames.Ack, now: Instant) -> None:
        self._on_ack(frame, now)

    def _on_stream(self, frame: frames.Stream, _now: Instant) -> None:
        self._streams.on_stream(frame.stream, frame.offset, frame.data, frame.fin)
        if frame.stream != CONTROL_STREAM:  # what the link says for itself makes no epoch old
            self._epochs.carried = True

    def _on_ping(self, _frame: frames.Ping, _now: Instant) -> None:
        """Somebody measures, or waits for a sign of life: acknowledge at once."""
        self._pinged = True

    def _on_path_response(self, frame: frames.PathResponse, now: Instant) -> None:
        way = self._paths.answered(frame.token, now)
        if way is not None:
            self.facts.validated = way

    def _on_max_data(self, frame: frames.MaxData, _now: Instant) -> None:
        self._streams.on_max_data(frame.limit)

    def _on_max_stream(self, frame: frames.MaxStream, _now: Instant) -> None:
        self._streams.on_max_stream(frame.stream, frame.limit)

    def _on_max_streams(self, frame: frames.MaxStreams, _now: Instant) -> None:
        self._streams.on_max_streams(frame.limit)

    def _on_reset(self, frame: frames.Reset, _now: Instant) -> None:
        self._streams.on_reset(frame.stream, frame.code, frame.final_size)

    def _on_stop(self, frame: frames.Stop, _now: Instant) -> None:
        self._streams.on_stop(frame.stream, frame.code)

    def _on_path_challenge(self, frame: frames.PathChallenge, _now: Instant) -> None:
        assert self._arriving is not None
        self._paths.asked(self._arriving, frame.token)

    def _on_close(self, frame: frames.Close, _now: Instant) -> None:
        self.facts.close = frame

    def _on_compromised(self, frame: frames.Compromised, _now: Instant) -> None:
        self.facts.compromised = frame

    def _on_compromised_ack(self, _frame: frames.CompromisedAck, _now: Instant) -> None:
        self.facts.obeyed = True

    def _on_datagram(self, frame: frames.Datagram, _now: Instant) -> None:
        self._epochs.carried = True
        self._notices.append(DatagramArrived(frame.data))

    # --- for the control plane ----------------------------------------------------------------

    def take_facts(self) -> Facts:
        """What arrived for the control plane since the last call."""
        facts, self.facts = self.facts, Facts()
        return facts

    def take_control(self, data: bytes) -> None:
        """Bytes of the control stream become messages. Raises `Violation`."""
        try:
            self.facts.control += self._control.feed(data)
        except Malformed as error:
            raise Violation(CloseCode.FRAME, str(error)) from None


_HANDLERS: Final[dict[type[Any], Callable[[Inbound, Any, Instant], None]]] = {
    frames.Stream: Inbound._on_stream,
    frames.Ack: Inbound._acknowledge,
    frames.Ping: Inbound._on_ping,
    frames.MaxData: Inbound._on_max_data,
    frames.MaxStream: Inbound._on_max_stream,
    frames.MaxStreams: Inbound._on_max_streams,
    frames.Reset: Inbound._on_reset,
    frames.Stop: Inbound._on_stop,
    frames.PathChallenge: Inbound._on_path_challenge,
    frames.PathResponse: Inbound._on_path_response,
    frames.Close: Inbound._on_close,
    frames.Compromised: Inbound._on_compromised,
    frames.CompromisedAck: Inbound._on_compromised_ack,
    frames.Datagram: Inbound._on_datagram,
}
_NOT_ELICITING: Final = frozenset(
    (frames.Ack, frames.Close, frames.Compromised, frames.CompromisedAck)
)
_PROBES: Final = frozenset((frames.PathChallenge, frames.PathResponse))


def size_of(packet: Packet) -> int:
    """Bytes of the datagram that it came in: no copy, no forgery."""
    return len(packet[1]) + OVERHEAD


def _frames_of(packets: list[Packet]) -> Iterator[frames.Frame]:
    """The frames of packets that parse."""
    for _, payload in packets:
        with suppress(Malformed):
            yield from frames.parse_frames(payload)
