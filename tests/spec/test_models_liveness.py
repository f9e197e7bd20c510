"""What must happen in the end does, in Spin's models of the tables; and not without their rows."""

from __future__ import annotations

import pytest

from spec.models.liveness import Check, checks
from spec.models.spin import SPIN, missing, verify

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=f"not installed: {', '.join(missing())}"),
]


@pytest.mark.parametrize("check", list(checks()), ids=lambda check: str(check.name))
def test_spin_finds_what_is_expected(check: Check) -> None:
    outcome = check.run()
    assert outcome.holds is check.expected, "\n".join(outcome.trail)


def test_a_counterexample_comes_with_its_steps() -> None:
    check = next(c for c in checks() if c.claim.name == "rotation-asked" and c.without)
    assert "STEP: the listener wants one" in check.run().trail


def test_a_model_that_spin_cannot_read_is_an_error() -> None:
    with pytest.raises(RuntimeError, match=SPIN):
        verify("active proctype p() { nonsense }")
