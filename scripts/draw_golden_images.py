"""Draws the golden images of `kerasxfer_serving.golden`, one file per path through the decoder.

Run once; the files are committed, for their bytes are the point: an encoder of another version writes others.
"""

from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = Path(__file__).parents[1] / "serving" / "kerasxfer_serving" / "image_io" / "golden_images"
ORIENTATION = 0x0112


def image(height: int = 48, width: int = 72) -> Image.Image:
    """Gradients, an edge and noise: what colour conversion, chroma upsampling and resizing differ in."""
    y, x = np.mgrid[:height, :width]
    rgb = np.stack([x * 255 / width, y * 255 / height, (np.hypot(x - 30, y - 20) < 14) * 200], axis=-1)
    noise = np.random.default_rng(1).normal(0, 12, rgb.shape)
    return Image.fromarray((rgb + noise).clip(0, 255).astype("uint8"))


def main() -> None:
    rgb = image()
    turned = Image.Exif()
    turned[ORIENTATION] = 6
    alpha = rgb.copy()
    alpha.putalpha(rgb.convert("L"))
    deep = Image.fromarray(np.asarray(rgb.convert("L")).astype("uint16") * 257)
    FOLDER.mkdir(exist_ok=True)
    rgb.save(FOLDER / "rgb.png", optimize=True)
    rgb.save(FOLDER / "turned.jpg", quality=85, subsampling="4:2:0", exif=turned)
    rgb.save(FOLDER / "progressive.jpg", quality=85, subsampling="4:4:4", progressive=True)
    rgb.convert("L").save(FOLDER / "grey.jpg", quality=85)
    rgb.convert("CMYK").save(FOLDER / "cmyk.jpg", quality=85)
    rgb.quantize(16).save(FOLDER / "palette.png", transparency=3, optimize=True)
    alpha.save(FOLDER / "alpha.png", optimize=True)
    deep.save(FOLDER / "grey16.png", optimize=True)


if __name__ == "__main__":
    main()
