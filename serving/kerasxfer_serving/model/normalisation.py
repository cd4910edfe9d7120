"""What a model from elsewhere expects to have been done to pixels, and the recipes that people know by name."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import isfinite
from typing import Any, NamedTuple

from kerasxfer_serving.errors import ModelError
from kerasxfer_serving.images import ImagePolicy


def _channels(name: str, values: Any) -> tuple[float, ...]:
    if isinstance(values, int | float):
        values = [values]
    numbers = isinstance(values, list | tuple) and all(
        isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value) for value in values
    )
    if not numbers or len(values) not in (1, 3):
        raise ModelError(f"`{name}` of a normalisation is a number, or one for each channel. Received: {values!r:.200}")
    return tuple(map(float, values))


def _is_finite(value: float) -> bool:
    try:
        return isfinite(value)
    except OverflowError:  # an integer beyond all floating-point numbers
        return False


@dataclass(frozen=True)
class Normalisation:
    """`(pixel * scale - mean) / std` for each channel, of pixels in 0–255.

    Args:
        mean: One number, or one for each channel, in the order that the model takes them. Defaults to `(0.0,)`.
        std: One number, or one for each channel, in the same order. Defaults to `(1.0,)`.
        scale: Factor on the pixels, before all else. Defaults to 1/255: mean and standard deviation are then those of
            pixels in 0–1, as torchvision and timm give them.
        bgr: Whether the model takes blue first. Defaults to `False`.

    Raises:
        ModelError: If a value is not a number, or a number of values is neither one nor three.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    scale: float = 1 / 255
    bgr: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", _channels("mean", self.mean))
        object.__setattr__(self, "std", _channels("std", self.std))
        (scale,) = _channels("scale", [self.scale])
        object.__setattr__(self, "scale", scale)
        if scale == 0 or 0 in self.std:
            raise ModelError(f"`scale` and `std` of a normalisation must not be zero. Received: {self}")
        if not isinstance(self.bgr, bool):
            raise ModelError(f"`bgr` of a normalisation is true or false. Received: {self.bgr!r:.200}")

    @property
    def offset(self) -> tuple[float, ...]:
        """What is subtracted from each channel of pixels in 0–255."""
        return tuple(mean / self.scale for mean in self.mean)

    @property
    def factor(self) -> tuple[float, ...]:
        """What each channel is multiplied by then."""
        return tuple(self.scale / std for std in self.std)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Normalisation":
        """The normalisation that `to_dict` described.

        Raises:
            ModelError: If a key is unknown or a value is not what it should be.
        """
        known = [item.name for item in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            raise ModelError(f"A normalisation has the keys {known}. Received: {unknown!r:.200}")
        return cls(**values)


_IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

# "tf", "caffe" and "torch" are the modes of `keras.applications.imagenet_utils.preprocess_input`.
NORMALISATIONS = {
    "none": Normalisation(scale=1.0),
    "rescale": Normalisation(),
    "tf": Normalisation((0.5,), (0.5,)),
    "caffe": Normalisation((103.939, 116.779, 123.68), scale=1.0, bgr=True),
    "imagenet": _IMAGENET,
    "torch": _IMAGENET,
    "clip": Normalisation((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}


class Preset(NamedTuple):
    """How a library prepares images: the name of its normalisation, and its decoding and resizing."""

    normalisation: str
    policy: ImagePolicy = ImagePolicy()


PRESETS = {name: Preset(name) for name in NORMALISATIONS if name != "clip"} | {
    "torchvision": Preset("imagenet", ImagePolicy("bilinear", "crop", crop_fraction=0.875)),
    "timm": Preset("imagenet", ImagePolicy("bicubic", "crop", crop_fraction=0.875)),
    "clip": Preset("clip", ImagePolicy("bicubic", "crop", crop_fraction=1.0)),
}
"""What `--preprocess` and a sidecar's `"preset"` take."""


def find_preset(name: object) -> Preset:
    """The preset of a name.

    Raises:
        ModelError: If there is none.
    """
    if not isinstance(name, str) or name not in PRESETS:
        raise ModelError(f"`preset` is one of {list(PRESETS)}. Received: {name!r:.200}")
    return PRESETS[name]
