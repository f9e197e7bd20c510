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
from typing import TypeAlias

from attrs import define, field, frozen

from clawchat.core.instant import SECOND
from clawchat.drivers.simulator.faults import PLANS
from clawchat.drivers.simulator.invariants import InvariantBroken
from clawchat.drivers.simulator.shoulder import Row
from clawchat.drivers.simulator.simulation import Simulation

Pair: TypeAlias = tuple[Row, Row]


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
    pairs: dict[Pair, int]
    cpu_s: float = field(default=0.0, eq=False)


@define(slots=False)
class Totals:
    """All outcomes of one plan together. `cpu_s` is of all processes."""

    plan: str
    worlds: int = 0
    virtual_ns: int = 0
    datagrams: int = 0
    established: int = 0
    rotations: int = 0
    delivered: int = 0
    cpu_s: float = 0.0
    rows: Counter[Row] = field(factory=Counter)
    pairs: Counter[Pair] = field(factory=Counter)
    broken: dict[int, str] = field(factory=dict)

    def add(self, outcome: Outcome) -> bool:
        """Count one world; whether it took a row or a pair of rows that none before it took."""
        new = not (self.rows.keys() >= outcome.rows.keys())
        new = new or not (self.pairs.keys() >= outcome.pairs.keys())
        self.worlds += 1
        self.virtual_ns += outcome.virtual_ns
        self.datagrams += outcome.datagrams
        self.established += outcome.established
        self.rotations += outcome.rotations
        self.delivered += outcome.delivered
        self.cpu_s += outcome.cpu_s
        self.rows.update(outcome.rows)
        self.pairs.update(outcome.pairs)
        if outcome.trouble:
            self.broken[outcome.seed] = outcome.trouble
        return new

    def told(self, took: float) -> str:
        virtual = self.virtual_ns / SECOND
        return (
            f"{self.plan}: {self.worlds} worlds, {len(self.broken)} broken; {virtual:.0f} virtual "
            f"s in {took:.1f} s ({virtual / took:.0f} to 1); {self.established} ends of links, "
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
