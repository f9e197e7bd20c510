"""A copied credential is used, and the device whose it is hears of it over its link.

PROTOCOL.md "Clone detection": told on the live link or on the next one, not more often than once a
minute, until it was heard; and nothing else comes of it.
"""

from __future__ import annotations

from itertools import pairwise

import pytest

from clawchat.core.actions import Closed, CopyReported, CredentialReused, Notify
from clawchat.core.config import DEFAULT_LIMITS, REPORT_EVERY
from clawchat.core.credential import Address, Pairing, Path
from clawchat.core.events import Close, Forget
from clawchat.core.exchange import DialAttempt, first_pairing
from clawchat.core.instant import HOUR, MINUTE, SECOND
from clawchat.core.untold import Untold
from clawchat.core.wire.control import CopyReport
from clawchat.errors import CloseCode, Drop
from tests.core.pair import (
    DIALER,
    LATENCY,
    LISTENER,
    STRANGER,
    Pair,
    Parcel,
    calm,
    config_of,
    linked_pair,
    losing,
    make_pair,
    seeded,
)

ELSEWHERE = Address("2001:db8::7", 4000)


def with_copy() -> tuple[Pair, Pairing]:
    """A pair with a link, and a copy of the bootstrap file that made it."""
    pair = make_pair()
    copied = first_pairing(pair.publish())
    pair.dial(copied)
    pair.run(SECOND)
    return pair, copied


def steal(pair: Pair, times: int = 1, *, source: Address = STRANGER) -> None:
    """Another machine tries the credential that the device uses now; it hears nothing."""
    for number in range(times):
        entropy = seeded(f"thief at {pair.now}, {number}")
        identity = config_of("thief").identity
        stolen = pair.dialer.pairing
        hello = DialAttempt(identity, stolen, 0, DEFAULT_LIMITS, b"", entropy).hello
        before = pair.listener.endpoint.drops[Drop.WRONG_DEVICE]
        pair.deliver(hello, to=pair.listener, source=source)
        assert pair.listener.endpoint.drops[Drop.WRONG_DEVICE] == before + 1


def to_the_dialer(parcel: Parcel) -> bool:
    return parcel.to == DIALER


def unheard(pair: Pair) -> int:
    """Bytes of the control stream that the listener keeps for the device."""
    return pair.listener.transport(-1).streams._live[0].send.buffered


def test_the_device_hears_over_its_link_that_an_old_state_of_it_was_used() -> None:
    pair, copied = with_copy()
    pair.also_dialer = ELSEWHERE
    phases = pair.listener.link(-1).life.phase, pair.dialer.link(1).life.phase
    second = pair.dial(copied, via=(Path(ELSEWHERE, LISTENER),))
    pair.run(10 * SECOND)
    told = [action for action in pair.dialer.acts(Notify) if type(action.notice) is CopyReported]
    assert told == [Notify(1, CopyReported(0, ELSEWHERE, True, 1, 0))]
    closed = [action for action in pair.dialer.acts(Notify) if type(action.notice) is Closed]
    assert [(action.link, action.notice.code) for action in closed] == [  # type: ignore[union-attr]
        (second, CloseCode.SUPERSEDED)
    ]
    assert not pair.listener.closed
    assert (pair.listener.link(-1).life.phase, pair.dialer.link(1).life.phase) == phases


def test_the_device_hears_that_another_machine_has_its_credential() -> None:
    pair = linked_pair()
    steal(pair)
    pair.run(SECOND)
    assert pair.dialer.all(CopyReported) == [CopyReported(1, STRANGER, False, 1, 0)]


def test_a_recording_of_a_hello_tells_the_device_nothing() -> None:
    pair, _ = with_copy()
    recorded = next(parcel.data for parcel in pair.parcels if parcel.to == LISTENER)
    pair.deliver(recorded, to=pair.listener, source=STRANGER)
    pair.run(2 * MINUTE)
    assert pair.listener.endpoint.drops[Drop.SUPERSEDED] == 1
    assert not pair.dialer.all(CopyReported)


def test_a_thief_who_tries_often_is_told_of_once_a_minute_with_how_often() -> None:
    pair = linked_pair()
    for _ in range(30):
        steal(pair, 2)
        pair.run(10 * SECOND)
    pair.run(REPORT_EVERY)
    told = [
        (at, action.notice)
        for at, action in pair.dialer.did
        if isinstance(action, Notify) and isinstance(action.notice, CopyReported)
    ]
    times = [at for at, _ in told]
    assert len(times) == 6
    assert all(later - at >= REPORT_EVERY for at, later in pairwise(times))
    assert [notice.count for _, notice in told] == [1, 11, 12, 12, 12, 12]
    assert len(pair.listener.all(CredentialReused)) == 60


def test_two_kinds_of_copies_are_told_apart_and_each_is_told_as_it_was_last() -> None:
    pair, copied = with_copy()
    steal(pair)
    pair.run(SECOND)
    pair.dialer.did.clear()
    pair.dial(copied)
    steal(pair)
    pair.run(SECOND)
    steal(pair, source=ELSEWHERE)
    pair.run(2 * REPORT_EVERY)
    told = sorted(pair.dialer.all(CopyReported), key=lambda notice: notice.same_device)
    own, other = told[1], told[0]
    assert (own.generation, own.remote, own.same_device, own.count) == (0, DIALER, True, 1)
    assert (other.generation, other.remote, other.same_device) == (1, ELSEWHERE, False)
    assert other.count == 2
    assert REPORT_EVERY - 3 * SECOND < other.ago_ns < REPORT_EVERY


