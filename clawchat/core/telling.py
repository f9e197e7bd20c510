"""Copies of a device's credential: what its listener says over the link, and what it hears.

Whoever sits at the device learns it there. It is said once and kept until it is acknowledged: the
next link of the device says it again when this one ended before that.

Rules: once a minute at most, and nothing before the last is acknowledged, so that a thief who
tries often fills neither the link nor our memory. Nothing else comes of a report, on either side.
Left to others: what waits to be said (`core.untold`), when this is looked at (`core.upkeep`).
"""

from __future__ import annotations

from typing import Any

from clawchat.core.actions import CopyReported
from clawchat.core.config import REPORT_EVERY
from clawchat.core.instant import SECOND, Instant
from clawchat.core.registry import Registry
from clawchat.core.timers import Timer
from clawchat.core.transport import Transport
from clawchat.core.untold import Untold
from clawchat.core.wire.control import CopyReport
from clawchat.errors import CloseCode, Violation


class Telling:
    """Of one link. `timers` is the link's own."""

    __slots__ = ("_dialer", "_file_id", "_registry", "_said", "_timers", "_transport")

    def __init__(
        self,
        file_id: bytes,
        transport: Transport,
        timers: dict[Timer, Instant],
        registry: Registry[Any],
        *,
        dialer: bool,
    ) -> None:
        self._file_id = file_id
        self._transport = transport
        self._timers = timers
        self._registry = registry
        self._dialer = dialer
        self._said: tuple[Untold, ...] = ()  # and not known to be acknowledged

    def look(self, now: Instant) -> None:
        """Once a batch: say what waits."""
        waiting = self._registry.untold
        if self._file_id not in waiting or self._dialer or Timer.REPORT in self._timers:
            return
        self._said = waiting.take(self._file_id)
        for untold in self._said:
            self._transport.send_control(untold.report(now))
        self._timers[Timer.REPORT] = now + REPORT_EVERY

    def due(self, now: Instant) -> None:
        """A minute after something was said: if it was heard, there may be more."""
        if self._transport.streams.control_unheard:
            self._timers[Timer.REPORT] = now + REPORT_EVERY
        else:
            self._said = ()

    def over(self) -> None:
        """The link ends: what may not have been heard waits for the next one of the device."""
        said, self._said = self._said, ()
        if self._transport.streams.control_unheard and self._file_id in self._registry.pairings:
            for untold in said:
                self._registry.untold.add(self._file_id, untold)

    def take(self, message: CopyReport) -> None:
        """The listener says so. Raises `Violation`."""
        if not self._dialer:
            raise Violation(CloseCode.FRAME, "only a listener reports copies")
        self._transport.notices.append(
            CopyReported(
                message.generation,
                message.remote,
                message.same_device,
                message.count,
                message.seconds * SECOND,
            )
        )
