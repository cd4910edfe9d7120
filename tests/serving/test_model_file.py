import hashlib
import os

import numpy as np
import onnx
import pytest
from kerasxfer_serving.errors import ModelError
from kerasxfer_serving.model.manifest import METADATA_KEY
from kerasxfer_serving.model.model_file import load_model_file
from onnx import TensorProto, helper, numpy_helper


@pytest.fixture
def path(tmp_path, write_model):
    return write_model(tmp_path / "model.onnx")


@pytest.fixture
def edit(path):
    """Changes the model file by a function on its `ModelProto`."""

    def change(function):
        proto = onnx.load(path)
        function(proto)
        path.write_bytes(proto.SerializeToString())

    return change


def external(tensor):
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def test_a_good_file_is_read_with_its_hash_and_figures(path):
    file = load_model_file(path)
    assert file.data == path.read_bytes()
    assert file.sha256 == hashlib.sha256(file.data).hexdigest()
    assert file.size == path.stat().st_size
    assert file.manifest.class_names == ("red", "green", "blue")
    assert file.inputs == (("images", "uint8", ("batch", 8, 10, 3)),)
    assert file.outputs == (("probabilities", "float", ("batch", 3)),)
    assert file.statistics == {
        "nodes": 5,
        "parameters": 1 + 2 + 9,
        "opset": 18,
        "producer": "",
        "operators": {"Cast": 1, "MatMul": 1, "Mul": 1, "ReduceMean": 1, "Softmax": 1},
    }


def test_the_hash_is_verified_before_anything_is_parsed(path):
    good = hashlib.sha256(path.read_bytes()).hexdigest()
    assert load_model_file(path, sha256=good.upper()).sha256 == good
    path.write_bytes(b"not even ONNX")
    with pytest.raises(ModelError, match="is not the file meant"):
        load_model_file(path, sha256=good)


@pytest.mark.parametrize("data", [b"", b"not ONNX", b"\x08\x08", os.urandom(1000)])
def test_what_is_not_onnx_is_refused(path, data):
    path.write_bytes(data)
    with pytest.raises(ModelError, match="is not an ONNX file"):
        load_model_file(path)


def test_a_cut_file_is_refused(path):
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ModelError, match="is not an ONNX file"):
        load_model_file(path)


@pytest.mark.parametrize("name", ["missing.onnx", "."])
def test_a_missing_file_and_a_folder_are_refused(tmp_path, name):
    with pytest.raises(ModelError, match="no model file"):
        load_model_file(tmp_path / name)


def test_external_data_of_a_weight_is_refused(path, edit):
    edit(lambda proto: external(proto.graph.initializer[2]))
    with pytest.raises(ModelError, match=r"`weights` in another file.*etc/passwd"):
        load_model_file(path)


def test_external_data_of_a_constant_in_a_subgraph_is_refused(path, edit):
    def add_if(proto):
        tensor = numpy_helper.from_array(np.zeros(3, np.float32), "hidden")
        external(tensor)
        constant = helper.make_node("Constant", [], ["inner"])
        constant.attribute.append(helper.make_attribute("value", tensor))
        branch = helper.make_graph([constant], "branch", [], [helper.make_empty_tensor_value_info("inner")])
        node = helper.make_node("If", ["condition"], ["outer"], then_branch=branch, else_branch=branch)
        proto.graph.node.append(node)

    edit(add_if)
    with pytest.raises(ModelError, match="`hidden` in another file"):
        load_model_file(path)


def test_external_data_of_a_sparse_weight_is_refused(path, edit):
    def add_sparse(proto):
        sparse = proto.graph.sparse_initializer.add()
        sparse.values.name = "sparse"
        external(sparse.values)

    edit(add_sparse)
    with pytest.raises(ModelError, match="`sparse` in another file"):
        load_model_file(path)


def test_external_data_in_a_function_is_refused(path, edit):
    def add_function(proto):
        tensor = numpy_helper.from_array(np.zeros(3, np.float32), "hidden")
        external(tensor)
        constant = helper.make_node("Constant", [], ["y"])
        constant.attribute.append(helper.make_attribute("value", tensor))
        proto.functions.append(
            helper.make_function("local", "Reader", [], ["y"], [constant], [helper.make_opsetid("", 18)])
        )

    edit(add_function)
    with pytest.raises(ModelError, match="`hidden` in another file"):
        load_model_file(path)


def test_an_unknown_domain_is_refused(path, edit):
    def rename(proto):
        proto.graph.node[0].domain = "com.example"

    edit(rename)
    with pytest.raises(ModelError, match=r"operator `Cast` of domain 'com\.example'"):
        load_model_file(path)


def test_an_unknown_domain_inside_a_function_is_refused(path, edit):
    def add_function(proto):
        inner = helper.make_node("Evil", ["x"], ["y"], domain="com.example")
        proto.functions.append(
            helper.make_function("local", "Wrapper", ["x"], ["y"], [inner], [helper.make_opsetid("com.example", 1)])
        )
        proto.graph.node[0].domain, proto.graph.node[0].op_type = "local", "Wrapper"

    edit(add_function)
    with pytest.raises(ModelError, match="operator `Evil`"):
        load_model_file(path)


def test_the_functions_that_a_file_brings_are_known(path, edit):
    def add_function(proto):
        inner = helper.make_node("Identity", ["x"], ["y"])
        proto.functions.append(
            helper.make_function("local", "Same", ["x"], ["y"], [inner], [helper.make_opsetid("", 18)])
        )
        proto.graph.node.insert(0, helper.make_node("Same", ["images"], ["same"], domain="local"))

    edit(add_function)
    assert load_model_file(path).statistics["nodes"] == 6


def test_a_compiled_context_in_another_file_is_refused(path, edit):
    def add_context(proto):
        node = helper.make_node("EPContext", ["images"], ["x"], domain="com.microsoft", ep_cache_context="/etc/passwd")
        proto.graph.node.append(node)

    edit(add_context)
    with pytest.raises(ModelError, match="EPContext"):
        load_model_file(path)


def test_a_malformed_manifest_is_refused_with_the_file_named(path, edit):
    def break_manifest(proto):
        proto.metadata_props[0].value = '{"class_names": 3}'

    edit(break_manifest)
    with pytest.raises(ModelError, match=r"model\.onnx`: .*image_size"):
        load_model_file(path)


def test_two_manifests_are_refused(path, edit):
    edit(lambda proto: proto.metadata_props.add(key=METADATA_KEY, value=proto.metadata_props[0].value))
    with pytest.raises(ModelError, match="2 manifests"):
        load_model_file(path)
