"""A shard: features of some rows in a plain `.npy` file, and beside it a sidecar that says what they are.

A shard is whole if everything about it agrees: its name with its rows' keys, its sidecar with the folder it lies in and
with the file's header and size. It is sound if the file's hash is the one in the sidecar too. Whoever asks what is
there, to build, to read or to clear, asks here.
"""

import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from kerasxfer_serving.files import write_atomically
from numpy.typing import NDArray

from kerasxfer.bottleneck.hashing import file_hash


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
