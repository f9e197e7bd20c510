"""How soon a streamed answer goes on after its path was disturbed, in virtual time.

The listener streams a token every 50 ms over a live link. Something happens to the dialer at a
moment drawn from the seed: its network changes and it notices; it loses IPv4 and has IPv6; its NAT
forgets it and nobody notices; the network is gone for 60 s; it is suspended for 8 h, and its NAT
forgets it meanwhile. Recovery is the time from the change (or from the moment at which the
network or the machine is back) until the dialer's application has the next token in order. At the
end every token must have arrived, once, over the same link.

    python -m bench.roaming                    # 1,000 runs for each disturbance and round trip
    python -m bench.roaming --runs 20 --jobs 2
    python -m bench.roaming --write            # and keep the table in bench/roaming.md

Rules: a run depends on its seed alone; the world is that of `clawchat.drivers.simulator`.
Left to others: the moment at which a system tells of a change (`clawchat.drivers`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from enum import Enum, unique
from functools import partial
from math import inf
from multiprocessing import get_context
from pathlib import Path as FilePath
from random import Random
from statistics import median
from time import strftime
from typing import Final

from attrs import evolve, frozen

from bench.ours import DIALER, LISTENER, pairing
from clawchat.core.actions import Closed, Notice, StreamData
from clawchat.core.credential import Address, Path
from clawchat.core.events import (
    Consumed,
    Dial,
    Disturbed,
    Remember,
    StreamClass,
    Write,
    stream_id,
)
from clawchat.core.instant import HOUR, MILLISECOND, SECOND
from clawchat.drivers.simulator.build import build_endpoint
from clawchat.drivers.simulator.clock import HostClock, Timeline
from clawchat.drivers.simulator.disk import Disk
from clawchat.drivers.simulator.host import Application, Host, Silent
from clawchat.drivers.simulator.nat import NatNetwork
from clawchat.drivers.simulator.network import Conditions
from clawchat.errors import LocalError

LINK: Final = 1
STREAM: Final = stream_id(1, StreamClass.INTERACTIVE, dialer=True)
HERE: Final = Address("10.0.1.1", 40_000)
THERE: Final = Address("10.0.0.1", 50_000)
HERE_SIX: Final = Address("2001:db8:1::1", 40_000)
THERE_SIX: Final = Address("2001:db8::1", 50_000)
AT_HOME: Final = "198.51.100.1"
ELSEWHERE: Final = "203.0.113.1"
TOKEN: Final = b"a token "
EVERY: Final = 50 * MILLISECOND
TRIPS: Final = (10, 40, 150, 300)  # round trips in ms that the runs take turns with
PATIENCE: Final = 30 * SECOND  # whoever is not back by then has not recovered
KEPT: Final = FilePath(__file__).with_name("roaming.md")
SPEAKS_ON: Final = 20 * SECOND  # while nobody listens, a model writes so long at most


@unique
class Disturbance(Enum):
    """What happens; the text is the row's name."""

    NOTICED = "change that the host notices"
    FAMILY = "IPv4 is lost, IPv6 is there"
    SILENT = "silent NAT rebinding"
    OUTAGE = "outage of 60 s"
    SUSPEND = "suspended for 8 h, rebound"


@frozen
class Recovery:
    """What one run gave; `ns` is None when it did not recover."""

    what: Disturbance
    trip_ms: int
    ns: int | None


class Streaming(Silent):
    """The listener's application: streams for ever on the stream that the dialer opened."""

    def __init__(self) -> None:
        self.written = 0
        self.until: int | None = None
        self.ended = False

    def noticed(self, host: Host, link: int, notice: Notice) -> None:
        if isinstance(notice, StreamData):
            host.do(Consumed(link, notice.stream, len(notice.data)))
            self._say(host, link)
        elif isinstance(notice, Closed):
            self.ended = True

    def _say(self, host: Host, link: int) -> None:
        if self.ended or (self.until is not None and host.timeline.now >= self.until):
            return
        host.do(Write(link, STREAM, TOKEN))
        self.written += len(TOKEN)
        host.after(EVERY, partial(self._say, host, link))


class Reading(Silent):
    """The dialer's application."""

    def __init__(self) -> None:
        self.received = 0
        self.ended = False
        self.last_at = -1

    def noticed(self, host: Host, link: int, notice: Notice) -> None:
        if isinstance(notice, StreamData):
            self.received += len(notice.data)
            self.last_at = host.timeline.now
            host.do(Consumed(link, notice.stream, len(notice.data)))
        elif isinstance(notice, Closed):
            self.ended = True


