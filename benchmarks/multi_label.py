"""Two labels to an image, from photographs to the rows of `predict`: is fine-tuning above a frozen linear probe?

    python benchmarks/multi_label.py --data IMAGES --weights MOBILENET.h5 -o multi_label.json
    KERAS_BACKEND=jax python benchmarks/multi_label.py …

IMAGES holds `train` and `validation`, each with a folder for every species. The first label of an image is its folder,
the second is computed: `bright` where its mean luminance is above the median of the training images, else `dark`. One
half of the validation images chooses epochs and thresholds, the other half is looked at once and measures both models.
The probe is a logistic regression for each label on what the frozen network makes of an image, by scikit-learn.
"""

import argparse
import csv
import json
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
from kerasxfer_serving.images import load_image
from kerasxfer_serving.predictor import Predictor
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

import kerasxfer
from kerasxfer import Stage
from kerasxfer.callbacks import ProgressiveUnfreezing
from kerasxfer.export.errors import ExportError
from kerasxfer.multi_label.figures import evaluate_labels
from kerasxfer.multi_label.resampling import Ranked, resamples
from kerasxfer.multi_label.thresholds import choose_thresholds

SIZE = (150, 150)
STAGES = [
    Stage(epochs=6, learning_rate=3e-3, restore_best=True),
    Stage("block_13", epochs=6, learning_rate=3e-4, restore_best=True),
    Stage("block_12", epochs=6, learning_rate=3e-4, layer_decay=0.5, restore_best=True),
]


