"""The arguments of `fit`, in the forms that Keras takes them, made into those that the cache works with."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from kerasxfer_serving.errors import UsageError

from kerasxfer.bottleneck.batch_source import BatchSource
from kerasxfer.bottleneck.errors import CacheError
from kerasxfer.bottleneck.sources import ArraySource, FolderSource, ImageSource
from kerasxfer.data.image_dataset import ImageDataset
from kerasxfer.models import ImageClassifier
from kerasxfer.pixel_range import checked
from kerasxfer.types import Callbacks, Data


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


def schedule_of(callbacks: Sequence[Any]) -> Sequence[Any] | None:
    """The stages of the `ProgressiveUnfreezing` among the callbacks."""
    from kerasxfer.callbacks import ProgressiveUnfreezing

    return next((callback.stages for callback in callbacks if isinstance(callback, ProgressiveUnfreezing)), None)


def as_callbacks(callbacks: Callbacks) -> Sequence[Any]:
    """Callbacks as a list."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return list(callbacks.callbacks)
    return [] if callbacks is None else list(keras.tree.flatten(callbacks))
