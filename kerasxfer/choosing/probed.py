"""A candidate in front of the images: features, out-of-fold answers, and what follows from them."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import keras
import numpy as np
from numpy.typing import NDArray

from kerasxfer.bottleneck.cache import BottleneckCache
from kerasxfer.choosing.answers import Answers
from kerasxfer.choosing.candidates import Candidate
from kerasxfer.choosing.head import fit_head
from kerasxfer.choosing.learning_curve import LearningCurve, learning_curve
from kerasxfer.choosing.learning_rates import LearningRateTrial, try_learning_rates
from kerasxfer.data.image_dataset import ImageDataset
from kerasxfer.data.opening import opener, subsets
from kerasxfer.data.tables.columns import TableOptions
from kerasxfer.probing.features import pooled_features
from kerasxfer.probing.probe import OutOfFold, out_of_fold

HELD_OUT = 0.2
"""Share of the images that learning rates are judged on, where no column says which are for validation."""


@dataclass(frozen=True)
class Setting:
    """What is the same for all candidates.

    Args:
        data: Folder of class folders, or table of images and labels.
        table: What is said about the table; the pattern of groups counts for folders too.
        multi_label: Whether any number of classes may fit an image.
        folds: Number of folds.
        cache: Where the features are kept.
        seed: Seed of folds and parts.
    """

    data: str | os.PathLike[str]
    table: TableOptions
    multi_label: bool
    folds: int
    cache: BottleneckCache
    seed: int

    @property
    def validation_split(self) -> float | None:
        """Share of the images to hold out for validation; `None` for a table that says which are for it."""
        return None if "validation" in subsets(self.data, self.table) else HELD_OUT

    def images(self, image_size: tuple[int, int]) -> ImageDataset:
        """The images to choose on: all, or those for training, of a table that tells them apart."""
        subset = "training" if "training" in subsets(self.data, self.table) else None
        return self._open(image_size, shuffle=False, subset=subset)

    def part(self, image_size: tuple[int, int], subset: str) -> ImageDataset:
        """Some of the images: `"training"` or `"validation"`."""
        return self._open(
            image_size, shuffle=subset == "training", validation_split=self.validation_split, subset=subset
        )

    def classifier(self, candidate: Candidate, images: ImageDataset) -> keras.Model:
        """The candidate's classifier of these images."""
        return candidate.classifier(images.class_names, multi_label=self.multi_label)

    def _open(
        self, image_size: tuple[int, int], *, shuffle: bool, subset: str | None, validation_split: float | None = None
    ) -> ImageDataset:
        return opener(self.data, self.table)(
            image_size,
            label_mode="multi_hot" if self.multi_label else "int",
            shuffle=shuffle,
            seed=self.seed,
            validation_split=validation_split,
            subset=subset,
        )


class Probed:
    """A classifier and the images that its head is to learn from.

    Args:
        model: The classifier, its backbone frozen.
        images: The images, at its size.
        setting: How they are divided, and where features are kept.
    """

    def __init__(self, model: keras.Model, images: ImageDataset, setting: Setting) -> None:
        self.model = model
        self.images = images
        self.labels = images.labels
        self.groups = images.rows.groups
        self._setting = setting

    @cached_property
    def features(self) -> NDArray[np.float32]:
        """Pooled features of all images, `[images, channels]`, from the cache where they are there."""
        return pooled_features(self.model, self.images, self._setting.cache)

    @cached_property
    def out_of_fold(self) -> OutOfFold:
        """What logistic heads say of the images that they have not seen."""
        return self._out_of_fold(np.arange(len(self.labels)))

    @cached_property
    def answers(self) -> Answers:
        """The same, beside the labels."""
        return Answers(self.labels, self.out_of_fold.probabilities, self.groups)

    def fit_head(self) -> None:
        """Put the logistic head, fitted on all images, into the model."""
        fit_head(self.model, self.features, self.labels, self.out_of_fold.strength)

    def learning_curve(self) -> LearningCurve | None:
        """How the error falls with the number of images."""

        def error(rows: NDArray[np.intp]) -> float:
            return 1 - Answers(self.labels[rows], self._out_of_fold(rows).probabilities).value

        least = 2 * self._setting.folds
        return learning_curve(
            error, 1 - self.answers.value, self.labels, self.groups, least=least, seed=self._setting.seed
        )

    def try_learning_rates(self, say: Callable[[str], None]) -> list[LearningRateTrial]:
        """What three learning rates make of the last block, judged on images that are held out."""
        setting = self._setting
        training, validation = (setting.part(self.images.image_size, subset) for subset in ("training", "validation"))
        features = pooled_features(self.model, training, setting.cache)
        fit_head(self.model, features, training.labels, self.out_of_fold.strength)
        return try_learning_rates(self.model, training, validation, setting.cache, say=say)

    def _out_of_fold(self, rows: NDArray[np.intp]) -> OutOfFold:
        return out_of_fold(
            self.features[rows],
            self.labels[rows],
            self.images.num_classes,
            groups=None if self.groups is None else self.groups[rows],
            folds=self._setting.folds,
            seed=self._setting.seed,
        )
