"""A control stream either splits into messages that encode to equal ones, or is `Malformed`.

It splits alike whether it comes whole or in pieces, and never buffers more than one message.
"""

from __future__ import annotations

from clawchat.core.wire.control import (
    BODY_SIZE_MAX,
    ControlMessage,
    ControlReader,
    encode_control,
)
from clawchat.errors import Drop, Malformed
from fuzz.harness import expect

HEAD_SIZE_MAX = 16


def feed(pieces: list[bytes]) -> tuple[list[ControlMessage], bool]:
    """The messages before the first fault, and whether there was one."""
    reader, messages = ControlReader(), list[ControlMessage]()
    for piece in pieces:
        try:
            messages += reader.feed(piece)
        except Malformed as error:
            expect(error.drop is Drop.MALFORMED_FRAME)
            assert reader.buffered == 0
            return messages, True
        assert reader.buffered <= BODY_SIZE_MAX + HEAD_SIZE_MAX
    return messages, False


def check(data: bytes) -> None:
    step = 1 + (data[-1] ^ 0x3F if data else 0)  # pieces of 64 for keys of zeros
    messages, fault = feed([data[at : at + step] for at in range(0, len(data), step)])
    whole, whole_fault = feed([data])
    assert whole_fault == fault
    if not fault:
        assert whole == messages
    again = ControlReader().feed(b"".join(map(encode_control, messages)))
    assert again == messages


if __name__ == "__main__":
    from fuzz.harness import run

    run("control")
