"""The life of one link: keeping it up, losing it, ending it, and what is left of it then."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest

from clawchat.core.actions import Closed, Established, KeysRotated, Notify, Ponged, Transmit
from clawchat.core.config import HELD_MAX, KEEPALIVE_MIN, KEEPALIVE_SPAN
from clawchat.core.credential import Path
from clawchat.core.crypto.xwing import keypair
from clawchat.core.events import (
    Close,
    Consumed,
    DatagramReceived,
    Ping,
    ResetStream,
    RotateKeys,
    SendDatagram,
    StopStream,
    StreamClass,
    Write,
    stream_id,
)
from clawchat.core.exchange import first_pairing
from clawchat.core.instant import HOUR, MILLISECOND, MINUTE, SECOND
from clawchat.core.phases import rotating_keys
from clawchat.core.wire import frames, varint
from clawchat.core.wire.control import RatchetOffer, RatchetReply, RotateRequest, encode_control
from clawchat.errors import CloseCode, Drop, LocalError, UnknownLink
from tests.core.pair import (
    DIALER,
    LATENCY,
    LISTENER,
    STRANGER,
    Pair,
    Side,
    calm,
    config_of,
    dead,
    linked_pair,
    losing,
    make_pair,
)

BULK = stream_id(1, StreamClass.BULK, dialer=True)
THEIRS = stream_id(1, StreamClass.BULK, dialer=False)


def departures(side: Side, since: int = 0) -> list[int]:
    """When datagrams left."""
    return [at for at, action in side.did if isinstance(action, Transmit) and at >= since]


# --- keeping it up ----------------------------------------------------------------------------


def test_an_idle_link_says_something_every_15_to_25_seconds_and_lives_for_days() -> None:
    pair = linked_pair(
        listener=config_of("listener", rotate_latest_ns=1000 * HOUR),
        dialer=config_of("dialer", rotate_latest_ns=1000 * HOUR),
    )
    pair.run(MINUTE)  # path MTU discovery has found its end
    since = pair.now
    pair.run(4 * HOUR)
    for side in pair.sides:
        assert not side.closed
        left = departures(side, since)
        gaps = [later - earlier for earlier, later in pairwise(left)]
        assert max(gaps) <= KEEPALIVE_MIN + KEEPALIVE_SPAN
        assert len({gap // MILLISECOND for gap in gaps if gap > SECOND}) > 100
    assert len(departures(pair.dialer, since)) < 4 * 3600 // 5


def test_a_link_that_talks_anyway_sends_no_keepalives() -> None:
    pair = linked_pair()
    pair.run(MINUTE)
    pings = 0
    since = pair.now
    for token in range(60):
        pair.do(pair.dialer, Ping(1, token))
        pings += 1
        pair.run(5 * SECOND)
    rotation = 12  # packets of the ratchet that five minutes of talk bring about
    assert len(departures(pair.dialer, since)) <= 2 * pings + rotation


def test_a_dialer_gives_up_after_90_seconds_of_silence_and_a_listener_is_patient() -> None:
    pair = linked_pair()
    began = pair.now
    pair.network = dead
    pair.run_until(lambda: bool(pair.dialer.closed), 2 * MINUTE)
    assert pair.now - began <= 90 * SECOND
    (closed,) = pair.dialer.closed
    assert (closed.code, closed.by_peer) == (CloseCode.TIMEOUT, False)
    assert pair.dialer.endpoint.links == []
    assert pair.listener.endpoint.links == [-1]
    assert pair.listener.endpoint.link_stats(-1).phase == "asleep"
    pair.run(24 * HOUR)
    assert pair.listener.closed[0].code is CloseCode.TIMEOUT
    assert pair.listener.endpoint.links == []


def test_a_sleeping_listener_sends_nothing() -> None:
    pair = linked_pair()
    pair.network = dead
    pair.run_until(lambda: pair.listener.endpoint.link_stats(-1).phase == "asleep", 2 * MINUTE)
    before = len(pair.listener.sent)
    pair.run(HOUR)
    assert len(pair.listener.sent) == before


def test_a_late_driver_does_not_make_a_peer_look_silent() -> None:
    """What arrived goes before the timer that is due already."""
    pair = linked_pair()
    pair.network = dead
    pair.say(pair.listener, frames.PING)
    late = pair.parcels[-1].data
    pair.now += HOUR
    pair.dialer.endpoint.handle(DatagramReceived(Path(DIALER, LISTENER), late), pair.now)
    pair.dialer.endpoint.advance(pair.now)
    pair.flush(pair.dialer)
    assert not pair.dialer.closed
    assert pair.dialer.endpoint.links == [1]


def test_a_copy_from_elsewhere_that_is_faster_takes_nothing_from_the_path_in_use() -> None:
    """Whoever copied it is sent copies at most, of which he can read nothing."""
    pair = linked_pair()
    pair.network = losing(lambda parcel: parcel.source == DIALER)
    for token in range(5):
        pair.do(pair.dialer, Ping(1, token))
        moved = pair.parcels[-1].data
        before = len(pair.parcels)
        pair.deliver(moved, to=pair.listener, source=STRANGER)
        pair.do(pair.listener, Ping(-1, token))
        assert pair.listener.transport().path.remote == DIALER
        there = [sent.data for sent in pair.parcels[before:] if sent.to == STRANGER]
        assert 0 < sum(map(len, there)) <= 3 * len(moved)
    pair.run(40 * MILLISECOND)
    assert [ponged.token for ponged in pair.dialer.all(Ponged)] == list(range(5))
    pair.network = calm
    stream = pair.write(pair.listener, bytes(50_000), link=-1)
    pair.run(SECOND)
    assert len(pair.dialer.received(stream)) == 50_000


def test_a_first_packet_counts_only_from_where_a_reply_went() -> None:
    pair = make_pair()
    pair.network = losing(lambda parcel: parcel.to == LISTENER and len(parcel.data) < 512)
    pair.dial(first_pairing(pair.publish()))
    pair.run(100 * MILLISECOND)
    first = pair.parcels[-1]
    assert first.to == LISTENER
    pair.deliver(first.data, to=pair.listener, source=STRANGER)
    assert not pair.listener.established
    assert pair.listener.endpoint.drops[Drop.PATH] == 1
    pair.deliver(first.data, to=pair.listener, source=DIALER)
    assert pair.listener.established[0].path == Path(LISTENER, DIALER)


def test_a_link_is_suspect_after_two_probe_timeouts_and_goes_on_probing() -> None:
    pair = linked_pair()
    pair.network = dead
    pair.do(pair.dialer, Write(1, BULK, b"x"))
    pair.run_until(lambda: pair.dialer.endpoint.link_stats(1).phase == "suspect", 5 * SECOND)
    assert pair.dialer.transport().recovery.pto_count == 2
    before = len(pair.dialer.sent)
    pair.run(10 * SECOND)
    assert len(pair.dialer.sent) > before + 4
    pair.network = calm
    pair.run(5 * SECOND)
    assert pair.dialer.endpoint.link_stats(1).phase == "live"
    assert pair.listener.received(BULK) == b"x"


def after_a_copied_hello() -> tuple[Pair, bytes]:
    """The REPLY went to a stranger as well. And the first packet, which has not arrived yet."""
    pair = make_pair()
    pair.network = losing(lambda parcel: parcel.to == LISTENER and len(parcel.data) < 512)
    pair.dial(first_pairing(pair.publish()))
    pair.deliver(pair.parcels[0].data, to=pair.listener, source=STRANGER)
    pair.run_until(lambda: bool(pair.dialer.established))
    pair.run(10 * MILLISECOND)
    return pair, pair.parcels[-1].data


def test_a_listener_whose_dialer_fell_silent_before_its_address_was_proved_suspects_it() -> None:
    """It may send no more, so that no probe timeout tells."""
    pair, first = after_a_copied_hello()
    pair.network = dead
    pair.deliver(first, to=pair.listener, source=DIALER)
    assert pair.listener.established
    stream = stream_id(1, StreamClass.BULK, dialer=False)
    pair.do(pair.listener, Write(-1, stream, bytes(50_000)))
    assert not pair.listener.transport().paths.active.validated
    stats = partial(pair.listener.endpoint.link_stats, -1)
    pair.run_until(lambda: stats().phase == "suspect", 30 * SECOND)
    pair.run_until(lambda: stats().phase == "asleep", 40 * SECOND)


def test_not_even_acknowledgements_exceed_what_an_address_that_is_not_proved_may_be_sent() -> None:
    """A copy of the first packet was faster; what the dialer says then is acknowledged there."""
    pair, first = after_a_copied_hello()
    before = len(pair.parcels)
    pair.network = losing(lambda parcel: parcel.to == DIALER)
    pair.deliver(first, to=pair.listener, source=STRANGER)
    for token in range(40):
        pair.do(pair.dialer, Ping(1, token))
        pair.run(30 * MILLISECOND)
    there = [parcel.data for parcel in pair.parcels[before:] if parcel.to == STRANGER]
    assert 0 < sum(map(len, there)) <= 3 * len(first)


def test_a_suspect_link_still_takes_writes() -> None:
    pair = linked_pair()
    pair.network = dead
    pair.do(pair.dialer, Write(1, BULK, b"one "))
    pair.run(10 * SECOND)
    pair.do(pair.dialer, Write(1, BULK, b"two", end=True))
    pair.network = calm
    pair.run(10 * SECOND)
    assert pair.listener.received(BULK) == b"one two"


def test_the_round_trip_of_the_handshake_is_known_before_the_first_packet_is_acknowledged() -> None:
    pair = make_pair()
    pair.network = lambda _parcel: (100 * MILLISECOND,)
    pair.dial(first_pairing(pair.publish()))
    pair.run_until(lambda: bool(pair.dialer.established))
    assert pair.dialer.endpoint.link_stats(1).rtt_ns == 200 * MILLISECOND


def test_a_round_trip_with_repeated_hellos_says_nothing_about_the_path() -> None:
    """Which of them was answered is not known."""
    pair = make_pair()
    pair.network = lambda _parcel: (200 * MILLISECOND,)
    pair.dial(first_pairing(pair.publish()))
    pair.run_until(lambda: bool(pair.dialer.established))
    assert pair.dialer.endpoint.link_stats(1).rtt_ns == 333 * MILLISECOND


# --- ending it --------------------------------------------------------------------------------


@pytest.mark.parametrize("closer", ["dialer", "listener"])
def test_both_sides_learn_why_a_link_was_closed(closer: str) -> None:
    pair = linked_pair()
    ours, theirs = (
        (pair.dialer, pair.listener) if closer == "dialer" else (pair.listener, pair.dialer)
    )
    pair.do(ours, Close(ours.endpoint.links[0], CloseCode.LIMIT, "no more"))
    pair.run(5 * SECOND)
    assert ours.closed == [Closed(CloseCode.LIMIT, "no more", by_peer=False)]
    assert theirs.closed == [Closed(CloseCode.LIMIT, "no more", by_peer=True)]
    assert ours.endpoint.links == theirs.endpoint.links == []


def test_a_close_is_answered_again_to_whatever_still_comes_and_then_forgotten() -> None:
    pair = linked_pair()
    pair.network = dead
    pair.do(pair.dialer, Close(1))
    closes = len(pair.dialer.sent)
    for _ in range(3):
        pair.say(pair.listener, frames.PING)
        pair.deliver(pair.parcels[-1].data, to=pair.dialer, source=LISTENER)
    assert len(pair.dialer.sent) == closes + 3
    pair.run(5 * SECOND)
    assert pair.dialer.endpoint.links == []
    assert pair.dialer.endpoint.deadline is None
    pair.say(pair.listener, frames.PING)
    pair.deliver(pair.parcels[-1].data, to=pair.dialer, source=LISTENER)
    assert len(pair.dialer.sent) == closes + 3
    assert pair.dialer.endpoint.drops[Drop.STRANGER] == 1


def test_a_closing_link_does_not_answer_replays_garbage_or_a_close() -> None:
    pair = linked_pair()
    pair.network = dead
    pair.say(pair.listener, frames.PING)
    recorded = pair.parcels[-1].data
    pair.do(pair.dialer, Close(1))
    pair.deliver(recorded, to=pair.dialer, source=LISTENER)
    answered = len(pair.dialer.sent)
    pair.deliver(recorded, to=pair.dialer, source=LISTENER)
    pair.deliver(recorded[:-1] + b"\0", to=pair.dialer, source=LISTENER)
    assert len(pair.dialer.sent) == answered
    pair.do(pair.listener, Close(-1))
    pair.deliver(pair.parcels[-1].data, to=pair.dialer, source=LISTENER)
    assert len(pair.dialer.sent) == answered
    assert pair.dialer.endpoint.links == []


def test_a_link_closed_for_a_violation_answers_what_authenticates_and_nothing_else() -> None:
    pair = linked_pair()
    pair.network = dead
    pair.say(pair.listener, b"\xff")
    pair.deliver(pair.parcels[-1].data, to=pair.dialer, source=LISTENER)
    assert pair.dialer.closed[0].code is CloseCode.FRAME
    sent = len(pair.dialer.sent)
    pair.say(pair.listener, frames.PING)
    true = pair.parcels[-1].data
    pair.deliver(true[:-1], to=pair.dialer, source=STRANGER)
    assert len(pair.dialer.sent) == sent
    pair.deliver(true, to=pair.dialer, source=LISTENER)
    assert len(pair.dialer.sent) == sent + 1


def test_a_closing_link_answers_frames_that_do_not_parse_like_any_others() -> None:
    pair = linked_pair()
    pair.network = dead
    pair.do(pair.dialer, Close(1))
    before = len(pair.dialer.sent)
    pair.say(pair.listener, b"\xff")
    pair.deliver(pair.parcels[-1].data, to=pair.dialer, source=LISTENER)
    assert len(pair.dialer.sent) == before + 1


def test_closed_is_the_last_word_about_a_link_although_data_came_in_the_violating_packet() -> None:
    pair = linked_pair()
    both = frames.encode_stream(BULK, 0, b"hello", fin=False) + frames.encode_stop(0, 1)
    pair.say(pair.dialer, both)
    pair.say(pair.dialer, frames.PING)
    pair.run(5 * SECOND)
    about_the_link = [a.notice for a in pair.listener.acts(Notify) if a.link == -1]
    assert about_the_link[-1] == pair.listener.closed[0]
    assert len(pair.listener.closed) == 1


def test_closed_is_the_last_word_about_a_link_although_a_rotation_was_under_way() -> None:
    pair = linked_pair()
    pair.do(pair.dialer, RotateKeys(1))
    phase = rotating_keys.DialerPhase.SWITCHED
    pair.run_until(lambda: pair.dialer.taken[-1][3] is phase)
    pair.do(pair.dialer, Close(1))
    pair.run(5 * SECOND)
    assert isinstance(pair.dialer.notices[-1], Closed)
    assert len(pair.dialer.all(KeysRotated)) == 1


def test_control_bytes_left_by_a_violation_do_no_harm_while_the_link_closes() -> None:
    pair = linked_pair()
    offset = pair.dialer.transport().streams._live[0].send.next
    garbage = frames.encode_stream(0, offset, b"\xff" * 9, fin=False)
    pair.say(pair.dialer, garbage + frames.encode_stop(0, 1))
    pair.say(pair.dialer, frames.PING)
    pair.run(5 * SECOND)
    assert pair.listener.closed[0].code is CloseCode.STREAM_STATE


def test_more_packets_than_can_be_kept_do_not_disturb_a_closing_link() -> None:
    pair = linked_pair()
    pair.network = dead
    pair.do(pair.dialer, Close(1))
    transport = pair.listener.transport()
    datagrams = transport.epochs.current.seal.seal(
        0, transport.outbound.packets_sent, [frames.PING] * (HELD_MAX + 1)
    )
    data, path = b"".join(datagrams), Path(DIALER, LISTENER)
    pair.do(pair.dialer, DatagramReceived(path, data, len(datagrams[0])))
    assert pair.dialer.endpoint.drops[Drop.BUSY] == HELD_MAX + 1
    assert pair.dialer.endpoint.links == [1]


def test_a_close_code_of_a_later_version_is_told_as_internal() -> None:
    pair = linked_pair()
    pair.say(pair.dialer, b"\x1c" + varint.encode(0x3333) + b"\x00")
    pair.run(LATENCY)
    assert pair.listener.closed == [Closed(CloseCode.INTERNAL, "", by_peer=True)]


def test_a_link_that_the_application_never_got_is_closed_in_silence() -> None:
    pair = make_pair()
    pair.network = dead
    pair.dial(first_pairing(pair.publish()))
    sent = len(pair.dialer.sent)
    pair.do(pair.dialer, Close(1))
    assert len(pair.dialer.sent) == sent
    assert pair.dialer.closed == [Closed(CloseCode.DONE, "", by_peer=False)]


def test_a_reply_that_comes_after_the_dial_was_given_up_is_a_strangers() -> None:
    pair = make_pair()
    pair.dial(first_pairing(pair.publish()))
    pair.dialer.endpoint.handle(Close(1), pair.now)  # and no `actions` before the reply
    pair.run(SECOND)
    assert not pair.dialer.established
    assert pair.dialer.endpoint.drops[Drop.STRANGER] >= 1


CALLS = (
    Write(1, BULK, b"x"),
    Consumed(1, BULK, 1),
    ResetStream(1, BULK, 0),
    StopStream(1, BULK, 0),
    SendDatagram(1, b"x"),
    Ping(1, 1),
    RotateKeys(1),
)


@pytest.mark.parametrize("event", CALLS, ids=lambda event: type(event).__name__)
def test_nothing_can_be_asked_of_a_link_that_is_not_up_or_no_longer(event: Write) -> None:
    pair = make_pair()

    def calling() -> None:
        pair.dial(first_pairing(pair.publish()))

    def closing() -> None:
        pair.run(SECOND)
        pair.do(pair.dialer, Close(1))

    def gone() -> None:
        pair.run(MINUTE)

    stages: tuple[Callable[[], None], ...] = (calling, closing, gone)
    for reach in stages:
        with pytest.raises(UnknownLink):
            pair.dialer.endpoint.handle(event, pair.now)
        reach()
        with pytest.raises(UnknownLink):
            pair.dialer.endpoint.link_stats(1)
    with pytest.raises(UnknownLink):
        pair.dialer.endpoint.handle(event, pair.now)


def test_closing_twice_is_harmless_and_closing_what_is_gone_is_an_error() -> None:
    pair = linked_pair()
    pair.do(pair.dialer, Close(1))
    pair.do(pair.dialer, Close(1, CloseCode.LIMIT))
    assert [closed.code for closed in pair.dialer.closed] == [CloseCode.DONE]
    pair.run(MINUTE)
    with pytest.raises(UnknownLink):
        pair.do(pair.dialer, Close(1))


@pytest.mark.parametrize(
    "event", [Write(1, 0, b"x"), Consumed(1, 0, 1), ResetStream(1, 0, 0), StopStream(1, 0, 0)]
)
def test_the_control_stream_is_not_the_applications(event: Write) -> None:
    pair = linked_pair()
    with pytest.raises(LocalError, match="control stream"):
        pair.do(pair.dialer, event)
    pair.run(MINUTE)
    assert not pair.dialer.closed
    assert not pair.listener.closed


@pytest.mark.parametrize("code", [-1, 1 << 62])
def test_a_code_that_no_frame_can_carry_is_refused(code: int) -> None:
    pair = linked_pair()
    pair.do(pair.dialer, Write(1, BULK, b"x"))
    for event in (ResetStream(1, BULK, code), StopStream(1, BULK, code)):
        with pytest.raises(LocalError, match="a code"):
            pair.do(pair.dialer, event)
    pair.run(SECOND)
    assert pair.listener.received(BULK) == b"x"


# --- violations -------------------------------------------------------------------------------


def control(pair: Pair, side: Side, message: bytes) -> bytes:
    """A STREAM frame that continues the control stream of `side`."""
    entry = side.transport().streams._live.get(0)
    offset = 0 if entry is None else entry.send.next
    return frames.encode_stream(0, offset, message, fin=False)


def stream(number: int, offset: int, data: bytes, *, fin: bool = False) -> bytes:
    return frames.encode_stream(number, offset, data, fin=fin)


def reset(number: int, size: int) -> bytes:
    return frames.encode_reset(number, 0, size)


OFFER = RatchetOffer(2, bytes(1216))
VIOLATIONS = {
    "an empty packet": (b"", CloseCode.FRAME),
    "a frame of an unknown type": (b"\x40", CloseCode.FRAME),
    "a frame that is reserved": (b"\x1f", CloseCode.FRAME),
    "a frame that is cut short": (b"\x10\xc0", CloseCode.FRAME),
    "an acknowledgement of the future": (frames.encode_ack(((0, 99),), 0), CloseCode.ACK),
    "more than a stream's window": (stream(BULK, 2 << 20, b"x"), CloseCode.FLOW_CONTROL),
    "a stream above the limit": (stream(4 << 40, 0, b"x"), CloseCode.STREAM_LIMIT),
    "a stream of the other side": (stream(THEIRS, 0, b"x"), CloseCode.STREAM_STATE),
    "an end of the control stream": (stream(0, 0, b"", fin=True), CloseCode.STREAM_STATE),
    "a reset of the control stream": (reset(0, 0), CloseCode.STREAM_STATE),
    "an end that moves": (reset(BULK, 5) + reset(BULK, 6), CloseCode.FINAL_SIZE),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_violation_closes_the_link_with_its_code_at_both_sides(name: str) -> None:
    payload, code = VIOLATIONS[name]
    pair = linked_pair()
    pair.say(pair.dialer, payload)
    pair.run(5 * SECOND)
    (ours,), (theirs,) = pair.listener.closed, pair.dialer.closed
    assert (ours.code, ours.by_peer) == (code, False)
    assert (theirs.code, theirs.by_peer) == (code, True)
    assert ours.reason == theirs.reason
    assert pair.listener.endpoint.links == []


RATCHET_VIOLATIONS = {
    "an offer by the listener": ("listener", encode_control(OFFER), CloseCode.KEYS),
    "an offer for another epoch": (
        "dialer",
        encode_control(RatchetOffer(3, bytes(1216))),
        CloseCode.KEYS,
    ),
    "an offer with a key of no use": ("dialer", encode_control(OFFER), CloseCode.KEYS),
    "a reply without an offer": (
        "listener",
        encode_control(RatchetReply(2, bytes(1120))),
        CloseCode.KEYS,
    ),
    "a reply by the dialer": (
        "dialer",
        encode_control(RatchetReply(2, bytes(1120))),
        CloseCode.KEYS,
    ),
    "a request by the dialer": ("dialer", encode_control(RotateRequest()), CloseCode.KEYS),
    "a reserved message": ("dialer", b"\x20\x00", CloseCode.FRAME),
    "a message that is too long": ("dialer", b"\x22\x7f\xff", CloseCode.FRAME),
}


@pytest.mark.parametrize("name", RATCHET_VIOLATIONS)
def test_a_ratchet_message_that_does_not_fit_closes_the_link(name: str) -> None:
    who, message, code = RATCHET_VIOLATIONS[name]
    pair = linked_pair()
    ours, theirs = (pair.dialer, pair.listener) if who == "dialer" else (pair.listener, pair.dialer)
    pair.say(ours, control(pair, ours, message))
    pair.run(5 * SECOND)
    assert [closed.code for closed in theirs.closed] == [code]
    assert [closed.code for closed in ours.closed] == [code]


def test_a_true_offer_by_the_listener_closes_the_link_too() -> None:
    """A key that could be used does not make its sender the one who may offer."""
    pair = linked_pair()
    _, public = keypair(bytes(32))
    message = encode_control(RatchetOffer(2, public))
    pair.say(pair.listener, control(pair, pair.listener, message))
    pair.run(5 * SECOND)
    assert pair.dialer.closed[0].code is CloseCode.KEYS


def test_a_second_offer_before_the_first_is_confirmed_closes_the_link() -> None:
    pair = linked_pair()
    pair.do(pair.dialer, RotateKeys(1))
    pair.run(LATENCY)
    assert pair.listener.taken[-1][3] is rotating_keys.ListenerPhase.ANSWERED
    _, public = keypair(bytes(32))
    pair.say(pair.dialer, control(pair, pair.dialer, encode_control(RatchetOffer(3, public))))
    pair.run(5 * SECOND)
    assert pair.listener.closed[0].code is CloseCode.KEYS


def test_a_violation_in_a_packet_that_waited_for_the_disk_closes_the_link_afterwards() -> None:
    pair = make_pair()
    pair.listener.disk.delay_ns = SECOND
    pair.dial(first_pairing(pair.publish()))
    pair.run(SECOND // 2)
    pair.say(pair.dialer, b"\xff")
    pair.run(SECOND // 4)
    assert not pair.listener.notices
    pair.run(SECOND)
    kinds = [type(notice) for notice in pair.listener.notices]
    assert kinds == [Established, Closed]
    assert pair.listener.closed[0].code is CloseCode.FRAME


# --- what is left -----------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["closed", "closed by the peer", "silence", "violation"])
def test_no_key_of_a_link_outlives_it_and_nothing_finds_it_any_more(ending: str) -> None:
    pair = linked_pair()
    pair.do(pair.dialer, RotateKeys(1))
    pair.run(SECOND)
    link = pair.dialer.link()
    transport, ratchet, agreement = link.transport, link.ratchet, link.agreement
    assert transport is not None
    assert ratchet is not None
    assert agreement is not None
    if ending == "closed":
        pair.do(pair.dialer, Close(1))
    elif ending == "closed by the peer":
        pair.do(pair.listener, Close(-1))
    elif ending == "silence":
        pair.network = dead
        pair.run(MINUTE)
    else:
        pair.say(pair.listener, b"\xff")
    pair.run(MINUTE)
    assert agreement.root.wiped
    assert ratchet.model.root.wiped
    for keys in (transport.epochs.current, transport.epochs.newest):
        assert keys.root.wiped
        with pytest.raises(ValueError, match="wiped"):
            keys.seal.seal(0, 0, [b"x"])
        with pytest.raises(ValueError, match="wiped"):
            keys.open.open(0, bytes(8), [bytes(64)], 0)
    registry = pair.dialer.endpoint._registry
    assert not registry.routes
    assert not registry.calls
    assert not registry.saving
    assert (link.transport, link.ratchet) == (None, None)


def test_an_offer_that_was_under_way_is_wiped_with_the_link() -> None:
    pair = linked_pair()
    pair.do(pair.dialer, RotateKeys(1))
    ratchet = pair.dialer.link().ratchet
    assert ratchet is not None
    private = ratchet.model.private
    assert private is not None
    pair.do(pair.listener, Close(-1))
    pair.run(LATENCY)
    with pytest.raises(ValueError, match="wiped"):
        private.decapsulate(bytes(1120))


def test_a_pending_handshake_that_lapses_leaves_no_key_and_no_route() -> None:
    pair = make_pair()
    pair.network = losing(lambda parcel: parcel.to == DIALER)
    pair.dial(first_pairing(pair.publish()))
    pair.run(SECOND)
    pair.network = dead
    (pending,) = pair.listener.endpoint._links.pending.values()
    agreement = pending.agreement
    assert agreement is not None
    pair.run(40 * SECOND)
    assert agreement.root.wiped
    assert not pair.listener.endpoint._links.pending
    assert not pair.listener.endpoint._registry.routes


def test_a_ping_is_answered_with_the_round_trip() -> None:
    pair = linked_pair()
    pair.do(pair.dialer, Ping(1, 42))
    pair.run(SECOND)
    (ponged,) = pair.dialer.all(Ponged)
    assert (ponged.token, ponged.rtt_ns) == (42, 2 * LATENCY)


def test_a_snapshot_tells_people_how_a_link_fares() -> None:
    pair = linked_pair()
    pair.do(pair.dialer, Write(1, BULK, b"x" * 100_000))
    pair.run(MINUTE)
    stats = pair.dialer.endpoint.link_stats(1)
    assert stats.phase == "live"
    assert (stats.epoch, stats.generation, stats.streams) == (1, 1, 1)
    assert stats.path == Path(DIALER, LISTENER)
    assert stats.rtt_min_ns == 2 * LATENCY
    assert stats.datagram_size > 1200
    assert stats.packets_lost == 0
    assert stats.packets_sent > 12
    assert stats.established_at == 2 * LATENCY
