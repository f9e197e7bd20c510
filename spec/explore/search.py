"""Breadth first, so that a counterexample is the shortest that there is.

Rules: a situation that looks like one that was seen is not looked at again; every other one is
played on under a fair network, to the end that must come.
Left to others: worlds (`catalogue`), keeping a counterexample (`scenario`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from time import monotonic
from typing import TypeAlias

from attrs import define, field

from clawchat.drivers.simulator.invariants import Firing
from spec.explore.ends import End
from spec.explore.situation import Choice, Situation

Way: TypeAlias = tuple[Choice, ...]


class Counterexample(AssertionError):
    """`way` leads to a situation in which, or after which, something is wrong."""

    def __init__(self, found: str, way: Way) -> None:
        super().__init__(f"{found}\n  after {way}")
        self.found = found
        self.way = way


@define
class Exploration:
    """`exhausted`: nothing was left out that the budget affords."""

    setup: Callable[[], Situation]
    end: End
    limit: int = 1_000_000
    seconds_max: float = float("inf")
    seen: set[tuple[object, ...]] = field(factory=set)
    rows: Counter[Firing] = field(factory=Counter)
    played: int = 0
    longest: int = 0
    exhausted: bool = True

    def run(self) -> None:
        """Raises `Counterexample`."""
        ends_at = monotonic() + self.seconds_max
        queue: deque[Way] = deque([()])
        while queue:
            way = queue.popleft()
            situation = self.play(way)
            view = situation.view()
            if view in self.seen:
                continue
            self.seen.add(view)
            self.longest = len(way)
            if len(self.seen) > self.limit or monotonic() > ends_at:
                self.exhausted = False
                return
            queue.extend((*way, choice) for choice in situation.choices())
            self.finish(situation, way)

    def play(self, way: Way) -> Situation:
        """The situation that these choices lead to. Raises `Counterexample`."""
        situation = self.setup()
        self.played += 1
        for number, choice in enumerate(way, 1):
            try:
                situation.take(choice)
            except AssertionError as error:
                raise Counterexample(told(error), way[:number]) from error
        return situation

    def finish(self, situation: Situation, way: Way) -> None:
        """What must come of it. Raises `Counterexample`."""
        try:
            self.end(situation)
        except AssertionError as error:
            raise Counterexample(told(error), way) from error
        self.rows.update(situation.world.watch.rows)


def told(error: AssertionError) -> str:
    """What an invariant or an assertion of the core says."""
    return f"{type(error).__name__}: {error}"
