"""Augmentation that mixes the images of a batch with each other, or erases parts of them, by Keras's own layers."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from kerasxfer_serving.errors import UsageError
from numpy.typing import NDArray


class BatchAugmentation:
    """Random erasing, MixUp and CutMix on batches, by the layers of Keras.

    `keras.layers.RandomErasing`, `MixUp` and `CutMix` with a seed of their own for each batch, which makes a run that
    is resumed the same as one that was not. With both of the last two, each batch gets one of them, by chance.
    Targets are mixed as the images are, so they must be numbers that can be: one-hot, or 0 and 1.

    Args:
        erasing: Probability that a rectangle of an image becomes noise, 0–1. Defaults to `0.0`.
        mixup: Both parameters of the Beta distribution that weighs an image against another one, above 0 and at most
            1; 0 for none. Defaults to `0.0`.
        cutmix: The same of the distribution that an area is drawn from, which is pasted from another image. Defaults
            to `0.0`.

    Raises:
        UsageError: An argument is out of its range, or this Keras has no such layer.

    References:
        [Random erasing](https://arxiv.org/abs/1708.04896), [MixUp](https://arxiv.org/abs/1710.09412),
        [CutMix](https://arxiv.org/abs/1905.04899).

    Example:

    ```python
    import numpy as np
    from kerasxfer.augmentation import BatchAugmentation

    images, targets = np.zeros((4, 8, 8, 3), "float32"), np.eye(4, dtype="float32")
    images, targets = BatchAugmentation(mixup=0.2).augment(images, targets, seed=(1, 0, 5))
    assert np.allclose(targets.sum(axis=1), 1)
    ```
    """

    def __init__(self, erasing: float = 0.0, mixup: float = 0.0, cutmix: float = 0.0) -> None:
        self.erasing = _share("erasing", erasing, "RandomErasing")
        self.mixup = _share("mixup", mixup, "MixUp")
        self.cutmix = _share("cutmix", cutmix, "CutMix")

    @property
    def mixes(self) -> bool:
        """Whether targets are mixed too."""
        return bool(self.mixup or self.cutmix)

    def augment(
        self, images: NDArray[Any], targets: NDArray[Any], seed: Sequence[int]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """A batch, changed.

        Args:
            images: Pixels 0–255, `[n, height, width, 3]`.
            targets: Float32 `[n, …]`.
            seed: Integers, none negative; what the batch becomes depends on them and on itself alone.

        Returns:
            Images, float32, and targets.
        """
        first, second, choice = (int(number) for number in np.random.SeedSequence(list(seed)).generate_state(3) >> 1)
        batch = {"images": images.astype("float32"), "labels": targets}
        options: dict[str, Any] = {"data_format": "channels_last", "dtype": "float32"}
        if self.erasing:
            layer = keras.layers.RandomErasing((self.erasing, self.erasing), seed=first, **options)
            batch["images"] = layer(batch["images"], training=True)
        if self.mixup and (not self.cutmix or choice % 2):
            batch = keras.layers.MixUp(self.mixup, seed=second, **options)(batch, training=True)
        elif self.cutmix:
            batch = keras.layers.CutMix((self.cutmix, self.cutmix), seed=second, **options)(batch, training=True)
        return keras.ops.convert_to_numpy(batch["images"]), keras.ops.convert_to_numpy(batch["labels"])


def _share(name: str, value: Any, layer: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UsageError(f"`{name}` must be a number from 0 to 1. Received: {name}={value!r}")
    if value and not hasattr(keras.layers, layer):
        raise UsageError(
            f"`{name}` needs `keras.layers.{layer}`, which Keras {keras.version()} does not have: install a newer one."
        )
    return float(value)
