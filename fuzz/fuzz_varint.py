"""A varint either decodes to a number that encodes to an equal one, or raises `Malformed`."""

from __future__ import annotations

from clawchat.core.wire import varint
from clawchat.errors import Drop, Malformed
from fuzz.harness import expect


def check(data: bytes) -> None:
    at = 0
    while True:
        try:
            number, end = varint.decode(data, at)
        except Malformed as error:
            expect(error.drop is Drop.MALFORMED_VARINT)
            assert at + 8 > len(data)
            return
        assert at < end <= len(data)
        assert varint.encode(number, end - at) == data[at:end]
        assert varint.decode(varint.encode(number), 0) == (number, varint.size(number))
        at = end


if __name__ == "__main__":
    from fuzz.harness import run

    run("varint")
