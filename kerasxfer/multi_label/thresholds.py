"""The probability from which each class is said to fit, chosen on labelled images."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.model.task import DEFAULT_THRESHOLD, is_threshold, name_thresholds
from numpy.typing import NDArray

Array = NDArray[Any]

Thresholds: TypeAlias = float | Sequence[float] | Mapping[str, float]
"""One for all classes, one for each in their order, or some by the names of their classes."""

_DIGITS = 4  # that a threshold has, where so many suffice to keep the scores beside it apart


def choose_thresholds(targets: Array, probabilities: Array) -> tuple[float, ...]:
    """The threshold of each class that gives it its best F1.

    Each class by itself, for the mean over classes is best where each class is ([Lipton et al., 2014,
    "Thresholding Classifiers to Maximize F1 Score"](https://arxiv.org/abs/1402.1892)). A threshold lies in the middle
    between the last probability that is above it and the first that is below. The images must be others than those
    that the model was trained on; with few of a class, its threshold varies much from one set of images to another.

    Args:
        targets: Which classes each image has, `[images, classes]` of 0 and 1.
        probabilities: What a model says of them, `[images, classes]`.

    Returns:
        One for each class; 0.5 for a class that no image has.

    Example:

    ```python
    import numpy as np
    from kerasxfer.multi_label.thresholds import choose_thresholds

    probabilities = np.array([[0.9], [0.4], [0.3], [0.1]])
    assert choose_thresholds(np.array([[1], [1], [0], [0]]), probabilities) == (0.35,)
    ```
    """
    columns = zip(np.asarray(targets, bool).T, np.asarray(probabilities, np.float64).T, strict=True)
    return tuple(_best_threshold(positive, scores) for positive, scores in columns)


def resolve_thresholds(
    given: Thresholds | None, own: Sequence[float] | None, class_names: Sequence[str]
) -> tuple[float, ...]:
    """The thresholds of a model: those that are given, else its own, else 0.5.

    Args:
        given: In any form, or `None`.
        own: Those that were chosen in its training, or `None`.
        class_names: The classes.

    Raises:
        UsageError: They are not one from 0 to 1 for each class.
    """
    current = tuple(own) if own and len(own) == len(class_names) else (DEFAULT_THRESHOLD,) * len(class_names)
    if given is None:
        return current
    if isinstance(given, Mapping | int | float):
        return name_thresholds(given, current, class_names)
    values = tuple(float(value) for value in given)
    if len(values) != len(class_names) or not all(map(is_threshold, values)):
        raise UsageError(
            f"`thresholds` are numbers from 0 to 1, one for each of the {len(class_names)} classes. "
            f"Received: {values!r:.200}"
        )
    return values


def _best_threshold(positive: Array, scores: Array) -> float:
    if not positive.any():
        return DEFAULT_THRESHOLD
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(positive[order])
    # Only between two different scores can a threshold lie; the last image may be above it too.
    ends = np.flatnonzero(np.append(ranked[:-1] > ranked[1:], True))
    f1 = 2 * hits[ends] / (positive.sum() + ends + 1)
    best = ends[int(f1.argmax())]
    return _between(float(ranked[best]), float(ranked[best + 1]) if best + 1 < len(ranked) else 0.0)


def _between(above: float, below: float) -> float:
    middle = (above + below) / 2
    short = round(middle, _DIGITS)
    return short if below < short <= above else middle if below < middle <= above else above
