"""A Noise message either reads to a payload that writes to the same message, or is `Malformed`.

One that does not verify leaves the state as it was. The first byte says what the rest is: message
1 as it came, the payload of a genuine message 1, or message 2 as it came.
"""

from __future__ import annotations

from clawchat.core.crypto.noise import HandshakeState
from clawchat.core.crypto.suite import KeyPair
from clawchat.errors import Drop, Malformed
from fuzz.harness import expect

STATIC, EPHEMERAL, THEIRS = KeyPair(b"\x41" * 32), KeyPair(b"\x42" * 32), KeyPair(b"\x43" * 32)
PSK = b"\x44" * 32


def initiator() -> HandshakeState:
    return HandshakeState(
        initiator=True, prologue=b"", s=STATIC, e=EPHEMERAL, rs=THEIRS.public, psks=(PSK,)
    )


def responder() -> HandshakeState:
    return HandshakeState(initiator=False, prologue=b"", s=THEIRS, e=EPHEMERAL, psks=(PSK,))


def read(reader: HandshakeState, message: bytes) -> bytes | None:
    """The payload; None, and nothing changed, when the message does not verify."""
    before = reader.hash, reader.chaining_key, reader.rs, reader.finished
    try:
        return reader.read_message(message)
    except Malformed as error:
        expect(error.drop is Drop.HANDSHAKE)
        assert (reader.hash, reader.chaining_key, reader.rs, reader.finished) == before
        return None


def check(data: bytes) -> None:
    kind, rest = (data[0] % 3 if data else 0), data[1:]
    if kind == 1:
        assert read(responder(), initiator().write_message(rest)) == rest
    elif kind == 0:
        payload = read(responder(), rest)
        assert payload is None or initiator().write_message(payload) == rest
    else:
        ours, theirs = initiator(), responder()
        theirs.read_message(ours.write_message(b""))
        payload = read(ours, rest)
        assert payload is None or theirs.write_message(payload) == rest


if __name__ == "__main__":
    from fuzz.harness import run

    run("noise")
