"""When cells leave: the beat, the level and the ladder."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clawchat.core.instant import MILLISECOND
from clawchat.core.streams.beat import (
    BEAT,
    CALM_BEATS,
    DRAIN_BEATS,
    HOLD,
    LEVEL_MAX,
    STEP_MIN,
    Beat,
    step_after,
)


def strike(beat: Beat, waiting: int = 0, *, ended: bool = True, settled: bool = True) -> int:
    """Let the next beat come and send what is due; how many cells that were."""
    assert beat.at is not None
    beat.strike(beat.at, waiting, ended=ended, settled=settled)
    owed = beat.owed
    for _ in range(owed):
        beat.sent()
    return owed


def begun() -> Beat:
    beat = Beat()
    beat.begin(0)
    return beat


def test_a_burst_begins_at_once_and_goes_on_beat_by_beat() -> None:
    beat = begun()
    times = []
    while beat.at is not None:
        times.append(beat.at)
        strike(beat)
    assert times == [number * BEAT for number in range(STEP_MIN + 1)]
    assert beat.count == STEP_MIN


@given(st.integers(1, 3000))
def test_a_burst_ends_on_a_step_of_the_ladder(said: int) -> None:
    beat = begun()
    while beat.at is not None:
        strike(beat, 1 if beat.count < said else 0)
    assert beat.count == step_after(said)
    assert beat.count % STEP_MIN == 0
    assert (beat.count // STEP_MIN).bit_count() == 1


def test_beats_that_were_missed_are_not_made_up_for() -> None:
    beat = begun()
    strike(beat, 1)
    late = 7 * BEAT + 20 * MILLISECOND
    beat.strike(late, 1, ended=False, settled=False)
    assert beat.owed == 1
    assert beat.at == 8 * BEAT


def test_cells_that_could_not_leave_do_not_pile_up() -> None:
    beat = begun()
    for _ in range(5):
        assert beat.at is not None
        beat.strike(beat.at, 1, ended=False, settled=False)
    assert beat.owed == 1


def test_what_is_not_acknowledged_keeps_the_cells_going() -> None:
    beat = begun()
    for _ in range(STEP_MIN + 3):
        strike(beat, settled=False)
    while beat.at is not None:
        strike(beat)
    assert beat.count == 2 * STEP_MIN


def test_a_silent_open_stream_lets_cells_rest_only_after_a_while() -> None:
    beat = begun()
    strike(beat, 1, ended=False)
    last = 0
    while beat.at is not None:
        last = beat.at
        strike(beat, ended=False)
    assert last >= HOLD
    assert beat.count == step_after(HOLD // BEAT)


def test_the_level_is_the_least_at_which_what_waits_is_gone_in_time() -> None:
    for waiting, level in ((1, 1), (DRAIN_BEATS, 1), (DRAIN_BEATS + 1, 2), (5 * DRAIN_BEATS, 8)):
        beat = begun()
        assert strike(beat, waiting) == level
    assert strike(begun(), 1 << 20) == LEVEL_MAX


def test_the_level_stays_while_more_than_half_of_it_is_needed_and_falls_slowly_after() -> None:
    beat = begun()
    strike(beat, 3 * DRAIN_BEATS)
    assert [strike(beat, 3, ended=False) for _ in range(100)] == [4] * 100
    levels = [strike(beat, ended=False) for _ in range(2 * CALM_BEATS + 4)]
    assert levels == sorted(levels, reverse=True)
    assert (levels[CALM_BEATS - 1], levels[CALM_BEATS + 1], levels[-1]) == (4, 2, 1)
