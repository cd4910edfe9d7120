"""From the stored size to the model's: stretch, crop or pad, on Pillow images."""

import math
from typing import Literal, TypeAlias

from PIL import Image

Interpolation: TypeAlias = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
Resize: TypeAlias = Literal["stretch", "crop", "pad"]


def shrink(image: Image.Image, size: tuple[int, int], resize: Resize, interpolation: Interpolation) -> Image.Image:
    """The image at `size`, (height, width); with `"pad"` inside it, still without its borders."""
    box, inner = geometry(image.size, size, resize)
    return image.resize(inner, Image.Resampling[interpolation.upper()], box)


def pad(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The image in the middle of a black one of `size`, (height, width)."""
    height, width = size
    canvas = Image.new(image.mode, (width, height))
    canvas.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
    return canvas


def draft(image: Image.Image, size: tuple[int, int], resize: Resize) -> None:
    """Ask the JPEG decoder for its smallest size from which nothing has to be enlarged that was not before."""
    box, inner = geometry(image.size, size, resize)
    scale = max(1.0, min((box[2] - box[0]) / inner[0], (box[3] - box[1]) / inner[1]))
    image.draft(None, (math.ceil(image.width / scale), math.ceil(image.height / scale)))


def geometry(
    stored: tuple[int, int], size: tuple[int, int], resize: Resize
) -> tuple[tuple[float, float, float, float], tuple[int, int]]:
    """The part (left, top, right, bottom) of the stored image that is used, and the (width, height) it gets."""
    (width, height), (to_height, to_width) = stored, size
    scale = width / to_width, height / to_height
    if resize == "crop":
        # A product may exceed the side by a rounding error, which Pillow refuses.
        used = min(min(scale) * to_width, width), min(min(scale) * to_height, height)
        left, top = (width - used[0]) / 2, (height - used[1]) / 2
        return (left, top, min(left + used[0], width), min(top + used[1], height)), (to_width, to_height)
    if resize == "pad":
        return (0, 0, *stored), (max(1, round(width / max(scale))), max(1, round(height / max(scale))))
    return (0, 0, *stored), (to_width, to_height)
