"""Handshakes with valid keys and any content bring a link for who keeps the rules, and nobody else.

The input is a program against one endpoint that listens (for a new bootstrap file and for a device
that it knows) and dials. Its peers have valid credentials and say anything inside them: parameters,
cookies, wrong devices and generations, old HELLOs again and from elsewhere, changed at any byte of
envelope or message; writes to the disk fail or never end; the application changes its mind.

What must hold: what was changed is not answered and changes nothing; until somebody proved itself
an address gets at most twice the bytes that came from it; tables keep to their limits; what is to
be written names one or two generations, and the newest never goes back; a link is announced once,
and after `Closed` nothing is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from attrs import define, evolve, field

from clawchat.core.actions import (
    Action,
    Closed,
    Compromised,
    CredentialReused,
    Established,
    Notify,
    Persist,
    Publish,
    Transmit,
)
from clawchat.core.config import DEFAULT_LIMITS
from clawchat.core.credential import (
    SUPERSEDED_MAX,
    Address,
    Credential,
    Pairing,
    Path,
    Superseded,
)
from clawchat.core.crypto.envelope import (
    ENVELOPE_SIZES,
    Refusal,
    open_hello,
    open_reply,
    seal_hello,
    seal_refusal,
    seal_reply,
)
from clawchat.core.crypto.schedule import derive_credential
from clawchat.core.crypto.suite import public_key
from clawchat.core.endpoint import Endpoint
from clawchat.core.events import (
    Close,
    DatagramReceived,
    DeclareCompromised,
    Dial,
    Event,
    Forget,
    Persisted,
    PersistFailed,
    PublishBootstrap,
    Remember,
    WithdrawBootstrap,
)
from clawchat.core.exchange import answer as answer_hello
from clawchat.core.exchange import first_pairing, read_hello
from clawchat.core.instant import MILLISECOND, SECOND
from clawchat.core.secret import Secret
from clawchat.core.wire import frames
from clawchat.core.wire.parameters import encode_parameters
from clawchat.errors import CloseCode, CompromiseReason, LocalError, Malformed
from fuzz.program import BLOB, BYTE, NUMBER, Grammar, Op
from fuzz.puppet import OURS, UNIX_NS, Caller, Dice, Puppet, config_for
from fuzz.session import Rows
from fuzz.snapshot import Snapshot

STEPS_MAX: Final = 60
LOOKS_MAX: Final = 5000
PLACES: Final = tuple(Address(f"10.0.2.{number}", 4000) for number in range(8))
WAITS: Final = (0, MILLISECOND, 300 * MILLISECOND, 3 * SECOND, 12 * SECOND, 40 * SECOND)
PARAMETERS: Final = encode_parameters(DEFAULT_LIMITS)


@define(eq=False, slots=False)
class World:
    """One endpoint, the keys of everybody whom it may meet, and what was said."""

    endpoint: Endpoint
    rows: Rows
    dice: Dice
    file: Pairing  # of the published bootstrap file, as its reader keeps it
    known: Pairing  # of a device that we listen for, as the device keeps it, older ones included
    called: Pairing  # of whom we dial, as that listener keeps it
    device: Secret
    stranger: Secret
    listener: Secret
    now: int = 0
    dials: int = 0
    disk: int = 0  # 0 works, 1 fails, 2 never ends
    callers: list[Caller] = field(factory=list)
    replies: list[tuple[bytes, Address]] = field(factory=list)
    hellos: list[bytes] = field(factory=list)  # of our own dials
    puppets: list[Puppet] = field(factory=list)
    recorded: list[bytes] = field(factory=list)
    newest: dict[bytes, int] = field(factory=dict)
    established: set[int] = field(factory=set)
    closed: set[int] = field(factory=set)
    came: Counter[Address] = field(factory=Counter)
    went: Counter[Address] = field(factory=Counter)
    proved: set[Address] = field(factory=set)

    # --- what peers say -----------------------------------------------------------------------

    def op_hello(self, who: int, turn: int, payload: bytes, how: int, where: int) -> None:
        """A HELLO, rightly made but for its payload, and for who sends it."""
        pairing = (self.file, self.known)[who % 2]
        identity = self.stranger if who & 4 else self.device
        payload = PARAMETERS + payload if how % 2 == 0 else payload
        beside = b""
        if how & 2 and (cookies := self.cookies(pairing)):
            payload = encode_parameters(DEFAULT_LIMITS, cookies[-1])
            beside = b"another" if how & 8 else cookies[how >> 4 & 1 and -1]
        turn %= len(pairing.credentials)
        caller = Caller(identity, pairing, turn, payload, self.dice, beside)
        self.callers.append(caller)
        self.deliver(caller.hello, PLACES[where % 4])

    def cookies(self, pairing: Pairing) -> list[bytes]:
        """What REFUSALs gave to holders of this pairing."""
        callers = [caller for caller in self.callers if caller._pairing is pairing]
        answers = [answer for caller in callers for answer in self.answers(caller)]
        return [answer.cookie for answer in answers if isinstance(answer, Refusal)]

    def answers(self, caller: Caller) -> list[object]:
        found: list[object] = []
        for reply, _ in self.replies:
            if reply[:16] == caller.hint:
                try:
                    found.append(caller.read_answer(reply))
                except Malformed:
                    continue  # to another HELLO of this credential
                if not isinstance(found[-1], Refusal):
                    break  # a HELLO is answered once; its state is spent
        return found

    def op_changed(self, which: int, at: int, how: int) -> None:
        """A HELLO or answer with one change in the datagram."""
        if self.recorded:
            data = bytearray(self.recorded[-1 - which % len(self.recorded)])
            at %= len(data)
            if how % 4 == 0:
                del data[at:]
            elif how % 4 == 1:
                data += bytes(1 + how)
            else:
                data[at] ^= 1 << how % 8
            self.fruitless(bytes(data))

    def op_changed_inside(self, which: int, at: int, how: int) -> None:
        """A HELLO whose envelope is right, with one change in the Noise message."""
        if self.callers:
            caller = self.callers[-1 - which % len(self.callers)]
            message = bytearray(caller.message)
            at %= len(message)
            message[at] ^= 1 << how % 8
            if at == 31 and how % 8 == 7:
                return  # X25519 ignores the highest bit of a key; the hash does not, but for e
            credential = caller._credential
            self.fruitless(seal_hello(credential, bytes(message), self.dice), credential)

    def op_raw_inside(self, who: int, turn: int, message: bytes) -> None:
        """An envelope around anything."""
        pairing = (self.file, self.known)[who % 2]
        credential = pairing.credentials[turn % len(pairing.credentials)]
        self.fruitless(seal_hello(credential, message, self.dice), credential)

    def op_again(self, which: int, where: int) -> None:
        """Something from the past, maybe from elsewhere."""
        if self.recorded:
            datagram = self.recorded[-1 - which % len(self.recorded)]
            source = PLACES[where % len(PLACES)]
            if len(datagram) not in ENVELOPE_SIZES:
                self.proved.add(source)  # a first packet: it may be new to whom it reaches now
            self.deliver(datagram, source, again=True)

    def op_first(self, which: int, payload: bytes, where: int) -> None:
        """The first packet of whoever got a REPLY, or a later one."""
        if self.callers:
            caller = self.callers[-1 - which % len(self.callers)]
            for answer in self.answers(caller):
                if isinstance(answer, tuple):
                    self.puppets.append(Puppet.of(answer[0], self.dice))
        if self.puppets:
            puppet = self.puppets[-1 - which % len(self.puppets)]
            source = PLACES[where % 4]
            self.proved.add(source)
            self.deliver(puppet.seal(payload or frames.PING), source)

    def op_reply(self, which: int, payload: bytes, how: int, at: int) -> None:
        """A listener's answer to a HELLO of ours, with any parameters, changed or not."""
        if not self.hellos:
            return
        hello = self.hellos[-1 - which % len(self.hellos)]
        for credential in self.called.credentials:
            if credential.hint != hello[:16]:
                continue
            message, _ = open_hello(credential, hello)
            read = read_hello(self.listener, self.called, credential.generation, message, self.dice)
            if how % 4 == 0:
                agreed = answer_hello(read, self.called, credential, DEFAULT_LIMITS)
                self.puppets.append(Puppet.of(agreed.agreement, self.dice))
                said = agreed.message
            else:
                read.noise.set_psk(credential.psk.view())
                said = read.noise.write_message(payload)
            changed = bytearray(said)
            if how % 4 == 3:
                changed[at % len(changed)] ^= 1 << how // 4 % 8
            datagram = seal_reply(credential, OURS, bytes(changed), self.dice)
            self.deliver(datagram, PLACES[4 + how // 128])

    def op_refuse(self, turn: int, cookie: bytes) -> None:
        """A listener says that a HELLO of ours is of a generation long past."""
        credential = self.called.credentials[turn % len(self.called.credentials)]
        old = Superseded(credential.generation, credential.hint, credential.envelope_key)
        mine = [hello for hello in self.hellos if hello[:16] == credential.hint]
        message = open_hello(credential, mine[-1])[0] if mine and turn & 128 == 0 else b"another"
        self.deliver(seal_refusal(old, message, cookie[:200], self.dice), PLACES[4])

    # --- carrying -----------------------------------------------------------------------------

    def deliver(self, datagram: bytes, source: Address, *, again: bool = False) -> None:
        self.came[source] += len(datagram)
        if not again:
            self.recorded.append(datagram)
        self.do(DatagramReceived(Path(OURS, source), datagram))

    def fruitless(self, datagram: bytes, used: Credential | None = None) -> None:
        """Nothing comes of it; at most a refusal, if it opens under `used`, which was replaced."""
        self.flush()
        rows, links, said = self.rows.taken, self.endpoint.links, len(self.replies)
        self.deliver(datagram, PLACES[-1], again=True)
        assert self.rows.taken == rows, "a row was taken for nobody"
        assert self.endpoint.links == links
        for reply, _ in self.replies[said:]:
            assert used is not None, "nobody was answered"
            assert isinstance(open_reply(used, reply), Refusal)

    def do(self, event: Event) -> None:
        self.endpoint.handle(event, self.now)
        self.flush()

    def flush(self) -> None:
        while actions := self.endpoint.actions(self.now):
            for action in actions:
                self.carry_out(action)
        self.limits_are_kept()

    def carry_out(self, action: Action) -> None:
        match action:
            case Transmit(path, datagrams):
                self.transmit(path.remote, datagrams)
            case Persist(link, ticket, pairing):
                self.mind_generations(pairing)
                if self.disk < 2:
                    outcome = (Persisted, PersistFailed)[self.disk](link, ticket)
                    self.endpoint.handle(outcome, self.now)
            case Notify(link, notice):
                self.mind_notice(link, notice)

    def transmit(self, to: Address, datagrams: list[bytes]) -> None:
        for datagram in datagrams:
            self.went[to] += len(datagram)
            if any(credential.hint == datagram[:16] for credential in self.called.credentials):
                self.hellos.append(datagram)
                self.proved.add(to)  # whom we dial
            else:
                self.replies.append((datagram, to))
        if to not in self.proved:
            assert self.went[to] <= 2 * self.came[to], "more than twice what came"

    def mind_generations(self, pairing: Pairing) -> None:
        generations = [known.generation for known in pairing.credentials]
        assert 1 <= len(generations) <= 2
        assert generations == sorted(generations, reverse=True)
        assert generations[0] >= self.newest.get(pairing.file_id, 0)
        if self.disk == 0:
            self.newest[pairing.file_id] = generations[0]
        assert len(pairing.superseded) <= SUPERSEDED_MAX
        assert pairing.peer_static is not None

    def mind_notice(self, link: int, notice: object) -> None:
        match notice:
            case CredentialReused() | Compromised():
                return
            case Established():
                assert link not in self.established, "announced twice"
                self.established.add(link)
            case Closed():
                assert link not in self.closed, "closed twice"
                self.closed.add(link)
                return
        assert link not in self.closed, f"{notice} after Closed"

    def limits_are_kept(self) -> None:
        endpoint, config = self.endpoint, self.endpoint.config
        assert len(endpoint._links.pending) <= config.max_pending
        assert len(endpoint.links) <= config.max_links
        assert len(endpoint.pairings) <= 5
        assert len(endpoint._registry.hints) <= 5 * (2 + SUPERSEDED_MAX)
        assert len(endpoint._registry.calls) <= len(endpoint.links)

    # --- time and the application -------------------------------------------------------------

    def op_wait(self, which: int) -> None:
        until = self.now + WAITS[which % len(WAITS)]
        for _ in range(LOOKS_MAX):
            deadline = self.endpoint.deadline
            if deadline is None or deadline.at > until:
                self.now = until
                return
            self.now = max(self.now, deadline.at)
            self.endpoint.advance(self.now)
            self.flush()
        raise AssertionError("time does not go on")

    def op_disk(self, how: int) -> None:
        self.disk = how % 3

    def op_ask(self, what: int, link: int) -> None:
        """The application; what it cannot have changes nothing."""
        rows = self.rows.taken
        self.dials += 1
        number = link % 4 if link < 128 else -1 - link % 4
        paths = (Path(OURS, PLACES[4]), Path(OURS, PLACES[5]))
        dialled = evolve(self.called, dialer=True, peer_static=self.called.listener_static)
        made: tuple[Callable[[], Event], ...] = (
            lambda: Dial(self.dials if link % 8 else number, dialled.own(), paths),
            lambda: Close(number, CloseCode.DONE, "enough"),
            lambda: Forget((self.file, self.known)[link % 2].file_id),
            lambda: PublishBootstrap((OURS,)),
            WithdrawBootstrap,
            lambda: Remember(_listeners(self.known)),
            lambda: DeclareCompromised(
                (self.file, self.known, self.called)[link % 3].file_id,
                CompromiseReason.USER,
                link % 16 == 0,
            ),
        )
        event = made[what % len(made)]()
        try:
            self.do(event)
        except LocalError:
            assert self.rows.taken == rows, "an error of the application changed something"


GRAMMAR: Final = Grammar(
    ops=(
        Op("hello", BYTE, BYTE, BLOB, BYTE, BYTE),
        Op("changed", BYTE, NUMBER, BYTE),
        Op("changed_inside", BYTE, NUMBER, BYTE),
        Op("raw_inside", BYTE, BYTE, BLOB),
        Op("again", BYTE, BYTE),
        Op("first", BYTE, BLOB, BYTE),
        Op("reply", BYTE, BLOB, BYTE, NUMBER),
        Op("refuse", BYTE, BLOB),
        Op("wait", BYTE),
        Op("disk", BYTE),
        Op("ask", BYTE, BYTE),
    )
)
_OPS: Final = tuple(getattr(World, f"op_{op.name}") for op in GRAMMAR.ops)


def _listeners(known: Pairing) -> Pairing:
    """What the listener keeps of a device: two generations, and two that it only recognises."""
    accepted, old = known.credentials[:2], known.credentials[2:]
    superseded = tuple(Superseded(c.generation, c.hint, c.envelope_key) for c in old)
    kept = Pairing(
        known.file_id, False, known.listener_static, known.peer_static, accepted, superseded
    )
    return kept.own()


@lru_cache(maxsize=1)
def _begun() -> Snapshot[World]:
    dice, rows = Dice(b"handshake"), Rows()
    config = evolve(config_for(b"handshake"), max_links=3, max_pending=3)
    endpoint = Endpoint(config, now=0, unix_ns=UNIX_NS, entropy=Dice(b"endpoint"), trace=rows)
    device, stranger, listener = (Secret(dice(32)) for _ in range(3))
    known_id, called_id = dice(16), dice(16)
    credentials = tuple(derive_credential(known_id, number, dice(32)) for number in (5, 4, 3, 2))
    ours, theirs = public_key(config.identity.view()), public_key(listener.view())
    known = Pairing(known_id, True, ours, public_key(device.view()), credentials)
    dialled = tuple(derive_credential(called_id, number, dice(32)) for number in (8, 7))
    called = Pairing(called_id, False, theirs, None, dialled)
    endpoint.handle(PublishBootstrap((OURS,)), 0)
    endpoint.handle(Remember(_listeners(known)), 0)
    (content,) = [a.content for a in endpoint.actions(0) if isinstance(a, Publish)]
    file = first_pairing(content)
    return Snapshot(World(endpoint, rows, dice, file, known, called, device, stranger, listener))


def check(data: bytes) -> None:
    _, steps = GRAMMAR.read(data)
    world = _begun().thaw()
    for op, values in steps[:STEPS_MAX]:
        _OPS[op](world, *values)
    world.op_wait(2)


def examples() -> list[bytes]:
    """Programs that make sense."""
    new, mine, old = (
        ("hello", 0, 0, b"", 0, 0),
        ("hello", 1, 0, b"", 0, 1),
        ("hello", 1, 2, b"", 0, 1),
    )
    dial = ("ask", 0, 1)
    return [
        GRAMMAR.program((), new, ("first", 0, b"", 0), ("wait", 3), ("first", 0, b"", 0)),
        GRAMMAR.program((), mine, ("again", 0, 2), ("first", 0, b"", 1), ("again", 0, 3)),
        GRAMMAR.program((), old, ("hello", 1, 2, b"", 2, 1), ("wait", 3)),
        GRAMMAR.program((), ("hello", 5, 0, b"", 0, 0), ("hello", 1, 1, b"\x09\x01x", 0, 2)),
        GRAMMAR.program((), dial, ("reply", 0, b"", 0, 0), ("first", 0, b"", 4), ("wait", 3)),
        GRAMMAR.program((), dial, ("reply", 0, b"xy", 1, 0), ("reply", 0, PARAMETERS, 3, 20)),
        GRAMMAR.program((), dial, ("refuse", 0, b"cookie"), ("wait", 3), ("refuse", 1, b"")),
        GRAMMAR.program((), new, ("changed", 0, 40, 2), ("changed_inside", 0, 40, 2)),
        GRAMMAR.program((), ("raw_inside", 0, 0, b"x" * 96), ("raw_inside", 1, 3, b"")),
        GRAMMAR.program((), ("disk", 1), mine, ("first", 0, b"", 1), ("disk", 2), *[mine] * 3),
        GRAMMAR.program((), new, ("first", 0, b"", 0), ("ask", 2, 0), ("ask", 5, 0), ("ask", 6, 2)),
    ]


if __name__ == "__main__":
    from fuzz.harness import run

    run("handshake")
