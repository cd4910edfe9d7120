"""Features on disk: shards of rows named by their content, written atomically, found by the hash of the image.

    <root>/v1/<fingerprint>/manifest.json       what was hashed, for people; written once
                            shard-<hash>.npy    features of some rows
                            shard-<hash>.json   their keys, sizes and hash; written last: without it there is no shard

A row's key is the hash of its image (and the number of the augmented copy), so there is no table of rows to keep in
step: added images are rows that are missing, renamed and removed ones change nothing, labels stay with the data set.
A shard's name is the hash of its keys, so two builders with one plan write the same files, and any number of machines
can fill one directory without talking to each other. Lock files keep them out of each other's way; the operating system
drops the lock of a process that dies, so one that is left behind means nothing.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from kerasxfer_serving.errors import WriteError
from kerasxfer_serving.files import write_atomically, writing
from numpy.typing import NDArray

from kerasxfer.bottleneck.errors import CacheError
from kerasxfer.bottleneck.shards import Features, Shard, read_shard, remove_shard, shard_name, write_shard

LAYOUT = "v1"
SHARD_BYTES = 128 * 2**20

_FINGERPRINT = re.compile(r"[0-9a-f]{32}")
_SHARD = re.compile(r"shard-[0-9a-f]{16}\.(npy|json)")
_OWN = re.compile(
    rf"manifest\.json|{_SHARD.pattern}|shard-[0-9a-f]{{16}}\.lock|\.build-.*\.lock|\.(manifest|shard)[-.].*\.tmp"
)
_MANIFEST = {"model": str, "boundary": str, "shape": list, "dtype": str, "platform": dict}


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

    # What is there

    @property
    def manifest(self) -> dict[str, Any]:
        """What was hashed; empty if it was never written."""
        try:
            manifest = json.loads((self.path / "manifest.json").read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return manifest if isinstance(manifest, dict) else {}

    @property
    def is_ours(self) -> bool:
        """Whether this is a folder that a cache has made, and no link to one."""
        if self.path.is_symlink() or self.path.parent.is_symlink() or not _FINGERPRINT.fullmatch(self.fingerprint):
            return False
        manifest = self.manifest
        return all(isinstance(manifest.get(key), kind) for key, kind in _MANIFEST.items())

    def files(self) -> list[Path]:
        """The files that a cache has written here; what else lies in the folder belongs to somebody else."""
        found = self.path.iterdir() if self.path.is_dir() else ()
        return sorted(path for path in found if _OWN.fullmatch(path.name) and path.is_file() and not path.is_symlink())

    def size(self) -> int:
        """Bytes of these files."""
        total = 0
        for path in self.files():
            with contextlib.suppress(OSError):  # another process may be at work
                total += path.stat().st_size
        return total

    def shards(self) -> list[Shard]:
        """The whole shards, sound or not: their files have not been read."""
        found = (read_shard(path) for path in sorted(self.path.glob("shard-*.json")))
        return [shard for shard in found if shard is not None]

    def sound_shards(self) -> list[Shard]:
        """The shards that hold what was written. Others are removed where that is permitted, to be built again."""
        return [shard for shard in self.shards() if self.keep_if_sound(shard)]

    def keys(self) -> set[str]:
        """Keys of all rows that can be read."""
        return {key for shard in self.sound_shards() for key in shard.keys}

    def has_shard(self, keys: Sequence[str]) -> bool:
        """Whether the shard of exactly these keys can be read."""
        shard = read_shard(self.path / f"{shard_name(keys)}.json")
        return shard is not None and self.keep_if_sound(shard)

    def leftovers(self) -> list[Path]:
        """Files that belong to no whole shard: of builders that have died, or that are at work."""
        whole = {shard.path.stem for shard in self.shards()}
        return [
            path
            for path in self.files()
            if path.name != "manifest.json" and not (_SHARD.fullmatch(path.name) and path.stem in whole)
        ]

    # Building and reading

    @contextlib.contextmanager
    def building(self, manifest: Mapping[str, Any]) -> Iterator[None]:
        """Be known as a living builder while the context lasts; clears up after the dead ones first."""
        with _writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        leftovers = self.leftovers()  # before the others are looked for: nothing of a builder that begins now
        own = self.path / f".build-{os.getpid()}-{os.urandom(4).hex()}.lock"
        with _claim(own):
            if not self.is_being_built(except_by=own):
                self.remove(leftovers)
            if not (self.path / "manifest.json").exists():
                with _writing(self.path):
                    write_atomically(self.path / "manifest.json", json.dumps(manifest, indent=2, default=str))
            yield

    def is_being_built(self, except_by: Path | None = None) -> bool:
        """Whether a builder is at work here, or may be."""
        others = [path for path in self.path.glob(".build-*.lock") if path != except_by]
        return bool([path for path in others if not _remove_if_dead(path)])

    def lock(self, keys: Sequence[str]) -> contextlib.AbstractContextManager[bool]:
        """Claim the shard of these keys: the context's value says whether it is ours."""
        return _claim(self.path / f"{shard_name(keys)}.lock")

    def write(self, keys: Sequence[str], features: NDArray[Any]) -> None:
        """Write a shard."""
        with _writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            write_shard(self.path, keys, features)

    def open(self, keys: Sequence[str]) -> Features:
        """Features of the given rows, in their order.

        Raises:
            CacheError: If rows are missing.
        """
        shards = self.sound_shards()
        places = {key: (n, row) for n, shard in enumerate(shards) for row, key in enumerate(shard.keys)}
        missing = sum(key not in places for key in keys)
        if missing:
            raise CacheError(
                f"The cache in '{self.path}' lacks {missing} of {len(keys)} rows. Build it again: what is "
                "there is kept."
            )
        with contextlib.suppress(OSError):  # a read-only cache is as good
            os.utime(self.path / "manifest.json")
        table = np.array([places[key] for key in keys], dtype=np.int64).reshape(-1, 2)
        first = shards[0] if shards else None
        shape = (len(table), *(first.shape[1:] if first else ()))
        return Features(shards, table, shape, first.dtype if first else "float32")

    # Clearing

    def remove(self, files: Iterable[Path]) -> list[Path]:
        """Remove some files of the shelf; returns those that are gone."""
        return [path for path in files if self._removed(path)]

    def clear(self) -> bool:
        """Remove everything that a cache has written, and the folder if that was all; returns whether it is gone.

        The manifest goes last: by it, whatever cannot be removed is known the next time.
        """
        manifest = self.path / "manifest.json"
        files = [path for path in self.files() if path != manifest]
        gone = len(self.remove(files)) == len(files) and bool(self.remove([manifest]))
        with contextlib.suppress(OSError):
            self.path.rmdir()
        return gone

    def keep_if_sound(self, shard: Shard, *, fresh: bool = False) -> bool:
        """Whether a shard holds what was written; one that does not is removed, where that is permitted."""
        if shard.is_sound(fresh=fresh):
            return True
        with contextlib.suppress(OSError):
            remove_shard(shard.path)
        return False

    @staticmethod
    def _removed(path: Path) -> bool:
        if path.suffix == ".lock":
            return _remove_if_dead(path)
        try:
            path.unlink(missing_ok=True)
        except OSError:
            return False
        return True


def all_shelves(root: Path) -> Iterator[Shelf]:
    """Every set of features in a directory."""
    for path in sorted((root / LAYOUT).glob("*/")):
        shelf = Shelf(root, path.name)
        if shelf.is_ours:
            yield shelf


def size_of_all(root: Path) -> int:
    """Bytes of all features in a directory."""
    return sum(shelf.size() for shelf in all_shelves(root))


def existing_parent(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next(folder for folder in (path, *path.resolve().parents) if folder.exists())


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        with writing(path):
            yield
    except WriteError as error:
        cause = error.__cause__
        if isinstance(cause, IsADirectoryError):
            name = cause.filename2 or cause.filename
            raise CacheError(f"`{name}` is a folder where the cache has a file: remove it.") from error
        raise CacheError(f"{error} Finished shards stay valid: the next run continues from there.") from error


@contextlib.contextmanager
def _claim(path: Path) -> Iterator[bool]:
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


def _remove_if_dead(path: Path) -> bool:
    """Remove a lock file that no living process holds; returns whether it did. Where that cannot be told, it stays."""
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except (Timeout, NotImplementedError, OSError):
        return False
    path.unlink(missing_ok=True)
    lock.release()
    return True
