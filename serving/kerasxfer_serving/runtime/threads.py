"""How many cores this process may use: what the scheduler and the container allow, not what the machine has."""

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def available_cores(root: Path = _CGROUP) -> int:
    """Cores this process may use, by CPU affinity and cgroup quota.

    A quota of one and a half cores counts as two: a thread that waits for the other costs less than a core left idle.

    Args:
        root: Where the cgroup file system is mounted.

    Returns:
        At least 1.

    Example:

    >>> available_cores() >= 1
    True
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows have no affinity to ask for
        cores = os.cpu_count() or 1
    quota = cgroup_quota(root)
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


def cgroup_quota(root: Path = _CGROUP) -> float | None:
    """Cores that the cgroup's CPU quota allows, or `None` where there is no quota."""
    for read in (_quota_v2, _quota_v1):
        try:
            if quota := read(root):
                return quota
        except (OSError, ValueError):
            continue
    return None


def _quota_v2(root: Path) -> float | None:
    quota, period = (root / "cpu.max").read_text(encoding="ascii").split()
    return None if quota == "max" else int(quota) / int(period)


def _quota_v1(root: Path) -> float | None:
    quota = int((root / "cpu" / "cpu.cfs_quota_us").read_text(encoding="ascii"))
    return quota / int((root / "cpu" / "cpu.cfs_period_us").read_text(encoding="ascii")) if quota > 0 else None
