from typing import Any

import keras


class SetEpoch(keras.callbacks.Callback):
    """Tells a dataset which epoch `fit` is in.

    A dataset counts the epochs it has seen. When a run resumes, with `initial_epoch` or
    `keras.callbacks.BackupAndRestore`, that count starts from 0 again; with this callback the resumed epochs see the
    order, and the augmentation, that an uninterrupted run would have given them.

    Args:
        dataset: what `fit` trains on: a `kerasxfer.ImageFolder`, or anything with `set_epoch(epoch)`.

    Example:

    ```python
    model.fit(dataset, epochs=10, shuffle=False, callbacks=[
        keras.callbacks.BackupAndRestore("backup"),
        kerasxfer.callbacks.SetEpoch(dataset),
    ])
    ```
    """

    def __init__(self, dataset: Any) -> None:
        super().__init__()
        self.dataset = dataset

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.dataset.set_epoch(epoch)
