"""Any data set that yields batches, made into rows that can be found again."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from kerasxfer.bottleneck.errors import CacheError
from kerasxfer.bottleneck.sources import Rows, RowSource, hash_pixels, to_numpy

_RANDOM = (
    "The data set gives other pictures each time it is read: random augmentation. Either give an "
    "`ImageFolder(augmentation=…)` and cache a number of augmented copies, `BottleneckCache(directory, copies=K)`, or "
    "take the augmentation out and cache the plain pictures."
)


class BatchSource(RowSource):
    """Any data set that yields batches: a `PyDataset`, a `tf.data.Dataset`, a torch `DataLoader`.

    One pass notes what is in it: the hash and the labels of every picture. Its pictures are read again only where
    features are missing. What it does with its order is up to it; what it does at random to its pixels is found out.
    """

    def __init__(self, dataset: Any, *, seed: int = 0) -> None:
        if iter(_iterable(dataset)) is dataset:
            raise CacheError(
                "The data set must be one that can be read again: `ImageFolder`, arrays, a `PyDataset`, a "
                f"`tf.data.Dataset` or a torch `DataLoader`. Received: {type(dataset).__name__}, a generator, which is "
                "used up after one pass."
            )
        self._dataset = dataset
        self._keys: list[str] = []
        self._row_of: dict[str, int] = {}
        batches, targets = [], []
        for images, *rest in self._read():
            keys = [hash_pixels(image) for image in images]
            batches.append(np.arange(len(self._keys), len(self._keys) + len(keys)))
            self._keys += keys
            targets.append(tuple(rest))
        if not batches:
            raise ValueError("The data set must hold at least one batch. Received: an empty data set")
        self._row_of = {key: row for row, key in enumerate(self._keys)}
        super().__init__(_concatenate(targets), batches, self._reshuffles(batches[0]), seed)

    @property
    def keys(self) -> list[str]:
        return self._keys

    @property
    def conditions(self) -> dict[str, Any]:
        return {"pixels": "array"}

    @property
    def random_access(self) -> bool:
        return isinstance(self._dataset, keras.utils.PyDataset)

    def images(self, rows: Rows, copy: int | None = None) -> NDArray[Any]:
        found = self._by_batch(rows) if self.random_access else {}
        if not all(self._keys[row] in found for row in rows):
            pairs = (pair for some, images in self.stream(rows) for pair in zip(some, images, strict=True))
            found = {self._keys[row]: image for row, image in pairs}
        return np.stack([found[self._keys[row]] for row in rows])

    def _by_batch(self, rows: Rows) -> dict[str, NDArray[Any]]:
        """Pictures by key, from the batches that the rows were in; a data set that reshuffles has others there now."""
        starts = [batch[0] for batch in self._batches]
        found: dict[str, NDArray[Any]] = {}
        for k in np.unique(np.searchsorted(starts, rows, side="right") - 1):
            images = to_numpy(self._dataset[int(k)][0])
            found.update((hash_pixels(image), image) for image in images)
        return found

    def stream(self, rows: Rows) -> Iterator[tuple[Rows, NDArray[Any]]]:
        wanted = {self._keys[row]: row for row in rows}
        for images, *_ in self._read():
            keys = [hash_pixels(image) for image in images]
            here = {key: k for k, key in enumerate(keys) if key in wanted}
            if here:
                yield np.array([wanted.pop(key) for key in here]), images[list(here.values())]
            if not wanted:
                return
        if wanted:
            raise CacheError(_RANDOM)

    def _read(self) -> Iterator[tuple[Any, ...]]:
        for batch in _iterable(self._dataset):
            parts = batch if isinstance(batch, tuple | list) else (batch,)
            images, *rest = keras.tree.map_structure(to_numpy, tuple(parts))
            if not isinstance(images, np.ndarray):
                raise CacheError(
                    f"The data set must yield `(pictures, labels)`. Received: pictures of {type(images).__name__}."
                )
            yield images, *rest

    def _reshuffles(self, first: Rows) -> bool:
        """Compare the first batch of a second pass, as of the next epoch, with the first one's."""
        for hook in ("on_epoch_begin", "on_epoch_end"):
            getattr(self._dataset, hook, lambda: None)()
        images, *_ = next(self._read())
        keys = [hash_pixels(image) for image in images]
        if any(key not in self._row_of for key in keys):
            raise CacheError(_RANDOM)
        return keys != [self._keys[row] for row in first]


def _iterable(dataset: Any) -> Iterable[Any]:
    if not isinstance(dataset, keras.utils.PyDataset):
        if getattr(dataset, "cardinality", None) is not None and int(dataset.cardinality()) == -1:
            raise CacheError("The data set must end. Received: an infinite `tf.data.Dataset`; leave out `.repeat()`.")
        return dataset  # type: ignore[no-any-return]
    if dataset.num_batches is None:
        raise CacheError("The data set must end. Received: a `PyDataset` whose `num_batches` is None.")
    return (dataset[k] for k in range(dataset.num_batches))


def _concatenate(targets: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    return tuple(
        keras.tree.map_structure(lambda *arrays: np.concatenate(arrays), *part) for part in zip(*targets, strict=True)
    )
