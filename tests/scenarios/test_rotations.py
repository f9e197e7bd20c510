"""Dozens of rotations of keys and ports under a tenth of loss: no byte is lost or comes twice.

The figures are `bench.rotations`; this is a small piece of it, without any time in it.
"""

from __future__ import annotations

import pytest

from bench.rotations import IN_ROUND, Course


@pytest.mark.parametrize("seed", range(3))
def test_rotations_under_loss_end_and_no_byte_is_lost_repeated_or_out_of_order(seed: int) -> None:
    result = Course(seed, 0.1, 2 * IN_ROUND, rotates=True).go()
    assert len(result.rotations) == 2 * IN_ROUND
    assert sum(rotation.port for rotation in result.rotations) == 4
    assert (result.failed, result.kept, result.wrong, result.missing) == (0, 0, 0, 0)
    assert len(result.delays) > 1000
    assert result.bulk > 1_000_000


def test_without_loss_a_token_takes_just_as_long_with_rotations_as_without() -> None:
    ours = Course(1, 0.0, IN_ROUND, rotates=True).go()
    plain = Course(1, 0.0, IN_ROUND, rotates=False).go()
    assert len(ours.rotations) == IN_ROUND
    assert ours.delays == plain.delays
