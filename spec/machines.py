"""The phase machines, drawn: JSON for tools, Markdown and a diagram for PROTOCOL.md.

Rules: everything comes from the `Table`s that run; functions are shown by their names.
Left to others: running and checking tables (`clawchat.core.table`).
"""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Iterator
from enum import Enum
from importlib import import_module
from typing import Any, Final

from clawchat.core import phases
from clawchat.core.table import Row, Table

TITLES: Final = {
    "bootstrap": "Issuing bootstrap files (listener)",
    "handshake.dialer": "Handshake, dialer",
    "handshake.listener": "Handshake, listener",
    "established": "Life of a link",
    "rotating.keys.dialer": "Key ratchet, dialer",
    "rotating.keys.listener": "Key ratchet, listener",
    "rotating.ports": "A port's change, at the side that moves",
    "following.ports": "A port's change, at its peer",
    "compromised": "A pairing's end for good",
}


def tables() -> list[Table[Any]]:
    """Every table of `clawchat.core.phases`, in PROTOCOL.md's order."""
    found: dict[str, Table[Any]] = {}
    for module in pkgutil.iter_modules(phases.__path__, f"{phases.__name__}."):
        for value in vars(import_module(module.name)).values():
            if isinstance(value, Table):
                found[value.name] = value
    unknown = sorted(found.keys() - TITLES.keys())
    return [found[name] for name in (*TITLES, *unknown) if name in found]


def words(function: object) -> str:
    return getattr(function, "__name__", str(function)).strip("_").replace("_", " ")


def meaning(event: type) -> str:
    """The first sentence of its docstring."""
    return " ".join((event.__doc__ or "").split("\n\n")[0].split())


def guard_words(row: Row[Any]) -> str:
    positive = [words(guard) for guard in row.when]
    return ", ".join([*positive, *(f"not {words(guard)}" for guard in row.unless)])


def as_json(table: Table[Any]) -> str:
    """One machine for tools of other languages."""
    value = {
        "format": 1,
        "name": table.name,
        "initial": table.initial.name,
        "final": sorted(phase.name for phase in table.final),
        "phases": {phase.name: phase.value for phase in table.phases},
        "events": {
            event.__name__: {"origin": event.origin.name, "meaning": meaning(event)}
            for event in table.events
        },
        "rows": [_row(row) for row in table.rows],
        "ignores": [
            {"phase": phase.name, "event": event.__name__, "because": why}
            for (phase, event), why in table.ignores.items()
        ],
    }
    return json.dumps(value, indent=1) + "\n"


def _row(row: Row[Any]) -> dict[str, Any]:
    return {
        "source": row.source.name,
        "event": row.event.__name__,
        "when": [guard.__name__ for guard in row.when],
        "unless": [guard.__name__ for guard in row.unless],
        "do": [effect.__name__ for effect in row.do],
        "dest": row.dest.name,
        "because": row.because,
    }


def as_markdown(table: Table[Any], number: str) -> Iterator[str]:
    """A section of PROTOCOL.md."""
    yield f"### {number} {TITLES.get(table.name, table.name)} (`{table.name}`)"
    yield ""
    yield from _diagram(table)
    yield ""
    yield "| phase | meaning |"
    yield "|---|---|"
    for phase in table.phases:
        yield f"| {phase.name}{_marks(table, phase)} | {phase.value} |"
    yield ""
    yield "| event | from | meaning |"
    yield "|---|---|---|"
    for event in table.events:
        yield f"| {event.__name__} | {event.origin.name.lower()} | {meaning(event)} |"
    yield ""
    yield "| in phase | event | if | does | leads to | because |"
    yield "|---|---|---|---|---|---|"
    for row in table.rows:
        does = ", ".join(map(words, row.do))
        cells = row.source.name, row.event.__name__, guard_words(row), does, row.dest.name
        yield f"| {' | '.join((*cells, row.because))} |"
    yield ""
    yield from _ignored(table)


def _marks(table: Table[Any], phase: Enum) -> str:
    return " (initial)" if phase is table.initial else " (final)" if phase in table.final else ""


def _diagram(table: Table[Any]) -> Iterator[str]:
    yield "```mermaid"
    yield "stateDiagram-v2"
    yield f"    [*] --> {table.initial.name}"
    edges: dict[tuple[str, str], list[str]] = {}
    for row in table.rows:
        label = row.event.__name__
        if row.guards:
            label += f" [{guard_words(row)}]"
        edges.setdefault((row.source.name, row.dest.name), []).append(label)
    for (source, dest), labels in edges.items():
        yield f"    {source} --> {dest}: {'<br/>'.join(labels)}"
    for phase in table.phases:
        if phase in table.final:
            yield f"    {phase.name} --> [*]"
    yield "```"


def _ignored(table: Table[Any]) -> Iterator[str]:
    if not table.ignores:
        return
    yield "Ignored:"
    yield ""
    reasons: dict[str, list[str]] = {}
    for (phase, event), why in table.ignores.items():
        reasons.setdefault(why, []).append(f"{event.__name__} in {phase.name}")
    for why, places in reasons.items():
        yield f"- {', '.join(places)}: {why}."
    yield ""
