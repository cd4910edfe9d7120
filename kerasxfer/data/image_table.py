"""Images and labels in a table as a dataset for `fit`, `evaluate` and `predict` on every backend."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from kerasxfer_serving.images import ImagePolicy

from kerasxfer.augmentation.batches import BatchAugmentation
from kerasxfer.data.image_dataset import ImageDataset
from kerasxfer.data.image_rows import ImageRows
from kerasxfer.data.tables.columns import TableColumns, TableOptions
from kerasxfer.data.tables.rows import read_rows


class ImageTable(ImageDataset):
    """Images whose labels come from a table: one row per image, in the table's order.

    Does everything that `ImageFolder` does (seeded order, decoding ahead, augmentation) for labels as most people have
    them: a CSV next to a folder of images, the metadata of a Hugging Face `imagefolder`, exports of Roboflow
    (multi-class CSV) and Label Studio (CSV), one column per class, a data frame.

    Args:
        table: Path of a CSV, TSV, JSON Lines or Parquet file; a data frame of pandas, Polars or another library that
            narwhals supports; or a dictionary of columns. Parquet files and data frames need `kerasxfer[tables]`.
        image_size: `(height, width)` in pixels that all images are resized to.
        batch_size: Images per batch; the last batch of an epoch may be smaller. Defaults to `32`.
        root: Folder that the paths are relative to. Defaults to `None`, the table's folder or, for a data frame, the
            current one.
        image_column: Column with the image paths; names without a suffix are found too. Defaults to `None`: the first
            column called `image`, `path`, `file_name`, `filename`, `filepath`, `image_path`, …, `id`.
        label_column: Column with the labels, or a list of columns of 0 and 1, one per class. Defaults to `None`: a
            column called `label`, `class`, `category`, `target`, …, or otherwise all other columns, if there are two or
            more and they hold only 0 and 1.
        separator: Separator between the labels in a cell, for `label_mode="multi_hot"`. Defaults to `None`: whichever
            of `|`, `;` and `,` the column contains. Lists need none.
        label_mode: `"int"` (int32 `[n]`), `"binary"` (float32 `[n, 1]`, two classes only), `"categorical"` (float32
            `[n, classes]`, one-hot), or, for images with any number of labels, `"multi_hot"` (float32 `[n, classes]`).
            Defaults to `"int"`.
        class_names: The classes in index order. They must include all labels of the table; numeric labels may be
            indices into them. Defaults to `None`: the labels, sorted, numerically if they are numbers.
        weight_column: Column with the rows' weights: batches then carry them as a third element, which `fit` uses as
            sample weights. Defaults to `None`: all rows count the same.
        group_column: Column with the groups, such as patients: no group is on both sides of the split. Needs
            scikit-learn. Defaults to `None`, no groups.
        group_pattern: A regular expression for the group in each image's path instead: the match of its capture group
            called `group`, of its first capture group, or of the whole expression. Defaults to `None`.
        split_column: Column that assigns rows to `train`, `validation` and `test`; `subset` then selects among them.
            `""` ignores a column called `split`. Defaults to `None`: that column, if it exists.
        shuffle: Whether each epoch has its own order. Defaults to `True`.
        seed: An integer that fixes order, split and augmentation. Defaults to `None`: a random one, kept in `seed`.
        validation_split: Fraction of each class to hold out, `0 < validation_split < 1`. Needs `seed`. Rows that the
            table marks as test are in neither subset. Defaults to `None`.
        subset: `"training"` or `"validation"`, from `validation_split` or from the table's column, or `"test"`, from
            the column. Defaults to `None`, all rows.
        policy: A `kerasxfer_serving.ImagePolicy`. Defaults to `None`, the standard one.
        sampling: As in `ImageFolder`. Defaults to `None`.
        augmentation: As in `ImageFolder`. Defaults to `None`.
        batch_augmentation: As in `ImageFolder`; not with `weight_column`. Defaults to `None`.
        on_error: As in `ImageFolder`; missing images are detected at the start. Defaults to `"raise"`.
        decisions: Table written by `kerasxfer audit` and filled in by a person: images to leave out, and labels to
            change. Defaults to `None`.
        threads: Decoding threads. Defaults to `None`, one per CPU of this process.

    Attributes:
        paths: Paths of the images, one per row, relative to `root`.
        labels: Class index of each row, int32; with `label_mode="multi_hot"` bool `[n, classes]`.
        class_names: Names of the classes, by index.
        weights: Weight of each row, float32, or `None`.
        columns: The columns in use; `columns.found` says which of them were found by name.
        subset_counts: Number of rows per subset, according to the split column; empty without one.
        division: How even the split came out; `None` without `validation_split`.
        skipped: A `BadImage` (path, code, message) for each image left out.
        failure: As in `ImageFolder`.
        epoch: As in `ImageFolder`.

    Raises:
        UsageError: An argument is out of its range, or the table does not hold images and labels.
        UnreadableImagesError: Images cannot be read and `on_error="raise"`.

    Example:

    ```python
    table = {"image": ["cats/0.jpg", "cats/1.jpg", "dogs/0.jpg"], "tags": ["cat|indoor", "cat", "dog|outdoor"]}
    train = kerasxfer.ImageTable(table, (150, 150), root="pets", label_mode="multi_hot", shuffle=False)
    print(train.class_names)  # ['cat', 'dog', 'indoor', 'outdoor']
    images, targets = train[0]  # uint8 [3, 150, 150, 3], float32 [3, 4]
    ```
    """

    columns: TableColumns
    subset_counts: dict[str, int]

    def __init__(
        self,
        table: str | os.PathLike[str] | Mapping[str, Any] | Any,
        image_size: tuple[int, int],
        batch_size: int = 32,
        *,
        root: str | os.PathLike[str] | None = None,
        image_column: str | None = None,
        label_column: str | Sequence[str] | None = None,
        separator: str | None = None,
        label_mode: str = "int",
        class_names: Sequence[str] | None = None,
        weight_column: str | None = None,
        group_column: str | None = None,
        group_pattern: str | None = None,
        split_column: str | None = None,
        shuffle: bool = True,
        seed: int | None = None,
        validation_split: float | None = None,
        subset: str | None = None,
        policy: ImagePolicy | None = None,
        sampling: str | None = None,
        augmentation: Any = None,
        batch_augmentation: BatchAugmentation | None = None,
        on_error: str = "raise",
        decisions: str | os.PathLike[str] | None = None,
        threads: int | None = None,
    ) -> None:
        options = TableOptions(
            root=None if root is None else os.fspath(root),
            image_column=image_column,
            label_column=label_column if label_column is None or isinstance(label_column, str) else tuple(label_column),
            separator=separator,
            group_column=group_column,
            group_pattern=group_pattern,
            weight_column=weight_column,
            split_column=split_column,
        )

        def find_rows() -> ImageRows:
            rows, self.columns = read_rows(
                table,
                options,
                multi_hot=label_mode == "multi_hot",
                class_names=class_names,
                may_miss=on_error == "skip",
            )
            self.subset_counts = rows.subset_counts
            return rows

        super().__init__(
            find_rows,
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
