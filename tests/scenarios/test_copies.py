"""Copies of credentials and old backups, in virtual worlds: who is let in, and who is told.

PROTOCOL.md 7: the right device is never locked out by a copy that comes later, a copy never gets in
once its original moved on, both users learn of it, on the link that is up as well, and who has
nothing of use meets silence.
"""

from __future__ import annotations

from random import Random

import pytest

from clawchat.core.actions import BootstrapContent, CopyReported, CredentialReused
from clawchat.core.credential import Address, Pairing
from clawchat.core.crypto.envelope import ENVELOPE_SIZES
from clawchat.core.crypto.suite import public_key
from clawchat.core.exchange import first_pairing
from clawchat.core.instant import HOUR, MILLISECOND, MINUTE, SECOND
from clawchat.drivers.simulator.host import Host
from clawchat.drivers.simulator.network import Conditions, Parcel
from clawchat.drivers.simulator.simulation import LISTENER
from clawchat.drivers.simulator.workload import Caller, Talk
from clawchat.errors import CloseCode
from tests.scenarios.pairs import Pair, make_pair

ELSEWHERE = Address("10.0.2.1", 40_000)


def with_copies(seed: str) -> Pair:
    """A pair in whose world somebody will use what is not theirs."""
    pair = make_pair(seed)
    pair.world.watch.clones = True
    return pair


def another(pair: Pair, pairing: Pairing, *, identity: bytes | None = None) -> tuple[Host, Caller]:
    """One more host, which dials with `pairing`; it is not started yet."""
    seed = pair.world.seed
    caller = Caller(ledger=pair.world.ledger, rng=Random(f"another/{seed}"), listener=LISTENER)
    caller.pairing = pairing
    host = pair.world.host("another", ELSEWHERE, caller)
    if identity is not None:
        host.identity = identity
    return host, caller


def file_of(pair: Pair) -> list[BootstrapContent]:
    """The bootstrap files, as they are published."""
    found: list[BootstrapContent] = []
    hand_over = pair.answerer.on_file
    assert hand_over is not None

    def both(host: Host, content: BootstrapContent | None) -> None:
        if content is not None:
            found.append(content)
        hand_over(host, content)

    pair.answerer.on_file = both
    return found


def kept(host: Host) -> dict[bytes, Pairing]:
    """What a backup of its disk holds."""
    return {file_id: pairing.own() for file_id, pairing in host.disk.kept.items()}


def move_on(pair: Pair, times: int = 1) -> Talk:
    """The device links again, and both sides give the older generation up."""
    for _ in range(times):
        pair.dialer.kill()
        pair.dialer.start()
        pair.world.run(SECOND)
        pair.link()
        pair.rest()
    talk = pair.linked()
    assert talk is not None
    return talk


def closes(caller: Caller) -> list[CloseCode]:
    return [closed.code for closed in caller.closes]


def only_report(pair: Pair) -> CredentialReused:
    (report,) = pair.answerer.reports
    return report


def only_warning(pair: Pair, caller: Caller | None = None) -> CopyReported:
    """What the device hears over its link; it says what was reported to the listener's user."""
    caller = caller or pair.caller
    assert pair.world.run_until(lambda: bool(caller.warned), 90 * SECOND)
    (warning,), report = caller.warned, pair.answerer.reports[-1]
    assert (warning.generation, warning.same_device) == (report.generation, report.same_device)
    assert warning.remote == report.path.remote
    return warning


def refused(pair: Pair, caller: Caller) -> None:
    """Run until the holder of a copy is told so, and dials no more."""
    told = pair.world.run_until(lambda: CloseCode.SUPERSEDED in closes(caller), 30 * SECOND)
    assert told, closes(caller)
    caller.wants_link = False
    pair.world.run(5 * SECOND)
    assert not caller.talks


