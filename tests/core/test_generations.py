"""Credentials change with every handshake: nothing is lost, and a copy is found out.

PROTOCOL.md "Generations": the order of writes and packets, what a full or slow disk and a killed
process leave behind, and when somebody who holds an old generation is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import pytest
from attrs import evolve

from clawchat.core.actions import Action, CredentialReused, Notify, Persist, Transmit
from clawchat.core.config import COOKIE_LIFE, DEFAULT_LIMITS
from clawchat.core.credential import SUPERSEDED_MAX, Address, Pairing, Path
from clawchat.core.crypto.envelope import ENVELOPE_SIZES, Refusal, open_hello, seal_hello
from clawchat.core.crypto.noise import HandshakeState
from clawchat.core.crypto.schedule import prologue
from clawchat.core.crypto.suite import public_key
from clawchat.core.events import Close
from clawchat.core.exchange import DialAttempt, first_pairing
from clawchat.core.instant import MILLISECOND, SECOND, Instant
from clawchat.core.phases import answering, dialing
from clawchat.core.secret import Secret
from clawchat.core.wire.parameters import encode_parameters
from clawchat.errors import CloseCode, Drop
from tests.core.pair import (
    DIALER,
    LATENCY,
    LISTENER,
    STRANGER,
    Pair,
    Parcel,
    Side,
    calm,
    config_of,
    linked_pair,
    losing,
    make_pair,
    seeded,
)
from tests.core.spent import Spent


def is_hello(parcel: Parcel) -> bool:
    return parcel.to == LISTENER and len(parcel.data) in ENVELOPE_SIZES


def is_packet(data: bytes) -> bool:
    return len(data) not in ENVELOPE_SIZES


def positions(side: Side, wanted: Callable[[Action], bool]) -> list[int]:
    return [at for at, (_, action) in enumerate(side.did) if wanted(action)]


def says_packet(action: Action) -> bool:
    return isinstance(action, Transmit) and is_packet(action.datagrams[0])


def meet(pair: Pair) -> None:
    """Both sides find each other with what their disks hold, and end in one generation."""
    pair.network = calm
    for side in pair.sides:
        side.disk.delay_ns, side.disk.fails = 0, lambda _number: False
    met = len(pair.dialer.established)
    pair.dial()

    def settled() -> bool:
        both = pair.dialer.generations, pair.listener.generations
        return len(pair.dialer.established) > met and both[0] == both[1] and len(both[0]) == 1

    pair.run_until(settled, 30 * SECOND)
    assert pair.dialer.pairing.newest == pair.listener.pairing.newest
    assert not pair.listener.all(CredentialReused)


# --- order ------------------------------------------------------------------------------------


def test_the_dialers_first_packet_leaves_only_after_the_next_generation_is_durable() -> None:
    pair = make_pair()
    pair.dialer.disk.delay_ns = 500 * MILLISECOND
    pair.dial(first_pairing(pair.publish()))
    pair.run(400 * MILLISECOND)
    assert pair.dialer.acts(Persist)
    assert not positions(pair.dialer, says_packet)
    pair.run(SECOND)
    assert positions(pair.dialer, says_packet)


def test_the_listener_sends_nothing_but_replies_before_its_write_is_durable() -> None:
    pair = make_pair()
    pair.listener.disk.delay_ns = 5 * SECOND
    pair.dial(first_pairing(pair.publish()))
    pair.run(5 * SECOND)
    assert pair.listener.acts(Persist)
    assert not positions(pair.listener, says_packet)
    assert not pair.listener.established
    pair.run(SECOND)
    assert positions(pair.listener, says_packet)
    assert pair.listener.established


def test_the_dialer_acknowledges_nothing_before_it_has_dropped_the_older_generation() -> None:
    pair = make_pair()
    disk = pair.dialer.disk

    def slow_from_the_second_on(number: int) -> bool:
        disk.delay_ns = 0 if number == 1 else 5 * SECOND
        return False

    disk.fails = slow_from_the_second_on
    pair.dial(first_pairing(pair.publish()))
    pair.run(4 * SECOND)
    assert pair.dialer.link().handshake.phase is dialing.Phase.DROPPING
    assert pair.listener.link().handshake.phase is answering.Phase.RUNNING
    assert pair.listener.generations == [1, 0]
    pair.run(5 * SECOND)
    assert pair.dialer.generations == [1]
    assert pair.listener.link().handshake.phase is answering.Phase.SETTLED
    assert pair.listener.generations == [1]


def test_data_rides_in_the_dialers_first_packet() -> None:
    """One round trip: the link is announced when the next generation is durable."""
    pair = make_pair()
    pair.dial(first_pairing(pair.publish()))
    pair.run_until(lambda: bool(pair.dialer.established))
    assert pair.now == 2 * LATENCY
    stream = pair.write(pair.dialer, b"hello", link=1)
    pair.run(2 * LATENCY)
    assert pair.listener.received(stream) == b"hello"


def test_packets_that_come_while_a_credential_is_written_are_taken_afterwards() -> None:
    pair = make_pair()
    pair.listener.disk.delay_ns = 100 * MILLISECOND
    pair.dial(first_pairing(pair.publish()))
    pair.run_until(lambda: bool(pair.dialer.established))
    stream = pair.write(pair.dialer, b"early bird", link=1, end=True)
    pair.run(90 * MILLISECOND)
    assert not pair.listener.notices
    pair.run(40 * MILLISECOND)
    assert pair.listener.received(stream) == b"early bird"


def test_of_packets_that_come_while_a_credential_is_written_a_bounded_number_is_kept() -> None:
    pair = make_pair()
    pair.listener.disk.delay_ns = 20 * SECOND
    pair.dial(first_pairing(pair.publish()))
    pair.run(SECOND)
    for _ in range(100):
        pair.say(pair.dialer, b"\x01")
    pair.run(SECOND)
    assert len(pair.listener.transport().inbound._held) <= 64
    assert pair.listener.endpoint.drops[Drop.BUSY] >= 36


def test_a_listener_whose_disk_takes_a_minute_is_not_in_a_hurry() -> None:
    pair = make_pair(dialer=config_of("dialer", dial_ns_max=200 * SECOND))
    pair.listener.disk.delay_ns = 60 * SECOND
    pair.dial(first_pairing(pair.publish()))
    pair.run(59 * SECOND)
    assert pair.listener.link().handshake.phase is answering.Phase.SAVING
    assert not pair.listener.established
    pair.run(5 * SECOND)
    assert pair.listener.generations[0] == 1
    assert pair.listener.established


# --- crashes ----------------------------------------------------------------------------------


def first_meeting(seed: str) -> Pair:
    pair = make_pair(seed)
    for side in pair.sides:
        side.disk.delay_ns = 3 * MILLISECOND
    pair.dialer.disk.kept = {}
    known = first_pairing(pair.publish())
    pair.dialer.disk.kept[known.file_id] = known  # as a driver keeps a file that is being redeemed
    return pair


def steps(pair: Pair) -> Iterator[int]:
    """Run until nothing is left of a handshake, one event after the other."""
    until = pair.now + 500 * MILLISECOND
    for step in count():
        if not pair._step(until):
            return
        yield step


def second_meeting(seed: str) -> Pair:
    """A device that is known already dials again."""
    pair = linked_pair(seed)
    pair.do(pair.dialer, Close(1))
    pair.run(2 * SECOND)
    for side in pair.sides:
        side.disk.delay_ns = 3 * MILLISECOND
    return pair


STEPS = sum(1 for pair in [second_meeting("count")] for _ in (pair.dial(), *steps(pair)))


def test_there_are_many_steps_at_which_to_be_killed() -> None:
    assert STEPS > 20


@pytest.mark.parametrize("victim", ["dialer", "listener", "both"])
def test_killed_at_any_step_of_a_handshake_both_sides_meet_again(victim: str) -> None:
    for kill_at in range(STEPS):
        pair = second_meeting(f"{victim} {kill_at}")
        pair.dial()
        for step in steps(pair):
            if step == kill_at:
                break
        for side in pair.sides:
            if victim in (side.name, "both"):
                pair.restart(side)
        if victim == "listener":
            for link in pair.dialer.endpoint.links:
                pair.do(pair.dialer, Close(link))
        meet(pair)


@pytest.mark.parametrize("failing", [1, 2])
@pytest.mark.parametrize("victim", ["dialer", "listener"])
def test_a_write_that_fails_at_any_step_loses_nothing(victim: str, failing: int) -> None:
    pair = second_meeting(f"{victim} {failing}")
    side = pair.dialer if victim == "dialer" else pair.listener
    before = side.disk.writes
    side.disk.fails = lambda number: number == before + failing
    pair.dial()
    pair.run(40 * SECOND)
    for link in pair.dialer.endpoint.links:
        pair.do(pair.dialer, Close(link))
    if (victim, failing) != ("listener", 2):  # that one merely keeps the older one for longer
        assert CloseCode.STORE in [closed.code for closed in side.closed]
    meet(pair)


def test_a_lost_first_packet_leaves_the_dialer_with_two_and_both_meet_again() -> None:
    pair = second_meeting("lost first packet")
    pair.network = losing(lambda parcel: parcel.to == LISTENER and not is_hello(parcel))
    pair.dial()
    pair.run(40 * SECOND)
    assert (pair.dialer.generations, pair.listener.generations) == ([2, 1], [1])
    meet(pair)


def test_a_lost_answer_leaves_both_with_two_and_both_meet_again() -> None:
    pair = second_meeting("lost answer")
    pair.network = losing(lambda parcel: parcel.to == DIALER and is_packet(parcel.data))
    pair.dial()
    pair.run(40 * SECOND)
    assert (pair.dialer.generations, pair.listener.generations) == ([2, 1], [2, 1])
    meet(pair)


def test_a_lost_acknowledgement_leaves_the_listener_with_two_and_both_meet_again() -> None:
    pair = second_meeting("lost acknowledgement")
    pair.dial()
    pair.run_until(lambda: pair.dialer.link().handshake.phase is dialing.Phase.DROPPING)
    pair.network = losing(lambda parcel: parcel.to == LISTENER)
    pair.run(100 * MILLISECOND)
    assert pair.listener.generations == [2, 1]
    for side in pair.sides:
        pair.restart(side)
    meet(pair)


def test_an_acknowledgement_on_an_older_link_is_not_written_over_a_newer_links_generation() -> None:
    """The network holds it back until the device, restarted, has proved itself again."""
    pair = second_meeting("late acknowledgement")
    pair.dial()
    pair.run_until(lambda: pair.dialer.link().handshake.phase is dialing.Phase.DROPPING)
    held: list[Parcel] = []

    def hold(parcel: Parcel) -> bool:
        held.append(parcel)
        return True

    pair.network = losing(hold)
    pair.run(200 * MILLISECOND)
    assert pair.listener.generations == [2, 1]
    pair.restart(pair.dialer)
    pair.network = calm
    pair.listener.disk.delay_ns = SECOND
    pair.dial()
    pair.run(500 * MILLISECOND)
    assert pair.listener.link().handshake.phase is answering.Phase.SAVING
    for parcel in held:
        if parcel.to == LISTENER:
            pair.deliver(parcel.data, to=pair.listener, source=DIALER)
    pair.run(1100 * MILLISECOND)
    assert set(pair.dialer.generations) & set(pair.listener.generations)
    for side in pair.sides:
        pair.restart(side)
    meet(pair)


def test_a_month_of_reconnecting_keeps_sixteen_superseded_generations() -> None:
    pair = linked_pair()
    for _ in range(20):
        pair.do(pair.dialer, Close(pair.dialer.endpoint.links[0]))
        pair.dial()
        pair.run(SECOND)
    assert pair.dialer.generations == pair.listener.generations == [21]
    superseded = [known.generation for known in pair.listener.pairing.superseded]
    assert superseded == list(range(20, 20 - SUPERSEDED_MAX, -1))
    assert pair.dialer.pairing.superseded == ()


# --- a newer link of the same device ----------------------------------------------------------


def test_a_newer_link_of_the_same_device_replaces_the_older_one() -> None:
    pair = linked_pair()
    pair.restart(pair.dialer)
    pair.dial()
    pair.run(SECOND)
    (closed,) = pair.listener.closed
    assert closed.code is CloseCode.REPLACED
    assert len(pair.listener.endpoint.links) == 1
    assert pair.listener.endpoint.link_stats(pair.listener.endpoint.links[0]).generation == 2


def test_an_answered_hello_alone_does_not_disturb_a_live_link() -> None:
    pair = linked_pair()
    recorded = [parcel for parcel in pair.parcels if is_hello(parcel)]
    for parcel in recorded:
        pair.deliver(parcel.data, to=pair.listener, source=DIALER)
    pair.run(SECOND)
    assert pair.listener.endpoint.links == [-1]
    assert not pair.listener.closed


# --- copies -----------------------------------------------------------------------------------


def test_a_copy_of_an_old_generation_is_reported_once_and_told_that_it_is_superseded() -> None:
    pair = make_pair()
    copied = first_pairing(pair.publish())
    pair.dial(copied)
    pair.run(SECOND)
    pair.dial(copied)
    pair.run(10 * SECOND)
    (reused,) = pair.listener.all(CredentialReused)
    assert (reused.file_id, reused.generation) == (copied.file_id, 0)
    assert reused.path.remote == DIALER
    assert reused.static == pair.dialer.endpoint.static
    assert reused.same_device
    assert pair.dialer.closed[-1].code is CloseCode.SUPERSEDED
    assert not pair.listener.closed  # the link itself is left to the person
    notify = [action for action in pair.listener.acts(Notify) if action.notice is reused]
    assert [action.link for action in notify] == [0]


def test_a_restored_backup_is_found_out_many_generations_later() -> None:
    pair = linked_pair()
    backup = pair.dialer.pairing
    for _ in range(5):
        pair.do(pair.dialer, Close(pair.dialer.endpoint.links[0]))
        pair.dial()
        pair.run(SECOND)
    pair.dial(backup)
    pair.run(SECOND)
    (reused,) = pair.listener.all(CredentialReused)
    assert reused.generation == 1


def test_a_recorded_hello_of_an_old_generation_raises_no_alarm() -> None:
    pair = linked_pair()
    recorded = [parcel.data for parcel in pair.parcels if is_hello(parcel)]
    for source in (DIALER, STRANGER):
        for data in recorded * 3:
            pair.deliver(data, to=pair.listener, source=source)
            pair.run(SECOND)
    assert not pair.listener.all(CredentialReused)
    assert pair.listener.endpoint.drops[Drop.SUPERSEDED] == 6 * len(recorded)


def test_a_recorded_hello_of_an_old_generation_costs_the_listener_no_verification(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair = linked_pair()
    (recorded,) = {parcel.data for parcel in pair.parcels if is_hello(parcel)}
    spent = Spent(monkeypatch)
    for _ in range(5):
        pair.deliver(recorded, to=pair.listener)
    assert pair.listener.endpoint.drops[Drop.SUPERSEDED] == 5
    assert spent.times == 0


def superseded_pair() -> tuple[Pair, Pairing]:
    """A pair that has a link, and a copy of the file with which it began."""
    pair = make_pair()
    copied = first_pairing(pair.publish())
    pair.dial(copied)
    pair.run(SECOND)
    return pair, copied


def refused(pair: Pair, hello: DialAttempt, source: Address) -> bytes:
    """The cookie that the listener gives to who says `hello`."""
    pair.deliver(hello.hello, to=pair.listener, source=source)
    answers = [act for act in pair.listener.acts(Transmit) if act.path.remote == source]
    found = hello.read_answer(bytes(answers[-1].datagrams[0]))
    assert isinstance(found, Refusal)
    return found.cookie


def calling(copied: Pairing, cookie: bytes = b"", who: str = "thief") -> DialAttempt:
    entropy = seeded(f"{who} {cookie!r}")
    return DialAttempt(Secret(entropy(32)), copied, 0, DEFAULT_LIMITS, cookie, entropy)


def test_a_copy_that_repeats_its_cookie_is_verified_and_reported_once_however_often_it_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair, copied = superseded_pair()
    again = calling(copied, refused(pair, calling(copied), STRANGER))
    spent = Spent(monkeypatch)
    for _ in range(5):
        refused(pair, again, STRANGER)
    assert spent.times == 1
    assert len(pair.listener.all(CredentialReused)) == 1


def test_a_copy_of_the_repeated_cookie_from_elsewhere_does_not_hide_the_one_that_proves() -> None:
    pair, copied = superseded_pair()
    again = calling(copied, refused(pair, calling(copied), STRANGER))
    pair.deliver(again.hello, to=pair.listener, source=Address("203.0.113.99", 9))
    assert not pair.listener.all(CredentialReused)
    pair.deliver(again.hello, to=pair.listener, source=STRANGER)
    (reused,) = pair.listener.all(CredentialReused)
    assert reused.path.remote == STRANGER


def test_nobody_is_accused_by_an_old_hello_of_his_in_a_new_envelope() -> None:
    """Who has the old envelope key gets a cookie, but cannot put it into another's message."""
    pair, copied = superseded_pair()
    recorded = next(parcel.data for parcel in pair.parcels if is_hello(parcel))
    message, _ = open_hello(copied.newest, recorded)
    cookie = refused(pair, calling(copied), STRANGER)
    spliced = seal_hello(copied.newest, message, seeded("thief"), cookie)
    sent = len(pair.listener.sent)
    pair.deliver(spliced, to=pair.listener, source=STRANGER)
    assert not pair.listener.all(CredentialReused)
    assert pair.listener.endpoint.drops[Drop.HANDSHAKE] == 1
    assert len(pair.listener.sent) == sent


