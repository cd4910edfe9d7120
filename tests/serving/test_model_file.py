import hashlib
import os
from contextlib import suppress

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kerasxfer_serving.errors import ModelError
from kerasxfer_serving.model.manifest import METADATA_KEY
from kerasxfer_serving.model.model_file import load_model_file
from kerasxfer_serving.model.onnx_file import messages
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
    with pytest.raises(ModelError, match="is not the expected file"):
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
    with pytest.raises(ModelError, match="The model file"):
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


def tensor_elsewhere():
    tensor = numpy_helper.from_array(np.zeros(3, np.float32), "hidden")
    external(tensor)
    return tensor


def constant_elsewhere():
    node = helper.make_node("Constant", [], ["y"])
    node.attribute.append(helper.make_attribute("value", tensor_elsewhere()))
    return node


def in_default_attribute_of_function(proto):
    function = helper.make_function("local", "F", [], ["y"], [helper.make_node("Identity", ["x"], ["y"])], [])
    graph = helper.make_graph([constant_elsewhere()], "g", [], [helper.make_empty_tensor_value_info("y")])
    function.attribute_proto.append(helper.make_attribute("body", graph))
    proto.functions.append(function)


def in_default_tensor_of_function(proto):
    function = helper.make_function("local", "F", [], ["y"], [helper.make_node("Identity", ["x"], ["y"])], [])
    function.attribute_proto.append(helper.make_attribute("value", tensor_elsewhere()))
    proto.functions.append(function)


def in_graph_with_initializer_of_function(proto):
    function = helper.make_function("local", "F", [], ["y"], [helper.make_node("Identity", ["x"], ["y"])], [])
    info = helper.make_empty_tensor_value_info("y")
    graph = helper.make_graph([helper.make_node("Identity", ["hidden"], ["y"])], "g", [], [info], [tensor_elsewhere()])
    function.attribute_proto.append(helper.make_attribute("then_branch", graph))
    proto.functions.append(function)


def in_list_of_graphs(proto):
    graph = helper.make_graph([constant_elsewhere()], "g", [], [helper.make_empty_tensor_value_info("y")])
    proto.graph.node[0].attribute.append(helper.make_attribute("bodies", [graph]))


def in_sparse_attribute(proto):
    attribute = proto.graph.node[0].attribute.add(name="sparse")
    attribute.sparse_tensor.values.CopyFrom(tensor_elsewhere())


def in_training_graph(proto):
    proto.training_info.add().algorithm.node.append(constant_elsewhere())


def two_graphs_deep(proto):
    inner = helper.make_graph([constant_elsewhere()], "inner", [], [helper.make_empty_tensor_value_info("y")])
    node = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    outer = helper.make_graph([node], "outer", [], [helper.make_empty_tensor_value_info("y")])
    proto.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=outer, else_branch=outer))


PLACES = [
    in_default_attribute_of_function,
    in_default_tensor_of_function,
    in_graph_with_initializer_of_function,
    in_list_of_graphs,
    in_sparse_attribute,
    in_training_graph,
    two_graphs_deep,
]


@pytest.mark.parametrize("hide", PLACES, ids=lambda place: place.__name__)
def test_external_data_is_refused_wherever_it_hides(path, edit, hide):
    edit(hide)
    with pytest.raises(ModelError, match="`hidden` in another file"):
        load_model_file(path)


@pytest.mark.parametrize("hide", PLACES, ids=lambda place: place.__name__)
def test_an_unknown_operator_is_refused_wherever_it_hides(path, edit, hide):
    def rename(proto):
        hide(proto)
        for message in messages(proto):
            if message.DESCRIPTOR.name == "TensorProto":
                message.ClearField("external_data")
                message.ClearField("data_location")
            if message.DESCRIPTOR.name == "NodeProto" and message.op_type == "Constant":
                message.domain = "com.example"

    edit(rename)
    if hide in (in_default_tensor_of_function, in_graph_with_initializer_of_function, in_sparse_attribute):
        load_model_file(path)  # holds a tensor and no operator
    else:
        with pytest.raises(ModelError, match="operator `Constant` of domain"):
            load_model_file(path)


def add_functions(proto, count, fan):
    """Functions of which each calls the one before `fan` times."""
    for number in range(count):
        name = f"F{number - 1}" if number else "Identity"
        domain = "local" if number else ""
        nodes = [helper.make_node(name, ["x"], ["y"], domain=domain) for _ in range(fan)]
        proto.functions.append(helper.make_function("local", f"F{number}", ["x"], ["y"], nodes, []))
    proto.graph.node.insert(0, helper.make_node(f"F{count - 1}", ["images"], ["same"], domain="local"))


def test_functions_that_unfold_without_measure_are_refused(path, edit):
    edit(lambda proto: add_functions(proto, 30, 10))
    with pytest.raises(ModelError, match="unfold to more than 1,000,000 operators"):
        load_model_file(path)


def test_a_long_chain_of_functions_is_read(path, edit):
    edit(lambda proto: add_functions(proto, 3000, 1))
    assert load_model_file(path).statistics["nodes"] == 6


def test_a_function_that_calls_itself_is_refused(path, edit):
    def loop(proto):
        add_functions(proto, 3, 1)
        proto.functions[0].node[0].op_type, proto.functions[0].node[0].domain = "F2", "local"

    edit(loop)
    with pytest.raises(ModelError, match="calls itself"):
        load_model_file(path)


def test_an_output_of_another_kind_is_named(path, edit):
    def sequence(proto):
        proto.graph.output[0].type.sequence_type.elem_type.tensor_type.elem_type = TensorProto.FLOAT

    edit(sequence)
    assert load_model_file(path).outputs[0].dtype == "sequence"

    def unknown(proto):
        proto.graph.output[0].type.tensor_type.elem_type = 99

    edit(unknown)
    assert load_model_file(path).outputs[0].dtype == "type 99"


def test_a_name_that_no_file_can_have():
    with pytest.raises(ModelError):
        load_model_file("a\0b.onnx")


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_done_to_the_bytes_it_is_read_or_refused(path, data):
    whole = path.read_bytes()
    other = path.with_name("changed.onnx")
    changed = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 8))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    other.write_bytes(bytes(changed))
    with suppress(ModelError):
        assert load_model_file(other).to_dict()["sha256"]
