"""Where images and labels come from: rows with a key that says what is in the image, whatever `fit` is given."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
from kerasxfer_serving.errors import UsageError
from numpy.typing import NDArray

from kerasxfer.bottleneck.errors import CacheError
from kerasxfer.bottleneck.fingerprint import canonical_config, code_hash
from kerasxfer.bottleneck.row_sources import ArraySource, BatchSource, RowIndices
from kerasxfer.bottleneck.shards import file_hash
from kerasxfer.data.image_dataset import ImageDataset
from kerasxfer.models import ImageClassifier
from kerasxfer.pixel_range import checked
from kerasxfer.types import Data


class ImageSource(Protocol):
    """A data set as the cache sees it: numbered rows, their content keys, and an order for each epoch."""

    batch_size: int
    counts_passes: bool  # whether the data set itself counts its passes, and may be told which one comes

    @property
    def epoch(self) -> int:
        """Number of the pass in force; it decides the order."""

    @property
    def random_access(self) -> bool:
        """Whether the images of some rows can be read without reading all that lie before them."""

    @property
    def keys(self) -> list[str]:
        """Content hash of every row."""

    @property
    def conditions(self) -> dict[str, Any]:
        """What besides the content decides the pixels: size, resizing, decoder."""

    @property
    def random(self) -> bool:
        """Whether the data set augments its images at random."""

    @property
    def in_batches_only(self) -> str | None:
        """What an epoch does that no store of single images can repeat; `None` where it does nothing of the kind."""

    def __len__(self) -> int:
        """Number of batches in an epoch."""

    def batch_rows(self, index: int, epoch: int) -> RowIndices:
        """Rows of a batch of the pass with the number `epoch`."""

    def targets(self, rows: RowIndices) -> tuple[Any, ...]:
        """What follows the images in a batch: labels, and sample weights if there are any."""

    def images(self, rows: RowIndices, copy: int | None = None) -> NDArray[Any]:
        """Images of the rows; of an augmenting data set, their augmented copy with this number."""

    def stream(self, rows: RowIndices) -> Iterator[tuple[RowIndices, NDArray[Any]]] | None:
        """The images of the rows in one pass, in the data set's own order; None if `images` is as cheap."""

    def label(self, row: int) -> str:
        """Name of a row in messages."""

    def begin_epoch(self, epoch: int) -> None:
        """Have the pass with this number in force."""


class FolderSource:
    """An `ImageFolder` or `ImageTable`; its own order, its own labels. The keys are hashes of the files."""

    random_access = True
    counts_passes = True

    def __init__(self, folder: ImageDataset) -> None:
        self.folder = folder
        self.batch_size = int(folder.batch_size)
        self._keys: list[str] | None = None

    @property
    def epoch(self) -> int:
        """The folder's: it counts by itself, and `SetEpoch` sets it, so that the batches are those of `model.fit`."""
        return int(self.folder.epoch)

    @property
    def keys(self) -> list[str]:
        if self._keys is None:
            self._keys = _hash_files([self.folder.root / path for path in self.folder.paths], self.folder.threads)
        return self._keys

    @property
    def conditions(self) -> dict[str, Any]:
        from importlib.metadata import version

        conditions: dict[str, Any] = {
            "pixels": "file",
            "image_size": list(self.folder.image_size),
            "policy": self.folder.policy.to_dict(),
            "decoder": f"pillow {version('pillow')}",
        }
        if self.random:
            conditions["augmentation"] = canonical_config(self.folder.augmentation)
            conditions["augmentation_code"] = code_hash(self.folder.augmentation)
            conditions["augmentation_seed"] = self.folder.seed
        return conditions

    @property
    def random(self) -> bool:
        return self.folder.augmentation is not None

    @property
    def in_batches_only(self) -> str | None:
        if self.folder.batch_augmentation is not None:
            return "changes whole batches at random (`batch_augmentation`: erasing, MixUp, CutMix)"
        if self.random and self.folder.sampling is not None:
            return "augments the repetitions of an image each in its own way (`sampling='balanced'`)"
        return None

    def __len__(self) -> int:
        return len(self.folder)

    def batch_rows(self, index: int, epoch: int) -> RowIndices:
        return np.asarray(self.folder.order(epoch)[index * self.batch_size : (index + 1) * self.batch_size])

    def targets(self, rows: RowIndices) -> tuple[Any, ...]:
        return tuple(self.folder.targets_and_weights(rows))

    def images(self, rows: RowIndices, copy: int | None = None) -> NDArray[Any]:
        # As in epoch `copy`: with as many copies as epochs, the epochs are exactly those of `model.fit`.
        return np.asarray(self.folder.load(rows, copy))

    def stream(self, rows: RowIndices) -> None:
        return None

    def label(self, row: int) -> str:
        return f"'{self.folder.paths[row]}'"

    def begin_epoch(self, epoch: int) -> None:
        self.folder.set_epoch(epoch)


