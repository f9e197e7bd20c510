"""The ratchet's two tables: one exchange, equal roots, nothing of the old ones left."""

from __future__ import annotations

import pytest

from clawchat.core.crypto.schedule import ratchet_root
from clawchat.core.crypto.xwing import encapsulate
from clawchat.core.instant import SECOND
from clawchat.core.phases.commands import (
    InstallEpoch,
    Rotated,
    SendControl,
    SwitchSending,
    WipePrevious,
)
from clawchat.core.phases.rotating_keys import (
    DIALER,
    LISTENER,
    DialerPhase,
    ListenerPhase,
    NewEpochHeard,
    OfferArrived,
    ReplyArrived,
    Rotation,
    RotationAsked,
    RotationDue,
    WipeDue,
)
from clawchat.core.secret import Secret
from clawchat.core.table import Fired
from clawchat.core.wire.control import RatchetOffer, RatchetReply, RotateRequest
from tests.core.pair import seeded

ROOT = b"\x77" * 32


def dialer() -> Rotation:
    return Rotation(Secret(ROOT), seeded("dialer"), DialerPhase.STEADY)


def listener() -> Rotation:
    return Rotation(Secret(ROOT), seeded("listener"), ListenerPhase.STEADY)


def taken(rotation: Rotation) -> list[object]:
    out, rotation.out = rotation.out, []
    return list(out)


def offer_of(rotation: Rotation, now: int = 0) -> OfferArrived:
    """What the listener makes of the dialer's offer, now on its way."""
    DIALER.fire(rotation, RotationDue(now))
    (command,) = taken(rotation)
    assert isinstance(command, SendControl)
    assert isinstance(command.message, RatchetOffer)
    assert command.message.epoch == rotation.epoch + 1
    shared, reply = encapsulate(command.message.public, seeded("encapsulation"))
    return OfferArrived(now, command.message.public, reply, shared)


def reply_to(rotation: Rotation, offer: OfferArrived, now: int = 0) -> ReplyArrived:
    return ReplyArrived(now, offer.reply, rotation.decapsulate(offer.reply))


def test_one_exchange_gives_both_sides_the_same_new_root() -> None:
    ours, theirs = dialer(), listener()
    before = ours.root, theirs.root
    offer = offer_of(ours)
    LISTENER.fire(theirs, offer)
    DIALER.fire(ours, reply_to(ours, offer))
    assert ours.root == theirs.root
    assert ours.root.reveal() != ROOT
    assert ours.epoch == theirs.epoch == 1
    assert all(root.wiped for root in before)


def test_each_root_comes_from_the_one_before_its_epoch_and_what_was_said() -> None:
    ours, theirs, expected = dialer(), listener(), Secret(ROOT)
    for epoch in (1, 2):
        offer = offer_of(ours)
        expected = ratchet_root(expected, offer.shared, epoch, offer.offer, offer.reply)
        LISTENER.fire(theirs, offer)
        DIALER.fire(ours, reply_to(ours, offer))
        assert ours.root == theirs.root == expected
        for side, table in ((ours, DIALER), (theirs, LISTENER)):
            table.fire(side, NewEpochHeard(0))
            table.fire(side, WipeDue(0))
            taken(side)


def test_the_listener_reads_the_new_epoch_before_it_says_so_and_does_not_send_with_it_yet() -> None:
    theirs = listener()
    LISTENER.fire(theirs, offer_of(dialer(), SECOND))
    install, send = taken(theirs)
    assert install == InstallEpoch(1, theirs.root)
    assert isinstance(send, SendControl)
    assert isinstance(send.message, RatchetReply)
    assert send.message.epoch == 1
    LISTENER.fire(theirs, NewEpochHeard(3 * SECOND))
    assert taken(theirs) == [SwitchSending(), Rotated(1, 2 * SECOND)]


def test_the_dialer_sends_with_the_new_epoch_as_soon_as_the_reply_is_there() -> None:
    ours = dialer()
    offer = offer_of(ours, SECOND)
    DIALER.fire(ours, reply_to(ours, offer, 2 * SECOND))
    assert taken(ours) == [InstallEpoch(1, ours.root), SwitchSending()]
    DIALER.fire(ours, NewEpochHeard(4 * SECOND))
    assert taken(ours) == [Rotated(1, 3 * SECOND)]
    DIALER.fire(ours, WipeDue(5 * SECOND))
    assert taken(ours) == [WipePrevious()]
    assert ours.phase is DialerPhase.STEADY


def test_an_open_offer_is_wiped_when_it_was_answered() -> None:
    ours = dialer()
    offer = offer_of(ours)
    private = ours.private
    assert private is not None
    DIALER.fire(ours, reply_to(ours, offer))
    assert (ours.private, ours.offer) == (None, b"")
    with pytest.raises(ValueError, match="wiped"):
        private.decapsulate(offer.reply)


