"""The messages of the handshake as values: HELLO, REPLY, REFUSAL (PROTOCOL.md "Handshake"), and the
pairing with which the first one begins.

Rules: everything is verified before a value is returned; a failure raises `Malformed` with the
`Drop` to count and leaves nothing behind. No table is fired here.
Left to others: when to send them (`core.phases`), who may (`core.reception`).
"""

from __future__ import annotations

from collections.abc import Callable
from hmac import compare_digest
from typing import Final

from attrs import frozen

from clawchat.core.actions import BootstrapContent
from clawchat.core.config import COOKIE_LIFE, Entropy
from clawchat.core.credential import Address, Credential, Pairing
from clawchat.core.crypto.envelope import ANSWERED_SIZE, Refusal, open_reply, seal_hello
from clawchat.core.crypto.noise import HandshakeState
from clawchat.core.crypto.schedule import derive_credential, first_root, next_secret, prologue
from clawchat.core.crypto.suite import KeyPair, hmac_sha256
from clawchat.core.instant import Instant
from clawchat.core.secret import Secret
from clawchat.core.wire.parameters import Limits, cookie_of, decode_parameters, encode_parameters
from clawchat.errors import Drop, Malformed

EPHEMERAL_SIZE: Final = 32
COOKIE_SIZE: Final = 24  # the time it was made, 8 bytes, and a tag


@frozen
class Agreement:
    """What one side knows after both messages: the root of epoch 0 and the next credential."""

    dialer: bool
    root: Secret
    next_credential: Credential
    handshake_hash: bytes
    peer_static: bytes
    peer_limits: Limits

    def wipe(self) -> None:
        """Overwrite what is secret in it."""
        self.root.wipe()
        self.next_credential.wipe()


def _agreement(
    noise: HandshakeState, pairing: Pairing, used: Credential, peer_limits: Limits, *, dialer: bool
) -> Agreement:
    chaining_key, digest = noise.chaining_key, noise.hash
    assert noise.rs is not None, "IK gives both sides the other's static key"
    return Agreement(
        dialer=dialer,
        root=first_root(chaining_key, digest),
        next_credential=derive_credential(
            pairing.file_id, used.generation + 1, next_secret(chaining_key, digest)
        ),
        handshake_hash=digest,
        peer_static=noise.rs,
        peer_limits=peer_limits,
    )


def first_pairing(content: BootstrapContent, *, dialer: bool = True) -> Pairing:
    """Generation 0, as a bootstrap file gives it to who redeems it, or else to who made it."""
    listener = content.listener_static
    return Pairing(
        file_id=content.file_id,
        dialer=dialer,
        listener_static=listener,
        peer_static=listener if dialer else None,  # whoever redeems it first is pinned
        credentials=(derive_credential(content.file_id, 0, content.secret),),
    )


class DialAttempt:
    """One HELLO and the wait for its answer. Forgotten, a REPLY to it is worth nothing."""

    __slots__ = ("_beginning", "_credential", "_noise", "_pairing", "hello")

    def __init__(
        self,
        identity: Secret,
        pairing: Pairing,
        turn: int,
        limits: Limits,
        cookie: bytes,
        entropy: Entropy,
    ) -> None:
        self._pairing = pairing
        self._credential = credential = pairing.credentials[turn]
        self._noise = HandshakeState(
            initiator=True,
            prologue=prologue(pairing.file_id, credential.generation),
            s=KeyPair(identity.view()),
            e=entropy(EPHEMERAL_SIZE),
            rs=pairing.listener_static,
            psks=(credential.psk.view(),),
        )
        message = self._noise.write_message(encode_parameters(limits, cookie))
        self._beginning = message[:ANSWERED_SIZE]
        self.hello = seal_hello(credential, message, entropy, cookie)

    @property
    def hint(self) -> bytes:
        """Under which an answer comes."""
        return self._credential.hint

    def read_answer(
        self, datagram: bytes, may_compute: Callable[[], bool] = lambda: True
    ) -> tuple[Agreement, Address] | Refusal:
        """What the listener said, and where it saw us. Raises `Malformed`.

        `may_compute` is asked once the envelope has opened, before any public-key operation.
        """
        found = open_reply(self._credential, datagram)
        if isinstance(found, Refusal):
            if found.answered != self._beginning:  # late: it answers a HELLO before this one
                raise Malformed(Drop.HANDSHAKE)
            return found
        address, message = found
        if not may_compute():
            raise Malformed(Drop.LIMITED)
        try:
            payload = self._noise.read_message(message)
        except ValueError:  # a REPLY was read before, and its parameters were of no use
            raise Malformed(Drop.HANDSHAKE) from None
        limits = decode_parameters(payload)
        agreement = _agreement(self._noise, self._pairing, self._credential, limits, dialer=True)
        self._noise.wipe()
        return agreement, address


@frozen
class Hello:
    """A HELLO that verified: who calls, and with what."""

    noise: HandshakeState
    dialer_static: bytes
    peer_limits: Limits
    cookie: bytes


def read_hello(
    identity: Secret, pairing: Pairing, generation: int, message: bytes, entropy: Entropy
) -> Hello:
    """Verify the Noise message of a HELLO. Raises `Malformed`."""
    noise = HandshakeState(
        initiator=False,
        prologue=prologue(pairing.file_id, generation),
        s=KeyPair(identity.view()),
        e=entropy(EPHEMERAL_SIZE),
    )
    payload = noise.read_message(message)
    assert noise.rs is not None, "IK's first message carries it"
    return Hello(noise, noise.rs, decode_parameters(payload), cookie_of(payload))


@frozen
class Answer:
    """What the listener answers, and what it agreed to thereby."""

    used: Credential
    message: bytes
    agreement: Agreement


def answer(hello: Hello, pairing: Pairing, used: Credential, limits: Limits) -> Answer:
    """The second Noise message, and the agreement that follows from it."""
    hello.noise.set_psk(used.psk.view())
    message = hello.noise.write_message(encode_parameters(limits))
    agreement = _agreement(hello.noise, pairing, used, hello.peer_limits, dialer=False)
    hello.noise.wipe()
    return Answer(used, message, agreement)


def make_cookie(key: Secret, hint: bytes, seen: Address, now: Instant) -> bytes:
    """Proof that a HELLO was made after `now`, by who received our answer at `seen`."""
    return now.to_bytes(8, "big") + _cookie_tag(key, hint, seen, now)


def check_cookie(key: Secret, cookie: bytes, hint: bytes, seen: Address, now: Instant) -> bool:
    """Whether we made this cookie, for this hint and address, not long ago."""
    if len(cookie) != COOKIE_SIZE:
        return False
    made, tag = int.from_bytes(cookie[:8], "big"), cookie[8:]
    if not 0 <= now - made <= COOKIE_LIFE:
        return False
    return compare_digest(tag, _cookie_tag(key, hint, seen, made))


def _cookie_tag(key: Secret, hint: bytes, seen: Address, made: Instant) -> bytes:
    text = b"|".join((hint, str(made).encode(), str(seen).encode()))
    return hmac_sha256(key.view(), text)[:16]
