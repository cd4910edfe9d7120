"""Reading stored features, row by row."""

import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasxfer.bottleneck.errors import CacheError
from kerasxfer.bottleneck.hashing import open_file_hash
from kerasxfer.bottleneck.shards import Shard

MAX_OPEN_FILES = 256


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
