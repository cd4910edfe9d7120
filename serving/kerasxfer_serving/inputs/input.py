"""What is predicted: a name for the row, a way to get at the image, and the pixels that became of a batch."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kerasxfer_serving.errors import ImageError
from kerasxfer_serving.image_io.decoding import MAX_BYTES
from kerasxfer_serving.images import DecodedImage, ImagePolicy


@dataclass(frozen=True)
class Input:
    """One thing to predict. Can be pickled where its image can; a member of an archive then takes its bytes along.

    Args:
        path: What the row is called.
        open: Returns what `ImagePolicy.decode` takes (path, bytes, array, image), or raises `ImageError`.
        size: Bytes of the file, where they are known without looking.
    """

    path: str
    open: Callable[[], Any] = field(repr=False)
    size: int | None = None


def given_input(path: str, source: object) -> Input:
    """An input whose image is at hand: a path, bytes, an array or an image."""
    return Input(path, partial(_given, source), len(source) if isinstance(source, bytes) else None)


def failed_input(path: str, code: str, message: str) -> Input:
    """An input that is known to be bad before it is opened."""
    return Input(path, partial(_fail, code, message), 0)


def _given(source: Any) -> Any:
    return source


def _fail(code: str, message: str) -> Any:
    raise ImageError(code, message)


def size_of(item: Input) -> int | None:
    """Bytes of an input's file, looked up where it is a file of this machine; `None` otherwise."""
    if item.size is not None or not isinstance(item.open, partial) or item.open.func is not _given:
        return item.size
    try:
        return os.stat(item.open.args[0]).st_size  # noqa: PTH116
    except (OSError, TypeError, ValueError):  # no such file; no file at all; a name that no file can have
        return None


def too_large(path: str, size: int) -> Input:
    """The input for a file of more than `MAX_BYTES`."""
    return failed_input(path, "decompression_bomb", f"{path!r} has {size:,} bytes; at most {MAX_BYTES:,} are read")


def as_inputs(inputs: Any) -> list[Input]:
    """What `Predictor.predict` takes, as a list of `Input`."""
    one = isinstance(inputs, str | bytes | os.PathLike | Image.Image) or hasattr(inputs, "read")
    if one or (isinstance(inputs, np.ndarray) and inputs.ndim in (2, 3)):
        inputs = [inputs]
    return [_as_input(index, item) for index, item in enumerate(inputs)]


def _as_input(index: int, item: Any) -> Input:
    if isinstance(item, Input):
        return item
    name = os.fspath(item) if isinstance(item, str | os.PathLike) else f"[{index}]"
    return given_input(name, item)


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
