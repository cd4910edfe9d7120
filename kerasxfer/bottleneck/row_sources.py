"""Data sets without an order of their own, as rows that can be found again: arrays, and whatever yields batches."""

import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from kerasxfer_serving.errors import UsageError
from numpy.typing import NDArray

from kerasxfer.bottleneck.errors import CacheError
from kerasxfer.types import Data, Tensor

RowIndices = NDArray[np.intp]

_RANDOM = (
    "The data set gives other images each time it is read: random augmentation. Either give an "
    "`ImageFolder(augmentation=…)` and cache a number of augmented copies, `BottleneckCache(directory, copies=K)`, or "
    "take the augmentation out and cache the plain images."
)
_RANDOM_WITHOUT_END = (
    "A data set without an end must give the same images each time it is read from the start. Received one that is "
    "augmented, or shuffled, at random: leave out `.repeat()` and `steps_per_epoch`, or train with `model.fit`."
)
_MOST_PASSES = 50  # to find rows that a data set drops at random: each pass finds at least half of them


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
            self._order = (epoch, _in_batches(order, self.batch_size))
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
        self._x = _to_numpy(x)
        targets = tuple(keras.tree.map_structure(_to_numpy, part) for part in _without_trailing_none(y, sample_weight))
        lengths = {len(self._x), *(len(array) for array in keras.tree.flatten(targets))}
        if len(lengths) > 1:
            raise UsageError(f"`x`, `y` and `sample_weight` must have as many rows. Received: {sorted(lengths)}")
        super().__init__(targets, _in_batches(np.arange(len(self._x)), batch_size), shuffle, seed)
        self.batch_size = batch_size
        self._keys: list[str] | None = None

    @property
    def keys(self) -> list[str]:
        if self._keys is None:
            self._keys = [_hash_pixels(image) for image in self._x]
        return self._keys

    @property
    def conditions(self) -> dict[str, Any]:
        return {"pixels": "array"}

    def images(self, rows: RowIndices, copy: int | None = None) -> NDArray[Any]:
        return np.asarray(self._x[rows])

    def stream(self, rows: RowIndices) -> None:
        return None


class BatchSource(RowSource):
    """Any data set that yields batches: a `PyDataset`, a `tf.data.Dataset`, a torch `DataLoader`.

    One pass notes what is in it: the hash and the labels of every image. Its images are read again only where features
    are missing. What it does with its order is up to it; what it does at random to its pixels is found out.

    Args:
        dataset: The data set.
        seed: Seed of the orders, if the data set has another one in each pass. Defaults to `0`.
        limit: Batches to read of a data set that has no end: all that the fit is going to ask for. They are then served
            in the order in which they were read. Defaults to `None`: the data set must end.
    """

    def __init__(self, dataset: Data, *, seed: int = 0, limit: int | None = None) -> None:
        if isinstance(dataset, Iterator):
            raise CacheError(
                "The data set must be one that can be read again: `ImageFolder`, arrays, a `PyDataset`, a "
                f"`tf.data.Dataset` or a torch `DataLoader`. Received: {type(dataset).__name__}, a generator, which is "
                "used up after one pass."
            )
        self._dataset = dataset
        self._limit = limit if _known_length(dataset) is None else None
        self._keys: list[str] = []
        self._row_of: dict[str, int] = {}
        parts: list[tuple[Any, ...]] = []
        batches = []
        for images, *rest in self._read():
            batches.append(self._note([_hash_pixels(image) for image in images]))
            parts.append(tuple(rest))
        if not batches:
            raise CacheError("The data set must hold at least one batch. Received: an empty data set.")
        reshuffles = self._reshuffles(batches, parts)
        super().__init__(_concatenate(parts), batches, reshuffles, seed)

    @property
    def keys(self) -> list[str]:
        return self._keys

    @property
    def conditions(self) -> dict[str, Any]:
        return {"pixels": "array"}

    @property
    def random_access(self) -> bool:
        return isinstance(self._dataset, keras.utils.PyDataset)

    def images(self, rows: RowIndices, copy: int | None = None) -> NDArray[Any]:
        found = self._by_batch(rows) if self.random_access else {}
        if not all(self._keys[row] in found for row in rows):
            pairs = (pair for some, images in self.stream(rows) for pair in zip(some, images, strict=True))
            found = {self._keys[row]: image for row, image in pairs}
        return np.stack([found[self._keys[row]] for row in rows])

    def _by_batch(self, rows: RowIndices) -> dict[str, NDArray[Any]]:
        """Images by key, from the batches that the rows were in; a data set that reshuffles has others there now."""
        starts = [batch[0] for batch in self._batches]
        found: dict[str, NDArray[Any]] = {}
        for k in np.unique(np.searchsorted(starts, rows, side="right") - 1):
            images = _to_numpy(self._dataset[int(k)][0])
            found.update((_hash_pixels(image), image) for image in images)
        return found

    def stream(self, rows: RowIndices) -> Iterator[tuple[RowIndices, NDArray[Any]]]:
        wanted = {self._keys[row]: row for row in rows}
        for _ in range(_MOST_PASSES):
            for images, *_ in self._read():
                keys = [_hash_pixels(image) for image in images]
                here = {key: k for k, key in enumerate(keys) if key in wanted}
                if here:
                    yield np.array([wanted.pop(key) for key in here]), images[list(here.values())]
                if not wanted:
                    return
            if not self._shuffle or len(wanted) >= self.batch_size:  # more than a pass can have dropped
                break
        raise CacheError(self._random)

    @property
    def _random(self) -> str:
        return _RANDOM if self._limit is None else _RANDOM_WITHOUT_END

    def _read(self) -> Iterator[tuple[Any, ...]]:
        for batch in _batches(self._dataset, self._limit):
            parts = batch if isinstance(batch, tuple | list) else (batch,)
            images, *rest = keras.tree.map_structure(_to_numpy, tuple(parts))
            if not isinstance(images, np.ndarray):
                raise CacheError(
                    f"The data set must yield `(images, labels)`. Received: images of {type(images).__name__}."
                )
            yield images, *rest

    def _note(self, keys: Sequence[str]) -> RowIndices:
        """Append rows; returns their numbers."""
        rows = np.arange(len(self._keys), len(self._keys) + len(keys))
        self._keys += keys
        self._row_of.update(zip(keys, rows.tolist(), strict=True))
        return rows

    def _reshuffles(self, batches: Sequence[RowIndices], parts: list[tuple[Any, ...]]) -> bool:
        """Compare the first batch of a second pass, as of the next epoch, with the first one's."""
        self._tell_epoch_is_over()
        images, *_ = next(self._read())
        keys = [_hash_pixels(image) for image in images]
        unknown = any(key not in self._row_of for key in keys)
        full = len({len(rows) for rows in batches}) == 1
        if self._limit is not None:
            if unknown:
                raise CacheError(self._random)
            return False
        if unknown and not full:
            raise CacheError(self._random)
        reshuffles = unknown or keys != [self._keys[row] for row in batches[0]]
        if reshuffles and full and getattr(self._dataset, "drop_last", True):
            self._note_dropped(len(batches[0]), parts)
        return reshuffles

    def _note_dropped(self, batch_size: int, parts: list[tuple[Any, ...]]) -> None:
        """Note the rows that earlier passes have dropped, as a shuffled data set without its last partial batch does.

        They are fewer than a batch, and after some passes no new ones come. Random augmentation never ends.
        """
        known, before = len(self._keys), -1
        while before < len(self._keys):
            before = len(self._keys)
            for images, *rest in self._read():
                keys = [_hash_pixels(image) for image in images]
                new = [k for k, key in enumerate(keys) if key not in self._row_of]
                if new:
                    self._note([keys[k] for k in new])
                    parts.append(keras.tree.map_structure(lambda array, new=new: array[new], tuple(rest)))
                if len(self._keys) - known >= batch_size:
                    raise CacheError(self._random)
            self._tell_epoch_is_over()

    def _tell_epoch_is_over(self) -> None:
        for hook in ("on_epoch_begin", "on_epoch_end"):
            getattr(self._dataset, hook, lambda: None)()


