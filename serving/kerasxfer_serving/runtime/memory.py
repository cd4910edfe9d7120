"""How much memory this process may use: what the container allows, not what the machine has."""

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")  # of cgroups version 2 and 1
_UNKNOWN = 8 << 30


def available_memory(root: Path = _CGROUP) -> int:
    """Bytes of memory this process may use, by the machine's size and the cgroup's limit.

    Args:
        root: Where the cgroup file system is mounted.

    Example:

    >>> available_memory() > 0
    True
    """
    return min(limit for limit in (_physical_memory(), *(_limit(root / name) for name in _LIMITS)) if limit is not None)


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows has no such call
        return _UNKNOWN


def _limit(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):  # there is none, or it says "max"
        return None
