"""One peer: owns the link's machines, fires them, and carries out what they ask for.

A link begins with a handshake (dialing or answering), then has a `Transport`. Machines never see
each other: what one has to tell another goes through here.

Rules: a data or ACK frame fires nothing; effects ask, this file does. A peer's fault closes the
link with a code; an unexpected event of a peer is a fault.
Left to others: which datagram is ours (`core.endpoint`), frames and packets (`core.transport`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias, assert_never

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
    Persist,
    Transmit,
)
from clawchat.core.admission import source_of
from clawchat.core.config import (
    CLOSING_PROBES,
    EPOCH_PACKETS_KEPT,
    PROVING_MAX,
    SUSPECT_PROBES,
    Config,
    Entropy,
)
from clawchat.core.credential import Address, Pairing, Path
from clawchat.core.crypto.envelope import seal_reply
from clawchat.core.crypto.schedule import EpochKeys
from clawchat.core.epochs import Epochs
from clawchat.core.events import Buffer
from clawchat.core.exchange import Agreement, Answer, DialAttempt
from clawchat.core.inbound import Facts
from clawchat.core.instant import Instant
from clawchat.core.paths import Paths, Way
from clawchat.core.phases import answering, dialing, established
from clawchat.core.phases.answering import Answering, AnsweringCommand
from clawchat.core.phases.commands import (
    Announce,
    AskForPort,
    Fail,
    ProbePaths,
    Report,
    ReportRestored,
    ReportSuspect,
    Save,
    SendClose,
    SendHello,
    SendReply,
    StartAttempt,
    StopAsking,
)
from clawchat.core.phases.dialing import Dialing, DialingCommand
from clawchat.core.phases.established import Life, LifeCommand, RoamingCommand
from clawchat.core.ports import Ports
from clawchat.core.ratchet import Ratchet
from clawchat.core.registry import Registry, Route
from clawchat.core.roaming import Roaming, moved_local
from clawchat.core.table import Signal, Trace
from clawchat.core.timers import Timer
from clawchat.core.transport import Transport
from clawchat.core.undoing import Undoing
from clawchat.core.wire.control import PortRotate
from clawchat.core.wire.frames import SCOPE_EVERYTHING, Close, Compromised, encode_close
from clawchat.errors import (
    CloseCode,
    CompromiseReason,
    Drop,
    Malformed,
    UnknownLink,
    Violation,
)

Handshake: TypeAlias = Dialing | Answering

REPLIED_TO_MAX: Final = 8  # addresses of one HELLO that get an answer: the first ones
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
        self.handshake = handshake
        self.life = Life()
        self.ratchet: Ratchet | None = None
        self.roaming: Roaming | None = None
        self.ports: Ports | None = None
        self.transport: Transport | None = None
        self.undoing: Undoing | None = None  # once the pairing was declared compromised
        self.agreement: Agreement | None = None
        self.established_at: Instant = 0
        self.timers: dict[Timer, Instant] = {}
        self._config = config
        self._entropy = entropy
        self._registry = registry
        self._trace = trace
        self._paths = paths
        self._asking: Path | None = None  # from where the HELLO came last
        self._attempt: DialAttempt | None = None
        self._answer: Answer | None = None

    # --- what is asked of it ------------------------------------------------------------------

    @property
    def dialer(self) -> bool:
        return isinstance(self.handshake, Dialing)

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

    def rotate_keys(self, now: Instant) -> None:
        """Start a ratchet. Raises `UnknownLink`."""
        self.data_plane()
        assert self.ratchet is not None
        self.ratchet.ask(now)

    def rotate_port(self, now: Instant) -> None:
        """Move to another port. Raises `UnknownLink`."""
        transport = self.data_plane()
        assert self.ports is not None
        self.ports.ask(now, live=self._live)
        self._tell(transport)

    def port_opened(self, local: Address, candidates: tuple[Address, ...], now: Instant) -> None:
        """The socket that was asked for is there. Raises `UnknownLink`."""
        self.data_plane()
        assert self.ports is not None
        self.ports.opened(local, candidates, now)

    def port_refused(self, local: Address, now: Instant) -> None:
        """It is not to be had. Raises `UnknownLink`."""
        transport = self.data_plane()
        assert self.ports is not None
        self.ports.refused(local, now)
        self._tell(transport)

    @property
    def _live(self) -> bool:
        return self.life.phase is established.Phase.LIVE

    def close(self, code: CloseCode, text: str, now: Instant) -> None:
        """End the link; harmless when it has ended, or ends by a declaration already."""
        if self.undoing is not None:
            return
        self._give_up_handshake(now)
        self._fire_life(established.CloseAsked(now, code, text), now)

    def disturbed(self, paths: tuple[Path, ...], now: Instant) -> None:
        """The network changed or we woke up; `paths` may lead to the peer as well."""
        if self.roaming is not None:
            self.roaming.disturbed(paths, now)
        self._fire_life(established.Disturbed(now), now)

    # --- dialing ------------------------------------------------------------------------------

    def dial(self, now: Instant) -> None:
        """Send the first HELLO."""
        self.timers[Timer.DIAL] = now + self._config.dial_ns_max
        self._start_attempt(StartAttempt(0, b""))
        self._fire_handshake(dialing.HelloDue(now), now)

    def take_answer(self, path: Path, datagram: bytes, now: Instant) -> None:
        """A datagram under our call's hint. Raises `Malformed`, changing nothing."""
        assert self._attempt is not None
        if path not in self._paths:  # copied by a stranger: nobody dialled there
            raise Malformed(Drop.PATH)
        admission = self._registry.admission
        found = self._attempt.read_answer(
            datagram, lambda: admission.may_compute(self.file_id, path.remote, now)
        )
        if not isinstance(found, tuple):
            self._fire_handshake(dialing.Refused(now, found.cookie), now)
            return
        agreement, seen = found
        self._end_attempt()
        self._agree(agreement, path, now)
        assert isinstance(self.handshake, Dialing)
        if self.transport is not None and self.handshake.hellos == 1:
            self.transport.recovery.seed_rtt(now - self.handshake.called_at)
        self._notify(Observed(seen))
        self._fire_handshake(dialing.ReplyVerified(now, agreement.next_credential), now)

    def _end_attempt(self) -> None:
        """No answer is awaited any more."""
        if self._attempt is not None:
            self._registry.calls.pop(self._attempt.hint, None)
            self._attempt = None

    def _start_attempt(self, command: StartAttempt) -> None:
        assert isinstance(self.handshake, Dialing)
        self._end_attempt()
        self._attempt = DialAttempt(
            self._config.identity,
            self.handshake.pairing,
            command.turn,
            self._config.limits,
            command.cookie,
            self._entropy,
        )
        self._registry.calls[self._attempt.hint] = self

    # --- answering ----------------------------------------------------------------------------

    def answer(self, answer: Answer, path: Path, lapses: Instant, now: Instant) -> None:
        """Take what was agreed with a dialer, and reply."""
        self._answer = answer
        self.timers[Timer.PENDING] = lapses
        self._agree(answer.agreement, path, now)
        self.reply(path, now)

    def reply(self, path: Path, now: Instant) -> None:
        """Answer the same HELLO (again), to where it came from this time.

        Raises `Malformed` when it comes from too many places: the first are the likeliest.
        """
        if path not in self._paths:
            if len(self._paths) >= REPLIED_TO_MAX:
                raise Malformed(Drop.BUSY)
            self._paths += (path,)
        self._asking = path
        self._fire_handshake(answering.HelloRepeated(now), now)

    @property
    def asked_by(self) -> bytes:
        """The source that asked first."""
        return source_of(self._paths[0].remote)

    @property
    def called_from(self) -> Path:
        """Where the HELLO came from first."""
        return self._paths[0]

    def replied_to(self, path: Path) -> bool:
        """Whether a REPLY went there: whoever can prove itself from there is there."""
        return path in self._paths

    def displace(self, now: Instant) -> None:
        """Another handshake of the same pairing took this one's place."""
        self._fire_handshake(answering.Displaced(now), now)

    # --- both ---------------------------------------------------------------------------------

    def _agree(self, agreement: Agreement, path: Path, now: Instant) -> None:
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
            paths=Paths(path, self._entropy),
            drops=self._registry.drops,
            now=now,
        )
        self.transport.inbound.holding = True
        self.ratchet = Ratchet(
            agreement.root,
            self.transport,
            self.timers,
            dialer=agreement.dialer,
            config=self._config,
            entropy=self._entropy,
            trace=self._trace,
        )

        self.roaming = Roaming(
            self.transport,
            self.timers,
            self._paths,
            dialer=agreement.dialer,
            config=self._config,
            entropy=self._entropy,
        )
        self.ports = Ports(
            self.id,
            self.transport,
            self.timers,
            self._registry,
            dialer=agreement.dialer,
            rotate_keys=self.ratchet.ask,
            left=self._left_port,
            config=self._config,
            entropy=self._entropy,
            trace=self._trace,
        )

    def _left_port(self, local: Address, instead: Address) -> None:
        """A socket of ours is about to be closed."""
        assert self.roaming is not None
        self.roaming.left_port(local, instead)
        self._paths = moved_local(self._paths, local, instead)

    def _found(self, cid: bytes, keys: EpochKeys, path_id: int) -> None:
        self._registry.routes[cid] = Route(self, keys, path_id)

    def _lost(self, cid: bytes) -> None:
        self._registry.routes.pop(cid, None)

    def persisted(self, ok: bool, now: Instant) -> None:
        """What we asked to be written is durable, or could not be written."""
        steps = dialing if self.dialer else answering
        self._fire_handshake(steps.Saved(now) if ok else steps.SaveFailed(now), now)

    def _after_saving(self, now: Instant) -> None:
        """The handshake may go on: take what was held back."""
        assert self.transport is not None
        self.timers.pop(Timer.DIAL, None)
        self._guarded(now, self.transport.inbound.release)
        if self.handshake.phase is dialing.Phase.UP and self.usable and self.ratchet:
            self.ratchet.due(now)

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
            alone = len(self._paths) == 1
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
            self._after_heard(transport, facts, now)
        for message in facts.control:
            assert self.ratchet is not None
            assert self.ports is not None
            if isinstance(message, PortRotate):
                self.ports.take(message, now)
            else:
                self.ratchet.take(message, now)
        self._tell(transport)
        if facts.close is not None:
            self._take_close(facts.close, now)

    def _after_heard(self, transport: Transport, facts: Facts, now: Instant) -> None:
        if self.life.phase in (established.Phase.SUSPECT, established.Phase.ASLEEP):
            self._fire_life(established.Heard(now), now)
        if self.roaming is not None and self.ports is not None and self.usable:
            moved = self.roaming.follow(facts, now, gently=self.ports.is_following)
            if moved is not None:
                self._notify(moved)
                self.ports.met(now)
            if facts.validated is not None:
                self.ports.heard(now)
        if self.handshake.phase is dialing.Phase.PROVING:
            self._fire_handshake(dialing.PeerProved(now), now)
            assert self.roaming is not None  # it began with the transport
            self.roaming.greet()
        elif self.handshake.phase is answering.Phase.REPLIED:
            pairing = self._registry.pairings[self.file_id]
            self._fire_handshake(answering.DialerProved(now, pairing), now)
        if facts.acknowledged and self.handshake.phase is answering.Phase.RUNNING:
            pairing = self._registry.pairings[self.file_id]
            self._fire_handshake(answering.DialerSettled(now, pairing), now)
        if facts.new_epoch and self.ratchet is not None:
            self.ratchet.heard_new_epoch(now)

    def _take_close(self, frame: Close, now: Instant) -> None:
        try:
            code = CloseCode(frame.code)
        except ValueError:  # of a later version
            code = CloseCode.INTERNAL
        if code >= CloseCode.TIMEOUT:  # never sent: what it would mean is ours to say
            code = CloseCode.INTERNAL
        self._give_up_handshake(now)
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
        named = self._paths if self.dialer else ()  # a listener's are where a HELLO came from
        found = (paths.active, *paths, *map(paths.candidate, named))
        return tuple(dict.fromkeys(found))

    def let_go(self, now: Instant) -> Kept:
        """Wipe all but the packet keys; what that was."""
        self._stop_timers()
        self._give_up_handshake(now)
        self._end_attempt()
        self._answer = None
        if self.ratchet is not None:
            self.ratchet.wipe()
            self.ratchet = None
        if self.agreement is not None:
            self.agreement.wipe()
        machine = self.handshake
        if not isinstance(machine, Dialing):
            machine.used.wipe()
            machine.next_credential.wipe()
            return Kept()  # the endpoint has the list
        known = machine.pairing
        known.wipe()
        generations = tuple(credential.generation for credential in known.credentials)
        return Kept(generations=generations, pinned_key=known.peer_static is not None)

    def end(self, by_peer: bool, now: Instant) -> None:
        """Tell the application that the link is over, and forget the rest."""
        self._fire_life(established.Destroyed(now, by_peer), now)

    def _on_declaring(self, now: Instant) -> None:
        assert self.undoing is not None
        self.undoing.say_again(now)

    def _on_wiping(self, now: Instant) -> None:
        assert self.undoing is not None
        self.undoing.patience_over(now)

    # --- machines -----------------------------------------------------------------------------

    def _fire_handshake(self, event: Signal, now: Instant) -> None:
        machine = self.handshake
        if isinstance(machine, Dialing):
            dialing.TABLE.fire(machine, event, self._trace)
        else:
            answering.TABLE.fire(machine, event, self._trace)
        commands, machine.out = machine.out, []
        for command in commands:
            self._obey_handshake(command, now)
        if machine.phase in (dialing.Phase.UP, answering.Phase.RUNNING) and isinstance(
            event, dialing.Saved | answering.Saved
        ):
            self._after_saving(now)

    def _obey_handshake(self, command: DialingCommand | AnsweringCommand, now: Instant) -> None:
        match command:
            case Save(pairing):
                self._save(pairing)
            case StartAttempt():
                self._start_attempt(command)
            case SendHello():
                self._send_hello()
            case SendReply():
                self._send_reply()
            case Announce():
                self._announce(now)
            case Fail(code, text):
                self._fire_life(established.HandshakeFailed(now, code, text), now)
            case _:
                assert_never(command)

    def _save(self, pairing: Pairing) -> None:
        ticket = self._registry.next_ticket(self, pairing)
        self._registry.out.append(Persist(self.id, ticket, pairing.own()))

    def _send_hello(self) -> None:
        assert self._attempt is not None
        hello = self._attempt.hello
        self._registry.out.extend(Transmit(path, [hello]) for path in self._paths)

    def _send_reply(self) -> None:
        answer, path = self._answer, self._asking
        assert answer is not None
        assert path is not None
        reply = seal_reply(answer.used, path.remote, answer.message, self._entropy)
        self._registry.out.append(Transmit(path, [reply]))

    def _announce(self, now: Instant) -> None:
        assert self.transport is not None
        assert self.agreement is not None
        self.established_at = now
        if Timer.DIAL in self.timers:
            self.timers[Timer.DIAL] = min(self.timers[Timer.DIAL], now + PROVING_MAX)
        assert self.ratchet is not None
        assert self.roaming is not None
        assert self.ports is not None
        self.roaming.start_clock(now)
        self.ports.start_clock(now)
        self.ratchet.start_clock(now)
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

    def _give_up_handshake(self, now: Instant) -> None:
        self.timers.pop(Timer.DIAL, None)
        self.timers.pop(Timer.PENDING, None)
        if self.dialer:
            self._fire_handshake(dialing.GivenUp(now), now)
        else:
            self._fire_handshake(answering.Displaced(now), now)

    def _fire_life(self, event: Signal, now: Instant) -> None:
        life = self.life
        established.TABLE.fire(life, event, self._trace)
        commands, life.out = life.out, []
        for command in commands:
            self._obey_life(command, now)
        if life.phase is established.Phase.CLOSING and Timer.CLOSING not in self.timers:
            assert self.transport is not None
            self._stop_timers()
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
        roaming = self.roaming
        assert roaming is not None
        assert self.ports is not None
        match command:
            case ReportSuspect():
                roaming.suspect(now)
                self.ports.lost(now)
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
        self._end_attempt()
        self._answer = None
        transport = self.transport
        if transport is not None:
            transport.epochs.wipe()
            self.transport = None
        if self.ratchet is not None:
            self.ratchet.wipe()
            self.ratchet = None
        self.roaming = None
        if self.ports is not None:
            self.ports.close()
            self.ports = None

    def forget(self) -> None:
        """Wipe a handshake that never became a link."""
        self._bury()

    # --- leaving ------------------------------------------------------------------------------

    def pack(self, now: Instant) -> None:
        """Append all that may be sent now to the actions."""
        transport = self.transport
        if transport is None or self.ratchet is None or self.roaming is None:
            return
        if not self._talking:
            return
        self.roaming.look(now)
        self.ratchet.look(now)
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
        machine = self.handshake
        hello_at = machine.hello_at if isinstance(machine, Dialing) else None
        if hello_at is not None and (due is None or hello_at < due[0]):
            due = hello_at, Timer.HELLO
        return due

    def advance(self, now: Instant) -> None:
        """Fire what is due."""
        machine = self.handshake
        hello_at = machine.hello_at if isinstance(machine, Dialing) else None
        if hello_at is not None and hello_at <= now:
            self._fire_handshake(dialing.HelloDue(now), now)
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
        if transport.recovery.pto_count >= SUSPECT_PROBES:
            self._fire_life(established.ProbesUnanswered(now), now)

    def _on_dial(self, now: Instant) -> None:
        self._fire_handshake(dialing.DialLapsed(now), now)

    def _on_pending(self, now: Instant) -> None:
        if self.handshake.phase is answering.Phase.REPLIED:
            self._fire_handshake(answering.PendingLapsed(now), now)

    def _on_rotation(self, now: Instant) -> None:
        assert self.ratchet is not None
        self.ratchet.due(now)

    def _on_wipe(self, now: Instant) -> None:
        assert self.ratchet is not None
        self.ratchet.wipe_due(now)

    def _on_port(self, now: Instant) -> None:
        assert self.ports is not None
        self.ports.due(now, live=self._live)

    def _on_punch(self, now: Instant) -> None:
        assert self.ports is not None
        self.ports.punch_due(now)

    def _on_move(self, now: Instant) -> None:
        assert self.ports is not None
        assert self.transport is not None
        self.ports.lapsed(now)
        self._tell(self.transport)

    def _on_overlap(self, now: Instant) -> None:
        assert self.ports is not None
        self.ports.overlap_over(now)

    def _on_keepalive(self, now: Instant) -> None:
        assert self.roaming is not None
        self.roaming.keep_alive(now)

    def _on_probe(self, now: Instant) -> None:
        self._fire_life(established.ProbeDue(now), now)

    def _on_hop(self, now: Instant) -> None:
        self._fire_life(established.HopDue(now), now)

    def _on_asleep(self, now: Instant) -> None:
        self._fire_life(established.AsleepDue(now), now)

    def _on_silence(self, now: Instant) -> None:
        assert self.roaming is not None
        if self.roaming.is_silent(now):
            self._give_up_handshake(now)
            self._fire_life(established.SilenceDue(now), now)

    def _on_closing(self, now: Instant) -> None:
        self._fire_life(established.ClosingOver(now), now)

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
        assert self.ports is not None
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
            ports_left=self.ports.moves,
        )


_ON_TIMER: Final[dict[Timer, Callable[[Link, Instant], None]]] = {
    Timer.DIAL: Link._on_dial,
    Timer.PENDING: Link._on_pending,
    Timer.ROTATION: Link._on_rotation,
    Timer.WIPE: Link._on_wipe,
    Timer.KEEPALIVE: Link._on_keepalive,
    Timer.PROBE: Link._on_probe,
    Timer.PORT: Link._on_port,
    Timer.PUNCH: Link._on_punch,
    Timer.MOVE: Link._on_move,
    Timer.OVERLAP: Link._on_overlap,
    Timer.HOP: Link._on_hop,
    Timer.ASLEEP: Link._on_asleep,
    Timer.SILENCE: Link._on_silence,
    Timer.CLOSING: Link._on_closing,
    Timer.DECLARING: Link._on_declaring,
    Timer.WIPING: Link._on_wiping,
}
