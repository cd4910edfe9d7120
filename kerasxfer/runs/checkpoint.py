"""The state of a training after an epoch, in one file that is there in full or not at all."""

import dataclasses
import json
import time
from typing import Any

import h5py
import keras
import numpy as np
from kerasxfer_serving.errors import KerasxferError

from kerasxfer.runs.best import BestEpoch, changed_weights
from kerasxfer.runs.run_folder import RunFolder, replacing

_GROUP, _BEST = "kerasxfer", "best"


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a training has come.

    Args:
        epoch: Number of epochs that are over.
        done: Whether that was the last one.
        seconds: How long they took.
        best_epoch: The best of them, from 0; `None` where none was looked for or found.
        best_value: What was monitored in that epoch.
    """

    epoch: int = 0
    done: bool = False
    seconds: float = 0.0
    best_epoch: int | None = None
    best_value: float | None = None


def read_progress(folder: RunFolder) -> Progress:
    """What the checkpoint of a run says; all zeros where none was written yet.

    Raises:
        KerasxferError: The file is damaged.
    """
    if not folder.checkpoint.is_file():
        return Progress()
    try:
        with h5py.File(folder.checkpoint) as file:
            return Progress(**json.loads(file[_GROUP].attrs["progress"]))
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise _damaged(folder, error) from error


def restore(folder: RunFolder, model: keras.Model, best: BestEpoch | None = None) -> None:
    """Give a model the weights, the optimizer's slots and the random generators of a run's checkpoint.

    Args:
        folder: The run folder.
        model: The compiled model.
        best: Gets the best epoch of the checkpoint. Defaults to `None`.

    Raises:
        KerasxferError: The file is damaged.
    """
    progress = read_progress(folder)
    try:
        model.optimizer.build(model.trainable_variables)
        model.load_weights(folder.checkpoint)
        with h5py.File(folder.checkpoint) as file:
            group = file[_GROUP]
            for number, variable in enumerate(_generators(model)):
                variable.assign(group[str(number)][()])
            if best is not None and progress.best_epoch is not None:
                best.epoch, best.value = progress.best_epoch, progress.best_value
                if best.keep:
                    best.weights = model.get_weights()
                    for position, weight in group[_BEST].items():
                        best.weights[int(position)] = weight[()]
    except (OSError, KeyError, ValueError) as error:
        raise _damaged(folder, error) from error


class Checkpoint(keras.callbacks.Callback):
    """Writes a run's checkpoint after every epoch, and goes on with the one that is there.

    As `keras.callbacks.BackupAndRestore`, in one file: a kill at any moment leaves the whole of one epoch. It holds the
    states of the layers' random generators too, which Keras leaves out. Place it last.

    Args:
        folder: The run folder.
        start: What its checkpoint says.
        best: What remembers the best epoch. Defaults to `None`: nothing does.
    """

    def __init__(self, folder: RunFolder, start: Progress, best: BestEpoch | None = None) -> None:
        super().__init__()
        self.folder = folder
        self.start = start
        self.best = best
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """How long the training has taken, in this process and those before."""
        return self.start.seconds + time.perf_counter() - self._began

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self.start.epoch:
            restore(self.folder, self.model, self.best)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        model, best = self.model, self.best
        done = model.stop_training or epoch + 1 == self.params["epochs"]
        progress = Progress(epoch + 1, done, self.seconds, best and best.epoch, best and best.value)
        with replacing(self.folder.checkpoint) as path:
            model.save_weights(path, overwrite=True)
            with h5py.File(path, "a") as file:
                group = file.create_group(_GROUP)
                group.attrs["progress"] = json.dumps(dataclasses.asdict(progress))
                for number, variable in enumerate(_generators(model)):
                    group[str(number)] = np.asarray(keras.ops.convert_to_numpy(variable))
                if best is not None and best.weights:
                    kept = group.create_group(_BEST)
                    for position, weight in changed_weights(best.weights, model.get_weights()).items():
                        kept[str(position)] = weight


def _generators(model: keras.Model) -> list[Any]:
    """The states of the random generators of a model's layers."""
    weights = {id(weight) for weight in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]


def _damaged(folder: RunFolder, error: Exception) -> KerasxferError:
    return KerasxferError(
        f"`{folder.checkpoint}` is damaged or belongs to another model: {error}. Start over with `--overwrite`."
    )
