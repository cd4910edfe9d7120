"""How good a model is at saying which labels an image has: figures by class and over all.

The interval of each are percentiles of a bootstrap over images (Efron, 1979).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kerasxfer.estimate import Estimate
from kerasxfer.multi_label.resampling import Ranked, f1_scores, resamples

Array = NDArray[Any]


class LabelFigures(NamedTuple):
    """What one class got.

    Args:
        name: The class.
        images: Number of images that have it.
        threshold: Probability from which it is said to fit.
        average_precision: Area under its curve of precision over recall; `None` where no image has it.
        auc: Area under its ROC curve; `None` where no image has it, or every image.
        f1: Harmonic mean of precision and recall, from the threshold on; `None` where no image has it.
        precision: Share of the images said to have it that do; `None` where none is said to.
        recall: Share of the images with it that are said to have it; `None` where none has it.
    """

    name: str
    images: int
    threshold: float
    average_precision: Estimate | None
    auc: Estimate | None
    f1: Estimate | None
    precision: float | None
    recall: float | None


@dataclass(frozen=True)
class LabelEvaluation:
    """All figures of a model on one set of images. Means are over the classes that an image has.

    Args:
        mean_average_precision: Mean of the classes' average precision, mAP.
        macro_auc: Mean of their AUC; `None` where none has one.
        macro_f1: Mean of their F1.
        micro_f1: F1 of all decisions, image by class, together.
        all_right: Share of the images with exactly the right labels.
        classes: `LabelFigures`, in class order.
        predicted: Which classes are said to fit, bool `[images, classes]`.
    """

    mean_average_precision: Estimate
    macro_auc: Estimate | None
    macro_f1: Estimate
    micro_f1: Estimate
    all_right: Estimate
    classes: list[LabelFigures]
    predicted: Array


def evaluate_labels(
    targets: Array, probabilities: Array, class_names: Sequence[str], thresholds: Sequence[float]
) -> LabelEvaluation:
    """Every figure of a multi-label classifier.

    Args:
        targets: Which classes each image has, `[images, classes]` of 0 and 1; some image has some class.
        probabilities: What the model says, `[images, classes]`.
        class_names: The classes.
        thresholds: Probability from which each is said to fit.

    Returns:
        A `LabelEvaluation`.

    Example:

    ```python
    import numpy as np
    from kerasxfer.multi_label.figures import evaluate_labels

    targets = np.array([[1, 0], [1, 1], [0, 1], [0, 0]])
    probabilities = np.array([[0.9, 0.2], [0.8, 0.4], [0.3, 0.6], [0.2, 0.5]])
    figures = evaluate_labels(targets, probabilities, ["cat", "outdoor"], [0.5, 0.5])
    assert round(figures.mean_average_precision.value, 3) == 0.917
    ```
    """
    positive: Array = np.asarray(targets, bool)
    predicted = probabilities >= np.asarray(thresholds)
    ranked = _ranked(positive, probabilities)
    precisions = _average_precisions(positive, ranked)
    aucs = _Figure.of(len(positive), lambda weights: np.stack([each.auc(weights) for each in ranked], axis=1))
    f1s = _Figure.of(len(positive), lambda weights: f1_scores(positive, predicted, weights))
    over_all = _Figure.of(len(positive), lambda weights: _over_all(positive, predicted, weights))
    found = np.asarray(positive.any(axis=0))
    told_apart = found & ~positive.all(axis=0)
    hits, said, images = (table.sum(axis=0) for table in (positive & predicted, predicted, positive))
    return LabelEvaluation(
        mean_average_precision=precisions.mean(found),
        macro_auc=aucs.mean(told_apart) if told_apart.any() else None,
        macro_f1=f1s.mean(found),
        micro_f1=over_all.column(0),
        all_right=over_all.column(1),
        classes=[
            LabelFigures(
                name,
                int(images[column]),
                float(thresholds[column]),
                precisions.column(column) if found[column] else None,
                aucs.column(column) if told_apart[column] else None,
                f1s.column(column) if found[column] else None,
                float(hits[column] / said[column]) if said[column] else None,
                float(hits[column] / images[column]) if images[column] else None,
            )
            for column, name in enumerate(class_names)
        ],
        predicted=predicted,
    )


def mean_average_precision(targets: Array, probabilities: Array) -> Estimate:
    """Mean over classes of the average precision, with its interval; arguments as in `evaluate_labels`."""
    positive: Array = np.asarray(targets, bool)
    found = np.asarray(positive.any(axis=0))
    return _average_precisions(positive, _ranked(positive, probabilities)).mean(found)


class _Figure(NamedTuple):
    """A figure in several columns: itself, and under every resample."""

    values: Array
    resampled: Array

    @classmethod
    def of(cls, images: int, compute: Callable[[Array], Array]) -> "_Figure":
        values = compute(np.ones((1, images)))[0]
        return cls(values, np.concatenate([compute(weights) for weights in resamples(images)]))

    def column(self, number: int) -> Estimate:
        return _interval(self.values[number], self.resampled[:, number])

    def mean(self, columns: Array) -> Estimate:
        drawn = self.resampled[:, columns]
        known = np.isfinite(drawn)
        means = np.where(known, drawn, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        return _interval(self.values[columns].mean(), means[known.any(axis=1)])


def _interval(value: float, drawn: Array) -> Estimate:
    low, high = np.nanpercentile(drawn, (2.5, 97.5)) if np.isfinite(drawn).any() else (np.nan, np.nan)
    return Estimate(float(value), float(low), float(high))


def _ranked(positive: Array, probabilities: Array) -> list[Ranked]:
    return [Ranked.of(column, scores) for column, scores in zip(positive.T, probabilities.T, strict=True)]


def _average_precisions(positive: Array, ranked: Sequence[Ranked]) -> _Figure:
    return _Figure.of(
        len(positive), lambda weights: np.stack([each.average_precision(weights) for each in ranked], axis=1)
    )


def _over_all(positive: Array, predicted: Array, weights: Array) -> Array:
    """Micro F1, and the share of images that are right in all classes."""
    hits, truth, said = (table.sum(axis=1) for table in (positive & predicted, positive, predicted))
    with np.errstate(invalid="ignore", divide="ignore"):
        micro = 2 * (weights @ hits) / (weights @ truth + weights @ said)
    right = weights @ (positive == predicted).all(axis=1) / weights.sum(axis=1)
    return np.stack([micro, right], axis=1)
