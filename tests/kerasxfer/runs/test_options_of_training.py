"""Uneven classes, augmentation and regularisation in `kerasxfer train`: whole runs, killed and resumed."""

import csv
import dataclasses

import keras
import numpy as np
import pytest
from kerasxfer_serving.errors import UsageError
from PIL import Image

from kerasxfer.data import ImageFolder
from kerasxfer.report import build_report
from kerasxfer.runs.config import TrainConfig
from kerasxfer.runs.datasets import datasets
from kerasxfer.runs.model import compiled_model
from kerasxfer.runs.training import train

pytestmark = pytest.mark.usefixtures("without_graphs")

needs_cutmix = pytest.mark.skipif(not hasattr(keras.layers, "CutMix"), reason="this Keras has no CutMix")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Dark images, and half as many light ones."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name, low, count in (("dark", 0, 8), ("light", 60, 4)):
        (root / name).mkdir()
        for i in range(count):
            Image.fromarray(rng.integers(low, low + 150, (32, 32, 3), dtype=np.uint8)).save(root / name / f"{i}.png")
    return str(root)


def config_of(data, **changes):
    stages = [{"epochs": 1}, {"unfreeze": "block2", "epochs": 1, "learning_rate": 1e-3}]
    settings = {"backbone": "DemoVGG", "backbone_output": "block2_pool", "image_size": (32, 32), "batch_size": 4}
    return TrainConfig(data, **settings | {"validation": data, "epochs": 2, "schedule": stages} | changes)


def history(run):
    with (run / "history.csv").open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


WEIGHED = {"class_weight": "balanced", "label_smoothing": 0.1, "ema": 0.9}
MIXED = {
    "augment": {"rand": True, "mixup": 0.2},
    "sampling": "balanced",
    "activation": "sigmoid",
    "label_smoothing": 0.1,
    "dtype": "mixed_bfloat16",
}


@pytest.mark.parametrize("options", [WEIGHED, MIXED], ids=["weighed", "mixed"])
def test_a_run_that_is_killed_goes_on_to_the_same_end(data, tmp_path, options):
    config = config_of(data, **options)
    read = ImageFolder.__getitem__

    def fail_in_the_second_epoch(self, index):
        if self.shuffle and self.epoch == 1:
            raise OSError("the disk has gone")
        return read(self, index)

    whole = train(config, tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageFolder, "__getitem__", fail_in_the_second_epoch)
        # With averaged weights on JAX, Keras's clean-up of a `fit` that failed fails too, and hides why.
        with pytest.raises(Exception, match=r"the disk has gone|'NoneType' object is not callable"):
            train(config, tmp_path / "run")
    resumed = train(config, tmp_path / "run", resume=True)
    for row, expected in zip(history(tmp_path / "run"), history(tmp_path / "whole"), strict=True):
        assert row == pytest.approx(expected, rel=1e-5)
    assert resumed.result == pytest.approx(whole.result, rel=1e-5)
    best = min(history(tmp_path / "whole"), key=lambda row: row["val_loss"])
    assert whole.result["loss"] == pytest.approx(best["val_loss"], rel=1e-3)


def test_a_cached_run_equals_the_uncached_one(data, tmp_path):
    config = config_of(data, **WEIGHED)
    uncached = train(config, tmp_path / "run")
    cached = train(dataclasses.replace(config, cache=str(tmp_path / "cache")), tmp_path / "cached")
    assert cached.result == pytest.approx(uncached.result, rel=1e-4)


