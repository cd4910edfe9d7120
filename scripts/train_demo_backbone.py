"""Train the weights inside the package: `python scripts/train_demo_backbone.py`, about six minutes on two cores.

Draws images of the source classes (`kerasxfer/demo/shapes.py`; the demo's own classes are not among them), trains
DemoVGG on them and writes `kerasxfer/backbones/demo_vgg.weights.h5`. Seeded: the images are the same every time; the
weights agree as far as the backend computes the same on another machine.
"""

import argparse
import hashlib
import math
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from kerasxfer.backbones.demo_vgg import WEIGHTS, DemoVGG, preprocess_input
from kerasxfer.demo.images import HARD, SOURCE_CLASSES, draw_image

SIZE = 48


def main() -> None:
    """Draw, train, save, and say how well the source classes are told apart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-class", type=int, default=600, help="images drawn of each source class")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="defaults to the file inside the package")
    arguments = parser.parse_args()

    keras.utils.set_random_seed(arguments.seed)
    train = Turned(*draw(arguments.per_class, arguments.seed), seed=arguments.seed)
    images, labels = draw(50, arguments.seed + 1)

    backbone = DemoVGG(weights=None, pooling="avg")
    classify = keras.layers.Dense(len(SOURCE_CLASSES), activation="softmax")
    model = keras.Sequential([backbone, classify])
    steps = arguments.epochs * len(train)
    rate = keras.optimizers.schedules.CosineDecay(1e-4, steps, warmup_target=2e-3, warmup_steps=steps // 10)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=1e-3)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(train, epochs=arguments.epochs, validation_data=(preprocess_input(images), labels), verbose=2)

    backbone.save_weights(arguments.out)
    content = arguments.out.read_bytes()
    print(f"{arguments.out}: {len(content) / 1e6:.2f} MB, sha256 {hashlib.sha256(content).hexdigest()[:16]}")


class Turned(keras.utils.PyDataset):
    """Batches in which each image is turned, mirrored, recoloured and inverted at random: many out of one drawing."""

    def __init__(self, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], seed: int, batch: int = 32):
        super().__init__()
        self.images, self.labels, self.batch = images, labels, batch
        self.rng = np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self) -> int:
        return math.ceil(len(self.labels) / self.batch)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        rows = self.order[index * self.batch : (index + 1) * self.batch]
        return preprocess_input(np.stack([self._turn(self.images[row]) for row in rows])), self.labels[rows]

    def on_epoch_end(self) -> None:
        """Shuffle for the next epoch."""
        self.order = self.rng.permutation(len(self.labels))

    def _turn(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        image = np.rot90(image, self.rng.integers(4))
        image = image[:: self.rng.choice([-1, 1]), :, self.rng.permutation(3)]
        return 255 - image if self.rng.random() < 0.5 else image


def draw(per_class: int, seed: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Draw `per_class` images of each source class, on all cores."""
    with ProcessPoolExecutor() as pool:
        folders = list(pool.map(draw_class, SOURCE_CLASSES, repeat(per_class), repeat(seed)))
    return np.concatenate(folders), np.repeat(np.arange(len(SOURCE_CLASSES)), per_class)


def draw_class(name: str, per_class: int, seed: int) -> npt.NDArray[np.uint8]:
    """Draw images of one class."""
    rng = np.random.default_rng([seed, *name.encode()])
    return np.stack([draw_image(name, SIZE, rng, HARD) for _ in range(per_class)])


if __name__ == "__main__":
    main()
