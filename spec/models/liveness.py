"""`python -m spec.models.liveness`: what must happen in the end, by Spin.

Each property is checked on the shipped tables, over the whole state space of its world, and again
with one row left out, where a counterexample must appear. `--sweep` leaves out every row in turn
and says which of them no property here needs.

Rules: exit code 1 on any surprise. What the method cannot say is in `docs/evidence.md`.
Left to others: the worlds (`handshake`, `rotation`, `closing`, `compromise`, `ports`), running
Spin (`spin`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from typing import Any, Final

from attrs import frozen

from clawchat.core.phases import (
    answering,
    compromised,
    dialing,
    established,
    rotating_keys,
    rotating_ports,
)
from clawchat.core.table import Row, Signal, Table
from spec.models import closing, compromise, handshake, ports, rotation
from spec.models.promela import Machine, row_name
from spec.models.spin import Outcome, missing, verify


@frozen
class World:
    """What `model` says in Promela of `machines`, and of what is around them."""

    machines: tuple[Machine, ...]
    model: Callable[..., str]


HANDSHAKE: Final = World(handshake.MACHINES, handshake.model)
ROTATION: Final = World(rotation.MACHINES, rotation.model)
CLOSING: Final = World(closing.MACHINES, closing.model)
COMPROMISE: Final = World(compromise.MACHINES, compromise.model)
PORTS: Final = World(ports.MACHINES, ports.model)


@frozen
class Property:
    """`needs`: rows without each of which it must fail. `holds=False` is a known limit."""

    name: str
    says: str
    world: World
    goal: str
    needs: tuple[Row[Any], ...] = ()
    holds: bool = True


def only(table: Table[Any], source: str, event: type[Signal]) -> Row[Any]:
    """The one row of that cell."""
    [found] = (r for r in table.rows if r.source.name == source and r.event is event)
    return found


PROPERTIES: Final = (
    Property(
        "established",
        "a link that can talk gets established, after any crashes, losses and failed writes",
        HANDSHAKE,
        handshake.ESTABLISHED,
        (
            only(dialing.TABLE, "PROVING", dialing.DialLapsed),
            only(answering.TABLE, "REPLIED", answering.DialerProved),
        ),
    ),
    Property(
        "rotation-ends",
        "a rotation ends, with both sides on the same epoch and no other key left",
        ROTATION,
        rotation.ENDS,
        (
            only(rotating_keys.DIALER, "SWITCHED", rotating_keys.NewEpochHeard),
            only(rotating_keys.LISTENER, "SETTLING", rotating_keys.OfferArrived),
        ),
    ),
    Property(
        "rotation-asked",
        "a rotation that the listener asks for happens, and so does one that a user asks for while "
        "the keys of the last are still kept",
        ROTATION,
        rotation.HAPPENS,
        (
            only(rotating_keys.DIALER, "SETTLING", rotating_keys.RotationDue),
            only(rotating_keys.LISTENER, "STEADY", rotating_keys.OfferArrived),
        ),
    ),
    Property(
        "both-end",
        "once one side of a link is over, so is the other; each application is told once",
        CLOSING,
        closing.BOTH_END,
        (
            only(established.TABLE, "CLOSING", established.ClosingOver),
            only(established.TABLE, "SUSPECT", established.SilenceDue),
        ),
    ),
    Property(
        "destroyed",
        "whoever declared a compromise or was told of one has nothing left in the end",
        COMPROMISE,
        compromise.DESTROYED,
        (only(compromised.TABLE, "DECLARING", compromised.PatienceOver),),
    ),
    Property(
        "heard",
        "a declarer's peer hears of it, if the network lets them talk",
        COMPROMISE,
        compromise.HEARD,
        (only(compromised.TABLE, "DECLARING", compromised.SayAgain),),
    ),
    Property(
        "ports-end",
        "a move to another port ends at both sides, also when both begin, and leaves one socket",
        PORTS,
        ports.END,
        (
            only(rotating_ports.TABLE, "MOVING", rotating_ports.MoveLapsed),
            only(rotating_ports.TABLE, "OVERLAPPING", rotating_ports.OverlapOver),
        ),
    ),
    Property(
        "dialer-moves",
        "a dialer's move that the NATs allow gets through, whatever the listener began",
        PORTS,
        ports.DIALER_MOVES,
        (only(rotating_ports.TABLE, "MOVING", rotating_ports.MoveProved),),
    ),
)


@frozen
class Check:
    """`claim` on the shipped tables, or without one row."""

    claim: Property
    without: Row[Any] | None = None

    @property
    def expected(self) -> bool:
        return self.claim.holds and self.without is None

    @property
    def name(self) -> str:
        row = self.without
        return self.claim.name + ("" if row is None else f" without {row_name(row)}")

    def run(self) -> Outcome:
        """Raises `RuntimeError` when Spin gives no verdict."""
        world = self.claim.world
        machines = world.machines
        if self.without is not None:
            machines = tuple(machine.without(self.without) for machine in machines)
        return verify(world.model(*machines, goal=self.claim.goal))


def checks() -> Iterator[Check]:
    """Every property, then without each of the rows that it needs."""
    for prop in PROPERTIES:
        yield Check(prop)
        for row in prop.needs:
            yield Check(prop, row)


def sweep() -> Iterator[Check]:
    """Every property that holds, without each row of its tables."""
    for prop in PROPERTIES:
        if prop.holds:
            for machine in prop.world.machines:
                yield from (Check(prop, row) for row in machine.rows)


def run(asked: list[Check], jobs: int, trails: bool) -> int:
    """Check everything, print the table. Returns the number of surprises."""
    surprises = 0
    print(f"{'property':64} {'expected':8} {'found':8} {'states':>9} {'seconds':>7}")
    with ThreadPoolExecutor(jobs) as pool:
        for check, outcome in zip(asked, pool.map(Check.run, asked), strict=True):
            surprise = outcome.holds is not check.expected
            surprises += surprise
            print(
                f"{check.name:64} {_word(check.expected):8} {_word(outcome.holds):8} "
                f"{outcome.states:9,} {outcome.seconds:7.1f}"
                f"{'  <-- SURPRISE' if surprise else ''}",
                flush=True,
            )
            if outcome.trail and (trails or surprise):
                print(f"    against: {check.claim.says}")
                print("\n".join(f"    {line}" for line in outcome.trail))
    print(f"{len(asked)} checks, {surprises} surprises")
    return surprises


def _word(holds: bool) -> str:
    return "holds" if holds else "fails"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m spec.models.liveness", description=__doc__)
    parser.add_argument("names", nargs="*", help="names of properties; all when none is given")
    parser.add_argument("--trails", action="store_true", help="print every counterexample")
    parser.add_argument("--sweep", action="store_true", help="leave out every row in turn")
    parser.add_argument("--promela", action="store_true", help="print the models instead")
    parser.add_argument("--jobs", type=int, default=min(2, cpu_count() or 1))
    arguments = parser.parse_args()
    unknown = set(arguments.names) - {prop.name for prop in PROPERTIES}
    if unknown:
        parser.error(f"no such property: {', '.join(sorted(unknown))}")
    chosen = arguments.names or [prop.name for prop in PROPERTIES]
    if arguments.promela:
        for prop in PROPERTIES:
            if prop.name in chosen:
                print(prop.world.model(*prop.world.machines, goal=prop.goal))
        return 0
    if missing():
        print(f"not installed: {', '.join(missing())} (Debian: apt-get install spin gcc)")
        return 2
    every = sweep() if arguments.sweep else checks()
    asked = [check for check in every if check.claim.name in chosen]
    surprises = run(asked, arguments.jobs, arguments.trails)
    return 0 if arguments.sweep else int(surprises > 0)


if __name__ == "__main__":
    sys.exit(main())
