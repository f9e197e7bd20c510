"""Every driver plays every scenario, and every application is told the same."""

from __future__ import annotations

from functools import cache

import pytest

from tests.drivers import (
    conformance_asyncio,
    conformance_blocking,
    conformance_simulator,
    conformance_trio,
)
from tests.drivers.conformance import SCENARIOS, Adapter, Scenario, Transcript

ADAPTERS: tuple[Adapter, ...] = (
    conformance_simulator.ADAPTER,
    conformance_trio.ADAPTER,
    conformance_asyncio.ADAPTER,
    conformance_blocking.ADAPTER,
)


@cache
def reference(scenario: Scenario) -> Transcript:
    return conformance_simulator.ADAPTER.play(scenario)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: adapter.name)
def test_every_driver_tells_the_same_story(adapter: Adapter, scenario: Scenario) -> None:
    assert adapter.play(scenario) == reference(scenario)
