"""The frames' layouts as data, for PROTOCOL.md's table.

`clawchat` parses frames in code; this is the same said in words. `tests/spec` builds frames from
these layouts and lets the code parse them, so that neither can change alone.

Rules: one entry for each `FrameType`, in the order of their numbers.
Left to others: what frames mean (PROTOCOL.md), reading them (`clawchat.core.wire.frames`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from attrs import frozen

from clawchat.core.wire.frames import PATH_TOKEN_SIZE, FrameType


@frozen
class Layout:
    """`fields` are separated by spaces: `name` is a varint, `name:8` bytes, `name:*` the rest,
    `name:length` as many bytes as the field `length` says, `[name]` a varint that the type's
    bits make optional, and `(a b)*count` a repetition.
    """

    types: str
    fields: str
    eliciting: bool
    again: str


FRAMES: Final[dict[FrameType, Layout]] = {
    FrameType.PADDING: Layout("0x00", "", False, "no"),
    FrameType.PING: Layout("0x01", "", True, "no"),
    FrameType.ACK: Layout("0x02", "largest delay count first (gap length)*count", False, "no"),
    FrameType.STREAM: Layout(
        "0x08-0x0f", "stream [offset] [length] data:length", True, "the bytes"
    ),
    FrameType.MAX_DATA: Layout("0x10", "limit", True, "current value"),
    FrameType.MAX_STREAM: Layout("0x11", "stream limit", True, "current value"),
    FrameType.MAX_STREAMS: Layout("0x12", "limit", True, "current value"),
    FrameType.RESET: Layout("0x14", "stream code final_size", True, "yes"),
    FrameType.STOP: Layout("0x15", "stream code", True, "yes"),
    FrameType.PATH_CHALLENGE: Layout("0x1a", f"token:{PATH_TOKEN_SIZE}", True, "no"),
    FrameType.PATH_RESPONSE: Layout("0x1b", f"token:{PATH_TOKEN_SIZE}", True, "no"),
    FrameType.CLOSE: Layout("0x1c", "code length reason:length", False, "section 17.3"),
    FrameType.COMPROMISED: Layout("0x1d", "reason scope", False, "section 17.5"),
    FrameType.COMPROMISED_ACK: Layout("0x1e", "", False, "section 17.5"),
    FrameType.PUNCH: Layout("0x1f", "", False, "reserved"),
    FrameType.DATAGRAM: Layout("0x30", "data:*", True, "no"),
    FrameType.DATAGRAM_WITH_LENGTH: Layout("0x31", "length data:length", True, "no"),
}
RESERVED: Final = (FrameType.PUNCH,)


def rows() -> Iterator[tuple[str, str, str, str, str]]:
    """Type, name, layout in words, ack-eliciting, sent again: for each frame."""
    for kind in FrameType:
        layout = FRAMES[kind]
        fields = "reserved" if kind in RESERVED else _words(layout.fields)
        eliciting = "yes" if layout.eliciting else "" if kind in RESERVED else "no"
        again = "" if kind in RESERVED else layout.again
        yield layout.types, kind.name, fields, eliciting, again


def _words(fields: str) -> str:
    if not fields:
        return "nothing"
    parts = []
    for field in fields.replace("(gap length)*count", "(gap,length)*count").split():
        name, _, size = field.partition(":")
        if size == "*":
            parts.append(f"`{name}` to the end")
        elif size.isdigit():
            parts.append(f"`{name}` {size} bytes")
        else:
            parts.append("`" + name.replace("(gap,length)*count", "(gap, length) x count") + "`")
    return ", ".join(parts)