class Course:
    """One run."""

    def __init__(self, what: Disturbance, seed: int) -> None:
        self.what = what
        self.trip_ms = TRIPS[seed % len(TRIPS)]
        self.dice = Random(f"roaming/{what.name}/{seed}")
        self.timeline = Timeline()
        self.calm = Conditions(
            latency_ns=self.trip_ms * MILLISECOND // 2, jitter_ns=self.trip_ms * MILLISECOND // 20
        )
        self.network = NatNetwork(self.timeline, self.dice, self.calm)
        self.streaming, self.reading = Streaming(), Reading()
        self.listener = self._host("listener", THERE, self.streaming)
        self.dialer = self._host("dialer", HERE, self.reading)

    def _host(self, name: str, address: Address, application: Application) -> Host:
        clock = HostClock(boot_ns=self.dice.randint(0, 1000 * HOUR))
        disk = Disk(self.timeline, self.dice)
        identity = DIALER if name == "dialer" else LISTENER
        host = Host(
            name=name,
            address=address,
            timeline=self.timeline,
            network=self.network,
            clock=clock,
            rng=self.dice,
            build=build_endpoint,
            application=application,
            disk=disk,
            seed=str(self.dice.random()),
            identity=identity,
        )
        host.start()
        return host

    def _run(self, for_ns: int) -> None:
        self.timeline.run_until(self.timeline.now + for_ns)

    def _run_until(self, reached: Callable[[], bool], within_ns: int) -> bool:
        limit = self.timeline.now + within_ns
        while not reached() and self.timeline.now <= limit:
            self.timeline.step()
        return reached()

    def go(self) -> Recovery:
        """All of it."""
        self.network.rebind(HERE.host, AT_HOME)
        self.listener.do(Remember(pairing(0, dialer=False)))
        paths = [Path(HERE, THERE)]
        if self.what is Disturbance.FAMILY:
            self.listener.join(THERE_SIX)
            self.dialer.join(HERE_SIX)
            paths.append(Path(HERE_SIX, THERE_SIX))
        self.dialer.do(Dial(LINK, pairing(0, dialer=True), tuple(paths)))
        self._run(SECOND)
        self.dialer.do(Write(LINK, STREAM, b"question"))
        self._run(2 * SECOND + self.dice.randrange(SECOND))
        self._disturb()
        since = self.timeline.now
        seen = self.reading.received
        back = self._run_until(lambda: self.reading.received > seen, PATIENCE)
        found = self.timeline.now - since if back else None
        self.streaming.until = self.timeline.now + SECOND
        self._run(3 * SECOND)
        whole = self.reading.received == self.streaming.written
        ended = self.reading.ended or self.streaming.ended
        return Recovery(self.what, self.trip_ms, found if whole and not ended else None)

    def _disturb(self) -> None:
        """Let it happen, until the moment from which recovery counts."""
        match self.what:
            case Disturbance.NOTICED:
                self.network.rebind(HERE.host, ELSEWHERE)
                self.dialer.do(Disturbed(LINK))
            case Disturbance.FAMILY:
                used = self.dialer.endpoint.link_stats(LINK).path if self.dialer.endpoint else None
                assert used is not None
                self.dialer.leave(used.local.host)
            case Disturbance.SILENT:
                self.network.rebind(HERE.host, AT_HOME)
            case Disturbance.OUTAGE:
                self.streaming.until = self.timeline.now + SPEAKS_ON
                self.network.shape_all(evolve(self.calm, cut=True))
                self._run(60 * SECOND)
                self.network.shape_all(self.calm)
            case Disturbance.SUSPEND:
                self.streaming.until = self.timeline.now + SPEAKS_ON
                self.dialer.suspend()
                self._run(8 * HOUR)
                self.network.rebind(HERE.host, ELSEWHERE)
                self.dialer.resume()


def go(run: tuple[Disturbance, int]) -> Recovery:
    """One run from its name."""
    try:
        return Course(*run).go()
    except LocalError:  # the link ended
        return Recovery(run[0], TRIPS[run[1] % len(TRIPS)], None)


def goal_ms(what: Disturbance, trip_ms: int) -> int:
    """What was asked for."""
    if what in (Disturbance.NOTICED, Disturbance.FAMILY):
        return trip_ms + 50
    return 3000 if what is Disturbance.SILENT else 1000


def told(found: list[Recovery]) -> list[str]:
    """The table. A run that did not recover took for ever."""
    head = "| disturbance | round trip | median | 95 % | worst | goal for the median | "
    lines = [head + "| 95 % within it | recovered |", "|---|---|---|---|---|---|---|---|---|"]
    for what in Disturbance:
        for trip_ms in TRIPS:
            runs = [run for run in found if (run.what, run.trip_ms) == (what, trip_ms)]
            times = sorted(inf if run.ns is None else run.ns / MILLISECOND for run in runs)
            goal, middle = goal_ms(what, trip_ms), median(times)
            high = times[min(len(times) - 1, len(times) * 95 // 100)]
            lines.append(
                f"| {what.value} | {trip_ms} ms | {middle:.0f} ms | {high:.0f} ms | "
                f"{times[-1]:.0f} ms | {goal} ms | {'met' if middle < goal else 'MISSED'} | "
                f"{'yes' if high < goal else 'no'} | "
                f"{sum(time < inf for time in times)} of {len(runs)} |"
            )
    return lines


def main() -> int:
    """Exit code 1 when a run did not recover."""
    parser = argparse.ArgumentParser(prog="python -m bench.roaming")
    parser.add_argument("--runs", type=int, default=1000, help="of each disturbance and round trip")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--write", action="store_true", help=f"keep the table in {KEPT.name}")
    arguments = parser.parse_args()
    count = arguments.runs * len(TRIPS)
    runs = [(what, seed) for what in Disturbance for seed in range(count)]
    if arguments.jobs > 1:
        with get_context("spawn").Pool(arguments.jobs) as pool:
            found = pool.map(go, runs, chunksize=10)
    else:
        found = [go(run) for run in runs]
    print("\n".join(told(found)))
    if arguments.write:
        text = KEPT.read_text(encoding="utf-8")
        head = text[: text.index("| disturbance |")]
        when = f"Measured with the code of {strftime('%Y-%m-%d')}."
        KEPT.write_text("\n".join([head, *told(found), "", when, ""]), encoding="utf-8")
    return 0 if all(run.ns is not None for run in found) else 1


if __name__ == "__main__":
    sys.exit(main())
