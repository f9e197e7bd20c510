"""The data plane: packets in, packets out, and what becomes of what was in them."""

from __future__ import annotations

from collections import Counter

import pytest
from attrs import evolve

from clawchat.core.actions import (
    DatagramArrived,
    Ponged,
    StreamData,
    StreamDrained,
    StreamOpened,
    StreamReset,
    StreamsGranted,
    StreamStopped,
    Transmit,
)
from clawchat.core.config import DEFAULT_LIMITS
from clawchat.core.credential import Path
from clawchat.core.crypto.packets import OVERHEAD
from clawchat.core.events import (
    Consumed,
    DatagramReceived,
    Ping,
    ResetStream,
    SendDatagram,
    StopStream,
    StreamClass,
    Write,
    stream_id,
)
from clawchat.core.instant import MILLISECOND, SECOND
from clawchat.core.streams.pings import PINGS_MAX
from clawchat.core.wire import frames
from clawchat.errors import BufferFull, DatagramTooLarge, Drop
from tests.core.pair import (
    DIALER,
    LATENCY,
    LISTENER,
    Pair,
    Parcel,
    calm,
    config_of,
    dead,
    linked_pair,
    losing,
    make_pair,
)

BULK = stream_id(1, StreamClass.BULK, dialer=True)
CHAT = stream_id(2, StreamClass.INTERACTIVE, dialer=True)
SMALL = evolve(DEFAULT_LIMITS, max_datagram=1200)


def small_pair() -> Pair:
    """Datagrams stay at 1200 bytes: no path MTU discovery."""
    return linked_pair(
        dialer=config_of("dialer", limits=SMALL), listener=config_of("listener", limits=SMALL)
    )


# --- arriving ---------------------------------------------------------------------------------


def test_a_packet_is_taken_once_however_often_it_comes() -> None:
    pair = linked_pair()
    pair.network = lambda _parcel: (LATENCY, 2 * LATENCY, 3 * LATENCY)
    pair.do(pair.dialer, SendDatagram(1, b"once"))
    pair.run(SECOND)
    assert pair.listener.all(DatagramArrived) == [DatagramArrived(b"once")]
    assert pair.listener.endpoint.drops[Drop.REPLAY] >= 2


def test_a_packet_that_was_changed_anywhere_is_dropped() -> None:
    pair = linked_pair()
    pair.network = dead
    pair.do(pair.dialer, SendDatagram(1, b"true"))
    true = pair.parcels[-1].data
    for at in range(8, len(true)):
        pair.deliver(true[:at] + bytes((true[at] ^ 0x10,)) + true[at + 1 :], to=pair.listener)
    assert pair.listener.endpoint.drops == {Drop.SEAL: len(true) - 8}
    assert not pair.listener.all(DatagramArrived)
    pair.deliver(true, to=pair.listener)
    assert pair.listener.all(DatagramArrived) == [DatagramArrived(b"true")]


def test_a_packet_with_reserved_flags_is_counted_by_its_own_name() -> None:
    """It authenticates: a peer of a later version sent it. Nothing else is done."""
    pair = linked_pair()
    keys = pair.dialer.transport().epochs.current.seal
    aead, ecb = keys._contexts()
    number, cid = pair.dialer.transport().outbound.packets_sent, keys.cid(0)
    aad = cid + b"\x01" + number.to_bytes(8, "big") + keys._aad_tail(0)
    nonce = (keys._iv ^ number).to_bytes(12, "big")
    sealed = aead.encrypt(nonce, frames.encode_close(0, "no"), aad)
    mask = ecb.update(sealed[:16])[:5]
    head = bytes(a ^ b for a, b in zip(b"\x01" + number.to_bytes(4, "big"), mask, strict=True))
    pair.deliver(cid + head + sealed, to=pair.listener)
    assert pair.listener.endpoint.drops == Counter({Drop.RESERVED: 1})
    assert pair.listener.endpoint.links == [-1]


