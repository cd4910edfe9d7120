"""Figures of a classifier on labelled images, each with how far it can be trusted."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, log_loss, precision_recall_fscore_support

from kerasxfer.estimate import Estimate

Array = NDArray[Any]
CALIBRATION_BINS = 10


class ClassFigures(NamedTuple):
    """What one class got."""

    name: str
    precision: float
    recall: Estimate | None
    f1: float
    images: int


class CalibrationBin(NamedTuple):
    """Images whose top probability lies in one tenth of the scale."""

    low: float
    high: float
    images: int
    confidence: float
    accuracy: Estimate


@dataclass(frozen=True)
class Evaluation:
    """All figures of a model on one set of images.

    Args:
        accuracy: Share of images whose top class is right.
        balanced_accuracy: Mean recall of the classes that have images, with the interval that Wilson's intervals of
            the recalls give a mean ([Zou and Donner 2008](https://doi.org/10.1002/sim.3095)).
        uneven: Whether the largest class has one and a half times the images of the smallest, or more.
        log_loss: Mean negative logarithm of the true class's probability.
        macro_f1: Mean over classes of F1, the harmonic mean of precision and recall.
        calibration_error: Expected difference between confidence and accuracy, over bins.
        confusion: Counts, a row for each true class and a column for each predicted one.
        classes: `ClassFigures`, in class order.
        bins: `CalibrationBin`s that have images in them.
        predicted: Class number per image.
        confidence: Probability of the predicted class per image.
        mistakes: Rows of wrong images, the most confident first.
        uncertain: All rows, the least margin between the two most probable classes first.
    """

    accuracy: Estimate
    balanced_accuracy: Estimate
    uneven: bool
    log_loss: float
    macro_f1: float
    calibration_error: float
    confusion: Array
    classes: list[ClassFigures]
    bins: list[CalibrationBin]
    predicted: Array
    confidence: Array
    mistakes: Array
    uncertain: Array


def evaluate(labels: Array, probabilities: Array, class_names: Sequence[str]) -> Evaluation:
    """Compute every figure that the report shows.

    Args:
        labels: Class numbers, `[images]`.
        probabilities: `[images, classes]`.
        class_names: The classes.

    Returns:
        An `Evaluation`.
    """
    numbers = np.arange(len(class_names))
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    right = predicted == labels
    precision, recall, f1, images = precision_recall_fscore_support(
        labels, predicted, labels=numbers, zero_division=0.0
    )
    bins = _calibration(confidence, right)
    second, first = np.sort(probabilities, axis=1)[:, -2:].T
    wrong = np.flatnonzero(~right)
    recalls = [Estimate.of_share(round(r * n), int(n)) for r, n in zip(recall, images, strict=True) if n]
    present = images[images > 0]
    sums = probabilities.sum(axis=1, keepdims=True)  # float32 is off by its last digit
    return Evaluation(
        accuracy=Estimate.of_share(int(right.sum()), len(labels)),
        balanced_accuracy=_mean(recalls),
        uneven=bool(present.max() >= 1.5 * present.min()),
        log_loss=float(log_loss(labels, probabilities / sums, labels=numbers)),
        macro_f1=float(f1[images > 0].mean()),
        calibration_error=sum(b.images * abs(b.accuracy.value - b.confidence) for b in bins) / len(labels),
        confusion=confusion_matrix(labels, predicted, labels=numbers),
        classes=[
            ClassFigures(name, float(p), Estimate.of_share(round(r * n), int(n)) if n else None, float(f), int(n))
            for name, p, r, f, n in zip(class_names, precision, recall, f1, images, strict=True)
        ],
        bins=bins,
        predicted=predicted,
        confidence=confidence,
        mistakes=wrong[np.argsort(-confidence[wrong], kind="stable")],
        uncertain=np.argsort(first - second, kind="stable"),
    )


def _mean(shares: Sequence[Estimate]) -> Estimate:
    value = sum(share.value for share in shares) / len(shares)
    below = math.hypot(*(share.value - share.low for share in shares)) / len(shares)
    above = math.hypot(*(share.high - share.value for share in shares)) / len(shares)
    return Estimate(value, max(0.0, value - below), min(1.0, value + above))


def chance_of_difference(right: Array, other_right: Array) -> float:
    """The exact McNemar test: how often two equally good models would differ this much on the same images.

    Args:
        right: Whether one model is right, for each image.
        other_right: Whether the other model is right, for each image.

    Returns:
        A two-sided p-value.
    """
    only_one, only_other = int((right & ~other_right).sum()), int((other_right & ~right).sum())
    total = only_one + only_other
    return float(binomtest(only_one, total).pvalue) if total else 1.0


def _calibration(confidence: Array, right: Array) -> list[CalibrationBin]:
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    numbers = np.clip(np.digitize(confidence, edges[1:-1], right=True), 0, CALIBRATION_BINS - 1)
    bins = []
    for number in np.unique(numbers):
        inside = numbers == number
        share = Estimate.of_share(int(right[inside].sum()), int(inside.sum()))
        low, high = float(edges[number]), float(edges[number + 1])
        bins.append(CalibrationBin(low, high, int(inside.sum()), float(confidence[inside].mean()), share))
    return bins
