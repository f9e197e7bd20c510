"""The phase *handshake*, on the side that dials (PROTOCOL.md "Handshake").

The HELLO is sent, byte for byte the same, on every path until a REPLY verifies. Then the next
generation is made durable *before* the first transport packet, and the older one is given up
only after the listener has proved that it keeps the next one too: a crash between any two steps
leaves a pair that can still meet.

Rules: effects only append commands; the exchange of messages was verified before it came here.
Left to others: cryptography (`core.exchange`), timers and packets (`core.link`).
"""

from __future__ import annotations

from enum import Enum, unique
from typing import Final, TypeAlias

from attrs import define, evolve, field, frozen

from clawchat.core.config import HELLO_FIRST, HELLO_MAX, HELLO_TURN
from clawchat.core.credential import Credential, Pairing
from clawchat.core.instant import Instant
from clawchat.core.phases.commands import Announce, Fail, Save, SendHello, StartAttempt
from clawchat.core.table import Origin, Row, Signal, Table
from clawchat.errors import CloseCode

# Why a dial lapsed: a driver guesses no further at a cause that is known.
UNANSWERED: Final = "no answer from the listener"
SLOW_DISK: Final = "the credential was not written in time: is this disk stuck?"
FORSAKEN: Final = "the listener answered the call and nothing after it"
FORSAKEN_WHY: Final = (
    "it has just ended, or it cannot write what it must keep, on a full disk say; what it says "
    "itself tells which"
)


@unique
class Phase(Enum):
    """How far the dialer's handshake is."""

    CALLING = "the HELLO is being sent"
    SAVING = "the REPLY verified; the next generation is being written"
    PROVING = "our packets prove that we keep the next generation; the listener's are awaited"
    DROPPING = "the listener proved that it keeps it too; the older generation is being dropped"
    UP = "both sides keep exactly the next generation"
    FAILED = "no link"


@frozen
class HelloDue(Signal):
    """No REPLY came in time."""

    origin = Origin.TIMER


@frozen
class DialLapsed(Signal):
    """The whole dial took too long."""

    origin = Origin.TIMER


@frozen
class ReplyVerified(Signal):
    """The listener answered; `next_credential` is what both sides derived."""

    origin = Origin.PEER
    next_credential: Credential


@frozen
class Refused(Signal):
    """The listener has seen a newer generation than the one we called with."""

    origin = Origin.PEER
    cookie: bytes


@frozen
class Saved(Signal):
    """What we asked to be written is durable."""

    origin = Origin.LOCAL


@frozen
class SaveFailed(Signal):
    """What we asked to be written could not be."""

    origin = Origin.LOCAL


@frozen
class PeerProved(Signal):
    """The first authenticated packet of the listener came."""

    origin = Origin.PEER


@frozen
class GivenUp(Signal):
    """The application no longer wants the link."""

    origin = Origin.LOCAL


DialingCommand: TypeAlias = Save | SendHello | StartAttempt | Announce | Fail


@define
class Dialing:
    """The model. `turn` is the index of the credential the current attempt uses."""

    pairing: Pairing
    phase: Phase = Phase.CALLING
    turn: int = 0
    hellos: int = 0
    retry_ns: int = HELLO_FIRST
    cookie: bytes = b""
    hello_at: Instant | None = None  # when the next HELLO is due
    called_at: Instant = 0  # when the last one left
    out: list[DialingCommand] = field(factory=list)


def the_other_has_its_turn(dialing: Dialing, _event: Signal) -> bool:
    return len(dialing.pairing.credentials) > 1 and dialing.hellos >= HELLO_TURN


def was_refused_before(dialing: Dialing, _event: Signal) -> bool:
    return bool(dialing.cookie)


def repeat_hello(dialing: Dialing, event: Signal) -> None:
    dialing.hellos += 1
    dialing.called_at = event.now
    dialing.hello_at = event.now + dialing.retry_ns
    dialing.retry_ns = min(2 * dialing.retry_ns, HELLO_MAX)
    dialing.out.append(SendHello())


def try_the_other(dialing: Dialing, event: Signal) -> None:
    dialing.turn = 1 - dialing.turn
    dialing.cookie = b""  # it was for the one before
    _start(dialing, event)


def answer_refusal(dialing: Dialing, event: Refused) -> None:
    dialing.cookie = event.cookie
    dialing.retry_ns = HELLO_FIRST
    _start(dialing, event)


def _start(dialing: Dialing, event: Signal) -> None:
    dialing.hellos = 0
    dialing.out.append(StartAttempt(dialing.turn, dialing.cookie))
    repeat_hello(dialing, event)


