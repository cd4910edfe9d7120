"""What a run's model answers to a folder of pictures."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from kerasxfer_serving.errors import KerasxferError
from kerasxfer_serving.images import ImagePolicy
from numpy.typing import NDArray

import kerasxfer.layers  # noqa: F401  registers the layers that the model is loaded with
from kerasxfer.data.image_folder import ImageFolder
from kerasxfer.report.runs import Run
from kerasxfer.runs.run_folder import RunState


@dataclass(frozen=True)
class Predictions:
    """Probabilities of a model for labelled pictures, row by row.

    Args:
        root: folder that `paths` are relative to.
        paths: of the pictures, as POSIX strings.
        labels: true class numbers.
        probabilities: `[pictures, classes]`.
        unreadable: path and reason of the pictures that were left out.
        parameters: how many the model has.
    """

    root: Path
    paths: list[str]
    labels: NDArray[Any]
    probabilities: NDArray[Any]
    unreadable: list[tuple[str, str]]
    parameters: int


def predict(
    run: Run, data: Path | None = None, progress: Callable[[Iterable[int]], Iterable[int]] = iter
) -> Predictions | None:
    """Let the model of a run answer to its validation pictures.

    Args:
        run: the run.
        data: folder of class folders to use instead. Defaults to `None`.
        progress: wraps the loop over batches, to show it. Defaults to showing nothing.

    Returns:
        `Predictions`; `None` where the run was not finished, had no validation pictures, or they are not there now.
    """
    if run.folder.state is RunState.begun or not run.class_names:
        return None
    folder = _pictures(run, data)
    if folder is None:
        return None
    model = keras.saving.load_model(run.folder.model, compile=False)
    batches = [np.asarray(model.predict_on_batch(folder[i][0])) for i in progress(range(len(folder)))]
    probabilities = np.concatenate(batches).astype("float64")
    if probabilities.shape[1] == 1:  # one sigmoid unit: the probability of the second class
        probabilities = np.hstack([1 - probabilities, probabilities])
    return Predictions(
        root=Path(folder.root),
        paths=list(folder.paths),
        labels=np.asarray(folder.labels),
        probabilities=probabilities,
        unreadable=[(str(bad.path), str(bad.message)) for bad in folder.skipped],
        parameters=int(model.count_params()),
    )


def _pictures(run: Run, data: Path | None) -> ImageFolder | None:
    """The folder to predict: `data`, or what the run was validated on."""
    config = run.record.config
    split: dict[str, Any] = {}
    if data is None and config.validation:
        data, required = Path(config.validation), False
    elif data is None and config.validation_split:
        data, required = Path(config.data), False
        split = {"validation_split": config.validation_split, "subset": "validation", "seed": config.seed}
    else:
        required = data is not None
    if data is None or (not required and not data.is_dir()):
        return None
    try:
        return ImageFolder(
            data,
            config.image_size,
            class_names=run.class_names,
            policy=ImagePolicy.from_dict(config.policy),
            shuffle=False,
            on_error="skip",
            **split,
        )
    except ValueError as error:
        raise KerasxferError(f"`--data` must hold the class folders of `{run.folder.path}`: {error}") from None
