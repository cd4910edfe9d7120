"""The proof before each stage: the prefix gives what is stored, even in training, and the suffix what the model gives.

That proves the gradients too. The suffix is made of the model's own layers on the model's own variables, so its loss is
the same function of what is trained as the model's, and backpropagation never goes past the boundary: nothing that is
trained lies before it. (Whether the steps that follow are the same, to the bit, is for the tests to compare.)
"""

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from kerasxfer.bottleneck.errors import CacheError
from kerasxfer.bottleneck.graph import Graph
from kerasxfer.types import Tensor

_REMEDY = "Train with `model.fit`, or leave the layer that does so out of the frozen part."


def check_features(graph: Graph, position: int, images: NDArray[Any], stored: NDArray[Any]) -> Any:
    """Compare stored features with those of the prefix as it runs within `fit`.

    What a layer of one's own does in training cannot be seen in its configuration; this finds it out.

    Args:
        graph: The model's graph.
        position: The boundary.
        images: A few images.
        stored: Their features in the cache.

    Returns:
        The features as computed here.

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
    if difference := _difference(outputs, stored):
        raise CacheError(
            f"The features at `{name}` are not what the frozen part gives in training: they differ by {difference}. "
            f"{_REMEDY}"
        )
    return outputs


def check_suffix(model: keras.Model, suffix: keras.Model, images: NDArray[Any], features: Tensor) -> None:
    """Compare the answers of a model with those of its suffix, both in inference.

    Args:
        model: The model.
        suffix: The model from the boundary on.
        images: A few images.
        features: What the prefix makes of them.

    Raises:
        CacheError: If they differ.
    """
    answers = (model(keras.ops.convert_to_tensor(images), training=False), suffix(features, training=False))
    for whole, part in zip(*map(keras.tree.flatten, answers), strict=True):
        if difference := _difference(whole, keras.ops.convert_to_numpy(part)):
            raise CacheError(
                f"Model `{model.name}` does not answer as its layers do when they are called one by one: the answers "
                f"differ by {difference}. Train with `model.fit`."
            )


def _difference(computed: Any, expected: NDArray[Any]) -> str:
    """How far two results are apart, empty if that is rounding."""
    computed = keras.ops.convert_to_numpy(computed).astype("float64")
    largest = float(np.abs(computed).max())
    difference = float(np.abs(computed - expected).max())
    # Eager, compiled and stored results round differently; what is random or batch-dependent differs by far more.
    return "" if difference <= 1e-2 * max(1e-6, largest) else f"up to {difference:.3g} at values of up to {largest:.3g}"
