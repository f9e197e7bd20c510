"""The explorations: from where, with what budget, to what end.

`SMALL` runs in CI; `DEEP` affords the adversary more, and runs as a command.

Rules: together the small ones take every row of the tables in `TABLES`, but for those that are
named, with why, in `OUT_OF_REACH`.
Left to others: what the adversary can do (`situation`), what must come of it (`ends`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

from attrs import evolve, frozen

from clawchat.core.instant import SECOND
from clawchat.core.phases import (
    answering,
    bootstrap,
    compromised,
    dialing,
    established,
    following_ports,
    rotating_keys,
    rotating_ports,
)
from clawchat.core.table import Table
from clawchat.drivers.simulator.invariants import Firing
from spec.explore import ends
from spec.explore.ends import End
from spec.explore.search import Exploration
from spec.explore.situation import Budget, Situation

Begin: TypeAlias = Callable[[Situation], None]
Done: TypeAlias = Callable[[Situation], bool]

TABLES: Final[tuple[Table[Any], ...]] = (
    dialing.TABLE,
    answering.TABLE,
    rotating_keys.DIALER,
    rotating_keys.LISTENER,
    established.TABLE,
    compromised.TABLE,
    rotating_ports.TABLE,
    following_ports.TABLE,
    bootstrap.TABLE,
)


@frozen
class World:
    """One exploration. Beyond a situation that is `done` nothing more is tried."""

    begin: Begin
    budget: Budget
    end: End = ends.a_link_at_rest
    done: Done | None = None

    def make(self) -> Situation:
        """Where it begins."""
        situation = Situation(self.budget, self.done)
        if self.budget.panics or self.budget.ends:
            situation.watch_panics()
        self.begin(situation)
        return situation

    def exploration(self, seconds_max: float = float("inf")) -> Exploration:
        return Exploration(self.make, self.end, seconds_max=seconds_max)


# --- where a world begins --------------------------------------------------------------------


def meeting_on_a_slow_disk(situation: Situation) -> None:
    """From the moment at which the dialer begins to write."""
    situation.begin()
    situation.deliver_both_messages()


def meeting_on_a_stuck_disk(situation: Situation) -> None:
    """The dialer's write does not end, and its dial is nearly over."""
    situation.begin()
    situation.deliver_both_messages()
    situation.world.run(20 * SECOND)
    situation.flying.clear()


def second_meeting(situation: Situation) -> None:
    """From what both disks kept."""
    situation.meet()
    situation.part_and_start()


def out_of_step(situation: Situation) -> None:
    """A listener that slept when it should have wiped an epoch, and is offered the next one."""
    situation.meet()
    situation.rotate_past_a_sleeper()


def with_a_backup(situation: Situation) -> None:
    """A dialer whose disk was restored from a backup."""
    situation.meet()
    situation.restore_backup()


def while_rotating(situation: Situation) -> None:
    """The dialer has just offered a key."""
    situation.meet()
    situation.take(("rotate", 0))


def while_closing(situation: Situation) -> None:
    """The dialer has just closed the link."""
    situation.meet()
    situation.take(("close", 0))


def after_a_silence(situation: Situation) -> None:
    """The dialer sleeps, and the listener has long noticed."""
    situation.meet()
    situation.dialer.suspend()
    situation.flying.clear()
    situation.world.run(ASLEEP_NS)
    situation.flying.clear()


def after_a_move(situation: Situation) -> None:
    """The dialer has another port, and still keeps the one before."""
    situation.meet()
    situation.budget = evolve(situation.budget, ports=situation.budget.ports + 1)
    situation.take(("leave port", 0))
    while situation.flying:
        situation.take(("deliver", 0))


first_meeting = Situation.begin
a_link = Situation.meet
a_file = Situation.offer
ASLEEP_NS: Final = 100 * SECOND

# --- what the adversary can afford --------------------------------------------------------------

NOTHING: Final = Budget(copies=0, floods=0, kills=0, fails=0, timers=0)


def afford(**budget: int) -> Budget:
    return evolve(NOTHING, **budget)


def settled(situation: Situation) -> bool:
    return situation.has_settled()


def met_again(situation: Situation) -> bool:
    """What comes after a crash is a meeting, which was explored."""
    return not situation.budget.kills and situation.has_settled()


def meeting(begin: Begin, budget: Budget) -> World:
    return World(begin, budget, done=settled)


def panicking(begin: Begin, budget: Budget) -> World:
    return World(begin, budget, ends.nothing_left)


