"""How tests wait: for the event itself, never for a while.

Rules: what is waited for takes milliseconds, and a loaded machine may need a thousand times as
long; `PATIENCE` ends a test that would hang, and decides no other verdict.
Left to others: virtual time (Trio's `MockClock`, the simulator), which is better where it fits.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, sleep
from typing import Final

import trio

PATIENCE: Final = 60.0  # seconds
LOOK: Final = 0.01  # seconds between two looks


async def until(holds: Callable[[], object]) -> None:
    """Wait until `holds()`, under Trio, where nobody announces it."""
    with trio.fail_after(PATIENCE):
        while not holds():  # noqa: ASYNC110 - what is waited for is not a test's to signal
            await trio.sleep(LOOK)


def wait_until(holds: Callable[[], object]) -> None:
    """Wait until `holds()`, without an event loop."""
    end = monotonic() + PATIENCE
    while not holds():
        assert monotonic() < end, "it did not come about"
        sleep(LOOK)
