"""An envelope either opens to what seals to an equal one, or raises `Malformed`.

The first byte says what the rest is: a datagram as it came, or the inside of a HELLO or a REPLY
that somebody with the credential sealed.
"""

from __future__ import annotations

from clawchat.core.credential import Superseded
from clawchat.core.crypto.envelope import (
    ENVELOPE_SIZES,
    OVERHEAD,
    Refusal,
    open_hello,
    open_reply,
    seal_hello,
    seal_refusal,
    seal_reply,
)
from clawchat.core.crypto.schedule import derive_credential
from clawchat.core.crypto.suite import aead_seal, expand, extract
from clawchat.errors import Drop, Malformed
from fuzz.harness import expect

CREDENTIAL = derive_credential(bytes(16), 0, b"\x0c" * 32)
OLD = Superseded(0, CREDENTIAL.hint, CREDENTIAL.envelope_key)
DIRECTIONS = (b"hello", b"reply")
PRK = extract(bytes(16), CREDENTIAL.envelope_key.reveal())


def datagram_around(inside: bytes, direction: bytes) -> bytes:
    """An envelope that opens onto `inside`, filled or cut to one of the five sizes."""
    size = next((s for s in ENVELOPE_SIZES if s >= len(inside) + OVERHEAD), ENVELOPE_SIZES[-1])
    head = CREDENTIAL.hint + bytes(16)
    padded = inside[: size - OVERHEAD].ljust(size - OVERHEAD, b"\0")
    return head + aead_seal(expand(PRK, direction, 32), bytes(12), padded, head)


def check(data: bytes) -> None:
    kind = data[0] % 3 if data else 0
    datagram = datagram_around(data[1:], DIRECTIONS[kind - 1]) if kind else data[1:]
    try:
        message, cookie = open_hello(CREDENTIAL, datagram)
        again = seal_hello(CREDENTIAL, message, bytes, cookie)
        assert open_hello(CREDENTIAL, again) == (message, cookie)
    except Malformed as error:
        expect(error.drop in (Drop.ENVELOPE, Drop.MALFORMED_ENVELOPE))
        expect((error.drop is Drop.ENVELOPE) == (kind != 1))
    try:
        found = open_reply(CREDENTIAL, datagram)
    except Malformed as error:
        expect((error.drop is Drop.ENVELOPE) == (kind != 2))
        return
    if isinstance(found, Refusal):
        again = seal_refusal(OLD, found.answered, found.cookie, bytes)
    else:
        again = seal_reply(CREDENTIAL, *found, bytes)
    assert open_reply(CREDENTIAL, again) == found


if __name__ == "__main__":
    from fuzz.harness import run

    run("envelope")
