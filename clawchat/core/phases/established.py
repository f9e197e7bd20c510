"""The phase *established*: the life of a link from its handshake to its end.

Rules: a data or ACK frame never fires here; `Heard` is fired only where it changes something.
Left to others: which paths there are, and the move to another (`core.paths`, `core.link`).
"""

from __future__ import annotations

from enum import Enum, unique
from typing import TypeAlias

from attrs import define, field, frozen

from clawchat.core.phases.commands import (
    AskForPort,
    ProbePaths,
    Report,
    ReportRestored,
    ReportSuspect,
    SendClose,
    StopAsking,
)
from clawchat.core.table import Origin, Row, Signal, Table
from clawchat.errors import CloseCode


@unique
class Phase(Enum):
    """Whether a link can be used."""

    STARTING = "the handshake is not far enough to carry data"
    LIVE = "data flows"
    SUSPECT = "probes are unanswered; every known path is being probed, with all keys kept"
    ASLEEP = "the dialer was lost; its keys are kept until it comes back, nothing is sent"
    CLOSING = "the link is over; packets in flight are answered with CLOSE"
    CLOSED = "gone"


@frozen
class Begun(Signal):
    """The handshake has come far enough."""

    origin = Origin.LOCAL


@frozen
class HandshakeFailed(Signal):
    """It will not come far enough."""

    origin = Origin.LOCAL
    code: CloseCode
    text: str


@frozen
class ProbesUnanswered(Signal):
    """The peer answers nothing (17.2)."""

    origin = Origin.TIMER


@frozen
class Disturbed(Signal):
    """The network changed or the machine woke up."""

    origin = Origin.LOCAL


@frozen
class ProbeDue(Signal):
    """The paths of a suspect link are due for another probe."""

    origin = Origin.TIMER


@frozen
class HopDue(Signal):
    """A dialer's path has been suspect for long."""

    origin = Origin.TIMER


@frozen
class AsleepDue(Signal):
    """A listener's path has been suspect for very long."""

    origin = Origin.TIMER


@frozen
class Heard(Signal):
    """An authenticated packet came while that matters."""

    origin = Origin.PEER


@frozen
class SilenceDue(Signal):
    """Nothing authenticated came for too long."""

    origin = Origin.TIMER


@frozen
class CloseAsked(Signal):
    """This side wants the link to end."""

    origin = Origin.LOCAL
    code: CloseCode
    text: str


@frozen
class Violated(Signal):
    """The peer broke a rule."""

    origin = Origin.PEER
    code: CloseCode
    text: str


@frozen
class PeerClosed(Signal):
    """The peer said CLOSE."""

    origin = Origin.PEER
    code: CloseCode
    text: str


@frozen
class ClosingOver(Signal):
    """Packets in flight have had their time."""

    origin = Origin.TIMER


@frozen
class Destroyed(Signal):
    """The pairing was declared compromised: not one key is left."""

    origin = Origin.LOCAL
    by_peer: bool


RoamingCommand: TypeAlias = ReportSuspect | ProbePaths | AskForPort | StopAsking | ReportRestored
LifeCommand: TypeAlias = SendClose | Report | RoamingCommand


@define
class Life:
    """The model. `code` and `text` are what a CLOSE says."""

    phase: Phase = Phase.STARTING
    code: CloseCode = CloseCode.DONE
    text: str = ""
    out: list[LifeCommand] = field(factory=list)


def report_own(life: Life, event: CloseAsked | Violated | HandshakeFailed) -> None:
    life.code, life.text = event.code, event.text
    life.out.append(Report(event.code, event.text, by_peer=False))


def report_peers(life: Life, event: PeerClosed) -> None:
    life.out.append(Report(event.code, event.text, by_peer=True))


def report_silence(life: Life, _event: SilenceDue) -> None:
    life.out.append(Report(CloseCode.TIMEOUT, "nothing came from the peer", by_peer=False))


def probe_paths(life: Life, _event: Signal) -> None:
    life.out.append(ProbePaths())


def report_suspect(life: Life, _event: Signal) -> None:
    life.out.append(ReportSuspect())


def report_restored(life: Life, _event: Heard) -> None:
    life.out.append(ReportRestored())


def stop_asking(life: Life, _event: AsleepDue) -> None:
    life.out.append(StopAsking())


def ask_for_port(life: Life, _event: HopDue) -> None:
    life.out.append(AskForPort())


def report_destroyed(life: Life, event: Destroyed) -> None:
    life.out.append(
        Report(CloseCode.COMPROMISED, "this pairing was declared compromised", event.by_peer)
    )


def send_close(life: Life, _event: Signal) -> None:
    life.out.append(SendClose())


