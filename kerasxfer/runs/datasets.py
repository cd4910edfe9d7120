"""The images of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kerasxfer_serving.errors import KerasxferError, UsageError
from kerasxfer_serving.images import ImagePolicy
from kerasxfer_serving.model.task import MULTI_LABEL

from kerasxfer.augmentation import BatchAugmentation, RandAugment
from kerasxfer.data.image_dataset import ImageDataset
from kerasxfer.data.image_files import class_folders
from kerasxfer.data.opening import opener, subsets
from kerasxfer.data.tables.columns import NOTHING_SAID
from kerasxfer.data.tables.source import is_table
from kerasxfer.layers.augmentation import STANDARD_AUGMENTATION, Augmentation
from kerasxfer.runs.config import OF_BATCHES, TrainConfig

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
    refuse_other_folders(Path(config.data))
    training = open_part(config, config.data, "training")
    if config.class_weight and training.weights is not None:
        raise UsageError("`--class-weight` and a column of weights both weight the images: give only one.")
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
        return open_part(config, config.data, "validation", class_names=class_names, on_error=on_error)
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
        return open_part(config, config.data, "test", class_names=class_names)
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
        return open_part(config, path, part, class_names=class_names, on_error=on_error)
    images = open_part(config, path, part, on_error=on_error)
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
    on_error: str | None = None,
) -> ImageDataset:
    """Open the images that a run takes for a purpose.

    Args:
        config: A `TrainConfig`.
        path: Folder of class folders, or table.
        part: `"training"`, `"validation"` or `"test"`: the share of the run's `validation_split`, where `path` is
            its data, or the rows that a table has for it. What is trained on is shuffled, sampled and augmented; the
            others are in their own order.
        class_names: The classes. Defaults to `None`, those that there are.
        on_error: `"raise"` or `"skip"`. Defaults to `None`, the run's.
    """
    if config.task == MULTI_LABEL and not is_table(path):
        raise UsageError(
            "`--multi-label` takes a table of images and their labels; in class folders every image has one. "
            f"Received: '{path}'"
        )
    own = path == config.data
    table = config.table
    if not own:  # it is not divided, and class folders have no columns
        table = replace(table, group_column=None, group_pattern=None) if is_table(path) else NOTHING_SAID
    split = config.validation_split if own and part != "test" else None
    order: dict[str, Any] = {"shuffle": False}
    if part == "training":
        order = {
            "sampling": config.sampling,
            "augmentation": make_augmentation(config.augment, config.seed),
            "batch_augmentation": make_batch_augmentation(config.augment),
        }
    images = opener(path, table)(
        image_size=config.image_size,
        batch_size=config.batch_size,
        label_mode=_label_mode(config),
        class_names=class_names,
        seed=config.seed,
        validation_split=split,
        subset=part if split or subsets(path, table) else None,
        policy=ImagePolicy.from_dict(config.policy),
        on_error=on_error or config.on_error,
        decisions=config.exclude,
        **order,
    )
    if config.task == MULTI_LABEL and not images.labels.any():
        raise UsageError(f"None of the {part} images in '{path}' has a label. At least one must have one.")
    return images


def _label_mode(config: TrainConfig) -> str:
    if config.task == MULTI_LABEL:
        return "multi_hot"
    if config.activation == "sigmoid":
        return "binary"
    return "categorical" if config.soft_targets else "int"


def refuse_other_folders(data: Path) -> None:
    """Refuse folders of folders that are called like subsets, or a folder above the class folders.

    Args:
        data: Where class folders are expected; a table passes.

    Raises:
        UsageError: It is such a folder.
    """
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


def make_augmentation(settings: Mapping[str, Any], seed: int | None = None) -> Augmentation | RandAugment | None:
    """What changes the images one by one, as options describe it.

    Args:
        settings: `augment` of a `TrainConfig`.
        seed: Its seed. Defaults to `None`.

    Returns:
        A `RandAugment`, an `Augmentation`, or `None` where the settings have neither.

    Raises:
        UsageError: There is no such setting, or it does not take the value.
    """
    own = {name: value for name, value in settings.items() if name not in OF_BATCHES}
    if not own:
        return None
    try:
        if own.keys() == {"rand"}:
            return RandAugment(**({} if own["rand"] is True else {"strength": own["rand"]}))
        if "rand" in own:
            raise UsageError("`rand` takes the place of the others, which it has among its operations: give it alone")
        return Augmentation(**own, seed=seed)
    except (TypeError, ValueError) as error:
        known = ", ".join(sorted(STANDARD_AUGMENTATION))
        raise UsageError(
            f"`augment` takes `rand`, or arguments of `Augmentation`, as {known}; and `erasing`, `mixup` and "
            f"`cutmix`: {error}"
        ) from error


def make_batch_augmentation(settings: Mapping[str, Any]) -> BatchAugmentation | None:
    """What changes whole batches, as options describe it; `None` where that is nothing.

    Args:
        settings: `augment` of a `TrainConfig`.

    Raises:
        UsageError: A setting does not take the value.
    """
    of_batches = {name: value for name, value in settings.items() if name in OF_BATCHES}
    return BatchAugmentation(**of_batches) if any(of_batches.values()) else None
