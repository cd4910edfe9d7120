"""Images to compare two models on: the user's own, or drawn ones where there are none."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from kerasxfer_serving.errors import ImageError
from kerasxfer_serving.images import ImagePolicy
from kerasxfer_serving.inputs.walk import find_images
from numpy.typing import NDArray
from PIL import Image

from kerasxfer.export.errors import ExportError


@dataclass(frozen=True)
class Samples:
    """Decoded and resized images with their names: uint8 `[n, height, width, 3]`."""

    names: tuple[str, ...]
    images: NDArray[np.uint8]


def choose_samples(
    folder: str | Path | None, count: int, image_size: tuple[int, int], policy: ImagePolicy, seed: int = 0
) -> Samples:
    """A seeded choice of the images under a folder, or drawn ones.

    Args:
        folder: A folder of images, with or without class folders, or `None` for drawn images.
        count: How many at most. Unreadable images are passed over.
        image_size: `(height, width)`.
        policy: How to decode and resize.
        seed: Which ones. Defaults to `0`.

    Returns:
        `Samples`.

    Raises:
        ExportError: There is no readable image.
    """
    sources = _drawn(count, seed) if folder is None else _found(Path(folder), seed)
    names: list[str] = []
    images: list[NDArray[np.uint8]] = []
    for name, source in sources:
        if len(images) == count:
            break
        try:
            images.append(policy.load(source, image_size))
        except ImageError:
            continue
        names.append(name)
    if not images:
        raise ExportError(f"A folder of images is needed. Received: `{folder}`, without a readable image.")
    return Samples(tuple(names), np.stack(images))


def _found(folder: Path, seed: int) -> Iterator[tuple[str, Path]]:
    if not folder.is_dir():
        raise ExportError(f"There is no folder `{folder}`.")
    paths = sorted(find_images(folder))
    for position in np.random.default_rng(seed).permutation(len(paths)):
        yield paths[position], folder / paths[position]


def _drawn(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """JPEG files of soft patches of colour under fine grain: both low and high frequencies, no two alike."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        coarse = rng.integers(0, 256, (rng.integers(2, 9), rng.integers(2, 9), 3), np.uint8)
        image = np.asarray(Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC), np.int16)
        grain = rng.normal(0, rng.uniform(1, 30), image.shape)
        file = io.BytesIO()
        Image.fromarray(np.clip(image + grain, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
        yield f"drawn image {number}", file.getvalue()
