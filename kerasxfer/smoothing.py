"""Exponential moving averages of noisy curves: the one definition behind the callback, the plots and the report."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from kerasxfer_serving.errors import UsageError


class MovingAverage:
    """Exponential moving average that a NaN, an infinity or a missing point does not poison.

    Without `debias` the first point is kept and every later value is `previous * factor + point * (1 - factor)`, as in
    the `smooth_curve` function of *Deep Learning with Python*. With `debias` the average starts from zero and is
    divided by `1 - factor ** points`, Adam's correction: early values then weigh the first points evenly instead of
    clinging to the very first.

    Args:
        factor: Weight of the past, from 0 (no smoothing) to below 1. Defaults to `0.8`.
        debias: Whether to start from zero and correct. Defaults to `False`.

    Example:

    >>> average = MovingAverage(0.5)
    >>> [average.update(point) for point in (4.0, 2.0, float("nan"), 0.0)]
    [4.0, 3.0, 3.0, 1.5]
    """

    def __init__(self, factor: float = 0.8, debias: bool = False) -> None:
        if not 0 <= factor < 1:
            raise UsageError(f"`factor` must be at least 0 and below 1. Received: factor={factor}")
        self.factor = factor
        self.debias = debias
        self.points = 0
        self._average = 0.0

    def update(self, point: float | None) -> float | None:
        """Take one point into the average and return the new value; `None` before the first finite point."""
        if point is not None and math.isfinite(point):
            keep = 0.0 if self.points == 0 and not self.debias else self.factor
            self._average = self._average * keep + point * (1 - keep)
            self.points += 1
        return self.value

    @property
    def value(self) -> float | None:
        """The smoothed value; `None` before the first finite point."""
        if self.points == 0:
            return None
        return self._average / (1 - self.factor**self.points) if self.debias else self._average


def smooth_curve(points: Iterable[float | None], factor: float = 0.8, debias: bool = False) -> list[float | None]:
    """Smooth a whole curve.

    Args:
        points: The curve; `None`, NaN and infinities stand for points that are missing.
        factor: See `MovingAverage`. Defaults to `0.8`.
        debias: See `MovingAverage`. Defaults to `False`.

    Returns:
        A list as long as `points`; a missing point repeats the value before it.

    Example:

    >>> smooth_curve([1.0, 2.0, 2.0], factor=0.5)
    [1.0, 1.5, 1.75]
    """
    average = MovingAverage(factor, debias)
    return [average.update(point) for point in points]


def batch_values(running_means: Sequence[float], batches: Sequence[int]) -> list[float]:
    """Each batch's own value, from the means since the beginning of the epoch that Keras logs.

    Args:
        running_means: As logged.
        batches: How many batches each of them is the mean of; a batch counts as much as any other.

    Returns:
        A list as long as `running_means`.

    Example:

    >>> batch_values([3.0, 2.5, 2.0], [1, 2, 3])
    [3.0, 2.0, 1.0]
    """
    totals = np.multiply(running_means, batches)
    values: list[float] = (np.diff(totals, prepend=0.0) / np.diff(batches, prepend=0)).tolist()
    return values
