"""From the stored size to the model's: stretch, crop or pad, on Pillow images."""

import math
from typing import Literal, TypeAlias

from PIL import Image

Interpolation: TypeAlias = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
Resize: TypeAlias = Literal["stretch", "crop", "pad"]


_MOST_PIXELS = 50_000_000  # of a very long image between two steps

Box: TypeAlias = tuple[float, float, float, float]


def shrink(
    image: Image.Image,
    size: tuple[int, int],
    resize: Resize,
    interpolation: Interpolation,
    crop_fraction: float | None = None,
) -> Image.Image:
    """The image at `size`, (height, width); with `"pad"` inside it, still without its borders."""
    if crop_fraction is not None:
        whole, (left, top) = _whole_and_start(image.size, size, resize, crop_fraction)
        if whole[0] * whole[1] <= _MOST_PIXELS:  # in these two steps, to be equal to the byte
            part = (left, top, left + size[1], top + size[0])
            return image.resize(whole, Image.Resampling[interpolation.upper()]).crop(part)
    box, inner = geometry(image.size, size, resize, crop_fraction)
    return image.resize(inner, Image.Resampling[interpolation.upper()], box)


def pad(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The image in the middle of a black one of `size`, (height, width)."""
    height, width = size
    canvas = Image.new(image.mode, (width, height))
    canvas.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
    return canvas


def draft(image: Image.Image, size: tuple[int, int], resize: Resize, crop_fraction: float | None = None) -> None:
    """Ask the JPEG decoder for its smallest size from which nothing has to be enlarged that was not before."""
    box, inner = geometry(image.size, size, resize, crop_fraction)
    scale = max(1.0, min((box[2] - box[0]) / inner[0], (box[3] - box[1]) / inner[1]))
    image.draft(None, (math.ceil(image.width / scale), math.ceil(image.height / scale)))


def geometry(
    stored: tuple[int, int], size: tuple[int, int], resize: Resize, crop_fraction: float | None = None
) -> tuple[Box, tuple[int, int]]:
    """The part (left, top, right, bottom) of the stored image that is used, and the (width, height) it gets."""
    (width, height), (to_height, to_width) = stored, size
    scale = width / to_width, height / to_height
    if crop_fraction is not None:
        whole, start = _whole_and_start(stored, size, resize, crop_fraction)
        across, down = width / whole[0], height / whole[1]
        right, bottom = min((start[0] + to_width) * across, width), min((start[1] + to_height) * down, height)
        return (start[0] * across, start[1] * down, right, bottom), (to_width, to_height)
    if resize == "crop":
        # A product may exceed the side by a rounding error, which Pillow refuses.
        used = min(min(scale) * to_width, width), min(min(scale) * to_height, height)
        left, top = (width - used[0]) / 2, (height - used[1]) / 2
        return (left, top, min(left + used[0], width), min(top + used[1], height)), (to_width, to_height)
    if resize == "pad":
        return (0, 0, *stored), (max(1, round(width / max(scale))), max(1, round(height / max(scale))))
    return (0, 0, *stored), (to_width, to_height)


def _whole_and_start(
    stored: tuple[int, int], size: tuple[int, int], resize: Resize, fraction: float
) -> tuple[tuple[int, int], tuple[int, int]]:
    """The (width, height) of torchvision's `Resize`, and the (left, top) of its `CenterCrop`, with their roundings."""
    (width, height), (to_height, to_width) = stored, size
    whole_width, whole_height = (math.floor(side / fraction + 1e-6) for side in (to_width, to_height))
    if resize == "stretch":
        pass
    elif whole_width * height >= whole_height * width:
        whole_height = max(to_height, int(whole_width * height / width))
    else:
        whole_width = max(to_width, int(whole_height * width / height))
    return (whole_width, whole_height), (round((whole_width - to_width) / 2), round((whole_height - to_height) / 2))
