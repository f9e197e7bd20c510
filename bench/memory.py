"""How much memory this process holds.

Left to others: what is measured (`bench.ours`, `bench.theirs`).
"""

from __future__ import annotations

import gc
import os
import sys


def resident_bytes() -> int:
    """Resident set size after a collection; on other systems than Linux the peak so far."""
    gc.collect()
    if sys.platform == "linux":
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
