"""One socket's worth of protocol: routes datagrams, answers HELLOs, owns the links.

Three verbs: `handle` what happened, take `actions`, mind the `deadline`. The same configuration,
entropy and events give the same actions (but for the bytes of ML-KEM ciphertexts, which OpenSSL
draws itself).

Rules: what does not authenticate is counted and dropped, never answered, never a phase change.
The event goes before any timer already due, so that a late driver cannot make a peer look silent.
Left to others: one peer's affairs (`core.link`), sockets and clocks (`clawchat.drivers`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Final

from attrs import evolve

from clawchat.core.actions import (
    Action,
    CredentialReused,
    Destroy,
    DestroyIdentity,
    Kept,
    LinkStats,
    Notify,
    Publish,
    Transmit,
    Withdraw,
)
from clawchat.core.admission import Admission, source_of
from clawchat.core.config import PENDING_LIFE, PENDING_PER_PAIRING, Config, Entropy
from clawchat.core.credential import FILE_ID_SIZE, HINT_SIZE, Credential, Pairing, Path, Superseded
from clawchat.core.crypto.envelope import ENVELOPE_SIZES, open_hello, seal_refusal
from clawchat.core.crypto.packets import CID_SIZE, OVERHEAD
from clawchat.core.crypto.schedule import derive_credential
from clawchat.core.crypto.suite import public_key
from clawchat.core.events import (
    CONTROL_STREAM,
    Buffer,
    Close,
    Consumed,
    DatagramReceived,
    DeclareCompromised,
    Dial,
    Disturbed,
    Event,
    Forget,
    Persisted,
    PersistFailed,
    Ping,
    PortOpened,
    PortRefused,
    PublishBootstrap,
    Remember,
    ResetStream,
    RotateKeys,
    RotatePort,
    SendDatagram,
    StopStream,
    WithdrawBootstrap,
    Write,
)
from clawchat.core.exchange import (
    EPHEMERAL_SIZE,
    Hello,
    answer,
    check_cookie,
    make_cookie,
    read_hello,
)
from clawchat.core.instant import SECOND, Deadline, Instant
from clawchat.core.link import Link
from clawchat.core.links import Links
from clawchat.core.phases import answering, bootstrap, established
from clawchat.core.phases.answering import Answering
from clawchat.core.phases.bootstrap import Issuer
from clawchat.core.phases.dialing import Dialing
from clawchat.core.registry import Registry, Route
from clawchat.core.secret import Secret
from clawchat.core.streams.streams import Streams
from clawchat.core.table import Trace
from clawchat.core.timers import Timer
from clawchat.core.undoing import Undoing
from clawchat.core.wire.varint import MAX as VARINT_MAX
from clawchat.errors import (
    CloseCode,
    CompromiseReason,
    Drop,
    LinkLimit,
    LinkTaken,
    LocalError,
    Malformed,
    PairingDestroyed,
    UnknownStream,
)

COOKIE_KEY_SIZE: Final = 32
REFUSED_KEPT_MAX: Final = (
    64  # refused HELLOs that cost no public-key operation when they come again
)
ANSWERED_KEPT_MAX: Final = 64  # HELLOs of one pairing that are not answered anew


class Endpoint:
    """Dials, listens, or both. `unix_ns` is the wall clock at `now`, for bootstrap files only."""

    def __init__(
        self,
        config: Config,
        *,
        now: Instant,
        unix_ns: int,
        entropy: Entropy,
        trace: Trace | None = None,
    ) -> None:
        self.config = evolve(config, identity=config.identity.copy())  # ours to wipe
        self.static = public_key(config.identity.view())
        self._entropy = entropy
        self._trace = trace
        self._unix_ns_at_zero = unix_ns - now
        self._registry: Registry[Link] = Registry(
            destroy=self._destroy, admission=Admission(config.handshakes_per_second)
        )
        self._destroyed: dict[bytes, None] = {}  # pairings that must never be used again
        self._fallen = False  # whether everything was declared compromised
        self._links = Links(self.config, entropy, self._registry, trace)
        self._answered: dict[bytes, dict[bytes, None]] = {}  # ephemeral keys, by file id
        self._refused: deque[bytes] = deque(maxlen=REFUSED_KEPT_MAX)
        self._issuer = Issuer(self.static, entropy)
        self._cookie_key = Secret(entropy(COOKIE_KEY_SIZE))
        self._incoming = 0

    # --- the three verbs ----------------------------------------------------------------------

    def handle(self, event: Event, now: Instant) -> None:
        """Something happened. Raises a `LocalError` for what cannot be done, changing nothing."""
        _HANDLERS[type(event)](self, event, now)

    def advance(self, now: Instant) -> None:
        """Fire what is due at `now`; harmless early."""
        issuer = self._issuer
        if issuer.due is not None and issuer.due <= now:
            bootstrap.TABLE.fire(issuer, bootstrap.FileDue(now, self._unix_s(now)), self._trace)
            self._publish(now)
        self._links.advance(now)

    def actions(self, now: Instant) -> list[Action]:
        """What is to be done, in order; empty when nothing is left until the next event."""
        self._links.pack(now)
        out, self._registry.out = self._registry.out, []
        return out

    @property
    def deadline(self) -> Deadline | None:
        """When `advance` must be called at the latest, and why."""
        due, links = self._issuer.due, self._links.deadline
        if due is not None and (links is None or due < links.at):
            return Deadline(due, Timer.BOOTSTRAP.name)
        return links

    # --- what can be asked --------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """How many actions are ready at least: a driver that gathers events takes them in time."""
        return len(self._registry.out)

    def may_be_ours(self, head: bytes) -> bool:
        """Whether a datagram that begins with these 16 bytes is worth giving to `handle`. One that
        is not has been counted: this is all that a stranger's datagram costs.
        """
        registry = self._registry
        if head[:CID_SIZE] in registry.routes or head in registry.hints or head in registry.calls:
            return True
        registry.drops[Drop.STRANGER] += 1
        return False

    @property
    def drops(self) -> Counter[Drop]:
        """How many datagrams were dropped, by reason."""
        return self._registry.drops

    @property
    def pairings(self) -> list[Pairing]:
        """Those we listen for."""
        return list(self._registry.pairings.values())

    @property
    def links(self) -> list[int]:
        """Ids of all links that are not closed, those still dialing included."""
        return list(self._links.by_id)

    def link_stats(self, link: int) -> LinkStats:
        """A snapshot of an established link. Raises `UnknownLink`."""
        return self._links.find(link).stats()

    # --- arriving -----------------------------------------------------------------------------

    def _on_datagram(self, event: DatagramReceived, now: Instant) -> None:
        """Cut what came into datagrams, and hand runs with one connection id on together."""
        data, size = event.data, event.segment
        if not size or len(data) <= size:
            self._on_run([data], event.path, now)
            return
        view = memoryview(data)
        self._on_run([view[at : at + size] for at in range(0, len(view), size)], event.path, now)

    def _on_run(self, datagrams: list[Buffer], path: Path, now: Instant) -> None:
        routes, drops = self._registry.routes, self._registry.drops
        largest = self.config.limits.max_datagram
        route: Route[Link] | None = None  # of the run that began at `start`
        start, run_cid = 0, b""
        for at, datagram in enumerate(datagrams):
            size = len(datagram)
            cid = bytes(datagram[:CID_SIZE])
            if route is not None:
                if cid == run_cid and OVERHEAD <= size <= largest:
                    continue
                self._on_packets(route, datagrams[start:at], path, now)
                route = None
            if size < OVERHEAD:
                drops[Drop.EMPTY] += 1
            elif size > largest:
                drops[Drop.OVERSIZED] += 1
            elif cid in routes:
                route, start, run_cid = routes[cid], at, cid
            else:
                self._on_envelope(bytes(datagram), path, now)
        if route is not None:
            self._on_packets(route, datagrams[start:], path, now)

    def _on_packets(
        self, route: Route[Link], datagrams: list[Buffer], path: Path, now: Instant
    ) -> None:
        link = route.link
        if link.handshake.phase is answering.Phase.REPLIED:
            refused = self._refuses_promotion(link, path)
            if refused is not None:
                self._registry.drops[refused] += len(datagrams)
                return
        before = link.handshake.phase
        heard = link.receive(route, datagrams, path, now)
        if before is answering.Phase.REPLIED and link.handshake.phase is answering.Phase.SAVING:
            self._promote(link, now)
        if heard:
            self._links.touch(link)

    # --- dialing ------------------------------------------------------------------------------

    def _on_dial(self, event: Dial, now: Instant) -> None:
        self._refuse_destroyed(event.pairing.file_id)
        if event.link <= 0 or event.link in self._links.by_id:
            raise LinkTaken("a dialled link needs a positive id that is not in use")
        if self._links.full:
            raise LinkLimit(f"at most {self.config.max_links} links at a time")
        if any(link.file_id == event.pairing.file_id for link in self._registry.calls.values()):
            raise LinkTaken("this pairing is being dialled already")
        pairing = event.pairing.own()
        link = self._links.make(event.link, pairing, Dialing(pairing), event.paths)
        try:
            link.dial(now)
        except (IndexError, ValueError):  # no credential, or a static key that X25519 refuses
            raise LocalError("this pairing cannot be dialled: its keys are of no use") from None
        self._links.by_id[link.id] = link
        self._links.touch(link)

    # --- envelopes ----------------------------------------------------------------------------

    def _on_envelope(self, datagram: bytes, path: Path, now: Instant) -> None:
        """A datagram without a connection id of ours: a HELLO, an answer to ours, or noise."""
        hint = datagram[:HINT_SIZE]
        call = self._registry.calls.get(hint)
        known = self._registry.hints.get(hint)
        if (call is None and known is None) or len(datagram) not in ENVELOPE_SIZES:
            self._registry.drops[Drop.STRANGER] += 1
            return
        try:
            if call is not None:
                call.take_answer(path, datagram, now)
                self._links.touch(call)
            else:
                assert known is not None
                self._on_hello(known, datagram, path, now)
        except Malformed as error:
            self._registry.drops[error.drop] += 1

    def _on_hello(
        self,
        known: tuple[bytes, Credential | Superseded],
        datagram: bytes,
        path: Path,
        now: Instant,
    ) -> None:
        """Raises `Malformed`."""
        file_id, credential = known
        message = open_hello(credential, datagram)
        admission = self._registry.admission
        pairing = self._registry.pairings[file_id]
        waiting = self._links.pending.get(message)
        if waiting is not None or isinstance(credential, Superseded):
            if not admission.may_answer(path.remote, now):
                raise Malformed(Drop.LIMITED)
            if waiting is not None:
                waiting.reply(path, now)
            else:
                assert isinstance(credential, Superseded)
                self._refuse(pairing, credential, message, path, now)
            return
        if message[:EPHEMERAL_SIZE] in self._answered.get(file_id, ()):
            raise Malformed(Drop.REPLAY)
        if pairing.peer_static is None and not self._issuer.accepts(file_id, now):
            raise Malformed(Drop.EXPIRED)
        if self._is_saving(file_id) or len(self._links.pending) >= self.config.max_pending:
            raise Malformed(Drop.BUSY)
        if message in self._refused:
            raise Malformed(Drop.WRONG_DEVICE)
        if not admission.may_compute(file_id, path.remote, now):
            raise Malformed(Drop.LIMITED)
        hello = self._verify(pairing, credential.generation, message)
        if pairing.peer_static not in (None, hello.dialer_static):
            self._refused.append(message)
            self._report_reuse(pairing, credential.generation, hello.dialer_static, path)
            raise Malformed(Drop.WRONG_DEVICE)
        self._answer(hello, pairing, credential, message, path, now)

    def _verify(self, pairing: Pairing, generation: int, message: bytes) -> Hello:
        return read_hello(self.config.identity, pairing, generation, message, self._entropy)

    def _answer(
        self,
        hello: Hello,
        pairing: Pairing,
        used: Credential,
        message: bytes,
        path: Path,
        now: Instant,
    ) -> None:
        agreed = answer(hello, pairing, used, self.config.limits)
        rivals = self._links.pending_of(pairing.file_id)
        if len(rivals) >= PENDING_PER_PAIRING:  # who asks often pushes out nobody but himself
            source = source_of(path.remote)
            own = (rival for rival in rivals if rival.asked_by == source)
            self._displace(next(own, rivals[0]), now)
        model = Answering(used, agreed.agreement.next_credential, hello.dialer_static)
        self._incoming -= 1
        link = self._links.make(self._incoming, pairing, model, (path,))
        self._links.pending[message] = link
        self._note_answered(pairing.file_id, message[:EPHEMERAL_SIZE])
        link.answer(agreed, path, now + PENDING_LIFE, now)
        self._links.touch(link)

    def _note_answered(self, file_id: bytes, ephemeral: bytes) -> None:
        """This HELLO had its chance: a recording of it must not push others out."""
        answered = self._answered.setdefault(file_id, {})
        answered[ephemeral] = None
        if len(answered) > ANSWERED_KEPT_MAX:
            del answered[next(iter(answered))]

    def _refuse(
        self, pairing: Pairing, old: Superseded, message: bytes, path: Path, now: Instant
    ) -> None:
        """A generation that was replaced: only a copy of it can still be in use.

        A recorded HELLO proves nothing, so the alarm waits for one that repeats our cookie.
        Raises `Malformed`.
        """
        if message not in self._refused:
            if not self._registry.admission.may_look_back(now):
                raise Malformed(Drop.LIMITED)
            hello = self._verify(pairing, old.generation, message)
            self._refused.append(message)
            if check_cookie(self._cookie_key, hello.cookie, old.hint, path.remote, now):
                self._report_reuse(pairing, old.generation, hello.dialer_static, path)
        self._registry.drops[Drop.SUPERSEDED] += 1
        cookie = make_cookie(self._cookie_key, old.hint, path.remote, now)
        refusal = seal_refusal(old, cookie, self._entropy)
        self._registry.out.append(Transmit(path, [refusal]))

    def _report_reuse(self, pairing: Pairing, generation: int, static: bytes, path: Path) -> None:
        same = static == pairing.peer_static
        notice = CredentialReused(pairing.file_id, generation, path, static, same)
        self._registry.out.append(Notify(0, notice))

    def _report_rival(self, link: Link, rival: Link) -> None:
        """Two devices redeemed one bootstrap file at the same time: the other one has lost.

        No replay looks like this: a HELLO bears the key of a device that made it from the file.
        """
        won, lost = link.handshake, rival.handshake
        assert isinstance(won, Answering)
        assert isinstance(lost, Answering)
        if won.dialer_static != lost.dialer_static:
            pairing = self._registry.pairings[link.file_id]
            static = lost.dialer_static
            self._report_reuse(pairing, lost.used.generation, static, rival.called_from)

    # --- from an answered HELLO to a link -----------------------------------------------------

    def _is_saving(self, file_id: bytes) -> bool:
        return any(
            link.handshake.phase is answering.Phase.SAVING and link.file_id == file_id
            for link, _ in self._registry.saving.values()
        )

    def _refuses_promotion(self, link: Link, path: Path) -> Drop | None:
        """Why a dialer's first packet is not even opened now, or None."""
        if not link.replied_to(path):
            return Drop.PATH
        if self._links.full or self._is_saving(link.file_id):
            return Drop.BUSY
        return None

    def _promote(self, link: Link, now: Instant) -> None:
        """A dialer proved itself: its other attempts lapse, its link gets an id.

        Nothing that an older link still hears may be written after what this one writes.
        """
        for older in self._links.of(link.file_id):
            if not older.dialer:
                older.displace(now)
        for rival in self._links.pending_of(link.file_id):
            if rival is not link:
                self._report_rival(link, rival)
                self._displace(rival, now)
        self._links.promote(link)

    def _displace(self, link: Link, now: Instant) -> None:
        link.displace(now)
        self._links.drop(link)

    def _on_persisted(self, event: Persisted | PersistFailed, now: Instant) -> None:
        link, pairing = self._registry.saving.pop(event.ticket, (None, None))
        if link is None or pairing is None:
            return
        durable = isinstance(event, Persisted)
        if durable and not link.dialer and pairing.file_id in self._registry.pairings:
            self._adopt(link, pairing, now)
        link.persisted(durable, now)
        self._links.touch(link)

    def _adopt(self, link: Link, pairing: Pairing, now: Instant) -> None:
        """A listener's pairing is durable: accept it, and end what it replaces."""
        first = self._registry.pairings[pairing.file_id].peer_static is None
        self._registry.remember(pairing)
        if first:
            redeemed = bootstrap.FileRedeemed(now, pairing.file_id)
            bootstrap.TABLE.fire(self._issuer, redeemed, self._trace)
            self._publish(now)
        if link.handshake.phase is not answering.Phase.SAVING:
            return
        for other in self._links.of(pairing.file_id):
            if other is not link and not other.dialer:
                other.close(CloseCode.REPLACED, "the device made a newer link", now)
                self._links.touch(other)

    # --- whom we listen for -------------------------------------------------------------------

    def _on_remember(self, event: Remember, _now: Instant) -> None:
        self._refuse_destroyed(event.pairing.file_id)
        self._registry.remember(event.pairing.own())

    def _on_forget(self, event: Forget, now: Instant) -> None:
        self._forget_pairing(event.file_id, now)
        for link in self._links.of(event.file_id):
            if not link.dialer:
                link.close(CloseCode.REVOKED, "this device is no longer accepted", now)
                self._links.touch(link)

    def _forget_pairing(self, file_id: bytes, now: Instant) -> None:
        """Neither its generations nor its answered HELLOs count any more."""
        pairing = self._registry.pairings.get(file_id)
        self._registry.forget(file_id)
        self._answered.pop(file_id, None)
        if pairing is not None:
            pairing.wipe()
        for waiting in self._links.pending_of(file_id):
            if waiting.undoing is None:
                waiting.let_go(now)
                self._displace(waiting, now)

    def _unix_s(self, now: Instant) -> int:
        return (self._unix_ns_at_zero + now) // SECOND

    def _on_publish(self, event: PublishBootstrap, now: Instant) -> None:
        if self._fallen:
            raise PairingDestroyed("everything was declared compromised: begin anew")
        asked = bootstrap.IssueAsked(now, event.candidates, self._unix_s(now))
        bootstrap.TABLE.fire(self._issuer, asked, self._trace)
        self._publish(now)

    def _on_withdraw(self, _event: WithdrawBootstrap, now: Instant) -> None:
        bootstrap.TABLE.fire(self._issuer, bootstrap.IssueStopped(now), self._trace)
        self._publish(now)

    def _publish(self, now: Instant) -> None:
        """Pass the issuer's actions on, and accept exactly the files that are live."""
        issued, self._issuer.out = self._issuer.out, []
        for action in issued:
            if isinstance(action, Publish):
                self._registry.remember(_first_pairing(action))
        for pairing in self.pairings:
            file_id = pairing.file_id
            if pairing.peer_static is not None or file_id in self._issuer.live:
                continue
            if not self._is_saving(file_id):  # then a device proved itself before
                self._forget_pairing(file_id, now)
        self._registry.out += issued

    # --- compromised --------------------------------------------------------------------------

    def _refuse_destroyed(self, file_id: bytes) -> None:
        if self._fallen or file_id in self._destroyed:
            raise PairingDestroyed(
                f"pairing {file_id.hex()[:8]} was declared compromised and destroyed"
            )

    def _on_declare(self, event: DeclareCompromised, now: Instant) -> None:
        if len(event.file_id) != FILE_ID_SIZE and (event.file_id or not event.everything):
            raise LocalError("say which pairing is compromised: its file id has 16 bytes")
        if self._fallen or not event.everything:
            self._refuse_destroyed(event.file_id)
        if event.file_id and event.file_id not in self._destroyed:
            self._declare(event.file_id, event.reason, event.everything, now)
        else:
            self._fall(event.reason, now)

    def _declare(
        self, file_id: bytes, reason: CompromiseReason, everything: bool, now: Instant
    ) -> None:
        """Over every link of the pairing; over none when there is none."""
        able = [
            link
            for link in self._links.of(file_id)
            if link.undoing is None and link.life.phase is not established.Phase.CLOSING
        ]
        for link in able:
            link.begin_undoing()
        for link in able:
            self._links.touch(link)
            link.declare_compromised(reason, everything, now)
        if not able:
            undoing = Undoing(file_id, None, self._registry, self._trace)
            undoing.declare(reason, everything, False, now)

    def _destroy(
        self, file_id: bytes, reason: CompromiseReason, everything: bool, now: Instant
    ) -> Kept:
        """Wipe what is kept of a pairing; with `everything`, all the others and our identity."""
        kept = Kept()
        if file_id not in self._destroyed:
            self._destroyed[file_id] = None
            kept = self._wipe_pairing(file_id, now)
            self._registry.out.append(Destroy(file_id))
            for link in self._links.of(file_id):
                if link.undoing is None:  # those over which nothing is said
                    self._links.touch(link)
                    link.vanish(now)
        if everything:
            kept = evolve(kept, identity=True)
            if not self._fallen:
                files = len(self._issuer.live)
                self._fall(reason, now)
                kept = evolve(kept, bootstrap_files=kept.bootstrap_files + files)
        return kept

    def _wipe_pairing(self, file_id: bytes, now: Instant) -> Kept:
        registry, files = self._registry, 0
        pairing = registry.pairings.get(file_id)
        if file_id in self._issuer.live:
            files = len(self._issuer.live)
            self._on_withdraw(WithdrawBootstrap(), now)
        self._forget_pairing(file_id, now)
        written = [saving for saving in registry.saving.items() if saving[1][1].file_id == file_id]
        for ticket, (_, being_written) in written:
            del registry.saving[ticket]
            being_written.wipe()
        if pairing is None:
            return Kept(bootstrap_files=files)
        return Kept(
            generations=tuple(known.generation for known in pairing.credentials),
            superseded=len(pairing.superseded),
            pinned_key=pairing.peer_static is not None,
            bootstrap_files=files,
        )

    def _fall(self, reason: CompromiseReason, now: Instant) -> None:
        """Nothing here is to be trusted any more."""
        self._fallen = True
        self._on_withdraw(WithdrawBootstrap(), now)
        known = [*self._registry.pairings, *(link.file_id for link in self._links.by_id.values())]
        self.config.identity.wipe()
        self._cookie_key.wipe()
        self._registry.out += [Withdraw(), DestroyIdentity()]
        for file_id in known:
            if file_id not in self._destroyed:
                self._declare(file_id, reason, True, now)

    # --- the application ----------------------------------------------------------------------

    def _streams(self, event: Write | Consumed | ResetStream | StopStream) -> Streams:
        """The streams that an event of the application is about."""
        if event.stream == CONTROL_STREAM:
            raise UnknownStream("the control stream is not the application's")
        link = self._links.find(event.link)
        streams = link.data_plane().streams
        self._links.touch(link)
        return streams

    def _on_write(self, event: Write, _now: Instant) -> None:
        streams = self._streams(event)
        streams.write(event.stream, event.data, event.end, shaped=event.shaped)

    def _on_consumed(self, event: Consumed, _now: Instant) -> None:
        self._streams(event).consumed(event.stream, event.size)

    def _on_reset(self, event: ResetStream, _now: Instant) -> None:
        _check_code(event.code)
        self._streams(event).reset(event.stream, event.code)

    def _on_stop(self, event: StopStream, _now: Instant) -> None:
        _check_code(event.code)
        self._streams(event).stop(event.stream, event.code)

    def _on_send_datagram(self, event: SendDatagram, _now: Instant) -> None:
        link = self._links.find(event.link)
        link.data_plane().send_datagram(event.data)
        self._links.touch(link)

    def _on_ping(self, event: Ping, _now: Instant) -> None:
        link = self._links.find(event.link)
        link.data_plane().ping(event.token)
        self._links.touch(link)

    def _on_rotate(self, event: RotateKeys, now: Instant) -> None:
        link = self._links.find(event.link)
        link.rotate_keys(now)
        self._links.touch(link)

    def _on_rotate_port(self, event: RotatePort, now: Instant) -> None:
        link = self._links.find(event.link)
        link.rotate_port(now)
        self._links.touch(link)

    def _on_port_opened(self, event: PortOpened, now: Instant) -> None:
        link = self._links.find(event.link)
        link.port_opened(event.local, event.candidates, now)
        self._links.touch(link)

    def _on_port_refused(self, event: PortRefused, now: Instant) -> None:
        link = self._links.find(event.link)
        link.port_refused(event.local, now)
        self._links.touch(link)

    def _on_disturbed(self, event: Disturbed, now: Instant) -> None:
        link = self._links.find(event.link)
        link.disturbed(event.paths, now)
        self._links.touch(link)

    def _on_close(self, event: Close, now: Instant) -> None:
        if event.code >= CloseCode.TIMEOUT:
            raise LocalError(f"{event.code.name} is never sent to a peer")
        link = self._links.find(event.link)
        link.close(event.code, event.reason, now)
        self._links.touch(link)


