"""Callbacks of `fit` that act on smoothed values: each would act otherwise on the raw ones."""

import keras
import numpy as np
import pytest

from kerasxfer import Stage
from kerasxfer.callbacks import ProgressiveUnfreezing, SmoothedMetricsLogger

RAW = [1.0, 2.0, 0.9, 2.0, 2.0, 2.0]  # smoothed with 0.8: 1, 1.2, 1.14, 1.312, …


class Report(keras.callbacks.Callback):
    """Reports a given validation loss."""

    def on_epoch_end(self, epoch, logs=None):
        logs["val_loss"] = RAW[epoch]


@pytest.fixture
def model():
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(2, 3, name="low"),
            layers.MaxPooling2D(),
            layers.Conv2D(2, 3, name="high"),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize(("monitor", "stages"), [("smoothed_val_loss", [1, 1, 1, 2]), ("val_loss", [1, 1, 1, 1, 1, 2])])
def test_progressive_unfreezing_leaves_a_stage_by_the_smoothed_plateau(model, monitor, stages):
    schedule = [Stage(patience=2, monitor=monitor), Stage(1, epochs=1)]
    callbacks = [Report(), SmoothedMetricsLogger(0.8), ProgressiveUnfreezing(schedule, verbose=0)]
    x, y = np.ones((4, 8, 8, 3), "float32"), np.ones((4, 1), "float32")
    history = model.fit(x, y, epochs=6, verbose=0, callbacks=callbacks)
    assert history.history["stage"] == stages


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="Keras's TensorBoard callback needs TensorFlow")
def test_tensorboard_writes_the_smoothed_values(model, tmp_path):
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed, and TensorFlow does without")
    callbacks = [SmoothedMetricsLogger(), keras.callbacks.TensorBoard(tmp_path)]
    model.fit(np.ones((4, 8, 8, 3)), np.ones((4, 1)), epochs=2, verbose=0, callbacks=callbacks)
    written = b"".join(file.read_bytes() for file in tmp_path.rglob("events*"))
    assert b"epoch_smoothed_loss" in written
