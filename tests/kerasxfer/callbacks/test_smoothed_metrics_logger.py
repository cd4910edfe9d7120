"""Most tests drive Keras's own CallbackList with given values, as `fit` does; the last ones run `fit`."""

import math
import warnings

import keras
import numpy as np
import pytest

from kerasxfer.callbacks import SmoothedMetricsLogger
from kerasxfer.runs.histories import read_history
from kerasxfer.smoothing import smooth_curve


def make_model(metrics=("accuracy",)):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])
    model.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy", metrics=list(metrics))
    return model


def drive(*callbacks, initial_epoch=0, batches=(), **values):
    """Call the callbacks as `fit` would if it logged `values`; `None` stands for an epoch without the metric."""
    calls = keras.callbacks.CallbackList(list(callbacks), add_history=True, model=make_model())
    calls.on_train_begin()
    for epoch in range(initial_epoch, max(map(len, values.values()))):
        calls.on_epoch_begin(epoch)
        for batch, logs in batches:
            calls.on_train_batch_end(batch, logs)
        calls.on_epoch_end(epoch, {name: curve[epoch] for name, curve in values.items() if curve[epoch] is not None})
    calls.on_train_end()
    return calls._history.history


class AddStage(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        logs["stage"] = ["head", "head", "block5"][epoch]


@pytest.mark.parametrize("debias", [False, True])
def test_history_holds_the_smoothed_curves(debias):
    curves = {"loss": [1.0, 0.5, 0.75], "val_loss": [2.0, 1.0, 4.0]}
    history = drive(SmoothedMetricsLogger(0.6, debias=debias), **curves)
    for name, curve in curves.items():
        assert history[name] == curve
        assert history[f"smoothed_{name}"] == pytest.approx(smooth_curve(curve, 0.6, debias), rel=1e-12)


def test_smooths_only_the_chosen_metrics_and_with_the_prefix():
    history = drive(SmoothedMetricsLogger(metrics=["val_loss"], prefix="ema/"), loss=[1.0], val_loss=[2.0])
    assert set(history) == {"loss", "val_loss", "ema/val_loss"}


def test_bookkeeping_is_not_smoothed_unless_chosen():
    values = {"stage": [0, 0], "learning_rate": [0.1, 0.2], "trainable_params": [5, 9], "loss": [1.0, 2.0]}
    assert set(drive(SmoothedMetricsLogger(), **values)) == {*values, "smoothed_loss"}
    assert "smoothed_learning_rate" in drive(SmoothedMetricsLogger(metrics=["learning_rate"]), **values)


def test_text_in_the_logs_is_left_alone():
    assert set(drive(SmoothedMetricsLogger(), note=["a"], loss=[1.0])) == {"note", "loss", "smoothed_loss"}


def test_warns_of_a_metric_that_is_not_logged():
    with pytest.warns(UserWarning, match=r"Received: \['acc'\]. There are: \['accuracy', 'loss'\]"):
        drive(SmoothedMetricsLogger(metrics=["acc", "val_loss"]), accuracy=[0.5], loss=[1.0])


def test_nan_and_infinity_do_not_poison_the_average():
    history = drive(SmoothedMetricsLogger(0.5), val_loss=[math.nan, 4.0, math.nan, 2.0, math.inf])
    assert history["smoothed_val_loss"] == [4.0, 4.0, 3.0, 3.0]  # the first epoch has no average yet


def test_epochs_without_the_metric_have_no_smoothed_value():
    history = drive(SmoothedMetricsLogger(0.5), loss=[1.0] * 4, val_loss=[None, 4.0, None, 2.0])
    assert history["smoothed_val_loss"] == [4.0, 3.0]


@pytest.mark.parametrize(
    "follower",
    [
        keras.callbacks.EarlyStopping(monitor="smoothed_val_loss"),
        keras.callbacks.ReduceLROnPlateau(monitor="smoothed_val_loss"),
        keras.callbacks.ModelCheckpoint("x.keras", monitor="smoothed_val_loss"),
    ],
)
def test_refuses_to_stand_after_a_callback_that_needs_it(follower):
    name = type(follower).__name__
    with pytest.raises(ValueError, match=rf"must come before.*{name}\(monitor='smoothed_val_loss'\) before it"):
        drive(follower, SmoothedMetricsLogger(), loss=[1.0])


def test_may_stand_after_a_callback_that_follows_raw_values():
    follower = keras.callbacks.ReduceLROnPlateau(monitor="loss")
    assert drive(follower, SmoothedMetricsLogger(), loss=[1.0])["smoothed_loss"] == [1.0]


@pytest.mark.parametrize("new_process", [False, True])
@pytest.mark.parametrize("debias", [False, True])
@pytest.mark.parametrize("file", ["csv", "jsonl"])
def test_a_resumed_fit_continues_the_curve(tmp_path, file, debias, new_process):
    curve = [5.0, math.nan, 3.0, 7.0, 1.0]

    def logger():
        return SmoothedMetricsLogger(0.5, debias=debias, **{file: tmp_path / f"history.{file}"})

    first = logger()
    drive(first, val_loss=curve[:4])  # epoch 3 was trained, then lost: the fit resumes from the backup of epoch 2
    history = drive(logger() if new_process else first, val_loss=curve, initial_epoch=3)
    expected = smooth_curve(curve, 0.5, debias)
    assert history["smoothed_val_loss"] == expected[3:]
    written = read_history(tmp_path / f"history.{file}")
    assert written["epoch"] == [0, 1, 2, 3, 4]
    assert written["smoothed_val_loss"] == expected


@pytest.mark.parametrize("new_process", [False, True])
@pytest.mark.parametrize("debias", [False, True])
def test_a_resumed_fit_continues_the_curve_per_batch(tmp_path, debias, new_process):
    batches = [(0, {"loss": 3.0}), (1, {"loss": 2.5}), (2, {"loss": 2.0})]  # running means of 3, 2, 1

    def logger(name="parts"):
        return SmoothedMetricsLogger(0.5, debias=debias, per_batch=True, jsonl=tmp_path / name)

    curves = {"loss": [2.0, 2.0, 2.0], "val_loss": [4.0, 3.0, 2.0]}
    whole = drive(logger("whole"), batches=batches, **curves)
    first = logger()
    drive(first, batches=batches, **{name: curve[:2] for name, curve in curves.items()})
    rest = drive(logger() if new_process else first, batches=batches, initial_epoch=1, **curves)
    for name in ("smoothed_loss", "smoothed_val_loss"):
        assert rest[name] == whole[name][1:]
    assert (tmp_path / "parts").read_text() == (tmp_path / "whole").read_text()


def test_says_so_when_the_earlier_epochs_are_not_known(tmp_path):
    with pytest.warns(UserWarning, match="goes on at epoch 3 and the epochs before it are not known"):
        drive(SmoothedMetricsLogger(csv=tmp_path / "missing.csv"), loss=[1.0] * 3, initial_epoch=2)


def test_says_so_when_the_file_has_no_batches(tmp_path):
    drive(SmoothedMetricsLogger(csv=tmp_path / "history.csv"), loss=[1.0])
    with pytest.warns(UserWarning, match="pass `jsonl` for averages that go on exactly"):
        drive(SmoothedMetricsLogger(csv=tmp_path / "history.csv", per_batch=True), loss=[1.0] * 2, initial_epoch=1)


def test_a_fit_from_the_start_forgets_the_one_before(tmp_path):
    logger = SmoothedMetricsLogger(0.5, csv=tmp_path / "history.csv")
    drive(logger, loss=[100.0, 50.0])
    assert drive(logger, loss=[1.0])["smoothed_loss"] == [1.0]
    assert read_history(tmp_path)["loss"] == [1.0]


def test_batches_that_arrive_out_of_order_are_put_in_order():
    means = [(0, {"loss": 3.0}), (1, {"loss": 2.5}), (2, {"loss": 2.0})]
    for order in ((0, 1, 2), (2, 0, 1)):
        history = drive(SmoothedMetricsLogger(0.5, per_batch=True), loss=[2.0], batches=[means[i] for i in order])
        assert history["smoothed_loss"] == [1.75]


def test_several_steps_per_execution_count_as_one_point():
    means = [(1, {"loss": 3.0}), (3, {"loss": 2.0})]  # two batches of mean 3, then two of mean 1
    history = drive(SmoothedMetricsLogger(0.5, per_batch=True), loss=[2.0], batches=means)
    assert history["smoothed_loss"] == [2.0]


def test_keeps_asynchronous_dispatch_on():
    callbacks = keras.callbacks.CallbackList([SmoothedMetricsLogger(per_batch=True)])
    assert callbacks._async_train == keras.callbacks.CallbackList([])._async_train


def test_the_files_hold_what_later_callbacks_add(tmp_path):
    logger = SmoothedMetricsLogger(csv=tmp_path / "history.csv", jsonl=tmp_path / "history.jsonl")
    drive(logger, AddStage(), loss=[1.0, 2.0, 3.0])
    assert read_history(tmp_path)["stage"] == ["head", "head", "block5"]
    assert read_history(tmp_path / "history.jsonl") == read_history(tmp_path)


def test_verbose_prints_values_and_stages(capsys):
    drive(SmoothedMetricsLogger(0.5, verbose=1), AddStage(), loss=[1.0, 2.0, 2.0])
    assert capsys.readouterr().out.splitlines() == [
        "Epoch 1: smoothed loss 1.0000",
        "Epoch 1: first epoch of `head`",
        "Epoch 2: smoothed loss 1.5000",
        "Epoch 3: smoothed loss 1.7500",
        "Epoch 3: first epoch of `block5`",
    ]


@pytest.mark.parametrize("name", ["curves.png", "curves.svg"])
def test_draws_the_curves_after_every_epoch(tmp_path, name):
    images = []

    class Look(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch:
                images.append((tmp_path / name).read_bytes())

        def on_train_end(self, logs=None):
            self.on_epoch_begin(-1)

    drive(SmoothedMetricsLogger(plot=tmp_path / name), Look(), loss=[1.0, 2.0])
    assert len(images) == len(set(images)) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"factor": 1.0}, "`factor`"),
        ({"prefix": ""}, "`prefix` must not be empty"),
        ({"metrics": "loss"}, "`metrics` must be a list of names. Received: metrics='loss'"),
    ],
)
def test_refuses_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        SmoothedMetricsLogger(**arguments)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(24, 4)).astype("float32")
    return x, (x @ rng.normal(size=(4, 3))).argmax(1)


