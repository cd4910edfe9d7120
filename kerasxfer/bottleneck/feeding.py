"""Data sets of features: for a fit of the whole model, and for loops of one's own."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from kerasxfer_serving.errors import KerasxferError
from numpy.typing import NDArray

from kerasxfer.bottleneck.builder import copy_key
from kerasxfer.bottleneck.features import Features
from kerasxfer.bottleneck.sources import Rows, Source

# Keras takes the batch's size from the first input, and inputs are sorted by name. The rows are always there.
ROWS = "0_rows"


class Feed(keras.utils.PyDataset):
    """Batches of a source, its epochs counted as `ImageFolder` counts its own: by the batches that were served.

    Keras begins and ends an epoch on the side, to build a model on one batch. That is no pass.
    """

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.source = source
        self.failure: KerasxferError | None = None
        self._served = 0

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        rows = self.source.batch_rows(index)
        self._served += 1
        try:
            return self.inputs(rows), *self.source.targets(rows)
        except KerasxferError as error:
            self.failure = error
            raise

    def inputs(self, rows: Rows) -> Any:
        """What stands in for the pictures of these rows."""
        raise NotImplementedError

    def on_epoch_begin(self) -> None:
        self._served = 0

    def on_epoch_end(self) -> None:
        if self._served >= len(self.source):
            self.source.end_epoch()
        self._served = 0


@contextlib.contextmanager
def own_errors(feeds: Sequence[Feed]) -> Iterator[None]:
    """Raise what a feed has raised. TensorFlow makes an error of its own of it, without its kind and full of frames."""
    try:
        yield
    except Exception as error:
        failure = next((feed.failure for feed in feeds if feed.failure is not None), None)
        if failure is None or failure is error:
            raise
        raise failure from None


class FeatureDataset(Feed):
    """Features and labels of a data set, in its order."""

    def __init__(self, source: Source, features: Features) -> None:
        super().__init__(source)
        self._features = features

    def inputs(self, rows: Rows) -> NDArray[Any]:
        return self._features.read(rows)

    def array(self) -> NDArray[Any]:
        """Features of all rows in their fixed order, in memory."""
        return np.asarray(self._features)


class Place:
    """A boundary that the fit may train from; position 0 is the picture itself."""

    def __init__(self, position: int, shape: Sequence[int], dtype: Any, suffix: keras.Model | None) -> None:
        self.position = position
        self.key = f"1_at_{position:05d}"
        self.suffix = suffix
        self.nothing = np.empty((0, *shape), dtype)
        self.jit_compile: bool | None = None


class FeatureFeed(Feed):
    """A data set with features in place of its pictures.

    A batch has a place for every boundary of the schedule, so that TensorFlow can fix the signature for the whole fit;
    all but the active one get no rows.

    Args:
        source: Pictures, labels and order.
        copies: Number of augmented copies that the epochs take turns with; 0 for plain pictures.
        steps: Batches in an epoch. Defaults to `None`, all.
        restart: Whether an epoch of some steps starts from the first batch again. Defaults to `False`.
    """

    def __init__(self, source: Source, *, copies: int = 0, steps: int | None = None, restart: bool = False) -> None:
        super().__init__(source)
        self.copies = copies
        self.places: Sequence[Place] = ()
        self.active: Place | None = None
        self.features: tuple[str, Features] | None = None
        self._steps = len(source) if steps is None else min(steps, len(source))
        self._restart = restart
        self._first = 0

    @property
    def keys(self) -> list[str]:
        """Keys of all rows, copy by copy."""
        keys = self.source.keys
        return [copy_key(key, copy) for copy in range(self.copies) for key in keys] if self.copies else keys

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return super().__getitem__((self._first + index) % len(self.source))

    def inputs(self, rows: Rows) -> dict[str, NDArray[Any]]:
        inputs = {place.key: place.nothing for place in self.places}
        assert self.active is not None
        inputs[self.active.key] = self._active(rows)
        return {ROWS: rows.astype("int32"), **inputs}

    def on_epoch_end(self) -> None:
        if not self._restart and self._served >= self._steps < len(self.source):
            self._first = (self._first + self._steps) % len(self.source)
        super().on_epoch_end()

    def _active(self, rows: Rows) -> NDArray[Any]:
        copy = self.source.epoch % self.copies if self.copies else None
        if self.active is None or not self.active.position:
            images = self.source.images(rows, copy)
            return images if self.active is None else images.astype(self.active.nothing.dtype, copy=False)
        assert self.features is not None
        return self.features[1].read(rows + (copy or 0) * len(self.source.keys))
