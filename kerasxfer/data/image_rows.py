"""Which images there are, one row per image, and what is known about each of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from kerasxfer_serving.inputs.walk import LeftOut
from numpy.typing import NDArray


@dataclass(frozen=True)
class ImageRows:
    """Images with their labels, however these were written down: as class folders or as a table.

    Args:
        root: Folder that `paths` are relative to.
        paths: Paths of the images, as POSIX strings.
        labels: Class index of each row, int32 `[n]`; or, where an image has any number of labels, bool
            `[n, classes]`.
        class_names: Names of the classes, by index.
        weights: Weight of each row, float32 `[n]`. Defaults to `None`, rows that all count the same.
        groups: Number of each row's group, int `[n]`: rows of one group are never divided. Defaults to `None`.
        subsets: `"training"`, `"validation"` or `"test"` for each row, as a column of the table says. Defaults to
            `None`, a source that does not say.
        left_out: What the source holds and is no image.
    """

    root: Path
    paths: list[str]
    labels: NDArray[Any]
    class_names: list[str]
    weights: NDArray[np.float32] | None = None
    groups: NDArray[np.intp] | None = None
    subsets: NDArray[np.str_] | None = None
    left_out: LeftOut = field(default_factory=LeftOut)

    @property
    def subset_counts(self) -> dict[str, int]:
        """Number of rows by subset; empty where nothing says which row is in which."""
        if self.subsets is None:
            return {}
        names, counts = np.unique(self.subsets, return_counts=True)
        return dict(zip(names.tolist(), counts.tolist(), strict=True))

    @property
    def class_counts(self) -> NDArray[np.intp]:
        """Number of images of each class, by index."""
        if self.labels.ndim > 1:
            return np.asarray(self.labels.sum(0), np.intp)
        return np.bincount(self.labels, minlength=len(self.class_names))

    def take(self, mask: NDArray[np.bool_]) -> "ImageRows":
        """The rows that `mask` marks, in their order."""
        return replace(
            self,
            paths=[self.paths[row] for row in np.flatnonzero(mask)],
            labels=self.labels[mask],
            weights=None if self.weights is None else self.weights[mask],
            groups=None if self.groups is None else self.groups[mask],
            subsets=None if self.subsets is None else self.subsets[mask],
        )


def numbered(values: Sequence[Any], *, in_order: bool = False) -> tuple[list[Any], NDArray[np.intp]]:
    """The distinct values, and for each value its number among them.

    Args:
        values: Hashable values.
        in_order: Number the distinct values as they sort. Defaults to `False`, as they are met.
    """
    numbers: dict[Any, int] = {}
    codes = np.fromiter((numbers.setdefault(value, len(numbers)) for value in values), np.intp, len(values))
    if not in_order:
        return list(numbers), codes
    ranks = np.empty(len(numbers), np.intp)
    for rank, value in enumerate(sorted(numbers)):
        ranks[numbers[value]] = rank
    return sorted(numbers), ranks[codes]
