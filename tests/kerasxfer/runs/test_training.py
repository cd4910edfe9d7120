"""A run folder from class folders, on each backend."""

import csv
import dataclasses
import json
import os
import shutil

import keras
import numpy as np
import pytest
from kerasxfer_serving.errors import KerasxferError, UsageError
from PIL import Image

from kerasxfer.commands import train as command
from kerasxfer.data import ImageFolder
from kerasxfer.report import build_report
from kerasxfer.runs.config import TrainConfig
from kerasxfer.runs.datasets import datasets
from kerasxfer.runs.model import compiled_model
from kerasxfer.runs.run_folder import RunFolder, RunRecord
from kerasxfer.runs.training import plan_training, train


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Noisy stripes, lying and standing: a classifier needs a look at the structure, not at the colour."""
    root = tmp_path_factory.mktemp("stripes")
    rng = np.random.default_rng(0)
    for part, count in (("train", 16), ("validation", 6)):
        for name in ("lying", "standing"):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                wave = np.sin(np.arange(48) * rng.uniform(0.5, 0.9) + rng.uniform(0, 6)) * 90 + 128
                pixels = np.broadcast_to(wave[:, None] if name == "lying" else wave, (48, 48))
                noisy = (pixels[..., None] + rng.normal(0, 12, (48, 48, 3))).clip(0, 255).astype(np.uint8)
                Image.fromarray(noisy).save(root / part / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def config(folders):
    return TrainConfig(
        data=str(folders / "train"),
        validation=str(folders / "validation"),
        backbone="DemoVGG",
        image_size=(48, 48),
        head="average",
        dropout=0.2,
        learning_rate=1e-2,
        epochs=6,
        batch_size=8,
        schedule=[{"epochs": 4}, {"unfreeze": "block5", "epochs": 2, "learning_rate": 1e-3}],
    )


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    """A finished run without a cache."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(config, folder)
    return folder


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def history(run):
    with (run / "history.csv").open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def assert_same_history(run, other, tolerance):
    for row, expected in zip(history(run), history(other), strict=True):
        assert row == pytest.approx(expected, rel=tolerance)


def test_data_alone_is_enough(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command.train(folders / "train", backbone="DemoVGG", image_size="48", epochs=1)
    assert RunFolder(tmp_path / "run").read().images == {"training": 32, "validation": 0}


def test_a_run_leaves_model_history_curves_and_configuration(run, config):
    saved = json.loads((run / "config.json").read_text())
    assert saved["class_names"] == ["lying", "standing"]
    assert saved["images"] == {"training": 32, "validation": 12}
    assert (run / "curves.png").stat().st_size > 1000
    assert sorted(path.name for path in run.iterdir()) == ["config.json", "curves.png", "history.csv", "model.keras"]
    model = keras.saving.load_model(run / "model.keras")
    _, validation = datasets(config)
    assert model.evaluate(validation, verbose=0, return_dict=True) == pytest.approx(saved["result"], rel=1e-3)
    assert saved["result"]["accuracy"] >= 0.9


def test_a_run_without_a_schedule_trains_the_head_alone(config, tmp_path):
    train(dataclasses.replace(config, schedule=[], epochs=1), tmp_path / "run")
    (row,) = history(tmp_path / "run")
    assert "stage" not in row
    assert 0 <= row["val_accuracy"] <= 1


def test_the_schedule_shows_in_the_history(run):
    rows = history(run)
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3, 4, 5]
    assert [row["stage"] for row in rows] == [1, 1, 1, 1, 2, 2]
    assert rows[4]["trainable_params"] > rows[3]["trainable_params"]
    assert [row["learning_rate"] for row in rows[3:]] == pytest.approx([1e-2, 1e-3, 1e-3])


def test_a_cached_run_equals_the_uncached_one(run, config, tmp_path):
    train(dataclasses.replace(config, cache=str(tmp_path / "cache")), tmp_path / "cached")
    assert_same_history(tmp_path / "cached", run, 1e-4)


