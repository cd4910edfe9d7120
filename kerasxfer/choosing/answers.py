"""What out-of-fold answers are worth: a score with an interval that holds, and whether two candidates differ."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from kerasxfer.estimate import Estimate
from kerasxfer.report.metrics import chance_of_difference

Z = 2.4
"""Half-width of an interval in standard errors. Out-of-fold answers to one set share their training images: of
intervals with 1.96, meant for 95 %, only 89 to 95 % held on real images; with 2.4 it was 93 to 97 %."""

_RESAMPLES = 200


@dataclass(frozen=True, eq=False)
class Answers:
    """What was said of every image while it was held out, beside what is true of it.

    Args:
        labels: Class of each image, `[images]`; or whether it is of each class, `[images, classes]`.
        probabilities: What was answered, `[images, classes]`.
        groups: What belongs together, from 0 on, `[images]`: images of one group count as one where they are right and
            wrong together. Defaults to `None`, every image by itself.
    """

    labels: NDArray[np.integer]
    probabilities: NDArray[np.floating]
    groups: NDArray[np.intp] | None = None

    @property
    def metric(self) -> str:
        """`"accuracy"`; with several labels an image `"mAP"`, the mean average precision over the classes."""
        return "accuracy" if self.labels.ndim == 1 else "mAP"

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """Whether each image was classified rightly, where every one is of one class."""
        return np.asarray(self.probabilities.argmax(axis=1) == self.labels)

    @cached_property
    def value(self) -> float:
        """The metric, without its interval."""
        if self.labels.ndim == 1:
            return float(self.right.mean())
        known = self.labels.any(axis=0)
        return float(average_precision_score(self.labels[:, known], self.probabilities[:, known]))

    @cached_property
    def score(self) -> Estimate:
        """The metric with its interval: Wilson's for the effective number of images, or the spread that a mean average
        precision has when images, or groups, are drawn anew.
        """
        if self.labels.ndim == 1:
            return Estimate.of_wilson(self.value, _effective_images(self.right, self.groups), Z)
        margin = Z * float(self._resampled.std())
        return Estimate(self.value, max(0.0, self.value - margin), min(1.0, self.value + margin))

    def chance_of_difference(self, other: Self) -> float:
        """How often two equally good models would differ this much on the same images: a two-sided p-value.

        The exact McNemar test; with groups on which of the two is right more often in each. Mean average precisions are
        compared by the spread of their difference on the same draws of images.
        """
        if self.labels.ndim > 1:
            difference = self._resampled - other._resampled
            deviation = float(difference.std())
            return math.erfc(abs(float(difference.mean())) / deviation / math.sqrt(2)) if deviation else 1.0
        if self.groups is None:
            return chance_of_difference(self.right, other.right)
        ahead = np.bincount(self.groups, self.right.astype(float) - other.right)
        return chance_of_difference(ahead > 0, ahead < 0)

    @cached_property
    def _resampled(self) -> NDArray[np.float64]:
        """The mean average precision on each of a number of bootstrap draws, the same for all answers to a set."""
        groups = np.arange(len(self.labels)) if self.groups is None else self.groups
        count = int(groups.max()) + 1
        drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), _RESAMPLES)[:, groups]
        scores = [
            _average_precisions(truth, given, drawn)
            for truth, given in zip(self.labels.T, self.probabilities.T, strict=True)
            if truth.any()
        ]
        return np.asarray(np.nanmean(scores, axis=0))  # a draw may lack a rare class


def _effective_images(right: NDArray[np.bool_], groups: NDArray[np.intp] | None) -> float:
    """Number of independent images that would tell as much (Korn and Graubard 1998)."""
    images, accuracy = len(right), float(right.mean())
    if groups is None:
        return images
    count = len(np.unique(groups))
    if accuracy in (0, 1):  # nothing tells how much alike the images of a group are
        return count
    residuals = np.bincount(groups, right - accuracy)
    variance = count / (count - 1) * float(np.sum(residuals**2)) / images**2
    return min(images, accuracy * (1 - accuracy) / variance)


def _average_precisions(
    truth: NDArray[np.integer], given: NDArray[np.floating], weights: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Average precision of one class under each row of weights, `[draws, images]`."""
    order = np.argsort(-given, kind="stable")
    hits = weights[:, order] * truth[order]
    precision = hits.cumsum(axis=1) / weights[:, order].cumsum(axis=1).clip(min=1)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.sum(hits * precision, axis=1) / hits.sum(axis=1))
