"""An authenticated peer can make an endpoint work, but not grow.

One side is a puppet with valid keys (`fuzz.puppet`). Each flood runs twice; the second time must
leave hardly anything behind that the first did not. docs/limits.md names what is bounded by what.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import count

import pytest
from attrs import evolve

from clawchat.core import agenda as agenda_module
from clawchat.core.actions import Closed, PathChanged, StreamDrained, StreamsGranted, Transmit
from clawchat.core.config import DEFAULT_LIMITS, FOLLOW_EVERY
from clawchat.core.credential import Address, Path
from clawchat.core.events import Close, DatagramReceived, StreamClass, Write, stream_id
from clawchat.core.exchange import first_pairing
from clawchat.core.instant import MILLISECOND, SECOND
from clawchat.core.paths import CHALLENGES_MAX, WAYS_MAX
from clawchat.core.recovery import recovery as recovery_module
from clawchat.core.streams.receive import PIECES_FREE
from clawchat.core.streams.send import KEPT_MAX, SendStream
from clawchat.core.transport import Transport
from clawchat.core.wire import frames
from clawchat.core.wire.control import RotateRequest, encode_control
from clawchat.errors import BufferFull, CloseCode
from fuzz.puppet import OURS, THEIRS, Linked, puppet_dials, puppet_listens
from tests.core.pair import config_of, linked_pair

PACKETS = 300  # of one round of a flood
GROWTH_MAX = 48 << 10  # bytes: what caches and lists may still gain in the second round


def transport_of(linked: Linked) -> Transport:
    transport = linked.endpoint._links.by_id[linked.link].transport
    assert transport is not None, "the link closed"
    return transport


def theirs(sequence: int, *, dialer: bool = True) -> int:
    return stream_id(sequence, StreamClass.BULK, dialer=dialer)


# --- floods, as payloads and where they come from ---------------------------------------------


Said = Iterator[tuple[bytes, Address]]


def paths(linked: Linked) -> Said:
    for number in count():
        yield frames.PING, Address(f"10.1.{number >> 8 & 255}.{number & 255}", 4000 + number % 7)


def challenges(linked: Linked) -> Said:
    for number in count():
        token = number.to_bytes(8, "big")
        yield frames.encode_path_challenge(token) * 100, THEIRS


def pings(linked: Linked) -> Said:
    while True:
        yield frames.PING * 1000, THEIRS


def streams_opened_and_given_up(linked: Linked) -> Said:
    limit = DEFAULT_LIMITS.max_streams
    for number in count(1):
        stream = theirs(number)
        newest = linked.puppet.largest
        for heard in linked.puppet.heard:
            for frame in heard.frames:
                if isinstance(frame, frames.MaxStreams):
                    limit = max(limit, frame.limit)
        linked.puppet.heard.clear()
        assert number < limit, "the limit follows who gives up"
        yield (
            frames.encode_reset(stream, 1, 0)
            + frames.encode_stop(stream, 1)
            + frames.encode_ack([(newest, newest)], 0),
            THEIRS,
        )


def stale_acknowledgements(linked: Linked) -> Said:
    while True:
        newest = linked.puppet.largest
        yield frames.encode_ack([(newest, newest)], 0) * 50, THEIRS


def holes_in_what_was_received(linked: Linked) -> Said:
    for _ in count():
        linked.puppet.number += 7
        yield frames.PING, THEIRS


def windows_that_open_by_a_byte(linked: Linked) -> Said:
    for number in count(1 << 30):
        yield (
            frames.encode_max_data(number)
            + frames.encode_max_stream(theirs(1), number)
            + frames.encode_max_streams(number),
            THEIRS,
        )


def datagrams(linked: Linked) -> Said:
    while True:
        yield frames.encode_datagram(b"") * 400, THEIRS


def rotations_asked_for(linked: Linked) -> Said:
    message = encode_control(RotateRequest())
    while True:
        yield linked.puppet.on_control(message * 20), THEIRS


def bytes_that_nobody_acknowledges(linked: Linked) -> Said:
    """It talks, and says nothing of what it has heard."""
    while True:
        yield frames.PING, THEIRS
        linked.wait(200 * MILLISECOND)


FLOODS: dict[str, tuple[Callable[[Linked], Said], bool]] = {
    "paths": (paths, True),
    "challenges": (challenges, True),
    "pings": (pings, True),
    "streams opened and given up": (streams_opened_and_given_up, True),
    "stale acknowledgements": (stale_acknowledgements, True),
    "holes in what was received": (holes_in_what_was_received, True),
    "windows that open by a byte": (windows_that_open_by_a_byte, True),
    "datagrams": (datagrams, True),
    "rotations asked for": (rotations_asked_for, False),
    "bytes that nobody acknowledges": (bytes_that_nobody_acknowledges, True),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_leaves_nothing_behind_that_grows(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery_module, "FLIGHT_KEPT_MAX", 64)
    monkeypatch.setattr(agenda_module, "SPARE", 16)
    flood, puppet_is_dialer = FLOODS[name]
    linked = puppet_dials() if puppet_is_dialer else puppet_listens()
    linked.do(Write(linked.link, theirs(1, dialer=not puppet_is_dialer), bytes(5000), False))
    said = flood(linked)

    def round_of_it() -> int:
        for payload, source in (next(said) for _ in range(PACKETS)):
            linked.hear(linked.puppet.seal(payload), source)
            linked.now += MILLISECOND
            linked.wait(0)
            linked.did.clear()
            linked.puppet.unread.clear()
            del linked.puppet.heard[:-50]
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = round_of_it()
        assert round_of_it() - before < GROWTH_MAX
    finally:
        tracemalloc.stop()
    transport_of(linked)


# --- what bounds it ---------------------------------------------------------------------------


def test_a_link_knows_a_bounded_number_of_paths() -> None:
    linked = puppet_dials()
    said = paths(linked)
    for payload, source in (next(said) for _ in range(3 * WAYS_MAX)):
        linked.hear(linked.puppet.seal(payload), source)
    assert len(transport_of(linked).paths) == WAYS_MAX


def test_of_many_challenges_the_last_few_are_answered() -> None:
    linked = puppet_dials()
    tokens = [number.to_bytes(8, "big") for number in range(100)]
    payload = b"".join(map(frames.encode_path_challenge, tokens))
    linked.hear(linked.puppet.seal(payload))
    said = [frame for heard in linked.puppet.heard for frame in heard.frames]
    answered = [frame.token for frame in said if isinstance(frame, frames.PathResponse)]
    assert answered == tokens[-CHALLENGES_MAX:]


def test_a_peer_that_moves_to_and_fro_is_followed_now_and_then() -> None:
    linked, elsewhere = puppet_dials(), Address("10.0.0.3", 3000)
    linked.hear(linked.puppet.seal(frames.PING), elsewhere)
    token, *_ = [
        frame.token
        for heard in linked.puppet.heard
        for frame in heard.frames
        if isinstance(frame, frames.PathChallenge)
    ]
    linked.hear(linked.puppet.seal(frames.encode_path_response(token)), elsewhere)
    linked.did.clear()
    began = linked.now
    for number in range(400):
        linked.hear(linked.puppet.seal(frames.PING), (THEIRS, elsewhere)[number % 2])
        linked.now += MILLISECOND // 2
    moves = [notice for notice in linked.notices if isinstance(notice, PathChanged)]
    assert 2 <= len(moves) <= (linked.now - began) // FOLLOW_EVERY + 1
    linked.now += FOLLOW_EVERY
    for source in (THEIRS, elsewhere):
        linked.hear(linked.puppet.seal(frames.PING), source)
        linked.now += FOLLOW_EVERY
        linked.hear(linked.puppet.seal(frames.PING), source)
        assert transport_of(linked).path.remote == source, "who stays is followed"


def test_what_nobody_acknowledges_is_given_up_as_lost_beyond_a_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recovery_module, "FLIGHT_KEPT_MAX", 20)
    linked = puppet_dials()
    linked.do(Write(linked.link, theirs(1, dialer=False), bytes(200_000), False))
    for _ in range(60):
        linked.hear(linked.puppet.seal(frames.PING))
        linked.wait(300 * MILLISECOND)
    recovery = transport_of(linked).recovery
    assert len(recovery._flight) <= 20 + 8
    assert recovery.packets_lost > 0
    newest = linked.puppet.largest
    sent = {h.number for h in linked.puppet.heard}
    linked.hear(linked.puppet.seal(frames.encode_ack([(newest, newest)], 0)))
    linked.wait(10 * SECOND)
    assert {h.number for h in linked.puppet.heard} - sent, "and goes on when it is answered"


def test_what_a_sender_keeps_is_bounded_whatever_window_the_peer_opens() -> None:
    stream = SendStream(4, 1 << 62)
    for _ in range(KEPT_MAX // 4096):
        stream.write(bytes(4096), False)
        stream.run(64, 1200, 1 << 62)
    assert stream.buffered == KEPT_MAX
    with pytest.raises(BufferFull):
        stream.write(b"x", False)
    stream.acked(0, 4096, False)
    stream.write(b"x", False)


def test_a_peer_whose_data_nobody_reads_never_gets_more_than_the_first_windows() -> None:
    pair = linked_pair()
    pair.listener.reads = False
    for sequence in (1, 1, 2, 3, 4, 5):
        pair.write(pair.dialer, bytes(1 << 20), link=1, sequence=sequence)
        pair.run(5 * SECOND)
    came = [len(pair.listener.received(theirs(sequence))) for sequence in range(1, 6)]
    assert came == [DEFAULT_LIMITS.max_stream] * 4 + [0]
    assert sum(came) == DEFAULT_LIMITS.max_data
    streams = pair.listener.transport().streams
    assert streams.grown == 0
    assert not streams.control_due


def test_the_windows_of_all_links_together_grow_by_a_bounded_amount() -> None:
    limits = evolve(DEFAULT_LIMITS, max_data=1 << 16, max_stream=1 << 14)
    config = config_of("listener", limits=limits, growth_max=1 << 16)
    pair = linked_pair(listener=config)
    other = pair.dial(first_pairing(pair.publish()))
    pair.run(SECOND)
    first, second = (pair.listener.transport(link) for link in pair.listener.endpoint._links.by_id)

    def transfer(link: int, sequence: int) -> None:
        stream = pair.write(pair.dialer, bytes(1 << 20), link=link, sequence=sequence, end=True)
        pair.run(20 * SECOND)
        assert pair.dialer.all(StreamDrained)[-1] == StreamDrained(stream, 0, True)

    transfer(1, 1)
    assert (first.streams.grown, second.streams.grown) == (1 << 16, 0)
    transfer(other, 1)
    assert second.streams.grown == 0
    pair.do(pair.dialer, Close(1))
    pair.run(10 * SECOND)
    transfer(other, 2)
    assert second.streams.grown == 1 << 16, "what a link had is free when it is over"


def test_the_peers_grants_are_told_once_for_all_that_comes_together() -> None:
    linked = puppet_dials()
    payload = b"".join(frames.encode_max_streams(300 + number) for number in range(200))
    linked.hear(linked.puppet.seal(payload))
    assert [n for n in linked.notices if isinstance(n, StreamsGranted)] == [StreamsGranted(499)]


def test_a_stream_in_too_many_pieces_closes_the_link() -> None:
    linked = puppet_dials()
    payload = b"".join(
        frames.encode_stream(theirs(1), 2 * number, b"x", fin=False)
        for number in range(1, PIECES_FREE + 3)
    )
    linked.hear(linked.puppet.seal(payload))
    (closed,) = [notice for notice in linked.notices if isinstance(notice, Closed)]
    assert closed.code is CloseCode.LIMIT


def test_a_busy_link_does_not_fill_the_agenda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agenda_module, "SPARE", 16)
    linked = puppet_dials()
    for _ in range(100):
        newest = linked.puppet.largest
        known = frames.encode_ack([(newest, newest)], 0)
        for payload in (known + frames.encode_datagram(b"x"), frames.encode_datagram(b"x")):
            linked.hear(linked.puppet.seal(payload))
            linked.wait(30 * MILLISECOND)
    assert len(linked.endpoint._links._agenda) <= 16 + 2 + 1
    deadline = linked.endpoint.deadline
    assert deadline is not None
    assert deadline.at > linked.now


def test_forged_datagrams_beside_a_true_one_earn_an_address_nothing() -> None:
    """They come in one batch when they are as long and come from the same address."""
    linked, elsewhere = puppet_dials(), Address("10.0.0.3", 3000)
    true = linked.puppet.seal(frames.PING + bytes(11))
    forged = true[:8] + bytes(len(true) - 8)
    linked.did.clear()
    linked.do(DatagramReceived(Path(OURS, elsewhere), true + forged * 40, len(true)))
    sent = sum(
        len(data)
        for action in linked.did
        if isinstance(action, Transmit) and action.path.remote == elsewhere
        for data in action.datagrams
    )
    assert 0 < sent <= 3 * len(true)
