"""The clock of every driver: monotonic, and counting on while the machine sleeps where it can.

Rules: `now()` is the only source of `Instant`s outside simulations.
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

else:

    def now() -> Instant:
        """Nanoseconds since an arbitrary start."""
        return time.monotonic_ns()
