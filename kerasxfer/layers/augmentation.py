"""Random augmentation of images in training, with `ImageDataGenerator`'s parameters."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from kerasxfer_serving.errors import UsageError
from numpy.typing import NDArray

from kerasxfer.layers.sampling import FILL_MODES, int32, sample
from kerasxfer.types import Tensor

Shift = float | int | Sequence[float]

# One uniform number per image each, drawn whether it is used or not: turning one parameter on leaves what the
# others do as it was.
_DRAWS = (
    "rotation",
    "shear",
    "width_shift",
    "width_sign",
    "height_shift",
    "height_sign",
    "zoom_x",
    "zoom_y",
    "horizontal_flip",
    "vertical_flip",
    "channel_shift",
    "brightness",
)

# The arguments of the Keras tutorials on small data sets.
STANDARD_AUGMENTATION: dict[str, Any] = {
    "rotation_range": 40,
    "width_shift_range": 0.2,
    "height_shift_range": 0.2,
    "shear_range": 0.2,
    "zoom_range": 0.2,
    "horizontal_flip": True,
}


@keras.saving.register_keras_serializable(package="kerasxfer")
class Augmentation(keras.layers.Layer):
    """`ImageDataGenerator`'s random transformations as a layer on 0–255 pixels.

    In training, each image gets its own rotation, shift, shear, zoom and flips, composed into one affine transformation
    with one bilinear interpolation, then a channel shift, then a brightness; their meaning and order are those of
    `keras.preprocessing.image.ImageDataGenerator`. At inference, images pass through unchanged.

    The layer uses plain array operations instead of a backend's image kernels: pixels, and all four fill modes, are the
    same on every backend, and TensorFlow can still compile the model with XLA, which Keras's random layers prevent.
    `augment` does the same in NumPy, for datasets, caches and previews.

    Args:
        rotation_range: Degrees; angles are drawn from `-rotation_range … rotation_range`. Defaults to `0.0`.
        width_shift_range: Horizontal shift: a float below 1 is a fraction of the width, a float from 1 a number of
            pixels; an integer `n` means whole pixels from `-(n - 1)` to `n - 1`; a sequence means its values, to either
            side. Defaults to `0.0`.
        height_shift_range: Vertical shift, with the same values. Defaults to `0.0`.
        shear_range: Degrees, drawn like a rotation. Defaults to `0.0`.
        zoom_range: `z` for `[1 - z, 1 + z]`, or `(lower, upper)`; each axis is drawn separately, and a factor above 1
            zooms out. Defaults to `0.0`.
        horizontal_flip: Whether half of the images are flipped left to right. Defaults to `False`.
        vertical_flip: Whether half of the images are flipped upside down. Defaults to `False`.
        brightness_range: `(lower, upper)`, factors on the pixels; 1 changes nothing. Defaults to `None`.
        channel_shift_range: Values up to this are added to or subtracted from all channels; the result stays between
            the image's darkest and brightest values. Defaults to `0.0`.
        fill_mode: How to fill points outside the image: `"nearest"` (aaaa|abcd|dddd), `"constant"` (`cval`),
            `"reflect"` (abcddcba|abcd|dcbaabcd) or `"wrap"` (abcdabcd|abcd|abcdabcd). Defaults to `"nearest"`.
        cval: The value outside the image with `fill_mode="constant"`. Defaults to `0.0`.
        seed: Seed of the random draws in training. Defaults to `None`, a random one.
        data_format: `"channels_last"` or `"channels_first"`. Defaults to `keras.config.image_data_format()`.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        images: Pixels 0–255, integers or floats.
        training: Whether to transform. Defaults to `None`, Keras's current mode.

    Input shape:
        `(batch, height, width, channels)`; with `"channels_first"` `(batch, channels, height, width)`.

    Output shape:
        The input's, in the layer's compute dtype.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    ```python
    import numpy as np
    from kerasxfer.layers import Augmentation

    layer = Augmentation(rotation_range=40, zoom_range=0.2, horizontal_flip=True, seed=1)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("uint8")
    assert not np.array_equal(layer(images, training=True), images)
    assert np.array_equal(layer(images), images)
    assert np.array_equal(layer.augment(images, seed=7), layer.augment(images, seed=7))
    ```
    """

    def __init__(
        self,
        rotation_range: float = 0.0,
        width_shift_range: Shift = 0.0,
        height_shift_range: Shift = 0.0,
        shear_range: float = 0.0,
        zoom_range: float | Sequence[float] = 0.0,
        horizontal_flip: bool = False,
        vertical_flip: bool = False,
        brightness_range: Sequence[float] | None = None,
        channel_shift_range: float = 0.0,
        fill_mode: str = "nearest",
        cval: float = 0.0,
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)  # pixels are worked on in `float32` and cast once, at the end
        self.rotation_range = rotation_range
        self.width_shift_range = width_shift_range
        self.height_shift_range = height_shift_range
        self.shear_range = shear_range
        self.zoom_range = zoom_range
        self.horizontal_flip = horizontal_flip
        self.vertical_flip = vertical_flip
        self.brightness_range = brightness_range
        self.channel_shift_range = channel_shift_range
        self.fill_mode = fill_mode
        self.cval = cval
        self.seed = seed
        self.data_format = data_format or keras.config.image_data_format()
        self.seed_generator = keras.random.SeedGenerator(seed)
        self._validate()

    def call(self, images: Tensor, training: bool | None = None) -> Tensor:
        if training:
            draws = keras.random.uniform((ops.shape(images)[0], len(_DRAWS)), seed=self.seed_generator)
            images = self._transform(ops, ops.cast(images, "float32"), draws)
        return ops.cast(images, self.compute_dtype)

    def augment(
        self,
        images: NDArray[Any],
        seed: int | Sequence[int],
        rows: Sequence[int] | NDArray[np.intp] | None = None,
    ) -> NDArray[np.float32]:
        """The transformations as a function of images and seed, in NumPy, outside any model.

        Each image's draws depend only on `seed` and its row, not on its batch or the backend. Thread-safe.

        Args:
            images: Pixels 0–255.
            seed: One or more non-negative integers, such as `(seed, epoch)` or `(seed, copy)`.
            rows: A fixed number for each image. Defaults to `None`, its position in `images`.

        Returns:
            A float32 array of the shape of `images`.
        """
        prefix = (seed,) if isinstance(seed, int) else tuple(seed)
        rows = range(len(images)) if rows is None else rows
        draws = [np.random.default_rng((*prefix, int(row))).random(len(_DRAWS), "float32") for row in rows]
        return self._transform(np, images.astype("float32"), np.stack(draws))  # type: ignore[no-any-return]

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "rotation_range": self.rotation_range,
            "width_shift_range": self.width_shift_range,
            "height_shift_range": self.height_shift_range,
            "shear_range": self.shear_range,
            "zoom_range": self.zoom_range,
            "horizontal_flip": self.horizontal_flip,
            "vertical_flip": self.vertical_flip,
            "brightness_range": self.brightness_range,
            "channel_shift_range": self.channel_shift_range,
            "fill_mode": self.fill_mode,
            "cval": self.cval,
            "seed": self.seed,
            "data_format": self.data_format,
        }

    def _transform(self, xp: Any, pixels: Tensor, draws: Tensor) -> Tensor:
        """Transform float32 images by uniform numbers `[n, draws]`; `xp` is `keras.ops` or `numpy`."""
        named = {name: draws[:, column] for column, name in enumerate(_DRAWS)}
        if self.data_format == "channels_first":
            pixels = xp.transpose(pixels, (0, 2, 3, 1))
        if self._is_geometric:
            matrix, offset = self._affine(xp, named, *xp.shape(pixels)[1:3])
            pixels = sample(xp, pixels, matrix, offset, self.fill_mode, self.cval)
        if self.channel_shift_range:
            shift = _symmetric(named["channel_shift"], self.channel_shift_range)
            lowest, highest = (reduce(pixels, axis=(1, 2, 3), keepdims=True) for reduce in (xp.min, xp.max))
            pixels = xp.clip(pixels + xp.reshape(shift, (-1, 1, 1, 1)), lowest, highest)
        if self.brightness_range is not None:
            factor = _between(named["brightness"], *self.brightness_range)
            pixels = xp.clip(pixels * xp.reshape(factor, (-1, 1, 1, 1)), 0.0, 255.0)
        return xp.transpose(pixels, (0, 3, 1, 2)) if self.data_format == "channels_first" else pixels

    def _affine(self, xp: Any, draws: dict[str, Tensor], height: int, width: int) -> tuple[Tensor, Tensor]:
        """What takes an output's (x, y), counted from the centre, to the input's: `[n, 2, 2]` and `[n, 2]`.

        ImageDataGenerator's rotation @ shift @ shear @ zoom, then the flips, multiplied out.
        """
        turn = _symmetric(draws["rotation"], float(np.deg2rad(self.rotation_range)))
        slant = turn + _symmetric(draws["shear"], float(np.deg2rad(self.shear_range)))
        x, y = (_between(draws[name], *self._zoom) for name in ("zoom_x", "zoom_y"))
        if self.horizontal_flip:
            x = x * _sign(xp, draws["horizontal_flip"])
        if self.vertical_flip:
            y = y * _sign(xp, draws["vertical_flip"])
        right = _shift(xp, draws["width_shift"], draws["width_sign"], self.width_shift_range, width)
        down = _shift(xp, draws["height_shift"], draws["height_sign"], self.height_shift_range, height)
        cos, sin = xp.cos(turn), xp.sin(turn)
        rows = [xp.stack([cos * x, -xp.sin(slant) * y], 1), xp.stack([sin * x, xp.cos(slant) * y], 1)]
        return xp.stack(rows, 1), xp.stack([cos * right - sin * down, sin * right + cos * down], 1)

    @property
    def _zoom(self) -> tuple[float, ...]:
        if isinstance(self.zoom_range, Sequence):
            return tuple(self.zoom_range)
        return 1.0 - self.zoom_range, 1.0 + self.zoom_range

    @property
    def _is_geometric(self) -> bool:
        angles = self.rotation_range or self.shear_range
        shifts = np.any(self.width_shift_range) or np.any(self.height_shift_range)
        return bool(angles or shifts or self._zoom != (1.0, 1.0) or self.horizontal_flip or self.vertical_flip)

    def _validate(self) -> None:
        for name in ("rotation_range", "shear_range", "channel_shift_range"):
            if not _is_number(value := getattr(self, name)) or value < 0:
                raise UsageError(f"`{name}` must be a number, 0 or more. Received: {name}={value!r}")
        for name in ("width_shift_range", "height_shift_range"):
            value = getattr(self, name)
            values = value if isinstance(value, Sequence) and len(value) else [value]
            if not all(_is_number(item) and item >= 0 for item in values):
                raise UsageError(
                    f"`{name}` must be a number or a sequence of numbers, 0 or more. Received: {name}={value!r}"
                )
        if not _is_range(self._zoom) or self._zoom[0] <= 0:
            raise UsageError(
                "`zoom_range` must be a number, 0 or more and less than 1, or (lower, upper) with 0 < lower <= upper. "
                f"Received: zoom_range={self.zoom_range!r}"
            )
        if self.brightness_range is not None and not (
            _is_range(self.brightness_range) and self.brightness_range[0] >= 0
        ):
            raise UsageError(
                "`brightness_range` must be (lower, upper) with 0 <= lower <= upper. "
                f"Received: brightness_range={self.brightness_range!r}"
            )
        if self.fill_mode not in FILL_MODES:
            raise UsageError(f"`fill_mode` must be one of {FILL_MODES}. Received: fill_mode={self.fill_mode!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_range(value: Any) -> bool:
    return isinstance(value, Sequence) and len(value) == 2 and all(map(_is_number, value)) and value[0] <= value[1]


def _symmetric(draw: Tensor, bound: float) -> Tensor:
    return (2.0 * draw - 1.0) * bound


def _between(draw: Tensor, lower: float, upper: float) -> Tensor:
    return lower + draw * (upper - lower)


def _sign(xp: Any, draw: Tensor) -> Tensor:
    """-1 or 1, each half of the time."""
    return 2.0 * xp.floor(2.0 * draw) - 1.0


def _shift(xp: Any, draw: Tensor, sign: Tensor, spec: Shift, extent: int) -> Tensor:
    """Pixels; see `width_shift_range`."""
    if isinstance(spec, float):
        return _symmetric(draw, spec) * (extent if spec < 1 else 1)
    choices = np.arange(max(spec, 1), dtype="float32") if isinstance(spec, int) else np.asarray(spec, "float32")
    chosen = xp.take(choices, int32(xp, xp.floor(draw * len(choices))), axis=0)
    return chosen * _sign(xp, sign) * (extent if choices.max() < 1 else 1)
