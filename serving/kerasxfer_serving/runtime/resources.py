"""What this process may use, and work that keeps within it.

Cores, memory and GPUs are those that the scheduler, the container and the driver allow, not those that the machine
has.
"""

import ctypes
import math
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

from kerasxfer_serving.errors import ModelError
from kerasxfer_serving.files import format_bytes

_CGROUP = Path("/sys/fs/cgroup")
_MEMORY_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")  # of cgroups version 2 and 1
_UNKNOWN_MEMORY = 8 << 30

Item = TypeVar("Item")
Answer = TypeVar("Answer")


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


def available_memory(root: Path = _CGROUP) -> int:
    """Bytes of memory this process may use, by the machine's size and the cgroup's limit.

    Args:
        root: Where the cgroup file system is mounted.

    Example:

    >>> available_memory() > 0
    True
    """
    return min(
        limit
        for limit in (_physical_memory(), *(_memory_limit(root / name) for name in _MEMORY_LIMITS))
        if limit is not None
    )


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
        return _UNKNOWN_MEMORY


def _memory_limit(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):  # there is none, or it says "max"
        return None


def cuda_devices() -> int:
    """Number of GPUs that the NVIDIA driver shows to this process; 0 without a driver."""
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def map_in_order(function: Callable[[Item], Answer], items: Iterable[Item], workers: int) -> Iterator[Answer]:
    """Answers to items, worked out by threads.

    Ended by an error or by Ctrl-C, it does not wait for what is still being worked on.

    Args:
        function: Called in a thread of a pool.
        items: Taken from the iterator only as fast as they are worked on.
        workers: Number of threads.

    Yields:
        The answers, in the order of the items.
    """
    pending: deque[Future[Answer]] = deque()
    pool = ThreadPoolExecutor(workers, "kerasxfer")
    wait = True
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except GeneratorExit:  # the caller has had enough, and shall not find threads busy behind its back
        raise
    except BaseException:
        wait = False
        raise
    finally:
        pool.shutdown(wait, cancel_futures=True)


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items, the last of what is left."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
