"""Virtual time: order, host clocks, jumps."""

from __future__ import annotations

from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from clawchat.core.instant import SECOND
from clawchat.drivers.simulator.clock import HostClock, Timeline


def test_calls_due_together_run_in_the_order_in_which_they_were_scheduled() -> None:
    timeline, seen = Timeline(), list[str]()
    timeline.at(5, partial(seen.append, "second"))
    timeline.at(3, partial(seen.append, "first"))
    timeline.at(5, partial(seen.append, "third"))
    timeline.run_until(10)
    assert seen == ["first", "second", "third"]
    assert timeline.now == 10


def test_what_is_scheduled_for_the_past_runs_now() -> None:
    timeline, seen = Timeline(), list[int]()
    timeline.run_until(100)
    timeline.at(1, lambda: seen.append(timeline.now))
    assert timeline.step()
    assert seen == [100]
    assert not timeline.step()


@given(
    boot=st.integers(0, 10**18),
    drift=st.integers(-500, 500),
    ahead=st.integers(0, 10**15),
)
def test_a_host_clock_finds_the_first_moment_at_which_a_deadline_is_reached(
    boot: int, drift: int, ahead: int
) -> None:
    clock = HostClock(boot_ns=boot, drift_ppm=drift)
    moment = clock.world(boot + ahead)
    assert clock.monotonic(moment) >= boot + ahead
    assert clock.monotonic(moment - 1) < boot + ahead


def test_a_jump_of_the_wall_clock_leaves_the_monotonic_one_alone() -> None:
    clock = HostClock(boot_ns=7, wall_ns=1000)
    before = clock.monotonic(SECOND)
    clock.jump(-500)
    assert clock.monotonic(SECOND) == before
    assert clock.unix(0) == 500
