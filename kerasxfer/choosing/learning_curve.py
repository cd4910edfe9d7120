"""How the error falls with the number of images, and what twice as many would bring."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_DRAWS = {0.125: 4, 0.25: 3, 0.5: 2}


@dataclass(frozen=True)
class LearningCurve:
    """Out-of-fold errors of parts of the images.

    Args:
        images: Number of images of each part, the last one all of them.
        errors: Mean error of the parts of that size.
        at_twice: What the error would be with twice the images, by the power law through the points: on real images
            within 20 % of the truth. Farther out the law is not to be trusted.
    """

    images: tuple[int, ...]
    errors: tuple[float, ...]
    at_twice: float


def learning_curve(
    error: Callable[[NDArray[np.intp]], float],
    whole: float,
    labels: NDArray[np.integer],
    groups: NDArray[np.intp] | None = None,
    *,
    least: int = 10,
    seed: int = 0,
) -> LearningCurve | None:
    """Measure the error of an eighth, a quarter and half of the images, and extrapolate to twice as many.

    The error is fitted by a·n^(-b), 0 ≤ b ≤ 1, a straight line of its logarithm (Hestness et al. 2017, section 2).

    Args:
        error: The out-of-fold error of some rows of the data set by themselves.
        whole: The error of all rows.
        labels: Class of each image, `[images]`, or 1 for each class that it is of, `[images, classes]`.
        groups: Group of each image; a part has whole groups. Defaults to `None`.
        least: Images of the rarest class, and groups, that a part must have: two in each fold. Defaults to `10`.
        seed: Seed of the parts. Defaults to `0`.

    Returns:
        A `LearningCurve`, or `None` where there are too few images or no errors to see one.
    """
    total = len(labels)
    points = [(total, whole)]
    for share, draws in reversed(_DRAWS.items()):
        parts = [_draw(labels, groups, share, (seed, draw)) for draw in range(draws)]
        if any(_rarest(labels[part]) < least for part in parts):
            break
        if groups is not None and any(len(np.unique(groups[part])) < least for part in parts):
            break
        points.append((round(share * total), float(np.mean([error(part) for part in parts]))))
    if len(points) < 3 or whole == 0:
        return None
    images, errors = zip(*sorted(points), strict=True)
    x, y = np.log(images), np.log(np.maximum(errors, 0.5 / total))
    slope = np.clip(np.polyfit(x, y, 1)[0], -1, 0)
    at_twice = y.mean() + slope * (np.log(2 * total) - x.mean())
    return LearningCurve(images, errors, float(np.exp(at_twice)))


def _draw(
    labels: NDArray[np.integer], groups: NDArray[np.intp] | None, share: float, seed: tuple[int, int]
) -> NDArray[np.intp]:
    """Rows of a share of the images: of every class, or of whole groups."""
    rng = np.random.default_rng(seed)
    if groups is not None:
        names = np.unique(groups)
        chosen = rng.permutation(names)[: max(1, round(share * len(names)))]
        return np.flatnonzero(np.isin(groups, chosen))
    if labels.ndim > 1:
        return np.sort(rng.permutation(len(labels))[: round(share * len(labels))])
    members = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    return np.sort(np.concatenate([rows[: round(share * len(rows))] for rows in members]))


def _rarest(labels: NDArray[np.integer]) -> int:
    counts = labels.sum(axis=0) if labels.ndim > 1 else np.unique(labels, return_counts=True)[1]
    return int(counts.min())
