"""What every test can lean on: Hypothesis profiles and the outside test vectors.

Rules: a property test is the same on every machine in CI (`HYPOTHESIS_PROFILE=ci` is
derandomised); vectors from outside are used when they are there and skipped when not.
Left to others: fixtures of one floor, which live beside its tests.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "dev", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def outside_vectors() -> Path:
    """The folder of vectors fetched from public projects; the test is skipped without it."""
    folder = Path(os.environ.get("CLAWCHAT_VECTORS", ROOT.parent / "shared" / "vectors"))
    if not folder.is_dir():
        pytest.skip("no outside vectors beside this checkout")
    return folder
