"""Many worlds, in as many processes as there are cores.

Rules: a world's outcome depends on its seed and plan alone, never on its neighbours; failures are
told with the command that runs that one world again.
Left to others: one world (`simulation`), options (`__main__`, `fuzz.campaign`).
"""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from time import process_time

from attrs import define, field, frozen

from clawchat.core.instant import SECOND
from clawchat.drivers.simulator.faults import PLANS
from clawchat.drivers.simulator.invariants import InvariantBroken
from clawchat.drivers.simulator.shoulder import Row
from clawchat.drivers.simulator.simulation import Simulation


@frozen
class Outcome:
    """What became of one world. `trouble` is empty when all held."""

    seed: int
    plan: str
    trouble: str
    virtual_ns: int
    datagrams: int
    established: int
    rotations: int
    delivered: int
    rows: dict[Row, int]
    pairs: dict[tuple[Row, Row], int]
    cpu_s: float = field(default=0.0, eq=False)


@define(slots=False)
class Totals:
    """All outcomes together."""

    worlds: int = 0
    virtual_ns: int = 0
    datagrams: int = 0
    established: int = 0
    rotations: int = 0
    delivered: int = 0
    rows: Counter[Row] = field(factory=Counter)
    pairs: Counter[tuple[Row, Row]] = field(factory=Counter)
    troubles: list[Outcome] = field(factory=list)

    def add(self, outcome: Outcome) -> None:
        self.worlds += 1
        self.virtual_ns += outcome.virtual_ns
        self.datagrams += outcome.datagrams
        self.established += outcome.established
        self.rotations += outcome.rotations
        self.delivered += outcome.delivered
        self.rows.update(outcome.rows)
        self.pairs.update(outcome.pairs)
        if outcome.trouble:
            self.troubles.append(outcome)

    def told(self, took: float) -> str:
        virtual = self.virtual_ns / SECOND
        return (
            f"{self.worlds} worlds, {len(self.troubles)} broken; {virtual:.0f} virtual s in "
            f"{took:.1f} s ({virtual / took:.0f} to 1); {self.established} ends of links, "
            f"{self.rotations} rotations, {self.datagrams} datagrams, "
            f"{self.delivered / 1e6:.1f} MB delivered and compared"
        )


def collect_seldom() -> None:
    """For a process that runs nothing but worlds: look for garbage less often.

    Most of what a world makes is freed without the collector, which costs a tenth of the run at
    its usual pace; at this one a process keeps some 10 MB more.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def run_one(seed: int, plan: str) -> Outcome:
    """Run one world to its end."""
    began = process_time()
    simulation = Simulation(seed, PLANS[plan])
    trouble = ""
    try:
        simulation.run()
    except InvariantBroken as error:  # whatever went wrong inside comes as this
        trouble = str(error)
    report = simulation.report()
    rows = {
        (firing.table, firing.source.name, firing.event, firing.dest.name): count
        for firing, count in simulation.watch.rows.items()
    }
    return Outcome(
        seed,
        plan,
        trouble,
        report.virtual_ns,
        report.datagrams,
        report.established,
        report.rotations,
        report.delivered,
        rows,
        dict(simulation.watch.successions.pairs),
        process_time() - began,
    )


def run_many(seeds: Iterable[int], plan: str, jobs: int | None = None) -> Iterator[Outcome]:
    """Run worlds in parallel; outcomes come in the order of the seeds."""
    jobs = jobs or os.cpu_count() or 1
    if jobs == 1:
        yield from map(run_one, seeds, repeat(plan))
        return
    with ProcessPoolExecutor(jobs, initializer=collect_seldom) as pool:
        yield from pool.map(run_one, seeds, repeat(plan), chunksize=10)


def seeds_of(text: str) -> range:
    """`1000` means 0 to 999, `200:300` means 200 to 299. Raises `ValueError`."""
    first, colon, last = text.partition(":")
    found = range(int(first), int(last)) if colon else range(int(first))
    if not found:
        raise ValueError("an empty range of seeds")
    return found
