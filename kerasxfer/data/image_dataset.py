"""Images with labels as a dataset for `fit`, `evaluate` and `predict`, wherever the labels come from."""

import copy
import math
import os
from collections.abc import Callable, Sequence
from typing import Any, Self

import keras
import numpy as np
from kerasxfer_serving.errors import ImageError, UsageError
from kerasxfer_serving.images import ImagePolicy
from kerasxfer_serving.runtime.resources import available_cores
from numpy.typing import NDArray

from kerasxfer.augmentation.batches import BatchAugmentation
from kerasxfer.data.decisions import Decisions
from kerasxfer.data.decoding_ahead import BatchDecoder, PendingBatch, check_images
from kerasxfer.data.division import Division, divide
from kerasxfer.data.image_files import BadImage, UnreadableImagesError
from kerasxfer.data.image_rows import ImageRows
from kerasxfer.data.sampling import EpochOrder, balanced_order
from kerasxfer.keras_internals import Passes

LABEL_MODES = ("int", "binary", "categorical", "multi_hot")
SUBSETS = ("training", "validation", "test")


class ImageDataset(keras.utils.PyDataset):
    """The common base of `ImageFolder` and `ImageTable`; see there.

    Args:
        find_rows: Finds the images and their labels, once the other arguments are known to be right.
        image_size: `(height, width)` that all images are brought to.
        batch_size: Images in a batch.
        label_mode: `"int"`, `"binary"`, `"categorical"` or `"multi_hot"`.
        shuffle: Whether each epoch has its own order.
        seed: Fixes order, split and augmentation; `None` for a random one.
        validation_split: Share of each class that is set aside, or `None`.
        subset: The part to take, or `None` for all.
        policy: How a file becomes pixels; `None` for the standard one.
        sampling: `"balanced"` for as many rows of each class in an epoch, or `None`.
        augmentation: What changes the images one by one, or `None`.
        batch_augmentation: A `kerasxfer.augmentation.BatchAugmentation`, or `None`.
        on_error: `"raise"` or `"skip"`.
        decisions: Table of decisions, or `None`.
        threads: Decoding threads; `None` for one per CPU of this process.
    """

    def __init__(
        self,
        find_rows: Callable[[], ImageRows],
        image_size: tuple[int, int],
        batch_size: int,
        *,
        label_mode: str,
        shuffle: bool,
        seed: int | None,
        validation_split: float | None,
        subset: str | None,
        policy: ImagePolicy | None,
        sampling: str | None,
        augmentation: Any,
        batch_augmentation: BatchAugmentation | None,
        on_error: str,
        decisions: str | os.PathLike[str] | None,
        threads: int | None,
    ) -> None:
        # With more workers, Keras 3.15 on JAX and PyTorch starts each epoch with batches left over from the one
        # before (from building the model, in the first) and never asks for as many of the last ones.
        super().__init__(workers=1)
        _validate(image_size, batch_size, label_mode, on_error)
        _validate_split(validation_split, subset, seed)
        _validate_sampling(sampling, shuffle, label_mode)
        self.image_size = (int(image_size[0]), int(image_size[1]))
        self.batch_size = batch_size
        self.label_mode = label_mode
        self.shuffle = shuffle
        self.seed = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed
        self.policy = policy or ImagePolicy()
        self.sampling = sampling
        self.augmentation = augmentation
        self.batch_augmentation = batch_augmentation
        self.threads = threads or available_cores()
        rows = find_rows()
        if decisions is not None:
            rows = Decisions.read(decisions).applied(rows)
            if not rows.paths:
                raise UsageError(f"'{decisions}' excludes all images in '{rows.root}': nothing is left.")
        self.root = rows.root
        self.class_names = rows.class_names
        self.left_out = rows.left_out
        self.division: Division | None = None
        self._refuse_unusable(rows)
        self._refuse_to_mix(rows)
        self._take(self._subset(rows, validation_split, subset))
        self.skipped: list[BadImage] = []
        self.failure: UnreadableImagesError | None = None
        self._decoder = BatchDecoder(self.root, self.image_size, self.policy, self.threads)
        self._epoch = 0
        self._passes = Passes()
        self._last_index = -1
        self._known_order: EpochOrder | None = None
        self._ahead: tuple[int, int, PendingBatch] | None = None
        if on_error == "skip":
            self._skip_unreadable()

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def epoch(self) -> int:
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """Set the current epoch; see `kerasxfer.callbacks.SetEpoch`."""
        self._epoch = epoch

    def order(self, epoch: int) -> NDArray[np.intp]:
        """Row numbers in the order of an epoch, which depends only on `(seed, epoch)`.

        A permutation; with `sampling="balanced"` every class has equally many rows, give or take one.
        """
        if not self.shuffle:
            return np.arange(len(self.paths))
        return self._order(epoch).rows

    def batch_rows(self, index: int) -> NDArray[np.intp]:
        """Row numbers of a batch in the current epoch."""
        if not 0 <= index < len(self):
            raise IndexError(f"`index` must be in 0 … {len(self) - 1}. Received: index={index}")
        return self.order(self._epoch)[index * self.batch_size : (index + 1) * self.batch_size]

    def load(self, rows: Sequence[int] | NDArray[np.intp], epoch: int | None = None) -> NDArray[Any]:
        """Images of the given rows, in their order.

        Args:
            rows: Row numbers, indices into `paths`.
            epoch: Augment as in this epoch, if the dataset has an augmentation. Defaults to `None`, without
                augmentation.

        Returns:
            Array `[n, height, width, 3]`: uint8, or float32 when augmented.

        Raises:
            UnreadableImagesError: One of these images cannot be read; the message names every unreadable image of the
                dataset.
        """
        return self._result(self._submit(rows, epoch))

    def targets(self, rows: Sequence[int] | NDArray[np.intp]) -> NDArray[Any]:
        """Labels of the given rows, as `label_mode` says."""
        labels: NDArray[Any] = self.labels[rows]
        if self.label_mode == "multi_hot":
            return labels.astype("float32")
        if self.label_mode == "binary":
            return labels.astype("float32")[:, np.newaxis]
        if self.label_mode == "categorical":
            return np.asarray(np.eye(self.num_classes, dtype="float32")[labels])
        return labels

    def targets_and_weights(self, rows: Sequence[int] | NDArray[np.intp]) -> tuple[NDArray[Any], ...]:
        """What follows the images in a batch: `targets`, and the weights of the rows where there are any."""
        weights = () if self.weights is None else (self.weights[rows],)
        return (self.targets(rows), *weights)

    def take(self, chosen: NDArray[np.bool_]) -> Self:
        """Part of this dataset, at the beginning of its first epoch.

        Args:
            chosen: Mask of the rows in the part, `[rows]`.

        Returns:
            A dataset of the chosen rows, otherwise like this one.
        """
        part = copy.copy(self)
        part._epoch, part._last_index = 0, -1
        part._passes, part._known_order, part._ahead = Passes(), None, None
        part._take(self.rows.take(chosen))
        return part

    def check(self) -> list[BadImage]:
        """Decode every image once and return those that cannot be read."""
        return [bad for bad in check_images(self.root, self.paths, self.threads) if bad is not None]

    def class_weight(self) -> dict[int, float]:
        """Weights for `fit(class_weight=…)` that make every class count the same.

        Returns:
            `{class index: samples / (classes with images × samples of the class)}`; classes without images
            are left out.

        Raises:
            UsageError: Images have any number of labels, for which Keras has no such weights.
        """
        if self.label_mode == "multi_hot":
            raise UsageError("`class_weight` is for images with one class each. Received: label_mode='multi_hot'")
        found, counts = np.unique(self.labels, return_counts=True)
        return {
            int(label): len(self.labels) / (len(found) * int(count)) for label, count in zip(found, counts, strict=True)
        }

    def __len__(self) -> int:
        return math.ceil(len(self.paths) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[NDArray[Any], ...]:
        epoch, rows = self._epoch, self.batch_rows(index)
        batch = self._take_ahead(epoch, index) or self._submit_batch(epoch, index)
        in_sequence = index in (0, self._last_index + 1)
        if in_sequence and index + 1 < len(self):
            self._ahead = (epoch, index + 1, self._submit_batch(epoch, index + 1))
        self._last_index = index
        self._passes.serve()
        images, (targets, *weights) = self._result(batch), self.targets_and_weights(rows)
        if self.batch_augmentation is not None:
            images, targets = self.batch_augmentation.augment(images, targets, (self.seed, epoch, index))
        return (images, targets, *weights)

    def on_epoch_end(self) -> None:
        if self._passes.end_epoch(len(self)):
            self._epoch += 1

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_ahead": None}

    def _order(self, epoch: int) -> EpochOrder:
        if self._known_order is None or self._known_order.epoch != epoch:
            if self.sampling is None:
                rows = np.random.default_rng((self.seed, epoch)).permutation(len(self.paths))
            else:
                rows = balanced_order(self.labels, self.seed, epoch)
            self._known_order = EpochOrder(epoch, rows)
        return self._known_order

    def _submit_batch(self, epoch: int, index: int) -> PendingBatch:
        turns = None
        if self.sampling is not None and self.augmentation is not None:
            turns = self._order(epoch).repetitions[index * self.batch_size : (index + 1) * self.batch_size]
        return self._submit(self.batch_rows(index), epoch, turns)

    def _submit(
        self, rows: Sequence[int] | NDArray[np.intp], epoch: int | None, turns: NDArray[np.intp] | None = None
    ) -> PendingBatch:
        """Begin to decode rows; `turns` says how often each has come before in the epoch, which augments it anew."""
        paths = [self.paths[row] for row in rows]
        if self.augmentation is None or epoch is None:
            return self._decoder.submit(paths)

        def augment(at: int, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
            turn = () if turns is None or not turns[at] else (int(turns[at]),)
            seed = (self.seed, epoch, *turn)
            return self.augmentation.augment(pixels[np.newaxis], seed, rows[at : at + 1])[0]  # type: ignore[no-any-return]

        return self._decoder.submit(paths, augment)

    def _take_ahead(self, epoch: int, index: int) -> PendingBatch | None:
        ahead, self._ahead = self._ahead, None
        if ahead is None or ahead[:2] == (epoch, index):
            return ahead and ahead[2]
        ahead[2].cancel()
        return None

    def _result(self, batch: PendingBatch) -> NDArray[Any]:
        try:
            return batch.result()
        except ImageError as error:
            bad_images = self.check()
            if not bad_images:  # readable again: a failing disk or network, not a bad image
                raise
            self.failure = UnreadableImagesError(self.root, bad_images)
            raise self.failure from error

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Leave out the rows that `mask`, `[n]`, does not mark."""
        self._take(self.rows.take(mask))
        self._known_order = self._ahead = None

    def _take(self, rows: ImageRows) -> None:
        self.rows = rows
        self.paths, self.labels, self.weights = rows.paths, rows.labels, rows.weights

    def _subset(self, rows: ImageRows, validation_split: float | None, subset: str | None) -> ImageRows:
        """The rows of `subset`: of the column that tells them apart, or of a split drawn here."""
        if rows.subsets is not None and subset is not None:
            if validation_split is None:
                return self._not_empty(rows.take(rows.subsets == subset), f"no row is for `subset={subset!r}`")
            if "validation" in rows.subsets:
                raise UsageError(
                    "The table says by a column which rows are for validation, and `validation_split` would draw "
                    f"others: leave it out. Received: validation_split={validation_split!r}"
                )
            rows = rows.take(rows.subsets == "training")
        if validation_split is None:
            if subset is not None:
                raise _go_together(validation_split, subset)
            return rows
        chosen = divide(rows, validation_split, self.seed)
        self.division = Division.of(rows, chosen)
        kept = rows.take(chosen if subset == "validation" else ~chosen)
        return self._not_empty(kept, f"`validation_split={validation_split}` leaves no image for `subset={subset!r}`")

    def _not_empty(self, rows: ImageRows, reason: str) -> ImageRows:
        if not rows.paths:
            raise UsageError(f"{reason}: of the images in '{self.root}', too few are of the same class.")
        return rows

    def _refuse_unusable(self, rows: ImageRows) -> None:
        if self.label_mode == "binary" and self.num_classes != 2:
            raise UsageError(
                "`label_mode='binary'` needs exactly two classes; use 'int' or 'categorical'. "
                f"Received: classes {self.class_names}"
            )

    def _refuse_to_mix(self, rows: ImageRows) -> None:
        if self.batch_augmentation is None or not self.batch_augmentation.mixes:
            return
        if self.label_mode == "int":
            raise UsageError(
                "MixUp and CutMix mix targets, so these must be numbers that can be: use `label_mode='categorical'`. "
                "Received: label_mode='int'"
            )
        if rows.weights is not None:
            raise UsageError(
                "MixUp and CutMix make one image of two, whose weights may differ: leave out `weight_column`, or "
                "them. Received: both"
            )

    def _skip_unreadable(self) -> None:
        self.skipped = self.check()
        bad = {image.path for image in self.skipped}
        if len(bad) == len(self.paths):
            raise UnreadableImagesError(self.root, self.skipped)
        self._take(self.rows.take(np.array([path not in bad for path in self.paths])))


def _validate(image_size: tuple[int, int], batch_size: int, label_mode: str, on_error: str) -> None:
    if len(image_size) != 2 or min(image_size) < 1:
        raise UsageError(f"`image_size` must be (height, width), both positive. Received: image_size={image_size!r}")
    if batch_size < 1:
        raise UsageError(f"`batch_size` must be 1 or more. Received: batch_size={batch_size!r}")
    if label_mode not in LABEL_MODES:
        raise UsageError(f"`label_mode` must be one of {LABEL_MODES}. Received: label_mode={label_mode!r}")
    if on_error not in ("raise", "skip"):
        raise UsageError(f"`on_error` must be 'raise' or 'skip'. Received: on_error={on_error!r}")


def _validate_sampling(sampling: str | None, shuffle: bool, label_mode: str) -> None:
    if sampling not in (None, "balanced"):
        raise UsageError(f"`sampling` must be None or 'balanced'. Received: sampling={sampling!r}")
    if sampling is not None and not shuffle:
        raise UsageError("`sampling='balanced'` draws the rows of each epoch, which needs `shuffle=True`.")
    if sampling is not None and label_mode == "multi_hot":
        raise UsageError("`sampling='balanced'` is for images with one class each. Received: label_mode='multi_hot'")


def _go_together(validation_split: float | None, subset: str | None) -> UsageError:
    return UsageError(
        "`validation_split` and `subset` go together: give both or none. "
        f"Received: validation_split={validation_split!r}, subset={subset!r}"
    )


def _validate_split(validation_split: float | None, subset: str | None, seed: int | None) -> None:
    known = SUBSETS if validation_split is None else SUBSETS[:2]
    if subset not in (None, *known):
        raise UsageError(f"`subset` must be one of {known}. Received: subset={subset!r}")
    if validation_split is None:
        return
    if subset is None:
        raise _go_together(validation_split, subset)
    if not 0 < validation_split < 1:
        raise UsageError(f"`validation_split` must be between 0 and 1. Received: validation_split={validation_split!r}")
    if seed is None:
        raise UsageError("`validation_split` needs a `seed`, or the two subsets would overlap. Received: seed=None")
