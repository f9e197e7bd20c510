"""A phase machine is a table: rows that are run, drawn, exported, explored and tested alike.

Rules: a phase is an `Enum` member; an event is a frozen class and the class is the key; guards
and effects are plain functions `(model, event)`. Every (phase, event) is a row, an `ignore` with
its reason, or unexpected. Guards on one cell must partition it. This is the only file that knows
`transitions`; its traps are avoided here: no model is registered (10 kB each, and skipped in
silence when it equals another), effects run `before` the phase changes so that an exception
leaves it alone, and callbacks are functions, never names.
Left to others: what an unexpected event of a peer costs it (`core.link`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from enum import Enum, unique
from itertools import product
from typing import Any, ClassVar, Generic, Protocol, TypeAlias, TypeVar

from attrs import field, frozen
from transitions import Machine

from clawchat.core.instant import Instant
from clawchat.errors import LocalError


@unique
class Origin(Enum):
    """Where an event comes from, which says what it means when no row expects it."""

    LOCAL = "the application or driver: raises LocalError"
    PEER = "the authenticated peer: reported as unexpected, nothing changes"
    TIMER = "our own timer: a bug, asserted"


@frozen
class Signal:
    """An event of a phase machine: something that happened at `now`."""

    origin: ClassVar[Origin]
    now: Instant


class Model(Protocol):
    """What a table runs: anything with a `phase`."""

    phase: Any


M = TypeVar("M", bound=Model)
Guard: TypeAlias = Callable[[Any, Any], bool]
Effect: TypeAlias = Callable[[Any, Any], None]
Trace: TypeAlias = Callable[[str, Enum, str, Enum], None]
"""Called after a row was taken: table name, source phase, event name, destination phase."""


@unique
class Fired(Enum):
    """What became of an event."""

    TAKEN = "a row was taken"
    IGNORED = "expected, and without effect"
    UNEXPECTED = "no row and no reason to ignore it"


class UnexpectedEvent(LocalError):
    """The application asked for something that this phase does not offer."""


@frozen
class Row(Generic[M]):
    """In `source`, `event` leads to `dest`, doing `do`, if all of `when` and none of `unless`."""

    source: Enum
    event: type[Signal]
    dest: Enum
    do: tuple[Effect, ...] = ()
    when: tuple[Guard, ...] = ()
    unless: tuple[Guard, ...] = ()
    because: str = ""

    @property
    def guards(self) -> tuple[Guard, ...]:
        return self.when + self.unless

    def enabled(self, truth: Mapping[Guard, bool]) -> bool:
        """Whether this row is taken when each guard is as `truth` says."""
        return all(truth[g] for g in self.when) and not any(truth[g] for g in self.unless)


@frozen(eq=False)
class Table(Generic[M]):
    """One phase machine. Raises `ValueError` on import when its rows contradict each other."""

    name: str
    phases: type[Enum]
    initial: Enum
    final: frozenset[Enum]
    rows: tuple[Row[M], ...]
    ignores: Mapping[tuple[Enum, type[Signal]], str] = field(factory=dict)
    _machine: Machine = field(init=False, repr=False)
    _cells: frozenset[tuple[Enum, type[Signal]]] = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        found = problems(self)
        if found:
            raise ValueError(f"table {self.name}: " + "; ".join(found))
        object.__setattr__(self, "_cells", frozenset((r.source, r.event) for r in self.rows))
        object.__setattr__(self, "_machine", _machine_of(self))

    @property
    def events(self) -> tuple[type[Signal], ...]:
        """Every event the table speaks of, in order of first mention."""
        mentioned = [r.event for r in self.rows] + [event for _, event in self.ignores]
        return tuple(dict.fromkeys(mentioned))

    def fire(self, model: M, event: Signal, trace: Trace | None = None) -> Fired:
        """Run one event. Raises `UnexpectedEvent` for a LOCAL event that no row expects."""
        source = model.phase
        kind = type(event)
        if (source, kind) in self._cells:
            self._machine.events[kind.__name__].trigger(model, model, event)
            if trace is not None:
                trace(self.name, source, kind.__name__, model.phase)
            return Fired.TAKEN
        if (source, kind) in self.ignores:
            return Fired.IGNORED
        assert kind.origin is not Origin.TIMER, f"{self.name}: {kind.__name__} in {source}"
        if kind.origin is Origin.LOCAL:
            raise UnexpectedEvent(f"{self.name}: {kind.__name__} in phase {source.name}")
        return Fired.UNEXPECTED


def problems(table: Table[M]) -> list[str]:
    """Everything that is wrong with a table's shape; empty when it is sound."""
    found = [*_bad_cells(table), *_bad_phases(table)]
    names = defaultdict(set)
    for event in table.events:
        names[event.__name__].add(event)
    found += [f"two events are called {name}" for name, kinds in names.items() if len(kinds) > 1]
    return found


def _bad_cells(table: Table[M]) -> Iterable[str]:
    cells: dict[tuple[Enum, type[Signal]], list[Row[M]]] = defaultdict(list)
    for row in table.rows:
        cells[row.source, row.event].append(row)
    for (phase, event), rows in cells.items():
        where = f"{phase.name} x {event.__name__}"
        if (phase, event) in table.ignores:
            yield f"{where} is both a row and ignored"
        guards = list(dict.fromkeys(g for row in rows for g in row.guards))
        for values in product((False, True), repeat=len(guards)):
            truth = dict(zip(guards, values, strict=True))
            count = sum(row.enabled(truth) for row in rows)
            if count != 1:
                named = {guard.__name__: value for guard, value in truth.items()}
                yield f"{where}: {count} rows for {named}"
                break


def _bad_phases(table: Table[M]) -> Iterable[str]:
    reached = {table.initial}
    grew = True
    while grew:
        new = {row.dest for row in table.rows if row.source in reached} - reached
        reached |= new
        grew = bool(new)
    left = {row.source for row in table.rows if row.source is not row.dest}
    for phase in table.phases:
        if phase not in reached:
            yield f"{phase.name} cannot be reached"
        if phase in table.final and any(row.source is phase for row in table.rows):
            yield f"{phase.name} is final and has rows"
        if phase not in table.final and phase not in left:
            yield f"{phase.name} is a dead end and not final"


def _machine_of(table: Table[M]) -> Machine:
    machine = Machine(
        model=None,
        states=table.phases,
        initial=table.initial,
        auto_transitions=False,
        model_attribute="phase",
    )
    for row in table.rows:
        machine.add_transition(
            row.event.__name__,
            row.source,
            row.dest,
            conditions=list(row.when),
            unless=list(row.unless),
            before=list(row.do),
        )
    return machine
