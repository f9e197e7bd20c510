"""Handshakes cost an endpoint a bounded amount of work, whoever asks for them and how often.

PROTOCOL.md "Limits on handshakes": floods of valid envelopes from one source, from forged ones,
from one device against others, and of recordings.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from clawchat.core import reception as reception_module
from clawchat.core.actions import CredentialReused, Ponged, Transmit
from clawchat.core.admission import (
    BURST_SECONDS,
    KEYS_MAX,
    PAIRING_SHARE,
    SOURCE_SHARE,
    SUPERSEDED_SHARE,
    SUPERSEDED_SOURCE_SHARE,
    Admission,
    Meter,
    source_of,
)
from clawchat.core.config import (
    BOOTSTRAP_VALID,
    DEFAULT_LIMITS,
    HANDSHAKES_PER_SECOND,
    PENDING_PER_PAIRING,
)
from clawchat.core.credential import Address, Pairing, Path
from clawchat.core.crypto.envelope import Refusal, seal_reply
from clawchat.core.events import DatagramReceived, Ping
from clawchat.core.exchange import DialAttempt, first_pairing
from clawchat.core.instant import MILLISECOND, SECOND
from clawchat.core.secret import Secret
from clawchat.errors import Drop
from tests.core.pair import (
    DIALER,
    LISTENER,
    STRANGER,
    Pair,
    Side,
    calm,
    linked_pair,
    make_pair,
    seeded,
)
from tests.core.spent import Spent


def share(part: int) -> int:
    """What a budget lets through at once."""
    return HANDSHAKES_PER_SECOND // part * BURST_SECONDS


def fresh_hellos(pairing: Pairing, who: str = "flooder") -> Iterator[bytes]:
    """HELLOs of somebody who holds the credential, each with an ephemeral key of its own."""
    entropy = seeded(who)
    identity = Secret(entropy(32))
    while True:
        yield DialAttempt(identity, pairing, 0, DEFAULT_LIMITS, b"", entropy).hello


def forged() -> Iterator[Address]:
    """A new source each time."""
    return (Address(f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}", 5000) for n in count(1 << 17))


def answers_to(side: Side, source: Address) -> int:
    return sum(1 for action in side.acts(Transmit) if action.path.remote == source)


# --- the meter --------------------------------------------------------------------------------


def test_a_meter_lets_a_burst_through_and_then_its_rate() -> None:
    meter = Meter(10)
    assert [meter.admits(b"key", 0) for _ in range(60)].count(True) == 10 * BURST_SECONDS
    later = [meter.admits(b"key", 20 * MILLISECOND * n) for n in range(1, 501)]
    assert later.count(True) == 100, "ten a second, for ten seconds"


def test_who_asks_in_vain_does_not_wait_longer_for_it() -> None:
    meter = Meter(1)
    while meter.admits(b"key", 0):
        pass
    for _ in range(1000):
        assert not meter.admits(b"key", SECOND // 2)
    assert meter.admits(b"key", SECOND)


def test_keys_of_a_meter_have_nothing_to_do_with_each_other_and_are_bounded() -> None:
    meter = Meter(1)
    while meter.admits(b"busy", 0):
        pass
    for number in range(2 * KEYS_MAX):
        assert meter.admits(b"%d" % number, 0)
        assert len(meter) <= KEYS_MAX


def test_a_source_is_an_ipv4_address_or_an_ipv6_network_whatever_the_port() -> None:
    assert source_of(Address("192.0.2.1", 1)) == source_of(Address("192.0.2.1", 2))
    assert source_of(Address("192.0.2.1", 1)) != source_of(Address("192.0.2.2", 1))
    assert source_of(Address("::ffff:192.0.2.1", 1)) == source_of(Address("192.0.2.1", 1))
    assert source_of(Address("2001:db8::1", 1)) == source_of(Address("2001:db8::ffff:2", 9))
    assert source_of(Address("2001:db8::1", 1)) != source_of(Address("2001:db8:0:1::1", 1))
    assert source_of(Address("fe80::1%7", 1)) == source_of(Address("fe80::1", 1))


# --- holders of a credential ------------------------------------------------------------------


def test_one_source_gets_a_bounded_number_of_handshakes(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = make_pair()
    hellos = fresh_hellos(first_pairing(pair.publish()))
    spent = Spent(monkeypatch)
    for _ in range(200):
        pair.deliver(next(hellos), to=pair.listener, source=STRANGER)
    assert spent.times == share(SOURCE_SHARE)
    assert pair.listener.endpoint.drops[Drop.LIMITED] == 200 - spent.times
    pair.run(SECOND)
    for _ in range(200):
        pair.deliver(next(hellos), to=pair.listener, source=STRANGER)
    assert spent.times == share(SOURCE_SHARE) + HANDSHAKES_PER_SECOND // SOURCE_SHARE


def test_forged_sources_make_one_pairing_cost_no_more_than_its_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair = make_pair()
    hellos = fresh_hellos(first_pairing(pair.publish()))
    spent = Spent(monkeypatch)
    for source, hello in zip(forged(), hellos, strict=False):
        if pair.listener.endpoint.drops[Drop.LIMITED] >= 50:
            break
        pair.deliver(hello, to=pair.listener, source=source)
    assert spent.times == share(PAIRING_SHARE)
    assert len(pair.listener.endpoint._links.pending) == PENDING_PER_PAIRING


def test_who_makes_hello_after_hello_pushes_out_his_own_and_nobody_elses() -> None:
    pair = make_pair()
    hellos = fresh_hellos(first_pairing(pair.publish()))
    first = next(hellos)
    pair.deliver(first, to=pair.listener, source=DIALER)
    for _ in range(2 * PENDING_PER_PAIRING):
        pair.deliver(next(hellos), to=pair.listener, source=STRANGER)
    pair.deliver(first, to=pair.listener, source=DIALER)
    assert answers_to(pair.listener, DIALER) == 2, "it is pending still"


def test_all_pairings_together_cost_no_more_than_the_endpoint_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair = make_pair()
    pair.publish()
    spent = Spent(monkeypatch)
    sources = forged()
    for number in range(2 * PAIRING_SHARE):
        entropy = seeded(f"device {number}")
        pairing = first_pairing(pair.publish())
        pair.listener.endpoint._issuing.model.live[pairing.file_id] = 3600 * SECOND
        for _ in range(share(PAIRING_SHARE)):
            hello = DialAttempt(Secret(entropy(32)), pairing, 0, DEFAULT_LIMITS, b"", entropy).hello
            pair.deliver(hello, to=pair.listener, source=next(sources))
    assert spent.times == share(1)


def test_a_device_gets_through_while_a_holder_of_the_same_credential_floods() -> None:
    pair = make_pair()
    pairing = first_pairing(pair.publish())
    hellos = fresh_hellos(pairing)
    pair.dial(pairing)
    for _ in range(200):
        for _ in range(5):
            pair.deliver(next(hellos), to=pair.listener, source=STRANGER)
        pair.run(MILLISECOND)
    assert pair.dialer.established
    assert pair.listener.established


def test_a_device_gets_through_while_another_device_floods_from_everywhere() -> None:
    pair = linked_pair()
    flooder, sources = pair.dialer.pairing, forged()
    hellos = fresh_hellos(flooder)
    pair.dialer.disk.kept.clear()
    pair.dial(first_pairing(pair.publish()))
    for _ in range(100):
        for _ in range(5):
            pair.deliver(next(hellos), to=pair.listener, source=next(sources))
        pair.run(MILLISECOND)
    assert len(pair.listener.established) == 2


def test_an_established_link_takes_no_notice_of_a_flood_of_handshakes() -> None:
    pair = linked_pair()
    sources, hellos = forged(), fresh_hellos(pair.dialer.pairing)
    for number in range(300):
        pair.deliver(next(hellos), to=pair.listener, source=next(sources))
        if number % 100 == 99:
            pair.do(pair.dialer, Ping(1, number))
    pair.run(3 * 10 * MILLISECOND)
    assert len(pair.dialer.all(Ponged)) == 3
    assert pair.listener.endpoint.drops[Drop.LIMITED] > 0


# --- recordings -------------------------------------------------------------------------------


def recorded_hello(pair: Pair) -> bytes:
    return next(p.data for p in pair.parcels if p.to == LISTENER)


def test_a_repeated_hello_aims_a_bounded_number_of_answers_at_anybody() -> None:
    victim = Address("10.9.9.9", 9)
    pair = make_pair()
    pair.dial(first_pairing(pair.publish()))
    pair.run(10 * MILLISECOND)
    for _ in range(500):
        pair.deliver(recorded_hello(pair), to=pair.listener, source=victim)
    assert 0 < answers_to(pair.listener, victim) <= HANDSHAKES_PER_SECOND * BURST_SECONDS // 2
    assert pair.listener.endpoint.drops[Drop.LIMITED] > 400


def test_copies_from_elsewhere_do_not_take_the_dialers_place() -> None:
    pair = make_pair()
    pair.dial(first_pairing(pair.publish()))
    pair.run(10 * MILLISECOND)
    for source, _ in zip(forged(), range(50), strict=False):
        pair.deliver(recorded_hello(pair), to=pair.listener, source=source)
    assert pair.listener.endpoint.drops[Drop.BUSY] == 50 - 7
    pair.run(SECOND)
    assert pair.dialer.established
    assert pair.listener.established


def test_recordings_of_the_present_generation_push_nobody_out() -> None:
    pair = make_pair()
    pairing = first_pairing(pair.publish())
    recorded = []
    for number in range(PENDING_PER_PAIRING + 1):  # dials that came to nothing
        pair.dialer.endpoint = make_pair(f"attempt {number}").dialer.endpoint
        pair.dial(pairing)
        pair.network = lambda parcel: () if parcel.to == DIALER else (MILLISECOND,)
        pair.run(31 * SECOND)
        recorded.append(next(p.data for p in reversed(pair.parcels) if p.to == LISTENER))
    pair.network = calm
    pair.dialer.endpoint = make_pair("the last attempt").dialer.endpoint
    pair.dial(pairing)
    for _ in range(30):
        for data in recorded:
            pair.deliver(data, to=pair.listener, source=STRANGER)
        pair.run(MILLISECOND)
    assert answers_to(pair.listener, STRANGER) == 0
    assert pair.listener.endpoint.drops[Drop.REPLAY] == 30 * len(recorded)
    assert pair.listener.established


def test_of_the_hellos_that_had_their_chance_the_last_are_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reception_module, "ANSWERED_KEPT_MAX", 2 * PENDING_PER_PAIRING)
    pair = make_pair()
    hellos = fresh_hellos(first_pairing(pair.publish()))
    sent = [next(hellos) for _ in range(3 * PENDING_PER_PAIRING)]
    for data in sent:
        pair.deliver(data, to=pair.listener)
    (kept,) = pair.listener.endpoint._reception._answered.values()
    assert len(kept) == 2 * PENDING_PER_PAIRING
    pair.deliver(sent[-PENDING_PER_PAIRING - 1], to=pair.listener)
    assert pair.listener.endpoint.drops[Drop.REPLAY] == 1


def test_what_is_remembered_of_a_files_hellos_goes_with_the_file() -> None:
    pair = make_pair()
    for _ in range(10):
        hellos = fresh_hellos(first_pairing(pair.publish()))
        pair.deliver(next(hellos), to=pair.listener)
        pair.run(BOOTSTRAP_VALID)
    assert len(pair.listener.endpoint._reception._answered) <= 2


def test_recordings_of_old_hellos_take_nothing_from_who_makes_new_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair = make_pair()
    first = first_pairing(pair.publish())
    pair.dial(first)
    pair.run(SECOND)
    assert pair.listener.generations == [1]
    spent = Spent(monkeypatch)
    hellos, sources = fresh_hellos(first), forged()
    for _ in range(100):  # recorded once, when their generation was the current one
        pair.deliver(next(hellos), to=pair.listener, source=next(sources))
    assert spent.times == 0
    pair.dial()
    pair.run(SECOND)
    assert len(pair.listener.established) == 2
    assert spent.times == 1
    assert not pair.listener.all(CredentialReused)


def test_who_has_old_credentials_makes_the_listener_look_back_a_bounded_number_of_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many addresses he really has: each has repeated what was sent there."""
    pair = make_pair()
    first = first_pairing(pair.publish())
    pair.dial(first)
    pair.run(SECOND)
    entropy, identity = seeded("flooder"), Secret(seeded("thief")(32))
    spent = Spent(monkeypatch)
    for source, _ in zip(forged(), range(share(SUPERSEDED_SHARE)), strict=False):
        for _ in range(3):
            asking = DialAttempt(identity, first, 0, DEFAULT_LIMITS, b"", entropy)
            pair.deliver(asking.hello, to=pair.listener, source=source)
            refusal = asking.read_answer(bytes(pair.listener.acts(Transmit)[-1].datagrams[0]))
            assert isinstance(refusal, Refusal)
            again = DialAttempt(identity, first, 0, DEFAULT_LIMITS, refusal.cookie, entropy)
            pair.deliver(again.hello, to=pair.listener, source=source)
    assert spent.times == share(SUPERSEDED_SHARE)


def test_one_source_makes_the_listener_look_back_less_often_than_all() -> None:
    admission = Admission(HANDSHAKES_PER_SECOND)
    admitted = [admission.may_look_back(STRANGER, 0) for _ in range(200)]
    assert admitted.count(True) == share(SUPERSEDED_SOURCE_SHARE)
    assert admission.may_look_back(DIALER, 0)


# --- a dialer ---------------------------------------------------------------------------------


def test_a_dialer_computes_for_a_bounded_number_of_forged_replies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever holds the credential too can make envelopes that open."""
    pair = make_pair()
    pairing, entropy = first_pairing(pair.publish()), seeded("forger")
    pair.network = lambda _parcel: ()
    pair.dial(pairing)
    path = Path(DIALER, LISTENER)
    for _ in range(200):
        message = entropy(32 + 64)
        forged_reply = seal_reply(pairing.newest, DIALER, message, entropy)
        pair.dialer.endpoint.handle(DatagramReceived(path, forged_reply), pair.now)
    drops = pair.dialer.endpoint.drops
    assert drops[Drop.HANDSHAKE] == share(SOURCE_SHARE)
    assert drops[Drop.LIMITED] == 200 - share(SOURCE_SHARE)
