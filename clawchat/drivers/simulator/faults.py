"""What goes wrong, drawn from a seed before the world begins.

A `Plan` says which kinds of fault a run may have; `draw` makes from it and a seed a `Script`: the
exact faults with their moments, and all that people and strangers will try. The script is plain
data, so a failing run can be read, cut down and kept (`scenario`).

Rules: dice are used here once, at the start; the moment at which the last fault ends is known in
advance, and after it the network is calm and every process runs.
Left to others: carrying the faults out (`simulation`).
"""

from __future__ import annotations

from enum import Enum, unique
from random import Random

from attrs import evolve, frozen

from clawchat.core.instant import HOUR, MILLISECOND, SECOND
from clawchat.drivers.simulator.network import ETHERNET, Conditions
from clawchat.drivers.simulator.strangers import Strike, draw_strikes
from clawchat.drivers.simulator.workload import Deed, Person, draw_tasks

DIALERS_DEEDS = {
    Deed.CHAT: 6,
    Deed.UPLOAD: 3,
    Deed.DOWNLOAD: 3,
    Deed.CROWD: 1,
    Deed.DATAGRAM: 3,
    Deed.PING: 3,
    Deed.ROTATE: 3,
    Deed.MOVE: 3,
    Deed.RESET: 1,
    Deed.STOP: 1,
    Deed.CLOSE: 1,
}
LISTENERS_DEEDS = {
    Deed.CHAT: 3,
    Deed.UPLOAD: 2,
    Deed.DATAGRAM: 2,
    Deed.PING: 2,
    Deed.ROTATE: 2,
    Deed.MOVE: 2,
    Deed.RESET: 1,
    Deed.STOP: 1,
}
CALM = Conditions(latency_ns=10 * MILLISECOND)


@unique
class FaultKind(Enum):
    """What happens at one moment."""

    CONDITIONS = "both directions between two hosts change"
    KILL = "a process dies"
    START = "a process starts again"
    SUSPEND = "a host falls asleep"
    RESUME = "it wakes up"
    WALL_JUMP = "a wall clock is set"
    DISK_FULL = "writes fail from now on"
    DISK_FREE = "writes work again"
    PANIC = "a user declares a pairing compromised, or everything"
    REBIND = "the NAT before a dialer forgets it, or its network changes; perhaps it notices"


@frozen
class Fault:
    """One fault. `host` is an index: 0 is the listener, then the dialers.

    `one_way` and `other_way` are for CONDITIONS (between the listener and dialer `host`);
    `amount_ns` is for WALL_JUMP; `survivors` for KILL is how many writes under way still count;
    `noticed` is for REBIND. For PANIC `dialer` says whose pairing, and `everything` whether all
    is declared.
    """

    at: int
    kind: FaultKind
    host: int
    one_way: Conditions | None = None
    other_way: Conditions | None = None
    amount_ns: int = 0
    survivors: int = 0
    noticed: bool = False
    dialer: int = 0
    everything: bool = False


@frozen
class Plan:
    """Which faults a run may have. Times in ns, sizes in bytes, rates per virtual second.

    `outages` is the chance that for half a minute to two nothing gets through to anybody.
    """

    name: str
    about: str
    dialers: tuple[int, int] = (1, 2)
    faults_ns: tuple[int, int] = (2 * SECOND, 5 * SECOND)
    deeds: tuple[int, int] = (4, 12)
    weather_ns: int = 700 * MILLISECOND
    loss_max: float = 0.0
    burst_max: int = 1
    jitter_ns_max: int = 0
    latency_ns_max: int = 80 * MILLISECOND
    reorder_max: float = 0.0
    duplicate_max: float = 0.0
    corrupt_max: float = 0.0
    narrow: float = 0.0
    black_holes: float = 0.0
    cuts: float = 0.0
    kills: float = 0.0
    suspends: float = 0.0
    wall_jumps: float = 0.0
    disk_full: float = 0.0
    rebinds: float = 0.0
    panics: float = 0.0
    outages: float = 0.0
    strangers: float = 0.0
    clone: bool = False
    write_ns_max: int = 20 * MILLISECOND


