"""Images beside their augmented copies, to look at before a training."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from kerasxfer_serving.errors import ImageError
from kerasxfer_serving.images import ImagePolicy, load_image
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from kerasxfer.augmentation import BatchAugmentation, RandAugment
    from kerasxfer.layers import Augmentation

Pixels = NDArray[Any]


def sample_images(names: Sequence[str], count: int, seed: int = 0) -> list[str]:
    """Pick images at random, from each folder as many as from any other.

    Args:
        names: Paths of all images.
        count: How many, at most.
        seed: Seed of the choice. Defaults to `0`.

    Returns:
        Paths, sorted.
    """
    folders: dict[str, list[str]] = {}
    for name in names:
        folders.setdefault(name.rpartition("/")[0], []).append(name)
    chance = random.Random(seed)
    queues = [chance.sample(paths, len(paths)) for paths in folders.values()]
    turns = [queue[turn] for turn in range(count) for queue in queues if turn < len(queue)]
    return sorted(turns[:count])


def augmented_copies(
    root: Path,
    names: Sequence[str],
    augmentation: "Augmentation | RandAugment | None",
    size: tuple[int, int],
    policy: ImagePolicy,
    copies: int,
    seed: int,
    batch_augmentation: "BatchAugmentation | None" = None,
) -> list[tuple[str, list[Pixels]]]:
    """Each image at the model's size, followed by copies that the augmentation made of it.

    Images that cannot be read are left out.

    Args:
        root: Folder that `names` are relative to.
        names: Paths of the images.
        augmentation: What changes each copy by itself, or `None`.
        size: `(height, width)` in pixels.
        policy: How a file becomes pixels.
        copies: Number of copies of each image.
        seed: Seed of the augmentation.
        batch_augmentation: What changes them together: the first copies of all images are a batch, the second ones
            are another. Defaults to `None`.

    Returns:
        Name and uint8 images `[height, width, 3]` of each file.
    """
    read, originals, changed = [], [], []
    for number, name in enumerate(names):
        try:
            image = load_image(root / name, size, **policy.to_dict())
        except ImageError:
            continue
        many: Pixels = np.repeat(image[None], copies, axis=0)
        if augmentation is not None:
            many = augmentation.augment(many, seed, rows=number * copies + np.arange(copies))
        read.append(name)
        originals.append(image)
        changed.append(many)
    if batch_augmentation is not None and read:
        targets = np.eye(len(read), dtype="float32")
        batches = [
            batch_augmentation.augment(np.stack(batch), targets, (seed, number))[0]
            for number, batch in enumerate(zip(*changed, strict=True))
        ]
        changed = list(np.stack(batches, axis=1))
    return [
        (name, [image, *np.clip(np.rint(many), 0, 255).astype(np.uint8)])
        for name, image, many in zip(read, originals, changed, strict=True)
    ]


def preview_sheet(
    rows: Sequence[tuple[str, Sequence[Pixels]]], headings: Sequence[str], cell: int = 160
) -> Image.Image:
    """Draw rows of images with a caption over each row.

    Args:
        rows: Caption and images of each row.
        headings: Texts over the columns; a heading stands until the next one.
        cell: Side of an image's place, in pixels. Defaults to `160`.

    Returns:
        The sheet.
    """
    from matplotlib.font_manager import findfont  # a font that is there with matplotlib, and has most scripts' letters

    gap, line, margin = 8, 24, 20
    font = ImageFont.truetype(findfont("DejaVu Sans"), 13)
    bold = ImageFont.truetype(findfont("DejaVu Sans:bold"), 15)
    columns = max(len(images) for _, images in rows)
    width = 2 * margin + columns * (cell + gap) - gap
    sheet = Image.new("RGB", (width, 2 * margin + line + len(rows) * (cell + line + gap)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, heading in enumerate(headings):
        draw.text((margin + column * (cell + gap), margin), heading, "#1a1a1a", bold)
    for number, (caption, images) in enumerate(rows):
        top = margin + line + gap + number * (cell + line + gap)
        draw.text((margin, top), _shortened(caption, font, width - 2 * margin), "#595959", font)
        for column, pixels in enumerate(images):
            image = Image.fromarray(pixels)
            image.thumbnail((cell, cell), Image.Resampling.LANCZOS)
            sheet.paste(image, (margin + column * (cell + gap), top + line - 4))
    return sheet


def _shortened(text: str, font: Any, width: int) -> str:
    """Cut the beginning of a path that is too long: its end tells more."""
    while len(text) > 1 and font.getlength(text) > width:
        text = "…" + text[2:]
    return text
