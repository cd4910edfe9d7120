"""What a run with several labels to an image has besides: its metrics, its thresholds, and figures with intervals."""

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from kerasxfer.data.image_dataset import ImageDataset
from kerasxfer.multi_label.figures import evaluate_labels
from kerasxfer.multi_label.thresholds import choose_thresholds


def label_metrics(classes: int) -> list[keras.Metric]:
    """Metrics for `compile`: area under precision over recall, area under ROC, and F1 from 0.5 on, means over classes.

    The areas are sums over 200 thresholds, made batch by batch; the exact figures are those of `measure_labels`.
    """
    options: dict[str, Any] = {"multi_label": True, "num_labels": classes}
    return [
        keras.metrics.AUC(curve="PR", name="pr_auc", **options),
        keras.metrics.AUC(name="auc", **options),
        keras.metrics.F1Score(average="macro", threshold=0.5, name="macro_f1"),
    ]


def predict_in_order(model: keras.Model, images: ImageDataset) -> NDArray[np.float32]:
    """The probabilities of all images, in the order of their rows."""
    rows = np.arange(len(images.paths))
    batches = np.array_split(rows, range(images.batch_size, len(rows), images.batch_size))
    return np.concatenate([np.asarray(model.predict_on_batch(images.load(batch)), np.float32) for batch in batches])


def measure_labels(
    model: keras.Model, images: ImageDataset, thresholds: tuple[float, ...] = ()
) -> tuple[dict[str, float], tuple[float, ...]]:
    """The figures of a model on labelled images that it was not trained on, with their 95 % intervals.

    Args:
        model: The trained model.
        images: The images.
        thresholds: The probability from which each class fits. Defaults to none: those that are best on these images.

    Returns:
        Mean average precision and, at thresholds that are given, macro F1, by name; and the thresholds.
    """
    probabilities = predict_in_order(model, images)
    chosen = thresholds or choose_thresholds(images.labels, probabilities)
    evaluation = evaluate_labels(images.labels, probabilities, images.class_names, chosen)
    measured = {"mean_average_precision": evaluation.mean_average_precision}
    if thresholds:
        measured["macro_f1_at_thresholds"] = evaluation.macro_f1
    figures: dict[str, float] = {}
    for name, figure in measured.items():
        figures |= {name: figure.value, f"{name}_low": figure.low, f"{name}_high": figure.high}
    return figures, chosen
