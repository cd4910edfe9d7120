"""Seeded images of shapes: place, size, angle, colour, clutter and noise vary, only the shape tells the class."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from kerasxfer_serving.errors import UsageError
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from kerasxfer.demo.shapes import SOURCE_SHAPES, TASK_SHAPES, Patch, Points

SOURCE_CLASSES = tuple(SOURCE_SHAPES)
TASK_CLASSES = tuple(TASK_SHAPES)

_SHAPES = SOURCE_SHAPES | TASK_SHAPES
_OVERSAMPLING = 3


@dataclass(frozen=True)
class Style:
    """How hard the images are to read.

    Args:
        smallest: Least radius of a shape, as a share of the image's side. Defaults to `0.27`.
        contrast: Least mean difference between the colours of shape and ground. Defaults to `80`.
        outlined: Share of shapes that are line drawings. Defaults to `0.15`.
        noise: Largest standard deviation of the pixels' noise. Defaults to `10`.
    """

    smallest: float = 0.27
    contrast: float = 80
    outlined: float = 0.15
    noise: float = 10


EASY = Style()
HARD = Style(smallest=0.24, contrast=60, outlined=0.25, noise=16)
"""What `DemoVGG` was trained on: features that get through this are good for the rest."""


def draw_image(name: str, size: int, rng: np.random.Generator, style: Style = EASY) -> npt.NDArray[np.uint8]:
    """Draw one image of a shape.

    Args:
        name: One of `SOURCE_CLASSES` or `TASK_CLASSES`.
        size: Height and width in pixels.
        rng: Where every choice comes from: the same state draws the same image.
        style: How hard it is to read. Defaults to `EASY`.

    Returns:
        A uint8 array of shape `(size, size, 3)`.

    Example:
    >>> draw_image("fish", 64, np.random.default_rng(0)).shape
    (64, 64, 3)
    """
    if name not in _SHAPES:
        raise UsageError(f"`name` must be one of {', '.join(sorted(_SHAPES))}. Received: name={name!r}")
    side = size * _OVERSAMPLING
    ground, ink = _contrasting_colours(rng, style.contrast)
    image = _gradient(side, ground, rng)
    _clutter(image, rng, count=int(rng.integers(3, 9)))
    image.paste(_gradient(side, ink, rng), mask=_shape_mask(_SHAPES[name], side, rng, style))
    _clutter(image, rng, count=int(rng.integers(0, 3)))
    small = image.resize((size, size), Image.Resampling.BOX)
    return _weathered(small, rng, style.noise)


def draw_folder(
    root: str | Path,
    class_names: Iterable[str] = TASK_CLASSES,
    per_class: int = 100,
    *,
    size: int = 96,
    seed: int = 0,
) -> Path:
    """Draw a folder of images in a sub-folder per class.

    Args:
        root: Where the class folders are made.
        class_names: Shapes to draw, of `SOURCE_CLASSES` or `TASK_CLASSES`. Defaults to `TASK_CLASSES`.
        per_class: Number of images of each class. Defaults to `100`.
        size: Height and width in pixels. Defaults to `96`.
        seed: The same seed draws the same images. Defaults to `0`.

    Returns:
        `root` as a `Path`.
    """
    root = Path(root)
    for name in class_names:
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng([seed, *name.encode()])
        for number in range(per_class):
            Image.fromarray(draw_image(name, size, rng)).save(folder / f"{name}-{number:03}.png")
    return root


def _contrasting_colours(
    rng: np.random.Generator, contrast: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    while True:
        ground, ink = rng.uniform(15, 240, (2, 3))
        if np.abs(ground - ink).mean() > contrast:
            return ground, ink


def _gradient(side: int, colour: npt.NDArray[np.float64], rng: np.random.Generator) -> Image.Image:
    corners = np.clip(colour + rng.uniform(-25, 25, (2, 2, 3)), 0, 255).astype(np.uint8)
    return Image.fromarray(corners).resize((side, side), Image.Resampling.BILINEAR)


def _shape_mask(parts: tuple[Patch, ...], side: int, rng: np.random.Generator, style: Style) -> Image.Image:
    radius = side * rng.uniform(style.smallest, style.smallest + 0.18)
    angle, stretch = rng.uniform(0, 2 * np.pi), rng.uniform(0.85, 1.18)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    centre = side / 2 + rng.uniform(-1, 1, 2) * (side / 2 - radius)
    mirror = rng.choice([-1, 1])
    outline = rng.random() < style.outlined
    placement: Points = np.diag([stretch * mirror, 1 / stretch]) @ turn * radius

    mask = Image.new("L", (side, side))
    for part in parts:
        _draw_part(ImageDraw.Draw(mask), part.points @ placement + centre, part, radius)
    return _hollow(mask, radius) if outline else mask


def _draw_part(canvas: ImageDraw.ImageDraw, points: Points, part: Patch, radius: float) -> None:
    flat = points.ravel().tolist()
    if part.width is None:
        canvas.polygon(flat, fill=255 * part.ink)
    else:
        canvas.line(flat, fill=255 * part.ink, width=round(part.width * radius), joint="curve")


def _hollow(mask: Image.Image, radius: float) -> Image.Image:
    """Keep the rim of a shape only: line drawings teach edges, not areas."""
    width = 2 * round(radius * 0.06) + 1
    return ImageChops.subtract(mask, mask.filter(ImageFilter.MinFilter(width)))


def _clutter(image: Image.Image, rng: np.random.Generator, count: int) -> None:
    canvas, side = ImageDraw.Draw(image), image.width
    for _ in range(count):
        colour = tuple(int(c) for c in rng.integers(0, 256, 3))
        x, y = rng.uniform(0, side, 2)
        reach = rng.uniform(0.03, 0.09) * side
        box = (x - reach, y - reach, x + reach, y + reach)
        match rng.integers(4):
            case 0:
                end = rng.normal((x, y), side * 0.25)
                canvas.line((x, y, *end), fill=colour, width=int(rng.integers(2, 7)))
            case 1:
                canvas.ellipse(box, fill=colour)
            case 2:
                start, stop = rng.uniform(0, 360, 2)
                canvas.arc(box, start, stop, fill=colour, width=int(rng.integers(2, 8)))
            case _:
                corners = rng.normal((x, y), reach / 2, (3, 2))
                canvas.polygon(corners.ravel().tolist(), fill=colour)


def _weathered(image: Image.Image, rng: np.random.Generator, noise: float) -> npt.NDArray[np.uint8]:
    blurred = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.9)))
    grain = rng.normal(0, rng.uniform(2, noise), (image.height, image.width, 3))
    return np.clip(np.asarray(blurred) + grain, 0, 255).astype(np.uint8)
