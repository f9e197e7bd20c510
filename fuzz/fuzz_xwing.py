"""A ratchet message of a peer either gives a 32-byte secret, or raises `ValueError`.

The first byte says what the rest is: even, a ciphertext; odd, a public key. With 2 added it is
filled or cut to the right size first, so that most inputs get past the check of it.
"""

from __future__ import annotations

from clawchat.core.crypto.xwing import CIPHERTEXT_SIZE, PUBLIC_SIZE, encapsulate, keypair

PRIVATE, PUBLIC = keypair(b"\x0e" * 32)


def check(data: bytes) -> None:
    kind, body = (data[0] if data else 0), data[1:]
    size = PUBLIC_SIZE if kind & 1 else CIPHERTEXT_SIZE
    if kind & 2:
        body = body[:size].ljust(size, b"\0")
    if kind & 1:
        try:
            shared, ciphertext = encapsulate(body, lambda size: b"\x42" * size)
        except ValueError:
            assert body != PUBLIC
            return
        assert len(body) == PUBLIC_SIZE
        assert (len(shared), len(ciphertext)) == (32, CIPHERTEXT_SIZE)
        assert body != PUBLIC or PRIVATE.decapsulate(ciphertext) == shared
        return
    try:
        shared = PRIVATE.decapsulate(body)
    except ValueError:
        return
    assert len(shared) == 32
    assert len(body) == CIPHERTEXT_SIZE
    assert PRIVATE.decapsulate(body) == shared


if __name__ == "__main__":
    from fuzz.harness import run

    run("xwing")