def test_a_device_without_a_link_hears_of_it_on_its_next_one() -> None:
    pair = linked_pair()
    pair.do(pair.dialer, Close(1))
    pair.run(MINUTE)
    steal(pair, 3)
    pair.run(5 * HOUR)
    assert not pair.dialer.all(CopyReported)
    pair.dial()
    pair.run(SECOND)
    (told,) = pair.dialer.all(CopyReported)
    assert (told.generation, told.remote, told.same_device) == (1, STRANGER, False)
    assert told.count == 3
    assert 5 * HOUR <= told.ago_ns < 5 * HOUR + SECOND
    pair.do(pair.dialer, Close(2))
    pair.run(SECOND)
    pair.dial()
    pair.run(2 * REPORT_EVERY)
    assert pair.dialer.all(CopyReported) == [told], "once is enough"


def test_a_device_that_does_not_answer_is_told_when_it_is_back_and_one_report_waits() -> None:
    pair = linked_pair(dialer=config_of("dialer", silence_ns_max=HOUR))
    pair.network = losing(to_the_dialer)
    for _ in range(10):
        steal(pair, 4)
        pair.run(MINUTE)
        assert unheard(pair) < 64
    pair.network = calm
    pair.run(3 * REPORT_EVERY)
    told = pair.dialer.all(CopyReported)
    assert sum(notice.count for notice in told) == 40
    assert len(told) == 2


def test_what_a_link_took_with_it_unheard_is_said_on_the_next_one() -> None:
    pair = linked_pair()
    pair.network = losing(to_the_dialer)
    steal(pair)
    pair.run(SECOND)
    assert unheard(pair)
    pair.restart(pair.dialer)
    pair.network = calm
    pair.dial()
    pair.run(SECOND)
    assert [closed.code for closed in pair.listener.closed] == [CloseCode.REPLACED]
    (told,) = pair.dialer.all(CopyReported)
    assert (told.remote, told.count) == (STRANGER, 1)


def test_what_a_link_took_with_it_counts_together_with_what_came_after_it() -> None:
    pair = linked_pair()
    pair.network = losing(to_the_dialer)
    steal(pair)
    pair.run(5 * SECOND)
    steal(pair, source=ELSEWHERE)
    pair.do(pair.listener, Close(-1))
    pair.run(MINUTE)
    pair.network = calm
    pair.restart(pair.dialer)
    pair.dial()
    pair.run(SECOND)
    (told,) = pair.dialer.all(CopyReported)
    assert (told.remote, told.count) == (ELSEWHERE, 2)


def test_what_was_heard_is_not_said_again_however_the_link_ends_later() -> None:
    pair = linked_pair()
    steal(pair)
    pair.run(2 * REPORT_EVERY)
    pair.network = losing(to_the_dialer)
    pair.listener.link(-1).rotate_keys(pair.now)  # so that something is on its way at the end
    pair.listener.endpoint._links.touch(pair.listener.link(-1))
    pair.flush(pair.listener)
    pair.run(LATENCY)
    assert unheard(pair)
    pair.network = calm
    pair.restart(pair.dialer)
    pair.dial()
    pair.run(2 * REPORT_EVERY)
    assert len(pair.dialer.all(CopyReported)) == 1


@pytest.mark.parametrize("linked", [True, False])
def test_nothing_is_kept_for_a_device_that_is_revoked(linked: bool) -> None:
    pair = linked_pair()
    pair.network = losing(to_the_dialer)
    if not linked:
        pair.do(pair.dialer, Close(1))
        pair.run(MINUTE)
    steal(pair)
    file_id = pair.listener.pairing.file_id
    assert bool(pair.listener.endpoint.links) is linked
    pair.do(pair.listener, Forget(file_id))
    pair.run(MINUTE)
    assert file_id not in pair.listener.endpoint._registry.untold


def test_the_device_that_wins_a_race_for_a_file_hears_that_there_was_another() -> None:
    pair = make_pair()
    copied = first_pairing(pair.publish())
    identity, entropy = config_of("rival").identity, seeded("rival")
    rival = DialAttempt(identity, copied, 0, DEFAULT_LIMITS, b"", entropy).hello
    pair.deliver(rival, to=pair.listener, source=STRANGER)
    pair.dial(copied)
    pair.run(SECOND)
    assert pair.dialer.all(CopyReported) == [CopyReported(0, STRANGER, False, 1, 0)]


def test_a_dialer_reports_nothing_even_if_it_listens_for_the_same_pairing() -> None:
    pair = linked_pair()
    endpoint, file_id = pair.dialer.endpoint, pair.dialer.pairing.file_id
    endpoint._registry.untold.add(file_id, Untold(1, False, STRANGER, pair.now))
    endpoint._links.touch(pair.dialer.link(1))
    pair.flush(pair.dialer)
    pair.run(2 * REPORT_EVERY)
    assert not pair.listener.closed
    assert not pair.listener.all(CopyReported)


def test_a_device_that_reports_copies_to_its_listener_breaks_a_rule() -> None:
    pair, _ = with_copy()
    pair.dialer.transport().send_control(CopyReport(0, True, 1, 0, ELSEWHERE))
    pair.dialer.endpoint._links.touch(pair.dialer.link())
    pair.flush(pair.dialer)
    pair.run(SECOND)
    assert [closed.code for closed in pair.listener.closed] == [CloseCode.FRAME]
    assert not pair.listener.all(CopyReported)
