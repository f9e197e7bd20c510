"""Runs the machine *rotating keys* of one link, and knows when a rotation is due.

Rules: public-key work and every check of a peer's message come before the machine is fired; what
it asks for is done here, on the link's epochs and control stream.
Left to others: the rows (`core.phases.rotating_keys`), the keys (`core.epochs`).
"""

from __future__ import annotations

from typing import assert_never

from clawchat.core.actions import KeysRotated
from clawchat.core.config import WIPE_PROBES, Config, Entropy
from clawchat.core.crypto.xwing import encapsulate
from clawchat.core.instant import Instant
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
    RotationCommand,
    RotationDue,
    WipeDue,
)
from clawchat.core.secret import Secret
from clawchat.core.table import Fired, Signal, Trace
from clawchat.core.timers import Timer
from clawchat.core.transport import Transport
from clawchat.core.wire.control import RatchetMessage, RatchetOffer, RotateRequest
from clawchat.errors import CloseCode, Violation


class Ratchet:
    """The rotation of one link's keys. `timers` is the link's own."""

    __slots__ = (
        "_asked",
        "_config",
        "_dialer",
        "_entropy",
        "_timers",
        "_trace",
        "_transport",
        "model",
    )

    def __init__(
        self,
        root: Secret,
        transport: Transport,
        timers: dict[Timer, Instant],
        *,
        dialer: bool,
        config: Config,
        entropy: Entropy,
        trace: Trace | None,
    ) -> None:
        phase = DialerPhase.STEADY if dialer else ListenerPhase.STEADY
        self.model = Rotation(root, entropy, phase)
        self._dialer = dialer
        self._config = config
        self._entropy = entropy
        self._timers = timers
        self._trace = trace
        self._transport = transport
        self._asked = False  # whether a listener has asked for this epoch's end

    # --- what makes it run --------------------------------------------------------------------

    def start_clock(self, now: Instant) -> None:
        """An epoch begins: it lasts an hour at most."""
        self._timers[Timer.ROTATION] = now + self._latest_ns()

    def ask(self, now: Instant) -> None:
        """The user wants new keys."""
        self._fire(RotationAsked(now), now)

    def due(self, now: Instant) -> None:
        """Time says so: right after the handshake, and hourly."""
        self.start_clock(now)
        self._fire(RotationDue(now), now)

    def look(self, now: Instant) -> None:
        """Traffic and packet count, looked at once a batch."""
        config, epochs = self._config, self._transport.epochs
        full = epochs.current.seal.sealed >= config.rotate_packets
        if not full and not (epochs.carried and now >= epochs.began + config.rotate_traffic_ns):
            return
        if self.model.phase is DialerPhase.STEADY:
            self._fire(RotationDue(now), now)
        elif self.model.phase is ListenerPhase.STEADY and full and not self._asked:
            self._asked = True
            self._fire(RotationDue(now), now)

    def heard_new_epoch(self, now: Instant) -> None:
        """A packet under the newest keys came; only the first of them matters."""
        if self.model.phase in (DialerPhase.SWITCHED, ListenerPhase.ANSWERED):
            self._fire(NewEpochHeard(now), now)

    def wipe_due(self, now: Instant) -> None:
        """Stragglers of the previous epoch have had their time."""
        self._fire(WipeDue(now), now)

    def take(self, message: RatchetMessage, now: Instant) -> None:
        """A message of the peer. Raises `Violation`."""
        if isinstance(message, RotateRequest):
            if not self._dialer:
                raise Violation(CloseCode.KEYS, "only a listener asks for a rotation")
            self._fire(RotationDue(now), now)
            return
        if message.epoch != self.model.epoch + 1:
            raise Violation(CloseCode.KEYS, "a ratchet message for another epoch")
        event: Signal
        try:
            if isinstance(message, RatchetOffer):
                shared, reply = encapsulate(message.public, self._entropy)
                event = OfferArrived(now, message.public, reply, shared)
            else:
                shared = self.model.decapsulate(message.ciphertext)
                event = ReplyArrived(now, message.ciphertext, shared)
        except ValueError as error:
            raise Violation(CloseCode.KEYS, str(error)) from None
        self._fire(event, now)

    def wipe(self) -> None:
        """Forget the root and any open offer."""
        self.model.wipe()

    # --- what it makes happen -----------------------------------------------------------------

    def _fire(self, event: Signal, now: Instant) -> None:
        table = DIALER if self._dialer else LISTENER
        if table.fire(self.model, event, self._trace) is Fired.UNEXPECTED:
            raise Violation(CloseCode.KEYS, f"{type(event).__name__} is not expected now")
        commands, self.model.out = self.model.out, []
        for command in commands:
            self._obey(command, now)

    def _obey(self, command: RotationCommand, now: Instant) -> None:
        transport = self._transport
        match command:
            case SendControl(message):
                transport.send_control(message)
            case InstallEpoch(epoch, root):
                transport.epochs.install(root, epoch)
            case SwitchSending():
                transport.epochs.switch(now)
                transport.probe()
                self._asked = False
                self.start_clock(now)
            case Rotated(epoch, took_ns):
                self._timers[Timer.WIPE] = now + WIPE_PROBES * transport.recovery.pto_ns
                transport.notices.append(KeysRotated(epoch, took_ns))
            case WipePrevious():
                self._timers.pop(Timer.WIPE, None)
                transport.epochs.wipe_previous()
            case _:
                assert_never(command)

    def _latest_ns(self) -> int:
        """A tenth more or less, so that rotations do not tell when a link began."""
        latest = self._config.rotate_latest_ns
        share = int.from_bytes(self._entropy(4), "big") * latest // (5 * 2**32)
        return latest - latest // 10 + share
