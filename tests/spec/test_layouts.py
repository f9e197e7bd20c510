"""The layouts in PROTOCOL.md's table of frames are those that the code reads.

Each layout is turned into bytes by a small writer of its own, and the code must find the same
values in them.
"""

from __future__ import annotations

from typing import Any

import pytest

from clawchat.core.wire import frames
from clawchat.core.wire.frames import FrameType, parse_frames
from clawchat.errors import Malformed
from spec.layouts import FRAMES, RESERVED, rows


def number(value: int) -> bytes:
    """A varint of 8 bytes: the longest form, so that the code is not only used to short ones."""
    return (value | 0xC0 << 56).to_bytes(8, "big")


def written(kind: int, values: dict[str, Any]) -> bytes:
    """A frame of `kind` as its layout says. Lengths and counts follow from the values."""
    layout = FRAMES[FrameType(kind if not 0x08 <= kind <= 0x0F else 0x08)]
    out = bytes((kind,))
    for field in layout.fields.replace("(gap length)", "(gap,length)").split():
        name, _, size = field.partition(":")
        if name == "(gap,length)*count":
            for gap, length in values["pairs"]:
                out += number(gap) + number(length)
        elif name.startswith("["):
            if name.strip("[]") in values:
                out += number(values[name.strip("[]")])
        elif size:
            out += values[name]
        else:
            out += number(values[name])
    return out


SAMPLES: list[tuple[int, dict[str, Any], frames.Frame]] = [
    (0x01, {}, frames.Ping()),
    (
        0x02,
        {"largest": 20, "delay": 7, "count": 1, "first": 3, "pairs": [(2, 4)]},
        frames.Ack(((9, 13), (17, 20)), 7),
    ),
    (0x08, {"stream": 4, "data": b"xyz"}, frames.Stream(4, 0, b"xyz", False)),
    (
        0x0F,
        {"stream": 4, "offset": 5, "length": 3, "data": b"xyz"},
        frames.Stream(4, 5, b"xyz", True),
    ),
    (0x10, {"limit": 9}, frames.MaxData(9)),
    (0x11, {"stream": 4, "limit": 9}, frames.MaxStream(4, 9)),
    (0x12, {"limit": 9}, frames.MaxStreams(9)),
    (0x14, {"stream": 4, "code": 1, "final_size": 2}, frames.Reset(4, 1, 2)),
    (0x15, {"stream": 4, "code": 1}, frames.Stop(4, 1)),
    (0x1A, {"token": bytes(8)}, frames.PathChallenge(bytes(8))),
    (0x1B, {"token": bytes(8)}, frames.PathResponse(bytes(8))),
    (0x1C, {"code": 1, "length": 2, "reason": b"no"}, frames.Close(1, "no")),
    (0x1D, {"reason": 3, "scope": 1}, frames.Compromised(3, 1)),
    (0x1E, {}, frames.CompromisedAck()),
    (0x30, {"data": b"xyz"}, frames.Datagram(b"xyz")),
    (0x31, {"length": 3, "data": b"xyz"}, frames.Datagram(b"xyz")),
]


@pytest.mark.parametrize(("kind", "values", "frame"), SAMPLES)
def test_the_code_reads_what_the_table_of_frames_says(
    kind: int, values: dict[str, Any], frame: frames.Frame
) -> None:
    (found,) = parse_frames(written(kind, values))
    if isinstance(frame, frames.Ack):
        assert isinstance(found, frames.Ack)
        assert sorted(found.ranges) == sorted(frame.ranges)
        assert found.delay_us == frame.delay_us
    else:
        assert found == frame


def test_the_table_names_every_frame_and_the_samples_try_all_of_them() -> None:
    assert set(FRAMES) == set(FrameType)
    tried = {0x08 if 0x08 <= kind <= 0x0F else kind for kind, _, _ in SAMPLES}
    assert tried == set(FrameType) - set(RESERVED) - {FrameType.PADDING}
    assert len(list(rows())) == len(FrameType)


@pytest.mark.parametrize("kind", RESERVED)
def test_a_reserved_frame_is_refused(kind: FrameType) -> None:
    with pytest.raises(Malformed):
        parse_frames(bytes((kind,)))