def _batches(dataset: Data, limit: int | None) -> Iterable[Any]:
    """The batches of a pass, of a data set without an end those within the limit."""
    if limit is None and _is_endless(dataset):
        raise CacheError(
            "The data set must end, or the fit have `steps_per_epoch` (`validation_steps`). Received: an infinite "
            f"`{type(dataset).__name__}`."
        )
    if isinstance(dataset, keras.utils.PyDataset):
        return (dataset[k] for k in range(dataset.num_batches or limit or 0))
    return dataset if limit is None else itertools.islice(dataset, limit)


def _known_length(dataset: Data) -> int | None:
    """Number of batches; None if there is no end, or nobody knows."""
    if isinstance(dataset, keras.utils.PyDataset):
        count: int | None = dataset.num_batches
        return count
    if hasattr(dataset, "cardinality"):  # `tf.data`: -1 is infinite, -2 unknown
        cardinality = int(dataset.cardinality())
        return cardinality if cardinality >= 0 else None
    try:
        return len(dataset)
    except (TypeError, NotImplementedError):
        return None


def _is_endless(dataset: Data) -> bool:
    """Whether a data set says that it has no end."""
    if isinstance(dataset, keras.utils.PyDataset):
        return dataset.num_batches is None
    return hasattr(dataset, "cardinality") and int(dataset.cardinality()) == -1


def _concatenate(parts: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    return tuple(
        keras.tree.map_structure(lambda *arrays: np.concatenate(arrays), *part) for part in zip(*parts, strict=True)
    )


def _in_batches(rows: RowIndices, size: int) -> list[RowIndices]:
    """Rows in batches."""
    rows = np.asarray(rows)
    return [rows[k * size : (k + 1) * size] for k in range(math.ceil(len(rows) / size))]


def _without_trailing_none(*parts: Any) -> tuple[Any, ...]:
    kept = list(parts)
    while kept and kept[-1] is None:
        kept.pop()
    return tuple(kept)


def _to_numpy(value: Tensor) -> Any:
    """Array of any framework, not only the backend's, as a NumPy one."""
    if value is None:
        return None
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)


def _hash_pixels(image: NDArray[Any]) -> str:
    """Key of an image in memory."""
    header = json.dumps([str(image.dtype), list(image.shape)]).encode()
    return hashlib.sha256(header + np.ascontiguousarray(image).tobytes()).hexdigest()[:32]
