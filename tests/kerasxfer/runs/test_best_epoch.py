"""Which epoch's weights a run ends with, and what it says of them."""

import csv
import dataclasses

import keras
import numpy as np
import pytest
from kerasxfer_serving.errors import UsageError
from PIL import Image

from kerasxfer.estimate import Estimate
from kerasxfer.runs.config import TrainConfig
from kerasxfer.runs.run_folder import RunFolder, RunState
from kerasxfer.runs.training import train

pytestmark = pytest.mark.usefixtures("without_graphs")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two classes of noise, dark and light."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name, low in (("dark", 0), ("light", 60)):
        (root / name).mkdir()
        for i in range(6):
            Image.fromarray(rng.integers(low, low + 150, (32, 32, 3), dtype=np.uint8)).save(root / name / f"{i}.png")
    return str(root)


@pytest.fixture(scope="module")
def spoilt(data):
    """A second stage that makes the model of the first one worse."""
    return TrainConfig(
        data,
        validation=data,
        backbone="DemoVGG",
        backbone_output="block2_pool",
        image_size=(32, 32),
        batch_size=4,
        epochs=4,
        schedule=[{"epochs": 2}, {"unfreeze": "block2", "epochs": 2, "learning_rate": 100.0}],
    )


def history(run):
    with (run / "history.csv").open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    ("monitor", "cache"), [("val_loss", None), ("val_loss", "cache"), ("val_accuracy", None)], ids=str
)
def test_the_best_epoch_of_all_stages_is_what_is_kept(spoilt, tmp_path, monitor, cache):
    cache = cache and str(tmp_path / cache)
    record = train(dataclasses.replace(spoilt, monitor=monitor, cache=cache), tmp_path / "run")
    rows = history(tmp_path / "run")
    best = (max if monitor == "val_accuracy" else min)(rows, key=lambda row: row[monitor])
    assert record.kept_epoch == best["epoch"] + 1 <= 2
    assert record.result["loss"] == pytest.approx(best["val_loss"], rel=1e-4)
    assert record == RunFolder(tmp_path / "run").read()
    model = keras.saving.load_model(tmp_path / "run" / "model.keras")
    shown = model.evaluate(*_images(spoilt), verbose=0, return_dict=True)
    assert shown["loss"] == pytest.approx(best["val_loss"], rel=1e-4)


def _images(config):
    from kerasxfer.runs.datasets import datasets

    batches = list(datasets(config)[1])
    return np.concatenate([x for x, _ in batches]), np.concatenate([y for _, y in batches])


def test_the_last_epoch_is_kept_where_it_is_asked_for(spoilt, tmp_path):
    record = train(dataclasses.replace(spoilt, keep="last"), tmp_path / "run")
    rows = history(tmp_path / "run")
    assert record.result["loss"] == pytest.approx(rows[-1]["val_loss"], rel=1e-4)
    assert rows[-1]["val_loss"] > rows[0]["val_loss"]
    assert record.kept_epoch is None


def test_each_stage_begins_with_the_best_weights_of_the_one_before(spoilt, tmp_path):
    spoiling = {"epochs": 3, "learning_rate": 100.0}
    mended = [spoiling, {"unfreeze": "block2", "epochs": 1, "learning_rate": 1e-30}]
    train(dataclasses.replace(spoilt, schedule=mended, optimizer="sgd"), tmp_path / "run")
    *first, last = history(tmp_path / "run")
    assert last["val_loss"] == pytest.approx(min(row["val_loss"] for row in first), rel=1e-3)


@pytest.mark.parametrize("keep", ["best", "last"])
def test_patience_ends_every_stage(spoilt, tmp_path, keep):
    stages = [{"epochs": 4, "min_delta": 100.0}, {"unfreeze": "block2", "epochs": 4, "min_delta": 100.0}]
    train(dataclasses.replace(spoilt, schedule=stages, patience=1, keep=keep, epochs=8), tmp_path / "run")
    assert [row["stage"] for row in history(tmp_path / "run")] == [1, 1, 2, 2]


def test_patience_ends_the_training_of_the_head(spoilt, tmp_path):
    diverging = dataclasses.replace(spoilt, schedule=[], optimizer="sgd", learning_rate=1e4, patience=2, epochs=9)
    record = train(diverging, tmp_path / "run")
    assert len(history(tmp_path / "run")) == record.kept_epoch + 2


def test_without_validation_images_the_last_epoch_is_kept_and_that_is_said(spoilt, tmp_path, capsys):
    alone = dataclasses.replace(spoilt, validation=None, epochs=1, schedule=[])
    record = train(alone, tmp_path / "run")
    assert record.kept_epoch is None
    assert "the weights of the last are kept" in capsys.readouterr().err
    with pytest.raises(UsageError, match="`--patience` watches val_loss"):
        train(dataclasses.replace(alone, patience=2), tmp_path / "other")


@pytest.mark.parametrize(
    ("monitor", "message"),
    [("val_speed", "a log with a known direction"), ("val_auc", "must be one of the logs of this run: accuracy, loss")],
)
def test_a_monitor_that_is_not_there_is_named(spoilt, tmp_path, monitor, message):
    with pytest.raises(UsageError, match=message):
        train(dataclasses.replace(spoilt, schedule=[], monitor=monitor), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_test_images_are_evaluated_once_at_the_end(spoilt, data, tmp_path):
    record = train(dataclasses.replace(spoilt, test=data, epochs=1, schedule=[]), tmp_path / "run")
    assert record.images["test"] == 12
    assert record.test_result["loss"] == pytest.approx(record.result["loss"], rel=1e-4)
    share = Estimate.of_share(round(12 * record.test_result["accuracy"]), 12)
    assert (record.test_result["accuracy_low"], record.test_result["accuracy_high"]) == (share.low, share.high)
    assert RunFolder(tmp_path / "run").state is RunState.finished
