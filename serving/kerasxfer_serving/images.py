"""The one decode-and-resize function, so that a model is served the pixels it was trained on.

Training, evaluation, the export's parity check, prediction and the benchmark all use it. Pillow decodes; the result is
always uint8, height × width × RGB. Thread-safe.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kerasxfer_serving.errors import ImageError, UsageError
from kerasxfer_serving.image_io.decoding import Source, open_image
from kerasxfer_serving.image_io.formats import FORMAT_OF_SUFFIX
from kerasxfer_serving.image_io.resizing import Interpolation, Resize, draft, pad, shrink

Exif: TypeAlias = Literal["apply", "ignore"]
Decoder: TypeAlias = Literal["pillow", "gpu"]

IMAGE_SUFFIXES = frozenset(suffix for suffix, name in FORMAT_OF_SUFFIX.items() if name != "HEIF")
"""Suffixes, in lower case, of the files that a folder of images is taken to hold; HEIF needs a plugin besides."""

_ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_UNTURNS = TURNS | {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}


def swaps_sides(orientation: int) -> bool:
    """Whether an image with this EXIF orientation is as wide as its stored form is high."""
    return 5 <= orientation <= 8


@dataclass(frozen=True)
class DecodedImage:
    """A decoded image with facts about its file.

    Attributes:
        pixels: Array of uint8, `[h, w, 3]`, RGB.
        width: Width of the stored image after its EXIF orientation is applied, before resizing.
        height: Its height.
        format: Pillow's name of the file format; `None` for arrays and images made in memory.
        mode: Pillow's name of the stored colour mode.
        animated: Whether there are more frames than the first, which is the one used.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    format: str | None
    mode: str
    animated: bool


