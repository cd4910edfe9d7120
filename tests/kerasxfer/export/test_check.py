import json

import keras
import numpy as np
import pytest
from kerasxfer_serving.commands import output
from kerasxfer_serving.model.model_file import load_model_file
from typer import Typer

from kerasxfer.commands.check import check as check_command
from kerasxfer.export.check import check_file
from kerasxfer.export.errors import ExportError


@pytest.fixture
def changed_model(rich_model, tmp_path):
    """`rich_model` after a little more training."""
    model = keras.models.clone_model(rich_model)
    model.set_weights(rich_model.get_weights())
    head = model.get_layer("head")
    kernel, bias = head.get_weights()
    head.set_weights([kernel, bias + np.array([1.0, -1.0, 0.0], "float32")])
    return model


def run_check(monkeypatch, *arguments):
    app = Typer()
    app.command()(check_command)
    monkeypatch.setattr("sys.argv", ["check", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        output.run(app, "check")
    return exit_.value.code


def test_the_exported_model_agrees_on_every_labelled_image(exported, rich_model, class_folders):
    result = check_file(exported.file.path, rich_model, class_folders)
    assert result.failure is None
    assert result.same_source
    assert result.device == "cpu"
    assert result.parity.pictures == 32
    assert result.parity.source_accuracy.value == result.parity.file_accuracy.value == 1.0
    assert result.parity.max_difference <= 1e-5


def test_a_model_that_trained_on_does_not(exported, changed_model, class_folders):
    result = check_file(exported.file.path, changed_model, class_folders)
    assert not result.same_source
    assert "`probabilities` differs by" in result.failure
    assert result.parity.worst[0]["picture"].split("/")[0] in ("cats", "dogs", "newts")


def test_other_class_folders_are_refused(exported, rich_model, class_folders, tmp_path):
    (tmp_path / "birds").mkdir()
    with pytest.raises(ExportError, match="birds"):
        check_file(exported.file.path, rich_model, tmp_path)


def test_a_file_without_manifest_is_refused(exported, rich_model, class_folders, tmp_path):
    proto = load_model_file(exported.file.path).proto
    del proto.metadata_props[:]
    (tmp_path / "bare.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(ExportError, match="has no manifest"):
        check_file(tmp_path / "bare.onnx", rich_model, class_folders)


def test_the_command_prints_json_and_exits_with_0(exported, rich_model, class_folders, tmp_path, monkeypatch, capsys):
    rich_model.save(tmp_path / "model.keras")
    arguments = [exported.file.path, "--against", tmp_path, "--data", class_folders, "--format", "json"]
    assert run_check(monkeypatch, *arguments) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["parity"]["same_top_class"] == 1.0
    assert "not, or no longer, the model that was exported" in err  # saved anew: another file


def test_the_command_exits_with_1_where_the_gate_fails(
    exported, changed_model, class_folders, tmp_path, monkeypatch, capsys
):
    changed_model.save(tmp_path / "model.keras")
    assert run_check(monkeypatch, exported.file.path, "--against", tmp_path, "--data", class_folders) == 1
    out, err = capsys.readouterr()
    assert "Farthest apart" in out
    assert "Error: `probabilities` differs by" in err
