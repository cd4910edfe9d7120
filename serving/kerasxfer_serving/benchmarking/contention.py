"""How much of the cores other processes took while we measured."""

import os
import time
from pathlib import Path

_IDLE, _IO_WAIT = 3, 4


class Contention:
    """Watches from its making on what others use of the cores that this process may use."""

    def __init__(self) -> None:
        self._start = _snapshot()

    def cores_of_others(self) -> float | None:
        """Cores that others kept busy on average; `None` where the system does not tell (not Linux)."""
        now = _snapshot()
        if self._start is None or now is None:
            return None
        elapsed, busy, own = (after - before for after, before in zip(now, self._start, strict=True))
        return max(0.0, (busy - own) / elapsed)


def _snapshot() -> tuple[float, float, float] | None:
    """Seconds: the clock's, those in which our cores were busy, and those in which they were busy for us."""
    try:
        lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
        ours = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    except (OSError, AttributeError):
        return None
    ticks = 0
    for line in lines:
        name, *fields = line.split()
        if name in ours:  # user, nice, system, idle, iowait, irq, softirq, steal; the guests' are in user already
            ticks += sum(int(value) for place, value in enumerate(fields[:8]) if place not in (_IDLE, _IO_WAIT))
    own = os.times()
    return time.monotonic(), ticks / os.sysconf("SC_CLK_TCK"), own.user + own.system
