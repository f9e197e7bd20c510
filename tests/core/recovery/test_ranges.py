"""A RangeSet is a set of integers, however they were added and removed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawchat.core.recovery.ranges import RangeSet

spans = st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda s: (s[0], s[0] + s[1]))
steps = st.lists(st.tuples(st.booleans(), spans), max_size=30)


def built(script: list[tuple[bool, tuple[int, int]]]) -> tuple[RangeSet, set[int]]:
    ranges, model = RangeSet(), set[int]()
    for adding, (start, stop) in script:
        if adding:
            ranges.add(start, stop)
            model |= set(range(start, stop))
        else:
            ranges.remove(start, stop)
            model -= set(range(start, stop))
    return ranges, model


@given(steps)
def test_a_range_set_holds_what_a_set_holds(script: list[tuple[bool, tuple[int, int]]]) -> None:
    ranges, model = built(script)
    assert {number for start, stop in ranges for number in range(start, stop)} == model
    assert all(number in ranges for number in model)
    assert not any(number in ranges for number in range(80) if number not in model)


@given(steps)
def test_ranges_ascend_and_never_touch(script: list[tuple[bool, tuple[int, int]]]) -> None:
    bounds = [bound for span in built(script)[0] for bound in span]
    assert bounds == sorted(set(bounds))


@given(steps, spans)
def test_gaps_are_what_a_span_lacks(
    script: list[tuple[bool, tuple[int, int]]], span: tuple[int, int]
) -> None:
    ranges, model = built(script)
    gaps = [number for start, stop in ranges.gaps(*span) for number in range(start, stop)]
    assert gaps == [number for number in range(*span) if number not in model]
    assert ranges.overlaps(*span) == any(number in model for number in range(*span))


@given(steps, st.integers(1, 5))
def test_the_newest_ranges_come_highest_first_and_inclusive(
    script: list[tuple[bool, tuple[int, int]]], count: int
) -> None:
    ranges, _ = built(script)
    expected = [(start, stop - 1) for start, stop in ranges][::-1][:count]
    assert list(ranges.newest(count)) == expected


@given(steps, st.integers(0, 5))
def test_trimming_forgets_the_lowest_ranges(
    script: list[tuple[bool, tuple[int, int]]], count: int
) -> None:
    ranges, _ = built(script)
    expected = list(ranges)[max(0, len(ranges) - count) :]
    ranges.trim(count)
    assert list(ranges) == expected
    assert len(ranges) == len(expected)


def test_the_first_range_of_an_empty_set_is_an_error() -> None:
    with pytest.raises(IndexError):
        RangeSet().first()


def test_a_range_set_shows_its_ranges() -> None:
    ranges = RangeSet()
    ranges.add(1, 4)
    ranges.add(9, 10)
    assert repr(ranges) == "RangeSet(1..3, 9..9)"
    assert ranges.first() == (1, 4)
