"""Logistic heads on features: what is said of each image by a head that has not seen it."""

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import repeat
from types import ModuleType
from typing import Any

import numpy as np
from kerasxfer_serving.errors import KerasxferError, UsageError
from kerasxfer_serving.runtime.resources import available_cores
from numpy.typing import NDArray

from kerasxfer.data.division import classes_of, grouped_folds
from kerasxfer.probing.features import standardised

FOLDS = 5
_STRENGTHS = tuple(float(10.0 ** (half / 2)) for half in range(-10, 5))
_SEARCHED = 20_000
"""Rows that the strength is chosen on, at most."""
_ITERATIONS = 200
_Answered = tuple[NDArray[np.float64], float]  # probabilities out of fold, and the strength they were reached at


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """What heads said of the images that they were not fitted on.

    Args:
        probabilities: Of each class, float64 `[images, classes]`. Rows sum to 1, but where images have any number of
            labels.
        strength: Inverse strength of the regularisation, scikit-learn's `C`, with the least log loss out of fold.
        fold: In which fold each image was held out, `[images]`.
    """

    probabilities: NDArray[np.float64]
    strength: float
    fold: NDArray[np.intp]


def out_of_fold(
    features: NDArray[np.float32],
    labels: NDArray[Any],
    classes: int,
    *,
    groups: NDArray[Any] | None = None,
    folds: int = FOLDS,
    seed: int = 0,
    strength: float | None = None,
) -> OutOfFold:
    """Let logistic heads on standardised features answer to images that they have not seen.

    The images are divided into folds with even classes; each is answered to by a head that was fitted on the others.
    How strongly the heads are regularised is chosen by the log loss of these answers, which matters more than anything
    else where labels are wrong.

    Args:
        features: Array `[images, channels]`.
        labels: Class indices, int `[images]`; or bool `[images, classes]` where images have any number of labels.
        classes: Number of classes.
        groups: What must not be divided among folds, such as copies of an image, `[images]`. Defaults to `None`.
        folds: Number of folds. Defaults to `5`.
        seed: Seed of the division. Defaults to `0`.
        strength: Inverse strength of the regularisation. Defaults to `None`: it is chosen.

    Returns:
        An `OutOfFold`.

    Raises:
        UsageError: There are fewer images (or groups) than folds, or fewer than two classes.
        KerasxferError: scikit-learn is not installed.

    Example:

    >>> features = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
    >>> labels = (features[:, 0] > 0).astype(int)
    >>> out_of_fold(features, labels, 2).probabilities.shape
    (40, 2)
    """
    rows = standardised(features)
    fold = divided(labels, folds, groups, seed)
    if strength is None:
        if len(rows) <= _SEARCHED:
            return OutOfFold(*_best(_paths(rows, labels, classes, fold), labels), fold)
        some = np.random.default_rng(seed).permutation(len(rows))[:_SEARCHED]
        _, strength = _best(_paths(rows[some], labels[some], classes, fold[some]), labels[some])
    return OutOfFold(next(_paths(rows, labels, classes, fold, (strength,)))[0], strength, fold)


def _best(paths: Iterator[_Answered], labels: NDArray[Any]) -> _Answered:
    """The answers, and their strength, after which the log loss rises."""
    best = next(paths)
    for stronger in paths:
        if log_loss(stronger[0], labels) >= log_loss(best[0], labels):
            break
        best = stronger
    return best


def out_of_folds(
    features: NDArray[np.float32],
    labels: NDArray[Any],
    classes: int,
    *,
    divisions: int = 3,
    groups: NDArray[Any] | None = None,
    seed: int = 0,
) -> OutOfFold:
    """As `out_of_fold`, the mean over several divisions: less depends on which images a head was fitted on.

    The regularisation is chosen on the first one. Beyond 20,000 images there is no other, for little depends on it.

    Args:
        features: As in `out_of_fold`, and so the rest.
        labels: See `out_of_fold`.
        classes: See `out_of_fold`.
        divisions: Number of divisions. Defaults to `3`.
        groups: See `out_of_fold`. Defaults to `None`.
        seed: Seed of the first division. Defaults to `0`.

    Returns:
        An `OutOfFold` with the folds and the strength of the first division.
    """
    first = out_of_fold(features, labels, classes, groups=groups, seed=seed)
    others = [
        out_of_fold(features, labels, classes, groups=groups, seed=seed + number, strength=first.strength)
        for number in range(1, divisions if len(labels) <= _SEARCHED else 1)
    ]
    mean = np.mean([first.probabilities, *(each.probabilities for each in others)], axis=0)
    return replace(first, probabilities=mean)


def held_out(
    features: NDArray[np.float32],
    labels: NDArray[Any],
    other: NDArray[np.float32],
    classes: int,
    strength: float,
) -> NDArray[np.float64]:
    """Let a head that was fitted on all of one set answer to another one.

    Args:
        features: Array `[images, channels]` to fit on.
        labels: Their labels, as in `out_of_fold`.
        other: Features of the other images, `[others, channels]`.
        classes: Number of classes.
        strength: As `out_of_fold` has chosen it.

    Returns:
        Probabilities, float64 `[others, classes]`.
    """
    rows = standardised(np.concatenate([features, other]))
    heads = _Heads(labels, classes)
    with _fitting():
        heads.fit(rows[: len(features)], labels, strength)
    return heads.answer(rows[len(features) :])


