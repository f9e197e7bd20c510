"""The clock of every driver: monotonic, and counting on while the machine sleeps where it can.

Rules: `now()` is the only source of `Instant`s outside simulations; of `slept()` only the growth
between two calls means something.
Left to others: waiting (each driver in its own way).
"""

from __future__ import annotations

import sys
import time

from clawchat.core.instant import Instant

if sys.platform == "linux":

    def now() -> Instant:
        """Nanoseconds since an arbitrary start, those spent in suspend included."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def slept() -> int:
        """Nanoseconds that this machine has spent in suspend."""
        awake = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - awake

else:

    def now() -> Instant:
        """Nanoseconds since an arbitrary start."""
        return time.monotonic_ns()

    def slept() -> int:
        """Nanoseconds that this machine has spent in suspend: what the calendar's clock is ahead.

        Setting that clock looks like sleep, which costs a probe of the path.
        """
        return time.time_ns() - time.monotonic_ns()
