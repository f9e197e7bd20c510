"""Where worlds run: in processes of this machine, or on a cluster of `dask.distributed`.

Rules: outcomes come in the order of the seeds, whatever the engine; only a few chunks are under
way at any time, so that stopping is quick. `distributed` is imported when an address is given,
and at no other time; its workers must be able to import `clawchat` and `fuzz`.
Left to others: one world (`clawchat.drivers.simulator.many`), adding up (`tally`).
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from threading import Lock
from typing import Protocol, TypeAlias

from attrs import define

from clawchat.drivers.simulator.many import Outcome, collect_seldom, run_one

_ONE_AT_A_TIME = Lock()  # a world replaces methods of the core while it runs (`shoulder`)
CHUNK = 10  # worlds in one order: about a second's work
AHEAD = 4  # orders under way for each process


class Promise(Protocol):
    """What both engines give for an order."""

    def result(self) -> list[Outcome]: ...


Submit: TypeAlias = Callable[[Sequence[int], str], Promise]


def run_chunk(seeds: Sequence[int], plan: str) -> list[Outcome]:
    """In a worker: some worlds, one after the other, whatever threads the worker has."""
    with _ONE_AT_A_TIME:
        return [run_one(seed, plan) for seed in seeds]


def engine(address: str | None, jobs: int | None) -> AbstractContextManager[tuple[Submit, int]]:
    """How to order worlds, and how many processes take orders."""
    if address:
        return _cluster(address)
    jobs = jobs or os.cpu_count() or 1
    return _pool(jobs) if jobs > 1 else _here()


def _prepare() -> None:
    """A worker leaves Ctrl-C to the process that gives the orders; a pool ends it with TERM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    collect_seldom()


@define
class _Later:
    """Work of this very process, done when it is asked for."""

    seeds: Sequence[int]
    plan: str

    def result(self) -> list[Outcome]:
        return run_chunk(self.seeds, self.plan)


@contextmanager
def _here() -> Iterator[tuple[Submit, int]]:
    yield _Later, 1


@contextmanager
def _pool(jobs: int) -> Iterator[tuple[Submit, int]]:
    pool = ProcessPoolExecutor(jobs, initializer=_prepare)

    def submit(seeds: Sequence[int], plan: str) -> Promise:
        return pool.submit(run_chunk, seeds, plan)

    try:
        yield submit, jobs
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _cluster(address: str) -> Iterator[tuple[Submit, int]]:
    from distributed import Client

    with Client(address, set_as_default=False) as client:

        def submit(seeds: Sequence[int], plan: str) -> Promise:
            promise: Promise = client.submit(run_chunk, list(seeds), plan, pure=False)
            return promise

        yield submit, max(1, sum(client.nthreads().values()))


def outcomes(submit: Submit, jobs: int, seeds: Sequence[int], plan: str) -> Iterator[Outcome]:
    """Run them all, a few orders ahead of who asks."""
    orders: deque[Promise] = deque()
    for at in range(0, len(seeds), CHUNK):
        orders.append(submit(seeds[at : at + CHUNK], plan))
        if len(orders) >= AHEAD * jobs:
            yield from orders.popleft().result()
    while orders:
        yield from orders.popleft().result()