def fit(data, *callbacks, model=None, epochs=4):
    x, y = data
    return (model or make_model()).fit(
        x, y, 8, epochs, validation_data=(x[:8], y[:8]), shuffle=False, verbose=0, callbacks=list(callbacks)
    )


class Override(keras.callbacks.Callback):
    """Logs given values instead of the true ones."""

    def __init__(self, name, values):
        super().__init__()
        self.name = name
        self.values = values

    def on_epoch_end(self, epoch, logs=None):
        logs[self.name] = self.values[epoch]


def test_other_callbacks_act_on_smoothed_values(data, tmp_path):
    # The raw loss improves in every other epoch; only the smoothed one shows that it gets worse.
    history = fit(
        data,
        Override("val_loss", [1.0, 2.0, 0.9, 3.0, 0.8, 4.0, 0.7, 5.0]),
        SmoothedMetricsLogger(0.8),
        keras.callbacks.EarlyStopping("smoothed_val_loss", patience=3),
        keras.callbacks.ModelCheckpoint(
            tmp_path / "{epoch}-{smoothed_val_loss:.2f}.keras", "smoothed_val_loss", save_best_only=True
        ),
        keras.callbacks.ReduceLROnPlateau("smoothed_val_loss", patience=2, factor=0.5),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        epochs=8,
    ).history
    assert len(history["loss"]) == 4
    assert [path.name for path in tmp_path.glob("*.keras")] == ["1-1.00.keras"]
    assert history["learning_rate"] == pytest.approx([0.5, 0.5, 0.5, 0.25])
    assert "smoothed_val_loss" in read_history(tmp_path / "log.csv")


