"""Class folders of images as a dataset for `fit`, `evaluate` and `predict` on every backend."""

import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from kerasxfer_serving.errors import ImageError, UsageError
from kerasxfer_serving.images import ImagePolicy
from kerasxfer_serving.inputs.walk import LeftOut
from kerasxfer_serving.runtime.threads import available_cores
from numpy.typing import NDArray

from kerasxfer.data.decoding_ahead import BatchDecoder, PendingBatch, check_images
from kerasxfer.data.image_files import (
    BadImage,
    UnreadableImagesError,
    choose_classes,
    find_labelled_images,
    stratified_split,
)
from kerasxfer.data.passes import Passes

_LABEL_MODES = ("int", "binary", "categorical")
_SUBSETS = ("training", "validation")


class ImageFolder(keras.utils.PyDataset):
    """Images in class folders, decoded in threads: uint8 images and their labels.

    A folder directly under `root` is a class; its images may lie in folders of their own. The rows are sorted by
    class and path, so that row numbers mean the same in every process. With `shuffle=True` each epoch has an order of
    its own, a permutation of the samples that depends on `(seed, epoch)` alone. Two things to know:

    - `fit` shuffles once more, the order of the batches, with Python's global generator. Pass `fit(shuffle=False)`
      for an order that can be repeated, and for decoding that runs ahead of training; the samples are shuffled here
      all the same.
    - `predict` answers in the dataset's order: pass `shuffle=False` here to read its rows beside `paths`.

    Images are decoded by `kerasxfer_serving.images`, as they will be when the model is served, in threads of this
    object, one batch ahead of the one in use. TensorFlow is not needed.

    Args:
        root: Folder of class folders.
        image_size: `(height, width)` that all images are brought to.
        batch_size: Images in a batch; the last one of an epoch may have fewer. Defaults to `32`.
        label_mode: `"int"` (int32 `[n]`), `"binary"` (float32 `[n, 1]`, two classes only) or `"categorical"`
            (float32 `[n, classes]`, one-hot). Defaults to `"int"`.
        class_names: The classes in the order of their indices; they must be exactly the folders in `root`.
            Defaults to `None`, the folders' names, sorted.
        shuffle: Whether each epoch has its own order. Defaults to `True`.
        seed: An integer; fixes order, split and augmentation. Defaults to `None`: a random one, kept in `seed`.
        validation_split: Share of each class that is set aside, `0 < validation_split < 1`. Needs `seed`, so that
            both subsets are divided alike. Defaults to `None`.
        subset: `"training"` or `"validation"`, with `validation_split` only. Defaults to `None`.
        policy: A `kerasxfer_serving.ImagePolicy`: interpolation, aspect ratio, EXIF. Defaults to `None`,
            the standard one.
        augmentation: A `kerasxfer.layers.Augmentation` that changes the images as they are decoded, with randomness
            that depends on seed, epoch and row alone; images are then float32. Defaults to `None`.
        on_error: What to do about images that cannot be read. `"raise"` costs nothing until an image fails, and
            then checks all the others, so that one error names every bad image. `"skip"` decodes
            everything once at the start, leaves the bad ones out and lists them in `skipped`. The split is made
            before, so it does not depend on it. Defaults to `"raise"`.
        threads: Decoding threads. Defaults to `None`, one per CPU of this process. They take the place of
            `PyDataset`'s `workers`.

    Attributes:
        paths: Relative POSIX paths, one per row.
        labels: Class index of each row, int32.
        class_names: Names of the classes, by index; a class without images keeps its place.
        left_out: What lies in `root` and was not taken, by reason, with counts and examples.
        skipped: A `BadImage` (path, code, message) for each image left out.
        failure: The `UnreadableImagesError` that a batch ended with, which TensorFlow's `fit` replaces by an error of
            its own.
        epoch: The epoch whose order is in force: 0 at first, one more after each pass through all batches, or as
            `set_epoch` says.

    Raises:
        UsageError: If an argument is out of its range, or `root` holds no classes or no images.
        UnreadableImagesError: If images cannot be read and `on_error="raise"`.

    Example:

    ```python
    train = kerasxfer.ImageFolder("pets", (150, 150), seed=1, validation_split=0.2, subset="training")
    validation = kerasxfer.ImageFolder(
        "pets", (150, 150), seed=1, validation_split=0.2, subset="validation", shuffle=False
    )
    model = kerasxfer.image_classifier("DemoVGG", train.class_names, train.image_size)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(train, validation_data=validation, epochs=2, shuffle=False, class_weight=train.class_weight())
    ```
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        image_size: tuple[int, int],
        batch_size: int = 32,
        *,
        label_mode: str = "int",
        class_names: Sequence[str] | None = None,
        shuffle: bool = True,
        seed: int | None = None,
        validation_split: float | None = None,
        subset: str | None = None,
        policy: ImagePolicy | None = None,
        augmentation: Any = None,
        on_error: str = "raise",
        threads: int | None = None,
    ) -> None:
        # With more workers, Keras 3.15 on JAX and PyTorch starts each epoch with batches left over from the one
        # before (from building the model, in the first) and never asks for as many of the last ones.
        super().__init__(workers=1)
        _validate(image_size, batch_size, label_mode, on_error)
        _validate_split(validation_split, subset, seed)
        self.root = Path(root)
        self.image_size = (int(image_size[0]), int(image_size[1]))
        self.batch_size = batch_size
        self.label_mode = label_mode
        self.shuffle = shuffle
        self.seed = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed
        self.policy = policy or ImagePolicy()
        self.augmentation = augmentation
        self.threads = threads or available_cores()
        self._decoder = BatchDecoder(self.root, self.image_size, self.policy, self.threads)
        self.left_out = LeftOut()
        folders = choose_classes(self.root, class_names, self.left_out)
        self.class_names = list(folders)
        self.paths, self.labels = find_labelled_images(self.root, folders, self.left_out)
        self.skipped: list[BadImage] = []
        self.failure: UnreadableImagesError | None = None
        self._epoch = 0
        self._passes = Passes()
        self._last_index = -1
        self._known_order: tuple[int, NDArray[np.intp]] | None = None
        self._ahead: tuple[int, int, PendingBatch] | None = None
        self._refuse_unusable()
        if validation_split is not None:
            chosen = stratified_split(self.labels, validation_split, self.seed)
            self._keep(chosen if subset == "validation" else ~chosen)
            if not self.paths:
                raise UsageError(
                    f"`validation_split={validation_split}` leaves no image for `subset='{subset}'`: every class in "
                    f"'{self.root}' has a single image."
                )
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
        """Row numbers in the order of an epoch: a permutation that depends on `(seed, epoch)` alone."""
        if not self.shuffle:
            return np.arange(len(self.paths))
        known = self._known_order
        if known is None or known[0] != epoch:
            known = (epoch, np.random.default_rng((self.seed, epoch)).permutation(len(self.paths)))
            self._known_order = known
        return known[1]

    def batch_rows(self, index: int) -> NDArray[np.intp]:
        """Row numbers of a batch in the current epoch."""
        if not 0 <= index < len(self):
            raise IndexError(f"`index` must be in 0 … {len(self) - 1}. Received: index={index}")
        return self.order(self._epoch)[index * self.batch_size : (index + 1) * self.batch_size]

    def load(self, rows: Sequence[int] | NDArray[np.intp], epoch: int | None = None) -> NDArray[Any]:
        """Images of the given rows, in their order.

        Args:
            rows: Row numbers, indices into `paths`.
            epoch: Augment as in this epoch, where the dataset has an augmentation. Defaults to `None`, the images
                as they are.

        Returns:
            Array `[n, height, width, 3]`: uint8, or float32 when augmented.

        Raises:
            UnreadableImagesError: Naming every unreadable image of the dataset, when one of these is.
        """
        return self._result(self._submit(rows, epoch))

    def targets(self, rows: Sequence[int] | NDArray[np.intp]) -> NDArray[Any]:
        """Labels of the given rows, as `label_mode` says."""
        labels = self.labels[rows]
        if self.label_mode == "binary":
            return labels.astype("float32")[:, np.newaxis]
        if self.label_mode == "categorical":
            return np.eye(self.num_classes, dtype="float32")[labels]
        return labels

    def check(self) -> list[BadImage]:
        """Decode every image once and return those that cannot be read."""
        return [bad for bad in check_images(self.root, self.paths, self.threads) if bad is not None]

    def class_weight(self) -> dict[int, float]:
        """Weights for `fit(class_weight=…)` by which every class counts the same.

        Returns:
            `{class index: samples / (classes with images × samples of the class)}`; classes without images
            are left out.
        """
        found, counts = np.unique(self.labels, return_counts=True)
        return {
            int(label): len(self.labels) / (len(found) * int(count)) for label, count in zip(found, counts, strict=True)
        }

    def __len__(self) -> int:
        return math.ceil(len(self.paths) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[NDArray[Any], NDArray[Any]]:
        epoch, rows = self._epoch, self.batch_rows(index)
        batch = self._take_ahead(epoch, index) or self._submit(rows, epoch)
        in_sequence = index in (0, self._last_index + 1)
        if in_sequence and index + 1 < len(self):
            self._ahead = (epoch, index + 1, self._submit(self.batch_rows(index + 1), epoch))
        self._last_index = index
        self._passes.serve()
        return self._result(batch), self.targets(rows)

    def on_epoch_end(self) -> None:
        if self._passes.end_epoch(len(self)):
            self._epoch += 1

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_ahead": None}

    def _submit(self, rows: Sequence[int] | NDArray[np.intp], epoch: int | None) -> PendingBatch:
        paths = [self.paths[row] for row in rows]
        if self.augmentation is None or epoch is None:
            return self._decoder.submit(paths)
        augment, seed = self.augmentation.augment, (self.seed, epoch)
        return self._decoder.submit(paths, lambda at, pixels: augment(pixels[np.newaxis], seed, rows[at : at + 1])[0])

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

    def _keep(self, mask: NDArray[np.bool_]) -> None:
        self.paths = [path for path, kept in zip(self.paths, mask, strict=True) if kept]
        self.labels = self.labels[mask]

    def _refuse_unusable(self) -> None:
        if self.label_mode == "binary" and self.num_classes != 2:
            raise UsageError(
                "`label_mode='binary'` needs exactly two class folders; use 'int' or 'categorical'. "
                f"Received: classes {self.class_names}"
            )
        if not self.paths:
            raise UsageError(
                f"'{self.root}' must hold images in class folders, as in 'root/cats/1.jpg'. Found classes "
                f"{self.class_names} and no images."
            )
        empty = [name for label, name in enumerate(self.class_names) if label not in self.labels]
        if empty:
            warnings.warn(f"Class folders without images in '{self.root}': {', '.join(empty)}", stacklevel=3)

    def _skip_unreadable(self) -> None:
        self.skipped = self.check()
        bad = {image.path for image in self.skipped}
        if len(bad) == len(self.paths):
            raise UnreadableImagesError(self.root, self.skipped)
        self._keep(np.array([path not in bad for path in self.paths]))


def _validate(image_size: tuple[int, int], batch_size: int, label_mode: str, on_error: str) -> None:
    if len(image_size) != 2 or min(image_size) < 1:
        raise UsageError(f"`image_size` must be (height, width), both positive. Received: image_size={image_size!r}")
    if batch_size < 1:
        raise UsageError(f"`batch_size` must be 1 or more. Received: batch_size={batch_size!r}")
    if label_mode not in _LABEL_MODES:
        raise UsageError(f"`label_mode` must be one of {_LABEL_MODES}. Received: label_mode={label_mode!r}")
    if on_error not in ("raise", "skip"):
        raise UsageError(f"`on_error` must be 'raise' or 'skip'. Received: on_error={on_error!r}")


def _validate_split(validation_split: float | None, subset: str | None, seed: int | None) -> None:
    if (validation_split is None) != (subset is None):
        raise UsageError(
            "`validation_split` and `subset` go together: give both or none. "
            f"Received: validation_split={validation_split!r}, subset={subset!r}"
        )
    if validation_split is None:
        return
    if not 0 < validation_split < 1:
        raise UsageError(f"`validation_split` must be between 0 and 1. Received: validation_split={validation_split!r}")
    if subset not in _SUBSETS:
        raise UsageError(f"`subset` must be one of {_SUBSETS}. Received: subset={subset!r}")
    if seed is None:
        raise UsageError("`validation_split` needs a `seed`, or the two subsets would overlap. Received: seed=None")
