"""A failing seed becomes a scenario file with little in it that the failure does not need.

Delta debugging: what goes in (tasks of people, faults, strikes of strangers, the fate of single
datagrams) is a list of things that can be left out; halves, quarters and so on are left out for as
long as the same invariant breaks. Then what is left is made plainer.

Rules: the same is what `reason` says; a world that breaks in another way does not count. Each
attempt is a whole run, so there is a limit on how many.
Left to others: running a scenario, the file (`clawchat.drivers.simulator`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TypeAlias

from attrs import define, evolve, frozen

from clawchat.core.instant import MILLISECOND, SECOND
from clawchat.drivers.simulator.faults import CALM, PLANS, Fault, FaultKind
from clawchat.drivers.simulator.invariants import InvariantBroken
from clawchat.drivers.simulator.network import Conditions, Fate
from clawchat.drivers.simulator.scenario import Fates, Scenario, record, scenario_of
from clawchat.drivers.simulator.simulation import Simulation
from clawchat.drivers.simulator.strangers import Strike
from clawchat.drivers.simulator.workload import Person, Task

RUNS_MAX = 600  # a minute or so
WORDS = 6  # of a trouble's first line say what broke; numbers and names of hosts do not count

_OF_ONE_RUN = re.compile(r"\b(?:[0-9a-f]*\d[0-9a-f]*|listener|dialer\d*|clone)\b")


def reason(trouble: str) -> str:
    """What broke, without what differs from run to run."""
    first = trouble.split("\n", 1)[0]
    return " ".join(_OF_ONE_RUN.sub("#", first).split()[:WORDS])


def trouble_of(scenario: Scenario) -> str:
    """What breaks in this scenario; empty when all holds."""
    try:
        Simulation.of(scenario).run()
    except InvariantBroken as error:
        return str(error)
    return ""


def recorded(seed: int | str, plan: str) -> Scenario:
    """The scenario that a seed is, whole; `expects` is what broke."""
    scenario = scenario_of(seed, plan)
    simulation = Simulation(seed, PLANS[plan])
    fates = record(simulation.world.network)
    try:
        simulation.run()
    except InvariantBroken as error:
        scenario = evolve(scenario, expects=reason(str(error)))
    return evolve(scenario, fates=fates)


# --- what can be left out ---------------------------------------------------------------------


@frozen
class _Task:
    person: int
    task: Task


@frozen
class _Fated:
    sender: str
    number: int
    fate: Fate


Thing: TypeAlias = _Task | Fault | Strike | _Fated


def things_of(scenario: Scenario) -> list[Thing]:
    script = scenario.script
    return [
        *script.strikes,
        *(_Fated(sender, number, fate) for (sender, number), fate in scenario.fates.items()),
        *script.faults,
        *(_Task(who, task) for who, person in enumerate(script.people) for task in person.tasks),
    ]


def rebuilt(scenario: Scenario, things: list[Thing]) -> Scenario:
    """The same scenario with these things alone."""
    script = scenario.script
    people = tuple(
        evolve(person, tasks=tuple(_tasks(things, who))) for who, person in enumerate(script.people)
    )
    fates: Fates = {(one.sender, one.number): one.fate for one in things if isinstance(one, _Fated)}
    return evolve(
        scenario,
        script=evolve(
            script,
            people=people,
            faults=tuple(one for one in things if isinstance(one, Fault)),
            strikes=tuple(one for one in things if isinstance(one, Strike)),
        ),
        fates=fates,
    )


def _tasks(things: list[Thing], who: int) -> Iterator[Task]:
    return (one.task for one in things if isinstance(one, _Task) and one.person == who)


# --- making it smaller ------------------------------------------------------------------------


class Exhausted(Exception):
    """No runs are left."""


@define
class Shrinker:
    """Keeps the smallest scenario that still fails in the way of the first one."""

    best: Scenario
    breaks: Callable[[Scenario], str] = trouble_of
    runs_max: int = RUNS_MAX
    runs: int = 0

    def shrink(self) -> Scenario:
        """The smallest that was found."""
        try:
            size = -1
            while size != self.best.size:
                size = self.best.size
                self._leave_out()
                self._make_plainer()
        except Exhausted:
            pass
        return self.best

    def _still_fails(self, scenario: Scenario) -> bool:
        if self.runs >= self.runs_max:
            raise Exhausted
        self.runs += 1
        if reason(self.breaks(scenario)) != self.best.expects:
            return False
        self.best = scenario
        return True

    def _leave_out(self) -> None:
        """Chunks of all things, from half of them down to single ones."""
        things = things_of(self.best)
        chunk = max(1, len(things))
        while things:
            at = 0
            while at < len(things):
                rest = things[:at] + things[at + chunk :]
                if self._still_fails(rebuilt(self.best, rest)):
                    things = rest
                else:
                    at += chunk
            if chunk == 1:
                return
            chunk = max(1, chunk // 2)

    def _make_plainer(self) -> None:
        any(map(self._still_fails, _without_last_dialer(self.best)))
        any(map(self._still_fails, _shorter(self.best)))
        without_delay = evolve(self.best.script, write_ns=0)
        if without_delay != self.best.script:
            self._still_fails(evolve(self.best, script=without_delay))
        for number in range(len(self.best.script.people)):
            self._try_person(number, evolve(self.best.script.people[number], reading_ns=0))
            self._try_person(number, evolve(self.best.script.people[number], patience_ns=0))
        for number in range(len(self.best.script.faults)):
            self._try_fault(number)

    def _try_person(self, number: int, person: Person) -> None:
        script = self.best.script
        if person != script.people[number]:
            people = (*script.people[:number], person, *script.people[number + 1 :])
            self._still_fails(evolve(self.best, script=evolve(script, people=people)))

    def _try_fault(self, number: int) -> None:
        script = self.best.script
        fault = script.faults[number]
        for plainer in _plainer(fault):
            faults = (*script.faults[:number], plainer, *script.faults[number + 1 :])
            if plainer != fault and self._still_fails(
                evolve(self.best, script=evolve(script, faults=faults))
            ):
                return


def _without_last_dialer(scenario: Scenario) -> Iterator[Scenario]:
    script = scenario.script
    if script.dialers > 1:
        last = script.dialers
        faults = tuple(f for f in script.faults if last not in (f.host, f.dialer))
        smaller = evolve(script, people=script.people[:-1], faults=faults)
        fates = {tag: fate for tag, fate in scenario.fates.items() if tag[0] != f"dialer{last}"}
        yield evolve(scenario, script=smaller, fates=fates)


def _shorter(scenario: Scenario) -> Iterator[Scenario]:
    """An earlier evening: as early as can be, then a little later."""
    script = scenario.script
    last = max([MILLISECOND, *(f.at for f in script.faults), *(s.at for s in script.strikes)])
    for share in (0, 1, 2, 4, 6):
        ends_at = last + (script.ends_at - last) * share // 8 // MILLISECOND * MILLISECOND
        if ends_at < script.ends_at:
            yield evolve(scenario, script=evolve(script, ends_at=ends_at))


def _plainer(fault: Fault) -> Iterator[Fault]:
    if fault.kind is FaultKind.CONDITIONS:
        one, other = fault.one_way or CALM, fault.other_way or CALM
        yield evolve(fault, one_way=CALM, other_way=CALM)
        yield evolve(fault, one_way=CALM)
        yield evolve(fault, other_way=CALM)
        yield evolve(fault, one_way=_without_dice(one), other_way=_without_dice(other))
    elif fault.at % SECOND:
        yield evolve(fault, at=fault.at // MILLISECOND * MILLISECOND)


def _without_dice(conditions: Conditions) -> Conditions:
    """What counts when every fate is named."""
    return Conditions(
        latency_ns=conditions.latency_ns,
        bandwidth_bps=conditions.bandwidth_bps,
        queue_bytes=conditions.queue_bytes,
        mtu=conditions.mtu,
        cut=conditions.cut,
    )


def shrink(seed: int | str, plan: str, runs_max: int = RUNS_MAX) -> Scenario | None:
    """A small scenario that fails as this seed does; None when the seed holds when recorded."""
    whole = recorded(seed, plan)
    if not whole.expects or reason(trouble_of(whole)) != whole.expects:
        return None
    shrinker = Shrinker(whole, runs_max=runs_max)
    small = shrinker.shrink()
    about = (
        f"seed {seed} of plan {plan}: {whole.size} things that need not happen, "
        f"{small.size} after {shrinker.runs} runs"
    )
    return evolve(small, about=about)
