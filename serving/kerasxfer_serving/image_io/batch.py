"""Decoded images of one batch, with their pixels in one piece."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from kerasxfer_serving.errors import ImageError
from kerasxfer_serving.images import DecodedImage, ImagePolicy
from kerasxfer_serving.inputs.input import Input


class Batch(list[DecodedImage | ImageError]):
    """What became of each input of a batch.

    Args:
        images: One `DecodedImage` or `ImageError` per input, in order.
        pixels: Array of uint8, `[n, height, width, 3]`, in which each image is in its place already, and one that
            cannot be read is black. Defaults to a new array that the images are copied to.
        size: `(height, width)`, where there are no `pixels`.
    """

    def __init__(
        self,
        images: Iterable[DecodedImage | ImageError],
        pixels: NDArray[np.uint8] | None = None,
        *,
        size: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__(images)
        self.pixels = np.zeros((len(self), *size, 3), np.uint8) if pixels is None else pixels
        if pixels is None:
            for place, image in zip(self.pixels, self, strict=True):
                if isinstance(image, DecodedImage):
                    place[...] = image.pixels


def decode_input(item: Input, policy: ImagePolicy, size: tuple[int, int]) -> DecodedImage | ImageError:
    """Pixels of one input at a size and in the way that a policy says, or what is wrong with it."""
    try:
        return policy.decode(item.open(), size)
    except ImageError as error:  # a new one: that which was raised holds on to its frames, and they to the pixels
        return ImageError(error.code, str(error))
    except Exception as error:  # whatever a broken file brings about, it is that file's row and nobody else's
        return ImageError("error", f"{type(error).__name__}: {error}")
