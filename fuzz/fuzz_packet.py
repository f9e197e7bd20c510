"""A datagram either opens to a number and payload that seal to the same datagram, or is None.

The first byte says what the rest is: even, a datagram as it came; odd, a packet number and a
payload that the peer sealed, opened as it was and with one bit changed.
"""

from __future__ import annotations

from clawchat.core.crypto.packets import DIALER, OpenKeys, SealKeys
from clawchat.core.secret import Secret

ROOT = b"\x0d" * 32
SEAL, OPEN = SealKeys(Secret(ROOT), 1, DIALER), OpenKeys(Secret(ROOT), 1, DIALER)
PATH = 5
CID = OPEN.cid(PATH)


def check_found(datagram: bytes, largest: int) -> None:
    whole, view, stub = OPEN.open(
        PATH, CID, [datagram, memoryview(datagram), datagram[:20]], largest
    )
    assert whole == view
    assert stub is None
    if whole is not None:
        number, payload = whole
        (again,) = SEAL.seal(PATH, number, [payload])
        assert again[8:] == datagram[8:]


def check_sealed(number: int, payload: bytes, place: int) -> None:
    datagrams = SEAL.seal(PATH, number, [payload, payload + b"x"])
    opened = OPEN.open(PATH, CID, datagrams, number - 1)
    assert opened == [(number, payload), (number + 1, payload + b"x")]
    altered = bytearray(datagrams[0])
    altered[8 + place % (len(altered) - 8)] ^= 1 << place % 8
    assert OPEN.open(PATH, CID, [bytes(altered), datagrams[1]], number) == [None, opened[1]]


def check(data: bytes) -> None:
    if data[:1] == b"" or data[0] % 2 == 0:
        check_found(data[1:], data[0] if data else -1)
        return
    number = int.from_bytes(data[1:9], "big") >> 2
    check_sealed(number, data[9:], int.from_bytes(data[-2:], "big"))


if __name__ == "__main__":
    from fuzz.harness import run

    run("packet")