def test_an_interrupted_run_resumes_to_the_same_history(run, config, tmp_path, monkeypatch):
    read = ImageFolder.__getitem__

    def fail_in_the_fifth_epoch(self, index):
        if self.shuffle and self.epoch == 4:
            raise OSError("the disk has gone")
        return read(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(ImageFolder, "__getitem__", fail_in_the_fifth_epoch)
        with pytest.raises(Exception, match="the disk has gone"):
            train(config, tmp_path / "run")
    assert not (tmp_path / "run/model.keras").exists()
    assert len(history(tmp_path / "run")) == 4
    train(config, tmp_path / "run", resume=True)
    assert_same_history(tmp_path / "run", run, 1e-5)


def a_run_of(config, folder, **changes):
    """A run folder as `train` leaves it when it has just begun."""
    folder.mkdir()
    RunRecord(dataclasses.replace(config, **changes)).write(folder / "config.json")
    return folder


def test_a_run_is_never_overwritten_by_accident(config, tmp_path):
    run = a_run_of(config, tmp_path / "run", epochs=7)
    with pytest.raises(KerasxferError, match="--overwrite"):
        train(config, run)
    with pytest.raises(KerasxferError, match="epochs 7 → 6"):
        train(config, run, resume=True)
    with pytest.raises(UsageError, match="exclude each other"):
        train(config, run, resume=True, overwrite=True)


@pytest.mark.parametrize(
    "config_json", [None, "{}", "[]", "no JSON", '{"architectures": ["ViT"], "image_size": 224}', '{"epochs": 7}']
)
def test_a_folder_of_somebody_else_is_left_alone(config, tmp_path, config_json):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    if config_json is not None:
        (mine / "config.json").write_text(config_json)
    before = contents(mine)
    for flags in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(KerasxferError, match=r"has no config\.json of a run"):
            train(config, mine, **flags)
    assert contents(mine) == before


def test_overwriting_discards_what_a_run_wrote_and_nothing_else(config, run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    others = ("notes.md", "images/cat.jpg", "model.onnx", "bench.json", "cache/v1/key")
    for name in others:
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).write_text("mine")
    RunFolder(tmp_path / "run").discard()
    assert contents(tmp_path / "run") == dict.fromkeys(others, b"mine")


def test_a_run_is_not_written_over_or_into_its_own_images(config, folders, tmp_path):
    outer = a_run_of(config, tmp_path / "outer")
    shutil.copytree(folders / "train", outer / "data")
    inside = dataclasses.replace(config, data=str(outer / "data"))
    before = contents(outer)
    for flags in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(UsageError, match=r"`--out` must not hold.*DATA"):
            train(inside, outer, **flags)
        with pytest.raises(UsageError, match="`--out` must be outside"):
            train(inside, outer / "data" / "run", **flags)
    (tmp_path / "link").symlink_to(outer / "data")
    with pytest.raises(UsageError, match=r"`--out` must not hold.*--validation"):
        train(dataclasses.replace(config, validation=str(tmp_path / "link")), outer, overwrite=True)
    assert contents(outer) == before


def test_two_processes_do_not_train_in_one_folder(config, tmp_path):
    run = a_run_of(config, tmp_path / "run")
    before = contents(run)
    with RunFolder(run).locked(), pytest.raises(KerasxferError, match="Another process is training"):
        train(config, run, overwrite=True)
    assert contents(run) == before


def test_a_run_that_fails_at_once_leaves_nothing(config, folders, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(folders / "train", data)
    (data / "lying" / "empty.png").touch()
    spoilt = dataclasses.replace(config, data=str(data))
    for cache in (None, str(tmp_path / "run" / "cache")):
        with pytest.raises(KerasxferError, match=r"lying/empty\.png \(empty\)(.|\n)*--on-error skip"):
            train(dataclasses.replace(spoilt, cache=cache), tmp_path / "run")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
    skipping = dataclasses.replace(spoilt, on_error="skip", epochs=1, schedule=[])
    assert train(skipping, tmp_path / "run").images["training"] == 32


def test_validation_images_must_have_the_same_classes(config, folders, tmp_path):
    shutil.copytree(folders / "validation/lying", tmp_path / "other/lying")
    with pytest.raises(KerasxferError, match="same class folders"):
        datasets(dataclasses.replace(config, validation=str(tmp_path / "other")))


def test_a_schedule_that_does_not_fit_neither_leaves_nor_discards_a_run(config, tmp_path):
    wrong = dataclasses.replace(config, schedule=[{"unfreeze": "block7", "epochs": 6}])
    with pytest.raises(UsageError, match="block7"):
        train(wrong, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    before = contents(a_run_of(config, tmp_path / "run"))
    with pytest.raises(UsageError, match="block7"):
        train(wrong, tmp_path / "run", overwrite=True)
    assert contents(tmp_path / "run") == before


def test_two_sources_of_validation_are_refused(config):
    with pytest.raises(UsageError, match="exclude each other"):
        datasets(dataclasses.replace(config, validation_split=0.2))


def test_augmentation_changes_the_images_of_every_epoch(config):
    training, validation = datasets(dataclasses.replace(config, augment={"rotation_range": 40}))
    row = [0]
    training.set_epoch(0)
    first = training.load(row, epoch=0)
    assert not np.array_equal(first, training.load(row, epoch=1))
    assert np.array_equal(first, training.load(row, epoch=0))
    assert validation is not None
    assert validation.augmentation is None


def test_sigmoid_means_one_unit_and_binary_labels(config):
    config = dataclasses.replace(config, activation="sigmoid")
    training, _ = datasets(config)
    assert compiled_model(config, training.class_names).output_shape == (None, 1)
    assert training[0][1].shape == (8, 1)


def test_a_plan_trains_nothing(config, tmp_path):
    tables = plan_training(dataclasses.replace(config, cache=str(tmp_path / "cache")))
    assert len(tables["Stages"].rows) == 2
    assert len(tables["Cache"].rows) == 2
    assert not (tmp_path / "run").exists()


def test_images_with_names_that_are_not_utf_8_are_trained_on_and_reported(config, folders, tmp_path):
    data = tmp_path / os.fsdecode(b"d\xe9p\xf4t")
    for name in ("lying", "standing"):
        (data / name).mkdir(parents=True)
        for number, source in enumerate(sorted((folders / "validation" / name).iterdir())):
            shutil.copy(source, data / name / os.fsdecode(b"caf\xe9 %d.png" % number))
    train(dataclasses.replace(config, data=str(data), validation=str(data), schedule=[], epochs=1), tmp_path / "run")
    (result,) = build_report([tmp_path / "run"], tmp_path / "report.html")
    assert RunFolder(tmp_path / "run").read().config.data == str(data)
    assert len(result.predictions.paths) == 12


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train", "validation"], "called like subsets"),
        (["cats"], r"two or more class folders.*'cats'. It holds folders itself \(a, b\)"),
    ],
)
def test_a_folder_above_the_class_folders_is_named(config, tmp_path, names, message):
    for name in names:
        for inner in ("a", "b"):
            (tmp_path / "data" / name / inner).mkdir(parents=True)
    with pytest.raises(UsageError, match=message):
        datasets(dataclasses.replace(config, data=str(tmp_path / "data")))
