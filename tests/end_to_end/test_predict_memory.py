"""The memory of a prediction run, measured on the process: it does not grow with the number of inputs."""

import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from kerasxfer_serving.model.manifest import METADATA_KEY, Manifest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

FEW, MANY = 500, 4_000


@pytest.fixture
def model(tmp_path):
    constants = {"axes": np.array([1, 2]), "weights": np.eye(3, dtype=np.float32)}
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["floats", "axes"], ["mean"], keepdims=0),
            helper.make_node("MatMul", ["mean", "weights"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["probabilities"]),
        ],
        "mean colour",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 64, 64, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    manifest = Manifest(class_names=("red", "green", "blue"), image_size=(64, 64))
    proto.metadata_props.add(key=METADATA_KEY, value=manifest.to_json())
    onnx.save(proto, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def peak_memory(model, folder, out):
    command = [sys.executable, "-m", "kerasxfer_serving", "predict", str(model), str(folder), "-o", str(out)]
    process = subprocess.Popen([*command, "--device", "cpu", "--batch-size", "8"], stderr=subprocess.PIPE)
    _, status, usage = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, process.stderr.read()
    return usage.ru_maxrss


@pytest.mark.slow
def test_peak_memory_is_flat_in_the_number_of_inputs(model, tmp_path):
    image = tmp_path / "image.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)).save(image)
    for count in (FEW, MANY):
        (tmp_path / f"{count}").mkdir()
        for index in range(count):
            os.link(image, tmp_path / f"{count}" / f"{index:06d}.jpg")
    few, many = (peak_memory(model, tmp_path / f"{count}", tmp_path / f"{count}.csv") for count in (FEW, MANY))
    assert many < 1.1 * few
