"""Which rows of the phase machines were taken, and which pairs of rows one after the other.

A pair is possible when the second row of a machine begins in the phase in which the first ended;
both are rows of one machine of one link. What was never taken is named.

Rules: possible rows and pairs come from the tables that run.
Left to others: counting (`clawchat.drivers.simulator.shoulder`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from clawchat.core.table import Table
from clawchat.drivers.simulator.many import Pair
from clawchat.drivers.simulator.shoulder import Row
from fuzz.campaign.tally import Tally
from spec.machines import tables


def rows_of(table: Table[Any]) -> list[Row]:
    """Rows that differ only in their guards count as one."""
    rows = [(table.name, row.source.name, row.event.__name__, row.dest.name) for row in table.rows]
    return list(dict.fromkeys(rows))


def pairs_of(rows: list[Row]) -> list[Pair]:
    return [(one, two) for one in rows for two in rows if one[3] == two[1]]


def told(tally: Tally, *, every_row: bool = False) -> str:
    """The report, as Markdown."""
    return "\n".join(_lines(tally, every_row))


def _lines(tally: Tally, every_row: bool) -> Iterator[str]:
    yield "\n| machine | rows taken | of | pairs of rows taken | of |\n|---|---|---|---|---|"
    never: list[Row] = []
    for table in tables():
        rows = rows_of(table)
        pairs = pairs_of(rows)
        missing = [row for row in rows if row not in tally.rows]
        never += missing
        taken = sum(pair in tally.pairs for pair in pairs)
        yield (
            f"| {table.name} | {len(rows) - len(missing)} | {len(rows)} | {taken} | {len(pairs)} |"
        )
    yield f"\nRows never taken: {len(never)}"
    yield from (f"- {_words(row)}" for row in never)
    if every_row:
        yield "\nHow often each row was taken:"
        yield from (f"{count:12,} {_words(row)}" for row, count in sorted(tally.rows.items()))


def _words(row: Row) -> str:
    table, source, event, dest = row
    return f"{table}: {source} -- {event} --> {dest}"