def test_mode_auto_knows_which_way_is_better(data):
    followers = [keras.callbacks.EarlyStopping(f"smoothed_{name}", patience=9) for name in ("val_accuracy", "loss")]
    fit(data, SmoothedMetricsLogger(), *followers, epochs=1)
    assert [follower.mode for follower in followers] == ["max", "min"]


def test_backup_and_restore_continues_the_curve(data, tmp_path):
    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def callbacks():
        return SmoothedMetricsLogger(csv=tmp_path / "history.csv"), keras.callbacks.BackupAndRestore(
            tmp_path / "backup"
        )

    whole = fit(data, SmoothedMetricsLogger()).history
    with pytest.raises(KeyboardInterrupt):
        fit(data, *callbacks(), Kill())
    fit(data, *callbacks())
    written = read_history(tmp_path)
    assert written["epoch"] == [0, 1, 2, 3]
    for name, curve in whole.items():
        assert written[name] == pytest.approx(curve, rel=1e-5), name


def test_per_batch_averages_each_batchs_own_value(data):
    x, y = data
    model = make_model(["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2, name="top2")])
    per_batch = [model.evaluate(x[i : i + 8], y[i : i + 8], verbose=0, return_dict=True) for i in (0, 8, 16)]
    model.optimizer.learning_rate = 0.0  # the weights stay: every epoch meets the same three losses
    history = fit(data, SmoothedMetricsLogger(0.5, per_batch=True), model=model, epochs=2).history
    for name in ("loss", "accuracy", "top2"):
        smoothed = smooth_curve([logs[name] for logs in per_batch] * 2, 0.5)
        assert history[f"smoothed_{name}"] == pytest.approx([smoothed[2], smoothed[5]], rel=1e-5)
    assert history["smoothed_val_loss"] == pytest.approx(smooth_curve(history["val_loss"], 0.5), rel=1e-12)


def test_per_batch_takes_metrics_that_are_no_means_as_they_are_logged(data):
    logged = []
    note = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: logged.append(logs["seen"]))

    class Seen(keras.metrics.Metric):
        def __init__(self):
            super().__init__(name="seen")
            self.count = self.add_variable((), "zeros")

        def update_state(self, y_true, y_pred, sample_weight=None):
            self.count.assign_add(keras.ops.cast(keras.ops.size(y_true), self.dtype))

        def result(self):
            return self.count + 0.0

    history = fit(data, SmoothedMetricsLogger(0.5, per_batch=True), note, model=make_model([Seen()]), epochs=1).history
    assert logged == [8.0, 16.0, 24.0]
    assert history["smoothed_seen"] == [18.0]


def test_leaves_training_as_it_is(data):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        with_logger = fit(data, SmoothedMetricsLogger(per_batch=True)).history
    without = fit(data).history
    assert {name: with_logger[name] for name in without} == without