@dataclass(frozen=True)
class ImagePolicy:
    """How a file becomes pixels: everything that matters except the size.

    Alpha is dropped, as in Keras, TensorFlow and torchvision. 16-bit samples are reduced to their high byte, animations
    to their first frame.

    Args:
        interpolation: `"nearest"`, `"bilinear"`, `"bicubic"`, `"lanczos"`, `"box"` or `"hamming"`, all but the first
            antialiased when shrinking. Defaults to `"bilinear"`.
        resize: `"stretch"` ignores the aspect ratio, `"crop"` takes the largest centred part with the right aspect
            ratio, `"pad"` keeps everything and fills with black. Defaults to `"stretch"`.
        exif: `"apply"` rotates the image by its EXIF orientation, `"ignore"` does not.
            Defaults to `"apply"`.
        draft: Let the JPEG decoder shrink by 2, 4 or 8 while it decodes: faster on large images, with pixels a few of
            255 off. Defaults to `False`.
        max_pixels: Most pixels (width × height) that an image may have; larger ones are refused unread. Defaults to
            `None`: as many as fit into this machine's memory, 50 to 120 million.
        decoder: `"gpu"` lets a `Predictor` decode and resize JPEG files in batches on an NVIDIA GPU, within a stated
            distance of Pillow's pixels; single images, and whatever a GPU decodes differently, stay with Pillow.
            Defaults to `"pillow"`.
        crop_fraction: Crop like torchvision and timm, `0 < crop_fraction <= 1`: resize the shorter side to the model's
            divided by this (256 pixels for 224 and 0.875) and take the centre; with `resize="stretch"`, resize both
            sides. Defaults to `None`, the largest centred part.

    Raises:
        ValueError: If an argument is none of its choices.

    Example:

    >>> from kerasxfer_serving import ImagePolicy
    >>> ImagePolicy(resize="pad").to_dict()
    {'interpolation': 'bilinear', 'resize': 'pad', 'exif': 'apply', 'draft': False}
    """

    interpolation: Interpolation = "bilinear"
    resize: Resize = "stretch"
    exif: Exif = "apply"
    draft: bool = False
    max_pixels: int | None = None
    decoder: Decoder = "pillow"
    crop_fraction: float | None = None

    def __post_init__(self) -> None:
        choices = {"interpolation": Interpolation, "resize": Resize, "exif": Exif, "decoder": Decoder}
        for name, type_ in choices.items():
            if getattr(self, name) not in get_args(type_):
                raise UsageError(f"`{name}` must be one of {get_args(type_)}. Received: {name}={getattr(self, name)!r}")
        if self.decoder == "gpu" and self.draft:
            raise UsageError("`draft` is for Pillow's JPEG decoder. Received: draft=True, decoder='gpu'")
        if not isinstance(self.draft, bool):
            raise UsageError(f"`draft` must be `True` or `False`. Received: draft={self.draft!r}")
        if self.max_pixels is not None and (not isinstance(self.max_pixels, int) or self.max_pixels < 1):
            raise UsageError(f"`max_pixels` must be at least 1, or `None`. Received: max_pixels={self.max_pixels!r}")
        self._check_crop_fraction()

    def _check_crop_fraction(self) -> None:
        fraction = self.crop_fraction
        if fraction is None:
            return
        if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 < fraction <= 1:
            raise UsageError(f"`crop_fraction` must be in 0 … 1, or `None`. Received: crop_fraction={fraction!r}")
        if self.resize == "pad":
            raise UsageError("`crop_fraction` needs `resize='crop'` or `'stretch'`. Received: resize='pad'")

    def load(self, source: Source, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """Load the pixels `[h, w, 3]` of one image; see `load_image`."""
        return self.decode(source, size).pixels

    def decode(self, source: Source, size: tuple[int, int] | None = None) -> DecodedImage:
        """Load the pixels of one image with facts about its file; arguments and errors as in `load_image`."""
        if size is not None and (len(size) != 2 or min(size) < 1):
            raise UsageError(f"`size` must be (height, width), both at least 1, or `None`. Received: size={size!r}")
        with open_image(source, self.max_pixels) as image:
            return _decode(image, size, self)

    def image(self, source: Source) -> Image.Image:
        """Load one image at its own size, upright and in RGB, as Pillow's image: the pixels of `load`, uncopied."""
        with open_image(source, self.max_pixels) as image:
            return _rgb(image, None, self)[0]

    def to_dict(self) -> dict[str, Any]:
        """The policy as plain values for JSON, without machine-dependent values and the default decoder."""
        values = {name: value for name, value in asdict(self).items() if value is not None}
        if self.decoder == "pillow":
            del values["decoder"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ImagePolicy":
        """Make the policy that `to_dict` described.

        Raises:
            ValueError: If a key is unknown: a policy of a later version must not be followed only in part.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise UsageError(f"An image policy has the keys {sorted(known)}. Received: {unknown}")
        return cls(**values)


def load_image(
    source: Source,
    size: tuple[int, int] | None = None,
    *,
    interpolation: Interpolation = "bilinear",
    resize: Resize = "stretch",
    exif: Exif = "apply",
    draft: bool = False,
    max_pixels: int | None = None,
    crop_fraction: float | None = None,
) -> NDArray[np.uint8]:
    """Read one image as RGB pixels.

    Args:
        source: Path, encoded bytes, binary file, `PIL.Image.Image`, or uint8 array `[h, w]` or `[h, w, 1 | 3 | 4]`.
        size: `(height, width)` of the result. Defaults to `None`, the image's own size.
        interpolation: See `ImagePolicy`.
        resize: See `ImagePolicy`.
        exif: See `ImagePolicy`.
        draft: See `ImagePolicy`.
        max_pixels: See `ImagePolicy`.
        crop_fraction: See `ImagePolicy`.

    Returns:
        A uint8 array `[h, w, 3]`, writable.

    Raises:
        ImageError: If the image cannot be read; `.code` says why
            (`kerasxfer_serving.image_io.decoding.ERROR_CODES`).
        ValueError: If an argument is none of its choices.

    Example:

    >>> import numpy as np
    >>> from kerasxfer_serving.images import load_image
    >>> load_image(np.full((4, 8), 7, "uint8"), size=(2, 2)).shape
    (2, 2, 3)
    """
    policy = ImagePolicy(interpolation, resize, exif, draft, max_pixels, crop_fraction=crop_fraction)
    return policy.load(source, size)


def _decode(image: Image.Image, size: tuple[int, int] | None, policy: ImagePolicy) -> DecodedImage:
    mode = image.mode
    rgb, (width, height) = _rgb(image, size, policy)
    return DecodedImage(
        pixels=np.array(rgb),
        width=width,
        height=height,
        format=image.format,
        mode=mode,
        animated=_is_animated(image),
    )


def _rgb(image: Image.Image, size: tuple[int, int] | None, policy: ImagePolicy) -> tuple[Image.Image, tuple[int, int]]:
    """Decode; return the image in RGB, upright and resized, and its width and height before that.

    Shrink first and turn after: turning a camera's twelve million pixels would cost a third of decoding them.
    """
    width, height = image.size
    drafted = policy.draft and size is not None and image.format in ("JPEG", "MPO")
    if drafted and size is not None:
        turned = policy.exif == "apply" and swaps_sides(exif_orientation(image))
        draft(image, size[::-1] if turned else size, policy.resize, policy.crop_fraction)
    loaded, orientation = _load(image, policy)
    if not drafted:
        width, height = loaded.size
    swap = swaps_sides(orientation)
    pixels = _to_rgb(loaded)
    if size is not None:
        to = size[::-1] if swap else size
        pixels = shrink(pixels, to, policy.resize, policy.interpolation, policy.crop_fraction)
    if orientation in TURNS:
        pixels = pixels.transpose(TURNS[orientation])
    if size is not None and pixels.size != (size[1], size[0]):
        pixels = pad(pixels, size)
    upright = (height, width) if swap else (width, height)
    return (pixels if pixels.mode == "RGB" else pixels.convert("RGB")), upright


def _load(image: Image.Image, policy: ImagePolicy) -> tuple[Image.Image, int]:
    """Decode; return the image and the EXIF orientation that is still to be applied (1: none)."""
    if image.format == "TIFF":  # Pillow turns these while loading
        orientation = getattr(image, "tag_v2", {}).get(_ORIENTATION, 1)
        image.load()
        undo = _UNTURNS.get(orientation) if policy.exif == "ignore" else None
        return (image if undo is None else image.transpose(undo)), 1
    image.load()
    return image, exif_orientation(image) if policy.exif == "apply" else 1


def exif_orientation(image: Image.Image) -> int:
    """What EXIF says about which way up an image is, 1 to 8; 1, upright, where it says nothing that can be read."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # malformed EXIF is no reason to refuse an image that can be seen
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    """RGB, or L where all three channels would be the same: a third of the work for what follows."""
    match image.mode:
        case "RGB" | "L":
            return image
        case "1" | "La" | "LA":
            return image.convert("L") if image.mode != "La" else image.convert("LA").convert("L")
        case "I" | "I;16" | "I;16L" | "I;16B" | "I;16N":
            return Image.fromarray((np.asarray(image).clip(0, 0xFFFF) >> 8).astype(np.uint8))
        case "F":
            raise ImageError("unsupported", "floating-point samples have no agreed range; store 8 or 16 bits instead")
        case "RGBa":  # alpha is multiplied in, and has to be taken out first
            return image.convert("RGBA").convert("RGB")
        case _:
            return image.convert("RGB")


def _is_animated(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # there is a second frame, and it is bad: the first one was read
        return True
