"""Every rule of PROTOCOL.md that a peer can break, broken: what happens is what the text says.

One side is a puppet with valid keys. A row says where the rule stands, what the puppet says in one
packet each, and the close code, or None for what must be ignored. Each row is played against a
listener and against a dialer, unless the rule is about one of them.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from attrs import frozen

from clawchat.core.actions import Closed, Compromised, StreamData, Transmit
from clawchat.core.config import DEFAULT_LIMITS
from clawchat.core.events import StreamClass, Write, stream_id
from clawchat.core.instant import SECOND
from clawchat.core.wire import frames, varint
from clawchat.core.wire.control import (
    BODY_SIZE_MAX,
    EPOCH_MAX,
    OFFER_SIZE,
    REPLY_SIZE,
    ControlType,
    CopyReport,
    RatchetOffer,
    RatchetReply,
    RotateRequest,
    encode_control,
)
from clawchat.core.wire.parameters import STREAMS_MAX
from clawchat.errors import CloseCode, CompromiseReason, Drop
from fuzz.puppet import THEIRS, Linked, puppet_dials, puppet_listens

Payloads = Callable[[Linked], list[bytes]]
BOTH = (puppet_dials, puppet_listens)
LISTENER, DIALER = BOTH[:1], BOTH[1:]
"""Whom the rule binds us as: a puppet that dialled talks to a listener."""
TOP = varint.MAX


@frozen
class Rule:
    """`section` of PROTOCOL.md and what it forbids or lets pass."""

    section: str
    text: str
    says: Payloads
    code: CloseCode | None
    sides: tuple[Callable[[], Linked], ...] = BOTH

    def __str__(self) -> str:
        return f"{self.section} {self.text}"


def own(linked: Linked, sequence: int = 1, kind: StreamClass = StreamClass.BULK) -> int:
    """A stream that the puppet may open."""
    return stream_id(sequence, kind, dialer=linked.puppet.dialer)


def ours(linked: Linked, sequence: int = 1) -> int:
    """A stream that only the endpoint may open."""
    return stream_id(sequence, StreamClass.BULK, dialer=not linked.puppet.dialer)


def data(stream: int, offset: int, size: int, *, fin: bool = False) -> bytes:
    return frames.encode_stream(stream, offset, bytes(size), fin=fin)


def plain(*payloads: bytes) -> Payloads:
    """The same bytes whoever hears them."""
    return lambda _linked: list(payloads)


def varints(*numbers: int) -> bytes:
    return b"".join(map(varint.encode, numbers))


def control(*messages: bytes) -> Payloads:
    """Bytes on the control stream, a packet each."""
    return lambda linked: [linked.puppet.on_control(message) for message in messages]


def message(kind: int, body: bytes) -> bytes:
    return varints(kind, len(body)) + body


def close_with(text: bytes) -> bytes:
    return b"\x1c" + varints(0, len(text)) + text


def full_window(linked: Linked) -> list[bytes]:
    """All that one stream may carry, and a byte."""
    limit = DEFAULT_LIMITS.max_stream
    return [data(own(linked), limit - 1, 1), data(own(linked), limit, 1)]


def full_link(linked: Linked) -> list[bytes]:
    """Streams whose highest bytes add up to the link's window, and a byte."""
    count = DEFAULT_LIMITS.max_data // DEFAULT_LIMITS.max_stream
    last = DEFAULT_LIMITS.max_stream - 1
    full = [data(own(linked, 1 + number), last, 1) for number in range(count)]
    return [*full, data(own(linked, 1 + count), 0, 1)]


def acknowledged_offer(linked: Linked) -> list[bytes]:
    """Two offers of a dialer, the second before the first exchange is confirmed."""
    puppet = linked.puppet
    first = puppet.on_control(encode_control(puppet.offer(1)))
    return [first, puppet.on_control(encode_control(puppet.offer(2)))]


