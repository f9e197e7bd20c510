"""When each link is to be looked at: a heap whose entries may be out of date.

A busy link puts its deadline off with every packet. Its entry stays where it is, since looking too
early is harmless; an entry that was outlived is passed over when its turn comes.

Rules: a link is looked at once, at the earliest instant that it asked for since it was looked at
last. Entries out of date are cleared away before they far outnumber the others.
Left to others: what is due (`core.link`), and the doing (`core.links`).
"""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heappop, heappush
from typing import Final, Generic, TypeVar

from clawchat.core.instant import Deadline, Instant
from clawchat.core.timers import Timer

L = TypeVar("L", bound=Hashable)

SPARE: Final = 256  # entries that may be out of date, beside two for each link


class Agenda(Generic[L]):
    """Of each link: the instant that it asked for, and why."""

    __slots__ = ("_asked", "_entered", "_heap")

    def __init__(self) -> None:
        self._asked: dict[L, Deadline] = {}
        self._heap: list[tuple[Instant, int, L]] = []
        self._entered = 0  # so that links are never compared

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def deadline(self) -> Deadline | None:
        """When the next link is due, and why."""
        heap = self._heap
        while heap and not self._counts(heap[0]):
            heappop(heap)
        return self._asked[heap[0][2]] if heap else None

    def enter(self, link: L, at: Instant, why: Timer) -> None:
        """Look at it then, unless it is to be looked at before that anyway."""
        asked = self._asked.get(link)
        if asked is not None and asked.at <= at:
            return
        self._asked[link] = Deadline(at, why.name)
        self._entered += 1
        heappush(self._heap, (at, self._entered, link))
        if len(self._heap) > SPARE + 2 * len(self._asked):
            self._clear()

    def take(self, now: Instant) -> L | None:
        """The next link that is due by `now`, if any; it has to enter again."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            entry = heappop(heap)
            if self._counts(entry):
                del self._asked[entry[2]]
                return entry[2]
        return None

    def drop(self, link: L) -> None:
        """It is not to be looked at any more."""
        self._asked.pop(link, None)

    def _counts(self, entry: tuple[Instant, int, L]) -> bool:
        asked = self._asked.get(entry[2])
        return asked is not None and asked.at == entry[0]

    def _clear(self) -> None:
        """Keep one entry of each link: of several at the instant it asked for, the first."""
        kept: dict[L, tuple[Instant, int, L]] = {}
        for entry in sorted(self._heap):
            if self._counts(entry):
                kept.setdefault(entry[2], entry)
        self._heap = list(kept.values())  # what is sorted is a heap