def test_a_stub_with_a_known_connection_id_is_dropped() -> None:
    pair = linked_pair()
    cid = pair.dialer.transport().epochs.current.seal.cid(0)
    pair.deliver(cid + bytes(OVERHEAD - 8), to=pair.listener)
    pair.deliver(cid + bytes(OVERHEAD - 9), to=pair.listener)
    assert pair.listener.endpoint.drops == {Drop.SEAL: 1, Drop.EMPTY: 1}


def test_a_batch_of_segments_is_taken_like_as_many_datagrams() -> None:
    pair = small_pair()
    pair.run(5 * SECOND)  # nothing is left to acknowledge
    pair.network = dead
    pair.parcels.clear()
    pair.do(pair.dialer, Write(1, BULK, bytes(1800), end=True))
    datagrams = [parcel.data for parcel in pair.parcels if parcel.to == LISTENER]
    full = [data for data in datagrams if len(data) == 1200]
    last = datagrams[-1]
    assert len(full) == 1
    assert len(last) < 1200
    batch = b"".join((*full, last))
    pair.do(pair.listener, DatagramReceived(Path(LISTENER, DIALER), batch, 1200))
    assert not pair.listener.endpoint.drops
    assert pair.listener.received(BULK) == bytes(1800)


def test_the_connection_ids_of_the_next_paths_are_known_already() -> None:
    pair = linked_pair()
    transport = pair.dialer.transport()
    payload = frames.encode_datagram(b"from another path")
    (datagram,) = transport.epochs.current.seal.seal(2, transport.outbound.packets_sent, [payload])
    pair.deliver(datagram, to=pair.listener)
    assert pair.listener.all(DatagramArrived) == [DatagramArrived(b"from another path")]


# --- frames -----------------------------------------------------------------------------------


def test_a_path_challenge_is_answered_with_its_token() -> None:
    pair = linked_pair()
    pair.say(pair.listener, frames.encode_path_challenge(b"12345678"), link=-1)
    pair.network = dead
    pair.now += LATENCY
    pair._arrive()
    (parcel,) = [parcel for parcel in pair.parcels[-2:] if parcel.to == LISTENER]
    keys = pair.listener.transport().epochs.current.open
    ((_, payload),) = [
        opened for opened in keys.open(0, parcel.data[:8], [parcel.data], 10) if opened is not None
    ]
    assert frames.PathResponse(b"12345678") in frames.parse_frames(payload)


def test_of_many_path_challenges_the_last_four_are_answered() -> None:
    pair = linked_pair()
    many = b"".join(frames.encode_path_challenge(bytes((n,)) * 8) for n in range(50))
    pair.say(pair.listener, many, link=-1)
    before = len(pair.dialer.sent)
    pair.run(LATENCY)
    assert len(pair.dialer.sent) - before <= 2
    assert max(map(len, pair.dialer.sent[before:])) < 150


def test_an_answer_to_a_challenge_that_was_never_sent_is_ignored() -> None:
    pair = linked_pair()
    pair.say(pair.dialer, frames.encode_path_response(b"12345678"), link=1)
    pair.run(SECOND)
    assert not pair.listener.closed


def test_padding_and_ack_alone_are_not_acknowledged() -> None:
    pair = linked_pair()
    pair.run(10 * SECOND)
    before = len(pair.listener.sent)
    transport = pair.dialer.transport()
    active = transport.paths.active
    padding = [frames.padding(20)]
    pair._send(pair.dialer, transport.outbound.seal(active, padding, pair.now, eliciting=False))
    pair.run(SECOND)
    assert len(pair.listener.sent) == before


def test_streams_carry_both_ways_and_end_both_ways() -> None:
    pair = linked_pair()
    pair.do(pair.dialer, Write(1, CHAT, b"question", end=True))
    pair.run(100 * MILLISECOND)
    assert pair.listener.all(StreamOpened) == [StreamOpened(CHAT)]
    pair.do(pair.listener, Write(-1, CHAT, b"answer", end=True))
    pair.run(SECOND)
    assert pair.listener.received(CHAT) == b"question"
    assert pair.dialer.received(CHAT) == b"answer"
    assert [n.end for n in pair.dialer.all(StreamData)] == [True]
    assert pair.dialer.all(StreamDrained)[-1] == StreamDrained(CHAT, 0, True)
    assert pair.dialer.endpoint.link_stats(1).streams == 0
    assert pair.listener.endpoint.link_stats(-1).streams == 0


