"""A payload either parses to frames that encode to equal ones, or raises `Malformed`."""

from __future__ import annotations

from clawchat.core.wire import frames
from clawchat.errors import Drop, Malformed
from fuzz.harness import expect
from fuzz.reencode import encode_frame


def check(data: bytes) -> None:
    try:
        parsed = frames.parse_frames(data)
    except Malformed as error:
        expect(error.drop in (Drop.MALFORMED_FRAME, Drop.MALFORMED_VARINT))
        return
    again = b"".join(map(encode_frame, parsed)) or frames.padding(1)
    assert frames.parse_frames(again) == parsed
    lone = frames.lone_stream(data)
    if lone is not None:
        assert parsed == [lone]
        # The general parser must agree with the fast path; a padding byte before makes it look.
        assert frames.parse_frames(frames.padding(1) + data) == parsed


if __name__ == "__main__":
    from fuzz.harness import run

    run("frames")
