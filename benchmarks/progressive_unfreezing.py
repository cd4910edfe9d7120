"""Does unfreezing pay? Head alone, ProgressiveUnfreezing, and the naive recipe, side by side on real pictures.

    python benchmarks/progressive_unfreezing.py PICTURES --validation MORE --mobilenet WEIGHTS.h5 --inception WEIGHTS.h5

All three get the same pictures, epochs, learning rates and batch order, for each seed. The naive recipe is the usual:
fit the head, set `trainable = True` on the upper blocks with their BatchNormalization, compile again, fit on. What lies
below the lowest unfrozen block is frozen in all of them, so its output is computed once.
"""

import argparse
import statistics
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from kerasxfer import ImageFolder, Stage, image_classifier, layer_groups
from kerasxfer.callbacks import ProgressiveUnfreezing

SIZE = (150, 150)
HEAD_EPOCHS, BLOCK_EPOCHS, HEAD_RATE, BLOCK_RATE, BATCH = 10, 8, 1e-3, 1e-4, 32


@dataclass(frozen=True)
class Backbone:
    name: str
    cut: str  # the last layer that stays frozen
    blocks: tuple[str, str]  # unfrozen one after the other
    arguments: dict


BACKBONES = {
    "mobilenet": Backbone(
        "MobileNet", "conv_pw_11_relu", ("block_13", "block_12"), {"backbone_kwargs": {"alpha": 0.75}}
    ),
    "inception": Backbone("InceptionV3", "mixed5", ("mixed7", "mixed6"), {"backbone_output": "mixed7"}),
}


def features(backbone, weights, pictures):
    """Output of the frozen part, and the labels."""
    model = make_model(backbone, weights, pictures.class_names)
    prefix = keras.Model(model.input, model.get_layer(backbone.cut).output)
    return prefix.predict(pictures, verbose=0), np.asarray(pictures.labels)


def make_model(backbone, weights, class_names):
    return image_classifier(
        backbone.name, class_names, SIZE, weights=weights, dropout=0.3, head="average", **backbone.arguments
    )


def make_suffix(backbone, weights, class_names, seed):
    keras.utils.set_random_seed(seed)
    model = make_model(backbone, weights, class_names)
    return keras.Model(model.get_layer(backbone.cut).output, model.output)


def compile_at(model, rate):
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])


def train(model, data, validation, seed, epochs, first=0, callbacks=()):
    keras.utils.set_random_seed(seed)
    model.fit(*data, batch_size=BATCH, initial_epoch=first, epochs=epochs, verbose=0, callbacks=list(callbacks))
    return model.evaluate(*validation, verbose=0, return_dict=True)


def head_alone(model, data, validation, seed, blocks):
    compile_at(model, HEAD_RATE)
    return train(model, data, validation, seed, HEAD_EPOCHS + 2 * BLOCK_EPOCHS)


def in_stages(model, data, validation, seed, blocks):
    compile_at(model, HEAD_RATE)
    stages = [
        Stage(epochs=HEAD_EPOCHS),
        Stage(blocks[0], epochs=BLOCK_EPOCHS, learning_rate=BLOCK_RATE, warmup=1),
        Stage(blocks[1], epochs=BLOCK_EPOCHS, learning_rate=BLOCK_RATE, layer_decay=0.5),
    ]
    epochs = HEAD_EPOCHS + 2 * BLOCK_EPOCHS
    return train(model, data, validation, seed, epochs, callbacks=[ProgressiveUnfreezing(stages, verbose=0)])


def naively(model, data, validation, seed, blocks):
    compile_at(model, HEAD_RATE)
    train(model, data, validation, seed, HEAD_EPOCHS)
    for block in layer_groups(model).blocks:
        if block.name in blocks:
            for layer in block.layers:
                layer.trainable = True
    compile_at(model, BLOCK_RATE)
    return train(model, data, validation, seed, HEAD_EPOCHS + 2 * BLOCK_EPOCHS, first=HEAD_EPOCHS)


RECIPES = {
    "head alone": head_alone,
    "ProgressiveUnfreezing": in_stages,
    "naive, BatchNorm trains, compiled again": naively,
}


def measure(backbone, weights, train_set, validation_set, count, seeds):
    """Validation accuracy and loss of each recipe, one entry for each seed."""
    pool, labels = features(backbone, weights, train_set)
    validation = features(backbone, weights, validation_set)
    results = {recipe: [] for recipe in RECIPES}
    for seed in range(seeds):
        rows = np.random.default_rng(seed).permutation(len(labels))[:count]
        data = pool[rows], labels[rows]
        for recipe, run in RECIPES.items():
            model = make_suffix(backbone, weights, train_set.class_names, seed)
            results[recipe].append(run(model, data, validation, seed, backbone.blocks))
            print(f"{backbone.name}, seed {seed}, {recipe}: {results[recipe][-1]}", flush=True)
    return results


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


def sample(root, count, class_names=None):
    """The first `count` pictures of each class."""
    pictures = ImageFolder(root, SIZE, batch_size=BATCH, shuffle=False, class_names=class_names)
    return pictures if count is None else _Subset(pictures, count)


class _Subset(keras.utils.PyDataset):
    def __init__(self, pictures, count):
        super().__init__()
        self.pictures, self.class_names = pictures, pictures.class_names
        labels = np.asarray(pictures.labels)
        self.rows = np.concatenate([np.flatnonzero(labels == label)[:count] for label in np.unique(labels)])
        self.labels = labels[self.rows]

    def __len__(self):
        return -(-len(self.rows) // BATCH)

    def __getitem__(self, index):
        return (self.pictures.load(self.rows[index * BATCH : (index + 1) * BATCH]),)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, help="a folder of class folders")
    parser.add_argument("--validation", type=Path, required=True, help="another, with the same classes")
    parser.add_argument("--mobilenet", help="ImageNet weights of MobileNet, alpha 0.75, without its top")
    parser.add_argument("--inception", help="ImageNet weights of InceptionV3 without its top")
    parser.add_argument(
        "--pool", type=int, default=400, help="pictures of each class that the training sets are drawn from"
    )
    parser.add_argument("--count", type=int, default=400, help="size of a training set")
    parser.add_argument("--validate", type=int, default=200, help="validation pictures of each class")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="file for the table")
    arguments = parser.parse_args()
    train_set = sample(arguments.pictures, arguments.pool)
    validation_set = sample(arguments.validation, arguments.validate)
    lines = ["| backbone | recipe | validation accuracy, % | validation loss |", "| --- | --- | --- | --- |"]
    for key, backbone in BACKBONES.items():
        if weights := getattr(arguments, key):
            results = measure(backbone, weights, train_set, validation_set, arguments.count, arguments.seeds)
            lines.append(table(results, backbone.name))
    conditions = (
        f"Mean ± standard deviation over {arguments.seeds} seeds; {arguments.count} training and "
        f"{len(validation_set.labels)} validation pictures of {SIZE[0]} × {SIZE[1]}, "
        f"{HEAD_EPOCHS} + 2 × {BLOCK_EPOCHS} epochs; Keras {keras.__version__}, {keras.config.backend()}."
    )
    text = "\n".join([conditions, "", *lines])
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
