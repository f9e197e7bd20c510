"""Fixtures of the command line's tests: machines of their own, with one bootstrap key.

Left to others: what is done with them (`tests.cli.machine`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.machine import KEY, Machine


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Machine]:
    """The machine with the agent."""
    yield from _machine(tmp_path / "server")


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Machine]:
    yield from _machine(tmp_path / "device")


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Machine]:
    """A further device, or somebody who is none."""
    yield from _machine(tmp_path / "other")


def _machine(home: Path) -> Iterator[Machine]:
    with Machine(home, CLAWCHAT_BOOTSTRAP_KEY=KEY) as machine:
        yield machine