@pytest.mark.parametrize("lost", [(), (0,), (1,), (0, 1)], ids=str)
@pytest.mark.parametrize("one_way", [10, 200, 400, 900])
def test_a_copy_is_reported_on_slow_paths_that_lose_it_at_first(
    one_way: int, lost: tuple[int, ...]
) -> None:
    """A second answer to the first HELLO is no answer to the one with the cookie."""
    pair, copied = superseded_pair()
    hellos = []

    def network(parcel: Parcel) -> tuple[Instant, ...]:
        if is_hello(parcel):
            hellos.append(parcel.data)
            firsts = [data for data in hellos if data != hellos[0]]
            if firsts and parcel.data == firsts[0] and firsts.count(firsts[0]) - 1 in lost:
                return ()
        return (one_way * MILLISECOND,)

    pair.network = network
    pair.dial(copied)
    pair.run(20 * SECOND)
    assert len(pair.listener.all(CredentialReused)) == 1
    assert pair.dialer.closed[-1].code is CloseCode.SUPERSEDED


@pytest.mark.parametrize("six", [1, 10, 30], ids="IPv6 {} ms".format)
@pytest.mark.parametrize("four", [1, 10, 30], ids="IPv4 {} ms".format)
def test_a_copy_that_calls_over_two_families_is_reported_whichever_answers_first(
    four: int, six: int
) -> None:
    pair, copied = superseded_pair()
    here, there = Address("2001:db8::1", 1000), Address("2001:db8::2", 2000)
    pair.also_dialer, pair.also_listener = here, there
    pair.network = lambda parcel: ((six if ":" in parcel.to.host else four) * MILLISECOND,)
    pair.dial(copied, via=(Path(DIALER, LISTENER), Path(here, there)))
    pair.run(5 * SECOND)
    assert len(pair.listener.all(CredentialReused)) == 1
    assert pair.dialer.closed[-1].code is CloseCode.SUPERSEDED