def report(count: int = 1, seconds: int = 0) -> bytes:
    return encode_control(CopyReport(0, True, count, seconds, THEIRS))


def bare_control(offset: int, size: int) -> bytes:
    return frames.encode_stream(0, offset, bytes(size), fin=False)


RULES = (
    # 8: packets
    Rule("8.1", "an empty payload", plain(b""), CloseCode.FRAME),
    # 9: frames
    Rule("9", "a type that is not in the table", plain(b"\x03"), CloseCode.FRAME),
    Rule("9", "a type that does not fit a byte's varint", plain(b"\x40\x01"), CloseCode.FRAME),
    Rule("9", "a frame that is cut short", plain(b"\x10"), CloseCode.FRAME),
    Rule("9", "a token that is cut short", plain(b"\x1a1234567"), CloseCode.FRAME),
    Rule("9", "a length beyond the packet", plain(b"\x31\x05abc"), CloseCode.FRAME),
    Rule("9", "PUNCH", plain(b"\x1f"), CloseCode.FRAME),
    Rule("9", "padding alone", plain(bytes(30)), None),
    Rule("9", "an ACK below 0", plain(b"\x02" + varints(3, 0, 0, 4)), CloseCode.FRAME),
    Rule("9", "257 gaps", plain(b"\x02" + varints(600, 0, 257, 0) + bytes(514)), CloseCode.FRAME),
    Rule("9", "an ACK from the future", plain(b"\x02" + varints(1 << 40, 0, 0, 0)), CloseCode.ACK),
    Rule(
        "9",
        "an ACK that is repeated",
        lambda linked: [frames.encode_ack([(linked.puppet.largest,) * 2], 0)] * 3,
        None,
    ),
    Rule(
        "9",
        "bytes beyond 2^62 - 1",
        lambda linked: [b"\x0c" + varints(own(linked), TOP) + b"xy"],
        CloseCode.FRAME,
    ),
    Rule("9", "a MAX_DATA that does not raise", plain(frames.encode_max_data(0)), None),
    Rule("9", "a MAX_STREAMS that does not raise", plain(frames.encode_max_streams(0)), None),
    Rule(
        "9",
        "a MAX_STREAM that does not raise",
        lambda linked: [frames.encode_max_stream(own(linked), 0)],
        None,
    ),
    Rule(
        "9",
        "MAX_STREAMS above 2^60",
        plain(b"\x12" + varints(STREAMS_MAX + 1)),
        CloseCode.FRAME,
    ),
    Rule("9", "as large as can be", plain(frames.encode_max_streams(STREAMS_MAX)), None),
    Rule("9", "an answer to no challenge", plain(frames.encode_path_response(bytes(8))), None),
    Rule(
        "9",
        "a text above 256 bytes",
        plain(b"\x1c" + varints(0, 257) + bytes(257)),
        CloseCode.FRAME,
    ),
    Rule(
        "9", "a text that is not UTF-8", plain(b"\x1c" + varints(0, 1) + b"\xff"), CloseCode.FRAME
    ),
    Rule("9", "COMPROMISED_ACK to nothing", plain(frames.COMPROMISED_ACK), CloseCode.FRAME),
    # 10: the control stream
    Rule(
        "10",
        "its end",
        plain(frames.encode_stream(0, 0, b"", fin=True)),
        CloseCode.STREAM_STATE,
    ),
    Rule("10", "its RESET", plain(frames.encode_reset(0, 0, 0)), CloseCode.STREAM_STATE),
    Rule("10", "its STOP", plain(frames.encode_stop(0, 0)), CloseCode.STREAM_STATE),
    Rule("10", "more than its window", plain(bare_control(65536, 1)), CloseCode.FLOW_CONTROL),
    Rule("10", "a reserved type", control(message(ControlType.CANDIDATES, b"")), CloseCode.FRAME),
    Rule("10", "an unknown type", control(message(0x3F, b"")), CloseCode.FRAME),
    Rule(
        "10",
        "a length above 2048",
        control(varints(ControlType.RATCHET_OFFER, BODY_SIZE_MAX + 1)),
        CloseCode.FRAME,
    ),
    Rule(
        "10",
        "an epoch of 2^32",
        control(message(ControlType.RATCHET_OFFER, varints(EPOCH_MAX + 1) + bytes(OFFER_SIZE))),
        CloseCode.FRAME,
    ),
    Rule(
        "10",
        "a body of a wrong size",
        control(message(ControlType.RATCHET_OFFER, varints(1) + bytes(OFFER_SIZE - 1))),
        CloseCode.FRAME,
    ),
    Rule(
        "10",
        "a body where none belongs",
        control(message(ControlType.ROTATE_REQUEST, b"x")),
        CloseCode.FRAME,
    ),
    # 7.4: reports of copies
    Rule("7.4", "a dialer that reports a copy", control(report()), CloseCode.FRAME, LISTENER),
    Rule("7.4", "a listener that reports copies", control(report(), report(9, 9)), None, DIALER),
    Rule(
        "7.4",
        "a report of nothing",
        control(message(ControlType.COPY_REPORT, varints(0, 1, 0, 0) + b"\4\xc0\0\2\1\0\5")),
        CloseCode.FRAME,
    ),
    Rule(
        "7.4",
        "a report by a third kind of key",
        control(message(ControlType.COPY_REPORT, varints(0, 2, 1, 0) + b"\4\xc0\0\2\1\0\5")),
        CloseCode.FRAME,
    ),
    Rule(
        "7.4",
        "a report without an address",
        control(message(ControlType.COPY_REPORT, varints(0, 1, 1, 0))),
        CloseCode.FRAME,
    ),
    # 11: streams
    Rule("11", "sequence 0", plain(data(2, 0, 1)), CloseCode.STREAM_STATE),
    Rule(
        "11",
        "the other class of a live stream",
        lambda linked: [data(own(linked), 0, 1), data(own(linked) ^ 2, 0, 1)],
        CloseCode.STREAM_STATE,
    ),
    Rule(
        "11",
        "a stream at the limit",
        lambda linked: [data(own(linked, DEFAULT_LIMITS.max_streams), 0, 1)],
        CloseCode.STREAM_LIMIT,
    ),
    Rule(
        "11",
        "the last stream below the limit, and none before it",
        lambda linked: [data(own(linked, DEFAULT_LIMITS.max_streams - 1), 0, 1)],
        None,
    ),
    Rule(
        "11",
        "a stream of ours that was never opened",
        lambda linked: [data(ours(linked, 9), 0, 1)],
        CloseCode.STREAM_STATE,
    ),
    Rule(
        "11",
        "a frame for a finished stream",
        lambda linked: [
            frames.encode_reset(own(linked), 0, 0) + frames.encode_stop(own(linked), 0),
            frames.encode_ack([(linked.puppet.largest + 1,) * 2], 0) + frames.PING,
            data(own(linked), 5, 5),
        ],
        None,
    ),
    Rule(
        "11",
        "an end that moves",
        lambda linked: [data(own(linked), 0, 5, fin=True), data(own(linked), 0, 4, fin=True)],
        CloseCode.FINAL_SIZE,
    ),
    Rule(
        "11",
        "a RESET that moves the end",
        lambda linked: [data(own(linked), 5, 5, fin=True), frames.encode_reset(own(linked), 0, 9)],
        CloseCode.FINAL_SIZE,
    ),
    Rule(
        "11",
        "data beyond the end",
        lambda linked: [data(own(linked), 0, 5, fin=True), data(own(linked), 5, 1)],
        CloseCode.FINAL_SIZE,
    ),
    Rule(
        "11",
        "an end before data",
        lambda linked: [data(own(linked), 0, 5), data(own(linked), 0, 4, fin=True)],
        CloseCode.FINAL_SIZE,
    ),
    Rule(
        "11",
        "an end that is said again",
        lambda linked: [data(own(linked), 0, 5, fin=True)] * 3,
        None,
    ),
    Rule(
        "11",
        "too many pieces",
        lambda linked: [
            b"".join(data(own(linked), 1 + 2 * at, 1) for at in range(first, first + 130))
            for first in (0, 130)
        ],
        CloseCode.LIMIT,
    ),
    # 12: flow control
    Rule("12", "more than a stream's window", full_window, CloseCode.FLOW_CONTROL),
    Rule("12", "more than the link's window", full_link, CloseCode.FLOW_CONTROL),
    Rule(
        "12",
        "a final size beyond the window",
        lambda linked: [frames.encode_reset(own(linked), 0, DEFAULT_LIMITS.max_stream + 1)],
        CloseCode.FLOW_CONTROL,
    ),
    # 16: the ratchet
    Rule(
        "16.2",
        "an offer for another epoch",
        control(encode_control(RatchetOffer(2, bytes(OFFER_SIZE)))),
        CloseCode.KEYS,
    ),
    Rule(
        "16.2",
        "an offer before the last exchange is confirmed",
        acknowledged_offer,
        CloseCode.KEYS,
        LISTENER,
    ),
    Rule(
        "16.2",
        "a reply to no offer",
        control(encode_control(RatchetReply(2, bytes(REPLY_SIZE)))),
        CloseCode.KEYS,
    ),
    Rule(
        "16.2",
        "a dialer that asks for a rotation",
        control(encode_control(RotateRequest())),
        CloseCode.KEYS,
        LISTENER,
    ),
    Rule(
        "16.2",
        "a listener that asks again and again",
        control(*[encode_control(RotateRequest())] * 5),
        None,
        DIALER,
    ),
    Rule(
        "16.2",
        "a listener that offers",
        lambda linked: [linked.puppet.on_control(encode_control(linked.puppet.offer(1)))],
        CloseCode.KEYS,
        DIALER,
    ),
    Rule(
        "16.2",
        "a key that X-Wing refuses",
        control(encode_control(RatchetOffer(1, bytes([255]) * OFFER_SIZE))),
        CloseCode.KEYS,
        LISTENER,
    ),
)


