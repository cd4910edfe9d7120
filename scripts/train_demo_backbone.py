"""Train the weights inside the package: `python scripts/train_demo_backbone.py`, about six minutes on two cores.

Draws pictures of the source classes (`kerasxfer/demo/shapes.py`; the demo's own classes are not among them), trains
DemoVGG on them and writes `kerasxfer/demo/demo_vgg.weights.h5`. Seeded: the pictures are the same every time; the
weights agree as far as the backend computes the same on another machine.
"""

import argparse
import hashlib
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kerasxfer.demo.pictures import SOURCE_CLASSES, draw_picture

SIZE = 48


def main() -> None:
    """Draw, train, save, and say how well the source classes are told apart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-class", type=int, default=600, help="pictures drawn of each source class")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="defaults to the file inside the package")
    arguments = parser.parse_args()

    train = draw(arguments.per_class, arguments.seed)
    held_out = draw(50, arguments.seed + 1)

    import keras

    from kerasxfer.demo.backbone import WEIGHTS, DemoVGG

    keras.utils.set_random_seed(arguments.seed)
    backbone = DemoVGG(weights=None, input_shape=(SIZE, SIZE, 3), pooling="avg")
    model = keras.Sequential(
        [
            keras.layers.Rescaling(1 / 127.5, offset=-1),
            backbone,
            keras.layers.Dropout(0.2),
            keras.layers.Dense(len(SOURCE_CLASSES), activation="softmax"),
        ]
    )
    batch = 32
    steps = arguments.epochs * -(-len(train[0]) // batch)
    rate = keras.optimizers.schedules.CosineDecay(1e-4, steps, warmup_target=2e-3, warmup_steps=steps // 10)
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    model.fit(*train, batch_size=batch, epochs=arguments.epochs, validation_data=held_out, verbose=2)

    out = arguments.out or WEIGHTS
    backbone.save_weights(out)
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB, sha256 {digest[:16]}")


def draw(per_class: int, seed: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Draw `per_class` pictures of each source class, on all cores."""
    with ProcessPoolExecutor() as pool:
        folders = list(pool.map(_draw_class, SOURCE_CLASSES, repeat(per_class), repeat(seed)))
    return np.concatenate(folders), np.repeat(np.arange(len(SOURCE_CLASSES)), per_class)


def _draw_class(name: str, per_class: int, seed: int) -> npt.NDArray[np.uint8]:
    rng = np.random.default_rng([seed, *name.encode()])
    return np.stack([draw_picture(name, SIZE, rng) for _ in range(per_class)])


if __name__ == "__main__":
    main()
