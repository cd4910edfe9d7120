"""Lock files, by which builders on one directory keep out of each other's way.

The operating system drops a dead process's lock, so a lock file that is left behind means nothing.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout


@contextlib.contextmanager
def claim(path: Path) -> Iterator[bool]:
    """Hold a lock file while the context lasts; yields whether it is ours.

    Nothing wrong can come of two builders writing one shard, only work done twice, so a file system without locks is no
    obstacle.
    """
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        yield False
        return
    except (NotImplementedError, OSError):
        yield True
        return
    try:
        yield True
    finally:
        path.unlink(missing_ok=True)
        lock.release()


def remove_if_dead(path: Path) -> bool:
    """Remove a lock file that no living process holds; returns whether it did. Where that cannot be told, it stays."""
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except (Timeout, NotImplementedError, OSError):
        return False
    path.unlink(missing_ok=True)
    lock.release()
    return True
