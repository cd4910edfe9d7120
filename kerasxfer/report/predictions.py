"""What a run's model answers to a folder of images."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from kerasxfer_serving.errors import KerasxferError
from kerasxfer_serving.images import ImagePolicy
from kerasxfer_serving.model.task import MULTI_LABEL
from numpy.typing import NDArray

import kerasxfer.layers  # noqa: F401  registers the layers that the model is loaded with
from kerasxfer.data.image_dataset import ImageDataset
from kerasxfer.data.opening import opener
from kerasxfer.data.tables.columns import NOTHING_SAID, TableOptions
from kerasxfer.data.tables.source import is_table
from kerasxfer.keras_files import load_model
from kerasxfer.report.runs import Run
from kerasxfer.runs import datasets
from kerasxfer.runs.run_folder import RunState


@dataclass(frozen=True)
class LabelledPredictions:
    """Probabilities of a model for labelled images, row by row.

    Args:
        root: Folder that `paths` are relative to.
        paths: Paths of the images, as POSIX strings.
        labels: True class numbers; with several labels to an image which classes each has, bool `[images, classes]`.
        probabilities: `[images, classes]`.
        unreadable: Path and reason of the images that were left out.
        parameters: How many the model has.
        of_validation: Whether these are the images that the run was validated on.
    """

    root: Path
    paths: list[str]
    labels: NDArray[Any]
    probabilities: NDArray[Any]
    unreadable: list[tuple[str, str]]
    parameters: int
    of_validation: bool = True


def predict_validation(
    run: Run,
    data: Path | None = None,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
    table: TableOptions = NOTHING_SAID,
) -> LabelledPredictions | None:
    """Let the model of a run answer to its validation images.

    Args:
        run: The run.
        data: Folder of class folders, or table, to use instead. Defaults to `None`.
        progress: Wraps the loop over batches, to show it. Defaults to showing nothing.
        table: What is said about `data`, where it is a table. Defaults to nothing.

    Returns:
        `LabelledPredictions`; `None` where there is no model yet, the run had no validation images, or they are gone.
    """
    if run.folder.state is RunState.begun or not run.class_names:
        return None
    folder = validation_images(run, data, table)
    if folder is None:
        return None
    model = load_model(run.folder.model)
    batches = [np.asarray(model.predict_on_batch(folder[i][0])) for i in progress(range(len(folder)))]
    probabilities = np.concatenate(batches).astype("float64")
    if probabilities.shape[1] == 1:  # one sigmoid unit: the probability of the second class
        probabilities = np.hstack([1 - probabilities, probabilities])
    return LabelledPredictions(
        root=Path(folder.root),
        paths=list(folder.paths),
        labels=np.asarray(folder.labels),
        probabilities=probabilities,
        unreadable=[(str(bad.path), str(bad.message)) for bad in folder.skipped],
        parameters=int(model.count_params()),
        of_validation=data is None,
    )


def validation_images(run: Run, data: Path | None = None, table: TableOptions = NOTHING_SAID) -> ImageDataset | None:
    """The images that a run was validated on, or others.

    Args:
        run: The run.
        data: Folder of class folders, or table, to use instead. Defaults to `None`.
        table: What is said about `data`, where it is a table. Defaults to what was said about the run's.

    Returns:
        The images; `None` where the run had no validation images, or they are gone.

    Raises:
        KerasxferError: `data` does not hold the run's classes.
    """
    config = run.record.config
    if data is None and not Path(config.validation or config.data).exists():
        return None
    try:
        if data is None:
            return datasets.validation_images(config, run.class_names, on_error="skip")
        options = table.or_else(config.table) if is_table(data) else table
        return opener(data, options)(
            image_size=config.image_size,
            label_mode="multi_hot" if config.task == MULTI_LABEL else "int",
            class_names=run.class_names,
            policy=ImagePolicy.from_dict(config.policy),
            shuffle=False,
            on_error="skip",
        )
    except ValueError as error:
        raise KerasxferError(f"`--data` must hold the classes of `{run.folder.path}`: {error}") from None