def test_a_reset_and_a_stop_reach_the_other_side_although_the_first_of_each_is_lost() -> None:
    pair = linked_pair()
    pair.do(pair.dialer, Write(1, BULK, b"x" * 100))
    pair.run(SECOND)
    pair.network = dead
    pair.do(pair.dialer, ResetStream(1, BULK, 7))
    pair.do(pair.dialer, StopStream(1, BULK, 8))
    pair.network = calm
    pair.run(5 * SECOND)
    assert pair.listener.all(StreamReset) == [StreamReset(BULK, 7)]
    assert pair.listener.all(StreamStopped) == [StreamStopped(BULK, 8)]


def test_what_the_application_does_not_read_stops_the_sender_until_it_reads() -> None:
    limits = evolve(DEFAULT_LIMITS, max_data=50_000, max_stream=20_000)
    pair = linked_pair(listener=config_of("listener", limits=limits))
    pair.listener.reads = False
    pair.do(pair.dialer, Write(1, BULK, bytes(100_000), end=True))
    pair.run(5 * SECOND)
    assert len(pair.listener.received(BULK)) == 20_000
    pair.listener.reads = True
    pair.do(pair.listener, Consumed(-1, BULK, 20_000))
    pair.run(5 * SECOND)
    assert len(pair.listener.received(BULK)) == 100_000


def test_as_streams_finish_more_of_them_are_granted() -> None:
    limits = evolve(DEFAULT_LIMITS, max_streams=5)
    pair = linked_pair(listener=config_of("listener", limits=limits))
    for sequence in range(1, 5):
        stream = stream_id(sequence, StreamClass.BULK, dialer=True)
        pair.do(pair.dialer, Write(1, stream, b"x", end=True))
        pair.run(100 * MILLISECOND)
        pair.do(pair.listener, Write(-1, stream, b"y", end=True))
        pair.run(100 * MILLISECOND)
    assert pair.dialer.all(StreamsGranted)[-1].limit == 9


# --- unreliable datagrams ---------------------------------------------------------------------


def test_datagrams_arrive_whole_and_in_any_number() -> None:
    pair = linked_pair()
    for number in range(30):
        pair.do(pair.dialer, SendDatagram(1, bytes((number,)) * 100))
    pair.run(SECOND)
    arrived = [notice.data for notice in pair.listener.all(DatagramArrived)]
    assert arrived == [bytes((number,)) * 100 for number in range(30)]


def test_a_datagram_that_fills_a_packet_goes_alone() -> None:
    pair = small_pair()
    largest = 1200 - OVERHEAD - 3
    pair.listener.transport()  # something to acknowledge stands beside it
    pair.do(pair.listener, Ping(-1, 1))
    pair.run(LATENCY)
    pair.do(pair.dialer, SendDatagram(1, bytes(largest)))
    pair.run(SECOND)
    assert [len(notice.data) for notice in pair.listener.all(DatagramArrived)] == [largest]
    assert max(map(len, pair.dialer.sent)) == 1200


def test_a_datagram_that_fits_no_packet_is_refused() -> None:
    pair = small_pair()
    with pytest.raises(DatagramTooLarge):
        pair.do(pair.dialer, SendDatagram(1, bytes(1200 - OVERHEAD - 2)))
    pair.run(SECOND)
    assert not pair.listener.all(DatagramArrived)


def test_a_lost_datagram_is_not_sent_again() -> None:
    pair = linked_pair()
    pair.network = dead
    pair.do(pair.dialer, SendDatagram(1, b"lost"))
    pair.network = calm
    pair.do(pair.dialer, SendDatagram(1, b"found"))
    pair.run(10 * SECOND)
    assert pair.listener.all(DatagramArrived) == [DatagramArrived(b"found")]


# --- pings ------------------------------------------------------------------------------------


