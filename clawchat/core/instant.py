"""Time, as the core sees it: an integer that somebody else read from a clock.

Rules: an `Instant` is nanoseconds on a monotonic clock that keeps counting during suspend where
the platform has one; differences are nanoseconds too; no float enters the core.
Left to others: reading clocks (`clawchat.drivers`).
"""

from __future__ import annotations

from typing import TypeAlias

from attrs import frozen

Instant: TypeAlias = int
"""Nanoseconds since an arbitrary start. Plain `int`: the hot path adds and compares it."""

MICROSECOND = 1_000
MILLISECOND = 1_000_000
SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE


@frozen
class Deadline:
    """When a driver must call `Endpoint.advance` at the latest, and why (for traces)."""

    at: Instant
    why: str
