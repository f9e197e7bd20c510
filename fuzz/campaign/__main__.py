"""Many simulated worlds: `python -m fuzz.campaign --seeds 0:1000 [--plan everything]`.

By default over a process pool; with `--scheduler ADDRESS` over an engine of `dask.distributed` that
runs already. `--report FILE` keeps the tally; the same command again goes on where it was stopped.
Exit code 0 when every invariant held in every world, 1 otherwise, 130 after Ctrl-C with none
broken; each broken world is told with the command that runs it again, and of each kind of failure
one world is made a small scenario file. See fuzz/README.md.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import monotonic

from attrs import define, field

from clawchat.drivers.simulator import scenario
from clawchat.drivers.simulator.faults import PLANS
from clawchat.drivers.simulator.many import Outcome, seeds_of
from fuzz.campaign import corpus, coverage, tally
from fuzz.campaign.engines import engine, outcomes
from fuzz.campaign.progress import progress
from fuzz.campaign.shrinking import reason, shrink
from fuzz.campaign.tally import HEAD, Tally
from fuzz.harness import FOLDER

SAVE_EVERY_S = 20.0
REASONS_MAX = 5  # so many kinds of failure are made small


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m fuzz.campaign", description=__doc__)
    made.add_argument("--seeds", type=seeds_of, default=range(1000), help="N, or A:B")
    made.add_argument("--plan", choices=[*sorted(PLANS), "all"], default="everything")
    made.add_argument("--jobs", type=int, default=None, help="processes (all cores)")
    made.add_argument("--scheduler", metavar="ADDRESS", help="of dask.distributed, tcp://...")
    made.add_argument("--minutes", type=float, help="stop after so long, with the tally so far")
    made.add_argument(
        "--report", type=Path, help="the tally as JSON; goes on with what is there (one plan)"
    )
    made.add_argument("--rows", action="store_true", help="tell how often each row was taken")
    made.add_argument("--no-corpus", action="store_true", help="do not run the kept seeds first")
    made.add_argument("--keep", action="store_true", help="write the corpus anew from this run")
    made.add_argument("--no-shrink", action="store_true", help="make no scenario of a failure")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the options, run the worlds, tell what happened."""
    made = parser()
    options = made.parse_args(arguments)
    if options.report and options.plan == "all":
        made.error("a report is of one plan")
    ends_at = None if options.minutes is None else monotonic() + options.minutes * 60
    codes = []
    with engine(options.scheduler, options.jobs) as (submit, jobs):
        for plan in sorted(PLANS) if options.plan == "all" else [options.plan]:
            campaign = Campaign(plan, options.report, ends_at)
            kept = [] if options.no_corpus or options.keep else corpus.kept(plan)
            left = campaign.counted.left_of(dict.fromkeys([*kept, *options.seeds]))
            with progress(len(left)) as shown:
                campaign.run(outcomes(submit, jobs, left, plan), shown.step)
            codes.append(campaign.tell(rows=options.rows))
            if options.keep:
                print(f"kept: {corpus.keep(plan, corpus.cover(campaign.firsts))}")
            if not options.no_shrink:
                campaign.shrink()
            if campaign.stopped:
                break
    return max(codes)


@define(slots=False)
class Campaign:
    """One plan's worlds."""

    plan: str
    report: Path | None = None
    ends_at: float | None = None
    counted: Tally = field(init=False)
    firsts: list[Outcome] = field(factory=list)
    stopped: bool = False
    _saved_at: float = 0.0
    _began: float = field(factory=monotonic)
    _worlds_before: int = 0

    def __attrs_post_init__(self) -> None:
        if self.report is not None and self.report.exists():
            self.counted = tally.load(self.report)
            if self.counted.plan != self.plan:
                raise SystemExit(f"{self.report} is of plan {self.counted.plan}")
        else:
            self.counted = Tally(self.plan)
        running = tally.commit()
        if running not in self.counted.commits:
            self.counted.commits.append(running)
        self._worlds_before = self.counted.worlds

    def run(self, found: Iterator[Outcome], step: Callable[[Tally], None]) -> None:
        """Count what is found, until all is, the time is over or somebody says stop."""
        try:
            for outcome in found:
                if self.counted.add(outcome):
                    self.firsts.append(outcome)
                if outcome.trouble:
                    print(f"BROKEN: {outcome.trouble}", flush=True)
                step(self.counted)
                if monotonic() - self._saved_at > SAVE_EVERY_S:
                    self._save()
                if self.ends_at is not None and monotonic() > self.ends_at:
                    self.stopped = True
                    break
        except KeyboardInterrupt:
            self.stopped = True
        self._save()

    def _save(self) -> None:
        self._saved_at = monotonic()
        if self.report is not None:
            tally.save(self.counted, self.report)

    def tell(self, *, rows: bool) -> int:
        """Print the tally; the exit code."""
        counted, took = self.counted, monotonic() - self._began
        worlds = counted.worlds - self._worlds_before
        print(f"{HEAD}\n{counted.as_row}")
        print(coverage.told(counted, every_row=rows))
        print(
            f"\n{self.plan}: {counted.worlds} worlds, {len(counted.broken)} broken; {worlds} of "
            f"them now, in {took:.1f} s{', stopped' if self.stopped else ''}",
            flush=True,
        )
        if counted.broken:
            return 1
        return 130 if self.stopped and self.ends_at is None else 0

    def shrink(self) -> None:
        """Of each kind of failure, make one world a small scenario file."""
        kinds = {reason(text): seed for seed, text in reversed(self.counted.broken.items())}
        for seed in list(kinds.values())[:REASONS_MAX]:
            small = shrink(seed, self.plan)
            if small is None:
                print(f"seed {seed} does not fail when it is recorded")
                continue
            path = FOLDER / "found" / f"{self.plan}-{seed}.json"
            path.parent.mkdir(exist_ok=True)
            scenario.save(small, path)
            print(f"{small.about}\n  python -m clawchat.drivers.simulator --scenario {path}")


if __name__ == "__main__":
    for stop in (signal.SIGINT, signal.SIGTERM):  # in the background as well, where INT is ignored
        signal.signal(stop, signal.default_int_handler)
    sys.exit(main())