def test_each_ping_is_answered_once_although_packets_are_lost_and_doubled() -> None:
    pair = linked_pair()
    count = 0

    def every_third_is_lost_and_the_others_doubled(_parcel: Parcel) -> tuple[int, ...]:
        nonlocal count
        count += 1
        return () if count % 3 == 0 else (LATENCY, 3 * LATENCY)

    pair.network = every_third_is_lost_and_the_others_doubled
    for token in range(20):
        pair.do(pair.dialer, Ping(1, token))
        pair.run(200 * MILLISECOND)
    pair.run(20 * SECOND)
    assert sorted(ponged.token for ponged in pair.dialer.all(Ponged)) == list(range(20))


def test_a_ping_whose_packet_was_only_late_is_answered_once() -> None:
    pair = linked_pair()
    for number in range(12):  # so that the round trip is known well
        pair.do(pair.dialer, Ping(1, number))
        pair.run(100 * MILLISECOND)
    slow = 300 * MILLISECOND
    pair.network = lambda parcel: (slow if parcel.to == LISTENER else LATENCY,)
    pair.do(pair.dialer, Ping(1, 99))
    pair.network = calm
    for number in range(20, 30):
        pair.do(pair.dialer, Ping(1, number))
        pair.run(20 * MILLISECOND)
    pair.run(5 * SECOND)
    tokens = [ponged.token for ponged in pair.dialer.all(Ponged)]
    assert tokens.count(99) == 1
    assert pair.dialer.endpoint.link_stats(1).packets_lost >= 1


def test_a_copy_of_a_ping_that_is_lost_after_the_ping_was_answered_is_not_sent_again() -> None:
    pair = linked_pair()
    for number in range(12):
        pair.do(pair.dialer, Ping(1, number))
        pair.run(100 * MILLISECOND)
    slow = 300 * MILLISECOND
    pair.network = lambda parcel: (slow if parcel.to == LISTENER else LATENCY,)
    pair.do(pair.dialer, Ping(1, 99))
    transport = pair.dialer.transport()

    def copies_are_lost(parcel: Parcel) -> bool:
        return parcel.to == LISTENER and transport.recovery.packets_lost > 0

    pair.network = losing(copies_are_lost)
    for number in range(20, 24):
        pair.do(pair.dialer, Ping(1, number))
        pair.run(20 * MILLISECOND)
    assert transport.recovery.packets_lost > 0
    pair.run(slow)
    assert 99 in [ponged.token for ponged in pair.dialer.all(Ponged)]
    pair.network = calm
    for number in range(30, 40):
        pair.do(pair.dialer, Ping(1, number))
        pair.run(20 * MILLISECOND)
    pair.run(5 * SECOND)
    assert sorted(ponged.token for ponged in pair.dialer.all(Ponged)) == sorted(
        [*range(12), 99, *range(20, 24), *range(30, 40)]
    )


def test_pings_under_way_are_bounded_and_have_different_tokens() -> None:
    pair = linked_pair()
    pair.network = dead
    pair.do(pair.dialer, Ping(1, 0))
    with pytest.raises(BufferFull):
        pair.do(pair.dialer, Ping(1, 0))
    for token in range(1, PINGS_MAX):
        pair.do(pair.dialer, Ping(1, token))
    with pytest.raises(BufferFull):
        pair.do(pair.dialer, Ping(1, PINGS_MAX))


# --- leaving ----------------------------------------------------------------------------------


def test_after_a_rest_a_packet_leaves_at_once() -> None:
    """Idle time earns room for a packet of whatever size datagrams have by now."""
    pair = linked_pair()
    assert pair.dialer.endpoint.link_stats(1).datagram_size == DEFAULT_LIMITS.max_datagram
    before = len(pair.dialer.sent)
    pair.do(pair.dialer, SendDatagram(1, b"at once"))
    assert len(pair.dialer.sent) == before + 1


