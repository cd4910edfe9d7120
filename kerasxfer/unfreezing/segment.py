"""One stage in a `fit` of its own."""

from typing import Any

import keras

from kerasxfer.unfreezing.engine import Engine


class Segment(keras.callbacks.Callback):
    """Runs one stage in a `fit` of its own, which ends with the stage: for a model made for that stage alone.

    Args:
        engine: an engine that has entered the stage, and uses the model that is fitted.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = {} if logs is None else logs
        logs.update(self.engine.log())
        if self.engine.advance(logs):
            self.model.stop_training = True
