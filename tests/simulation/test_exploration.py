"""Handshake and ratchet, explored to the end on the real core.

Each exploration is exhaustive within its budget: every order, loss, copy, delay, crash and failed
write that the adversary can afford is tried, and from every situation it can bring about a fair
network leads to a link at rest. Together they take every row of the machines concerned.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from attrs import evolve

from clawchat.core.phases import answering, dialing, rotating_keys
from clawchat.core.table import Table
from clawchat.drivers.simulator.invariants import Firing
from tests.simulation.explorer import Budget, Exploration, Situation

pytestmark = pytest.mark.xdist_group("exploration")  # explorations are made once and shared

NOTHING = Budget(copies=0, floods=0, kills=0, fails=0, timers=0)


def first_meeting(budget: Budget) -> Callable[[], Situation]:
    """From a bootstrap file."""

    def make() -> Situation:
        situation = Situation(budget, Situation.has_settled)
        situation.begin()
        return situation

    return make


def slow_disk(budget: Budget) -> Callable[[], Situation]:
    """From the moment at which the dialer begins to write."""

    def make() -> Situation:
        situation = Situation(budget, Situation.has_settled)
        situation.begin()
        situation.deliver_both_messages()
        return situation

    return make


def second_meeting(budget: Budget) -> Callable[[], Situation]:
    """From what both disks kept."""

    def make() -> Situation:
        situation = Situation(budget, Situation.has_settled)
        situation.meet()
        situation.part_and_start()
        return situation

    return make


def on_a_link(budget: Budget) -> Callable[[], Situation]:
    """A link at rest, about to rotate."""

    def make() -> Situation:
        situation = Situation(budget)
        situation.meet()
        return situation

    return make


def until_it_met_again(budget: Budget) -> Callable[[], Situation]:
    """The same, but what comes after a crash is a meeting, which was explored."""

    def met_again(situation: Situation) -> bool:
        return not situation.budget.kills and situation.has_settled()

    def make() -> Situation:
        situation = Situation(budget, met_again)
        situation.meet()
        return situation

    return make


def out_of_step(budget: Budget) -> Callable[[], Situation]:
    """A listener that slept when it should have wiped an epoch, and is offered the next one."""

    def make() -> Situation:
        situation = Situation(budget)
        situation.meet()
        situation.rotate_past_a_sleeper()
        return situation

    return make


def with_a_backup(budget: Budget) -> Callable[[], Situation]:
    """A dialer whose disk was restored from a backup."""

    def make() -> Situation:
        situation = Situation(budget)
        situation.meet()
        situation.restore_backup()
        return situation

    return make


Setup = Callable[[Budget], Callable[[], Situation]]

COPIES = Budget(copies=1, floods=0, kills=0, timers=0)
COPIES_AND_TIME = evolve(COPIES, timers=1)
LOSS_AND_TIME = evolve(NOTHING, floods=1, timers=1)
CRASH = evolve(NOTHING, kills=1)
FAILED_WRITE = evolve(NOTHING, fails=1)
CLOSE = evolve(NOTHING, closes=1)

EXPLORATIONS: dict[str, tuple[Setup, Budget]] = {
    "a first meeting, copies and time": (first_meeting, COPIES_AND_TIME),
    "a slow disk, much time": (slow_disk, evolve(NOTHING, timers=2)),
    "a first meeting, a loss and time": (first_meeting, LOSS_AND_TIME),
    "a first meeting, a crash": (first_meeting, CRASH),
    "a first meeting, a failed write": (first_meeting, FAILED_WRITE),
    "a first meeting, a close": (first_meeting, CLOSE),
    "a second meeting, copies": (second_meeting, COPIES),
    "a second meeting, a loss and time": (second_meeting, LOSS_AND_TIME),
    "a second meeting, a crash": (second_meeting, CRASH),
    "a second meeting, a revocation": (second_meeting, evolve(NOTHING, forgets=1)),
    "a second meeting, a failed write": (second_meeting, FAILED_WRITE),
    "a rotation, copies and time": (on_a_link, evolve(COPIES_AND_TIME, rotations=1)),
    "a rotation, a loss and time": (on_a_link, evolve(LOSS_AND_TIME, rotations=1)),
    "a rotation, a crash": (until_it_met_again, evolve(CRASH, rotations=1)),
    "two rotations": (on_a_link, evolve(NOTHING, rotations=2)),
    "a rotation before the last one settled": (out_of_step, evolve(COPIES_AND_TIME)),
    "a quiet day": (on_a_link, evolve(NOTHING, days=1)),
}


@cache
def explored(name: str) -> Exploration:
    setup, budget = EXPLORATIONS[name]
    exploration = Exploration(setup(budget))
    exploration.run()
    return exploration


@cache
def explored_backup() -> Exploration:
    budget = Budget(copies=1, floods=1, kills=0, timers=1)
    exploration = Exploration(with_a_backup(budget), Situation.demand_an_alarm)
    exploration.run()
    return exploration


def test_whatever_the_adversary_does_a_fair_network_then_brings_the_pair_together() -> None:
    """One test, so that the explorations are made once, in one process, and not in each."""
    taken: set[Firing] = set()
    for name in EXPLORATIONS:
        exploration = explored(name)
        assert exploration.exhausted, name
        assert len(exploration.seen) > 1, name
        taken |= set(exploration.rows)
    taken |= set(explored_backup().rows)
    for table in (dialing.TABLE, answering.TABLE, rotating_keys.DIALER, rotating_keys.LISTENER):
        assert not _missed(table, taken), f"{table.name}: no exploration takes these rows"


def _missed(table: Table[Any], taken: set[Firing]) -> list[str]:
    rows = {Firing(table.name, row.source, row.event.__name__, row.dest) for row in table.rows}
    return sorted(f"{row.source.name} {row.event} {row.dest.name}" for row in rows - taken)


def test_every_use_of_a_backup_is_reported_and_none_makes_a_link() -> None:
    assert explored_backup().exhausted
