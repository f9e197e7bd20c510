"""What every test can lean on: Hypothesis profiles and the outside test vectors.

Rules: a property test is the same on every machine in CI (`HYPOTHESIS_PROFILE=ci` is
derandomised); vectors from outside are used when they are there and skipped when not; a floor's own
tests cover it, so nothing else is traced.
Left to others: fixtures of one floor, which live beside its tests; how to wait (`waiting`).
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

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
TRACED = ("core", "scenarios/test_copies.py", "scenarios/test_rows.py")  # they cover the core


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `--cov`: a traced simulation takes nearly three times as long, and shows nothing new."""
    for item in items:
        if not any(item.path.is_relative_to(TESTS / place) for place in TRACED):
            item.add_marker(pytest.mark.no_cover)


@pytest.fixture(scope="session")
def outside_vectors() -> Path:
    """The folder of vectors fetched from public projects; the test is skipped without it."""
    folder = Path(os.environ.get("CLAWCHAT_VECTORS", ROOT.parent / "shared" / "vectors"))
    if not folder.is_dir():
        pytest.skip("no outside vectors beside this checkout")
    return folder
