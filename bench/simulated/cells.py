"""What is measured: links, transfers, and who runs on them.

Rules: a `Run` is plain data with a name, so that results on disk can be matched with it. The same
link and seed for everybody; the queue before the bottleneck holds one bandwidth-delay product,
but at least 64 KiB.
Left to others: running (`course`), telling (`report`).
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from clawchat.core.instant import MILLISECOND
from clawchat.drivers.simulator.network import Conditions

RATES_MBIT = (5, 20, 100)
RTTS_MS = (20, 100, 300)
LOSSES_PERCENT = (0, 1, 2, 5)
SIZES_MB = (1, 10)
SEEDS = (1, 2, 3)
QUEUE_MIN = 64 * 1024
OURS = "clawchat"
THEIRS = ("reno", "cubic")  # aioquic's congestion controllers; each cell takes the better
SHIPPED = ("clawchat-shipped", "aioquic-shipped")  # with the defaults of each
STEADY_MIN_S = 12  # how long a steady run lasts at least ...
STEADY_TRIPS = 40  # ... or this many round trips
MEGABYTE = 1_000_000


@frozen(order=True)
class Link:
    """A bottleneck of `mbit` Mbit/s with a round trip of `rtt_ms` and random loss both ways."""

    mbit: int
    rtt_ms: int
    loss_percent: int

    @property
    def queue_bytes(self) -> int:
        return max(self.mbit * self.rtt_ms * 125, QUEUE_MIN)

    @property
    def conditions(self) -> Conditions:
        return Conditions(
            latency_ns=self.rtt_ms * MILLISECOND // 2,
            loss=self.loss_percent / 100,
            bandwidth_bps=self.mbit * 1_000_000,
            queue_bytes=self.queue_bytes,
        )


@frozen(order=True)
class Run:
    """One transfer. `size_mb` 0: as much as fits into a steady run, whose second half counts."""

    link: Link
    size_mb: int
    who: str
    seed: int

    @property
    def name(self) -> str:
        link = self.link
        return (
            f"{link.mbit}mbit {link.rtt_ms}ms {link.loss_percent}% "
            f"{f'{self.size_mb}mb' if self.size_mb else 'steady'} {self.who} #{self.seed}"
        )

    @property
    def lasts_s(self) -> float:
        """How long a steady run lasts, in virtual seconds."""
        return max(STEADY_MIN_S, STEADY_TRIPS * self.link.rtt_ms / 1000)


def links() -> list[Link]:
    return [
        Link(mbit, rtt_ms, loss)
        for mbit in RATES_MBIT
        for rtt_ms in RTTS_MS
        for loss in LOSSES_PERCENT
    ]


def all_runs() -> Iterator[Run]:
    """Everything, the cheap part first."""
    for size in SIZES_MB:
        for seed in SEEDS:
            for link in links():
                for who in (OURS, *THEIRS, *SHIPPED):
                    yield Run(link, size, who, seed)
    for link in links():
        if link.loss_percent == 1:
            for who in (OURS, *THEIRS):
                yield Run(link, 0, who, SEEDS[0])


def quick_runs() -> Iterator[Run]:
    """A look at the corners, for less than a minute on one core."""
    for mbit, rtt_ms in ((5, 20), (20, 100), (100, 300)):
        for loss in (0, 1, 5):
            for who in (OURS, *THEIRS):
                yield Run(Link(mbit, rtt_ms, loss), 1, who, SEEDS[0])
    for who in (OURS, *THEIRS):
        yield Run(Link(20, 100, 1), 0, who, SEEDS[0])
