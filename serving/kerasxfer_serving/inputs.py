"""What is predicted: a name for the row, and a way to get at the picture."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from kerasxfer_serving.errors import ImageError

# Larger than any picture worth classifying; a bomb in an archive unpacks to more.
MAX_BYTES = 512 << 20


@dataclass(frozen=True)
class Input:
    """One thing to predict.

    Args:
        path: what the row is called.
        open: returns what `ImagePolicy.decode` takes (path, bytes, array, image), or raises `ImageError`.
    """

    path: str
    open: Callable[[], Any] = field(repr=False)


def given_input(path: str, source: Any) -> Input:
    """An input whose picture is at hand: a path, bytes, an array or an image."""
    return Input(path, lambda: source)


def failed_input(path: str, code: str, message: str) -> Input:
    """An input that is known to be bad before it is opened."""

    def fail() -> Any:
        raise ImageError(code, message)

    return Input(path, fail)


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
