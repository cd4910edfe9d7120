import hashlib
import json
import subprocess
import sys

import onnx
import pytest
from kerasxfer_serving.model.manifest import METADATA_KEY, Manifest


def inspect(*arguments):
    command = [sys.executable, "-m", "kerasxfer_serving", "inspect", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def path(tmp_path, write_model):
    return write_model(tmp_path / "model.onnx")


def test_a_person_reads_classes_graph_and_hash(path):
    done = inspect(path)
    assert done.returncode == 0
    for expected in (
        "3: red, green, blue",
        "8 × 10 (height × width)",
        "images uint8 [batch, 8, 10, 3]",
        "5 nodes, 12 parameters, opset 18",
        hashlib.sha256(path.read_bytes()).hexdigest(),
    ):
        assert expected in done.stdout


def test_json_holds_the_whole_manifest(path):
    data = json.loads(inspect(path, "--format", "json").stdout)
    assert data["manifest"] == Manifest.read(path).to_dict()
    assert data["statistics"]["operators"]["MatMul"] == 1
    assert data["inputs"] == [{"name": "images", "dtype": "uint8", "shape": ["batch", 8, 10, 3]}]
    assert data["golden_differs"] == []


def test_a_model_from_elsewhere_is_described_without_a_manifest(tmp_path, write_model):
    path = write_model(tmp_path / "model.onnx", manifest=False)
    done = inspect(path)
    assert done.returncode == 0
    assert "5 nodes" in done.stdout
    assert "No manifest" in done.stderr
    assert json.loads(inspect(path, "--format", "json").stdout)["manifest"] is None


def test_another_decoding_on_this_machine_is_told(path):
    proto = onnx.load(path)
    manifest = Manifest(class_names=("a", "b", "c"), image_size=(8, 10), golden={"rgb.png": "0" * 64})
    del proto.metadata_props[:]
    proto.metadata_props.add(key=METADATA_KEY, value=manifest.to_json())
    onnx.save(proto, path)
    assert "decodes some images differently from the one that exported the model: rgb.png" in inspect(path).stderr


def test_a_refused_file_exits_with_1_and_without_a_traceback(path):
    done = inspect(path, "--sha256", "0" * 64)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr


HOSTILE = "cl\x1b[2Jear\u202egnp.exe\x9b31m\nnext"


def test_names_do_not_reach_the_terminal_as_commands(path):
    proto = onnx.load(path)
    del proto.metadata_props[:]
    manifest = Manifest(class_names=(HOSTILE, "b", "c"), image_size=(8, 10))
    proto.metadata_props.add(key=METADATA_KEY, value=manifest.to_json())
    proto.producer_name = HOSTILE
    onnx.save(proto, path)
    done = inspect(path)
    for character in "\x1b\u202e\x9b":
        assert character not in done.stdout + done.stderr
    assert "cl\\x1b[2Jear\\u202egnp.exe\\x9b31m\\nnext" in done.stdout
    as_json = inspect(path, "--format", "json")
    assert "\x9b" not in as_json.stdout
    assert "\u202e" not in as_json.stdout
    assert json.loads(as_json.stdout)["manifest"]["class_names"][0] == HOSTILE


def test_names_in_messages_do_not_reach_the_terminal_as_commands(tmp_path):
    done = inspect(tmp_path / "no\x1b[2J.onnx")
    assert "\x1b" not in done.stderr
    assert "\\x1b[2J" in done.stderr
