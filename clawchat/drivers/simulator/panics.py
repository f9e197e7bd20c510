"""Panics in simulated worlds: somebody declares a pairing compromised, at the worst moment.

What must hold then (PROTOCOL.md "Compromised"): destroyed is absorbing, and leaves no live key. A
`PanicWatch` stands beside the other watch and looks after every turn of every host.

Rules: like the other invariants it changes nothing; what it may look at is in `shoulder`.
Left to others: when to panic (tests, campaigns).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from attrs import define, field

from clawchat.core.actions import (
    Action,
    Compromised,
    Destroy,
    Established,
    Notify,
    Persist,
    Receipt,
)
from clawchat.core.config import DECLARING_LASTS
from clawchat.core.events import DeclareCompromised, Event
from clawchat.core.instant import SECOND
from clawchat.drivers.simulator.host import Host
from clawchat.drivers.simulator.invariants import require
from clawchat.drivers.simulator.network import Parcel
from clawchat.drivers.simulator.shoulder import keys_left
from clawchat.errors import CompromiseReason, LocalError


def panic(host: Host, file_id: bytes, *, everything: bool = False) -> bool:
    """The user of `host` declares a pairing compromised; False when that is no longer possible."""
    if host.endpoint is None or not host.running:
        return False
    try:
        host.do(DeclareCompromised(file_id, CompromiseReason.USER, everything))
    except LocalError:
        return False
    return True


@define(slots=False)
class PanicWatch:
    """Watches hosts for what was destroyed. Keys are (host, file id)."""

    on_destroyed: Callable[[], None] = lambda: None
    receipts: dict[tuple[str, bytes], list[Receipt]] = field(factory=dict)
    _received: set[tuple[str, int, int]] = field(factory=set)  # host, life, link
    _doomed_at: dict[tuple[str, int, bytes], int] = field(factory=dict)

    def acting(self, host: Host, action: Action) -> None:
        match action:
            case Destroy(file_id):
                self._doomed_at[host.name, host.incarnation, file_id] = host.timeline.now
                self.on_destroyed()
            case Persist(_, _, pairing):
                self._forbid(host, pairing.file_id, "is written")
            case Notify(_, Established() as notice):
                self._forbid(host, notice.file_id, "is used for a link")
            case Notify(link, Compromised(receipt)):
                self._received.add((host.name, host.incarnation, link))
                self.receipts.setdefault((host.name, receipt.file_id), []).append(receipt)

    def _forbid(self, host: Host, file_id: bytes, what: str) -> None:
        known = (host.name, host.incarnation, file_id) in self._doomed_at
        require(
            not known and file_id not in host.disk.destroyed,
            f"{host.name}: a pairing that was destroyed {what}",
        )

    def woke(self, host: Host) -> None:
        """No stored pairing, no credential, root or hint; packet keys for ten seconds at most."""
        assert host.endpoint is not None
        now = host.timeline.now
        for (name, life, file_id), at in self._doomed_at.items():
            if (name, life) != (host.name, host.incarnation):
                continue
            credentials, packets = keys_left(host.endpoint, file_id)
            require(not credentials, f"{host.name}: {credentials} of a destroyed pairing")
            late = now - at > DECLARING_LASTS + SECOND
            require(not (packets and late), f"{host.name}: packet keys of a destroyed pairing")
            for link in packets:  # a receipt speaks for its link
                given = (name, life, link) in self._received
                require(not given, f"{host.name}: packet keys after the receipt")
        for file_id in host.disk.destroyed:
            require(file_id not in host.disk.kept, f"{host.name}: destroyed, and kept")

    # --- what else a watcher is told ----------------------------------------------------------

    def handling(self, host: Host, event: Event, parcels: list[Parcel]) -> None:
        """Nothing is looked at here."""

    def handled(self, host: Host, event: Event, parcels: list[Parcel]) -> None:
        """Nothing is looked at here."""

    def acted(self, host: Host, action: Action) -> None:
        """Nothing is looked at here."""

    def sent(self, host: Host, parcels: list[Parcel]) -> None:
        """Nothing is looked at here."""

    def changed(self, host: Host, what: str) -> None:
        """Nothing is looked at here."""

    def traced(self, host: Host, table: str, source: Enum, event: str, dest: Enum) -> None:
        """Nothing is looked at here."""
