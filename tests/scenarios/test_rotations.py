"""Dozens of rotations of keys and ports under a tenth of loss: no byte is lost or comes twice.

The figures are `bench.rotations`; this is a small piece of it, without any time in it.
"""

from __future__ import annotations

import os

import pytest

from bench.rotations import IN_ROUND, Course, Result

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the world without it is a copy of this"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


def added(result: Result) -> list[int]:
    """By how many ns tokens came later than in a world without the rotation."""
    return [added for rotation in result.rotations for added, _ in rotation.delays()]


def held(result: Result) -> list[int]:
    """By how many ns they left later, the first time."""
    return [later for rotation in result.rotations for later in rotation.starts()]


@pytest.mark.parametrize("seed", range(3))
def test_rotations_under_loss_end_and_no_byte_is_lost_repeated_or_out_of_order(seed: int) -> None:
    result = Course(seed, 0.1, 2 * IN_ROUND).go()
    assert len(result.rotations) == 2 * IN_ROUND
    assert sum(rotation.port for rotation in result.rotations) == 4
    assert (result.open, result.wrong, result.missing) == ((), 0, 0)
    assert len(result.tokens) > 1000
    assert result.bulk > 1_000_000
    assert set(held(result)) == {0}


@pytest.mark.parametrize("seed", range(1, 3))
def test_no_token_comes_more_than_a_probe_timeout_later_than_without_the_rotation(
    seed: int,
) -> None:
    """What is lost is the same in both; acknowledgements arrive."""
    result = Course(seed, 0.1, 2 * IN_ROUND, one_way=True).go()
    assert len(result.rotations) == 2 * IN_ROUND
    assert all(
        later <= rotation.probe_ns
        for rotation in result.rotations
        for later, _ in rotation.delays()
    )
    assert any(later < 0 for later in added(result)), "what is lost is noticed sooner"


def test_without_loss_a_token_takes_just_as_long_with_a_rotation_as_without() -> None:
    result = Course(1, 0.0, IN_ROUND).go()
    assert len(result.rotations) == IN_ROUND
    assert len(added(result)) > IN_ROUND
    assert set(added(result)) == {0}
