"""Images for the page."""

import base64
import io
from pathlib import Path
from typing import Any

from kerasxfer_serving.images import ImagePolicy, load_image
from numpy.typing import NDArray
from PIL import Image


def data_uri(pixels: NDArray[Any], side: int = 224) -> str:
    """An image as a JPEG of at most `side` pixels a side, to be written into a page."""
    image = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def thumbnail(path: Path, policy: ImagePolicy, side: int = 224) -> str:
    """An image file, whole and upright, as a data URI of at most `side` pixels a side."""
    return data_uri(load_image(path, None, exif=policy.exif), side)
