"""Many simulated worlds: `python -m fuzz.campaign --seeds 0:1000 [--plan everything] [--jobs 2]`.

Exit code 0 when every invariant held in every world, 1 otherwise; each broken world is told with
the one command that runs it again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from time import perf_counter

from clawchat.drivers.simulator.faults import PLANS
from clawchat.drivers.simulator.many import Totals, run_many, seeds_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the options, run the worlds, tell what happened."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.campaign", description=__doc__)
    parser.add_argument("--seeds", type=seeds_of, default=range(1000), help="N, or A:B")
    parser.add_argument("--plan", choices=[*sorted(PLANS), "all"], default="everything")
    parser.add_argument("--jobs", type=int, default=None, help="processes (all cores)")
    parser.add_argument("--rows", action="store_true", help="tell how often each row was taken")
    options = parser.parse_args(arguments)
    broken = 0
    for plan in sorted(PLANS) if options.plan == "all" else [options.plan]:
        broken += campaign(options.seeds, plan, options.jobs, rows=options.rows)
    return 1 if broken else 0


def campaign(seeds: range, plan: str, jobs: int | None, *, rows: bool) -> int:
    """Run all seeds under one plan; how many broke."""
    totals, began = Totals(), perf_counter()
    for outcome in run_many(seeds, plan, jobs):
        totals.add(outcome)
        if outcome.trouble:
            print(f"BROKEN: {outcome.trouble}", flush=True)
    print(f"{plan}: {totals.told(perf_counter() - began)}", flush=True)
    if rows:
        for row, count in sorted(totals.rows.items()):
            print(f"{count:9} {' '.join(row)}")
    return len(totals.troubles)


if __name__ == "__main__":
    sys.exit(main())