PLANS = {
    plan.name: plan
    for plan in (
        Plan("calm", "nothing goes wrong"),
        Plan(
            "lossy",
            "loss up to 30 % in bursts, reordering, duplicates, jitter",
            loss_max=0.3,
            burst_max=3,
            jitter_ns_max=20 * MILLISECOND,
            reorder_max=0.1,
            duplicate_max=0.05,
        ),
        Plan(
            "hostile",
            "strangers send garbage and recorded datagrams, bits flip",
            corrupt_max=0.1,
            duplicate_max=0.1,
            strangers=60,
        ),
        Plan(
            "crashes",
            "processes are killed and restarted, disks are slow",
            kills=0.6,
            write_ns_max=60 * MILLISECOND,
        ),
        Plan(
            "everything",
            "all of it at once",
            loss_max=0.3,
            burst_max=3,
            jitter_ns_max=30 * MILLISECOND,
            latency_ns_max=150 * MILLISECOND,
            reorder_max=0.15,
            duplicate_max=0.08,
            corrupt_max=0.05,
            narrow=0.3,
            black_holes=0.25,
            cuts=0.15,
            kills=0.25,
            suspends=0.15,
            wall_jumps=0.2,
            disk_full=0.05,
            rebinds=0.1,
            panics=0.05,
            outages=0.04,
            strangers=30,
            write_ns_max=40 * MILLISECOND,
        ),
        Plan(
            "roaming",
            "NATs forget, networks change and go, machines sleep",
            faults_ns=(4 * SECOND, 20 * SECOND),
            loss_max=0.1,
            reorder_max=0.05,
            duplicate_max=0.05,
            cuts=0.2,
            suspends=0.2,
            rebinds=0.4,
            strangers=20,
        ),
        Plan(
            "clone",
            "a copy of a dialer's disk is used after its original went on",
            dialers=(1, 1),
            clone=True,
            strangers=20,
        ),
    )
}


@frozen
class Script:
    """All that is drawn for one run: faults in order of time, what people do, what strangers do.

    `people` are the listener's user, then the dialers'. All is calm from `ends_at` on.
    """

    ends_at: int
    faults: tuple[Fault, ...]
    write_ns: int
    people: tuple[Person, ...]
    strikes: tuple[Strike, ...] = ()

    @property
    def dialers(self) -> int:
        return len(self.people) - 1


def weather(plan: Plan, dice: Random) -> Conditions:
    """Conditions for one direction."""
    found = Conditions(
        latency_ns=dice.randint(MILLISECOND, plan.latency_ns_max),
        jitter_ns=dice.randint(0, plan.jitter_ns_max),
        loss=dice.uniform(0, plan.loss_max) * dice.choice((0, 1)),
        burst=dice.randint(1, plan.burst_max),
        reorder=dice.uniform(0, plan.reorder_max) * dice.choice((0, 1)),
        reorder_ns=dice.randint(1, 200) * MILLISECOND,
        duplicate=dice.uniform(0, plan.duplicate_max) * dice.choice((0, 1)),
        corrupt=dice.uniform(0, plan.corrupt_max) * dice.choice((0, 0, 1)),
    )
    if dice.random() < plan.narrow:
        found = evolve(
            found,
            bandwidth_bps=dice.choice((1, 3, 10)) * 1_000_000,
            queue_bytes=dice.choice((8, 32, 128)) * 1024,
        )
    if dice.random() < plan.black_holes:
        # Never below what the protocol needs: 1024 bytes always get through.
        found = evolve(found, mtu=dice.choice((1024, 1100, 1200, 1280, 1400, ETHERNET)))
    if dice.random() < plan.cuts:
        found = evolve(found, cut=True)
    return found


