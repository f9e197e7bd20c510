"""One socket's worth of protocol: who is heard, what is dropped, what is limited."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import ModuleType

import pytest
from attrs import evolve

from clawchat.core.actions import (
    Action,
    BootstrapContent,
    DatagramArrived,
    Observed,
    Publish,
    Transmit,
    Withdraw,
)
from clawchat.core.config import BOOTSTRAP_VALID, PENDING_LIFE, PENDING_PER_PAIRING
from clawchat.core.credential import Address, Pairing, Path
from clawchat.core.crypto.envelope import ENVELOPE_SIZES, seal_hello
from clawchat.core.crypto.packets import OVERHEAD
from clawchat.core.crypto.schedule import EpochKeys
from clawchat.core.events import (
    Close,
    DatagramReceived,
    DeclareCompromised,
    Dial,
    Disturbed,
    Event,
    Forget,
    Persisted,
    PublishBootstrap,
    RotateKeys,
    StreamClass,
    WithdrawBootstrap,
    Write,
    stream_id,
)
from clawchat.core.exchange import first_pairing
from clawchat.core.instant import MINUTE, SECOND, Instant
from clawchat.core.secret import Secret
from clawchat.core.wire import frames
from clawchat.errors import CloseCode, Drop, LinkLimit, LinkTaken, LocalError
from tests.core.pair import (
    DIALER,
    LATENCY,
    LISTENER,
    STRANGER,
    UNIX_NS,
    Pair,
    Parcel,
    Side,
    calm,
    config_of,
    dead,
    linked_pair,
    losing,
    make_pair,
    make_side,
    seeded,
)

BULK = stream_id(1, StreamClass.BULK, dialer=True)
HERE, THERE = Path(LISTENER, DIALER), Path(DIALER, LISTENER)


def is_hello(parcel: Parcel) -> bool:
    return parcel.to == LISTENER and len(parcel.data) in ENVELOPE_SIZES


def phases(side: Side) -> list[object]:
    """Of every machine that an endpoint has."""
    endpoint = side.endpoint
    links = list(endpoint._links)
    return [endpoint._issuing.model.phase] + [
        (link.handshake.phase, link.life.phase, link.ratchet and link.ratchet.model.phase)
        for link in links
    ]


def new_device(pair: Pair, name: str, address: Address = DIALER) -> Pair:
    """Another dialer in front of the same listener."""
    other = make_pair(f"{pair.seed}/{name}", dialer=config_of(name))
    other.listener = pair.listener
    other.dialer.address = address
    other.now = pair.now
    return other


# --- strangers and noise ----------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 7, 8, OVERHEAD - 1])
def test_what_is_too_short_for_a_packet_is_dropped_as_empty(size: int) -> None:
    pair = linked_pair()
    pair.deliver(bytes(size), to=pair.listener)
    assert pair.listener.endpoint.drops == {Drop.EMPTY: 1}


def test_what_is_longer_than_we_take_is_dropped_as_oversized() -> None:
    pair = linked_pair()
    largest = pair.listener.config.limits.max_datagram
    pair.deliver(bytes(largest + 1), to=pair.listener)
    assert pair.listener.endpoint.drops == {Drop.OVERSIZED: 1}
    pair.deliver(bytes(largest), to=pair.listener)
    assert pair.listener.endpoint.drops == {Drop.OVERSIZED: 1, Drop.STRANGER: 1}


@pytest.mark.parametrize("size", [OVERHEAD, 100, *ENVELOPE_SIZES, 1200])
def test_a_stranger_is_dropped_and_never_answered(size: int) -> None:
    pair = linked_pair()
    entropy = seeded("stranger")
    sent, before = len(pair.listener.sent), phases(pair.listener)
    for _ in range(20):
        pair.deliver(entropy(size), to=pair.listener)
    assert pair.listener.endpoint.drops == {Drop.STRANGER: 20}
    assert len(pair.listener.sent) == sent
    assert phases(pair.listener) == before


def test_sixteen_bytes_tell_a_driver_which_datagrams_are_worth_handing_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A HELLO, its REPLY and the packets of a link are; a stranger is counted there and then."""
    pair = make_pair()
    told: list[bool] = []
    do = pair.do

    def ask_first(side: Side, event: Event) -> None:
        if isinstance(event, DatagramReceived):
            told.append(side.endpoint.may_be_ours(bytes(event.data[:16])))
        do(side, event)

    monkeypatch.setattr(pair, "do", ask_first)
    pair.connect()
    assert len(told) > 4
    assert all(told)
    assert not pair.listener.endpoint.drops
    assert not pair.listener.endpoint.may_be_ours(bytes(16))
    assert pair.listener.endpoint.drops == {Drop.STRANGER: 1}