@pytest.mark.parametrize("answers", [False, True], ids=["that ask", "that repeat their cookie"])
def test_a_flood_of_old_hellos_hides_no_copy(answers: bool) -> None:
    pair, copied = superseded_pair()
    pair.dial(copied)
    for number in range(200):
        hello = calling(copied, who=str(number))
        cookie = b""
        if answers and number < 40 and number % 4 == 0:
            cookie = refused(pair, hello, STRANGER)
        hello = calling(copied, cookie, who=f"again {number}")
        pair.deliver(hello.hello, to=pair.listener, source=STRANGER)
        pair.run(5 * MILLISECOND)
    own = pair.dialer.endpoint.static
    assert [reused.static for reused in pair.listener.all(CredentialReused)].count(own) == 1
    assert pair.dialer.closed[-1].code is CloseCode.SUPERSEDED


def test_a_cookie_of_another_address_raises_no_alarm() -> None:
    """A thief who copies the cookie of a refusal that he only overheard is no proof of a copy."""
    pair = make_pair()
    copied = first_pairing(pair.publish())
    pair.dial(copied)
    pair.run(SECOND)
    pair.network = lambda parcel: () if is_hello(parcel) else calm(parcel)
    link = pair.dial(copied)
    pair.deliver(pair.parcels[-1].data, to=pair.listener, source=DIALER)
    pair.run(LATENCY)
    pair.deliver(pair.parcels[-1].data, to=pair.listener, source=STRANGER)
    pair.run(LATENCY)
    assert not pair.listener.all(CredentialReused)
    pair.do(pair.dialer, Close(link))


