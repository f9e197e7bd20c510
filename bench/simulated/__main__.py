"""`python -m bench.simulated [--quick]`: measure, and write table, figures and plot to `bench/`.

The full run takes the better part of an hour and may be stopped at any time: what was measured is
kept in the file `--runs` and not measured again. `--again` measures our side alone, and takes the
other's from `simulated.json`. Exit code 1 when we are behind somewhere.
Left to others: the measuring itself (`runs`, `course`).
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from time import strftime

from bench.simulated.cells import OURS, SHIPPED, SIZES_MB, THEIRS, Run, all_runs, quick_runs
from bench.simulated.report import Cell, as_json, as_markdown, as_svg, cells, from_json
from bench.simulated.runs import JOBS_MAX, measure

HOME = Path(__file__).parent.parent


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.simulated", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the corners only, nothing is kept")
    parser.add_argument("--jobs", type=int, default=JOBS_MAX, choices=range(1, JOBS_MAX + 1))
    parser.add_argument("--runs", type=Path, default=HOME / "simulated.runs.jsonl")
    parser.add_argument("--out", type=Path, default=HOME, help="folder for table and plot")
    parser.add_argument(
        "--again",
        action="store_true",
        help="measure our own side anew; the other's comes from simulated.json in `--out`",
    )
    return parser.parse_args(arguments)


def forget_ours(path: Path) -> None:
    """Drop what was measured of us, for instance after a change of the core."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines(keepends=True):
        who = json.loads(line)["run"].split()[-2]
        if who not in (OURS, SHIPPED[0]):
            kept.append(line)
    path.write_text("".join(kept))


def write(folder: Path, runs: Sequence[Run], made: Sequence[Cell], theirs: dict[str, str]) -> None:
    about = {
        "version": 1,
        "when": strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        **theirs,
        "seeds": sorted({run.seed for run in runs}),
        "cells": as_json(made),
    }
    (folder / "simulated.json").write_text(json.dumps(about, indent=1) + "\n")
    (folder / "simulated.md").write_text(
        "# Beside aioquic in the simulator\n\n"
        f"Made by `python -m bench.simulated` with the code of {about['when']} and aioquic "
        f"{about['aioquic']};\nwhat is measured and how stands in [README.md](README.md).\n\n"
        + as_markdown(made)
    )
    for size in SIZES_MB:
        (folder / f"simulated-{size}mb.svg").write_text(as_svg(made, size))


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    runs = list(quick_runs() if options.quick else all_runs())
    known: list[Cell] = []
    theirs = {"aioquic": version("aioquic"), "aioquic_when": strftime("%Y-%m-%d")}
    if options.again:
        about = json.loads((options.out / "simulated.json").read_text())
        theirs = {"aioquic": about["aioquic"], "aioquic_when": about["aioquic_when"]}
        known = from_json(about["cells"], (*THEIRS, SHIPPED[1]))
        runs = [run for run in runs if run.who in (OURS, SHIPPED[0])]
        forget_ours(options.runs)
    if options.quick:
        with TemporaryDirectory() as folder:
            results = measure(runs, Path(folder) / "runs.jsonl", options.jobs)
    else:
        results = measure(runs, options.runs, options.jobs)
    made = cells(runs, results, known)
    if not options.quick:
        write(options.out, runs, made, theirs)
    sys.stdout.write(as_markdown(made) + "\n")
    return 1 if any(cell.behind for cell in made) else 0


if __name__ == "__main__":
    sys.exit(main())