def _check_code(code: int) -> None:
    if not 0 <= code <= VARINT_MAX:
        raise LocalError("a code is a number from 0 to 2^62 - 1")


def _first_pairing(action: Publish) -> Pairing:
    """What a listener keeps of a file that nobody has redeemed yet."""
    content = action.content
    return Pairing(
        file_id=content.file_id,
        dialer=False,
        listener_static=content.listener_static,
        peer_static=None,
        credentials=(derive_credential(content.file_id, 0, content.secret),),
    )


_HANDLERS: Final[dict[type[Any], Callable[[Endpoint, Any, Instant], None]]] = {
    DatagramReceived: Endpoint._on_datagram,
    Remember: Endpoint._on_remember,
    Forget: Endpoint._on_forget,
    PublishBootstrap: Endpoint._on_publish,
    WithdrawBootstrap: Endpoint._on_withdraw,
    Dial: Endpoint._on_dial,
    Persisted: Endpoint._on_persisted,
    PersistFailed: Endpoint._on_persisted,
    Write: Endpoint._on_write,
    Consumed: Endpoint._on_consumed,
    ResetStream: Endpoint._on_reset,
    StopStream: Endpoint._on_stop,
    SendDatagram: Endpoint._on_send_datagram,
    Ping: Endpoint._on_ping,
    RotateKeys: Endpoint._on_rotate,
    RotatePort: Endpoint._on_rotate_port,
    PortOpened: Endpoint._on_port_opened,
    PortRefused: Endpoint._on_port_refused,
    Disturbed: Endpoint._on_disturbed,
    Close: Endpoint._on_close,
    DeclareCompromised: Endpoint._on_declare,
}
