"""RandAugment on images as they are decoded."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from kerasxfer_serving.errors import UsageError
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

Operation = Callable[[Image.Image, float], Image.Image]


class RandAugment:
    """A few random operations on each image, all of one strength.

    The operations are the paper's, done by Pillow: every image gets its own, the same on every backend, by draws that
    depend on the seed and its row alone. `keras.layers.RandAugment` draws one set of operations for a whole batch, and
    computes all eleven of it to use two.

    Args:
        strength: How far the operations go, 0–1: 1 turns by up to 30°, shifts by up to 45 % of a side and changes
            colours by up to 90 %. The paper's magnitude 9 of 30 is `0.3`. Defaults to `0.3`.
        operations: Operations for each image. Defaults to `2`.
        horizontal_flip: Whether half of the images are flipped left to right first. Defaults to `True`.

    Raises:
        UsageError: An argument is out of its range.

    References:
        [Cubuk et al. 2019](https://arxiv.org/abs/1909.13719), section 3 and table 6.

    Example:

    ```python
    import numpy as np
    from kerasxfer.augmentation import RandAugment

    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype="uint8")
    changed = RandAugment().augment(images, seed=7)  # float32 [2, 32, 32, 3]
    assert np.array_equal(changed, RandAugment().augment(images, seed=7))
    ```
    """

    def __init__(self, strength: float = 0.3, operations: int = 2, horizontal_flip: bool = True) -> None:
        if not 0 <= strength <= 1:
            raise UsageError(f"`strength` must be from 0 to 1. Received: strength={strength!r}")
        if operations < 1:
            raise UsageError(f"`operations` must be 1 or more. Received: operations={operations!r}")
        self.strength = strength
        self.operations = operations
        self.horizontal_flip = horizontal_flip

    def augment(
        self,
        images: NDArray[Any],
        seed: int | Sequence[int],
        rows: Sequence[int] | NDArray[np.intp] | None = None,
    ) -> NDArray[np.float32]:
        """The operations as a function of images and seed; see `kerasxfer.layers.Augmentation.augment`.

        Args:
            images: Pixels 0–255, `[n, height, width, 3]`.
            seed: An integer or several; none negative.
            rows: A number for each image that stays its own. Defaults to `None`, its place in `images`.

        Returns:
            A float32 array of the shape of `images`.
        """
        prefix = (seed,) if isinstance(seed, int) else tuple(seed)
        rows = range(len(images)) if rows is None else rows
        pixels = np.clip(np.rint(images), 0, 255).astype("uint8")
        return np.stack([self._one(image, (*prefix, int(row))) for image, row in zip(pixels, rows, strict=True)])

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {
            "strength": self.strength,
            "operations": self.operations,
            "horizontal_flip": self.horizontal_flip,
        }

    def _one(self, pixels: NDArray[np.uint8], seed: tuple[int, ...]) -> NDArray[np.float32]:
        draws = np.random.default_rng(seed)
        image = Image.fromarray(pixels)
        if self.horizontal_flip and draws.random() < 0.5:
            image = ImageOps.mirror(image)
        for choice in draws.integers(len(_OPERATIONS), size=self.operations):
            image = _OPERATIONS[choice](image, self.strength * (1 if draws.random() < 0.5 else -1))
        return np.asarray(image, "float32")


def _affine(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=(128, 128, 128)
    )


def _enhance(enhancer: Callable[[Image.Image], Any]) -> Operation:
    return lambda image, strength: enhancer(image).enhance(1 + 0.9 * strength)


# Signed operations take -1 … 1; the others only its size.
_OPERATIONS: tuple[Operation, ...] = (
    lambda image, strength: image,
    lambda image, strength: ImageOps.autocontrast(image),
    lambda image, strength: ImageOps.equalize(image),
    lambda image, strength: image.rotate(30 * strength, Image.Resampling.BILINEAR, fillcolor=(128, 128, 128)),
    lambda image, strength: ImageOps.solarize(image, round(256 * (1 - abs(strength)))),
    lambda image, strength: ImageOps.posterize(image, 8 - round(4 * abs(strength))),
    lambda image, strength: _affine(image, (1, 0.3 * strength, -0.15 * strength * image.height, 0, 1, 0)),
    lambda image, strength: _affine(image, (1, 0, 0, 0.3 * strength, 1, -0.15 * strength * image.width)),
    lambda image, strength: _affine(image, (1, 0, 0.45 * strength * image.width, 0, 1, 0)),
    lambda image, strength: _affine(image, (1, 0, 0, 0, 1, 0.45 * strength * image.height)),
    _enhance(ImageEnhance.Color),
    _enhance(ImageEnhance.Contrast),
    _enhance(ImageEnhance.Brightness),
    _enhance(ImageEnhance.Sharpness),
)
