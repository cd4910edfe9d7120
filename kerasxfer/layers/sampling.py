"""Bilinear sampling of pictures under affine transformations, in `keras.ops` alone."""

from typing import Any

from keras import ops

Tensor = Any

FILL_MODES = ("constant", "nearest", "reflect", "wrap")

# A coordinate that rounding has put just outside of the picture is still its edge.
_EDGE = 1e-3


def sample(images: Tensor, matrix: Tensor, offset: Tensor, fill_mode: str, cval: float) -> Tensor:
    """Pictures seen through affine transformations about their centres.

    The pixel at `p` of an output, (x, y) from the centre, is the input's at `matrix @ p + offset`.

    Args:
        images: float32 `[n, height, width, channels]`.
        matrix: float32 `[n, 2, 2]`.
        offset: float32 `[n, 2]`, pixels.
        fill_mode: one of `FILL_MODES`; what lies outside.
        cval: the value outside with `"constant"`.

    Returns:
        float32 tensor of the shape of `images`.
    """
    height, width = ops.shape(images)[1:3]
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    column = ops.reshape(ops.arange(width, dtype="float32") - centre_x, (1, 1, -1))
    row = ops.reshape(ops.arange(height, dtype="float32") - centre_y, (1, -1, 1))
    matrix, offset = ops.reshape(matrix, (-1, 2, 2, 1, 1)), ops.reshape(offset, (-1, 2, 1, 1))
    x = matrix[:, 0, 0] * column + matrix[:, 0, 1] * row + offset[:, 0] + centre_x
    y = matrix[:, 1, 0] * column + matrix[:, 1, 1] * row + offset[:, 1] + centre_y
    pixels = _bilinear(images, x, y, fill_mode)
    if fill_mode == "constant":
        inside = _inside(x, width) & _inside(y, height)
        pixels = ops.where(ops.expand_dims(inside, -1), pixels, cval)
    return pixels


def _bilinear(images: Tensor, x: Tensor, y: Tensor, fill_mode: str) -> Tensor:
    count, height, width, channels = ops.shape(images)
    # One gather from a flat list of pixels per neighbour is what every backend does well.
    flat = ops.reshape(images, (-1, channels))
    first = ops.reshape(ops.arange(count, dtype="int32") * (height * width), (-1, 1, 1))
    left, top = ops.floor(x), ops.floor(y)
    columns = [_index(left, width, fill_mode), _index(left + 1, width, fill_mode)]
    rows = [first + width * _index(row, height, fill_mode) for row in (top, top + 1)]
    to_right, down = ops.expand_dims(x - left, -1), ops.expand_dims(y - top, -1)
    upper, lower = (
        ops.take(flat, row + columns[0], axis=0) * (1 - to_right) + ops.take(flat, row + columns[1], axis=0) * to_right
        for row in rows
    )
    return upper * (1 - down) + lower * down


def _index(position: Tensor, size: int, fill_mode: str) -> Tensor:
    """The pixel that stands at a whole position, inside or out."""
    if fill_mode == "wrap":
        position = ops.mod(position, size)
    elif fill_mode == "reflect":
        position = ops.mod(position, 2 * size)
        position = ops.minimum(position, 2 * size - 1 - position)
    return ops.cast(ops.clip(position, 0, size - 1), "int32")


def _inside(position: Tensor, size: int) -> Tensor:
    return ops.logical_and(position >= -_EDGE, position <= size - 1 + _EDGE)
