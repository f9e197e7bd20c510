"""From a phase table to Promela: one inline for each event, with the table's rows in it.

Control flow (which row, which guard, which phase next) comes from the table alone. What an effect
does to the world of a model, and what a guard reads there, is said in a dictionary keyed by the
function itself; one that is missing there is an error, so that a new effect cannot go unnoticed.

Rules: an event without a row does in a model what it does in the code: one of our own asserts,
one of the peer is dropped or, where the code closes the link for it, asserts as well, since an
honest peer must not cause it.
Left to others: the worlds (`handshake`, `rotation`, `closing`), running Spin (`spin`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

from attrs import evolve, frozen

from clawchat.core.table import Origin, Row, Signal, Table


class Untranslated(KeyError):
    """An effect or guard of a table has no Promela yet."""


@frozen
class Machine:
    """A table, or a table with a row missing. `prefix` begins each of its names in the model.

    `forgiven` are cells whose row was left out: their event does nothing there, instead of
    breaking an assertion, so that a property has to notice by itself.
    """

    prefix: str
    name: str
    phases: tuple[Enum, ...]
    initial: Enum
    rows: tuple[Row[Any], ...]
    ignored: frozenset[tuple[Enum, type[Signal]]]
    events: tuple[type[Signal], ...]
    indexed: bool = False  # several of them run at once
    peer_must_fit: bool = False  # whether an unexpected event of the peer closes the link
    forgiven: frozenset[tuple[Enum, type[Signal]]] = frozenset()

    @classmethod
    def of(
        cls,
        prefix: str,
        table: Table[Any],
        *,
        indexed: bool = False,
        peer_must_fit: bool = False,
    ) -> Machine:
        return cls(
            prefix=prefix,
            name=table.name,
            phases=tuple(table.phases),
            initial=table.initial,
            rows=table.rows,
            ignored=frozenset(table.ignores),
            events=table.events,
            indexed=indexed,
            peer_must_fit=peer_must_fit,
        )

    def without(self, row: Row[Any]) -> Machine:
        """The same with one row left out; of another table's row, the same."""
        rows = tuple(other for other in self.rows if other is not row)
        gone = {(row.source, row.event)} if len(rows) < len(self.rows) else set()
        return evolve(self, rows=rows, forgiven=self.forgiven | gone)


Snippets = Mapping[Callable[..., Any], str]


def row_name(row: Row[Any]) -> str:
    """For people: `CALLING x HelloDue -> CALLING`."""
    return f"{row.source.name} x {row.event.__name__} -> {row.dest.name}"


def untranslated(machine: Machine, effects: Snippets, guards: Snippets) -> list[str]:
    """Functions of the table that the dictionaries do not know."""
    effect_names = {e.__name__ for row in machine.rows for e in row.do if e not in effects}
    guard_names = {g.__name__ for row in machine.rows for g in row.guards if g not in guards}
    return [f"{machine.name}: {name}" for name in sorted(effect_names | guard_names)]


def translate(machine: Machine, effects: Snippets, guards: Snippets) -> str:
    """The machine's phases and one inline for each event. Raises `Untranslated`."""
    missing = untranslated(machine, effects, guards)
    if missing:
        raise Untranslated(", ".join(missing))
    return "\n".join(_lines(machine, effects, guards)) + "\n"


def _lines(machine: Machine, effects: Snippets, guards: Snippets) -> Iterator[str]:
    prefix = machine.prefix
    yield f"/* {machine.name} */"
    for number, phase in enumerate(machine.phases):
        yield f"#define {prefix}_{phase.name} {number}"
    variable = f"{prefix}_phase[i]" if machine.indexed else f"{prefix}_phase"
    for event in machine.events:
        yield f"inline {prefix}_{event.__name__}({'i' if machine.indexed else ''}) {{"
        yield "  if"
        for row in machine.rows:
            if row.event is event:
                yield _option(prefix, variable, row, effects, guards)
        for phase in machine.phases:
            if (phase, event) in machine.ignored:
                yield f"  :: {variable} == {prefix}_{phase.name} -> skip"
        yield "  :: else ->"
        yield "    if"
        for phase, forgiven in machine.forgiven:
            if forgiven is event:
                yield f"    :: {variable} == {prefix}_{phase.name} -> skip"
        yield f"    :: else -> {_unexpected(machine, event)}"
        yield "    fi"
        yield "  fi"
        yield "}"


def _option(prefix: str, variable: str, row: Row[Any], effects: Snippets, guards: Snippets) -> str:
    conditions = [f"{variable} == {prefix}_{row.source.name}"]
    conditions += [f"({_of(prefix, guards[guard])})" for guard in row.when]
    conditions += [f"!({_of(prefix, guards[guard])})" for guard in row.unless]
    steps = [_of(prefix, effects[effect]) for effect in row.do]
    steps.append(f"{variable} = {prefix}_{row.dest.name}")
    return f"  :: {' && '.join(conditions)} -> {'; '.join(steps)}"


def _of(prefix: str, snippet: str) -> str:
    """`@name` is the machine's own name: two machines may share an effect."""
    return snippet.replace("@", f"{prefix}_")


def _unexpected(machine: Machine, event: type[Signal]) -> str:
    if event.origin is Origin.PEER and not machine.peer_must_fit:
        return "skip"
    return f"assert(false) /* {event.__name__} is not expected */"


def assemble(
    machines: Sequence[Machine], effects: Snippets, guards: Snippets, state: str, *rest: str
) -> str:
    """A whole model: the phases, then `state`, which the snippets use, the machines, the rest."""
    text = [line for m in machines for line in translate(m, effects, guards).splitlines()]
    phases = [line for line in text if line.startswith("#define")]
    phases += [f"#define {m.prefix}_INITIAL {m.prefix}_{m.initial.name}" for m in machines]
    variables = [f"byte {m.prefix}_phase = {m.prefix}_INITIAL;" for m in machines if not m.indexed]
    inlines = [line for line in text if not line.startswith("#define")]
    return "\n".join([*phases, *variables, state, *inlines, *rest]) + "\n"
