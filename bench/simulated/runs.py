"""Does many runs, two at a time at most, and keeps each result the moment it is there.

Rules: one JSON line per result, so that a run that was broken off goes on where it was; a result
that is on disk is never measured again.
Left to others: which runs (`cells`), one run (`course`), telling (`report`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

from attrs import asdict

from bench.simulated.cells import Run
from bench.simulated.course import Result, go

JOBS_MAX = 2


def load(path: Path) -> dict[str, Result]:
    """Results by the name of their run. A last line that was cut off counts for nothing."""
    if not path.exists():
        return {}
    found: dict[str, Result] = {}
    for line in path.read_text().splitlines():
        try:
            result = Result(**json.loads(line))
        except (ValueError, TypeError):
            continue
        found[result.run] = result
    return found


def measure(runs: Iterable[Run], path: Path, jobs: int) -> dict[str, Result]:
    """Do what is missing of `runs`; all results that are known then."""
    wanted = list(runs)
    done = load(path)
    missing = [run for run in wanted if run.name not in done]
    with path.open("a") as file, _results(missing, jobs) as results:
        for count, result in enumerate(results, 1):
            file.write(json.dumps(asdict(result)) + "\n")
            file.flush()
            done[result.run] = result
            sys.stderr.write(f"\r{count} of {len(missing)}: {result.run:60}")
    if missing:
        sys.stderr.write("\n")
    return {run.name: done[run.name] for run in wanted}


@contextmanager
def _results(runs: list[Run], jobs: int) -> Iterator[Iterator[Result]]:
    if jobs <= 1:
        yield map(go, runs)
        return
    with get_context("spawn").Pool(min(jobs, JOBS_MAX)) as pool:
        yield pool.imap_unordered(go, runs)
