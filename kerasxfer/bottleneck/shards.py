"""Features in files: a shard of some rows in a plain `.npy` file, a sidecar that says what they are, and their reading.

A shard is whole if everything about it agrees: its name with its rows' keys, its sidecar with the folder it lies in and
with the file's header and size. It is sound if the file's hash is the one in the sidecar too. Whoever asks what is
there, to build, to read or to clear, asks here.
"""

import hashlib
import io
import json
import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from kerasxfer_serving.files import write_atomically
from numpy.typing import NDArray

from kerasxfer.bottleneck.errors import CacheError

MAX_OPEN_FILES = 256

Stamp = tuple[int, ...]

_HASHES: dict[Stamp, str] = {}
_TICK_NS = 50_000_000  # file systems note times in steps of some milliseconds: two changes within one look like one


@dataclass(frozen=True)
class Shard:
    """A whole shard.

    Args:
        path: The `.npy` file; the sidecar has its name and the suffix `.json`.
        keys: The rows' keys, in their order.
        shape: Shape of all rows together.
        dtype: Name of their dtype.
        sha256: Hash of the file.
        offset: Bytes of the header, before the first row.
        bytes: Size of the file.
    """

    path: Path
    keys: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    sha256: str
    offset: int
    bytes: int

    def is_sound(self, *, fresh: bool = False) -> bool:
        """Whether the file holds what was written; `fresh` reads it even if it has not changed since the last time."""
        try:
            return file_hash(self.path, fresh=fresh) == self.sha256
        except OSError:
            return False


def shard_name(keys: Iterable[str]) -> str:
    """Name of the shard of these rows."""
    return f"shard-{hashlib.sha256(' '.join(keys).encode()).hexdigest()[:16]}"


def write_shard(folder: Path, keys: Sequence[str], features: NDArray[Any]) -> None:
    """Write a shard into the folder of its fingerprint, the sidecar last: it stands for a whole shard.

    Plain `write`, because a full disk under a memory map kills the process.
    """
    path = folder / f"{shard_name(keys)}.npy"
    features = np.ascontiguousarray(features)  # PyTorch's are transposed views
    data = [_header(features.shape, features.dtype.name), features.data.cast("B") if features.size else b""]
    path.with_suffix(".json").unlink(missing_ok=True)
    write_atomically(path, data)
    write_atomically(path.with_suffix(".json"), json.dumps(_sidecar(folder.name, keys, features, data)))


def read_shard(sidecar: Path) -> Shard | None:
    """The shard of a sidecar, or None if it is not whole."""
    path = sidecar.with_suffix(".npy")
    try:
        fields = json.loads(sidecar.read_bytes())
        keys, shape = tuple(map(str, fields["keys"])), tuple(map(int, fields["shape"]))
        header, dtype = _header(shape, fields["dtype"]), np.dtype(fields["dtype"])
        with path.open("rb") as file:
            header_agrees = file.read(len(header)) == header
        size = len(header) + int(np.prod(shape, dtype=object)) * dtype.itemsize
        whole = (
            header_agrees
            and (fields["fingerprint"], shard_name(keys), len(keys)) == (sidecar.parent.name, sidecar.stem, shape[0])
            and path.stat().st_size == size
        )
        return Shard(path, keys, shape, dtype.name, str(fields["sha256"]), len(header), size) if whole else None
    except (OSError, ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return None  # gone, or not what a builder has written


def remove_shard(path: Path) -> None:
    """Remove a shard, its sidecar first: a sidecar stands for a whole shard."""
    path.with_suffix(".json").unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _header(shape: tuple[int, ...], dtype: str) -> bytes:
    """Header of an `.npy` file."""
    header = io.BytesIO()
    description = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, description)
    return header.getvalue()


def _sidecar(fingerprint: str, keys: Sequence[str], features: NDArray[Any], data: Sequence[Any]) -> dict[str, Any]:
    digest = hashlib.sha256()
    for part in data:
        digest.update(part)
    finite = np.isfinite(features)
    known = features if finite.all() else features[finite]
    return {
        "fingerprint": fingerprint,
        "keys": list(keys),
        "shape": list(features.shape),
        "dtype": features.dtype.name,
        "bytes": sum(len(part) for part in data),
        "sha256": digest.hexdigest(),
        "minimum": float(known.min()) if known.size else 0.0,
        "maximum": float(known.max()) if known.size else 0.0,
        "nonfinite": features.size - known.size,
    }


class Features:
    """Rows of a shelf, read from their files one by one: only what is asked for comes into memory.

    Plain reads, not memory maps: the pages of a map count as memory of the process until all of the set has been read,
    and a file that is cut short while it is mapped kills the process. A file that has changed since its hash was last
    compared is compared again before a row of it is read.

    Args:
        shards: The sound shards that the rows lie in.
        table: For every row the number of its shard and its place there, `[rows, 2]`.
        shape: Shape of all rows together.
        dtype: Name of their dtype.
    """

    def __init__(self, shards: Sequence[Shard], table: NDArray[np.int64], shape: tuple[int, ...], dtype: str) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self._shards = list(shards)
        self._table = table
        self._begin_reading()

    def __len__(self) -> int:
        return len(self._table)

    def read(self, rows: Sequence[int] | NDArray[np.intp]) -> NDArray[Any]:
        """Copy of the given rows."""
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        size = out[:1].nbytes
        buffer = out.reshape(-1).view(np.uint8).data
        with self._lock:
            for position, (shard, row) in enumerate(self._table[rows].tolist()):
                self._read_into(buffer[position * size : (position + 1) * size], shard, row)
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        array = self.read(np.arange(len(self)))
        return array if dtype is None else array.astype(dtype)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_open", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin_reading()

    def _begin_reading(self) -> None:
        self._open: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()
        weakref.finalize(self, _close, self._open)

    def _read_into(self, buffer: memoryview, number: int, row: int) -> None:
        shard = self._shards[number]
        try:
            file = self._file(number)
            if open_file_hash(file) != shard.sha256:
                raise OSError("it does not match its hash")
            file.seek(shard.offset + row * len(buffer))
            if file.readinto(buffer) != len(buffer):
                raise OSError("it ends before the row")
        except OSError as error:
            raise CacheError(
                f"'{shard.path}' disappeared or changed while in use: {error}. Run again to build what is missing."
            ) from error

    def _file(self, number: int) -> Any:
        """The shard's file; the ones used last stay open, fewer than a process may have."""
        if number not in self._open:
            if len(self._open) >= MAX_OPEN_FILES:
                self._open.popitem(last=False)[1].close()
            self._open[number] = self._shards[number].path.open("rb", buffering=0)
        self._open.move_to_end(number)
        return self._open[number]


def _close(files: OrderedDict[int, Any]) -> None:
    for file in files.values():
        file.close()


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
