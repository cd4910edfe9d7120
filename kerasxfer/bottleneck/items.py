"""What is to be computed: which images, at which boundaries, in which shards, and whether there is room for it."""

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from kerasxfer_serving.files import format_bytes

from kerasxfer.bottleneck.errors import CacheError
from kerasxfer.bottleneck.sources import ImageSource
from kerasxfer.bottleneck.store import Shelf


@dataclass(frozen=True)
class Tap:
    """A boundary of the schedule and the shelf that its features go to."""

    position: int
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    shelf: Shelf

    @property
    def row_bytes(self) -> int:
        """Size of one image's features."""
        return int(math.prod(self.shape)) * self.dtype.itemsize


@dataclass(frozen=True)
class Item:
    """An image to compute: its row, its augmented copy if it is one, its key."""

    row: int
    copy: int | None
    key: str


def shard_rows(taps: Sequence[Tap], batch_size: int, shard_bytes: int) -> int:
    """Rows of a shard: about `shard_bytes` at the largest boundary, in whole batches."""
    rows = shard_bytes // max(tap.row_bytes for tap in taps)
    return max(1, rows // batch_size) * batch_size


def shards_of(items: Sequence[Item], size: int, shard: tuple[int, int] | None = None) -> list[Sequence[Item]]:
    """The items of each shard, in the plan that all builders share; of `(i, n)` only every n-th from the i-th on."""
    plan = [items[k : k + size] for k in range(0, len(items), size)]
    return plan if shard is None else plan[shard[0] :: shard[1]]


def items_of(source: ImageSource, copies: int) -> list[Item]:
    """What a cache of this data set holds: each different image once, or each of its copies."""
    rows = {key: row for row, key in reversed(list(enumerate(source.keys)))}
    ordered = sorted(rows.items(), key=lambda pair: pair[1])
    if not copies:
        return [Item(row, None, key) for key, row in ordered]
    return [Item(row, copy, copy_key(key, copy)) for copy in range(copies) for key, row in ordered]


def copy_key(key: str, copy: int) -> str:
    """Key of an augmented copy."""
    return f"{key}-{copy}"


def refuse_too_large(missing: dict[Tap, list[Item]]) -> None:
    """Raise a `CacheError` if the disk has no room for what is missing."""
    sizes = {tap: tap.row_bytes * len(items) for tap, items in missing.items()}
    needed = int(sum(sizes.values()) * 1.01)
    folder = existing_parent(next(iter(sizes)).shelf.path)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise CacheError(
            f"The features need {format_bytes(needed)}, and '{folder}' has {format_bytes(free)} left. Free some space, "
            "name another directory, or store half as much with `dtype='float16'` (not exact)."
        )


def existing_parent(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next(folder for folder in (path, *path.resolve().parents) if folder.exists())
