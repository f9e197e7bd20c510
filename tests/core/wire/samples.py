"""Hypothesis strategies for values that go over the wire; the fuzz tests use them too."""

from __future__ import annotations

from hypothesis import strategies as st

from clawchat.core.credential import Address
from clawchat.core.wire import frames, varint
from clawchat.core.wire.control import (
    REPORT_MAX,
    CopyReport,
    PortRotate,
    RatchetOffer,
    RatchetReply,
    RotateRequest,
)

numbers = st.one_of(st.integers(0, 300), st.integers(0, varint.MAX))
tokens = st.binary(min_size=8, max_size=8)


@st.composite
def ack_ranges(draw: st.DrawFn, ranges_max: int = 33) -> tuple[tuple[int, int], ...]:
    """Ranges as in `Ack`: newest first, with gaps between them."""
    steps = draw(
        st.lists(
            st.tuples(st.integers(0, 400), st.integers(0, 400)), min_size=1, max_size=ranges_max
        )
    )
    low = sum(length + gap + 2 for length, gap in steps) + draw(st.integers(0, 1 << 40))
    ranges = []
    for length, gap in steps:
        ranges.append((low - length, low))
        low -= length + gap + 2
    return tuple(ranges)


streams = st.builds(
    frames.Stream, numbers, st.integers(0, varint.MAX - 64), st.binary(max_size=64), st.booleans()
)
acks = st.builds(frames.Ack, ack_ranges(), numbers)
reasons = st.text(max_size=256).filter(lambda text: len(text.encode(errors="replace")) <= 256)
any_frame: st.SearchStrategy[frames.Frame] = st.one_of(
    streams,
    acks,
    st.builds(frames.Ping),
    st.builds(frames.MaxData, numbers),
    st.builds(frames.MaxStream, numbers, numbers),
    st.builds(frames.MaxStreams, st.integers(0, 1 << 60)),
    st.builds(frames.Reset, numbers, numbers, numbers),
    st.builds(frames.Stop, numbers, numbers),
    st.builds(frames.PathChallenge, tokens),
    st.builds(frames.PathResponse, tokens),
    st.builds(frames.Close, numbers, reasons),
    st.builds(frames.Compromised, numbers, numbers),
    st.builds(frames.CompromisedAck),
    st.builds(frames.Datagram, st.binary(max_size=64)),
)
epochs = st.integers(0, (1 << 32) - 1)
hosts = st.sampled_from(("192.0.2.1", "0.0.0.0", "2001:db8::1", "::"))
any_control = st.one_of(
    st.builds(RatchetOffer, epochs, st.binary(min_size=1216, max_size=1216)),
    st.builds(RatchetReply, epochs, st.binary(min_size=1120, max_size=1120)),
    st.builds(RotateRequest),
    st.builds(
        PortRotate,
        numbers,
        st.integers(1, 65_535),
        st.lists(st.builds(Address, hosts, st.integers(1, 65_535)), max_size=4).map(tuple),
    ),
    st.builds(
        CopyReport,
        numbers,
        st.booleans(),
        st.integers(1, REPORT_MAX),
        st.integers(0, REPORT_MAX),
        st.builds(Address, hosts, st.integers(0, 65_535)),
    ),
)
