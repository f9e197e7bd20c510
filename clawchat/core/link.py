"""One peer: runs the machine of the link's life, and stands between all its other machines.

A link has an `Opening` (dialing or answering), from the agreement on a `Transport` and its `Upkeep`
(keys, paths, ports), and an `Undoing` if the pairing is declared compromised. These never see each
other: what one has to tell another goes through here.

Rules: a data or ACK frame fires nothing; effects ask, this file does. A peer's fault closes the
link with a code; an unexpected event of a peer is a fault.
Left to others: which datagram is ours (`core.endpoint`), frames and packets (`core.transport`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, assert_never

from clawchat.core.actions import (
    Closed,
    Established,
    Kept,
    LinkStats,
    Notice,
    Notify,
    Observed,
    PathRestored,
    PathSuspect,
)
from clawchat.core.config import (
    CLOSING_PROBES,
    EPOCH_PACKETS_KEPT,
    PROVING_MAX,
    SUSPECT_PROBES,
    Config,
    Entropy,
)
from clawchat.core.credential import Address, Pairing, Path
from clawchat.core.crypto.schedule import EpochKeys
from clawchat.core.epochs import Epochs
from clawchat.core.events import Buffer
from clawchat.core.exchange import Agreement, Answer
from clawchat.core.inbound import Facts
from clawchat.core.instant import Instant
from clawchat.core.opening import AnsweredHello, Dial, Handshake, Opening
from clawchat.core.paths import Paths, Way
from clawchat.core.phases import answering, established
from clawchat.core.phases.commands import (
    AskForPort,
    ProbePaths,
    Report,
    ReportRestored,
    ReportSuspect,
    SendClose,
    StopAsking,
)
from clawchat.core.phases.dialing import Dialing
from clawchat.core.phases.established import Life, LifeCommand, RoamingCommand
from clawchat.core.ratchet import Ratchet
from clawchat.core.registry import Registry, Route
from clawchat.core.streams.windows import Growth
from clawchat.core.table import Signal, Trace
from clawchat.core.timers import Timer
from clawchat.core.transport import Transport
from clawchat.core.undoing import Undoing
from clawchat.core.upkeep import Upkeep
from clawchat.core.wire.control import CopyReport, PortRotate
from clawchat.core.wire.frames import SCOPE_EVERYTHING, Close, Compromised, encode_close
from clawchat.errors import (
    CloseCode,
    CompromiseReason,
    UnknownLink,
    Violation,
)

_USABLE: Final = (
    established.Phase.LIVE,
    established.Phase.SUSPECT,
    established.Phase.ASLEEP,
)


class Link:
    """One secure association. The application learns its `id` when the dialer proved itself."""

    def __init__(
        self,
        link_id: int,
        config: Config,
        entropy: Entropy,
        registry: Registry[Link],
        trace: Trace | None,
        pairing: Pairing,
        handshake: Handshake,
        paths: tuple[Path, ...],
    ) -> None:
        self.id = link_id
        self.file_id = pairing.file_id
        self.listener_static = pairing.listener_static
        self.life = Life()
        self.transport: Transport | None = None
        self.undoing: Undoing | None = None  # once the pairing was declared compromised
        self.agreement: Agreement | None = None
        self.established_at: Instant = 0
        self.timers: dict[Timer, Instant] = {}
        self._config = config
        self._entropy = entropy
        self._registry = registry
        self._trace = trace
        self._upkeep: Upkeep | None = None
        self._opening: Opening
        if isinstance(handshake, Dialing):
            self._opening = Dial(handshake, config, self, registry, trace, entropy, paths)
        else:
            self._opening = AnsweredHello(
                handshake, pairing.file_id, self, registry, trace, entropy, paths
            )

    # --- what is asked of it ------------------------------------------------------------------

    @property
    def dialer(self) -> bool:
        return isinstance(self._opening, Dial)

    @property
    def over(self) -> bool:
        """Whether nothing is left to do: it is closed, or its handshake lapsed."""
        if self.undoing is not None:
            return self.undoing.over
        if self.handshake.phase is answering.Phase.LAPSED:
            return self.life.phase in (established.Phase.STARTING, established.Phase.CLOSED)
        return self.life.phase is established.Phase.CLOSED

    @property
    def usable(self) -> bool:
        """Whether the application may use it."""
        return self.life.phase in _USABLE and self.undoing is None

    @property
    def _talking(self) -> bool:
        """Whether packets leave."""
        return self.usable and self.life.phase is not established.Phase.ASLEEP

    def data_plane(self) -> Transport:
        """The transport. Raises `UnknownLink` when the link cannot be used (any more)."""
        if self.transport is None or not self.usable:
            raise UnknownLink(f"link {self.id} is not established")
        return self.transport

    @property
    def upkeep(self) -> Upkeep:
        """The runners of its keys, paths and ports, from its agreement to its end."""
        assert self._upkeep is not None
        return self._upkeep

    @property
    def ratchet(self) -> Ratchet | None:
        """The rotation of its keys, as long as they are not wiped."""
        ratchet = None if self._upkeep is None else self._upkeep.ratchet
        return None if ratchet is None or ratchet.model.root.wiped else ratchet

    @property
    def grown(self) -> int:
        """By how many bytes its window has grown."""
        return 0 if self.transport is None else self.transport.streams.grown

    def rotate_keys(self, now: Instant) -> None:
        """Start a ratchet. Raises `UnknownLink`."""
        self.data_plane()
        self.upkeep.ratchet.ask(now)

    def rotate_port(self, now: Instant) -> None:
        """Move to another port. Raises `UnknownLink`."""
        transport = self.data_plane()
        self.upkeep.ports.ask(now, live=self._live)
        self._tell(transport)

    def port_opened(self, local: Address, candidates: tuple[Address, ...], now: Instant) -> None:
        """The socket that was asked for is there. Raises `UnknownLink`."""
        self.data_plane()
        self.upkeep.ports.opened(local, candidates, now)

    def port_refused(self, local: Address, now: Instant) -> None:
        """It is not to be had. Raises `UnknownLink`."""
        transport = self.data_plane()
        self.upkeep.ports.refused(local, now)
        self._tell(transport)

    @property
    def _live(self) -> bool:
        return self.life.phase is established.Phase.LIVE

    def close(self, code: CloseCode, text: str, now: Instant) -> None:
        """End the link; harmless when it has ended, or ends by a declaration already."""
        if self.undoing is not None:
            return
        self._opening.give_up(now)
        self._fire_life(established.CloseAsked(now, code, text), now)

    def disturbed(self, paths: tuple[Path, ...], now: Instant) -> None:
        """The network changed or we woke up; `paths` may lead to the peer as well."""
        if self._upkeep is not None:
            self._upkeep.roaming.disturbed(paths, now)
        self._fire_life(established.Disturbed(now), now)

    # --- beginning ----------------------------------------------------------------------------

    @property
    def handshake(self) -> Handshake:
        """The machine of its beginning."""
        return self._opening.handshake

    def dial(self, now: Instant) -> None:
        """Send the first HELLO."""
        assert isinstance(self._opening, Dial)
        self._opening.begin(now)

    def take_answer(self, path: Path, datagram: bytes, now: Instant) -> None:
        """A datagram under our call's hint. Raises `Malformed`, changing nothing."""
        opening = self._opening
        assert isinstance(opening, Dial)
        found = opening.read_answer(path, datagram, now)
        if found is None:
            return
        agreement, seen = found
        transport = self._agree(agreement, path, now)
        if opening.model.hellos == 1:
            transport.recovery.seed_rtt(now - opening.model.called_at)
        self._notify(Observed(seen))
        opening.verified(agreement.next_credential, now)

    def answer(self, answer: Answer, path: Path, lapses: Instant, now: Instant) -> None:
        """Take what was agreed with a dialer, and reply."""
        self._agree(answer.agreement, path, now)
        self.answered.begin(answer, path, lapses, now)

    @property
    def answered(self) -> AnsweredHello:
        """How a listener's link begins."""
        assert isinstance(self._opening, AnsweredHello)
        return self._opening

    def displace(self, now: Instant) -> None:
        """Another handshake of the same pairing took this one's place."""
        self.answered.displace(now)

    def _agree(self, agreement: Agreement, path: Path, now: Instant) -> Transport:
        """Both Noise messages are known: epoch 0 exists."""
        self.agreement = agreement
        epochs = Epochs(
            agreement.root, dialer=agreement.dialer, found=self._found, lost=self._lost, now=now
        )
        self.transport = Transport(
            epochs,
            dialer=agreement.dialer,
            local=self._config.limits,
            peer=agreement.peer_limits,
            growth=Growth(
                self._config.stream_window_max, self._config.link_window_max, self._registry.room
            ),
            paths=Paths(path, self._entropy),
            drops=self._registry.drops,
            now=now,
        )
        self.transport.inbound.holding = True
        self._upkeep = Upkeep(
            self.id,
            self.file_id,
            agreement,
            self.transport,
            self.timers,
            self._registry,
            self._opening.paths,
            config=self._config,
            entropy=self._entropy,
            trace=self._trace,
        )
        return self.transport

    def _found(self, cid: bytes, keys: EpochKeys, path_id: int) -> None:
        self._registry.routes[cid] = Route(self, keys, path_id)

    def _lost(self, cid: bytes) -> None:
        self._registry.routes.pop(cid, None)

    def persisted(self, ok: bool, now: Instant) -> None:
        """What we asked to be written is durable, or could not be written."""
        self._opening.persisted(ok, now)
        if ok and self._opening.is_through:
            self._after_saving(now)

    def _after_saving(self, now: Instant) -> None:
        """The handshake may go on: take what was held back."""
        assert self.transport is not None
        self.timers.pop(Timer.DIAL, None)
        self._guarded(now, self.transport.inbound.release)
        if self.dialer and self.usable:
            self.upkeep.ratchet.due(now)

    def announce(self, now: Instant) -> None:
        """The link is up: the application may use it."""
        assert self.transport is not None
        assert self.agreement is not None
        self.established_at = now
        if Timer.DIAL in self.timers:
            self.timers[Timer.DIAL] = min(self.timers[Timer.DIAL], now + PROVING_MAX)
        self.upkeep.start_clocks(now)
        self._fire_life(established.Begun(now), now)
        self._notify(
            Established(
                self.agreement.peer_static,
                self.file_id,
                self.agreement.next_credential.generation,
                self.agreement.handshake_hash,
                self.dialer,
                self.transport.path,
            )
        )
        self.transport.probe()

    def fail(self, code: CloseCode, text: str, now: Instant) -> None:
        """There will be no link, and this is why."""
        self._fire_life(established.HandshakeFailed(now, code, text), now)

    def forget(self) -> None:
        """Nothing is left to be said: wipe what is left, and give the sockets back."""
        self._bury()
        upkeep, self._upkeep = self._upkeep, None
        if upkeep is not None:
            upkeep.ports.close()

    # --- arriving -----------------------------------------------------------------------------

    def receive(
        self, route: Route[Link], datagrams: list[Buffer], path: Path, now: Instant
    ) -> bool:
        """Packets that bear a connection id of ours, from `path`. False: none was true and new."""
        transport = self.transport
        assert transport is not None
        known = transport.inbound.packets_received
        cid = bytes(datagrams[0][:8])
        if self.undoing is not None or self.life.phase is established.Phase.CLOSING:
            transport.overhear(route.keys, route.path_id, cid, datagrams, path, now)
            self._after_overhearing(transport, now)
            return transport.inbound.packets_received != known
        if self.handshake.phase is answering.Phase.REPLIED:
            # Of several addresses that got the REPLY only one belongs to who proves itself now.
            alone = len(self._opening.paths) == 1
            transport.paths.begin_at(path, validated=alone)
        self._guarded(
            now, lambda at: transport.receive(route.keys, route.path_id, cid, datagrams, path, at)
        )
        return transport.inbound.packets_received != known

    def _after_overhearing(self, transport: Transport, now: Instant) -> None:
        """A link that is over knows two things more: the peer still talks, or it has heard."""
        facts = transport.inbound.take_facts()
        if facts.compromised is not None:
            self._take_compromised(facts.compromised, now)
        elif self.undoing is not None:
            if facts.obeyed:
                self.undoing.peer_obeyed(now)
        elif facts.close is not None:
            self._take_close(facts.close, now)
        elif facts.heard:
            self._fire_life(established.Heard(now), now)

    def _guarded(self, now: Instant, act: Callable[[Instant], object]) -> None:
        """Let the transport work, then do what it found; a violation closes the link."""
        transport = self.transport
        assert transport is not None
        try:
            if act(now) != 0:  # datagrams none of which was true and new have no consequences
                self._after_facts(transport, now)
        except Violation as error:
            transport.inbound.take_facts()  # what else came with it does not count
            self._fire_life(established.Violated(now, error.code, str(error)), now)

    def _after_facts(self, transport: Transport, now: Instant) -> None:
        """Tell the machines what arrived. Raises `Violation`."""
        self._tell(transport)
        facts = transport.inbound.take_facts()
        if facts.compromised is not None:
            self._take_compromised(facts.compromised, now)
            return
        if facts.obeyed:
            raise Violation(CloseCode.FRAME, "an acknowledgement of what was not declared")
        if facts.heard:
            self._after_heard(facts, now)
        for message in facts.control:
            if isinstance(message, PortRotate):
                self.upkeep.ports.take(message, now)
            elif isinstance(message, CopyReport):
                self.upkeep.telling.take(message)
            else:
                self.upkeep.ratchet.take(message, now)
        self._tell(transport)
        if facts.close is not None:
            self._take_close(facts.close, now)

    def _after_heard(self, facts: Facts, now: Instant) -> None:
        if self.life.phase in (established.Phase.SUSPECT, established.Phase.ASLEEP):
            self._fire_life(established.Heard(now), now)
        if self.usable:
            self._follow(facts, now)
        if self._opening.heard(now):
            self.upkeep.roaming.greet()
        if facts.acknowledged:
            self._opening.acknowledged(now)
        if facts.new_epoch and self._upkeep is not None:
            self._upkeep.ratchet.heard_new_epoch(now)

    def _follow(self, facts: Facts, now: Instant) -> None:
        """Go where the peer is."""
        roaming, ports = self.upkeep.roaming, self.upkeep.ports
        if facts.validated is not None and ports.is_met:
            roaming.found()
            ports.heard(now)
            return
        moved = roaming.follow(facts, now, gently=ports.is_following)
        if moved is not None:
            self._notify(moved)
            ports.met(now)

    def _take_close(self, frame: Close, now: Instant) -> None:
        try:
            code = CloseCode(frame.code)
        except ValueError:  # of a later version
            code = CloseCode.INTERNAL
        if code >= CloseCode.TIMEOUT:  # never sent: what it would mean is ours to say
            code = CloseCode.INTERNAL
        self._opening.give_up(now)
        self._fire_life(established.PeerClosed(now, code, frame.reason), now)

    # --- compromised --------------------------------------------------------------------------

    def declare_compromised(self, reason: CompromiseReason, everything: bool, now: Instant) -> None:
        """Destroy the pairing, telling the peer when it shares keys with us."""
        can_hear = self.transport is not None
        self.begin_undoing().declare(reason, everything, can_hear, now)

    def vanish(self, now: Instant) -> None:
        """Its end was told before: wipe what it still holds."""
        self.let_go(now)
        self.end(by_peer=False, now=now)

    def _take_compromised(self, frame: Compromised, now: Instant) -> None:
        """Of one device's word a listener can make an end of everything, but not the reverse."""
        try:
            reason = CompromiseReason(frame.reason)
        except ValueError:  # of a later version
            reason = CompromiseReason.UNSPECIFIED
        everything = bool(frame.scope & SCOPE_EVERYTHING) and not self.dialer
        self.begin_undoing().peer_declared(reason, everything, now)

    def begin_undoing(self) -> Undoing:
        """From now on this link serves the destruction of its pairing, and nothing else."""
        if self.undoing is None:
            self.undoing = Undoing(self.file_id, self, self._registry, self._trace)
        return self.undoing

    @property
    def ways(self) -> tuple[Way, ...]:
        """Where the peer may be: the way in use first, what the user named last."""
        assert self.transport is not None
        paths = self.transport.paths
        found = (paths.active, *paths, *map(paths.candidate, self.upkeep.roaming.candidates))
        return tuple(dict.fromkeys(found))

    def let_go(self, now: Instant) -> Kept:
        """Wipe all but the packet keys; what that was."""
        self._stop_timers()
        self._opening.give_up(now)
        self._opening.forget()
        if self._upkeep is not None:
            self._upkeep.ratchet.wipe()
        if self.agreement is not None:
            self.agreement.wipe()
        return self._opening.let_go()

    def end(self, by_peer: bool, now: Instant) -> None:
        """Tell the application that the link is over, and forget the rest."""
        self._fire_life(established.Destroyed(now, by_peer), now)

    # --- machines -----------------------------------------------------------------------------

    def _fire_life(self, event: Signal, now: Instant) -> None:
        life = self.life
        established.TABLE.fire(life, event, self._trace)
        commands, life.out = life.out, []
        for command in commands:
            self._obey_life(command, now)
        if life.phase is established.Phase.CLOSING and Timer.CLOSING not in self.timers:
            assert self.transport is not None
            self._stop_timers()
            self.upkeep.telling.over()
            wait = CLOSING_PROBES * self.transport.recovery.pto_ns
            self.timers[Timer.CLOSING] = now + wait
        elif life.phase is established.Phase.CLOSED:
            self._bury()

    def _obey_life(self, command: LifeCommand, now: Instant) -> None:
        match command:
            case SendClose():
                self._send_close()
            case Report(code, text, by_peer):
                self._notify(Closed(code, text, by_peer))
            case _:
                self._obey_roaming(command, now)

    def _obey_roaming(self, command: RoamingCommand, now: Instant) -> None:
        roaming = self.upkeep.roaming
        match command:
            case ReportSuspect():
                roaming.suspect(now)
                self.upkeep.ports.lost(now)
                self._notify(PathSuspect())
            case ProbePaths():
                roaming.probe(now, again=self.life.phase is established.Phase.SUSPECT)
            case AskForPort():
                self._registry.out.append(roaming.port_wanted(self.id))
            case StopAsking():
                roaming.sleep()
            case ReportRestored():
                self._notify(PathRestored(roaming.restored(now)))
            case _:
                assert_never(command)

    def _send_close(self) -> None:
        assert self.transport is not None
        if self.transport.epochs.current.seal.sealed >= self._config.epoch_packets_max:
            return  # the peer will notice our silence instead
        close = encode_close(self.life.code, self.life.text)
        self._registry.out += self.transport.outbound.last_words(
            self.transport.paths.active, [close]
        )

    def _stop_timers(self) -> None:
        self.timers.clear()

    def _bury(self) -> None:
        """Wipe every key and forget every route; what the application keeps is its notice."""
        self._stop_timers()
        self._opening.forget()
        transport, self.transport = self.transport, None
        if transport is not None:
            transport.epochs.wipe()
        if self._upkeep is not None:
            self._upkeep.telling.over()
            self._upkeep.ratchet.wipe()

    # --- leaving ------------------------------------------------------------------------------

    def pack(self, now: Instant) -> None:
        """Append all that may be sent now to the actions."""
        transport = self.transport
        if transport is None or not self._talking:
            return
        self.upkeep.look(now)
        may_send = self._config.epoch_packets_max - EPOCH_PACKETS_KEPT
        left = may_send - transport.epochs.current.seal.sealed
        if left <= 0:
            self.close(CloseCode.KEYS_EXHAUSTED, "too many packets in one epoch", now)
            return
        self._registry.out.extend(transport.pack(now, left))

    # --- time ---------------------------------------------------------------------------------

    def next_timer(self) -> tuple[Instant, Timer] | None:
        """When `advance` is due, and which timer says so."""
        due = None
        if self.transport is not None and self._talking:
            due = self.transport.next_timer()
        for timer, at in self.timers.items():
            if due is None or at < due[0]:
                due = at, timer
        hello_at = self._opening.hello_at
        if hello_at is not None and (due is None or hello_at < due[0]):
            due = hello_at, Timer.HELLO
        return due

    def advance(self, now: Instant) -> None:
        """Fire what is due."""
        self._opening.advance(now)
        for timer, act in _ON_TIMER.items():
            at = self.timers.get(timer)
            if at is not None and at <= now:
                del self.timers[timer]
                act(self, now)
        if self.transport is not None and self._talking:
            self._guarded(now, self.transport.advance)
            self._suspect_if_unanswered(now)

    def _suspect_if_unanswered(self, now: Instant) -> None:
        transport = self.transport
        if transport is None or self.life.phase is not established.Phase.LIVE:
            return
        if transport.recovery.pto_count >= SUSPECT_PROBES or transport.is_mute(now):
            self._fire_life(established.ProbesUnanswered(now), now)

    def _on_move(self, now: Instant) -> None:
        assert self.transport is not None
        self.upkeep.ports.lapsed(now)
        self._tell(self.transport)

    def _on_silence(self, now: Instant) -> None:
        if self.upkeep.roaming.is_silent(now):
            self._opening.give_up(now)
            self._fire_life(established.SilenceDue(now), now)

    # --- telling ------------------------------------------------------------------------------

    def _tell(self, transport: Transport) -> None:
        """Pass on what the application is to know."""
        for notice in transport.take_notices():
            self._notify(notice)

    def _notify(self, notice: Notice) -> None:
        self._registry.out.append(Notify(self.id, notice))

    def stats(self) -> LinkStats:
        """A snapshot for people."""
        transport = self.data_plane()
        recovery = transport.recovery
        assert self.agreement is not None
        return LinkStats(
            phase=self.life.phase.name.lower(),
            epoch=transport.epochs.current.epoch,
            generation=self.agreement.next_credential.generation,
            path=transport.path,
            rtt_ns=recovery.rtt.smoothed,
            rtt_min_ns=recovery.rtt.min,
            datagram_size=transport.mtu.size,
            congestion_window=recovery.cwnd,
            bytes_in_flight=recovery.in_flight,
            packets_sent=transport.outbound.packets_sent,
            packets_received=transport.inbound.packets_received,
            packets_lost=recovery.packets_lost,
            established_at=self.established_at,
            streams=len(transport.streams),
            ports_left=self.upkeep.ports.moves,
        )


