"""A peer with valid keys and no manners: it seals any bytes, and opens what the other side says.

A puppet has what an authenticated peer has (credential, packet keys of every epoch, packet
numbers, path ids) and none of the machines that make a peer behave. Whoever holds it decides what
it says: which frames, under which number, epoch and path, in which order.

    link = puppet_dials(config)            or puppet_listens(config); the other side is real
    datagram = link.puppet.seal(frames.PING)
    link.hear(datagram)                    the endpoint gets it, its packets go to the puppet
    link.puppet.heard                      what it answered, opened

Rules: randomness is a `Dice`, time is `Linked.now`; nothing here judges what the endpoint does.
Left to others: what is said (fuzz targets, tests of hostile peers), what must hold then.
"""

from __future__ import annotations

from functools import cached_property
from hashlib import shake_256
from typing import Final

from attrs import define, field, frozen

from clawchat.core.actions import (
    Action,
    Destroy,
    Notice,
    Notify,
    Persist,
    Publish,
    Transmit,
)
from clawchat.core.config import DEFAULT_LIMITS, Config
from clawchat.core.credential import Address, Credential, Pairing, Path
from clawchat.core.crypto.envelope import ANSWERED_SIZE, open_hello, seal_hello, seal_reply
from clawchat.core.crypto.noise import HandshakeState
from clawchat.core.crypto.packets import CID_SIZE
from clawchat.core.crypto.schedule import EpochKeys, derive_credential, prologue, ratchet_root
from clawchat.core.crypto.suite import KeyPair, public_key
from clawchat.core.crypto.xwing import XWingPrivate, encapsulate, keypair
from clawchat.core.endpoint import Endpoint
from clawchat.core.events import DatagramReceived, Dial, Event, Persisted, PublishBootstrap
from clawchat.core.exchange import Agreement, DialAttempt, answer, first_pairing, read_hello
from clawchat.core.instant import MILLISECOND, SECOND, Instant
from clawchat.core.secret import Secret
from clawchat.core.table import Trace
from clawchat.core.wire import frames
from clawchat.core.wire.control import RatchetOffer, RatchetReply
from clawchat.core.wire.parameters import Limits

OURS: Final = Address("10.0.0.1", 1000)
"""Where the endpoint is, whichever side it plays."""
THEIRS: Final = Address("10.0.0.2", 2000)
"""Where the puppet is at first."""
FIRST: Final = Path(OURS, THEIRS)
"""The path of the handshake, as the endpoint sees it."""
STEP: Final = 10 * MILLISECOND  # one way through the network
UNIX_NS: Final = 1_800_000_000 * SECOND
PATH_IDS_AHEAD: Final = 64  # ids beyond the highest under which a puppet knows packets


@define
class Dice:
    """Random bytes that are the same in every run."""

    seed: bytes
    count: int = 0

    def __call__(self, size: int) -> bytes:
        self.count += 1
        return shake_256(self.seed + self.count.to_bytes(8, "big")).digest(size)


@frozen(slots=False)
class Heard:
    """A packet of the endpoint, opened. It left on `path` at `at`."""

    number: int
    epoch: int
    path_id: int
    payload: bytes
    path: Path
    size: int
    at: Instant

    @cached_property
    def frames(self) -> list[frames.Frame]:
        """Raises `Malformed`, which would be the endpoint's fault."""
        return frames.parse_frames(self.payload)