def test_the_second_holder_of_a_redeemed_file_is_refused_and_both_users_learn_it() -> None:
    pair = with_copies("second holder")
    published = file_of(pair)
    talk = pair.link()
    pair.rest()
    second, caller = another(pair, first_pairing(published[0]))
    second.start()
    refused(pair, caller)
    report = only_report(pair)
    assert (report.generation, report.same_device) == (0, False)
    assert report.static == public_key(second.identity)
    assert report.path.remote == ELSEWHERE
    assert only_warning(pair).count == 1
    assert not caller.warned
    assert pair.linked() is talk


def test_a_copy_of_a_device_is_refused_once_the_device_has_moved_on() -> None:
    pair = with_copies("copy")
    pair.link()
    pair.rest()
    (copied,) = kept(pair.dialer).values()
    talk = move_on(pair)
    thief, caller = another(pair, copied, identity=pair.dialer.identity)
    thief.start()
    refused(pair, caller)
    report = only_report(pair)
    assert (report.generation, report.same_device) == (1, True)
    assert only_warning(pair).count == 1
    assert pair.linked() is talk


def test_a_copy_that_was_used_while_the_device_was_off_is_told_when_it_links_again() -> None:
    pair = with_copies("off meanwhile")
    pair.link()
    pair.rest()
    (copied,) = kept(pair.dialer).values()
    move_on(pair)
    pair.dialer.kill()
    thief, caller = another(pair, copied, identity=pair.dialer.identity)
    thief.start()
    refused(pair, caller)
    pair.world.run(HOUR)
    pair.dialer.start()
    pair.link()
    warning = only_warning(pair)
    assert warning.count == 1
    assert HOUR <= warning.ago_ns < HOUR + MINUTE


def test_a_link_ends_unheard_and_a_thief_goes_on_and_the_device_hears_all_of_it() -> None:
    pair = with_copies("goes on")
    pair.link()
    pair.rest()
    (copied,) = kept(pair.dialer).values()
    move_on(pair)
    pair.shape(Conditions(cut=True))
    thief, caller = another(pair, copied, identity=pair.dialer.identity)
    thief.start()
    used = pair.world.run_until(lambda: len(pair.answerer.reports) > 2, HOUR)
    assert used, "a host that dials again by itself, as it should not"
    caller.wants_link = False
    pair.world.run(5 * SECOND)
    uses = len(pair.answerer.reports)
    pair.dialer.kill()
    pair.shape(Conditions(latency_ns=10 * MILLISECOND))
    pair.dialer.start()
    pair.link()
    assert only_warning(pair).count == uses


def test_when_the_copy_comes_first_the_device_is_refused_and_so_its_user_learns_it() -> None:
    pair = with_copies("thief first")
    pair.link()
    pair.rest()
    (copied,) = kept(pair.dialer).values()
    pair.dialer.kill()
    thief, theft = another(pair, copied, identity=pair.dialer.identity)
    thief.start()
    assert pair.world.run_until(lambda: bool(theft.talks), 30 * SECOND)
    pair.world.run(5 * SECOND)
    pair.dialer.start()
    refused(pair, pair.caller)
    report = only_report(pair)
    assert report.path.remote == pair.dialer.address
    assert report.same_device
    assert theft.talks, "a report alone ends no link: the person decides"
    assert only_warning(pair, theft).remote == pair.dialer.address, "the listener cannot know"
    assert not pair.caller.warned


@pytest.mark.parametrize("links", [1, 5])
def test_a_device_restored_from_an_old_backup_is_told_so(links: int) -> None:
    pair = with_copies(f"old backup {links}")
    pair.link()
    pair.rest()
    backup = kept(pair.dialer)
    move_on(pair, links)
    pair.dialer.kill()
    pair.dialer.disk.kept = backup
    pair.dialer.start()
    refused(pair, pair.caller)
    report = only_report(pair)
    assert (report.generation, report.same_device) == (1, True)


def test_a_backup_older_than_what_a_listener_remembers_meets_silence() -> None:
    pair = with_copies("very old backup")
    pair.link()
    pair.rest()
    backup = kept(pair.dialer)
    move_on(pair, 18)
    pair.dialer.kill()
    pair.dialer.disk.kept = backup
    said = answers(pair)
    pair.dialer.start()
    timed_out = pair.world.run_until(lambda: CloseCode.TIMEOUT in closes(pair.caller), 60 * SECOND)
    assert timed_out
    assert not pair.answerer.reports
    assert not said