def save_next_and_used(dialing: Dialing, event: ReplyVerified) -> None:
    used = dialing.pairing.credentials[dialing.turn]
    dialing.pairing = evolve(dialing.pairing, credentials=(event.next_credential, used))
    dialing.hello_at = None
    dialing.out.append(Save(dialing.pairing))


def save_next_alone(dialing: Dialing, _event: PeerProved) -> None:
    dialing.pairing = evolve(dialing.pairing, credentials=dialing.pairing.credentials[:1])
    dialing.out.append(Save(dialing.pairing))


def announce(dialing: Dialing, _event: Saved) -> None:
    dialing.out.append(Announce())


def fail_unanswered(dialing: Dialing, _event: DialLapsed) -> None:
    dialing.hello_at = None
    dialing.out.append(Fail(CloseCode.TIMEOUT, UNANSWERED))


def fail_slow_disk(dialing: Dialing, _event: DialLapsed) -> None:
    dialing.out.append(Fail(CloseCode.TIMEOUT, SLOW_DISK))


def fail_forsaken(dialing: Dialing, _event: DialLapsed) -> None:
    dialing.out.append(
        Fail(
            CloseCode.TIMEOUT,
            f"{FORSAKEN}: {FORSAKEN_WHY}",
        )
    )


def fail_superseded(dialing: Dialing, _event: Refused) -> None:
    dialing.hello_at = None
    dialing.out.append(
        Fail(CloseCode.SUPERSEDED, "the listener knows a newer generation of this credential")
    )


def fail_store(dialing: Dialing, _event: SaveFailed) -> None:
    dialing.out.append(Fail(CloseCode.STORE, "the credential could not be written"))


def stop_calling(dialing: Dialing, _event: GivenUp) -> None:
    dialing.hello_at = None


TABLE: Table[Dialing] = Table(
    name="handshake.dialer",
    phases=Phase,
    initial=Phase.CALLING,
    final=frozenset({Phase.UP, Phase.FAILED}),
    rows=(
        Row(
            Phase.CALLING,
            HelloDue,
            Phase.CALLING,
            do=(repeat_hello,),
            unless=(the_other_has_its_turn,),
            because="the HELLO is also the punch probe: the same bytes, cheap to answer again",
        ),
        Row(
            Phase.CALLING,
            HelloDue,
            Phase.CALLING,
            do=(try_the_other,),
            when=(the_other_has_its_turn,),
            because="after a crash we cannot know which generation the listener kept",
        ),
        Row(
            Phase.CALLING,
            ReplyVerified,
            Phase.SAVING,
            do=(save_next_and_used,),
            because="write-ahead: durable before the packet that proves it",
        ),
        Row(
            Phase.CALLING,
            Refused,
            Phase.CALLING,
            do=(answer_refusal,),
            unless=(was_refused_before,),
            because="the cookie proves to the listener that this attempt is no replay",
        ),
        Row(
            Phase.CALLING,
            Refused,
            Phase.FAILED,
            do=(fail_superseded,),
            when=(was_refused_before,),
        ),
        Row(Phase.CALLING, DialLapsed, Phase.FAILED, do=(fail_unanswered,)),
        Row(Phase.CALLING, GivenUp, Phase.FAILED, do=(stop_calling,)),
        Row(Phase.SAVING, Saved, Phase.PROVING, do=(announce,)),
        Row(Phase.SAVING, SaveFailed, Phase.FAILED, do=(fail_store,)),
        Row(Phase.SAVING, DialLapsed, Phase.FAILED, do=(fail_slow_disk,)),
        Row(Phase.SAVING, GivenUp, Phase.FAILED),
        Row(
            Phase.PROVING,
            PeerProved,
            Phase.DROPPING,
            do=(save_next_alone,),
            because="the listener answers only after it has written the next generation",
        ),
        Row(Phase.PROVING, DialLapsed, Phase.FAILED, do=(fail_forsaken,)),
        Row(Phase.PROVING, GivenUp, Phase.FAILED),
        Row(
            Phase.DROPPING,
            Saved,
            Phase.UP,
            because="only now is the listener's packet acknowledged, "
            "which tells it that the older generation is gone",
        ),
        Row(Phase.DROPPING, SaveFailed, Phase.FAILED, do=(fail_store,)),
        Row(Phase.DROPPING, GivenUp, Phase.FAILED),
    ),
    ignores={
        (Phase.DROPPING, DialLapsed): "the listener has answered",
        (Phase.UP, GivenUp): "the handshake is over; the link's own life ends instead",
        (Phase.FAILED, GivenUp): "there is nothing to give up",
        (Phase.FAILED, Saved): "the write ended after the dial did",
        (Phase.FAILED, SaveFailed): "the write ended after the dial did",
    },
)
