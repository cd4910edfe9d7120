"""RandAugment by Pillow, image by image, beside `keras.layers.RandAugment` on the same batch.

Both take turns. The layer runs eagerly, as it does in a data set outside of the model's graph.

    KERAS_BACKEND=jax python benchmarks/rand_augment.py
"""

import argparse
import statistics
import time
from collections.abc import Callable

import keras
import numpy as np

from kerasxfer.augmentation import RandAugment


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--images", type=int, default=32, help="in the batch")
    arguments.add_argument("--size", type=int, default=150, help="side of an image in pixels")
    arguments.add_argument("--repeats", type=int, default=5)
    options = arguments.parse_args()

    shape = (options.images, options.size, options.size, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype="uint8")
    layer, ours = keras.layers.RandAugment(seed=1), RandAugment()
    ways: dict[str, Callable[[], object]] = {
        "keras.layers.RandAugment": lambda: keras.ops.convert_to_numpy(layer(images.astype("float32"), training=True)),
        "kerasxfer.augmentation.RandAugment": lambda: ours.augment(images, seed=1),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.repeats + 1):
        for name, way in ways.items():
            times[name].append(seconds(way))
    times = {name: values[1:] for name, values in times.items()}  # the first one warms up
    theirs, own = (statistics.median(values) for values in times.values())
    print(f"{keras.backend.backend()}, Keras {keras.version()}, {options.images} images of {options.size} pixels:")
    for name, values in times.items():
        print(f"  {name}: median {statistics.median(values):.3f} s ({min(values):.3f}–{max(values):.3f})")
    print(f"  ratio {theirs / own:.1f}")


if __name__ == "__main__":
    main()
