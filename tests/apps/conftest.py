"""Fixtures of the applications' tests.

Rules: `world` is a fresh agent behind a fresh link for each test.
Left to others: building one with other settings (`tests.apps.world.open_world`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.apps.world import World, open_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path / "agent") as opened:
        yield opened