def test_as_many_cached_copies_as_epochs_equal_augmentation_in_every_epoch(data, tmp_path):
    config = config_of(data, augment={"rotation_range": 40})
    uncached = train(config, tmp_path / "run")
    copies = dataclasses.replace(config, copies=2, cache=str(tmp_path / "cache"))
    assert train(copies, tmp_path / "copies").result == pytest.approx(uncached.result, rel=1e-4)
    one = dataclasses.replace(copies, copies=1)
    assert train(one, tmp_path / "one").result != pytest.approx(uncached.result, rel=1e-4)
    build_report([tmp_path / "copies"], tmp_path / "report.html")
    assert "Augmented copies" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_what_is_kept_is_the_average_that_was_validated(data, tmp_path):
    record = train(config_of(data, ema=0.9, keep="last", learning_rate=0.01), tmp_path / "run")
    assert record.result["loss"] == pytest.approx(history(tmp_path / "run")[-1]["val_loss"], rel=1e-3)
    plain = train(config_of(data, keep="last", learning_rate=0.01), tmp_path / "plain")
    assert plain.result["loss"] != pytest.approx(record.result["loss"], rel=1e-3)


def test_class_weights_count_every_class_the_same_in_the_loss(data, tmp_path):
    still = {"learning_rate": 1e-12, "optimizer": "sgd", "dropout": 0.0, "schedule": [], "epochs": 1}
    train(config_of(data, **still), tmp_path / "plain")
    train(config_of(data, class_weight="balanced", **still), tmp_path / "weighted")
    model = keras.saving.load_model(tmp_path / "plain" / "model.keras")
    images = ImageFolder(data, (32, 32), 12, shuffle=False)
    (batch, labels), *_ = list(images)
    losses = -np.log(model.predict(batch, verbose=0)[np.arange(12), labels])
    assert history(tmp_path / "plain")[0]["loss"] == pytest.approx(losses.mean(), rel=1e-3)
    by_class = [losses[labels == label].mean() for label in (0, 1)]
    assert history(tmp_path / "weighted")[0]["loss"] == pytest.approx(np.mean(by_class), rel=1e-3)


def test_mixed_precision_computes_in_half_and_answers_in_float32(data):
    config = config_of(data, dtype="mixed_bfloat16")
    model = compiled_model(config, ["dark", "light"])
    assert {layer.compute_dtype for layer in model.layers if "conv" in layer.name} == {"bfloat16"}
    assert model.output.dtype == "float32"
    assert keras.config.dtype_policy().name == "float32"


@needs_cutmix
def test_every_kind_of_augmentation_trains_together(data, tmp_path):
    augment = {"rand": 0.5, "mixup": 0.2, "cutmix": 1.0, "erasing": 0.25}
    config = config_of(data, augment=augment, label_smoothing=0.1, sampling="balanced", ema=0.9)
    train(config, tmp_path / "run")
    training, validation = datasets(config)
    assert training[0][0].dtype == "float32"
    assert validation[0][0].dtype == "uint8"
    build_report([tmp_path / "run"], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for fact in ("Label smoothing", "Average of weights", "Classes in an epoch", "Balanced accuracy", "Augmented copy"):
        assert fact in page


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_weight": "even"}, "`class_weight` must be one of"),
        ({"class_weight": "balanced", "sampling": "balanced"}, "both balance the classes"),
        ({"class_weight": "balanced", "augment": {"mixup": 0.2}}, "use `sampling='balanced'`"),
        ({"cache": "cache", "augment": {"rand": True}}, "`--cache` keeps what the frozen layers"),
        ({"ema": 1.0}, "`ema` must be above 0"),
        ({"label_smoothing": 1.0}, "`label_smoothing` must be"),
        ({"dtype": "float16"}, "`dtype` must be one of"),
        ({"augment": {"rand": True, "zoom_range": 0.2}}, "`rand` takes the place"),
        ({"augment": {"spin": 1}}, "`augment` takes `rand`, or arguments"),
        ({"augment": {"mixup": 7}}, "`mixup` must be a number from 0 to 1"),
    ],
    ids=["weights", "both", "mixed weights", "cache", "ema", "smoothing", "dtype", "rand", "unknown", "mixup"],
)
def test_what_does_not_go_together_is_named(data, tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        train(config_of(data, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()
