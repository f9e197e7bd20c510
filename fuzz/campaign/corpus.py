"""The seeds worth keeping: together they take every row and pair of rows that a campaign took.

One file for each plan, a seed a line, committed; a campaign runs them first, so that what is rare
is met at once.

Rules: a greedy cover, so the file stays small; what a seed means changes with the simulator, so
the file is made anew (`--keep`) when it has, and stays harmless until then.
Left to others: running worlds (`engines`).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from clawchat.drivers.simulator.many import Outcome
from fuzz.harness import FOLDER

FIRST_LINE = "# Together these worlds take every row and pair of rows that some campaign took.\n"


def path_of(plan: str) -> Path:
    return FOLDER / "corpus" / "worlds" / f"{plan}.txt"


def kept(plan: str) -> list[int]:
    """The seeds of a plan's file; none when there is no file."""
    try:
        lines = path_of(plan).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [int(line) for line in lines if line and not line.startswith("#")]


def keep(plan: str, seeds: Iterable[int]) -> Path:
    path = path_of(plan)
    path.parent.mkdir(exist_ok=True)
    lines = "".join(f"{seed}\n" for seed in sorted(seeds))
    path.write_text(FIRST_LINE + lines, encoding="utf-8")
    return path


def cover(found: Iterable[Outcome]) -> list[int]:
    """A few of these whose rows and pairs are those of all of them."""
    met: dict[int, set[object]] = {
        outcome.seed: {*outcome.rows, *outcome.pairs} for outcome in found
    }
    left = set().union(*met.values())
    chosen = []
    while left:
        best = max(met, key=lambda seed: (len(met[seed] & left), -seed))
        chosen.append(best)
        left -= met.pop(best)
    return sorted(chosen)
