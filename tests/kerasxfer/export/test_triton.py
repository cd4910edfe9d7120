import hashlib
import re

import numpy as np
import pytest
from kerasxfer_serving.model.manifest import Manifest
from kerasxfer_serving.model.model_file import load_model_file
from kerasxfer_serving.runtime.opening import open_session
from onnx import TensorProto, helper, numpy_helper

from kerasxfer.export.errors import ExportError
from kerasxfer.export.graph import with_manifest
from kerasxfer.export.triton import write_triton


@pytest.fixture
def sigmoid_file(tmp_path):
    """A file with one sigmoid column for two classes."""
    nodes = [
        helper.make_node("Cast", ["images"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "w"], ["z"]),
        helper.make_node("Sigmoid", ["z"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "sigmoid",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 6, 8, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(np.full((3, 1), 0.01, "float32"), "w")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    path = tmp_path / "pets.onnx"
    path.write_bytes(with_manifest(proto, Manifest(class_names=("cats", "dogs"), image_size=(6, 8), output="sigmoid")))
    return load_model_file(path)


def test_the_repository_has_what_triton_reads(exported, tmp_path):
    folder = write_triton(exported.file, tmp_path / "repository", "animals", max_batch_size=16)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert files == ["1/model.onnx", "config.pbtxt", "labels.txt", "warmup/image"]
    assert hashlib.sha256((folder / "1/model.onnx").read_bytes()).hexdigest() == exported.file.sha256
    assert (folder / "labels.txt").read_text().split() == ["cats", "dogs", "newts"]
    config = (folder / "config.pbtxt").read_text()
    for expected in (
        'name: "animals"',
        'backend: "onnxruntime"',
        "max_batch_size: 16",
        'name: "images" data_type: TYPE_UINT8 dims: [ 32, 40, 3 ]',
        'name: "probabilities" data_type: TYPE_FP32 dims: [ 3 ] label_filename: "labels.txt"',
        'name: "features" data_type: TYPE_FP32 dims: [ 8 ]',
        "dynamic_batching {",
        'input_data_file: "image"',
    ):
        assert expected in config
    assert all(config.count(opening) == config.count(closing) for opening, closing in ("{}", "[]"))


def test_the_warm_up_image_is_one_the_model_takes(exported, tmp_path):
    folder = write_triton(exported.file, tmp_path)
    image = np.frombuffer((folder / "warmup/image").read_bytes(), np.uint8).reshape(1, 32, 40, 3)
    probabilities = open_session(folder / "1/model.onnx", "cpu").run(image)[0]
    assert probabilities.sum() == pytest.approx(1)


def test_config_and_onnx_agree_on_every_name_and_shape(exported, tmp_path):
    config = (write_triton(exported.file, tmp_path) / "config.pbtxt").read_text()
    named = re.findall(r'name: "(\w+)" data_type: \w+ dims: \[ ([\d, ]+) \]', config)
    tensors = (*exported.file.inputs, *exported.file.outputs)
    assert named == [(tensor.name, ", ".join(map(str, tensor.shape[1:]))) for tensor in tensors]


def test_one_sigmoid_column_is_labelled_as_the_second_class(sigmoid_file, tmp_path):
    folder = write_triton(sigmoid_file, tmp_path / "repository")
    assert folder.name == "pets"
    assert (folder / "labels.txt").read_text() == "dogs\n"
    assert "dims: [ 1 ]" in (folder / "config.pbtxt").read_text()


def test_a_file_without_manifest_is_refused(sigmoid_file, tmp_path):
    del sigmoid_file.proto.metadata_props[:]
    path = tmp_path / "bare.onnx"
    path.write_bytes(sigmoid_file.proto.SerializeToString())
    with pytest.raises(ExportError, match="has no manifest"):
        write_triton(load_model_file(path), tmp_path / "repository")
