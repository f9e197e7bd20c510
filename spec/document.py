"""Fills the parts of PROTOCOL.md between `generated` markers.

Rules: a marker without a maker, and a maker without a marker, are errors: neither text nor code
can lose the other.
Left to others: what stands in the parts (`constants`, `layouts`, `machines`, `vectors`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

from clawchat.core.crypto.envelope import ENVELOPE_SIZES
from spec import constants, layouts, machines, vectors

MARKED: Final = re.compile(
    r"(<!-- generated: (?P<name>[a-z-]+) -->\n).*?(<!-- /generated -->)", re.DOTALL
)


def filled(text: str) -> str:
    """PROTOCOL.md with every generated part made anew. Raises `ValueError` for a lost marker."""
    names = [found["name"] for found in MARKED.finditer(text)]
    if sorted(names) != sorted(MAKERS):
        wrong = sorted(set(names) ^ set(MAKERS)) or ["one of them twice"]
        raise ValueError(f"PROTOCOL.md's generated markers do not match the makers: {wrong}")
    return MARKED.sub(
        lambda found: found[1] + MAKERS[found["name"]]().rstrip() + "\n" + found[3], text
    )


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _machines() -> str:
    lines: list[str] = []
    for number, machine in enumerate(machines.tables(), 1):
        lines += machines.as_markdown(machine, f"18.{number}")
    return "\n".join(lines)


def _codes() -> str:
    return table(("code", "name", "meaning"), constants.close_codes())


def _reasons() -> str:
    return table(("reason", "name", "meaning"), constants.reasons())


def _drops() -> str:
    return table(("reason", "meaning"), constants.drops())


MAKERS: Final[dict[str, Callable[[], str]]] = {
    "envelope-sizes": lambda: ", ".join(map(str, ENVELOPE_SIZES)),
    "frames": lambda: table(
        ("type", "frame", "fields", "ack-eliciting", "if lost, sent again"), layouts.rows()
    ),
    "machines": _machines,
    "timers": lambda: table(("timer", "why somebody wakes up"), constants.timers()),
    "constants": lambda: table(("constant", "value", "why"), constants.constants()),
    "settings": lambda: table(("setting", "default"), constants.settings()),
    "close-codes": _codes,
    "reasons": _reasons,
    "drops": _drops,
    "vectors": lambda: table(("file", "what it shows", "cases"), vectors.summary()),
}
