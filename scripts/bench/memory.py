"""The memory of a process at its peak."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def peak() -> int:
    """Bytes that this process held in memory at its peak, so far.

    On Linux this is VmHWM of proc(5). `getrusage` would tell no less than what the process that started this
    one held: its count outlives `exec`.
    """
    if STATUS.exists():
        for line in STATUS.read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "VmHWM":
                return int(value.split()[0]) * 1024
    # macOS counts in bytes, others in KiB.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
