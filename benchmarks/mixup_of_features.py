"""Whether MixUp on cached features (manifold mixup at the boundary) makes a better head.

Trains the head of MobileNet on pooled features, with pairs of them mixed by Beta(alpha, alpha) or not, several times,
and compares accuracy and log loss on the validation images.

    python benchmarks/mixup_of_features.py IMAGES --weights FILE --out benchmarks/results/mixup_of_features.md

`IMAGES` holds `train` and `validation` with class folders.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import keras
import numpy as np

import kerasxfer

ALPHAS = (0.0, 0.2, 0.4, 1.0)


class Mixed(keras.utils.PyDataset):
    """Features in batches, mixed in pairs."""

    def __init__(self, x: np.ndarray, y: np.ndarray, alpha: float, seed: int) -> None:
        super().__init__()
        self.x, self.y, self.alpha = x, y, alpha
        self.draws = np.random.default_rng(seed)
        self.order = self.draws.permutation(len(x))

    def __len__(self) -> int:
        return -(-len(self.x) // 32)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self.order[32 * index : 32 * (index + 1)]
        if not self.alpha:
            return self.x[rows], self.y[rows]
        others = self.draws.permutation(rows)
        share = self.draws.beta(self.alpha, self.alpha, (len(rows), 1)).astype("float32")
        return tuple(share * values[rows] + (1 - share) * values[others] for values in (self.x, self.y))

    def on_epoch_end(self) -> None:
        self.order = self.draws.permutation(len(self.x))


def trained(train: tuple, validation: tuple, alpha: float, seed: int, epochs: int) -> tuple[float, float]:
    """Accuracy and log loss of a head after the last epoch."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [keras.Input(train[0].shape[1:]), keras.layers.Dropout(0.2), keras.layers.Dense(train[1].shape[1], "softmax")]
    )
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    model.fit(Mixed(*train, alpha, seed), epochs=epochs, shuffle=False, verbose=0)
    loss, accuracy = model.evaluate(*validation, verbose=0)
    return accuracy, loss


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("images", type=Path)
    arguments.add_argument("--weights", default="imagenet")
    arguments.add_argument("--size", type=int, default=128, help="side of an image in pixels")
    arguments.add_argument("--seeds", type=int, default=5)
    arguments.add_argument("--epochs", type=int, default=30)
    arguments.add_argument("--cache", type=Path, help="folder of the features; a temporary one by default")
    arguments.add_argument("--out", type=Path)
    options = arguments.parse_args()

    size = (options.size, options.size)
    with tempfile.TemporaryDirectory() as temporary:
        cache = kerasxfer.BottleneckCache(options.cache or temporary, pooled=True, verbose=0)
        arrays = []
        for part in ("train", "validation"):
            data = kerasxfer.ImageFolder(options.images / part, size, label_mode="categorical", shuffle=False)
            model = kerasxfer.image_classifier(
                "MobileNet", data.class_names, size, weights=options.weights, backbone_kwargs={"alpha": 0.75}
            )
            prefix = keras.Model(model.inputs, model.layers[-1].input)
            arrays.append((cache.features(prefix, data).array(), data.targets(np.arange(len(data.paths)))))
    (x, y), validation = arrays
    lines = ["| alpha | accuracy | log loss |", "| --- | --- | --- |"]
    for alpha in ALPHAS:
        results = []
        for seed in range(options.seeds):
            rows = np.random.default_rng(seed).permutation(len(x))
            results.append(trained((x[rows], y[rows]), validation, alpha, seed, options.epochs))
        accuracy, loss = map(shown, zip(*results, strict=True))
        lines.append(f"| {alpha or 'none'} | {accuracy} | {loss} |")
        print(lines[-1], flush=True)
    if options.out:
        options.out.write_text(page(options, "\n".join(lines)), encoding="utf-8")


def shown(values: tuple[float, ...]) -> str:
    """Mean and standard deviation."""
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}"


def page(options: argparse.Namespace, table: str) -> str:
    """The result as a page of Markdown."""
    return f"""# MixUp on cached features

2,000 training and 800 validation photographs of cats and dogs; pooled features of MobileNet 0.75 at {options.size}
pixels with ImageNet weights, a softmax layer with dropout 0.2, Adam at 1e-3, {options.epochs} epochs. Mean ± standard
deviation over {options.seeds} seeds of initial weights, order and mixing. Keras {keras.version()},
{keras.backend.backend()}.

{table}

Made by `python benchmarks/mixup_of_features.py IMAGES --weights FILE`.
"""


if __name__ == "__main__":
    main()