def closed(linked: Linked) -> list[Closed]:
    return [notice for notice in linked.notices if isinstance(notice, Closed)]


@pytest.mark.parametrize(
    ("rule", "make"),
    [
        pytest.param(rule, make, id=f"{rule} {'listener' if make in LISTENER else 'dialer'}")
        for rule in RULES
        for make in rule.sides
    ],
)
def test_a_rule_that_is_broken_has_the_consequence_that_is_written(
    rule: Rule, make: Callable[[], Linked]
) -> None:
    linked = make()
    for payload in rule.says(linked):
        linked.hear(linked.puppet.seal(payload))
    assert [(notice.code, notice.by_peer) for notice in closed(linked)] == (
        [] if rule.code is None else [(rule.code, False)]
    )
    if rule.code is None:
        linked.hear(linked.puppet.seal(data(own(linked, 7), 0, 1)))
        assert any(isinstance(n, StreamData) and n.stream == own(linked, 7) for n in linked.notices)
        return
    told = [f for heard in linked.puppet.heard for f in heard.frames if isinstance(f, frames.Close)]
    assert [frame.code for frame in told] == [rule.code], "and the peer is told, once"
    linked.wait(60 * SECOND)
    assert not linked.endpoint.links
    assert not linked.endpoint._registry.routes, "its keys are gone"


