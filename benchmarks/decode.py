"""`kerasxfer_serving.images` against bare Pillow doing the same, side by side in one run.

    python benchmarks/decode.py [IMAGES] [--size 150] [--threads 2] [-o result.json]

Each way goes through the same files in turn, round after round; the figure is the median of the rounds' rates, and
the ratio the median of the rounds' ratios. Besides the folder's images, some are drawn: large ones, turned ones.
"""

import argparse
import json
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from kerasxfer_serving.benchmarking.data import draw_images
from kerasxfer_serving.diagnostics.env import environment
from kerasxfer_serving.images import IMAGE_SUFFIXES, ImagePolicy
from PIL import Image, ImageOps

ORIENTATION = 0x0112


def bare(path, size):
    with Image.open(path) as image:
        ImageOps.exif_transpose(image, in_place=True)  # else it would copy an image that needs no turning
        return np.asarray(image.convert("RGB").resize(size, Image.Resampling.BILINEAR))


def ours(path, size):
    return ImagePolicy().load(path, size)


def drafted(path, size):
    return ImagePolicy(draft=True).load(path, size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="?", type=Path, help="folder; without it, only drawn images")
    parser.add_argument("--size", type=int, default=150)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    size = (arguments.size, arguments.size)
    rows = []
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(arguments.threads) as pool:
        for name, paths in sets(arguments.images, Path(temporary)).items():
            rows += compare(name, paths, size, pool, arguments.rounds)
    for row in rows:
        print(f"{row['images']:<22} {row['way']:<8} {row['rate']:>9,.1f} images/s {row['ratio']:>7.3f} of bare Pillow")
    if arguments.output:
        result = {"size": size, "threads": arguments.threads, "rows": rows, "environment": environment()}
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


def sets(folder, temporary):
    """Files by kind."""
    found = {}
    if folder:
        found[folder.name] = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)[::4][
            :200
        ]
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


def compare(name, paths, size, pool, rounds):
    rates = {way: [] for way in (bare, ours, drafted)}
    for _ in range(rounds):
        for way, measured in rates.items():
            started = time.perf_counter()
            for _ in pool.map(way, paths, [size] * len(paths)):
                pass
            measured.append(len(paths) / (time.perf_counter() - started))
    for way, measured in rates.items():
        ratios = [rate / base for rate, base in zip(measured, rates[bare], strict=True)]
        yield {
            "images": name,
            "way": way.__name__,
            "rate": statistics.median(measured),
            "ratio": statistics.median(ratios),
        }


if __name__ == "__main__":
    main()
