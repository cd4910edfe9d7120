"""Whether values can be 0–255 pixels: a model of uint8 input casts others without a word, 0.7 to 0 and 300 to 44.

Data is looked at on its way in, on the host: a compiled step can raise nothing on JAX, and sees integers already.
"""

import copy
import types
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from kerasxfer_serving.errors import KerasxferError

from kerasxfer.data.image_dataset import ImageDataset
from kerasxfer.types import Data, Tensor

_ROWS = 256
_RULE = (
    "An image classifier takes pixels in 0–255 and normalises them itself: give it the pixels as they were read, "
    "without a rescaling."
)


class PixelRangeError(KerasxferError, ValueError):
    """Values that cannot be pixels in 0–255."""


def check_pixels(images: Tensor) -> None:
    """Raise where values cannot be pixels: below 0, above 255, or fractions that all lie in 0–1.

    Args:
        images: An array or tensor. One of uint8 is not looked at.

    Raises:
        PixelRangeError: If they cannot.
    """
    if not hasattr(images, "dtype") or keras.backend.standardize_dtype(images.dtype) in ("uint8", "bool"):
        return
    values = keras.ops.convert_to_numpy(images)
    if not values.size:
        return
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= 255) or (high <= 1 and _has_fractions(values)):
        raise PixelRangeError(_message(low, high))


def checked(data: Data) -> Data:
    """`data` as `fit`, `evaluate` and `predict` take it, looked at now or batch by batch as it is read.

    Args:
        data: Arrays, a `tf.data.Dataset`, a `PyDataset`, a PyTorch `DataLoader` or a generator. Anything else passes
            unseen.

    Returns:
        `data`, or what gives the same batches.
    """
    if isinstance(data, ImageDataset | _CheckedDataset):
        return data
    if isinstance(data, keras.utils.PyDataset):
        return _CheckedDataset(data)
    if isinstance(data, types.GeneratorType):
        return _checked_batches(data)
    kinds = {(parent.__module__.partition(".")[0], parent.__name__) for parent in type(data).__mro__}
    if ("tensorflow", "DatasetV2") in kinds:
        return _checked_in_graph(data)
    if ("torch", "DataLoader") in kinds:
        loader = copy.copy(data)
        loader.collate_fn = _CheckedCollate(data.collate_fn)
        return loader
    _check_input(data)
    return data


def _check_input(images: Any) -> None:
    """Look at images by themselves, in a list or under the input's name. A cache's feed has more inputs: its own."""
    values = keras.tree.flatten(images)
    if len(values) == 1:
        check_pixels(values[0])


class _CheckedDataset(keras.utils.PyDataset):
    """A `PyDataset` whose batches are looked at."""

    def __init__(self, inner: keras.utils.PyDataset) -> None:
        super().__init__(
            workers=inner.workers,
            use_multiprocessing=inner.use_multiprocessing,
            max_queue_size=inner.max_queue_size,
        )
        self.inner = inner

    def __getitem__(self, index: int) -> Any:
        return _looked_at(self.inner[index])

    @property
    def num_batches(self) -> int | None:
        return self.inner.num_batches  # type: ignore[no-any-return]

    def on_epoch_begin(self) -> None:
        self.inner.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self.inner.on_epoch_end()


class _CheckedCollate:
    """A `DataLoader`'s `collate_fn` whose batches are looked at; workers get it by pickling."""

    def __init__(self, inner: Callable[[Any], Any]) -> None:
        self.inner = inner

    def __call__(self, samples: Any) -> Any:
        return _looked_at(self.inner(samples))


def _checked_batches(batches: Iterator[Any]) -> Iterator[Any]:
    for batch in batches:
        yield _looked_at(batch)


def _looked_at(batch: Any) -> Any:
    _check_input(batch[0] if isinstance(batch, tuple | list) else batch)
    return batch


def _checked_in_graph(dataset: Any) -> Any:
    """A `tf.data.Dataset` with an assertion in its graph; one of uint8 as it is."""
    import tensorflow as tf

    spec = dataset.element_spec
    inputs = tf.nest.flatten(spec[0] if isinstance(spec, tuple) else spec)
    images = inputs[0]
    if len(inputs) > 1 or not isinstance(images, tf.TensorSpec) or images.dtype in (tf.uint8, tf.bool):
        return dataset

    def check(*element: Tensor) -> Any:
        values = tf.cast(tf.nest.flatten(element[0])[0], tf.float32)
        low, high = tf.reduce_min(values), tf.reduce_max(values)
        fractions = tf.reduce_any(values != tf.floor(values))
        fine = (low >= 0) & (high <= 255) & ((high > 1) | ~fractions) | (tf.size(values) == 0)
        tf.debugging.Assert(fine, [f"{_RULE} Received, from and to:", low, high])
        return element if isinstance(spec, tuple) else element[0]

    return dataset.map(check)


def _has_fractions(values: Any) -> bool:
    parts = (values[start : start + _ROWS] for start in range(0, len(values), _ROWS))
    return any((part != np.floor(part)).any() for part in parts)


def _message(low: Any, high: Any) -> str:
    return f"{_RULE} Received: values from {low} to {high}."
