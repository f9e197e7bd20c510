"""`python -m clawchat.drivers.simulator --seed 7 --plan everything [--trace]`: run one world.

Exit code 0 when all held, 1 when an invariant broke, 2 for a wrong option. With `--trace` the
timeline goes to stdout.
Left to others: many seeds (`fuzz.campaign`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from time import perf_counter

from clawchat.core.instant import SECOND
from clawchat.drivers.simulator.faults import PLANS
from clawchat.drivers.simulator.invariants import InvariantBroken
from clawchat.drivers.simulator.printer import Printer
from clawchat.drivers.simulator.simulation import Simulation


def parser() -> argparse.ArgumentParser:
    plans = "; ".join(f"{plan.name}: {plan.about}" for plan in PLANS.values())
    made = argparse.ArgumentParser(
        prog="python -m clawchat.drivers.simulator",
        description="Run the protocol in a virtual world drawn from a seed.",
        epilog=f"Plans: {plans}.",
    )
    made.add_argument("--seed", required=True, help="any text; the same text, the same world")
    made.add_argument("--plan", choices=sorted(PLANS), default="everything")
    made.add_argument("--trace", action="store_true", help="print everything that happens")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    simulation = Simulation(options.seed, PLANS[options.plan])
    if options.trace:
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
