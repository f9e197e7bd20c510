"""Issuing bootstrap files: how long each may be redeemed, and by how many."""

from __future__ import annotations

from clawchat.core.actions import BootstrapContent, Publish, Withdraw
from clawchat.core.config import BOOTSTRAP_EVERY, BOOTSTRAP_VALID
from clawchat.core.credential import Address
from clawchat.core.instant import MINUTE, Instant
from clawchat.core.phases.bootstrap import (
    TABLE,
    FileDue,
    FileRedeemed,
    IssueAsked,
    Issuer,
    IssueStopped,
    Phase,
)
from clawchat.core.table import Fired
from tests.core.pair import seeded

STATIC = b"s" * 32
HERE = (Address("192.0.2.1", 50000),)
UNIX_S = 1_800_000_000


def issuer() -> Issuer:
    return Issuer(STATIC, seeded("issuer"))


def ask(model: Issuer, now: Instant) -> bytes:
    TABLE.fire(model, IssueAsked(now, HERE, UNIX_S + now // 10**9))
    return published(model).file_id


def renew(model: Issuer, now: Instant) -> bytes:
    TABLE.fire(model, FileDue(now, UNIX_S + now // 10**9))
    return published(model).file_id


def published(model: Issuer) -> BootstrapContent:
    action = model.out[-1]
    assert isinstance(action, Publish)
    return action.content


def test_a_file_says_who_listens_where_and_until_when() -> None:
    model = issuer()
    ask(model, 5 * MINUTE)
    content = published(model)
    assert content.listener_static == STATIC
    assert content.candidates == HERE
    assert content.issued == UNIX_S + 300
    assert content.expires - content.issued == 11 * 60
    assert len(content.secret) == 32
    assert len(content.file_id) == 16


def test_every_file_has_its_own_secret_and_id() -> None:
    model = issuer()
    ask(model, 0)
    first = published(model)
    renew(model, BOOTSTRAP_EVERY)
    second = published(model)
    assert first.secret != second.secret
    assert first.file_id != second.file_id


def test_a_file_is_accepted_for_eleven_minutes_and_not_a_moment_longer() -> None:
    model = issuer()
    file_id = ask(model, 0)
    assert model.accepts(file_id, 0)
    assert model.accepts(file_id, BOOTSTRAP_VALID - 1)
    assert not model.accepts(file_id, BOOTSTRAP_VALID)


def test_a_file_of_somebody_else_is_not_accepted() -> None:
    model = issuer()
    ask(model, 0)
    assert not model.accepts(b"?" * 16, 0)


def test_a_fresh_file_is_due_every_ten_minutes_so_that_two_overlap_for_one() -> None:
    model = issuer()
    first = ask(model, 0)
    assert model.due == BOOTSTRAP_EVERY
    second = renew(model, BOOTSTRAP_EVERY)
    assert model.due == 2 * BOOTSTRAP_EVERY
    assert model.accepts(first, BOOTSTRAP_EVERY + MINUTE - 1)
    assert model.accepts(second, BOOTSTRAP_EVERY + MINUTE - 1)
    assert not model.accepts(first, BOOTSTRAP_EVERY + MINUTE)
    assert model.accepts(second, BOOTSTRAP_EVERY + MINUTE)


def test_never_more_than_two_files_are_live_however_often_the_user_asks() -> None:
    model = issuer()
    files = [ask(model, at * MINUTE) for at in range(5)]
    assert list(model.live) == files[-2:]


def test_an_expired_file_is_forgotten_when_the_next_is_issued() -> None:
    model = issuer()
    ask(model, 0)
    second = ask(model, BOOTSTRAP_VALID)
    assert list(model.live) == [second]
    third = ask(model, 3 * BOOTSTRAP_VALID)  # a machine that slept is late
    assert list(model.live) == [third]


def test_whoever_asks_again_says_anew_where_the_listener_is() -> None:
    elsewhere = (Address("198.51.100.2", 50001),)
    model = issuer()
    file_id = ask(model, 0)
    TABLE.fire(model, IssueAsked(MINUTE, elsewhere, UNIX_S))
    assert published(model).candidates == elsewhere
    TABLE.fire(model, FileRedeemed(MINUTE, published(model).file_id))
    assert ask(model, 2 * MINUTE) != file_id
    assert published(model).candidates == HERE


def test_a_file_that_is_redeemed_after_issuing_stopped_ends_nothing() -> None:
    model = issuer()
    file_id = ask(model, 0)
    TABLE.fire(model, IssueStopped(MINUTE))
    count = len(model.out)
    assert TABLE.fire(model, FileRedeemed(MINUTE, file_id)) is Fired.IGNORED
    assert (model.phase, len(model.out)) == (Phase.CLOSED, count)


def test_a_redeemed_file_ends_all_others_and_nothing_more_is_due() -> None:
    model = issuer()
    first = ask(model, 0)
    second = renew(model, BOOTSTRAP_EVERY)
    TABLE.fire(model, FileRedeemed(BOOTSTRAP_EVERY, second))
    assert model.phase is Phase.SPENT
    assert model.out[-1] == Withdraw()
    assert model.due is None
    assert not model.accepts(first, BOOTSTRAP_EVERY)
    assert not model.accepts(second, BOOTSTRAP_EVERY)


def test_two_files_redeemed_at_once_end_issuing_once() -> None:
    model = issuer()
    first = ask(model, 0)
    second = renew(model, BOOTSTRAP_EVERY)
    TABLE.fire(model, FileRedeemed(BOOTSTRAP_EVERY, first))
    count = len(model.out)
    assert TABLE.fire(model, FileRedeemed(BOOTSTRAP_EVERY, second)) is Fired.IGNORED
    assert len(model.out) == count


def test_a_withdrawn_file_is_not_accepted() -> None:
    model = issuer()
    file_id = ask(model, 0)
    TABLE.fire(model, IssueStopped(MINUTE))
    assert model.phase is Phase.CLOSED
    assert model.out[-1] == Withdraw()
    assert not model.accepts(file_id, MINUTE)
    assert model.due is None


def test_stopping_when_nothing_is_published_withdraws_nothing() -> None:
    model = issuer()
    assert TABLE.fire(model, IssueStopped(0)) is Fired.IGNORED
    assert not model.out
    file_id = ask(model, 0)
    TABLE.fire(model, FileRedeemed(0, file_id))
    model.out.clear()
    TABLE.fire(model, IssueStopped(0))
    assert not model.out
