"""The images of a run."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kerasxfer_serving.errors import KerasxferError, UsageError
from kerasxfer_serving.images import ImagePolicy

from kerasxfer.data.image_files import class_folders
from kerasxfer.data.image_folder import ImageFolder
from kerasxfer.layers.augmentation import STANDARD_AUGMENTATION, Augmentation
from kerasxfer.runs.config import TrainConfig

_SUBSETS = frozenset({"train", "training", "val", "valid", "validation", "dev", "eval", "test", "testing"})


def datasets(config: TrainConfig) -> tuple[ImageFolder, ImageFolder | None]:
    """Open the training and the validation images of a run.

    Args:
        config: A `TrainConfig`.

    Returns:
        The training and the validation images; `None` for those of a run without validation.

    Raises:
        KerasxferError: The folders do not hold what a classifier can be trained on.
    """
    _refuse_other_folders(Path(config.data))
    opened = functools.partial(
        ImageFolder,
        image_size=config.image_size,
        batch_size=config.batch_size,
        label_mode="binary" if config.activation == "sigmoid" else "int",
        seed=config.seed,
        policy=ImagePolicy.from_dict(config.policy),
        on_error=config.on_error,
    )
    split = config.validation_split
    training = opened(
        config.data,
        validation_split=split,
        subset="training" if split else None,
        augmentation=make_augmentation(config.augment, config.seed) if config.augment else None,
    )
    if split:
        return training, opened(config.data, validation_split=split, subset="validation", shuffle=False)
    if config.validation is None:
        return training, None
    validation = opened(config.validation, shuffle=False)
    if validation.class_names != training.class_names:
        raise KerasxferError(
            f"`{config.validation}` must hold the same class folders as `{config.data}`. "
            f"Received: {validation.class_names} beside {training.class_names}"
        )
    return training, validation


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
