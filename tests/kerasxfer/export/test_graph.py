import numpy as np
import onnx
import pytest
from kerasxfer_serving.model.manifest import METADATA_KEY, Manifest
from onnx import TensorProto, helper, numpy_helper

from kerasxfer.export.errors import ExportError
from kerasxfer.export.graph import tidy, with_manifest

MANIFEST = Manifest(class_names=("cats", "dogs"), image_size=(8, 10))


def converted(pooling=True):
    """A graph as a converter names it: `serving_default_x:0`, `Identity:0`, `unk__28`."""
    weights = np.random.default_rng(0).normal(size=(3 if pooling else 240, 2)).astype("float32")
    nodes = [
        helper.make_node("Cast", ["x:0"], ["cast:0"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["cast:0"], ["nchw:0"], perm=[0, 3, 1, 2]),
        helper.make_node("GlobalAveragePool", ["nchw:0"], ["pool:0"]),
        helper.make_node("Squeeze", ["pool:0", "axes"], ["flat:0"]),
        helper.make_node("MatMul", ["flat:0", "weights"], ["dense:0"]),
        helper.make_node("Softmax", ["dense:0"], ["Identity:0"]),
    ]
    if not pooling:
        nodes = [nodes[0], helper.make_node("ReduceMax", ["cast:0"], ["Identity:0"], axes=[2, 3], keepdims=0)]
    graph = helper.make_graph(
        nodes,
        "tf2onnx__12",
        [helper.make_tensor_value_info("x:0", TensorProto.UINT8, ["unk__28", 8, 10, 3])],
        [helper.make_tensor_value_info("Identity:0", TensorProto.FLOAT, ["unk__29", 2 if pooling else 8])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(np.array([2, 3]), "axes")],
        doc_string="converted from 12345",
        value_info=[helper.make_tensor_value_info("flat:0", TensorProto.FLOAT, ["unk__30", 3])],
    )
    opsets = [helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", 2)]
    return helper.make_model(graph, opset_imports=opsets, producer_name="tf2onnx", ir_version=8)


def test_names_are_stable_and_the_batch_is_open():
    proto = tidy(converted())
    (images,), (probabilities,) = proto.graph.input, proto.graph.output
    assert (images.name, probabilities.name) == ("images", "probabilities")
    assert images.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert probabilities.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert proto.graph.node[0].input[0] == "images"
    assert proto.graph.node[-1].output[0] == "probabilities"
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", 15)]


def test_nothing_of_the_converter_stays():
    text = str(tidy(converted()))
    for left in ("unk__", "tf2onnx", "12345", "Identity"):
        assert left not in text


def test_features_are_the_tensor_after_the_last_pooling():
    proto = tidy(converted(), features=True)
    assert [output.name for output in proto.graph.output] == ["probabilities", "features"]
    assert proto.graph.node[3].output[0] == proto.graph.node[4].input[0] == "features"
    shape = proto.graph.output[1].type.tensor_type.shape
    assert (shape.dim[0].dim_param, shape.dim[1].dim_value) == ("batch", 3)


def test_features_of_a_model_without_pooling_are_refused():
    proto = converted(pooling=False)
    with pytest.raises(ExportError, match="pools or flattens"):
        tidy(proto, features=True)


def test_the_manifest_is_the_only_metadata():
    proto = tidy(converted())
    proto.metadata_props.add(key="time", value="now")
    read = onnx.load_model_from_string(with_manifest(proto, MANIFEST))
    assert [(entry.key, Manifest.from_json(entry.value)) for entry in read.metadata_props] == [(METADATA_KEY, MANIFEST)]


def test_an_invalid_graph_is_refused():
    proto = tidy(converted())
    proto.graph.node[4].input[0] = "nowhere"
    with pytest.raises(ExportError, match="not valid ONNX"):
        with_manifest(proto, MANIFEST)


def test_two_inputs_are_refused():
    proto = converted()
    proto.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))
    with pytest.raises(ExportError, match="2 inputs and 1 outputs"):
        tidy(proto)
