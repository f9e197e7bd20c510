"""How much faster than real time an idle pair is simulated: `python -m fuzz.campaign.idle`.

Two hosts with a link on which nobody says anything for a day: keepalives, rotations, key epochs,
all invariants looked at after each step, as in every world. The rest of the story (the evening,
the second meeting) is in the measurement too.
"""

from __future__ import annotations

import sys
from time import process_time

from clawchat.core.instant import HOUR, SECOND
from clawchat.drivers.simulator.build import build_endpoint
from clawchat.drivers.simulator.faults import PLANS, Script
from clawchat.drivers.simulator.simulation import Simulation
from clawchat.drivers.simulator.workload import Person

HOURS = 24
GOAL = 500


def speed(hours: int = HOURS) -> float:
    """Simulated time by CPU time of one process."""
    script = Script(ends_at=hours * HOUR, faults=(), write_ns=0, people=(Person(), Person()))
    simulation = Simulation("idle", PLANS["calm"], script=script)
    for host in simulation.world.hosts.values():
        host.build = build_endpoint  # as shipped: elsewhere ports are left every few seconds
    began = process_time()
    report = simulation.run()
    return report.virtual_ns / SECOND / (process_time() - began)


def main() -> int:
    """Measure and tell; 1 below the goal."""
    found = speed()
    print(f"an idle pair, {HOURS} h with all invariants: {found:,.0f} x real time (goal {GOAL})")
    return 0 if found >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