def test_a_cookie_that_is_too_old_raises_no_alarm() -> None:
    pair = make_pair()
    copied = first_pairing(pair.publish())
    pair.dial(copied)
    pair.run(SECOND)
    pair.network = lambda parcel: () if is_hello(parcel) else calm(parcel)
    pair.dial(copied)
    pair.deliver(pair.parcels[-1].data, to=pair.listener, source=DIALER)
    pair.run(LATENCY)
    with_cookie = pair.parcels[-1].data
    pair.now += COOKIE_LIFE + SECOND
    pair.deliver(with_cookie, to=pair.listener, source=DIALER)
    assert not pair.listener.all(CredentialReused)


def test_another_device_with_the_current_generation_is_refused_and_reported() -> None:
    """The first device is pinned: a copy of its credential does not work from elsewhere."""
    pair = linked_pair()
    stolen = pair.dialer.pairing
    thief = make_pair("thief", dialer=config_of("thief"))
    thief.listener = pair.listener
    thief.now = pair.now
    thief.dial(stolen)
    thief.run(SECOND)
    assert pair.listener.endpoint.drops[Drop.WRONG_DEVICE] > 1
    (reused,) = pair.listener.all(CredentialReused)  # the same HELLO again is no news
    assert reused.generation == 1
    assert reused.static == thief.dialer.endpoint.static
    assert not reused.same_device
    assert not thief.dialer.established
    assert pair.listener.endpoint.links == [-1]


