"""What decoding and resizing cost: `kerasxfer_serving.images` and its policies, bare Pillow and simplejpeg, in one run.

    python benchmarks/decode.py [IMAGES] [--size 150] [-o result.json]

Each way goes through the same files in turn, round after round, in one thread; the figure is the median of the
rounds' rates per second of processor time, and the ratio the median of the rounds' ratios. Besides the folder's images,
some are drawn: large ones, turned ones. The distance is the mean difference from bare Pillow's pixels, of 255.
simplejpeg (libjpeg-turbo without Pillow's file layer) takes part where it is installed.
"""

import argparse
import json
import statistics
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from kerasxfer_serving.benchmarking.data import draw_images
from kerasxfer_serving.diagnostics.env import environment
from kerasxfer_serving.images import IMAGE_SUFFIXES, ImagePolicy
from PIL import Image, ImageOps

ORIENTATION = 0x0112
BILINEAR = Image.Resampling.BILINEAR


def bare(path, size):
    with Image.open(path) as image:
        ImageOps.exif_transpose(image, in_place=True)  # else it would copy an image that needs no turning
        return np.asarray(image.convert("RGB").resize(size, BILINEAR))


def decoded(path, size):
    """Without resizing."""
    with Image.open(path) as image:
        image.load()


def reduced(path, size):
    """By Pillow's whole-numbered steps first."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize(size, BILINEAR, reducing_gap=1.0))


def simplejpeg(path, size):
    from simplejpeg import decode_jpeg

    return np.asarray(Image.fromarray(decode_jpeg(path.read_bytes())).resize(size, BILINEAR))


def simplejpeg_scaled(path, size):
    """By the smallest eighth that is not below the size."""
    from simplejpeg import decode_jpeg

    pixels = decode_jpeg(path.read_bytes(), min_height=size[1], min_width=size[0], min_factor=1)
    return np.asarray(Image.fromarray(pixels).resize(size, BILINEAR))


WAYS = {
    "bare Pillow": bare,
    "ours": ImagePolicy().load,
    "ours, draft": ImagePolicy(draft=True).load,
    "ours, box": ImagePolicy(interpolation="box").load,
    "ours, draft, box": ImagePolicy(interpolation="box", draft=True).load,
    "Pillow, reducing_gap=1": reduced,
    "Pillow, decoded alone": decoded,
} | ({"simplejpeg": simplejpeg, "simplejpeg, scaled": simplejpeg_scaled} if find_spec("simplejpeg") else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="?", type=Path, help="folder; without it, only drawn images")
    parser.add_argument("--size", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    size = (arguments.size, arguments.size)
    with tempfile.TemporaryDirectory() as temporary:
        rows = [
            row
            for name, paths in sets(arguments.images, Path(temporary)).items()
            for row in compare(name, paths, size, arguments.rounds)
        ]
    for row in rows:
        distance = "" if row["distance"] is None else f"{row['distance']:.2f} of 255 away"
        print(f"{row['images']:<18} {row['way']:<22} {row['rate']:>7,.0f}/s {row['ratio']:>6.2f}× {distance}")
    if arguments.output:
        result = {"size": size, "rows": rows, "environment": environment()}
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


def sets(folder, temporary):
    """Files by kind."""
    found = {}
    if folder:
        images = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        found[folder.name] = images[::4][:200]
    for name, image_size, count in (("drawn 500×375", (375, 500), 64), ("drawn 2000×1500", (1500, 2000), 8)):
        (temporary / name).mkdir()
        found[name] = draw_images(temporary / name, image_size, count)
    turned = temporary / "turned"
    turned.mkdir()
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    for path in found["drawn 2000×1500"]:
        with Image.open(path) as image:
            image.save(turned / path.name, quality=90, exif=exif)
    return found | {"turned 2000×1500": sorted(turned.iterdir())}


def compare(name, paths, size, rounds):
    rates = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, measured in rates.items():
            started = time.thread_time()
            for path in paths:
                WAYS[way](path, size)
            measured.append(len(paths) / (time.thread_time() - started))
    expected = pixels("bare Pillow", paths, size)
    for way, measured in rates.items():
        ratios = [rate / base for rate, base in zip(measured, rates["bare Pillow"], strict=True)]
        turns = way.startswith("ours") or not name.startswith("turned")
        compared = turns and way not in ("bare Pillow", "Pillow, decoded alone")
        yield {
            "images": name,
            "way": way,
            "rate": statistics.median(measured),
            "ratio": statistics.median(ratios),
            "distance": float(np.abs(pixels(way, paths, size) - expected).mean()) if compared else None,
        }


def pixels(way, paths, size):
    return np.stack([WAYS[way](path, size) for path in paths]).astype(np.int16)


if __name__ == "__main__":
    main()
