"""The cells of one link: packets of one size for its shaped streams, with data or without.

Rules: cells keep to the congestion window and to what an unproved address may be sent, and rest
while the peer answers nothing; they are never more than the beat says.
Left to others: the beat itself (`streams.beat`), what a cell says (`core.payloads`).
"""

from __future__ import annotations

from typing import Final

from clawchat.core.actions import Transmit
from clawchat.core.instant import Instant
from clawchat.core.outbound import Outbound
from clawchat.core.paths import Paths
from clawchat.core.payloads import Payloads
from clawchat.core.recovery.recovery import Recovery
from clawchat.core.streams.beat import CELL, Beat
from clawchat.core.timers import Timer

BEAT_PROBES_MAX: Final = 2  # unanswered probe timeouts after which cells wait for the peer


class Cells:
    """Sends them on `beat`."""

    __slots__ = ("_outbound", "_paths", "_payloads", "_recovery", "beat")

    def __init__(
        self, paths: Paths, payloads: Payloads, outbound: Outbound, recovery: Recovery
    ) -> None:
        self._paths = paths
        self._payloads = payloads
        self._outbound = outbound
        self._recovery = recovery
        self.beat = Beat()

    def pack(self, out: list[Transmit], stop: int, now: Instant) -> None:
        """Those that are due, up to packet number `stop`."""
        beat, recovery = self.beat, self._recovery
        waiting = self._payloads.cells_waiting()
        if beat.at is None:
            if not waiting:
                return
            beat.begin(now)
        if beat.at is not None and beat.at <= now and recovery.pto_count < BEAT_PROBES_MAX:
            streams = self._payloads.streams
            beat.strike(now, waiting, ended=streams.shaped_ended, settled=streams.shaped_settled)
        while self._is_due and self._outbound.packets_sent < stop:
            if recovery.room(now) < CELL or not self._paths.active.may_send(CELL):
                break
            payload, items, _ = self._payloads.cell(now)
            self._outbound.send(out, [payload], now, items=items)
            beat.sent()

    @property
    def _is_due(self) -> bool:
        """A probe of a burst is a cell as well."""
        return bool(self.beat.owed or (self._recovery.probes and self.beat.at is not None))

    def next_timer(self) -> tuple[Instant, Timer] | None:
        """When cells may leave; None while they rest, or wait for the peer."""
        if self.beat.at is None or self._recovery.pto_count >= BEAT_PROBES_MAX:
            return None
        if not self.beat.owed:
            return self.beat.at, Timer.BEAT
        at = self._recovery.room_at if self._paths.active.may_send(CELL) else None
        return None if at is None else (at, Timer.PACING)
