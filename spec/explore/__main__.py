"""`python -m spec.explore [NAME ...] [--deep]`: explore the shipped core, breadth first.

Without names all small explorations, with `--deep` the deep ones. Exit code 0 when all held, 1
with a counterexample: it is printed, and kept in a file that `--replay FILE` plays again; 2 for a
wrong option. `--rows` tells how often each row was taken.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from time import process_time
from typing import Final

from attrs import frozen

from clawchat.drivers.simulator.invariants import Firing
from spec.explore.catalogue import ALL, DEEP, OUT_OF_REACH, SMALL, missed, name_of
from spec.explore.scenario import Scenario, Unreadable
from spec.explore.search import Counterexample

KEPT: Final = Path("counterexample.json")


@frozen
class Result:
    """What came of one exploration, in a form that can be sent to another process."""

    name: str
    situations: int
    played: int
    longest: int
    exhausted: bool
    seconds: float
    rows: Counter[Firing]
    broken: Scenario | None

    def told(self) -> str:
        cut = "" if self.exhausted else "  (cut short)"
        return (
            f"{self.name:44} {self.situations:>10} {self.played:>7} {self.longest:>7} "
            f"{self.seconds:>8.1f}{cut}"
        )


def explore(name: str, seconds_max: float) -> Result:
    """One exploration."""
    exploration, broken = ALL[name].exploration(seconds_max), None
    began = process_time()
    try:
        exploration.run()
    except Counterexample as counterexample:
        broken = Scenario(name, counterexample.way, counterexample.found)
    return Result(
        name,
        len(exploration.seen),
        exploration.played,
        exploration.longest,
        exploration.exhausted,
        process_time() - began,
        exploration.rows,
        broken,
    )


def run(names: Sequence[str], *, jobs: int, seconds_max: float, rows: bool, keep: Path) -> int:
    """Explore, tell, and keep the first counterexample; how many there were."""
    results: list[Result] = []
    broken = 0
    print(f"{'exploration':44} {'situations':>10} {'played':>7} {'longest':>7} {'seconds':>8}")
    with ProcessPoolExecutor(jobs) as pool:
        for result in pool.map(partial(explore, seconds_max=seconds_max), names):
            results.append(result)
            print(result.told(), flush=True)
            if result.broken is not None:
                broken += 1
                tell(result.broken, keep if broken == 1 else None)
    taken: Counter[Firing] = Counter()
    for result in results:
        taken.update(result.rows)
    print(
        f"{len(names)} explorations, {sum(result.situations for result in results)} situations, "
        f"{sum(result.played for result in results)} played, "
        f"{sum(result.seconds for result in results):.0f} s of processor time, "
        f"{len(taken)} rows taken, {broken} broken"
    )
    if rows:
        tell_rows(taken)
    return broken


def tell_rows(taken: Counter[Firing]) -> None:
    for firing, count in sorted(taken.items(), key=lambda item: name_of(item[0])):
        print(f"{count:9} {name_of(firing)}")
    for name in missed(taken):
        print(f"{0:9} {name}: {OUT_OF_REACH.get(name, 'NOT TAKEN')}")


def tell(scenario: Scenario, keep: Path | None) -> None:
    print(f"BROKEN: {scenario.found}")
    for number, line in enumerate(scenario.words(), 1):
        print(f"  {number}. {line}")
    if keep is not None:
        scenario.save(keep)
        print(f"  to see it again: python -m spec.explore --replay {keep} --trace")


def replay(path: Path, *, trace: bool) -> int:
    """Exit code 1 when it is still there."""
    try:
        scenario = Scenario.load(path)
    except (OSError, Unreadable) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{scenario.exploration}; found then: {scenario.found}")
    again = scenario.replay(sys.stdout.write, trace=trace)
    print("held" if again is None else f"BROKEN: {again.found}")
    return 0 if again is None else 1


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m spec.explore", description=__doc__)
    parser.add_argument("names", nargs="*", help="explorations by name; see --list")
    parser.add_argument("--deep", action="store_true", help="the deep ones")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="for each exploration")
    parser.add_argument("--rows", action="store_true", help="tell how often each row was taken")
    parser.add_argument("--list", action="store_true", help="print the names")
    parser.add_argument("--keep", type=Path, default=KEPT, help="where a counterexample is kept")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="play a counterexample again")
    parser.add_argument("--trace", action="store_true", help="with everything that happens")
    options = parser.parse_args(arguments)
    if options.replay is not None:
        return replay(options.replay, trace=options.trace)
    names = options.names or list(DEEP if options.deep else SMALL)
    unknown = [name for name in names if name not in ALL]
    if unknown:
        parser.error(f"no such exploration: {', '.join(unknown)}")
    if options.list:
        print("\n".join(names))
        return 0
    broken = run(
        names,
        jobs=options.jobs,
        seconds_max=options.seconds,
        rows=options.rows,
        keep=options.keep,
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