def answers(pair: Pair) -> list[Parcel]:
    """The listener's envelopes from now on; packets of links that it still has are none."""
    said: list[Parcel] = []

    def tap(parcel: Parcel) -> None:
        if parcel.source == LISTENER and len(parcel.data) in ENVELOPE_SIZES:
            said.append(parcel)

    pair.world.network.taps.append(tap)
    return said


def test_a_listener_restored_from_an_old_backup_is_silent_and_a_new_file_is_the_way_out() -> None:
    """It cannot tell its device from a stranger any more."""
    pair = with_copies("listener's backup")
    pair.link()
    pair.rest()
    backup = kept(pair.listener)
    move_on(pair, 3)
    pair.listener.kill()
    pair.dialer.kill()
    pair.world.run(SECOND)
    pair.listener.disk.kept = backup
    said = answers(pair)
    pair.start_listener()
    pair.dialer.start()
    timed_out = pair.world.run_until(lambda: CloseCode.TIMEOUT in closes(pair.caller), 60 * SECOND)
    assert timed_out
    assert not said
    assert not pair.answerer.reports
    pair.caller.pairing = None
    pair.publish()
    pair.link(60 * SECOND)
    assert len(kept(pair.listener)) == 2, "the person has the old one to revoke"


def test_a_backup_from_just_before_the_last_link_still_works_on_either_side() -> None:
    """As after a power cut: one step behind is what write-ahead is for."""
    for who in ("dialer", "listener"):
        pair = make_pair(f"fresh backup {who}")
        pair.link()
        pair.rest()
        host = pair.dialer if who == "dialer" else pair.listener
        cut = Conditions(cut=True)
        pair.dialer.kill()
        pair.dialer.start()
        assert pair.world.run_until(lambda p=pair: bool(p.caller.talks), 5 * SECOND)  # type: ignore[misc]
        backup = kept(host)
        pair.shape(cut)
        pair.world.run(SECOND)
        for side in (pair.listener, pair.dialer):
            side.kill()
        host.disk.kept = backup
        pair.shape(Conditions(latency_ns=10 * MILLISECOND))
        pair.start_listener()
        pair.dialer.start()
        pair.link(60 * SECOND)
        assert not pair.answerer.reports


@pytest.mark.parametrize("head_start_ms", [0, 5, 15, 25, 45])
def test_of_two_holders_of_one_file_that_race_one_wins_and_both_users_learn_it(
    head_start_ms: int,
) -> None:
    pair = with_copies(f"race {head_start_ms}")
    published = file_of(pair)
    pair.dialer.kill()  # it would be invited at once
    pair.caller.pairing = None
    assert pair.world.run_until(lambda: bool(published), SECOND)
    file = first_pairing(published[0])
    pair.caller.pairing = file
    second, caller = another(pair, file)
    pair.dialer.start()
    pair.world.run(head_start_ms * MILLISECOND)
    second.start()
    rivals = {
        public_key(host.identity): app
        for host, app in zip((pair.dialer, second), (pair.caller, caller), strict=True)
    }
    told = pair.world.run_until(lambda: bool(pair.answerer.reports), 60 * SECOND)
    assert told
    report = pair.answerer.reports[0]
    assert (report.generation, report.same_device) == (0, False)
    loser = rivals.pop(report.static)
    (winner,) = rivals.values()
    told = pair.world.run_until(lambda: CloseCode.SUPERSEDED in closes(loser), 60 * SECOND)
    assert told, closes(loser)
    loser.wants_link = False
    pair.world.run(5 * SECOND)
    assert all(other.static == report.static for other in pair.answerer.reports)
    (talk,) = winner.talks.values()
    pair.world.run(2 * MINUTE)
    assert not loser.warned
    assert sum(told.count for told in winner.warned) == len(pair.answerer.reports)
    assert not any(told.generation or told.same_device for told in winner.warned)
    assert [end.hash for end in pair.answerer.talks.values()] == [talk.hash]
    assert not loser.talks
