"""Hypothesis reads the phase tables and holds every machine to its own.

Any event, with any values, in any phase that can be reached: a row is taken and does what it
says, or the event is ignored for a reason, or it is unexpected and changes nothing. Tables are
found by looking, so that a new machine is tested the moment it exists.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from enum import Enum
from importlib import import_module
from random import Random
from types import ModuleType
from typing import Any, get_args, get_type_hints

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from clawchat.core import phases
from clawchat.core.config import Entropy
from clawchat.core.credential import Address, Credential, Pairing, Superseded
from clawchat.core.instant import HOUR
from clawchat.core.secret import Secret
from clawchat.core.table import Fired, Origin, Row, Signal, Table, UnexpectedEvent

numbers = st.integers(0, 255)  # what is in the bytes matters to no table, only whether it differs
keys = numbers.map(lambda number: bytes([number]) * 32)
secrets = keys.map(Secret)
hints = numbers.map(lambda number: bytes([number]) * 16)
credentials = st.builds(Credential, st.integers(0, 9), hints, secrets, secrets)
pairings = st.builds(
    Pairing,
    file_id=hints,
    dialer=st.booleans(),
    listener_static=keys,
    peer_static=st.none() | keys,
    credentials=st.lists(credentials, min_size=1, max_size=2).map(tuple),
    superseded=st.lists(st.builds(Superseded, st.integers(0, 9), hints, secrets), max_size=4).map(
        tuple
    ),
)
BY_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    Pairing: pairings,
    Credential: credentials,
    Secret: secrets,
    bytes: keys,
    str: st.text(max_size=8),
    int: st.integers(0, 100 * HOUR),
    bool: st.booleans(),
    Entropy: st.just(Random(1).randbytes),
    Address: st.builds(Address, st.just("192.0.2.1"), st.integers(49_152, 49_160)),
    tuple[Address, ...]: st.just((Address("192.0.2.1", 5),)),
}


def modules() -> Iterator[ModuleType]:
    for found in pkgutil.iter_modules(phases.__path__):
        yield import_module(f"{phases.__name__}.{found.name}")


TABLES: dict[str, tuple[Table[Any], ModuleType]] = {
    table.name: (table, module)
    for module in modules()
    for table in vars(module).values()
    if isinstance(table, Table)
}


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Values of an annotated type."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.sampled_from(kind)
    if kind in BY_TYPE:
        return BY_TYPE[kind]
    parts = [part for part in get_args(kind) if part in BY_TYPE]
    assert parts, f"how to make a {kind}?"
    return BY_TYPE[parts[0]]


def made(cls: type[Any], **known: Any) -> st.SearchStrategy[Any]:
    """An instance with any values for the fields that must be given."""
    types = get_type_hints(cls)
    wanted = {
        field.name: values_of(types[field.name])
        for field in attrs.fields(cls)
        if field.init and field.default is attrs.NOTHING and field.name not in known
    }
    return st.builds(cls, **wanted, **{name: st.just(value) for name, value in known.items()})


def model_of(table: Table[Any], module: ModuleType) -> type[Any]:
    """The class that this table runs: it has a phase and orders to give."""
    return next(
        cls
        for cls in vars(module).values()
        if isinstance(cls, type)
        and attrs.has(cls)
        and {"phase", "out"} <= {field.name for field in attrs.fields(cls)}
        and cls.__module__ == module.__name__
    )


def shown(model: Any) -> dict[str, Any]:
    """All that an event could change."""
    return {
        field.name: list(value) if isinstance(value := getattr(model, field.name), list) else value
        for field in attrs.fields(type(model))
    }


def machine_for(table: Table[Any], module: ModuleType) -> type[RuleBasedStateMachine]:
    """A state machine of Hypothesis that fires at `table`."""
    cells: dict[tuple[Enum, type[Signal]], list[Row[Any]]] = {}
    for row in table.rows:
        cells.setdefault((row.source, row.event), []).append(row)
    signals = st.sampled_from(table.events).flatmap(made)

    class Firing(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.model: Any = None
            self.told: list[tuple[str, Enum, str, Enum]] = []

        def trace(self, name: str, source: Enum, event: str, dest: Enum) -> None:
            self.told.append((name, source, event, dest))

        @rule(model=made(model_of(table, module), phase=table.initial))
        def begin_again(self, model: Any) -> None:
            self.model = model

        @rule(event=signals)
        def something_happens(self, event: Signal) -> None:
            if self.model is None:
                return
            self.told.clear()
            kind = (self.model.phase, type(event))
            if kind in cells:
                self._taken(event, cells[kind])
            else:
                self._not_taken(event)

        def _taken(self, event: Signal, rows: list[Row[Any]]) -> None:
            model, source = self.model, self.model.phase
            truth = {guard: guard(model, event) for row in rows for guard in row.guards}
            enabled = [row for row in rows if row.enabled(truth)]
            assert len(enabled) == 1
            assert table.fire(model, event, self.trace) is Fired.TAKEN
            assert model.phase is enabled[0].dest
            name = type(event).__name__
            assert self.told == [(table.name, source, name, enabled[0].dest)]
            if not enabled[0].do:
                assert model.out == []
            model.out.clear()  # whoever fires carries the commands out at once

        def _not_taken(self, event: Signal) -> None:
            before = shown(self.model)
            reason = table.ignores.get((self.model.phase, type(event)))
            if reason is not None:
                assert reason
                assert table.fire(self.model, event, self.trace) is Fired.IGNORED
            elif event.origin is Origin.PEER:
                assert table.fire(self.model, event, self.trace) is Fired.UNEXPECTED
            else:
                error = UnexpectedEvent if event.origin is Origin.LOCAL else AssertionError
                with pytest.raises(error):
                    table.fire(self.model, event, self.trace)
            assert shown(self.model) == before
            assert self.told == []

        @invariant()
        def a_final_phase_is_final(self) -> None:
            if self.model is not None and self.model.phase in table.final:
                assert not any(row.source is self.model.phase for row in table.rows)

    return Firing


@pytest.mark.parametrize("name", TABLES)
def test_a_machine_does_what_its_table_says_and_nothing_else(name: str) -> None:
    table, module = TABLES[name]
    run_state_machine_as_test(
        machine_for(table, module),
        settings=settings(max_examples=40, stateful_step_count=40, deadline=None),
    )


def test_all_tables_were_found() -> None:
    assert {
        "bootstrap",
        "established",
        "following.ports",
        "handshake.dialer",
        "handshake.listener",
        "rotating.keys.dialer",
        "rotating.keys.listener",
        "rotating.ports",
    } <= set(TABLES)