@pytest.mark.parametrize("make", BOTH)
def test_a_packet_is_parsed_whole_before_any_of_it_counts(make: Callable[[], Linked]) -> None:
    """8.4, step 7."""
    linked = make()
    linked.hear(linked.puppet.seal(data(own(linked), 0, 5) + b"\x03"))
    assert [notice.code for notice in closed(linked)] == [CloseCode.FRAME]
    assert not any(isinstance(notice, StreamData) for notice in linked.notices)


@pytest.mark.parametrize("make", BOTH)
def test_a_number_that_came_is_not_read_again(make: Callable[[], Linked]) -> None:
    """8.4, step 6, whatever is in the second packet."""
    linked = make()
    linked.hear(linked.puppet.seal(frames.PING, number=100))
    linked.hear(linked.puppet.seal(data(own(linked), 0, 5), number=100))
    linked.hear(linked.puppet.seal(b"\x03", number=100))
    assert linked.endpoint.drops[Drop.REPLAY] == 2
    assert not closed(linked)
    assert not any(isinstance(notice, StreamData) for notice in linked.notices)


@pytest.mark.parametrize("make", BOTH)
@pytest.mark.parametrize(
    ("code", "told"),
    [
        (0, CloseCode.DONE),
        (0x0C, CloseCode.LIMIT),
        (0x40, CloseCode.INTERNAL),
        (TOP, CloseCode.INTERNAL),
    ],
)
def test_a_close_ends_the_link_without_an_answer(
    make: Callable[[], Linked], code: int, told: CloseCode
) -> None:
    """17.3 and 20.1: codes that a peer never sends, or that we do not know, mean nothing to us."""
    linked = make()
    linked.wait(SECOND)
    linked.did.clear()
    linked.hear(linked.puppet.seal(frames.encode_close(code, "enough")))
    assert [(n.code, n.by_peer) for n in closed(linked)] == [(told, True)]
    assert not any(isinstance(action, Transmit) for action in linked.did)
    assert not linked.endpoint._registry.routes


