"""The phase *bootstrap file*, on the side that issues them (PROTOCOL.md "Bootstrap file").

A fresh file replaces the published one every ten minutes until one is redeemed; then none is
published until the user asks again. Validity is enforced here, by the issuer's monotonic clock.

Rules: at most two files are live; a redeemed file ends all others.
Left to others: sealing and writing the file (driver), accepting its credential (`core.issuing`).
"""

from __future__ import annotations

from enum import Enum, unique

from attrs import define, field, frozen

from clawchat.core.actions import BootstrapContent, Publish, Withdraw
from clawchat.core.config import BOOTSTRAP_EVERY, BOOTSTRAP_VALID, Entropy
from clawchat.core.credential import FILE_ID_SIZE, Address
from clawchat.core.instant import SECOND, Instant
from clawchat.core.secret import Secret
from clawchat.core.table import Origin, Row, Signal, Table

SECRET_SIZE = 32


@unique
class Phase(Enum):
    """Where issuing stands."""

    CLOSED = "no file is issued"
    OPEN = "a file is published and renewed"
    SPENT = "a file was redeemed; the next is issued when the user asks"


@frozen
class IssueAsked(Signal):
    """The user wants a file that a device can redeem."""

    origin = Origin.LOCAL
    candidates: tuple[Address, ...]
    unix_s: int


@frozen
class IssueStopped(Signal):
    """The user wants no file to be live."""

    origin = Origin.LOCAL


@frozen
class FileDue(Signal):
    """The published file is ten minutes old."""

    origin = Origin.TIMER
    unix_s: int


@frozen
class FileRedeemed(Signal):
    """A device proved itself with a live file."""

    origin = Origin.PEER
    file_id: bytes


@define
class Issuer:
    """The model: which files are live, and until when."""

    listener_static: bytes
    entropy: Entropy
    phase: Phase = Phase.CLOSED
    candidates: tuple[Address, ...] = ()
    live: dict[bytes, Instant] = field(factory=dict)
    due: Instant | None = None
    out: list[Publish | Withdraw] = field(factory=list)

    def accepts(self, file_id: bytes, now: Instant) -> bool:
        """Whether a file of ours may still be redeemed."""
        return now < self.live.get(file_id, now)

    def retire_expired(self, now: Instant) -> None:
        """Forget files whose time is over."""
        self.live = {file_id: until for file_id, until in self.live.items() if now < until}


def take_candidates(issuer: Issuer, event: IssueAsked) -> None:
    issuer.candidates = event.candidates


def issue_file(issuer: Issuer, event: IssueAsked | FileDue) -> None:
    issuer.retire_expired(event.now)
    content = BootstrapContent(
        listener_static=issuer.listener_static,
        secret=Secret(issuer.entropy(SECRET_SIZE)),
        file_id=issuer.entropy(FILE_ID_SIZE),
        candidates=issuer.candidates,
        issued=event.unix_s,
        expires=event.unix_s + BOOTSTRAP_VALID // SECOND,
    )
    while len(issuer.live) > 1:  # asked for again early: the oldest makes room
        del issuer.live[next(iter(issuer.live))]
    issuer.live[content.file_id] = event.now + BOOTSTRAP_VALID
    issuer.due = event.now + BOOTSTRAP_EVERY
    issuer.out.append(Publish(content))


def withdraw(issuer: Issuer, _event: Signal) -> None:
    issuer.live.clear()
    issuer.due = None
    issuer.out.append(Withdraw())


TABLE: Table[Issuer] = Table(
    name="bootstrap",
    phases=Phase,
    initial=Phase.CLOSED,
    final=frozenset(),
    rows=(
        Row(Phase.CLOSED, IssueAsked, Phase.OPEN, do=(take_candidates, issue_file)),
        Row(Phase.OPEN, IssueAsked, Phase.OPEN, do=(take_candidates, issue_file)),
        Row(
            Phase.OPEN,
            FileDue,
            Phase.OPEN,
            do=(issue_file,),
            because="a file that leaks later is worth nothing",
        ),
        Row(
            Phase.OPEN,
            FileRedeemed,
            Phase.SPENT,
            do=(withdraw,),
            because="one file, one device: a second redeemer is an attacker or a mistake",
        ),
        Row(Phase.OPEN, IssueStopped, Phase.CLOSED, do=(withdraw,)),
        Row(Phase.SPENT, IssueAsked, Phase.OPEN, do=(take_candidates, issue_file)),
        Row(Phase.SPENT, IssueStopped, Phase.CLOSED),
    ),
    ignores={
        (Phase.CLOSED, IssueStopped): "nothing is issued already",
        (Phase.CLOSED, FileRedeemed): "its HELLO was answered before issuing stopped",
        (Phase.SPENT, FileRedeemed): "its HELLO was answered before the other file was redeemed",
    },
)