def test_a_driver_is_told_how_much_there_is_to_do_before_it_takes_it() -> None:
    pair = linked_pair()
    endpoint = pair.listener.endpoint
    assert endpoint.waiting == 0
    for number, data in enumerate(sealed(pair.dialer, 3, 300), 1):
        endpoint.handle(DatagramReceived(HERE, data), pair.now)
        assert endpoint.waiting >= number
    assert endpoint.actions(pair.now)
    assert endpoint.waiting == 0


def test_a_known_hint_in_a_datagram_of_no_envelopes_size_is_a_stranger() -> None:
    pair = make_pair()
    hint = first_pairing(pair.publish()).newest.hint
    pair.deliver(hint + bytes(600), to=pair.listener)
    assert pair.listener.endpoint.drops == {Drop.STRANGER: 1}


def test_an_envelope_that_does_not_open_is_dropped_and_never_answered() -> None:
    pair = make_pair()
    known = first_pairing(pair.publish()).newest
    for size in ENVELOPE_SIZES:
        pair.deliver(known.hint + bytes(size - 16), to=pair.listener)
    assert pair.listener.endpoint.drops == {Drop.ENVELOPE: len(ENVELOPE_SIZES)}
    assert not pair.listener.sent


def test_a_changed_hello_is_dropped_wherever_it_was_changed() -> None:
    pair = make_pair()
    pair.network = dead
    pair.dial(first_pairing(pair.publish()))
    hello = pair.parcels[0].data
    for at in range(16, len(hello), 7):
        pair.deliver(hello[:at] + bytes((hello[at] ^ 1,)) + hello[at + 1 :], to=pair.listener)
    assert set(pair.listener.endpoint.drops) == {Drop.ENVELOPE}
    assert not pair.listener.sent
    assert not pair.listener.endpoint._links.pending


def test_an_envelope_with_nonsense_inside_is_dropped() -> None:
    pair = make_pair()
    known = first_pairing(pair.publish()).newest
    pair.deliver(seal_hello(known, bytes(96), seeded("x")), to=pair.listener)
    pair.deliver(seal_hello(known, b"", seeded("y")), to=pair.listener)
    assert pair.listener.endpoint.drops == {Drop.HANDSHAKE: 2}
    assert not pair.listener.sent


def test_noise_to_a_dialer_under_its_own_hint_does_not_end_the_dial() -> None:
    pair = make_pair()
    pair.network = losing(lambda parcel: parcel.to == DIALER)
    known = first_pairing(pair.publish())
    pair.dial(known)
    pair.deliver(known.newest.hint + bytes(496), to=pair.dialer, source=LISTENER)
    pair.deliver(known.newest.hint + bytes(496), to=pair.dialer, source=STRANGER)
    assert pair.dialer.endpoint.drops == {Drop.ENVELOPE: 1, Drop.PATH: 1}
    pair.network = calm
    pair.run(2 * SECOND)
    assert pair.dialer.established


def test_a_dialers_own_hello_thrown_back_at_it_is_no_answer() -> None:
    pair = make_pair()
    pair.network = dead
    pair.dial(first_pairing(pair.publish()))
    pair.deliver(pair.parcels[-1].data, to=pair.dialer, source=LISTENER)
    assert pair.dialer.endpoint.drops == {Drop.ENVELOPE: 1}


def test_nothing_recorded_changes_a_phase_when_it_is_played_back() -> None:
    pair = linked_pair()
    pair.do(pair.dialer, Write(1, BULK, bytes(50_000)))
    pair.run(SECOND)
    pair.network = dead
    before = [phases(side) for side in pair.sides]
    recorded, rows = list(pair.parcels), [len(side.taken) for side in pair.sides]
    for parcel in recorded:
        if not is_hello(parcel):
            for side in pair.sides:
                pair.deliver(parcel.data, to=side, source=parcel.source)
    assert [phases(side) for side in pair.sides] == before
    assert [len(side.taken) for side in pair.sides] == rows
    for side in pair.sides:
        assert set(side.endpoint.drops) <= {Drop.REPLAY, Drop.STRANGER, Drop.ENVELOPE}


# --- batches ----------------------------------------------------------------------------------


