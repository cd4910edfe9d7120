"""Does unfreezing pay? Head alone, ProgressiveUnfreezing, and the naive recipe, side by side on real images.

    python benchmarks/progressive_unfreezing.py IMAGES --validation MORE --mobilenet WEIGHTS.h5 --inception WEIGHTS.h5

All three get the same images, epochs, learning rates and batch order, for each seed. The naive recipe is the usual:
fit the head, set `trainable = True` on the upper blocks with their BatchNormalization, compile again, fit on. All of
them train from the cache, which changes no result; the validation images are looked at once, after the last epoch.
"""

import argparse
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from kerasxfer import BottleneckCache, ImageFolder, Stage, image_classifier, layer_groups
from kerasxfer.callbacks import ProgressiveUnfreezing

SIZE = (150, 150)
HEAD_EPOCHS, BLOCK_EPOCHS, HEAD_RATE = 10, 8, 1e-3
EPOCHS = HEAD_EPOCHS + 2 * BLOCK_EPOCHS


@dataclass(frozen=True)
class Backbone:
    name: str
    blocks: tuple[str, str]  # unfrozen one after the other
    rate: float  # of these blocks
    arguments: dict


BACKBONES = {
    "mobilenet": Backbone("MobileNet", ("block_13", "block_12"), 1e-4, {"backbone_kwargs": {"alpha": 0.75}}),
    "inception": Backbone("InceptionV3", ("mixed7", "mixed6"), 1e-5, {"backbone_output": "mixed7"}),
}


def compile_at(model, rate):
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])


def head_alone(model, fit, backbone):
    return fit(epochs=EPOCHS)


def in_stages(model, fit, backbone):
    stages = [
        Stage(epochs=HEAD_EPOCHS),
        Stage(backbone.blocks[0], epochs=BLOCK_EPOCHS, learning_rate=backbone.rate, warmup=1),
        Stage(backbone.blocks[1], epochs=BLOCK_EPOCHS, learning_rate=backbone.rate, layer_decay=0.5),
    ]
    return fit(epochs=EPOCHS, callbacks=[ProgressiveUnfreezing(stages, verbose=0)])


def naively(model, fit, backbone):
    fit(epochs=HEAD_EPOCHS)
    for block in layer_groups(model).blocks:
        if block.name in backbone.blocks:
            for layer in block.layers:
                layer.trainable = True
    compile_at(model, backbone.rate)
    return fit(initial_epoch=HEAD_EPOCHS, epochs=EPOCHS)


RECIPES = {
    "head alone": head_alone,
    "ProgressiveUnfreezing": in_stages,
    "naive, BatchNorm trains, compiled again": naively,
}


def run(recipe, backbone, weights, train, validation, cache, seed):
    """Validation accuracy and loss after the last epoch."""
    keras.utils.set_random_seed(seed)
    model = image_classifier(
        backbone.name, train.class_names, SIZE, weights=weights, dropout=0.3, head="average", **backbone.arguments
    )
    compile_at(model, HEAD_RATE)

    def fit(**arguments):
        return cache.fit(
            model, train, validation_data=validation, validation_freq=EPOCHS, shuffle=False, verbose=0, **arguments
        )

    history = RECIPES[recipe](model, fit, backbone).history
    return {"accuracy": history["val_accuracy"][-1], "loss": history["val_loss"][-1]}


def measure(backbone, weights, arguments, folder):
    """One entry for each seed, for each recipe."""
    cache = BottleneckCache(folder / "cache", verbose=0)
    results = {recipe: [] for recipe in RECIPES}
    for seed in range(arguments.seeds):
        images = draw(arguments.images, folder / f"images-{seed}", arguments.count, seed)
        for recipe, runs in results.items():
            train = ImageFolder(images, SIZE, seed=seed)
            validation = ImageFolder(arguments.validation, SIZE, shuffle=False)
            runs.append(run(recipe, backbone, weights, train, validation, cache, seed))
            print(f"{backbone.name}, seed {seed}, {recipe}: {runs[-1]}", flush=True)
    return results


def draw(source, target, count, seed):
    """A folder of `count` images, the classes alike, chosen by the seed."""
    classes = sorted(path for path in Path(source).iterdir() if path.is_dir())
    for folder in classes:
        (target / folder.name).mkdir(parents=True, exist_ok=True)
        images = sorted(folder.iterdir())
        for index in np.random.default_rng(seed).permutation(len(images))[: count // len(classes)]:
            path = target / folder.name / images[index].name
            path.is_symlink() or path.symlink_to(images[index].resolve())
    return target


def spread(values, percent):
    scale, digits = (100, 1) if percent else (1, 3)
    mean, deviation = statistics.mean(values) * scale, (statistics.stdev(values) if len(values) > 1 else 0) * scale
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def table(results, title):
    rows = []
    for recipe, runs in results.items():
        accuracy, loss = (spread([run[key] for run in runs], percent=key == "accuracy") for key in ("accuracy", "loss"))
        rows.append(f"| {title} | {recipe} | {accuracy} | {loss} |")
    return "\n".join(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, help="a folder of class folders")
    parser.add_argument("--validation", type=Path, required=True, help="another, with the same classes")
    parser.add_argument("--mobilenet", help="ImageNet weights of MobileNet, alpha 0.75, without its top")
    parser.add_argument("--inception", help="ImageNet weights of InceptionV3 without its top")
    parser.add_argument("--count", type=int, default=400, help="training images, drawn anew for each seed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="file for the table")
    arguments = parser.parse_args()
    lines = ["| backbone | recipe | validation accuracy, % | validation loss |", "| --- | --- | --- | --- |"]
    for key, backbone in BACKBONES.items():
        if weights := getattr(arguments, key):
            with tempfile.TemporaryDirectory() as folder:
                lines.append(table(measure(backbone, weights, arguments, Path(folder)), backbone.name))
    validation = len(ImageFolder(arguments.validation, SIZE).paths)
    conditions = (
        f"Mean ± standard deviation over {arguments.seeds} seeds; {arguments.count} training and {validation} "
        f"validation images of {SIZE[0]} × {SIZE[1]}, {HEAD_EPOCHS} + 2 × {BLOCK_EPOCHS} epochs; "
        f"Keras {keras.__version__}, {keras.config.backend()}."
    )
    text = "\n".join([conditions, "", *lines])
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
