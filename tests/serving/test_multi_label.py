"""A model that says of an image all that fits: its manifest, its rows in every format, and its answers over HTTP."""

import csv
import json

import command_fuzz
import numpy as np
import pytest
from kerasxfer_serving.commands import application
from kerasxfer_serving.errors import ModelError, UsageError
from kerasxfer_serving.model.foreign import describe
from kerasxfer_serving.model.manifest import Manifest
from kerasxfer_serving.model.model_file import load_model_file
from kerasxfer_serving.predictor import Predictor
from PIL import Image

NAMES = ("red", "green", "blue")
THRESHOLDS = (0.5, 0.9, 0.5)
MULTI = Manifest(class_names=NAMES, image_size=(8, 10), output="sigmoid", task="multi_label", thresholds=THRESHOLDS)

# Sigmoid of 8 (c - 0.5): 0.982 of a full channel, 0.879 of three quarters, 0.018 of none.
COLOURS = {"yellow": (255, 255, 0), "orange": (255, 191, 0), "black": (0, 0, 0), "blue": (0, 0, 255)}
LABELS = {"yellow": ["red", "green"], "orange": ["red"], "black": [], "blue": ["blue"]}


@pytest.fixture(scope="module")
def model(tmp_path_factory, write_multi_label_model):
    return write_multi_label_model(tmp_path_factory.mktemp("model") / "colours.onnx", MULTI)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for name, colour in COLOURS.items():
        Image.new("RGB", (10, 8), colour).save(folder / f"{name}.png")
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def predict(*arguments):
    result = command_fuzz.run(application, "kerasxfer-serving", ["predict", *map(str, arguments)])
    return result


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def by_name(rows):
    return {row["path"].rpartition("/")[2].removesuffix(".png"): row for row in rows}


# The manifest.


def test_the_task_is_said_from_version_2_on_and_comes_back():
    assert json.loads(MULTI.to_json())["format_version"] == 2
    assert Manifest.from_json(MULTI.to_json()) == MULTI


def test_a_single_label_manifest_stays_readable_for_older_versions():
    said = Manifest(class_names=NAMES, image_size=(8, 10)).to_dict()
    assert said["format_version"] == 1
    assert not {"task", "thresholds"} & set(said)


def test_a_file_of_version_1_is_read_as_before():
    old = {"class_names": ["cats", "dogs"], "image_size": [8, 8], "output": "sigmoid", "format_version": 1}
    manifest = Manifest.from_json(json.dumps(old))
    assert (manifest.task, manifest.thresholds) == ("single_label", ())


def test_thresholds_are_a_half_where_nothing_is_said():
    manifest = Manifest(class_names=NAMES, image_size=(8, 10), output="sigmoid", task="multi_label")
    assert manifest.thresholds == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "detection"}, "`task`"),
        ({"thresholds": [0.5]}, "one for each of the 3 classes"),
        ({"thresholds": [0.5, 0.5, 1.5]}, "from 0 to 1"),
        ({"thresholds": [0.5, 0.5, True]}, "from 0 to 1"),
        ({"thresholds": {"red": 0.5}}, "from 0 to 1"),
        ({"task": "single_label"}, "belong to the task"),
        ({"output": "softmax"}, "one sigmoid per class"),
        ({"class_names": ["a|b", "c", "d"]}, "must not contain '|'"),
        ({"format_version": 1}, "unknown fields"),
        ({"format_version": 3}, "Update kerasxfer-serving"),
    ],
    ids=str,
)
def test_what_no_multi_label_manifest_says_is_named(change, message):
    with pytest.raises(ModelError, match=message.replace("|", r"\|")):
        Manifest.from_json(json.dumps(MULTI.to_dict() | change))


# The predictor.


def test_the_labels_that_reach_their_thresholds(model, images):
    with Predictor(model, device="cpu") as predictor:
        predictions = predictor.predict(
            [*(str(images / f"{name}.png") for name in COLOURS), str(images / "broken.png")]
        )
    assert predictions.label_sets == [*map(tuple, LABELS.values()), None]
    assert predictions.labels[0] in LABELS["yellow"]


def test_a_single_column_is_no_multi_label_model(tmp_path, write_model):
    path = write_model(tmp_path / "m.onnx", class_names=("a", "b"), activation="Sigmoid", weights=np.ones((3, 1)))
    manifest = Manifest(class_names=("a", "b"), image_size=(8, 10), output="sigmoid", task="multi_label")
    with Predictor(path, device="cpu", manifest=manifest) as predictor, pytest.raises(ModelError, match="2 classes"):
        predictor.run(np.zeros((1, 8, 10, 3), np.uint8))


