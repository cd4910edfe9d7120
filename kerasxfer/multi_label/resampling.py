"""Figures of one class under many weightings of the images at once: what the intervals of a bootstrap are made of.

Each row of `weights` says how often each image counts: all once for the figure itself, drawn with replacement for its
interval. A figure that a row leaves without meaning, as where no image of the class was drawn, is NaN.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

RESAMPLES = 1000
_VALUES_AT_ONCE = 1 << 22


class Ranked(NamedTuple):
    """The images of one class in the order of their scores, the highest first; equal scores are one step.

    Args:
        order: Rows of the images.
        positive: Whether each is of the class, in that order.
        first: For each place, the first place with the same score.
        last: And the last.
    """

    order: Array
    positive: Array
    first: Array
    last: Array

    @classmethod
    def of(cls, positive: Array, scores: Array) -> "Ranked":
        """From the rows as they are."""
        order = np.argsort(-scores, kind="stable")
        ranked = -scores[order]
        return cls(
            order,
            positive[order].astype(np.float64),
            np.searchsorted(ranked, ranked, side="left"),
            np.searchsorted(ranked, ranked, side="right") - 1,
        )

    def average_precision(self, weights: Array) -> Array:
        """Mean over the images of the class of the precision at their scores, as scikit-learn has it."""
        ordered = weights[:, self.order]
        hits, seen = np.cumsum(ordered * self.positive, axis=1), np.cumsum(ordered, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.nan_to_num(hits[:, self.last] / seen[:, self.last])
            return (ordered * self.positive * precision).sum(axis=1) / hits[:, -1]  # type: ignore[no-any-return]

    def auc(self, weights: Array) -> Array:
        """Chance that an image of the class scores higher than another one, a tie counting half."""
        ordered = weights[:, self.order]
        others = np.cumsum(ordered * (1 - self.positive), axis=1)
        before = np.where(self.first > 0, others[:, self.first - 1], 0)
        beaten = others[:, -1:] - (before + others[:, self.last]) / 2
        positive = ordered * self.positive
        with np.errstate(invalid="ignore", divide="ignore"):
            return (positive * beaten).sum(axis=1) / (positive.sum(axis=1) * others[:, -1])  # type: ignore[no-any-return]


def f1_scores(positive: Array, predicted: Array, weights: Array) -> Array:
    """F1 of each class, `[resamples, classes]`, of which images have it and which are said to, `[images, classes]`."""
    hits = weights @ (positive & predicted)
    with np.errstate(invalid="ignore", divide="ignore"):
        return 2 * hits / (weights @ positive + weights @ predicted)  # type: ignore[no-any-return]


def resamples(images: int, seed: int = 0, count: int = RESAMPLES) -> Iterator[Array]:
    """How often each image is drawn, `[resamples, images]`, in blocks that fit into memory."""
    generator = np.random.default_rng(seed)
    block = max(1, _VALUES_AT_ONCE // images)
    for start in range(0, count, block):
        rows = min(block, count - start)
        drawn = generator.integers(images, size=(rows, images)) + images * np.arange(rows)[:, np.newaxis]
        yield np.bincount(drawn.ravel(), minlength=rows * images).reshape(rows, images).astype(np.float64)
