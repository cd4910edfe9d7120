"""Features on disk: shards of rows named by their content, written atomically, found by the hash of the picture.

    <root>/v1/<fingerprint>/manifest.json       what was hashed, for people; written once
                            shard-<hash>.npy    features of some rows
                            shard-<hash>.json   their keys, sizes and hash; written last: without it there is no shard

A row's key is the hash of its picture (and the number of the augmented copy), so there is no table of rows to keep in
step: added pictures are rows that are missing, renamed and removed ones change nothing, labels stay with the data set.
A shard's name is the hash of its keys, so two builders with one plan write the same files, and any number of machines
can fill one directory without talking to each other.
"""

import contextlib
import errno
import hashlib
import io
import json
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from kerasxfer.bottleneck.errors import CacheError
from kerasxfer.bottleneck.features import Features

LAYOUT = "v1"
SHARD_BYTES = 128 * 2**20


@dataclass(frozen=True)
class Sidecar:
    """What is known about a shard: written after it, so that its presence means that the shard is whole."""

    keys: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    sha256: str
    minimum: float
    maximum: float
    nonfinite: int

    @property
    def header_bytes(self) -> int:
        """Where the rows begin in the shard's file."""
        return self.bytes - math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @classmethod
    def read(cls, path: Path) -> "Sidecar":
        """Read a sidecar; `ValueError` if it is not one."""
        fields = json.loads(path.read_text())
        try:
            return cls(**{**fields, "keys": tuple(fields["keys"]), "shape": tuple(fields["shape"])})
        except (TypeError, KeyError) as error:
            raise ValueError(f"not a sidecar: {error}") from error


