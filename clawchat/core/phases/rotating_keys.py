"""The phase *rotating keys*: the X-Wing ratchet (PROTOCOL.md "Key ratchet").

The dialer offers, the listener answers; there is no glare because only one side offers. The old
epoch stays readable until stragglers have had their time, so no packet is lost or delayed.

Rules: at most one previous, one current and one next epoch exist; what arrives here was already
checked for its epoch and length.
Left to others: when a rotation is due, and carrying the messages (`core.ratchet`).
"""

from __future__ import annotations

from enum import Enum, unique
from typing import TypeAlias

from attrs import define, field, frozen

from clawchat.core.config import Entropy
from clawchat.core.crypto.schedule import ratchet_root
from clawchat.core.crypto.xwing import XWingPrivate, keypair
from clawchat.core.instant import Instant
from clawchat.core.phases.commands import (
    InstallEpoch,
    Rotated,
    SendControl,
    SwitchSending,
    WipePrevious,
)
from clawchat.core.secret import Secret
from clawchat.core.table import Origin, Row, Signal, Table
from clawchat.core.wire.control import RatchetOffer, RatchetReply, RotateRequest

SEED_SIZE = 32


@unique
class DialerPhase(Enum):
    """The side that offers."""

    STEADY = "one epoch, or the stragglers of the last are over"
    OFFERED = "our key is on its way"
    SWITCHED = "we send with the next epoch; the listener's first packet in it is awaited"
    SETTLING = "both sides use the new epoch; the old one is kept for stragglers"


@unique
class ListenerPhase(Enum):
    """The side that answers."""

    STEADY = "one epoch, or the stragglers of the last are over"
    ANSWERED = "the next epoch is readable; the dialer's first packet in it is awaited"
    SETTLING = "both sides use the new epoch; the old one is kept for stragglers"


@frozen
class RotationDue(Signal):
    """Time, traffic or the packet count says so, or the peer asked."""

    origin = Origin.TIMER


@frozen
class RotationAsked(Signal):
    """The user says so."""

    origin = Origin.LOCAL


@frozen
class OfferArrived(Signal):
    """The dialer's X-Wing key, valid and for the epoch after ours."""

    origin = Origin.PEER
    offer: bytes
    reply: bytes
    shared: bytes = field(repr=False)


@frozen
class ReplyArrived(Signal):
    """The listener's ciphertext, for the epoch that we offered."""

    origin = Origin.PEER
    reply: bytes
    shared: bytes = field(repr=False)


@frozen
class NewEpochHeard(Signal):
    """The first packet sealed with the next epoch came."""

    origin = Origin.PEER


@frozen
class WipeDue(Signal):
    """Stragglers have had their time."""

    origin = Origin.TIMER


RotationCommand: TypeAlias = SendControl | InstallEpoch | SwitchSending | WipePrevious | Rotated


@define
class Rotation:
    """The model of either side. `root` belongs to the newest epoch that both sides know of."""

    root: Secret
    entropy: Entropy
    phase: DialerPhase | ListenerPhase
    epoch: int = 0
    private: XWingPrivate | None = None
    offer: bytes = b""
    began: Instant = 0
    asked: bool = False  # whether one more rotation follows as soon as this one has settled
    out: list[RotationCommand] = field(factory=list)

    def wipe(self) -> None:
        """Forget every secret of this machine."""
        self.root.wipe()
        self._forget_offer()

    def _forget_offer(self) -> None:
        if self.private is not None:
            self.private.wipe()
        self.private = None
        self.offer = b""

    def decapsulate(self, ciphertext: bytes) -> bytes:
        """The secret that the listener chose. Raises `ValueError` when there is no open offer."""
        if self.private is None:
            raise ValueError("a ratchet reply without an offer")
        return self.private.decapsulate(ciphertext)

    def advance_root(self, shared: bytes, offer: bytes, reply: bytes) -> None:
        """Take the next root; the one before it is wiped at once: it has no further use."""
        root = ratchet_root(self.root, shared, self.epoch + 1, offer, reply)
        self.root.wipe()
        self._forget_offer()
        self.root = root
        self.epoch += 1
        self.out.append(InstallEpoch(self.epoch, root))


def make_offer(rotation: Rotation, event: Signal) -> None:
    rotation.private, rotation.offer = keypair(rotation.entropy(SEED_SIZE))
    rotation.began = event.now
    rotation.asked = False
    rotation.out.append(SendControl(RatchetOffer(rotation.epoch + 1, rotation.offer)))


