"""What campaigns found out, added up and kept: `python -m fuzz.campaign.tally FILE...`.

A tally file is what `--report FILE` writes. Such files of one plan can be added, from several
machines or days; the command prints the sum, as a row for the table in fuzz/README.md.

Rules: a seed that was counted is not counted again, but run again if it broke; each commit is
named, because a seed means a world only together with the code that draws it.
Left to others: what the rows say of coverage (`coverage`).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from attrs import define, field

from clawchat.core.instant import SECOND
from clawchat.drivers.simulator.many import Outcome, Pair, Totals
from clawchat.drivers.simulator.shoulder import Row

FORMAT = 1
HEAD = (
    "| commit | plan | seeds | worlds | virtual time | datagrams | links | rotations | delivered "
    "| CPU time | broken |\n|---|---|---|---|---|---|---|---|---|---|---|"
)
ADDED = ("worlds", "virtual_ns", "datagrams", "established", "rotations", "delivered", "cpu_s")


@define(slots=False)
class Tally(Totals):
    """Totals that know which code made them and of which seeds: disjoint (first, end)."""

    commits: list[str] = field(factory=list)
    seeds: list[tuple[int, int]] = field(factory=list)

    def add(self, outcome: Outcome) -> bool:
        """Count one world and its seed; whether it took a row or a pair that none before took.

        One that broke before and holds now is not broken any more.
        """
        if self.broken.pop(outcome.seed, None) is not None:  # it was counted when it broke
            if outcome.trouble:
                self.broken[outcome.seed] = outcome.trouble
            return False
        new = super().add(outcome)
        self._count(outcome.seed, outcome.seed + 1)
        return new

    def merge(self, other: Tally) -> None:
        """Add another's worlds. Raises `ValueError` when some were counted here already."""
        if other.plan != self.plan:
            raise ValueError(f"tallies of two plans, {self.plan} and {other.plan}")
        for first, end in other.seeds:
            if any(first < known_end and known < end for known, known_end in self.seeds):
                raise ValueError(f"some of the seeds {first}:{end} are counted twice")
        self.commits += [commit for commit in other.commits if commit not in self.commits]
        for first, end in other.seeds:
            self._count(first, end)
        for name in ADDED:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.rows.update(other.rows)
        self.pairs.update(other.pairs)
        self.broken.update(other.broken)

    def _count(self, first: int, end: int) -> None:
        joined: list[tuple[int, int]] = []
        for known in sorted([*self.seeds, (first, end)]):
            if joined and joined[-1][1] == known[0]:
                joined[-1] = joined[-1][0], known[1]
            else:
                joined.append(known)
        self.seeds = joined

    def left_of(self, seeds: Iterable[int]) -> list[int]:
        """Those that are not counted yet, after all that broke: the code may be repaired by now."""
        done = [range(first, end) for first, end in self.seeds]
        new = [seed for seed in seeds if not any(seed in known for known in done)]
        return [*self.broken, *new]

    @property
    def as_row(self) -> str:
        """For the table in fuzz/README.md."""
        seeds = ", ".join(f"{first}:{end}" for first, end in self.seeds)
        hours, delivered = self.virtual_ns / SECOND / 3600, self.delivered / 1e9
        return (
            f"| {', '.join(self.commits)} | {self.plan} | {seeds} | {self.worlds:,} "
            f"| {hours:,.1f} h | {self.datagrams:,} | {self.established:,} "
            f"| {self.rotations:,} | {delivered:,.1f} GB | {self.cpu_s / 3600:,.2f} h "
            f"| {len(self.broken)} |"
        )


# --- files ------------------------------------------------------------------------------------


def save(tally: Tally, path: Path) -> None:
    """Whole or not at all, because a campaign may be stopped at any moment."""
    value: dict[str, Any] = {"format": FORMAT, **vars(tally)}
    value["rows"] = {" ".join(row): count for row, count in sorted(tally.rows.items())}
    value["pairs"] = {
        " > ".join(" ".join(row) for row in pair): count
        for pair, count in sorted(tally.pairs.items())
    }
    value["broken"] = {str(seed): trouble for seed, trouble in tally.broken.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.new")
    beside.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    beside.replace(path)


def load(path: Path) -> Tally:
    """Raises `ValueError` for what is no tally of this version."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value.pop("format") != FORMAT:
            raise ValueError("a tally of another version")
        value["seeds"] = [(first, end) for first, end in value["seeds"]]
        value["rows"] = Counter({_row(text): count for text, count in value["rows"].items()})
        value["pairs"] = Counter({_pair(text): count for text, count in value["pairs"].items()})
        value["broken"] = {int(seed): trouble for seed, trouble in value["broken"].items()}
        return Tally(**value)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a tally: {error!r}") from None


def _row(text: str) -> Row:
    table, source, event, dest = text.split(" ")
    return table, source, event, dest


def _pair(text: str) -> Pair:
    first, second = text.split(" > ")
    return _row(first), _row(second)


def commit() -> str:
    """Which code runs, "+" for changes that are not committed; "unknown" outside a repository."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def main(arguments: Sequence[str] | None = None) -> int:
    """Add tallies up and print the sum."""
    from fuzz.campaign import coverage

    parser = argparse.ArgumentParser(prog="python -m fuzz.campaign.tally")
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--rows", action="store_true", help="every row, and how often")
    options = parser.parse_args(arguments)
    first, *others = [load(path) for path in options.files]
    for other in others:
        first.merge(other)
    print(HEAD)
    print(first.as_row)
    print(coverage.told(first, every_row=options.rows))
    return 1 if first.broken else 0


if __name__ == "__main__":
    sys.exit(main())
