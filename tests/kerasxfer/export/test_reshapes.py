import numpy as np
import onnx
import pytest
from kerasxfer_serving.runtime.opening import open_session
from onnx import TensorProto, helper, numpy_helper

from kerasxfer.export.rewrites import drop_unused, fix_shapes


def flattening(cut=1):
    """What the converter makes of `Flatten`: the batch size cut from the shape, and the number of features after it."""
    nodes = [
        helper.make_node("Cast", ["images"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Cast", ["shape"], ["shape32"], to=TensorProto.INT32),
        helper.make_node("Slice", ["shape32", "zero", "cut", "zero"], ["batch"]),
        helper.make_node("Concat", ["batch", "features"], ["target32"], axis=0),
        helper.make_node("Cast", ["target32"], ["target"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["x", "target"], ["flat"]),
    ]
    sizes = {"zero": [0], "cut": [cut], "features": [24] if cut == 1 else [6]}
    kinds = {"features": np.int32}
    rank = [None, 24] if cut == 1 else [None, None, 6]
    graph = helper.make_graph(
        nodes,
        "flattening",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 4, 2, 3])],
        [helper.make_tensor_value_info("flat", TensorProto.FLOAT, rank)],
        [numpy_helper.from_array(np.array(value, kinds.get(name, np.int64)), name) for name, value in sizes.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def run(proto, images):
    return open_session(proto.SerializeToString(), "cpu").run(images)[0]


@pytest.mark.parametrize("count", [1, 5])
def test_a_flattening_becomes_one_operator_and_does_the_same(count):
    images = np.random.default_rng(0).integers(0, 256, (count, 4, 2, 3), np.uint8)
    proto = flattening()
    expected = run(proto, images)
    fix_shapes(proto.graph)
    drop_unused(proto.graph)
    assert [node.op_type for node in proto.graph.node] == ["Cast", "Reshape"]
    assert [numpy_helper.to_array(tensor).tolist() for tensor in proto.graph.initializer] == [[-1, 24]]
    assert np.array_equal(run(proto, images), expected)


def test_a_shape_with_two_open_sizes_is_left_alone():
    proto = flattening(cut=2)
    before = proto.SerializeToString(deterministic=True)
    fix_shapes(proto.graph)
    assert proto.SerializeToString(deterministic=True) == before
