"""The arguments of `fit`, in the forms that Keras takes them, made into those that the cache works with."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from kerasxfer.bottleneck.errors import CacheError
from kerasxfer.bottleneck.sources import Source, as_source


def split(arrays: tuple[Any, Any, Any], share: float) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The last rows for validation, as `fit` divides them."""
    if not hasattr(arrays[0], "shape"):
        raise ValueError("`validation_split` needs arrays. Give `validation_data`, or split the `ImageFolder`.")
    at = int(np.floor(len(arrays[0]) * (1.0 - share)))
    parts = [None if array is None else (array[:at], array[at:]) for array in arrays]
    return tuple(p and p[0] for p in parts), tuple(p and p[1] for p in parts)


def validation_source(data: Any, batch_size: int | None) -> Source:
    """What to validate on; no augmentation."""
    source = as_source(*(data if isinstance(data, tuple | list) else (data,)), batch_size=batch_size)
    if source.random:
        raise CacheError("What is validated on must not be augmented. Received: an augmenting data set.")
    return source


def schedule_of(callbacks: Sequence[Any]) -> Sequence[Any] | None:
    """The stages of the `ProgressiveUnfreezing` among the callbacks."""
    from kerasxfer.callbacks import ProgressiveUnfreezing

    return next((callback.stages for callback in callbacks if isinstance(callback, ProgressiveUnfreezing)), None)


def listed(callbacks: Any) -> Sequence[Any]:
    """Callbacks as a list."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return list(callbacks.callbacks)
    return [] if callbacks is None else list(keras.tree.flatten(callbacks))