def test_an_envelope_of_an_old_generation_with_a_forged_message_is_refused_like_any() -> None:
    pair = linked_pair()
    (superseded,) = pair.listener.pairing.superseded
    old = evolve(
        pair.listener.pairing.newest,
        hint=superseded.hint,
        envelope_key=superseded.envelope_key,
        psk=Secret(bytes(32)),
    )
    sent = len(pair.listener.sent)
    pair.deliver(seal_hello(old, bytes(96), seeded("forged")), to=pair.listener)
    assert pair.listener.endpoint.drops[Drop.SUPERSEDED] == 1
    assert len(pair.listener.sent) == sent + 1
    assert not pair.listener.all(CredentialReused)


@pytest.mark.parametrize("who", ["dialer", "another device"])
def test_two_devices_that_redeem_one_file_at_the_same_time_are_told_apart(who: str) -> None:
    """One of them gets the link; that there was another is for the person to know."""
    pair = make_pair()
    copied = first_pairing(pair.publish())
    rival = hello_with(copied, encode_parameters(DEFAULT_LIMITS), who=who)
    pair.deliver(rival, to=pair.listener, source=STRANGER)
    pair.dial(copied)
    pair.run(SECOND)
    assert pair.listener.established
    reports = pair.listener.all(CredentialReused)
    if who == "dialer":  # it dialled twice
        assert not reports
        return
    (reused,) = reports
    assert (reused.file_id, reused.generation) == (copied.file_id, 0)
    assert reused.path.remote == STRANGER
    assert reused.static == public_key(config_of(who).identity.reveal())
    assert not reused.same_device
    assert not pair.listener.closed