class Shelf:
    """The shards of one fingerprint.

    Args:
        root: The cache's directory.
        fingerprint: Name of the shelf.

    Example:

    ```python
    shelf = Shelf(Path("cache"), fingerprint)
    shelf.write(keys, features)
    shelf.open(keys).read([3, 1, 2])
    ```
    """

    def __init__(self, root: Path, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self.path = root / LAYOUT / fingerprint

    def describe(self, manifest: Mapping[str, Any]) -> None:
        """Write the manifest if there is none."""
        path = self.path / "manifest.json"
        if not path.exists():
            with _writing(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
                write_atomically(path, [json.dumps(manifest, indent=2, default=str).encode()])

    @property
    def manifest(self) -> dict[str, Any]:
        """What was hashed; empty if it was never written."""
        try:
            manifest: dict[str, Any] = json.loads((self.path / "manifest.json").read_text())
        except (OSError, ValueError):
            return {}
        return manifest

    def sidecars(self) -> dict[Path, Sidecar]:
        """The complete shards: sidecar readable, file of the size it says."""
        found = {}
        for path in sorted(self.path.glob("shard-*.json")):
            shard = path.with_suffix(".npy")
            with contextlib.suppress(OSError, ValueError):
                sidecar = Sidecar.read(path)
                if shard.stat().st_size == sidecar.bytes:
                    found[shard] = sidecar
        return found

    def keys(self) -> set[str]:
        """Keys of all rows that are there."""
        return {key for sidecar in self.sidecars().values() for key in sidecar.keys}

    def has_shard(self, keys: Sequence[str]) -> bool:
        """Whether the shard of exactly these keys is complete."""
        return (self.path / f"{shard_name(keys)}.json").exists()

    @contextlib.contextmanager
    def lock(self, keys: Sequence[str]) -> Iterator[bool]:
        """Claim the shard of these keys: yields whether it is ours.

        The operating system drops a dead builder's lock. Nothing wrong could come of two builders writing one shard,
        only work done twice, so a file system without locks is no obstacle.
        """
        path = self.path / f"{shard_name(keys)}.lock"
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
            for left in self.path.glob(f".{path.stem}.*.tmp"):  # of a builder that died: its lock would be held else
                left.unlink(missing_ok=True)
            yield True
        finally:
            lock.release()
            path.unlink(missing_ok=True)

    def write(self, keys: Sequence[str], features: NDArray[Any]) -> Sidecar:
        """Write a shard: temporary file, flush, rename, then the sidecar.

        Plain `write`, because a full disk under a memory map kills the process.
        """
        path = self.path / f"{shard_name(keys)}.npy"
        features = np.ascontiguousarray(features)  # PyTorch's are transposed views
        data = _npy(features)
        sidecar = _describe(keys, features, data)
        with _writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomically(path, data)
            write_atomically(path.with_suffix(".json"), [json.dumps(asdict(sidecar)).encode()])
        return sidecar

    def open(self, keys: Sequence[str], *, verify: bool = True) -> Features:
        """Features of the given rows, in their order.

        Raises:
            CacheError: If rows are missing. Shards that are damaged do not count (and are removed).
        """
        shards = [item for item in self.sidecars().items() if not verify or self.sound(*item)]
        places = {key: (n, row) for n, (_, sidecar) in enumerate(shards) for row, key in enumerate(sidecar.keys)}
        missing = sum(key not in places for key in keys)
        if missing:
            raise CacheError(
                f"The cache in '{self.path}' lacks {missing} of {len(keys)} rows. Build it again: what is "
                "there is kept."
            )
        with contextlib.suppress(OSError):  # a read-only cache is as good
            os.utime(self.path / "manifest.json")
        table = np.array([places[key] for key in keys], dtype=np.int64).reshape(-1, 2)
        files = [(path, sidecar.header_bytes) for path, sidecar in shards]
        first = shards[0][1] if shards else None
        shape = (len(table), *(first.shape[1:] if first else ()))
        return Features(files, table, shape, first.dtype if first else "float32")

    def sound(self, shard: Path, sidecar: Sidecar) -> bool:
        """Whether a shard holds what was written; one that does not is removed, so that it is built again."""
        status = shard.stat()
        seen = (str(shard), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        if seen in _SOUND:
            return True
        if _sha256(shard) == sidecar.sha256:
            _SOUND.add(seen)
            return True
        with contextlib.suppress(OSError):
            remove_shard(shard)
        return False


_SOUND: set[tuple[Any, ...]] = set()  # files whose hash this process has checked, and that have not changed since


def shard_name(keys: Iterable[str]) -> str:
    """Name of the shard of these rows."""
    return f"shard-{hashlib.sha256(' '.join(keys).encode()).hexdigest()[:16]}"


def remove_shard(shard: Path) -> None:
    """Remove a shard, its sidecar first: a sidecar stands for a whole shard."""
    shard.with_suffix(".json").unlink(missing_ok=True)
    shard.unlink(missing_ok=True)


def write_atomically(path: Path, parts: Iterable[Any]) -> None:
    """Write a file so that it is there in full or not at all."""
    temporary = path.with_name(f".{path.name}-{os.getpid()}-{time.monotonic_ns()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn what the operating system says about writing into what a person can do about it."""
    remedies = {
        errno.ENOSPC: "The disk is full: free some space, or name another directory.",
        errno.EDQUOT: "Your quota is used up: free some space, or name another directory.",
        errno.EFBIG: "The file system or a limit (`ulimit -f`) refuses files of this size.",
        errno.EROFS: "It is read-only: name a directory that can be written to, or build the cache where it can.",
        errno.EACCES: "It may not be written to: name another directory, or have its permissions changed.",
        errno.EPERM: "It may not be written to: name another directory, or have its permissions changed.",
    }
    try:
        yield
    except OSError as error:
        if error.errno not in remedies:
            raise
        raise CacheError(
            f"Cannot write to the cache in '{path}'. {remedies[error.errno]} Finished shards stay valid: the next run "
            "goes on from there."
        ) from error


def _npy(features: NDArray[Any]) -> list[Any]:
    """Header and data of an `.npy` file."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(features))
    return [header.getvalue(), features.data.cast("B") if features.size else b""]


def _describe(keys: Sequence[str], features: NDArray[Any], data: Sequence[Any]) -> Sidecar:
    digest = hashlib.sha256()
    for part in data:
        digest.update(part)
    finite = np.isfinite(features)
    known = features if finite.all() else features[finite]
    return Sidecar(
        keys=tuple(keys),
        shape=features.shape,
        dtype=features.dtype.name,
        bytes=sum(len(part) for part in data),
        sha256=digest.hexdigest(),
        minimum=float(known.min()) if known.size else 0.0,
        maximum=float(known.max()) if known.size else 0.0,
        nonfinite=features.size - known.size,
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
