"""Where images and labels come from: rows with a key that says what is in the image, whatever the data set."""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
from kerasxfer_serving.errors import UsageError
from numpy.typing import NDArray

from kerasxfer.bottleneck.fingerprint import canonical_config, code_hash
from kerasxfer.bottleneck.shards import file_hash
from kerasxfer.data.image_dataset import ImageDataset
from kerasxfer.types import Data, Tensor

RowIndices = NDArray[np.intp]


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


class RowSource:
    """Shared by data sets without an order of their own: the order of a pass depends on `(seed, epoch)` alone.

    Args:
        targets: Labels, and sample weights if there are any, of all rows.
        batches: Rows of each batch, as they are when nothing is shuffled.
        shuffle: Whether each pass has another order.
        seed: Seed of these orders.
    """

    counts_passes = False
    random = False
    in_batches_only = None

    def __init__(self, targets: tuple[Any, ...], batches: list[RowIndices], shuffle: bool, seed: int) -> None:
        self._targets = targets
        self._batches = batches
        self._shuffle = shuffle
        self._seed = seed
        self._order: tuple[int, list[RowIndices]] | None = None
        self.epoch = 0
        self.batch_size = max(len(rows) for rows in batches)

    @property
    def keys(self) -> list[str]:
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self._batches)

    def batch_rows(self, index: int, epoch: int) -> RowIndices:
        if not self._shuffle:
            return self._batches[index]
        if self._order is None or self._order[0] != epoch:
            order = np.random.default_rng((self._seed, epoch)).permutation(len(self.keys))
            self._order = (epoch, in_batches(order, self.batch_size))
        return self._order[1][index]

    def targets(self, rows: RowIndices) -> tuple[Any, ...]:
        return tuple(keras.tree.map_structure(lambda array: array[rows], part) for part in self._targets)

    def label(self, row: int) -> str:
        return f"row {row}"

    def begin_epoch(self, epoch: int) -> None:
        self.epoch = epoch


class ArraySource(RowSource):
    """Images and labels in arrays, as `fit(x, y, sample_weight)` takes them."""

    random_access = True

    def __init__(
        self,
        x: Data,
        y: Data = None,
        sample_weight: Data = None,
        *,
        batch_size: int = 32,
        shuffle: bool = False,
        seed: int = 0,
    ) -> None:
        self._x = to_numpy(x)
        targets = tuple(keras.tree.map_structure(to_numpy, part) for part in _without_trailing_none(y, sample_weight))
        lengths = {len(self._x), *(len(array) for array in keras.tree.flatten(targets))}
        if len(lengths) > 1:
            raise UsageError(f"`x`, `y` and `sample_weight` must have as many rows. Received: {sorted(lengths)}")
        super().__init__(targets, in_batches(np.arange(len(self._x)), batch_size), shuffle, seed)
        self.batch_size = batch_size
        self._keys: list[str] | None = None

    @property
    def keys(self) -> list[str]:
        if self._keys is None:
            self._keys = [hash_pixels(image) for image in self._x]
        return self._keys

    @property
    def conditions(self) -> dict[str, Any]:
        return {"pixels": "array"}

    def images(self, rows: RowIndices, copy: int | None = None) -> NDArray[Any]:
        return np.asarray(self._x[rows])

    def stream(self, rows: RowIndices) -> None:
        return None


def in_batches(rows: RowIndices, size: int) -> list[RowIndices]:
    """RowIndices in batches."""
    rows = np.asarray(rows)
    return [rows[k * size : (k + 1) * size] for k in range(math.ceil(len(rows) / size))]


def _without_trailing_none(*parts: Any) -> tuple[Any, ...]:
    kept = list(parts)
    while kept and kept[-1] is None:
        kept.pop()
    return tuple(kept)


def to_numpy(value: Tensor) -> Any:
    """Array of any framework, not only the backend's, as a NumPy one."""
    if value is None:
        return None
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)


def hash_pixels(image: NDArray[Any]) -> str:
    """Key of an image in memory."""
    header = json.dumps([str(image.dtype), list(image.shape)]).encode()
    return hashlib.sha256(header + np.ascontiguousarray(image).tobytes()).hexdigest()[:32]


def _hash_files(paths: Sequence[Path], threads: int) -> list[str]:
    with ThreadPoolExecutor(threads) as pool:
        return [digest[:32] for digest in pool.map(file_hash, paths)]
