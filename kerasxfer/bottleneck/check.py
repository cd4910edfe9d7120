"""The proof before each stage: in training mode the prefix gives what is stored, changes nothing and adds no loss."""

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from kerasxfer.bottleneck.errors import CacheError
from kerasxfer.bottleneck.graph import Graph

_REMEDY = "Train with `model.fit`, or leave the layer that does so out of the frozen part."


def check_features(graph: Graph, position: int, images: NDArray[Any], stored: NDArray[Any]) -> None:
    """Compare stored features with those of the prefix as it runs within `fit`.

    What a layer of one's own does in training cannot be seen in its configuration; this finds it out.

    Args:
        graph: the model's graph.
        position: the boundary.
        images: a few pictures.
        stored: their features in the cache.

    Raises:
        CacheError: If they differ, or if the prefix changes its state or adds a loss in training.
    """
    prefix = graph.model(0, [position])
    before = [variable.value for variable in prefix.non_trainable_variables]
    values = [variable.value for variable in prefix.trainable_variables]
    outputs, after, losses = prefix.stateless_call(
        values, before, keras.ops.convert_to_tensor(images), training=True, return_losses=True
    )
    name = graph.steps[position - 1].operation.name
    for variable, old, new in zip(prefix.non_trainable_variables, before, after, strict=True):
        if not np.array_equal(keras.ops.convert_to_numpy(old), keras.ops.convert_to_numpy(new)):
            raise CacheError(f"The frozen part up to `{name}` changes `{variable.path}` in training. {_REMEDY}")
    if losses:
        raise CacheError(f"The frozen part up to `{name}` adds a loss of its own in training. {_REMEDY}")
    features = keras.ops.convert_to_numpy(outputs).astype("float64")
    # Eager, compiled and stored results round differently; what is random or batch-dependent differs by far more.
    tolerance = 1e-2 * max(1e-6, float(np.abs(features).max()))
    difference = float(np.abs(features - stored).max())
    if not difference <= tolerance:
        raise CacheError(
            f"The features at `{name}` are not what the frozen part gives in training: they differ by up to "
            f"{difference:.3g} at values of up to {np.abs(features).max():.3g}. {_REMEDY}"
        )
