"""Images to compare two models on: the user's own, or drawn ones where there are none."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from kerasxfer_serving.errors import ImageError
from kerasxfer_serving.images import ImagePolicy
from numpy.typing import NDArray
from PIL import Image

from kerasxfer.data.image_paths import image_paths
from kerasxfer.data.tables.columns import NOTHING_SAID, TableOptions
from kerasxfer.data.tables.source import is_table
from kerasxfer.export.errors import ExportError


@dataclass(frozen=True)
class Samples:
    """Decoded and resized images with their names: uint8 `[n, height, width, 3]`."""

    names: tuple[str, ...]
    images: NDArray[np.uint8]


def choose_samples(
    images: str | Path | None,
    count: int,
    image_size: tuple[int, int],
    policy: ImagePolicy,
    seed: int = 0,
    table: TableOptions = NOTHING_SAID,
) -> Samples:
    """A seeded choice of the images in a folder or table, or drawn ones.

    Args:
        images: A folder of images, with or without class folders, a table, or `None` for drawn images.
        count: How many at most. Unreadable images are passed over.
        image_size: `(height, width)`.
        policy: How to decode and resize.
        seed: Which ones. Defaults to `0`.
        table: What is said about the table. Defaults to nothing.

    Returns:
        `Samples`.

    Raises:
        ExportError: There is no readable image.
    """
    sources = _drawn(count, seed) if images is None else _found(Path(images), table, seed)
    names: list[str] = []
    decoded: list[NDArray[np.uint8]] = []
    for name, source in sources:
        if len(decoded) == count:
            break
        try:
            decoded.append(policy.load(source, image_size))
        except ImageError:
            continue
        names.append(name)
    if not decoded:
        raise ExportError(f"A folder of images is needed. Received: `{images}`, without a readable image.")
    return Samples(tuple(names), np.stack(decoded))


def _found(place: Path, table: TableOptions, seed: int) -> Iterator[tuple[str, Path]]:
    if not place.is_dir() and not is_table(place):
        raise ExportError(f"The folder `{place}` does not exist.")
    root, paths = image_paths(place, table)
    for position in np.random.default_rng(seed).permutation(len(paths)):
        yield paths[position], root / paths[position]


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
