"""Features of a data set, averaged over the places of the feature map, from the cache that training shares."""

from collections.abc import Iterable

import keras
import numpy as np
from numpy.typing import NDArray

from kerasxfer.bottleneck.boundary import split_at_boundary
from kerasxfer.bottleneck.cache import BottleneckCache
from kerasxfer.types import Data


def pooled_features(model: keras.Model, data: Data, cache: BottleneckCache) -> NDArray[np.float32]:
    """Features at the freeze boundary of a model, averaged over their places.

    They are computed where the cache lacks them, and are the ones that a later `cache.fit` of the model trains on.

    Args:
        model: A classifier whose backbone is frozen, as `kerasxfer.image_classifier` makes it.
        data: An `ImageFolder`, or whatever else `BottleneckCache.features` takes.
        cache: A `BottleneckCache`.

    Returns:
        Array of float32, `[images, channels]`, in the order of the data set's rows.

    Example:

    ```python
    data = kerasxfer.ImageFolder("pets", (64, 64))
    model = kerasxfer.image_classifier("DemoVGG", data.class_names, data.image_size)
    features = pooled_features(model, data, kerasxfer.BottleneckCache("cache"))
    ```
    """
    return pooled_features_of_sets(model, [data], cache)[0]


def pooled_features_of_sets(
    model: keras.Model, sets: Iterable[Data], cache: BottleneckCache
) -> list[NDArray[np.float32]]:
    """As `pooled_features`, for each of several data sets; the model is divided once."""
    frozen, _ = split_at_boundary(model)
    return [cache.features(frozen, data).pooled() for data in sets]


def standardised(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features with mean 0 and standard deviation 1 in each dimension; a constant dimension becomes 0.

    Args:
        features: Array `[images, channels]`.

    Returns:
        Array of float32 of the same shape.
    """
    result: NDArray[np.float32] = features - features.mean(axis=0, dtype=np.float64).astype(np.float32)
    # `std` would make an array of float64 of all features.
    deviation = np.sqrt(np.einsum("ij,ij->j", result, result, dtype=np.float64) / len(features))
    scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 1e-6)
    result *= scale.astype(np.float32)
    return result
