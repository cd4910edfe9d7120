"""Which way a metric is better is asked of the compiled model; which logs are bookkeeping, of their whole name."""

import keras
import numpy as np
import pytest

from kerasxfer import Stage
from kerasxfer.callbacks import ProgressiveUnfreezing
from kerasxfer.metric_names import direction, is_bookkeeping
from kerasxfer.unfreezing.stages import ScheduleError


def inverse_recall(y_true, y_pred):
    return 1 - keras.ops.mean(y_true * y_pred)


class Unhappiness(keras.metrics.Mean):
    """A metric of one's own that says nothing about its direction."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        super().update_state(y_pred - y_true)


class Rising(Unhappiness):
    def __init__(self, name):
        super().__init__(name)
        self._direction = "up"


METRICS = [
    ("mse", "min"),
    ("mae", "min"),
    ("cosine_similarity", "max"),
    (keras.losses.cosine_similarity, "min"),
    ("accuracy", "max"),
    (keras.metrics.MeanIoU(2), "max"),
    (keras.metrics.MeanIoU(2, name="overlap"), "max"),
    (keras.metrics.AUC(name="area"), "max"),
    (keras.metrics.R2Score(name="loss_explained"), "max"),
    (keras.metrics.RootMeanSquaredError(name="accuracy"), "min"),
    (keras.metrics.FalsePositives(), "min"),
    (keras.metrics.TruePositives(name="misses"), "max"),
    (keras.metrics.KLDivergence(), "min"),
    (Rising("own_error"), "max"),
    (Unhappiness("own_accuracy"), None),
    (inverse_recall, None),
]


def fitted(metrics, outputs=None):
    images = keras.Input((2,))
    names = outputs or ["out"]
    heads = {name: keras.layers.Dense(1, activation="sigmoid", name=name)(images) for name in names}
    model = keras.Model(images, heads if outputs else heads["out"])
    model.compile("sgd", dict.fromkeys(names, "mse") if outputs else "mse", metrics=metrics)
    x, y = np.ones((4, 2), "float32"), np.ones((4, 1), "float32")
    return model, model.fit(x, dict.fromkeys(names, y) if outputs else y, verbose=0).history


@pytest.mark.parametrize(
    ("metric", "expected"), METRICS, ids=lambda value: str(getattr(value, "name", getattr(value, "__name__", value)))
)
def test_the_compiled_model_is_asked(metric, expected):
    model, history = fitted([metric])
    (name,) = history.keys() - {"loss"}
    assert [direction(prefix + name, model) for prefix in ("", "val_", "smoothed_", "smoothed_val_")] == [expected] * 4
    assert direction("val_loss", model) == "min"


def test_metrics_of_several_outputs():
    model, history = fitted({"a": ["mae"], "b": ["cosine_similarity"]}, outputs=["a", "b"])
    expected = {"loss": "min", "a_loss": "min", "b_loss": "min", "a_mae": "min", "b_cosine_similarity": "max"}
    assert {name: direction(f"val_{name}", model) for name in history} == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("val_loss", "min"),
        ("val_acc", "max"),
        ("smoothed_val_auc", "max"),
        ("mean_io_u", "max"),
        ("inverse_recall", None),
        ("error", None),
        ("my_accuracy", None),
        ("", None),
    ],
)
def test_without_a_model_the_names_that_keras_gives_stand_for_themselves(name, expected):
    assert direction(name) == expected


@pytest.mark.parametrize(
    "name", ["stage", "lr", "learning_rate", "batch", "epoch", "trainable_params", "learning_rate_block5"]
)
def test_bookkeeping(name):
    assert is_bookkeeping(name)


@pytest.mark.parametrize("name", ["stage2_loss", "stages", "lr_accuracy", "batch_loss", "epochs_loss", "loss", "lrs"])
def test_names_that_only_begin_like_bookkeeping_are_measured(name):
    assert not is_bookkeeping(name)
    assert not is_bookkeeping(f"val_{name}")
    assert not is_bookkeeping("learning_rate_head_loss", {"learning_rate_head_loss"})


def stage_of(model, monitor, values, **kwargs):
    """Epochs that a stage of patience 1 lasts when its monitor takes these values."""
    unfreezing = ProgressiveUnfreezing([Stage("all", monitor=monitor, patience=1, **kwargs)], verbose=0)
    engine = unfreezing.attach(model)
    engine.start()
    over = [engine.advance({monitor: value}) for value in values]
    return over.index(True) + 1 if True in over else None


@pytest.mark.parametrize("metric", [keras.metrics.MeanIoU(2), "cosine_similarity"], ids=["mean_io_u", "cosine"])
def test_a_stage_watches_a_rising_metric(metric):
    model, history = fitted([metric])
    (name,) = history.keys() - {"loss"}
    assert stage_of(model, f"val_{name}", [0.1, 0.2, 0.3]) is None
    model, _ = fitted([metric])
    assert stage_of(model, f"val_{name}", [0.3, 0.2, 0.1]) == 2


def test_a_stage_asks_for_a_mode_before_the_first_step():
    model, _ = fitted(["mae"])
    model.compile("sgd", "mse", metrics=[Unhappiness("own_accuracy")])
    x, y = np.ones((4, 2), "float32"), np.ones((4, 1), "float32")
    before = model.get_weights()
    unfreezing = ProgressiveUnfreezing([Stage("all", monitor="own_accuracy", patience=1)], verbose=0)
    with pytest.raises(ScheduleError, match=r'watches `own_accuracy`.*Pass `mode="max"` or `mode="min"`'):
        model.fit(x, y, epochs=2, verbose=0, callbacks=[unfreezing])
    for ours, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert stage_of(model, "own_accuracy", [0.3, 0.2], mode="min") is None
