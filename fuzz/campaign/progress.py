"""How far a campaign is: a bar when somebody looks at stderr, else a line now and then."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from fuzz.campaign.tally import Tally

EVERY_S = 60.0  # between two lines where there is no terminal


class Lines:
    """For logs."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._began = self._told = monotonic()

    def step(self, tally: Tally) -> None:
        """One world more."""
        self._done += 1
        now = monotonic()
        if now - self._told >= EVERY_S:
            self._told = now
            rate = self._done / (now - self._began)
            sys.stderr.write(
                f"{self._done} of {self._total} worlds, {len(tally.broken)} broken, "
                f"{rate:.1f} a second, {(self._total - self._done) / rate / 60:.0f} minutes left\n"
            )
            sys.stderr.flush()


class Bar:
    """For people."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=total)

    def step(self, tally: Tally) -> None:
        """One world more."""
        told = f"{len(tally.broken)} broken, {len(tally.rows)} rows, {len(tally.pairs)} pairs"
        self._progress.update(self._task, advance=1, description=told)


@contextmanager
def progress(total: int) -> Iterator[Bar | Lines]:
    """To be told of each world."""
    if not sys.stderr.isatty():
        yield Lines(total)
        return
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as shown:
        yield Bar(shown, total)