def as_source(
    x: Data,
    y: Data = None,
    sample_weight: Data = None,
    *,
    model: keras.Model | None = None,
    batch_size: int | None = None,
    shuffle: bool = False,
    seed: int = 0,
    limit: int | None = None,
) -> ImageSource:
    """Wrap what `model.fit` takes.

    Args:
        x: `ImageFolder`, `ImageTable`, array, `PyDataset`, `tf.data.Dataset`, torch `DataLoader`.
        y: Labels, with an array.
        sample_weight: Weights, with an array.
        model: The model that takes them; one of `image_classifier` takes pixels in 0–255 only. Defaults to `None`.
        batch_size: Rows in a batch, with an array. Defaults to `None`, 32.
        shuffle: Whether each epoch has another order, with an array. Defaults to `False`.
        seed: Seed of these orders. Defaults to `0`.
        limit: Batches that are needed of a data set without an end. Defaults to `None`, it must have one.

    Raises:
        CacheError: If it is no data set, or one that cannot be read again.
        PixelRangeError: If the model takes pixels, and it holds other values. Batches are looked at as they are read.
    """
    if isinstance(model, ImageClassifier):
        x = checked(x)
    if isinstance(x, ImageDataset):
        return FolderSource(x)
    if hasattr(x, "shape") and hasattr(x, "__array__"):
        return ArraySource(x, y, sample_weight, batch_size=batch_size or 32, shuffle=shuffle, seed=seed)
    if not hasattr(x, "__iter__") and not hasattr(x, "__getitem__"):
        raise CacheError(
            f"`x` must be an array or a data set of batches. Received: {type(x).__name__}. Models with several inputs "
            "are trained with `model.fit`."
        )
    return BatchSource(x, seed=seed, limit=limit)


def validation_source(
    data: Data, batch_size: int | None, limit: int | None = None, *, model: keras.Model | None = None
) -> ImageSource:
    """What to validate on; no augmentation."""
    parts = data if isinstance(data, tuple | list) else (data,)
    source = as_source(*parts, model=model, batch_size=batch_size, limit=limit)
    if source.random or source.in_batches_only:
        raise CacheError("Validation data must not be augmented. Received: an augmenting data set.")
    return source


def split_validation(arrays: tuple[Any, Any, Any], share: float) -> tuple[tuple[Any, Any, Any], tuple[Any, Any, Any]]:
    """The last rows for validation, as `fit` divides them; labels and weights may be trees of arrays."""
    if not 0 < share < 1:
        raise UsageError(f"`validation_split` must be between 0 and 1. Received: validation_split={share!r}")
    if not all(array is None or hasattr(array, "shape") for array in keras.tree.flatten(arrays)):
        raise UsageError("`validation_split` needs arrays. Give `validation_data`, or split the `ImageFolder`.")
    count = len(arrays[0])
    at = math.floor(count * (1.0 - share))
    if at in (0, count):
        raise UsageError(
            f"`validation_split` must leave rows on both sides. Received: validation_split={share!r} with {count} rows"
        )

    def part(rows: slice) -> Any:
        return keras.tree.map_structure(lambda array: None if array is None else array[rows], arrays)

    return part(slice(0, at)), part(slice(at, count))


@dataclass(frozen=True)
class Item:
    """An image to compute: its row, its augmented copy if it is one, its key."""

    row: int
    copy: int | None
    key: str


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


def _hash_files(paths: Sequence[Path], threads: int) -> list[str]:
    with ThreadPoolExecutor(threads) as pool:
        return [digest[:32] for digest in pool.map(file_hash, paths)]
