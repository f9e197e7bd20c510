"""Virtual time: one timeline for the world, and a clock of its own for every host.

Rules: the timeline counts nanoseconds from 0 and only moves from one scheduled call to the next;
calls due at the same moment run in the order in which they were scheduled, so a run depends on
nothing but its seed. Host clocks start anywhere, drift, and their wall clock may jump: code that
mixes up two clocks fails here first.
Left to others: what is scheduled (`network`, `host`, `faults`).
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import TypeAlias

from attrs import define

from clawchat.core.instant import Instant

PER_MILLION = 1_000_000

Entry: TypeAlias = tuple[int, int, Callable[[], None]]


class Timeline:
    """What is due, and when. `now` is in nanoseconds since the world began."""

    __slots__ = ("_due", "_sequence", "now", "steps")

    def __init__(self) -> None:
        self.now = 0
        self.steps = 0
        self._due: list[Entry] = []
        self._sequence = 0

    def at(self, when: int, call: Callable[[], None]) -> None:
        """Run `call` at `when`, or right after what is due now if that is over."""
        self._sequence += 1
        heappush(self._due, (max(when, self.now), self._sequence, call))

    def after(self, delay_ns: int, call: Callable[[], None]) -> None:
        self.at(self.now + delay_ns, call)

    @property
    def next_at(self) -> int | None:
        return self._due[0][0] if self._due else None

    def step(self) -> bool:
        """Run the next call; false when nothing is left to do in this world."""
        if not self._due:
            return False
        self.now, _, call = heappop(self._due)
        self.steps += 1
        call()
        return True

    def run_until(self, when: int) -> None:
        """Run all that is due up to and including `when`, and let time pass until then."""
        while self._due and self._due[0][0] <= when:
            self.step()
        self.now = max(self.now, when)


@define
class HostClock:
    """What one host believes about time.

    `boot_ns` is what its monotonic clock said at the world's start, `drift_ppm` how much faster
    it runs, `wall_ns` what its wall clock said at the world's start (Unix time).
    """

    boot_ns: int = 0
    drift_ppm: int = 0
    wall_ns: int = 0

    def monotonic(self, world: int) -> Instant:
        return self.boot_ns + world + world * self.drift_ppm // PER_MILLION

    def world(self, instant: Instant) -> int:
        """The first moment of the world at which `monotonic` has reached `instant`."""
        elapsed = instant - self.boot_ns
        guess = elapsed * PER_MILLION // (PER_MILLION + self.drift_ppm)
        while self.monotonic(guess) >= instant:
            guess -= 1
        while self.monotonic(guess) < instant:
            guess += 1
        return guess

    def unix(self, world: int) -> int:
        return self.wall_ns + world

    def jump(self, by_ns: int) -> None:
        """Somebody set the wall clock. The monotonic one must not notice."""
        self.wall_ns += by_ns
