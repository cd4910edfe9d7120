"""The model card: what it says, that its metadata parse, and whose README.md it keeps."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import yaml
from kerasxfer_serving.errors import KerasxferError

from kerasxfer.export.card import card_path, write_card
from kerasxfer.runs.config import TrainConfig
from kerasxfer.runs.run_folder import RunRecord

CLASSES = ("cats", "dogs", "newts")


@pytest.fixture
def moved(exported, tmp_path):
    """The exported file in a folder of its own."""
    path = tmp_path / "pets.onnx"
    shutil.copy(exported.file.path, path)
    return replace(exported, file=replace(exported.file, path=path))


@pytest.fixture(scope="module")
def run(rich_model, class_folders, tmp_path_factory):
    """A finished run, validated on images in the folder of the class that the model sees in them."""
    folder = tmp_path_factory.mktemp("runs") / "pets|run"
    folder.mkdir()
    rich_model.save(folder / "model.keras")
    stages = [{"epochs": 1}, {"unfreeze": "conv2d", "epochs": 1, "learning_rate": 1e-4}]
    config = TrainConfig(
        "/secret/photos", validation=str(class_folders), image_size=(32, 40), schedule=stages, epochs=2
    )
    record = RunRecord(
        config, CLASSES, {"training": 90, "validation": 32}, None, "jax", {"keras": "3.15.1"}, ("kerasxfer",), 12.0
    )
    record.write(folder / "config.json")
    rows = [("epoch", "stage", "val_accuracy"), (0, 1, 0.5), (1, 2, 0.75)]
    with (folder / "history.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def test_says_what_is_known_of_the_run(moved, run):
    text = write_card(moved, run).read_text()
    metadata = yaml.safe_load(text.split("---\n")[1])
    (model,) = metadata["model-index"]
    assert metadata["pipeline_tag"] == "image-classification"
    assert model["name"] == "pets|run"
    assert {"type": "accuracy", "value": 1.0} in model["results"][0]["metrics"]
    assert "**100.0%** of 32 validation images, 95 % interval 89.3% to 100.0%" in text
    for part in (*CLASSES, "Expected calibration error", "conv2d", "32 validation images are few", "same top class"):
        assert part in text
    assert "# pets\\|run" in text
    assert "/secret" not in text


def test_the_figures_are_those_of_the_file(moved, run, monkeypatch):
    from kerasxfer_serving.predictor import Predictor

    honest = Predictor.predict

    def turned(self, *args, **kwargs):
        answers = honest(self, *args, **kwargs)
        return replace(answers, probabilities=np.roll(answers.probabilities, 1, axis=1))

    monkeypatch.setattr(Predictor, "predict", turned)
    assert "**0.0%** of 32 validation images" in write_card(moved, run).read_text()


def test_a_model_without_a_run_has_a_card_too(moved):
    text = write_card(moved).read_text()
    assert "model-index" not in text
    assert "Not measured: the model came without validation images." in text
    assert "kerasxfer-serving benchmark pets.onnx" in text


def test_a_readme_of_others_is_kept_and_one_of_ours_renewed(moved):
    path = card_path(moved.file.path)
    path.write_text("# Mine\n")
    with pytest.raises(KerasxferError, match="not a model card"):
        write_card(moved)
    assert path.read_text() == "# Mine\n"
    path.unlink()
    first = write_card(moved).read_text()
    assert write_card(moved).read_text() == first


def test_speed_is_quoted_of_this_very_file(moved):
    from kerasxfer_serving import benchmark

    report = benchmark(moved.file.path, batch_sizes=(1,), scenarios=("offline",), duration=0.1)
    path = moved.file.path.with_name("bench.json")
    report.save(path)
    assert "images/s" in write_card(moved).read_text()
    data = json.loads(path.read_text())
    data["model"]["sha256"] = "0" * 64
    path.write_text(json.dumps(data))
    assert "images/s" not in write_card(moved).read_text()
