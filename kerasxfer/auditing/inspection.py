"""One look at every image file: whether it can be read, and what is worth knowing about its pixels."""

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from kerasxfer_serving.errors import ImageError
from kerasxfer_serving.image_io.decoding import open_image
from kerasxfer_serving.images import ImagePolicy, exif_orientation
from kerasxfer_serving.runtime.resources import available_cores
from numpy.typing import NDArray
from PIL import Image

from kerasxfer.bottleneck.shards import file_hash
from kerasxfer.data.image_files import BadImage

_SIDE = 256
_POLICY = ImagePolicy()


@dataclass(frozen=True)
class ImageFacts:
    """What is known about an image that can be read.

    Args:
        sha256: Of the file.
        pixels: Hash of the decoded pixels, upright.
        width: In pixels.
        height: In pixels.
        orientation: What EXIF says, 1 for upright.
        saturation: Mean difference between the largest and the smallest channel, 0 to 255.
        contrast: Standard deviation of the brightness, 0 to 127.
        sharpness: Variance of the Laplacian of the brightness, at most 256 pixels a side.
        shape: Difference hash of 64 bits: in which direction the brightness changes (Krawetz 2013).
        mirrored: That of the mirrored image.
    """

    sha256: str
    pixels: str
    width: int
    height: int
    orientation: int
    saturation: float
    contrast: float
    sharpness: float
    shape: int
    mirrored: int


def inspect(root: Path, paths: Iterable[str], threads: int | None = None) -> Iterator[ImageFacts | BadImage]:
    """Decode every image once.

    Args:
        root: Folder that `paths` are relative to.
        paths: Paths of the images.
        threads: Number of threads. Defaults to `None`, one for each CPU of this process.

    Yields:
        For each image, in the order of `paths`, its `ImageFacts`, or the `BadImage` that says why there are none.
    """

    def facts(path: str) -> ImageFacts | BadImage:
        try:
            return _facts(root / path)
        except ImageError as error:
            return BadImage(path, error.code, str(error))

    with ThreadPoolExecutor(threads or available_cores()) as pool:
        yield from pool.map(facts, paths)


def _facts(path: Path) -> ImageFacts:
    with open_image(path) as file:
        turned = exif_orientation(file)
        image = _POLICY.image(file)
    grey = image.convert("L")
    grey.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX, reducing_gap=3.0)
    brightness = np.asarray(grey, np.float32)
    shape, mirrored = difference_hashes(grey)
    hashed = hashlib.sha256(str(image.size).encode())  # the fastest where the processor has instructions for it
    pixels = np.asarray(image)
    hashed.update(pixels.data)
    return ImageFacts(
        sha256=file_hash(path),
        pixels=hashed.hexdigest(),
        width=image.width,
        height=image.height,
        orientation=turned,
        saturation=_saturation(pixels),
        contrast=float(brightness.std()),
        sharpness=_sharpness(brightness),
        shape=shape,
        mirrored=mirrored,
    )


def difference_hashes(image: Image.Image) -> tuple[int, int]:
    """The difference hash of an image, 64 bits, and that of its mirror image."""
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.LANCZOS, reducing_gap=3.0), np.int16)
    rises = np.diff(grey, axis=1)
    return _bits(rises > 0), _bits(rises[:, ::-1] < 0)


def _bits(flags: NDArray[np.bool_]) -> int:
    return int.from_bytes(np.packbits(flags).tobytes())


def _saturation(pixels: NDArray[np.uint8]) -> float:
    step = 1 + 2 * max(pixels.shape) // _SIDE  # a mean needs no more of an image
    red, green, blue = np.moveaxis(pixels[::step, ::step], 2, 0)
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    return float(spread.mean())


def _sharpness(brightness: NDArray[np.float32]) -> float:
    if min(brightness.shape) < 3:
        return 0.0
    middle = brightness[1:-1, 1:-1]
    laplacian = brightness[:-2, 1:-1] + brightness[2:, 1:-1] + brightness[1:-1, :-2] + brightness[1:-1, 2:] - 4 * middle
    return float(laplacian.var())
