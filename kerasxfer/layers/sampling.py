"""Bilinear sampling of images under affine transformations.

Written for any array namespace `xp` that has NumPy's names: `keras.ops` inside of a model, `numpy` outside.
"""

from types import ModuleType

import numpy as np
from keras import ops

from kerasxfer.types import Tensor

FILL_MODES = ("constant", "nearest", "reflect", "wrap")

# A coordinate that rounding has put just outside of the image is still its edge.
_EDGE = 1e-3


def sample(xp: ModuleType, images: Tensor, matrix: Tensor, offset: Tensor, fill_mode: str, cval: float) -> Tensor:
    """Images seen through affine transformations about their centres.

    The pixel at `p` of an output, (x, y) from the centre, is the input's at `matrix @ p + offset`.

    Args:
        xp: `keras.ops` or `numpy`.
        images: Array of float32, `[n, height, width, channels]`.
        matrix: Array of float32, `[n, 2, 2]`.
        offset: Array of float32, `[n, 2]`, pixels.
        fill_mode: One of `FILL_MODES`; what lies outside.
        cval: The value outside with `"constant"`.

    Returns:
        A float32 tensor of the shape of `images`.
    """
    height, width = xp.shape(images)[1:3]
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    column = xp.reshape(xp.arange(width, dtype="float32") - centre_x, (1, 1, -1))
    row = xp.reshape(xp.arange(height, dtype="float32") - centre_y, (1, -1, 1))
    matrix, offset = xp.reshape(matrix, (-1, 2, 2, 1, 1)), xp.reshape(offset, (-1, 2, 1, 1))
    x = matrix[:, 0, 0] * column + matrix[:, 0, 1] * row + offset[:, 0] + centre_x
    y = matrix[:, 1, 0] * column + matrix[:, 1, 1] * row + offset[:, 1] + centre_y
    pixels = _bilinear(xp, images, x, y, fill_mode)
    if fill_mode == "constant":
        inside = xp.logical_and(_inside(xp, x, width), _inside(xp, y, height))
        pixels = xp.where(xp.expand_dims(inside, -1), pixels, cval)
    return pixels


def _bilinear(xp: ModuleType, images: Tensor, x: Tensor, y: Tensor, fill_mode: str) -> Tensor:
    count, height, width, channels = xp.shape(images)
    # One gather from a flat list of pixels per neighbour is what every backend does well.
    flat = xp.reshape(images, (-1, channels))
    first = xp.reshape(xp.arange(count, dtype="int32") * (height * width), (-1, 1, 1))
    left, top = xp.floor(x), xp.floor(y)
    columns = [_index(xp, position, width, fill_mode) for position in (left, left + 1)]
    rows = [first + _index(xp, position, height, fill_mode) * width for position in (top, top + 1)]
    to_right, down = xp.expand_dims(x - left, -1), xp.expand_dims(y - top, -1)
    upper, lower = (
        xp.take(flat, row + columns[0], axis=0) * (1 - to_right) + xp.take(flat, row + columns[1], axis=0) * to_right
        for row in rows
    )
    return upper * (1 - down) + lower * down


def _index(xp: ModuleType, position: Tensor, size: int, fill_mode: str) -> Tensor:
    """The pixel that stands at a whole position, inside or out."""
    if fill_mode == "wrap":
        position = xp.mod(position, size)
    elif fill_mode == "reflect":
        position = xp.mod(position, 2 * size)
        position = xp.minimum(position, 2 * size - 1 - position)
    return int32(xp, xp.clip(position, 0, size - 1))


def int32(xp: ModuleType, values: Tensor) -> Tensor:
    """Whole numbers as integers."""
    return values.astype("int32") if xp is np else ops.cast(values, "int32")


def _inside(xp: ModuleType, position: Tensor, size: int) -> Tensor:
    return xp.logical_and(position >= -_EDGE, position <= size - 1 + _EDGE)
