"""Which epoch of a run was the best, and its weights."""

from typing import Any

import keras
import numpy as np
from kerasxfer_serving.errors import UsageError
from numpy.typing import NDArray

from kerasxfer.metric_names import direction


class BestEpoch(keras.callbacks.Callback):
    """Remembers which epoch of a whole run was the best, whatever stages it has, and its weights.

    Where it stands is in the run's checkpoint, so a run that goes on in another process keeps the same epoch. Place it
    before `Checkpoint`, after what writes to the logs.

    Args:
        monitor: Key of the epoch's logs by which an epoch is the best.
        keep: Whether the weights are remembered. Defaults to `True`.
        patience: Epochs without improvement after which training stops. Defaults to `None`: it does not.

    Attributes:
        epoch: The best epoch so far, from 0; `None` before there was one.
        value: What `monitor` was then.
        weights: The model's weights then, where they are remembered.
    """

    def __init__(self, monitor: str, keep: bool = True, patience: int | None = None) -> None:
        super().__init__()
        self.monitor = monitor
        self.keep = keep
        self.patience = patience
        self.epoch: int | None = None
        self.value: float | None = None
        self.weights: list[NDArray[Any]] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._sign()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        value = self._value(logs or {})
        sign = self._sign()
        if value == value and (self.value is None or sign * value > sign * self.value):  # a NaN is never the best
            self.epoch, self.value = epoch, value
            self.weights = self.model.get_weights() if self.keep else []
        if self.patience is not None and epoch - (-1 if self.epoch is None else self.epoch) >= self.patience:
            self.model.stop_training = True

    def restore(self, model: keras.Model) -> None:
        """Give a model the weights of the best epoch, where they are remembered."""
        if self.weights:
            model.set_weights(self.weights)

    def _sign(self) -> int:
        way = direction(self.monitor, self.model)
        if way is None:
            raise UsageError(
                f"`--monitor` must name a log with a known direction, such as val_loss or "
                f"val_accuracy. Received: {self.monitor}"
            )
        return 1 if way == "max" else -1

    def _value(self, logs: dict[str, Any]) -> float:
        if self.monitor not in logs:
            raise UsageError(
                f"`--monitor` must be one of the logs of this run: {', '.join(sorted(logs))}. Received: {self.monitor}"
            )
        return float(logs[self.monitor])


def changed_weights(best: list[NDArray[Any]], present: list[NDArray[Any]]) -> dict[int, NDArray[Any]]:
    """The weights of the best epoch that are not the present ones, by position: what never trains is stored once."""
    pairs = enumerate(zip(best, present, strict=True))
    return {at: weight for at, (weight, now) in pairs if not np.array_equal(weight, now)}