def test_all_datagrams_of_a_transmission_but_the_last_have_one_size() -> None:
    pair = linked_pair()
    pair.do(pair.dialer, Write(1, BULK, bytes(1_000_000)))
    pair.run(5 * SECOND)
    batches = [action.datagrams for action in pair.dialer.acts(Transmit)]
    assert max(map(len, batches)) > 1
    for batch in batches:
        assert len({len(data) for data in batch[:-1]}) <= 1
        assert len(batch[-1]) <= len(batch[0])
        assert sum(map(len, batch)) <= 65_507
        assert len(batch) <= 64


def test_no_datagram_is_larger_than_the_peer_takes() -> None:
    for ours, theirs in ((1452, 8952), (8952, 1452), (1024, 1024)):
        pair = linked_pair(
            dialer=config_of("dialer", limits=evolve(DEFAULT_LIMITS, max_datagram=ours)),
            listener=config_of("listener", limits=evolve(DEFAULT_LIMITS, max_datagram=theirs)),
        )
        pair.do(pair.dialer, Write(1, BULK, bytes(100_000)))
        pair.run(20 * SECOND)
        assert max(map(len, pair.dialer.sent)) == min(ours, theirs)
        assert not pair.listener.endpoint.drops


def test_larger_datagrams_are_used_once_the_path_has_carried_one() -> None:
    pair = make_pair()
    pair.network = losing(lambda parcel: len(parcel.data) > 1400)
    pair.connect()
    pair.run(20 * SECOND)
    size = pair.dialer.endpoint.link_stats(1).datagram_size
    assert 1200 < size <= 1400
    pair.do(pair.dialer, Write(1, BULK, bytes(200_000)))
    pair.run(5 * SECOND)
    assert len(pair.listener.received(BULK)) == 200_000
    assert pair.listener.received(BULK) == bytes(200_000)


def test_a_black_hole_is_noticed_and_the_data_arrives() -> None:
    pair = linked_pair()
    pair.run(20 * SECOND)
    assert pair.dialer.endpoint.link_stats(1).datagram_size == DEFAULT_LIMITS.max_datagram
    pair.network = losing(lambda parcel: len(parcel.data) > 1100)
    pair.do(pair.dialer, Write(1, BULK, bytes(50_000), end=True))
    pair.run(40 * SECOND)
    assert pair.listener.received(BULK) == bytes(50_000)
    assert pair.dialer.endpoint.link_stats(1).datagram_size == 1024


def test_probes_carry_what_is_oldest_in_flight() -> None:
    pair = linked_pair()
    pair.network = dead
    pair.do(pair.dialer, Write(1, CHAT, b"tail"))
    sent = len(pair.dialer.sent)
    pair.run_until(lambda: len(pair.dialer.sent) > sent)
    pair.network = calm
    pair.run_until(lambda: len(pair.dialer.sent) > sent + 2)
    pair.run(50 * MILLISECOND)
    assert pair.listener.received(CHAT) == b"tail"


def test_acknowledgements_are_not_sent_for_ever_when_both_sides_are_quiet() -> None:
    pair = linked_pair()
    pair.do(pair.dialer, Write(1, BULK, bytes(300_000)))
    pair.do(pair.listener, Ping(-1, 1))
    pair.run(10 * SECOND)
    counts = [len(side.sent) for side in pair.sides]
    pair.run(4 * SECOND)
    pings = 4  # of a dialer whose stream is open and who hears nothing else
    assert sum(len(side.sent) for side in pair.sides) - sum(counts) <= 2 * pings


def test_long_acknowledgements_are_themselves_acknowledged_now_and_then() -> None:
    """Otherwise a one-way stream over a lossy path would carry all its gaps in every ACK."""
    pair = small_pair()
    count = 0

    def every_seventh(parcel: Parcel) -> bool:
        nonlocal count
        count += parcel.to == LISTENER
        return parcel.to == LISTENER and count % 7 == 0

    pair.network = losing(every_seventh)
    for _ in range(40):
        pair.do(pair.dialer, Write(1, BULK, bytes(50_000)))
        pair.run(SECOND)
    assert len(pair.listener.received(BULK)) == 2_000_000
    assert len(pair.listener.transport().inbound.received._ranges) <= 33
