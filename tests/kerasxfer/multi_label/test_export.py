"""The file of a multi-label model: what it says of itself, and what proves it."""

import command_fuzz
import keras
import numpy as np
import pytest
from kerasxfer_serving.errors import KerasxferError
from kerasxfer_serving.predictor import Predictor

from kerasxfer import export_onnx
from kerasxfer.commands import application
from kerasxfer.export.check import check_file
from kerasxfer.export.errors import ExportArgumentError, ExportError
from kerasxfer.export.parity import GATES, UNLABELLED_INT8, compare_answers

NAMES = ("blue", "green", "red")


def test_the_file_says_its_task_and_gives_the_models_answers(exported, model, table):
    manifest = exported.manifest
    assert (manifest.task, manifest.thresholds, manifest.format_version) == ("multi_label", (0.5, 0.6, 0.7), 2)
    assert (manifest.class_names, manifest.output) == (NAMES, "sigmoid")
    assert exported.parity["fp32"].max_difference <= 1e-5
    assert exported.check.same_labels == 1.0
    assert exported.check.source_map == exported.check.file_map
    assert exported.check.file_map.value == 1.0
    assert manifest.parity["check"]["file_map"]["value"] == 1.0
    result = check_file(exported.file.path, model, table)
    assert (result.failure, result.parity.pictures) == (None, 40)
    assert "same labels 100.00%" in str(result.parity)
    assert "mean average precision 100.00%" in str(result.parity)


def test_the_predictor_says_what_the_table_says(exported, table):
    lines = table.read_text().splitlines()[1:]
    paths, labels = zip(*(line.split(",") for line in lines), strict=True)
    with Predictor(exported.file.path, device="cpu") as predictor:
        predictions = predictor.predict([str(table.parent / path) for path in paths])
    assert ["|".join(sorted(found)) for found in predictions.label_sets] == list(labels)


def test_int8_may_lose_a_point_of_mean_average_precision(model, table, tmp_path):
    out = tmp_path / "model.onnx"
    calibration = table.parent / "photos"
    exported = export_onnx(model, out, precision="int8", calibration=calibration, check=table, verbose=False)
    assert exported.manifest.precision == "int8"
    assert exported.check.file_map.value >= 0.99


def compared(file, targets=((1, 0, 1), (0, 1, 0), (1, 1, 0))):
    source = np.array([[0.9, 0.1, 0.8], [0.2, 0.7, 0.3], [0.6, 0.9, 0.1]])
    labels = None if targets is None else np.array(targets)
    return compare_answers(source, np.array(file), ["a", "b", "c"], NAMES, labels, (0.5, 0.5, 0.5))


def test_the_gates_of_several_labels():
    same = compared([[0.9, 0.1, 0.8], [0.2, 0.7, 0.3], [0.6, 0.9, 0.1]])
    assert [same.failure(gate) for gate in GATES.values()] == [None, None, None]
    other = compared([[0.1, 0.1, 0.8], [0.2, 0.7, 0.3], [0.6, 0.9, 0.1]])
    assert other.same_labels == pytest.approx(8 / 9)
    assert other.worst[0] == {"picture": "a", "difference": pytest.approx(0.8), "source": "blue 0.900000"} | {
        "file": "blue 0.100000"
    }
    assert "differs by 0.8" in other.failure(GATES["fp32"])
    assert "Labels are the same in 88.89%" in other.failure(GATES["fp16"])
    assert "Mean average precision falls from 100.00%" in other.failure(GATES["int8"])
    assert "Labels are the same in" in compared([[0.1, 0.1, 0.8]] * 3, None).failure(UNLABELLED_INT8)


def test_a_decision_as_close_as_a_device_may_differ_is_no_other_one():
    near = np.array([[0.50001, 0.2, 0.2]])
    parity = compare_answers(near, near - 2e-5, ["a"], NAMES, None, (0.5, 0.5, 0.5))
    assert parity.same_labels == 1.0


def test_images_without_any_label_prove_the_parity_alone():
    assert compared([[0.9, 0.1, 0.8], [0.2, 0.7, 0.3], [0.6, 0.9, 0.1]], np.zeros((3, 3))).source_map is None


# A Keras model of somebody's own.


def own_model(activation, columns=3):
    pixels = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Rescaling(1 / 255), keras.layers.Flatten()])
    drawn = keras.initializers.RandomNormal(0, 0.1, seed=1)
    pixels.add(keras.layers.Dense(columns, activation, kernel_initializer=drawn))
    return pixels


def test_a_model_of_ones_own_is_said_to_have_several_labels(tmp_path):
    out = tmp_path / "model.onnx"
    options = {"class_names": NAMES, "multi_label": True, "verbose": False}
    exported = export_onnx(own_model("sigmoid"), out, thresholds={"red": 0.9}, **options)
    assert (exported.manifest.task, exported.manifest.thresholds) == ("multi_label", (0.5, 0.5, 0.9))
    assert exported.parity["fp32"].max_difference <= 1e-5


def test_scores_get_a_sigmoid_each_though_no_loss_says_so(tmp_path):
    exported = export_onnx(own_model(None), tmp_path / "m.onnx", class_names=NAMES, multi_label=True, verbose=False)
    assert (exported.manifest.output, exported.manifest.thresholds) == ("sigmoid", (0.5, 0.5, 0.5))
    assert exported.parity["fp32"].max_difference <= 1e-5
    assert any("probability of 0.5" in note for note in exported.notes)


def test_where_nobody_says_so_the_question_is_asked(tmp_path):
    exported = export_onnx(own_model("sigmoid"), tmp_path / "model.onnx", class_names=NAMES, verbose=False)
    assert exported.manifest.task == "single_label"
    assert any("multi_label=True" in note for note in exported.notes)


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        (("softmax", 3), {"multi_label": True}, ExportError, "a softmax over all"),
        (("sigmoid", 1), {"multi_label": True}, ExportError, "one column"),
        (("sigmoid", 3), {"thresholds": 0.4}, ExportArgumentError, "`multi_label=True`"),
        (("sigmoid", 3), {"multi_label": True, "check": "missing.csv"}, KerasxferError, "missing.csv"),
    ],
    ids=str,
)
def test_what_does_not_belong_together_is_refused(model, options, error, message, tmp_path):
    with pytest.raises(error, match=message):
        export_onnx(own_model(*model), tmp_path / "model.onnx", verbose=False, **options)


def test_the_command_that_checks(exported, model, table, tmp_path):
    model.save(tmp_path / "model.keras")
    arguments = ["check", exported.file.path, "--against", tmp_path / "model.keras", "--data", table]
    result = command_fuzz.run(application, "kerasxfer", [*map(str, arguments)])
    assert result.status == 0, result.stderr
    assert "mean average precision" in result.stdout
