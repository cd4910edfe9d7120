"""Hashes of files, computed once for as long as a file does not change."""

import hashlib
import os
import time
from io import BufferedReader
from pathlib import Path

Stamp = tuple[int, ...]

_HASHES: dict[Stamp, str] = {}
_TICK_NS = 50_000_000  # file systems note times in steps of some milliseconds: two changes within one look like one


def stamp(status: os.stat_result) -> Stamp:
    """What tells a file's content from that of another time or file.

    Size and time of modification are no proof, both can be kept over a change; the inode's time of change cannot.
    """
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def file_hash(path: Path, *, fresh: bool = False) -> str:
    """SHA-256 of a file, as hexadecimal digits.

    Args:
        path: The file.
        fresh: Whether to read the file even if it is known and has not changed. Defaults to `False`.
    """
    known = None if fresh else _HASHES.get(stamp(path.stat()))
    if known is not None:
        return known
    with path.open("rb") as file:
        return open_file_hash(file, fresh=fresh)


def open_file_hash(file: BufferedReader, *, fresh: bool = False) -> str:
    """SHA-256 of an open file, whatever has become of its path; the position in it is lost."""
    status = os.fstat(file.fileno())
    seen = stamp(status)
    if fresh or seen not in _HASHES:
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if time.time_ns() - status.st_ctime_ns < _TICK_NS:
            return digest
        _HASHES[seen] = digest
    return _HASHES[seen]