def test_logits_of_several_labels_become_a_sigmoid_each(tmp_path, write_model):
    path = write_model(tmp_path / "m.onnx", activation=None, manifest=False)
    manifest = describe(load_model_file(path), class_names=NAMES, output="logits", multi_label=True)
    with Predictor(path, device="cpu", manifest=manifest) as predictor:
        (answer,) = predictor.run(np.full((1, 8, 10, 3), 255, np.uint8))
    np.testing.assert_allclose(answer, 1 / (1 + np.exp(-8)), rtol=1e-5)


# The command.


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet"])
def test_rows_have_the_labels_and_all_scores_asked_for(model, images, tmp_path, format):
    out = tmp_path / f"rows.{format}"
    assert predict(model, images, "-o", out, "--top-k", 2, "--all-probabilities", "--device", "cpu").status == 1
    if format == "csv":
        rows = [
            row
            | {
                "labels": (row["labels"].split("|") if row["labels"] else []) if row["status"] == "ok" else None,
                "probabilities": json.loads(row["probabilities"]) if row["probabilities"] else None,
            }
            for row in read_csv(out)
        ]
    elif format == "jsonl":
        rows = [json.loads(line) for line in out.read_text().splitlines()]
    else:
        rows = pytest.importorskip("pyarrow.parquet").read_table(out).to_pylist()
    found = by_name(rows)
    assert {name: found[name]["labels"] for name in COLOURS} == LABELS
    assert found["broken"]["labels"] is None
    assert list(found["blue"]) == [
        *("path", "status", "message", "labels", "label", "probability", "label_2", "probability_2"),
        *("width", "height", "probabilities"),
    ]
    np.testing.assert_allclose(found["orange"]["probabilities"], [0.982, 0.879, 0.018], atol=1e-3)


def test_a_threshold_of_the_command_goes_before_the_models(model, images, tmp_path):
    for text, labels in (("0.95", ["red"]), ("green=0.5", ["red", "green"]), ("red=1,green=0.8", ["green"])):
        out = tmp_path / f"{text}.csv"
        predict(model, images, "-o", out, "--threshold", text, "--device", "cpu")
        assert by_name(read_csv(out))["orange"]["labels"] == "|".join(labels)


@pytest.mark.parametrize("text", ["none", "cat=0.5", "red=2", "red=", "nan", "-1"])
def test_a_wrong_threshold_is_named(model, images, text):
    result = predict(model, images, f"--threshold={text}", "--device", "cpu")
    assert result.status == 2
    assert "hreshold" in result.stderr


def test_thresholds_are_for_several_labels(tmp_path, write_model, images):
    result = predict(write_model(tmp_path / "m.onnx"), images, "--threshold", "0.5", "--device", "cpu")
    assert result.status == 2
    assert "for multi-label models" in result.stderr


def test_another_threshold_is_another_run(model, images, tmp_path):
    out = tmp_path / "rows.csv"
    predict(model, images, "-o", out, "--device", "cpu")
    again = predict(model, images, "-o", out, "--resume", "--device", "cpu", "--threshold", "0.2")
    assert again.status == 2
    assert "manifest" in again.stderr


def test_a_model_from_elsewhere_is_said_to_have_several_labels(tmp_path, write_multi_label_model, images):
    model = write_multi_label_model(tmp_path / "m.onnx", None)
    (tmp_path / "labels.txt").write_text("\n".join(NAMES))
    out = tmp_path / "rows.csv"
    said = ("--preprocess", "none", "--labels", tmp_path / "labels.txt", "--multi-label")
    result = predict(model, images, "-o", out, *said, "--device", "cpu")
    assert "several labels per image" in result.stderr
    assert by_name(read_csv(out))["orange"]["labels"] == "red|green"


def test_a_label_that_a_spreadsheet_would_compute(tmp_path, write_multi_label_model, images):
    manifest = Manifest(class_names=("=1+1", "b", "c"), image_size=(8, 10), output="sigmoid", task="multi_label")
    model = write_multi_label_model(tmp_path / "m.onnx", manifest)
    out = tmp_path / "rows.csv"
    predict(model, images, "-o", out, "--csv-safe", "--device", "cpu")
    assert by_name(read_csv(out))["yellow"]["labels"] == "'=1+1|b"


def test_thresholds_by_name_are_checked():
    from kerasxfer_serving.model.task import name_thresholds

    assert name_thresholds({"green": 1}, THRESHOLDS, NAMES) == (0.5, 1.0, 0.5)
    with pytest.raises(UsageError, match="for classes of the model"):
        name_thresholds({"cyan": 0.5}, THRESHOLDS, NAMES)