def log_loss(probabilities: NDArray[np.float64], labels: NDArray[Any]) -> float:
    """Mean negative logarithm of the probability of what is true of each image; of each label where it has several."""
    chances = np.clip(probabilities, 1e-15, 1.0)
    if labels.ndim == 1:
        return float(-np.log(chances[np.arange(len(labels)), labels]).mean())
    others = np.clip(1.0 - probabilities, 1e-15, 1.0)
    return float(-np.where(labels, np.log(chances), np.log(others)).mean())


def divided(labels: NDArray[Any], folds: int, groups: NDArray[Any] | None = None, seed: int = 0) -> NDArray[np.intp]:
    """Divide images into folds in which every class has its share, and no group is divided.

    Groups of several images are divided as splits do it; of several labels the rarest of each image is balanced.

    Args:
        labels: As in `out_of_fold`.
        folds: Number of folds.
        groups: As in `out_of_fold`. Defaults to `None`.
        seed: Seed of the division. Defaults to `0`.

    Returns:
        Number of each image's fold, `[images]`.
    """
    count = len(labels) if groups is None else len(np.unique(groups))
    if not 2 <= folds <= count:
        things = "images" if groups is None else "groups of images"
        raise UsageError(f"`folds` must be from 2 to the number of {things}, {count}. Received: folds={folds}")
    strata, fold = classes_of(labels), np.full(len(labels), -1, np.intp)
    if groups is not None:
        _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        several = sizes[group] > 1  # most images are alone, and need no search for a place
        fold[several] = _folds_of_groups(strata[several], group[several], folds, seed)
    order, dealt = np.random.default_rng(seed).permutation(len(labels)), 0
    for stratum in np.unique(strata):
        members = order[strata[order] == stratum]
        free = members[fold[members] < 0]
        have = np.bincount(fold[members][fold[members] >= 0], minlength=folds)
        places = have.max() + len(free) // folds + 1  # of each fold: more than the free ones can fill
        level = (have[:, None] + np.arange(places)).ravel()
        place = np.repeat(np.arange(folds), places)
        # The emptiest fold first; of equals, classes take turns.
        fold[free] = place[np.lexsort(((place - dealt) % folds, level))[: len(free)]]
        dealt += len(free)
    return fold


def _folds_of_groups(strata: NDArray[np.intp], group: NDArray[np.intp], folds: int, seed: int) -> NDArray[np.intp]:
    numbers = np.unique(group, return_inverse=True)[1]
    if len(numbers) == 0 or numbers.max() < folds:
        return numbers  # a fold for each
    if np.unique(strata, return_counts=True)[1].max() < folds:
        strata = np.zeros_like(strata)  # too few images of any class to spread it
    return grouped_folds(strata, group, folds, seed)


def _paths(
    rows: NDArray[np.float32],
    labels: NDArray[Any],
    classes: int,
    fold: NDArray[np.intp],
    strengths: Sequence[float] = _STRENGTHS,
) -> Iterator[_Answered]:
    """Answers out of fold at one strength after another, each begun at the heads of the one before."""
    numbers = np.unique(fold)
    heads = [_Heads(labels, classes) for _ in numbers]

    def answer(head: _Heads, number: int, strength: float) -> NDArray[np.float64]:
        held = fold == number
        head.fit(rows[~held], labels[~held], strength)  # no name keeps the copy until the next one is there
        return head.answer(rows[held])

    # Every fold copies its rows: of many, one copy at a time is enough.
    threads = 1 if len(rows) >= _SEARCHED else available_cores()
    for strength in strengths:
        answers = np.empty((len(rows), classes))
        with _fitting(), ThreadPoolExecutor(threads) as pool:
            for number, part in zip(numbers, pool.map(answer, heads, numbers, repeat(strength)), strict=True):
                answers[fold == number] = part
        yield answers, strength


class _Heads:
    """One logistic regression; one for each class where images have any number of labels."""

    def __init__(self, labels: NDArray[Any], classes: int) -> None:
        linear_model = _library("sklearn.linear_model")
        count = 1 if labels.ndim == 1 else classes
        self._classes = classes
        self._heads = [linear_model.LogisticRegression(warm_start=True, max_iter=_ITERATIONS) for _ in range(count)]
        self._single = labels.ndim == 1
        self._constant: dict[int, float] = {}

    def fit(self, rows: NDArray[np.float32], labels: NDArray[Any], strength: float) -> None:
        # Of many rows a copy in float64 is most of the memory, and changes little.
        exact = rows if len(rows) > _SEARCHED else rows.astype(np.float64)
        columns = [labels] if self._single else list(labels.T)
        for number, (head, column) in enumerate(zip(self._heads, columns, strict=True)):
            if len(np.unique(column)) < 2:  # nothing to tell apart in this fold
                self._constant[number] = float(column[0])
                continue
            head.set_params(C=strength).fit(exact, column)

    def answer(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        answers = np.zeros((len(rows), self._classes))
        if self._single:
            if 0 in self._constant:
                answers[:, int(self._constant[0])] = 1.0
            else:
                answers[:, self._heads[0].classes_] = self._heads[0].predict_proba(rows)
            return answers
        for number, head in enumerate(self._heads):
            constant = self._constant.get(number)
            answers[:, number] = head.predict_proba(rows)[:, 1] if constant is None else constant
        return answers


@contextmanager
def _fitting() -> Iterator[None]:
    """Fit without warnings, for an early stop is as good a head, and each head in one thread.

    In several, products as small as these are up to fifty times slower on a machine that does other work.
    """
    with warnings.catch_warnings(), _library("threadpoolctl").threadpool_limits(1, "blas"):
        warnings.simplefilter("ignore")
        yield


def _library(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise KerasxferError(f'Linear heads need `{error.name}`. Run: pip install "kerasxfer[report]"') from None
