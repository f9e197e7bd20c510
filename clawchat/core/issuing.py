"""Runs the machine *bootstrap file*: accepts exactly the files that are live.

Rules: a file's pairing is remembered before the file is published, and forgotten when the file is
not live any more, unless a device proved itself with it in time and is being written down.
Left to others: the rows (`core.phases.bootstrap`), who redeems a file (`core.reception`), sealing
and writing it (drivers).
"""

from __future__ import annotations

from typing import Any

from clawchat.core.actions import Publish
from clawchat.core.credential import Address
from clawchat.core.exchange import first_pairing
from clawchat.core.instant import SECOND, Deadline, Instant
from clawchat.core.phases.bootstrap import (
    TABLE,
    FileDue,
    FileRedeemed,
    IssueAsked,
    Issuer,
    IssueStopped,
)
from clawchat.core.reception import Reception
from clawchat.core.registry import Registry
from clawchat.core.table import Signal, Trace
from clawchat.core.timers import Timer


class Issuing:
    """`unix_ns_at_zero` is the wall clock when `now` was 0, for what is written in a file."""

    __slots__ = ("_reception", "_registry", "_trace", "_unix_ns_at_zero", "model")

    def __init__(
        self,
        model: Issuer,
        registry: Registry[Any],
        reception: Reception,
        unix_ns_at_zero: int,
        trace: Trace | None,
    ) -> None:
        self.model = model
        self._registry = registry
        self._reception = reception
        self._unix_ns_at_zero = unix_ns_at_zero
        self._trace = trace

    # --- what makes it run --------------------------------------------------------------------

    def ask(self, candidates: tuple[Address, ...], now: Instant) -> None:
        """The user wants a file that a device can redeem."""
        self._fire(IssueAsked(now, candidates, self._unix_s(now)), now)

    def stop(self, now: Instant) -> None:
        """No file is to be live."""
        self._fire(IssueStopped(now), now)

    def redeemed(self, file_id: bytes, now: Instant) -> None:
        """A device proved itself with this file, and is written down."""
        self._fire(FileRedeemed(now, file_id), now)

    def advance(self, now: Instant) -> None:
        """Issue the next file if it is time."""
        if self.model.due is not None and self.model.due <= now:
            self._fire(FileDue(now, self._unix_s(now)), now)

    @property
    def deadline(self) -> Deadline | None:
        """When the next file is due."""
        due = self.model.due
        return None if due is None else Deadline(due, Timer.BOOTSTRAP.name)

    def _unix_s(self, now: Instant) -> int:
        return (self._unix_ns_at_zero + now) // SECOND

    # --- what it makes happen -----------------------------------------------------------------

    def _fire(self, event: Signal, now: Instant) -> None:
        TABLE.fire(self.model, event, self._trace)
        issued, self.model.out = self.model.out, []
        for action in issued:
            if isinstance(action, Publish):
                self._registry.remember(first_pairing(action.content, dialer=False))
        self._forget_lapsed(now)
        self._registry.out += issued

    def _forget_lapsed(self, now: Instant) -> None:
        for pairing in list(self._registry.pairings.values()):
            file_id = pairing.file_id
            if pairing.peer_static is not None or file_id in self.model.live:
                continue
            if not self._reception.is_saving(file_id):  # then a device proved itself before
                self._reception.forget(file_id, now)
