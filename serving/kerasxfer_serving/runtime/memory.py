"""How much memory this process may use: what the container allows, not what the machine has."""

import os
from pathlib import Path

from kerasxfer_serving.errors import ModelError
from kerasxfer_serving.files import format_bytes

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


def refuse_oversized_batch(images: int, image_size: tuple[int, int]) -> None:
    """Refuse a batch whose pixels alone, as they are decoded and as 32-bit figures, take a quarter of the memory.

    Args:
        images: Number of images in it.
        image_size: `(height, width)` of each.

    Raises:
        ModelError: If it does.
    """
    height, width = image_size
    size, memory = images * height * width * 3 * (1 + 4), available_memory()
    if size > memory // 4:
        raise ModelError(
            f"A batch of {images} images of {height} × {width} takes {format_bytes(size)}, more than a quarter of the "
            f"{format_bytes(memory)} there are: give a smaller `batch_size`, or use a model for smaller images."
        )


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