@pytest.mark.parametrize("make", BOTH)
def test_whoever_talks_to_a_link_that_closed_gets_one_close_for_each_packet(
    make: Callable[[], Linked],
) -> None:
    """17.3."""
    linked = make()
    linked.hear(linked.puppet.seal(b"\x03"))
    for count in range(1, 5):
        linked.hear(linked.puppet.seal(data(own(linked), 0, 5) + frames.PING * 50))
        said = [f for heard in linked.puppet.heard for f in heard.frames]
        assert sum(isinstance(frame, frames.Close) for frame in said) == 1 + count
    assert not any(isinstance(notice, StreamData) for notice in linked.notices)


@pytest.mark.parametrize("make", BOTH)
def test_stop_is_answered_with_reset_and_the_same_code(make: Callable[[], Linked]) -> None:
    """11."""
    linked = make()
    linked.do(Write(linked.link, ours(linked), b"unfinished", False))
    linked.hear(linked.puppet.seal(frames.encode_stop(ours(linked), 77)))
    said = [f for heard in linked.puppet.heard for f in heard.frames]
    assert [f.code for f in said if isinstance(f, frames.Reset)] == [77]


@pytest.mark.parametrize("make", BOTH)
def test_after_compromised_nothing_counts_any_more(make: Callable[[], Linked]) -> None:
    """17.4: obeyed at once, said again, and absorbing."""
    linked = make()
    linked.do(Write(linked.link, ours(linked), b"secret", False))
    linked.hear(linked.puppet.seal(frames.encode_compromised(999, 0xFF) + data(own(linked), 0, 5)))
    (receipt,) = [n.receipt for n in linked.notices if isinstance(n, Compromised)]
    assert receipt.reason is CompromiseReason.UNSPECIFIED
    assert [n.code for n in closed(linked)] == [CloseCode.COMPROMISED]
    assert linked.pairing.file_id not in linked.kept
    linked.puppet.heard.clear()
    for payload in (frames.PING, data(own(linked), 0, 5), frames.encode_compromised(1, 0)):
        linked.hear(linked.puppet.seal(payload))
    linked.wait(60 * SECOND)
    said = {type(f) for heard in linked.puppet.heard for f in heard.frames}
    assert said == {frames.CompromisedAck}
    assert not linked.endpoint.links