@define(eq=False, slots=False)
class Puppet:
    """The keys of one side of one link."""

    dialer: bool
    dice: Dice
    epochs: dict[int, EpochKeys]
    epoch: int = 0  # whose keys seal
    number: int = 0  # of the next packet
    largest: int = -1  # number that was heard
    heard: list[Heard] = field(factory=list)
    unread: list[bytes] = field(factory=list)  # datagrams that no key opened
    roots: dict[int, Secret] = field(factory=dict)
    private: XWingPrivate | None = None  # of an offer that was not answered yet
    offered: bytes = b""
    control_sent: int = 0  # bytes on our control stream
    path_ids: int = PATH_IDS_AHEAD  # ids under which the endpoint's packets are recognised
    _cids: dict[bytes, tuple[int, int]] = field(factory=dict)

    @classmethod
    def of(cls, agreement: Agreement, dice: Dice) -> Puppet:
        """From what a handshake agreed on."""
        made = cls(agreement.dialer, dice, {})
        made.install(agreement.root, 0)
        return made

    # --- packets ------------------------------------------------------------------------------

    def install(self, root: Secret, epoch: int) -> None:
        """Take the keys of an epoch."""
        keys = self.epochs[epoch] = EpochKeys(root, epoch, self.dialer)
        self.roots[epoch] = root
        for path_id in range(self.path_ids):
            self._cids[keys.open.cid(path_id)] = epoch, path_id

    def _look_ahead(self, highest: int) -> None:
        """A path id came: those that may follow it are recognised as well."""
        start, self.path_ids = self.path_ids, max(self.path_ids, highest + PATH_IDS_AHEAD // 2)
        for path_id in range(start, self.path_ids):
            for epoch, keys in self.epochs.items():
                self._cids[keys.open.cid(path_id)] = epoch, path_id

    def seal(
        self,
        payload: bytes,
        *,
        number: int | None = None,
        epoch: int | None = None,
        path_id: int = 0,
    ) -> bytes:
        """A packet with these bytes as its frames; without `number` it bears the next one."""
        if number is None:
            number = self.number
        self.number = max(self.number, number + 1)
        keys = self.epochs[self.epoch if epoch is None else epoch]
        (datagram,) = keys.seal.seal(path_id, number, [payload])
        return datagram

    def open(self, datagram: bytes, path: Path = FIRST, now: Instant = 0) -> Heard | None:
        """What the endpoint said, noted in `heard`; None for what no key of ours opens."""
        found = self._cids.get(datagram[:CID_SIZE])
        if found is not None:
            epoch, path_id = found
            keys = self.epochs[epoch].open
            (opened,) = keys.open(path_id, datagram[:CID_SIZE], [datagram], self.largest)
            if opened is not None:
                self.largest = max(self.largest, opened[0])
                heard = Heard(opened[0], epoch, path_id, opened[1], path, len(datagram), now)
                self.heard.append(heard)
                self._look_ahead(path_id)
                return heard
        self.unread.append(datagram)
        return None

    # --- the ratchet --------------------------------------------------------------------------

    def offer(self, epoch: int | None = None) -> RatchetOffer:
        """A dialer's key for the next epoch, or for any other."""
        self.private, self.offered = keypair(self.dice(32))
        return RatchetOffer(max(self.epochs) + 1 if epoch is None else epoch, self.offered)

    def take_reply(self, reply: RatchetReply) -> None:
        """The listener's answer to `offer`: its epoch can be used. Raises `ValueError`."""
        if self.private is None:
            raise ValueError("nothing was offered")
        shared = self.private.decapsulate(reply.ciphertext)
        self._advance(shared, self.offered, reply.ciphertext, reply.epoch)
        self.private = None

    def reply_to(self, offer: RatchetOffer) -> RatchetReply:
        """A listener's answer: its epoch can be used. Raises `ValueError`."""
        shared, ciphertext = encapsulate(offer.public, self.dice)
        self._advance(shared, offer.public, ciphertext, offer.epoch)
        return RatchetReply(offer.epoch, ciphertext)

    def _advance(self, shared: bytes, offer: bytes, ciphertext: bytes, epoch: int) -> None:
        before = self.roots.get(epoch - 1)
        if before is None:
            raise ValueError("the epoch before is not known")
        self.install(ratchet_root(before, shared, epoch, offer, ciphertext), epoch)

    def on_control(self, message: bytes) -> bytes:
        """A STREAM frame that appends `message` to our control stream."""
        frame = frames.encode_stream(0, self.control_sent, message, fin=False)
        self.control_sent += len(message)
        return frame


class Caller(DialAttempt):
    """A HELLO with any payload where the parameters belong."""

    def __init__(
        self,
        identity: Secret,
        pairing: Pairing,
        turn: int,
        payload: bytes,
        dice: Dice,
        cookie: bytes = b"",
    ) -> None:
        """`cookie` goes beside the message. Raises `ValueError` when it does not fit."""
        self._pairing = pairing
        self._credential = credential = pairing.credentials[turn]
        self._noise = HandshakeState(
            initiator=True,
            prologue=prologue(pairing.file_id, credential.generation),
            s=KeyPair(identity.view()),
            e=dice(32),
            rs=pairing.listener_static,
            psks=(credential.psk.view(),),
        )
        self.message = self._noise.write_message(payload)
        self._beginning = self.message[:ANSWERED_SIZE]
        self.hello = seal_hello(credential, self.message, dice, cookie)


@define(eq=False, slots=False)
class Linked:
    """A real endpoint, and the puppet to which it believes to talk.

    `did` is all that the endpoint asked for; `kept` is its disk.
    """

    endpoint: Endpoint
    puppet: Puppet
    link: int
    pairing: Pairing  # a dialer's view of it, before the handshake
    greeting: bytes = b""  # the puppet's HELLO or REPLY
    now: Instant = 0
    did: list[Action] = field(factory=list)
    kept: dict[bytes, Pairing] = field(factory=dict)
    persists: bool = True  # whether writes succeed, at once

    @property
    def notices(self) -> list[Notice]:
        return [action.notice for action in self.did if isinstance(action, Notify)]

    def do(self, event: Event) -> list[Action]:
        """Give the endpoint an event, carry out what it asks for; that."""
        self.endpoint.handle(event, self.now)
        return self.flush()

    def hear(
        self, datagram: bytes, source: Address = THEIRS, local: Address = OURS
    ) -> list[Action]:
        """A datagram reaches the endpoint, at one of its sockets."""
        return self.do(DatagramReceived(Path(local, source), datagram))

    def wait(self, ns: Instant, looks_max: int = 10_000) -> list[Action]:
        """Let time go by; the endpoint looks at the clock when it asked to."""
        until, actions = self.now + ns, list[Action]()
        for _ in range(looks_max):
            deadline = self.endpoint.deadline
            if deadline is None or deadline.at > until:
                self.now = until
                return actions
            self.now = max(self.now, deadline.at)
            self.endpoint.advance(self.now)
            actions += self.flush()
        raise AssertionError("time does not go on")

    def flush(self) -> list[Action]:
        """Carry out all that the endpoint wants done."""
        all_of_it: list[Action] = []
        while actions := self.endpoint.actions(self.now):
            for action in actions:
                all_of_it.append(action)
                match action:
                    case Transmit(path, datagrams):
                        for datagram in datagrams:
                            self.puppet.open(datagram, path, self.now)
                    case Persist(link, ticket, pairing) if self.persists:
                        self.kept[pairing.file_id] = pairing
                        self.endpoint.handle(Persisted(link, ticket), self.now)
                    case Destroy(file_id):
                        self.kept.pop(file_id, None)
        self.did += all_of_it
        return all_of_it


def config_for(seed: bytes) -> Config:
    """Defaults, with an identity made from `seed`."""
    return Config(Secret(Dice(seed + b" identity")(32)))


def puppet_dials(
    config: Config | None = None,
    *,
    limits: Limits = DEFAULT_LIMITS,
    seed: bytes = b"puppet",
    settled: bool = True,
    trace: Trace | None = None,
) -> Linked:
    """A real listener, established with a puppet that dialled it.

    Without `settled` the puppet has its keys, and the listener still waits for its first packet.
    """
    config = config or config_for(seed + b" endpoint")
    endpoint = Endpoint(
        config, now=0, unix_ns=UNIX_NS, entropy=Dice(seed + b" endpoint"), trace=trace
    )
    endpoint.handle(PublishBootstrap((OURS,)), 0)
    (content,) = [a.content for a in endpoint.actions(0) if isinstance(a, Publish)]
    pairing, dice = first_pairing(content), Dice(seed)
    attempt = DialAttempt(Secret(dice(32)), pairing, 0, limits, b"", dice)
    endpoint.handle(DatagramReceived(FIRST, attempt.hello), 0)
    (reply,) = [a.datagrams[0] for a in endpoint.actions(0) if isinstance(a, Transmit)]
    found = attempt.read_answer(reply)
    assert isinstance(found, tuple)
    linked = Linked(endpoint, Puppet.of(found[0], dice), -1, pairing, attempt.hello, STEP)
    if settled:
        linked.hear(linked.puppet.seal(frames.PING))
        newest = linked.puppet.largest
        linked.hear(linked.puppet.seal(frames.encode_ack([(newest, newest)], 0)))
        linked.did.clear()
        linked.puppet.heard.clear()
    return linked


def puppet_listens(
    config: Config | None = None,
    *,
    limits: Limits = DEFAULT_LIMITS,
    seed: bytes = b"puppet",
    settled: bool = True,
    trace: Trace | None = None,
) -> Linked:
    """A real dialer, established with a puppet that answered it.

    Without `settled` the dialer can send, and has heard no packet yet.
    """
    config = config or config_for(seed + b" endpoint")
    dice = Dice(seed)
    identity, file_id, secret = Secret(dice(32)), dice(16), Secret(dice(32))
    static = public_key(identity.view())
    first = derive_credential(file_id, 0, secret)
    pairing = Pairing(file_id, True, static, static, (first.own(),))
    ours = Pairing(file_id, False, static, None, (first,))
    endpoint = Endpoint(
        config, now=0, unix_ns=UNIX_NS, entropy=Dice(seed + b" endpoint"), trace=trace
    )
    endpoint.handle(Dial(1, pairing, (FIRST,)), 0)
    (hello,) = [a.datagrams[0] for a in endpoint.actions(0) if isinstance(a, Transmit)]
    agreement, reply = answered(identity, ours, first, hello, limits, dice)
    linked = Linked(endpoint, Puppet.of(agreement, dice), 1, pairing, reply, STEP)
    linked.hear(reply)
    if settled:
        newest = linked.puppet.largest
        linked.hear(linked.puppet.seal(frames.encode_ack([(newest, newest)], 0) + frames.PING))
        linked.wait(0)
        linked.did.clear()
    return linked


def answered(
    identity: Secret,
    pairing: Pairing,
    credential: Credential,
    hello: bytes,
    limits: Limits,
    dice: Dice,
) -> tuple[Agreement, bytes]:
    """What a listener agrees to with whoever sent `hello`, and its REPLY."""
    message, _ = open_hello(credential, hello)
    read = read_hello(identity, pairing, credential.generation, message, dice)
    agreed = answer(read, pairing, credential, limits)
    return agreed.agreement, seal_reply(credential, OURS, agreed.message, dice)
