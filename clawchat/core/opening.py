"""How one link begins: runs its machine *dialing* or *answering*, and sends what that asks for.

A handshake is over when the other side has proved itself and what both agreed on is durable; until
then it can fail, lapse or be given up without a trace.

Rules: public-key work and every check of a peer's message come before a machine is fired.
Left to others: the rows (`core.phases`), the messages (`core.exchange`), the data plane that the
agreement makes possible (`core.link`), which HELLO is answered at all (`core.endpoint`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Final, Protocol, TypeAlias, assert_never

from clawchat.core.actions import Kept, Persist, Transmit
from clawchat.core.admission import source_of
from clawchat.core.config import Config, Entropy
from clawchat.core.credential import Address, Credential, Pairing, Path
from clawchat.core.crypto.envelope import seal_reply
from clawchat.core.exchange import Agreement, Answer, DialAttempt
from clawchat.core.instant import Instant
from clawchat.core.phases import answering, dialing
from clawchat.core.phases.answering import Answering, AnsweringCommand
from clawchat.core.phases.commands import (
    Announce,
    Fail,
    Save,
    SendHello,
    SendReply,
    StartAttempt,
)
from clawchat.core.phases.dialing import Dialing, DialingCommand
from clawchat.core.registry import Registry
from clawchat.core.table import Signal, Trace
from clawchat.core.timers import Timer
from clawchat.errors import CloseCode, Drop, Malformed

Handshake: TypeAlias = Dialing | Answering

REPLIED_TO_MAX: Final = 8  # addresses of one HELLO that get an answer: the first ones


class Opened(Protocol):
    """What a handshake needs of its link."""

    id: int
    timers: dict[Timer, Instant]

    def announce(self, now: Instant) -> None:
        """The link is up."""

    def fail(self, code: CloseCode, text: str, now: Instant) -> None:
        """There will be no link."""


class Opening(ABC):
    """What both sides do alike. `paths` are those that it may come about on."""

    def __init__(
        self,
        link: Opened,
        registry: Registry[Any],
        trace: Trace | None,
        entropy: Entropy,
        paths: tuple[Path, ...],
    ) -> None:
        self.paths = paths
        self._link = link
        self._registry = registry
        self._trace = trace
        self._entropy = entropy

    @property
    @abstractmethod
    def handshake(self) -> Handshake:
        """The machine."""

    @property
    @abstractmethod
    def is_through(self) -> bool:
        """Whether the other side is proved, and what makes it possible is durable."""

    @property
    def hello_at(self) -> Instant | None:
        """When the next HELLO is due."""
        return None

    @abstractmethod
    def advance(self, now: Instant) -> None:
        """Say HELLO (again) when it is due."""

    @abstractmethod
    def heard(self, now: Instant) -> bool:
        """A packet of the peer authenticated; whether that is the proof that was missing."""

    @abstractmethod
    def acknowledged(self, now: Instant) -> None:
        """A packet of ours arrived."""

    @abstractmethod
    def persisted(self, ok: bool, now: Instant) -> None:
        """What was to be written is durable, or could not be written."""

    @abstractmethod
    def lapsed(self, now: Instant) -> None:
        """The time that it may take is over."""

    def give_up(self, now: Instant) -> None:
        """The link ends; harmless when the handshake is through."""
        self._link.timers.pop(Timer.DIAL, None)
        self._link.timers.pop(Timer.PENDING, None)
        self._abandon(now)

    @abstractmethod
    def _abandon(self, now: Instant) -> None: ...

    @abstractmethod
    def let_go(self) -> Kept:
        """Wipe what it holds of the pairing; what that was."""

    @abstractmethod
    def forget(self) -> None:
        """Nothing is expected any more."""

    def _save(self, pairing: Pairing) -> None:
        ticket = self._registry.next_ticket(self._link, pairing)
        self._registry.out.append(Persist(self._link.id, ticket, pairing.own()))


class Dial(Opening):
    """The dialer's side."""

    def __init__(
        self,
        model: Dialing,
        config: Config,
        link: Opened,
        registry: Registry[Any],
        trace: Trace | None,
        entropy: Entropy,
        paths: tuple[Path, ...],
    ) -> None:
        super().__init__(link, registry, trace, entropy, paths)
        self.model = model
        self._config = config
        self._attempt: DialAttempt | None = None
        self._calling = paths  # on which the present HELLO goes out

    @property
    def handshake(self) -> Dialing:
        return self.model

    @property
    def is_through(self) -> bool:
        return self.model.phase is dialing.Phase.UP

    @property
    def hello_at(self) -> Instant | None:
        return self.model.hello_at

    def begin(self, now: Instant) -> None:
        """Send the first HELLO."""
        self._link.timers[Timer.DIAL] = now + self._config.dial_ns_max
        self._start_attempt(StartAttempt(0, b""))
        self._fire(dialing.HelloDue(now), now)

    def advance(self, now: Instant) -> None:
        at = self.model.hello_at
        if at is not None and at <= now:
            self._fire(dialing.HelloDue(now), now)

    def read_answer(
        self, path: Path, datagram: bytes, now: Instant
    ) -> tuple[Agreement, Address] | None:
        """A datagram under our call's hint: what was agreed, and from where the listener sees us.

        None when we are to ask otherwise.

        Raises `Malformed`, changing nothing.
        """
        assert self._attempt is not None
        if path not in self._calling:  # copied by a stranger: nobody dialled there
            raise Malformed(Drop.PATH)
        admission, file_id = self._registry.admission, self.model.pairing.file_id
        found = self._attempt.read_answer(
            datagram, lambda: admission.may_compute(file_id, path.remote, now)
        )
        if not isinstance(found, tuple):
            self._calling = (path,)  # a cookie is good for the address that it was sent to
            self._fire(dialing.Refused(now, found.cookie), now)
            return None
        self.forget()
        return found

    def verified(self, next_credential: Credential, now: Instant) -> None:
        """There is a data plane for what was agreed."""
        self._fire(dialing.ReplyVerified(now, next_credential), now)

    def heard(self, now: Instant) -> bool:
        if self.model.phase is not dialing.Phase.PROVING:
            return False
        self._fire(dialing.PeerProved(now), now)
        return True

    def acknowledged(self, now: Instant) -> None:
        """Changes nothing: to be heard was proof enough."""

    def persisted(self, ok: bool, now: Instant) -> None:
        self._fire(dialing.Saved(now) if ok else dialing.SaveFailed(now), now)

    def lapsed(self, now: Instant) -> None:
        self._fire(dialing.DialLapsed(now), now)

    def _abandon(self, now: Instant) -> None:
        self._fire(dialing.GivenUp(now), now)

    def let_go(self) -> Kept:
        known = self.model.pairing
        known.wipe()
        generations = tuple(credential.generation for credential in known.credentials)
        return Kept(generations=generations, pinned_key=known.peer_static is not None)

    def forget(self) -> None:
        if self._attempt is not None:
            self._registry.calls.pop(self._attempt.hint, None)
            self._attempt = None

    def _fire(self, event: Signal, now: Instant) -> None:
        dialing.TABLE.fire(self.model, event, self._trace)
        commands, self.model.out = self.model.out, []
        for command in commands:
            self._obey(command, now)

    def _obey(self, command: DialingCommand, now: Instant) -> None:
        match command:
            case Save(pairing):
                self._save(pairing)
            case StartAttempt():
                self._start_attempt(command)
            case SendHello():
                self._send_hello()
            case Announce():
                self._link.announce(now)
            case Fail(code, text):
                self._link.fail(code, text, now)
            case _:
                assert_never(command)

    def _start_attempt(self, command: StartAttempt) -> None:
        self.forget()
        if not command.cookie:
            self._calling = self.paths
        self._attempt = DialAttempt(
            self._config.identity,
            self.model.pairing,
            command.turn,
            self._config.limits,
            command.cookie,
            self._entropy,
        )
        self._registry.calls[self._attempt.hint] = self._link

    def _send_hello(self) -> None:
        assert self._attempt is not None
        hello = self._attempt.hello
        self._registry.out.extend(Transmit(path, [hello]) for path in self._calling)


