import math
from typing import Any

import keras

from kerasxfer.types import Data


class SetEpoch(keras.callbacks.Callback):
    """Tells a dataset which epoch `fit` is in.

    A dataset counts its passes, and starts again from 0 when a run resumes with `initial_epoch` or
    `keras.callbacks.BackupAndRestore`. With this callback, resumed epochs get the order and the augmentation of an
    uninterrupted run. With `steps_per_epoch`, several epochs make up one pass, and a resumed run starts its pass at the
    first batch.

    Args:
        dataset: What `fit` trains on: a `kerasxfer.ImageFolder`, or anything with `set_epoch(epoch)`.

    Example:

    ```python
    model.fit(dataset, epochs=10, shuffle=False, callbacks=[
        keras.callbacks.BackupAndRestore("backup"),
        kerasxfer.callbacks.SetEpoch(dataset),
    ])
    ```
    """

    def __init__(self, dataset: Data) -> None:
        super().__init__()
        self.dataset = dataset
        self._first: int | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._first = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._first is None:
            self._first = epoch
        epochs = self._epochs_of_a_pass()
        self.dataset.set_epoch(self._first // epochs + (epoch - self._first) // epochs)

    def _epochs_of_a_pass(self) -> int:
        steps = self.params.get("steps")
        return math.ceil(len(self.dataset) / steps) if steps and hasattr(self.dataset, "__len__") else 1