def note_request(rotation: Rotation, _event: Signal) -> None:
    rotation.asked = True


def another_was_asked_for(rotation: Rotation, _event: Signal) -> bool:
    return rotation.asked


def ask_dialer(rotation: Rotation, _event: Signal) -> None:
    rotation.out.append(SendControl(RotateRequest()))


def answer_offer(rotation: Rotation, event: OfferArrived) -> None:
    rotation.began = event.now
    rotation.advance_root(event.shared, event.offer, event.reply)
    rotation.out.append(SendControl(RatchetReply(rotation.epoch, event.reply)))


def take_reply(rotation: Rotation, event: ReplyArrived) -> None:
    rotation.advance_root(event.shared, rotation.offer, event.reply)


def switch_sending(rotation: Rotation, _event: Signal) -> None:
    rotation.out.append(SwitchSending())


def report_rotated(rotation: Rotation, event: NewEpochHeard) -> None:
    rotation.out.append(Rotated(rotation.epoch, event.now - rotation.began))


def wipe_previous(rotation: Rotation, _event: Signal) -> None:
    rotation.out.append(WipePrevious())


D = DialerPhase
DIALER: Table[Rotation] = Table(
    name="rotating.keys.dialer",
    phases=DialerPhase,
    initial=D.STEADY,
    final=frozenset(),
    rows=(
        Row(D.STEADY, RotationDue, D.OFFERED, do=(make_offer,)),
        Row(D.STEADY, RotationAsked, D.OFFERED, do=(make_offer,)),
        Row(
            D.OFFERED,
            ReplyArrived,
            D.SWITCHED,
            do=(take_reply, switch_sending),
            because="the listener could read the next epoch before it replied",
        ),
        Row(D.SWITCHED, NewEpochHeard, D.SETTLING, do=(report_rotated,)),
        Row(
            D.SWITCHED,
            RotationAsked,
            D.SWITCHED,
            do=(note_request,),
            because="the keys that the user wants replaced are these, not those before",
        ),
        Row(D.SETTLING, RotationAsked, D.SETTLING, do=(note_request,)),
        Row(
            D.SETTLING,
            RotationDue,
            D.SETTLING,
            do=(note_request,),
            because="the listener asks once, and at most one previous epoch is kept: it must wait",
        ),
        Row(D.SETTLING, WipeDue, D.STEADY, do=(wipe_previous,), unless=(another_was_asked_for,)),
        Row(
            D.SETTLING,
            WipeDue,
            D.OFFERED,
            do=(wipe_previous, make_offer),
            when=(another_was_asked_for,),
        ),
    ),
    ignores={
        (D.OFFERED, RotationDue): "the rotation that is under way replaces the keys in use",
        (D.OFFERED, RotationAsked): "the rotation that is under way replaces the keys in use",
        (D.SWITCHED, RotationDue): "the keys have just been replaced; a listener that has used "
        "the new ones, and asks again, is heard using them first",
    },
)

L = ListenerPhase
LISTENER: Table[Rotation] = Table(
    name="rotating.keys.listener",
    phases=ListenerPhase,
    initial=L.STEADY,
    final=frozenset(),
    rows=(
        Row(
            L.STEADY,
            RotationDue,
            L.STEADY,
            do=(ask_dialer,),
            because="only the dialer offers, so two offers never cross",
        ),
        Row(L.STEADY, RotationAsked, L.STEADY, do=(ask_dialer,)),
        Row(L.STEADY, OfferArrived, L.ANSWERED, do=(answer_offer,)),
        Row(
            L.ANSWERED,
            NewEpochHeard,
            L.SETTLING,
            do=(switch_sending, report_rotated),
            because="the dialer has the keys: it just used them",
        ),
        Row(L.SETTLING, WipeDue, L.STEADY, do=(wipe_previous,)),
        Row(
            L.SETTLING,
            RotationAsked,
            L.SETTLING,
            do=(ask_dialer,),
            because="the dialer offers when it has settled",
        ),
        Row(
            L.SETTLING,
            OfferArrived,
            L.ANSWERED,
            do=(wipe_previous, answer_offer),
            because="the dialer settled first, so nothing of the old epoch is on its way",
        ),
    ),
    ignores={
        (L.ANSWERED, RotationDue): "the rotation that is under way replaces the keys in use",
        (L.ANSWERED, RotationAsked): "the rotation that is under way replaces the keys in use",
        (L.SETTLING, RotationDue): "the keys have just been replaced",
    },
)
