"""How fast `ImageFolder` decodes, against bare Pillow in a thread pool on the same files, measured in turns.

    python benchmarks/image_folder.py FOLDER [--image-size 150] [--images 1000] [--repeats 5]

The bare loop opens each file, converts to RGB and resizes, in as many threads as there are CPUs, and does nothing else.
"""

import argparse
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from kerasxfer_serving.runtime.resources import available_cores
from PIL import Image

import kerasxfer


def bare_pillow(paths: list[Path], size: tuple[int, int], pool: ThreadPoolExecutor) -> None:
    def decode(path: Path) -> np.ndarray:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB").resize((size[1], size[0]), Image.Resampling.BILINEAR))

    for _ in pool.map(decode, paths):
        pass


def seconds(action) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--image-size", type=int, default=150)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()

    size = (arguments.image_size, arguments.image_size)
    dataset = kerasxfer.ImageFolder(arguments.folder, size, seed=0)
    count = min(arguments.images, len(dataset.paths)) // dataset.batch_size * dataset.batch_size
    batches = range(count // dataset.batch_size)
    paths = [dataset.root / dataset.paths[row] for row in dataset.order(0)[:count]]
    rates: dict[str, list[float]] = {"bare Pillow": [], "ImageFolder": []}
    with ThreadPoolExecutor(available_cores()) as pool:
        bare_pillow(paths, size, pool)  # the files are in the page cache from here on
        for _ in range(arguments.repeats):
            rates["bare Pillow"].append(count / seconds(lambda: bare_pillow(paths, size, pool)))
            rates["ImageFolder"].append(count / seconds(lambda: [dataset[index] for index in batches]))

    load = os.getloadavg()[0]
    print(f"{count} images at {size[0]}×{size[1]}, {available_cores()} CPUs, load {load:.1f}, median of the repeats:")
    for name, values in rates.items():
        print(f"  {name:<12} {statistics.median(values):7.1f} images/s  ({min(values):.1f} … {max(values):.1f})")
    ratios = [ours / bare for bare, ours in zip(*rates.values(), strict=True)]
    print(f"  ratio        {statistics.median(ratios):7.2f}             ({min(ratios):.2f} … {max(ratios):.2f})")


if __name__ == "__main__":
    main()