_ON_TIMER: Final[dict[Timer, Callable[[Link, Instant], None]]] = {
    Timer.DIAL: lambda link, now: link._opening.lapsed(now),
    Timer.PENDING: lambda link, now: link._opening.lapsed(now),
    Timer.ROTATION: lambda link, now: link.upkeep.ratchet.due(now),
    Timer.WIPE: lambda link, now: link.upkeep.ratchet.wipe_due(now),
    Timer.KEEPALIVE: lambda link, now: link.upkeep.roaming.keep_alive(now),
    Timer.PROBE: lambda link, now: link._fire_life(established.ProbeDue(now), now),
    Timer.PORT: lambda link, now: link.upkeep.ports.due(now, live=link._live),
    Timer.PUNCH: lambda link, now: link.upkeep.ports.punch_due(now),
    Timer.MOVE: Link._on_move,
    Timer.OVERLAP: lambda link, now: link.upkeep.ports.overlap_over(now),
    Timer.REPORT: lambda link, now: link.upkeep.telling.due(now),
    Timer.HOP: lambda link, now: link._fire_life(established.HopDue(now), now),
    Timer.ASLEEP: lambda link, now: link._fire_life(established.AsleepDue(now), now),
    Timer.SILENCE: Link._on_silence,
    Timer.CLOSING: lambda link, now: link._fire_life(established.ClosingOver(now), now),
    Timer.DECLARING: lambda link, now: link.begin_undoing().say_again(now),
    Timer.WIPING: lambda link, now: link.begin_undoing().patience_over(now),
}
"""In the order in which those that are due at the same time are served."""
