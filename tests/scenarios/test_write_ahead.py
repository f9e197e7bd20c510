"""A crash between any two steps of a handshake leaves a pair that can meet again.

A process is killed at every point at which it is told something or does something, on either
side, and whatever its disk was just writing is lost or kept. Nothing but the two disks survives.
"""

from __future__ import annotations

from enum import Enum
from functools import cache

import pytest
from attrs import define

from clawchat.core.actions import Action
from clawchat.core.events import Event
from clawchat.core.instant import MILLISECOND, SECOND
from clawchat.drivers.simulator.host import Host
from clawchat.drivers.simulator.network import Parcel
from tests.scenarios.pairs import Pair, generations, make_pair


@define(slots=False)
class Plug:
    """Counts the steps of one host and pulls its plug at one of them."""

    victim: str
    at: int = -1
    survivors: int = 0
    steps: int = 0
    pulled: bool = False

    def was_pulled(self) -> bool:
        return self.pulled

    def _step(self, host: Host) -> None:
        if host.name != self.victim or self.pulled:
            return
        self.steps += 1
        if self.steps == self.at:
            self.pulled = True
            host.kill(self.survivors)

    def handling(self, host: Host, _event: Event, _parcels: list[Parcel]) -> None:
        self._step(host)

    def handled(self, host: Host, _event: Event, _parcels: list[Parcel]) -> None:
        self._step(host)

    def acting(self, host: Host, _action: Action) -> None:
        self._step(host)

    def acted(self, host: Host, _action: Action) -> None:
        self._step(host)

    def sent(self, host: Host, parcels: list[Parcel]) -> None:
        """Part of an action."""

    def woke(self, host: Host) -> None:
        """Nothing happens here."""

    def changed(self, host: Host, what: str) -> None:
        """Nothing happens here."""

    def traced(self, host: Host, table: str, source: Enum, event: str, dest: Enum) -> None:
        """Part of an event."""


WRITE_NS = 8 * MILLISECOND
BLOCKS = 4  # so that several processes can share the work


def paired(name: str) -> Pair:
    """A pair that met once, so that both disks hold something, and is apart again."""
    pair = make_pair(name, write_ns=WRITE_NS)
    pair.caller.patience_ns = 2 * SECOND  # a link whose other end died is given up soon
    pair.link()
    pair.rest()
    pair.dialer.kill()
    pair.listener.kill()
    return pair


def meet(pair: Pair) -> None:
    """Start whoever is down, and see them meet and settle."""
    if not pair.listener.running:
        pair.start_listener()
    if not pair.dialer.running:
        pair.dialer.start()
    pair.link()
    pair.world.run(5 * SECOND)
    talk = pair.link()
    assert pair.world.ledger.of(talk.hash) == []
    ours = pair.dialer.disk.kept[pair.caller.pairing.file_id if pair.caller.pairing else b""]
    theirs = pair.listener.disk.kept[ours.file_id]
    assert generations(ours) == generations(theirs)[: len(generations(ours))]
    assert ours.newest.psk == theirs.newest.psk


@cache
def steps_of(victim: str) -> int:
    """How many steps the victim takes in an undisturbed second handshake."""
    pair = paired("count")
    plug = Plug(victim)
    getattr(pair, victim).watchers.append(plug)
    pair.start_listener()
    pair.dialer.start()
    pair.link()
    pair.rest()
    return plug.steps


@pytest.mark.parametrize("block", range(BLOCKS))
@pytest.mark.parametrize("victim", ["dialer", "listener"])
def test_a_crash_at_any_step_leaves_a_pair_that_can_meet_again(victim: str, block: int) -> None:
    steps = steps_of(victim)
    for at in range(block + 1, steps + 1, BLOCKS):
        for survivors in (0, 1):
            pair = paired(f"{victim} {at} {survivors}")
            plug = Plug(victim, at, survivors)
            getattr(pair, victim).watchers.append(plug)
            pair.start_listener()
            pair.dialer.start()
            pair.world.run_until(plug.was_pulled, SECOND)
            pair.world.run(300 * MILLISECOND)  # the other one goes on for a while
            plug.pulled = True
            meet(pair)
            assert pair.world.watch.reports == 0


@pytest.mark.parametrize("survivors", [0, 1])
def test_two_crashes_in_a_row_leave_a_pair_that_can_meet_again(survivors: int) -> None:
    for first in range(1, steps_of("dialer") + 1, 3):
        for second in range(1, steps_of("listener") + 1, 7):
            pair = paired(f"twice {first} {second} {survivors}")
            plugs = (Plug("dialer", first, survivors), Plug("listener", second, survivors))
            for plug in plugs:
                getattr(pair, plug.victim).watchers.append(plug)
            pair.start_listener()
            pair.dialer.start()
            pair.world.run(600 * MILLISECOND)
            for plug in plugs:
                plug.pulled = True
            meet(pair)


@pytest.mark.parametrize("survivors", [0, 1])
def test_a_dialer_that_crashes_during_its_first_handshake_meets_the_listener(
    survivors: int,
) -> None:
    """The file is enough as long as it is live, whatever the disk kept."""
    at, reached = 0, True
    while reached:
        at += 1
        pair = make_pair(f"first {at} {survivors}", write_ns=WRITE_NS, start=False)
        plug = Plug("dialer", at, survivors)
        pair.dialer.watchers.append(plug)
        pair.start_listener()
        pair.dialer.start()
        pair.publish()
        reached = pair.world.run_until(plug.was_pulled, SECOND)
        plug.pulled = True
        meet(pair)
    assert at > 20


def test_a_full_disk_on_either_side_loses_no_credential() -> None:
    for victim in ("dialer", "listener"):
        pair = paired(f"full disk {victim}")
        before = dict(getattr(pair, victim).disk.kept)
        getattr(pair, victim).disk.full = True
        pair.start_listener()
        pair.dialer.start()
        pair.world.run(3 * SECOND)
        assert getattr(pair, victim).disk.kept == before
        getattr(pair, victim).disk.full = False
        meet(pair)


@pytest.mark.parametrize("survivors", [0, 1])
def test_a_listener_that_crashes_during_the_first_handshake_is_met_or_lends_a_new_file(
    survivors: int,
) -> None:
    """A file lives in memory until it is redeemed; from then on the listener's disk has it."""
    at, reached, met = 0, True, 0
    while reached:
        at += 1
        pair = make_pair(f"first listener {at} {survivors}", write_ns=WRITE_NS, start=False)
        plug = Plug("listener", at, survivors)
        pair.listener.watchers.append(plug)
        pair.caller.patience_ns = 2 * SECOND
        pair.start_listener()
        pair.dialer.start()
        if pair.listener.running:
            pair.publish()
        reached = pair.world.run_until(plug.was_pulled, SECOND)
        plug.pulled = True
        if not pair.listener.running:
            pair.start_listener()
        pairing = pair.caller.pairing
        if pairing is None or pairing.file_id not in pair.listener.disk.kept:
            pair.caller.pairing = None  # the user takes the file of the new process
            pair.dialer.kill()
            pair.dialer.start()
            pair.publish()
        else:
            met += 1
        meet(pair)
    assert at > 20
    assert met > 10