def draw(plan: Plan, seed: str) -> Script:
    """The faults that `seed` stands for under `plan`."""
    dice = Random(f"faults/{plan.name}/{seed}")
    dialers = dice.randint(*plan.dialers)
    ends_at = dice.randint(*plan.faults_ns)
    faults: list[Fault] = []
    for dialer in range(1, dialers + 1):
        at = 0
        while at < ends_at:
            faults.append(_change(at, dialer, weather(plan, dice), weather(plan, dice)))
            at += dice.randint(plan.weather_ns // 4, plan.weather_ns * 2)
        faults.append(_change(ends_at, dialer, CALM, CALM))
    for host in range(dialers + 1):
        faults += _troubles(plan, dice, host, ends_at)
        faults += _panics(plan, dice, host, dialers, ends_at)
    faults.sort(key=lambda fault: fault.at)  # stable: equal moments keep the order drawn
    script = Script(
        ends_at=ends_at,
        faults=tuple(faults),
        write_ns=dice.randint(0, plan.write_ns_max),
        people=_people(dice, dialers, dice.randint(*plan.deeds)),
        strikes=draw_strikes(dice, plan.strangers, ends_at),
    )
    return _with_outage(script, dice) if dice.random() < plan.outages else script


def _with_outage(script: Script, dice: Random) -> Script:
    """A long gap in the middle of everything, in which nothing gets through."""
    begins, lasts = dice.randrange(script.ends_at), dice.randint(25, 120) * SECOND
    cut, through = evolve(CALM, cut=True), CALM
    gap = [
        _change(at, dialer, way, way)
        for at, way in ((begins, cut), (begins + lasts, through))
        for dialer in range(1, script.dialers + 1)
    ]
    early = [fault for fault in script.faults if fault.at <= begins]
    late = [evolve(fault, at=fault.at + lasts) for fault in script.faults if fault.at > begins]
    strikes = tuple(
        strike if strike.at <= begins else evolve(strike, at=strike.at + lasts)
        for strike in script.strikes
    )
    return evolve(
        script,
        ends_at=script.ends_at + lasts,
        faults=(*early, *gap, *late),
        strikes=strikes,
    )


def _panics(plan: Plan, dice: Random, host: int, dialers: int, ends_at: int) -> list[Fault]:
    found: list[Fault] = []
    at = 0
    while plan.panics:
        at += int(dice.expovariate(plan.panics) * SECOND) + 1
        if at >= ends_at:
            break
        dialer, everything = host or dice.randint(1, dialers), dice.random() < 0.3
        found.append(Fault(at, FaultKind.PANIC, host, dialer=dialer, everything=everything))
    return found


def _people(dice: Random, dialers: int, deeds: int) -> tuple[Person, ...]:
    tasks = draw_tasks(dice, deeds // 2, LISTENERS_DEEDS, 300 * MILLISECOND)
    people = [Person(tasks, dice.choice((0, 0, 30 * MILLISECOND)))]
    for _ in range(dialers):
        tasks = draw_tasks(dice, deeds, DIALERS_DEEDS, 200 * MILLISECOND)
        reading = dice.choice((0, 0, 30 * MILLISECOND))
        people.append(Person(tasks, reading, dice.choice((0, 3 * SECOND))))
    return tuple(people)


def _change(at: int, dialer: int, one_way: Conditions, other_way: Conditions) -> Fault:
    return Fault(at, FaultKind.CONDITIONS, dialer, one_way, other_way)


def _troubles(plan: Plan, dice: Random, host: int, ends_at: int) -> list[Fault]:
    """What happens to one host itself. Kills and suspensions do not overlap."""
    found: list[Fault] = []
    at = dice.randint(0, SECOND)
    while at < ends_at:
        until = min(ends_at, at + dice.randint(1, 1200) * MILLISECOND)
        if dice.random() < plan.kills:
            survivors = dice.randint(0, 2)
            found.append(Fault(at, FaultKind.KILL, host, survivors=survivors))
            found.append(Fault(until, FaultKind.START, host))
        elif dice.random() < plan.suspends:
            found.append(Fault(at, FaultKind.SUSPEND, host))
            found.append(Fault(until, FaultKind.RESUME, host))
        if dice.random() < plan.wall_jumps:
            jump = dice.randint(-24 * HOUR, 24 * HOUR)
            found.append(Fault(at, FaultKind.WALL_JUMP, host, amount_ns=jump))
        if dice.random() < plan.disk_full:
            found.append(Fault(at, FaultKind.DISK_FULL, host))
            found.append(Fault(until, FaultKind.DISK_FREE, host))
        if host and plan.rebinds and dice.random() < plan.rebinds:
            noticed = dice.random() < 0.5
            found.append(Fault(at, FaultKind.REBIND, host, noticed=noticed))
        at = until + dice.randint(50, 1500) * MILLISECOND
    return found
