"""Data sets of features: for a fit of the whole model, and for loops of one's own."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from kerasxfer_serving.errors import KerasxferError
from numpy.typing import NDArray

from kerasxfer.bottleneck.row_sources import RowIndices
from kerasxfer.bottleneck.shards import Features
from kerasxfer.bottleneck.sources import ImageSource
from kerasxfer.keras_internals import Passes

# Keras takes the batch's size from the first input, and inputs are sorted by name. The rows are always there.
ROWS = "0_rows"
_BLOCK = 256


@dataclass(frozen=True, eq=False)
class Place:
    """A boundary that a fit may train from.

    Args:
        position: Number of steps before it; 0 is the image itself.
        empty_batch: A batch of no rows, in shape and dtype of what is fed here.
        suffix: The model from here on. Defaults to `None`, the whole model.
        jit_compile: How the model is to be compiled when it trains from here. Defaults to `None`, as it is.
    """

    position: int
    empty_batch: NDArray[Any]
    suffix: keras.Model | None = None
    jit_compile: bool | None = None

    @property
    def key(self) -> str:
        """Its name among the inputs of a batch."""
        return f"1_at_{self.position:05d}"


class Feed(keras.utils.PyDataset):
    """Batches of a source, pass after pass, counted as `ImageFolder` counts its own.

    Args:
        source: Images, labels and order.
    """

    def __init__(self, source: ImageSource) -> None:
        super().__init__()
        self.source = source
        self.failure: KerasxferError | None = None
        self._passes = Passes()

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        self._passes.serve()
        return self.batch(index, self.source.epoch)

    def batch(self, index: int, epoch: int) -> tuple[Any, ...]:
        """A batch of the pass with the number `epoch`."""
        rows = self.source.batch_rows(index, epoch)
        try:
            return self.inputs(rows, epoch), *self.source.targets(rows)
        except KerasxferError as error:
            self.failure = error
            raise

    def inputs(self, rows: RowIndices, epoch: int) -> Any:
        """What stands in for the images of these rows."""
        raise NotImplementedError

    def on_epoch_end(self) -> None:
        if self._passes.end_epoch(len(self)):
            self.source.begin_epoch(self.source.epoch + 1)


class FeatureDataset(Feed):
    """Features and labels of a data set, in its order."""

    def __init__(self, source: ImageSource, features: Features) -> None:
        super().__init__(source)
        self._features = features

    def inputs(self, rows: RowIndices, epoch: int) -> NDArray[Any]:
        return self._features.read(rows)

    def array(self) -> NDArray[Any]:
        """Features of all rows in their fixed order, in memory."""
        return np.asarray(self._features)

    def pooled(self) -> NDArray[np.float32]:
        """Features of all rows in their fixed order, averaged over the places of a feature map, `[n, channels]`.

        They are read block by block: feature maps that do not fit into memory are no obstacle.
        """
        rows, (*places, channels) = len(self._features), self._features.shape[1:]
        out = np.empty((rows, channels), np.float32)
        for start in range(0, rows, _BLOCK):
            block = self._features.read(np.arange(start, min(start + _BLOCK, rows)))
            out[start : start + _BLOCK] = block.mean(axis=tuple(range(1, 1 + len(places))), dtype=np.float32)
        return out


class FeatureFeed(Feed):
    """A data set with features in place of its images.

    A batch has an input for every place of the schedule, so that TensorFlow can fix the signature for the whole fit;
    all but the active one get no rows.

    Args:
        source: Images, labels and order.
        places: All that may become active, the images (position 0) first. They are until another is switched to.
        copies: Number of augmented copies that the passes take turns with. Defaults to `0`, the plain images.
    """

    def __init__(self, source: ImageSource, places: Sequence[Place], copies: int = 0) -> None:
        super().__init__(source)
        self.copies = copies
        self._empty = {place.key: place.empty_batch for place in places}
        self._active = places[0]
        self._features: Features | None = None

    def switch(self, place: Place, features: Features | None = None) -> None:
        """Serve another place from now on, from its `features`; the images need none."""
        self._active, self._features = place, features

    def inputs(self, rows: RowIndices, epoch: int) -> dict[str, NDArray[Any]]:
        return {ROWS: rows.astype("int32"), **self._empty, self._active.key: self._values(rows, epoch)}

    def _values(self, rows: RowIndices, epoch: int) -> NDArray[Any]:
        copy = epoch % self.copies if self.copies else None
        if self._features is None:
            images = self.source.images(rows, copy)
            return images.astype(self._active.empty_batch.dtype, copy=False)
        return self._features.read(rows + (copy or 0) * len(self.source.keys))


class TrainingFeed(FeatureFeed):
    """What a fit trains on: each of its epochs goes on where the one before has ended, round and round the data.

    Args:
        source: As in `FeatureFeed`.
        places: As in `FeatureFeed`.
        copies: As in `FeatureFeed`.
        steps: Batches in an epoch of the fit. Defaults to `None`, all.
    """

    def __init__(self, source: ImageSource, places: Sequence[Place], copies: int = 0, steps: int | None = None) -> None:
        super().__init__(source, places, copies)
        self._steps = steps or len(source)
        self._first_epoch: int | None = None
        self._first_pass = source.epoch
        self._served = 0

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        passes, index = divmod(self._served + index, len(self.source))
        return self.batch(index, self._first_pass + passes)

    def begin_epoch(self, epoch: int) -> None:
        """Called when an epoch of the fit begins, with its number: the first one is not 0 where a fit is resumed."""
        whole_passes = self._steps == len(self.source)
        if self._first_epoch is None:
            self._first_epoch = epoch
            if not self.source.counts_passes:
                self.source.begin_epoch(epoch * self._steps // len(self.source))
            self._first_pass = self.source.epoch
        self._served = (epoch - self._first_epoch) * self._steps
        if whole_passes:  # a callback may have told the data set which pass this is
            self._first_pass = self.source.epoch - self._served // self._steps

    def end_epoch(self) -> None:
        """Called when an epoch of the fit ends: tells the source how many passes are over."""
        self.source.begin_epoch(self._first_pass + (self._served + self._steps) // len(self.source))

    def on_epoch_end(self) -> None:
        """Keras ends epochs on the side, too: `end_epoch` counts."""


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