def hello_with(pairing: Pairing, payload: bytes, *, who: str = "dialer") -> bytes:
    """A HELLO of `who` whose parameters are `payload`."""
    noise = HandshakeState(
        initiator=True,
        prologue=prologue(pairing.file_id, pairing.newest.generation),
        s=config_of(who).identity.reveal(),
        e=seeded("ephemeral")(32),
        rs=pairing.listener_static,
        psks=(pairing.newest.psk.reveal(),),
    )
    return seal_hello(pairing.newest, noise.write_message(payload), seeded("hello"))


def test_a_hello_with_parameters_of_no_use_is_dropped_without_an_answer() -> None:
    pair = linked_pair()
    sent = len(pair.listener.sent)
    pair.deliver(hello_with(pair.dialer.pairing, b"\x01"), to=pair.listener)
    assert pair.listener.endpoint.drops[Drop.MALFORMED_PARAMETERS] == 1
    assert len(pair.listener.sent) == sent
    pair.deliver(
        hello_with(pair.dialer.pairing, encode_parameters(DEFAULT_LIMITS)), to=pair.listener
    )
    assert len(pair.listener.sent) == sent + 1


def test_the_reply_names_the_address_from_which_the_hello_came() -> None:
    pair = linked_pair()
    hello = hello_with(pair.dialer.pairing, encode_parameters(DEFAULT_LIMITS))
    for source in (STRANGER, Address("2001:db8::9", 9)):
        pair.deliver(hello, to=pair.listener, source=source)
        transmit = pair.listener.acts(Transmit)[-1]
        assert transmit.path.remote == source
    assert open_hello(pair.dialer.pairing.newest, hello)[0]
