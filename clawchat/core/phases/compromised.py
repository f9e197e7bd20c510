"""The phase *compromised*: a pairing is destroyed, for good (PROTOCOL.md "Compromised").

Whoever declares it destroys at once all that outlives the link, and keeps packet keys only to tell
the peer, for ten seconds at most. Whoever is told seals a few acknowledgements, and then has no
key either. DESTROYED is absorbing: no event leads out of it.

Rules: what reaches this table was authenticated; effects only append commands.
Left to others: what there is to destroy (`core.undoing`, `core.destruction`), files (drivers).
"""

from __future__ import annotations

from enum import Enum, unique
from typing import TypeAlias

from attrs import define, field, frozen

from clawchat.core.config import ECHOES
from clawchat.core.phases.commands import (
    DestroyKept,
    GiveReceipt,
    SealEchoes,
    SendDeclaration,
    SendEcho,
    WipePackets,
)
from clawchat.core.table import Origin, Row, Signal, Table
from clawchat.errors import CompromiseReason


@unique
class Phase(Enum):
    """How much of a pairing is left."""

    SAFE = "nobody declared anything"
    DECLARING = "packet keys alone are left, to tell the peer and to hear that it obeys"
    ECHOING = "no key is left; acknowledgements that were sealed before go out one by one"
    DESTROYED = "nothing is left, and nothing leads out of here"


@frozen
class Declared(Signal):
    """This side wants the pairing destroyed. `peer_can_hear`: there are keys that it shares."""

    origin = Origin.LOCAL
    reason: CompromiseReason
    everything: bool
    peer_can_hear: bool


@frozen
class PeerDeclared(Signal):
    """COMPROMISED came."""

    origin = Origin.PEER
    reason: CompromiseReason
    everything: bool


@frozen
class PeerObeyed(Signal):
    """COMPROMISED_ACK came."""

    origin = Origin.PEER


@frozen
class SayAgain(Signal):
    """The last COMPROMISED or COMPROMISED_ACK may have been lost."""

    origin = Origin.TIMER


@frozen
class PatienceOver(Signal):
    """Ten seconds went by without an answer."""

    origin = Origin.TIMER


CompromiseCommand: TypeAlias = (
    DestroyKept | SendDeclaration | SealEchoes | SendEcho | WipePackets | GiveReceipt
)


@define
class Compromise:
    """The model: one pairing, as one link knows it. `echoes` are left to be sent."""

    phase: Phase = Phase.SAFE
    reason: CompromiseReason = CompromiseReason.UNSPECIFIED
    everything: bool = False
    by_peer: bool = False
    told: bool = False
    confirmed: bool = False
    echoes: int = 0
    out: list[CompromiseCommand] = field(factory=list)


def peer_can_hear(_compromise: Compromise, event: Declared) -> bool:
    return event.peer_can_hear


def echoes_are_left(compromise: Compromise, _event: SayAgain) -> bool:
    return compromise.echoes > 0


def destroy_kept(compromise: Compromise, event: Declared | PeerDeclared) -> None:
    compromise.reason, compromise.everything = event.reason, event.everything
    compromise.out.append(DestroyKept())


def send_declaration(compromise: Compromise, _event: Signal) -> None:
    compromise.told = True
    compromise.out.append(SendDeclaration())


def note_peers_word(compromise: Compromise, _event: PeerDeclared) -> None:
    compromise.by_peer = compromise.told = compromise.confirmed = True


def note_confirmed(compromise: Compromise, _event: Signal) -> None:
    compromise.confirmed = True


def seal_echoes(compromise: Compromise, _event: PeerDeclared) -> None:
    compromise.echoes = ECHOES
    compromise.out.append(SealEchoes())


def send_echo(compromise: Compromise, _event: Signal) -> None:
    compromise.echoes -= 1
    compromise.out.append(SendEcho())


def wipe_packets(compromise: Compromise, _event: Signal) -> None:
    compromise.out.append(WipePackets())


def give_receipt(compromise: Compromise, _event: Signal) -> None:
    compromise.out.append(GiveReceipt())


TABLE: Table[Compromise] = Table(
    name="compromised",
    phases=Phase,
    initial=Phase.SAFE,
    final=frozenset({Phase.DESTROYED}),
    rows=(
        Row(
            Phase.SAFE,
            Declared,
            Phase.DECLARING,
            do=(destroy_kept, send_declaration),
            when=(peer_can_hear,),
            because="what is stored goes first: a process killed while it waits has destroyed it",
        ),
        Row(
            Phase.SAFE,
            Declared,
            Phase.DESTROYED,
            do=(destroy_kept, wipe_packets, give_receipt),
            unless=(peer_can_hear,),
            because="there is nobody to tell; the peer will meet silence",
        ),
        Row(
            Phase.SAFE,
            PeerDeclared,
            Phase.ECHOING,
            do=(
                destroy_kept,
                note_peers_word,
                seal_echoes,
                wipe_packets,
                give_receipt,
                send_echo,
            ),
            because="acknowledgements sealed now can be repeated later without keeping a key",
        ),
        Row(
            Phase.DECLARING,
            SayAgain,
            Phase.DECLARING,
            do=(send_declaration,),
            because="it, or its acknowledgement, may have been lost",
        ),
        Row(
            Phase.DECLARING,
            PeerObeyed,
            Phase.DESTROYED,
            do=(note_confirmed, wipe_packets, give_receipt),
        ),
        Row(
            Phase.DECLARING,
            PeerDeclared,
            Phase.ECHOING,
            do=(note_confirmed, seal_echoes, wipe_packets, give_receipt, send_echo),
            because="both declared at once: each obeys, and takes the other's word as its answer",
        ),
        Row(
            Phase.DECLARING,
            PatienceOver,
            Phase.DESTROYED,
            do=(wipe_packets, give_receipt),
            because="the user wants the keys gone more than the peer's confirmation",
        ),
        Row(
            Phase.ECHOING,
            SayAgain,
            Phase.ECHOING,
            do=(send_echo,),
            when=(echoes_are_left,),
        ),
        Row(
            Phase.ECHOING,
            SayAgain,
            Phase.DESTROYED,
            unless=(echoes_are_left,),
        ),
    ),
)
