"""The phase *handshake*, on the side that listens (PROTOCOL.md "Handshake").

A valid HELLO is answered and remembered for a short time; nothing else happens until a transport
packet proves that the dialer is alive and keeps the next generation. So a recorded or forged
HELLO never disturbs a live link.

Rules: the next generation is durable before the dialer's first packet is answered; the older one
is given up when the dialer acknowledges a packet, which it does only after giving it up itself.
Left to others: limits on pending handshakes, and the hints that find them (`core.reception`).
"""

from __future__ import annotations

from enum import Enum, unique
from typing import TypeAlias

from attrs import define, evolve, field, frozen

from clawchat.core.credential import SUPERSEDED_MAX, Credential, Pairing, Superseded
from clawchat.core.phases.commands import Announce, Fail, Save, SendReply
from clawchat.core.table import Origin, Row, Signal, Table
from clawchat.errors import CloseCode


@unique
class Phase(Enum):
    """How far the listener's side of one handshake is."""

    REPLIED = "the HELLO was answered; nothing is proved yet"
    SAVING = "the dialer proved itself; the next generation is being written"
    RUNNING = "the link runs; the dialer may still hold the older generation"
    SETTLED = "both sides keep exactly the next generation"
    LAPSED = "forgotten"


@frozen
class HelloRepeated(Signal):
    """The same HELLO came again."""

    origin = Origin.PEER


@frozen
class DialerProved(Signal):
    """The first authenticated packet came. `pairing` is what is known of this dialer by now."""

    origin = Origin.PEER
    pairing: Pairing


@frozen
class PendingLapsed(Signal):
    """Nobody proved this handshake in time."""

    origin = Origin.TIMER


@frozen
class Displaced(Signal):
    """Another handshake of the same pairing was proved, or took this one's place."""

    origin = Origin.LOCAL


@frozen
class Saved(Signal):
    """The next generation is durable."""

    origin = Origin.LOCAL


@frozen
class SaveFailed(Signal):
    """The next generation could not be written."""

    origin = Origin.LOCAL


@frozen
class DialerSettled(Signal):
    """The dialer acknowledged a packet. `pairing` is what is known of this dialer by now."""

    origin = Origin.PEER
    pairing: Pairing


AnsweringCommand: TypeAlias = Save | SendReply | Announce | Fail


@define
class Answering:
    """The model: one answered HELLO."""

    used: Credential
    next_credential: Credential
    dialer_static: bytes
    phase: Phase = Phase.REPLIED
    out: list[AnsweringCommand] = field(factory=list)


def send_reply(answering: Answering, _event: HelloRepeated) -> None:
    answering.out.append(SendReply())


def save_next_and_used(answering: Answering, event: DialerProved) -> None:
    pairing = evolve(
        event.pairing,
        peer_static=answering.dialer_static,
        credentials=(answering.next_credential, answering.used),
        superseded=superseded_after(
            event.pairing, keep=(answering.next_credential, answering.used)
        ),
    )
    answering.out.append(Save(pairing))


def save_next_alone(answering: Answering, event: DialerSettled) -> None:
    keep = (answering.next_credential,)
    pairing = evolve(
        event.pairing, credentials=keep, superseded=superseded_after(event.pairing, keep=keep)
    )
    answering.out.append(Save(pairing))


def superseded_after(pairing: Pairing, keep: tuple[Credential, ...]) -> tuple[Superseded, ...]:
    """What the pairing's list becomes when only `keep` is still accepted; newest first."""
    kept = {credential.hint for credential in keep}
    gone = tuple(
        Superseded(old.generation, old.hint, old.envelope_key)
        for old in pairing.credentials
        if old.hint not in kept
    )
    return (gone + pairing.superseded)[:SUPERSEDED_MAX]


def announce(answering: Answering, _event: Saved) -> None:
    answering.out.append(Announce())


def fail_store(answering: Answering, _event: SaveFailed) -> None:
    answering.out.append(Fail(CloseCode.STORE, "the credential could not be written"))


TABLE: Table[Answering] = Table(
    name="handshake.listener",
    phases=Phase,
    initial=Phase.REPLIED,
    final=frozenset({Phase.SETTLED, Phase.LAPSED}),
    rows=(
        Row(
            Phase.REPLIED,
            HelloRepeated,
            Phase.REPLIED,
            do=(send_reply,),
            because="the REPLY may have been lost; it costs no public-key operation to repeat",
        ),
        Row(
            Phase.REPLIED,
            DialerProved,
            Phase.SAVING,
            do=(save_next_and_used,),
            because="write-ahead: durable before the packet is answered",
        ),
        Row(Phase.REPLIED, PendingLapsed, Phase.LAPSED),
        Row(
            Phase.REPLIED,
            Displaced,
            Phase.LAPSED,
            because="an older attempt proved later would replace the generation just agreed",
        ),
        Row(Phase.SAVING, Saved, Phase.RUNNING, do=(announce,)),
        Row(Phase.SAVING, SaveFailed, Phase.LAPSED, do=(fail_store,)),
        Row(Phase.SAVING, Displaced, Phase.LAPSED),
        Row(
            Phase.RUNNING,
            DialerSettled,
            Phase.SETTLED,
            do=(save_next_alone,),
            because="from here on, whoever shows the older generation holds a copy",
        ),
        Row(
            Phase.RUNNING,
            Displaced,
            Phase.LAPSED,
            because="the older generation stays accepted: this dialer may still need it",
        ),
    ),
    ignores={
        (Phase.SAVING, HelloRepeated): "the dialer has its REPLY",
        (Phase.RUNNING, HelloRepeated): "the dialer has its REPLY",
        (Phase.SETTLED, HelloRepeated): "the dialer has its REPLY",
        (Phase.SETTLED, Displaced): "the link's own life ends instead",
        (Phase.SETTLED, Saved): "nothing waits for it",
        (Phase.SETTLED, SaveFailed): "the older generation merely stays accepted",
        (Phase.LAPSED, Displaced): "it is forgotten already",
        (Phase.LAPSED, Saved): "the write ended after the handshake did",
        (Phase.LAPSED, SaveFailed): "the write ended after the handshake did",
    },
)
