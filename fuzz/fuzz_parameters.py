"""Parameters either decode to limits and a cookie that encode to equal ones, or are `Malformed`."""

from __future__ import annotations

from clawchat.core.wire.parameters import cookie_of, decode_parameters, encode_parameters
from clawchat.errors import Drop, Malformed
from fuzz.harness import expect


def check(data: bytes) -> None:
    try:
        limits = decode_parameters(data)
    except Malformed as error:
        expect(error.drop is Drop.MALFORMED_PARAMETERS)
        return
    cookie = cookie_of(data)
    again = encode_parameters(limits, cookie)
    assert decode_parameters(again) == limits
    assert cookie_of(again) == cookie


if __name__ == "__main__":
    from fuzz.harness import run

    run("parameters")