def test_a_batch_may_hold_packets_of_several_links_envelopes_and_noise() -> None:
    pair = make_pair()
    first, second = first_pairing(pair.publish()), first_pairing(pair.publish())
    other = new_device(pair, "second")
    pair.dial(first)
    pair.run_until(lambda: bool(pair.dialer.established))
    other.dial(second)
    pair.network = other.network = dead
    hello = next(parcel.data for parcel in other.parcels if is_hello(parcel))
    packets = sealed(pair.dialer, 3, len(hello))
    batch = [*packets[:2], bytes(len(hello)), hello, packets[2]]
    pair.do(pair.listener, DatagramReceived(HERE, b"".join(batch), len(hello)))
    assert pair.listener.endpoint.drops == {Drop.STRANGER: 1}
    assert len([data for data in pair.listener.sent if len(data) in ENVELOPE_SIZES]) == 2
    assert len(pair.listener.all(DatagramArrived)) == 3


def sealed(side: Side, count: int, size: int) -> list[bytes]:
    """`count` packets of `size` bytes that nobody has sent yet."""
    transport = side.transport()
    payload = frames.encode_datagram(bytes(size - OVERHEAD - 3))
    first = transport.outbound.packets_sent
    transport.outbound.packets_sent += count
    return transport.epochs.current.seal.seal(0, first, [payload] * count)


def test_a_batch_of_mixed_connection_ids_is_cut_into_runs() -> None:
    first, second = linked_pair("first"), linked_pair("second")
    ours, theirs = sealed(first.dialer, 4, 300), sealed(second.dialer, 2, 300)
    batch = [ours[0], theirs[0], ours[1], ours[2], bytes(300), ours[3], theirs[1][:20]]
    first.do(first.listener, DatagramReceived(HERE, b"".join(batch), 300))
    assert len(first.listener.all(DatagramArrived)) == 4
    assert first.listener.endpoint.drops == {Drop.STRANGER: 2, Drop.EMPTY: 1}


def test_a_batch_with_segments_larger_than_we_take_is_dropped_segment_by_segment() -> None:
    pair = linked_pair()
    largest = pair.listener.config.limits.max_datagram
    pair.do(pair.listener, DatagramReceived(HERE, bytes(2 * largest + 2 + 5), largest + 1))
    assert pair.listener.endpoint.drops == {Drop.OVERSIZED: 2, Drop.EMPTY: 1}


def test_a_link_that_ends_within_a_batch_answers_the_rest_of_it_with_its_close() -> None:
    pair = linked_pair()
    transport = pair.dialer.transport()
    payloads = [b"\xff" + bytes(40), b"\x01" + bytes(40), b"\x01" + bytes(40)]
    keys = transport.epochs.current.seal
    one = keys.seal(0, transport.outbound.packets_sent, payloads[:1])
    two = keys.seal(1, transport.outbound.packets_sent + 1, payloads[1:])
    before = len(pair.listener.sent)
    pair.do(pair.listener, DatagramReceived(HERE, b"".join(one + two), len(one[0])))
    assert pair.listener.closed[0].code is CloseCode.FRAME
    assert len(pair.listener.sent) == before + 2


def test_after_the_peers_close_the_rest_of_a_batch_is_a_strangers() -> None:
    pair = linked_pair()
    transport = pair.dialer.transport()
    payloads = [frames.encode_close(0, "x" * 20), frames.PING + bytes(20), frames.PING + bytes(22)]
    keys = transport.epochs.current.seal
    one = keys.seal(0, transport.outbound.packets_sent, payloads[:1])
    two = keys.seal(1, transport.outbound.packets_sent + 1, payloads[1:])
    size = max(map(len, one + two))
    batch = b"".join(part.ljust(size, b"\0") for part in one + two)
    pair.do(pair.listener, DatagramReceived(HERE, batch[: size * 3], len(one[0])))
    assert pair.listener.endpoint.links == []
    assert pair.listener.endpoint.drops[Drop.STRANGER] >= 1


# --- limits -----------------------------------------------------------------------------------


def test_a_dialled_link_needs_a_positive_id_that_is_free() -> None:
    pair = make_pair()
    pairing = first_pairing(pair.publish())
    for link in (0, -1):
        with pytest.raises(LinkTaken):
            pair.do(pair.dialer, Dial(link, pairing, (THERE,)))
    pair.do(pair.dialer, Dial(7, pairing, (THERE,)))
    with pytest.raises(LinkTaken):
        pair.do(pair.dialer, Dial(7, first_pairing(pair.publish()), (THERE,)))
    assert pair.dialer.endpoint.links == [7]


def test_a_pairing_is_dialled_once_at_a_time() -> None:
    pair = make_pair()
    pair.network = dead
    pairing = first_pairing(pair.publish())
    pair.do(pair.dialer, Dial(1, pairing, (THERE,)))
    with pytest.raises(LinkTaken):
        pair.do(pair.dialer, Dial(2, pairing, (THERE,)))
    pair.dialer.endpoint.handle(Close(1), pair.now)
    pair.do(pair.dialer, Dial(2, pairing, (THERE,)))
    assert pair.dialer.endpoint.links == [2]