SMALL: Final[dict[str, World]] = {
    # handshake x loss, copies, reordering, time, restart of either side at any step
    "a first meeting, copies": meeting(first_meeting, afford(copies=1)),
    "a first meeting, a loss and time": meeting(first_meeting, afford(floods=1, timers=1)),
    "a first meeting, a crash": meeting(first_meeting, afford(kills=1)),
    "a first meeting, a failed write": meeting(first_meeting, afford(fails=1)),
    "a first meeting, a close": meeting(first_meeting, afford(closes=1)),
    "a slow disk, time": meeting(meeting_on_a_slow_disk, afford(timers=1)),
    "a second meeting, copies": meeting(second_meeting, afford(copies=1)),
    "a second meeting, a loss and time": meeting(second_meeting, afford(floods=1, timers=1)),
    "a second meeting, a crash": meeting(second_meeting, afford(kills=1)),
    "a second meeting, a revocation": meeting(second_meeting, afford(forgets=1)),
    "a second meeting, a failed write": meeting(second_meeting, afford(fails=1)),
    "a backup": World(with_a_backup, afford(copies=1, floods=1, timers=1), ends.an_alarm),
    # keys x loss, copies, reordering, restart
    "a rotation, copies": World(a_link, afford(rotations=1, copies=1)),
    "a rotation, a loss and time": World(a_link, afford(rotations=1, floods=1, timers=1)),
    "a rotation, a crash": World(a_link, afford(rotations=1, kills=1), done=met_again),
    "two rotations": World(a_link, afford(rotations=2)),
    "a rotation before the last one settled": World(out_of_step, afford(copies=1, timers=1)),
    "a quiet day": World(a_link, afford(days=1)),
    # ports x loss, copies, time; both sides at once; keys x ports
    "a port, a loss and time": World(a_link, afford(ports=1, floods=1, timers=1)),
    "a port, copies": World(a_link, afford(ports=1, copies=1)),
    "two ports": World(a_link, afford(ports=2)),
    "a port after another": World(after_a_move, afford(ports=1)),
    "a port and a rotation": World(a_link, afford(ports=1, rotations=1)),
    # the life of a link x loss, sleep, roaming, closing
    "a link, silence and sleep": World(a_link, afford(timers=2, sleeps=1)),
    "a link, a move and a close": World(a_link, afford(moves=1, closes=1)),
    "a lost dialer, a close": World(after_a_silence, afford(closes=1)),
    # compromised x everything
    "a first meeting, a panic": panicking(first_meeting, afford(panics=1)),
    "a link, two panics": panicking(a_link, afford(panics=2)),
    "a link, a panic, a loss and time": panicking(a_link, afford(panics=1, floods=1, timers=1)),
    "a link, the end of everything": panicking(a_link, afford(ends=1)),
    # bootstrap file x time
    "a file and time": World(a_file, afford(files=3, minutes=2), ends.a_file_that_works),
}

DEEP: Final[dict[str, World]] = {
    "a first meeting, copies and time": meeting(first_meeting, afford(copies=1, timers=1)),
    "a first meeting, a loss, a copy, time": meeting(
        first_meeting, afford(floods=1, copies=1, timers=2)
    ),
    "a first meeting, two crashes": meeting(first_meeting, afford(kills=2)),
    "a first meeting, a crash, a copy": meeting(first_meeting, afford(kills=1, copies=1)),
    "a first meeting, a crash, time": meeting(first_meeting, afford(kills=1, floods=1, timers=1)),
    "a first meeting, a crash, a failed write": meeting(first_meeting, afford(kills=1, fails=1)),
    "a stuck disk, time": meeting(meeting_on_a_stuck_disk, afford(timers=2)),
    "a slow disk, much time": meeting(meeting_on_a_slow_disk, afford(timers=2)),
    "a second meeting, copies and time": meeting(second_meeting, afford(copies=1, timers=1)),
    "a second meeting, two crashes": meeting(second_meeting, afford(kills=2)),
    "a second meeting, a crash, a copy": meeting(second_meeting, afford(kills=1, copies=1)),
    "a second meeting, a crash, time": meeting(second_meeting, afford(kills=1, floods=1, timers=1)),
    "a backup, copies, losses, time": World(
        with_a_backup, afford(copies=2, floods=1, timers=2), ends.an_alarm
    ),
    "a rotation, copies and time": World(a_link, afford(rotations=1, copies=1, timers=1)),
    "a rotation, everything once": World(a_link, afford(rotations=1, copies=1, floods=1, timers=2)),
    "two rotations, copies, a loss": World(a_link, afford(rotations=2, copies=1, floods=1)),
    "two rotations, a loss, time": World(a_link, afford(rotations=2, floods=1, timers=2)),
    "a rotation, a crash, a loss, time": World(
        a_link, afford(rotations=1, kills=1, floods=1, timers=1), done=met_again
    ),
    "a lost dialer, a close, time": World(after_a_silence, afford(timers=1, closes=1)),
    "a link, a loss, a move, sleep, time": World(
        a_link, afford(floods=1, moves=1, sleeps=1, timers=2)
    ),
    "a port, a rotation, a loss, time": World(
        a_link, afford(ports=1, rotations=1, floods=1, timers=2)
    ),
    "two ports, a loss, time": World(a_link, afford(ports=2, floods=1, timers=2)),
    "two ports, two rotations": World(a_link, afford(ports=2, rotations=2)),
    "a port, a move, time": World(a_link, afford(ports=1, moves=1, timers=2)),
    "a port, a crash": World(a_link, afford(ports=1, kills=1), done=met_again),
    "a link, a rotation, a move": World(a_link, afford(rotations=1, moves=1, timers=1)),
    "a link, a close, a loss, time": World(a_link, afford(closes=2, floods=1, timers=2)),
    "a first meeting, a panic, a loss, time": panicking(
        first_meeting, afford(panics=1, floods=1, timers=1)
    ),
    "a first meeting, a panic, a crash": panicking(first_meeting, afford(panics=1, kills=1)),
    "a second meeting, two panics": panicking(second_meeting, afford(panics=2)),
    "a second meeting, a panic, a crash": panicking(second_meeting, afford(panics=1, kills=1)),
    "a link, a panic, a crash": panicking(a_link, afford(panics=1, kills=1)),
    "a link, two panics, a crash": panicking(a_link, afford(panics=2, kills=1)),
    "a link, two panics, a loss, time": panicking(a_link, afford(panics=2, floods=1, timers=2)),
    "a link, a panic, sleep, time": panicking(a_link, afford(panics=1, sleeps=1, timers=2)),
    "a link, a port, a panic": panicking(a_link, afford(ports=1, panics=1, timers=1)),
    "a link, a panic, a copy, time": panicking(a_link, afford(panics=1, copies=1, timers=2)),
    "a rotation, a panic": panicking(while_rotating, afford(panics=1)),
    "a closing link, a panic": panicking(while_closing, afford(panics=1, timers=1)),
    "a rotation, two panics": panicking(while_rotating, afford(panics=2, timers=1)),
    "a rotation, a panic, a crash": panicking(while_rotating, afford(panics=1, kills=1)),
    "a closing link, a panic, a crash": panicking(
        while_closing, afford(panics=1, kills=1, timers=1)
    ),
    "a lost dialer, a panic": panicking(after_a_silence, afford(panics=1, timers=1)),
    "a lost dialer, two panics": panicking(after_a_silence, afford(panics=2, timers=1)),
    "a first meeting, the end of everything": panicking(first_meeting, afford(ends=1, kills=1)),
    "a link, the end of everything, a loss": panicking(a_link, afford(ends=2, floods=1, timers=1)),
    "files, time, a crash": World(
        a_file, afford(files=3, minutes=2, kills=1), ends.a_file_that_works
    ),
    "files, much time": World(a_file, afford(files=4, minutes=4), ends.a_file_that_works),
}

