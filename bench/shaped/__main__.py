"""`python -m bench.shaped`: what sizes and times still tell of streamed replies, and what it costs.

Writes `bench/shaped.md` and `bench/shaped.json`. All traffic is made in the simulator, in virtual
time, by real endpoints; the replies are synthetic (`replies`). `--quick` keeps nothing.
Left to others: streaming (`course`), guessing (`guess`).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path
from time import strftime
from typing import Final

import numpy as np
from attrs import asdict, frozen

from bench.shaped.course import Plan, Trace, go
from bench.shaped.guess import Verdict, judge
from bench.shaped.replies import SETS
from clawchat.core.instant import MILLISECOND
from clawchat.core.streams.beat import BEAT, CELL

HOME: Final = Path(__file__).resolve().parents[1]
PER_LINK: Final = 25
TRAINING_SHARE: Final = 0.6
MODES: Final = (("as it comes", False), ("shaped", True))

HEAD: Final = """# What streamed replies tell an observer

Written by `{command}` with the code of {when}; made of synthetic
replies in the simulator, as said in [shaped/replies.py](shaped/replies.py),
[course.py](shaped/course.py) and [guess.py](shaped/guess.py). Cells are {cell} bytes every
{beat} ms (PROTOCOL.md 11.2).

An observer on the path sees time, direction and size of every datagram. He is told where the
traffic of each reply begins and ends. He learns on {training} replies of each set and guesses the
class of {guessed} others, over other links. The path: 20 ms each way, 5 ms of jitter, 0.5 % loss.
Between brackets: the 95 % interval.
"""
NOTES: Final = """
In *topics* and *texts* all classes have replies of like lengths, so that what is guessed is the
content. In *lengths* nothing but the length differs, and each class is twice the one before: that
is what the ladder of burst lengths still tells. Real replies are longer on some topics than on
others: as much of the topic as their length tells stays visible.
"""


@frozen
class Result:
    """One set in one mode."""

    what: str
    mode: str
    training: int  # replies
    guessed: int
    verdicts: list[Verdict]
    cost: dict[str, float]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.shaped", description=__doc__)
    parser.add_argument("--replies", type=int, default=400, help="of each set, both ways")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="few replies; nothing is written")
    return parser.parse_args(arguments)


def plans(what: str, replies: int, *, shaped: bool) -> list[Plan]:
    """One for each link."""
    links = max(2, replies // PER_LINK)
    border = round(links * TRAINING_SHARE)
    classes = len(SETS[what])
    return [
        Plan(what, link, classes, PER_LINK, training=link < border, shaped=shaped)
        for link in range(links)
    ]


def measured(replies: int, jobs: int) -> Iterator[tuple[str, str, list[Trace], list[int]]]:
    """Set, mode, traces and idle minutes of all of them."""
    for what in SETS:
        for name, shaped in MODES:
            todo = plans(what, replies, shaped=shaped)
            if jobs > 1:
                with get_context("spawn").Pool(jobs) as pool:
                    done = pool.map(go, todo, chunksize=1)
            else:
                done = [go(plan) for plan in todo]
            traces = [trace for found, _ in done for trace in found]
            yield what, name, traces, [idle for _, idle in done]


def cost(traces: Sequence[Trace], idle: Sequence[int]) -> dict[str, float]:
    """What the replies took on the wire, and how late their words came."""
    late = np.concatenate([trace.late for trace in traces]) * 1000
    seconds = sum(trace.seconds for trace in traces)
    return {
        "said_per_second": sum(trace.said for trace in traces) / seconds,
        "bytes_per_second": sum(trace.moved for trace in traces) / seconds,
        "lasts": float(np.mean([trace.seconds for trace in traces])),
        "seen_for": float(np.mean([trace.seen[-1].at for trace in traces])),
        "late_median_ms": float(np.median(late)),
        "late_p95_ms": float(np.percentile(late, 95)),
        "idle_datagrams_a_minute": float(np.mean(idle)),
    }


def shown(verdict: Verdict) -> str:
    """One classifier's cells of the table."""
    low, high = verdict.accuracy_between
    auc_low, auc_high = verdict.auc_between
    return (
        f"{verdict.accuracy:.1%} ({low:.1%} to {high:.1%}) | "
        f"{verdict.auc:.3f} ({auc_low:.3f} to {auc_high:.3f})"
    )


def report(results: list[Result], command: str) -> str:
    """The page."""
    first = results[0]
    lines = [
        HEAD.format(
            command=command,
            when=strftime("%Y-%m-%d"),
            cell=CELL,
            beat=BEAT // MILLISECOND,
            training=first.training,
            guessed=first.guessed,
        ),
        "| set | mode | classifier | accuracy | AUC (one against the others) |",
        "|---|---|---|---|---|",
        *(
            f"| {result.what} | {result.mode} | {verdict.classifier} | {shown(verdict)} |"
            for result in results
            for verdict in result.verdicts
        ),
        f"\nChance: {1 / len(SETS['topics']):.1%} and 0.500.\n{NOTES}",
        "## What it costs\n",
        *cost_table(results),
    ]
    return "\n".join(lines) + "\n"


def cost_table(results: list[Result]) -> Iterator[str]:
    """As lines."""
    yield (
        "| set | mode | said, B/s | on the wire, both ways, B/s | a reply lasts | traffic lasts | "
        "token's way, median | 95 % | datagrams in an idle minute |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for result in results:
        found = result.cost
        yield (
            f"| {result.what} | {result.mode} | {found['said_per_second']:,.0f} | "
            f"{found['bytes_per_second']:,.0f} | {found['lasts']:.1f} s | "
            f"{found['seen_for']:.1f} s | {found['late_median_ms']:.0f} ms | "
            f"{found['late_p95_ms']:.0f} ms | {found['idle_datagrams_a_minute']:.1f} |"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    replies = 100 if options.quick else options.replies
    results = []
    for what, mode, traces, idle in measured(replies, options.jobs):
        training = sum(trace.training for trace in traces)
        result = Result(
            what, mode, training, len(traces) - training, judge(traces), cost(traces, idle)
        )
        results.append(result)
        print(what, mode, *(shown(one) for one in result.verdicts), result.cost, flush=True)
        keep(results, replies, written=not options.quick)
    return 0


def keep(results: list[Result], replies: int, *, written: bool) -> None:
    """Write what is known so far, or print it."""
    page = report(results, f"python -m bench.shaped --replies {replies}")
    if not written:
        print(page)
        return
    (HOME / "shaped.md").write_text(page, encoding="utf-8")
    figures = json.dumps([asdict(result) for result in results], indent=1)
    (HOME / "shaped.json").write_text(figures + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