def write_tables(data, folder, most):
    """`train.csv`, `validation.csv` and `test.csv` with the columns `image` and `label`; returns the median."""
    parts = {part: sorted((data / part).glob("*/*.jpg")) for part in ("train", "validation")}
    if most:
        parts["train"] = [
            path for at, path in enumerate(parts["train"]) if at % (len(parts["train"]) // most or 1) == 0
        ]
    light = {path: luminance(path) for paths in parts.values() for path in paths}
    median = float(np.median([light[path] for path in parts["train"]]))
    parts["test"], parts["validation"] = parts["validation"][1::2], parts["validation"][::2]
    for part, paths in parts.items():
        with (folder / f"{part}.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["image", "label"])
            for path in paths:
                species = path.parent.name.removesuffix("s")
                table.writerow([path.relative_to(data), f"{species}|{'bright' if light[path] > median else 'dark'}"])
    return median


def luminance(path):
    """Mean luminance of an image, 0 to 255."""
    return float((load_image(path, (32, 32)) @ np.array([0.299, 0.587, 0.114])).mean())


def open_tables(data, folder):
    """The images of the three tables."""
    options = {"root": data, "label_mode": "multi_hot"}
    return (
        kerasxfer.ImageTable(folder / "train.csv", SIZE, 32, seed=0, **options),
        kerasxfer.ImageTable(folder / "validation.csv", SIZE, 32, shuffle=False, **options),
        kerasxfer.ImageTable(folder / "test.csv", SIZE, 32, shuffle=False, **options),
    )


def probe(model, train, test):
    """Probabilities for the test images of a logistic regression on pooled frozen features."""
    frozen = keras.Model(model.inputs, keras.layers.GlobalAveragePooling2D()(model.get_layer("head").input))

    def features(images):
        rows = np.arange(len(images.paths))
        parts = [frozen.predict_on_batch(images.load(rows[at : at + 32])) for at in range(0, len(rows), 32)]
        return np.concatenate([np.asarray(part) for part in parts])

    known, new = features(train), features(test)
    columns = [LogisticRegression(max_iter=2000, C=0.1).fit(known, labels) for labels in train.labels.T]
    return np.stack([each.predict_proba(new)[:, 1] for each in columns], axis=1)


def predict(model, images):
    """What the model says of images, in their order."""
    return np.concatenate([np.asarray(model.predict_on_batch(images[batch][0])) for batch in range(len(images))])


def gain(targets, better, worse):
    """How far one mean average precision is above another, with its 95 % interval on the same resamples."""

    def score(probabilities, weights):
        ranked = [Ranked.of(*column) for column in zip(targets.T, probabilities.T, strict=True)]
        return np.mean([each.average_precision(weights) for each in ranked], axis=0)

    once = np.ones((1, len(targets)))
    drawn = [score(better, weights) - score(worse, weights) for weights in resamples(len(targets))]
    low, high = np.percentile(np.concatenate(drawn), (2.5, 97.5))
    return {"value": float((score(better, once) - score(worse, once))[0]), "low": float(low), "high": float(high)}


def summary(figures):
    """The figures of an evaluation, for JSON."""
    return {
        "mean_average_precision": vars(figures.mean_average_precision),
        "macro_auc": vars(figures.macro_auc),
        "macro_f1": vars(figures.macro_f1),
        "all_right": vars(figures.all_right),
        "average_precision": {each.name: round(each.average_precision.value, 4) for each in figures.classes},
        "f1": {each.name: round(each.f1.value, 4) for each in figures.classes},
        "threshold": {each.name: each.threshold for each in figures.classes},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True, help="weights file of MobileNet, alpha 0.75")
    parser.add_argument("--images", type=int, help="number of training images; all, where it is left out")
    parser.add_argument("--int8", action="store_true", help="export in int8 too, calibrated on the training images")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        median = write_tables(options.data, folder, options.images)
        train, validation, test = open_tables(options.data, folder)
        keras.utils.set_random_seed(0)
        model = kerasxfer.image_classifier(
            "MobileNet",
            train.class_names,
            SIZE,
            weights=options.weights,
            backbone_kwargs={"alpha": 0.75},
            dropout=0.3,
            multi_label=True,
        )
        model.compile(keras.optimizers.Adam(1e-3), "binary_crossentropy")
        probed = probe(model, train, test)
        cache = kerasxfer.BottleneckCache(folder / "cache", verbose=0)
        epochs = sum(stage.epochs for stage in STAGES)
        unfreezing = ProgressiveUnfreezing(STAGES, verbose=0)
        cache.fit(
            model, train, validation_data=validation, epochs=epochs, callbacks=[unfreezing], shuffle=False, verbose=2
        )
        thresholds = choose_thresholds(validation.labels, predict(model, validation))
        said = predict(model, test)
        halves = (0.5,) * len(thresholds)
        result = {
            "backend": keras.backend.backend(),
            "images": {"train": len(train.paths), "validation": len(validation.paths), "test": len(test.paths)},
            "median_luminance": round(median, 2),
            "probe": summary(evaluate_labels(test.labels, probed, train.class_names, halves)),
            "model": summary(evaluate_labels(test.labels, said, train.class_names, thresholds)),
            "model_above_probe": gain(test.labels, said, probed),
        }
        print(json.dumps(result, indent=2), flush=True)
        check = folder / "test-check.csv"
        check.write_text(absolute(folder / "test.csv", options.data))
        for precision in ("fp32", "int8") if options.int8 else ("fp32",):
            calibration = options.data / "train" if precision == "int8" else None
            try:
                exported = kerasxfer.export_onnx(
                    model,
                    folder / f"{precision}.onnx",
                    precision=precision,
                    thresholds=thresholds,
                    check=check,
                    calibration=calibration,
                )
            except ExportError as error:
                result[precision] = {"refused": str(error)}
                continue
            result[precision] = {"check": str(exported.check), "max_difference": exported.check.max_difference}
        with Predictor(folder / "fp32.onnx", device="cpu") as predictor:
            rows = predictor.predict([str(options.data / path) for path in test.paths])
        found = np.array([[name in labels for name in train.class_names] for labels in rows.label_sets])
        result["rows_macro_f1"] = float(f1_score(test.labels, found, average="macro"))
        result["seconds"] = round(time.perf_counter() - started)
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def absolute(table, data):
    """A table with the whole paths of its images, for who does not know their folder."""
    header, *lines = table.read_text().splitlines()
    return "\n".join([header, *(f"{data.resolve()}/{line}" for line in lines)]) + "\n"


if __name__ == "__main__":
    main()
