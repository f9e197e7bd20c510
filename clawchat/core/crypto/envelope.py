"""The datagrams of a handshake, opaque to all who lack the credential (PROTOCOL.md "Envelope").

`hint 16 | salt 16 | AES-256-GCM(...)`, one of five sizes, chosen at random among those that fit.

Rules: one hash and one AES-GCM stand between a stranger and any X25519; each envelope has its own
key, so the nonce is zero; the padding is zero and checked, so that every byte means something.
Left to others: finding the credential of a hint, the Noise message inside (`core.phases`).
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

from clawchat.core.credential import HINT_SIZE, Address, Credential, Superseded
from clawchat.core.crypto.suite import (
    KEY_SIZE,
    NONCE_SIZE,
    TAG_SIZE,
    Entropy,
    aead_open,
    aead_seal,
    derive,
    wipe,
)
from clawchat.core.secret import Secret
from clawchat.core.wire.address import decode_address, encode_address
from clawchat.core.wire.parameters import COOKIE_SIZE_MAX
from clawchat.errors import Drop, Malformed

ENVELOPE_SIZES: Final = (512, 640, 768, 896, 1024)
SALT_SIZE: Final = 16
LENGTH_SIZE: Final = 2
HEAD_SIZE: Final = HINT_SIZE + SALT_SIZE
OVERHEAD: Final = HEAD_SIZE + TAG_SIZE

ANSWERED_SIZE: Final = 16  # of a HELLO's Noise message: by its ephemeral key it is told from others

_NONCE: Final = bytes(NONCE_SIZE)
_HELLO: Final = b"hello"
_REPLY: Final = b"reply"
_REFUSAL: Final = b"\0"  # where a REPLY has the family of an address


@frozen
class Refusal:
    """The listener has seen a newer generation; `cookie` lets us prove that we are no replay.

    `answered` is the beginning of the Noise message that it answers.
    """

    answered: bytes
    cookie: bytes


def seal_hello(
    credential: Credential, message: bytes, entropy: Entropy, cookie: bytes = b""
) -> bytes:
    """The dialer's datagram; `cookie` as a REFUSAL gave it.

    It stands in the Noise message as well, which proves who repeats it. Here the listener sees,
    before any public-key operation, that it is not spoken to by a recording.

    Raises `ValueError` when `message` does not fit.
    """
    repeated = _measured(cookie) if cookie else b""
    return _seal(credential, _HELLO, _measured(message) + repeated, entropy)


def open_hello(credential: Credential | Superseded, datagram: bytes) -> tuple[bytes, bytes]:
    """The Noise message in a dialer's datagram, and the cookie beside it, empty if there is none.

    Raises `Malformed`: ENVELOPE when it does not open, MALFORMED_ENVELOPE when its inside is
    wrong.
    """
    inside = _open(credential.envelope_key, _HELLO, datagram)
    message, at = _take(inside, 0)
    cookie = b""
    if len(inside) - at >= LENGTH_SIZE:
        cookie, at = _take(inside, at)
    _end(inside, at)
    return message, _usable(cookie)


def seal_reply(
    credential: Credential, observed: Address, message: bytes, entropy: Entropy
) -> bytes:
    """The listener's datagram; `observed` is where the HELLO came from.

    Raises `ValueError` when `message` does not fit or `observed` is no IP address.
    """
    return _seal(credential, _REPLY, encode_address(observed) + _measured(message), entropy)


def seal_refusal(credential: Superseded, message: bytes, cookie: bytes, entropy: Entropy) -> bytes:
    """The listener's datagram to a HELLO of a generation that was already replaced.

    `message` is the Noise message in it. `cookie` has at most 64 bytes; the dialer repeats it to
    show that it is no replay.
    """
    answered = message[:ANSWERED_SIZE].ljust(ANSWERED_SIZE, b"\0")
    return _seal(credential, _REPLY, _REFUSAL + answered + _measured(cookie), entropy)


def open_reply(credential: Credential, datagram: bytes) -> tuple[Address, bytes] | Refusal:
    """From where the listener saw us come, and its Noise message; or that it refuses.

    Raises as `open_hello`.
    """
    inside = _open(credential.envelope_key, _REPLY, datagram)
    if inside[:1] == _REFUSAL:
        cookie, at = _take(inside, 1 + ANSWERED_SIZE)
        _end(inside, at)
        return Refusal(inside[1 : 1 + ANSWERED_SIZE], _usable(cookie))
    observed, at = decode_address(inside, 0, Drop.MALFORMED_ENVELOPE)
    message, at = _take(inside, at)
    _end(inside, at)
    return observed, message


def _seal(
    credential: Credential | Superseded, direction: bytes, inside: bytes, entropy: Entropy
) -> bytes:
    fitting = [size for size in ENVELOPE_SIZES if size >= len(inside) + OVERHEAD]
    if not fitting:
        raise ValueError("too long for an envelope")
    size = fitting[entropy(1)[0] % len(fitting)]
    salt = entropy(SALT_SIZE)
    head = credential.hint + salt
    padded = inside.ljust(size - OVERHEAD, b"\0")
    key = _key(credential.envelope_key, salt, direction)
    sealed = aead_seal(key, _NONCE, padded, head)
    wipe(key)
    return head + sealed


def _open(envelope_key: Secret, direction: bytes, datagram: bytes) -> bytes:
    if len(datagram) not in ENVELOPE_SIZES:
        raise Malformed(Drop.ENVELOPE)
    head = datagram[:HEAD_SIZE]
    key = _key(envelope_key, head[HINT_SIZE:], direction)
    inside = aead_open(key, _NONCE, datagram[HEAD_SIZE:], head)
    wipe(key)
    if inside is None:
        raise Malformed(Drop.ENVELOPE)
    return inside


def _key(envelope_key: Secret, salt: bytes, direction: bytes) -> bytearray:
    return derive(salt, envelope_key.view(), direction, KEY_SIZE)


def _measured(content: bytes) -> bytes:
    return len(content).to_bytes(LENGTH_SIZE, "big") + content


def _take(inside: bytes, at: int) -> tuple[bytes, int]:
    """What `_measured` put there, and where it ends."""
    start = at + LENGTH_SIZE
    end = start + int.from_bytes(inside[at:start], "big")
    if end > len(inside):
        raise Malformed(Drop.MALFORMED_ENVELOPE)
    return inside[start:end], end


def _end(inside: bytes, at: int) -> None:
    if inside[at:].strip(b"\0"):
        raise Malformed(Drop.MALFORMED_ENVELOPE)


def _usable(cookie: bytes) -> bytes:
    if len(cookie) > COOKIE_SIZE_MAX:
        raise Malformed(Drop.MALFORMED_ENVELOPE)
    return cookie