def test_a_dialer_holds_as_many_links_as_it_may_and_no_more() -> None:
    pair = make_pair(dialer=config_of("dialer", max_links=2))
    for link in (1, 2):
        pair.do(pair.dialer, Dial(link, first_pairing(pair.publish()), (THERE,)))
    with pytest.raises(LinkLimit):
        pair.do(pair.dialer, Dial(3, first_pairing(pair.publish()), (THERE,)))
    pair.do(pair.dialer, Close(1))
    pair.do(pair.dialer, Dial(3, first_pairing(pair.publish()), (THERE,)))


@pytest.mark.parametrize("static", [bytes(32), b"\x01" + bytes(31), b"short"])
def test_a_pairing_whose_key_is_of_no_use_is_refused_and_leaves_nothing(static: bytes) -> None:
    pair = make_pair()
    useless = evolve(first_pairing(pair.publish()), listener_static=static)
    with pytest.raises(LocalError, match="keys are of no use"):
        pair.do(pair.dialer, Dial(1, useless, (THERE,)))
    assert pair.dialer.endpoint.links == []
    assert not pair.dialer.sent
    assert pair.dialer.endpoint.deadline is None
    pair.do(pair.dialer, Dial(1, first_pairing(pair.publish()), (THERE,)))


def test_a_pairing_without_credentials_is_refused() -> None:
    pair = make_pair()
    empty = evolve(first_pairing(pair.publish()), credentials=())
    with pytest.raises(LocalError, match="keys are of no use"):
        pair.do(pair.dialer, Dial(1, empty, (THERE,)))
    assert pair.dialer.endpoint.links == []


def test_a_listener_at_its_limit_of_links_lets_a_dialer_wait_until_there_is_room() -> None:
    pair = make_pair(listener=config_of("listener", max_links=1))
    pair.connect()
    other = new_device(pair, "second")
    pair.do(pair.listener, PublishBootstrap((LISTENER,)))
    other.dial(first_pairing(pair.listener.acts(Publish)[-1].content))
    other.run(SECOND)
    assert pair.listener.endpoint.drops[Drop.BUSY] >= 1
    assert pair.listener.endpoint.links == [-1]
    pair.now = other.now
    pair.do(pair.listener, Close(-1))
    other.run(6 * SECOND)
    assert len(pair.listener.endpoint.links) == 1
    assert len(pair.listener.established) == 2


def knock(pair: Pair, pairing: Pairing, name: str) -> None:
    """A HELLO by a fresh attempt; nothing of the answer comes back."""
    side = make_side(name, "dialer", DIALER, pair.dialer.config)
    side.endpoint.handle(Dial(1, pairing, (THERE,)), pair.now)
    (transmit,) = [x for x in side.endpoint.actions(pair.now) if isinstance(x, Transmit)]
    pair.deliver(transmit.datagrams[0], to=pair.listener, source=DIALER)


def test_of_one_pairing_at_most_four_handshakes_are_pending_and_the_oldest_makes_room() -> None:
    pair = make_pair()
    pairing = first_pairing(pair.publish())
    pair.network = losing(lambda parcel: parcel.to == LISTENER and not is_hello(parcel))
    pair.dial(pairing)
    pair.run_until(lambda: bool(pair.dialer.established))
    (oldest,) = pair.listener.endpoint._links.pending.values()
    for number in range(PENDING_PER_PAIRING):
        knock(pair, pairing, f"attempt {number}")
    pending = pair.listener.endpoint._links.pending.values()
    assert len(pending) == PENDING_PER_PAIRING
    assert oldest not in pending
    assert oldest.transport is None


def test_so_many_handshakes_may_be_pending_in_all_and_the_rest_is_busy() -> None:
    pair = make_pair(listener=config_of("listener", max_pending=3))
    pairings = [first_pairing(pair.publish()) for _ in range(2)]
    for number in range(5):
        knock(pair, pairings[number % 2], f"attempt {number}")
    assert len(pair.listener.endpoint._links.pending) == 3
    assert pair.listener.endpoint.drops == {Drop.BUSY: 2}
    pair.run(PENDING_LIFE)
    assert not pair.listener.endpoint._links.pending
    knock(pair, pairings[0], "later")
    assert len(pair.listener.endpoint._links.pending) == 1


