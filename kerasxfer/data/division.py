"""Divides images in two or more parts: the same share of every class in each, and no group in two of them."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from kerasxfer_serving.errors import KerasxferError, UsageError
from kerasxfer_serving.inputs.text import printable
from numpy.typing import NDArray

from kerasxfer.data.image_rows import ImageRows, numbered

_MOST_FOLDS = 20
_NEAR = 0.005


@dataclass(frozen=True)
class Division:
    """How even a part of the images came out.

    Args:
        images: Number of images in the part, and in all.
        shares: For each class with images, by name: which share of its images the part has.
        groups: Number of groups in the part, and in all. Defaults to `None`, images without groups.
    """

    images: tuple[int, int]
    shares: dict[str, float]
    groups: tuple[int, int] | None = None

    @classmethod
    def of(cls, rows: ImageRows, chosen: NDArray[np.bool_]) -> "Division":
        """Compare the rows that `chosen` marks with all."""
        counts, all_counts = rows.take(chosen).class_counts, rows.class_counts
        groups = rows.groups
        return cls(
            (int(chosen.sum()), len(chosen)),
            {
                name: float(count / total)
                for name, count, total in zip(rows.class_names, counts, all_counts, strict=True)
                if total
            },
            None if groups is None else (len(np.unique(groups[chosen])), len(np.unique(groups))),
        )

    def __str__(self) -> str:
        """One line for a person: `412 of 2,000 images (20.6%), 31 of 150 groups; of each class 19.8% to 21.2%`."""
        part, total = self.images
        groups = f", {self.groups[0]:,} of {self.groups[1]:,} groups" if self.groups else ""
        line = f"{part:,} of {total:,} images ({part / max(total, 1):.1%}){groups}"
        if not self.shares:
            return line
        (least, low), *_, (most, high) = sorted([*self.shares.items(), *self.shares.items()], key=lambda item: item[1])
        return f"{line}; of each class {low:.1%} ({printable(least)}) to {high:.1%} ({printable(most)})"


def divide(rows: ImageRows, fraction: float, seed: int) -> NDArray[np.bool_]:
    """Which rows are for validation: the same share of every class, no group on both sides, drawn by `seed`.

    Args:
        rows: The images.
        fraction: Share of the images to choose, between 0 and 1.
        seed: Seed of the draw.

    Raises:
        KerasxferError: There are too few groups to divide.
    """
    strata = classes_of(rows.labels)
    if rows.groups is None:
        return stratified_split(strata, fraction, seed)
    folds, taken = _how_many_folds(fraction, _most_folds(strata, rows.groups))
    return grouped_folds(strata, rows.groups, folds, seed) < taken


def divide_groups(rows: ImageRows, shares: Sequence[float], seed: int) -> NDArray[np.intp]:
    """The part that each row belongs to, so that no group is in two parts and the classes are spread evenly.

    Args:
        rows: The images, with groups.
        shares: Share of the images that each part gets, 1 together or less.
        seed: Seed of the draw.

    Returns:
        Number of each row's part, an index into `shares`; -1 for rows that are left.
    """
    if rows.groups is None:
        raise UsageError("`rows` must have groups.")
    strata = classes_of(rows.labels)
    folds = _most_folds(strata, rows.groups)
    ends = np.rint(np.cumsum(shares) * folds).astype(int)
    if np.any(np.diff([0, *ends]) < 1):
        raise KerasxferError(
            f"{len(shares)} parts of {len(np.unique(rows.groups))} groups: one of them would be empty. Ask for fewer "
            "parts, or larger ones."
        )
    parts = np.searchsorted(ends, grouped_folds(strata, rows.groups, folds, seed), side="right")
    return np.where(parts < len(shares), parts, -1)


def classes_of(labels: NDArray[Any]) -> NDArray[np.intp]:
    """One class per row to balance by; of several labels the one that the fewest images have, and -1 for none.

    The rarest label first is what iterative stratification does (Sechidis, Tsoumakas and Vlahavas, 2011).
    """
    if labels.ndim == 1:
        return labels.astype(np.intp)
    rarest_first = np.argsort(labels.sum(0), kind="stable")
    first = rarest_first[labels[:, rarest_first].argmax(1)]
    return np.where(labels.any(1), first, -1).astype(np.intp)


def stratified_split(labels: NDArray[Any], fraction: float, seed: int) -> NDArray[np.bool_]:
    """Which samples are for validation: the same share of every class, drawn by `seed`.

    A class of two or more gives at least one image to each side; a single image trains.
    """
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        chosen[np.random.default_rng((seed, int(label) % 2**32)).permutation(members)[:count]] = True
    return chosen


def grouped_folds(strata: NDArray[np.intp], groups: NDArray[np.intp], folds: int, seed: int) -> NDArray[np.intp]:
    """Number of the fold that each row is in: scikit-learn's `StratifiedGroupKFold`.

    Args:
        strata: Class of each row.
        groups: Group of each row.
        folds: Number of folds, 2 or more.
        seed: Seed of the draw.
    """
    try:
        from sklearn.model_selection import StratifiedGroupKFold
    except ImportError:
        raise KerasxferError("To divide groups, scikit-learn is needed: `pip install 'kerasxfer[tables]'`.") from None
    numbers = np.empty(len(strata), np.intp)
    divider = StratifiedGroupKFold(folds, shuffle=True, random_state=seed % 2**32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # `Division` says how even it came out
        for fold, (_, members) in enumerate(divider.split(strata, strata, groups)):
            numbers[members] = fold
    return numbers


def groups_by_pattern(paths: Sequence[str], pattern: str) -> NDArray[np.intp]:
    """Number of each path's group: what a regular expression finds in it.

    Args:
        paths: Paths of the images.
        pattern: Searched for in each path; the group is its group called `group`, its first one, or all of it.

    Raises:
        UsageError: It is no regular expression, or does not match every path.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"`group_pattern` must be a regular expression: {error}. Received: {pattern}") from error
    part: int | str = "group" if "group" in compiled.groupindex else min(compiled.groups, 1)
    found = [compiled.search(path) for path in paths]
    strangers = [path for path, match in zip(paths, found, strict=True) if match is None or match[part] is None]
    if strangers:
        raise UsageError(
            f"`group_pattern` must match every image's path. Received: {pattern!r}, which does not match "
            f"{len(strangers):,} of {len(paths):,}, as '{strangers[0]}'."
        )
    return numbered([match[part] for match in found if match], in_order=True)[1]


def _most_folds(strata: NDArray[np.intp], groups: NDArray[np.intp]) -> int:
    most = min(_MOST_FOLDS, len(np.unique(groups)), int(np.unique(strata, return_counts=True)[1].max()))
    if most < 2:
        raise KerasxferError(
            "A division by groups needs at least two groups, and two images of a class. "
            f"Received: {len(strata)} image(s) in {len(np.unique(groups))} group(s)."
        )
    return most


def _how_many_folds(fraction: float, most: int) -> tuple[int, int]:
    """The fewest folds, and how many of them, that come near to the fraction."""
    options = [
        (abs(taken / folds - fraction), folds, taken) for folds in range(2, most + 1) for taken in range(1, folds)
    ]
    near = [option for option in options if option[0] <= _NEAR]
    _, folds, taken = min(near, key=lambda option: option[1]) if near else min(options)
    return folds, taken