ALL: Final = SMALL | DEEP

_HONEST: Final = "an honest peer breaks no rule; fuzz/puppet.py plays one who does"
_AT_ONCE: Final = "a simulated host opens the port that it is asked for, at once"
_DEEP: Final = "takes more than a small budget"

OUT_OF_REACH: Final[dict[str, str]] = {
    "established: ASLEEP Violated CLOSING": _HONEST,
    "established: LIVE Violated CLOSING": _HONEST,
    "established: SUSPECT Violated CLOSING": _HONEST,
    "rotating.ports: OPENING LinkLost STEADY": _AT_ONCE,
    "rotating.ports: OPENING MoveLapsed STEADY": _AT_ONCE,
    "rotating.ports: OPENING PeerMoves OPENING": _AT_ONCE,
    "rotating.ports: OPENING PeerMoves STEADY": _AT_ONCE,
    "rotating.ports: OPENING SocketRefused OPENING": _AT_ONCE,
    "rotating.ports: OPENING SocketRefused STEADY": _AT_ONCE,
    "handshake.dialer: SAVING DialLapsed FAILED": _DEEP,
    "rotating.ports: MOVING MoveLapsed STEADY": _DEEP,
    "following.ports: FOLLOWING PeerAnnounced FOLLOWING": _DEEP,
    "following.ports: FOLLOWING PeerLost STEADY": _DEEP,
    "compromised: DECLARING PatienceOver DESTROYED": _DEEP,
    "established: ASLEEP Destroyed CLOSED": _DEEP,
    "established: ASLEEP Disturbed SUSPECT": _DEEP,
    "established: ASLEEP SilenceDue CLOSED": _DEEP,
    "established: CLOSING Destroyed CLOSED": _DEEP,
    "established: CLOSING PeerClosed CLOSED": _DEEP,
    "established: LIVE SilenceDue CLOSED": _DEEP,
    "established: SUSPECT CloseAsked CLOSING": _DEEP,
    "established: SUSPECT PeerClosed CLOSED": _DEEP,
}
"""Rows that no small exploration takes, and why: table, phase, event, phase."""


def name_of(firing: Firing) -> str:
    return f"{firing.table}: {firing.source.name} {firing.event} {firing.dest.name}"


def missed(taken: Iterable[Firing]) -> list[str]:
    """Rows of `TABLES` that were not taken."""
    rows = {
        Firing(table.name, row.source, row.event.__name__, row.dest)
        for table in TABLES
        for row in table.rows
    }
    return sorted(map(name_of, rows - set(taken)))