def test_a_listener_only_asks_and_the_dialer_offers() -> None:
    theirs = listener()
    LISTENER.fire(theirs, RotationDue(0))
    LISTENER.fire(theirs, RotationAsked(0))
    assert taken(theirs) == [SendControl(RotateRequest())] * 2
    assert theirs.phase is ListenerPhase.STEADY


@pytest.mark.parametrize("event", [RotationDue(0), RotationAsked(0)])
def test_before_new_keys_are_used_a_rotation_under_way_serves_another_wish(
    event: RotationDue | RotationAsked,
) -> None:
    ours, theirs = dialer(), listener()
    offer = offer_of(ours)
    assert DIALER.fire(ours, event) is Fired.IGNORED
    LISTENER.fire(theirs, offer)
    taken(theirs)
    assert LISTENER.fire(theirs, event) is Fired.IGNORED
    assert not taken(ours)
    assert not taken(theirs)


def test_a_dialer_that_has_just_changed_its_keys_does_not_change_them_because_time_says_so() -> (
    None
):
    ours = dialer()
    DIALER.fire(ours, reply_to(ours, offer_of(ours)))
    taken(ours)
    assert DIALER.fire(ours, RotationDue(0)) is Fired.IGNORED
    assert not ours.asked


def settling() -> tuple[Rotation, Rotation]:
    """A dialer and a listener that use new keys and still keep the old."""
    ours, theirs = dialer(), listener()
    offer = offer_of(ours)
    LISTENER.fire(theirs, offer)
    DIALER.fire(ours, reply_to(ours, offer))
    DIALER.fire(ours, NewEpochHeard(0))
    LISTENER.fire(theirs, NewEpochHeard(0))
    taken(ours), taken(theirs)
    return ours, theirs


@pytest.mark.parametrize("event", [RotationDue(0), RotationAsked(0)])
def test_a_wish_that_comes_while_old_keys_are_kept_is_met_when_they_are_wiped(
    event: RotationDue | RotationAsked,
) -> None:
    ours, _ = settling()
    DIALER.fire(ours, event)
    DIALER.fire(ours, event)
    assert not taken(ours)
    DIALER.fire(ours, WipeDue(0))
    wiped, offered = taken(ours)
    assert wiped == WipePrevious()
    assert isinstance(offered, SendControl)
    assert ours.phase is DialerPhase.OFFERED
    assert not ours.asked


def test_a_listener_that_still_keeps_old_keys_asks_for_its_user_and_not_for_its_clock() -> None:
    _, theirs = settling()
    assert LISTENER.fire(theirs, RotationDue(0)) is Fired.IGNORED
    LISTENER.fire(theirs, RotationAsked(0))
    assert taken(theirs) == [SendControl(RotateRequest())]


def test_a_listener_that_has_not_settled_wipes_the_old_epoch_when_the_next_offer_comes() -> None:
    ours, theirs = dialer(), listener()
    first = offer_of(ours)
    LISTENER.fire(theirs, first)
    DIALER.fire(ours, reply_to(ours, first))
    for side, table in ((ours, DIALER), (theirs, LISTENER)):
        table.fire(side, NewEpochHeard(0))
        taken(side)
    DIALER.fire(ours, WipeDue(0))
    taken(ours)
    LISTENER.fire(theirs, offer_of(ours))
    commands = taken(theirs)
    assert commands[:2] == [WipePrevious(), InstallEpoch(2, theirs.root)]
    assert theirs.phase is ListenerPhase.ANSWERED


@pytest.mark.parametrize("count", [1, 2])
def test_an_offer_that_nobody_expects_changes_nothing(count: int) -> None:
    theirs = listener()
    offer = offer_of(dialer())
    LISTENER.fire(theirs, offer)
    taken(theirs)
    for _ in range(count):
        assert LISTENER.fire(theirs, offer) is Fired.UNEXPECTED
    assert (theirs.epoch, theirs.out) == (1, [])


def test_a_reply_without_an_offer_is_refused() -> None:
    with pytest.raises(ValueError, match="without an offer"):
        dialer().decapsulate(bytes(1120))


def test_wiping_leaves_neither_root_nor_offer() -> None:
    ours = dialer()
    offer = offer_of(ours)
    private, root = ours.private, ours.root
    ours.wipe()
    assert root.wiped
    assert private is not None
    with pytest.raises(ValueError, match="wiped"):
        private.decapsulate(offer.reply)
    ours.wipe()


def test_no_event_of_the_ratchet_prints_the_shared_secret() -> None:
    shared = b"the shared secret of 32 bytes..."
    assert "shared" not in repr(OfferArrived(0, b"offer", b"reply", shared))
    assert "shared" not in repr(ReplyArrived(0, b"reply", shared))