class AnsweredHello(Opening):
    """The listener's side: one answered HELLO. `paths` are those that it came on."""

    def __init__(
        self,
        model: Answering,
        file_id: bytes,
        link: Opened,
        registry: Registry[Any],
        trace: Trace | None,
        entropy: Entropy,
        paths: tuple[Path, ...],
    ) -> None:
        super().__init__(link, registry, trace, entropy, paths)
        self.model = model
        self._answer: Answer | None = None
        self._file_id = file_id
        self._asking = self.called_from  # from where the HELLO came last

    @property
    def handshake(self) -> Answering:
        return self.model

    @property
    def is_through(self) -> bool:
        return self.model.phase is answering.Phase.RUNNING

    @property
    def asked_by(self) -> bytes:
        """The source that asked first."""
        return source_of(self.called_from.remote)

    @property
    def called_from(self) -> Path:
        """Where the HELLO came from first."""
        return self.paths[0]

    def begin(self, answer: Answer, path: Path, lapses: Instant, now: Instant) -> None:
        """Answer a HELLO; who sent it has until `lapses` to prove itself."""
        self._link.timers[Timer.PENDING] = lapses
        self._answer = answer
        self.reply(path, now)

    def replied_to(self, path: Path) -> bool:
        """Whether a REPLY went there: whoever can prove itself from there is there."""
        return path in self.paths

    def reply(self, path: Path, now: Instant) -> None:
        """Answer the HELLO (again), to where it came from this time.

        Raises `Malformed` when it comes from too many places: the first are the likeliest.
        """
        if path not in self.paths:
            if len(self.paths) >= REPLIED_TO_MAX:
                raise Malformed(Drop.BUSY)
            self.paths += (path,)
        self._asking = path
        self._fire(answering.HelloRepeated(now), now)

    def displace(self, now: Instant) -> None:
        """Another handshake of the same pairing took this one's place."""
        self._fire(answering.Displaced(now), now)

    def advance(self, now: Instant) -> None:
        """Nothing is due: it speaks when it is spoken to."""

    def heard(self, now: Instant) -> bool:
        if self.model.phase is not answering.Phase.REPLIED:
            return False
        self._fire(answering.DialerProved(now, self._registry.pairings[self._file_id]), now)
        return True

    def acknowledged(self, now: Instant) -> None:
        if self.model.phase is answering.Phase.RUNNING:
            self._fire(answering.DialerSettled(now, self._registry.pairings[self._file_id]), now)

    def persisted(self, ok: bool, now: Instant) -> None:
        self._fire(answering.Saved(now) if ok else answering.SaveFailed(now), now)

    def lapsed(self, now: Instant) -> None:
        if self.model.phase is answering.Phase.REPLIED:
            self._fire(answering.PendingLapsed(now), now)

    def _abandon(self, now: Instant) -> None:
        self.displace(now)

    def let_go(self) -> Kept:
        self.model.used.wipe()
        self.model.next_credential.wipe()
        return Kept()  # the endpoint has the list

    def forget(self) -> None:
        self._answer = None

    def _fire(self, event: Signal, now: Instant) -> None:
        answering.TABLE.fire(self.model, event, self._trace)
        commands, self.model.out = self.model.out, []
        for command in commands:
            self._obey(command, now)

    def _obey(self, command: AnsweringCommand, now: Instant) -> None:
        match command:
            case Save(pairing):
                self._save(pairing)
            case SendReply():
                self._send_reply()
            case Announce():
                self._link.announce(now)
            case Fail(code, text):
                self._link.fail(code, text, now)
            case _:
                assert_never(command)

    def _send_reply(self) -> None:
        answer = self._answer
        assert answer is not None
        reply = seal_reply(answer.used, self._asking.remote, answer.message, self._entropy)
        self._registry.out.append(Transmit(self._asking, [reply]))
