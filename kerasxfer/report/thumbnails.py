"""Pictures for the page and for contact sheets."""

import base64
import io
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from kerasxfer_serving.errors import ImageError
from kerasxfer_serving.images import IMAGE_SUFFIXES, ImagePolicy, load_image
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from kerasxfer.layers import Augmentation

Pixels = NDArray[Any]


def data_uri(pixels: Pixels, side: int = 224) -> str:
    """A picture as a JPEG of at most `side` pixels a side, to be written into a page."""
    image = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def thumbnail(path: Path, policy: ImagePolicy) -> str:
    """A picture file, whole and upright, as a data URI."""
    return data_uri(load_image(path, None, exif=policy.exif))


def sample_pictures(root: Path, count: int, seed: int = 0) -> list[Path]:
    """Pick picture files at random from a folder and its subfolders, a folder as often as any other.

    Args:
        root: the folder, or one picture file.
        count: how many, at most.
        seed: of the choice. Defaults to `0`.

    Returns:
        Paths, sorted.
    """
    if root.is_file():
        return [root]
    folders: dict[Path, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
            folders.setdefault(path.parent, []).append(path)
    chance = random.Random(seed)
    queues = [chance.sample(paths, len(paths)) for paths in folders.values()]
    turns = [queue[turn] for turn in range(count) for queue in queues if turn < len(queue)]
    return sorted(turns[:count])


def augmented(
    paths: Sequence[Path],
    augmentation: "Augmentation",
    size: tuple[int, int],
    policy: ImagePolicy,
    copies: int,
    seed: int,
) -> list[tuple[Path, list[Pixels]]]:
    """Each picture at the model's size, followed by copies that the augmentation made of it.

    Pictures that cannot be read are left out.
    """
    rows = []
    for number, path in enumerate(paths):
        try:
            picture = load_image(path, size, **policy.to_dict())
        except ImageError:
            continue
        many = np.repeat(picture[None], copies, axis=0)
        changed = augmentation.augment(many, seed, rows=number * copies + np.arange(copies))
        rows.append((path, [picture, *np.clip(np.rint(changed), 0, 255).astype(np.uint8)]))
    return rows


def contact_sheet(
    rows: Sequence[tuple[str, Sequence[Pixels]]], headings: Sequence[str], cell: int = 160
) -> Image.Image:
    """Draw rows of pictures with a caption over each row.

    Args:
        rows: caption and pictures of each row.
        headings: over the columns; a heading stands until the next one.
        cell: side of a picture's place, in pixels. Defaults to `160`.

    Returns:
        The sheet.
    """
    from matplotlib.font_manager import findfont  # a font that is there with matplotlib, and has most scripts' letters

    gap, line, margin = 8, 24, 20
    font = ImageFont.truetype(findfont("DejaVu Sans"), 13)
    bold = ImageFont.truetype(findfont("DejaVu Sans:bold"), 15)
    columns = max(len(pictures) for _, pictures in rows)
    width = 2 * margin + columns * (cell + gap) - gap
    sheet = Image.new("RGB", (width, 2 * margin + line + len(rows) * (cell + line + gap)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, heading in enumerate(headings):
        draw.text((margin + column * (cell + gap), margin), heading, "#1a1a1a", bold)
    for number, (caption, pictures) in enumerate(rows):
        top = margin + line + gap + number * (cell + line + gap)
        draw.text((margin, top), _shortened(caption, font, width - 2 * margin), "#595959", font)
        for column, pixels in enumerate(pictures):
            image = Image.fromarray(pixels)
            image.thumbnail((cell, cell), Image.Resampling.LANCZOS)
            sheet.paste(image, (margin + column * (cell + gap), top + line - 4))
    return sheet


def _shortened(text: str, font: Any, width: int) -> str:
    """Cut the beginning of a path that is too long: its end tells more."""
    while len(text) > 1 and font.getlength(text) > width:
        text = "…" + text[2:]
    return text
