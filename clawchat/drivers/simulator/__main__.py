"""`python -m clawchat.drivers.simulator --seed 7 --plan everything [--trace]`: run one world.

With `--seeds 1000` or `--seeds 200:300` many, on all cores. With `--scenario FILE` the world of
a file (`scenario`), which a campaign writes for a seed that fails.
Exit code 0 when all held, 1 when an invariant broke, 2 for a wrong option. With `--trace` the
timeline goes to stdout.
Left to others: several plans, rows taken (`fuzz.campaign`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from clawchat.core.instant import SECOND
from clawchat.drivers.simulator.faults import PLANS
from clawchat.drivers.simulator.invariants import InvariantBroken
from clawchat.drivers.simulator.many import Totals, run_many, seeds_of
from clawchat.drivers.simulator.printer import Printer
from clawchat.drivers.simulator.scenario import load
from clawchat.drivers.simulator.simulation import Simulation


def parser() -> argparse.ArgumentParser:
    plans = "; ".join(f"{plan.name}: {plan.about}" for plan in PLANS.values())
    made = argparse.ArgumentParser(
        prog="python -m clawchat.drivers.simulator",
        description="Run the protocol in a virtual world drawn from a seed.",
        epilog=f"Plans: {plans}.",
    )
    which = made.add_mutually_exclusive_group(required=True)
    which.add_argument("--seed", help="any text; the same text, the same world")
    which.add_argument("--seeds", type=seeds_of, help="many worlds: N for 0 to N-1, or A:B")
    which.add_argument("--scenario", type=Path, help="a file that says all that happens")
    made.add_argument("--plan", choices=sorted(PLANS), default="everything")
    made.add_argument("--trace", action="store_true", help="print everything that happens")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if options.seeds is not None:
        return run_all(options.seeds, options.plan)
    if options.scenario is not None:
        try:
            scenario = load(options.scenario)
        except (OSError, ValueError) as error:
            sys.stderr.write(f"{options.scenario}: {error}\n")
            return 2
        return run(Simulation.of(scenario, options.scenario), trace=options.trace)
    return run(Simulation(options.seed, PLANS[options.plan]), trace=options.trace)


def run_all(seeds: range, plan: str) -> int:
    """Many worlds; the exit code."""
    totals, began = Totals(plan), perf_counter()
    for outcome in run_many(seeds, plan):
        totals.add(outcome)
        if outcome.trouble:
            sys.stderr.write(f"BROKEN: {outcome.trouble}\n")
    sys.stdout.write(f"{totals.told(perf_counter() - began)}\n")
    return 1 if totals.broken else 0


def run(simulation: Simulation, *, trace: bool) -> int:
    """One world; the exit code."""
    if trace:
        printer = Printer(sys.stdout.write)
        for host in simulation.world.hosts.values():
            host.watchers.insert(0, printer)
    began = perf_counter()
    try:
        report = simulation.run()
    except InvariantBroken as error:
        sys.stdout.flush()
        sys.stderr.write(f"BROKEN: {error}\n")
        return 1
    took = perf_counter() - began
    virtual = report.virtual_ns / SECOND
    sys.stdout.write(
        f"held: seed {report.seed}, plan {report.plan}: {virtual:.1f} virtual s in {took:.2f} s, "
        f"{report.established} links, {report.rotations} rotations, "
        f"{report.datagrams} datagrams, {report.delivered} bytes delivered\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
