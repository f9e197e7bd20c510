"""Runs the machine *compromised* for one link, or for a pairing that has none.

Rules: what would outlive the link goes before the peer is told; a receipt is given when not one
key is left. Acknowledgements are sealed all at once, so that repeating them takes no key.
Left to others: the rows (`core.phases.compromised`), what else the endpoint keeps of a pairing
(`Registry.destroy`), files (drivers).
"""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol, assert_never

from attrs import evolve

from clawchat.core.actions import Compromised, Kept, Notify, Receipt, Transmit
from clawchat.core.config import DECLARING_LASTS, DECLARING_MAX, DECLARING_MIN, ECHOES
from clawchat.core.instant import Instant
from clawchat.core.paths import Way
from clawchat.core.phases.commands import (
    DestroyKept,
    GiveReceipt,
    SealEchoes,
    SendDeclaration,
    SendEcho,
    WipePackets,
)
from clawchat.core.phases.compromised import (
    TABLE,
    Compromise,
    CompromiseCommand,
    Declared,
    PatienceOver,
    PeerDeclared,
    PeerObeyed,
    Phase,
    SayAgain,
)
from clawchat.core.registry import Registry
from clawchat.core.table import Signal, Trace
from clawchat.core.timers import Timer
from clawchat.core.transport import Transport
from clawchat.core.wire import frames
from clawchat.errors import CompromiseReason


class Doomed(Protocol):
    """What a link lets be done to it."""

    id: int
    transport: Transport | None
    timers: dict[Timer, Instant]

    @property
    def ways(self) -> tuple[Way, ...]:
        """Where the peer may be: the way in use first."""

    def let_go(self, now: Instant) -> Kept:
        """Wipe all but the packet keys; what that was."""

    def end(self, by_peer: bool, now: Instant) -> None:
        """Tell the application that the link is over, and forget the rest."""


class Undoing:
    """The destruction of one pairing, over one link or over none."""

    __slots__ = (
        "_echoes",
        "_epochs",
        "_file_id",
        "_kept",
        "_link",
        "_pause",
        "_registry",
        "_trace",
        "model",
    )

    def __init__(
        self, file_id: bytes, link: Doomed | None, registry: Registry[Any], trace: Trace | None
    ) -> None:
        self.model = Compromise()
        self._file_id = file_id
        self._link = link
        self._registry = registry
        self._trace = trace
        self._kept = Kept()
        self._epochs: tuple[int, ...] = ()
        self._echoes: deque[Transmit] = deque()
        self._pause: Instant = DECLARING_MIN

    # --- what makes it run --------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """Whether nothing is left to be said either."""
        return self.model.phase is Phase.DESTROYED

    def declare(
        self, reason: CompromiseReason, everything: bool, peer_can_hear: bool, now: Instant
    ) -> None:
        """This side wants it."""
        self._fire(Declared(now, reason, everything, peer_can_hear), now)

    def peer_declared(self, reason: CompromiseReason, everything: bool, now: Instant) -> None:
        """The peer wants it."""
        self._fire(PeerDeclared(now, reason, everything), now)

    def peer_obeyed(self, now: Instant) -> None:
        """The peer answered."""
        self._fire(PeerObeyed(now), now)

    def say_again(self, now: Instant) -> None:
        """The time since the last word is over."""
        self._fire(SayAgain(now), now)

    def patience_over(self, now: Instant) -> None:
        """The peer had its time."""
        self._fire(PatienceOver(now), now)

    # --- what it makes happen -----------------------------------------------------------------

    def _fire(self, event: Signal, now: Instant) -> None:
        TABLE.fire(self.model, event, self._trace)
        commands, self.model.out = self.model.out, []
        for command in commands:
            self._obey(command, now)

    def _obey(self, command: CompromiseCommand, now: Instant) -> None:
        match command:
            case DestroyKept():
                self._destroy_kept(now)
            case SendDeclaration():
                self._send_declaration(now)
            case SealEchoes():
                self._seal_echoes()
            case SendEcho():
                self._send_echo(now)
            case WipePackets():
                self._wipe_packets()
            case GiveReceipt():
                self._give_receipt(now)
            case _:
                assert_never(command)

    def _destroy_kept(self, now: Instant) -> None:
        model, link = self.model, self._link
        held = Kept() if link is None else link.let_go(now)
        kept = self._registry.destroy(self._file_id, model.reason, model.everything, now)
        both = {*held.generations, *kept.generations}
        self._kept = evolve(
            kept,
            generations=tuple(sorted(both, reverse=True)),
            pinned_key=held.pinned_key or kept.pinned_key,
        )

    def _send_declaration(self, now: Instant) -> None:
        link = self._link
        assert link is not None
        assert link.transport is not None
        self._pause = _pause(link.transport)
        link.timers.setdefault(Timer.WIPING, now + DECLARING_LASTS)
        link.timers[Timer.DECLARING] = now + self._pause
        scope = frames.SCOPE_EVERYTHING if self.model.everything else 0
        payload = frames.encode_compromised(self.model.reason, scope)
        for way in link.ways:
            self._registry.out += link.transport.outbound.last_words(way, [payload])

    def _seal_echoes(self) -> None:
        link = self._link
        assert link is not None
        assert link.transport is not None
        self._pause = _pause(link.transport)
        echoes = [frames.COMPROMISED_ACK] * ECHOES
        self._echoes.extend(link.transport.outbound.last_words(link.transport.paths.active, echoes))

    def _send_echo(self, now: Instant) -> None:
        link = self._link
        assert link is not None
        if self._echoes:
            self._registry.out.append(self._echoes.popleft())
        link.timers[Timer.DECLARING] = now + self._pause
        self._pause = min(2 * self._pause, DECLARING_MAX)

    def _wipe_packets(self) -> None:
        link = self._link
        if link is None or link.transport is None:
            return
        self._epochs = link.transport.epochs.numbers
        link.transport.epochs.wipe()
        link.transport = None
        link.timers.clear()

    def _give_receipt(self, now: Instant) -> None:
        model, link = self.model, self._link
        receipt = Receipt(
            file_id=self._file_id,
            reason=model.reason,
            everything=model.everything,
            by_peer=model.by_peer,
            told=model.told,
            confirmed=model.confirmed,
            kept=self._kept,
            epochs=self._epochs,
        )
        self._registry.out.append(Notify(0 if link is None else link.id, Compromised(receipt)))
        if link is not None:
            link.end(model.by_peer, now)


def _pause(transport: Transport) -> Instant:
    """A probe timeout, within bounds."""
    return min(max(transport.recovery.pto_ns, DECLARING_MIN), DECLARING_MAX)
