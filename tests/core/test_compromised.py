"""A pairing is declared compromised: who is told, what is destroyed, and that it stays so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from clawchat.core.actions import (
    Closed,
    Compromised,
    Destroy,
    DestroyIdentity,
    Persist,
    Withdraw,
)
from clawchat.core.config import DECLARING_LASTS, ECHOES
from clawchat.core.crypto import packets
from clawchat.core.events import (
    Close,
    DeclareCompromised,
    Dial,
    Event,
    Forget,
    Ping,
    PublishBootstrap,
    Remember,
    RotateKeys,
    Write,
)
from clawchat.core.exchange import first_pairing
from clawchat.core.instant import MINUTE, SECOND
from clawchat.core.phases import answering, dialing, established
from clawchat.core.secret import Secret
from clawchat.core.wire import frames
from clawchat.errors import (
    CloseCode,
    CompromiseReason,
    Drop,
    LocalError,
    PairingDestroyed,
    UnknownLink,
)
from tests.core.pair import (
    DIALER,
    LATENCY,
    LISTENER,
    Pair,
    Parcel,
    Side,
    calm,
    dead,
    linked_pair,
    losing,
    make_pair,
)

LOST = CompromiseReason.DEVICE_LOST


def file_id_of(side: Side, link: int | None = None) -> bytes:
    return side.link(link).file_id


def declare(pair: Pair, side: Side, *, everything: bool = False) -> bytes:
    """Of the pairing of the newest link."""
    file_id = file_id_of(side)
    pair.do(side, DeclareCompromised(file_id, LOST, everything))
    return file_id


def two_devices() -> Pair:
    """One listener and two pairings with it; the second device happens to share our endpoint."""
    pair = linked_pair()
    pair.dial(first_pairing(pair.publish()))
    pair.run(SECOND)
    assert len(pair.listener.endpoint.links) == 2
    return pair


# --- who is told ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dialer", "listener"])
def test_the_peer_hears_the_reason_and_obeys_within_a_round_trip(name: str) -> None:
    pair = linked_pair()
    side, other = (pair.dialer, pair.listener) if name == "dialer" else (pair.listener, pair.dialer)
    file_id = declare(pair, side)
    pair.run(2 * LATENCY)
    (ours,), (theirs,) = side.receipts, other.receipts
    assert (ours.by_peer, theirs.by_peer) == (False, True)
    for receipt in (ours, theirs):
        assert receipt.file_id == file_id
        assert receipt.reason is LOST
        assert receipt.told
        assert receipt.confirmed
        assert receipt.kept.generations == (1,)
        assert receipt.kept.pinned_key
        assert not receipt.kept.identity
        assert receipt.epochs == (0, 1) or receipt.epochs == (1,)
    assert side.closed[-1] == Closed(
        CloseCode.COMPROMISED, "this pairing was declared compromised", by_peer=False
    )
    assert other.closed[-1].by_peer


def test_the_receipt_comes_before_the_link_is_reported_closed() -> None:
    pair = linked_pair()
    declare(pair, pair.dialer)
    pair.run(SECOND)
    for side in pair.sides:
        kinds = [type(notice) for notice in side.notices[-2:]]
        assert kinds == [Compromised, Closed]


@pytest.mark.parametrize("lost", range(1, 12))
def test_any_one_datagram_may_be_lost(lost: int) -> None:
    pair = linked_pair()
    count = 0

    def the_nth(_parcel: Parcel) -> bool:
        nonlocal count
        count += 1
        return count == lost

    pair.network = losing(the_nth)
    declare(pair, pair.dialer)
    pair.run(2 * SECOND)
    assert [side.receipts[0].confirmed for side in pair.sides] == [True, True]


def test_an_acknowledgement_gets_through_an_outage_of_nine_seconds() -> None:
    pair = linked_pair()
    until = pair.now + 9 * SECOND
    pair.network = losing(lambda parcel: parcel.to == DIALER and pair.now < until)
    declare(pair, pair.dialer)
    pair.run(DECLARING_LASTS + SECOND)
    assert pair.dialer.receipts[0].confirmed


def test_without_an_answer_the_peer_is_told_for_ten_seconds_and_the_keys_go() -> None:
    pair = linked_pair()
    pair.network = dead
    before = len(pair.dialer.sent)
    declare(pair, pair.dialer)
    assert pair.dialer.disk.kept == {}, "what is stored goes at once"
    pair.run(DECLARING_LASTS + SECOND)
    assert 10 <= len(pair.dialer.sent) - before <= 101
    (receipt,) = pair.dialer.receipts
    assert receipt.told
    assert not receipt.confirmed
    assert pair.dialer.endpoint.links == []
    assert pair.dialer.endpoint.deadline is None


def test_both_declare_at_once_and_both_are_confirmed() -> None:
    pair = linked_pair()
    declare(pair, pair.dialer)
    declare(pair, pair.listener)
    pair.run(MINUTE)
    for side in pair.sides:
        (receipt,) = side.receipts
        assert receipt.confirmed
        assert not receipt.by_peer
        assert side.endpoint.links == []


def test_both_declare_and_only_one_is_heard() -> None:
    pair = linked_pair()
    pair.network = losing(lambda parcel: parcel.to == LISTENER)
    declare(pair, pair.listener)
    declare(pair, pair.dialer)
    pair.run(5 * SECOND)
    assert pair.dialer.receipts[0].confirmed
    assert pair.listener.receipts == []
    pair.network = calm
    pair.run(5 * SECOND)
    assert pair.listener.receipts[0].confirmed


def test_a_link_that_is_closing_still_obeys() -> None:
    pair = linked_pair()
    pair.network = losing(lambda parcel: parcel.to == DIALER)
    pair.do(pair.listener, Close(-1))
    declare(pair, pair.dialer)
    pair.run(LATENCY)
    (receipt,) = pair.listener.receipts
    assert receipt.by_peer
    assert pair.listener.disk.kept == {}
    pair.network = calm
    pair.run(SECOND)
    assert pair.dialer.receipts[0].confirmed


def test_a_close_that_comes_while_declaring_changes_nothing() -> None:
    pair = linked_pair()
    pair.network = losing(lambda parcel: parcel.to == LISTENER)
    declare(pair, pair.dialer)
    pair.do(pair.listener, Close(-1))
    pair.run(SECOND)
    assert pair.dialer.receipts == []
    pair.run(DECLARING_LASTS)
    assert not pair.dialer.receipts[0].confirmed


def test_a_device_that_is_forgotten_while_it_is_told_is_told_to_the_end() -> None:
    pair = linked_pair()
    pair.network = dead
    declare(pair, pair.listener)
    before = len(pair.listener.sent)
    pair.do(pair.listener, Forget(pair.dialer.pairing.file_id))
    pair.run(DECLARING_LASTS + SECOND)
    assert len(pair.listener.sent) - before >= 9
    assert len(pair.listener.receipts) == 1
    assert pair.listener.endpoint.links == []


# --- while a handshake is under way -----------------------------------------------------------


def test_a_dialer_whose_disk_is_stuck_can_tell_a_listener_that_has_only_replied() -> None:
    pair = make_pair()
    pair.dialer.disk.delay_ns = None
    pair.dial(first_pairing(pair.publish()))
    pair.run(SECOND)
    assert pair.dialer.link().handshake.phase is dialing.Phase.SAVING
    declare(pair, pair.dialer)
    pair.run(SECOND)
    assert [side.receipts[0].confirmed for side in pair.sides] == [True, True]
    assert pair.listener.acts(Persist) == []
    assert isinstance(pair.listener.acts(Withdraw)[-1], Withdraw)
    pair.run(MINUTE)
    assert pair.listener.endpoint.links == pair.dialer.endpoint.links == []


def test_a_device_that_dials_beside_a_live_link_ends_both() -> None:
    pair = linked_pair()
    pair.network = losing(lambda parcel: parcel.to == DIALER)
    pair.dial()
    declare(pair, pair.dialer)
    pair.run(DECLARING_LASTS + SECOND)
    assert [receipt.told for receipt in pair.dialer.receipts] == [False, True]
    assert pair.dialer.acts(Destroy) == [Destroy(pair.dialer.receipts[0].file_id)]
    assert pair.dialer.endpoint.links == []


def secrets_of_links(side: Side) -> list[Secret]:
    found = [secrets_of(link) for link in side.endpoint._links.by_id.values()]
    assert len(found) == 2
    return [secret for secrets in found for secret in secrets if secret is not identity_of(side)]


def identity_of(side: Side) -> Secret:
    return side.endpoint.config.identity


def test_a_dialer_that_is_told_keeps_no_key_of_a_dial_beside_the_link() -> None:
    pair = linked_pair()
    pair.dial()
    before = secrets_of_links(pair.dialer)
    declare(pair, pair.listener)
    pair.run(LATENCY)
    assert pair.dialer.receipts[0].by_peer
    assert [secret for secret in before if not secret.wiped] == []
    pair.run(MINUTE)
    assert pair.dialer.endpoint.links == []


def test_a_listener_that_is_told_keeps_no_key_of_the_link_that_was_replaced() -> None:
    pair = linked_pair()
    pair.restart(pair.dialer)
    pair.dial()
    while pair.listener.link(-1).life.phase is not established.Phase.CLOSING:
        pair.run(LATENCY // 4)
    before = secrets_of_links(pair.listener)
    declare(pair, pair.dialer)
    pair.run(LATENCY)
    assert pair.listener.receipts[0].by_peer
    assert [secret for secret in before if not secret.wiped] == []


def test_what_a_listener_is_writing_is_destroyed_after_it_was_written() -> None:
    pair = make_pair()
    pair.listener.disk.delay_ns = 2 * SECOND
    link = pair.dial(first_pairing(pair.publish()))
    pair.run(SECOND)
    assert pair.listener.link().handshake.phase is answering.Phase.SAVING
    declare(pair, pair.dialer)
    pair.run(LATENCY)
    (receipt,) = pair.listener.receipts
    assert receipt.by_peer
    done = [type(action) for _, action in pair.listener.did]
    assert done.index(Persist) < done.index(Destroy)
    pair.run(MINUTE)
    assert pair.listener.endpoint.pairings == []
    assert pair.listener.established == []
    assert link not in pair.dialer.endpoint.links


def test_a_listener_declares_while_it_writes_a_generation() -> None:
    pair = make_pair()
    pair.listener.disk.delay_ns = None
    pair.dial(first_pairing(pair.publish()))
    pair.run(SECOND)
    declare(pair, pair.listener)
    pair.run(SECOND)
    assert [side.receipts[0].confirmed for side in pair.sides] == [True, True]


def test_an_answered_hello_lapses_when_its_pairing_is_destroyed() -> None:
    pair = make_pair()
    pair.network = losing(lambda parcel: parcel.to == DIALER)
    content = pair.publish()
    pair.dial(first_pairing(content))
    pair.run(SECOND)
    pair.do(pair.listener, DeclareCompromised(content.file_id, LOST, False))
    (receipt,) = pair.listener.receipts
    assert not receipt.told
    assert receipt.kept.bootstrap_files == 1
    assert receipt.kept.generations == (0,)
    assert pair.listener.endpoint.deadline is None


# --- one device, or everything ----------------------------------------------------------------


def test_one_device_is_destroyed_and_the_other_stays_linked() -> None:
    pair = two_devices()
    gone = declare(pair, pair.listener)
    pair.run(MINUTE)
    assert [r.file_id for r in pair.listener.receipts] == [gone]
    assert len(pair.listener.endpoint.links) == len(pair.dialer.endpoint.links) == 1
    assert gone not in pair.listener.disk.kept
    assert pair.listener.acts(DestroyIdentity) == []
    pair.publish()


def test_everything_tells_every_device_and_destroys_our_own_key() -> None:
    pair = two_devices()
    pair.publish()
    pair.do(pair.listener, DeclareCompromised(reason=CompromiseReason.INTRUSION))
    pair.run(MINUTE)
    assert pair.listener.disk.kept == pair.dialer.disk.kept == {}
    assert len(pair.listener.receipts) == len(pair.dialer.receipts) == 2
    for receipt in pair.listener.receipts:
        assert receipt.confirmed
        assert receipt.everything
        assert receipt.kept.identity
    for receipt in pair.dialer.receipts:
        assert receipt.reason is CompromiseReason.INTRUSION
        assert not receipt.kept.identity, "a listener has no say about what is not its own"
    assert len(pair.listener.acts(DestroyIdentity)) == 1
    assert isinstance(pair.listener.acts(Withdraw)[-1], Withdraw)
    assert pair.dialer.acts(DestroyIdentity) == []


def test_a_device_that_says_everything_makes_the_listener_drop_its_other_devices() -> None:
    pair = two_devices()
    pair.publish()
    first, second = file_id_of(pair.dialer, 1), file_id_of(pair.dialer, 2)
    pair.do(pair.dialer, DeclareCompromised(first, LOST, everything=True))
    pair.run(MINUTE)
    assert {r.file_id for r in pair.listener.receipts} == {first, second}
    assert len(pair.listener.acts(DestroyIdentity)) == 1
    assert pair.listener.receipts[0].kept.bootstrap_files == 1
    assert pair.listener.endpoint.links == pair.dialer.endpoint.links == []


def test_a_listener_that_says_everything_does_not_speak_for_other_listeners() -> None:
    pair = two_devices()
    first = file_id_of(pair.dialer, 1)
    scope = frames.SCOPE_EVERYTHING
    pair.say(pair.listener, frames.encode_compromised(LOST, scope), link=-1)
    pair.run(SECOND)
    assert [r.file_id for r in pair.dialer.receipts] == [first]
    assert pair.dialer.endpoint.link_stats(2).phase == "live"


def test_everything_where_there_is_nothing_still_destroys_the_identity() -> None:
    pair = make_pair()
    pair.do(pair.listener, DeclareCompromised())
    assert pair.listener.receipts == []
    assert len(pair.listener.acts(DestroyIdentity)) == 1
    assert pair.listener.endpoint.config.identity.wiped


def test_the_settings_of_whoever_made_the_endpoint_are_left_alone() -> None:
    pair = make_pair()
    pair.do(pair.listener, DeclareCompromised())
    assert not pair.listener.config.identity.wiped


def test_everything_after_one_destroys_the_rest() -> None:
    pair = two_devices()
    first = file_id_of(pair.listener, -1)
    pair.do(pair.listener, DeclareCompromised(first, LOST, everything=False))
    pair.do(pair.listener, DeclareCompromised(first, LOST, everything=True))
    pair.run(MINUTE)
    assert len(pair.listener.receipts) == 2
    assert pair.listener.endpoint.pairings == []


# --- without a link ---------------------------------------------------------------------------


def test_a_pairing_without_a_link_is_destroyed_at_once_and_nobody_is_told() -> None:
    pair = linked_pair()
    file_id = file_id_of(pair.listener)
    pair.do(pair.listener, Close(-1))
    pair.run(SECOND)
    before = len(pair.listener.sent)
    pair.do(pair.listener, DeclareCompromised(file_id, LOST, everything=False))
    (receipt,) = pair.listener.receipts
    assert not receipt.told
    assert not receipt.confirmed
    assert receipt.kept.generations == (1,)
    assert receipt.kept.superseded == 1
    assert receipt.epochs == ()
    assert pair.listener.acts(Destroy) == [Destroy(file_id)]
    assert len(pair.listener.sent) == before


def test_a_device_that_was_off_comes_back_and_meets_silence() -> None:
    pair = linked_pair()
    file_id = file_id_of(pair.listener)
    pair.do(pair.dialer, Close(1))
    pair.run(SECOND)
    pair.restart(pair.dialer)
    pair.do(pair.listener, DeclareCompromised(file_id, LOST, everything=False))
    before = len(pair.listener.sent)
    pair.dial()
    pair.run(MINUTE)
    assert pair.dialer.closed[-1].code is CloseCode.TIMEOUT
    assert len(pair.listener.sent) == before
    assert pair.listener.endpoint.drops[Drop.STRANGER] > 0


def test_a_pairing_nobody_knows_of_is_destroyed_all_the_same() -> None:
    """It may lie on a disk that this endpoint has not been shown."""
    pair = make_pair()
    pair.do(pair.dialer, DeclareCompromised(b"x" * 16, LOST, everything=False))
    assert pair.dialer.acts(Destroy) == [Destroy(b"x" * 16)]
    assert pair.dialer.receipts[0].kept.generations == ()


# --- it stays so ------------------------------------------------------------------------------


def refused(pair: Pair, side: Side, event: Event, error: type[LocalError]) -> None:
    with pytest.raises(error):
        pair.do(side, event)


def test_a_declared_link_takes_no_event_any_more() -> None:
    pair = linked_pair()
    pair.network = dead
    declare(pair, pair.dialer)
    for event in (Write(1, 4, b"x"), Ping(1, 1), Close(1), RotateKeys(1)):
        refused(pair, pair.dialer, event, UnknownLink)
    with pytest.raises(UnknownLink):
        pair.dialer.endpoint.link_stats(1)


def test_nothing_brings_a_destroyed_pairing_back() -> None:
    pair = linked_pair()
    kept, theirs = pair.dialer.pairing, pair.listener.pairing
    file_id = declare(pair, pair.dialer)
    pair.run(MINUTE)
    refused(pair, pair.dialer, Dial(9, kept, ()), PairingDestroyed)
    refused(pair, pair.listener, Remember(theirs), PairingDestroyed)
    for side in pair.sides:
        again = DeclareCompromised(file_id, LOST, everything=False)
        refused(pair, side, again, PairingDestroyed)


def test_after_everything_an_endpoint_does_nothing_any_more() -> None:
    pair = make_pair()
    content = pair.publish()
    pair.do(pair.listener, DeclareCompromised())
    refused(pair, pair.listener, PublishBootstrap((LISTENER,)), PairingDestroyed)
    refused(pair, pair.listener, Dial(9, first_pairing(content), ()), PairingDestroyed)
    refused(pair, pair.listener, DeclareCompromised(), PairingDestroyed)
    refused(pair, pair.listener, DeclareCompromised(b"x" * 16), PairingDestroyed)


@pytest.mark.parametrize(
    "event",
    [DeclareCompromised(b"short"), DeclareCompromised(b"", LOST, everything=False)],
    ids=["no file id", "nothing"],
)
def test_it_must_be_said_what_is_compromised(event: DeclareCompromised) -> None:
    pair = linked_pair()
    refused(pair, pair.dialer, event, LocalError)
    assert pair.dialer.endpoint.link_stats(1).phase == "live"


def test_whatever_was_recorded_before_is_a_strangers_afterwards() -> None:
    pair = linked_pair()
    declare(pair, pair.dialer)
    pair.run(MINUTE)
    notices = [len(side.notices) for side in pair.sides]
    for parcel in list(pair.parcels):
        side = pair.dialer if parcel.to == DIALER else pair.listener
        pair.deliver(parcel.data, to=side, source=parcel.source)
    assert [len(side.notices) for side in pair.sides] == notices


# --- what a peer may say ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (frames.encode_compromised(LOST, 0), LOST),
        (frames.encode_compromised(99, 0), CompromiseReason.UNSPECIFIED),
        (frames.encode_compromised(LOST, 6), LOST),
        (frames.PING + frames.encode_compromised(LOST, 0) + frames.PING, LOST),
    ],
    ids=["as it should be", "a later reason", "a later scope", "among other frames"],
)
def test_a_declaration_is_understood(payload: bytes, reason: CompromiseReason) -> None:
    pair = linked_pair()
    pair.say(pair.dialer, payload, link=1)
    pair.run(LATENCY)
    (receipt,) = pair.listener.receipts
    assert receipt.reason is reason
    assert not receipt.everything


def test_an_acknowledgement_of_nothing_breaks_a_rule() -> None:
    pair = linked_pair()
    pair.say(pair.dialer, frames.COMPROMISED_ACK, link=1)
    pair.run(LATENCY)
    assert pair.listener.closed[-1].code is CloseCode.FRAME
    assert pair.listener.receipts == []


def test_nonsense_is_passed_over_while_an_answer_is_awaited() -> None:
    pair = linked_pair()
    pair.network = losing(lambda parcel: parcel.to == LISTENER)
    declare(pair, pair.dialer)
    pair.say(pair.listener, b"\xff", link=-1)
    pair.run(SECOND)
    assert pair.dialer.receipts == []
    assert not pair.dialer.closed


def test_neither_frame_is_acknowledged_by_an_ack() -> None:
    pair = linked_pair()
    pair.network = losing(lambda parcel: parcel.to == DIALER)
    pair.run(SECOND)
    before = len(pair.listener.sent)
    pair.say(pair.dialer, frames.encode_compromised(LOST, 0), link=1)
    pair.run(MINUTE)
    assert len(pair.listener.sent) - before == ECHOES


def test_when_the_keys_have_sealed_all_they_may_the_peer_is_not_told() -> None:
    pair = linked_pair()
    pair.dialer.transport().epochs.current.seal.sealed = packets.EPOCH_PACKETS_MAX
    before = len(pair.parcels)
    declare(pair, pair.dialer)
    pair.run(DECLARING_LASTS + SECOND)
    assert len(pair.parcels) == before
    assert not pair.dialer.receipts[0].confirmed


def test_when_the_keys_have_sealed_all_they_may_it_is_obeyed_without_an_answer() -> None:
    pair = linked_pair()
    pair.listener.transport().epochs.current.seal.sealed = packets.EPOCH_PACKETS_MAX
    declare(pair, pair.dialer)
    pair.run(MINUTE)
    assert pair.listener.receipts[0].by_peer
    assert not pair.dialer.receipts[0].confirmed


# --- wiped ------------------------------------------------------------------------------------


def secrets_of(root: object) -> list[Secret]:
    """Every `Secret` that can be reached from here inside the core."""
    found: dict[int, Secret] = {}
    seen: set[int] = set()
    todo: list[Any] = [root]
    while todo:
        thing = todo.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, Secret):
            found[id(thing)] = thing
        elif isinstance(thing, dict):
            todo += [*thing.keys(), *thing.values()]
        elif isinstance(thing, list | tuple | set | frozenset):
            todo += thing
        elif type(thing).__module__.startswith("clawchat"):
            names = [*getattr(thing, "__dict__", ()), *_slots(type(thing))]
            todo += [getattr(thing, name) for name in names if hasattr(thing, name)]
    return list(found.values())


def _slots(kind: type) -> list[str]:
    return [name for base in kind.__mro__ for name in getattr(base, "__slots__", ())]


Situation = Callable[[], Pair]


def while_rotating() -> Pair:
    pair = linked_pair()
    pair.network = dead
    pair.do(pair.dialer, RotateKeys(1))
    return pair


def while_dialing() -> Pair:
    pair = make_pair()
    pair.network = dead
    pair.dial(first_pairing(pair.publish()))
    return pair


def while_saving() -> Pair:
    pair = make_pair()
    pair.dialer.disk.delay_ns = pair.listener.disk.delay_ns = None
    pair.dial(first_pairing(pair.publish()))
    pair.run(SECOND)
    return pair


def given_up_while_saving() -> Pair:
    """The links are over; what the disks were given is not written yet."""
    pair = while_saving()
    pair.network = dead
    pair.run(MINUTE)
    return pair


@pytest.mark.parametrize(
    "situation",
    [linked_pair, while_rotating, while_dialing, while_saving, given_up_while_saving],
)
@pytest.mark.parametrize("name", ["dialer", "listener"])
def test_no_secret_is_left_in_an_endpoint_that_declared_everything(
    situation: Situation, name: str
) -> None:
    pair = situation()
    side = pair.dialer if name == "dialer" else pair.listener
    before = secrets_of(side.endpoint)
    assert before
    pair.do(side, DeclareCompromised())
    pair.network = dead
    pair.run(DECLARING_LASTS + SECOND)
    assert [secret for secret in secrets_of(side.endpoint) if not secret.wiped] == []
    assert [secret for secret in before if not secret.wiped] == []


def test_everything_ends_what_a_disk_still_writes_for_a_dial_that_was_given_up() -> None:
    pair = given_up_while_saving()
    (persist,) = pair.dialer.acts(Persist)
    assert pair.dialer.closed
    pair.do(pair.dialer, DeclareCompromised())
    assert pair.dialer.disk.destroyed == [persist.pairing.file_id]
    assert [receipt.told for receipt in pair.dialer.receipts] == [False]


def test_the_roots_and_credentials_go_before_the_peer_has_answered() -> None:
    pair = linked_pair()
    pair.network = dead
    link = pair.dialer.link()
    assert link.ratchet is not None
    assert link.agreement is not None
    root = link.ratchet.model.root
    declare(pair, pair.dialer)
    assert root.wiped
    assert link.agreement.next_credential.psk.wiped
    epochs = pair.dialer.transport().epochs
    assert epochs.current.root.wiped


def test_a_driver_that_still_writes_a_credential_is_not_disturbed() -> None:
    """It owns the secrets that it was given."""
    pair = make_pair()
    pair.dialer.disk.delay_ns = None
    pair.dial(first_pairing(pair.publish()))
    pair.run(SECOND)
    (persist,) = pair.dialer.acts(Persist)
    declare(pair, pair.dialer)
    assert not persist.pairing.newest.psk.wiped


def test_what_an_event_brought_is_not_wiped() -> None:
    """Events are plain data, and may be replayed."""
    pair = make_pair()
    pairing = first_pairing(pair.publish())
    pair.dial(pairing)
    pair.run(SECOND)
    declare(pair, pair.dialer)
    pair.run(MINUTE)
    assert not pairing.newest.psk.wiped
