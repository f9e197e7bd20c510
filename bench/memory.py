"""How much memory this process holds.

Left to others: what is measured (`bench.ours`, `bench.theirs`).
"""

from __future__ import annotations

import gc
import os
from pathlib import Path


def resident_bytes() -> int:
    """Resident set size after a collection; elsewhere than on Linux the peak so far (macOS)."""
    gc.collect()
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