TABLE: Table[Life] = Table(
    name="established",
    phases=Phase,
    initial=Phase.STARTING,
    final=frozenset({Phase.CLOSED}),
    rows=(
        Row(Phase.STARTING, Begun, Phase.LIVE),
        Row(Phase.STARTING, HandshakeFailed, Phase.CLOSED, do=(report_own,)),
        Row(
            Phase.STARTING,
            CloseAsked,
            Phase.CLOSED,
            do=(report_own,),
            because="nothing was proved to the peer yet: there is nobody to tell",
        ),
        Row(Phase.LIVE, HandshakeFailed, Phase.CLOSED, do=(report_own,)),
        Row(Phase.SUSPECT, HandshakeFailed, Phase.CLOSED, do=(report_own,)),
        Row(Phase.LIVE, ProbesUnanswered, Phase.SUSPECT, do=(report_suspect, probe_paths)),
        Row(
            Phase.LIVE,
            Disturbed,
            Phase.LIVE,
            do=(probe_paths,),
            because="the peer learns our new address from the probe, before anything is missed",
        ),
        Row(Phase.SUSPECT, Disturbed, Phase.SUSPECT, do=(probe_paths,)),
        Row(Phase.SUSPECT, ProbeDue, Phase.SUSPECT, do=(probe_paths,)),
        Row(
            Phase.SUSPECT,
            HopDue,
            Phase.SUSPECT,
            do=(ask_for_port,),
            because="a NAT may have lost its mapping for the old port for good",
        ),
        Row(
            Phase.SUSPECT,
            AsleepDue,
            Phase.ASLEEP,
            do=(stop_asking,),
            because="a listener cannot call: whoever moved or slept will, and finds its keys",
        ),
        Row(Phase.SUSPECT, Heard, Phase.LIVE, do=(report_restored,)),
        Row(Phase.ASLEEP, Heard, Phase.LIVE, do=(report_restored,)),
        Row(Phase.ASLEEP, Disturbed, Phase.SUSPECT, do=(probe_paths,)),
        Row(Phase.ASLEEP, SilenceDue, Phase.CLOSED, do=(report_silence,)),
        Row(Phase.ASLEEP, CloseAsked, Phase.CLOSING, do=(report_own, send_close)),
        Row(Phase.ASLEEP, Violated, Phase.CLOSING, do=(report_own, send_close)),
        Row(Phase.LIVE, SilenceDue, Phase.CLOSED, do=(report_silence,)),
        Row(Phase.SUSPECT, SilenceDue, Phase.CLOSED, do=(report_silence,)),
        Row(Phase.LIVE, CloseAsked, Phase.CLOSING, do=(report_own, send_close)),
        Row(Phase.SUSPECT, CloseAsked, Phase.CLOSING, do=(report_own, send_close)),
        Row(Phase.LIVE, Violated, Phase.CLOSING, do=(report_own, send_close)),
        Row(
            Phase.SUSPECT,
            Violated,
            Phase.CLOSING,
            do=(report_own, send_close),
            because="the first packet after a silence may be the one that breaks a rule",
        ),
        Row(Phase.LIVE, PeerClosed, Phase.CLOSED, do=(report_peers,)),
        Row(
            Phase.SUSPECT,
            PeerClosed,
            Phase.CLOSED,
            do=(report_peers,),
            because="it may have come while a credential was being written",
        ),
        Row(
            Phase.CLOSING,
            Heard,
            Phase.CLOSING,
            do=(send_close,),
            because="our CLOSE was lost, or this was in flight; either way it is the answer",
        ),
        Row(Phase.STARTING, Destroyed, Phase.CLOSED, do=(report_destroyed,)),
        Row(Phase.LIVE, Destroyed, Phase.CLOSED, do=(report_destroyed,)),
        Row(Phase.SUSPECT, Destroyed, Phase.CLOSED, do=(report_destroyed,)),
        Row(Phase.ASLEEP, Destroyed, Phase.CLOSED, do=(report_destroyed,)),
        Row(
            Phase.CLOSING,
            Destroyed,
            Phase.CLOSED,
            because="its end was reported before, and there is nobody left to tell",
        ),
        Row(Phase.CLOSING, PeerClosed, Phase.CLOSED),
        Row(Phase.CLOSING, ClosingOver, Phase.CLOSED),
    ),
    ignores={
        (Phase.STARTING, Disturbed): "the HELLO goes on as it is",
        (Phase.CLOSING, Disturbed): "it is closing",
        (Phase.CLOSED, Disturbed): "it is closed",
        (Phase.CLOSING, CloseAsked): "it is closing",
        (Phase.CLOSED, CloseAsked): "it is closed",
        (Phase.CLOSED, HandshakeFailed): "it is closed",
        (Phase.CLOSING, HandshakeFailed): "it is closing",
    },
)
