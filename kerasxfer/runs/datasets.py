"""The images of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kerasxfer_serving.errors import KerasxferError, UsageError
from kerasxfer_serving.images import ImagePolicy

from kerasxfer.data.image_dataset import ImageDataset
from kerasxfer.data.image_files import class_folders
from kerasxfer.data.opening import opener, subsets
from kerasxfer.data.tables.columns import NOTHING_SAID
from kerasxfer.data.tables.source import is_table
from kerasxfer.layers.augmentation import STANDARD_AUGMENTATION, Augmentation
from kerasxfer.runs.config import TrainConfig

_SUBSETS = frozenset({"train", "training", "val", "valid", "validation", "dev", "eval", "test", "testing"})


def datasets(config: TrainConfig) -> tuple[ImageDataset, ImageDataset | None]:
    """Open the training and the validation images of a run.

    Args:
        config: A `TrainConfig`.

    Returns:
        The training and the validation images; `None` for those of a run without validation.

    Raises:
        KerasxferError: The folders or tables do not hold what a classifier can be trained on.
    """
    _refuse_other_folders(Path(config.data))
    augmentation = make_augmentation(config.augment, config.seed) if config.augment else None
    training = open_part(config, config.data, "training", augmentation=augmentation)
    return training, validation_images(config, training.class_names)


def validation_images(
    config: TrainConfig, class_names: Sequence[str], *, on_error: str | None = None
) -> ImageDataset | None:
    """Open the validation images of a run, in their own order.

    Args:
        config: A `TrainConfig`.
        class_names: The classes of the training images.
        on_error: `"raise"` or `"skip"`. Defaults to `None`, the run's.

    Returns:
        The images; `None` where the run has none.

    Raises:
        KerasxferError: They have other classes.
    """
    if config.validation is not None:
        return of_classes(config, config.validation, "validation", class_names, on_error=on_error)
    if config.validation_split or "validation" in subsets(config.data, config.table):
        return open_part(config, config.data, "validation", class_names=class_names, shuffle=False, on_error=on_error)
    return None


def test_images(config: TrainConfig, class_names: Sequence[str]) -> ImageDataset | None:
    """Open the images that the finished model of a run is evaluated on, in their own order.

    Args:
        config: A `TrainConfig`.
        class_names: The classes of the training images.

    Returns:
        The images, of `config.test` or the rows that the table of `config.data` has for test; `None` where the run has
        none.

    Raises:
        KerasxferError: They have other classes.
    """
    if config.test is not None:
        return of_classes(config, config.test, "test", class_names)
    if "test" in subsets(config.data, config.table):
        return open_part(config, config.data, "test", class_names=class_names, shuffle=False)
    return None


def of_classes(
    config: TrainConfig, path: str, part: str, class_names: Sequence[str], *, on_error: str | None = None
) -> ImageDataset:
    """Open images in their own order, which must be of the classes that a run was trained on.

    Args:
        config: A `TrainConfig`.
        path: Folder of class folders, or table.
        part: `"validation"` or `"test"`: the rows to take, of a table that says which are for what.
        class_names: The classes.
        on_error: `"raise"` or `"skip"`. Defaults to `None`, the run's.

    Raises:
        KerasxferError: They have other classes.
    """
    if is_table(path):
        return open_part(config, path, part, class_names=class_names, shuffle=False, on_error=on_error)
    images = open_part(config, path, part, shuffle=False, on_error=on_error)
    if images.class_names != list(class_names):
        raise KerasxferError(
            f"`{path}` must hold the same class folders as `{config.data}`. "
            f"Received: {images.class_names} beside {list(class_names)}"
        )
    return images


def open_part(
    config: TrainConfig,
    path: str,
    part: str,
    *,
    class_names: Sequence[str] | None = None,
    shuffle: bool = True,
    augmentation: Augmentation | None = None,
    on_error: str | None = None,
) -> ImageDataset:
    """Open the images that a run takes for a purpose.

    Args:
        config: A `TrainConfig`.
        path: Folder of class folders, or table.
        part: `"training"`, `"validation"` or `"test"`: the share of the run's `validation_split`, where `path` is
            its data, or the rows that a table has for it.
        class_names: The classes. Defaults to `None`, those that there are.
        shuffle: Whether each epoch has its own order. Defaults to `True`.
        augmentation: What changes the images at random. Defaults to `None`.
        on_error: `"raise"` or `"skip"`. Defaults to `None`, the run's.
    """
    own = path == config.data
    table = config.table
    if not own:  # it is not divided, and class folders have no columns
        table = replace(table, group_column=None, group_pattern=None) if is_table(path) else NOTHING_SAID
    split = config.validation_split if own and part != "test" else None
    return opener(path, table)(
        image_size=config.image_size,
        batch_size=config.batch_size,
        label_mode="binary" if config.activation == "sigmoid" else "int",
        class_names=class_names,
        shuffle=shuffle,
        seed=config.seed,
        validation_split=split,
        subset=part if split or subsets(path, table) else None,
        policy=ImagePolicy.from_dict(config.policy),
        augmentation=augmentation,
        on_error=on_error or config.on_error,
    )


def _refuse_other_folders(data: Path) -> None:
    """Refuse folders of folders that are called like subsets, or a folder above the class folders."""
    names = list(class_folders(data)) if data.is_dir() else []
    if names and all(name.lower() in _SUBSETS for name in names):
        raise UsageError(
            f"The folders in '{data}' are called like subsets, not like classes: {', '.join(names)}. "
            f"Give '{data / names[0]}', or that of them which is to be trained on, and another one with `--validation`."
        )
    if len(names) == 1:
        inner = list(class_folders(data / names[0]))
        hint = f" It holds folders itself ({', '.join(inner[:3])}): name it in place of that." if inner[1:] else ""
        raise UsageError(
            f"A classifier needs two or more class folders. Received: '{data}', which holds one, '{names[0]}'.{hint}"
        )


def make_augmentation(settings: Mapping[str, Any], seed: int | None = None) -> Augmentation:
    """The augmentation that options describe.

    Args:
        settings: Arguments of `kerasxfer.layers.Augmentation`.
        seed: Its seed. Defaults to `None`.

    Raises:
        UsageError: There is no such argument, or it does not take the value.
    """
    try:
        return Augmentation(**settings, seed=seed)
    except (TypeError, ValueError) as error:
        known = sorted(STANDARD_AUGMENTATION)
        raise UsageError(f"`augment` takes arguments of `Augmentation`, as {', '.join(known)}: {error}") from error
