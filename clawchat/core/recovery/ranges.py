"""A set of integers, kept as ranges: packet numbers, stream bytes, finished streams.

Rules: ranges are half-open [start, stop); memory is two integers for each range, in one flat
sorted list of bounds; appending at the end costs a comparison.
Left to others: limiting how many ranges there are (whoever adds them, with `trim`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class RangeSet:
    """Integers as disjoint, non-touching, ascending half-open ranges."""

    __slots__ = ("_bounds",)

    def __init__(self) -> None:
        self._bounds: list[int] = []  # start, stop, start, stop, ...

    def add(self, start: int, stop: int) -> None:
        """Add all of [start, stop). An empty range adds nothing."""
        bounds = self._bounds
        if stop <= start:
            return
        if bounds and bounds[-1] == start:
            bounds[-1] = stop
            return
        left, right = bisect_left(bounds, start), bisect_right(bounds, stop)
        edges = []  # an even index lies between ranges, so the new edge counts there
        if not left & 1:
            edges.append(start)
        if not right & 1:
            edges.append(stop)
        bounds[left:right] = edges

    def remove(self, start: int, stop: int) -> None:
        """Remove all of [start, stop)."""
        bounds = self._bounds
        if stop <= start or not bounds or start >= bounds[-1]:
            return
        left, right = bisect_left(bounds, start), bisect_right(bounds, stop)
        edges = []
        if left & 1:
            edges.append(start)
        if right & 1:
            edges.append(stop)
        bounds[left:right] = edges

    def trim(self, count: int) -> None:
        """Forget the lowest ranges until `count` are left."""
        excess = len(self._bounds) - 2 * count
        if excess > 0:
            del self._bounds[:excess]

    def gaps(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """The ranges inside [start, stop) that are not in the set, ascending."""
        bounds = self._bounds
        at = bisect_right(bounds, start)
        if at & 1:
            start = bounds[at]
            at += 1
        while start < stop:
            until = min(bounds[at], stop) if at < len(bounds) else stop
            yield start, until
            if at + 1 >= len(bounds):
                return
            start = bounds[at + 1]
            at += 2

    def overlaps(self, start: int, stop: int) -> bool:
        """Whether any of [start, stop) is in the set."""
        if stop <= start:
            return False
        at = bisect_right(self._bounds, start)
        return at & 1 == 1 or (at < len(self._bounds) and self._bounds[at] < stop)

    def first(self) -> tuple[int, int]:
        """The lowest range. Raises `IndexError` when the set is empty."""
        return self._bounds[0], self._bounds[1]

    def newest(self, count: int) -> tuple[tuple[int, int], ...]:
        """The `count` highest ranges as (low, high), both included, highest first."""
        bounds = self._bounds
        stop = max(0, len(bounds) - 2 * count)
        return tuple((bounds[at - 1], bounds[at] - 1) for at in range(len(bounds) - 1, stop, -2))

    def __contains__(self, number: int) -> bool:
        return bisect_right(self._bounds, number) & 1 == 1

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The ranges, ascending."""
        bounds = self._bounds
        return zip(bounds[::2], bounds[1::2], strict=True)

    def __len__(self) -> int:
        """How many ranges there are."""
        return len(self._bounds) // 2

    def __repr__(self) -> str:
        return "RangeSet(" + ", ".join(f"{start}..{stop - 1}" for start, stop in self) + ")"
