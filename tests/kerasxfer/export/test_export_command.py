import json
import subprocess
import sys

import pytest
from kerasxfer_serving.model.manifest import Manifest


def export(*arguments):
    command = [sys.executable, "-m", "kerasxfer", "export", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def run(rich_model, tmp_path_factory):
    """A run folder, as `kerasxfer train` leaves it."""
    folder = tmp_path_factory.mktemp("run")
    rich_model.save(folder / "model.keras")
    config = {"class_names": ["cats", "dogs", "newts"], "image_size": [32, 40], "policy": {}, "backbone": None}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def int8(run, custom_layers, class_folders, tmp_path_factory):
    """The command with nearly all that it does: int8, calibrated and checked on a folder, and a Triton repository."""
    folder = tmp_path_factory.mktemp("int8")
    done = export(
        *(run, "-o", folder / "model.onnx", "--precision", "int8", "--calibration", class_folders),
        *("--import", custom_layers.__file__, "--triton", folder / "triton", "--format", "json"),
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout), done.stderr


@pytest.mark.slow
def test_stdout_is_the_report_and_stderr_the_steps(int8):
    folder, report, steps = int8
    assert report["path"] == str(folder / "model.onnx")
    assert set(report["parity"]) == {"fp32", "int8"}
    assert report["check"]["pictures"] == 32
    for step in ("Open the model", "Ask the model", "Convert, on tensorflow", "Lower to int8", "Check on", "Write"):
        assert step in steps
        assert any(name.startswith(step) for name in report["seconds"])


@pytest.mark.slow
def test_the_file_and_its_repository_are_there(int8):
    folder, report, _ = int8
    manifest = Manifest.read(folder / "model.onnx")
    assert (manifest.precision, manifest.class_names) == ("int8", ("cats", "dogs", "newts"))
    assert manifest.calibration["pictures"] == 32
    assert manifest.parity["check"]["source_accuracy"]["value"] == 1.0
    assert report["statistics"]["operators"]["QuantizeLinear"] > 0
    assert (folder / "triton" / "model" / "1" / "model.onnx").read_bytes() == (folder / "model.onnx").read_bytes()


@pytest.mark.slow
def test_a_model_that_cannot_be_read_exits_with_1_and_the_remedy(run, tmp_path):
    done = export(run, "-o", tmp_path / "model.onnx")
    assert done.returncode == 1
    assert "--import" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_contradicting_arguments_exit_with_2(run, tmp_path):
    done = export(run, "-o", tmp_path / "model.onnx", "--precision", "int8")
    assert done.returncode == 2
    assert "`--calibration`" in done.stderr


def test_help_imports_neither_keras_nor_onnx_runtime():
    code = (
        "import sys; sys.argv = ['kerasxfer', 'export', '--help']\n"
        "from kerasxfer.commands import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'keras', 'tensorflow', 'onnx', 'onnxruntime'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--calibration" in done.stdout
    assert done.stderr.strip() == "[]"
