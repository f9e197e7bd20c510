"""A scenario: all that went into one world, as a file. It replays without the random workload.

It is the seed (for keys, clocks and the pace of disks), the `Script` (faults, tasks, strikes), and
the fate of every single datagram that had one of its own. A campaign writes one for a seed that
fails, and takes away what the failure does not need (`fuzz.campaign`).

Rules: plain JSON, what has its default is left out, times are nanoseconds of the world; what is
not understood is an error. A datagram that no fate names takes the plain way.
Left to others: running it (`simulation`), making it smaller (`fuzz.campaign.shrinking`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import attrs
from attrs import frozen

from clawchat.drivers.simulator.faults import PLANS, Fault, FaultKind, Script, draw
from clawchat.drivers.simulator.network import PLAIN, Conditions, Fate, Network, Parcel, Tag, Wire
from clawchat.drivers.simulator.strangers import Strike
from clawchat.drivers.simulator.workload import Deed, Person, Task

FORMAT = 1

Fates = dict[Tag, Fate]
T = TypeVar("T")


@frozen
class Scenario:
    """`expects` is what broke when it was written, `about` is for people."""

    seed: str
    plan: str
    script: Script
    fates: Fates
    expects: str = ""
    about: str = ""

    @property
    def size(self) -> int:
        """How many things happen in it that need not happen."""
        tasks = sum(len(person.tasks) for person in self.script.people)
        return len(self.script.faults) + tasks + len(self.script.strikes) + len(self.fates)


def scenario_of(seed: int | str, plan: str) -> Scenario:
    """What a seed stands for; the fates are still open (see `record`)."""
    return Scenario(str(seed), plan, draw(PLANS[plan], str(seed)), {})


def record(network: Network) -> Fates:
    """Let the dice decide in this network, and note each fate that is not the plain one."""
    fates: Fates = {}
    rolled = network.judge

    def judge(wire: Wire, parcel: Parcel) -> Fate:
        fate = rolled(wire, parcel)
        if fate is not PLAIN:
            fates[parcel.tag] = fate
        return fate

    network.judge = judge
    return fates


def impose(network: Network, fates: Fates) -> None:
    """No dice in this network: what is not named goes the plain way."""

    def judge(_wire: Wire, parcel: Parcel) -> Fate:
        return fates.get(parcel.tag, PLAIN)

    network.judge = judge


# --- files ------------------------------------------------------------------------------------


def save(scenario: Scenario, path: Path) -> None:
    path.write_text(to_json(scenario), encoding="utf-8")


def load(path: Path) -> Scenario:
    """Raises `ValueError` for what is no scenario of this version."""
    return from_json(path.read_text(encoding="utf-8"))


def to_json(scenario: Scenario) -> str:
    script = scenario.script
    value = {
        "format": FORMAT,
        "about": scenario.about,
        "expects": scenario.expects,
        "seed": scenario.seed,
        "plan": scenario.plan,
        "ends_at": script.ends_at,
        "write_ns": script.write_ns,
        "people": [_plain(person) for person in script.people],
        "faults": [_plain(fault) for fault in script.faults],
        "strikes": [_plain(strike) for strike in script.strikes],
        "fates": [
            {"sender": sender, "number": number, **_plain(fate)}
            for (sender, number), fate in scenario.fates.items()
        ],
    }
    # One line for each thing that happens, so that a diff can be read.
    lines = []
    for key, entry in value.items():
        if isinstance(entry, list) and entry:
            entries = ",\n  ".join(json.dumps(one) for one in entry)
            lines.append(f"{json.dumps(key)}: [\n  {entries}\n ]")
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(entry)}")
    return "{\n " + ",\n ".join(lines) + "\n}\n"


def from_json(text: str) -> Scenario:
    """Raises `ValueError` for what is no scenario of this version."""
    try:
        value = json.loads(text)
        if value["format"] != FORMAT:
            raise ValueError(f"a scenario of format {value['format']}, not {FORMAT}")
        if value["plan"] not in PLANS:
            raise ValueError(f"there is no plan {value['plan']}")
        script = Script(
            ends_at=value["ends_at"],
            faults=tuple(_made(Fault, fault) for fault in value["faults"]),
            write_ns=value["write_ns"],
            people=tuple(_made(Person, person) for person in value["people"]),
            strikes=tuple(_made(Strike, strike) for strike in value["strikes"]),
        )
        fates = {
            (fate.pop("sender"), fate.pop("number")): _made(Fate, fate) for fate in value["fates"]
        }
        return Scenario(
            value["seed"], value["plan"], script, fates, value["expects"], value["about"]
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a scenario: {error!r}") from None


def _plain(thing: attrs.AttrsInstance) -> dict[str, Any]:
    """Its fields that differ from their defaults."""
    found: dict[str, Any] = {}
    for field in attrs.fields(type(thing)):
        entry = getattr(thing, field.name)
        if entry != field.default:
            found[field.name] = _plain_value(entry)
    return found


def _plain_value(entry: object) -> object:
    if isinstance(entry, Enum):
        return entry.name
    if isinstance(entry, tuple):
        return [_plain_value(one) for one in entry]
    if attrs.has(type(entry)):
        return _plain(entry)  # type: ignore[arg-type]  # `has` has just said so
    return entry


_READERS: dict[tuple[type, str], Callable[[Any], object]] = {
    (Fault, "kind"): FaultKind.__getitem__,
    (Fault, "one_way"): lambda value: _made(Conditions, value),
    (Fault, "other_way"): lambda value: _made(Conditions, value),
    (Task, "deed"): Deed.__getitem__,
    (Person, "tasks"): lambda value: tuple(_made(Task, task) for task in value),
}


def _made(kind: type[T], value: dict[str, Any]) -> T:
    read = {
        name: _READERS[kind, name](entry) if (kind, name) in _READERS else entry
        for name, entry in value.items()
    }
    return kind(**read)
