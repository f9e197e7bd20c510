"""Copies of credentials that a listener noticed, and of which their device has not heard yet.

Rules: two for each pairing, one by the device's own key and one by other keys. The same again
only counts, so that nothing grows with how often somebody tries.
Left to others: noticing (`core.clones`), saying it over a link (`core.telling`).
"""

from __future__ import annotations

from typing import Final

from attrs import evolve, frozen

from clawchat.core.credential import Address
from clawchat.core.instant import SECOND, Instant
from clawchat.core.wire.control import CopyReport


@frozen
class Untold:
    """`count` uses of a copy, the last of them `at` this time, from `remote`."""

    generation: int
    same_device: bool
    remote: Address
    at: Instant
    count: int = 1

    def report(self, now: Instant) -> CopyReport:
        """How the device is told."""
        seconds = (now - self.at) // SECOND
        return CopyReport(self.generation, self.same_device, self.count, seconds, self.remote)


class Waiting:
    """What is to be said to the devices of one endpoint, by file id."""

    __slots__ = ("_of",)

    def __init__(self) -> None:
        self._of: Final[dict[bytes, dict[bool, Untold]]] = {}

    def __contains__(self, file_id: bytes) -> bool:
        return file_id in self._of

    def add(self, file_id: bytes, untold: Untold) -> None:
        """One more: the latest of its kind is what is told, and how many there were."""
        kinds = self._of.setdefault(file_id, {})
        known = kinds.get(untold.same_device)
        if known is not None:
            latest = max(known, untold, key=lambda each: each.at)
            untold = evolve(latest, count=known.count + untold.count)
        kinds[untold.same_device] = untold

    def take(self, file_id: bytes) -> tuple[Untold, ...]:
        """All that waits for a device; whoever takes it says it."""
        return tuple(self._of.pop(file_id, {}).values())

    def forget(self, file_id: bytes) -> None:
        """There is no such device any more."""
        self._of.pop(file_id, None)