def test_while_a_pairing_is_written_no_other_handshake_of_it_is_begun_or_proved() -> None:
    pair = make_pair()
    pairing = first_pairing(pair.publish())
    pair.listener.disk.delay_ns = SECOND
    pair.dial(pairing)
    pair.run(SECOND // 2)
    knock(pair, pairing, "another attempt")
    assert pair.listener.endpoint.drops == {Drop.BUSY: 1}
    pair.run(2 * SECOND)
    assert len(pair.listener.established) == 1


def test_a_packet_for_a_second_handshake_waits_while_the_first_is_written() -> None:
    """Both were answered before; the first to be proved wins, the other lapses."""
    pair = make_pair()
    pairing = first_pairing(pair.publish())
    pair.network = losing(lambda parcel: parcel.to == LISTENER and not is_hello(parcel))
    pair.dial(pairing)
    pair.run_until(lambda: bool(pair.dialer.established))
    other = new_device(pair, "second")
    other.network = pair.network
    other.dial(pairing)
    other.run_until(lambda: bool(other.dialer.established))
    assert len(pair.listener.endpoint._links.pending) == 2
    pair.listener.disk.delay_ns = None
    pair.say(pair.dialer, frames.PING)
    pair.deliver(pair.parcels[-1].data, to=pair.listener, source=DIALER)
    assert len(pair.listener.endpoint._links.pending) == 0
    other.say(other.dialer, frames.PING)
    pair.deliver(other.parcels[-1].data, to=pair.listener, source=DIALER)
    assert pair.listener.endpoint.drops == {Drop.STRANGER: 1}
    assert len(pair.listener.endpoint.links) == 1


# --- bootstrap files --------------------------------------------------------------------------


def test_a_file_is_redeemed_once_and_the_others_end_with_it() -> None:
    pair = make_pair()
    first, second = pair.publish(), pair.publish()
    assert len(pair.listener.endpoint.pairings) == 2
    pair.dial(first_pairing(second))
    pair.run(SECOND)
    assert isinstance(pair.listener.acts(Withdraw)[-1], Withdraw)
    (pairing,) = pair.listener.endpoint.pairings
    assert pairing.file_id == second.file_id
    assert pairing.peer_static == pair.dialer.endpoint.static
    other = new_device(pair, "second")
    other.dial(first_pairing(first))
    other.run(SECOND)
    assert pair.listener.endpoint.drops[Drop.STRANGER] >= 1
    assert not other.dialer.established


def test_a_file_is_renewed_every_ten_minutes_and_valid_for_eleven() -> None:
    pair = make_pair()
    first = pair.publish()
    pair.run(BOOTSTRAP_VALID - 2 * SECOND)
    assert len(pair.listener.acts(Publish)) == 2
    pair.dial(first_pairing(first))
    pair.run(SECOND)
    assert pair.dialer.established


def test_a_hello_of_an_expired_file_is_dropped_as_expired() -> None:
    pair = make_pair()
    first = pair.publish()
    pair.run(BOOTSTRAP_VALID)
    pair.dial(first_pairing(first))
    pair.run(30 * SECOND)
    assert pair.listener.endpoint.drops[Drop.EXPIRED] >= 1
    assert not pair.listener.sent
    assert pair.dialer.closed[0].code is CloseCode.TIMEOUT


def test_validity_is_judged_by_the_monotonic_clock_whatever_the_file_says() -> None:
    pair = make_pair()
    content = pair.publish()
    assert content.issued == UNIX_NS // SECOND
    late: BootstrapContent = evolve(content, expires=content.expires + 10**6)
    pair.run(BOOTSTRAP_VALID)
    pair.dial(first_pairing(late))
    pair.run(SECOND)
    assert pair.listener.endpoint.drops[Drop.EXPIRED] >= 1


def test_a_hello_answered_in_time_may_be_proved_after_the_file_expired() -> None:
    pair = make_pair()
    content = pair.publish()
    pair.run(BOOTSTRAP_VALID - 15 * 10**6)  # the HELLO arrives 5 ms before the end
    pair.dial(first_pairing(content))
    pair.run(SECOND)
    assert pair.dialer.established
    assert pair.listener.established


def test_a_device_that_proved_itself_is_kept_although_issuing_stops_while_it_is_written() -> None:
    pair = make_pair()
    pair.listener.disk.delay_ns = SECOND
    pair.dial(first_pairing(pair.publish()))
    pair.run(SECOND // 2)
    pair.do(pair.listener, WithdrawBootstrap())
    pair.run(10 * SECOND)
    assert pair.listener.established
    assert pair.listener.generations == pair.dialer.generations == [1]
    (pairing,) = pair.listener.endpoint.pairings
    assert pairing.peer_static == pair.dialer.endpoint.static


def test_two_devices_that_redeem_two_files_at_the_same_time_are_both_kept() -> None:
    pair = make_pair()
    pair.listener.disk.delay_ns = SECOND
    first, second = first_pairing(pair.publish()), first_pairing(pair.publish())
    pair.dial(first)
    pair.run(SECOND // 2)
    side = make_side("second", "dialer", Address("10.0.0.3", 3000), config_of("second"))
    other = Pair(pair.listener, side, "second", now=pair.now)
    other._writing = pair._writing
    other.dial(second, via=(Path(side.address, LISTENER),))
    other.run(10 * SECOND)
    assert len(pair.listener.established) == 2
    assert len(pair.listener.endpoint.pairings) == 2
    assert len(pair.listener.acts(Withdraw)) == 1


def test_an_answered_hello_of_a_withdrawn_file_is_worth_nothing() -> None:
    pair = make_pair()
    pair.network = losing(lambda parcel: parcel.to == LISTENER and not is_hello(parcel))
    pair.dial(first_pairing(pair.publish()))
    pair.run(SECOND)
    pair.do(pair.listener, WithdrawBootstrap())
    pair.network = calm
    pair.run(5 * SECOND)
    assert not pair.listener.established
    assert pair.listener.endpoint.pairings == []
    assert not pair.listener.endpoint._registry.routes


def test_an_answered_hello_that_failed_to_be_written_after_withdrawal_is_not_accepted() -> None:
    pair = make_pair()
    pair.listener.disk.delay_ns = SECOND
    pair.listener.disk.fails = lambda _number: True
    content = pair.publish()
    pair.dial(first_pairing(content))
    pair.run(SECOND // 2)
    pair.do(pair.listener, WithdrawBootstrap())
    pair.run(5 * SECOND)
    assert pair.listener.closed[0].code is CloseCode.STORE
    knock(pair, first_pairing(content), "again")
    assert pair.listener.endpoint.drops[Drop.EXPIRED] == 1


# --- whom we listen for -----------------------------------------------------------------------


def test_a_forgotten_device_is_closed_and_not_heard_again() -> None:
    pair = linked_pair()
    pair.do(pair.listener, Forget(pair.listener.pairing.file_id))
    pair.run(5 * SECOND)
    assert pair.dialer.closed[0].code is CloseCode.REVOKED
    assert pair.dialer.closed[0].by_peer
    pair.dial()
    pair.run(40 * SECOND)
    assert pair.dialer.closed[-1].code is CloseCode.TIMEOUT
    assert pair.listener.endpoint.pairings == []


def test_forgetting_one_device_leaves_the_others_alone() -> None:
    pair = linked_pair()
    other = new_device(pair, "second", Address("10.0.0.3", 3000))
    pair.do(pair.listener, PublishBootstrap((LISTENER,)))
    via = (Path(other.dialer.address, LISTENER),)
    other.dial(first_pairing(pair.listener.acts(Publish)[-1].content), via=via)
    other.run(SECOND)
    assert len(pair.listener.endpoint.links) == 2
    pair.do(pair.listener, Forget(pair.dialer.pairing.file_id))
    other.run(5 * SECOND)
    assert not other.dialer.closed
    assert len(pair.listener.endpoint.links) == 1


def test_forgetting_also_ends_an_answered_hello() -> None:
    pair = linked_pair()
    pair.do(pair.dialer, Close(1))
    pair.run(5 * SECOND)
    pair.network = losing(lambda parcel: parcel.to == LISTENER and not is_hello(parcel))
    pair.dial()
    pair.run(SECOND)
    assert pair.listener.endpoint._links.pending
    pair.do(pair.listener, Forget(pair.listener.pairing.file_id))
    assert not pair.listener.endpoint._links.pending
    pair.network = calm
    pair.run(5 * SECOND)
    assert len(pair.listener.established) == 1


def test_forgetting_one_device_leaves_the_answered_hello_of_another_alone() -> None:
    pair = linked_pair()
    pair.do(pair.listener, PublishBootstrap((LISTENER,)))
    other = new_device(pair, "second")
    other.network = losing(lambda parcel: parcel.to == LISTENER and not is_hello(parcel))
    other.dial(first_pairing(pair.listener.acts(Publish)[-1].content))
    other.run(SECOND)
    pair.do(pair.listener, Forget(pair.dialer.pairing.file_id))
    other.network = calm
    other.run(5 * SECOND)
    assert len(pair.listener.established) == 2
    assert len(pair.listener.endpoint.links) == 1


def test_forgetting_while_a_write_is_under_way_does_not_bring_the_device_back() -> None:
    pair = make_pair()
    pair.listener.disk.delay_ns = SECOND
    content = pair.publish()
    pair.dial(first_pairing(content))
    pair.run(SECOND // 2)
    pair.do(pair.listener, Forget(content.file_id))
    pair.run(5 * SECOND)
    assert pair.listener.endpoint.pairings == []
    assert not pair.listener.established


def test_forgetting_a_stranger_is_harmless() -> None:
    pair = linked_pair()
    pair.do(pair.listener, Forget(b"?" * 16))
    assert pair.listener.endpoint.links == [-1]


def test_an_endpoint_that_dials_the_forgotten_listener_keeps_its_own_link() -> None:
    """Forget is about those we listen for; who we dialled is closed by Close."""
    pair = linked_pair()
    pair.do(pair.dialer, Forget(pair.dialer.pairing.file_id))
    assert pair.dialer.endpoint.links == [1]


def test_one_endpoint_can_dial_and_listen() -> None:
    pair = linked_pair()
    back = make_pair("back")
    back.listener, back.dialer = pair.dialer, pair.listener
    back.listener.address, back.dialer.address = DIALER, LISTENER
    back.now = pair.now
    back.do(back.listener, PublishBootstrap((DIALER,)))
    pairing = first_pairing(back.listener.acts(Publish)[-1].content)
    back.dial(pairing, via=(HERE,))
    back.run(5 * SECOND)
    assert pair.dialer.endpoint.links == [1, -1]
    assert pair.listener.endpoint.links == [-1, 1]
    assert pair.dialer.endpoint.pairings[0].peer_static == pair.listener.endpoint.static


def test_an_answer_about_a_ticket_that_nobody_holds_is_ignored() -> None:
    pair = linked_pair()
    before = phases(pair.dialer)
    pair.do(pair.dialer, Persisted(1, 1))
    pair.do(pair.dialer, Persisted(1, 999))
    assert phases(pair.dialer) == before


def test_every_candidate_path_gets_the_same_hello_and_the_first_answer_wins() -> None:
    pair = make_pair()
    dark = Address("192.0.2.99", 9)
    pair.network = losing(lambda parcel: parcel.to == dark)
    paths = (Path(DIALER, dark), THERE)
    pair.dial(first_pairing(pair.publish()), via=paths)
    hellos = {parcel.to: parcel.data for parcel in pair.parcels}
    assert hellos[dark] == hellos[LISTENER]
    pair.run(SECOND)
    assert pair.dialer.endpoint.link_stats(1).path == THERE
    assert pair.dialer.all(Observed) == [Observed(DIALER)]


def test_a_change_of_the_network_does_not_disturb_a_dial() -> None:
    pair = make_pair()
    pair.dial(first_pairing(pair.publish()))
    pair.do(pair.dialer, Disturbed(1))
    pair.run(SECOND)
    assert pair.dialer.established


def test_both_links_of_a_device_end_when_its_pairing_is_declared_compromised() -> None:
    """An older one, and a newer one whose generation is just being written."""
    pair = linked_pair()
    file_id = pair.listener.pairing.file_id
    pair.restart(pair.dialer)
    pair.listener.disk.delay_ns = SECOND
    pair.dial()
    pair.run(SECOND // 2)
    assert len(pair.listener.endpoint.links) == 2
    pair.do(pair.listener, DeclareCompromised(file_id, everything=False))
    pair.run(20 * SECOND)
    assert pair.listener.endpoint.links == []
    assert pair.listener.endpoint.pairings == []
    assert {closed.code for closed in pair.listener.closed} == {CloseCode.COMPROMISED}


# --- time -------------------------------------------------------------------------------------


def test_an_endpoint_with_nothing_to_do_has_no_deadline() -> None:
    pair = make_pair()
    assert pair.dialer.endpoint.deadline is None
    assert pair.dialer.endpoint.actions(0) == []
    pair.dialer.endpoint.advance(10**18)


def test_a_deadline_says_why() -> None:
    pair = make_pair()
    pair.network = dead
    content = pair.publish()
    deadline = pair.listener.endpoint.deadline
    assert deadline is not None
    assert (deadline.at, deadline.why) == (10 * MINUTE, "BOOTSTRAP")
    pair.dial(first_pairing(content))
    deadline = pair.dialer.endpoint.deadline
    assert deadline is not None
    assert (deadline.at, deadline.why) == (SECOND // 4, "HELLO")


def test_a_deadline_of_a_link_that_has_just_ended_is_harmless() -> None:
    pair = make_pair()
    pair.network = dead
    pair.dial(first_pairing(pair.publish()))
    pair.dialer.endpoint.handle(Close(1), pair.now)
    deadline = pair.dialer.endpoint.deadline
    assert deadline is not None
    pair.dialer.endpoint.advance(deadline.at)
    pair.flush(pair.dialer)
    assert pair.dialer.endpoint.deadline is None


def test_advancing_early_changes_nothing() -> None:
    pair = linked_pair()
    before = phases(pair.dialer)
    for _ in range(3):
        pair.dialer.endpoint.advance(pair.now)
    assert pair.dialer.endpoint.actions(pair.now) == []
    assert phases(pair.dialer) == before


def test_the_earlier_of_two_links_is_what_the_deadline_is_about() -> None:
    pair = make_pair()
    pair.network = dead
    first, second = first_pairing(pair.publish()), first_pairing(pair.publish())
    pair.dial(first)
    pair.run(SECOND // 10)
    pair.dial(second)
    deadline = pair.dialer.endpoint.deadline
    assert deadline is not None
    assert deadline.at == SECOND // 4


# --- the same events, the same actions --------------------------------------------------------


def replay(config_name: str, log: list[tuple[Instant, Event]]) -> list[Action]:
    side = make_side("replay", config_name, LISTENER, config_of(config_name))
    done: list[Action] = []
    for now, event in log:
        side.endpoint.advance(now)
        side.endpoint.handle(event, now)
        done += side.endpoint.actions(now)
    return done


def test_the_same_events_at_the_same_times_give_the_same_actions() -> None:
    """Up to the first X-Wing answer, whose ML-KEM half OpenSSL draws itself."""
    pair = make_pair("replay")
    log: list[tuple[Instant, Event]] = []
    handle = pair.listener.endpoint.handle

    def recording(event: Event, now: Instant) -> None:
        log.append((now, event))
        handle(event, now)

    pair.listener.endpoint.handle = recording  # type: ignore[method-assign]
    pair.dial(first_pairing(pair.publish()))
    pair.run_until(lambda: bool(pair.listener.established))
    assert len(log) >= 4
    first, second = replay("listener", log), replay("listener", log)
    assert first == second
    assert [action for _, action in pair.listener.did] == first


def test_another_seed_gives_other_bytes() -> None:
    one, two = make_pair("one"), make_pair("two")
    assert one.publish().file_id != two.publish().file_id


# --- secrets ----------------------------------------------------------------------------------


def reachable(root: object) -> Iterator[object]:
    """Everything that an endpoint holds on to."""
    seen: dict[int, object] = {}
    todo = [root]
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(thing, (type, ModuleType)):
            continue
        seen[id(thing)] = thing
        if callable(thing) and not hasattr(thing, "__self__"):
            continue  # functions lead to modules, and through these everywhere
        yield thing
        todo += gc.get_referents(thing)


def secrets_of(side: Side) -> list[bytes]:
    """The bytes that must never be printed."""
    held = [thing for thing in reachable(side.endpoint) if isinstance(thing, Secret)]
    found = [secret.reveal() for secret in held if not secret.wiped]
    assert len(found) > 5
    return found


def test_no_text_of_anything_within_an_endpoint_contains_a_secret() -> None:
    pair = make_pair()
    content = pair.publish()
    pair.network = losing(lambda parcel: parcel.to == LISTENER and not is_hello(parcel))
    pair.dial(first_pairing(content))  # one handshake pending
    pair.run(SECOND)
    pair.network = calm
    pair.run(SECOND)
    pair.do(pair.dialer, RotateKeys(1))  # one rotation under way
    pair.run(LATENCY)
    for side in pair.sides:
        secrets = secrets_of(side)
        told = [action for _, action in side.did if not isinstance(action, Transmit)]
        for thing in (*reachable(side.endpoint), *told):
            if isinstance(thing, (bytes, bytearray, memoryview)):
                continue
            if isinstance(thing, (list, tuple, dict)) and any(
                isinstance(part, (bytes, bytearray)) for part in thing
            ):
                continue  # holds raw bytes, which print themselves wherever they are
            text = repr(thing)
            for secret in secrets:
                assert repr(secret)[2:-1] not in text, type(thing)
                assert secret.hex() not in text, type(thing)


def test_no_text_of_what_an_endpoint_says_contains_a_secret() -> None:
    pair = linked_pair()
    secrets = [
        secret.reveal()
        for side in pair.sides
        for pairing in (side.pairing,)
        for credential in pairing.credentials
        for secret in (credential.psk, credential.envelope_key)
    ]
    secrets.append(pair.listener.acts(Publish)[0].content.secret.reveal())
    secrets += [side.config.identity.reveal() for side in pair.sides]
    for side in pair.sides:
        text = repr(side.did) + repr(side.config) + repr(side.disk.kept)
        for secret in secrets:
            assert repr(secret)[2:-1] not in text
            assert secret.hex() not in text


def test_epoch_keys_print_nothing_of_theirs() -> None:
    root = Secret(b"a root that nobody may see .....")
    keys = EpochKeys(root, 0, True)
    for thing in (keys, keys.seal, keys.open, keys.root):
        assert "root that" not in repr(thing)
