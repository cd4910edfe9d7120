"""Reading stored features, row by row."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasxfer.bottleneck.errors import CacheError

MAX_OPEN_FILES = 256


class Features:
    """Rows of a shelf, read from their files one by one: only what is asked for comes into memory.

    Plain reads, not memory maps: the pages of a map count as memory of the process until all of the set has been read,
    and a file that is cut short while it is mapped kills the process.

    Args:
        shards: `.npy` files, and where in each the rows begin.
        table: for every row the number of its shard and its place there.
        shape: of all rows together.
        dtype: theirs.
    """

    def __init__(
        self, shards: Sequence[tuple[Path, int]], table: NDArray[np.int64], shape: tuple[int, ...], dtype: str
    ) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self._shards = list(shards)
        self._table = table
        self._open: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()

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
        return {**self.__dict__, "_open": OrderedDict(), "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def _read_into(self, buffer: memoryview, shard: int, row: int) -> None:
        path, header_bytes = self._shards[shard]
        try:
            file = self._file(shard)
            file.seek(header_bytes + row * len(buffer))
            if file.readinto(buffer) != len(buffer):
                raise OSError("it ends before the row")
        except OSError as error:
            raise CacheError(
                f"'{path}' has gone or changed while it was in use: {error}. Run again; what is missing is built."
            ) from error

    def _file(self, shard: int) -> Any:
        """The shard's file; the ones used last stay open, fewer than a process may have."""
        if shard not in self._open:
            if len(self._open) >= MAX_OPEN_FILES:
                self._open.popitem(last=False)[1].close()
            self._open[shard] = self._shards[shard][0].open("rb", buffering=0)
        self._open.move_to_end(shard)
        return self._open[shard]
