"""Class folders of images as a dataset for `fit`, `evaluate` and `predict` on every backend."""

import functools
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.images import ImagePolicy
from kerasxfer_serving.inputs.walk import LeftOut

from kerasxfer.augmentation.batches import BatchAugmentation
from kerasxfer.data.division import groups_by_pattern
from kerasxfer.data.image_dataset import ImageDataset
from kerasxfer.data.image_files import choose_classes, find_labelled_images
from kerasxfer.data.image_rows import ImageRows


class ImageFolder(ImageDataset):
    """Images in class folders, decoded in threads: uint8 images and their labels.

    Each folder directly under `root` is a class; its images may be in subfolders. Rows are sorted by class and path, so
    row numbers mean the same in every process. With `shuffle=True` each epoch has its own order, a permutation of the
    samples that depends only on `(seed, epoch)`. Two things to know:

    - `fit` shuffles the order of the batches again, with Python's global generator. Pass `fit(shuffle=False)` for a
      reproducible order, and to let decoding run ahead of training; the samples are still shuffled here.
    - `predict` answers in the dataset's order: pass `shuffle=False` here so that its rows match `paths`.

    Images are decoded by `kerasxfer_serving.images`, as they will be when the model is served, in this object's
    threads, one batch ahead. TensorFlow is not needed.

    Args:
        root: Folder of class folders.
        image_size: `(height, width)` that all images are resized to.
        batch_size: Images per batch; the last batch of an epoch may be smaller. Defaults to `32`.
        label_mode: `"int"` (int32 `[n]`), `"binary"` (float32 `[n, 1]`, two classes only) or `"categorical"`
            (float32 `[n, classes]`, one-hot). Defaults to `"int"`.
        class_names: The classes in index order; they must be exactly the folders in `root`.
            Defaults to `None`, the folders' names, sorted.
        shuffle: Whether each epoch has its own order. Defaults to `True`.
        seed: An integer that fixes order, split and augmentation. Defaults to `None`: a random one, kept in `seed`.
        validation_split: Fraction of each class to hold out, `0 < validation_split < 1`. Needs `seed`, so that both
            subsets come from the same split. Defaults to `None`.
        subset: `"training"` or `"validation"`, only with `validation_split`. Defaults to `None`.
        group_pattern: A regular expression for the group in each image's path, such as `"patient[0-9]+"`: the match of
            its capture group called `group`, of its first capture group, or of the whole expression. No group is on
            both sides of the split. Needs scikit-learn. Defaults to `None`, no groups.
        policy: A `kerasxfer_serving.ImagePolicy`: interpolation, aspect ratio, EXIF. Defaults to `None`,
            the standard one.
        sampling: `"balanced"` for epochs of the usual length in which every class has equally many images, give or take
            one: images of a small class repeat, each time augmented differently, and those of a large class take turns
            over the epochs. Defaults to `None`: each image once.
        augmentation: A `kerasxfer.layers.Augmentation` or `kerasxfer.augmentation.RandAugment` to apply as images are
            decoded. Its randomness depends only on seed, epoch and row; images are then float32. Defaults to `None`.
        batch_augmentation: A `kerasxfer.augmentation.BatchAugmentation`: erasing, MixUp, CutMix. Its randomness
            depends on seed, epoch and batch; images are then float32. Defaults to `None`.
        on_error: What to do with images that cannot be read. `"raise"` costs nothing until an image fails, then checks
            all the others, so that one error names every bad image. `"skip"` decodes everything once at the start,
            leaves out the bad images and lists them in `skipped`. The split comes first, so it does not depend on this.
            Defaults to `"raise"`.
        decisions: Table written by `kerasxfer audit` and filled in by a person: images to leave out, and labels to
            change. Defaults to `None`.
        threads: Decoding threads, used instead of `PyDataset`'s `workers`. Defaults to `None`, one per CPU of this
            process.

    Attributes:
        paths: Relative POSIX paths, one per row.
        labels: Class index of each row, int32.
        class_names: Names of the classes, by index; a class without images keeps its place.
        left_out: What was skipped in `root`, by reason, with counts and examples.
        skipped: A `BadImage` (path, code, message) for each image left out.
        division: How even the split came out, a `Division`; `None` without `validation_split`.
        failure: The `UnreadableImagesError` that ended a batch; TensorFlow's `fit` replaces it with its own error.
        epoch: The epoch whose order is in use: 0 at first, one more after each pass through all batches, or as set by
            `set_epoch`.

    Raises:
        UsageError: If an argument is out of its range, or `root` has no classes or no images.
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
        group_pattern: str | None = None,
        policy: ImagePolicy | None = None,
        sampling: str | None = None,
        augmentation: Any = None,
        batch_augmentation: BatchAugmentation | None = None,
        on_error: str = "raise",
        decisions: str | os.PathLike[str] | None = None,
        threads: int | None = None,
    ) -> None:
        if label_mode == "multi_hot":
            raise UsageError(
                "In class folders every image has one label; several are for `ImageTable`. "
                "Received: label_mode='multi_hot'"
            )
        super().__init__(
            functools.partial(_find_rows, Path(root), class_names, group_pattern),
            image_size,
            batch_size,
            label_mode=label_mode,
            shuffle=shuffle,
            seed=seed,
            validation_split=validation_split,
            subset=subset,
            policy=policy,
            sampling=sampling,
            augmentation=augmentation,
            batch_augmentation=batch_augmentation,
            on_error=on_error,
            decisions=decisions,
            threads=threads,
        )


def _find_rows(root: Path, class_names: Sequence[str] | None, group_pattern: str | None) -> ImageRows:
    left_out = LeftOut()
    folders = choose_classes(root, class_names, left_out)
    paths, labels = find_labelled_images(root, folders, left_out)
    names = list(folders)
    if not paths:
        raise UsageError(
            f"'{root}' must hold images in class folders, as in 'root/cats/1.jpg'. Found classes {names} and no images."
        )
    empty = [name for label, name in enumerate(names) if label not in labels]
    if empty:
        warnings.warn(f"Class folders without images in '{root}': {', '.join(empty)}", stacklevel=4)
    groups = groups_by_pattern(paths, group_pattern) if group_pattern else None
    return ImageRows(root, paths, labels, names, groups=groups, left_out=left_out)
